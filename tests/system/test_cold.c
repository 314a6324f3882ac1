/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 9: storage that lets its readers wait. The samples lie in a file system of the test's own, which says how many
 * reads are under way at a time, and answers when the test wants: as many as `daemon: read_ahead` says are kept under way from the
 * first to the last, so that their time is hidden; by io_uring, and by threads where that is refused; the bytes are the same as
 * without, also where reads fail or are short; a read that hangs holds up nobody else, and no change, for longer than it hangs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "history.h"
#include "machine.h"
#include "slowfs.h"

#define FILES   128u
#define BYTES   4096u
#define BATCH   16u
#define STEPS   (FILES / BATCH)
#define WORKERS 2u
#define DEPTH   12u
#define HUNG    48u /* files of the feed that hangs */

static struct daemon daemons[8], *pfeedd = daemons; /* one after the other */
static uint32_t n_daemons;
static struct slowfs *slow;
static char folder[64];

/* ---- storage and daemons -------------------------------------------------------------------------------------------- */

static void write_list(const char *name, uint32_t first, uint32_t end)
{
    char path[96];
    FILE *list;

    snprintf(path, sizeof(path), "%s/%s.csv", folder, name);
    list = fopen(path, "we");
    CHECK(list && fputs("path\n", list) >= 0, "cannot write %s", path);
    for (uint32_t i = first; i < end; i++)
        fprintf(list, "f%03u\n", i);
    fclose(list);
}

static void make_storage(uint64_t bytes)
{
    const char *parent = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/pfeed-cold-XXXXXX", parent && strlen(parent) < 24 ? parent : "/tmp");
    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    slow = slowfs_start(folder, FILES, bytes);
    write_list("all", 0, FILES);
    write_list("hung", 0, HUNG);
    write_list("fine", HUNG, FILES);
}

static void end_storage(void)
{
    slowfs_end(slow);
    remove_folder(folder);
}

static const char *feed_yaml(const char *feed)
{
    static char texts[2][512];
    static unsigned next;
    char *text = texts[next++ % 2];

    snprintf(text, sizeof(texts[0]),
             "  %s:\n    source: { type: list, path: %s/%s.csv, root: %s }\n    shuffle: none\n    batch: %u\n    slots: 6\n"
             "    fields: { x: { from: image, decode: raw, dtype: uint8, shape: [%u] } }\n",
             feed, folder, feed, slow->at, BATCH, BYTES);
    return text;
}

static const char *config(const char *ahead, const char *first, const char *second)
{
    static char text[2048];

    snprintf(text, sizeof(text), "version: 1\ndaemon: { workers: %u, memory: 64MiB, read_ahead: %s }\nfeeds:\n%s%s", WORKERS,
             ahead, feed_yaml(first), second ? feed_yaml(second) : "");
    return text;
}

static void refuse_uring(void)
{
    static const struct denial denial = { .call = SYS_io_uring_setup, .error = EPERM };

    machine_deny(&denial, 1);
}

static void start(const char *ahead, bool threads, const char *first, const char *second)
{
    daemon_prepare = threads ? refuse_uring : NULL;
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, config(ahead, first, second));
}

static bool reads_by(const char *way)
{
    struct pf_row_daemon row;

    stat_daemon(pfeedd, &row);
    note("reads: %s", row.reads);
    return strncmp(row.reads, way, strlen(way)) == 0;
}

static bool has_said(const char *first, const char *then)
{
    char *said = daemon_output(pfeedd), *at = strstr(said, first);
    const bool has = at && strstr(at, then);

    free(said);
    return has;
}

/* The way that the test is about, or it is skipped: pfeedd may have been built without liburing. */
static void need_way(bool threads)
{
    if (!threads && !reads_by("io_uring"))
        skip("io_uring is not to be had here");
    CHECK(!threads || reads_by("threads"), "not by threads, though io_uring was refused");
}

static struct history *run_epochs(const char *feed, uint32_t epochs, uint64_t steps)
{
    struct history *history = history_create(epochs * steps, epochs * steps * BATCH);
    struct plan plan = { .daemon = pfeedd, .feed = feed, .epochs = epochs, .history = history };

    trainer_wait(trainer_start(feed, train, &plan));
    history_check(history, feed, epochs, steps);
    return history;
}

/* ---- as many as are stated are under way ---------------------------------------------------------------------------- */

/* No read is answered before DEPTH others are under way, from the first to the last of an epoch: were there ever fewer, it would
 * never end. And there are never more than that, the workers' own and a spare one's. */
