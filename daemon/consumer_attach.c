/* SPDX-License-Identifier: MIT */
/* See consumer.h. Attaching: which job a request means, whether it fits and there are slots for it, and then all that a consumer
 * needs, or nothing. Called by request.c. Main thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "consumer.h"
#include "group.h"
#include "queue.h"
#include "start.h"

#define PF_REPLICAS_MAX 256u

static uint64_t next_id = 1;

/* A newer run of the job takes its place. */
void consumer_supersede(struct feed *feed, struct job *job, uint64_t run)
{
    char sentence[256];

    snprintf(sentence, sizeof(sentence), "run %llu of job '%s' has taken the place of run %llu", (unsigned long long)run,
             job->name, (unsigned long long)job->run);
    log_info("feed '%s': %s", feed->config->name, sentence);
    for (uint32_t r = 0, world = job->world, left = job->n_consumers; r < world && left > 0; r++)
        while (left > 0 && job->ranks[r]) {
            left--;
            consumer_drop(job->ranks[r], PF_CLOSED_SUPERSEDED, sentence); /* the last one takes the job along */
        }
}

static int refuse_place(const struct job *job, uint32_t rank, struct place there, struct place asked, struct problem *why)
{
    return problem_set(
        why, -EINVAL,
        "job '%s' starts at epoch %llu step %llu, and rank %u asks for epoch %llu step %llu; give all ranks the same token, or "
        "those of a new run a higher options.run",
        job->name, (unsigned long long)there.epoch, (unsigned long long)there.step, rank, (unsigned long long)asked.epoch,
        (unsigned long long)asked.step);
}

/* A rank that had been there is taken only with its own next step: the batches that it held may have been used or not. */
static int return_place(const struct job *job, const struct job_left *left, bool live, struct place *place, struct problem *why)
{
    if (live)
        *place = left->low;
    if (!job_before(*place, left->low) && !job_before(left->high, *place))
        return 0;
    return problem_set(
        why, -EBUSY,
        "rank %u of job '%s' stands at epoch %llu step %llu%s, and this attach is for epoch %llu step %llu; start it "
        "with the token of that step or with start \"live\", or restart all ranks with a higher options.run",
        left->rank, job->name, (unsigned long long)left->low.epoch, (unsigned long long)left->low.step,
        job_before(left->low, left->high) ? " (what it took from there on was not given back)" : "",
        (unsigned long long)place->epoch, (unsigned long long)place->step);
}

/* Where a rank of a job that is there already begins. */
static int join_place(const struct job *job, const struct pf_ctl_attach *request, const struct start *start, struct place *place,
                      struct problem *why)
{
    const struct job_left *left = job_left(job, request->rank, request->replica);
    const bool live = start->kind == START_LIVE || start->kind == START_LIVE_EPOCH;
    int rc = 0;

    if (!live)
        rc = start_place(start, job, request->flags & PF_ATTACH_ACCEPT_CHANGED, place, why);
    if (rc < 0 || job->terms.queue || (request->flags & PF_ATTACH_RECONNECT))
        return rc; /* it says itself where it stands, and nobody knows better; a queue has one place for all */
    if (job->started && left)
        return return_place(job, left, live, place, why);
    if (live && (!job->started || !job_rearmost(job, place)))
        *place = job->start;
    if (live || (place->epoch == job->start.epoch && place->step == job->start.step))
        return 0;
    if (job->resumed && start->kind == START_TOKEN)
        return 0; /* a new daemon has never seen this rank */
    return refuse_place(job, request->rank, job->start, *place, why);
}

static int join(struct feed *feed, const struct job *job, const struct pf_ctl_attach *request, const struct start *start,
                uint32_t max_held, struct place *place, struct problem *why)
{
    int rc = job_agrees(job, request, start_seed(start, feed, request), why);

    if (rc < 0)
        return rc;
    if (!job->local[request->rank])
        return problem_set(why, -EINVAL, "rank %u is not among its own local_ranks '%s'", request->rank, request->local_ranks);
    for (const struct consumer *c = job->ranks[request->rank]; c && !job->terms.queue; c = c->twin)
        if (c->replica == request->replica)
            return problem_set(
                why, -EBUSY,
                "rank %u of job '%s' is there already (pid %ld); end that process first, or give all ranks of a new run a higher "
                "options.run (several processes that want the same batches give different options.replica)",
                request->rank, job->name, (long)c->pid);
    rc = join_place(job, request, start, place, why);
    if (rc < 0)
        return rc;
    return max_held > job->max_held ? group_fits(feed, job, *place, NULL, max_held, why) : 0;
}

