/* SPDX-License-Identifier: MIT */
/*
 * Promise 4 and DESIGN section 8: a token resumes the very history, at every world of the same G; one that is not of this feed as it
 * is now is refused with what differs; ranks that differ are refused with both steps; a rank that has gone comes back at its own next
 * step only; a seek moves all ranks alike; `live` joins what runs. Handles of several ranks live in one process here, so that what
 * each of them gets is seen in one place.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define ROWS  60u /* no multiple of G: 7 steps and a tail */
#define BATCH 8u
#define STEPS (ROWS / BATCH)
#define MOST  4u

static struct daemon pfeedd;

/* rows, batch, further keys of the feed `f`; a feed `g` beside it. */
static const char *recipe(unsigned rows, const char *more)
{
    static char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n"
             "  f:\n    source: { type: synthetic, rows: %u }\n    batch: %u\n    slots: 24\n%s"
             "  g:\n    source: { type: synthetic, rows: %u }\n    batch: %u\n    slots: 24\n"
             "    fields: { x: { dtype: float32, shape: [16] } }\n",
             rows, BATCH, more, rows, BATCH);
    return yaml;
}
#define FIELDS "    fields: { x: { dtype: float32, shape: [16] } }\n"

static struct pfeed_options options_of(const char *job, uint32_t rank, uint32_t world, const char *start)
{
    return (struct pfeed_options){ .size = sizeof(struct pfeed_options),
                                   .socket = pfeedd.socket,
                                   .feed = "f",
                                   .job = job,
                                   .rank = rank,
                                   .world = world,
                                   .start = start };
}

static struct pfeed *must_open(const char *job, uint32_t rank, uint32_t world, const char *start)
{
    struct pfeed_options options = options_of(job, rank, world, start);
    struct pfeed *pf = NULL;
    int rc = pfeed_open(&pf, &options);

    CHECK(rc == 0, "pfeed_open of rank %u with start '%s': %d: %s", rank, start ? start : "", rc, pfeed_error(NULL));
    return pf;
}

static void refused(const struct pfeed_options *options, int code, const char *words)
{
    struct pfeed *pf = NULL;
    int rc = pfeed_open(&pf, options);

    CHECK(rc == code && !pf, "pfeed_open with start '%s' gives %d, not %d: %s", options->start ? options->start : "", rc, code,
          pfeed_error(NULL));
    CHECK(strstr(pfeed_error(NULL), words), "the sentence does not say '%s': %s", words, pfeed_error(NULL));
}

static void token_of(struct pfeed *pf, const struct pfeed_batch *batch, char text[PFEED_TOKEN_MAX])
{
    int rc = pfeed_token(pf, batch, text, PFEED_TOKEN_MAX);

    CHECK(rc >= 0, "pfeed_token: %d: %s", rc, pfeed_error(pf));
}

/* The ids of one global step, over all ranks; each rank is at the same step. */
static void step_of(struct pfeed **ranks, uint32_t world, uint64_t epoch, uint64_t step, uint64_t ids[BATCH])
{
    for (uint32_t r = 0; r < world; r++) {
        struct pfeed_batch *batch = must_next(ranks[r]);
        const struct pfeed_info *info = pfeed_info(batch);

        CHECK(info->epoch == epoch && info->step == step && info->rows == BATCH / world,
              "rank %u of %u is at epoch %llu step %llu with %u rows, not at %llu, %llu", r, world,
              (unsigned long long)info->epoch, (unsigned long long)info->step, info->rows, (unsigned long long)epoch,
              (unsigned long long)step);
        memcpy(ids + r * (BATCH / world), info->ids, info->rows * sizeof(*ids));
        must_done(ranks[r], batch);
    }
}

static void check_step(struct pfeed **ranks, uint32_t world, uint64_t place, uint64_t (*all)[BATCH])
{
    uint64_t ids[BATCH];

    step_of(ranks, world, place / STEPS, place % STEPS, ids);
    CHECK(memcmp(ids, all[place], sizeof(ids)) == 0, "the samples of step %llu are others at world %u", (unsigned long long)place,
          world);
}

static void close_all(struct pfeed **ranks, uint32_t world)
{
    for (uint32_t r = 0; r < world; r++)
        pfeed_close(ranks[r]);
}

