/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 9, caches: what fits is kept and found again, by every feed over the same samples and over a reload; batches are the
 * same with and without; nothing is kept twice, bad samples and changed files not at all; and all of it is in the budget.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cached.h"

/* ---- encoded -------------------------------------------------------------------------------------------------------- */

/* An epoch that fills the cache alone: otherwise a sample could be asked for again while it is still on its way. Then three more. */
static struct history *fill_and_run(void)
{
    history_destroy(run_epochs("pictures", 1));
    return run_epochs("pictures", 3);
}

/* Of a cache of so many bytes: the hit rate is the share that fits. */
static void check_share(uint64_t bytes, bool all, const struct history *same)
{
    char cache[64];
    struct history *history;
    struct pf_row_cache row;
    struct pf_row_feed feed;

    snprintf(cache, sizeof(cache), "{ encoded: %llu }", (unsigned long long)bytes);
    start_cached(1, cache, "");
    history = fill_and_run();
    history_same(history, cache, same);
    row = the_cache("pictures");
    stat_feed(pfeedd, "pictures", &feed);
    note("%llu bytes: %llu of %llu kept, %llu hits, %llu misses, %llu bytes used, %.3f ms saved", (unsigned long long)bytes,
         (unsigned long long)row.entries, (unsigned long long)row.samples, (unsigned long long)row.hits,
         (unsigned long long)row.misses, (unsigned long long)row.used_bytes, (double)row.saved_ns / 1e6);
    CHECK(row.samples == PICTURES && row.size_bytes == bytes && row.used_bytes <= bytes, "%llu samples, %llu of %llu bytes",
          (unsigned long long)row.samples, (unsigned long long)row.used_bytes, (unsigned long long)row.size_bytes);
    CHECK(all ? row.entries == PICTURES : row.entries > PICTURES / 4 && row.entries < PICTURES, "%llu samples are kept",
          (unsigned long long)row.entries);
    CHECK(row.hits == 3 * row.entries && row.hits + row.misses == 4 * PICTURES, "%llu hits, %llu misses",
          (unsigned long long)row.hits, (unsigned long long)row.misses);
    CHECK(row.share_ppm == (row.entries * 1000000 + PICTURES / 2) / PICTURES, "share %llu", (unsigned long long)row.share_ppm);
    CHECK(row.saved_ns > 0, "nothing was saved");
    CHECK(row.stale == 0 && row.lost_bytes == 0, "%llu stale", (unsigned long long)row.stale);
    /* What was kept was not read again. */
    CHECK(feed.read_bytes < 4 * all_bytes() - (all ? 3 * (all_bytes() - 128 * PICTURES) : 0), "%llu bytes read",
          (unsigned long long)feed.read_bytes);
    daemon_stop(pfeedd++);
    history_destroy(history);
}

static void run_share(const void *arg)
{
    struct history *without;
    uint64_t bytes;

    (void)arg;
    make_pictures();
    bytes = all_bytes();
    CHECK(bytes / 2 > 1 << 20, "the pictures have %llu bytes, too few for half a cache", (unsigned long long)bytes);
    start_cached(1, "{}", "");
    without = run_epochs("pictures", 3);
    CHECK(stat_caches(pfeedd, "", NULL, 0) == 0, "a cache that nobody asked for");
    daemon_stop(pfeedd++);
    check_share(2 * bytes, true, without);
    check_share(bytes / 2, false, without);
    history_destroy(without);
    remove_folder(folder);
}

/* ---- decoded -------------------------------------------------------------------------------------------------------- */

/* Three epochs with that cache, when it has been filled. */
static struct history *run_decoded_with(const char *cache, uint64_t entries)
{
    struct history *history;
    struct pf_row_cache row;

