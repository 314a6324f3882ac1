/* SPDX-License-Identifier: MIT */
/* Where a rank begins: `start` of an attach and `where` of a seek, read and held against what the feed is now. Pure functions of
 * their arguments; called by consumer_attach.c and consumer_seek.c, main thread. */
#ifndef PFEED_START_H
#define PFEED_START_H

#include "job.h"
#include "token.h"

enum start_kind {
    START_FRESH,      /* epoch 0, step 0 */
    START_LIVE,       /* where the jobs of the feed that have the same seed stand */
    START_LIVE_EPOCH, /* at the next epoch that they begin */
    START_TOKEN,
    START_EPOCH, /* a seek's "epoch:E" */
    START_RESTART,
};

struct start {
    enum start_kind kind;
    uint64_t epoch;
    struct pf_token token;
};

/* "", "fresh", "live", "live:epoch" or a token. -EINVAL, or -EBADMSG where a token was cut or edited. */
int start_parse(struct start *out, const char *text, struct problem *why);
/* A token, "epoch:E" or "restart". */
int start_parse_seek(struct start *out, const char *text, struct problem *why);
/* The seed that the request means: its own, else the token's, else the feed's. */
uint64_t start_seed(const struct start *start, const struct feed *feed, const struct pf_ctl_attach *request);
/* The place in a job of these terms. -EINVAL: a token that is not of this feed as it is now, and what differs; with accept
 * (PF_ATTACH_ACCEPT_CHANGED) only where its rows are no whole number of steps. */
int start_place(const struct start *start, const struct job *job, bool accept, struct place *out, struct problem *why);

#endif
