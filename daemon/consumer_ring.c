/* SPDX-License-Identifier: MIT */
/* See consumer.h. What goes through a consumer's lane: grants out, returns in, revocations. Whatever a consumer can write is
 * loaded once and checked against what was granted. feed.c drains and grants, slot_obtain.c revokes and asks who holds what, consumer.c
 * settles all at the end. Main thread. */
#include <assert.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "consumer.h"
#include "park.h"
#include "queue.h"

void consumer_wake(struct consumer *c)
{
    if (pf_grants_ring(c->grants, c->returns)) {
        syscall(SYS_futex, &c->grants->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
        c->counters.wakes++;
    }
}

static uint32_t count_valid(const struct range *range)
{
    return range->valid < range->rows ? range->valid : range->rows;
}

/* Rows at the end of an epoch that no step holds, told of by one rank: the first of this host, or each where each sees all. */
static uint64_t left_out(const struct consumer *c)
{
    const struct job *job = c->job;
    uint64_t reached = job->steps * job->terms.stride;
    uint32_t first = 0;

    while (!job->terms.alone && first < job->world && !job->local[first])
        first++;
    return reached < job->samples && (job->terms.alone || c->rank == first) ? job->samples - reached : 0;
}

static void grant_one(struct consumer *c, struct slot *slot, const struct range *range)
{
    struct place after = job_after(c->job, c->at);
    bool last_of_epoch = after.epoch != c->at.epoch;
    struct pf_grant grant = {
        .number = c->published,
        .epoch = c->at.epoch,
        .step = c->at.step,
        .slot = slot->number,
        .row = range->row,
        .rows = range->rows,
        .valid = count_valid(range),
        .flags =
            last_of_epoch && !c->job->terms.queue ? PF_GRANT_LAST_OF_EPOCH | (job_over(c->job, after) ? PF_GRANT_LAST : 0) : 0,
    };

    c->out[c->n_out++] = (struct granted){ .number = grant.number,
                                           .place = c->at,
                                           .slot = slot->number,
                                           .rows = range->rows,
                                           .padded = range->rows - grant.valid,
                                           .left_out = last_of_epoch ? left_out(c) : 0,
                                           .since_ns = feed_now_ns() };
    slot->grants++;
    c->published++;
    c->at = c->job->terms.queue ? queue_take(c->job) : after;
    c->told_end = grant.flags & PF_GRANT_LAST;
    c->counters.grants++;
    FEED_ADD(c->feed, rows_granted, range->rows);
    pf_grants_publish(c->grants, &grant);
}

void consumer_tell_started(struct job *job)
{
    for (struct consumer *c = job->feed->consumers; c; c = c->next)
        if (c->job == job)
            __atomic_store_n(&c->grants->started, 1, __ATOMIC_RELAXED);
}

uint32_t consumer_room(const struct consumer *c)
{
    const uint32_t some = 2 * (c->max_held + 1);

    return c->job && c->job->terms.queue && some < PF_RING ? some : PF_RING; /* the rest is for others who ask */
}

void consumer_end(struct consumer *c)
{
    struct pf_grant grant = {
        .number = c->published, .epoch = c->at.epoch, .step = c->at.step, .flags = PF_GRANT_LAST_OF_EPOCH | PF_GRANT_LAST
    };

    if (c->told_end || c->n_out == PF_RING)
        return;
    c->told_end = true;
    c->published++;
    pf_grants_publish(c->grants, &grant);
    consumer_wake(c);
}

void consumer_grant(struct consumer *c)
{
    bool any = false;

    while (c->n_out < consumer_room(c) && !job_over(c->job, c->at)) {
        struct range range = job_range(c->job, c->rank, c->at);
        struct slot *slot = slot_find(c->feed, c->job->seed, &range);

        if (!slot || slot->state != PF_SLOT_READY)
            break;
        grant_one(c, slot, &range);
        any = true;
    }
    if (any)
        consumer_wake(c);
}

void consumer_settle(struct consumer *c, uint32_t i)
{
    struct slot *slot = &c->feed->slots[c->out[i].slot];

    assert(slot->grants > 0);
    slot->grants--;
    memmove(&c->out[i], &c->out[i + 1], (c->n_out - i - 1) * sizeof(c->out[0]));
    c->n_out--;
    if (slot->grants == 0)
        slot_release(c->feed, slot);
    c->feed->dirty = true;
}

/* Noted now, dropped at the next turn: c may be in use further up. */
static bool misbehaves(struct consumer *c, const char *what, uint64_t value)
{
    if (!c->broken[0])
        snprintf(c->broken, sizeof(c->broken), "dropped: the return page of this process (pid %ld) is not sound: %s (%llu)",
                 (long)c->pid, what, (unsigned long long)value);
    c->feed->dirty = true;
    return false;
}

static bool take_return(struct consumer *c, uint64_t number)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].number == number) {
            c->counters.returns++;
            c->counters.rows += c->out[i].rows;
            if (c->job)
                c->job->rows_delivered += c->out[i].rows;
            FEED_ADD(c->feed, rows_delivered, c->out[i].rows);
            FEED_ADD(c->feed, rows_padded, c->out[i].padded);
            FEED_ADD(c->feed, rows_left_out, c->out[i].left_out);
            consumer_settle(c, i);
            return true;
        }
    return false;
}

