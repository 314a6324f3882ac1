/* SPDX-License-Identifier: MIT */
/* A feed in one thread, for fuzz_cursors.c: the daemon's main loop and its workers run when the target says so, and trainers are
 * played. Also what must hold whenever the daemon has had a turn. */
#ifndef FUZZ_CURSORS_WORLD_H
#define FUZZ_CURSORS_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bytes.h"
#include "consumer.h"
#include "cursors_model.h"
#include "feed.h"

#define PLAYERS 8
#define HELD    3
#define WORKS   2
#define TURNS   400 /* that the daemon may make before it rests */

extern const struct deliver_ops deliver_split, deliver_each, deliver_first;

struct held {
    struct pf_grant grant;
    uint64_t at, seeks, index, sequence;
};

struct player { /* a process */
    enum { GONE, THERE, QUARANTINED } state;
    struct consumer *c;
    struct model_job *job;
    int process; /* what stands for its pidfd; the consumer closes it */
    uint32_t rank, replica, max_held;
    uint64_t seed, at, seeks, steps;
    bool exact, stands, over; /* over: it was told so */
    uint64_t next, returned, rung, told_next, told_returned;
    struct held held[HELD];
    uint32_t n_held;
};

static struct config_feed config;
static struct field field = { .name = "x", .dtype = DTYPE_I64, .row_bytes = 8 };
static struct sample_part part = { .name = "x", .kind = PART_VALUES, .dtype = DTYPE_I64 };
static struct model_feed rules;
static struct model_job jobs[PLAYERS + 1];
static struct player players[PLAYERS];
static struct feed *feed;
static struct loop *loop;
static uint64_t births, posts;
static uint64_t posted[PF_SLOTS_MAX]; /* when a slot was given to the workers */
static bool playing, awake;
static int64_t clock_ns;
static struct work {
    struct slot *slot;
    uint32_t first, count;
} works[WORKS];

static struct {
    uint64_t taken, refused, attached, sought, parked, revoked, resumed, rounds;
} reached;

static void world_open(struct bytes *bytes)
{
    static const struct deliver_ops *const delivers[] = { &deliver_split, &deliver_each, &deliver_first };
    const uint8_t how = bytes_next(bytes), slots = bytes_next(bytes), samples = bytes_next(bytes), gang = bytes_next(bytes);
    struct problem why;

    rules = (struct model_feed){ .mode = "sef"[how % 3],
                                 .tail = how / 3 % 3,
                                 .samples = 1 + samples % MOST,
                                 .slots = 4 + slots % 13,
                                 .gang = gang % 4,
                                 .gang_waits_not = gang & 4 };
    config = (struct config_feed){ .name = (char *)"f",
                                   .tail = rules.tail,
                                   .max_held = 2,
                                   .batch = ROWS,
                                   .weight = 1,
                                   .gang = rules.gang,
                                   .gang_wait_ms = gang & 4 ? 1000 : 0,
                                   .park_after_ms = gang & 8 ? 1 : 100 };
    feed = aligned_alloc(_Alignof(struct feed), sizeof(*feed));
    assert(feed);
    memset(feed, 0, sizeof(*feed));
    feed->config = &config;
    feed->deliver = delivers[how % 3];
    feed->samples = rules.samples;
    feed->order_params = (struct order_params){ .n = rules.samples, .mode = SHUFFLE_NONE, .repeat = 1 };
    feed->batch = ROWS;
    feed->n_fields = 1;
    feed->fields = &field;
    feed->parts = &part;
    feed->segment.fd = feed->segment.reader = -1;
    feed->ids_offset = feed->used_ids_offset = feed->flags_offset = ROWS * 8;
    feed->slot_bytes = PF_PAGE;
    pthread_mutex_init(&feed->lock, NULL);
    assert(feed_start(feed, rules.slots, SEGMENT_MEMFD, 0, &why) == 0);
    assert(loop || loop_create(&loop) == 0);
    memset(jobs, 0, sizeof(jobs));
    memset(players, 0, sizeof(players));
    memset(works, 0, sizeof(works));
    clock_ns = 1000000000;
    awake = true;
}

static void world_close(void)
{
    slots_destroy(feed);
    order_destroy(feed->order);
    segment_destroy(&feed->segment);
    pthread_mutex_destroy(&feed->lock);
    free(feed->states);
    free(feed);
}

/* ---- what must hold at any time ------------------------------------------------------------------------------------- */

static uint64_t stamp(uint64_t seed, uint64_t epoch, uint64_t index, uint32_t row)
{
    return 1 + row + 100 * (index + 100 * (epoch + 1000 * seed));
}

