/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promises 1 and 3, and section 8's batch arithmetic, by the ids that trainers report. For each mode, tail
 * and shuffle one daemon with a feed for every length; on each feed jobs of world 1 to 4, with options.batch given and not,
 * run for 3 epochs, one process a rank. What the ranks saw is put together to positions of the epoch's order:
 *   step k of rank r is positions (k * world + r) * b ...; every position below N carries another sample; position j >= N
 *   (pad) carries what position j mod N does, flagged; positions that no step holds (drop) are counted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

#define BATCH      8u /* of every feed */
#define EPOCHS     3u
#define WORLD_MAX  4u
#define LENGTH_MAX 100u /* samples */
#define POSITIONS  (LENGTH_MAX + WORLD_MAX * BATCH)

struct kind {
    const char *mode, *tail;
    bool shuffle;
};

static const struct division { /* of a step */
    uint32_t world, batch;
} divisions[] = { { 1, 0 }, { 2, 0 }, { 4, 0 }, { 1, 2 }, { 2, 2 }, { 3, 2 }, { 4, 2 }, { 1, 8 }, { 2, 8 }, { 4, 8 } };

/* An epoch of a job as positions. */
struct epoch {
    struct history_row at[POSITIONS];
};

/* One job, or (mode each) one rank, which sees what a job of world 1 would. */
struct job {
    char name[64];
    const struct kind *kind;
    uint64_t samples, steps;
    uint32_t world, rank_rows; /* G = world * rank_rows */
    struct history *const *ranks;
};

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static void gather_rank(const struct job *job, uint32_t rank, uint64_t epoch, struct epoch *out, uint64_t *n)
{
    const struct history *history = job->ranks[rank];

    for (uint64_t k = 0; k < job->steps; k++) {
        const struct history_step *step = &history->steps[epoch * job->steps + k];
        uint64_t position = (k * job->world + rank) * job->rank_rows;
        uint64_t rows =
            is(job->kind->tail, "partial") && job->samples - position < job->rank_rows ? job->samples - position : job->rank_rows;

        CHECK(step->rows == rows, "%s: epoch %llu step %llu has %u rows, not %llu", job->name, (unsigned long long)epoch,
              (unsigned long long)k, step->rows, (unsigned long long)rows);
        for (uint64_t i = 0; i < rows; i++)
            out->at[position + i] = history->rows[step->first + i];
        *n += rows;
    }
}

static void check_positions(const struct job *job, uint64_t epoch, const struct epoch *seen, uint64_t n)
{
    bool there[LENGTH_MAX] = { false };

    for (uint64_t j = 0; j < n; j++) {
        const struct history_row *row = &seen->at[j], *first = &seen->at[j % job->samples];

        if (j >= job->samples) {
            CHECK(row->flags == PFEED_ROW_PADDED && row->id == first->id && row->hash == first->hash,
                  "%s: epoch %llu position %llu: flags %llu, id %llu; it should be padded with id %llu and its bytes", job->name,
                  (unsigned long long)epoch, (unsigned long long)j, (unsigned long long)row->flags, (unsigned long long)row->id,
                  (unsigned long long)first->id);
            continue;
        }
        CHECK(row->flags == 0, "%s: epoch %llu position %llu: flags %llu", job->name, (unsigned long long)epoch,
              (unsigned long long)j, (unsigned long long)row->flags);
        CHECK(row->id < job->samples && !there[row->id], "%s: epoch %llu position %llu: id %llu %s", job->name,
              (unsigned long long)epoch, (unsigned long long)j, (unsigned long long)row->id,
              row->id < job->samples ? "a second time" : "does not exist");
        CHECK(job->kind->shuffle || row->id == j, "%s: position %llu has id %llu without shuffling", job->name,
              (unsigned long long)j, (unsigned long long)row->id);
        there[row->id] = true;
    }
}

