/* SPDX-License-Identifier: MIT */
/* See tune_look.h. */
#include "tune_look.h"

#include <math.h>

#include "consumer.h"
#include "group.h"
#include "server.h"
#include "tune.h"

#define NS_PER_MS 1e6
#define MANY      16 /* consumers, for which a look is a batch later */

static bool wants_rows(const struct feed *feed)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next)
        if (consumer_runs(c))
            return true;
    return false;
}

/* The workers that the feed has beside others: by its weight, or more where the others leave it more. */
static double share_of_workers(const struct daemon *daemon, const struct feed *feed)
{
    const int64_t now_ns = feed_now_ns();
    double weights = 0, work = 0;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        const struct feed *other = daemon->feeds[f];

        weights += other == feed || wants_rows(other) ? (double)other->config->weight : 0;
        work += tune_feed_work(other, now_ns);
    }
    return workers_count(daemon->workers) *
           fmax((double)feed->config->weight / weights, work > 0 ? tune_feed_work(feed, now_ns) / work : 0);
}

/* What the groups need: the most of the jobs of each. */
static void add_up(struct feed *feed, double workers, struct tune_need *need)
{
    const uint32_t groups = group_all(feed, &need->base);

    need->shifts = feed->tune.batches.shifts;
    for (uint32_t group = 1; group <= groups; group++) {
        double most = 0, keep = 0;

        for (const struct job *job = feed->jobs; job; job = job->next) {
            struct tune_pace pace;
            double burst;

            if (job->group != group || !job->started || job->parked || job->peek)
                continue;
            pace = tune_pace(&job->pace, &feed->tune.batches, workers / groups);
            need->shifts += job->pace.shifts;
            if (!pace.known)
                continue;
            burst = tune_burst(&pace, pace.slowest);
            keep = fmax(keep, tune_burst(&pace, pace.once));
            need->starved |= tune_starved(&pace);
            if (most == 0 || burst > most)
                feed->tune.pace = pace;
            most = burst > most ? burst : most;
            need->known = true;
        }
        need->burst += most;
        need->keep += keep;
    }
}

/* Slots that the feed may have: those that are there, and others as far as there are places and budget. */
static uint32_t most_slots(const struct daemon *daemon, const struct feed *feed)
{
    const uint64_t left = daemon->budget > daemon->used ? (daemon->budget - daemon->used) / feed->slot_bytes : 0;

    return feed->n_planned - feed->n_slots < left ? feed->n_planned : feed->n_slots + (uint32_t)left;
}

static void note(struct feed *feed, uint32_t from, enum tune_reason reason)
{
    static const char *const words[] = {
        [TUNE_STAYS] = "", [TUNE_NEEDED] = "more are needed", [TUNE_STARVED] = "they ran empty", [TUNE_UNUSED] = "fewer do"
    };
    const struct tune_pace *pace = &feed->tune.pace;

    tune_note(
        feed, TUNE_SLOTS, from, feed->in_use,
        "%s: a batch takes the trainer %.2f ms (varies by %.0f %%), the workers %.2f ms (%.0f %%, slow rows %.2f ms); that needs "
        "%u slots",
        words[reason], pace->compute / NS_PER_MS, 100 * tune_deviation(pace->compute_varies), pace->supply / NS_PER_MS,
        100 * tune_deviation(pace->supply_varies), pace->slowest / NS_PER_MS, feed->tune.needed);
}

static bool look(const struct daemon *daemon, struct feed *feed)
{
    struct tune_need need = { .base = 0 };
    struct tune_feed *tune = &feed->tune;
    enum tune_reason reason;
    const uint32_t from = feed->in_use;

    need.batches = (uint32_t)(FEED_GET(feed, slots_filled) - tune->looked);
    tune->looked += need.batches;
    add_up(feed, share_of_workers(daemon, feed), &need);
    if (!need.known)
        return false;
    tune->needed = tune_needed(&need, need.burst);
    if (!tune->slots_auto)
        return false;
    reason = tune_slots(&tune->slots, &need, most_slots(daemon, feed));
    if (reason == TUNE_STAYS)
        return false;
    feed->in_use = tune->slots.in_use;
    note(feed, from, reason);
    feed->dirty = true;
    return true;
}

bool tune_look(struct daemon *daemon)
{
    bool changed = false;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];
        const uint64_t filled = FEED_GET(feed, slots_filled);

        /* Counting groups takes longer the more there are. */
        if (feed->state == FEED_RUNNING && feed->jobs && filled - feed->tune.looked > consumer_count() / MANY)
            changed |= look(daemon, feed);
    }
    return changed;
}
