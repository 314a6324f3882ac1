/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 8, as far as it can be seen from outside: all memory is reserved and touched before READY, and
 * nothing grows afterwards, neither memory nor descriptors nor threads, over 20,000 batches and over many trainers that come
 * and go. What grows is private and shared memory: pages of the program's own code are read in whenever they are needed first.
 * Under sanitizers, whose own bookkeeping grows, resident memory is not looked at.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"

#define SLOTS          32u
#define BATCH          4u
#define BATCHES        20000u
#define VISITS         300u
#define PICTURES       120u
#define PICTURES_BATCH 10u
#define FAULTS         200u /* an attach and a replay of counters take some; one progressive picture would take hundreds */
#define NOISE          (256u << 10) /* bytes that a heap may still settle by */

static struct daemon pfeedd;

struct shared {
    uint32_t go, there;
    struct process before, after; /* the trainer */
};
static struct shared *shared;

static void start_daemon(const char *shm)
{
    char yaml[512];

    shared = shared_memory(sizeof(*shared));
    /* A large feed, so that untouched memory would show, and one of tiny rows. */
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 256MiB, shm: %s }\nfeeds:\n"
             "  large:\n    source: { type: synthetic, rows: 256 }\n    batch: 16\n    slots: %u\n"
             "    fields: { x: { dtype: float32, shape: [64, 1024] } }\n"
             "  tiny:\n    source: { type: synthetic, rows: 1000 }\n    batch: %u\n    slots: 16\n"
             "    fields: { x: { dtype: float32, shape: [2] } }\n",
             shm, SLOTS, BATCH);
    daemon_start(&pfeedd, yaml);
}

static uint64_t grown_bytes(const struct process *process)
{
    return process->anon_bytes + process->shmem_bytes;
}

static void check_flat(const char *what, const struct process *before, const struct process *after)
{
    note("%s: resident %llu KiB, then %llu KiB; %u descriptors, %u threads", what, (unsigned long long)grown_bytes(before) / 1024,
         (unsigned long long)grown_bytes(after) / 1024, after->descriptors, after->threads);
    CHECK(sanitized(NULL) || grown_bytes(after) <= grown_bytes(before) + NOISE, "%s: it grew from %llu to %llu KiB", what,
          (unsigned long long)grown_bytes(before) / 1024, (unsigned long long)grown_bytes(after) / 1024);
    CHECK(after->descriptors == before->descriptors, "%s: %u descriptors before, %u after", what, before->descriptors,
          after->descriptors);
    CHECK(after->threads == before->threads, "%s: %u threads before, %u after", what, before->threads, after->threads);
}

/* Before anybody has attached, all slots are there. */
static void run_touched(const void *shm)
{
    struct pf_row_daemon row;
    struct pf_row_feed large, tiny;
    struct process process;
    uint64_t arenas;

    start_daemon(shm);
    process_measure(pfeedd.pid, &process);
    stat_daemon(&pfeedd, &row);
    stat_feed(&pfeedd, "large", &large);
    stat_feed(&pfeedd, "tiny", &tiny);
    arenas = large.slot_bytes * large.n_slots + tiny.slot_bytes * tiny.n_slots;
    note("budget %llu KiB, used %llu, arenas %llu, resident %llu, of it shared %llu", (unsigned long long)row.memory_bytes / 1024,
         (unsigned long long)row.memory_used_bytes / 1024, (unsigned long long)arenas / 1024,
         (unsigned long long)process.rss_bytes / 1024, (unsigned long long)process.shmem_bytes / 1024);
    CHECK(large.n_slots == SLOTS && large.slot_bytes >= 16 * 64 * 1024 * 4, "%u slots of %llu bytes", large.n_slots,
          (unsigned long long)large.slot_bytes);
    CHECK(row.memory_bytes == 256 << 20 && row.memory_used_bytes >= arenas && row.memory_used_bytes <= row.memory_bytes,
          "of %llu bytes %llu are used, arenas are %llu", (unsigned long long)row.memory_bytes,
          (unsigned long long)row.memory_used_bytes, (unsigned long long)arenas);
    CHECK(process.shmem_bytes >= arenas, "%llu bytes of shared memory are resident, the arenas have %llu",
          (unsigned long long)process.shmem_bytes, (unsigned long long)arenas);
    CHECK(process.rss_bytes >= row.memory_used_bytes, "%llu bytes are resident, %llu are counted as used",
          (unsigned long long)process.rss_bytes, (unsigned long long)row.memory_used_bytes);
    daemon_stop(&pfeedd);
}

/* A trainer of 20,000 batches and some before that, to have everything settled. */
static void long_run(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    for (unsigned k = 0; k < BATCHES / 4 + BATCHES; k++) {
        if (k == BATCHES / 4) {
            process_measure(getpid(), &shared->before);
            word_set(&shared->there, 1);
            word_await(&shared->go, 1);
        }
        must_done(pf, must_next(pf));
    }
    process_measure(getpid(), &shared->after);
    word_set(&shared->there, 2);
    word_await(&shared->go, 2);
    pfeed_close(pf);
}

