/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 7: a slot is not written again until every grant on it was returned or its holder is dead. One
 * trainer holds as many batches as it may, for as long as the others need to go STEPS_APART further steps through the same few
 * slots, and hashes what it holds again and again. Nobody else may see a batch change between take and return either.
 */
#include <stdio.h>
#include <string.h>

#include "history.h"

#define OTHERS      2u
#define HELD        2u
#define ROUNDS      6u
#define STEPS_APART 400u

static struct daemon pfeedd;

struct shared {
    uint64_t steps[OTHERS]; /* of each of the others */
    uint64_t visits, rehashed;
    uint32_t stop, rounds;
};
static struct shared *shared;

/* Takes and returns until told to stop, hashing every batch twice. */
static void other(void *arg)
{
    const struct plan *plan = arg;
    uint64_t *steps = &shared->steps[plan->rank];
    struct pfeed *pf = plan_open(plan);

    while (!word_get(&shared->stop)) {
        struct pfeed_batch *batch = must_next(pf);
        uint64_t before = batch_hash(batch), after = batch_hash(batch);

        CHECK(before == after, "a batch changed between take and return after %llu steps", (unsigned long long)count_get(steps));
        must_done(pf, batch);
        count_set(steps, count_get(steps) + 1);
    }
    pfeed_close(pf);
}

/* Comes and goes, which makes the daemon look for slots that nobody needs any more. */
static void visitor(void *arg)
{
    while (!word_get(&shared->stop)) {
        struct pfeed *pf = plan_open(arg);
        struct pfeed_batch *batch = must_next(pf);
        uint64_t before = batch_hash(batch), after = batch_hash(batch);

        CHECK(before == after, "a visitor's batch changed between take and return");
        count_set(&shared->visits, count_get(&shared->visits) + 1);
        if (count_get(&shared->visits) % 2)
            must_done(pf, batch);
        pfeed_close(pf);
    }
}

static uint64_t least_steps(void)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < OTHERS; i++)
        if (count_get(&shared->steps[i]) < least)
            least = count_get(&shared->steps[i]);
    return least;
}

static void hold_round(struct pfeed *pf)
{
    struct pfeed_batch *held[HELD];
    uint64_t hashes[HELD], from;

    for (unsigned i = 0; i < HELD; i++) {
        held[i] = must_next(pf);
        hashes[i] = batch_hash(held[i]);
    }
    from = least_steps();
    UNTIL(least_steps() >= from + STEPS_APART)
    {
        for (unsigned i = 0; i < HELD; i++, shared->rehashed++)
            CHECK(batch_hash(held[i]) == hashes[i], "a held batch changed after %llu steps of the others",
                  (unsigned long long)(least_steps() - from));
    }
    for (unsigned i = HELD; i-- > 0;) { /* not in the order of taking */
        CHECK(batch_hash(held[i]) == hashes[i], "a held batch had changed when it was returned");
        must_done(pf, held[i]);
    }
}

static void holder(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    for (unsigned round = 0; round < ROUNDS; round++) {
        hold_round(pf);
        word_set(&shared->rounds, round + 1);
    }
    pfeed_close(pf);
}

static void run_holder(const struct plan *holds)
{
    struct plan others[OTHERS], plan = *holds;
    struct plan visits = { .daemon = &pfeedd, .feed = "few", .max_held = 1 };
    struct trainer *trainers[OTHERS], *holding, *visiting;

    shared = shared_memory(sizeof(*shared));
    /* Three groups at different places: max_held + 2 slots for each, the least that is served. */
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  few:\n"
                          "    source: { type: synthetic, rows: 300 }\n    shuffle: { mode: global, seed: 3 }\n    batch: 4\n"
                          "    max_held: 2\n    slots: 12\n    fields: { x: { dtype: float32, shape: [500] } }\n");
    plan.daemon = &pfeedd;
    holding = trainer_start("holder", holder, &plan);
    for (unsigned i = 0; i < OTHERS; i++) {
        others[i] = (struct plan){ .daemon = &pfeedd, .feed = "few", .job = "others", .rank = i, .world = OTHERS, .max_held = 1 };
        trainers[i] = trainer_start("other", other, &others[i]);
    }
    visiting = trainer_start("visitor", visitor, &visits);
    trainer_wait(holding);
    word_set(&shared->stop, 1);
    trainer_wait(visiting);
    for (unsigned i = 0; i < OTHERS; i++)
        trainer_wait(trainers[i]);
    UNTIL(feed_at_rest(&pfeedd, "few"));
    note("%u rounds, others went %llu steps, %llu visits, held batches were hashed %llu times", word_get(&shared->rounds),
         (unsigned long long)least_steps(), (unsigned long long)shared->visits, (unsigned long long)shared->rehashed);
    daemon_stop(&pfeedd);
}

/* It has an order of its own, and blocks only its own slots. */
static void run_apart(const void *arg)
{
    run_holder(&(const struct plan){ .feed = "few", .max_held = HELD, .seed = 77 });
}

/* It wants the same slots, and is passed over while it holds. */
static void run_skipped(const void *arg)
{
    run_holder(&(const struct plan){ .feed = "few", .max_held = HELD, .slow = "skip" });
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "holder with an order of its own", run_apart, NULL },
                                  { "holder that is skipped", run_skipped, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
