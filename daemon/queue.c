/* SPDX-License-Identifier: MIT */
/* See queue.h. Called by consumer*.c, where steps are granted and where processes come and go, and by feed.c once a turn. */
#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "consumer.h"
#include "feed.h"

#define AGAIN_NS 5000000

void queue_fini(struct queue *queue)
{
    free(queue->again);
}

int queue_reserve(struct job *job)
{
    struct queue *queue = &job->queue;
    uint32_t room = queue->n_again + (job->n_consumers + 1) * (PF_RING + 1);
    struct place *again;

    if (!job->terms.queue || room <= queue->room)
        return 0;
    room += room / 2;
    again = realloc(queue->again, room * sizeof(*again));
    if (!again)
        return -ENOMEM;
    queue->again = again;
    queue->room = room;
    return 0;
}

struct place queue_take(struct job *job)
{
    struct queue *queue = &job->queue;
    struct place place = queue->next;
    uint32_t least = 0;

    if (queue->n_again == 0) {
        if (!job_over(job, place))
            queue->next = job_after(job, place);
        return place;
    }
    for (uint32_t i = 1; i < queue->n_again; i++)
        if (job_before(queue->again[i], queue->again[least]))
            least = i;
    place = queue->again[least];
    queue->again[least] = queue->again[--queue->n_again];
    return place;
}

void queue_give_back(struct job *job, struct place place)
{
    struct queue *queue = &job->queue;

    if (job_over(job, place))
        return;
    assert(queue->n_again < queue->room);
    queue->again[queue->n_again++] = place;
}

/* What was to be given out again from there on, and what is laid aside for others, will be come by anyhow; cursors that stood ahead of
 * what comes next would keep slots for all that lies between. */
struct place queue_lower(struct job *job, struct place place)
{
    struct queue *queue = &job->queue;
    struct place mine;
    uint32_t n = 0;

    if (!job_before(place, queue->next))
        return queue_take(job);
    queue->next = place;
    for (uint32_t i = 0; i < queue->n_again; i++)
        if (job_before(queue->again[i], place))
            queue->again[n++] = queue->again[i];
    queue->n_again = n;
    mine = queue_take(job);
    for (uint32_t r = 0; r < job->world; r++)
        for (struct consumer *c = job->ranks[r]; c; c = c->twin)
            if (!c->told_end && !job_before(c->at, place))
                c->at = queue_take(job);
    for (uint32_t s = 0; s < job->feed->n_slots; s++)
        slot_release(job->feed, &job->feed->slots[s]);
    return mine;
}

bool queue_ends(const struct job *job)
{
    return job->terms.queue && job->queue.n_again == 0 && job_over(job, job->queue.next);
}

bool queue_done(const struct job *job)
{
    if (!queue_ends(job))
        return false;
    for (const struct consumer *c = job->feed->consumers; c; c = c->next)
        if (c->job == job && (c->n_out > 0 || !job_over(job, c->at)))
            return false;
    return true;
}

/* Whoever was told that there is nothing more does not ask again, also where one who came later has lowered the queue. */
static struct consumer *idle_one(const struct job *job)
{
    for (struct consumer *c = job->feed->consumers; c; c = c->next)
        if (c->job == job && c->n_out == 0 && job_over(job, c->at) && !c->told_end)
            return c;
    return NULL;
}

/* From one that does not ask just now: who sleeps in pfeed_next will take what it was granted, and may be busy with it then, which
 * nobody tells us: it is looked at again. */
static void take_from_busy(struct job *job)
{
    for (struct consumer *c = job->feed->consumers; c; c = c->next) {
        const uint32_t held = c->job == job ? consumer_held(c) : 0;

        /* One step it keeps: taken back, that would be granted to it again. */
        if (c->job != job || (held == 0 && c->n_out <= 1 && job_over(job, c->at)))
            continue;
        if (pf_returns_waiting(c->returns)) {
            feed_due(job->feed, feed_now_ns() + AGAIN_NS);
            continue;
        }
        if (held < c->n_out && !consumer_revoke(c))
            continue;       /* the next turn drops it */
        if (c->n_out > 0) { /* it is busy with what it holds: others may have the step laid aside, too */
            queue_give_back(job, c->at);
            c->at = job->queue.next;
        }
        if (job->queue.n_again > 0)
            return;
    }
}

static void lay_aside(struct job *job)
{
    struct consumer *c;

    while (job->queue.n_again > 0 && (c = idle_one(job)))
        c->at = queue_take(job);
}

void queue_turn(struct feed *feed)
{
    for (struct job *job = feed->jobs; job; job = job->next) {
        if (!job->terms.queue || !job->started)
            continue;
        lay_aside(job);
        if (!queue_ends(job) || !idle_one(job))
            continue;
        take_from_busy(job);
        lay_aside(job);
    }
}
