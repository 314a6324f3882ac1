/* SPDX-License-Identifier: MIT */
/* See feed.h. pfeedd.c opens, starts and closes feeds and runs their turns; consumer.c marks them dirty. Main thread. */
#include "feed.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/caches.h"
#include "choose.h"
#include "consumer.h"
#include "group.h"
#include "park.h"
#include "queue.h"
#include "worker.h"

#define READ_LONG_NS INT64_C(1000000000) /* a read that takes so long is named */
#define WHERE_SAID   140                 /* bytes of its path in a sentence of 256 */

int64_t feed_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void feed_save(const struct feed *feed)
{
    struct problem why;

    if (feed->source && feed->config->source->save && feed->config->source->save(feed->source, &why) < 0)
        log_info("feed '%s': %s", feed->config->name, why.text);
}

void feed_destroy(struct feed *feed)
{
    if (!feed)
        return;
    while (feed->consumers)
        consumer_destroy(feed->consumers);
    if (feed->slots)
        slots_destroy(feed);
    order_destroy(feed->order);
    choose_free(&feed->order_params);
    segment_destroy(&feed->segment);
    feed_close_states(feed);
    caches_leave(feed);
    free(feed->fields);
    if (feed->source)
        feed->config->source->close(feed->source);
    pthread_mutex_destroy(&feed->lock);
    config_destroy(feed->owner);
    free(feed);
}

/* ---- the turn ------------------------------------------------------------------------------------------------------- */

static void drain_all(struct feed *feed)
{
    struct consumer *c = feed->consumers;

    while (c) {
        struct consumer *next = c->next;

        if (c->state == CONSUMER_ATTACHED && consumer_check(c) && !consumer_drain(c))
            consumer_check(c);
        c = next;
    }
}

static void finish_slots(struct feed *feed)
{
    for (uint32_t s = 0; s < feed->n_slots; s++)
        if (slot_finish(feed, &feed->slots[s])) {
            tune_feed_filled(feed, &feed->slots[s]);
            slot_release(feed, &feed->slots[s]); /* where those who wanted it have gone */
        }
}

void feed_warm(struct feed *feed)
{
    feed->warm = true;
    for (uint32_t s = 0; s < feed->in_use && s < feed->n_slots && (uint64_t)s * feed->batch < feed->samples; s++)
        if (slot_begin_warm(feed, &feed->slots[s], s) == 0)
            workers_post(feed->workers, feed, &feed->slots[s]);
}

static uint32_t gang_there(const struct feed *feed)
{
    uint32_t n = 0;

    for (const struct job *job = feed->jobs; job; job = job->next)
        n += job_of_gang(job);
    return n;
}

static bool complete(const struct job *job)
{
    return job->n_attached == job->n_local || job->terms.queue;
}

/* Whether those who are there wait for others of the gang no longer: from the first complete job on, for gang_wait. */
static bool gang_waited(struct feed *feed)
{
    const int64_t wait_ns = feed->config->gang_wait_ms * 1000000;
    bool any = false;

    for (const struct job *job = feed->jobs; job; job = job->next)
        any |= !job->started && !job->peek && complete(job);
    if (!any || wait_ns == 0) {
        feed->gang_since_ns = 0;
        return false;
    }
    if (feed->gang_since_ns == 0)
        feed->gang_since_ns = feed_now_ns();
    if (feed_now_ns() < feed->gang_since_ns + wait_ns) {
        feed_due(feed, feed->gang_since_ns + wait_ns);
        return false;
    }
    log_warn("feed '%s': %u of the %lld ranks of its gang are there after %.1f s: it starts without the others",
             feed->config->name, gang_there(feed), (long long)feed->config->gang, (double)feed->config->gang_wait_ms / 1e3);
    feed->gang_since_ns = 0;
    return true;
}