static void run_depth(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct pf_row_feed row;

    make_storage(BYTES);
    slow->keep = DEPTH - 1;
    slow->total = FILES;
    word_set(&slow->rule, SLOWFS_KEEP);
    start("12", threads, "all", NULL);
    need_way(threads);
    history_destroy(run_epochs("all", 1, STEPS));
    row = feed_now(pfeedd, "all");
    note("%llu reads, at most %llu at a time; %llu were there, %llu were awaited", (unsigned long long)slow->come,
         (unsigned long long)slow->most, (unsigned long long)row.reads_ahead, (unsigned long long)row.reads_awaited);
    CHECK(slow->most >= DEPTH && slow->most <= DEPTH + WORKERS + 1, "%llu reads at a time", (unsigned long long)slow->most);
    CHECK(row.read_ahead == DEPTH && row.reads_ahead + row.reads_awaited >= FILES - DEPTH, "%llu and %llu of %u were read ahead",
          (unsigned long long)row.reads_ahead, (unsigned long long)row.reads_awaited, FILES);
    daemon_stop(pfeedd);
    end_storage();
}

static void make_ring_busy(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    char text[512];

    snprintf(text, sizeof(text), "%s%sverify_asan_link_order=0", options ? options : "", options ? ":" : "");
    setenv("ASAN_OPTIONS", text, 1);
    setenv("LD_PRELOAD", getenv("PFEED_BUSY_RING_LIBRARY"), 1);
}

/* What the kernel has not taken is handed over again, also where nothing else is under way that would come back. */
static void run_busy(const void *arg)
{
    struct pf_row_feed row;

    if (!getenv("PFEED_BUSY_RING_LIBRARY"))
        skip("another library must be loaded first");
    make_storage(BYTES);
    slow->keep = DEPTH - 1;
    slow->total = FILES;
    word_set(&slow->rule, SLOWFS_KEEP);
    daemon_prepare = make_ring_busy;
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, config("12", "all", NULL));
    need_way(false);
    history_destroy(run_epochs("all", 1, STEPS));
    row = feed_now(pfeedd, "all");
    note("%llu at a time; %llu were there, %llu were awaited", (unsigned long long)slow->most,
         (unsigned long long)row.reads_ahead, (unsigned long long)row.reads_awaited);
    CHECK(slow->most >= DEPTH && row.reads_ahead + row.reads_awaited >= FILES - DEPTH, "%llu and %llu of %u were read ahead",
          (unsigned long long)row.reads_ahead, (unsigned long long)row.reads_awaited, FILES);
    daemon_stop(pfeedd);
    end_storage();
}

/* ---- the same bytes ------------------------------------------------------------------------------------------------- */

static struct history *run_mode(const char *ahead, bool threads, int failing, bool cutting)
{
    struct history *history;
    struct pf_row_feed row;

    memset(slow->by_file, 0, sizeof(slow->by_file));
    word_set(&slow->failing, (uint32_t)failing);
    word_set(&slow->cutting, cutting);
    start(ahead, threads, "all", NULL);
    history = run_epochs("all", 2, STEPS);
    row = feed_now(pfeedd, "all");
    CHECK(row.rows_replaced == 0 && row.rows_masked == 0, "%llu rows were replaced", (unsigned long long)row.rows_replaced);
    CHECK((strcmp(ahead, "0") == 0) == (row.reads_ahead + row.reads_awaited == 0), "read_ahead %s: %llu were read ahead", ahead,
          (unsigned long long)(row.reads_ahead + row.reads_awaited));
    daemon_stop(pfeedd);
    return history;
}

struct mode {
    const char *ahead;
    bool threads;
    int failing;
    bool cutting;
};

/* Each against what the workers alone read of storage without fault. */
static void compare(const struct mode *modes, size_t n)
{
    struct history *first, *other;

    make_storage(BYTES);
    first = run_mode("0", false, 0, false);
    for (size_t i = 0; i < n; i++) {
        other = run_mode(modes[i].ahead, modes[i].threads, modes[i].failing, modes[i].cutting);
        history_same(other, modes[i].threads ? "by threads" : "by io_uring", first);
        history_destroy(other);
    }
    history_destroy(first);
    end_storage();
}

static void run_bytes(const void *arg)
{
    static const struct mode modes[] = {
        { "12", false, 0, false }, { "12", true, 0, false },   { "1", false, 0, false },
        { "1", true, 0, false },   { "200", false, 0, false }, { "200", true, 0, false },
    };

    compare(modes, sizeof(modes) / sizeof(modes[0]));
}

