/* SPDX-License-Identifier: MIT */
/*
 * Promise 6, `slow: park`: a trainer that stands at a breakpoint (SIGSTOP) does not hold up another user's run for longer than
 * park_after; it keeps what it holds, finds every sample of its own when it goes on, and shares slots again where it stands at the
 * same place. Where slots do not suffice to fill apart for it, the others wait, and are told so.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define ROWS   256u
#define BATCH  8u
#define STEPS  (ROWS / BATCH)
#define HELD   2u
#define OTHERS 2u

static struct daemon pfeedd;

struct shared {
    uint32_t ready, go, stop, again, told;
    uint64_t steps[OTHERS]; /* of those who go on */
    uint64_t own, mates;    /* of the one that is stopped, and of the other rank of its job */
    char sentence[1024];
};
static struct shared *shared;

static void start_daemon(unsigned slots, const char *after, unsigned gang)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: %u }\n"
             "    shuffle: { mode: global, seed: 5 }\n    batch: %u\n    gang: %u\n    max_held: %u\n    slots: %u\n    "
             "park_after: %s\n"
             "    fields: { x: { dtype: float32, shape: [256] } }\n",
             ROWS, BATCH, gang, HELD, slots, after);
    shared = shared_memory(sizeof(*shared));
    daemon_start(&pfeedd, yaml);
}

static void check_place(const struct pfeed_batch *batch, uint64_t k)
{
    CHECK(pfeed_info(batch)->epoch == k / STEPS && pfeed_info(batch)->step == k % STEPS, "batch %llu is epoch %llu step %llu",
          (unsigned long long)k, (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step);
}

/* Takes what it is given, in order, until the end. */
static void follow(struct pfeed *pf, uint64_t k, uint64_t *count)
{
    while (!word_get(&shared->stop)) {
        struct pfeed_batch *batch = NULL;
        int rc = pfeed_next(pf, &batch, 200);

        CHECK(rc == 0 || rc == PFEED_EPOCH || rc == -ETIMEDOUT, "pfeed_next gives %d: %s", rc, pfeed_error(pf));
        if (!batch)
            continue;
        check_place(batch, k++);
        must_done(pf, batch);
        count_set(count, k);
    }
    pfeed_close(pf);
}

/* The other rank of the job that stands: it asks all the time. */
static void mate(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "stands", .rank = 1, .world = 2 };

    follow(plan_open(&plan), 0, &shared->mates);
}

/* Goes on, whatever the other does, and misses nothing. */
static void goes_on(void *arg)
{
    const unsigned me = (unsigned)(uintptr_t)arg;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = me ? "second" : "first" };
    struct pfeed *pf = plan_open(&plan);

    for (uint64_t k = 0; !word_get(&shared->stop);) {
        struct pfeed_batch *batch = NULL;
        int rc = pfeed_next(pf, &batch, 200);

        CHECK(rc == 0 || rc == PFEED_EPOCH || rc == -ETIMEDOUT, "pfeed_next gives %d: %s", rc, pfeed_error(pf));
        if (rc == -ETIMEDOUT && strstr(pfeed_error(pf), "too few slots to park it") && !word_get(&shared->told)) {
            snprintf(shared->sentence, sizeof(shared->sentence), "%s", pfeed_error(pf));
            word_set(&shared->told, 1);
        }
        if (!batch)
            continue;
        check_place(batch, k);
        must_done(pf, batch);
        count_set(&shared->steps[me], ++k);
    }
    pfeed_close(pf);
}

#define MATES 256u

/* arg: how many batches it holds while it stands, and MATES where it is one of two. Before that it has run for half an epoch with the
 * others. */
static void stands(void *arg)
{
    const unsigned holds = (unsigned)(uintptr_t)arg % MATES;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "stands", .world = (uintptr_t)arg >= MATES ? 2 : 1 };
    struct pfeed *pf = plan_open(&plan);
    struct pfeed_batch *held[HELD];
    uint64_t hashes[HELD], k = 0;

    for (; k < STEPS / 2; k++) {
        struct pfeed_batch *batch = must_next(pf);

        check_place(batch, k);
        must_done(pf, batch);
    }
    for (unsigned i = 0; i < holds; i++) {
        held[i] = must_next(pf);
        check_place(held[i], k++);
        hashes[i] = batch_hash(held[i]);
    }
    word_set(&shared->ready, 1);
    word_await(&shared->go, 1); /* the stop comes here */
    for (unsigned i = 0; i < holds; i++) {
        CHECK(batch_hash(held[i]) == hashes[i], "a held batch changed while its holder stood");
        must_done(pf, held[i]);
    }
    follow(pf, k, &shared->own);
}

