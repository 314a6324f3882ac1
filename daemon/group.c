/* SPDX-License-Identifier: MIT */
/* See group.h. Called by consumer_attach.c, consumer_seek.c, park.c and stat.c. */
#include "group.h"

#include <errno.h>

#include "consumer.h"

#define MOST 128 /* groups; more are refused */

struct group {
    const struct job *first;
    uint64_t at; /* slots from the beginning */
    bool parked;
    uint32_t need;
};

struct groups {
    const struct feed *feed;
    uint32_t n;
    bool more; /* than MOST */
    struct group group[MOST];
};

static uint64_t slot_of(const struct job *job, struct place place)
{
    return job_ordinal(job, place.epoch, job_range(job, 0, place).index);
}

static struct place rear(const struct job *job)
{
    struct place at;

    return job_rearmost(job, &at) ? at : job->start;
}

/* Jobs of one seed within reach of each other's slots, which therefore keep slots for each other. Jobs of which only some ranks live
 * here need other rows of the same slots, and a parked job will be elsewhere when it goes on. */
static bool same_group(const struct feed *feed, const struct group *group, const struct job *job, uint64_t at, bool parked)
{
    uint64_t apart = at > group->at ? at - group->at : group->at - at;

    return group->first->seed == job->seed && group->first->spans == job->spans && apart <= feed->n_slots &&
           group->first->n_local == group->first->world && job->n_local == job->world && group->parked == parked;
}

static uint32_t slots_needed(const struct job *job, uint32_t max_held)
{
    return (max_held + 2) * job_step_slots(job);
}

/* The job's group: one that is there, or a new one. */
static uint32_t add(struct groups *groups, const struct job *job, struct place place, bool parked, uint32_t max_held)
{
    const uint64_t at = slot_of(job, place);
    const uint32_t need = slots_needed(job, max_held);
    uint32_t g = 0;

    while (g < groups->n && !same_group(groups->feed, &groups->group[g], job, at, parked))
        g++;
    if (g == MOST) {
        groups->more = true;
        return g;
    }
    if (g == groups->n)
        groups->group[groups->n++] = (struct group){ job, at, parked, need };
    else if (need > groups->group[g].need)
        groups->group[g].need = need;
    return g;
}

static uint32_t all_need(const struct groups *groups)
{
    uint32_t need = 0;

    for (uint32_t g = 0; g < groups->n; g++)
        need += groups->group[g].need;
    for (const struct consumer *c = groups->feed->consumers; c; c = c->next)
        need += c->state == CONSUMER_QUARANTINED ? c->n_out : 0;
    return need;
}

int group_fits(const struct feed *feed, const struct job *job, struct place place, const struct job *old, uint32_t max_held,
               struct problem *why)
{
    struct groups groups = { .feed = feed };
    uint32_t need;

    add(&groups, job, place, job->parked, max_held > job->max_held ? max_held : job->max_held);
    for (const struct job *other = feed->jobs; other; other = other->next)
        if (other != job && other != old)
            add(&groups, other, rear(other), other->parked, other->max_held);
    need = all_need(&groups);
    if (need <= feed->n_slots && !groups.more)
        return 0;
    return problem_set(
        why, -ENOSPC,
        "feed '%s' has %u slots, and %u%s are needed: for each of %u groups of jobs that stand at different places max_held (%u "
        "here) + 2, times the slots of a step (%u here); raise `slots` or `memory`, lower max_held, or start the jobs "
        "together (`gang`)",
        feed->config->name, feed->n_slots, need, groups.more ? " and more" : "", groups.n, max_held, job_step_slots(job));
}

bool group_may_park(const struct feed *feed, const struct job *job)
{
    struct groups groups = { .feed = feed };

    for (const struct job *other = feed->jobs; other; other = other->next)
        add(&groups, other, rear(other), other->parked || other == job, other->max_held);
    return !groups.more && groups.n <= GROUPS_APART && all_need(&groups) <= feed->n_slots;
}

uint32_t group_all(struct feed *feed, uint32_t *slots)
{
    struct groups groups = { .feed = feed };

    for (struct job *job = feed->jobs; job; job = job->next)
        job->group = add(&groups, job, rear(job), job->parked, job->max_held);
    for (struct job *job = feed->jobs; job; job = job->next) {
        const uint32_t mine = job->group;

        job->group = mine < MOST;
        for (uint32_t g = 0; g < groups.n && mine < MOST; g++)
            job->group += groups.group[g].at < groups.group[mine].at || (groups.group[g].at == groups.group[mine].at && g < mine);
    }
    *slots = all_need(&groups);
    return groups.n;
}
