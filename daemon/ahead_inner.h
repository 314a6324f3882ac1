/* SPDX-License-Identifier: MIT */
/* Between ahead.c and the two ways to read: ahead_uring.c and ahead_threads.c. */
#ifndef PFEED_AHEAD_INNER_H
#define PFEED_AHEAD_INNER_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>

#include "ahead.h"
#include "sample.h"
#include "source/source.h"

/*
 * FREE -> FLYING (ahead_next) -> DONE | FAILED (ahead_finish) -> LENT (a worker takes it) -> FREE. One that is not wanted any more
 * becomes FREE at once, or when it comes back. FAILED: the worker reads for itself, and learns by that why.
 */
enum ahead_state { AHEAD_FREE, AHEAD_FLYING, AHEAD_DONE, AHEAD_FAILED, AHEAD_LENT };

struct ahead_read {
    struct ahead *ahead;
    struct ahead_read *next; /* of the free ones */
    enum ahead_state state;
    bool unwanted;
    uint64_t number; /* of what it was for: grows when it is free again */
    pthread_cond_t landed;
    struct feed *feed;
    const struct slot *slot;
    uint32_t row, part;
    uint64_t id;
    struct source_place place;
    struct sample_value value;
    uint8_t *buffer, *larger; /* larger: to be taken up when it is free */
    uint64_t capacity, larger_capacity;
    int64_t begun_ns;
    /* ahead_uring.c's own. */
    int fd;
    bool slept, reading, looking; /* its file is open, and read; or looked at */
    struct statx *about;
    uint64_t used, turn;
};

struct ahead_way { /* to read */
    const char *name;
    uint32_t most;                                          /* reads at a time */
    uint64_t (*bytes)(uint32_t reads);                      /* that it takes itself */
    int (*start)(struct ahead *ahead, struct problem *why); /* threads that are not there yet, for ahead->n_reads */
    void (*wake)(struct ahead *ahead);                      /* with the lock: there may be something to read, or it shall end */
    void (*join)(struct ahead *ahead);                      /* when all have ended */
};

struct ahead {
    const struct ahead_way *way;
    char reason[160]; /* why it is not io_uring; "" where it is */
    int64_t given;    /* depth of the configuration, -1: auto */
    int event;
    uint32_t n_workers, n_reads;
    uint64_t buffer_bytes;
    void *own; /* the way's */
    struct ahead_read **reads;
    pthread_mutex_t lock; /* of all that follows, of what feeds and slots have for us, and of the reads */
    pthread_cond_t gone;  /* a read has become free */
    struct ahead_read *free;
    struct feed *feeds; /* that have rows to read; one that got a read goes to the end */
    uint32_t n_feeds;
    uint32_t n_threads; /* that run */
    bool stopping;
    sem_t ended; /* posted by each of them as its last act */
    struct ahead_change *changes;
    uint32_t n_changes;
};

/* With the lock: the next read to begin, now FLYING; NULL: there is none. */
struct ahead_read *ahead_next(struct ahead *ahead);
/* With the lock: it has come back. slept: somebody would have waited for it. */
void ahead_finish(struct ahead_read *read, bool fine, bool slept);
int ahead_thread(struct ahead *ahead, pthread_t *thread, void *(*run)(void *), void *argument, struct problem *why);

/* How many times the thread that asks has slept. */
static inline int64_t ahead_times_slept(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

extern const struct ahead_way ahead_threads;
/* NULL: not here, and a sentence why. */
const struct ahead_way *ahead_uring(uint32_t reads, char *reason, size_t size);

#endif