/* The order is a function of (feed, seed, epoch) only: the same for every division of the same feed; and every epoch's another. */
static void check_order(const struct job *job, const struct epoch epochs[EPOCHS], uint64_t n, struct epoch known[EPOCHS])
{
    uint64_t real = n < job->samples ? n : job->samples;

    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++)
        for (uint64_t j = 0; j < real; j++) {
            struct history_row *row = &known[epoch].at[j];

            CHECK(row->flags == 0 || (row->id == epochs[epoch].at[j].id && row->hash == epochs[epoch].at[j].hash),
                  "%s: epoch %llu position %llu: id %llu or its bytes differ from other jobs' id %llu", job->name,
                  (unsigned long long)epoch, (unsigned long long)j, (unsigned long long)epochs[epoch].at[j].id,
                  (unsigned long long)row->id);
            *row = epochs[epoch].at[j];
            row->flags = 1; /* known */
        }
    if (!job->kind->shuffle || real < 12) /* of 12! orders two are not equal by chance */
        return;
    for (uint64_t epoch = 1; epoch < EPOCHS; epoch++)
        for (uint64_t other = 0; other < epoch; other++) {
            uint64_t j = 0;

            while (j < real && epochs[epoch].at[j].id == epochs[other].at[j].id)
                j++;
            CHECK(j < real, "%s: epochs %llu and %llu have the same order", job->name, (unsigned long long)epoch,
                  (unsigned long long)other);
        }
}

static void check_job(const struct job *job, struct epoch known[EPOCHS])
{
    static struct epoch epochs[EPOCHS];
    uint64_t group = (uint64_t)job->world * job->rank_rows;
    uint64_t expected = is(job->kind->tail, "partial") ? job->samples : job->steps * group, n = 0;

    for (uint32_t rank = 0; rank < job->world; rank++)
        history_check(job->ranks[rank], job->name, EPOCHS, job->steps);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        n = 0;
        for (uint32_t rank = 0; rank < job->world; rank++)
            gather_rank(job, rank, epoch, &epochs[epoch], &n);
        CHECK(n == expected, "%s: %llu rows in epoch %llu, not %llu", job->name, (unsigned long long)n, (unsigned long long)epoch,
              (unsigned long long)expected);
        check_positions(job, epoch, &epochs[epoch], n);
    }
    check_order(job, epochs, n, known);
}

static void check_refusals(const char *name, struct history *const *ranks, uint32_t world, const char *word)
{
    for (uint32_t rank = 0; rank < world; rank++) {
        CHECK(ranks[rank]->open_rc == -EINVAL, "%s: rank %u is to be refused with -EINVAL; pfeed_open gave %d and %llu steps",
              name, rank, ranks[rank]->open_rc, (unsigned long long)ranks[rank]->n_steps);
        CHECK(strstr(ranks[rank]->sentence, word) && strlen(ranks[rank]->sentence) > 20,
              "%s: the refusal says '%s', without '%s'", name, ranks[rank]->sentence, word);
    }
}

/* ---- running -------------------------------------------------------------------------------------------------------- */

static void start_and_wait(struct plan *plans, uint32_t world)
{
    struct trainer *trainers[WORLD_MAX];

    for (uint32_t rank = 0; rank < world; rank++) {
        char name[32];

        snprintf(name, sizeof(name), "%u of %s", rank, plans[rank].job);
        trainers[rank] = trainer_start(name, train, &plans[rank]);
    }
    for (uint32_t rank = 0; rank < world; rank++)
        trainer_wait(trainers[rank]);
}