static struct pf_row_job job_row(const char *name)
{
    struct pf_row_job rows[8];
    size_t n = stat_jobs(&pfeedd, "spine", rows, 8);

    for (size_t i = 0; i < n && i < 8; i++)
        if (strcmp(rows[i].job, name) == 0)
            return rows[i];
    FAIL("the daemon shows no job '%s'", name);
}

static bool in_state(const char *job, const char *state)
{
    return strcmp(job_row(job).state, state) == 0;
}

static void start_all(struct trainer *others[OTHERS], struct trainer **one, unsigned holds)
{
    *one = trainer_start("stands", stands, (void *)(uintptr_t)holds);
    for (uintptr_t i = 0; i < OTHERS; i++)
        others[i] = trainer_start("goes on", goes_on, (void *)i);
    word_await(&shared->ready, 1);
    trainer_stop(*one);
}

static void end_all(struct trainer *others[OTHERS], struct trainer *one)
{
    word_set(&shared->stop, 1);
    for (unsigned i = 0; i < OTHERS; i++)
        trainer_wait(others[i]);
    trainer_wait(one);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

/* arg: how many batches it holds. Twice, as one that was parked before may be parked again. */
static void run_parked(const void *arg)
{
    const unsigned holds = (unsigned)(uintptr_t)arg;
    struct trainer *others[OTHERS], *one;
    struct pf_row_job row;
    uint64_t own;

    start_daemon(2 * (HELD + 2), "300ms", OTHERS + 1); /* max_held + 2 for each of two places */
    start_all(others, &one, holds);
    UNTIL(in_state("stands", "parked"));
    for (unsigned i = 0; i < OTHERS; i++) {
        uint64_t steps = count_get(&shared->steps[i]);

        UNTIL(count_get(&shared->steps[i]) > steps + 20 * STEPS); /* for ever, if need be */
    }
    row = job_row("stands");
    CHECK(row.epoch == 0 && row.step == STEPS / 2 + holds, "it is parked at epoch %llu step %llu", (unsigned long long)row.epoch,
          (unsigned long long)row.step);
    CHECK(strstr(job_row("first").shares, "second") && !strstr(job_row("first").shares, "stands"), "first shares with '%s'",
          job_row("first").shares);
    CHECK(feed_now(&pfeedd, "spine").jobs_parked == 1, "it was parked %llu times",
          (unsigned long long)feed_now(&pfeedd, "spine").jobs_parked);
    word_set(&shared->go, 1);
    trainer_continue(one);
    UNTIL(count_get(&shared->own) > 4 * STEPS); /* all in order, or `stands` fails */
    own = count_get(&shared->own);
    trainer_stop(one); /* far behind the others, which do not need its slots */
    for (unsigned i = 0; i < OTHERS; i++) {
        uint64_t steps = count_get(&shared->steps[i]);

        UNTIL(count_get(&shared->steps[i]) > steps + 10 * STEPS);
    }
    trainer_continue(one);
    UNTIL(count_get(&shared->own) > own + STEPS);
    end_all(others, one);
}

/* There are slots for one place only. */
static void run_too_few(const void *arg)
{
    struct trainer *others[OTHERS], *one;
    uint64_t steps;

    start_daemon(HELD + 2, "100ms", OTHERS + 1);
    start_all(others, &one, HELD);
    word_await(&shared->told, 1);
    CHECK(in_state("stands", "stalling"), "it is %s", job_row("stands").state);
    CHECK(feed_now(&pfeedd, "spine").jobs_parked == 0, "it was parked");
    note("told: %s", shared->sentence);
    word_set(&shared->go, 1);
    trainer_continue(one);
    steps = count_get(&shared->steps[0]);
    UNTIL(count_get(&shared->steps[0]) > steps + 2 * STEPS && count_get(&shared->own) > STEPS);
    end_all(others, one);
}

/* One of two ranks stands; the other waits for slots, and asks for them all the time: that is no reason to go on. */
static void run_mates(const void *arg)
{
    struct trainer *others[OTHERS], *one, *two;
    uint64_t mates;

    start_daemon(2 * (HELD + 2), "300ms", OTHERS + 2);
    two = trainer_start("mate", mate, NULL);
    start_all(others, &one, HELD + MATES);
    UNTIL(in_state("stands", "parked"));
    for (unsigned i = 0; i < OTHERS; i++) {
        uint64_t steps = count_get(&shared->steps[i]);

        UNTIL(count_get(&shared->steps[i]) > steps + 50 * STEPS);
    }
    CHECK(feed_now(&pfeedd, "spine").jobs_parked == 1, "it was parked %llu times",
          (unsigned long long)feed_now(&pfeedd, "spine").jobs_parked);
    mates = count_get(&shared->mates);
    word_set(&shared->go, 1);
    trainer_continue(one);
    UNTIL(count_get(&shared->own) > 4 * STEPS && count_get(&shared->mates) > mates + 2 * STEPS);
    word_set(&shared->stop, 1);
    trainer_wait(two);
    end_all(others, one);
}

static void stops_later(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "second", .max_held = HELD };
    struct pfeed *pf = plan_open(&plan);

    for (uint64_t k = 0; k < 3 * STEPS; k++)
        must_done(pf, must_next(pf));
    must_next(pf);
    word_set(&shared->again, 1);
    for (;;)
        pause();
}

