/* SPDX-License-Identifier: MIT */
/*
 * See park.h. A job stalls others where a rank of another job has nothing to take and cannot be given a slot, while this job has
 * batches out (taken or not) and neither takes nor returns any. After park_patience_ns of that it is parked:
 *
 *   RUNNING -> PARKED   others have waited for it for longer than its patience, and slots suffice to fill apart for it later
 *   PARKED -> RUNNING   a rank that held the others up asks for a batch or gives one back, or a new one comes, or seeks; or one
 *                       waits for a batch that those who hold theirs may wait for (an all-reduce), and the others have what they
 *                       want, or have had the job's patience
 *
 * Nothing is lost: what it did not take is revoked, its cursors stay where they were, and its rows are filled again when it goes on.
 * Where slots do not suffice (group_may_park) the others wait for it, as under `slow: block`, and feed_why says so.
 */
#include "park.h"

#include <stdlib.h>

#include "consumer.h"
#include "group.h"

#define STEPS     10       /* a job's patience is at least so many of its steps */
#define PARKED_NS 10000000 /* a job stays parked for so long, though it only waits for slots, while others wait for slots */

void park_step(struct job *job, int64_t step_ns)
{
    job->step_ns[job->n_steps++ % JOB_STEPS] = step_ns;
}

static int compare(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

static int64_t median_step_ns(const struct job *job)
{
    const uint64_t n = job->n_steps < JOB_STEPS ? job->n_steps : JOB_STEPS;
    int64_t sorted[JOB_STEPS];

    if (n == 0)
        return 0;
    for (uint64_t i = 0; i < n; i++)
        sorted[i] = job->step_ns[i];
    qsort(sorted, n, sizeof(*sorted), compare);
    return sorted[n / 2];
}

int64_t park_patience_ns(const struct job *job)
{
    const int64_t least = job->feed->config->park_after_ms * 1000000, steps = STEPS * median_step_ns(job);

    return least > steps ? least : steps;
}

/* Who has been without a slot for longest: one look at all ranks for all jobs. */
struct starved {
    const struct job *job;
    int64_t since_ns;  /* one of its ranks; 0: nobody is */
    int64_t others_ns; /* and one of any other job */
};

static struct starved longest_starved(const struct feed *feed)
{
    struct starved starved = { NULL, 0, 0 };

    for (const struct consumer *c = feed->starving ? feed->consumers : NULL; c; c = c->next) {
        if (!c->starved_ns || !consumer_runs(c))
            continue;
        if (!starved.since_ns || c->starved_ns < starved.since_ns) {
            if (c->job != starved.job)
                starved.others_ns = starved.since_ns;
            starved.since_ns = c->starved_ns;
            starved.job = c->job;
        } else if (c->job != starved.job && (!starved.others_ns || c->starved_ns < starved.others_ns)) {
            starved.others_ns = c->starved_ns;
        }
    }
    return starved;
}

/* When the job last did anything, where it has batches out; 0: it has none, and nobody waits for it. */
static int64_t idle_since(const struct job *job)
{
    int64_t since = 0;
    uint32_t n_out = 0;

    for (uint32_t r = 0; r < job->world; r++)
        for (const struct consumer *c = job->ranks[r]; c; c = c->twin) {
            since = c->active_ns > since ? c->active_ns : since;
            n_out += c->starved_ns ? 0 : c->n_out;
        }
    return n_out ? since : 0;
}

static void release_slots(struct feed *feed)
{
    for (uint32_t s = 0; s < feed->n_slots; s++)
        slot_release(feed, &feed->slots[s]);
}

static void park(struct feed *feed, struct job *job, int64_t idle_ns)
{
    uint32_t held = 0;

    job->parked = true;
    job->parked_ns = feed_now_ns();
    for (struct consumer *c = feed->consumers; c; c = c->next) {
        if (c->job != job)
            continue;
        c->stalls = c->n_out > 0 && !c->starved_ns;
        c->rang = false;
        c->asleep = pf_returns_waiting(c->returns);
        consumer_revoke(c); /* false: the next turn drops it */
        held += c->n_out;
    }
    release_slots(feed);
    feed->dirty = true;
    FEED_ADD(feed, jobs_parked, 1);
    log_info(
        "feed '%s': job '%s' (uid %u) is parked: it has taken and returned nothing for %.1f s while others waited for slots; it "
        "keeps %u batches, and goes on from its own step when it asks",
        feed->config->name, job->name, job->uid, (double)idle_ns / 1e9, held);
}

/* One that came to ask before it could see that it must ring has `waiting` set. */
static bool is_asking(const struct consumer *c)
{
    return c->rang || pf_returns_waiting(c->returns);
}

/* Whether one of those who held the others up has shown itself since, or none of them is left: its mates who wait for it, and for
 * slots, ask all the time. */
static bool asks(const struct feed *feed, const struct job *job)
{
    bool stallers = false, others = false;

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        const bool asking = c->job == job && is_asking(c);
        const bool awake = c->rang || !c->asleep; /* one may be stopped in its sleep */

        if (c->job != job)
            continue;
        if (c->stalls && asking && awake)
            return true;
        stallers |= c->stalls;
        others |= asking;
    }
    return !stallers && others;
}

