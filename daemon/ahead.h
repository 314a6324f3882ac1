/* SPDX-License-Identifier: MIT */
/* Reads that run ahead of the workers, for storage that lets them wait: which samples are wanted next is known, so they are read
 * before a worker comes to them, many at a time. One engine a daemon; see ahead.c. */
#ifndef PFEED_AHEAD_H
#define PFEED_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "ahead_depth.h"
#include "log.h"

#define AHEAD_MOST 1024u /* samples that may be ahead */

struct ahead;
struct ahead_read;
struct feed;
struct sample_value;
struct slot;

struct ahead_feed {            /* of a feed; ahead.c's own, under its lock, where nothing else is said */
    struct ahead *engine;      /* NULL: none, or nothing was posted yet */
    struct feed *next;         /* of those with rows that may be read; unlinked: the feed itself */
    bool linked, forgotten;    /* forgotten: it ends, and nothing of it is noted any more; set once */
    struct slot *first, *last; /* fillings with rows that nobody has asked for, oldest first */
    uint32_t held, flying;     /* reads that have a buffer; of them those under way */
    uint32_t depth;            /* written under the lock, read anywhere: how many may be ahead; 0: none are */
    struct ahead_tuner tuner;
    struct ahead_window window;
    uint64_t rows_before, work_before; /* counters of the feed when the window began */
};

struct ahead_slot { /* of a slot; likewise */
    struct slot *next;
    bool linked;
    uint32_t generation, row, field; /* the next one to ask for: of the slot's rows, and of the feed's fields */
};

struct ahead_sampler { /* a worker's own: which of its reads are looked at closely */
    uint32_t left;
    bool now;
    int64_t slept;
};

/* How many samples at the most, by which means; chosen when the daemon starts. depth: as the setting has it, -1: auto. NULL where it
 * is 0. event: an eventfd, written to when ahead_report has something to say. */
int ahead_create(struct ahead **out, int64_t depth, int event, struct problem *why);
/* How many samples of so many bytes may be ahead: as many as were asked for, or a small part of the budget; 0: none. */
uint32_t ahead_fit(const struct ahead *ahead, uint64_t buffer_bytes, uint64_t budget);
bool ahead_is_auto(const struct ahead *ahead);
uint64_t ahead_bytes(const struct ahead *ahead, uint32_t reads, uint64_t buffer_bytes); /* what they take, for the budget */
uint64_t ahead_used(const struct ahead *ahead);                                         /* what they take now */
void ahead_room(const struct ahead *ahead, uint32_t *reads, uint64_t *buffer_bytes);    /* that there is now */
/* Room for more, or larger, ones. Any thread, one at a time. */
int ahead_make_room(struct ahead *ahead, uint32_t reads, uint64_t buffer_bytes, struct problem *why);
/* Main thread: their threads, as soon as there is room; and their end. False: a read is stuck, and nothing may be freed. */
int ahead_start(struct ahead *ahead, uint32_t n_workers, struct problem *why);
bool ahead_stop(struct ahead *ahead, int limit_ms);
void ahead_destroy(struct ahead *ahead); /* after ahead_stop said true; or NULL */

/* Main thread: changes of depth are logged. */
void ahead_report(struct ahead *ahead);
/* By which means, how far, and why it is not io_uring. */
void ahead_say(struct ahead *ahead, char *text, size_t size);

/* A slot that has just begun FILLING; one that is FILLING no longer, whose order is given back after this. Main thread. */
void ahead_post(struct ahead *ahead, struct feed *feed, struct slot *slot);
void ahead_over(struct feed *feed, struct slot *slot);
/* As workers_forget and workers_pass. */
void ahead_forget(struct feed *feed);
void ahead_pass(struct feed *feed);

/* Workers. Whether rows of the feed are read ahead now: then they claim them one by one. */
static inline bool ahead_is_on(const struct ahead_feed *feed)
{
    return __atomic_load_n(&feed->depth, __ATOMIC_RELAXED) > 0;
}

/* The value of that row's part, where it was read ahead, or comes soon; NULL: the worker reads it itself. To be given back. */
struct ahead_read *ahead_take(struct feed *feed, const struct slot *slot, uint32_t row, uint64_t id, uint32_t part,
                              struct sample_value *value);
void ahead_give_back(struct ahead_read *read);       /* NULL is fine */
int64_t ahead_age_ns(const struct ahead_read *read); /* since its read began */
/* Around a read of a worker's own: whether it has to wait is measured, of some. */
void ahead_watch(const struct feed *feed, struct ahead_sampler *sampler);
void ahead_watched(struct feed *feed, struct ahead_sampler *sampler, int64_t took_ns);

/* Of a feed: what a buffer must hold, so that nearly all of its samples fit in; 0: it has nothing to read ahead. */
uint64_t ahead_sample_bytes(const struct feed *feed);

#endif
