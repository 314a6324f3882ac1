/* SPDX-License-Identifier: MIT */
/* A feed at run time: its source, order, fields, arena, slots and jobs. Opened on the main thread before the loop; afterwards
 * the main thread owns it, and workers read what is constant and add to the atomic counters. */
#ifndef PFEED_FEED_H
#define PFEED_FEED_H

#include <pthread.h>
#include <stdbool.h>

#include "config.h"
#include "ctl.h"
#include "segment.h"
#include "slot.h"

#define PF_COUNTER_feed(name) uint64_t name;
#define PF_COUNTER_consumer(name)
#define PF_COUNTER(scope, name, unit, help) PF_COUNTER_##scope(name)
struct feed_counters { /* workers and main thread, by atomic additions */
#include "counters.tbl"
};
#undef PF_COUNTER
#undef PF_COUNTER_feed
#undef PF_COUNTER_consumer

#define FEED_ADD(feed, counter, value) __atomic_fetch_add(&(feed)->counters.counter, (value), __ATOMIC_RELAXED)
#define FEED_GET(feed, counter)        __atomic_load_n(&(feed)->counters.counter, __ATOMIC_RELAXED)

#define FEED_ERRORS 64 /* bad samples remembered */

struct feed_error {
    uint64_t id, epoch, count;
    char where[256], reason[256];
};

struct workers;

struct feed {
    const struct config_feed *config;
    uint32_t number; /* in the daemon */
    struct source *source;
    const struct sample_part *parts;
    const struct deliver_ops *deliver;
    struct order *order;
    uint64_t samples; /* N */
    uint32_t batch;   /* rows of a slot */
    uint32_t n_fields;
    struct field *fields;
    size_t max_bytes; /* a worker's read buffer */

    /* The arena. */
    uint64_t field_offsets[PF_FIELDS]; /* within a slot */
    uint64_t ids_offset, used_ids_offset, flags_offset, slot_bytes, slots_offset;
    struct segment segment;
    struct pf_slot *table;
    uint32_t n_slots;
    struct slot *slots;
    uint32_t claim_rows; /* rows that a worker claims at once */

    struct job *jobs;
    struct consumer *consumers; /* attached and quarantined ones */
    struct workers *workers;
    bool dirty;    /* feed_turn has something to do */
    bool warm;     /* filled ahead of the first job, which has not started yet */
    bool starving; /* a want could not be filled for lack of slots */

    pthread_mutex_t lock; /* of what follows: workers write it, rarely */
    struct feed_error errors[FEED_ERRORS];
    uint32_t n_errors;
    char failed[256]; /* "": no */
    bool failed_told; /* main thread: consumers were closed */
    struct feed_counters counters __attribute__((aligned(PF_LINE)));
};

/* Opens the source and prepares the fields; allocates little. feed is one of `others` (zeroed before), of which those with
 * classes of their own must be open already. */
int feed_open(struct feed *feed, const struct config_feed *config, struct feed *others, uint32_t n_others, struct problem *why);
uint64_t feed_bytes_fixed(const struct feed *feed, uint32_t n_slots); /* beside the slots themselves */
/* Makes the arena, the slots and the order's tables. */
int feed_start(struct feed *feed, uint32_t n_slots, enum segment_kind kind, struct problem *why);
/* `warm: yes`: fills the slots for whoever comes first. The workers run. */
void feed_warm(struct feed *feed);
void feed_close(struct feed *feed);
uint32_t feed_least_slots(const struct config_feed *config); /* for one group of jobs */

/* One bounded turn of everything: returns, finished slots, grants, new fills. Main thread. */
void feed_turn(struct feed *feed);
/* Before sleeping: asks consumers to ring where their returns are needed. True: something came meanwhile, turn again. */
bool feed_arm(struct feed *feed);
/* What c waits for, as a sentence; "" if for nothing. */
void feed_why(const struct feed *feed, const struct consumer *c, char *text, size_t size);

static inline uint8_t *feed_slot_base(const struct feed *feed, uint32_t slot)
{
    return (uint8_t *)feed->segment.map + feed->slots_offset + slot * feed->slot_bytes;
}

int64_t feed_now_ns(void); /* CLOCK_MONOTONIC */

#endif
