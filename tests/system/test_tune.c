/* SPDX-License-Identifier: MIT */
/*
 * DESIGN sections 9 and 14: `slots: auto` in a running daemon. Where slow rows make batches come in bursts, further slots are made and
 * used, as many as the budget has memory for; where the trainer has slowed down, fewer are. Each change is logged with its reason and
 * kept for pfeedctl, and none is made where `slots` is a number. How soon it settles is test_tune.c's of the unit tests, on a clock of
 * its own. And a row that takes for ever holds up its own batch only: those behind it become ready.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "history.h"

#define BATCH   64u
#define CHANGES 64u

static struct daemon pfeedd;

struct pace {
    uint32_t us, stop;
};

static void works(void *arg)
{
    static const char *const feeds[] = { "bursts", "given" };
    struct pace *pace = arg;
    struct pfeed *pf[2];

    for (unsigned f = 0; f < 2; f++)
        pf[f] = plan_open(&(const struct plan){ .daemon = &pfeedd, .feed = feeds[f] });
    while (!word_get(&pace->stop)) {
        struct timespec step = { 0, word_get(&pace->us) * 1000L };
        struct pfeed_batch *batch = must_next(pf[0]);

        must_done(pf[1], must_next(pf[1]));
        while (nanosleep(&step, &step) < 0 && errno == EINTR)
            ;
        must_done(pf[0], batch);
    }
    for (unsigned f = 0; f < 2; f++)
        pfeed_close(pf[f]);
}

static struct pf_row_tune tuning(const char *feed)
{
    struct pf_row_daemon about;
    struct pf_row_tune row;

    CHECK(stat_tune(&pfeedd, feed, &row, 1) == 1, "pfeedd says nothing of feed '%s'", feed);
    CHECK(row.in_use <= row.most && row.n_slots <= row.most, "%u slots in use, %u there, at most %u", row.in_use, row.n_slots,
          row.most);
    stat_daemon(&pfeedd, &about);
    CHECK(about.memory_used_bytes <= about.memory_bytes, "%llu of %llu bytes are used",
          (unsigned long long)about.memory_used_bytes, (unsigned long long)about.memory_bytes);
    return row;
}

/* What `pfeedctl tune --json` prints; to be freed. */
static char *pfeedctl_tune(void)
{
    const char *program = getenv("PFEED_PFEEDCTL");
    char command[512], *text = calloc(1, 65536);
    FILE *pipe;

    CHECK(program && text, "PFEED_PFEEDCTL does not name pfeedctl");
    snprintf(command, sizeof(command), "%s --socket %s tune bursts --json", program, pfeedd.socket);
    pipe = popen(command, "re");
    CHECK(pipe && fread(text, 1, 65535, pipe) > 0 && pclose(pipe) == 0, "%s fails", command);
    return text;
}

/* One leads to the next, from the slots of the start to those of now, and each is where people look. */
static void check_changes(uint32_t first, bool lowers)
{
    struct pf_row_change changes[CHANGES];
    const size_t n = stat_changes(&pfeedd, "bursts", changes, CHANGES);
    char *output = daemon_output(&pfeedd), *shown = pfeedctl_tune(), line[512];
    uint32_t at = first, lowered = 0;

    CHECK(n >= 1 && n < CHANGES && stat_changes(&pfeedd, "given", changes + n, CHANGES - n) == 0, "%zu changes", n);
    for (size_t i = 0; i < n; i++) {
        CHECK(strcmp(changes[i].what, "slots") == 0 && changes[i].number == i + 1 && changes[i].from == at && changes[i].to != at,
              "change %zu: number %llu, %s from %u to %u after %u", i, (unsigned long long)changes[i].number, changes[i].what,
              changes[i].from, changes[i].to, at);
        CHECK(strlen(changes[i].why) > 40, "change %zu: why: '%s'", i, changes[i].why);
        snprintf(line, sizeof(line), "feed 'bursts': slots from %u to %u: %s\n", changes[i].from, changes[i].to, changes[i].why);
        CHECK(strstr(output, line), "the log has no line '%s'", line);
        CHECK(strstr(shown, changes[i].why), "pfeedctl does not show '%s': %s", changes[i].why, shown);
        lowered += changes[i].to < at;
        at = changes[i].to;
    }
    CHECK((lowered > 0 || !lowers) && at == tuning("bursts").in_use, "%u slots after the last change", at);
    free(output);
    free(shown);
}