/* At each step of two epochs: stop, and resume at another world. The tokens of all ranks are the same. */
static void run_elastic(const void *arg)
{
    static const uint32_t worlds[] = { 2, 4, 1, 8 };
    uint64_t all[2 * STEPS + 2][BATCH];
    char tokens[2 * STEPS + 1][PFEED_TOKEN_MAX], again[PFEED_TOKEN_MAX];
    struct pfeed *ranks[8];

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    ranks[0] = must_open("one", 0, 1, NULL);
    token_of(ranks[0], NULL, tokens[0]);
    for (uint64_t k = 0; k < 2 * STEPS + 2; k++) {
        struct pfeed_batch *batch = must_next(ranks[0]);

        memcpy(all[k], pfeed_info(batch)->ids, sizeof(all[k]));
        if (k < 2 * STEPS) {
            token_of(ranks[0], batch, tokens[k + 1]);
            token_of(ranks[0], NULL, again);
            CHECK(strcmp(tokens[k + 1], again) == 0, "after the last batch it is '%s', not '%s'", again, tokens[k + 1]);
        }
        must_done(ranks[0], batch);
    }
    pfeed_close(ranks[0]);
    for (uint64_t k = 0; k <= 2 * STEPS; k++) {
        const uint32_t world = worlds[k % 4];

        for (uint32_t r = 0; r < world; r++)
            ranks[r] = must_open("again", r, world, tokens[k]);
        for (uint32_t r = 0; r < world; r++) {
            token_of(ranks[r], NULL, again);
            CHECK(strcmp(again, tokens[k]) == 0, "rank %u begins with '%s', not '%s'", r, again, tokens[k]);
        }
        for (uint64_t to = k; to < k + 2; to++)
            check_step(ranks, world, to, all);
        close_all(ranks, world);
    }
    daemon_stop(&pfeedd);
}

static void edit(char *text, const char *from, char to)
{
    char *at = strstr(text, from);

    CHECK(at, "no '%s' in '%s'", from, text);
    at[0] = to;
}

/* One batch of f with the token after it. */
static void make_token(char text[PFEED_TOKEN_MAX])
{
    struct pfeed *pf = must_open(NULL, 0, 1, NULL);
    struct pfeed_batch *batch = must_next(pf);

    token_of(pf, batch, text);
    must_done(pf, batch);
    pfeed_close(pf);
}

static void reload(const char *yaml)
{
    char *report = NULL;
    int rc = daemon_reload(&pfeedd, yaml, NULL, &report);

    CHECK(rc == 0, "the reload says %d: %s", rc, report ? report : "");
    free(report);
}

static void run_refused(const void *arg)
{
    static const struct {
        const char *what, *fields;
        unsigned rows;
        const char *words;
    } changes[] = {
        { "rows", FIELDS, ROWS + 4, "the data of feed 'f' has changed: 60 samples when the token was made, 64 now" },
        { "values", "    fields: { x: { dtype: float16, shape: [16] } }\n", ROWS,
          "as many samples, but other names, sizes or classes" },
        { "recipe", "    on_error: mask\n" FIELDS, ROWS, "the recipe of feed 'f' has changed" },
        { "order", "    shuffle: none\n" FIELDS, ROWS, "the order of feed 'f' has changed" },
        { "tail", "    tail: pad\n" FIELDS, ROWS, "the order of feed 'f' has changed" },
        { "held", "    max_held: 1\n" FIELDS, ROWS, NULL }, /* no history depends on it */
    };
    char token[PFEED_TOKEN_MAX], edited[PFEED_TOKEN_MAX];
    struct pfeed_options options = options_of(NULL, 0, 1, token);
    struct pfeed_batch *batch;
    struct pfeed *pf;

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    make_token(token);
    options.feed = "g";
    refused(&options, -EINVAL, "the token is of feed 'f', and this is feed 'g'");
    options.feed = "f";
    options.batch = 4;
    refused(&options, -EINVAL, "the token is of steps of 8 rows over all ranks, and this job's have 4 (world 1 x batch 4)");
    options.batch = 0;
    options.seed = 5;
    refused(&options, -EINVAL, "the token is of seed 0, and options.seed is 5");
    options.seed = 0;
    options.start = edited;
    strcpy(edited, token);
    edit(edited, "60:", '7');
    refused(&options, -EBADMSG, "cut or edited");
    strcpy(edited, token);
    edited[strlen(edited) - 1] = 0;
    refused(&options, -EBADMSG, "cut or edited");
    options.start = token;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        reload(recipe(changes[i].rows, changes[i].fields));
        options.flags = 0;
        if (changes[i].words)
            refused(&options, -EINVAL, changes[i].words);
        options.flags = changes[i].words ? PFEED_OPT_ACCEPT_CHANGED : 0;
        CHECK(pfeed_open(&pf, &options) == 0, "%s: not accepted: %s", changes[i].what, pfeed_error(NULL));
        batch = must_next(pf);
        CHECK(pfeed_info(batch)->epoch == 0 && pfeed_info(batch)->step == 1, "%s: it goes on at step %llu", changes[i].what,
              (unsigned long long)pfeed_info(batch)->step);
        must_done(pf, batch);
        pfeed_close(pf);
    }
    daemon_stop(&pfeedd);
}