/* A new job, which is to take the place of `old` where there is one. */
static int make_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, const struct start *start,
                    const struct job *old, uint32_t max_held, struct job **out, struct problem *why)
{
    struct job *job;
    int rc = job_create(&job, feed, uid, request, start_seed(start, feed, request), why);

    if (rc < 0)
        return rc;
    if (!job->local[request->rank])
        rc = problem_set(why, -EINVAL, "rank %u is not among its own local_ranks '%s'", request->rank, request->local_ranks);
    if (rc == 0)
        rc = start_place(start, job, request->flags & PF_ATTACH_ACCEPT_CHANGED, &job->start, why);
    if (rc == 0)
        rc = group_fits(feed, job, job->start, old, max_held, why);
    if (rc < 0)
        job_destroy(job);
    else
        *out = job;
    return rc;
}

static int check_request(const struct pf_ctl_attach *request, struct problem *why)
{
    if (request->rank >= request->world)
        return problem_set(why, -EINVAL, "rank is %u, but with world %u ranks are 0 to %u", request->rank, request->world,
                           request->world - 1);
    if (!*request->job && request->world != 1)
        return problem_set(why, -EINVAL,
                           "world is %u, but no job is named: a private job has world 1; give all ranks the same job name",
                           request->world);
    if (!*request->job && request->replica != 0)
        return problem_set(why, -EINVAL, "replica is %u, but no job is named; give all replicas of a rank the same job name",
                           request->replica);
    if (request->replica >= PF_REPLICAS_MAX)
        return problem_set(why, -EINVAL, "replica is %u; it can be 0 to %u", request->replica, PF_REPLICAS_MAX - 1);
    return 0;
}

struct choice {
    struct job *job, *old; /* the job that the request means; the one whose place it takes, or NULL */
    bool fresh;            /* job was made */
    struct place place;    /* of the rank in it */
};

static int choose_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, uint32_t max_held, struct choice *out,
                      struct problem *why)
{
    struct job *job = job_find(feed, uid, request->job);
    struct start start;
    int rc = check_request(request, why);

    if (rc < 0)
        return rc;
    rc = start_parse(&start, request->start, why);
    if (rc < 0)
        return rc;
    if (job && request->run < job->run)
        return problem_set(
            why, -ESTALE,
            "run %llu of job '%s' is there, newer than this rank's run %llu; end this one, or give all of its ranks a "
            "higher options.run",
            (unsigned long long)job->run, job->name, (unsigned long long)request->run);
    if (job && request->run == job->run) {
        out->job = job;
        return join(feed, job, request, &start, max_held, &out->place, why);
    }
    out->fresh = true;
    out->old = job;
    rc = make_job(feed, uid, request, &start, job, max_held, &out->job, why);
    if (rc == 0)
        out->place = out->job->start;
    return rc;
}

/* Asked once: it reads a file. */
static long get_nprocs_once(void)
{
    static long n;

    if (n == 0)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    return n;
}

static void fill_reply(const struct consumer *c, struct place place, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS])
{
    *reply = (struct pf_ctl_attached){
        .consumer = c->id,
        .arena_size = c->feed->segment.size,
        .samples = c->feed->samples,
        .steps = c->job->steps,
        .epoch = place.epoch,
        .step = place.step,
        .batch = c->job->terms.batch,
        .world_batch = (uint32_t)c->job->terms.stride,
        .max_held = c->max_held,
        .spin_ns = get_nprocs_once() > 4 ? 10000 : 0, /* where cores are scarce, the one that spins holds up a worker */
        .version = PFEED_VERSION,
        .seed = c->job->seed,
        .epochs = c->job->epochs,
        .prints = c->feed->prints,
    };
    fds[PF_FD_ARENA] = c->feed->segment.reader;
    fds[PF_FD_GRANT] = c->grant_segment.reader;
    fds[PF_FD_RETURN] = c->return_segment.reader;
    fds[PF_FD_EVENT] = c->event.fd;
}