static void run_batches(const void *shm)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "tiny" };
    struct process before, after;
    struct trainer *trainer;

    start_daemon(shm);
    trainer = trainer_start("long", long_run, &plan);
    word_await(&shared->there, 1);
    CHECK(feed_now(&pfeedd, "tiny").consumers == 1, "not one consumer"); /* the reply's own memory is there too */
    process_measure(pfeedd.pid, &before);
    word_set(&shared->go, 1);
    word_await(&shared->there, 2);
    process_measure(pfeedd.pid, &after);
    check_flat("the daemon, 20,000 batches", &before, &after);
    check_flat("the trainer, 20,000 batches", &shared->before, &shared->after);
    CHECK(feed_now(&pfeedd, "tiny").rows_delivered >= (uint64_t)BATCHES * BATCH, "fewer rows were delivered than taken");
    word_set(&shared->go, 2);
    trainer_wait(trainer);
    daemon_stop(&pfeedd);
}

/* One process that opens and closes again and again. */
static void visit(void *arg)
{
    for (unsigned k = 0; k < VISITS; k++) {
        struct pfeed *pf = plan_open(arg);

        must_done(pf, must_next(pf));
        if (k & 1)
            must_next(pf);
        pfeed_close(pf);
    }
}

static void run_visits(const void *shm)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "tiny" };
    struct process before, after;

    start_daemon(shm);
    trainer_wait(trainer_start("first visits", visit, &plan));
    UNTIL(feed_at_rest(&pfeedd, "tiny"));
    process_measure(pfeedd.pid, &before);
    trainer_wait(trainer_start("further visits", visit, &plan));
    UNTIL(feed_at_rest(&pfeedd, "tiny"));
    UNTIL(descriptors(pfeedd.pid) <= before.descriptors);
    process_measure(pfeedd.pid, &after);
    check_flat("the daemon, 300 visits", &before, &after);
    daemon_stop(&pfeedd);
}

static void two_epochs(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    for (unsigned k = 0; k < 2 * PICTURES / PICTURES_BATCH; k++)
        must_done(pf, must_next(pf));
    pfeed_close(pf);
}

/* Codecs take no memory that was not there before READY: not even for progressive pictures, which are kept whole. */
static void run_pictures(const void *shm)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "pictures" };
    char folder[] = "/tmp/pfeed-memory-XXXXXX", yaml[1024];
    struct process before, between, after;
    struct pf_row_daemon row;
    uint64_t filled;

    CHECK(mkdtemp(folder), "cannot make a folder");
    images_make(folder, PICTURES, 3);
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 512MiB, shm: %s }\nfeeds:\n"
             "  pictures:\n    source: { type: directory, path: %s }\n    batch: %u\n    slots: 4\n    fields:\n"
             "      image:\n        decode: { image: { orientation: yes, max_pixels: 1000000, max_progressive: 700000 } }\n"
             "        transforms: [ random_resized_crop: { size: 64 }, horizontal_flip: {} ]\n        dtype: uint8\n",
             (const char *)shm, folder, PICTURES_BATCH);
    daemon_start(&pfeedd, yaml);
    process_measure(pfeedd.pid, &before);
    stat_daemon(&pfeedd, &row);
    note("used %llu KiB, resident %llu", (unsigned long long)row.memory_used_bytes / 1024,
         (unsigned long long)before.rss_bytes / 1024);
    CHECK(sanitized(NULL) || before.rss_bytes >= row.memory_used_bytes, "%llu bytes are resident, %llu are counted as used",
          (unsigned long long)before.rss_bytes, (unsigned long long)row.memory_used_bytes);
    trainer_wait(trainer_start("two epochs", two_epochs, &plan)); /* also brings in the program's own pages */
    UNTIL(feed_at_rest(&pfeedd, "pictures"));
    process_measure(pfeedd.pid, &between);
    trainer_wait(trainer_start("two more", two_epochs, &plan));
    UNTIL(feed_at_rest(&pfeedd, "pictures"));
    process_measure(pfeedd.pid, &after);
    note("%llu page faults in two epochs", (unsigned long long)(after.faults - between.faults));
    CHECK(sanitized(NULL) || after.faults - between.faults < FAULTS, "%llu page faults in two epochs of %u pictures",
          (unsigned long long)(after.faults - between.faults), PICTURES);
    filled = feed_now(&pfeedd, "pictures").rows_filled;
    CHECK(filled >= 4 * PICTURES && feed_now(&pfeedd, "pictures").rows_replaced == 0, "%llu rows, some of them bad",
          (unsigned long long)filled);
    check_flat("four epochs of pictures", &before, &after);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "touched at start, memfd", run_touched, "memfd" },
        { "touched at start, posix", run_touched, "posix" },
        { "pictures are decoded in memory that is there", run_pictures, "auto" },
        { "flat over 20,000 batches, memfd", run_batches, "memfd" },
        { "flat over 20,000 batches, posix", run_batches, "posix" },
        { "flat over 300 visits", run_visits, "auto" },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
