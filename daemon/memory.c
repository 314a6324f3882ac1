/* SPDX-License-Identifier: MIT */
/* See memory.h. */
#include "memory.h"

#include <errno.h>

#include "budget.h"

#define AUTO_SLOTS  16
#define AUTO_MEMORY (UINT64_C(8) << 30)

static void list_feeds(const struct daemon *daemon, const uint32_t *slots)
{
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        log_info("feed '%s': %llu samples, %u slots of %.1f MiB", daemon->feeds[f].config->name,
                 (unsigned long long)daemon->feeds[f].samples, slots[f], (double)daemon->feeds[f].slot_bytes / (1 << 20));
}

static uint64_t feed_bytes(const struct feed *feed, uint32_t n_slots)
{
    return feed->slot_bytes * n_slots + feed_bytes_fixed(feed, n_slots);
}

/* How many slots each feed gets of the budget: what it says, else an equal share of what is left. */
static int share_budget(struct daemon *daemon, uint32_t *slots, uint32_t n_workers, uint64_t scratch, struct problem *why)
{
    uint64_t left, need = scratch;
    uint32_t n_auto = 0;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        const struct feed *feed = &daemon->feeds[f];

        slots[f] = feed->config->slots ? (uint32_t)feed->config->slots : feed_least_slots(feed->config);
        if (slots[f] < feed_least_slots(feed->config))
            return problem_set(why, -EINVAL, "feed '%s': `slots: %u` is too few; max_held %lld needs at least %u",
                               feed->config->name, slots[f], (long long)feed->config->max_held, feed_least_slots(feed->config));
        need += feed_bytes(feed, slots[f]);
        n_auto += feed->config->slots == 0;
    }
    if (need > daemon->budget)
        return problem_set(
            why, -ENOMEM,
            "the feeds need at least %llu MiB (%u workers' scratch %llu MiB, the rest slots), and the budget is %llu "
            "MiB; raise `daemon: memory`, or lower `batch`, `slots` or `workers`",
            (unsigned long long)(need >> 20) + 1, n_workers, (unsigned long long)(scratch >> 20),
            (unsigned long long)(daemon->budget >> 20));
    left = daemon->budget - need;
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        const struct feed *feed = &daemon->feeds[f];
        uint64_t share = n_auto ? left / n_auto : 0, least = feed_bytes(feed, slots[f]);

        if (feed->config->slots)
            continue;
        while (slots[f] < AUTO_SLOTS && feed_bytes(feed, slots[f] + 1) - least <= share)
            slots[f]++;
    }
    return 0;
}

int memory_plan(struct daemon *daemon, struct memory_plan *plan, struct problem *why)
{
    const struct config_daemon *config = &daemon->config->daemon;
    uint64_t scratch = workers_bytes(daemon->feeds, daemon->n_feeds) * plan->n_workers, shared = 0;
    struct budget_limits limits;
    int rc;

    budget_read(&limits);
    daemon->budget = config->memory ? config->memory : limits.total / 4 < AUTO_MEMORY ? limits.total / 4 : AUTO_MEMORY;
    daemon->shm = config->shm == CONFIG_SHM_MEMFD   ? SEGMENT_MEMFD
                  : config->shm == CONFIG_SHM_POSIX ? SEGMENT_POSIX
                                                    : segment_best();
    if (daemon->budget > limits.total)
        return problem_set(why, -ENOMEM, "`daemon: memory` is %llu MiB, and %s has only %llu MiB; lower it",
                           (unsigned long long)(daemon->budget >> 20), limits.total_from,
                           (unsigned long long)(limits.total >> 20));
    rc = share_budget(daemon, plan->slots, plan->n_workers, scratch, why);
    if (rc < 0)
        return rc;
    daemon->used = scratch;
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        daemon->used += feed_bytes(&daemon->feeds[f], plan->slots[f]);
        shared += daemon->feeds[f].slot_bytes * plan->slots[f];
    }
    rc = budget_check(&limits, daemon->used, shared, daemon->shm, why);
    if (rc == 0)
        list_feeds(daemon, plan->slots);
    return rc;
}
