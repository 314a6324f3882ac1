/* SPDX-License-Identifier: MIT */
/* A feed at run time: its source, order, fields, arena, slots and jobs. Opened and made on the thread of chores (reload.c);
 * once it is published the main thread owns it, and workers read what is constant and add to the atomic counters. */
#ifndef PFEED_FEED_H
#define PFEED_FEED_H

#include <pthread.h>
#include <stdbool.h>

#include "ahead.h"
#include "config.h"
#include "crash.h"
#include "ctl.h"
#include "segment.h"
#include "share.h"
#include "slot.h"
#include "tune.h"
#include "tune_feed.h"

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

struct slot_search { /* slot_obtain.c's own: the last one that found nothing */
    bool any;        /* in this turn */
    uint64_t seed, spans, epoch, index;
};

struct workers;
struct feed_caches;

enum feed_state {
    FEED_OPENING, /* a chore lists its samples and makes its memory -> RUNNING */
    FEED_RUNNING, /* -> RETIRED (the configuration has changed) */
    FEED_RETIRED, /* serves the jobs that it has; no new ones */
};

struct feed {
    enum feed_state state;
    struct config *owner; /* of config, which it keeps alive */
    const struct config_feed *config;
    struct source *source;
    const struct sample_part *parts;
    const struct deliver_ops *deliver;
    struct order *order;
    struct order_params order_params; /* of order; choose.c */
    uint64_t samples;                 /* N: positions of an epoch */
    uint32_t batch;                   /* rows of a slot */
    uint32_t n_fields;
    struct field *fields;
    size_t max_bytes; /* a worker's read buffer */
    struct pf_prints prints;
    uint32_t n_crashers; /* samples that crash the daemon */
    struct crash_sample crashers[CRASH_SAMPLES];

    /* The arena. */
    uint64_t field_offsets[PF_FIELDS]; /* within a slot */
    uint64_t ids_offset, used_ids_offset, flags_offset, slot_bytes, slots_offset;
    struct segment segment;
    struct pf_slot *table;
    uint32_t n_slots;    /* that are there: the first ones of */
    uint32_t n_planned;  /* constant: those that the arena has a place for */
    uint32_t n_busy;     /* that are not FREE */
    uint32_t in_use;     /* so many are filled ahead; a rank with nothing to take gets one that is FREE all the same */
    uint32_t slots_room; /* places for slots that tuning may add */
    struct slot *slots;
    bool retiring, remake; /* reload.c, while a change is in progress */
    uint32_t slots_short;  /* that memory has been short of; beside slots_room what is missing to n_planned */
    uint32_t claim_rows;   /* rows that a worker claims at once */
    uint32_t n_workers;
    void ***states;             /* [worker][field]: the decoder's own */
    uint64_t bytes;             /* all of it, as the budget counts; caches count by themselves */
    struct feed_caches *caches; /* NULL: none; cache/caches.h */

    struct job *jobs;
    struct consumer *consumers; /* attached and quarantined ones */
    struct workers *workers;
    struct tune_feed tune;
    bool dirty;     /* feed_turn has something to do */
    bool warm;      /* filled ahead of the first job, which has not started yet */
    bool starving;  /* a want could not be filled for lack of slots */
    bool none_free; /* in this turn of fill_wanted: no slot is FREE (slot_none_free) */
    struct slot_search in_vain;
    int64_t due_ns;        /* a turn is due then, whatever comes; 0: none */
    int64_t gang_since_ns; /* since when those who are there have waited for the rest of the gang; 0: nobody does */

    pthread_mutex_t lock; /* of what follows: workers write it, rarely */
    struct feed_error errors[FEED_ERRORS];
    uint32_t n_errors;                /* different ones, as far as they were still remembered */
    uint64_t window_rows, window_bad; /* bad.c: where the window in which bad rows are counted began */
    char first_errors[3][256];        /* "path: reason" */
    char failed[PF_FAILED_TEXT];      /* "": no */
    struct tune_log tuned;
    bool failed_told; /* main thread: consumers were closed */
    struct feed_counters counters __attribute__((aligned(PF_LINE)));
    struct share share __attribute__((aligned(PF_LINE))); /* of the workers */
    struct ahead_feed ahead __attribute__((aligned(PF_LINE)));
};

/* How the feeds of a configuration are opened. */
struct feeds_env {
    struct config *config; /* what is wrong is added to its errors, also of feeds that were bad already */
    struct feed **feeds;   /* one a feed of it: a running one that stays as it is, or NULL: it will be made and opened */
    const char *state;     /* folder for manifests, or NULL */
    const char *rescan;    /* the feed whose samples are listed whatever is kept there; "": all, NULL: none */
    struct source_progress *progress; /* or NULL */
    const char **listing;             /* or NULL. Atomic: the feed that is being listed */
};

/* feed_open.c: lists the samples and prepares the fields of all that are not there yet. Any thread, as long as nobody else knows
 * them; they may be half open where there were errors. */
void feeds_open(const struct feeds_env *env);
/* feed_arena.c. Everything that a feed of so many slots takes, in bytes, but the workers' rooms; and what it wants of those. There
 * are places for slots_short and slots_room more. */
uint64_t feed_arena_bytes(const struct feed *feed, uint32_t n_slots); /* of that, its shared memory */
uint64_t feed_bytes(const struct feed *feed, uint32_t n_slots, uint32_t n_workers);
uint64_t feed_codec_bytes(const struct feed *feed);
/* Makes the arena, the slots, the order's tables and the decoders' states. Any thread, as feed_open. */
int feed_start(struct feed *feed, uint32_t n_slots, enum segment_kind kind, uint32_t n_workers, struct problem *why);
/* One more slot is there: the segment is made as far. Main thread. */
void feed_add_slot(struct feed *feed);
/* `warm: yes`: fills the slots for whoever comes first. The workers run. */
void feed_warm(struct feed *feed);
/* Keeps what workers have learnt of the samples, for the next start: not worth failing for. May take long; any one thread. */
void feed_save(const struct feed *feed);
/* When no worker knows it (workers_forget, workers_pass, or their end): on any thread where it has no consumers, else on the main
 * thread. NULL is fine. */
void feed_destroy(struct feed *feed);
void feed_close_states(struct feed *feed);                   /* feed_arena.c, for feed_destroy */
uint32_t feed_least_slots(const struct config_feed *config); /* feed_open.c; for one group of jobs */

/* One bounded turn of everything: returns, finished slots, grants, new fills. Main thread. */
void feed_turn(struct feed *feed);
/* Before sleeping: asks consumers to ring where their returns are needed. True: something came meanwhile, turn again. */
bool feed_arm(struct feed *feed);
/* What c waits for, as a sentence; "" if for nothing. */
void feed_why(const struct feed *feed, const struct consumer *c, char *text, size_t size);

/* The read of a sample that takes longest just now, where that is over a second: where it comes from, and how long. Main
 * thread. */
bool feed_reading(const struct feed *feed, char *where, size_t size, int64_t *for_ns);

static inline uint64_t feed_round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

static inline uint8_t *feed_slot_base(const struct feed *feed, uint32_t slot)
{
    return (uint8_t *)feed->segment.map + feed->slots_offset + slot * feed->slot_bytes;
}

int64_t feed_now_ns(void); /* CLOCK_MONOTONIC */

/* The next turn is due then at the latest. */
static inline void feed_due(struct feed *feed, int64_t at_ns)
{
    if (feed->due_ns == 0 || at_ns < feed->due_ns)
        feed->due_ns = at_ns;
}

#endif