static void check_held(const struct player *p)
{
    for (uint32_t i = 0; i < p->n_held; i++) {
        const struct held *held = &p->held[i];
        const struct slot *slot = &feed->slots[held->grant.slot];

        assert(slot->state == PF_SLOT_READY && slot->grants > 0 && slot->sequence == held->sequence);
        assert(slot->seed == p->seed && slot->epoch == held->grant.epoch && slot->index == held->index);
        for (uint32_t row = held->grant.row; row < held->grant.row + held->grant.rows; row++)
            assert(((uint64_t *)slot->base)[row] == stamp(p->seed, slot->epoch, slot->index, row));
    }
}

static uint64_t number_of(const struct model_job *job, struct place place)
{
    return place.epoch * job->steps + place.step;
}

/* Nobody had it, or somebody is to have it, or gave it back. */
static void check_queue(const struct model_job *model, const struct job *job)
{
    const uint64_t next = number_of(model, job->queue.next);

    for (uint64_t at = model->start; at < next && at < PLACES; at++) {
        bool found = model->returned[at] || model_over(model, at);

        for (uint32_t i = 0; i < job->queue.n_again; i++)
            found |= number_of(model, job->queue.again[i]) == at;
        for (const struct consumer *c = feed->consumers; c && !found; c = c->next) {
            if (c->job != job)
                continue;
            found = number_of(model, c->at) == at;
            for (uint32_t i = 0; i < c->n_out; i++)
                found |= number_of(model, c->out[i].place) == at;
        }
        assert(found);
    }
}

static bool is_there(const struct consumer *wanted)
{
    const struct consumer *c = feed->consumers;

    while (c && c != wanted)
        c = c->next;
    return c;
}

static void check_player(const struct player *p)
{
    if (p->state == GONE)
        return;
    assert(is_there(p->c));
    assert((p->c->state == CONSUMER_ATTACHED) == (p->state == THERE) && !p->c->broken[0]);
    check_held(p);
    if (p->state == QUARANTINED)
        return;
    assert(!p->c->job->started || p->job->may_start);
    assert(!p->c->job->parked || consumer_held(p->c) == p->c->n_out);
    if (rules.mode == 'f')
        check_queue(p->job, p->c->job);
    else if (p->exact)
        assert(number_of(p->job, consumer_untaken(p->c)) == p->at);
}

