/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 9: storage that is slow, or that hangs. Of two feeds, one reads files of which every one has become a FIFO after
 * the scan, under a library that makes reading one block (blocking.c): its workers are stuck, one after another. The other feed
 * goes on all the same, whatever `workers` is; the stuck read is named where a person looks; and when somebody writes at last, the
 * feed goes on as if nothing had been, with the right bytes. Storage that is only slow takes its share of the workers' time, by
 * `weight`, and not more.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history.h"

#define SAMPLES 16u
#define BYTES   8u
#define BATCH   8u
#define EPOCHS  12u
#define STEPS   8u /* of the feed that goes on, in an epoch */

static struct daemon pfeedd;
static char folder[64];

/* ---- files that hang ------------------------------------------------------------------------------------------------ */

static const char *path_of(const char *kind, unsigned sample)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s%02u", folder, kind, sample);
    return path;
}

static void write_bytes(int fd, unsigned sample)
{
    char bytes[BYTES];

    memset(bytes, (int)('a' + sample), sizeof(bytes));
    CHECK(fd >= 0 && write(fd, bytes, sizeof(bytes)) == sizeof(bytes), "cannot write sample %u: %s", sample, strerror(errno));
    close(fd);
}

static void make_files(void)
{
    const char *parent = getenv("TMPDIR");
    char path[96];
    FILE *list;

    snprintf(folder, sizeof(folder), "%s/pfeed-hung-XXXXXX", parent && strlen(parent) < 24 ? parent : "/tmp");
    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    snprintf(path, sizeof(path), "%s/list.csv", folder);
    list = fopen(path, "we");
    CHECK(list && fputs("path\n", list) >= 0, "cannot write %s", path);
    for (unsigned i = 0; i < SAMPLES; i++) {
        write_bytes(open(path_of("sample", i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), i);
        fprintf(list, "sample%02u\n", i);
    }
    fclose(list);
}

/* Every file becomes a FIFO, which has a second name, by which it can be written when the file is in its place again. */
static void hang_files(void)
{
    for (unsigned i = 0; i < SAMPLES; i++)
        CHECK(mkfifo(path_of("gate", i), 0600) == 0 && link(path_of("sample", i), path_of("kept", i)) == 0 &&
                  link(path_of("gate", i), path_of("new", i)) == 0 && rename(path_of("new", i), path_of("sample", i)) == 0,
              "cannot replace %s: %s", path_of("sample", i), strerror(errno));
}

static void mend_files(void)
{
    for (unsigned i = 0; i < SAMPLES; i++)
        CHECK(rename(path_of("kept", i), path_of("sample", i)) == 0, "rename: %s", strerror(errno));
}

/* Writes to the FIFOs at which somebody reads, once each. */
static void feed_gates(bool fed[SAMPLES])
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        int fd = fed[i] ? -1 : open(path_of("gate", i), O_WRONLY | O_NONBLOCK | O_CLOEXEC);

        if (fd >= 0)
            write_bytes(fd, i);
        fed[i] |= fd >= 0;
    }
}

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

static void make_reads_block(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    char text[512];

    snprintf(text, sizeof(text), "%s%sverify_asan_link_order=0", options ? options : "", options ? ":" : "");
    setenv("ASAN_OPTIONS", text, 1);
    setenv("LD_PRELOAD", getenv("PFEED_BLOCKING_LIBRARY"), 1);
}

static bool are_busy(unsigned workers)
{
    struct pf_row_daemon row;

    stat_daemon(&pfeedd, &row);
    return row.workers_busy == workers;
}

static const char fine_yaml[] = "  fine:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 4\n"
                                "    fields: { x: { dtype: float32, shape: [16] } }\n";

static void start_daemon(unsigned workers)
{
    char yaml[1024];

    if (!getenv("PFEED_BLOCKING_LIBRARY"))
        skip("PFEED_BLOCKING_LIBRARY does not name the library that makes reads block");
    make_files();
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: %u, memory: 64MiB }\nfeeds:\n%s  stuck:\n    source: { type: list, path: "
             "%s/list.csv }\n    shuffle: none\n    batch: %u\n    slots: 4\n"
             "    fields: { x: { from: image, decode: raw, dtype: uint8, shape: [%u] } }\n",
             workers, fine_yaml, folder, BATCH, BYTES);
    daemon_prepare = make_reads_block;
    daemon_start(&pfeedd, yaml);
    UNTIL(are_busy(0)) /* until they have begun, they count as busy */
    {
    }
    hang_files();
}

/* ---- the trainers --------------------------------------------------------------------------------------------------- */

struct talk {
    uint32_t named, done;
    char sentence[1024];
};
static struct talk *talk;

