/* SPDX-License-Identifier: MIT */
/*
 * Reload by SIGHUP, `pfeedctl reload` and `rescan`: feeds are added, removed and changed under running jobs, which never notice; a
 * changed feed serves its present jobs as before and new ones as it is now; a configuration with errors, or one that does not fit
 * into the budget, changes nothing; nothing grows over many reloads.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define ROUNDS 40u

static struct daemon pfeedd;

struct shared {
    uint32_t stop, rows; /* rows: of the last batch, once one was taken */
    uint64_t batches;
};

/* One trainer of the test, whose batches are checked against the order (shuffle: none) for as long as it runs. */
struct job {
    struct plan plan;
    struct shared *shared;
    struct trainer *trainer;
};

#define FEED(name, rows, batch)                                                                                                  \
    "  " name ":\n    source: { type: synthetic, rows: " #rows " }\n    shuffle: none\n    batch: " #batch "\n    slots: 6\n"    \
    "    fields: { x: { dtype: float32, shape: [16] } }\n"
#define HEAD "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n"

static const char first[] = HEAD FEED("a", 64, 8) FEED("b", 64, 8);

static void run_job(void *arg)
{
    struct job *job = arg;
    struct pfeed *pf = plan_open(&job->plan);
    uint64_t expected = 0;
    struct pfeed_batch *batch;

    while (!word_get(&job->shared->stop)) {
        const struct pfeed_info *info;
        int rc = pfeed_next(pf, &batch, (int)(scaled_ns(30 * SECOND) / MS));

        CHECK(rc == 0 || rc == PFEED_EPOCH, "pfeed_next: %d: %s", rc, pfeed_error(pf));
        if (rc == PFEED_EPOCH) {
            CHECK(expected == 64, "an epoch of %llu rows", (unsigned long long)expected);
            expected = 0;
            continue;
        }
        info = pfeed_info(batch);
        for (uint32_t row = 0; row < info->rows; row++)
            CHECK(info->ids[row] == expected + row, "row %u of step %llu has id %llu", row, (unsigned long long)info->step,
                  (unsigned long long)info->ids[row]);
        expected += info->rows;
        word_set(&job->shared->rows, info->rows);
        count_set(&job->shared->batches, count_get(&job->shared->batches) + 1);
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

static void job_start(struct job *job, const char *feed, const char *name)
{
    *job =
        (struct job){ .plan = { .daemon = &pfeedd, .feed = feed, .job = name }, .shared = shared_memory(sizeof(struct shared)) };
    job->trainer = trainer_start(name, run_job, job);
    UNTIL(count_get(&job->shared->batches) > 0);
}

/* It goes on: several epochs' worth. */
static void job_lives(struct job *job)
{
    uint64_t batches = count_get(&job->shared->batches);

    UNTIL(count_get(&job->shared->batches) > batches + 40);
}

static void job_end(struct job *job)
{
    word_set(&job->shared->stop, 1);
    trainer_wait(job->trainer);
}

static void expect_reload(const char *yaml, const char *rescan, int code, const char *words)
{
    char *report;
    int rc = daemon_reload(&pfeedd, yaml, rescan, &report);

    CHECK(rc == code, "the reload gave %d, not %d: %s", rc, code, report);
    CHECK(words ? strstr(report, words) != NULL : !*report, "the report does not say '%s': %s", words ? words : "", report);
    free(report);
}

static void refused(const char *feed, int code)
{
    struct history *history = history_create(1, 1);
    struct plan plan = { .daemon = &pfeedd, .feed = feed, .history = history };

    trainer_wait(trainer_start("refused", train, &plan));
    CHECK(history->open_rc == code, "pfeed_open of '%s': %d: %s", feed, history->open_rc, history->sentence);
    history_destroy(history);
}

/* How many rows of `pfeedctl feeds` have that name. */
static unsigned feeds_called(const char *name, const char *state)
{
    struct pf_row_feed rows[8];
    size_t n = stat_feeds(&pfeedd, rows, 8);
    unsigned found = 0;

    for (size_t i = 0; i < n; i++)
        found += strcmp(rows[i].name, name) == 0 && strcmp(rows[i].state, state) == 0;
    return found;
}

static void run_changes(const void *arg)
{
    struct job a, b, c, late;

    (void)arg;
    daemon_start(&pfeedd, first);
    job_start(&a, "a", "ja");
    job_start(&b, "b", "jb");
    expect_reload(NULL, NULL, 0, NULL); /* nothing has changed */
    expect_reload("version: 1\ndaemon: { workers: 3, memory: 64MiB, max_consumers: 99 }\nfeeds:\n" FEED("a", 64, 8)
                      FEED("b", 64, 8),
                  NULL, 0, "daemon: workers: 2 -> 3 needs a restart\ndaemon: max_consumers: 256 -> 99 from now on\n");
    expect_reload(first, NULL, 0, "daemon: max_consumers: 99 -> 256 from now on\n");

    expect_reload(HEAD FEED("a", 64, 8) FEED("b", 64, 8) FEED("c", 64, 16), NULL, 0, "feed 'c' is new");
    job_start(&c, "c", "jc");
    CHECK(word_get(&c.shared->rows) == 16, "the new feed has batches of %u", word_get(&c.shared->rows));

    /* b changes: its job goes on with 8 rows, and new ones get 32. */
    expect_reload(HEAD FEED("a", 64, 8) FEED("b", 64, 32) FEED("c", 64, 16), NULL, 0, "batch: 8 -> 32");
    CHECK(feeds_called("b", "running") == 1 && feeds_called("b", "retired") == 1, "b is not there in both forms");
    job_start(&late, "b", "late");
    CHECK(word_get(&late.shared->rows) == 32, "a new job has batches of %u", word_get(&late.shared->rows));
    job_lives(&b);
    CHECK(word_get(&b.shared->rows) == 8, "the old job has batches of %u", word_get(&b.shared->rows));
    job_end(&b);
    UNTIL(feeds_called("b", "retired") == 0);

    /* c goes; its job stays to its end. */
    expect_reload(HEAD FEED("a", 64, 8) FEED("b", 64, 32), NULL, 0, "feed 'c' is removed, and serves the jobs that it has");
    refused("c", -ENOENT);
    job_lives(&c);
    job_end(&c);
    UNTIL(feeds_called("c", "retired") == 0);
    job_lives(&a);
    job_lives(&late);
    job_end(&a);
    job_end(&late);
    daemon_stop(&pfeedd);
}

/* A rank of a job that a retired feed serves finds it there. */
static void run_rank(const void *arg)
{
    struct history *histories[2] = { history_create(400, 4000), history_create(400, 4000) };
    struct plan plans[2];
    struct trainer *trainers[2];

    (void)arg;
    daemon_start(&pfeedd, first);
    for (uint32_t r = 0; r < 2; r++)
        plans[r] = (struct plan){
            .daemon = &pfeedd, .feed = "a", .job = "j", .rank = r, .world = 2, .epochs = 3, .history = histories[r]
        };
    trainers[0] = trainer_start("rank 0", train, &plans[0]);
    UNTIL(feed_now(&pfeedd, "a").consumers == 1);
    expect_reload(HEAD FEED("a", 64, 16) FEED("b", 64, 8), NULL, 0, "batch: 8 -> 16");
    trainers[1] = trainer_start("rank 1", train, &plans[1]);
    for (uint32_t r = 0; r < 2; r++) {
        trainer_wait(trainers[r]);
        history_check(histories[r], "a rank", 3, 8);
    }
    daemon_stop(&pfeedd);
}

static void run_refused(const void *arg)
{
    struct job a;

    (void)arg;
    daemon_start(&pfeedd, first);
    job_start(&a, "a", "ja");
    expect_reload(HEAD FEED("a", 64, 8) "  b:\n    btch: 8\n", NULL, -EINVAL, "did you mean 'batch'");
    expect_reload("", NULL, -EINVAL, "pfeed.yaml:1:1");
    expect_reload(HEAD FEED("a", 64, 8)
                      FEED("b", 64, 8) "  huge:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n"
                                       "    slots: 8\n    fields: { x: { dtype: float32, shape: [1048576] } }\n",
                  NULL, -ENOMEM, "the budget is 64 MiB");
    refused("huge", -ENOENT);
    CHECK(feeds_called("b", "running") == 1, "b is gone");
    expect_reload(first, NULL, 0, NULL);
    CHECK(kill(pfeedd.pid, SIGHUP) == 0, "cannot signal");
    job_lives(&a);
    job_end(&a);
    refused("c", -ENOENT);
    daemon_stop(&pfeedd);
}

static void write_config(const char *yaml)
{
    FILE *file = fopen(pfeedd.config, "w");

    CHECK(file && fputs(yaml, file) >= 0 && fclose(file) == 0, "cannot write %s", pfeedd.config);
}

/* What pfeedctl prints, and its exit status. */
static int pfeedctl(const char *verb, char *text, size_t size)
{
    const char *program = getenv("PFEED_PFEEDCTL");
    char command[512];
    FILE *output;
    int status;

    if (!program)
        skip("PFEED_PFEEDCTL does not name pfeedctl");
    snprintf(command, sizeof(command), "'%s' %s --socket '%s' 2>&1", program, verb, pfeedd.socket);
    output = popen(command, "r");
    CHECK(output, "cannot run %s", command);
    text[fread(text, 1, size - 1, output)] = 0;
    status = pclose(output);
    CHECK(WIFEXITED(status), "%s: status %d", command, status);
    return WEXITSTATUS(status);
}

static void expect_printed(const char *verb, int status, const char *words)
{
    char text[16 << 10];
    int got = pfeedctl(verb, text, sizeof(text));

    CHECK(got == status && strstr(text, words), "pfeedctl %s exits with %d and prints, without '%s': %s", verb, got, words, text);
}

static bool has_said(const char *words)
{
    char *output = daemon_output(&pfeedd);
    bool said = strstr(output, words);

    free(output);
    return said;
}

/* As people do it: by pfeedctl, and by SIGHUP. */
static void run_by_hand(const void *arg)
{
    struct job a;

    (void)arg;
    daemon_start(&pfeedd, first);
    job_start(&a, "a", "ja");
    expect_printed("reload", 0, "nothing has changed");
    write_config(HEAD FEED("a", 64, 8) FEED("b", 64, 8) FEED("c", 64, 8));
    expect_printed("reload", 0, "feed 'c' is new");
    write_config("version: 1\ndaemon: { workers: 3, memory: 64MiB }\nfeeds:\n" FEED("a", 64, 8) FEED("b", 64, 8));
    expect_printed("reload", 0, "needs a restart");
    write_config(HEAD FEED("a", 64, 8) "  d:\n    btch: 8\n");
    expect_printed("reload", 1, "did you mean 'batch'");
    expect_printed("rescan", 1, "the new configuration is not in force");
    CHECK(kill(pfeedd.pid, SIGHUP) == 0, "cannot signal");
    UNTIL(has_said("the new configuration is not in force"));
    CHECK(feeds_called("b", "running") == 1 && feeds_called("d", "running") == 0, "a wrong configuration is in force");
    write_config(HEAD FEED("a", 64, 8) FEED("e", 64, 8));
    CHECK(kill(pfeedd.pid, SIGHUP) == 0, "cannot signal");
    UNTIL(feeds_called("e", "running") == 1 && feeds_called("b", "running") == 0);
    job_lives(&a);
    job_end(&a);
    expect_printed("rescan e", 0, "feed 'e'");
    daemon_stop(&pfeedd);
}

/* What was planned cannot be made: who has jobs goes on, also for new ones; who had none is named. */
static void run_unmade(const void *arg)
{
    const struct rlimit little = { 1 << 20, 1 << 20 };
    struct rlimit before;
    struct job a, late;

    (void)arg;
    daemon_start(&pfeedd, first);
    job_start(&a, "a", "ja");
    CHECK(prlimit(pfeedd.pid, RLIMIT_FSIZE, &little, &before) == 0, "prlimit: %s", strerror(errno));
    expect_reload(HEAD "  a:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 6\n"
                       "    fields: { x: { dtype: float32, shape: [16384] } }\n",
                  NULL, -EFBIG, "feeds that nobody used have ended to make room: 'b'");
    CHECK(feeds_called("a", "running") == 1 && feeds_called("a", "retired") == 0, "a is not what it was");
    job_lives(&a);
    job_end(&a);
    job_start(&late, "a", "late");
    CHECK(word_get(&late.shared->rows) == 8, "a new job has batches of %u", word_get(&late.shared->rows));
    expect_reload(first, NULL, 0, "feed 'b' is new");
    job_end(&late);
    daemon_stop(&pfeedd);
}

static void touch(const char *folder, const char *name)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "we");
    CHECK(file && fputs("0123456789abcdef", file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

/* Files that came after the start are seen by a rescan, and not before. */
static void run_rescan(const void *arg)
{
    char folder[] = "/tmp/pfeed-reload-XXXXXX", *yaml;

    (void)arg;
    CHECK(mkdtemp(folder), "cannot make a folder");
    for (char name[] = "a.bin"; name[0] < 'e'; name[0]++)
        touch(folder, name);
    CHECK(asprintf(&yaml,
                   HEAD FEED("a", 64, 8) "  files:\n    source: { type: directory, path: %s, extensions: [bin] }\n    batch: 2\n"
                                         "    fields: { image: { decode: raw, shape: [16] } }\n",
                   folder) > 0,
          "no memory");
    daemon_start(&pfeedd, yaml);
    CHECK(feed_now(&pfeedd, "files").samples == 4, "%llu samples", (unsigned long long)feed_now(&pfeedd, "files").samples);
    touch(folder, "e.bin");
    expect_reload(NULL, NULL, 0, NULL);
    CHECK(feed_now(&pfeedd, "files").samples == 4, "a reload has listed the files anew");
    expect_reload(NULL, "files", 0, "feed 'files' is listed anew");
    CHECK(feed_now(&pfeedd, "files").samples == 5, "%llu samples after the rescan",
          (unsigned long long)feed_now(&pfeedd, "files").samples);
    for (int round = 0; round < 3; round++) { /* each time the configuration is another one, the state folder the same */
        char *changed;

        CHECK(asprintf(&changed,
                       "version: 1\ndaemon: { workers: 2, memory: 64MiB, state: %s }\nfeeds:\n"
                       "  files:\n    source: { type: directory, path: %s, extensions: [bin] }\n    batch: %d\n"
                       "    fields: { image: { decode: raw, shape: [16] } }\n",
                       pfeedd.folder, folder, 2 + round % 2) > 0,
              "no memory");
        expect_reload(changed, NULL, 0, round ? "feed 'files' has changed" : "needs a restart");
        free(changed);
    }
    expect_reload(NULL, "flies", -ENOENT, "did you mean 'files'");
    daemon_stop(&pfeedd);
    free(yaml);
    remove_folder(folder);
}

static void run_flat(const void *arg)
{
    static const char second[] = HEAD FEED("a", 64, 8) FEED("b", 64, 16) FEED("c", 64, 8);
    struct process before, after;
    struct job a;

    (void)arg;
    daemon_start(&pfeedd, first);
    job_start(&a, "a", "ja");
    for (unsigned round = 0; round < 2 * ROUNDS; round++) {
        char *report;

        if (round == ROUNDS)
            process_measure(pfeedd.pid, &before);
        CHECK(daemon_reload(&pfeedd, round & 1 ? first : second, NULL, &report) == 0, "a reload has failed: %s", report);
        free(report);
    }
    UNTIL(descriptors(pfeedd.pid) <= before.descriptors);
    process_measure(pfeedd.pid, &after);
    note("%u reloads: %llu KiB before, %llu KiB after", ROUNDS,
         (unsigned long long)(before.anon_bytes + before.shmem_bytes) / 1024,
         (unsigned long long)(after.anon_bytes + after.shmem_bytes) / 1024);
    CHECK(sanitized(NULL) || after.anon_bytes + after.shmem_bytes <= before.anon_bytes + before.shmem_bytes + (512 << 10),
          "it has grown from %llu to %llu bytes", (unsigned long long)(before.anon_bytes + before.shmem_bytes),
          (unsigned long long)(after.anon_bytes + after.shmem_bytes));
    CHECK(after.threads == before.threads, "%u threads, then %u", before.threads, after.threads);
    job_lives(&a);
    job_end(&a);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "added, changed, removed", run_changes, NULL },
        { "a rank of a job that is there", run_rank, NULL },
        { "refused", run_refused, NULL },
        { "by pfeedctl and by SIGHUP", run_by_hand, NULL },
        { "planned, but not made", run_unmade, NULL },
        { "rescan", run_rescan, NULL },
        { "flat over reloads", run_flat, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