static void run_faults(const void *arg)
{
    static const struct mode modes[] = {
        { "0", false, EIO, false }, { "12", false, EIO, false },   { "12", true, EIO, false },   { "12", false, 0, true },
        { "12", true, 0, true },    { "12", false, EINTR, false }, { "12", true, EINTR, false },
    };

    compare(modes, sizeof(modes) / sizeof(modes[0]));
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

#define MEMBERS 64u

static void run(const char *command)
{
    CHECK(system(command) == 0, "%s has failed", command);
}

static void make_shard(void)
{
    char path[128], bytes[BYTES];
    FILE *member;

    snprintf(folder, sizeof(folder), "/tmp/pfeed-cold-XXXXXX");
    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    for (uint32_t i = 0; i < MEMBERS; i++) {
        for (uint32_t at = 0; at < BYTES; at++)
            bytes[at] = (char)slowfs_byte(i, at);
        snprintf(path, sizeof(path), "%s/s%03u.bin", folder, i);
        member = fopen(path, "we");
        CHECK(member && fwrite(bytes, 1, BYTES, member) == BYTES && fclose(member) == 0, "cannot write %s", path);
    }
    snprintf(path, sizeof(path), "cd %s && tar cf all.tar *.bin && touch -d 2020-02-02 all.tar", folder);
    run(path);
}

/* Its members as files, in order. */
static void write_members(void)
{
    char command[128];

    snprintf(command, sizeof(command), "cd %s && { echo path; ls *.bin; } >all.csv", folder);
    run(command);
}

static const char *members_yaml(void)
{
    static char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: %u, memory: 64MiB, read_ahead: 12 }\nfeeds:\n  all:\n"
             "    source: { type: list, path: %s/all.csv, root: %s }\n    shuffle: none\n    batch: %u\n    slots: 4\n"
             "    on_error: mask\n    max_errors: 1\n"
             "    fields: { x: { from: image, decode: raw, dtype: uint8, shape: [%u] } }\n",
             WORKERS, folder, folder, BATCH, BYTES);
    return yaml;
}

/* An epoch of the shard, then one of the shard after it has changed, of which no row may be given out. */
static struct history *run_shard(const char *ahead, bool threads)
{
    struct history *history = history_create(MEMBERS / BATCH, MEMBERS), *changed = history_create(MEMBERS / BATCH, MEMBERS);
    struct plan plan = { .feed = "shard", .epochs = 1, .history = history };
    char yaml[1024], touch[128];
    struct pf_row_feed row;

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: %u, memory: 64MiB, read_ahead: %s }\nfeeds:\n  shard:\n"
             "    source: { type: tar, path: %s/all.tar }\n    batch: %u\n    slots: 4\n    on_error: mask\n    max_errors: 1\n"
             "    fields: { x: { from: bin, decode: raw, dtype: uint8, shape: [%u] } }\n",
             WORKERS, ahead, folder, BATCH, BYTES);
    daemon_prepare = threads ? refuse_uring : NULL;
    plan.daemon = pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, yaml);
    trainer_wait(trainer_start("shard", train, &plan));
    history_check(history, ahead, 1, MEMBERS / BATCH);
    row = feed_now(pfeedd, "shard"); /* where files do not wait, workers may be ahead of whoever reads ahead */
    note("read_ahead %s: %llu were read ahead", ahead, (unsigned long long)(row.reads_ahead + row.reads_awaited));
    CHECK(row.rows_masked == 0, "%llu rows are masked", (unsigned long long)row.rows_masked);
    snprintf(touch, sizeof(touch), "touch -d 2021-02-02 %s/all.tar", folder);
    run(touch);
    plan.history = changed;
    trainer_wait(trainer_start("changed", train, &plan));
    history_destroy(changed);
    row = feed_now(pfeedd, "shard");
    CHECK(row.rows_masked == MEMBERS, "%llu rows of a shard that has changed are masked", (unsigned long long)row.rows_masked);
    daemon_stop(pfeedd);
    snprintf(touch, sizeof(touch), "touch -d 2020-02-02 %s/all.tar", folder);
    run(touch);
    return history;
}

static void run_shards(const void *arg)
{
    struct history *first, *other;

    make_shard();
    first = run_shard("0", false);
    for (int threads = 0; threads < 2; threads++) {
        other = run_shard("12", threads);
        history_same(other, threads ? "by threads" : "by io_uring", first);
        history_destroy(other);
    }
    history_destroy(first);
    remove_folder(folder);
}

