/* SPDX-License-Identifier: MIT */
/* See ctlsock.h. Any thread of the client; every call is bounded by its deadline. */
#include "ctlsock.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int sentence_set(struct sentence *why, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return code;
}

int64_t ctlsock_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int ctlsock_path(const char *given, char path[sizeof(((struct sockaddr_un *)0)->sun_path)], struct sentence *why)
{
    const size_t size = sizeof(((struct sockaddr_un *)0)->sun_path);
    const char *runtime;
    int length;

    if (!given || !*given)
        given = getenv("PFEED_SOCKET");
    if (given && *given) {
        if (strlen(given) >= size)
            return sentence_set(why, -ENAMETOOLONG, "the socket's path '%.200s' is longer than %zu bytes", given, size - 1);
        memcpy(path, given, strlen(given) + 1);
        return 0;
    }
    runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime) {
        length = snprintf(path, size, "%s/pfeed/pfeedd.sock", runtime);
        if (length > 0 && (size_t)length < size && access(path, F_OK) == 0)
            return 0;
    }
    snprintf(path, size, "/run/pfeed/pfeedd.sock");
    return 0;
}

static int wait_for(int fd, short events, int64_t deadline_ns, struct sentence *why)
{
    for (;;) {
        struct pollfd poll_fd = { .fd = fd, .events = events };
        int64_t left_ms = (deadline_ns - ctlsock_now_ns()) / 1000000;
        int n;

        if (left_ms <= 0)
            return sentence_set(why, -ETIMEDOUT, "pfeedd did not answer in time; is it stopped or busy? see `pfeedctl status`");
        n = poll(&poll_fd, 1, left_ms > 1000000 ? 1000000 : (int)left_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return sentence_set(why, -errno, "cannot wait for pfeedd: %s", strerror(errno));
    }
}

int ctlsock_connect(const char *path, int64_t deadline_ns, struct sentence *why)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return sentence_set(why, -ENAMETOOLONG, "the socket's path is too long");
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return sentence_set(why, -errno, "cannot make a socket: %s", strerror(errno));
    /* A Unix socket's connect never blocks half-way: EAGAIN means that the daemon's queue is full just now. */
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        if (errno == EAGAIN || errno == EINTR) {
            struct timespec pause = { 0, 2000000 };

            if (ctlsock_now_ns() < deadline_ns) {
                nanosleep(&pause, NULL);
                continue;
            }
            rc = sentence_set(why, -ETIMEDOUT, "pfeedd at %s does not take connections; is it stopped?", path);
        } else if (errno == ENOENT || errno == ECONNREFUSED) {
            rc = sentence_set(
                why, -errno,
                "no pfeedd at %s (%s); start it (one of your own: `pfeedd --user`), or name the socket of one that runs: "
                "options.socket, --socket or $PFEED_SOCKET",
                path, errno == ENOENT ? "no such socket" : "the socket is of a daemon that has gone");
        } else if (errno == EACCES) {
            rc = sentence_set(
                why, -errno,
                "pfeedd at %s is not for you: its socket, or a folder on the way, is closed to uid %u; ask whose it is, "
                "or start one of your own: `pfeedd --user`",
                path, geteuid());
        } else {
            rc = sentence_set(why, -errno, "cannot connect to pfeedd at %s: %s", path, strerror(errno));
        }
        close(fd);
        return rc;
    }
    return fd;
}

/* The reply's own failure, if it is one. */
static int check_reply(const void *message, ssize_t got, struct sentence *why)
{
    const struct pf_ctl_head *head = message;
    const struct pf_ctl_error *error = message;

    if (got == 0)
        return sentence_set(why, -EPIPE, "pfeedd has closed the connection");
    if (got < (ssize_t)sizeof(*head) || head->size != (uint32_t)got)
        return sentence_set(why, -EPROTO, "pfeedd sent a message that is not whole");
    if (head->version != PF_CTL_VERSION)
        return sentence_set(why, -EPROTO, "pfeedd speaks protocol %u, this library %u; use the same version on both sides",
                            head->version, PF_CTL_VERSION);
    if (head->type == PF_CTL_ERROR) {
        if (got != (ssize_t)sizeof(*error) || error->code >= 0)
            return sentence_set(why, -EPROTO, "pfeedd sent an error that is not whole");
        return sentence_set(why, error->code, "%.*s", (int)sizeof(error->text), error->text);
    }
    return (int)got;
}

/* The daemon has closed the connection; why, where it said that first. */
static int last_word(int fd, struct sentence *why)
{
    struct pf_ctl_error error;
    struct iovec part = { .iov_base = &error, .iov_len = sizeof(error) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 }; /* no room for descriptors: none are left open */
    ssize_t got;

    do /* what we sent and it did not read comes back first, as a reset */
        got = recvmsg(fd, &header, MSG_DONTWAIT);
    while (got < 0 && (errno == ECONNRESET || errno == EINTR));
    if (got == (ssize_t)sizeof(error) && error.head.type == PF_CTL_ERROR)
        return check_reply(&error, got, why);
    return sentence_set(why, -EPIPE, "pfeedd has closed the connection");
}

int ctlsock_send(int fd, void *message, uint16_t type, uint32_t size, int64_t deadline_ns, struct sentence *why)
{
    struct pf_ctl_head *head = message;

    *head = (struct pf_ctl_head){ .version = PF_CTL_VERSION, .type = type, .size = size };
    for (;;) {
        int rc;

        if (send(fd, message, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size)
            return 0;
        if (errno == EPIPE || errno == ECONNRESET)
            return last_word(fd, why);
        if (errno != EAGAIN && errno != EINTR)
            return sentence_set(why, -errno, "cannot send to pfeedd: %s", strerror(errno));
        rc = wait_for(fd, POLLOUT, deadline_ns, why);
        if (rc < 0)
            return rc;
    }
}

static void take_fds(struct msghdr *header, int *fds, unsigned n_fds)
{
    unsigned got = 0;

    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        size_t n;

        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
            continue;
        n = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
            if (got < n_fds)
                fds[got++] = fd;
            else
                close(fd);
        }
    }
}

int ctlsock_receive(int fd, void *message, uint32_t size, int *fds, unsigned n_fds, int64_t deadline_ns, struct sentence *why)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec part = { .iov_base = message, .iov_len = size };
    struct msghdr header;
    ssize_t got;
    int rc;

    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = -1;
    for (;;) {
        header =
            (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
        got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got >= 0)
            break;
        if (errno == ECONNRESET)
            return last_word(fd, why);
        if (errno != EAGAIN && errno != EINTR)
            return sentence_set(why, -errno, "cannot receive from pfeedd: %s", strerror(errno));
        rc = wait_for(fd, POLLIN, deadline_ns, why);
        if (rc < 0)
            return rc;
    }
    take_fds(&header, fds, n_fds);
    rc = header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? sentence_set(why, -EPROTO,
                                                                    "pfeedd sent a message that is too long or "
                                                                    "more descriptors than this process may open")
                                                     : check_reply(message, got, why);
    if (rc < 0)
        for (unsigned i = 0; i < n_fds; i++)
            if (fds[i] >= 0) {
                close(fds[i]);
                fds[i] = -1;
            }
    return rc;
}
