/* SPDX-License-Identifier: MIT */
/* See slot.h. The states of slots, who wants them, and the word by which workers claim rows; who may have one is slot_obtain.c's.
 * Called by feed.c and consumer*.c, main thread; slot_claim, slot_rows_done and slot_unclaimed by workers. */
#include "slot.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer.h"
#include "feed.h"

#define CLAIM_BITS 24
#define CLAIM_MASK ((UINT64_C(1) << CLAIM_BITS) - 1)

static uint32_t mask_words(uint32_t batch)
{
    return (batch + 63) / 64;
}

uint64_t slots_bytes(uint32_t n_slots, uint32_t batch)
{
    return (uint64_t)n_slots * (sizeof(struct slot) + (uint64_t)batch * sizeof(uint32_t) + mask_words(batch) * sizeof(uint64_t));
}

int slots_create(struct feed *feed)
{
    size_t bytes = feed->n_planned * sizeof(struct slot);

    feed->slots = aligned_alloc(PF_LINE, bytes);
    if (!feed->slots)
        return -ENOMEM;
    memset(feed->slots, 0, bytes);
    for (uint32_t s = 0; s < feed->n_planned; s++) {
        struct slot *slot = &feed->slots[s];

        slot->number = s;
        slot->base = feed_slot_base(feed, s);
        slot->since_ns = feed_now_ns();
        slot->rows = calloc(feed->batch, sizeof(*slot->rows));
        slot->mask = calloc(mask_words(feed->batch), sizeof(*slot->mask));
        if (!slot->rows || !slot->mask)
            return -ENOMEM;
    }
    return 0;
}

void slots_destroy(struct feed *feed)
{
    if (!feed->slots)
        return;
    for (uint32_t s = 0; s < feed->n_planned; s++) {
        free(feed->slots[s].rows);
        free(feed->slots[s].mask);
    }
    free(feed->slots);
    feed->slots = NULL;
}

/* ---- states --------------------------------------------------------------------------------------------------------- */

void slot_set_state(struct feed *feed, struct slot *slot, enum pf_slot_state state)
{
    struct pf_slot *shown = &feed->table[slot->number];

    feed->none_free &= state != PF_SLOT_FREE;
    feed->n_busy += (state != PF_SLOT_FREE) - (slot->state != PF_SLOT_FREE);
    slot->state = state;
    slot->since_ns = feed_now_ns();
    if ((state == PF_SLOT_READY) == (slot->sequence & 1))
        slot->sequence++; /* even only while READY */
    /* The rows of a READY slot are seen before its even sequence; an odd one before the rows that follow (fence). */
    __atomic_store_n(&shown->sequence, slot->sequence, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&shown->state, (uint32_t)state, __ATOMIC_RELAXED);
    __atomic_store_n(&shown->rows, slot->n_rows, __ATOMIC_RELAXED);
    __atomic_store_n(&shown->epoch, slot->epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&shown->index, slot->index, __ATOMIC_RELAXED);
    __atomic_store_n(&shown->seed, slot->seed, __ATOMIC_RELAXED);
}

static bool covers(const struct slot *slot, const struct range *range)
{
    uint32_t end = range->row + range->rows, n;

    for (uint32_t row = range->row; row < end; row += n) { /* a word of the mask at a time */
        uint64_t wanted;

        n = 64 - row % 64 < end - row ? 64 - row % 64 : end - row;
        wanted = UINT64_MAX >> (64 - n) << row % 64;
        if ((slot->mask[row / 64] & wanted) != wanted)
            return false;
    }
    return true;
}

struct slot *slot_find(struct feed *feed, uint64_t seed, const struct range *range)
{
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        struct slot *slot = &feed->slots[s];

        if (slot->state != PF_SLOT_FREE && slot->index == range->index && slot->epoch == range->epoch && slot->seed == seed &&
            covers(slot, range))
            return slot;
    }
    return NULL;
}

/* One of a queue wants its own next step, and what nobody had yet. */
static bool queue_wants(const struct consumer *c, struct place at, uint64_t epoch, uint64_t index, uint64_t *first,
                        uint64_t *last)
{
    const struct place next = c->job->queue.next;
    const bool own = epoch == at.epoch && index == job_range(c->job, c->rank, at).index;

    if (epoch < next.epoch || (epoch == next.epoch && *last < next.step) || job_over(c->job, next)) {
        *first = *last = at.step;
        return own;
    }
    if (own)
        *first = at.step;
    else if (epoch == next.epoch && *first < next.step)
        *first = next.step;
    return true;
}

bool slot_wants(const struct consumer *c, struct place at, uint64_t seed, uint64_t epoch, uint64_t index, uint64_t *first,
                uint64_t *last)
{
    const struct job *job = c->job;

    if (!consumer_started(c) || job_over(job, at) || job->seed != seed || epoch < at.epoch ||
        (job->epochs && epoch >= job->epochs))
        return false;
    if (!job_steps_in(job, c->rank, index, first, last))
        return false;
    if (job->terms.queue)
        return queue_wants(c, at, epoch, index, first, last);
    if (epoch == at.epoch) {
        if (*last < at.step)
            return false;
        if (*first < at.step)
            *first = at.step;
    }
    return true;
}

