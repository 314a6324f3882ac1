/* SPDX-License-Identifier: MIT */
/* See ahead.h. The engine itself: which way it reads, its buffers, its threads, and what is said of it. Main thread, but for
 * ahead_make_room (chores) and what is called with the lock. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ahead_change.h"
#include "ahead_inner.h"
#include "feed.h"
#include "tune.h"

#define AUTO_MOST   64
#define BUDGET_PART 16 /* auto: of the budget at the most */
#define READ_PAST   64 /* bytes behind a buffer, for codecs that look a word ahead */
#define STACK       (256 << 10)
#define SAMPLED     512 /* samples of which the sizes are looked at */
#define FIT         95  /* of 100 of them fit into a buffer */

bool ahead_is_auto(const struct ahead *ahead)
{
    return ahead && ahead->given < 0;
}

/* ---- how much ------------------------------------------------------------------------------------------------------- */

static int compare(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

uint64_t ahead_sample_bytes(const struct feed *feed)
{
    const struct source_ops *source = feed->config->source;
    const uint64_t count = source->count(feed->source), step = count / SAMPLED + 1;
    uint64_t sizes[SAMPLED], most = 0;

    for (uint32_t f = 0; source->place && f < feed->n_fields; f++) {
        struct source_place place;
        uint32_t n = 0;

        for (uint64_t id = 0; id < count && n < SAMPLED; id += step)
            if (source->place(feed->source, id, feed->fields[f].part, &place))
                sizes[n++] = place.size;
        if (n == 0)
            continue;
        qsort(sizes, n, sizeof(*sizes), compare);
        most = sizes[(n - 1) * FIT / 100] > most ? sizes[(n - 1) * FIT / 100] : most;
    }
    return most ? feed_round_up(most + 1 + READ_PAST, PF_PAGE) - READ_PAST : 0;
}

uint64_t ahead_bytes(const struct ahead *ahead, uint32_t reads, uint64_t buffer_bytes)
{
    uint64_t own;

    if (!ahead || reads == 0)
        return 0;
    own = ahead->way->bytes(reads);
    if (ahead->n_threads == 0 && ahead_threads.bytes(reads) > own) /* until it runs it may fail, and threads read instead */
        own = ahead_threads.bytes(reads);
    return reads * (sizeof(struct ahead_read) + sizeof(struct statx) + sizeof(void *) + buffer_bytes + READ_PAST) + own;
}

uint64_t ahead_used(const struct ahead *ahead)
{
    return ahead ? ahead_bytes(ahead, ahead->n_reads, ahead->buffer_bytes) : 0;
}

void ahead_room(const struct ahead *ahead, uint32_t *reads, uint64_t *buffer_bytes)
{
    *reads = ahead ? ahead->n_reads : 0;
    *buffer_bytes = ahead ? ahead->buffer_bytes : 0;
}

uint32_t ahead_fit(const struct ahead *ahead, uint64_t buffer_bytes, uint64_t budget)
{
    uint32_t reads = ahead && ahead->given > 0 ? (uint32_t)ahead->given : AUTO_MOST;

    if (!ahead || buffer_bytes == 0)
        return 0;
    reads = reads < ahead->way->most ? reads : ahead->way->most;
    while (ahead_is_auto(ahead) && reads > 0 && ahead_bytes(ahead, reads, buffer_bytes) > budget / BUDGET_PART)
        reads--;
    return reads;
}

/* ---- buffers -------------------------------------------------------------------------------------------------------- */

static uint8_t *make_buffer(uint64_t bytes)
{
    const uint64_t whole = feed_round_up(bytes + READ_PAST, PF_PAGE);
    uint8_t *buffer = aligned_alloc(PF_PAGE, whole);

    if (buffer)
        memset(buffer, 0, whole); /* touched, so that nobody stops for a page later */
    return buffer;
}

void ahead_take_larger(struct ahead_read *read)
{
    if (!read->larger)
        return;
    free(read->buffer);
    read->buffer = read->larger;
    read->capacity = read->larger_capacity;
    read->larger = NULL;
}

static void destroy_read(struct ahead_read *read)
{
    if (!read)
        return;
    pthread_cond_destroy(&read->landed);
    free(read->buffer);
    free(read->larger);
    free(read->about);
    free(read);
}

static struct ahead_read *create_read(struct ahead *ahead, uint64_t bytes)
{
    struct ahead_read *read = calloc(1, sizeof(*read));
    pthread_condattr_t clock;

    if (!read)
        return NULL;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&read->landed, &clock);
    pthread_condattr_destroy(&clock);
    read->ahead = ahead;
    read->capacity = bytes;
    read->fd = -1;
    read->buffer = make_buffer(bytes);
    read->about = calloc(1, sizeof(*read->about));
    if (read->buffer && read->about)
        return read;
    destroy_read(read);
    return NULL;
}

