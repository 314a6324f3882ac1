/* SPDX-License-Identifier: MIT */
/*
 * What a split promises to those who train on one side of it and measure on the other, over one folder with bad files in it: no
 * sample is on both sides, every one is on one, and what stands in for a bad one is of the same side. A feed for measuring gives
 * each sample once, in the same order every epoch, with a short batch at the end. Repeated samples come side by side and differ.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define IMAGES 90u
#define BATCH  8u
#define EPOCHS 3u
#define REPEAT 3u

static struct daemon pfeedd;

static void spoil(const char *folder)
{
    char pattern[64];
    glob_t found;

    snprintf(pattern, sizeof(pattern), "%s/*/*", folder);
    CHECK(glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc == IMAGES, "%zu files", found.gl_pathc);
    for (size_t i = 0; i < IMAGES; i += 6) {
        FILE *file = fopen(found.gl_pathv[i], "we");

        CHECK(file && fputs("no picture", file) >= 0 && fclose(file) == 0, "cannot write %s", found.gl_pathv[i]);
    }
    globfree(&found);
}

static void start(const char *folder)
{
    static const char fields[] =
        "    slots: 4\n    max_errors: 1\n    batch: 8\n    fields:\n      image:\n        decode: image\n"
        "        transforms: [ random_resized_crop: { size: 16 } ]\n        dtype: uint8\n";
    char yaml[4096], weights[64];
    FILE *file;

    snprintf(weights, sizeof(weights), "%s/weights", folder); /* beside the classes: no picture */
    file = fopen(weights, "we");
    for (unsigned i = 0; file && i < IMAGES; i++)
        fprintf(file, "%u\n", 1 + i % 2);
    CHECK(file && fclose(file) == 0, "cannot write %s", weights);
    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: 2, memory: 512MiB }\nfeeds:\n"
        "  train:\n    source: &source { type: directory, path: %s }\n"
        "    split: { part: train, parts: &parts { train: 0.7, val: 0.3 }, key: 5 }\n    tail: pad\n%s"
        "  val:\n    source: *source\n    split: { part: val, parts: *parts, key: 5 }\n    shuffle: none\n    tail: partial\n%s"
        "  drawn:\n    source: *source\n    split: { part: val, parts: *parts, key: 5 }\n"
        "    shuffle: { mode: weighted, weights: %s, repeat: %u }\n    tail: pad\n%s",
        folder, fields, fields, weights, REPEAT, fields);
    daemon_start(&pfeedd, yaml);
}

static struct history *run(const char *feed)
{
    struct plan plan = { .daemon = &pfeedd, .feed = feed, .epochs = EPOCHS, .history = history_create(500, 4000) };

    trainer_wait(trainer_start(feed, train, &plan));
    CHECK(plan.history->rc == PFEED_END, "%s: %d: %s", feed, plan.history->rc, plan.history->sentence);
    return plan.history;
}

/* Of the rows of an epoch that are not padded. */
static uint32_t rows_of(const struct history *history, uint64_t epoch, const struct history_row **rows)
{
    uint32_t n = 0;

    for (uint64_t k = 0; k < history->n_steps; k++) {
        const struct history_step *step = &history->steps[k];

        for (uint32_t i = 0; step->epoch == epoch && i < step->rows; i++)
            if (!(history->rows[step->first + i].flags & PFEED_ROW_PADDED))
                rows[n++] = &history->rows[step->first + i];
    }
    return n;
}