/* ---- refused -------------------------------------------------------------------------------------------------------- */

static void run_refused(const void *arg)
{
    char *said;

    make_shard();
    write_members();
    daemon_prepare = refuse_uring;
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, members_yaml());
    CHECK(reads_by("threads, 12 samples ahead of at most "), "pfeedd reads otherwise");
    said = daemon_output(pfeedd);
    CHECK(strstr(said, "reads: threads, 12 samples ahead") && strstr(said, "(no io_uring: "), "pfeedd says: %s", said);
    free(said);
    daemon_stop(pfeedd);
    remove_folder(folder);
}

static void allow_one_ring(void)
{
    make_ring_busy();
    setenv("PFEED_ONE_RING", "1", 1);
}

/* The ring that was there when pfeedd looked is not there when it is to be used. */
static void run_lost(const void *arg)
{
    if (!getenv("PFEED_BUSY_RING_LIBRARY"))
        skip("another library must be loaded first");
    make_shard();
    write_members();
    daemon_prepare = allow_one_ring;
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, members_yaml());
    if (!has_said("(no io_uring: no ring for 12 reads: ", "") && reads_by("threads"))
        skip("io_uring is not to be had here");
    CHECK(reads_by("threads, 12 samples ahead of at most "), "pfeedd reads otherwise");
    history_destroy(run_epochs("all", 1, MEMBERS / BATCH));
    daemon_stop(pfeedd);
    remove_folder(folder);
}

/* ---- by itself ------------------------------------------------------------------------------------------------------ */

struct endless {
    struct plan plan;
    uint32_t stop;
};

static void takes(void *arg)
{
    struct endless *endless = arg;
    struct pfeed *pf = plan_open(&endless->plan);

    while (!word_get(&endless->stop))
        must_done(pf, must_next(pf));
    pfeed_close(pf);
}

static struct trainer *start_endless(const char *feed, struct endless **out)
{
    struct endless *endless = *out = shared_memory(sizeof(*endless));

    endless->plan = (struct plan){ .daemon = pfeedd, .feed = feed };
    return trainer_start(feed, takes, endless);
}

/* Reads wait, and tokens are read ahead; then the kernel has all of them, and none is. */
static void run_falls(const void *arg)
{
    static char yaml[1024];
    struct endless *endless;
    struct trainer *trainer;

    make_storage(1 << 20);
    word_set(&slow->cached, 1);
    count_set(&slow->delay_ns, 5 * MS);
    word_set(&slow->rule, SLOWFS_DELAY);
    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: %u, memory: 64MiB }\nfeeds:\n  tokens:\n    source: { type: tokens, path: ['%s/f000', "
        "'%s/f001', '%s/f002', '%s/f003'], dtype: uint8 }\n    batch: 16\n    slots: 6\n"
        "    fields: { tokens: { length: 16384 } }\n",
        WORKERS, slow->at, slow->at, slow->at, slow->at);
    daemon_prepare = refuse_uring; /* by threads it is known for sure whether a read has waited */
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, yaml);
    CHECK(feed_now(pfeedd, "tokens").read_ahead == 0, "tokens are read ahead of nobody");
    trainer = start_endless("tokens", &endless);
    UNTIL(has_said("feed 'tokens': read_depth from 0 to ", " to 0: reads do not wait any more"))
    {
    }
    CHECK(feed_now(pfeedd, "tokens").reads_ahead > 0, "none was ahead");
    word_set(&endless->stop, 1);
    trainer_wait(trainer);
    daemon_stop(pfeedd);
    end_storage();
}

/* Files that wait: more and more are read ahead, for a reason that is told. */
static void run_rises(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct endless *endless;
    struct trainer *trainer;
    char *said;

    make_storage(BYTES);
    count_set(&slow->delay_ns, 5 * MS);
    word_set(&slow->rule, SLOWFS_DELAY);
    start("auto", threads, "all", NULL);
    need_way(threads);
    trainer = start_endless("all", &endless);
    UNTIL(feed_now(pfeedd, "all").read_ahead > WORKERS && feed_now(pfeedd, "all").reads_ahead > 0)
    {
    }
    said = daemon_output(pfeedd);
    CHECK(strstr(said, "feed 'all': read_depth from 0 to ") && strstr(said, ": reads wait "), "pfeedd says: %s", said);
    free(said);
    word_set(&endless->stop, 1);
    trainer_wait(trainer);
    daemon_stop(pfeedd);
    end_storage();
}

