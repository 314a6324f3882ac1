/* SPDX-License-Identifier: MIT */
/* The client's end of the control socket: find it, connect without blocking, one request and its reply under one deadline.
 * Used by all that talk to the daemon; hidden from users of the library. */
#ifndef PFEED_CTLSOCK_H
#define PFEED_CTLSOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "ctl.h"

struct sentence {
    char text[1024];
};

/* Writes the sentence and returns code. */
int sentence_set(struct sentence *why, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

int64_t ctlsock_now_ns(void); /* CLOCK_MONOTONIC */

/* given, or $PFEED_SOCKET, or the user's, or the system's. */
int ctlsock_path(const char *given, char path[sizeof(((struct sockaddr_un *)0)->sun_path)], struct sentence *why);
/* A connected, non-blocking, close-on-exec socket, or -errno and what to do about it. */
int ctlsock_connect(const char *path, int64_t deadline_ns, struct sentence *why);
int ctlsock_send(int fd, void *message, uint16_t type, uint32_t size, int64_t deadline_ns, struct sentence *why);
/* Receives one message of at most size bytes and up to n_fds descriptors (-1 where fewer came). An ERROR reply becomes its
 * code and its sentence. Returns the message's size. */
int ctlsock_receive(int fd, void *message, uint32_t size, int *fds, unsigned n_fds, int64_t deadline_ns, struct sentence *why);

#endif
