/* SPDX-License-Identifier: MIT */
/* See chore.h. */
#include "chore.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct chores {
    struct loop *loop;
    struct watch watch;
    pthread_t thread;
    sem_t work, ended;    /* a chore was added, or stopping; the thread is about to end */
    pthread_mutex_t lock; /* of the lists */
    struct chore *waiting, **last, *finished;
    bool stopping;
};

static struct chore *next_chore(struct chores *chores)
{
    struct chore *chore;

    while (sem_wait(&chores->work) != 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&chores->lock);
    chore = chores->waiting; /* NULL: stopping */
    if (chore) {
        chores->waiting = chore->next;
        if (!chores->waiting)
            chores->last = &chores->waiting;
    }
    pthread_mutex_unlock(&chores->lock);
    return chore;
}

static void *run(void *argument)
{
    struct chores *chores = argument;
    struct chore *chore;

    while ((chore = next_chore(chores))) {
        const uint64_t one = 1;

        chore->run(chore);
        pthread_mutex_lock(&chores->lock);
        chore->next = chores->finished;
        chores->finished = chore;
        pthread_mutex_unlock(&chores->lock);
        if (write(chores->watch.fd, &one, sizeof(one)) != sizeof(one))
            abort(); /* a counter that the main thread empties cannot be full */
    }
    sem_post(&chores->ended);
    return NULL;
}

static void on_finished(struct watch *watch, uint32_t events)
{
    struct chores *chores = (struct chores *)((char *)watch - offsetof(struct chores, watch));
    struct chore *chore;
    uint64_t count;
    ssize_t got = read(watch->fd, &count, sizeof(count));

    (void)events;
    (void)got;
    pthread_mutex_lock(&chores->lock);
    chore = chores->finished;
    chores->finished = NULL;
    pthread_mutex_unlock(&chores->lock);
    while (chore) {
        struct chore *next = chore->next;

        chore->done(chore);
        chore = next;
    }
}

int chores_create(struct chores **out, struct loop *loop, struct problem *why)
{
    struct chores *chores = calloc(1, sizeof(*chores));
    int rc;

    if (!chores)
        return problem_set(why, -ENOMEM, "no memory for the thread of chores");
    chores->loop = loop;
    chores->last = &chores->waiting;
    chores->watch = (struct watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .call = on_finished };
    sem_init(&chores->work, 0, 0);
    sem_init(&chores->ended, 0, 0);
    pthread_mutex_init(&chores->lock, NULL);
    rc = chores->watch.fd < 0 ? -errno : loop_add(loop, &chores->watch, 0);
    if (rc == 0)
        rc = -pthread_create(&chores->thread, NULL, run, chores);
    if (rc < 0) {
        chores_destroy(chores);
        return problem_set(why, rc, "cannot start the thread of chores: %s", strerror(-rc));
    }
    *out = chores;
    return 0;
}

void chores_add(struct chores *chores, struct chore *chore)
{
    chore->next = NULL;
    pthread_mutex_lock(&chores->lock);
    *chores->last = chore;
    chores->last = &chore->next;
    pthread_mutex_unlock(&chores->lock);
    sem_post(&chores->work);
}

bool chores_stop(struct chores *chores, int limit_ms)
{
    struct timespec until;
    int rc;

    pthread_mutex_lock(&chores->lock);
    chores->stopping = true;
    pthread_mutex_unlock(&chores->lock);
    sem_post(&chores->work);
    limit_ms = limit_ms > 0 ? limit_ms : 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += limit_ms % 1000 * 1000000L;
    until.tv_sec += limit_ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    do
        rc = sem_clockwait(&chores->ended, CLOCK_MONOTONIC, &until);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        pthread_join(chores->thread, NULL);
    return rc == 0;
}

void chores_destroy(struct chores *chores)
{
    if (!chores)
        return;
    if (chores->watch.fd >= 0) {
        loop_remove(chores->loop, &chores->watch);
        close(chores->watch.fd);
    }
    sem_destroy(&chores->work);
    sem_destroy(&chores->ended);
    pthread_mutex_destroy(&chores->lock);
    free(chores);
}