    start_cached(1, cache, "");
    history = fill_and_run();
    row = the_cache("pictures");
    note("%s: %llu of %llu kept, %llu hits, %llu misses, %llu bytes used, %.3f ms saved", cache, (unsigned long long)row.entries,
         (unsigned long long)row.samples, (unsigned long long)row.hits, (unsigned long long)row.misses,
         (unsigned long long)row.used_bytes, (double)row.saved_ns / 1e6);
    CHECK(strcmp(row.kind, "decoded") == 0 && row.used_bytes <= row.size_bytes, "%s: %llu of %llu bytes", row.kind,
          (unsigned long long)row.used_bytes, (unsigned long long)row.size_bytes);
    CHECK(row.hits == 3 * row.entries && row.hits + row.misses == 4 * PICTURES, "%llu hits, %llu misses",
          (unsigned long long)row.hits, (unsigned long long)row.misses);
    CHECK(!entries || row.entries == entries, "%llu entries", (unsigned long long)row.entries);
    daemon_stop(pfeedd++);
    return history;
}

/* Every sample goes through the same reduced picture, whether it is kept, was just made, or finds no room; and it is another recipe
 * than without. */
static void run_decoded(const void *arg)
{
    struct history *full, *small, *without;
    struct pf_row_feed reduced, plain;
    unsigned same = 0;

    (void)arg;
    make_pictures();
    full = run_decoded_with("{ decoded: { size: 64MiB, side: 64 } }", PICTURES);
    small = run_decoded_with("{ decoded: { size: 1MiB, side: 64 } }", 0);
    history_same(small, "a cache that is too small", full);
    start_cached(2, "{ decoded: { size: 1MiB, side: 64 }, encoded: 64MiB }", "");
    stat_feed(pfeedd, "pictures", &reduced);
    without = run_epochs("pictures", 3);
    history_same(without, "both caches", full);
    history_destroy(without);
    daemon_stop(pfeedd++);
    start_cached(2, "{ encoded: 64MiB }", "");
    stat_feed(pfeedd, "pictures", &plain);
    CHECK(reduced.prints.recipe != plain.prints.recipe && reduced.prints.order == plain.prints.order &&
              reduced.prints.data == plain.prints.data,
          "the fingerprints say nothing of it");
    without = run_epochs("pictures", 3);
    for (uint64_t i = 0; i < without->n_rows; i++)
        same += without->rows[i].hash == full->rows[i].hash;
    CHECK(same < without->n_rows / 4, "%u rows are as if nothing was reduced", same); /* those that are small already */
    daemon_stop(pfeedd++);
    history_destroy(full);
    history_destroy(small);
    history_destroy(without);
    remove_folder(folder);
}

/* ---- where it lies -------------------------------------------------------------------------------------------------- */

static void add_resident(const char *path, void *data)
{
    uint64_t *pages = data;
    unsigned char there[4096];
    struct stat st;
    int fd = open(path, O_RDONLY);
    void *map;
    size_t n;

    CHECK(fd >= 0 && fstat(fd, &st) == 0, "%s: %s", path, strerror(errno));
    n = ((size_t)st.st_size + 4095) / 4096;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && n <= sizeof(there) && mincore(map, (size_t)st.st_size, there) == 0, "mincore: %s",
          strerror(errno));
    for (size_t i = 0; i < n; i++)
        pages[there[i] & 1]++;
    munmap(map, (size_t)st.st_size);
    close(fd);
}

