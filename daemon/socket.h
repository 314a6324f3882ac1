/* SPDX-License-Identifier: MIT */
/* Where the control socket is, and that one daemon alone serves it. Called by pfeedd.c on the main thread at start. */
#ifndef PFEED_SOCKET_H
#define PFEED_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "log.h"

#define SOCKET_FOLDER "/run/pfeed" /* without --user and --socket */

/* The descriptor that a service manager opened for us, and its path; -1: none, other errors: it is not one of ours. */
int socket_inherited(char *path, size_t size, struct problem *why);
int socket_path(const char *given, bool user, char *path, size_t size, struct problem *why);
/* Whoever holds the lock may remove a dead daemon's socket and bind its own. -EADDRINUSE: another one holds it. */
int socket_lock(const char *path, bool user, int *lock, struct problem *why);
int socket_listen(const char *path, bool user, int *out, struct problem *why);

#endif
