/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 9, the decoded cache in a file: it outlives the daemon, in whatever way that ends; what is damaged is found and made
 * anew; it is one daemon's alone, and made anew for other samples or another recipe; and a full disk ends nothing but its growth.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cached.h"

static char place[96]; /* folder of the cache */

static void make_place(void)
{
    snprintf(place, sizeof(place), "/tmp/pfeed-cache-disk-XXXXXX");
    CHECK(mkdtemp(place), "cannot make a folder");
    make_pictures();
}

static void remove_place(void)
{
    remove_folder(folder);
    remove_folder(place);
}

static const char *disk_cache(int side, const char *size)
{
    static char text[256];

    snprintf(text, sizeof(text), "{ decoded: { side: %d }, disk: %s/it.cache, size: %s }", side, place, size);
    return text;
}

static struct history *reference;

/* What one epoch is without a daemon's past. */
static void make_reference(void)
{
    start_cached(2, "{ decoded: { side: 64, size: 1MiB } }", "");
    reference = run_epochs("pictures", 1);
    daemon_stop(pfeedd++);
}

/* One epoch with the cache on the disk, as ever; what it says of itself then. */
static struct pf_row_cache run_once(void)
{
    struct history *history = run_epochs("pictures", 1);
    struct pf_row_cache row = the_cache("pictures");

    history_same(history, "with a cache on a disk", reference);
    history_destroy(history);
    CHECK(strcmp(row.kind, "disk") == 0 && strstr(row.file, "it.cache"), "%s %s", row.kind, row.file);
    return row;
}

#define EXPECT(row, entries_, hits_)                                                                                             \
    CHECK((row).entries == (entries_) && (row).hits == (hits_) && (row).hits + (row).misses == PICTURES,                         \
          "%llu kept, %llu hits, %llu misses", (unsigned long long)(row).entries, (unsigned long long)(row).hits,                \
          (unsigned long long)(row).misses)

/* The next daemon finds what the last one has kept, and reads no pictures. */
static void run_restart(const void *arg)
{
    struct pf_row_feed feed;
    struct pf_row_cache row;

    (void)arg;
    make_place();
    make_reference();
    start_cached(2, disk_cache(64, "64MiB"), "");
    row = run_once();
    EXPECT(row, PICTURES, 0);
    daemon_stop(pfeedd++);
    start_cached(2, disk_cache(64, "64MiB"), "");
    row = run_once();
    EXPECT(row, PICTURES, PICTURES);
    stat_feed(pfeedd, "pictures", &feed);
    CHECK(feed.read_bytes <= 8 * PICTURES && row.saved_ns > 0, "%llu bytes read", (unsigned long long)feed.read_bytes);
    daemon_stop(pfeedd++);
    /* Another recipe: made anew; and back. */
    for (int side = 80; side >= 64; side -= 16) {
        start_cached(2, disk_cache(side, "64MiB"), "");
        CHECK(the_cache("pictures").entries == 0, "pictures of another recipe are used");
        if (side == 64)
            row = run_once();
        daemon_stop(pfeedd++);
    }
    EXPECT(row, PICTURES, 0);
    remove_place();
}

/* In front of one in memory that is too small, and over a reload that changes the recipe while the old feed is still there. */
static void run_both(const void *arg)
{
    struct plan plan = { .feed = "pictures" }, anew = { .feed = "pictures", .epochs = 1 };
    struct pf_row_cache rows[4];
    char cache[256], *yaml, *report;
    struct pfeed *pf;
    int rc;

    (void)arg;
    make_place();
    make_reference();
    snprintf(cache, sizeof(cache), "{ decoded: { side: 64, size: 1MiB }, disk: %s/it.cache, size: 64MiB }", place);
    start_cached(1, cache, "");
    for (int epochs = 0; epochs < 2; epochs++) {
        struct history *history = run_epochs("pictures", 1);

        history_same(history, "two caches", reference);
        history_destroy(history);
    }
    CHECK(stat_caches(pfeedd, "", rows, 4) == 2, "not two caches");
    CHECK(strcmp(rows[0].kind, "decoded") == 0 && rows[0].hits == rows[0].entries && rows[0].entries < PICTURES,
          "%llu hits of %llu", (unsigned long long)rows[0].hits, (unsigned long long)rows[0].entries);
    CHECK(rows[1].entries == PICTURES && rows[1].hits == PICTURES - rows[0].entries, "%llu of %llu on the disk",
          (unsigned long long)rows[1].hits, (unsigned long long)rows[1].entries);
    plan.daemon = pfeedd;
    pf = plan_open(&plan);
    yaml = yaml_of(1, 512, disk_cache(80, "64MiB"), "");
    rc = daemon_reload(pfeedd, yaml, NULL, &report);
    CHECK(rc == 0, "the reload failed: %s", report ? report : "");
    free(report);
    free(yaml);
    must_done(pf, must_next(pf)); /* of the old form */
    anew.daemon = pfeedd;
    anew.history = history_create(STEPS + 1, PICTURES + BATCH);
    trainer_wait(trainer_start("trainer", train, &anew)); /* while both forms are there */
    history_destroy(anew.history);
    pfeed_close(pf);
    UNTIL(stat_caches(pfeedd, "", rows, 4) == 1);
    CHECK(rows[0].entries == PICTURES && rows[0].hits == 0, "%llu kept anew", (unsigned long long)rows[0].entries);
    daemon_stop(pfeedd++);
    remove_place();
}