/* A row of 500 takes half a second, and the others a fifth of a millisecond: that are 26 batches, whatever the machine. */
static void run_bursts(const void *arg)
{
    const bool tight = *(const bool *)arg;
    struct pace *pace = shared_memory(sizeof(*pace));
    struct trainer *trainer;
    struct pf_row_tune row;
    uint32_t first, most;
    char yaml[1024];

    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: 4, memory: %s }\nfeeds:\n  bursts:\n    source: { type: synthetic, rows: 100000, "
        "delay_us: 200, slow_every: 500, slow_us: 500000 }\n    batch: %u\n    fields: { x: { dtype: float32, shape: [4096] } }\n"
        "  given:\n    source: { type: synthetic, rows: 100000 }\n    batch: 1\n    slots: 5\n"
        "    fields: { x: { dtype: float32, shape: [4] } }\n",
        tight ? "26MiB" : "128MiB", BATCH);
    daemon_start(&pfeedd, yaml);
    row = tuning("bursts");
    first = row.in_use;
    most = row.most;
    CHECK(row.slots_auto && first == row.n_slots && first == 16 && most > first && (most == 64) == !tight,
          "%u slots of at most %u", first, most);
    pace->us = 2000;
    trainer = trainer_start("works", works, pace);
    UNTIL((row = tuning("bursts")).in_use == most || (!tight && row.in_use >= 25))
    {
    }
    UNTIL(tuning("bursts").n_slots >= row.in_use); /* they are made one by one */
    most = row.in_use;
    if (!tight) {
        word_set(&pace->us, 80000);
        UNTIL((row = tuning("bursts")).in_use < most);
        CHECK(row.slowest_ns > 400 * MS, "%llu ns", (unsigned long long)row.slowest_ns);
        UNTIL((row = tuning("bursts")).compute_ns > 70 * MS && row.supply_ns > 5 * MS);
    }
    word_set(&pace->stop, 1);
    trainer_wait(trainer);
    check_changes(first, !tight);
    row = tuning("given");
    CHECK(!row.slots_auto && row.in_use == 5 && row.most == 5, "feed 'given' has %u of %u slots in use", row.in_use, row.most);
    daemon_stop(&pfeedd);
}

/* ---- a slow row ----------------------------------------------------------------------------------------------------- */

static void asks(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;

    pfeed_next(pf, &batch, -1);
    FAIL("a batch came");
}

/* Whether all slots but the first one's are ready, of which one row is missing. */
static bool ready_behind(size_t slots)
{
    struct pf_row_slot rows[64];
    size_t n = stat_slots(&pfeedd, "feed", rows, 64), ready = 0;
    bool stalled = false;

    for (size_t s = 0; s < n && s < 64; s++) {
        ready += rows[s].state == PF_SLOT_READY;
        CHECK(rows[s].state != PF_SLOT_READY || rows[s].index > 0, "the slow row is there");
        stalled |= rows[s].state == PF_SLOT_FILLING && rows[s].index == 0 && rows[s].rows_done == rows[s].rows - 1;
    }
    return stalled && ready == slots - 1;
}

static void run_slow_row(const void *arg)
{
    const unsigned slots = *(const unsigned *)arg; /* 0: auto, of which there are 16 */
    struct plan plan = { .daemon = &pfeedd, .feed = "feed" };
    struct trainer *trainer;
    char yaml[512], given[32] = "auto";

    if (slots)
        snprintf(given, sizeof(given), "%u", slots);
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  feed:\n    source: { type: synthetic, rows: 8000, "
             "slow_every: "
             "4000, slow_us: 100000000 }\n    shuffle: none\n    batch: 8\n    slots: %s\n    fields: { x: { dtype: float32, "
             "shape: [16] "
             "} }\n",
             given);
    daemon_start(&pfeedd, yaml);
    trainer = trainer_start("asks", asks, &plan);
    UNTIL(ready_behind(slots ? slots : 16))
    {
    }
    trainer_kill(trainer);
    daemon_kill(&pfeedd);
}

int main(int argc, char **argv)
{
    static const bool tight = true, wide = false;
    static const unsigned six = 6, automatic = 0;
    static const struct test tests[] = {
        { "bursts", run_bursts, &wide },
        { "bursts-in-a-tight-budget", run_bursts, &tight },
        { "slow-row", run_slow_row, &six },
        { "slow-row-slots-auto", run_slow_row, &automatic },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