/* What is kept is not in the page cache, too. */
static void run_once_only(const void *arg)
{
    uint64_t before[2] = { 0, 0 }, after[2] = { 0, 0 };
    struct statfs fs;

    (void)arg;
    make_pictures();
    CHECK(statfs(folder, &fs) == 0, "statfs: %s", strerror(errno));
    if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
        skip("files in /tmp are nowhere but in memory");
    start_cached(1, "{ encoded: 64MiB }", "");
    each_picture(add_resident, before);
    history_destroy(run_epochs("pictures", 2));
    each_picture(add_resident, after);
    note("of %llu pages of files %llu were in the page cache before, %llu afterwards",
         (unsigned long long)(before[0] + before[1]), (unsigned long long)before[1], (unsigned long long)after[1]);
    CHECK(before[1] > 0 && after[1] == 0, "%llu pages are in the page cache, too", (unsigned long long)after[1]);
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* Nor is what was found on a disk, and is in memory now. */
static void run_once_only_disk(const void *arg)
{
    uint64_t before[2] = { 0, 0 }, after[2] = { 0, 0 };
    char path[128], cache[256];
    struct statfs fs;
    int fd;

    (void)arg;
    make_pictures();
    CHECK(statfs(folder, &fs) == 0, "statfs: %s", strerror(errno));
    if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
        skip("files in /tmp are nowhere but in memory");
    snprintf(path, sizeof(path), "%s/it.cache", folder);
    snprintf(cache, sizeof(cache), "{ decoded: { side: 64 }, disk: %s, size: 64MiB }", path);
    start_cached(1, cache, "");
    history_destroy(run_epochs("pictures", 1));
    daemon_stop(pfeedd++);
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fsync(fd) == 0, "%s: %s", path, strerror(errno)); /* what is not written yet cannot be forgotten */
    close(fd);
    add_resident(path, before);
    snprintf(cache, sizeof(cache), "{ decoded: { side: 64, size: 64MiB }, disk: %s, size: 64MiB }", path);
    start_cached(1, cache, "");
    history_destroy(run_epochs("pictures", 1));
    add_resident(path, after);
    note("of %llu pages of the cache %llu were in the page cache before, %llu afterwards",
         (unsigned long long)(before[0] + before[1]), (unsigned long long)before[1], (unsigned long long)after[1]);
    CHECK(before[1] > PICTURES && after[1] < before[1] / 4, "%llu pages are in the page cache, too",
          (unsigned long long)after[1]);
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* Two feeds over the same samples have one cache: the second one reads nothing. */
static void run_shared(const void *arg)
{
    char *a, *b, *yaml;
    struct pf_row_cache row;
    struct pf_row_feed feed;
    struct pf_row_daemon about;
    struct process process;

    (void)arg;
    make_pictures();
    a = feed_yaml("first", "{ encoded: 64MiB }", "");
    b = feed_yaml("second", "{ encoded: 64MiB }", "    shuffle: none\n");
    CHECK(asprintf(&yaml, "version: 1\ndaemon: { workers: 2, memory: 192MiB }\nfeeds:\n%s%s", a, b) > 0, "no memory");
    daemon_start(pfeedd, yaml);
    stat_daemon(pfeedd, &about);
    process_measure(pfeedd->pid, &process);
    CHECK(about.memory_used_bytes > 64 << 20 && about.memory_used_bytes < about.memory_bytes, "%llu bytes are used",
          (unsigned long long)about.memory_used_bytes);
    CHECK(sanitized(NULL) || process.rss_bytes >= about.memory_used_bytes, "%llu bytes are resident, %llu are counted",
          (unsigned long long)process.rss_bytes, (unsigned long long)about.memory_used_bytes);
    history_destroy(run_epochs("first", 1));
    history_destroy(run_epochs("second", 1));
    row = the_cache("");
    stat_feed(pfeedd, "second", &feed);
    CHECK(strcmp(row.feeds, "first, second") == 0 && strcmp(row.kind, "encoded") == 0, "%s of '%s'", row.kind, row.feeds);
    CHECK(row.hits == PICTURES && row.misses == PICTURES && feed.read_bytes <= 8 * PICTURES, "%llu hits, %llu misses, %llu bytes",
          (unsigned long long)row.hits, (unsigned long long)row.misses, (unsigned long long)feed.read_bytes);
    CHECK(strcmp(the_cache("second").feeds, row.feeds) == 0, "the second feed has another cache");
    daemon_stop(pfeedd++);
    free(a);
    free(b);
    free(yaml);
    remove_folder(folder);
}

struct two_lists {
    FILE *file;
    char last[PATH]; /* of the picture before */
    bool other;
};

static void list_picture(const char *path, void *data)
{
    struct two_lists *lists = data;

    if (lists->last[0])
        fprintf(lists->file, "%s,%s\n", path, lists->other ? lists->last : path);
    snprintf(lists->last, sizeof(lists->last), "%s", path);
}

/* A feed over a list of the pictures, each with a second file: itself, or in the other list the picture before. */
static char *list_yaml(const char *name, bool other, const char *cache)
{
    struct two_lists lists = { .other = other };
    char path[128], *yaml;

    snprintf(path, sizeof(path), "%s/%s.csv", folder, name);
    lists.file = fopen(path, "we");
    CHECK(lists.file, "cannot write %s", path);
    fputs("path,more\n", lists.file);
    each_picture(list_picture, &lists);
    fclose(lists.file);
    CHECK(asprintf(&yaml,
                   "  %s:\n    source: { type: list, path: %s, root: %s, file_columns: [more] }\n    batch: 1\n    cache: %s\n"
                   "    fields: { more: { decode: image, transforms: [ center_crop: { size: 32 } ], dtype: uint8 } }\n",
                   name, path, folder, cache) > 0,
          "no memory");
    return yaml;
}

static void start_lists(const char *first, const char *second)
{
    char *yaml;

    CHECK(asprintf(&yaml, "version: 1\ndaemon: { workers: 2, memory: 512MiB }\nfeeds:\n%s%s", first, second) > 0, "no memory");
    daemon_start(pfeedd, yaml);
    free(yaml);
}

static struct history *run_list(const char *feed)
{
    struct plan plan = { .daemon = pfeedd, .feed = feed, .epochs = 1, .history = history_create(PICTURES, PICTURES) };

    trainer_wait(trainer_start("trainer", train, &plan));
    CHECK(plan.history->n_steps == PICTURES - 1, "%llu steps: %s", (unsigned long long)plan.history->n_steps,
          plan.history->sentence);
    UNTIL(feed_at_rest(pfeedd, feed));
    return plan.history;
}

/* arg: a cache. Of two lists of the same pictures, with other files beside them, neither has what is the other's. */
static void run_second_files(const void *arg)
{
    const char *cache = arg;
    char *first, *second, text[256];
    const bool disk = strstr(cache, "disk") != NULL;
    struct history *alone, *after;
    struct pf_row_cache row;

    make_pictures();
    snprintf(text, sizeof(text), cache, folder);
    first = list_yaml("first", false, text);
    second = list_yaml("second", true, text);
    start_lists("", second);
    alone = run_list("second");
    daemon_stop(pfeedd++);
    start_lists(first, disk ? "" : second); /* a file on a disk is one feed's */
    history_destroy(run_list("first"));
    if (disk) {
        daemon_stop(pfeedd++);
        start_lists("", second);
    }
    after = run_list("second");
    history_same(after, "after the other list", alone);
    row = the_cache("second");
    CHECK(row.hits == 0 && row.stale == 0, "%llu hits, %llu stale", (unsigned long long)row.hits, (unsigned long long)row.stale);
    daemon_stop(pfeedd++);
    history_destroy(alone);
    history_destroy(after);
    free(first);
    free(second);
    remove_folder(folder);
}

/* It grows into nothing that was not there before READY. */
static void run_flat(const void *arg)
{
    struct process before, after;

    (void)arg;
    make_pictures();
    start_cached(2, "{ encoded: 64MiB }", "");
    history_destroy(run_epochs("pictures", 1)); /* the program's own pages, and replies */
    process_measure(pfeedd->pid, &before);
    history_destroy(run_epochs("pictures", 3));
    process_measure(pfeedd->pid, &after);
    CHECK(sanitized(NULL) || after.anon_bytes <= before.anon_bytes + (256 << 10), "it grew from %llu to %llu bytes",
          (unsigned long long)before.anon_bytes, (unsigned long long)after.anon_bytes);
    CHECK(after.descriptors == before.descriptors, "%u descriptors, then %u", before.descriptors, after.descriptors);
    CHECK(the_cache("pictures").entries == PICTURES, "not all are kept");
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

static void reload(const char *cache, const char *more)
{
    char *yaml = yaml_of(2, 512, cache, more), *report;
    int rc = daemon_reload(pfeedd, yaml, NULL, &report);

    CHECK(rc == 0, "the reload failed: %s", report ? report : "");
    free(report);
    free(yaml);
}

/* A reload that leaves the cache as it is keeps what is in it, whatever else changes; another size is another cache. */
static void run_reload(const void *arg)
{
    struct pf_row_daemon before, after;

    (void)arg;
    make_pictures();
    start_cached(2, "{ encoded: 64MiB }", "");
    stat_daemon(pfeedd, &before);
    history_destroy(run_epochs("pictures", 1));
    reload("{ encoded: 64MiB, check: 5m }", "    max_held: 1\n");
    CHECK(the_cache("pictures").entries == PICTURES, "%llu are kept over a reload",
          (unsigned long long)the_cache("pictures").entries);
    history_destroy(run_epochs("pictures", 1));
    CHECK(the_cache("pictures").hits == PICTURES, "%llu hits after it", (unsigned long long)the_cache("pictures").hits);
    stat_daemon(pfeedd, &after);
    CHECK(after.memory_used_bytes == before.memory_used_bytes, "%llu bytes used, then %llu",
          (unsigned long long)before.memory_used_bytes, (unsigned long long)after.memory_used_bytes);
    reload("{ encoded: 32MiB }", "");
    CHECK(the_cache("pictures").entries == 0 && the_cache("pictures").size_bytes == 32 << 20, "the old cache is still there");
    history_destroy(run_epochs("pictures", 1));
    reload("{}", "");
    CHECK(stat_caches(pfeedd, "", NULL, 0) == 0, "a cache that nobody asks for any more");
    UNTIL((stat_daemon(pfeedd, &after), after.memory_used_bytes + (60 << 20) < before.memory_used_bytes));
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* Pictures of another recipe are of no use to the new form, and do not take its room. */
static void run_reload_recipe(const void *arg)
{
    struct pf_row_daemon before, after;

    (void)arg;
    make_pictures();
    start_cached(2, "{ decoded: { size: 64MiB, side: 64 } }", "");
    history_destroy(run_epochs("pictures", 1));
    stat_daemon(pfeedd, &before);
    reload("{ decoded: { size: 64MiB, side: 80 } }", "");
    UNTIL(stat_caches(pfeedd, "", NULL, 0) == 1);
    CHECK(the_cache("pictures").entries == 0 && the_cache("pictures").used_bytes < 1 << 20, "%llu of the old pictures are there",
          (unsigned long long)the_cache("pictures").entries);
    reload("{ decoded: { size: 64MiB, side: 80 } }", "    max_held: 1\n");
    UNTIL((stat_daemon(pfeedd, &after), after.memory_used_bytes < before.memory_used_bytes + (32 << 20)));
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* As long as before, so that it is no bad sample, and with other pixels: the first quantisation table is another. */
static void repaint(const char *path)
{
    uint8_t head[1024];
    int fd = open(path, O_RDWR);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);
    uint8_t *table = n > 0 ? memmem(head, (size_t)n, "\xff\xdb", 2) : NULL;

    CHECK(table && table + 69 < head + n, "%s: no table", path);
    for (int i = 5; i < 69; i++)
        table[i] = (uint8_t)(table[i] < 128 ? 2 * table[i] : table[i] / 2);
    CHECK(pwrite(fd, head, (size_t)n, 0) == n, "%s: %s", path, strerror(errno));
    close(fd);
}

/* Another picture in the place of one that is kept. */
static void run_changed(const void *arg)
{
    struct history *before, *after;
    char path[PATH] = "";
    struct pf_row_cache row;
    struct stat st;
    unsigned differ = 0;
    int when = 7;

    (void)arg;
    make_pictures();
    start_cached(1, "{ encoded: 64MiB, check: 0 }", "    shuffle: none\n");
    before = run_epochs("pictures", 2);
    each_picture(first_picture, path);
    CHECK(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
    repaint(path);
    age(path, &when);
    settle();
    after = run_epochs("pictures", 2);
    row = the_cache("pictures");
    for (uint64_t i = 0; i < before->n_rows; i++) {
        const bool same = before->rows[i].hash == after->rows[i].hash;

        differ += !same;
        CHECK(same || before->rows[i].id == before->rows[0].id, "id %llu has other bytes",
              (unsigned long long)before->rows[i].id);
    }
    CHECK(differ == 2, "%u rows of the changed picture are others", differ);
    CHECK(row.stale == 1 && row.lost_bytes > (uint64_t)st.st_size, "%llu stale, %llu bytes lost", (unsigned long long)row.stale,
          (unsigned long long)row.lost_bytes);
    CHECK(row.entries == PICTURES && row.misses == PICTURES + 1, "%llu kept, %llu misses", (unsigned long long)row.entries,
          (unsigned long long)row.misses);
    history_destroy(before);
    history_destroy(after);
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* Kept pictures that are made of kept bytes are of the file as it was when these were read. */
static void run_changed_between(const void *arg)
{
    struct history *after, *anew;
    char path[PATH] = "";
    int when = 7;

    (void)arg;
    make_pictures();
    start_cached(1, "{ encoded: 64MiB, check: 30m }", "");
    history_destroy(run_epochs("pictures", 1));
    each_picture(first_picture, path);
    repaint(path);
    age(path, &when);
    settle();
    reload("{ encoded: 64MiB, decoded: { size: 64MiB, side: 64 }, check: 30m }", "");
    history_destroy(run_epochs("pictures", 1)); /* of the old bytes, as they were looked at a moment ago */
    reload("{ encoded: 64MiB, decoded: { size: 64MiB, side: 64 }, check: 0 }", "");
    after = run_epochs("pictures", 1);
    daemon_stop(pfeedd++);
    start_cached(1, "{ decoded: { size: 64MiB, side: 64 } }", "");
    anew = run_epochs("pictures", 1);
    history_same(after, "when the file is looked at", anew);
    daemon_stop(pfeedd++);
    history_destroy(after);
    history_destroy(anew);
    remove_folder(folder);
}

/* What cannot be decoded is read each time, and what has just changed is not kept yet. */
static void run_bad(const void *arg)
{
    char path[PATH] = "";
    struct stat st;
    struct pf_row_cache row;
    int fd, now = 2000000000; /* in the future: as young as can be */

    (void)arg;
    make_pictures();
    each_picture(first_picture, path);
    CHECK(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
    fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, "no JPEG", 7, 0) == 7, "%s: %s", path, strerror(errno));
    close(fd);
    age(path, &(int){ 0 });
    settle();
    start_cached(1, "{ encoded: 64MiB }", "    on_error: mask\n    max_errors: 1\n");
    history_destroy(run_epochs("pictures", 2));
    row = the_cache("pictures");
    CHECK(row.entries == PICTURES - 1 && row.misses == PICTURES + 1, "%llu kept, %llu misses", (unsigned long long)row.entries,
          (unsigned long long)row.misses);
    daemon_stop(pfeedd++);
    unlink(path);
    images_make(folder, PICTURES, 3);
    each_picture(age, &(int){ 0 });
    age(path, &now);
    settle();
    start_cached(1, "{ encoded: 64MiB }", "");
    history_destroy(run_epochs("pictures", 2));
    CHECK(the_cache("pictures").entries == PICTURES - 1, "%llu are kept", (unsigned long long)the_cache("pictures").entries);
    daemon_stop(pfeedd++);
    remove_folder(folder);
}

/* More than the budget has: refused, with the numbers. */
static void run_too_large(const void *arg)
{
    char *yaml, *said;

    (void)arg;
    make_pictures();
    yaml = yaml_of(1, 64, "{ encoded: 200MiB }", "");
    CHECK(daemon_try(pfeedd, yaml) == 78, "it takes a cache that is larger than its budget");
    said = daemon_output(pfeedd);
    CHECK(strstr(said, "caches 201 MiB") && strstr(said, "the budget is 64 MiB"), "it says: %s", said);
    free(said);
    free(yaml);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "share", run_share, NULL },
        { "once-only", run_once_only, NULL },
        { "shared", run_shared, NULL },
        { "flat", run_flat, NULL },
        { "decoded", run_decoded, NULL },
        { "reload", run_reload, NULL },
        { "changed", run_changed, NULL },
        { "bad", run_bad, NULL },
        { "too-large", run_too_large, NULL },
        { "reload-recipe", run_reload_recipe, NULL },
        { "once-only-disk", run_once_only_disk, NULL },
        { "changed-between", run_changed_between, NULL },
        { "second-files", run_second_files, "{ encoded: 64MiB }" },
        { "second-files-decoded", run_second_files, "{ decoded: { size: 64MiB, side: 64 } }" },
        { "second-files-disk", run_second_files, "{ decoded: { side: 64 }, disk: %s/it.cache, size: 64MiB }" },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
