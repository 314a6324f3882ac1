/* SPDX-License-Identifier: MIT */
/* See job.h. Called by consumer_attach.c, consumer_ring.c, limit.c and feed.c (what is wanted), main thread. */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer.h"
#include "feed.h"
#include "queue.h"

#define LEFT_MOST 4096 /* replicas that are remembered beside all ranks */

#define AGREE "give all ranks the same, and those of a new run a higher options.run"

void deliver_divisors(uint32_t n, char *text, size_t size)
{
    size_t at = 0;

    text[0] = 0;
    for (uint32_t d = 1; d <= n; d++) {
        int wrote;

        if (n % d != 0)
            continue;
        wrote = snprintf(text + at, size - at, at ? ", %u" : "%u", d);
        if (wrote < 0 || (size_t)wrote >= size - at) {
            snprintf(size > 4 ? text + size - 5 : text, 5, "...");
            return;
        }
        at += (size_t)wrote;
    }
}

/* How many steps an epoch has, by the tail policy (DESIGN.md section 8). */
static int count_steps(struct job *job, const char *feed_name, struct problem *why)
{
    uint64_t stride = job->terms.stride;

    if (job->tail == CONFIG_TAIL_PARTIAL && job->world != 1 && !job->terms.alone)
        return problem_set(
            why, -EINVAL,
            "feed '%s' has `tail: partial`, which is only for world 1, not %u: the ranks would get unequal batches; "
            "use `tail: drop` or `tail: pad`",
            feed_name, job->world);
    job->steps = job->tail == CONFIG_TAIL_DROP ? job->samples / stride : (job->samples + stride - 1) / stride;
    if (job->steps == 0)
        return problem_set(
            why, -EINVAL,
            "feed '%s' has %llu samples, fewer than one step of %llu rows (world %u x batch %u), and `tail: drop` leaves "
            "them all out; use a smaller batch, or `tail: pad`",
            feed_name, (unsigned long long)job->samples, (unsigned long long)stride, job->world, job->terms.batch);
    job->spans =
        ((job->steps - 1) * stride + (job->terms.alone ? job->terms.batch : stride) + job->slot_rows - 1) / job->slot_rows;
    return 0;
}

struct job *job_find(const struct feed *feed, uid_t uid, const char *name)
{
    if (!*name)
        return NULL;
    for (struct job *job = feed->jobs; job; job = job->next)
        if (job->uid == uid && strcmp(job->name, name) == 0)
            return job;
    return NULL;
}

int deliver_check_batch(uint32_t slot_rows, uint32_t wanted, struct problem *why)
{
    char fit[256];

    if (!wanted || slot_rows % wanted == 0)
        return 0;
    deliver_divisors(slot_rows, fit, sizeof(fit));
    return problem_set(why, -EINVAL, "the feed's batch of %u rows does not divide by options.batch %u: let it be one of %s",
                       slot_rows, wanted, fit);
}

int deliver_alone(uint32_t slot_rows, uint32_t wanted, struct deliver_terms *out, struct problem *why)
{
    const uint32_t batch = wanted ? wanted : slot_rows;
    int rc = deliver_check_batch(slot_rows, wanted, why);

    if (rc == 0)
        *out = (struct deliver_terms){ .batch = batch, .stride = batch, .alone = true };
    return rc;
}

static int slow_of(const struct pf_ctl_attach *request, const struct config_feed *config)
{
    static const int asked[] = {
        [PF_SLOW_BLOCK] = CONFIG_SLOW_BLOCK, [PF_SLOW_SKIP] = CONFIG_SLOW_SKIP, [PF_SLOW_PARK] = CONFIG_SLOW_PARK
    };

    return request->slow == PF_SLOW_FEED ? config->slow : asked[request->slow];
}

const char *job_slow_word(int slow)
{
    return slow == CONFIG_SLOW_SKIP ? "skip" : slow == CONFIG_SLOW_PARK ? "park" : "block";
}

