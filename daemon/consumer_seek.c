/* SPDX-License-Identifier: MIT */
/* See consumer.h. Seeking: all ranks of a job ask for the same place, each when it gets there; the first one fixes it. Called by
 * request.c. Main thread. */
#include <errno.h>
#include <string.h>

#include "consumer.h"
#include "group.h"
#include "start.h"

/* The rank that has not followed the job's last seek yet, or NULL. */
static const struct consumer *straggler(const struct job *job)
{
    for (const struct consumer *c = job->feed->consumers; c; c = c->next)
        if (c->job == job && c->seeks < job->seeks)
            return c;
    return NULL;
}

/* The first rank to ask. */
static int lead(struct consumer *c, struct place place, struct problem *why)
{
    struct job *job = c->job;
    const struct consumer *behind = straggler(job);
    int rc;

    if (!job->started && job->n_attached < job->n_local)
        return problem_set(
            why, -EBUSY,
            "only %u of the %u ranks of job '%s' that live here are attached; seek when all are there, or start the "
            "job at that place",
            job->n_attached, job->n_local, job->name);
    if (behind)
        return problem_set(
            why, -EBUSY,
            "rank %u of job '%s' (pid %ld) has not followed its seek to epoch %llu step %llu yet; all ranks of a job "
            "seek alike, one place after the other",
            behind->rank, job->name, (long)behind->pid, (unsigned long long)job->sought.epoch,
            (unsigned long long)job->sought.step);
    rc = group_fits(c->feed, job, place, NULL, job->max_held, why);
    if (rc < 0)
        return rc;
    job->seeks++;
    job->sought = place;
    job->sought_known = true;
    for (uint32_t i = 0; i < job->n_left; i++) /* who comes back finds the others there */
        job->left[i].low = job->left[i].high = place;
    return 0;
}

static int follow(const struct consumer *c, struct place place, struct problem *why)
{
    struct job *job = c->job;

    if (!job->sought_known) {
        job->sought = place;
        job->sought_known = true;
    }
    if (place.epoch == job->sought.epoch && place.step == job->sought.step)
        return 0;
    return problem_set(
        why, -EINVAL,
        "job '%s' seeks to epoch %llu step %llu, and rank %u to epoch %llu step %llu; all ranks of a job seek alike", job->name,
        (unsigned long long)job->sought.epoch, (unsigned long long)job->sought.step, c->rank, (unsigned long long)place.epoch,
        (unsigned long long)place.step);
}

int consumer_seek(struct consumer *c, const struct pf_ctl_seek *request, struct place *out, struct problem *why)
{
    struct job *job = c->job;
    struct start start;
    struct place place;
    int rc = start_parse_seek(&start, request->where, why);

    if (job->terms.queue)
        return problem_set(why, -EOPNOTSUPP, "a job of `deliver: first` is a work queue, and has no place to seek to");
    if (rc == 0)
        rc = start_place(&start, job, request->flags & PF_ATTACH_ACCEPT_CHANGED, &place, why);
    if (rc == 0)
        rc = c->seeks == job->seeks ? lead(c, place, why) : follow(c, place, why);
    if (rc < 0)
        return rc;
    if (!consumer_revoke(c))
        return problem_set(why, -EPROTO, "%s", c->broken); /* and the next turn drops it */
    c->seeks = job->seeks;
    c->sought = c->published;
    c->at = place;
    c->told_end = false; /* also where that is the job's end once more */
    c->rang = c->stalls = true;
    for (uint32_t s = 0; s < c->feed->n_slots; s++)
        slot_release(c->feed, &c->feed->slots[s]);
    c->feed->dirty = true;
    *out = place;
    return 0;
}