static void start_jobs(struct feed *feed)
{
    bool gang = gang_there(feed) >= (uint64_t)feed->config->gang || gang_waited(feed), any = false;

    for (struct job *job = feed->jobs; job; job = job->next)
        if (!job->started && complete(job) && (gang || job->peek)) {
            job->started = any = true;
            consumer_tell_started(job);
        }
    if (any && feed->warm) { /* from now on slots are kept by those who want them */
        feed->warm = false;
        for (uint32_t s = 0; s < feed->n_slots; s++)
            slot_release(feed, &feed->slots[s]);
    }
}

static void grant_all(struct feed *feed)
{
    for (struct consumer *c = feed->consumers; c; c = c->next) {
        if (consumer_runs(c))
            consumer_grant(c);
        if (consumer_started(c) && job_over(c->job, c->at) && !c->told_end && (!c->job->terms.queue || queue_done(c->job)))
            consumer_end(c);
    }
}

/* c has nothing to take, and cannot be given a slot. Whoever holds all that it may waits for nobody but itself. */
static void starve(struct consumer *c)
{
    if (!c->had_untaken && c->n_out < c->max_held && c->starved_ns == 0)
        c->starved_ns = feed_now_ns();
}

/* What it wants in the next slot but this. */
static struct place next_ahead(const struct consumer *c, const struct range *range, uint32_t ahead)
{
    const struct job *job = c->job;

    if (ahead == 0 && job->terms.queue && job_before(c->ahead, job->queue.next)) {
        struct range next = job_range(job, c->rank, job->queue.next);

        if (next.epoch != range->epoch || next.index != range->index)
            return job->queue.next;
        return job_next_slot(job, c->rank, job->queue.next);
    }
    return job_next_slot(job, c->rank, c->ahead);
}

/* A slot for c's range, or NULL: none is filled ahead while as many as are in use hold something. Where none is free, slot_obtain finds none for who has something to take, nor for who stands where
 * another one was refused; whether c is held back, too, makes no difference then, and would take a look at everybody. */
static struct slot *obtain(struct feed *feed, struct consumer *c, const struct range *range, uint32_t ahead)
{
    if (feed->n_busy >= feed->in_use && (ahead > 0 || c->had_untaken))
        return NULL;
    if (slot_none_free(feed) && (ahead > 0 || c->had_untaken || slot_in_vain(feed, c, range)))
        return NULL;
    c->held_back = slot_held_back(feed, c, range);
    return c->held_back ? NULL : slot_obtain(feed, c, range, ahead);
}

/* Begins filling what the cursors want, the nearest first. */
static void fill_wanted(struct feed *feed)
{
    feed->starving = false;
    feed->none_free = feed->in_vain.any = false;
    for (uint32_t ahead = 0; ahead < feed->n_slots; ahead++) {
        bool any = false;

        for (struct consumer *c = feed->consumers; c; c = c->next) {
            struct range range;
            struct slot *slot;

            if (ahead == 0) { /* also of one at the end of its job: feed_arm asks */
                c->had_untaken = consumer_held(c) < c->n_out;
                c->held_back = false;
            }
            if (!consumer_runs(c))
                continue;
            if (ahead == 0 || job_before(c->ahead, c->at)) /* it may have been moved to make room */
                c->ahead = c->at;
            if (c->held_back || job_over(c->job, c->ahead))
                continue;
            any = true;
            range = job_range(c->job, c->rank, c->ahead);
            c->ahead = next_ahead(c, &range, ahead);
            if (slot_find(feed, c->job->seed, &range)) {
                c->starved_ns = ahead ? c->starved_ns : 0;
                continue;
            }
            slot = obtain(feed, c, &range, ahead);
            if (slot && slot_begin(feed, slot, c->job, &range) == 0) {
                workers_post(feed->workers, feed, slot);
                c->starved_ns = ahead ? c->starved_ns : 0;
                continue;
            }
            feed->starving = true;
            if (ahead == 0)
                starve(c);
            else if (!c->held_back)
                return; /* nor is there one for what is wanted less urgently */
        }
        if (!any)
            return;
    }
}