int job_create(struct job **out, struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, uint64_t seed,
               struct problem *why)
{
    const struct config_feed *config = feed->config;
    const struct deliver_ops *deliver = feed->deliver;
    struct job *job;
    int rc;

    if (request->world == 0 || request->world > PF_WORLD_MAX)
        return problem_set(why, -EINVAL, "world is %u; it can be 1 to %u", request->world, PF_WORLD_MAX);
    job = calloc(1, sizeof(*job));
    if (!job)
        return problem_set(why, -ENOMEM, "no memory for a job");
    job->feed = feed;
    job->uid = uid;
    memcpy(job->name, request->job, sizeof(job->name));
    memcpy(job->local_text, request->local_ranks, sizeof(job->local_text));
    job->world = request->world;
    job->tail = config->tail;
    job->samples = feed->samples;
    job->slot_rows = feed->batch;
    job->seed = seed;
    job->run = request->run;
    job->epochs = request->epochs ? request->epochs : (uint64_t)config->epochs;
    job->slow = slow_of(request, config);
    job->peek = request->flags & PF_ATTACH_PEEK;
    job->local = calloc(job->world, sizeof(*job->local));
    job->ranks = calloc(job->world, sizeof(struct consumer *));
    job->left_of = calloc(job->world, sizeof(*job->left_of));
    if (!job->local || !job->ranks || !job->left_of) {
        rc = problem_set(why, -ENOMEM, "no memory for a job of world %u", job->world);
        goto fail;
    }
    rc = deliver->terms(feed->batch, job->world, request->batch, &job->terms, why);
    if (rc < 0)
        goto fail;
    if (job->slow == CONFIG_SLOW_SKIP && job->world != 1 && !job->terms.alone) {
        rc = problem_set(why, -EINVAL,
                         "slow: skip is only for world 1 or `deliver: each`, not for world %u: ranks would get unequal steps",
                         job->world);
        goto fail;
    }
    rc = count_steps(job, config->name, why);
    if (rc < 0)
        goto fail;
    rc = job_parse_local(job, request->local_ranks, why);
    if (rc < 0)
        goto fail;
    *out = job;
    return 0;
fail:
    job_destroy(job);
    return rc;
}

void job_destroy(struct job *job)
{
    if (!job)
        return;
    queue_fini(&job->queue);
    free(job->local);
    free(job->ranks);
    free(job->left);
    free(job->left_of);
    free(job);
}

int job_reserve_left(struct job *job)
{
    uint32_t most = job->world + LEFT_MOST, room = job->n_left + job->n_consumers + 1;
    struct job_left *left;

    if (room <= job->left_room || job->left_room == most)
        return 0;
    room += room / 2;
    room = room < most ? room : most;
    left = realloc(job->left, room * sizeof(*left));
    if (!left)
        return -ENOMEM;
    job->left = left;
    job->left_room = room;
    return 0;
}

struct job_left *job_left(const struct job *job, uint32_t rank, uint32_t replica)
{
    if (replica == 0)
        return job->left_of[rank] ? &job->left[job->left_of[rank] - 1] : NULL;
    for (uint32_t i = 0; i < job->n_left; i++)
        if (job->left[i].rank == rank && job->left[i].replica == replica)
            return &job->left[i];
    return NULL;
}

void job_leave(struct job *job, const struct job_left *where)
{
    struct job_left *left = job_left(job, where->rank, where->replica);

    if (!left) {
        if (job->n_left == job->left_room)
            return; /* one replica of very many: it is as if it had never been there */
        left = &job->left[job->n_left++];
        if (where->replica == 0)
            job->left_of[where->rank] = job->n_left;
    }
    *left = *where;
}

bool job_rearmost(const struct job *job, struct place *out)
{
    bool any = false;

    for (const struct consumer *c = job->feed->consumers; c; c = c->next)
        if (c->job == job) {
            const struct place at = consumer_untaken(c);

            if (!any || job_before(at, *out))
                *out = at;
            any = true;
        }
    return any;
}

