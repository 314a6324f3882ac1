/* SPDX-License-Identifier: MIT */
/* See notify.h. The protocol is sd_notify(3)'s: datagrams to the Unix socket $NOTIFY_SOCKET. Not by libsystemd's own call, as that
 * waits for ever where nobody reads: here a status is dropped then, and what matters is waited for, for a second. */
#include "notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void say(const char *text, int flags)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval limit = { .tv_sec = 1 };
    size_t length = path ? strlen(path) : 0;
    int fd;

    if (length < 2 || length >= sizeof(address.sun_path) || !strchr("/@", *path))
        return;
    memcpy(address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = 0; /* no file: a name of its own kind */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sendto(fd, text, strlen(text), flags | MSG_NOSIGNAL, (const struct sockaddr *)&address,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void notify_ready(const char *status)
{
    char text[400];

    snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
    say(text, 0);
}

void notify_status(const char *status)
{
    char text[400];

    snprintf(text, sizeof(text), "STATUS=%s", status);
    say(text, MSG_DONTWAIT);
}

void notify_reloading(void)
{
    char text[80];
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    say(text, MSG_DONTWAIT);
}

void notify_stopping(void)
{
    say("STOPPING=1", MSG_DONTWAIT);
}
