/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 2: a row's bytes depend on recipe, seed, epoch and sample only. An image feed with random crops and
 * flips is run with 1 and 2 workers, shm memfd and posix, one job and three (one of them of two ranks); every position of every
 * epoch must have the same id and the same bytes in all of them. Jobs that go together (gang) must have been decoded once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define IMAGES 90u
#define BATCH  8u
#define EPOCHS 2u
#define STEPS  (IMAGES / BATCH) /* the tail is dropped */
#define ROWS   (EPOCHS * STEPS * BATCH)

/* By place in the job's history: (epoch * STEPS + step) * BATCH + row of the global step. */
static struct history_row reference[ROWS];
static bool have_reference;

static struct daemon daemons[8]; /* one for each setting */

static char *make_yaml(const char *folder, unsigned workers, const char *shm, unsigned gang)
{
    char *text;

    CHECK(asprintf(&text,
                   "version: 1\n"
                   "daemon: { workers: %u, memory: 512MiB, shm: %s }\n"
                   "feeds:\n"
                   "  pictures:\n"
                   "    source: { type: directory, path: %s }\n"
                   "    shuffle: { mode: global, seed: 9 }\n"
                   "    batch: %u\n"
                   "    tail: drop\n"
                   "    gang: %u\n"
                   "    slots: 8\n"
                   "    fields:\n"
                   "      image:\n"
                   "        decode: image\n"
                   "        transforms:\n"
                   "          - random_resized_crop: { size: 64, scale: [0.08, 1.0], ratio: [0.75, 1.3333] }\n"
                   "          - horizontal_flip: { p: 0.5 }\n"
                   "          - normalize: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }\n"
                   "        dtype: float16\n"
                   "        layout: chw\n"
                   "      label: { dtype: int64 }\n",
                   workers, shm, folder, BATCH, gang) > 0,
          "no memory");
    return text;
}

static void compare_rank(const struct plan *plan, const char *what)
{
    const struct history *history = plan->history;
    uint32_t world = plan->world ? plan->world : 1, rows = BATCH / world;

    history_check(history, what, EPOCHS, STEPS);
    for (uint64_t k = 0; k < history->n_steps; k++)
        for (uint32_t i = 0; i < rows; i++) {
            struct history_row *known = &reference[k * BATCH + plan->rank * rows + i];
            const struct history_row *seen = &history->rows[history->steps[k].first + i];

            if (!have_reference)
                *known = *seen;
            CHECK(known->id == seen->id, "%s: step %llu row %u: id %llu, elsewhere %llu", what, (unsigned long long)k, i,
                  (unsigned long long)seen->id, (unsigned long long)known->id);
            CHECK(known->hash == seen->hash, "%s: step %llu row %u (id %llu): other bytes than elsewhere", what,
                  (unsigned long long)k, i, (unsigned long long)seen->id);
        }
}

/* Otherwise equal hashes would prove little: rows differ, and a sample's crop is another one in the next epoch. */
static void check_variety(void)
{
    unsigned same_crop = 0, pairs = 0;

    for (unsigned i = 0; i < ROWS; i++)
        for (unsigned j = 0; j < i; j++) {
            if (reference[i].id == reference[j].id) {
                pairs++;
                same_crop += reference[i].hash == reference[j].hash;
            } else {
                CHECK(reference[i].hash != reference[j].hash, "ids %llu and %llu have the same bytes",
                      (unsigned long long)reference[i].id, (unsigned long long)reference[j].id);
            }
        }
    CHECK(pairs > IMAGES / 2 && same_crop == 0, "of %u samples that came in both epochs %u had the same crop", pairs, same_crop);
}

static void run_setting(struct daemon *daemon, const char *folder, unsigned workers, const char *shm, bool three)
{
    struct plan plans[4] = { { .feed = "pictures" },
                             { .feed = "pictures", .job = "other" },
                             { .feed = "pictures", .job = "pair", .world = 2, .rank = 0 },
                             { .feed = "pictures", .job = "pair", .world = 2, .rank = 1 } };
    unsigned n = three ? 4 : 1;
    char *yaml = make_yaml(folder, workers, shm, n), what[64];
    struct trainer *trainers[4];
    struct pf_row_daemon row;
    struct pf_row_feed feed;

    daemon_start(daemon, yaml);
    free(yaml);
    stat_daemon(daemon, &row);
    CHECK(strcmp(row.shm, shm) == 0 && row.workers == workers, "the daemon says shm %s, %u workers", row.shm, row.workers);
    for (unsigned i = 0; i < n; i++) {
        plans[i].daemon = daemon;
        plans[i].epochs = EPOCHS;
        plans[i].history = history_create(EPOCHS * STEPS + 1, ROWS + BATCH);
        trainers[i] = trainer_start(i == 0 ? "first" : plans[i].job, train, &plans[i]);
    }
    for (unsigned i = 0; i < n; i++)
        trainer_wait(trainers[i]);
    for (unsigned i = 0; i < n; i++) {
        snprintf(what, sizeof(what), "%u workers, %s, %s, trainer %u", workers, shm, three ? "three jobs" : "one job", i);
        compare_rank(&plans[i], what);
        have_reference = true;
        history_destroy(plans[i].history);
    }
    UNTIL(feed_at_rest(daemon, "pictures"));
    stat_feed(daemon, "pictures", &feed);
    /* What was filled ahead of the last step of an ended job, nobody asked for. */
    CHECK(feed.rows_filled == ROWS, "%llu rows were decoded; each of %u was wanted once", (unsigned long long)feed.rows_filled,
          ROWS);
    CHECK(feed.rows_delivered == ROWS * (three ? 3 : 1), "%llu rows were delivered, not %u",
          (unsigned long long)feed.rows_delivered, ROWS * (three ? 3 : 1));
    daemon_stop(daemon);
}

static void run_settings(const void *arg)
{
    char folder[] = "/tmp/pfeed-test-XXXXXX";

    CHECK(mkdtemp(folder), "cannot make %s: %s", folder, strerror(errno));
    images_make(folder, IMAGES, 3);
    for (unsigned i = 0; i < 8; i++)
        run_setting(&daemons[i], folder, i & 1 ? 2 : 1, i & 2 ? "posix" : "memfd", i & 4);
    check_variety();
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "same bytes", run_settings, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
