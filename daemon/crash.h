/* SPDX-License-Identifier: MIT */
/*
 * Samples that crash the daemon. A worker notes in its own memory which sample it has in work; where a signal that tells of a bug
 * ends the daemon on that very thread (SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL), its handler copies the note into a small file of
 * the state folder, which is mapped: stores only. The next daemon reads it. A sample that was in work at CRASH_BAD crashes is bad.
 *
 * Nothing else counts anybody: whoever happens to be in work at kill -9, at a kill for memory, at a stop, when another thread
 * crashes or when somebody sends SIGABRT (as a watchdog does) is innocent, and to replace it would cost the purity of its rows.
 *
 * One file a process. crash_open and crash_close on the main thread, crash_judge on the one that opens feeds, the others on workers.
 * Where there is no state folder, or it cannot be used, nothing is remembered.
 */
#ifndef PFEED_CRASH_H
#define PFEED_CRASH_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

#define CRASH_BAD     2u
#define CRASH_SAMPLES 64u /* remembered, of all feeds */
#define CRASH_STACK   32768u

struct feed;

/* What a worker has in work; its own memory, all zeros first. */
struct crash_work {
    const struct feed *feed; /* NULL: nothing */
    uint64_t id;
    uint32_t worker;
    uint8_t stack[CRASH_STACK] __attribute__((aligned(16))); /* for the handler: the sample may have used up the thread's */
};

/* A sample that is taken as bad. */
struct crash_sample {
    uint64_t id;
    uint32_t count, signal;
};

void crash_open(const char *state); /* NULL: no folder */
void crash_close(void);
/* The samples of the feed, which is open, that are bad now; forgotten: none is any more (a rescan). */
void crash_judge(struct feed *feed, bool forgotten);

/* On its thread: at the beginning and at the end. */
void crash_watch(struct crash_work *work, uint32_t worker);
void crash_unwatch(struct crash_work *work);

static inline void crash_begin(struct crash_work *work, const struct feed *feed, uint64_t id)
{
    work->id = id;
    /* Only for the handler, on this thread: the id first. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    work->feed = feed;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void crash_end(struct crash_work *work)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    work->feed = NULL;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* 0, or -EBADMSG and why the sample is bad. Only of a feed that has such samples. */
int crash_check(const struct feed *feed, uint64_t id, struct problem *why);

#endif