/* A byte in every tenth entry is another: found, told, made anew. */
static void run_damaged(const void *arg)
{
    char path[128];
    struct pf_row_cache row;
    struct stat st;
    uint32_t damaged = 0;
    uint8_t byte;
    int fd;

    (void)arg;
    make_place();
    make_reference();
    start_cached(1, disk_cache(64, "64MiB"), "");
    run_once();
    daemon_stop(pfeedd++);
    snprintf(path, sizeof(path), "%s/it.cache", place);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0 && fstat(fd, &st) == 0, "%s: %s", path, strerror(errno));
    /* Slots of 32 bytes begin at the second page, with the place of an entry in pages. */
    for (uint32_t id = 0; id < PICTURES; id += 10, damaged++) {
        uint64_t page;

        CHECK(pread(fd, &page, sizeof(page), 4096 + id * 32) == sizeof(page) && page > 1, "no slot");
        CHECK(pread(fd, &byte, 1, (off_t)(page * 4096 + 200)) == 1, "no entry");
        byte ^= 1;
        CHECK(pwrite(fd, &byte, 1, (off_t)(page * 4096 + 200)) == 1, "%s", strerror(errno));
    }
    /* And one slot makes no sense at all, one is cut in two. */
    CHECK(pwrite(fd, "\377\377\377\377\377\377\377\377", 8, 4096 + 5 * 32) == 8, "%s", strerror(errno));
    CHECK(pwrite(fd, "\0\0\0\0\0\0\0\0", 8, 4096 + 6 * 32 + 24) == 8, "%s", strerror(errno));
    close(fd);
    start_cached(1, disk_cache(64, "64MiB"), "");
    row = run_once();
    EXPECT(row, PICTURES, PICTURES - damaged - 2);
    CHECK(row.damaged == damaged + 1, "%llu damaged of %u", (unsigned long long)row.damaged, damaged + 1);
    row = run_once();
    CHECK(row.damaged == damaged + 1 && row.hits == 2 * PICTURES - damaged - 2, "%llu hits", (unsigned long long)row.hits);
    daemon_stop(pfeedd++);
    /* Shorter than it says. */
    CHECK(truncate(path, st.st_size / 2) == 0, "%s", strerror(errno));
    start_cached(1, disk_cache(64, "64MiB"), "");
    row = run_once();
    CHECK(row.entries == PICTURES && row.hits > 0 && row.hits < PICTURES, "%llu hits", (unsigned long long)row.hits);
    daemon_stop(pfeedd++);
    remove_place();
}

static void train_on(void *plan)
{
    train(plan);
}