static void check(void)
{
    uint32_t out[PF_SLOTS_MAX] = { 0 };

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        for (uint32_t i = 0; i < c->n_out; i++)
            out[c->out[i].slot]++;
    for (uint32_t s = 0; s < feed->n_slots; s++)
        assert(feed->slots[s].grants == out[s] && (out[s] == 0 || feed->slots[s].state == PF_SLOT_READY));
    for (int i = 0; i < PLAYERS; i++)
        check_player(&players[i]);
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

/* Which jobs may have started by now. */
static void see_gangs(void)
{
    uint32_t there[PLAYERS + 1] = { 0 }, ranks[PLAYERS + 1] = { 0 }, gang = 0;

    for (int i = 0; i < PLAYERS; i++)
        if (players[i].state == THERE) {
            there[players[i].job - jobs]++;
            ranks[players[i].job - jobs] |= 1u << players[i].rank;
        }
    for (int j = 0; j <= PLAYERS; j++)
        gang += rules.mode == 'f' ? there[j] : (uint32_t)__builtin_popcount(ranks[j]);
    for (int j = 0; j <= PLAYERS; j++) {
        jobs[j].ready = there[j] && (rules.mode == 'f' || (uint32_t)__builtin_popcount(ranks[j]) == jobs[j].world) &&
                        (rules.gang_waits_not || gang >= rules.gang);
        jobs[j].may_start |= jobs[j].ready;
    }
}

static void turn(void)
{
    const uint64_t parked = feed->counters.jobs_parked;

    see_gangs();
    assert(loop_turn(loop, 0) == 0);
    if (feed->dirty || (feed->due_ns && clock_ns >= feed->due_ns))
        awake = true;
    if (!awake)
        return;
    feed_turn(feed);
    awake = feed_arm(feed) || feed->dirty;
    reached.parked += feed->counters.jobs_parked - parked;
    check();
}

static void turns(void)
{
    int n = 0;

    do
        turn();
    while (awake && ++n < TURNS);
    assert(n < TURNS);
}

static void finish(struct work *work)
{
    struct slot *slot = work->slot;

    assert(slot->state == PF_SLOT_FILLING && slot->grants == 0);
    for (uint32_t i = work->first; i < work->first + work->count; i++)
        ((uint64_t *)slot->base)[slot->rows[i]] = stamp(slot->seed, slot->epoch, slot->index, slot->rows[i]);
    feed->dirty |= slot_rows_done(slot, work->count, 0);
    work->slot = NULL;
}

/* A worker finishes the rows that it has, or claims some of the slot that has waited longest. */
static bool work_once(struct work *work, uint32_t most)
{
    struct slot *oldest = NULL;

    if (work->slot) {
        finish(work);
        return true;
    }
    for (uint32_t s = 0; s < feed->n_slots; s++)
        if (feed->slots[s].state == PF_SLOT_FILLING && slot_unclaimed(&feed->slots[s], slot_generation(&feed->slots[s])) > 0 &&
            (!oldest || posted[s] < posted[oldest->number]))
            oldest = &feed->slots[s];
    if (!oldest || !slot_claim(oldest, slot_generation(oldest), most, &work->first, &work->count))
        return false;
    for (uint32_t i = work->first; i < work->first + work->count; i++)
        ((uint64_t *)oldest->base)[oldest->rows[i]] = 0;
    work->slot = oldest;
    return true;
}

static void work_all(void)
{
    const uint64_t before = feed->counters.slots_filled;
    bool any = true;

    while (any) {
        any = false;
        for (int w = 0; w < WORKS; w++)
            any |= work_once(&works[w], ROWS);
        turns();
        assert(feed->counters.slots_filled - before <= 100 * feed->n_slots); /* nobody takes: else it fills in circles */
    }
}

/* ---- a trainer ------------------------------------------------------------------------------------------------------ */

static void ring(struct player *p)
{
    const uint64_t one = 1;

    p->told_next = p->next;
    p->told_returned = p->returned;
    assert(write(p->c->event.fd, &one, sizeof(one)) == sizeof(one));
}

static void check_grant(struct player *p, const struct pf_grant *grant)
{
    const struct model_job *job = p->job;
    const uint64_t at = grant->epoch * job->steps + grant->step;
    const struct portion *share = &job->shares[p->rank][grant->step];
    const struct slot *slot = &feed->slots[grant->slot];
    uint64_t flags = 0;

    assert(!p->over && p->c->job->started && grant->step < job->steps && !model_over(job, at));
    assert(p->exact ? at == p->at : rules.mode == 'f' ? at >= job->start : at >= p->at);
    assert(slot->state == PF_SLOT_READY && slot->seed == p->seed && slot->epoch == grant->epoch && slot->index == share->index);
    assert(grant->row == share->row && grant->rows == share->rows && grant->valid == share->valid);
    if (grant->step + 1 == job->steps && rules.mode != 'f')
        flags = PF_GRANT_LAST_OF_EPOCH | (model_over(job, at + 1) ? PF_GRANT_LAST : 0);
    assert(grant->flags == flags);
}

/* It is told that there is nothing more for it. */
static void end(struct player *p, const struct pf_grant *grant)
{
    const struct model_job *job = p->job;

    assert(!p->over && grant->flags == (PF_GRANT_LAST_OF_EPOCH | PF_GRANT_LAST) && job->epochs);
    p->over = true;
    assert(!p->exact || model_over(job, p->at));
    if (rules.mode != 'f' || job->lowered)
        return;
    for (uint64_t at = job->start; at < PLACES && !model_over(job, at); at++)
        assert(job->returned[at]);
}

/* As pfeed_next. False: there is nothing. */
static bool take(struct player *p)
{
    struct held *held = &p->held[p->n_held];

    if (p->state != THERE || p->n_held == p->max_held || p->over)
        return false;
    if (!pf_grants_take(p->c->grants, p->c->returns, &p->next, &held->grant)) {
        if ((p->returned != p->told_returned || p->next != p->told_next) && p->c->grants->wake_at != UINT64_MAX)
            ring(p);
        pf_grants_sleepy(p->c->grants, p->c->returns);
        return false;
    }
    pf_grants_awake(p->c->returns);
    reached.taken++;
    if (held->grant.rows == 0) {
        end(p, &held->grant);
        return true;
    }
    check_grant(p, &held->grant);
    held->at = held->grant.epoch * p->job->steps + held->grant.step;
    held->seeks = p->seeks;
    held->index = feed->slots[held->grant.slot].index;
    held->sequence = feed->slots[held->grant.slot].sequence;
    p->n_held++;
    p->steps++;
    p->at = held->at + 1;
    p->over = held->grant.flags & PF_GRANT_LAST;
    check_held(p);
    if (p->replica == 0 || rules.mode == 'f')
        model_took(&rules, p->job, p->rank, held->at);
    return true;
}

static void give_back(struct player *p, uint32_t which)
{
    struct held held;

    if (p->state != THERE || p->n_held == 0)
        return;
    check_held(p);
    which %= p->n_held;
    held = p->held[which];
    memmove(&p->held[which], &p->held[which + 1], (--p->n_held - which) * sizeof(held));
    if (rules.mode == 'f' && held.at < PLACES)
        p->job->returned[held.at] = true;
    if (pf_returns_push(p->c->returns, p->c->grants, &p->returned, held.grant.number, &p->rung))
        ring(p);
}

#endif
