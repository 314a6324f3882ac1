/* SPDX-License-Identifier: MIT */
/*
 * See slot.h. Who may have a slot, and why nobody waits for ever.
 *
 * Every attached rank's cursor wants the slots ahead of it, in order. feed_turn asks for them by distance: first what every
 * rank takes next (ahead = 0), then the ones behind it. slot_obtain gives, in this order:
 *   1. a FREE slot;
 *   2. to a rank that has nothing at all to take (ahead = 0): a READY slot that holds back nobody but other jobs with `slow: skip`:
 *      their untaken grants are revoked and their cursors move past it (counted);
 *   3. to such a rank: a READY slot that nobody has taken and that everybody who wants it wants later (ahead >= 1), the farthest
 *      first. Untaken grants on it are revoked; its rows will be filled again.
 *      A slot is not taken away from a rank that stands behind the asker in the same group (same seed, no more than all slots
 *      apart): there the asker waits, which is `slow: block`.
 *
 * No deadlock, with n >= g * (max_held + 2) slots for g groups, where every rank either returns what it holds by itself or
 * steps together with the ranks of its job. Suppose rank c waits and rule 3 finds nothing. A FILLING slot finishes by itself, so
 * take all slots as READY: each is held, or is the very next one of some rank w that may take it, or is kept by a rank w
 * behind c. In c's own group the rank that is furthest behind, f, has no one behind it, and its next slot is either READY (f
 * takes it, then returns it: progress) or f itself is the asker. The ranks of a job that steps together stand at most one step
 * apart, so that f's group holds at most max_held slots and wants at most two more as "very next": at least one of its
 * max_held + 2 slots is neither, and rule 3 gives it to f. Slots that other groups hold beyond their share are wanted later than
 * next, and rule 3 takes those too. attach refuses a job that would make a group more than there are shares for.
 *
 * Nobody leaves its group: a rank gets no slot more than all slots ahead of another job's rank that stands behind it in the same
 * group (slot_held_back). Mostly that follows from the slots that the one behind keeps; but where rule 3 gave these to another
 * group, nothing else would hold the one ahead, and `slow: block` would have come undone.
 *
 * Never torn: rules 1 to 3 only give a slot whose count of grants out is 0, that count is ours, and a revoked grant is one that
 * the consumer's own compare-and-swap can no longer take.
 */
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
    size_t bytes = feed->n_slots * sizeof(struct slot);

    feed->slots = aligned_alloc(PF_LINE, bytes);
    if (!feed->slots)
        return -ENOMEM;
    memset(feed->slots, 0, bytes);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
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
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        free(feed->slots[s].rows);
        free(feed->slots[s].mask);
    }
    free(feed->slots);
    feed->slots = NULL;
}

/* ---- states --------------------------------------------------------------------------------------------------------- */