static void check_counters(struct daemon *daemon, const struct job *job, const struct pf_row_feed *before, uint32_t jobs)
{
    struct pf_row_feed after;
    uint64_t group = (uint64_t)job->world * job->rank_rows, n = job->samples;
    uint64_t rows = is(job->kind->tail, "partial") ? n : job->steps * group;

    UNTIL(feed_at_rest(daemon, before->name));
    stat_feed(daemon, before->name, &after);
    CHECK(after.rows_granted - before->rows_granted == EPOCHS * rows * jobs, "%s: %llu rows granted, not %u x %llu", job->name,
          (unsigned long long)(after.rows_granted - before->rows_granted), EPOCHS * jobs, (unsigned long long)rows);
    CHECK(after.rows_delivered - before->rows_delivered == EPOCHS * rows * jobs, "%s: %llu rows delivered, not %u x %llu",
          job->name, (unsigned long long)(after.rows_delivered - before->rows_delivered), EPOCHS * jobs,
          (unsigned long long)rows);
    CHECK(after.rows_padded - before->rows_padded == EPOCHS * (rows > n ? rows - n : 0) * jobs, "%s: %llu rows padded", job->name,
          (unsigned long long)(after.rows_padded - before->rows_padded));
    CHECK(after.rows_left_out - before->rows_left_out == EPOCHS * (rows < n ? n - rows : 0) * jobs,
          "%s: %llu rows left out, not %u x %llu", job->name, (unsigned long long)(after.rows_left_out - before->rows_left_out),
          EPOCHS * jobs, (unsigned long long)(rows < n ? n - rows : 0));
}

/* What pfeedctl shows of a feed are the configuration's own words. */
static void check_words(struct daemon *daemon, const struct kind *kind, uint64_t samples)
{
    struct pf_row_feed row;
    char name[32];

    snprintf(name, sizeof(name), "n%llu", (unsigned long long)samples);
    row = feed_now(daemon, name);
    CHECK(is(row.tail, kind->tail) && is(row.deliver, kind->mode) && is(row.shuffle, kind->shuffle ? "global" : "none"),
          "feed %s is shown with tail %s, deliver %s, shuffle %s", name, row.tail, row.deliver, row.shuffle);
}

/* Every rank of a job of this division, on the feed of that length; then all its checks. */
static void run_division(struct daemon *daemon, const struct kind *kind, const struct division *division, uint64_t samples,
                         struct epoch known[EPOCHS])
{
    bool each = is(kind->mode, "each");
    uint32_t world = each ? 1 : division->world; /* that steps are divided by */
    uint32_t rank_rows = division->batch ? division->batch : BATCH / world;
    uint64_t group = (uint64_t)world * rank_rows;
    uint64_t steps = is(kind->tail, "drop") ? samples / group : (samples + group - 1) / group;
    struct history *histories[WORLD_MAX];
    struct plan plans[WORLD_MAX];
    struct pf_row_feed before;
    struct job job = { .kind = kind, .samples = samples, .steps = steps, .world = world, .rank_rows = rank_rows };
    char feed[16], name[64];

    snprintf(feed, sizeof(feed), "n%llu", (unsigned long long)samples);
    snprintf(name, sizeof(name), "n%llu-w%u-b%u", (unsigned long long)samples, division->world, division->batch);
    stat_feed(daemon, feed, &before);
    for (uint32_t rank = 0; rank < division->world; rank++) {
        histories[rank] = history_create(EPOCHS * (steps + 1), EPOCHS * (steps + 1) * rank_rows);
        plans[rank] = (struct plan){ .daemon = daemon,
                                     .feed = feed,
                                     .job = name,
                                     .rank = rank,
                                     .world = division->world,
                                     .batch = division->batch,
                                     .epochs = EPOCHS,
                                     .history = histories[rank] };
    }
    start_and_wait(plans, division->world);
    if (steps == 0) {
        check_refusals(name, histories, division->world, "drop");
    } else if (is(kind->tail, "partial") && world > 1) {
        check_refusals(name, histories, division->world, "partial");
    } else {
        for (uint32_t i = 0; i < (each ? division->world : 1); i++) {
            snprintf(job.name, sizeof(job.name), each ? "%.40s rank %u" : "%.40s", name, i);
            job.ranks = &histories[i];
            check_job(&job, known);
        }
        check_counters(daemon, &job, &before, each ? division->world : 1);
    }
    for (uint32_t rank = 0; rank < division->world; rank++)
        history_destroy(histories[rank]);
}

