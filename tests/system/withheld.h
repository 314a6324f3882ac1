/* SPDX-License-Identifier: MIT */
/*
 * What a busy machine withholds from processes that could run: for tests that hold something to a bound in real time. Taken from
 * the kernel's own books: how long a thread stood in a run queue (/proc/PID/task/TID/schedstat, the second number), and how long
 * the hypervisor ran something else (steal in /proc/stat). Time in which a thread runs, sleeps or waits for a lock, a page or a
 * disk is not among it: that is its own.
 */
#ifndef WITHHELD_H
#define WITHHELD_H

#include "harness.h"

#define WITHHELD_THREADS 32u

struct withheld {
    unsigned n;
    struct {
        pid_t pid, tid;
        int64_t before_ns;
    } threads[WITHHELD_THREADS];
    int64_t stolen_ns;
};

/* From now on, of these processes. A list that ends with 0. */
void withheld_start(struct withheld *withheld, const pid_t *pids);
/* As well, of a process that has begun since then: from its beginning. */
void withheld_born(struct withheld *withheld, pid_t pid);
/* Until now: of each process its main thread and the one other thread that stood longest, summed as if they had stood one after
 * another, and what was stolen. */
int64_t withheld_ns(const struct withheld *withheld);

#endif
