/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 6 ("held and granted") and promise 6: what a trainer can and cannot do to others by holding batches. One that
 * holds max_held and asks for more gets -ENOBUFS with a sentence, never a hang; one that is stopped (SIGSTOP) pins only what it
 * holds, and finds that unchanged when it goes on; with `slow: skip` it then has missed steps, all of them counted. Under
 * `slow: block` those of its own group stop when the slots run out, are told who holds what, and miss nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define ROWS  256u
#define BATCH 8u
#define STEPS (ROWS / BATCH)
#define HELD  2u

static struct daemon pfeedd;

static void start_daemon(unsigned gang, unsigned delay_us)
{
    char yaml[512];

    /* Two places, max_held + 2 slots for each: just enough. */
    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: %u, "
        "delay_us: %u }\n"
        "    shuffle: { mode: global, seed: 5 }\n    batch: %u\n    gang: %u\n    max_held: %u\n    slots: 8\n    slow: block\n"
        "    fields: { x: { dtype: float32, shape: [256] } }\n",
        ROWS, delay_us, BATCH, gang, HELD);
    daemon_start(&pfeedd, yaml);
}

/* ---- -ENOBUFS ------------------------------------------------------------------------------------------------------- */

static void greedy(void *arg)
{
    const struct plan *plan = arg;
    struct pfeed *pf = plan_open(plan);
    struct pfeed_batch *held[16], *more = NULL;
    uint32_t limit = plan->max_held ? plan->max_held : HELD;
    int rc;

    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < limit; i++)
            held[i] = must_next(pf);
        for (int timeout_ms = -1; timeout_ms <= 1; timeout_ms++) { /* at once, whatever the time-out (the alarm guards -1) */
            rc = pfeed_next(pf, &more, timeout_ms);
            CHECK(rc == -ENOBUFS && !more, "%u batches held, pfeed_next(%d) gives %d", limit, timeout_ms, rc);
            CHECK(strstr(pfeed_error(pf), "held") && strlen(pfeed_error(pf)) > 20, "the sentence is '%s'", pfeed_error(pf));
        }
        must_done(pf, held[0]); /* a failing call has changed nothing: one back, one more */
        CHECK(pfeed_done(pf, held[0]) == -EINVAL, "a batch can be given back twice");
        held[0] = must_next(pf);
        CHECK(pfeed_info(held[0])->step == (uint64_t)round * (limit + 1) + limit, "step %llu after -ENOBUFS",
              (unsigned long long)pfeed_info(held[0])->step);
        for (uint32_t i = 0; i < limit; i++)
            must_done(pf, held[i]);
    }
    pfeed_close(pf);
}

static void run_greedy(const void *arg)
{
    struct plan plans[] = { { .daemon = &pfeedd, .feed = "spine" }, { .daemon = &pfeedd, .feed = "spine", .max_held = 1 } };

    start_daemon(1, 0);
    for (unsigned i = 0; i < 2; i++)
        trainer_wait(trainer_start("greedy", greedy, &plans[i]));
    daemon_stop(&pfeedd);
}

/* Its end gives back what it held. */
static void leaver(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    must_next(pf);
    must_next(pf);
    pfeed_close(pf);
}