/* Ranks whose tokens differ; a rank that was killed. */
static void leave_at(void *arg)
{
    struct pfeed *pf = must_open("j", 1, 2, NULL);

    for (unsigned k = 0; k < 2; k++)
        must_done(pf, must_next(pf));
    must_next(pf); /* and is killed with it */
    word_set(arg, 1);
    for (;;)
        pause();
}

static void run_ranks(const void *arg)
{
    char tokens[2][PFEED_TOKEN_MAX];
    struct pfeed_options options = options_of("k", 1, 2, tokens[1]);
    uint32_t *ready = shared_memory(sizeof(*ready));
    struct trainer *leaves;
    struct pfeed *ranks[2];
    struct pfeed_batch *batch;

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    ranks[0] = must_open(NULL, 0, 1, NULL);
    for (unsigned i = 0; i < 2; i++) {
        batch = must_next(ranks[0]);
        token_of(ranks[0], batch, tokens[i]);
        must_done(ranks[0], batch);
    }
    pfeed_close(ranks[0]);
    ranks[0] = must_open("k", 0, 2, tokens[0]);
    refused(&options, -EINVAL, "job 'k' starts at epoch 0 step 1, and rank 1 asks for epoch 0 step 2");
    options.start = NULL;
    refused(&options, -EINVAL, "job 'k' starts at epoch 0 step 1, and rank 1 asks for epoch 0 step 0");
    ranks[1] = must_open("k", 1, 2, "live"); /* wherever the others begin */
    batch = must_next(ranks[1]);
    CHECK(pfeed_info(batch)->step == 1, "rank 1 begins at step %llu", (unsigned long long)pfeed_info(batch)->step);
    must_done(ranks[1], batch);
    close_all(ranks, 2);

    leaves = trainer_start("leaves", leave_at, ready);
    ranks[0] = must_open("j", 0, 2, NULL);
    for (unsigned k = 0; k < 3; k++)
        must_done(ranks[0], must_next(ranks[0]));
    word_await(ready, 1);
    trainer_kill(leaves);
    UNTIL(feed_now(&pfeedd, "f").consumers == 1);
    options = options_of("j", 1, 2, NULL);
    refused(&options, -EBUSY, "rank 1 of job 'j' stands at epoch 0 step 2 (what it took from there on was not given back)");
    options.start = tokens[0];
    refused(&options, -EBUSY, "this attach is for epoch 0 step 1");
    options.start = tokens[1]; /* after step 1: the batch that it died with comes again */
    CHECK(pfeed_open(&ranks[1], &options) == 0, "it cannot come back: %s", pfeed_error(NULL));
    batch = must_next(ranks[1]);
    CHECK(pfeed_info(batch)->step == 2, "it comes back at step %llu", (unsigned long long)pfeed_info(batch)->step);
    must_done(ranks[1], batch);
    pfeed_close(ranks[1]);
    ranks[1] = must_open("j", 1, 2, "live");
    batch = must_next(ranks[1]);
    CHECK(pfeed_info(batch)->step == 3, "it comes back at step %llu", (unsigned long long)pfeed_info(batch)->step);
    must_done(ranks[1], batch);
    batch = must_next(ranks[0]); /* who went on without it */
    CHECK(pfeed_info(batch)->step == 3, "rank 0 is at step %llu", (unsigned long long)pfeed_info(batch)->step);
    must_done(ranks[0], batch);
    close_all(ranks, 2);
    daemon_stop(&pfeedd);
}

