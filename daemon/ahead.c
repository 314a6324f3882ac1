/* SPDX-License-Identifier: MIT */
/*
 * See ahead.h. What is read next, and who gets it.
 *
 * Rows of slots that are being filled are claimed slot by slot, in the order in which their slots were posted, so that the next
 * ones are known: those behind the rows that are claimed already. As long as a feed has fewer than `depth` reads under way or
 * waiting, ahead_next gives the next of them to whoever reads (ahead_uring.c or ahead_threads.c), with a buffer of a pool that is
 * in the budget and was made and touched before READY. A worker that comes to the row takes the buffer (ahead_take), makes the row
 * out of it and gives it back.
 *
 * A worker never depends on it. Where nothing was read, what was read is no good (an error, a file that has changed, grown or is
 * short) or the sample is larger than a buffer, it reads by itself, as if there were no read ahead: so retries, errors and what is
 * said of them are the same ones, and so are the bytes. For a read that is still under way it waits, as that began earlier than its
 * own would; but no longer than PATIENCE reads take, or a second: then that read is left to itself, and the worker goes. Meanwhile
 * it shows as in a read, which is named, and counts as stuck, as ever (worker.c).
 *
 * A read that hangs keeps its buffer for as long. Of several feeds none gets more than three quarters of them, so that others still
 * run ahead. Where no read ahead is to be had at all, workers read by themselves.
 *
 * All of it is under one lock, held for some hundreds of instructions: by the main thread once a slot, by workers once a row and
 * only of feeds that are read ahead, and by those who read. A feed's order is looked at under the lock, and ahead_over is called
 * before the order is given back. When ahead_pass returns, nobody reads of the feed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ahead_change.h"
#include "ahead_inner.h"
#include "cache/fetch.h"
#include "feed.h"
#include "row.h"

#define PATIENCE_LEAST_NS INT64_C(1000000000)
#define PATIENCE          8 /* reads */
#define LOOK_EVERY        16
#define QUICK_NS          50000 /* what took less is not waiting, whoever slept: file systems that io_uring must ask a thread about */
#define SLOW_NS           200000 /* after a read that took longer the next one is looked at */

/* ---- fillings ------------------------------------------------------------------------------------------------------- */

static void unlink_feed(struct ahead *ahead, struct feed *feed)
{
    struct feed **link = &ahead->feeds;

    if (!feed->ahead.linked)
        return;
    while (*link != feed)
        link = &(*link)->ahead.next;
    *link = feed->ahead.next;
    feed->ahead.linked = false;
}

static void link_feed(struct ahead *ahead, struct feed *feed)
{
    struct feed **link = &ahead->feeds;

    while (*link)
        link = &(*link)->ahead.next;
    *link = feed;
    feed->ahead.next = NULL;
    feed->ahead.linked = true;
}

static void unlink_slot(struct feed *feed, struct slot *slot)
{
    struct slot **link = &feed->ahead.first, *before = NULL;

    if (!slot->ahead.linked)
        return;
    for (; *link != slot; link = &before->ahead.next)
        before = *link;
    *link = slot->ahead.next;
    if (feed->ahead.last == slot)
        feed->ahead.last = before;
    slot->ahead.linked = false;
    if (!feed->ahead.first)
        unlink_feed(feed->ahead.engine, feed);
}

/* A feed's first slot. */
static void join(struct ahead *ahead, struct feed *feed)
{
    feed->ahead.engine = ahead;
    ahead->n_feeds++;
    if (!ahead_is_auto(ahead))
        __atomic_store_n(&feed->ahead.depth, ahead->n_reads, __ATOMIC_RELAXED);
}

void ahead_post(struct ahead *ahead, struct feed *feed, struct slot *slot)
{
    if (!ahead || !feed->config->source->place)
        return;
    pthread_mutex_lock(&ahead->lock);
    if (!feed->ahead.engine)
        join(ahead, feed);
    slot->ahead = (struct ahead_slot){ .linked = true, .generation = slot_generation(slot) };
    *(feed->ahead.first ? &feed->ahead.last->ahead.next : &feed->ahead.first) = slot;
    feed->ahead.last = slot;
    if (!feed->ahead.linked)
        link_feed(ahead, feed);
    if (feed->ahead.depth > 0)
        ahead->way->wake(ahead);
    pthread_mutex_unlock(&ahead->lock);
}

/* ---- buffers -------------------------------------------------------------------------------------------------------- */

static void set_free(struct ahead_read *read)
{
    struct ahead *ahead = read->ahead;

    read->feed->ahead.held--;
    read->state = AHEAD_FREE;
    read->number++;
    read->feed = NULL;
    ahead_take_larger(read);
    read->next = ahead->free;
    ahead->free = read;
    pthread_cond_broadcast(&ahead->gone);
    ahead->way->wake(ahead);
}