static void run_leaver(const void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine" };

    start_daemon(1, 0);
    for (unsigned i = 0; i < 20; i++)
        trainer_wait(trainer_start("leaver", leaver, &plan));
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

/* ---- one that sits -------------------------------------------------------------------------------------------------- */

#define SITTERS 60u

struct crowd {
    uint32_t stop, held;
    uint64_t steps[2]; /* of the two that go on */
};
static struct crowd *crowd;

static void goes_on(void *arg)
{
    const struct plan *plan = arg;
    uint64_t *steps = &crowd->steps[strcmp(plan->job, "second") == 0];
    struct pfeed *pf = plan_open(plan);

    while (!word_get(&crowd->stop)) {
        must_done(pf, must_next(pf));
        count_set(steps, count_get(steps) + 1);
    }
    pfeed_close(pf);
}

static void sits(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    for (unsigned i = 0; i < HELD; i++)
        must_next(pf);
    word_set(&crowd->held, 1);
    for (;;)
        pause();
}

/* Two jobs beside each other, whose slots are being filled while a third one comes, takes what it may and sits on it: whatever
 * slots it got, the two go on, as they have max_held + 2 without it. */
static void run_sitters(const void *arg)
{
    struct plan two[] = { { .daemon = &pfeedd, .feed = "spine", .job = "first", .max_held = 1 },
                          { .daemon = &pfeedd, .feed = "spine", .job = "second", .max_held = 1 } };
    struct plan third = { .daemon = &pfeedd, .feed = "spine", .seed = 3 };
    struct trainer *trainers[2], *sitter;
    uint64_t from[2];

    crowd = shared_memory(sizeof(*crowd));
    start_daemon(2, 50);
    for (unsigned i = 0; i < 2; i++)
        trainers[i] = trainer_start(two[i].job, goes_on, &two[i]);
    for (unsigned i = 0; i < 2; i++)
        UNTIL(count_get(&crowd->steps[i]) > 0); /* the gang is these two */
    for (unsigned round = 0; round < SITTERS; round++) {
        word_set(&crowd->held, 0);
        third.seed = 3 + round;
        sitter = trainer_start("sitter", sits, &third);
        word_await(&crowd->held, 1);
        for (unsigned i = 0; i < 2; i++)
            from[i] = count_get(&crowd->steps[i]);
        for (unsigned i = 0; i < 2; i++)
            UNTIL(count_get(&crowd->steps[i]) >= from[i] + 40);
        trainer_kill(sitter);
    }
    word_set(&crowd->stop, 1);
    for (unsigned i = 0; i < 2; i++)
        trainer_wait(trainers[i]);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

/* ---- SIGSTOP -------------------------------------------------------------------------------------------------------- */

struct shared {
    struct plan plan; /* of the one that is stopped */
    uint32_t stop;    /* the runner */
    uint32_t holds, go, finish, finished;
    uint64_t runner_steps;
    uint64_t taken, missed, last; /* by the one that was stopped: batches; steps between them that it did not get; place */
};
static struct shared *shared;

static void runner(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    for (uint64_t k = 0; !word_get(&shared->stop); k++) {
        struct pfeed_batch *batch = must_next(pf);
        const struct pfeed_info *info = pfeed_info(batch);

        CHECK(info->epoch == k / STEPS && info->step == k % STEPS, "batch %llu is epoch %llu step %llu", (unsigned long long)k,
              (unsigned long long)info->epoch, (unsigned long long)info->step);
        must_done(pf, batch);
        count_set(&shared->runner_steps, k + 1);
    }
    pfeed_close(pf);
}

static void follow(const struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    uint64_t place = info->epoch * STEPS + info->step;

    CHECK(shared->taken == 0 || place > shared->last, "place %llu after %llu", (unsigned long long)place,
          (unsigned long long)shared->last);
    shared->missed += shared->taken ? place - shared->last - 1 : place;
    shared->last = place;
    shared->taken++;
}

/* Takes all that it may, is stopped by the test, and goes on some time later. */
static void stopped(void *arg)
{
    struct pfeed *pf = plan_open(&shared->plan);
    struct pfeed_batch *held[HELD];
    uint64_t hashes[HELD];

    for (unsigned i = 0; i < HELD; i++) {
        held[i] = must_next(pf);
        follow(held[i]);
        hashes[i] = batch_hash(held[i]);
    }
    word_set(&shared->holds, HELD);
    word_await(&shared->go, 1); /* the stop comes here */
    for (unsigned i = 0; i < HELD; i++) {
        CHECK(batch_hash(held[i]) == hashes[i], "a held batch changed while its holder was stopped");
        must_done(pf, held[i]);
    }
    for (unsigned k = 0; k < 300; k++) {
        struct pfeed_batch *batch = must_next(pf);

        follow(batch);
        must_done(pf, batch);
    }
    word_set(&shared->finished, 1);
    word_await(&shared->finish, 1);
    pfeed_close(pf);
}

static struct pf_row_consumer consumer_row(pid_t pid)
{
    struct pf_row_consumer rows[8];
    size_t n = stat_consumers(&pfeedd, "spine", rows, 8);

    for (size_t i = 0; i < n && i < 8; i++)
        if (rows[i].pid == pid)
            return rows[i];
    FAIL("the daemon shows no consumer with pid %d", pid);
}

/* Grants that it did not take can be revoked, and pin nothing. */
static unsigned slots_held_by(uint64_t consumer)
{
    struct pf_row_slot slots[8];
    size_t n = stat_slots(&pfeedd, "spine", slots, 8);
    unsigned held = 0;

    for (size_t s = 0; s < n && s < 8; s++)
        for (uint32_t h = 0; h < slots[s].n_holders && h < PF_HOLDERS; h++)
            held += slots[s].holders[h].consumer == consumer && slots[s].holders[h].taken;
    return held;
}

/* plan: of the one that is stopped. gang: how many start together. */
static void stop_and_continue(const struct plan *plan, unsigned gang)
{
    struct plan runs = { .daemon = &pfeedd, .feed = "spine", .max_held = 1 };
    struct trainer *stops, *goes;
    struct pf_row_consumer row;
    uint64_t steps;

    shared = shared_memory(sizeof(*shared));
    start_daemon(gang, 0);
    shared->plan = *plan;
    shared->plan.daemon = &pfeedd;
    stops = trainer_start("stopped", stopped, NULL);
    goes = trainer_start("runner", runner, &runs);
    word_await(&shared->holds, HELD);
    trainer_stop(stops);
    steps = count_get(&shared->runner_steps);
    UNTIL(count_get(&shared->runner_steps) > steps + 50 * STEPS); /* many epochs, for ever if need be */
    row = consumer_row(trainer_pid(stops));
    CHECK(row.held == HELD && slots_held_by(row.consumer) <= HELD, "a stopped trainer holds %u batches and pins %u slots",
          row.held, slots_held_by(row.consumer));
    word_set(&shared->go, 1);
    trainer_continue(stops);
    word_await(&shared->finished, 1);
    word_set(&shared->stop, 1);
    trainer_wait(goes);
    row = consumer_row(trainer_pid(stops));
    note("taken %llu, missed %llu, counted as skipped %llu", (unsigned long long)shared->taken,
         (unsigned long long)shared->missed, (unsigned long long)row.skipped);
    CHECK(row.skipped >= shared->missed, "%llu steps were missed, %llu counted", (unsigned long long)shared->missed,
          (unsigned long long)row.skipped);
    /* What was passed over, or granted for good, is all that lies before its cursor. */
    CHECK(row.epoch * STEPS + row.step == row.grants + row.skipped,
          "its cursor is epoch %llu step %llu, %llu granted, %llu skipped", (unsigned long long)row.epoch,
          (unsigned long long)row.step, (unsigned long long)row.grants, (unsigned long long)row.skipped);
    word_set(&shared->finish, 1);
    trainer_wait(stops);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

/* It wants what the runner wants. */
static void run_stopped_skip(const void *arg)
{
    stop_and_continue(&(const struct plan){ .feed = "spine", .slow = "skip" }, 2);
    CHECK(shared->missed > 0, "a trainer that was stopped for 50 epochs has missed nothing");
}

/* It has an order of its own, and misses nothing. */
static void run_stopped_apart(const void *arg)
{
    stop_and_continue(&(const struct plan){ .feed = "spine", .slow = "block", .seed = 99 }, 1);
    CHECK(shared->missed == 0, "%llu steps were missed under slow: block", (unsigned long long)shared->missed);
}

/* ---- SIGSTOP of one whom the others wait for --------------------------------------------------------------------------- */

#define RUNNERS 2u

struct runners {
    uint32_t told;           /* so many have waited in vain */
    uint64_t steps[RUNNERS]; /* of each */
    char sentences[RUNNERS][1024];
};
static struct runners *runners;

static void patient(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = me ? "second" : "first" };
    struct pfeed *pf = plan_open(&plan);
    bool told = false;

    for (uint64_t k = 0; !word_get(&shared->stop);) {
        struct pfeed_batch *batch = NULL;
        int rc = pfeed_next(pf, &batch, 200);

        CHECK(rc == 0 || rc == PFEED_EPOCH || rc == -ETIMEDOUT, "pfeed_next gives %d: %s", rc, pfeed_error(pf));
        if (rc == -ETIMEDOUT && !told && word_get(&shared->go) == 0 && strstr(pfeed_error(pf), "no slot is free")) {
            snprintf(runners->sentences[me], sizeof(runners->sentences[me]), "%s", pfeed_error(pf));
            word_add(&runners->told, 1);
            told = true;
        }
        if (!batch)
            continue;
        CHECK(pfeed_info(batch)->epoch == k / STEPS && pfeed_info(batch)->step == k % STEPS, "batch %llu is epoch %llu step %llu",
              (unsigned long long)k, (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step);
        must_done(pf, batch);
        count_set(&runners->steps[me], ++k);
    }
    pfeed_close(pf);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* What pfeedctl says of it: a row with its pid, and its name in the rows of those who wait. */
static bool pfeedctl_shows(pid_t pid)
{
    static char text[64 << 10];
    const char *program = getenv("PFEED_PFEEDCTL");
    char command[512], own[64], named[64];
    FILE *output;

    if (!program) {
        note("PFEED_PFEEDCTL does not name pfeedctl: what it shows is not looked at");
        return true;
    }
    snprintf(command, sizeof(command), "'%s' consumers --json --socket '%s' 2>&1", program, pfeedd.socket);
    snprintf(own, sizeof(own), "\"pid\":%d,", pid);
    snprintf(named, sizeof(named), "pid %d (job 'stopped' rank 0) holds %u", pid, HELD);
    output = popen(command, "r");
    CHECK(output, "cannot run %s", command);
    text[fread(text, 1, sizeof(text) - 1, output)] = 0;
    CHECK(pclose(output) == 0, "%s has failed: %s", command, text);
    return count_of(text, own) == 1 && count_of(text, named) >= RUNNERS;
}

/* Both stand; what the daemon says of it. */
static void look_at_stopped(pid_t pid, uint64_t most)
{
    struct pf_row_consumer row = consumer_row(pid);
    struct pf_row_slot slots[8];
    size_t n = stat_slots(&pfeedd, "spine", slots, 8);
    char named[64];

    CHECK(row.held == HELD && slots_held_by(row.consumer) == HELD, "it holds %u batches in %u slots", row.held,
          slots_held_by(row.consumer));
    snprintf(named, sizeof(named), "pid %d (job 'stopped' rank 0) holds %u", pid, HELD);
    for (unsigned i = 0; i < RUNNERS; i++)
        CHECK(strstr(runners->sentences[i], named), "runner %u is told: %s", i, runners->sentences[i]);
    /* Of its own order nothing is there but what it holds and what comes next for it. */
    for (size_t s = 0; s < n && s < 8; s++)
        CHECK(slots[s].seed == 99 || slots[s].state == PF_SLOT_FREE || (slots[s].epoch == 0 && slots[s].index < most),
              "slot %zu has epoch %llu index %llu", s, (unsigned long long)slots[s].epoch, (unsigned long long)slots[s].index);
    UNTIL(pfeedctl_shows(pid));
}

/* With a job of another order beside it (arg), which may be given the slots that the stopped one keeps: others then stand up to
 * all 8 slots ahead of what it takes next, after the HELD that it has. Without one there is only room for 8 in all. */
static void run_stopped_block(const void *arg)
{
    const uint64_t most = arg ? HELD + 8 + 1 : 8;
    struct trainer *stops, *others[RUNNERS], *apart = NULL;
    struct plan own_order = { .daemon = &pfeedd, .feed = "spine", .job = "apart", .seed = 99, .max_held = 1 };
    uint64_t ran;

    shared = shared_memory(sizeof(*shared));
    runners = shared_memory(sizeof(*runners));
    start_daemon(RUNNERS + 1 + (arg != NULL), 0);
    shared->plan = (struct plan){ .daemon = &pfeedd, .feed = "spine", .job = "stopped" };
    stops = trainer_start("stopped", stopped, NULL);
    for (uintptr_t i = 0; i < RUNNERS; i++)
        others[i] = trainer_start("patient", patient, (void *)i);
    if (arg)
        apart = trainer_start("apart", runner, &own_order);
    word_await(&shared->holds, HELD);
    trainer_stop(stops);
    word_await(&runners->told, RUNNERS);
    look_at_stopped(trainer_pid(stops), most);
    ran = count_get(&shared->runner_steps);
    if (arg)
        UNTIL(count_get(&shared->runner_steps) > ran + 10 * STEPS); /* who has an order of its own goes on */
    for (unsigned i = 0; i < RUNNERS; i++)
        CHECK(count_get(&runners->steps[i]) >= HELD && count_get(&runners->steps[i]) <= most, "runner %u stands after %llu steps",
              i, (unsigned long long)runners->steps[i]);
    note("the others stood after %llu and %llu steps; told: %s", (unsigned long long)runners->steps[0],
         (unsigned long long)runners->steps[1], runners->sentences[0]);
    word_set(&shared->go, 1);
    trainer_continue(stops);
    word_await(&shared->finished, 1);
    for (unsigned i = 0; i < RUNNERS; i++)
        UNTIL(count_get(&runners->steps[i]) > 250);
    word_set(&shared->stop, 1);
    for (unsigned i = 0; i < RUNNERS; i++)
        trainer_wait(others[i]);
    if (apart)
        trainer_wait(apart);
    CHECK(shared->missed == 0, "%llu steps were missed under slow: block", (unsigned long long)shared->missed);
    word_set(&shared->finish, 1);
    trainer_wait(stops);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "max_held and one more", run_greedy, NULL },
        { "closing with batches held", run_leaver, NULL },
        { "who sits pins only what it holds", run_sitters, NULL },
        { "stopped, slow: skip", run_stopped_skip, NULL },
        { "stopped, with an order of its own", run_stopped_apart, NULL },
        { "stopped, slow: block", run_stopped_block, NULL },
        { "stopped, slow: block, another order beside it", run_stopped_block, "apart" },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
