/* SPDX-License-Identifier: MIT */
/* A picture that crashes the decoder: after two crashes the third daemon leaves it out, names it, and goes on; those that were in
 * work when a daemon was killed are as good as ever. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "history.h"
#include "poison.h"

#define PICTURES 40u
#define BATCH    8u
#define ROWS     PICTURES

static struct daemon pfeedd;
static char images[64], poisoned[96], mark[128];
static const char *poison; /* what it does now; NULL: nothing */

static void prepare(void)
{
    const struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    if (!poison)
        return;
    setenv(POISON_ENV, poison, 1);
    setenv("LD_PRELOAD", getenv("PFEED_POISON_LIBRARY"), 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:handle_segv=0", 1);
}

/* One of them, in its last class, is followed by a word that no decoder minds. */
static void make_pictures(void)
{
    FILE *file, *list;
    char command[256];

    snprintf(images, sizeof(images), "/tmp/pfeed-poison-XXXXXX");
    CHECK(mkdtemp(images), "cannot make a folder");
    images_make(images, PICTURES, 2);
    snprintf(command, sizeof(command), "find %s -name '*.jpg' | sort | sed -n 23p", images);
    list = popen(command, "r");
    CHECK(list && fgets(poisoned, sizeof(poisoned), list), "no pictures");
    pclose(list);
    poisoned[strcspn(poisoned, "\n")] = 0;
    file = fopen(poisoned, "ae");
    CHECK(file && fputs("poison", file) >= 0 && fclose(file) == 0, "cannot append to %s", poisoned);
}

static struct trainer *start_trainer(struct plan *plan, struct history **history)
{
    *history = history_create(2 * ROWS / BATCH, 2 * ROWS);
    *plan = (struct plan){ .daemon = &pfeedd, .feed = "pictures", .epochs = 1, .history = *history };
    return trainer_start("trainer", train, plan);
}

static struct history *train_to_the_end(void)
{
    struct history *history;
    struct plan plan;

    trainer_wait(start_trainer(&plan, &history));
    CHECK(history->rc == PFEED_END && history->n_rows == ROWS, "%d (%s), %llu rows", history->rc, history->sentence,
          (unsigned long long)history->n_rows);
    return history;
}

/* A daemon in which the picture does that; ends with it. */
static void crash(const char *what, int by)
{
    struct history *history;
    struct trainer *trainer;
    struct plan plan;
    int number;

    poison = what;
    daemon_again(&pfeedd);
    trainer = start_trainer(&plan, &history);
    if (by == SIGKILL) {
        UNTIL(access(mark, F_OK) == 0);
        unlink(mark);
        daemon_kill(&pfeedd);
    } else {
        number = daemon_dies(&pfeedd);
        CHECK(number == by, "the daemon died of signal %d, not %d", number, by);
    }
    trainer_kill(trainer); /* it may be waiting for the next one */
    history_destroy(history);
}

static void expect_same(const struct history *seen, const struct history *good, bool replaced)
{
    unsigned n = 0;

    for (uint64_t i = 0; i < ROWS; i++) {
        const struct history_row *a = &seen->rows[i], *b = &good->rows[i];

        if (a->id == b->id && a->used_id == b->used_id && a->hash == b->hash && a->flags == b->flags)
            continue;
        n++;
        CHECK(a->id == 22 && b->id == 22, "row %llu is of sample %llu, and is another", (unsigned long long)i,
              (unsigned long long)a->id);
        CHECK((a->flags & PFEED_ROW_REPLACED) && a->used_id != 22, "sample 22 has flags %llu, and stands for %llu",
              (unsigned long long)a->flags, (unsigned long long)a->used_id);
    }
    CHECK(n == replaced, "%u rows are others", n);
}

static void expect_named(void)
{
    struct pf_row_error rows[4];
    size_t n = stat_errors(&pfeedd, "pictures", rows, 4);

    CHECK(n == 1 && rows[0].id == 22, "%zu bad samples, first %llu", n, (unsigned long long)rows[0].id);
    CHECK(strcmp(rows[0].where, poisoned) == 0, "it is said to be %s", rows[0].where);
    CHECK(strcmp(rows[0].reason, "was in work at 2 crashes of pfeedd (SIGABRT)") == 0, "the reason is: %s", rows[0].reason);
}

static void run(const void *arg)
{
    struct history *good;
    char yaml[1024], *report;

    (void)arg;
    make_pictures();
    daemon_prepare = prepare;
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 256MiB }\nfeeds:\n"
             "  pictures:\n    source: { type: directory, path: %s }\n    batch: %u\n    slots: 4\n    fields:\n"
             "      image:\n        decode: image\n        transforms: [ resize: { size: [8, 8] } ]\n        dtype: uint8\n",
             images, BATCH);
    daemon_start(&pfeedd, yaml);
    good = train_to_the_end();
    daemon_stop(&pfeedd);
    snprintf(mark, sizeof(mark), "%s/hangs", pfeedd.folder);
    for (int i = 0; i < 3; i++)
        crash(mark, SIGKILL);
    crash(POISON_SEGV, SIGSEGV);
    crash(mark, SIGKILL);
    crash(POISON_ABORT, SIGABRT);
    for (int i = 0; i < 2; i++) { /* also when it has started once more */
        poison = POISON_ABORT;
        daemon_again(&pfeedd);
        expect_same(train_to_the_end(), good, true);
        expect_named();
        daemon_stop(&pfeedd);
    }
    poison = NULL; /* the decoder is mended */
    daemon_again(&pfeedd);
    CHECK(daemon_reload(&pfeedd, NULL, "pictures", &report) == 0, "the rescan failed: %s", report);
    free(report);
    expect_same(train_to_the_end(), good, false);
    daemon_stop(&pfeedd);
    daemon_again(&pfeedd);
    expect_same(train_to_the_end(), good, false);
    daemon_stop(&pfeedd);
    remove_folder(images);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "a picture that crashes the decoder", run, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