/* ---- reads that hang ------------------------------------------------------------------------------------------------ */

static void run_hung(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct history *history = history_create(HUNG / BATCH, HUNG);
    struct plan plan = { .daemon = pfeedd, .feed = "hung", .epochs = 1, .history = history };
    struct trainer *trainer;
    struct pf_row_feed row;

    make_storage(BYTES);
    word_set(&slow->held_below, HUNG);
    start("16", threads, "hung", "fine");
    need_way(threads);
    history_destroy(run_epochs("fine", 1, (FILES - HUNG) / BATCH)); /* so that both are known to be read ahead */
    trainer = trainer_start("hung", train, &plan);
    UNTIL(slowfs_now(slow) >= 12 + WORKERS); /* three quarters of 16, and what workers have begun */
    CHECK(slowfs_now(slow) <= 12 + WORKERS + 1, "%llu reads hang", (unsigned long long)slowfs_now(slow)); /* a spare one */
    history_destroy(run_epochs("fine", 3, (FILES - HUNG) / BATCH));
    UNTIL(*feed_now(pfeedd, "hung").reading)
    {
    }
    row = feed_now(pfeedd, "hung");
    CHECK(strncmp(row.reading, slow->at, strlen(slow->at)) == 0 && row.reading_ns > SECOND, "pfeedd names '%s'", row.reading);
    CHECK(!*feed_now(pfeedd, "fine").reading, "a read of the feed beside is named");
    word_set(&slow->held_below, 0);
    trainer_wait(trainer);
    history_check(history, "hung", 1, HUNG / BATCH);
    row = feed_now(pfeedd, "hung");
    CHECK(row.rows_replaced == 0 && row.rows_masked == 0, "%llu rows were replaced", (unsigned long long)row.rows_replaced);
    history_destroy(history);
    daemon_stop(pfeedd);
    end_storage();
}

static void asks(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;

    pfeed_next(pf, &batch, -1);
    FAIL("a batch came");
}

/* The feed is taken out of the configuration with its reads under way: the change waits for them, and nobody else. */
static void run_removed(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct plan plan = { .daemon = pfeedd, .feed = "hung" };
    struct pf_row_daemon about;
    struct pf_row_feed rows[4];
    struct trainer *trainer;
    FILE *file;

    make_storage(BYTES);
    word_set(&slow->held_below, HUNG);
    start("16", threads, "hung", "fine");
    need_way(threads);
    trainer = trainer_start("asking", asks, &plan);
    UNTIL(slowfs_now(slow) >= 12);
    trainer_kill(trainer);
    UNTIL(feed_now(pfeedd, "hung").consumers == 0);
    file = fopen(pfeedd->config, "we");
    CHECK(file && fputs(config("16", "fine", NULL), file) >= 0 && fclose(file) == 0 && kill(pfeedd->pid, SIGHUP) == 0,
          "cannot ask for a reload");
    UNTIL(stat_feeds(pfeedd, rows, 4) == 1);
    history_destroy(run_epochs("fine", 1, (FILES - HUNG) / BATCH));
    stat_daemon(pfeedd, &about);
    CHECK(!strstr(about.status, "1 feeds"), "the change has not waited: %s", about.status);
    word_set(&slow->held_below, 0);
    UNTIL((stat_daemon(pfeedd, &about), strstr(about.status, "1 feeds")));
    history_destroy(run_epochs("fine", 1, (FILES - HUNG) / BATCH));
    daemon_stop(pfeedd);
    end_storage();
}

static unsigned depths_told(const char *of)
{
    char *said = daemon_output(pfeedd);
    unsigned n = 0;

    for (const char *at = said; (at = strstr(at, of)); at++)
        n++;
    free(said);
    return n;
}