static void seek(struct pfeed *pf, const char *where, int code, const char *words)
{
    int rc = pfeed_seek(pf, where);

    CHECK(rc == code, "pfeed_seek to '%s' gives %d, not %d: %s", where, rc, code, pfeed_error(pf));
    CHECK(code == 0 || strstr(pfeed_error(pf), words), "the sentence does not say '%s': %s", words, pfeed_error(pf));
}

static void run_seek(const void *arg)
{
    uint64_t all[3 * STEPS][BATCH], hash;
    char token[PFEED_TOKEN_MAX];
    struct pfeed_batch *held, *batch;
    struct pfeed *ranks[2];

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    ranks[0] = must_open("one", 0, 1, NULL);
    for (uint64_t k = 0; k < 3 * STEPS; k++) {
        batch = must_next(ranks[0]);
        memcpy(all[k], pfeed_info(batch)->ids, sizeof(all[k]));
        if (k == 3)
            token_of(ranks[0], batch, token);
        must_done(ranks[0], batch);
    }
    held = must_next(ranks[0]);
    hash = batch_hash(held);
    seek(ranks[0], token, 0, NULL);
    check_step(ranks, 1, 4, all);
    seek(ranks[0], "epoch:2", 0, NULL);
    check_step(ranks, 1, 2 * STEPS, all);
    seek(ranks[0], "restart", 0, NULL);
    check_step(ranks, 1, 0, all);
    seek(ranks[0], "epoch:-1", -EINVAL, "cannot seek to 'epoch:-1'");
    seek(ranks[0], "later", -EINVAL, "cannot seek to 'later'");
    check_step(ranks, 1, 1, all); /* and has changed nothing */
    CHECK(batch_hash(held) == hash, "what was held over the seeks has changed");
    must_done(ranks[0], held);
    pfeed_close(ranks[0]);

    for (uint32_t r = 0; r < 2; r++)
        ranks[r] = must_open("two", r, 2, NULL);
    for (uint64_t k = 0; k < 3; k++)
        check_step(ranks, 2, k, all);
    seek(ranks[0], token, 0, NULL);
    seek(ranks[1], "epoch:1", -EINVAL, "job 'two' seeks to epoch 0 step 4, and rank 1 to epoch 1 step 0");
    seek(ranks[0], "epoch:1", -EBUSY, "rank 1 of job 'two'");
    seek(ranks[1], token, 0, NULL);
    for (uint64_t k = 4; k < STEPS + 2; k++)
        check_step(ranks, 2, k, all);
    close_all(ranks, 2);
    daemon_stop(&pfeedd);
}

static void must_step(struct pfeed *pf, uint64_t place, const char *who)
{
    struct pfeed_batch *batch = must_next(pf);
    const struct pfeed_info *info = pfeed_info(batch);

    CHECK(info->epoch * STEPS + info->step == place, "%s is at step %llu, not at %llu", who,
          (unsigned long long)(info->epoch * STEPS + info->step), (unsigned long long)place);
    must_done(pf, batch);
}

/* Before all ranks are there, none seeks; and a daemon's death in the middle of a seek changes nothing. */
static void run_seek_apart(const void *arg)
{
    struct pfeed *ranks[2];

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    ranks[0] = must_open("two", 0, 2, NULL);
    seek(ranks[0], "epoch:1", -EBUSY, "only 1 of the 2 ranks of job 'two' that live here are attached");
    ranks[1] = must_open("two", 1, 2, NULL);
    for (uint32_t r = 0; r < 2; r++)
        seek(ranks[r], "epoch:1", 0, NULL);
    for (uint32_t r = 0; r < 2; r++)
        must_step(ranks[r], STEPS, "a rank");
    seek(ranks[0], "epoch:5", 0, NULL);
    daemon_kill(&pfeedd);
    daemon_again(&pfeedd);
    must_step(ranks[0], 5 * STEPS, "who had followed");
    seek(ranks[1], "epoch:5", 0, NULL);
    must_step(ranks[1], 5 * STEPS, "who follows now");
    seek(ranks[1], "epoch:6", 0, NULL);
    seek(ranks[0], "epoch:7", -EINVAL, "job 'two' seeks to epoch 6 step 0, and rank 0 to epoch 7 step 0");
    seek(ranks[0], "epoch:6", 0, NULL);
    for (uint32_t r = 0; r < 2; r++)
        must_step(ranks[r], 6 * STEPS, "a rank");
    seek(ranks[0], "epoch:1099511627776", -EINVAL, "E a plain number below 2^40");
    close_all(ranks, 2);
    daemon_stop(&pfeedd);
}