/* How many samples there were on both together. */
static uint32_t check_sides(const struct history *const sides[2])
{
    uint8_t side_of[IMAGES], seen[IMAGES] = { 0 };
    uint32_t n_replaced[2] = { 0 }, n_samples = 0;

    memset(side_of, 0xff, sizeof(side_of));
    for (uint8_t s = 0; s < 2; s++)
        for (uint64_t r = 0; r < sides[s]->n_rows; r++) {
            const uint64_t id = sides[s]->rows[r].id;

            CHECK(id < IMAGES && (side_of[id] == 0xff || side_of[id] == s), "sample %llu is on both sides",
                  (unsigned long long)id);
            side_of[id] = s;
        }
    for (uint8_t s = 0; s < 2; s++)
        for (uint64_t r = 0; r < sides[s]->n_rows; r++) {
            const struct history_row *row = &sides[s]->rows[r];

            CHECK(row->used_id < IMAGES && side_of[row->used_id] != !s, "sample %llu stands in for %llu of the other side",
                  (unsigned long long)row->used_id, (unsigned long long)row->id);
            n_samples += seen[row->id]++ == 0;
            n_replaced[s] += (row->flags & PFEED_ROW_REPLACED) != 0;
        }
    CHECK(n_replaced[0] > 0 && n_replaced[1] > 0, "%u and %u rows were replaced", n_replaced[0], n_replaced[1]);
    return n_samples;
}

/* Each once an epoch; in ascending order, where the feed is not shuffled. */
static uint32_t check_once(const struct history *history, bool in_order)
{
    const struct history_row *rows[4000];
    uint32_t n = 0;

    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint8_t seen[IMAGES] = { 0 };

        n = rows_of(history, epoch, rows);
        for (uint32_t r = 0; r < n; r++) {
            CHECK(seen[rows[r]->id]++ == 0, "sample %llu came twice", (unsigned long long)rows[r]->id);
            CHECK(!in_order || r == 0 || rows[r]->id > rows[r - 1]->id, "row %u is not in order", r);
        }
    }
    return n;
}

static void check_partial(const struct history *history, uint32_t n)
{
    const struct history_step *last = &history->steps[history->n_steps - 1];

    CHECK(n % BATCH != 0, "%u samples leave no tail; take another key", n);
    CHECK(history->n_steps == EPOCHS * ((n + BATCH - 1) / BATCH), "%llu steps", (unsigned long long)history->n_steps);
    CHECK(last->rows == n % BATCH && last->valid == last->rows, "the last batch has %u rows of %u", last->rows, n % BATCH);
}

/* Those of one sample stand side by side, and no two of them are the same picture. */
static void check_repeated(const struct history *history, uint32_t n_val)
{
    const struct history_row *rows[4000];

    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        const uint32_t n = rows_of(history, epoch, rows);

        CHECK(n == n_val * REPEAT, "%u rows of an epoch, not %u x %u", n, n_val, REPEAT);
        for (uint32_t r = 0; r < n; r++) {
            CHECK(rows[r]->id == rows[r - r % REPEAT]->id, "row %u: another sample", r);
            for (uint32_t o = 0; o < r; o++)
                CHECK(rows[o]->id != rows[r]->id || rows[o]->flags || rows[o]->hash != rows[r]->hash,
                      "rows %u and %u of epoch %llu are the same picture of sample %llu", o, r, (unsigned long long)epoch,
                      (unsigned long long)rows[r]->id);
        }
    }
}

static void two_sides(const void *arg)
{
    char folder[] = "/tmp/pfeed-test-XXXXXX";
    struct history *sides[2], *drawn;
    uint32_t n[2];

    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    images_make(folder, IMAGES, 3);
    spoil(folder);
    start(folder);
    sides[0] = run("train");
    sides[1] = run("val");
    drawn = run("drawn");
    CHECK(check_sides((const struct history *const[]){ sides[0], sides[1] }) == IMAGES, "a sample is on no side");
    check_sides((const struct history *const[]){ sides[0], drawn });
    for (int s = 0; s < 2; s++)
        n[s] = check_once(sides[s], s == 1);
    CHECK(n[0] + n[1] == IMAGES, "%u + %u samples", n[0], n[1]);
    CHECK(feed_now(&pfeedd, "val").samples == n[1], "the feed says %llu samples",
          (unsigned long long)feed_now(&pfeedd, "val").samples);
    check_partial(sides[1], n[1]);
    check_repeated(drawn, n[1]);
    for (int s = 0; s < 2; s++)
        history_destroy(sides[s]);
    history_destroy(drawn);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "two sides", two_sides, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