static void check_batch(const struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    const char *bytes = pfeed_tensor(batch, "x")->data;

    for (uint32_t row = 0; row < info->rows; row++) {
        CHECK(info->flags[row] == 0 && info->used_ids[row] == info->ids[row], "row %u: flags %u", row, info->flags[row]);
        for (unsigned i = 0; i < BYTES; i++)
            CHECK(bytes[row * BYTES + i] == (char)('a' + info->ids[row]), "row %u has byte 0x%02x", row, bytes[row * BYTES + i]);
    }
}

/* Asks until it is told which read is stuck; then until it has had an epoch. */
static void waits(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;
    int rc;

    do {
        rc = pfeed_next(pf, &batch, 100);
        CHECK(rc == -ETIMEDOUT, "pfeed_next gave %d while every read hangs", rc);
        snprintf(talk->sentence, sizeof(talk->sentence), "%s", pfeed_error(pf));
    } while (!strstr(talk->sentence, "reading "));
    word_set(&talk->named, 1);
    for (uint64_t k = 0; k < SAMPLES / BATCH; k++) {
        batch = must_next(pf);
        CHECK(pfeed_info(batch)->step == k && pfeed_info(batch)->epoch == 0, "not step %llu", (unsigned long long)k);
        check_batch(batch);
        must_done(pf, batch);
    }
    pfeed_close(pf);
    word_set(&talk->done, 1);
}

/* The other feed runs whole epochs meanwhile, each batch of them. */
static void run_fine(void)
{
    struct history *history = history_create(EPOCHS * STEPS, EPOCHS * STEPS * 8);
    struct plan plan = { .daemon = &pfeedd, .feed = "fine", .epochs = EPOCHS, .history = history };

    trainer_wait(trainer_start("fine", train, &plan));
    history_check(history, "the feed beside", EPOCHS, STEPS);
    history_destroy(history);
}

/* What `pfeedctl feeds` shows; to be freed. */
static char *pfeedctl_feeds(void)
{
    const char *program = getenv("PFEED_PFEEDCTL");
    char command[512], *text = calloc(1, 8192);
    FILE *pipe;

    CHECK(program && text, "PFEED_PFEEDCTL does not name pfeedctl");
    snprintf(command, sizeof(command), "%s --socket %s feeds", program, pfeedd.socket);
    pipe = popen(command, "re");
    CHECK(pipe, "cannot run %s", command);
    text[fread(text, 1, 8191, pipe)] = 0;
    pclose(pipe);
    return text;
}

/* ---- hung ----------------------------------------------------------------------------------------------------------- */