int job_agrees(const struct job *job, const struct pf_ctl_attach *request, uint64_t seed, struct problem *why)
{
    struct deliver_terms terms;
    uint64_t epochs = request->epochs ? request->epochs : (uint64_t)job->feed->config->epochs;
    int slow = slow_of(request, job->feed->config);
    int rc;

    if (request->world != job->world)
        return problem_set(why, -EINVAL, "job '%s' has world %u, this rank says %u; " AGREE, job->name, job->world,
                           request->world);
    rc = job->feed->deliver->terms(job->slot_rows, request->world, request->batch, &terms, why);
    if (rc < 0)
        return rc;
    if (terms.batch != job->terms.batch)
        return problem_set(why, -EINVAL, "job '%s' has batch %u, this rank says %u; " AGREE, job->name, job->terms.batch,
                           terms.batch);
    if (seed != job->seed)
        return problem_set(why, -EINVAL, "job '%s' has seed %llu, this rank says %llu; " AGREE, job->name,
                           (unsigned long long)job->seed, (unsigned long long)seed);
    if (epochs != job->epochs)
        return problem_set(why, -EINVAL, "job '%s' runs for %llu epochs, this rank says %llu (0: for ever); " AGREE, job->name,
                           (unsigned long long)job->epochs, (unsigned long long)epochs);
    if (strcmp(request->local_ranks, job->local_text) != 0)
        return problem_set(why, -EINVAL, "job '%s' has local_ranks '%s', this rank says '%s'; " AGREE, job->name, job->local_text,
                           request->local_ranks);
    if (slow != job->slow)
        return problem_set(why, -EINVAL, "job '%s' has slow: %s, this rank says %s; " AGREE, job->name, job_slow_word(job->slow),
                           job_slow_word(slow));
    return 0;
}

static uint64_t position(const struct job *job, uint32_t rank, uint64_t step)
{
    const struct deliver_ops *deliver = job->feed->deliver;

    return step * job->terms.stride + (deliver->offset ? deliver->offset(&job->terms, rank) : 0);
}

struct range job_range(const struct job *job, uint32_t rank, struct place place)
{
    uint64_t start = position(job, rank, place.step);
    uint64_t left = start < job->samples ? job->samples - start : 0;
    struct range range = { .epoch = place.epoch,
                           .index = start / job->slot_rows,
                           .row = (uint32_t)(start % job->slot_rows),
                           .rows = job->terms.batch,
                           .valid = left < job->terms.batch ? (uint32_t)left : job->terms.batch };

    if (job->tail == CONFIG_TAIL_PARTIAL)
        range.rows = range.valid;
    return range;
}

struct place job_after(const struct job *job, struct place place)
{
    if (++place.step >= job->steps)
        place = (struct place){ .epoch = place.epoch + 1 };
    return place;
}

bool job_over(const struct job *job, struct place place)
{
    return job->epochs && place.epoch >= job->epochs;
}

bool job_steps_in(const struct job *job, uint32_t rank, uint64_t index, uint64_t *first, uint64_t *last)
{
    uint64_t offset = position(job, rank, 0), stride = job->terms.stride;
    uint64_t begin = index * job->slot_rows, end = begin + job->slot_rows; /* positions */
    uint64_t low = begin > offset ? (begin - offset + stride - 1) / stride : 0;
    uint64_t high;

    if (end <= offset)
        return false;
    high = (end - 1 - offset) / stride;
    if (high >= job->steps)
        high = job->steps - 1;
    if (low > high)
        return false;
    *first = low;
    *last = high;
    return true;
}

struct place job_next_slot(const struct job *job, uint32_t rank, struct place place)
{
    uint64_t first, last;

    if (job_steps_in(job, rank, job_range(job, rank, place).index, &first, &last))
        place.step = last;
    return job_after(job, place);
}

uint32_t job_step_slots(const struct job *job)
{
    uint64_t a = job->slot_rows, b = job->terms.stride;

    while (b != 0) { /* Euclid: steps begin at multiples of this within a slot */
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return (uint32_t)((job->slot_rows - a + job->terms.stride + job->slot_rows - 1) / job->slot_rows);
}