static void set_state(struct feed *feed, struct slot *slot, enum pf_slot_state state)
{
    struct pf_slot *shown = &feed->table[slot->number];

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

/* Whether c, standing at `at`, still wants rows of that key, and which of its steps: first .. last. */
static bool wants(const struct consumer *c, struct place at, uint64_t seed, uint64_t epoch, uint64_t index, uint64_t *first,
                  uint64_t *last)
{
    const struct job *job = c->job;

    if (!consumer_started(c) || job_over(job, at) || job->seed != seed || epoch < at.epoch ||
        (job->epochs && epoch >= job->epochs))
        return false;
    if (!job_steps_in(job, c->rank, index, first, last))
        return false;
    if (epoch == at.epoch) {
        if (*last < at.step)
            return false;
        if (*first < at.step)
            *first = at.step;
    }
    return true;
}

/* How many slots ahead of the one that c takes next at `at`; 0: that one itself. */
static uint64_t distance(const struct consumer *c, struct place at, uint64_t epoch, uint64_t index)
{
    const struct job *job = c->job;
    uint64_t here = job_ordinal(job, at.epoch, job_range(job, c->rank, at).index);
    uint64_t there = job_ordinal(job, epoch, index);

    return there > here ? there - here : 0;
}

/* Whether c, at `at`, keeps this very slot: it wants rows of it, is near, and would have to fill another for them. */
static bool pins(const struct feed *feed, const struct consumer *c, struct place at, const struct slot *slot)
{
    uint64_t first, last;
    struct range range;

    if (!wants(c, at, slot->seed, slot->epoch, slot->index, &first, &last))
        return false;
    range = job_range(c->job, c->rank, (struct place){ slot->epoch, last });
    return covers(slot, &range) && distance(c, at, slot->epoch, slot->index) <= feed->n_slots;
}

uint32_t slot_pins(const struct feed *feed, const struct slot *slot)
{
    uint32_t n = 0;

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        n += pins(feed, c, c->at, slot);
    return n;
}

static void mark_wanted(struct feed *feed, struct slot *slot, const struct job *for_job)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        uint64_t first, last;

        if (!wants(c, c->at, slot->seed, slot->epoch, slot->index, &first, &last) ||
            (c->job != for_job && distance(c, c->at, slot->epoch, slot->index) > feed->n_slots))
            continue;
        for (uint64_t step = first; step <= last; step++) {
            struct range range = job_range(c->job, c->rank, (struct place){ slot->epoch, step });

            for (uint32_t row = range.row; row < range.row + range.rows; row++)
                slot->mask[row / 64] |= UINT64_C(1) << (row % 64);
        }
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
    set_state(feed, slot, PF_SLOT_FILLING);
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

int slot_begin(struct feed *feed, struct slot *slot, const struct job *job, const struct range *range)
{
    int rc = set_key(feed, slot, job->seed, range->epoch, range->index);

    if (rc < 0)
        return rc;
    mark_wanted(feed, slot, job);
    assert(covers(slot, range));
    open_claims(feed, slot);
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

bool slot_finish(struct feed *feed, struct slot *slot)
{
    /* The rows that workers wrote are seen after their last decrement. */
    if (slot->state != PF_SLOT_FILLING || __atomic_load_n(&slot->left, __ATOMIC_ACQUIRE) != 0)
        return false;
    order_release(feed->order, slot->view);
    slot->view = NULL;
    set_state(feed, slot, PF_SLOT_READY);
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
        order_release(feed->order, slot->view);
        slot->view = NULL;
    }
    set_state(feed, slot, PF_SLOT_FREE);
}

/* ---- rules 1 to 3 --------------------------------------------------------------------------------------------------- */

/* Rules 2 and 3 look first, with every untaken grant thought back: c->untaken is where each rank would then stand. Only for a slot
 * that is found are grants really revoked; a search that finds nothing changes nothing. */
static void think_back(struct feed *feed)
{
    for (struct consumer *c = feed->consumers; c; c = c->next)
        c->untaken = consumer_untaken(c);
}

static bool held_by_somebody(const struct feed *feed, const struct slot *slot)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next)
        if (consumer_holds(c, slot->number))
            return true;
    return false;
}

/* Revokes what is out of that slot; false: somebody took it in the meantime. */
static bool clear_grants(struct feed *feed, struct slot *slot)
{
    for (struct consumer *c = feed->consumers; c && slot->grants > 0; c = c->next)
        if (consumer_has(c, slot->number))
            consumer_revoke(c);
    feed->dirty = true; /* what else was revoked is granted again in the next turn */
    return slot->grants == 0;
}

/* Rule 2: kept by nobody but skippers other than `asker`, none of which would skip the end of its job by losing it. */
static bool only_skippers(const struct feed *feed, const struct slot *slot, const struct consumer *asker)
{
    bool any = false;

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        uint64_t first, last;

        if (!pins(feed, c, c->untaken, slot) && !pins(feed, c, c->at, slot))
            continue;
        if (c == asker || !c->job->skip || !wants(c, c->untaken, slot->seed, slot->epoch, slot->index, &first, &last))
            return false;
        if (job_over(c->job, job_after(c->job, (struct place){ slot->epoch, last })))
            return false;
        any = true;
    }
    return any;
}

static void skip_past(struct feed *feed, const struct slot *slot)
{
    for (struct consumer *c = feed->consumers; c; c = c->next) {
        if (!pins(feed, c, c->at, slot))
            continue;
        while (c->at.epoch < slot->epoch ||
               (c->at.epoch == slot->epoch && job_range(c->job, c->rank, c->at).index <= slot->index)) {
            c->at = job_after(c->job, c->at);
            c->counters.skipped++;
        }
    }
}

static struct slot *take_from_skippers(struct feed *feed, struct consumer *asker)
{
    struct slot *best = NULL;
    bool any = false;

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        any |= c->state == CONSUMER_ATTACHED && c->job->skip && c != asker;
    if (!any)
        return NULL;
    think_back(feed);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        struct slot *slot = &feed->slots[s];