uint64_t slot_distance(const struct consumer *c, struct place at, uint64_t epoch, uint64_t index)
{
    const struct job *job = c->job;
    uint64_t here = job_ordinal(job, at.epoch, job_range(job, c->rank, at).index);
    uint64_t there = job_ordinal(job, epoch, index);

    if (job->terms.queue && there > here) {
        uint64_t next = job_ordinal(job, job->queue.next.epoch, job_range(job, c->rank, job->queue.next).index);

        if (next > here) /* between them is what others had */
            return there > next ? there - next + 1 : 1;
    }
    return there > here ? there - here : 0;
}

bool slot_pinned(const struct feed *feed, const struct consumer *c, struct place at, const struct slot *slot)
{
    uint64_t first, last;
    struct range range;

    if (!slot_wants(c, at, slot->seed, slot->epoch, slot->index, &first, &last))
        return false;
    range = job_range(c->job, c->rank, (struct place){ slot->epoch, last });
    return covers(slot, &range) && slot_distance(c, at, slot->epoch, slot->index) <= feed->n_slots;
}

uint32_t slot_pins(const struct feed *feed, const struct slot *slot)
{
    uint32_t n = 0;

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        n += slot_pinned(feed, c, c->at, slot);
    return n;
}

static void mark_steps(struct slot *slot, const struct job *job, uint32_t rank, uint64_t first, uint64_t last)
{
    for (uint64_t step = first; step <= last; step++) {
        struct range range = job_range(job, rank, (struct place){ slot->epoch, step });

        for (uint32_t row = range.row; row < range.row + range.rows; row++)
            slot->mask[row / 64] |= UINT64_C(1) << (row % 64);
    }
}

/* What ranks that are not there would want: from where they left on; all, where this daemon has never seen one. By rows and not by
 * ranks, as a world may be large: a slot's rows follow each other rank by rank (deliver: split; in others each rank sees all). */
static void mark_vacant(struct slot *slot, const struct job *job)
{
    const uint64_t begin = slot->index * job->slot_rows;

    for (uint64_t position = begin; position < begin + job->slot_rows; position += job->terms.batch) {
        const struct place place = { slot->epoch, position / job->terms.stride };
        const uint32_t rank = (uint32_t)(position % job->terms.stride / job->terms.batch);
        const struct job_left *left;

        if (place.step >= job->steps)
            return;
        if (!job->local[rank] || job->ranks[rank])
            continue;
        left = job_left(job, rank, 0);
        if (!left || !job_before(place, left->low))
            mark_steps(slot, job, rank, place.step, place.step);
    }
}

/*
 * All who want rows of that key, and with any rank of a job all its ranks of this host, attached or not: ranks that come one by one,
 * after a daemon's death or their own, must find the others' steps in the same slots. Otherwise each step would take a slot for each
 * of them, and max_held + 2 slots would no longer do (tests/model/feed.pml finds the deadlock).
 */
static void mark_wanted(struct feed *feed, struct slot *slot, const struct job *for_job)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        struct job *job = c->job;
        uint64_t first, last;

        if (!slot_wants(c, c->at, slot->seed, slot->epoch, slot->index, &first, &last) ||
            (job != for_job && slot_distance(c, c->at, slot->epoch, slot->index) > feed->n_slots))
            continue;
        mark_steps(slot, job, c->rank, first, last);
        job->marked = true;
    }
    for (struct job *job = feed->jobs; job; job = job->next) {
        if (job->marked && job->n_attached < job->n_local && !job->terms.alone)
            mark_vacant(slot, job);
        job->marked = false;
    }
}

/* The rows are in the mask; hands them to the workers. */
static void open_claims(struct feed *feed, struct slot *slot)
{
    uint64_t generation = (__atomic_load_n(&slot->claim, __ATOMIC_RELAXED) >> 2 * CLAIM_BITS) + 1;

    slot->n_rows = 0;
    for (uint32_t row = 0; row < feed->batch; row++)
        if (slot->mask[row / 64] >> (row % 64) & 1)
            slot->rows[slot->n_rows++] = row;
    memset(slot->base + feed->flags_offset, PF_ROW_UNFILLED, feed->batch); /* of rows that nobody asks for it stays so */
    slot_set_state(feed, slot, PF_SLOT_FILLING);
    __atomic_store_n(&slot->work_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->longest_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->left, slot->n_rows, __ATOMIC_RELAXED);
    /* Key, rows and left are seen before the word by which workers claim. */
    __atomic_store_n(&slot->claim, generation << 2 * CLAIM_BITS | (uint64_t)slot->n_rows << CLAIM_BITS, __ATOMIC_RELEASE);
}

static int set_key(struct feed *feed, struct slot *slot, uint64_t seed, uint64_t epoch, uint64_t index)
{
    const struct order_view *view = order_view(feed->order, seed, epoch);

    assert(slot->state == PF_SLOT_FREE && slot->grants == 0);
    if (!view)
        return -EAGAIN;
    slot->view = view;
    slot->seed = seed;
    slot->epoch = epoch;
    slot->index = index;
    memset(slot->mask, 0, mask_words(feed->batch) * sizeof(*slot->mask));
    return 0;
}

