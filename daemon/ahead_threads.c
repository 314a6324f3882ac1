/* SPDX-License-Identifier: MIT */
/* Reading ahead by threads, one a read, that call the source as workers do: where io_uring is not to be had. See ahead.c. */
#include <stdlib.h>
#include <string.h>

#include "ahead_inner.h"
#include "feed.h"

#define MOST        256
#define STACK_BYTES 24576 /* of a stack that is touched, and of the kernel's */

struct threads {
    uint32_t n;
    pthread_cond_t work;
    pthread_t threads[MOST];
};

static void *run(void *argument)
{
    struct ahead *ahead = argument;
    struct threads *own = ahead->own;

    pthread_mutex_lock(&ahead->lock);
    while (!ahead->stopping) {
        struct ahead_read *read = ahead_next(ahead);
        const struct feed *feed = read ? read->feed : NULL;
        struct problem why;
        int64_t slept;
        int rc;

        if (!read) {
            pthread_cond_wait(&own->work, &ahead->lock);
            continue;
        }
        pthread_mutex_unlock(&ahead->lock);
        slept = ahead_times_slept();
        rc = feed->config->source->read(feed->source, read->id, read->part, read->buffer, read->capacity, &read->value, &why);
        slept = ahead_times_slept() - slept;
        pthread_mutex_lock(&ahead->lock);
        ahead_finish(read, rc >= 0, slept != 0);
    }
    pthread_mutex_unlock(&ahead->lock);
    sem_post(&ahead->ended);
    return NULL;
}

static int start(struct ahead *ahead, struct problem *why)
{
    struct threads *own = ahead->own;
    int rc = 0;

    if (!own) {
        own = calloc(1, sizeof(*own));
        if (!own)
            return problem_set(why, -ENOMEM, "no memory for threads that read ahead");
        pthread_cond_init(&own->work, NULL);
        pthread_mutex_lock(&ahead->lock); /* slots may be posted already */
        ahead->own = own;
        pthread_mutex_unlock(&ahead->lock);
    }
    while (own->n < ahead->n_reads && own->n < MOST && rc == 0)
        if ((rc = ahead_thread(ahead, &own->threads[own->n], run, ahead, why)) == 0)
            own->n++;
    return rc;
}

static void wake(struct ahead *ahead)
{
    struct threads *own = ahead->own;

    if (own)
        pthread_cond_broadcast(&own->work);
}

static void join(struct ahead *ahead)
{
    struct threads *own = ahead->own;

    for (uint32_t i = 0; own && i < own->n; i++)
        pthread_join(own->threads[i], NULL);
}

static uint64_t bytes(uint32_t reads)
{
    return sizeof(struct threads) + (uint64_t)(reads < MOST ? reads : MOST) * STACK_BYTES;
}

const struct ahead_way ahead_threads = {
    .name = "threads", .most = MOST, .bytes = bytes, .start = start, .wake = wake, .join = join
};
