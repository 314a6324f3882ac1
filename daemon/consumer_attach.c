/* SPDX-License-Identifier: MIT */
/* See consumer.h. Attaching: which job a request means, whether it fits and there are slots for it, and then all that a consumer
 * needs, or nothing. Called by request.c. Main thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "consumer.h"

static uint64_t next_id = 1;

/* A newer run of the job takes its place. */
void consumer_supersede(struct feed *feed, struct job *job, uint64_t run)
{
    char sentence[256];

    snprintf(sentence, sizeof(sentence), "run %llu of job '%s' has taken the place of run %llu", (unsigned long long)run,
             job->name, (unsigned long long)job->run);
    log_info("feed '%s': %s", feed->config->name, sentence);
    for (uint32_t r = 0, world = job->world, left = job->n_attached; r < world && left > 0; r++)
        if (job->ranks[r]) {
            left--;
            consumer_drop(job->ranks[r], PF_CLOSED_SUPERSEDED, sentence); /* the last one takes the job along */
        }
}

/* The rank that is furthest behind, in slots from the beginning. */
static uint64_t rearmost(const struct job *job)
{
    uint64_t rear = UINT64_MAX;

    for (uint32_t r = 0; r < job->world; r++)
        if (job->ranks[r]) {
            const struct consumer *c = job->ranks[r];
            uint64_t at = job_ordinal(job, c->at.epoch, job_range(job, r, c->at).index);

            rear = at < rear ? at : rear;
        }
    return rear == UINT64_MAX ? 0 : rear;
}

struct group {
    const struct job *first;
    uint64_t at;
    uint32_t need;
};

/* Of one group: jobs of one seed within reach of each other's slots, which therefore keep slots for each other. Jobs of which
 * only some ranks live here need other rows of the same slots. */
static bool same_group(const struct feed *feed, const struct group *group, const struct job *job, uint64_t at)
{
    uint64_t apart = at > group->at ? at - group->at : group->at - at;

    return group->first->seed == job->seed && group->first->spans == job->spans && apart <= feed->n_slots &&
           group->first->n_local == group->first->world && job->n_local == job->world;
}

static uint32_t slots_needed(const struct job *job, uint32_t max_held)
{
    return (max_held + 2) * job_step_slots(job);
}

/* DESIGN.md section 6: max_held + 2 slots for each group of jobs that stand at different places. `old` does not count: its place
 * is taken. */
static int check_groups(struct feed *feed, const struct job *job, const struct job *old, uint32_t max_held, struct problem *why)
{
    enum { MOST = 64 };
    struct group groups[MOST] = { { job, rearmost(job),
                                    slots_needed(job, max_held > job->max_held ? max_held : job->max_held) } };
    uint32_t n = 1, need = 0;

    for (const struct job *other = feed->jobs; other; other = other->next) {
        uint64_t at = rearmost(other);
        uint32_t g = 0, one = slots_needed(other, other->max_held);

        if (other == job || other == old)
            continue;
        while (g < n && !same_group(feed, &groups[g], other, at))
            g++;
        if (g == MOST)
            continue;
        if (g == n)
            groups[n++] = (struct group){ other, at, one };
        else if (one > groups[g].need)
            groups[g].need = one;
    }
    for (uint32_t g = 0; g < n; g++)
        need += groups[g].need;
    for (const struct consumer *c = feed->consumers; c; c = c->next)
        need += c->state == CONSUMER_QUARANTINED ? c->n_out : 0;
    if (need <= feed->n_slots)
        return 0;
    return problem_set(
        why, -ENOSPC,
        "feed '%s' has %u slots, and %u are needed: for each of %u groups of jobs that stand at different places max_held (%u "
        "here) + 2, times the slots of a step (%u here); raise `slots` or `memory`, lower max_held, or start the jobs "
        "together (`gang`)",
        feed->config->name, feed->n_slots, need, n, max_held, job_step_slots(job));
}

static int join(struct feed *feed, const struct job *job, const struct pf_ctl_attach *request, uint32_t max_held,
                struct problem *why)
{
    const struct place *left;
    int rc = job_agrees(job, request, why);

    if (rc < 0)
        return rc;
    if (job->ranks[request->rank])
        return problem_set(
            why, -EBUSY,
            "rank %u of job '%s' is there already (pid %ld); end that process first, or give all ranks of a new run a higher "
            "options.run",
            request->rank, job->name, (long)job->ranks[request->rank]->pid);
    left = &job->left[request->rank];
    if (job->started && (left->epoch || left->step))
        return problem_set(
            why, -EBUSY,
            "rank %u of job '%s' stands at epoch %llu step %llu, and this attach is for epoch 0 step 0; restart all ranks "
            "of the job (resuming from a token is not in this version)",
            request->rank, job->name, (unsigned long long)left->epoch, (unsigned long long)left->step);
    return max_held > job->max_held ? check_groups(feed, job, NULL, max_held, why) : 0;
}

