/* SPDX-License-Identifier: MIT */
/* See fake_pfeedd.h. */
#include "fake_pfeedd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 8, RUN_LIMIT_MS = 30000 };

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

static bool serve(struct fake *fake, int fd)
{
    union fake_message request = { 0 };
    ssize_t got = recv(fd, &request, sizeof(request), 0);

    return got >= (ssize_t)sizeof(request.head) && fake->answer(fd, &request, fake->data);
}

static void *run_fake(void *argument)
{
    struct fake *fake = argument;
    struct pollfd fds[2 + CONNECTIONS] = { { .fd = fake->stop, .events = POLLIN }, { .fd = fake->listener, .events = POLLIN } };

    for (int i = 2; i < 2 + CONNECTIONS; i++)
        fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
    while (poll(fds, 2 + CONNECTIONS, -1) >= 0 && !fds[0].revents) {
        for (int i = 2; i < 2 + CONNECTIONS; i++)
            if (fds[i].fd >= 0 && fds[i].revents && !serve(fake, fds[i].fd)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        for (int i = 2; i < 2 + CONNECTIONS && fds[1].revents; i++)
            if (fds[i].fd < 0) {
                fds[i].fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
                break;
            }
    }
    for (int i = 2; i < 2 + CONNECTIONS; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return NULL;
}

static const struct fake *running; /* one at a time */

/* A failing check leaves nothing behind either. */
static void sweep(void)
{
    if (running) {
        unlink(running->path);
        rmdir(running->folder);
        running = NULL;
    }
}

void fake_rise(struct fake *fake)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    memcpy(address.sun_path, fake->path, sizeof(fake->path));
    unlink(fake->path);
    fake->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    fake->stop = eventfd(0, EFD_CLOEXEC);
    CHECK(fake->listener >= 0 && fake->stop >= 0, "%s", strerror(errno));
    CHECK(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fake->listener, 8) == 0, "%s",
          strerror(errno));
    CHECK(pthread_create(&fake->thread, NULL, run_fake, fake) == 0, "no thread");
}

void fake_fall(struct fake *fake)
{
    uint64_t one = 1;

    CHECK(write(fake->stop, &one, sizeof(one)) == sizeof(one), "%s", strerror(errno));
    pthread_join(fake->thread, NULL);
    close(fake->listener);
    close(fake->stop);
}

void fake_start(struct fake *fake, fake_answer *answer, void *data)
{
    *fake = (struct fake){ .answer = answer, .data = data };
    strcpy(fake->folder, "/tmp/fake-pfeedd-XXXXXX");
    CHECK(mkdtemp(fake->folder), "%s", strerror(errno));
    CHECK(!running && atexit(sweep) == 0, "two fakes");
    running = fake;
    snprintf(fake->path, sizeof(fake->path), "%s/sock", fake->folder);
    fake_rise(fake);
}

void fake_stop(struct fake *fake)
{
    fake_fall(fake);
    sweep();
}

void fake_send(int socket, void *message, uint16_t type, uint32_t size, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = { 0 };
    struct iovec part = { message, size };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

    *(struct pf_ctl_head *)message = (struct pf_ctl_head){ PF_CTL_VERSION, type, size };
    if (n_fds) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        *CMSG_FIRSTHDR(&header) =
            (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), fds, n_fds * sizeof(int));
    }
    sendmsg(socket, &header, MSG_NOSIGNAL); /* the peer may be gone: its business */
}

void fake_rows(int socket, uint32_t what, const void *rows, uint32_t count, uint32_t row_size, bool more)
{
    union fake_message message = { .rows = { .what = what, .count = count, .row_size = row_size, .more = more } };

    CHECK(sizeof(message.rows) + count * row_size <= PF_CTL_MAX, "%u rows of %u bytes", count, row_size);
    if (count)
        memcpy(message.bytes + sizeof(message.rows), rows, count * row_size);
    fake_send(socket, &message, PF_CTL_ROWS, (uint32_t)sizeof(message.rows) + count * row_size, NULL, 0);
}