/* Lengths 1, kG - 1, kG, kG + 1 for every G that comes up, in both k. */
static size_t lengths_of(const struct kind *kind, uint64_t group, uint64_t lengths[7])
{
    const uint64_t all[] = { 1, group - 1, group, group + 1, 3 * group - 1, 3 * group, 3 * group + 1 };
    size_t n = 0;

    for (size_t i = 0; i < 7; i++) {
        bool again = all[i] < 1;

        for (size_t j = 0; j < n; j++)
            again |= lengths[j] == all[i];
        if (!again)
            lengths[n++] = all[i];
    }
    return n;
}

static uint64_t group_of(const struct kind *kind, const struct division *division)
{
    uint32_t world = is(kind->mode, "each") ? 1 : division->world;

    return division->batch ? (uint64_t)division->batch * world : BATCH;
}

static void write_feed(FILE *file, const struct kind *kind, uint64_t samples)
{
    fprintf(file,
            "  n%llu:\n"
            "    source: { type: synthetic, rows: %llu }\n"
            "    shuffle: { mode: %s, seed: 42 }\n"
            "    batch: %u\n"
            "    tail: %s\n"
            "    deliver: %s\n"
            "    slots: 24\n"
            "    fields: { x: { dtype: float32, shape: [4] } }\n",
            (unsigned long long)samples, (unsigned long long)samples, kind->shuffle ? "global" : "none", BATCH, kind->tail,
            kind->mode);
}

static char *make_yaml(const struct kind *kind)
{
    bool made[LENGTH_MAX] = { false };
    uint64_t lengths[7];
    size_t size;
    char *text;
    FILE *file = open_memstream(&text, &size);

    fprintf(file, "version: 1\ndaemon: { workers: 2, memory: 256MiB }\nfeeds:\n");
    for (size_t d = 0; d < sizeof(divisions) / sizeof(*divisions); d++)
        for (size_t i = 0, n = lengths_of(kind, group_of(kind, &divisions[d]), lengths); i < n; i++)
            if (!made[lengths[i]]) {
                made[lengths[i]] = true;
                write_feed(file, kind, lengths[i]);
            }
    fclose(file);
    return text;
}

static void run_kind(const void *arg)
{
    static struct epoch known[LENGTH_MAX][EPOCHS];
    const struct kind *kind = arg;
    char *yaml = make_yaml(kind);
    static struct daemon daemon;
    uint64_t lengths[7];

    daemon_start(&daemon, yaml);
    free(yaml);
    for (size_t d = 0; d < sizeof(divisions) / sizeof(*divisions); d++)
        for (size_t i = 0, n = lengths_of(kind, group_of(kind, &divisions[d]), lengths); i < n; i++)
            run_division(&daemon, kind, &divisions[d], lengths[i], known[lengths[i]]);
    check_words(&daemon, kind, lengths[0]);
    daemon_stop(&daemon);
}

/* ---- many at once, few slots ---------------------------------------------------------------------------------------- */

#define CROWD_SAMPLES 97u
#define CROWD_ROUNDS  60u

/* Jobs that start when they like, at different places and with orders of their own, with hardly more slots than they need: slots
 * are given up and filled again, grants are revoked, and every job's history is as if it were alone. */
