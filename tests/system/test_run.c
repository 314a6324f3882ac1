/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 8, identity: a newer `run` of a job takes the place of the older one, whose ranks get -ESTALE and keep what they
 * hold until they end; an older one is refused; the same one finds its rank occupied; and a newer one that is refused for another
 * reason has changed nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define ROWS  64u
#define BATCH 8u
#define STEPS (ROWS / BATCH)

static struct daemon pfeedd;

struct shared {
    uint32_t holding, superseded, stop;
};
static struct shared *shared;

/* A rank of the old run: holds a batch, waits for more than it may have, is told, and still has the batch. */
static void be_old(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *held = must_next(pf), *batch;
    uint64_t hash = batch_hash(held);
    int rc = 0;

    word_add(&shared->holding, 1);
    while (rc == 0 || rc == PFEED_EPOCH || rc == -ETIMEDOUT) {
        rc = pfeed_next(pf, &batch, 50);
        if (rc == 0)
            must_done(pf, batch);
        CHECK(batch_hash(held) == hash, "what an old rank holds has changed");
    }
    CHECK(rc == -ESTALE, "pfeed_next said %d: %s", rc, pfeed_error(pf));
    CHECK(strstr(pfeed_error(pf), "run 2 of job 'j' has taken the place of run 1"), "the sentence is: %s", pfeed_error(pf));
    CHECK(pfeed_next(pf, &batch, -1) == -ESTALE, "-ESTALE is not said again");
    word_add(&shared->superseded, 1);
    word_await(&shared->stop, 1);
    CHECK(batch_hash(held) == hash, "what an old rank holds has changed");
    pfeed_close(pf);
}

/* Must not get in; the sentence has these words. */
static void expect_refusal(struct plan plan, int rc, const char *words)
{
    struct history *history = history_create(1, 1);

    plan.history = history;
    trainer_wait(trainer_start("refused", train, &plan));
    CHECK(history->open_rc == rc, "pfeed_open of run %llu: %d, not %d: %s", (unsigned long long)plan.run, history->open_rc, rc,
          history->sentence);
    CHECK(strstr(history->sentence, words), "the sentence does not say '%s': %s", words, history->sentence);
    history_destroy(history);
}

static void run_newer(const void *arg)
{
    struct plan plans[2], old = { .daemon = &pfeedd, .feed = "spine", .job = "j", .world = 2, .run = 1 }, new;
    struct trainer *olds[2], *news[2];

    shared = shared_memory(sizeof(*shared));
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 24\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    for (uint32_t i = 0; i < 2; i++) {
        plans[i] = old;
        plans[i].rank = i;
        olds[i] = trainer_start("old", be_old, &plans[i]);
    }
    word_await(&shared->holding, 2);
    expect_refusal(old, -EBUSY, "a new run a higher options.run");
    new = old;
    new.run = 0;
    expect_refusal(new, -ESTALE, "run 1 of job 'j' is there, newer than this rank's run 0");
    new.run = 2;
    new.batch = 3;
    expect_refusal(new, -EINVAL, "3");
    new.batch = 0;
    new.max_held = 30;
    expect_refusal(new, -ENOSPC, "slots");
    CHECK(word_get(&shared->superseded) == 0, "a run that was refused has ended the old one");
    new.max_held = 0;
    new.epochs = 3;
    for (uint32_t i = 0; i < 2; i++) {
        plans[i] = new;
        plans[i].rank = i;
        plans[i].history = history_create(3 * STEPS, 3 * ROWS);
        news[i] = trainer_start("new", train, &plans[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        trainer_wait(news[i]);
        history_check(plans[i].history, "new", 3, STEPS);
        history_destroy(plans[i].history);
    }
    word_await(&shared->superseded, 2);
    word_set(&shared->stop, 1);
    for (uint32_t i = 0; i < 2; i++)
        trainer_wait(olds[i]);
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    daemon_stop(&pfeedd);
}

/* It holds one batch, and has just given others back: what it holds is not taken for one of these. */
static void be_brisk(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *held, *batch;
    uint64_t hash;

    for (unsigned i = 0; i < 5; i++)
        must_done(pf, must_next(pf));
    held = must_next(pf);
    hash = batch_hash(held);
    word_add(&shared->holding, 1);
    word_await(&shared->stop, 1);
    CHECK(batch_hash(held) == hash, "what an old rank holds has changed");
    CHECK(pfeed_next(pf, &batch, 0) == -ENOBUFS, "more than max_held");
    pfeed_close(pf);
}

static void run_brisk(const void *arg)
{
    struct plan old = { .daemon = &pfeedd, .feed = "spine", .job = "j", .max_held = 1, .run = 1 }, new = old;
    struct trainer *brisk;

    shared = shared_memory(sizeof(*shared));
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 24\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    brisk = trainer_start("old", be_brisk, &old);
    word_await(&shared->holding, 1);
    new.run = 2;
    new.epochs = 6;
    new.history = history_create(6 * STEPS, 6 * ROWS);
    trainer_wait(trainer_start("new", train, &new)); /* twice through all slots */
    history_check(new.history, "new", 6, STEPS);
    history_destroy(new.history);
    word_set(&shared->stop, 1);
    trainer_wait(brisk);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { { "a newer run of a job", run_newer, NULL },
                                         { "what an old run holds", run_brisk, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
