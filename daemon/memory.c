/* SPDX-License-Identifier: MIT */
/* See memory.h. */
#include "memory.h"

#include <errno.h>
#include <unistd.h>

#include "ahead.h"
#include "budget.h"
#include "cache/caches.h"
#include "consumer.h"

#define AUTO_SLOTS  16
#define AUTO_PLACES 64 /* up to which slots may be added at run time */
#define AUTO_MEMORY (UINT64_C(8) << 30)

bool memory_ends(const struct memory_plan *plan, const struct feed *feed)
{
    for (uint32_t f = 0; f < plan->n_feeds; f++)
        if (plan->feeds[f] == feed)
            return false;
    return true;
}

uint32_t memory_workers(const struct daemon *daemon)
{
    const int64_t given = daemon->config->daemon.workers;

    return given ? (uint32_t)given : budget_cores();
}

void memory_count(struct daemon *daemon)
{
    const uint32_t count = caches_count();
    uint64_t declared = 0;

    daemon->used = workers_used(daemon->workers) + ahead_used(daemon->ahead);
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        daemon->used += daemon->feeds[f]->bytes;
        caches_add(daemon->feeds[f], count, &daemon->used, &declared);
    }
}

static bool is_new(const struct feed *feed)
{
    return feed->state == FEED_OPENING;
}

/* How many slots each new feed gets of the budget: what it says, else an equal share of what is left. fixed: what workers and
 * feeds that stay take of it, and caches of it, all of them. */
static int share_budget(const struct daemon *daemon, struct memory_plan *plan, uint64_t fixed, uint64_t caches,
                        struct problem *why)
{
    const uint32_t n_workers = workers_count(daemon->workers), threads = workers_threads(daemon->workers);
    uint64_t need = fixed, left, places = 0;
    uint32_t n_auto = 0;

    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        const struct config_feed *config = plan->feeds[f]->config;

        if (!is_new(plan->feeds[f]))
            continue;
        plan->slots[f] = config->slots ? (uint32_t)config->slots : feed_least_slots(config);
        need += feed_bytes(plan->feeds[f], plan->slots[f], threads);
        n_auto += config->slots == 0;
    }
    if (need > daemon->budget && caches > 0)
        return problem_set(
            why, -ENOMEM,
            "the feeds need at least %llu MiB (caches %llu MiB, %u workers' scratch and feeds in use %llu MiB, the rest slots), "
            "and "
            "the budget is %llu MiB; raise `daemon: memory`, or lower the sizes in `cache`, `batch`, `slots` or `workers`",
            (unsigned long long)budget_mib_up(need), (unsigned long long)budget_mib_up(caches), n_workers,
            (unsigned long long)budget_mib_up(fixed - caches), (unsigned long long)(daemon->budget >> 20));
    if (need > daemon->budget)
        return problem_set(
            why, -ENOMEM,
            "the feeds need at least %llu MiB (%u workers' scratch and feeds in use %llu MiB, the rest slots), and the budget is "
            "%llu MiB; raise `daemon: memory`, or lower `batch`, `slots` or `workers`",
            (unsigned long long)budget_mib_up(need), n_workers, (unsigned long long)budget_mib_up(fixed),
            (unsigned long long)(daemon->budget >> 20));
    left = daemon->budget - need;
    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        const struct feed *feed = plan->feeds[f];
        uint64_t share = n_auto ? left / n_auto : 0, least;

        if (!is_new(feed) || feed->config->slots)
            continue;
        least = feed_bytes(feed, plan->slots[f], threads);
        while (plan->slots[f] < AUTO_PLACES && feed_bytes(feed, plan->slots[f] + 1, threads) - least <= share)
            plan->slots[f]++;
        if (plan->slots[f] > AUTO_SLOTS) {
            plan->feeds[f]->slots_room = plan->slots[f] - AUTO_SLOTS;
            plan->slots[f] = AUTO_SLOTS;
        }
        places += plan->slots[f] + plan->feeds[f]->slots_room;
    }
    for (uint32_t f = 0; f < plan->n_feeds && places > WORKERS_SLOTS / 2; f++)
        if (is_new(plan->feeds[f]))
            plan->feeds[f]->slots_room = 0;
    return 0;
}