/* A new job, which is to take the place of `old` where there is one. */
static int make_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, const struct job *old, uint32_t max_held,
                    struct job **out, struct problem *why)
{
    struct job *job;
    int rc = job_create(&job, feed, uid, request, why);

    if (rc < 0)
        return rc;
    if (!job->local[request->rank])
        rc = problem_set(why, -EINVAL, "rank %u is not among its own local_ranks '%s'", request->rank, request->local_ranks);
    else
        rc = check_groups(feed, job, old, max_held, why);
    if (rc < 0)
        job_destroy(job);
    else
        *out = job;
    return rc;
}

/* The job that the request means, made if need be; *fresh: it was, and takes the place of *old if there is one. */
static int choose_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, uint32_t max_held, struct job **out,
                      bool *fresh, struct job **old, struct problem *why)
{
    struct job *job = job_find(feed, uid, request->job);
    int rc;

    if (request->rank >= request->world)
        return problem_set(why, -EINVAL, "rank is %u, but with world %u ranks are 0 to %u", request->rank, request->world,
                           request->world - 1);
    if (!*request->job && request->world != 1)
        return problem_set(why, -EINVAL,
                           "world is %u, but no job is named: a private job has world 1; give all ranks the same job name",
                           request->world);
    if (request->start[0] && strcmp(request->start, "fresh") != 0)
        return problem_set(why, -EOPNOTSUPP, "start '%.60s' is not in this version; use \"fresh\" or none", request->start);
    if (job && request->run < job->run)
        return problem_set(
            why, -ESTALE,
            "run %llu of job '%s' is there, newer than this rank's run %llu; end this one, or give all of its ranks a "
            "higher options.run",
            (unsigned long long)job->run, job->name, (unsigned long long)request->run);
    *fresh = !job || request->run > job->run;
    if (!*fresh) {
        rc = join(feed, job, request, max_held, why);
        if (rc < 0)
            return rc;
        *out = job;
        return 0;
    }
    *old = job;
    return make_job(feed, uid, request, job, max_held, out, why);
}

/* Asked once: it reads a file. */
static long get_nprocs_once(void)
{
    static long n;

    if (n == 0)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    return n;
}

static void fill_reply(const struct consumer *c, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS])
{
    *reply = (struct pf_ctl_attached){
        .consumer = c->id,
        .arena_size = c->feed->segment.size,
        .samples = c->feed->samples,
        .steps = c->job->steps,
        .batch = c->job->terms.batch,
        .world_batch = (uint32_t)c->job->terms.stride,
        .max_held = c->max_held,
        .spin_ns = get_nprocs_once() > 4 ? 10000 : 0, /* where cores are scarce, the one that spins holds up a worker */
        .version = PFEED_VERSION,
        .seed = c->job->seed,
        .prints = c->feed->prints,
    };
    fds[PF_FD_ARENA] = c->feed->segment.reader;
    fds[PF_FD_GRANT] = c->grant_segment.reader;
    fds[PF_FD_RETURN] = c->return_segment.reader;
    fds[PF_FD_EVENT] = c->event.fd;
}

int consumer_attach(struct consumer **out, struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                    const struct consumer_peer *peer, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS], struct problem *why)
{
    uint32_t max_held = consumer_max_held(feed, request);
    struct consumer *c;
    struct job *job = NULL, *old = NULL;
    bool fresh = false;
    int rc;

    if (feed->failed_told)
        return problem_set(why, -EIO, "feed '%s' has failed: %s", feed->config->name, feed->failed);
    if (max_held > PF_RING / 2)
        return problem_set(why, -EINVAL, "max_held is %u; it can be 1 to %u", max_held, PF_RING / 2);
    rc = choose_job(feed, peer->uid, request, max_held, &job, &fresh, &old, why);
    if (rc < 0)
        return rc;
    c = consumer_make(feed, loop, request, peer);
    if (!c) {
        rc = problem_set(why, -ENOMEM, "no memory for a consumer");
        goto fail_job;
    }
    c->id = next_id;
    rc = consumer_make_lane(c, why);
    if (rc < 0)
        goto fail_consumer;
    if (peer->pidfd >= 0) {
        c->process.fd = peer->pidfd;
        rc = loop_add(loop, &c->process, 0);
        if (rc < 0) {
            c->process.fd = -1;
            problem_set(why, rc, "cannot watch the process: %s", strerror(-rc));
            goto fail_consumer;
        }
    }
    next_id++;
    if (old)
        consumer_supersede(feed, old, request->run); /* only now, as nothing can fail any more */
    if (fresh) {
        job->next = feed->jobs;
        feed->jobs = job;
    }
    c->job = job;
    job->ranks[c->rank] = c;
    job->n_attached++;
    job->max_held = max_held > job->max_held ? max_held : job->max_held;
    c->next = feed->consumers;
    feed->consumers = c;
    feed->dirty = true;
    fill_reply(c, reply, fds);
    *out = c;
    return 0;
fail_consumer:
    consumer_destroy(c);
fail_job:
    if (fresh)
        job_destroy(job);
    return rc;
}