static void drop(struct ahead_read *read)
{
    if (read->state == AHEAD_FLYING) {
        read->unwanted = true;
        pthread_cond_broadcast(&read->landed); /* who waits for it must not */
    } else if (read->state == AHEAD_DONE || read->state == AHEAD_FAILED)
        set_free(read);
}

void ahead_over(struct feed *feed, struct slot *slot)
{
    struct ahead *ahead = feed->ahead.engine;

    if (!ahead)
        return;
    pthread_mutex_lock(&ahead->lock);
    unlink_slot(feed, slot);
    for (uint32_t i = 0; i < ahead->n_reads && feed->ahead.held > 0; i++)
        if (ahead->reads[i]->feed == feed && ahead->reads[i]->slot == slot)
            drop(ahead->reads[i]);
    pthread_mutex_unlock(&ahead->lock);
}

void ahead_forget(struct feed *feed)
{
    struct ahead *ahead = feed->ahead.engine;

    if (!ahead)
        return;
    pthread_mutex_lock(&ahead->lock);
    while (feed->ahead.first)
        unlink_slot(feed, feed->ahead.first);
    for (uint32_t i = 0; i < ahead->n_reads; i++)
        if (ahead->reads[i]->feed == feed)
            drop(ahead->reads[i]);
    __atomic_store_n(&feed->ahead.depth, 0, __ATOMIC_RELAXED);
    feed->ahead.forgotten = true; /* reads that are still under way come back */
    ahead_changes_forget(ahead, feed);
    ahead->n_feeds--;
    pthread_mutex_unlock(&ahead->lock);
}

void ahead_pass(struct feed *feed)
{
    struct ahead *ahead = feed->ahead.engine;

    if (!ahead)
        return;
    pthread_mutex_lock(&ahead->lock);
    while (feed->ahead.held > 0)
        pthread_cond_wait(&ahead->gone, &ahead->lock);
    pthread_mutex_unlock(&ahead->lock);
}

/* ---- what is read next ---------------------------------------------------------------------------------------------- */

/* Whether an earlier field of the row reads the same part. */
static bool again(const struct feed *feed, uint32_t f)
{
    for (uint32_t e = 0; e < f; e++)
        if (feed->fields[e].part == feed->fields[f].part)
            return true;
    return false;
}

/* The feed's next part that lies in a file and fits, into read. */
static bool find_next(struct feed *feed, struct ahead_read *read)
{
    const struct source_ops *source = feed->config->source;

    while (feed->ahead.first) {
        struct slot *slot = feed->ahead.first;
        const uint32_t claimed = slot->n_rows - slot_unclaimed(slot, slot->ahead.generation);

        if (slot->ahead.row < claimed) {
            slot->ahead.row = claimed;
            slot->ahead.field = 0;
        }
        for (; slot->ahead.row < slot->n_rows; slot->ahead.row++, slot->ahead.field = 0) {
            uint32_t occurrence;

            read->row = slot->rows[slot->ahead.row];
            row_sample(feed, slot, read->row, &read->id, &occurrence);
            while (slot->ahead.field < feed->n_fields) {
                const uint32_t f = slot->ahead.field++;

                read->part = feed->fields[f].part;
                if (again(feed, f) || fetch_has(feed, f, read->id) ||
                    !source->place(feed->source, read->id, read->part, &read->place) || read->place.size == 0 ||
                    read->place.size > read->capacity)
                    continue;
                read->slot = slot;
                return true;
            }
        }
        unlink_slot(feed, slot);
    }
    return false;
}

/* Of several feeds none may have all. */
static uint32_t most_of(const struct ahead *ahead)
{
    return ahead->n_feeds > 1 ? ahead->n_reads - ahead->n_reads / 4 : ahead->n_reads;
}

struct ahead_read *ahead_next(struct ahead *ahead)
{
    struct ahead_read *read = ahead->free;
    struct feed *next;

    for (struct feed *feed = ahead->feeds; feed && read && !ahead->stopping; feed = next) {
        next = feed->ahead.next;
        if (feed->ahead.held >= feed->ahead.depth || feed->ahead.held >= most_of(ahead) || !find_next(feed, read))
            continue;
        unlink_feed(ahead, feed); /* others come first next time */
        link_feed(ahead, feed);
        ahead->free = read->next;
        feed->ahead.held++;
        feed->ahead.flying++;
        read->feed = feed;
        read->state = AHEAD_FLYING;
        read->unwanted = false;
        read->begun_ns = feed_now_ns();
        return read;
    }
    return NULL;
}

/* ---- how far ahead -------------------------------------------------------------------------------------------------- */