/* Those that are there get larger buffers, which they take up when they are free. From the first one on all count as larger, also
 * where memory ends before the last, which then is left to the next time. */
static int enlarge(struct ahead *ahead, uint64_t bytes)
{
    for (uint32_t i = 0; i < ahead->n_reads; i++) {
        struct ahead_read *read = ahead->reads[i];
        uint8_t *buffer, *unused;
        bool fits;

        pthread_mutex_lock(&ahead->lock);
        fits = (read->larger ? read->larger_capacity : read->capacity) >= bytes;
        pthread_mutex_unlock(&ahead->lock);
        if (fits)
            continue;
        buffer = make_buffer(bytes);
        if (!buffer)
            return -ENOMEM;
        pthread_mutex_lock(&ahead->lock);
        ahead->buffer_bytes = bytes;
        unused = read->larger;
        read->larger = buffer;
        read->larger_capacity = bytes;
        if (read->state == AHEAD_FREE)
            ahead_take_larger(read);
        pthread_mutex_unlock(&ahead->lock);
        free(unused);
    }
    return 0;
}

static int add_reads(struct ahead *ahead, uint32_t reads, uint64_t bytes)
{
    for (uint32_t n = ahead->n_reads; n < reads; n++) {
        struct ahead_read *read = create_read(ahead, bytes);

        if (!read)
            return -ENOMEM;
        pthread_mutex_lock(&ahead->lock);
        ahead->buffer_bytes = bytes;
        ahead->reads[ahead->n_reads++] = read;
        read->next = ahead->free;
        ahead->free = read;
        pthread_mutex_unlock(&ahead->lock);
    }
    return 0;
}

int ahead_make_room(struct ahead *ahead, uint32_t reads, uint64_t buffer_bytes, struct problem *why)
{
    int rc;

    if (!ahead || reads == 0)
        return 0;
    rc = enlarge(ahead, buffer_bytes);
    if (rc == 0)
        rc = add_reads(ahead, reads, buffer_bytes);
    if (rc < 0)
        return problem_set(why, rc, "no memory for %u samples of up to %llu bytes to be read ahead; lower `daemon: read_ahead`",
                           reads, (unsigned long long)buffer_bytes);
    return 0;
}

/* ---- start and end -------------------------------------------------------------------------------------------------- */

int ahead_create(struct ahead **out, int64_t depth, int event, struct problem *why)
{
    struct ahead *ahead;

    *out = NULL;
    if (depth == 0)
        return 0;
    ahead = calloc(1, sizeof(*ahead));
    if (!ahead)
        return problem_set(why, -ENOMEM, "no memory for reading ahead");
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->gone, NULL);
    sem_init(&ahead->ended, 0, 0);
    ahead->given = depth;
    ahead->event = event;
    ahead->reads = calloc(AHEAD_MOST, sizeof(*ahead->reads));
    ahead->changes = calloc(AHEAD_CHANGES, sizeof(*ahead->changes));
    if (!ahead->reads || !ahead->changes) {
        ahead_destroy(ahead);
        return problem_set(why, -ENOMEM, "no memory for reading ahead");
    }
    ahead->way = ahead_uring(depth > 0 ? (uint32_t)depth : AUTO_MOST, ahead->reason, sizeof(ahead->reason));
    if (!ahead->way)
        ahead->way = &ahead_threads;
    *out = ahead;
    return 0;
}

int ahead_thread(struct ahead *ahead, pthread_t *thread, void *(*run)(void *), void *argument, struct problem *why)
{
    pthread_attr_t attributes;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    rc = -pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    if (rc < 0)
        return problem_set(why, rc, "cannot start a thread that reads ahead: %s", strerror(-rc));
    ahead->n_threads++;
    return 0;
}

/* What the probe had may be gone by now: then by threads. */
static int start_way(struct ahead *ahead, struct problem *why)
{
    int rc = ahead->way->start(ahead, why);

    if (rc == 0 || ahead->way == &ahead_threads)
        return rc;
    pthread_mutex_lock(&ahead->lock);
    ahead->way = &ahead_threads;
    snprintf(ahead->reason, sizeof(ahead->reason), "%.*s", (int)sizeof(ahead->reason) - 1, why->text);
    pthread_mutex_unlock(&ahead->lock);
    return ahead->way->start(ahead, why);
}

