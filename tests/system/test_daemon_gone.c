/* SPDX-License-Identifier: MIT */
/*
 * kill -9 (and SIGTERM) of the daemon, for trainers that are not to attach again (reconnect_ms -1): they keep what they hold, may
 * take what was granted, and then get -EPIPE within 1 s, also out of pfeed_next(-1); nothing hangs, nothing is left behind, and a
 * new daemon starts in the same place.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "history.h"

#define KINDS 5u
#define LIMIT SECOND

static struct daemon pfeedd;

struct shared {
    uint32_t ready; /* trainers that are where they should be */
    uint32_t dead;  /* 1: the daemon has gone */
    uint64_t told_ns[KINDS];
    uint64_t batches; /* that were taken after its death */
};
static struct shared *shared;

/* Whatever timeout_ms says, the end is -EPIPE, with a sentence, again and again; closing works. */
static void expect_end(struct pfeed *pf, int timeout_ms, unsigned kind)
{
    struct timespec pause = { .tv_nsec = MS };
    struct pfeed_batch *batch = NULL;
    int rc;

    for (;;) {
        rc = pfeed_next(pf, &batch, timeout_ms);
        if (rc == 0) {
            shared->batches += word_get(&shared->dead);
            batch_hash(batch); /* still mapped */
            must_done(pf, batch);
        } else if (rc == -ETIMEDOUT && timeout_ms == 0) {
            nanosleep(&pause, NULL); /* a caller that polls */
        } else if (rc != -ETIMEDOUT && rc != PFEED_EPOCH) {
            break;
        }
    }
    count_set(&shared->told_ns[kind], (uint64_t)now_ns());
    CHECK(rc == -EPIPE && strlen(pfeed_error(pf)) > 10, "pfeed_next(%d) ended with %d: %s", timeout_ms, rc, pfeed_error(pf));
    for (int timeout = -1; timeout <= 1; timeout++)
        CHECK(pfeed_next(pf, &batch, timeout) == -EPIPE, "-EPIPE is not said again");
    pfeed_close(pf);
}

static void runs(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    must_done(pf, must_next(pf));
    word_add(&shared->ready, 1);
    expect_end(pf, -1, 0);
}

/* The three that wait belong to a gang that will not come together. */
static void waits(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    word_add(&shared->ready, 1);
    expect_end(pf, -1, 1);
}

static void polls(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    word_add(&shared->ready, 1);
    expect_end(pf, 0, 2);
}

static void times_out(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;
    int rc = pfeed_next(pf, &batch, 50);

    CHECK(rc == -ETIMEDOUT && strstr(pfeed_error(pf), "gang"), "pfeed_next of a gang that is not complete: %d: %s", rc,
          pfeed_error(pf));
    word_add(&shared->ready, 1);
    expect_end(pf, 100, 3);
}

static void holds(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *held[2] = { must_next(pf), NULL };
    uint64_t hashes[2];

    held[1] = must_next(pf);
    for (unsigned i = 0; i < 2; i++)
        hashes[i] = batch_hash(held[i]);
    word_add(&shared->ready, 1);
    word_await(&shared->dead, 1);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(batch_hash(held[i]) == hashes[i], "a held batch changed when the daemon went");
        must_done(pf, held[i]);
    }
    expect_end(pf, -1, 4);
}

/* ---- the tests ------------------------------------------------------------------------------------------------------ */

static void run_gone(bool killed, const char *shm)
{
    static const char *const names[KINDS] = { "runs", "waits", "polls", "times out", "holds" };
    void (*const bodies[KINDS])(void *) = { runs, waits, polls, times_out, holds };
    struct plan plans[KINDS];
    struct trainer *trainers[KINDS];
    struct history *again;
    int64_t start_ns;
    char yaml[1024];

    shared = shared_memory(sizeof(*shared));
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB, shm: %s }\nfeeds:\n"
             "  spine:\n    source: { type: synthetic, rows: 256 }\n    batch: 8\n    slots: 12\n"
             "    fields: { x: { dtype: float32, shape: [64] } }\n"
             "  gang:\n    source: { type: synthetic, rows: 256 }\n    batch: 8\n    slots: 24\n    gang: 9\n"
             "    fields: { x: { dtype: float32, shape: [64] } }\n",
             shm);
    daemon_start(&pfeedd, yaml);
    for (unsigned i = 0; i < KINDS; i++) {
        plans[i] = (struct plan){
            .daemon = &pfeedd, .feed = i == 0 || i == 4 ? "spine" : "gang", .seed = i == 4 ? 5 : 0, .reconnect_ms = -1
        };
        trainers[i] = trainer_start(names[i], bodies[i], &plans[i]);
    }
    word_await(&shared->ready, KINDS);
    start_ns = now_ns();
    if (killed)
        daemon_kill(&pfeedd);
    else
        daemon_stop(&pfeedd); /* within 2 s, with trainers attached */
    if (!killed)
        start_ns = now_ns();
    word_set(&shared->dead, 1);
    for (unsigned i = 0; i < KINDS; i++)
        trainer_wait(trainers[i]);
    for (unsigned i = 0; i < KINDS; i++) {
        int64_t took_ns = (int64_t)count_get(&shared->told_ns[i]) - start_ns;

        CHECK(took_ns <= scaled_ns(LIMIT), "the trainer that %s had -EPIPE after %.0f ms", names[i], (double)took_ns / 1e6);
    }
    daemon_again(&pfeedd); /* over what the old one left in the folder */
    again = history_create(64, 512);
    plans[0] = (struct plan){ .daemon = &pfeedd, .feed = "spine", .epochs = 1, .history = again };
    trainer_wait(trainer_start("again", train, &plans[0]));
    history_check(again, "again", 1, 32);
    daemon_stop(&pfeedd);
    history_destroy(again);
}

static void run_killed(const void *shm)
{
    run_gone(true, shm);
}

static void run_terminated(const void *shm)
{
    run_gone(false, shm);
}

static unsigned shm_names(void)
{
    DIR *folder = opendir("/dev/shm");
    unsigned n = 0;

    if (!folder)
        skip("there is no /dev/shm");
    for (struct dirent *entry; (entry = readdir(folder));)
        n += strstr(entry->d_name, "pfeed") != NULL;
    closedir(folder);
    return n;
}

/* A killed daemon leaves no name in /dev/shm: there is none even while it runs. */
static void run_names(const void *arg)
{
    unsigned before = shm_names();

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB, shm: posix }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 256 }\n    batch: 8\n    slots: 8\n"
                          "    fields: { x: { dtype: float32, shape: [64] } }\n");
    CHECK(shm_names() == before, "a name stands in /dev/shm while the daemon runs");
    daemon_kill(&pfeedd);
    CHECK(shm_names() == before, "a name is left in /dev/shm");
}

/* A second daemon does not take the first one's place. */
static void run_second(const void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 1 };
    struct daemon second;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 256 }\n    batch: 8\n    slots: 8\n"
                          "    fields: { x: { dtype: float32, shape: [64] } }\n");
    second = pfeedd; /* in the same folder */
    second.pid = 0;
    second.control = -1;
    CHECK(daemon_run(&second) > 0, "a second daemon on the same socket starts");
    plan.history = history_create(64, 512);
    trainer_wait(trainer_start("first's", train, &plan));
    history_check(plan.history, "first's", 1, 32);
    history_destroy(plan.history);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "kill -9, memfd", run_killed, "memfd" }, { "kill -9, posix", run_killed, "posix" },
        { "SIGTERM", run_terminated, "auto" },     { "no names in /dev/shm", run_names, NULL },
        { "a second daemon", run_second, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
