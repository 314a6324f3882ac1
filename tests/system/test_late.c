/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 8, sharing: jobs whose cursors want the same slots share them, and nothing else makes them share. One that comes
 * late is filled for from its own place if slots allow, is refused with the numbers if not, and shares once it has caught up.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "history.h"

#define ROWS  256u
#define BATCH 8u
#define STEPS (ROWS / BATCH)
#define HELD  1u

static struct daemon pfeedd;

static void start_daemon(unsigned slots)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  f:\n    source: { type: synthetic, rows: %u }\n"
             "    batch: %u\n    max_held: %u\n    slots: %u\n    fields: { x: { dtype: float32, shape: [16] } }\n",
             ROWS, BATCH, HELD, slots);
    daemon_start(&pfeedd, yaml);
}

static struct pfeed_options options_of(const char *job, const char *start)
{
    return (struct pfeed_options){
        .size = sizeof(struct pfeed_options), .socket = pfeedd.socket, .feed = "f", .job = job, .start = start
    };
}

static struct pfeed *must_open(const char *job, const char *start)
{
    struct pfeed_options options = options_of(job, start);
    struct pfeed *pf = NULL;

    CHECK(pfeed_open(&pf, &options) == 0, "%s: %s", job, pfeed_error(NULL));
    return pf;
}

static void run(struct pfeed *pf, uint64_t from, uint64_t to)
{
    for (uint64_t k = from; k < to; k++) {
        struct pfeed_batch *batch = must_next(pf);

        CHECK(pfeed_info(batch)->epoch == k / STEPS && pfeed_info(batch)->step == k % STEPS, "batch %llu is epoch %llu step %llu",
              (unsigned long long)k, (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step);
        must_done(pf, batch);
    }
}

static struct pf_row_job job_row(const char *name)
{
    struct pf_row_job rows[8];
    size_t n = stat_jobs(&pfeedd, "f", rows, 8);

    for (size_t i = 0; i < n && i < 8; i++)
        if (strcmp(rows[i].job, name) == 0)
            return rows[i];
    FAIL("the daemon shows no job '%s'", name);
}

static void run_catches_up(const void *arg)
{
    const unsigned slots = 2 * (HELD + 2);
    struct pf_row_feed before, after;
    struct pfeed *early, *late;
    uint64_t rows;

    start_daemon(slots);
    early = must_open("early", NULL);
    run(early, 0, 3 * STEPS);
    UNTIL(job_row("early").rows_delivered == 3 * ROWS);
    before = feed_now(&pfeedd, "f");
    late = must_open("late", NULL);
    CHECK(job_row("late").group != job_row("early").group && !*job_row("late").shares, "the late one shares with '%s'",
          job_row("late").shares);
    run(late, 0, 3 * STEPS); /* alone, from its own beginning */
    UNTIL(job_row("late").rows_delivered == 3 * ROWS);
    after = feed_now(&pfeedd, "f");
    rows = after.rows_filled - before.rows_filled;
    CHECK(rows + slots * BATCH >= 3 * ROWS, "%llu rows were filled for three epochs of its own", (unsigned long long)rows);
    CHECK(job_row("late").group == job_row("early").group && strcmp(job_row("late").shares, "early") == 0,
          "it has caught up, and shares with '%s'", job_row("late").shares);
    before = after;
    for (uint64_t k = 3 * STEPS; k < 6 * STEPS; k++) {
        run(early, k, k + 1);
        run(late, k, k + 1);
    }
    UNTIL(job_row("late").rows_delivered == 6 * ROWS && job_row("early").rows_delivered == 6 * ROWS);
    after = feed_now(&pfeedd, "f");
    rows = after.rows_filled - before.rows_filled;
    note("together: %llu rows decoded for %llu delivered", (unsigned long long)rows,
         (unsigned long long)(after.rows_delivered - before.rows_delivered));
    CHECK(after.rows_delivered - before.rows_delivered == 6 * ROWS && rows <= 3 * ROWS + slots * BATCH,
          "%llu rows were decoded for three epochs of both", (unsigned long long)rows);
    pfeed_close(early);
    pfeed_close(late);
    UNTIL(feed_at_rest(&pfeedd, "f"));
    daemon_stop(&pfeedd);
}

static void run_no_room(const void *arg)
{
    struct pfeed_options options = options_of("late", NULL);
    struct pfeed *early, *late = NULL;
    struct pfeed_batch *batch;
    int rc;

    start_daemon(HELD + 2);
    early = must_open("early", NULL);
    run(early, 0, 2 * STEPS);
    UNTIL(job_row("early").rows_delivered == 2 * ROWS);
    rc = pfeed_open(&late, &options);
    CHECK(rc == -ENOSPC && strstr(pfeed_error(NULL), "feed 'f' has 3 slots, and 6 are needed: for each of 2 groups of jobs"),
          "a late one is told %d: %s", rc, pfeed_error(NULL));
    late = must_open("live", "live");
    batch = must_next(late);
    CHECK(pfeed_info(batch)->epoch == 2 && strcmp(job_row("live").shares, "early") == 0,
          "it begins at epoch %llu, and shares with '%s'", (unsigned long long)pfeed_info(batch)->epoch, job_row("live").shares);
    must_done(late, batch);
    run(early, 2 * STEPS, 2 * STEPS + 1);
    pfeed_close(early);
    pfeed_close(late);
    daemon_stop(&pfeedd);
}

/* The gang waits for so long, says for whom, and starts without the others then. */
static void run_gang(const void *arg)
{
    struct pfeed_batch *batch = NULL;
    struct pfeed *pf;
    bool told = false;
    int rc;

    daemon_start(&pfeedd,
                 "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  f:\n    source: { type: synthetic, rows: 64 }\n"
                 "    batch: 8\n    slots: 8\n    gang: 3\n    gang_wait: 1500ms\n"
                 "    fields: { x: { dtype: float32, shape: [16] } }\n");
    pf = must_open("first", NULL);
    while ((rc = pfeed_next(pf, &batch, 20)) == -ETIMEDOUT)
        told |= strstr(pfeed_error(pf), "feed 'f' has gang: 3, and 1 ranks are there: 1 of job 'first'") &&
                strstr(pfeed_error(pf), "s they start without the others");
    CHECK(rc == 0 && told, "pfeed_next gives %d: %s; it was %s told whom it waits for", rc, pfeed_error(pf), told ? "" : "not");
    must_done(pf, batch);
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "catches up", run_catches_up, NULL },
        { "no room", run_no_room, NULL },
        { "a gang", run_gang, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
