/* SPDX-License-Identifier: MIT */
/* A job's terms and its arithmetic: which rows of which slot a rank's step is. Pure functions of the terms but for the list of
 * ranks. Main thread. */
#ifndef PFEED_JOB_H
#define PFEED_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "ctl.h"
#include "deliver/deliver.h"
#include "tune_rule.h"

struct feed;
struct consumer;

struct place { /* a rank's next step */
    uint64_t epoch, step;
};

struct queue {           /* queue.h */
    struct place next;   /* nobody had it yet */
    struct place *again; /* those that somebody ended without returning: n_again of room */
    uint32_t n_again, room;
};

/* Where a rank that has gone stood: nothing up to `low` is missing, nothing from `high` on was taken. Between them is what it held. */
struct job_left {
    uint32_t rank, replica;
    struct place low, high;
};

#define JOB_STEPS 15 /* the last ones are remembered, for their median */

/*
 * Where a rank begins that attaches (join_place, make_job and enter of consumer_attach.c), by who it is and how the job stands:
 *
 *                            no such job           waiting (not started)      started
 *   fresh, token, live       makes it: `start`     only at `start`            never seen: only at `start` (resumed: any token)
 *   one that had left        -                     only where it left         only where it left: low .. high, live: low
 *   RECONNECT                makes it: started,    as it says; the job is     as it says
 *                            resumed               started, resumed
 *   RECONNECT, UNBEGUN       makes it              as it says                 as it says
 *
 * A seek moves all ranks, and those that have left, to `sought`; who attaches later counts as having followed, but one that
 * reconnects, which says how many it has.
 */
struct job {
    struct job *next; /* in its feed */
    struct feed *feed;
    uid_t uid;
    char name[PF_JOB_NAME]; /* "": private */
    uint32_t world;
    struct deliver_terms terms;
    int tail;         /* enum config_tail */
    uint64_t samples; /* N */
    uint64_t steps;   /* of an epoch */
    uint64_t spans;   /* slots that an epoch touches: ceil(steps * G / slot_rows) */
    uint32_t slot_rows;
    uint64_t seed, run, epochs; /* epochs 0: for ever */
    int slow;                   /* enum config_slow */
    bool peek;
    bool started;            /* all local ranks, and the feed's gang, were there; or a rank of it has reconnected */
    bool resumed;            /* a rank of it has reconnected: `start` is where the first one to come stood */
    struct place start;      /* of all ranks */
    uint8_t *local;          /* world: this rank lives on this host */
    struct consumer **ranks; /* world: attached (with its replicas behind it: consumer.twin), or NULL */
    struct job_left *left;   /* n_left of left_room */
    uint32_t *left_of;       /* world: 1 + the place of its replica 0 in left; 0: it has none */
    uint32_t n_left, left_room;
    uint32_t n_attached, n_local; /* ranks */
    uint32_t n_consumers;
    uint64_t seeks; /* that were asked for, each by the first rank that did */
    struct place sought;
    bool sought_known;  /* false: they were followed under an older daemon, and where to the next who follows says */
    struct queue queue; /* deliver: first */
    bool parked;        /* park.c */
    int64_t parked_ns;  /* when */
    bool stalls;        /* others wait for it, and it cannot be parked */
    uint64_t n_steps;
    int64_t step_ns[JOB_STEPS];           /* a ring */
    uint32_t group;                       /* group_all's */
    bool marked;                          /* mark_wanted's own (slot.c) */
    struct tune_series pace;              /* the time of a slot's batches, without waiting, and what it waited */
    uint64_t rows_filled, rows_delivered; /* filled: asked for by one of its ranks first */
    uint32_t max_held;                    /* the largest of its ranks */
    char local_text[PF_RANKS_TEXT];
};

static inline bool job_before(struct place a, struct place b)
{
    return a.epoch < b.epoch || (a.epoch == b.epoch && a.step < b.step);
}

/* Rows of a slot that belong to one rank's step. */
struct range {
    uint64_t epoch, index; /* the slot's key */
    uint32_t row, rows, valid;
};

/* Fits the request to the feed, or says what does not fit and what would. */
int job_create(struct job **out, struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, uint64_t seed,
               struct problem *why);
void job_destroy(struct job *job);
const char *job_slow_word(int slow); /* as the configuration has it */
/* Room to remember one rank more when it leaves. */
int job_reserve_left(struct job *job);
/* NULL: that one was never there, or is. */
struct job_left *job_left(const struct job *job, uint32_t rank, uint32_t replica);
/* That one stood there when it left; there is room. */
void job_leave(struct job *job, const struct job_left *where);
/* What the attached rank that is furthest behind takes next; false: there is none. */
bool job_rearmost(const struct job *job, struct place *out);
/* The user's job of that name, or NULL; private ones (name "") are never found. */
struct job *job_find(const struct feed *feed, uid_t uid, const char *name);
/* Whether a further rank's request agrees with the job's terms; -EINVAL with both values. */
int job_agrees(const struct job *job, const struct pf_ctl_attach *request, uint64_t seed, struct problem *why);

/* job_local.c. "0-3,8-11", "": all; sets local and n_local. -EINVAL */
int job_parse_local(struct job *job, const char *text, struct problem *why);
/* The share of the rows of the slots that it fills which its local ranks use: less than 1 where rows of other hosts lie between. */
double job_slot_use(const struct job *job);
/* The feed's `batch` with which slots would hold rows of this host alone; 0: none would. */
uint32_t job_aligned_batch(const struct job *job);

struct range job_range(const struct job *job, uint32_t rank, struct place place);
struct place job_after(const struct job *job, struct place place); /* the step after */
bool job_over(const struct job *job, struct place place);          /* past the job's last epoch */
/* The first and last step of rank that lie in slot (.., index); false where none does. */
bool job_steps_in(const struct job *job, uint32_t rank, uint64_t index, uint64_t *first, uint64_t *last);
/* The place of the first step in a slot after the one that `place` lies in. */
struct place job_next_slot(const struct job *job, uint32_t rank, struct place place);
/* Slots from the beginning of the job to that one, counting over epochs. */
static inline uint64_t job_ordinal(const struct job *job, uint64_t epoch, uint64_t index)
{
    return epoch * job->spans + index;
}
/* How many of a gang it counts as. */
static inline uint32_t job_of_gang(const struct job *job)
{
    return job->peek ? 0 : job->terms.queue ? job->n_consumers : job->n_attached;
}
/* The most slots that one step of all ranks touches. */
uint32_t job_step_slots(const struct job *job);

#endif