static void crowd_round(struct daemon *daemon, const struct kind *kind)
{
    static struct epoch known[2][EPOCHS];
    static const struct {
        const char *name;
        uint32_t world, batch, order;
    } jobs[] = { { "pair", 2, 0, 0 }, { "single", 1, 0, 0 }, { "apart", 1, 0, 1 }, { "small", 2, 2, 1 } };
    struct history *histories[sizeof(jobs) / sizeof(*jobs)][2];
    struct plan plans[sizeof(jobs) / sizeof(*jobs)][2];
    struct trainer *trainers[sizeof(jobs) / sizeof(*jobs)][2];

    for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++)
        for (uint32_t rank = 0; rank < jobs[i].world; rank++) {
            histories[i][rank] = history_create(EPOCHS * CROWD_SAMPLES, EPOCHS * (CROWD_SAMPLES + BATCH));
            plans[i][rank] = (struct plan){ .daemon = daemon,
                                            .feed = "crowd",
                                            .job = jobs[i].name,
                                            .rank = rank,
                                            .world = jobs[i].world,
                                            .batch = jobs[i].batch,
                                            .epochs = EPOCHS,
                                            .max_held = 1,
                                            .seed = jobs[i].order ? 77 : 0,
                                            .history = histories[i][rank] };
            trainers[i][rank] = trainer_start(jobs[i].name, train, &plans[i][rank]);
        }
    for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++)
        for (uint32_t rank = 0; rank < jobs[i].world; rank++)
            trainer_wait(trainers[i][rank]);
    for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++) {
        struct job job = { .kind = kind, .samples = CROWD_SAMPLES, .world = jobs[i].world, .ranks = histories[i] };
        uint64_t group;

        job.rank_rows = jobs[i].batch ? jobs[i].batch : BATCH / jobs[i].world;
        group = (uint64_t)job.rank_rows * job.world;
        job.steps = is(kind->tail, "drop") ? CROWD_SAMPLES / group : (CROWD_SAMPLES + group - 1) / group;
        snprintf(job.name, sizeof(job.name), "%s in the crowd", jobs[i].name);
        check_job(&job, known[jobs[i].order]);
        for (uint32_t rank = 0; rank < jobs[i].world; rank++)
            history_destroy(histories[i][rank]);
    }
}

/* What each job of a round gets of an epoch, in rows. */
static uint64_t crowd_rows(const struct kind *kind)
{
    const uint64_t groups[] = { BATCH, BATCH, BATCH, 4 };
    uint64_t rows = 0;

    for (size_t i = 0; i < 4; i++)
        rows += is(kind->tail, "drop") ? CROWD_SAMPLES / groups[i] * groups[i]
                                       : (CROWD_SAMPLES + groups[i] - 1) / groups[i] * groups[i];
    return rows;
}

static void run_crowd(const void *arg)
{
    const struct kind *kind = arg;
    const uint64_t all = 4 * CROWD_SAMPLES, rows = crowd_rows(kind), times = EPOCHS * CROWD_ROUNDS;
    static struct daemon daemon;
    struct pf_row_feed feed;
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  crowd:\n    source: { type: synthetic, rows: %u }\n"
             "    shuffle: { mode: global, seed: 42 }\n    batch: %u\n    tail: %s\n    slots: 12\n"
             "    fields: { x: { dtype: float32, shape: [4] } }\n",
             CROWD_SAMPLES, BATCH, kind->tail);
    daemon_start(&daemon, yaml);
    for (unsigned round = 0; round < CROWD_ROUNDS; round++)
        crowd_round(&daemon, kind);
    UNTIL(feed_at_rest(&daemon, "crowd"));
    stat_feed(&daemon, "crowd", &feed);
    note("%llu rows granted, %llu filled, %llu slots given up early", (unsigned long long)feed.rows_granted,
         (unsigned long long)feed.rows_filled, (unsigned long long)feed.slots_evicted);
    CHECK(feed.rows_granted == times * rows && feed.rows_delivered == times * rows, "%llu rows granted, %llu delivered, not %llu",
          (unsigned long long)feed.rows_granted, (unsigned long long)feed.rows_delivered, (unsigned long long)(times * rows));
    CHECK(feed.rows_padded == times * (rows > all ? rows - all : 0), "%llu rows padded, not %llu",
          (unsigned long long)feed.rows_padded, (unsigned long long)(times * (rows > all ? rows - all : 0)));
    CHECK(feed.rows_left_out == times * (rows < all ? all - rows : 0), "%llu rows left out, not %llu",
          (unsigned long long)feed.rows_left_out, (unsigned long long)(times * (rows < all ? all - rows : 0)));
    daemon_stop(&daemon);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------- */