/* `shm: auto` says what it has fallen back to, as that protects the arenas less (DESIGN.md section 6). */
static int choose_shm(struct daemon *daemon, struct problem *why)
{
    const int asked = daemon->config->daemon.shm;
    const bool sealed = segment_seals() == SEGMENT_SEALS_ALL;

    if (asked == CONFIG_SHM_MEMFD && !sealed)
        return problem_set(
            why, -EINVAL,
            "`shm: memfd` needs a kernel that can seal memory against writing (Linux 5.1), and this one cannot; use "
            "`shm: auto` or `shm: posix`");
    daemon->shm = asked == CONFIG_SHM_POSIX || !sealed ? SEGMENT_POSIX : SEGMENT_MEMFD;
    if (asked == CONFIG_SHM_AUTO && !sealed)
        log_warn(
            "this kernel cannot seal memory against writing (Linux 5.1): `shm` is posix, which protects batches against other "
            "users only");
    if (segment_seals() == SEGMENT_SEALS_NONE)
        log_warn("this kernel cannot seal the size of memory either (Linux 3.17): only root and uid %u may attach", geteuid());
    return 0;
}

int memory_begin(struct daemon *daemon, struct problem *why)
{
    const struct config_daemon *config = &daemon->config->daemon;
    struct budget_limits limits;
    int rc = choose_shm(daemon, why);

    if (rc < 0)
        return rc;
    budget_read(&limits);
    daemon->budget = config->memory;
    if (!daemon->budget)
        daemon->budget = limits.total / 4 < AUTO_MEMORY ? limits.total / 4 : AUTO_MEMORY;
    if (!config->memory && daemon->shm == SEGMENT_POSIX && daemon->budget > limits.shm)
        daemon->budget = limits.shm;
    if (daemon->budget <= limits.total)
        return 0;
    return problem_set(why, -ENOMEM, "`daemon: memory` is %llu MiB, more than the %llu MiB of %s; lower it",
                       (unsigned long long)budget_mib_up(daemon->budget), (unsigned long long)(limits.total >> 20),
                       limits.total_from);
}

static void choose_rooms(const struct daemon *daemon, struct memory_plan *plan)
{
    workers_room(daemon->workers, &plan->buffer_bytes, &plan->codec_bytes);
    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        uint64_t buffer = plan->feeds[f]->max_bytes, codec = feed_codec_bytes(plan->feeds[f]);

        plan->buffer_bytes = buffer > plan->buffer_bytes ? buffer : plan->buffer_bytes;
        plan->codec_bytes = codec > plan->codec_bytes ? codec : plan->codec_bytes;
    }
}

/* As many reads ahead as there are already, or else as fit; with buffers that are large enough also for feeds that come. */
static void choose_ahead(const struct daemon *daemon, struct memory_plan *plan)
{
    uint64_t most = 0;

    ahead_room(daemon->ahead, &plan->ahead_reads, &plan->ahead_bytes);
    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        const uint64_t bytes = is_new(plan->feeds[f]) ? ahead_sample_bytes(plan->feeds[f]) : 0;

        most = bytes > most ? bytes : most;
    }
    if (most <= plan->ahead_bytes)
        return;
    /* Larger ones that do not fit are left to the workers. */
    if (plan->ahead_reads > 0 && ahead_fit(daemon->ahead, most, daemon->budget) < plan->ahead_reads)
        return;
    plan->ahead_bytes = most;
    if (plan->ahead_reads == 0)
        plan->ahead_reads = ahead_fit(daemon->ahead, most, daemon->budget);
}

static int check_slots(const struct daemon *daemon, const struct memory_plan *plan, struct problem *why)
{
    uint64_t slots = 0;

    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        slots += memory_ends(plan, daemon->feeds[f]) ? daemon->feeds[f]->n_planned : 0;
    for (uint32_t f = 0; f < plan->n_feeds; f++)
        slots += is_new(plan->feeds[f]) ? plan->slots[f] + plan->feeds[f]->slots_room : plan->feeds[f]->n_planned;
    if (slots <= WORKERS_SLOTS)
        return 0;
    return problem_set(why, -EINVAL, "the feeds have %llu slots in all, more than %u; lower `slots`", (unsigned long long)slots,
                       WORKERS_SLOTS);
}

/* Where nobody said how many, one a core, as long as what they need is half of the budget at the most. */
static void choose_workers(struct daemon *daemon, const struct memory_plan *plan)
{
    const uint32_t wanted = memory_workers(daemon);
    uint32_t n = wanted;

    while (!daemon->config->daemon.workers && n > 1 &&
           workers_bytes(n, plan->buffer_bytes, plan->codec_bytes) > daemon->budget / 2)
        n--;
    if (n < wanted)
        log_warn("%u workers, though there are %u cores: each needs %llu MiB, mostly for pictures up to max_pixels and "
                 "max_progressive, and the budget is %llu MiB; raise `daemon: memory`, or lower max_progressive",
                 n, wanted, (unsigned long long)budget_mib_up(plan->buffer_bytes + plan->codec_bytes),
                 (unsigned long long)(daemon->budget >> 20));
    workers_choose(daemon->workers, n);
}

