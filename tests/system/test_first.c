/* SPDX-License-Identifier: MIT */
/*
 * deliver: first (DESIGN section 8): a work queue. Each step of each epoch goes to one of the job's processes, whoever asks; where one
 * ends with some of them, others get these again; one that stands still keeps only what it holds; all are told the end.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define ROWS   400u
#define BATCH  8u
#define STEPS  (ROWS / BATCH)
#define EPOCHS 3u
#define HELD   2u
#define CREW   4u

static struct daemon pfeedd;

struct shared {
    uint32_t waits, holds, go;      /* waits: the others begin when the holder holds all that it may */
    uint64_t given[EPOCHS * STEPS]; /* how often each step was returned */
    uint64_t steps[CREW];           /* by each */
};
static struct shared *shared;

static void start_daemon(void)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  queue:\n    source: { type: synthetic, rows: %u }\n"
             "    batch: 32\n    deliver: first\n    gang: %u\n    epochs: %u\n    max_held: %u\n    slots: 12\n"
             "    fields: { x: { dtype: float32, shape: [16] } }\n",
             ROWS, CREW, EPOCHS, HELD);
    shared = shared_memory(sizeof(*shared));
    daemon_start(&pfeedd, yaml);
}

static const struct plan plan = { .daemon = &pfeedd, .feed = "queue", .job = "crew", .batch = BATCH, .epochs = EPOCHS };

static void give(struct pfeed *pf, struct pfeed_batch *batch, unsigned me)
{
    const struct pfeed_info *info = pfeed_info(batch);

    __atomic_fetch_add(&shared->given[info->epoch * STEPS + info->step], 1, __ATOMIC_SEQ_CST);
    count_set(&shared->steps[me], shared->steps[me] + 1);
    must_done(pf, batch);
}

/* Until the end. */
static void work(struct pfeed *pf, unsigned me)
{
    struct pfeed_batch *batch;
    int rc;

    while ((rc = pfeed_next(pf, &batch, (int)(scaled_ns(30 * SECOND) / MS))) == 0 || rc == PFEED_EPOCH)
        if (batch)
            give(pf, batch, me);
    CHECK(rc == PFEED_END, "pfeed_next gives %d: %s", rc, pfeed_error(pf));
    pfeed_close(pf);
}

static void worker(void *arg)
{
    struct pfeed *pf = plan_open(&plan);

    if (word_get(&shared->waits))
        word_await(&shared->holds, 1);
    work(pf, (unsigned)(uintptr_t)arg);
}

/* Holds all that it may, until it is told to go on, or killed. */
static void holder(void *arg)
{
    struct pfeed *pf = plan_open(&plan);
    struct pfeed_batch *held[HELD];

    for (unsigned i = 0; i < HELD; i++)
        held[i] = must_next(pf);
    word_set(&shared->holds, 1);
    word_await(&shared->go, 1);
    for (unsigned i = 0; i < HELD; i++)
        give(pf, held[i], CREW - 1);
    work(pf, CREW - 1);
}

static void check_all(uint64_t most)
{
    uint64_t again = 0;

    for (unsigned k = 0; k < EPOCHS * STEPS; k++) {
        CHECK(shared->given[k] >= 1 && shared->given[k] <= most, "step %u was given %llu times", k,
              (unsigned long long)shared->given[k]);
        again += shared->given[k] - 1;
    }
    note("%llu steps were given twice", (unsigned long long)again);
}

enum how { ALL_WORK, ONE_STANDS, ONE_IS_KILLED, DAEMON_DIES };

static void run_crew(const void *arg)
{
    const enum how how = (enum how)(uintptr_t)arg;
    struct trainer *crew[CREW], *last;

    start_daemon();
    word_set(&shared->waits, how == ONE_STANDS || how == ONE_IS_KILLED);
    last = crew[CREW - 1] =
        trainer_start("last", how == ALL_WORK || how == DAEMON_DIES ? worker : holder, (void *)(uintptr_t)(CREW - 1));
    for (uintptr_t i = 0; i + 1 < CREW; i++)
        crew[i] = trainer_start("worker", worker, (void *)i);
    if (how == DAEMON_DIES) {
        UNTIL(count_get(&shared->steps[0]) + count_get(&shared->steps[1]) + count_get(&shared->steps[2]) +
                  count_get(&shared->steps[3]) >
              STEPS);
        daemon_kill(&pfeedd);
        daemon_again(&pfeedd);
    } else if (how != ALL_WORK) {
        word_await(&shared->holds, 1);
        /* The others do all the rest, also what it was granted and did not take, and wait for what it holds. */
        UNTIL(count_get(&shared->steps[0]) + count_get(&shared->steps[1]) + count_get(&shared->steps[2]) >=
              EPOCHS * STEPS - HELD);
    }
    if (how == ONE_IS_KILLED)
        trainer_kill(last);
    else
        word_set(&shared->go, 1);
    for (unsigned i = 0; i < CREW; i++)
        if (how != ONE_IS_KILLED || crew[i] != last)
            trainer_wait(crew[i]);
    check_all(how == DAEMON_DIES ? EPOCHS * STEPS : 1); /* at least once */
    UNTIL(feed_at_rest(&pfeedd, "queue"));
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "all work", run_crew, (void *)(uintptr_t)ALL_WORK },
        { "one stands", run_crew, (void *)(uintptr_t)ONE_STANDS },
        { "one is killed", run_crew, (void *)(uintptr_t)ONE_IS_KILLED },
        { "the daemon dies", run_crew, (void *)(uintptr_t)DAEMON_DIES },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