static void run_refused(struct daemon *daemon, const char *feed, uint32_t world, uint32_t batch, const char *word)
{
    struct history *history = history_create(64, 512);
    struct plan plan = {
        .daemon = daemon, .feed = feed, .job = "refused", .world = world, .batch = batch, .epochs = 1, .history = history
    };
    struct trainer *trainer = trainer_start("refused", train, &plan);

    trainer_wait(trainer);
    check_refusals(feed, &history, 1, word);
    history_destroy(history);
}

/* A source without samples: the configuration or the attach is refused, and the reason names it. */
static void run_empty(const char *source, const char *fields)
{
    static struct daemon daemon;
    char yaml[512], *output;
    int status;

    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  empty:\n    source: %s\n    batch: 4\n    fields: { %s }\n",
        source, fields);
    status = daemon_try(&daemon, yaml);
    if (status == -1) {
        run_refused(&daemon, "empty", 1, 0, "sample");
        return;
    }
    output = daemon_output(&daemon);
    CHECK(status != 0, "the daemon ended with 0 before it was ready");
    CHECK(strstr(output, "rows") || strstr(output, "sample") || strstr(output, "empty"), "no reason is given");
    free(output);
}

static void run_empty_synthetic(const void *arg)
{
    run_empty("{ type: synthetic, rows: 0 }", "x: { dtype: float32, shape: [4] }");
}

static void run_empty_directory(const void *arg)
{
    char folder[] = "/tmp/pfeed-test-XXXXXX", source[64];

    CHECK(mkdtemp(folder), "cannot make %s", folder);
    snprintf(source, sizeof(source), "{ type: directory, path: %s }", folder);
    run_empty(source, "label: { dtype: int64 }");
    remove_folder(folder);
}

/* Divisions that do not go into the slot, each with its sentence. */
static void run_uneven(const void *arg)
{
    static struct daemon daemon;

    daemon_start(&daemon, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  uneven:\n"
                          "    source: { type: synthetic, rows: 100 }\n    batch: 8\n    slots: 24\n"
                          "    fields: { x: { dtype: float32, shape: [4] } }\n");
    run_refused(&daemon, "uneven", 3, 0, "world");
    run_refused(&daemon, "uneven", 1, 3, "batch");
    run_refused(&daemon, "uneven", 1, 16, "batch");
    UNTIL(feed_at_rest(&daemon, "uneven"));
}

/* The feed's own `epochs` ends a job too. */
static void run_feed_epochs(const void *arg)
{
    static struct daemon daemon;
    struct history *history = history_create(100, 100);
    struct plan plan = { .daemon = &daemon, .feed = "short", .history = history };

    daemon_start(&daemon, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  short:\n"
                          "    source: { type: synthetic, rows: 20 }\n    batch: 4\n    epochs: 2\n    slots: 8\n"
                          "    fields: { x: { dtype: float32, shape: [4] } }\n");
    trainer_wait(trainer_start("short", train, &plan));
    history_check(history, "short", 2, 5);
    history_destroy(history);
}

#define KIND(mode, tail, shuffle)                                                                                                \
    {                                                                                                                            \
        mode ", " tail ", shuffle " #shuffle, run_kind, &(const struct kind)                                                     \
        {                                                                                                                        \
            mode, tail, shuffle                                                                                                  \
        }                                                                                                                        \
    }

int main(int argc, char **argv)
{
    const struct test tests[] = {
        KIND("split", "drop", true),
        KIND("split", "drop", false),
        KIND("split", "pad", true),
        KIND("split", "pad", false),
        KIND("split", "partial", true),
        KIND("split", "partial", false),
        KIND("each", "drop", true),
        KIND("each", "drop", false),
        KIND("each", "pad", true),
        KIND("each", "pad", false),
        KIND("each", "partial", true),
        KIND("each", "partial", false),
        { "crowd, drop", run_crowd, &(const struct kind){ "split", "drop", true } },
        { "crowd, pad", run_crowd, &(const struct kind){ "split", "pad", true } },
        { "no samples: synthetic", run_empty_synthetic, NULL },
        { "no samples: directory", run_empty_directory, NULL },
        { "uneven divisions", run_uneven, NULL },
        { "epochs of the feed", run_feed_epochs, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
