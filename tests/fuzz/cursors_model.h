/* SPDX-License-Identifier: MIT */
/*
 * What a job is owed, for fuzz_cursors.c: written from DESIGN.md section 8 alone and by counting, so that it errs in other ways than
 * daemon/job.c. A place is one number here: steps from the beginning of the job, over epochs.
 */
#ifndef FUZZ_CURSORS_MODEL_H
#define FUZZ_CURSORS_MODEL_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "config.h"
#include "ctl.h"

#define ROWS      4u /* of a slot */
#define MOST      40 /* samples */
#define POSITIONS (MOST + 4 * ROWS)
#define RANKS     4
#define REPLICAS  2
#define EPOCHS    4   /* that are looked at row by row */
#define PLACES    256 /* of a queue, likewise */

struct portion { /* what one rank gets at one step */
    uint64_t index;
    uint32_t row, rows, valid;
};

struct model_feed {
    char mode; /* 's'plit, 'e'ach, 'f'irst */
    int tail;
    uint32_t samples, slots, gang;
    bool gang_waits_not; /* for longer than gang_wait */
};

struct model_job {
    bool there, resumed, ready, may_start, clean; /* clean: nobody came, left or sought after its first step */
    uint32_t name, world, rows, stride;           /* rows of a rank's step, of everybody's */
    uint32_t max_held, step_slots;
    int slow; /* enum pf_slow */
    uint64_t born, seed, run, epochs;
    uint64_t steps, start, seeks, sought;
    struct portion shares[RANKS][MOST];
    struct {
        bool known;
        uint64_t low, high;
    } left[RANKS][REPLICAS];
    uint8_t had[RANKS][EPOCHS][POSITIONS]; /* how often replica 0 took it; all ranks of split in one */
    bool returned[PLACES];                 /* of a queue */
    bool lowered;                          /* it goes on, although somebody may have been told its end */
};

struct ask {
    uint32_t name, rank, replica, world, batch, max_held;
    int slow;
    uint64_t seed, run, epochs;
    bool reconnects;
    enum { ASK_FRESH, ASK_LIVE, ASK_LIVE_EPOCH, ASK_TOKEN } start;
    uint64_t place; /* the token's */
};

/* What must come of it. Where a job skips, or is a queue, nobody but the daemon knows where it stands. */
struct verdict {
    enum { REFUSED, TAKEN, EITHER } what;
    bool exact; /* `place` is */
    uint64_t place;
};

static inline bool model_alone(const struct model_feed *feed)
{
    return feed->mode != 's';
}

static inline bool model_is_exact(const struct model_feed *feed, const struct model_job *job)
{
    return feed->mode != 'f' && job->slow != PF_SLOW_SKIP;
}

/* The most slots that `stride` rows in a row touch. */
static inline uint32_t model_step_slots(uint32_t stride)
{
    uint32_t most = 0;

    for (uint32_t first = 0; first < ROWS * stride; first += stride) {
        uint32_t n = 1;

        for (uint32_t i = 1; i < stride; i++)
            n += (first + i) % ROWS == 0;
        most = n > most ? n : most;
    }
    return most;
}

/* Goes through an epoch row by row. */
static inline void model_count(const struct model_feed *feed, struct model_job *job)
{
    uint32_t position = 0;

    job->steps = 0;
    while (position < feed->samples) {
        const uint32_t first = position;
        uint32_t valid = 0;

        for (uint32_t rank = 0; rank < job->world; rank++) {
            struct portion *share = &job->shares[rank][job->steps];

            if (model_alone(feed))
                position = first;
            *share = (struct portion){ .index = position / ROWS, .row = position % ROWS };
            for (uint32_t i = 0; i < job->rows; i++, position++) {
                share->valid += position < feed->samples;
                share->rows += position < feed->samples || feed->tail != CONFIG_TAIL_PARTIAL;
            }
            valid = model_alone(feed) ? share->valid : valid + share->valid;
        }
        if (feed->tail == CONFIG_TAIL_DROP && valid < job->stride)
            return;
        job->steps++;
    }
}