/* Killed while it fills, again and again: what is there is right, and no less each time. */
static void run_killed(const void *arg)
{
    uint64_t kept = 0;
    struct pf_row_cache row;

    (void)arg;
    make_place();
    make_reference();
    start_cached(2, disk_cache(64, "64MiB"), "");
    for (unsigned kills = 0; kills < 6; kills++) {
        struct plan plan = { .daemon = pfeedd, .feed = "pictures", .epochs = 1000, .reconnect_ms = -1 };
        struct trainer *trainer;

        plan.history = history_create(1000 * STEPS + 1, 1000 * PICTURES + BATCH);
        trainer = trainer_start("trainer", train_on, &plan);
        UNTIL(the_cache("pictures").entries >= kept + 20);
        trainer_kill(trainer);
        daemon_kill(pfeedd);
        history_destroy(plan.history);
        daemon_again(pfeedd);
        row = the_cache("pictures");
        CHECK(row.entries >= kept + 20, "%llu kept, %llu before", (unsigned long long)row.entries, (unsigned long long)kept);
        kept = row.entries < PICTURES - 40 ? row.entries : PICTURES - 40;
    }
    row = run_once();
    CHECK(row.entries == PICTURES && row.damaged == 0, "%llu kept, %llu damaged", (unsigned long long)row.entries,
          (unsigned long long)row.damaged);
    daemon_stop(pfeedd++);
    remove_place();
}

/* Others are told. */
static void run_alone(const void *arg)
{
    char path[128], *yaml, *said, wanted[64];
    struct daemon *first;
    FILE *file;

    (void)arg;
    make_place();
    start_cached(1, disk_cache(64, "64MiB"), "");
    first = pfeedd++;
    yaml = yaml_of(1, 512, disk_cache(64, "64MiB"), "");
    CHECK(daemon_try(pfeedd, yaml) > 0, "two daemons have one cache");
    said = daemon_output(pfeedd);
    snprintf(wanted, sizeof(wanted), "in use by another pfeedd (process %d)", first->pid);
    CHECK(strstr(said, wanted), "it says: %s", said);
    free(said);
    daemon_stop(first);
    pfeedd++;
    snprintf(path, sizeof(path), "%s/it.cache", place);
    file = fopen(path, "w");
    CHECK(file && fputs("a letter to my mother, at some length so that nobody takes it for a header\n", file) >= 0, "fputs");
    fclose(file);
    CHECK(daemon_try(pfeedd, yaml) > 0, "it takes any file");
    said = daemon_output(pfeedd);
    CHECK(strstr(said, "it.cache is there and is no cache of pfeed's; give another 'disk', or remove it"), "it says: %s", said);
    free(said);
    free(yaml);
    file = fopen(path, "r");
    CHECK(file && fgetc(file) == 'a', "it has overwritten it");
    fclose(file);
    remove_place();
}

/* A file that was there when it was listed, and has changed since the last daemon. */
static void run_changed(const void *arg)
{
    char path[PATH] = "";
    struct pf_row_cache row;
    int when = 5;

    (void)arg;
    make_place();
    make_reference();
    start_cached(1, disk_cache(64, "64MiB"), "");
    run_once();
    daemon_stop(pfeedd++);
    each_picture(first_picture, path);
    age(path, &when);
    settle();
    start_cached(1, disk_cache(64, "64MiB"), "");
    row = run_once();
    EXPECT(row, PICTURES, PICTURES - 1);
    CHECK(row.stale == 1 && row.lost_bytes > 0, "%llu stale", (unsigned long long)row.stale);
    daemon_stop(pfeedd++);
    remove_place();
}

static void mount_small(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("small", place, "tmpfs", 0, "size=1m") < 0)
        _exit(77);
}

/* It goes on with what it has, and says so. */
static void run_full(const void *arg)
{
    struct pf_row_cache row;
    char *said;

    (void)arg;
    if (geteuid() != 0)
        skip("only root can mount a small disk");
    make_place();
    make_reference();
    daemon_prepare = mount_small;
    start_cached(1, disk_cache(64, "64MiB"), "");
    daemon_prepare = NULL;
    row = run_once();
    CHECK(row.entries > 5 && row.entries < PICTURES / 2 && row.hits == 0, "%llu kept", (unsigned long long)row.entries);
    CHECK(strcmp(row.note, "No space left on device") == 0, "it says '%s'", row.note);
    row = run_once();
    CHECK(row.hits == row.entries, "%llu hits of %llu", (unsigned long long)row.hits, (unsigned long long)row.entries);
    said = daemon_output(pfeedd);
    CHECK(strstr(said, "it.cache cannot grow: No space left on device"), "it says: %s", said);
    free(said);
    daemon_stop(pfeedd++);
    remove_place();
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "restart", run_restart, NULL }, { "both", run_both, NULL },   { "damaged", run_damaged, NULL },
        { "killed", run_killed, NULL },   { "alone", run_alone, NULL }, { "changed", run_changed, NULL },
        { "full", run_full, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