/* The taken word, if it can be what an honest consumer wrote. */
static bool read_taken(struct consumer *c)
{
    uint64_t taken = __atomic_load_n(&c->returns->taken, __ATOMIC_ACQUIRE);

    if (taken < c->taken || taken > c->published)
        return false;
    if (taken != c->taken)
        c->active_ns = feed_now_ns();
    c->taken = taken;
    return true;
}

static uint32_t count_taken(const struct consumer *c, uint64_t taken)
{
    uint32_t held = 0;

    while (held < c->n_out && c->out[held].number < taken)
        held++;
    return held;
}

/* Whether every return up to tail was of a taken, outstanding grant; stops at the first that was not. */
static bool read_returns(struct consumer *c, uint64_t tail, uint64_t *bad)
{
    while (c->tail != tail) {
        uint64_t number = pf_returns_number(c->returns, c->tail);

        if (number >= c->taken || !take_return(c, number)) {
            *bad = number;
            return false;
        }
        c->tail++;
    }
    return true;
}

/* So many returns came since the last ones. */
static void count_steps(struct consumer *c, uint64_t n)
{
    const int64_t now_ns = feed_now_ns();

    if (c->returned_ns) {
        park_step(c->job, (now_ns - c->returned_ns) / (int64_t)n);
        tune_feed_returned(c, n, now_ns - c->returned_ns);
    }
    c->returned_ns = c->active_ns = now_ns;
}

bool consumer_drain(struct consumer *c)
{
    uint64_t before, tail, bad;

    /* Loaded before the tail: whoever took one more than max_held had returned one that the tail covers. */
    if (!read_taken(c))
        return misbehaves(c, "takes what was not granted", c->published);
    before = c->taken;
    tail = pf_returns_tail(c->returns);
    if (tail - c->tail > c->n_out)
        return misbehaves(c, "more returns than grants are out", tail);
    /* And once more after it: what was returned had been taken. */
    if (tail != c->tail && !read_taken(c))
        return misbehaves(c, "takes what was not granted", c->published);
    if (tail != c->tail)
        count_steps(c, tail - c->tail);
    if (!read_returns(c, tail, &bad))
        return misbehaves(c, "returns a grant that is not out", bad);
    if (count_taken(c, before) > c->max_held)
        return misbehaves(c, "holds more batches than max_held", count_taken(c, before));
    return true;
}

void consumer_take_back(struct consumer *c)
{
    struct granted *last = &c->out[c->n_out - 1];

    if (c->job && c->job->terms.queue)
        queue_give_back(c->job, c->at);
    c->at = last->place; /* before it is settled: the slot is wanted again from here */
    c->counters.revoked++;
    c->counters.grants--;
    FEED_ADD(c->feed, rows_granted, -(uint64_t)last->rows);
    consumer_settle(c, c->n_out - 1);
}

bool consumer_revoke(struct consumer *c)
{
    uint64_t from;

    if (pf_grants_revoke(c->returns, c->taken, c->published, &from) < 0)
        return misbehaves(c, "takes what was not granted", c->published);
    c->taken = c->published;
    c->told_end &= from == c->published; /* it may have been the last that was revoked */
    while (c->n_out > 0 && c->out[c->n_out - 1].number >= from)
        consumer_take_back(c);
    return true;
}

uint32_t consumer_held(const struct consumer *c)
{
    return c->returns ? count_taken(c, __atomic_load_n(&c->returns->taken, __ATOMIC_ACQUIRE)) : c->n_out;
}

bool consumer_has(const struct consumer *c, uint32_t slot)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].slot == slot)
            return true;
    return false;
}

bool consumer_holds(const struct consumer *c, uint32_t slot)
{
    uint32_t held = consumer_held(c);

    for (uint32_t i = 0; i < held; i++)
        if (c->out[i].slot == slot)
            return true;
    return false;
}

struct place consumer_untaken(const struct consumer *c)
{
    uint32_t held = consumer_held(c);

    return held < c->n_out ? c->out[held].place : c->at;
}

void consumer_last_returns(struct consumer *c)
{
    uint64_t tail = pf_returns_tail(c->returns), bad;

    if (tail - c->tail <= c->n_out && read_taken(c))
        read_returns(c, tail, &bad);
}