static void observe(struct feed *feed, uint64_t took_ns, bool slept)
{
    struct ahead_feed *mine = &feed->ahead;
    struct ahead *ahead = mine->engine;
    const uint64_t rows = FEED_GET(feed, rows_filled), work_ns = FEED_GET(feed, decode_ns);
    const uint32_t before = mine->depth;
    char why[AHEAD_WHY] = "";

    if (mine->forgotten) /* a change would outlive it */
        return;
    mine->window.reads++;
    mine->window.slept += slept && took_ns > QUICK_NS;
    mine->window.took_ns += took_ns;
    if (mine->window.reads < AHEAD_WINDOW)
        return;
    mine->window.rows = rows - mine->rows_before;
    mine->window.work_ns = work_ns - mine->work_before;
    const uint32_t depth =
        ahead_depth_next(&mine->tuner, &mine->window, ahead->n_workers, before, most_of(ahead), why, sizeof(why));
    mine->window = (struct ahead_window){ 0 };
    mine->rows_before = rows;
    mine->work_before = work_ns;
    if (!ahead_is_auto(ahead) || depth == before || ahead->n_reads == 0)
        return;
    __atomic_store_n(&mine->depth, depth, __ATOMIC_RELAXED);
    ahead_changes_add(ahead, feed, before, depth, why);
    if (depth > before)
        ahead->way->wake(ahead);
}

void ahead_finish(struct ahead_read *read, bool fine, bool slept)
{
    read->feed->ahead.flying--;
    read->state = fine ? AHEAD_DONE : AHEAD_FAILED;
    if (fine)
        observe(read->feed, (uint64_t)(feed_now_ns() - read->begun_ns), slept);
    if (read->unwanted)
        set_free(read);
    else
        pthread_cond_broadcast(&read->landed);
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

void ahead_watch(const struct feed *feed, struct ahead_sampler *sampler)
{
    sampler->now = feed->ahead.engine && sampler->left == 0;
    sampler->left -= sampler->left > 0;
    if (sampler->now)
        sampler->slept = ahead_times_slept();
}

void ahead_watched(struct feed *feed, struct ahead_sampler *sampler, int64_t took_ns)
{
    struct ahead *ahead = feed->ahead.engine;

    if (sampler->now) {
        const bool slept = ahead_times_slept() != sampler->slept;

        pthread_mutex_lock(&ahead->lock);
        observe(feed, (uint64_t)took_ns, slept);
        pthread_mutex_unlock(&ahead->lock);
        sampler->left = LOOK_EVERY - 1;
    }
    if (took_ns > SLOW_NS)
        sampler->left = 0;
}

static struct ahead_read *find(const struct ahead *ahead, const struct slot *slot, uint32_t row, uint64_t id, uint32_t part)
{
    for (uint32_t i = 0; i < ahead->n_reads; i++) {
        struct ahead_read *read = ahead->reads[i];

        if (read->feed && read->slot == slot && read->row == row && read->id == id && read->part == part && !read->unwanted &&
            read->state != AHEAD_LENT)
            return read;
    }
    return NULL;
}

/* Until it has come back. False: it takes too long, or is not wanted any more; it may be another one by then. */
static bool await(struct ahead *ahead, struct ahead_read *read)
{
    const uint64_t number = read->number;
    const int64_t usual_ns = (int64_t)read->feed->ahead.tuner.latency_ns * PATIENCE;
    const int64_t until_ns = feed_now_ns() + (usual_ns > PATIENCE_LEAST_NS ? usual_ns : PATIENCE_LEAST_NS);
    const struct timespec until = { until_ns / 1000000000, until_ns % 1000000000 };
    int rc = 0;

    while (read->number == number && read->state == AHEAD_FLYING && !read->unwanted && rc == 0 && !ahead->stopping)
        rc = pthread_cond_timedwait(&read->landed, &ahead->lock, &until);
    if (read->number != number || read->unwanted)
        return false;
    if (read->state == AHEAD_FLYING)
        drop(read);
    return !read->unwanted;
}

struct ahead_read *ahead_take(struct feed *feed, const struct slot *slot, uint32_t row, uint64_t id, uint32_t part,
                              struct sample_value *value)
{
    struct ahead *ahead = feed->ahead.engine;
    struct ahead_read *read;

    if (!ahead_is_on(&feed->ahead))
        return NULL;
    pthread_mutex_lock(&ahead->lock);
    read = find(ahead, slot, row, id, part);
    if (read && read->state == AHEAD_FLYING) {
        FEED_ADD(feed, reads_awaited, 1);
        if (!await(ahead, read))
            read = NULL;
    } else if (read && read->state == AHEAD_DONE) {
        FEED_ADD(feed, reads_ahead, 1);
    }
    if (read && read->state == AHEAD_FAILED) {
        drop(read);
        read = NULL;
    }
    if (read) {
        read->state = AHEAD_LENT;
        *value = read->value;
    }
    pthread_mutex_unlock(&ahead->lock);
    return read;
}

int64_t ahead_age_ns(const struct ahead_read *read)
{
    return feed_now_ns() - read->begun_ns;
}

void ahead_give_back(struct ahead_read *read)
{
    struct ahead *ahead = read ? read->ahead : NULL;

    if (!read)
        return;
    pthread_mutex_lock(&ahead->lock);
    set_free(read);
    pthread_mutex_unlock(&ahead->lock);
}