/* The feed has failed (bad.c): every trainer is told the same sentence. */
static void tell_failure(struct feed *feed)
{
    char sentence[PF_FAILED_TEXT + PF_FEED_NAME + 64];
    bool failed;

    pthread_mutex_lock(&feed->lock);
    failed = feed->failed[0] != 0;
    snprintf(sentence, sizeof(sentence), "feed '%s' has failed: %s", feed->config->name, feed->failed);
    pthread_mutex_unlock(&feed->lock);
    if (!failed || feed->failed_told)
        return;
    feed->failed_told = true;
    log_error("%s", sentence);
    for (struct consumer *c = feed->consumers; c;) {
        struct consumer *next = c->next;

        if (c->state == CONSUMER_ATTACHED)
            consumer_drop(c, PF_CLOSED_FEED_FAILED, sentence);
        c = next;
    }
}

void feed_turn(struct feed *feed)
{
    feed->dirty = false;
    feed->due_ns = 0;
    tell_failure(feed);
    drain_all(feed);
    finish_slots(feed);
    start_jobs(feed);
    queue_turn(feed);
    grant_all(feed);
    fill_wanted(feed);
    park_turn(feed);
}

/* How many further returns of c are worth a wake-up: about half of what it could return without being granted more, so that a
 * trainer that goes through ready batches rings seldom; never more than it will return before it sleeps. */
static uint64_t wake_after(const struct consumer *c)
{
    return c->n_out > c->max_held + 1 ? (c->n_out - c->max_held) / 2 : 1;
}

bool feed_arm(struct feed *feed)
{
    uint32_t busy = 0;
    bool again = false;

    for (uint32_t s = 0; s < feed->n_slots; s++)
        busy += feed->slots[s].state == PF_SLOT_FILLING && slot_unclaimed(&feed->slots[s], slot_generation(&feed->slots[s])) > 0;
    for (struct consumer *c = feed->consumers; c; c = c->next) {
        bool full = c->n_out >= consumer_room(c); /* more is granted when it returns some */
        uint64_t wake_at = UINT64_MAX;

        if (c->state != CONSUMER_ATTACHED)
            continue;
        if (c->job->parked)
            wake_at = 0; /* whatever it does */
        else if (c->n_out > 0 && ((feed->starving && busy < 2) || full))
            wake_at = c->tail + wake_after(c);
        else if (c->n_out > 0 && c->job->terms.queue && (queue_ends(c->job) || job_over(c->job, c->at)))
            wake_at = c->tail + c->n_out; /* others wait for the end, or one who left has left a step for it */
        if (wake_at != c->wake_at) {
            c->wake_at = wake_at;
            pf_returns_arm(c->grants, wake_at);
        }
        if (wake_at == UINT64_MAX)
            continue;
        if (wake_at == 0) { /* it may have gone to sleep, or returned something, before it could see that it must ring */
            again |=
                pf_returns_tail(c->returns) != c->tail || (c->stalls && !c->rang && !c->asleep && pf_returns_waiting(c->returns));
            continue;
        }
        /* What it did before it could see that we sleep: returned enough, or took its last grant, so that rule 3 of slot_obtain.c may
         * help it now. */
        if (pf_returns_tail(c->returns) >= wake_at || (c->had_untaken && consumer_held(c) == c->n_out))
            again = true;
    }
    feed->dirty |= again;
    return again;
}

static void gang_why(const struct feed *feed, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "feed '%s' has gang: %lld, and %u ranks are there:", feed->config->name,
                                 (long long)feed->config->gang, gang_there(feed));

    for (const struct job *job = feed->jobs; job && at < size; job = job->next)
        if (job_of_gang(job))
            at += (size_t)snprintf(text + at, size - at, " %u of job '%s' (uid %u),", job_of_gang(job), job->name, job->uid);
    if (feed->gang_since_ns && at < size)
        snprintf(text + at, size - at, " and in %.0f s they start without the others",
                 (double)(feed->gang_since_ns + feed->config->gang_wait_ms * 1000000 - feed_now_ns()) / 1e9);
    else if (at < size)
        text[at - 1] = 0;
}

