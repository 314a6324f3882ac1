/* SPDX-License-Identifier: MIT */
/* Who is at the other end of a connection, as the kernel tells it, and what that one may do. Main thread. */
#ifndef PFEED_PEER_H
#define PFEED_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

struct daemon;
struct feed;

struct peer {
    pid_t pid; /* 0: in a PID namespace that we cannot see */
    uid_t uid;
    gid_t gid;
    uint32_t n_groups;
    gid_t *groups; /* all others */
};

/* As it was when it connected. 0, or -errno; peer_fini frees what it found. */
int peer_read(int fd, struct peer *peer);
void peer_fini(struct peer *peer);
/* At start: whether this kernel has pidfds. */
int peer_probe(struct problem *why);
/* A pidfd of its process, whose pid is not 0; or -errno. */
int peer_pidfd(int fd, const struct peer *peer);
/* Root, and the daemon's own user. */
bool peer_rules(const struct peer *peer);
bool peer_may(const struct daemon *daemon, const struct peer *peer, const struct feed *feed);

#endif