int ahead_start(struct ahead *ahead, uint32_t n_workers, struct problem *why)
{
    const uint32_t before = ahead ? ahead->n_threads : 0;
    char text[256];
    int rc;

    if (!ahead || ahead->n_reads == 0)
        return 0;
    pthread_mutex_lock(&ahead->lock);
    ahead->n_workers = n_workers;
    pthread_mutex_unlock(&ahead->lock);
    rc = start_way(ahead, why);
    if (rc == 0 && before == 0) {
        ahead_say(ahead, text, sizeof(text));
        log_info("reads: %s", text);
    }
    return rc;
}

bool ahead_stop(struct ahead *ahead, int limit_ms)
{
    struct timespec until;
    uint32_t left = ahead ? ahead->n_threads : 0;

    if (!ahead)
        return true;
    pthread_mutex_lock(&ahead->lock);
    ahead->stopping = true;
    for (uint32_t i = 0; i < ahead->n_reads; i++)
        pthread_cond_broadcast(&ahead->reads[i]->landed);
    if (left > 0)
        ahead->way->wake(ahead);
    pthread_mutex_unlock(&ahead->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_ms / 1000;
    until.tv_nsec += limit_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (left > 0)
        if (sem_clockwait(&ahead->ended, CLOCK_MONOTONIC, &until) == 0)
            left--;
        else if (errno != EINTR)
            return false;
    ahead->way->join(ahead);
    ahead->n_threads = 0;
    return true;
}

void ahead_destroy(struct ahead *ahead)
{
    if (!ahead)
        return;
    for (uint32_t i = 0; i < ahead->n_reads; i++)
        destroy_read(ahead->reads[i]);
    free(ahead->reads);
    free(ahead->changes);
    free(ahead->own);
    sem_destroy(&ahead->ended);
    pthread_cond_destroy(&ahead->gone);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead);
}

/* ---- what is said --------------------------------------------------------------------------------------------------- */

void ahead_say(struct ahead *ahead, char *text, size_t size)
{
    if (!ahead) {
        snprintf(text, size, "by the workers alone (read_ahead: 0)");
        return;
    }
    pthread_mutex_lock(&ahead->lock);
    if (ahead->n_reads == 0)
        snprintf(text, size, "by the workers alone (no feed reads files%s)",
                 ahead_is_auto(ahead) ? ", or the budget is too small" : "");
    else
        snprintf(text, size, "%s, %s%u samples ahead of at most %llu KiB each%s%s%s", ahead->way->name,
                 ahead_is_auto(ahead) ? "where reads wait up to " : "", ahead->n_reads,
                 (unsigned long long)(ahead->buffer_bytes >> 10), *ahead->reason ? " (no io_uring: " : "", ahead->reason,
                 *ahead->reason ? ")" : "");
    pthread_mutex_unlock(&ahead->lock);
}

void ahead_changes_add(struct ahead *ahead, struct feed *feed, uint32_t from, uint32_t to, const char *why)
{
    const uint64_t one = 1;
    ssize_t written;

    if (ahead->n_changes == AHEAD_CHANGES)
        memmove(ahead->changes, ahead->changes + 1, --ahead->n_changes * sizeof(*ahead->changes));
    ahead->changes[ahead->n_changes] = (struct ahead_change){ .feed = feed, .from = from, .to = to };
    snprintf(ahead->changes[ahead->n_changes++].why, AHEAD_WHY, "%s", why);
    written = write(ahead->event, &one, sizeof(one));
    assert(written == sizeof(one)); /* a counter that the main thread empties */
}

void ahead_changes_forget(struct ahead *ahead, const struct feed *feed)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < ahead->n_changes; i++)
        if (ahead->changes[i].feed != feed)
            ahead->changes[kept++] = ahead->changes[i];
    ahead->n_changes = kept;
}

/* Feeds are forgotten on this thread, too: the one of a change is there. */
void ahead_report(struct ahead *ahead)
{
    struct ahead_change change;
    bool any = ahead != NULL;

    while (any) {
        pthread_mutex_lock(&ahead->lock);
        any = ahead->n_changes > 0;
        if (any) {
            change = ahead->changes[0];
            memmove(ahead->changes, ahead->changes + 1, --ahead->n_changes * sizeof(*ahead->changes));
        }
        pthread_mutex_unlock(&ahead->lock);
        if (any)
            tune_note(change.feed, TUNE_READ_DEPTH, change.from, change.to, "%s", change.why);
    }
}