/* The oldest step that it has: where it stands until it gives that back. */
static struct place front(const struct consumer *c)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].number >= c->sought)
            return c->out[i].place;
    return c->at;
}

/* Whether those who held the others up may do so because they wait, in a step that they have, for a mate that has not been given
 * its part of that step: one that waits for a later one is none of these, and what it waits for is the others' return. */
static bool owes(const struct feed *feed, const struct job *job)
{
    const struct consumer *rearmost = NULL;

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        if (c->job == job && c->stalls && (!rearmost || job_before(front(c), front(rearmost))))
            rearmost = c;
    for (const struct consumer *c = rearmost ? feed->consumers : NULL; c; c = c->next)
        if (c->job == job && !c->stalls && is_asking(c) && !job_before(front(rearmost), c->at))
            return true;
    return false;
}

/* Long enough for the others to take what they were given by then, where park_after is 0. */
static int64_t parked_until_ns(const struct job *job)
{
    const int64_t patience_ns = park_patience_ns(job);

    return job->parked_ns + (patience_ns > PARKED_NS ? patience_ns : PARKED_NS);
}

static bool may_go_on(struct feed *feed, const struct job *job, bool others_starve)
{
    if (asks(feed, job))
        return true;
    if (!owes(feed, job))
        return false;
    if (!others_starve || feed_now_ns() >= parked_until_ns(job))
        return true;
    feed_due(feed, parked_until_ns(job));
    return false;
}

static void unpark(struct feed *feed, struct job *job)
{
    const int64_t now_ns = feed_now_ns();

    job->parked = false;
    for (struct consumer *c = feed->consumers; c; c = c->next)
        if (c->job == job)
            c->active_ns = now_ns;
    feed->dirty = true;
    log_info("feed '%s': job '%s' (uid %u) goes on", feed->config->name, job->name, job->uid);
}

static bool may_stall(const struct job *job)
{
    return job->started && !job->parked && !job->peek && job->slow == CONFIG_SLOW_PARK;
}

void park_turn(struct feed *feed)
{
    const int64_t now_ns = feed->starving ? feed_now_ns() : 0;
    struct starved starved = longest_starved(feed);

    for (struct job *job = feed->jobs; job; job = job->next) {
        int64_t waited, idle, due_ns;

        job->stalls = false;
        if (job->parked && may_go_on(feed, job, starved.since_ns))
            unpark(feed, job);
        if (!feed->starving || !may_stall(job))
            continue;
        waited = job == starved.job ? starved.others_ns : starved.since_ns;
        idle = waited ? idle_since(job) : 0;
        if (!idle)
            continue;
        due_ns = (waited > idle ? waited : idle) + park_patience_ns(job);
        job->stalls = now_ns >= due_ns;
        if (!job->stalls)
            feed_due(feed, due_ns);
        else if (group_may_park(feed, job)) {
            park(feed, job, now_ns - idle);
            starved = longest_starved(feed); /* it waits no more itself */
        }
    }
}