int slot_begin(struct feed *feed, struct slot *slot, struct job *job, const struct range *range)
{
    int rc = set_key(feed, slot, job->seed, range->epoch, range->index);

    if (rc < 0)
        return rc;
    mark_wanted(feed, slot, job);
    assert(covers(slot, range));
    open_claims(feed, slot);
    job->rows_filled += slot->n_rows;
    return 0;
}

int slot_begin_warm(struct feed *feed, struct slot *slot, uint64_t index)
{
    int rc = set_key(feed, slot, feed->config->seed, 0, index);

    if (rc < 0)
        return rc;
    for (uint32_t row = 0; row < feed->batch && index * feed->batch + row < feed->samples; row++)
        slot->mask[row / 64] |= UINT64_C(1) << (row % 64);
    open_claims(feed, slot);
    return 0;
}

/* It is filled no longer: nobody looks at its order. */
static void give_back_order(struct feed *feed, struct slot *slot)
{
    ahead_over(feed, slot);
    order_release(feed->order, slot->view);
    slot->view = NULL;
}

bool slot_finish(struct feed *feed, struct slot *slot)
{
    /* The rows that workers wrote are seen after their last decrement. */
    if (slot->state != PF_SLOT_FILLING || __atomic_load_n(&slot->left, __ATOMIC_ACQUIRE) != 0)
        return false;
    give_back_order(feed, slot);
    slot_set_state(feed, slot, PF_SLOT_READY);
    FEED_ADD(feed, slots_filled, 1);
    return true;
}

/* Nobody claims any more rows of it. */
static void cancel(struct slot *slot)
{
    uint64_t claim = __atomic_load_n(&slot->claim, __ATOMIC_RELAXED), all;
    uint32_t unclaimed;

    do {
        unclaimed = (uint32_t)((claim >> CLAIM_BITS & CLAIM_MASK) - (claim & CLAIM_MASK));
        all = (claim & ~CLAIM_MASK) | (claim >> CLAIM_BITS & CLAIM_MASK);
    } while (!__atomic_compare_exchange_n(&slot->claim, &claim, all, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    for (uint32_t i = slot->n_rows - unclaimed; i < slot->n_rows; i++)
        slot->mask[slot->rows[i] / 64] &= ~(UINT64_C(1) << (slot->rows[i] % 64)); /* so that it is not found for them */
    __atomic_fetch_sub(&slot->left, unclaimed, __ATOMIC_ACQ_REL);
}

void slot_release(struct feed *feed, struct slot *slot)
{
    if (slot->state == PF_SLOT_FREE || slot->grants != 0 || feed->warm || slot_pins(feed, slot) != 0)
        return;
    if (slot->state == PF_SLOT_FILLING) {
        cancel(slot);
        if (__atomic_load_n(&slot->left, __ATOMIC_ACQUIRE) != 0)
            return; /* rows in work: it becomes READY with them, and free then */
        give_back_order(feed, slot);
    }
    slot_set_state(feed, slot, PF_SLOT_FREE);
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

uint32_t slot_generation(const struct slot *slot)
{
    return (uint32_t)(__atomic_load_n(&slot->claim, __ATOMIC_RELAXED) >> 2 * CLAIM_BITS);
}

bool slot_claim(struct slot *slot, uint32_t generation, uint32_t most, uint32_t *first, uint32_t *count)
{
    uint64_t claim = __atomic_load_n(&slot->claim, __ATOMIC_ACQUIRE);

    for (;;) {
        uint32_t n = (uint32_t)(claim >> CLAIM_BITS & CLAIM_MASK), next = (uint32_t)(claim & CLAIM_MASK);
        uint32_t take = n - next < most ? n - next : most;

        if (take == 0 || claim >> 2 * CLAIM_BITS != generation)
            return false;
        /* The slot's key and rows are loaded after the claim that entitles to them. */
        if (__atomic_compare_exchange_n(&slot->claim, &claim, claim + take, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
            *first = next;
            *count = take;
            return true;
        }
    }
}

bool slot_rows_done(struct slot *slot, uint32_t count, int64_t took_ns)
{
    int64_t longest = __atomic_load_n(&slot->longest_ns, __ATOMIC_RELAXED);

    __atomic_fetch_add(&slot->work_ns, took_ns, __ATOMIC_RELAXED);
    while (took_ns > longest &&
           !__atomic_compare_exchange_n(&slot->longest_ns, &longest, took_ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    /* The rows are seen before the decrement that says so. */
    return __atomic_fetch_sub(&slot->left, count, __ATOMIC_ACQ_REL) == count;
}

uint32_t slot_unclaimed(const struct slot *slot, uint32_t generation)
{
    uint64_t claim = __atomic_load_n(&slot->claim, __ATOMIC_RELAXED);

    if (claim >> 2 * CLAIM_BITS != generation)
        return 0;
    return (uint32_t)((claim >> CLAIM_BITS & CLAIM_MASK) - (claim & CLAIM_MASK));
}