/* The terms of the job that it would make; false: there can be none. */
static inline bool model_make(const struct model_feed *feed, const struct ask *ask, struct model_job *job)
{
    const bool one = ask->world == 1 || model_alone(feed);

    *job = (struct model_job){ .name = ask->name,
                               .world = ask->world,
                               .slow = ask->slow,
                               .seed = ask->seed,
                               .run = ask->run,
                               .epochs = ask->epochs,
                               .max_held = ask->max_held,
                               .resumed = ask->reconnects,
                               .may_start = ask->reconnects };
    if (ask->rank >= ask->world || (ask->slow == PF_SLOW_SKIP && !one) || (feed->tail == CONFIG_TAIL_PARTIAL && !one))
        return false;
    if (ask->batch ? ROWS % ask->batch != 0 : ROWS % ask->world != 0 && !model_alone(feed))
        return false;
    job->rows = ask->batch ? ask->batch : model_alone(feed) ? ROWS : ROWS / ask->world;
    job->stride = model_alone(feed) ? job->rows : job->rows * job->world;
    job->step_slots = model_step_slots(job->stride);
    model_count(feed, job);
    return job->steps > 0;
}

static inline bool model_over(const struct model_job *job, uint64_t at)
{
    return job->epochs && at >= job->epochs * job->steps;
}

/* `at` of one job as a place in another that goes through the same rows. */
static inline uint64_t model_live(const struct model_job *from, uint64_t at, const struct model_job *to, bool next_epoch)
{
    uint64_t epoch = at / from->steps, row = at % from->steps * from->stride, step = 0;

    while (step * to->stride < row)
        step++;
    if (step >= to->steps || (next_epoch && row > 0))
        return (epoch + 1) * to->steps;
    return epoch * to->steps + step;
}

/* A further rank of the job. rear: where its rearmost one stands. */
static inline struct verdict model_join(const struct model_feed *feed, const struct model_job *job, const struct ask *ask,
                                        const struct model_job *terms, bool started, uint64_t rear)
{
    const bool live = ask->start == ASK_LIVE || ask->start == ASK_LIVE_EPOCH;
    struct verdict verdict = { TAKEN, true, ask->start == ASK_TOKEN ? ask->place : 0 };

    if (terms->world != job->world || terms->rows != job->rows || terms->seed != job->seed || terms->epochs != job->epochs ||
        terms->slow != job->slow)
        return (struct verdict){ .what = REFUSED };
    if (ask->reconnects)
        return verdict; /* it alone knows where it stands */
    if (feed->mode == 'f')
        return (struct verdict){ .what = TAKEN };
    if (started && job->left[ask->rank][ask->replica].known) {
        const uint64_t low = job->left[ask->rank][ask->replica].low, high = job->left[ask->rank][ask->replica].high;

        if (job->slow == PF_SLOW_SKIP)
            return (struct verdict){ .what = EITHER };
        verdict.place = live ? low : verdict.place;
        verdict.what = verdict.place >= low && verdict.place <= high ? TAKEN : REFUSED;
        return verdict;
    }
    if (live) {
        verdict.place = started ? rear : job->start;
        verdict.exact = !started || job->slow != PF_SLOW_SKIP;
        return verdict;
    }
    if (verdict.place != job->start && !(job->resumed && ask->start == ASK_TOKEN))
        verdict.what = REFUSED;
    return verdict;
}

/* A rank took its share at that place. */
static inline void model_took(const struct model_feed *feed, struct model_job *job, uint32_t rank, uint64_t at)
{
    const struct portion *share = &job->shares[rank][at % job->steps];

    for (uint32_t i = 0; i < share->rows && at / job->steps < EPOCHS; i++) {
        uint8_t *had = &job->had[feed->mode == 'e' ? rank : 0][at / job->steps][share->index * ROWS + share->row + i];

        *had += *had < 255;
        assert(!job->clean || *had == 1);
    }
}

/* All ranks have gone through that epoch. */
static inline void model_check_epoch(const struct model_feed *feed, const struct model_job *job, uint64_t epoch)
{
    const uint32_t covered =
        (uint32_t)job->steps * job->stride < feed->samples ? (uint32_t)job->steps * job->stride : feed->samples;

    for (uint32_t plane = 0; plane < (feed->mode == 'e' ? job->world : 1); plane++)
        for (uint32_t position = 0; position < covered; position++)
            assert(job->had[plane][epoch][position] == 1);
}

#endif