/* Slots would do for three places, but no more than two are filled apart: the third job is waited for. */
static void run_third(const void *arg)
{
    struct trainer *goes, *one, *later;

    start_daemon(3 * (HELD + 2), "200ms", OTHERS + 1);
    one = trainer_start("stands", stands, (void *)(uintptr_t)HELD);
    goes = trainer_start("goes on", goes_on, (void *)(uintptr_t)0);
    later = trainer_start("stops later", stops_later, NULL);
    word_await(&shared->ready, 1);
    trainer_stop(one);
    word_await(&shared->again, 1); /* so far it came only because the first one was parked */
    UNTIL(in_state("second", "stalling"));
    word_set(&shared->told, 0);
    word_await(&shared->told, 1);
    CHECK(in_state("stands", "parked") && in_state("second", "stalling") && feed_now(&pfeedd, "spine").jobs_parked == 1,
          "the second one is %s", job_row("second").state);
    trainer_kill(later);
    word_set(&shared->go, 1);
    trainer_continue(one);
    UNTIL(count_get(&shared->own) > STEPS);
    word_set(&shared->stop, 1);
    trainer_wait(goes);
    trainer_wait(one);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

/* As long as its patience lasts, the others wait: they do not run away. */
static void run_patient(const void *arg)
{
    struct trainer *others[OTHERS], *one;

    start_daemon(2 * (HELD + 2), "1h", OTHERS + 1);
    start_all(others, &one, HELD);
    for (unsigned i = 0; i < OTHERS; i++)
        UNTIL(count_get(&shared->steps[i]) > STEPS / 2);
    for (unsigned i = 0; i < OTHERS; i++)
        CHECK(count_get(&shared->steps[i]) <= STEPS / 2 + HELD + 2 * (HELD + 2), "another has taken %llu steps",
              (unsigned long long)shared->steps[i]);
    CHECK(in_state("stands", "running") && feed_now(&pfeedd, "spine").jobs_parked == 0, "it is %s", job_row("stands").state);
    word_set(&shared->go, 1);
    trainer_continue(one);
    UNTIL(count_get(&shared->own) > 2 * STEPS && count_get(&shared->steps[0]) > 2 * STEPS);
    CHECK(feed_now(&pfeedd, "spine").jobs_parked == 0, "it was parked");
    end_all(others, one);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "parked with batches held", run_parked, (void *)(uintptr_t)HELD },
        { "parked with nothing held", run_parked, (void *)(uintptr_t)0 },
        { "too few slots to park it", run_too_few, NULL },
        { "not before its time", run_patient, NULL },
        { "one of two ranks", run_mates, NULL },
        { "a third place", run_third, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