void fake_error(int socket, int code, const char *text)
{
    struct pf_ctl_error error = { .code = code };

    snprintf(error.text, sizeof(error.text), "%s", text);
    fake_send(socket, &error, PF_CTL_ERROR, sizeof(error), NULL, 0);
}

/* ---- pfeedctl ------------------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void child(const char *program, const struct fake *fake, const char *const *words, int out, int err)
{
    const char *arguments[24] = { "pfeedctl" };
    int n = 1;

    while (*words && n < 20)
        arguments[n++] = *words++;
    if (fake) {
        arguments[n++] = "--socket";
        arguments[n++] = fake->path;
    }
    if (out >= 0)
        dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(program, (char **)arguments);
    _exit(127);
}

/* Adds what there is; false at the end. */
static bool drain(int fd, char **text, size_t *size)
{
    char *grown = realloc(*text, *size + 65536 + 1);
    ssize_t got;

    CHECK(grown, "no memory");
    *text = grown;
    got = read(fd, *text + *size, 65536);
    if (got > 0)
        *size += (size_t)got;
    (*text)[*size] = 0;
    return got > 0;
}

size_t text_count(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* Reads both until their ends, interrupts in between, kills at the limit. */
static bool follow(pid_t pid, int out, int err, struct run *run, const char *until)
{
    struct pollfd fds[2] = { { .fd = out, .events = POLLIN }, { .fd = err, .events = POLLIN } };
    int64_t limit_ms = now_ms() + RUN_LIMIT_MS;
    size_t err_size = 0;
    bool killed = false;

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        poll(fds, 2, 20);
        if (fds[0].fd >= 0 && fds[0].revents && !drain(out, &run->out, &run->out_size))
            fds[0].fd = -1;
        if (fds[1].fd >= 0 && fds[1].revents && !drain(err, &run->err, &err_size))
            fds[1].fd = -1;
        if (until && text_count(run->out, until) >= 3) {
            kill(pid, SIGINT);
            until = NULL;
        }
        if (!killed && now_ms() > limit_ms) {
            kill(pid, SIGKILL);
            killed = true;
        }
    }
    return !killed;
}

struct run run_pfeedctl(const char *program, const struct fake *fake, const char *const *words, bool terminal, const char *until)
{
    struct winsize size = { .ws_row = 30, .ws_col = 100 };
    struct run run = { .status = -1, .out = calloc(1, 1), .err = calloc(1, 1) };
    int out[2] = { -1, -1 }, err[2], status;
    bool in_time;
    pid_t pid;

    CHECK(pipe2(err, O_CLOEXEC) == 0 && (terminal || pipe2(out, O_CLOEXEC) == 0), "%s", strerror(errno));
    pid = terminal ? forkpty(&out[0], NULL, NULL, &size) : fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0)
        child(program, fake, words, out[1], err[1]);
    close(err[1]);
    if (out[1] >= 0)
        close(out[1]);
    in_time = follow(pid, out[0], err[0], &run, until);
    close(out[0]);
    close(err[0]);
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    if (in_time && WIFEXITED(status))
        run.status = WEXITSTATUS(status);
    return run;
}

void run_fini(struct run *run)
{
    free(run->out);
    free(run->err);
}

bool json_holds(const char *text, const char *expression)
{
    static const char code[] = "import json, sys\n"
                               "d = json.loads(sys.stdin.buffer.read().decode('utf-8'))\n"
                               "ok = eval(sys.argv[1])\n"
                               "ok or print(d)\n"
                               "sys.exit(0 if ok else 1)\n";
    size_t left = strlen(text);
    int in[2], status;
    pid_t pid;

    CHECK(pipe2(in, O_CLOEXEC) == 0, "%s", strerror(errno));
    pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        execl("/usr/bin/python3", "python3", "-c", code, expression, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    while (left) {
        ssize_t n = write(in[1], text, left);

        if (n < 0)
            break;
        text += n;
        left -= (size_t)n;
    }
    close(in[1]);
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