static void run_hung(const void *arg)
{
    const unsigned workers = *(const unsigned *)arg;
    struct plan plan = { .daemon = &pfeedd, .feed = "stuck" };
    struct pf_row_feed row;
    bool fed[SAMPLES] = { false };
    struct trainer *trainer;
    char *shown;

    talk = shared_memory(sizeof(*talk));
    start_daemon(workers);
    trainer = trainer_start("waiting", waits, &plan);
    UNTIL(are_busy(workers)); /* with the rows of the one feed that anybody wants */
    run_fine();
    word_await(&talk->named, 1);
    row = feed_now(&pfeedd, "stuck");
    CHECK(strncmp(row.reading, path_of("sample", 0), strlen(folder) + 7) == 0 && row.reading_ns > SECOND,
          "pfeedd names '%s', for %llu ns", row.reading, (unsigned long long)row.reading_ns);
    CHECK(strstr(talk->sentence, "slot ") && strstr(talk->sentence, row.reading) && strstr(talk->sentence, " s so far"),
          "the trainer was told: %s", talk->sentence);
    CHECK(!*feed_now(&pfeedd, "fine").reading, "a read of the feed beside is named");
    shown = pfeedctl_feeds();
    CHECK(strstr(shown, row.reading), "pfeedctl shows:\n%s", shown);
    free(shown);
    run_fine();
    mend_files();
    UNTIL(word_get(&talk->done)) feed_gates(fed);
    trainer_wait(trainer);
    UNTIL(feed_at_rest(&pfeedd, "stuck"));
    row = feed_now(&pfeedd, "stuck");
    CHECK(!*row.reading && row.rows_replaced == 0 && row.rows_masked == 0, "'%s' is read, %llu rows were replaced", row.reading,
          (unsigned long long)row.rows_replaced);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

/* ---- hung, and no longer wanted ------------------------------------------------------------------------------------- */

static void asks(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;

    pfeed_next(pf, &batch, -1);
    FAIL("a batch came");
}

/* The feed is taken out of the configuration: whoever makes changes waits for its reads, and nobody else does. */
static void run_removed(const void *arg)
{
    const bool read_ends = *(const bool *)arg;
    struct plan plan = { .daemon = &pfeedd, .feed = "stuck" };
    bool fed[SAMPLES] = { false };
    struct pf_row_feed rows[4];
    struct pf_row_daemon about;
    struct trainer *trainer;
    FILE *file;

    start_daemon(2);
    trainer = trainer_start("asking", asks, &plan);
    UNTIL(are_busy(2));
    trainer_kill(trainer);
    UNTIL(feed_now(&pfeedd, "stuck").consumers == 0);
    file = fopen(pfeedd.config, "we");
    CHECK(file && fprintf(file, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n%s", fine_yaml) > 0 &&
              fclose(file) == 0 && kill(pfeedd.pid, SIGHUP) == 0,
          "cannot ask for a reload");
    UNTIL(stat_feeds(&pfeedd, rows, 4) == 1);
    run_fine();
    stat_daemon(&pfeedd, &about);
    CHECK(about.workers_busy == 2, "the workers are not stuck any more");
    mend_files();
    if (read_ends) {
        UNTIL((stat_daemon(&pfeedd, &about), about.workers_busy == 0)) feed_gates(fed);
        UNTIL((stat_daemon(&pfeedd, &about), strstr(about.status, "1 feeds")));
        run_fine();
    }
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

/* ---- slow ----------------------------------------------------------------------------------------------------------- */

static uint32_t *stop;

static void takes(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    while (!word_get(stop))
        must_done(pf, must_next(pf));
    pfeed_close(pf);
}

static void start_two(const char *first, const char *second, unsigned delay_us, unsigned weight, struct trainer *trainers[2])
{
    struct plan plans[] = { { .daemon = &pfeedd, .feed = first }, { .daemon = &pfeedd, .feed = second } };
    char yaml[1024];

    stop = shared_memory(sizeof(*stop));
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n%s  slow:\n    source: { type: synthetic, rows: 256, "
             "delay_us: %u }\n    batch: 8\n    slots: 16\n    fields: { x: { dtype: float32, shape: [16] } }\n"
             "  heavy:\n    source: { type: synthetic, rows: 256, delay_us: %u }\n    batch: 8\n    slots: 16\n    weight: %u\n"
             "    fields: { x: { dtype: float32, shape: [16] } }\n",
             fine_yaml, delay_us, delay_us, weight);
    daemon_start(&pfeedd, yaml);
    for (unsigned i = 0; i < 2; i++)
        trainers[i] = trainer_start(plans[i].feed, takes, &plans[i]);
}

static void stop_two(struct trainer *trainers[2])
{
    word_set(stop, 1);
    for (unsigned i = 0; i < 2; i++)
        trainer_wait(trainers[i]);
    daemon_stop(&pfeedd);
}

/* One worker. While the slow feed has one row made, the other one has at least a slot made: it never waits for the slots that the
 * slow one has wanted before, of which there are 16. */
static void run_slow(const void *arg)
{
    struct trainer *trainers[2];
    struct pf_row_feed slow, fine;

    start_two("slow", "fine", 50000, 1, trainers);
    UNTIL(feed_now(&pfeedd, "slow").rows_filled >= 40);
    slow = feed_now(&pfeedd, "slow");
    fine = feed_now(&pfeedd, "fine");
    note("%llu rows of the slow feed, %llu of the other one", (unsigned long long)slow.rows_filled,
         (unsigned long long)fine.rows_filled);
    CHECK(fine.rows_filled >= slow.rows_filled * 8, "%llu rows, and %llu of the feed beside",
          (unsigned long long)slow.rows_filled, (unsigned long long)fine.rows_filled);
    stop_two(trainers);
}

/* Two slow feeds share one worker as their weights say. */
static void run_weights(const void *arg)
{
    const unsigned weight = *(const unsigned *)arg;
    struct trainer *trainers[2];
    struct pf_row_feed slow, heavy;
    double ratio;

    start_two("slow", "heavy", 2000, weight, trainers);
    UNTIL(feed_now(&pfeedd, "slow").rows_filled >= 150 && feed_now(&pfeedd, "heavy").rows_filled >= 150);
    slow = feed_now(&pfeedd, "slow");
    heavy = feed_now(&pfeedd, "heavy");
    ratio = (double)heavy.rows_filled / (double)slow.rows_filled;
    note("weights %u and 1: %llu and %llu rows", weight, (unsigned long long)heavy.rows_filled,
         (unsigned long long)slow.rows_filled);
    CHECK(ratio > 0.55 * weight && ratio < 1.8 * weight, "weights %u and 1 give %.2f as many rows", weight, ratio);
    stop_two(trainers);
}

int main(int argc, char **argv)
{
    static const unsigned one = 1, two = 2, four = 4;
    static const bool no = false, yes = true;
    static const struct test tests[] = {
        { "one worker hangs", run_hung, &one },
        { "two workers hang", run_hung, &two },
        { "four workers hang", run_hung, &four },
        { "a feed that hangs is removed", run_removed, &yes },
        { "a feed that hangs for ever is removed", run_removed, &no },
        { "slow storage", run_slow, NULL },
        { "equal weights", run_weights, &one },
        { "weights", run_weights, &four },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
