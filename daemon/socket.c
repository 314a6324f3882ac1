/* SPDX-License-Identifier: MIT */
/* See socket.h. */
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

/* A descriptor that systemd opened for us, and its path; -1: none, other errors: not one of ours. */
int socket_inherited(char *path, size_t size, struct problem *why)
{
#ifdef HAVE_SYSTEMD
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = sizeof(address) - 1;

    if (sd_listen_fds(1) < 1)
        return -1;
    if (sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_SEQPACKET, 1) <= 0)
        return problem_set(why, -EINVAL,
                           "the socket that was passed by LISTEN_FDS is not a listening SOCK_SEQPACKET Unix socket; use "
                           "ListenSequentialPacket= in the .socket unit");
    fcntl(SD_LISTEN_FDS_START, F_SETFL, fcntl(SD_LISTEN_FDS_START, F_GETFL) | O_NONBLOCK);
    if (getsockname(SD_LISTEN_FDS_START, (struct sockaddr *)&address, &length) == 0)
        snprintf(path, size, "%s", address.sun_path);
    return SD_LISTEN_FDS_START;
#else
    (void)path;
    (void)size;
    (void)why;
    return -1;
#endif
}

int socket_path(const char *given, bool user, char *path, size_t size, struct problem *why)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;

    if (given) {
        length = snprintf(path, size, "%s", given);
    } else if (user) {
        if (!runtime || !*runtime)
            return problem_set(why, -EINVAL, "--user needs $XDG_RUNTIME_DIR, or --socket PATH");
        length = snprintf(path, size, "%s/pfeed/pfeedd.sock", runtime);
    } else {
        length = snprintf(path, size, "%s/pfeedd.sock", SOCKET_FOLDER);
    }
    if (length < 0 || (size_t)length >= size)
        return problem_set(why, -ENAMETOOLONG, "the socket's path is longer than %zu bytes", size - 1);
    return 0;
}

static const char *elsewhere(bool user)
{
    return user ? "make room for it there, or use --socket PATH in another folder"
                : "make room for it there, or use --user (your own folder) or --socket PATH";
}

/* Whoever holds the lock may remove a dead daemon's socket and bind its own. */
int socket_lock(const char *socket_path, bool user, int *lock, struct problem *why)
{
    char path[160], folder[160], text[32] = "";
    size_t length = strlen(socket_path);
    char *slash;
    ssize_t got;
    int fd, rc;

    if (length > 5 && strcmp(socket_path + length - 5, ".sock") == 0)
        length -= 5;
    snprintf(path, sizeof(path), "%.*s.lock", (int)length, socket_path);
    snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        if (mkdir(folder, user ? 0700 : 0755) != 0 && errno != EEXIST)
            return problem_set(why, -errno, "cannot make the folder %s: %s; %s", folder, strerror(errno), elsewhere(user));
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open the lock %s: %s; %s", path, strerror(errno), elsewhere(user));
    fchmod(fd, 0600); /* whoever can read it could hold it, too, and no pfeedd would start; it may be an older pfeedd's */
    rc = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
    if (rc < 0 && rc != -EWOULDBLOCK) { /* a file system that has no locks */
        close(fd);
        return problem_set(why, rc, "cannot lock %s: %s; %s", path, strerror(-rc), elsewhere(user));
    }
    if (rc < 0) {
        got = pread(fd, text, sizeof(text) - 1, 0);
        text[got > 0 ? strcspn(text, "\n") : 0] = 0;
        close(fd);
        return problem_set(why, -EADDRINUSE,
                           "another pfeedd (pid %s) serves %s; stop it by `pfeedctl stop --socket %s`, or use another "
                           "--socket",
                           *text ? text : "unknown", socket_path, socket_path);
    }
    snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) < 0)
        log_debug("cannot write the pid into %s", path);
    *lock = fd;
    return 0;
}

int socket_listen(const char *path, bool user, int *out, struct problem *why)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat there;
    mode_t mask;
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return problem_set(why, -ENAMETOOLONG, "the socket's path %s is longer than %zu bytes", path,
                           sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return problem_set(why, -errno, "cannot make a socket: %s", strerror(errno));
    if (lstat(path, &there) == 0 && !S_ISSOCK(there.st_mode)) {
        close(fd);
        return problem_set(why, -EEXIST, "%s is there and is not a socket; remove it, or use --socket PATH", path);
    }
    unlink(path);
    mask = umask(user ? 0177 : 0111); /* each feed's `access` decides who may use it */
    rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (rc != 0 || listen(fd, 128) != 0) {
        rc = problem_set(why, -errno, "cannot listen at %s: %s; %s", path, strerror(errno), elsewhere(user));
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}