/* The same of a feed whose depth is found: what its last reads take says nothing of it any more, as it is gone. */
static void run_forgotten(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct pf_row_daemon about;
    struct pf_row_feed rows[4];
    struct endless *endless;
    struct trainer *trainer;
    unsigned told;
    FILE *file;

    make_storage(BYTES);
    count_set(&slow->delay_ns, 50 * MS);
    word_set(&slow->rule, SLOWFS_DELAY);
    start("auto", threads, "hung", "fine");
    need_way(threads);
    trainer = start_endless("hung", &endless);
    UNTIL(feed_now(pfeedd, "hung").read_ahead >= 32)
    {
    }
    word_set(&slow->held_below, HUNG);
    UNTIL(slowfs_now(slow) >= 32);
    trainer_kill(trainer);
    UNTIL(feed_now(pfeedd, "hung").consumers == 0);
    file = fopen(pfeedd->config, "we");
    CHECK(file && fputs(config("auto", "fine", NULL), file) >= 0 && fclose(file) == 0 && kill(pfeedd->pid, SIGHUP) == 0,
          "cannot ask for a reload");
    UNTIL(stat_feeds(pfeedd, rows, 4) == 1);
    told = depths_told("feed 'hung': read_depth from ");
    word_set(&slow->held_below, 0);
    UNTIL((stat_daemon(pfeedd, &about), strstr(about.status, "1 feeds")));
    CHECK(told > 0 && depths_told("feed 'hung': read_depth from ") == told, "the depth of a feed that is gone has changed");
    daemon_stop(pfeedd);
    end_storage();
}

/* Every second one has become a pipe into which nobody writes: no read of them may stay. */
static void run_pipes(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct endless *endless;
    struct trainer *trainer;
    int pipes[MEMBERS];
    char path[128];

    make_shard();
    write_members();
    daemon_prepare = threads ? refuse_uring : NULL;
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, members_yaml());
    need_way(threads);
    for (uint32_t i = 0; i < MEMBERS; i += 2) {
        snprintf(path, sizeof(path), "%s/s%03u.bin", folder, i);
        CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0 && (pipes[i] = open(path, O_RDWR | O_CLOEXEC)) >= 0,
              "cannot make a pipe of %s", path);
    }
    trainer = start_endless("all", &endless);
    UNTIL(feed_now(pfeedd, "all").reads_awaited + feed_now(pfeedd, "all").reads_ahead >= 16) /* workers may be the first ones */
    {
    }
    word_set(&endless->stop, 1);
    trainer_wait(trainer);
    daemon_stop(pfeedd);
    CHECK(!has_said("a read ahead is stuck", ""), "a read of a pipe has not come back");
    for (uint32_t i = 0; i < MEMBERS; i += 2)
        close(pipes[i]);
    remove_folder(folder);
}

/* kill -9 with reads under way; the next one goes on. And SIGTERM: it ends without them. */
static void run_killed(const void *arg)
{
    const bool threads = *(const bool *)arg;
    struct history *history = history_create(2 * STEPS, 2 * FILES);
    struct plan plan = { .daemon = pfeedd, .feed = "all", .epochs = 2, .history = history };
    struct trainer *trainer;

    make_storage(BYTES);
    start("16", threads, "all", NULL);
    need_way(threads);
    word_set(&slow->rule, SLOWFS_HOLD);
    trainer = trainer_start("all", train, &plan);
    UNTIL(slowfs_now(slow) >= 16);
    daemon_kill(pfeedd);
    word_set(&slow->rule, SLOWFS_AT_ONCE);
    daemon_again(pfeedd);
    trainer_wait(trainer);
    history_check(history, "all", 2, STEPS);
    history_destroy(history);
    if (!sanitized("thread")) { /* to which threads that are left behind are an error */
        word_set(&slow->rule, SLOWFS_HOLD);
        trainer = trainer_start("asking", asks, &(struct plan){ .daemon = pfeedd, .feed = "all" });
        UNTIL(slowfs_now(slow) >= 16);
        trainer_kill(trainer);
    }
    daemon_stop(pfeedd);
    end_storage();
}

int main(int argc, char **argv)
{
    static const bool no = false, yes = true;
    static const struct test tests[] = {
        { "depth by io_uring", run_depth, &no },
        { "depth by threads", run_depth, &yes },
        { "depth where the ring is busy", run_busy, NULL },
        { "the same bytes", run_bytes, NULL },
        { "the same bytes of reads that fail", run_faults, NULL },
        { "the same bytes of shards", run_shards, NULL },
        { "refused", run_refused, NULL },
        { "lost", run_lost, NULL },
        { "rises by io_uring", run_rises, &no },
        { "rises by threads", run_rises, &yes },
        { "falls", run_falls, NULL },
        { "hung by io_uring", run_hung, &no },
        { "hung by threads", run_hung, &yes },
        { "removed by io_uring", run_removed, &no },
        { "removed by threads", run_removed, &yes },
        { "forgotten by io_uring", run_forgotten, &no },
        { "forgotten by threads", run_forgotten, &yes },
        { "pipes by io_uring", run_pipes, &no },
        { "pipes by threads", run_pipes, &yes },
        { "killed by io_uring", run_killed, &no },
        { "killed by threads", run_killed, &yes },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
