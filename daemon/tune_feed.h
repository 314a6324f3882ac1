/* SPDX-License-Identifier: MIT */
/* A feed's figures for tuning: feed_arena.c, feed.c and consumer_ring.c tell what has happened, tune_look.c asks what follows. Main
 * thread, but for the beginning. */
#ifndef PFEED_TUNE_FEED_H
#define PFEED_TUNE_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "tune_rule.h"

struct consumer;
struct feed;
struct slot;

struct tune_feed {
    bool slots_auto;            /* slots in use are changed */
    struct tune_series batches; /* the workers' time for a batch, without its longest claim, and that */
    double work;                /* the workers' time of late, older times counted less */
    int64_t work_at_ns;
    uint64_t looked; /* batches that were there at the last look */
    struct tune_slots slots;
    struct tune_pace pace; /* at the last look, of the job that needs most slots */
    uint32_t needed;
};

/* The feed has been made. */
void tune_feed_begin(struct feed *feed);
/* A slot is READY. */
void tune_feed_filled(struct feed *feed, const struct slot *slot);
/* The workers' time that the feed has had of late, as of now. */
double tune_feed_work(const struct feed *feed, int64_t now_ns);
/* So many returns of c came, over that time. */
void tune_feed_returned(struct consumer *c, uint64_t n, int64_t over_ns);

#endif
