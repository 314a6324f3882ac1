/* SPDX-License-Identifier: MIT */
/* See peer.h. Called by server.c for each connection, by request.c and stat.c for what it asks. Users and groups are numbers
 * here: names were looked up at start, and no name service is ever asked. Main thread. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* The kernel says how much room it needs where it is given too little; a process has some tens of groups, or 65,536. */
static int read_groups(int fd, struct peer *peer)
{
    socklen_t size = 0;
    gid_t *groups;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
        return 0; /* none; or a kernel that does not tell them (Linux 4.13), which makes nobody a member of more */
    groups = malloc(size);
    if (!groups)
        return -ENOMEM;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0) {
        free(groups);
        return -errno;
    }
    peer->groups = groups;
    peer->n_groups = size / sizeof(gid_t);
    return 0;
}

int peer_read(int fd, struct peer *peer)
{
    struct ucred ucred;
    socklen_t size = sizeof(ucred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &size) != 0)
        return -errno;
    *peer = (struct peer){ .pid = ucred.pid, .uid = ucred.uid, .gid = ucred.gid };
    return read_groups(fd, peer);
}

void peer_fini(struct peer *peer)
{
    free(peer->groups);
    peer->groups = NULL;
    peer->n_groups = 0;
}

int peer_pidfd(int fd, const struct peer *peer)
{
    int pidfd = -1;
    socklen_t size = sizeof(pidfd);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
        return pidfd;
    pidfd = (int)syscall(SYS_pidfd_open, peer->pid, 0); /* before Linux 6.5 */
    return pidfd >= 0 ? pidfd : -errno;
}

int peer_probe(struct problem *why)
{
    struct peer self;
    int pair[2], pidfd;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return problem_set(why, -errno, "cannot make a socket: %s", strerror(errno));
    self = (struct peer){ .pid = getpid() };
    pidfd = peer_pidfd(pair[0], &self);
    close(pair[0]);
    close(pair[1]);
    if (pidfd >= 0)
        return close(pidfd);
    return problem_set(why, pidfd,
                       "cannot open a pidfd: %s; pfeedd sees by it that a trainer has died, which needs Linux 5.3, and a sandbox "
                       "that permits pidfd_open",
                       strerror(-pidfd));
}

static bool in_group(const struct peer *peer, gid_t group)
{
    for (uint32_t g = 0; g < peer->n_groups; g++)
        if (peer->groups[g] == group)
            return true;
    return peer->gid == group;
}

bool peer_rules(const struct peer *peer)
{
    return peer->uid == 0 || peer->uid == geteuid();
}

bool peer_may(const struct daemon *daemon, const struct peer *peer, const struct feed *feed)
{
    const struct config_access *access = &feed->config->access;

    if (peer_rules(peer))
        return true;
    if (!access->given)
        return daemon->have_pfeed_group && in_group(peer, daemon->pfeed_group);
    for (uint32_t u = 0; u < access->n_users; u++)
        if (access->users[u] == peer->uid)
            return true;
    for (uint32_t g = 0; g < access->n_groups; g++)
        if (in_group(peer, access->groups[g]))
            return true;
    return false;
}