/* What the new feeds take: of all memory, and of it in arenas. */
static void sum_new(const struct memory_plan *plan, uint32_t threads, uint64_t *bytes, uint64_t *shared)
{
    *bytes = *shared = 0;
    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        if (!is_new(plan->feeds[f]))
            continue;
        *bytes += feed_bytes(plan->feeds[f], plan->slots[f], threads);
        *shared += feed_arena_bytes(plan->feeds[f], plan->slots[f]);
    }
}

/* Takes a slot from the feed whose arena is the largest. False: all have the least that they can do with. */
static bool give_up_slot(struct memory_plan *plan)
{
    uint64_t most = 0;
    uint32_t from = 0;

    for (uint32_t f = 0; f < plan->n_feeds; f++) {
        const struct feed *feed = plan->feeds[f];

        if (!is_new(feed) || plan->slots[f] <= feed_least_slots(feed->config) || feed_arena_bytes(feed, plan->slots[f]) <= most)
            continue;
        most = feed_arena_bytes(feed, plan->slots[f]);
        from = f;
    }
    if (most == 0)
        return false;
    plan->slots[from]--;
    plan->feeds[from]->slots_short++;
    return true;
}

/* Caches that stay or are to be made, those that are to be made, and those that end. */
static void sum_caches(const struct daemon *daemon, const struct memory_plan *plan, uint64_t *caches, uint64_t *made,
                       uint64_t *freed)
{
    const uint32_t count = caches_count();
    uint64_t there = 0, none = 0;

    *made = 0;
    for (uint32_t f = 0; f < plan->n_feeds; f++)
        caches_add(plan->feeds[f], count, &there, made);
    for (int ends = 0; ends < 2; ends++)
        for (uint32_t f = 0; f < daemon->n_feeds; f++)
            if ((memory_ends(plan, daemon->feeds[f]) && !daemon->feeds[f]->consumers) == ends)
                caches_add(daemon->feeds[f], count, ends ? freed : &there, &none);
    *caches = there + *made;
}

int memory_plan(struct daemon *daemon, struct memory_plan *plan, struct problem *why)
{
    uint64_t fixed, more, bytes, shared, caches, new_caches, freed = 0;
    struct budget_limits limits;
    uint32_t n_workers, given_up = 0;
    int rc;

    budget_read(&limits);
    choose_rooms(daemon, plan);
    if (workers_count(daemon->workers) == 0)
        choose_workers(daemon, plan);
    n_workers = workers_count(daemon->workers);
    fixed = workers_bytes(n_workers, plan->buffer_bytes, plan->codec_bytes);
    more = fixed - workers_used(daemon->workers) > 0 ? fixed : 0; /* larger rooms are made beside the old ones */
    choose_ahead(daemon, plan);
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        const struct feed *feed = daemon->feeds[f];

        *(memory_ends(plan, feed) && !feed->consumers ? &freed : &fixed) += feed->bytes;
    }
    sum_caches(daemon, plan, &caches, &new_caches, &freed);
    more += new_caches;
    rc = share_budget(daemon, plan, fixed + caches + ahead_bytes(daemon->ahead, plan->ahead_reads, plan->ahead_bytes), caches,
                      why);
    if (rc < 0 && ahead_is_auto(daemon->ahead)) { /* then with what there is, or without */
        ahead_room(daemon->ahead, &plan->ahead_reads, &plan->ahead_bytes);
        rc = share_budget(daemon, plan, fixed + caches + ahead_used(daemon->ahead), caches, why);
    }
    if (ahead_bytes(daemon->ahead, plan->ahead_reads, plan->ahead_bytes) > ahead_used(daemon->ahead))
        more += ahead_bytes(daemon->ahead, plan->ahead_reads, plan->ahead_bytes);
    if (rc == 0)
        rc = check_slots(daemon, plan, why);
    if (rc < 0)
        return rc;
    /* What the machine has, but has not free just now (arenas of a daemon that was killed, still mapped by trainers) is done
     * without: fewer slots. */
    for (;; given_up++) {
        sum_new(plan, workers_threads(daemon->workers), &bytes, &shared);
        bytes = more + bytes > freed ? more + bytes - freed : 0;
        if (bytes <= limits.available || !give_up_slot(plan))
            break;
    }
    rc = budget_check(&limits, bytes, shared > freed ? shared - freed : 0, daemon->shm, why);
    if (rc < 0)
        return rc;
    if (given_up > 0)
        log_warn("memory is short just now (%s): %u slots fewer; they are made when there is more", limits.available_from,
                 given_up);
    for (uint32_t f = 0; f < plan->n_feeds; f++)
        if (is_new(plan->feeds[f]))
            log_info("feed '%s': %llu samples, %u slots of %.1f MiB", plan->feeds[f]->config->name,
                     (unsigned long long)plan->feeds[f]->samples, plan->slots[f], (double)plan->feeds[f]->slot_bytes / (1 << 20));
    return 0;
}
