/* SPDX-License-Identifier: MIT */
/* A consumer without libpfeed, for tests that do what no trainer should: it attaches by the control messages themselves and has
 * the very descriptors and pages that libpfeed keeps to itself. */
#ifndef LANE_H
#define LANE_H

#include "daemon.h"
#include "ring.h"

struct lane {
    int connection, fds[PF_ATTACH_FDS];
    struct pf_ctl_attached reply;
    const struct pf_grant_page *grants;
    struct pf_return_page *returns;
};

/* A connection to the daemon's control socket. */
int lane_connect(const struct daemon *daemon);
/* Attaches to a feed; max_held 0: the feed's. */
void lane_open(struct lane *lane, const struct daemon *daemon, const char *feed, uint32_t max_held);
/* Likewise, with a request that says more. */
void lane_open_as(struct lane *lane, const struct daemon *daemon, const struct pf_ctl_attach *request);
/* Hangs up, without DETACH. */
void lane_close(struct lane *lane);
/* Takes n grants and returns the number of the last. */
uint64_t lane_take(struct lane *lane, uint64_t n);
/* Writes `number` as the return that makes `count` of them. */
void lane_return(struct lane *lane, uint64_t count, uint64_t number);
/* Until the daemon has dropped it. */
void lane_await_drop(struct lane *lane);
/* What it is then told. */
void lane_reason(struct lane *lane, char *text, size_t size);

#endif