/* The end of a job's epochs, also where it begins there; and back from it. */
static void run_end(const void *arg)
{
    struct pfeed_options options = options_of(NULL, 0, 1, NULL);
    char token[PFEED_TOKEN_MAX];
    struct pfeed_batch *batch;
    struct pfeed *pf;

    options.epochs = 1;
    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    CHECK(pfeed_open(&pf, &options) == 0, "%s", pfeed_error(NULL));
    for (unsigned k = 0; k < STEPS; k++)
        must_done(pf, must_next(pf));
    token_of(pf, NULL, token);
    CHECK(pfeed_next(pf, &batch, 1000) == PFEED_EPOCH && pfeed_next(pf, &batch, 1000) == PFEED_END, "no end: %s",
          pfeed_error(pf));
    seek(pf, "epoch:1", -EINVAL, "the job has epochs 0 to 0");
    seek(pf, "restart", 0, NULL);
    batch = must_next(pf);
    CHECK(pfeed_info(batch)->epoch == 0 && pfeed_info(batch)->step == 0, "it restarts at step %llu",
          (unsigned long long)pfeed_info(batch)->step);
    must_done(pf, batch);
    pfeed_close(pf);
    options.start = token;
    CHECK(pfeed_open(&pf, &options) == 0, "%s", pfeed_error(NULL));
    for (unsigned i = 0; i < 2; i++)
        CHECK(pfeed_next(pf, &batch, 5000) == PFEED_END && !batch, "a job that begins at its end: %s", pfeed_error(pf));
    seek(pf, "epoch:0", 0, NULL);
    must_done(pf, must_next(pf));
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

static void run_live(const void *arg)
{
    struct pfeed *runs, *joins[3];
    struct pfeed_batch *batch;

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    joins[0] = must_open("alone", 0, 1, "live"); /* where nothing runs, it is fresh */
    batch = must_next(joins[0]);
    CHECK(pfeed_info(batch)->epoch == 0 && pfeed_info(batch)->step == 0, "live begins at step %llu",
          (unsigned long long)pfeed_info(batch)->step);
    must_done(joins[0], batch);
    pfeed_close(joins[0]);
    runs = must_open("runs", 0, 1, NULL);
    for (unsigned k = 0; k < STEPS + 3; k++)
        must_done(runs, must_next(runs));
    joins[1] = must_open("epoch", 0, 1, "live:epoch");
    joins[2] = must_open("now", 0, 1, "live");
    batch = must_next(joins[1]);
    CHECK(pfeed_info(batch)->epoch == 2 && pfeed_info(batch)->step == 0, "live:epoch begins at epoch %llu step %llu",
          (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step);
    must_done(joins[1], batch);
    batch = must_next(joins[2]);
    CHECK(pfeed_info(batch)->epoch >= 1 && pfeed_info(batch)->epoch * STEPS + pfeed_info(batch)->step >= STEPS + 3,
          "live begins at epoch %llu step %llu", (unsigned long long)pfeed_info(batch)->epoch,
          (unsigned long long)pfeed_info(batch)->step);
    must_done(joins[2], batch);
    pfeed_close(runs);
    close_all(joins + 1, 2);
    daemon_stop(&pfeedd);
}

/* Tensor-parallel peers: each replica of a rank gets its ranges, once each. */
static void run_replicas(const void *arg)
{
    struct pfeed_options options = options_of("r", 0, 2, NULL);
    struct pfeed *replicas[2][2];
    struct pfeed_batch *batch;
    uint64_t hashes[2];

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    for (uint32_t rank = 0; rank < 2; rank++)
        for (uint32_t replica = 0; replica < 2; replica++) {
            options.rank = rank;
            options.replica = replica;
            CHECK(pfeed_open(&replicas[rank][replica], &options) == 0, "%s", pfeed_error(NULL));
        }
    refused(&options, -EBUSY, "rank 1 of job 'r' is there already");
    options.replica = 256;
    refused(&options, -EINVAL, "replica is 256; it can be 0 to 255");
    for (uint64_t k = 0; k < 3 * STEPS; k++) {
        for (uint32_t i = 0; i < 4; i++) {
            batch = must_next(replicas[i / 2][i % 2]);
            CHECK(pfeed_info(batch)->epoch == k / STEPS && pfeed_info(batch)->step == k % STEPS, "replica %u is at step %llu", i,
                  (unsigned long long)pfeed_info(batch)->step);
            if (i % 2 == 0)
                hashes[i / 2] = batch_hash(batch);
            CHECK(batch_hash(batch) == hashes[i / 2], "replicas of rank %u differ at step %llu", i / 2, (unsigned long long)k);
            must_done(replicas[i / 2][i % 2], batch);
        }
        CHECK(hashes[0] != hashes[1], "both ranks get the same");
    }
    close_all(replicas[0], 2);
    close_all(replicas[1], 2);
    UNTIL(feed_at_rest(&pfeedd, "f"));
    daemon_stop(&pfeedd);
}

/* A new daemon's first knowledge of a job is a rank that died with the old one and was started again. Once a rank comes that was
 * there, the job is known to have begun: both go on without the third, which stands in an all-reduce, and the fourth may come back
 * at a step of its own. */
static void run_returns(const void *arg)
{
    struct pfeed *ranks[4];
    char tokens[4][PFEED_TOKEN_MAX];
    uint64_t next = 0;

    daemon_start(&pfeedd, recipe(ROWS, FIELDS));
    for (uint32_t r = 0; r < 4; r++)
        ranks[r] = must_open("j", r, 4, NULL);
    for (uint32_t r = 0; r < 4; r++) {
        for (uint64_t k = 0; k <= r; k++)
            must_step(ranks[r], k, "a rank");
        token_of(ranks[r], NULL, tokens[r]);
    }
    daemon_kill(&pfeedd);
    daemon_again(&pfeedd);
    pfeed_close(ranks[0]);
    pfeed_close(ranks[3]);
    ranks[0] = must_open("j", 0, 4, tokens[0]);
    for (next = 2; feed_now(&pfeedd, "f").consumers < 2;) { /* takes what the old daemon had granted, and then reconnects */
        struct pfeed_batch *batch = NULL;
        int rc = pfeed_next(ranks[1], &batch, 100);

        CHECK(rc == 0 || rc == PFEED_EPOCH || rc == -ETIMEDOUT, "pfeed_next gives %d: %s", rc, pfeed_error(ranks[1]));
        if (!batch)
            continue;
        CHECK(pfeed_info(batch)->epoch * STEPS + pfeed_info(batch)->step == next,
              "the one that reconnects is at step %llu, not %llu", (unsigned long long)pfeed_info(batch)->step,
              (unsigned long long)next);
        must_done(ranks[1], batch);
        next++;
    }
    for (uint64_t k = 1; k < 2 * STEPS; k++)
        must_step(ranks[0], k, "the one that came first");
    ranks[3] = must_open("j", 3, 4, tokens[3]);
    for (uint64_t k = 4; k < 2 * STEPS; k++)
        must_step(ranks[3], k, "the one that came last");
    must_step(ranks[2], 3, "the one that waited");
    must_step(ranks[1], next, "the one that reconnected");
    close_all(ranks, 4);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "any step, any world", run_elastic, NULL },
        { "tokens that do not fit", run_refused, NULL },
        { "ranks", run_ranks, NULL },
        { "seek", run_seek, NULL },
        { "seek before all are there, and over a restart", run_seek_apart, NULL },
        { "the end", run_end, NULL },
        { "live", run_live, NULL },
        { "replicas", run_replicas, NULL },
        { "one returns first", run_returns, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