bool feed_reading(const struct feed *feed, char *where, size_t size, int64_t *for_ns)
{
    int64_t since_ns;
    uint64_t id;

    if (!feed->workers || !workers_reading(feed->workers, feed, &id, &since_ns))
        return false;
    *for_ns = feed_now_ns() - since_ns;
    if (*for_ns < READ_LONG_NS)
        return false;
    feed->config->source->where(feed->source, id, where, size);
    return true;
}

/* "; reading PATH takes 12.3 s so far", with the end of the path where it is long; "" where no read takes long. */
static void say_reading(const struct feed *feed, char *text, size_t size)
{
    char where[PATH_MAX];
    int64_t for_ns;
    size_t length;

    text[0] = 0;
    if (!feed_reading(feed, where, sizeof(where), &for_ns))
        return;
    length = strlen(where);
    snprintf(text, size, "; reading %s%.*s takes %.1f s so far", length > WHERE_SAID ? "..." : "", WHERE_SAID,
             length > WHERE_SAID ? where + length - WHERE_SAID : where, (double)for_ns / 1e9);
}

void feed_why(const struct feed *feed, const struct consumer *c, char *text, size_t size)
{
    const struct job *job = c->job;
    struct range range;
    char reading[WHERE_SAID + 64];
    size_t at;

    text[0] = 0;
    if (!job || job_over(job, c->at))
        return;
    if (!job->started && job->n_attached < job->n_local) {
        at = (size_t)snprintf(text, size, "job '%s' waits for rank", job->name);
        for (uint32_t r = 0; r < job->world && at < size; r++)
            if (job->local[r] && !job->ranks[r])
                at += (size_t)snprintf(text + at, size - at, " %u", r);
        if (at < size)
            snprintf(text + at, size - at, " of world %u", job->world);
        return;
    }
    if (job->parked) {
        snprintf(text, size, "job '%s' is parked: it stalled others; it goes on when it asks for a batch or gives one back",
                 job->name);
        return;
    }
    if (!job->started) {
        gang_why(feed, text, size);
        return;
    }
    if (consumer_held(c) < c->n_out)
        return; /* it has something to take */
    range = job_range(job, c->rank, c->at);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        const struct slot *slot = &feed->slots[s];

        if (slot->state == PF_SLOT_FILLING && slot->seed == job->seed && slot->epoch == range.epoch &&
            slot->index == range.index) {
            say_reading(feed, reading, sizeof(reading));
            snprintf(text, size, "slot %u is being filled: %u of %u rows are done%s", s,
                     slot->n_rows - __atomic_load_n(&slot->left, __ATOMIC_RELAXED), slot->n_rows, reading);
            return;
        }
    }
    at = (size_t)snprintf(text, size, "no slot is free: ");
    for (const struct job *o = feed->jobs; o && at < size; o = o->next)
        if (o->stalls)
            at += (size_t)snprintf(
                text + at, size - at,
                "job '%s' stalls, and there are too few slots to park it (%u groups of jobs at most, max_held + 2 "
                "slots each); ",
                o->name, GROUPS_APART);
    for (int holding = 1; holding >= 0; holding--) /* who holds something first: the text may not have room for all */
        for (const struct consumer *o = feed->consumers; o && at < size; o = o->next)
            if ((consumer_held(o) > 0) == holding && (o->n_out > 0 || (o->state == CONSUMER_ATTACHED && o->job->started)))
                at += (size_t)snprintf(text + at, size - at, "pid %ld (job '%s' rank %u) holds %u at epoch %llu step %llu; ",
                                       (long)o->pid, o->job_name, o->rank, consumer_held(o), (unsigned long long)o->at.epoch,
                                       (unsigned long long)o->at.step);
    if (at < size)
        snprintf(text + at, size - at, "see `pfeedctl slots`");
}
