/* SPDX-License-Identifier: MIT */
/*
 * The same pictures as files in folders and as tar shards give the same batches, with the source's reads, with a cache and over a
 * reload; a shard that is damaged, or that changes while it is read, costs only its own samples, which are replaced and named.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define IMAGES  60u
#define CLASSES 3u
#define BATCH   10u
#define EPOCHS  2u
#define STEPS   (IMAGES / BATCH)

static struct daemon pfeedd;
static char folder[] = "/tmp/pfeed-tar-XXXXXX";

static void run(const char *command)
{
    char text[512];

    snprintf(text, sizeof(text), "set -e; cd %s; %s", folder, command);
    CHECK(system(text) == 0, "this fails: %s", text);
}

/* A shard a class; in each the samples stand as the folder's names are sorted. */
static void make_shards(void)
{
    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    images_make(folder, IMAGES, CLASSES);
    run("for class in class*; do for picture in $class/*; do printf '%d\\n' ${class#class00} >${picture%.*}.cls; done; "
        "tar --sort=name -cf ${class#class00}.tar $class; done; touch -d 2001-02-03 *.tar");
}

static void add_feed(FILE *yaml, const char *name, const char *source, const char *image, const char *label, const char *more)
{
    fprintf(yaml,
            "  %s:\n"
            "    source: %s\n"
            "    shuffle: { mode: global, seed: 9 }\n"
            "    batch: %u\n"
            "    slots: 6\n"
            "    %s\n"
            "    fields:\n"
            "      image: { from: %s, decode: image, transforms: [random_resized_crop: { size: 32 }, horizontal_flip] }\n"
            "      label: { from: %s, dtype: int64 }\n",
            name, source, BATCH, more, image, label);
}

static char *make_yaml(const char *max_errors)
{
    char *text = NULL, source[256];
    size_t size;
    FILE *yaml = open_memstream(&text, &size);

    fprintf(yaml, "version: 1\ndaemon: { workers: 2, memory: 256MiB }\nfeeds:\n");
    snprintf(source, sizeof(source), "{ type: directory, path: %s }", folder);
    add_feed(yaml, "files", source, "image", "label", max_errors);
    snprintf(source, sizeof(source), "{ type: tar, path: \"%s/{0..%u}.tar\" }", folder, CLASSES - 1);
    add_feed(yaml, "shards", source, "png;jpg", "cls", max_errors);
    add_feed(yaml, "cached", source, "jpg", "cls", "cache: { encoded: 16MiB }");
    fclose(yaml);
    return text;
}

static struct history *train_on(const char *feed)
{
    struct plan plan = { .daemon = &pfeedd, .feed = feed, .epochs = EPOCHS };

    plan.history = history_create(EPOCHS * STEPS + 1, EPOCHS * IMAGES + BATCH);
    trainer_wait(trainer_start(feed, train, &plan));
    return plan.history;
}

static void check_same(const struct history *files, const char *feed)
{
    struct history *other = train_on(feed);

    history_check(other, feed, EPOCHS, STEPS);
    history_same(other, feed, files);
    for (uint64_t i = 0; i < files->n_rows; i++)
        CHECK(other->rows[i].hash == files->rows[i].hash && other->rows[i].flags == 0,
              "%s: row %llu (id %llu) has other bytes than the file", feed, (unsigned long long)i,
              (unsigned long long)files->rows[i].id);
    history_destroy(other);
}

static void same_as_files(const void *arg)
{
    char *yaml;
    struct history *files;

    make_shards();
    yaml = make_yaml("");
    daemon_start(&pfeedd, yaml);
    free(yaml);
    files = train_on("files");
    history_check(files, "files", EPOCHS, STEPS);
    check_same(files, "shards");
    check_same(files, "cached");
    check_same(files, "cached");
    daemon_kill(&pfeedd);
    daemon_again(&pfeedd); /* with what it kept of the shards */
    check_same(files, "shards");
    history_destroy(files);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

/* Rows of samples from `first` on are replaced, others are not. How many were. */
static unsigned count_replaced(const struct history *history, uint64_t first, uint64_t end)
{
    unsigned n = 0;

    for (uint64_t i = 0; i < history->n_rows; i++) {
        const struct history_row *row = &history->rows[i];
        const bool bad = row->id >= first && row->id < end;

        CHECK(!!(row->flags & PFEED_ROW_REPLACED) == bad, "id %llu has the flags %llx", (unsigned long long)row->id,
              (unsigned long long)row->flags);
        CHECK(!bad || row->used_id < first || row->used_id >= end, "id %llu was replaced by %llu", (unsigned long long)row->id,
              (unsigned long long)row->used_id);
        n += bad;
    }
    return n;
}

static bool is_named(const char *where, const char *reason)
{
    struct pf_row_error rows[64];
    const size_t n = stat_errors(&pfeedd, "shards", rows, 64);

    for (size_t i = 0; i < n && i < 64; i++)
        if (strstr(rows[i].where, where) && strstr(rows[i].reason, reason))
            return true;
    return false;
}

/* The last shard ends in the middle of a picture; then another one is written anew. */
static void damaged(const void *arg)
{
    struct history *history;
    struct pf_row_feed feed;
    uint64_t samples;
    char *yaml, *output, *report;

    make_shards();
    run("truncate -s $(($(stat -c %s 2.tar) / 2 / 512 * 512 + 700)) 2.tar; touch -d 2001-02-03 2.tar");
    yaml = make_yaml("max_errors: 1");
    daemon_start(&pfeedd, yaml);
    free(yaml);
    output = daemon_output(&pfeedd);
    CHECK(strstr(output, "/2.tar is damaged at byte "), "the log does not name the shard: %s", output);
    free(output);
    stat_feed(&pfeedd, "shards", &feed);
    samples = feed.samples;
    CHECK(samples > IMAGES * 2 / 3 && samples < IMAGES, "%llu samples", (unsigned long long)samples);
    history = train_on("shards");
    UNTIL(is_named("/2.tar!(damaged at byte ", "samples from there on are lost"));
    /* That, and before it the sample that is cut. */
    CHECK(count_replaced(history, samples - 2, samples) >= EPOCHS, "nothing was replaced");
    history_destroy(history);
    /* Another time: nobody knows what is in it. */
    run("touch 2.tar");
    history = train_on("shards");
    CHECK(count_replaced(history, 2 * IMAGES / CLASSES, samples) > EPOCHS, "it is read as if it had not changed");
    UNTIL(is_named("/2.tar!class002/", "has changed since pfeedd listed it"));
    history_destroy(history);
    CHECK(daemon_reload(&pfeedd, NULL, "shards", &report) == 0, "it is not listed anew: %s", report);
    free(report);
    history = train_on("shards");
    CHECK(count_replaced(history, samples - 2, samples) >= EPOCHS, "nothing was replaced");
    history_destroy(history);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "same as files", same_as_files, NULL }, { "damaged", damaged, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
