/* SPDX-License-Identifier: MIT */
/* See tune_feed.h. */
#include "tune_feed.h"

#include <math.h>

#include "consumer.h"

#define LATE_NS 1e10 /* in which the workers' time comes to count a third */

void tune_feed_begin(struct feed *feed)
{
    feed->tune = (struct tune_feed){ .slots_auto = feed->config->slots == 0, .slots.in_use = feed->n_slots };
    feed->in_use = feed->tune.slots_auto ? feed->n_slots : feed->n_planned;
}

double tune_feed_work(const struct feed *feed, int64_t now_ns)
{
    return feed->tune.work * exp((double)(feed->tune.work_at_ns - now_ns) / LATE_NS);
}

void tune_feed_filled(struct feed *feed, const struct slot *slot)
{
    const int64_t longest = __atomic_load_n(&slot->longest_ns, __ATOMIC_RELAXED);
    const int64_t work = __atomic_load_n(&slot->work_ns, __ATOMIC_RELAXED);

    if (slot->n_rows == 0)
        return;
    tune_add(&feed->tune.batches, (double)(work - longest), 1, (double)longest);
    feed->tune.work = tune_feed_work(feed, slot->since_ns) + (double)work;
    feed->tune.work_at_ns = slot->since_ns;
}

/* One rank speaks for its job: the first that is there. */
static bool speaks(const struct consumer *c)
{
    const struct job *job = c->job;
    uint32_t rank = 0;

    while (rank < job->world && !job->ranks[rank])
        rank++;
    return rank < job->world && job->ranks[rank] == c;
}

/* How long it waits it says itself; what it says is only believed as far as it can be. */
void tune_feed_returned(struct consumer *c, uint64_t n, int64_t over_ns)
{
    const uint64_t said_ns = __atomic_load_n(&c->returns->wait_ns, __ATOMIC_RELAXED);
    struct job *job = c->job;
    int64_t waited_ns = (int64_t)(said_ns - c->waited_ns);
    double slots;

    c->waited_ns = said_ns;
    waited_ns = waited_ns < 0 ? 0 : waited_ns < over_ns ? waited_ns : over_ns;
    if (!c->job->started || !speaks(c) || c->counters.returns == 0)
        return;
    slots = (double)n * (double)job->terms.stride / job->slot_rows;
    if (job->terms.queue) /* each of them takes whole steps */
        slots = (double)n * job->n_consumers;
    tune_add(&job->pace, (double)(over_ns - waited_ns) / slots, slots, (double)waited_ns / slots);
}
