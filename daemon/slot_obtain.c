/* SPDX-License-Identifier: MIT */
/*
 * See slot.h. Who may have a slot, and why nobody waits for ever. Called by feed.c, main thread.
 *
 * Every attached rank's cursor wants the slots ahead of it, in order. feed_turn asks for them by distance: first what every
 * rank takes next (ahead = 0), then the ones behind it. slot_obtain gives, in this order:
 *   1. a FREE slot;
 *   2. to a rank that has nothing at all to take (ahead = 0): a READY slot that holds back nobody but other jobs with
 *      `slow: skip`: their untaken grants are revoked and their cursors move past it (counted);
 *   3. to such a rank: a READY slot that nobody has taken and that everybody who wants it wants later (ahead >= 1), the farthest
 *      first. Untaken grants on it are revoked; its rows will be filled again.
 *      A slot is not taken away from a rank that stands behind the asker in the same group (same seed, no more than all slots
 *      apart): there the asker waits, which is `slow: block`.
 *
 * No deadlock, with n >= g * (max_held + 2) slots for g groups, where every rank either returns what it holds by itself or steps
 * together with the ranks of its job. Suppose rank c waits and rule 3 finds nothing. A FILLING slot finishes by itself, so take
 * all slots as READY: each is held, or is the very next one of some rank w that may take it, or is kept by a rank w behind c. In
 * c's own group the rank that is furthest behind, f, has no one behind it, and its next slot is either READY (f takes it, then
 * returns it: progress) or f itself is the asker. The ranks of a job that steps together stand at most one step apart, and find
 * each other's rows of a step in one slot (mark_wanted), so that f's group holds at most max_held slots and wants at most two
 * more as "very next": at least one of its max_held + 2 slots is neither, and rule 3 gives it to f. Slots that other groups hold
 * beyond their share are wanted later than next, and rule 3 takes those too. attach refuses a job that would make a group more
 * than there are shares for.
 *
 * Nobody leaves its group: a rank gets no slot more than all slots ahead of another job's rank that stands behind it in the same
 * group (slot_held_back). Mostly that follows from the slots that the one behind keeps; but where rule 3 gave these to another
 * group, nothing else would hold the one ahead, and `slow: block` would have come undone.
 *
 * Never torn: rules 1 to 3 only give a slot whose count of grants out is 0, that count is ours, and a revoked grant is one that
 * the consumer's own compare-and-swap can no longer take.
 */
#include "slot.h"

#include "consumer.h"
#include "feed.h"

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
    feed->in_vain.any = false;
    return slot->grants == 0;
}

/* Rule 2: kept by nobody but skippers other than `asker`, none of which would skip the end of its job by losing it. */
static bool only_skippers(const struct feed *feed, const struct slot *slot, const struct consumer *asker)
{
    bool any = false;

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        uint64_t first, last;

        if (!slot_pinned(feed, c, c->untaken, slot) && !slot_pinned(feed, c, c->at, slot))
            continue;
        if (c == asker || c->job->slow != CONFIG_SLOW_SKIP ||
            !slot_wants(c, c->untaken, slot->seed, slot->epoch, slot->index, &first, &last))
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
        if (!slot_pinned(feed, c, c->at, slot))
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
        any |= c->state == CONSUMER_ATTACHED && c->job->slow == CONFIG_SLOW_SKIP && c != asker;
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
    slot_set_state(feed, best, PF_SLOT_FREE);
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

        if (o->job == c->job || !consumer_runs(o) || o->job->slow == CONFIG_SLOW_SKIP || o->job->seed != c->job->seed ||
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

        if (!slot_pinned(feed, c, c->untaken, slot))
            continue;
        ahead = slot_distance(c, c->untaken, slot->epoch, slot->index) + (consumer_held(c) >= c->max_held);
        if (ahead == 0 || waits_for(feed, asker, range, c))
            return 0;
        if (ahead < nearest)
            nearest = ahead;
    }
    return nearest;
}

/*
 * Where one of hundreds stalls, the others end up at one place, and for each of them all slots and everybody who keeps them would be
 * looked at in vain. What rules 2 and 3 find depends on the asker by its place alone, but for two things: for others of its job it
 * waits less (waits_for), and a skipper does not take from itself. So this is remembered of, and holds for, lone ranks; and not
 * of skippers. Until the next turn, or until grants are revoked.
 */
static void remember_vain(struct feed *feed, const struct consumer *asker, const struct range *range)
{
    const struct job *job = asker->job;

    if (job->n_consumers == 1 && job->slow != CONFIG_SLOW_SKIP)
        feed->in_vain = (struct slot_search){ true, job->seed, job->spans, range->epoch, range->index };
}

bool slot_in_vain(const struct feed *feed, const struct consumer *c, const struct range *range)
{
    const struct slot_search *last = &feed->in_vain;

    return last->any && c->job->n_consumers == 1 && last->index == range->index && last->epoch == range->epoch &&
           last->seed == c->job->seed && last->spans == c->job->spans;
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
    if (!best)
        remember_vain(feed, asker, range);
    if (!best || !clear_grants(feed, best))
        return NULL;
    FEED_ADD(feed, slots_evicted, 1);
    slot_set_state(feed, best, PF_SLOT_FREE);
    return best;
}

bool slot_none_free(struct feed *feed)
{
    if (feed->none_free)
        return true;
    for (uint32_t s = 0; s < feed->n_slots; s++)
        if (feed->slots[s].state == PF_SLOT_FREE)
            return false;
    return feed->none_free = true;
}

struct slot *slot_obtain(struct feed *feed, struct consumer *asker, const struct range *range, uint32_t ahead)
{
    const bool full = asker->n_out >= asker->max_held;
    struct slot *slot;

    for (uint32_t s = 0; s < feed->n_slots && !feed->none_free; s++)
        if (feed->slots[s].state == PF_SLOT_FREE)
            return &feed->slots[s];
    if (ahead > 0 || consumer_held(asker) < asker->n_out)
        return NULL; /* it has something to take, so nobody need lose anything for it */
    /* Two that skip and hold all that they may would take one slot from each other for ever, and each would skip to the end. */
    slot = full && asker->job->slow == CONFIG_SLOW_SKIP ? NULL : take_from_skippers(feed, asker);
    return slot || full ? slot : take_farthest(feed, asker, range);
}