        if (slot->state == PF_SLOT_READY && !held_by_somebody(feed, slot) && only_skippers(feed, slot, asker) &&
            (!best || slot->epoch < best->epoch || (slot->epoch == best->epoch && slot->index < best->index)))
            best = slot;
    }
    if (!best || !clear_grants(feed, best))
        return NULL;
    skip_past(feed, best);
    set_state(feed, best, PF_SLOT_FREE);
    return best;
}

/* Whether c stands behind the asker, within reach: they are of one group, and the asker waits for it. */
static bool waits_for(const struct feed *feed, const struct consumer *asker, const struct range *range, const struct consumer *c)
{
    uint64_t mine, theirs;

    if (c == asker || c->job->seed != asker->job->seed || c->job->spans != asker->job->spans)
        return false;
    mine = job_ordinal(asker->job, range->epoch, range->index);
    theirs = job_ordinal(c->job, c->untaken.epoch, job_range(c->job, c->rank, c->untaken).index);
    /* Ranks that step together stand no further apart than what one may hold; so near behind, the other may wait, in an all-reduce,
     * for the asker. Further behind it runs by itself. */
    if (c->job == asker->job && !c->job->terms.alone &&
        mine - theirs <= (uint64_t)(c->job->max_held + 1) * job_step_slots(c->job))
        return false;
    return theirs < mine && mine - theirs <= feed->n_slots;
}

static uint64_t ordinal(const struct consumer *c, struct place place)
{
    return job_ordinal(c->job, place.epoch, job_range(c->job, c->rank, place).index);
}

bool slot_held_back(const struct feed *feed, const struct consumer *c, const struct range *range)
{
    const uint64_t mine = job_ordinal(c->job, range->epoch, range->index), at = ordinal(c, c->at);

    for (const struct consumer *o = feed->consumers; o; o = o->next) {
        uint64_t theirs;

        if (o->job == c->job || !consumer_runs(o) || o->job->skip || o->job->seed != c->job->seed ||
            o->job->spans != c->job->spans || job_over(o->job, consumer_untaken(o)))
            continue;
        theirs = ordinal(o, consumer_untaken(o));
        if (theirs < at && mine - theirs > feed->n_slots && at - theirs <= feed->n_slots + 1)
            return true;
    }
    return false;
}

/* Rule 3 for one slot: how far ahead the nearest of those who want it stands, or 0 where it may not be taken. */
static uint64_t spare_distance(const struct feed *feed, const struct slot *slot, const struct consumer *asker,
                               const struct range *range)
{
    uint64_t nearest = UINT64_MAX;

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        uint64_t ahead;

        if (!pins(feed, c, c->untaken, slot))
            continue;
        ahead = distance(c, c->untaken, slot->epoch, slot->index) + (consumer_held(c) >= c->max_held);
        if (ahead == 0 || waits_for(feed, asker, range, c))
            return 0;
        if (ahead < nearest)
            nearest = ahead;
    }
    return nearest;
}

static struct slot *take_farthest(struct feed *feed, struct consumer *asker, const struct range *range)
{
    struct slot *best = NULL;
    uint64_t farthest = 0;

    think_back(feed);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        struct slot *slot = &feed->slots[s];
        uint64_t spare;

        if (slot->state != PF_SLOT_READY || held_by_somebody(feed, slot))
            continue;
        spare = spare_distance(feed, slot, asker, range);
        if (spare > farthest) {
            farthest = spare;
            best = slot;
        }
    }
    if (!best || !clear_grants(feed, best))
        return NULL;
    FEED_ADD(feed, slots_evicted, 1);
    set_state(feed, best, PF_SLOT_FREE);
    return best;
}

struct slot *slot_obtain(struct feed *feed, struct consumer *asker, const struct range *range, uint32_t ahead)
{
    struct slot *slot;

    for (uint32_t s = 0; s < feed->n_slots; s++)
        if (feed->slots[s].state == PF_SLOT_FREE)
            return &feed->slots[s];
    if (ahead > 0 || consumer_held(asker) < asker->n_out)
        return NULL; /* it has something to take, so nobody need lose anything for it */
    slot = take_from_skippers(feed, asker);
    if (!slot && asker->n_out < asker->max_held)
        slot = take_farthest(feed, asker, range);
    return slot;
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

bool slot_rows_done(struct slot *slot, uint32_t count)
{
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