/* A job that spans hosts: what that costs here. */
static void tell_use(const struct job *job)
{
    const uint32_t aligned = job_aligned_batch(job);
    const double use = job_slot_use(job);
    char hint[96] = "";

    if (job->n_local == job->world)
        return;
    if (use < 1 && aligned && aligned != job->slot_rows)
        snprintf(hint, sizeof(hint), "; with `batch: %u` slots would hold rows of this host alone", aligned);
    log_info("feed '%s', job '%s': %u of %u ranks live here (%s) and use %.0f %% of the memory of its slots%s",
             job->feed->config->name, job->name, job->n_local, job->world, job->local_text, use * 100, hint);
}

/* Nothing can fail any more. */
static void enter(struct consumer *c, const struct choice *choice, const struct pf_ctl_attach *request)
{
    const bool reconnects = request->flags & PF_ATTACH_RECONNECT;
    struct feed *feed = c->feed;
    struct job *job = choice->job;

    if (choice->old)
        consumer_supersede(feed, choice->old, request->run);
    if (choice->fresh) {
        job->next = feed->jobs;
        feed->jobs = job;
        tell_use(job);
    }
    c->job = job;
    c->at = choice->place;
    if (reconnects && !(request->flags & PF_ATTACH_UNBEGUN)) /* under an older daemon, whoever told this one of it first */
        job->started = job->resumed = true;
    if (job->terms.queue) {
        if (choice->fresh)
            job->queue.next = choice->place;
        c->at = reconnects && !choice->fresh ? queue_lower(job, choice->place) : queue_take(job);
    }
    c->active_ns = c->born_ns;
    c->rang = c->stalls = job->parked;
    c->seeks = reconnects ? request->seeks : job->seeks;
    if (c->seeks > job->seeks) {
        job->seeks = c->seeks;
        job->sought_known = false;
    }
    job->n_attached += !job->ranks[c->rank];
    c->twin = job->ranks[c->rank];
    job->ranks[c->rank] = c;
    job->n_consumers++;
    job->max_held = c->max_held > job->max_held ? c->max_held : job->max_held;
    c->next = feed->consumers;
    feed->consumers = c;
    if (job->started)
        consumer_tell_started(job);
    feed->dirty = true;
}

int consumer_attach(struct consumer **out, struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                    const struct consumer_peer *peer, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS], struct problem *why)
{
    uint32_t max_held = consumer_max_held(feed, request);
    struct choice choice = { 0 };
    struct consumer *c;
    int rc;

    if (feed->failed_told)
        return problem_set(why, -EIO, "feed '%s' has failed: %s", feed->config->name, feed->failed);
    if (max_held > PF_RING / 2)
        return problem_set(why, -EINVAL, "max_held is %u; it can be 1 to %u", max_held, PF_RING / 2);
    rc = choose_job(feed, peer->uid, request, max_held, &choice, why);
    if (rc < 0)
        return rc;
    c = consumer_make(feed, loop, request, peer);
    if (!c || job_reserve_left(choice.job) < 0 || queue_reserve(choice.job) < 0) {
        rc = problem_set(why, -ENOMEM, "no memory for a consumer");
        goto fail;
    }
    c->id = next_id;
    rc = consumer_make_lane(c, why);
    if (rc < 0)
        goto fail;
    if (peer->pidfd >= 0) {
        c->process.fd = peer->pidfd;
        rc = loop_add(loop, &c->process, 0);
        if (rc < 0) {
            c->process.fd = -1;
            problem_set(why, rc, "cannot watch the process: %s", strerror(-rc));
            goto fail;
        }
    }
    next_id++;
    enter(c, &choice, request);
    fill_reply(c, choice.place, reply, fds);
    *out = c;
    return 0;
fail:
    if (c)
        consumer_destroy(c);
    if (choice.fresh)
        job_destroy(choice.job);
    return rc;
}
