/* SPDX-License-Identifier: MIT */
/* See cached.h. */
#include "cached.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct daemon daemons[8], *pfeedd = daemons;
char folder[64];

/* ---- pictures ------------------------------------------------------------------------------------------------------- */

/* Calls for every file of the class folders. */
void each_picture(void (*call)(const char *path, void *data), void *data)
{
    struct dirent **classes, **files;
    char path[PATH];
    int n = scandir(folder, &classes, NULL, alphasort);

    for (int c = 0; c < n; c++) {
        snprintf(path, sizeof(path), "%s/%s", folder, classes[c]->d_name);
        int m = classes[c]->d_name[0] == '.' ? 0 : scandir(path, &files, NULL, alphasort);

        for (int i = 0; i < m; i++) {
            snprintf(path, sizeof(path), "%s/%s/%s", folder, classes[c]->d_name, files[i]->d_name);
            if (files[i]->d_name[0] != '.')
                call(path, data);
            free(files[i]);
        }
        if (m > 0)
            free(files);
        free(classes[c]);
    }
    free(classes);
}

/* Written to the disk, and long ago: what is young is not kept yet. */
void age(const char *path, void *data)
{
    const time_t when = 1000000000 + (time_t) * (int *)data;
    const struct timespec times[2] = { { when, 0 }, { when, 0 } };
    int fd = open(path, O_RDONLY);

    CHECK(fd >= 0 && futimens(fd, times) == 0 && fsync(fd) == 0, "%s: %s", path, strerror(errno));
    close(fd);
}

static void add_size(const char *path, void *data)
{
    struct stat st;

    CHECK(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
    *(uint64_t *)data += 128 + (uint64_t)st.st_size; /* with what stands around it in a cache, at the most */
}

uint64_t all_bytes(void)
{
    uint64_t bytes = 0;

    each_picture(add_size, &bytes);
    return bytes;
}

void settle(void)
{
    const int64_t until_ns = now_ns() + 2200 * MS;

    UNTIL(now_ns() > until_ns);
}

void make_pictures(void)
{
    int when = 0;

    snprintf(folder, sizeof(folder), "/tmp/pfeed-cache-XXXXXX");
    CHECK(mkdtemp(folder), "cannot make a folder");
    images_make(folder, PICTURES, 3);
    each_picture(age, &when);
    settle();
}

void first_picture(const char *path, void *data)
{
    if (!*(char *)data)
        snprintf(data, PATH, "%s", path);
}

/* ---- daemons and trainers ------------------------------------------------------------------------------------------- */

#define FIELDS                                                                                                                   \
    "    fields:\n      image:\n        decode: { image: { max_pixels: 1000000, max_progressive: 1000000 } }\n"                  \
    "        transforms: [ random_resized_crop: { size: 48 }, horizontal_flip: {} ]\n        dtype: uint8\n"                     \
    "      label: { dtype: int64 }\n"

char *feed_yaml(const char *name, const char *cache, const char *more)
{
    char *text;

    CHECK(asprintf(&text,
                   "  %s:\n    source: { type: directory, path: %s }\n    batch: %u\n    slots: 4\n    cache: %s\n%s" FIELDS,
                   name, folder, BATCH, cache, more) > 0,
          "no memory");
    return text;
}

char *yaml_of(unsigned workers, unsigned memory_mib, const char *cache, const char *more)
{
    char *feed = feed_yaml("pictures", cache, more), *text;

    CHECK(asprintf(&text, "version: 1\ndaemon: { workers: %u, memory: %uMiB }\nfeeds:\n%s", workers, memory_mib, feed) > 0,
          "no memory");
    free(feed);
    return text;
}

void start_cached(unsigned workers, const char *cache, const char *more)
{
    char *yaml = yaml_of(workers, 512, cache, more);

    daemon_start(pfeedd, yaml);
    free(yaml);
}

struct history *run_epochs(const char *feed, uint32_t epochs)
{
    struct plan plan = { .daemon = pfeedd, .feed = feed, .epochs = epochs };

    plan.history = history_create(epochs * STEPS + 1, epochs * PICTURES + BATCH);
    trainer_wait(trainer_start("trainer", train, &plan));
    CHECK(plan.history->open_rc == 0 && plan.history->n_steps == epochs * STEPS, "%llu steps: %s",
          (unsigned long long)plan.history->n_steps, plan.history->sentence);
    UNTIL(feed_at_rest(pfeedd, feed));
    return plan.history;
}

struct pf_row_cache the_cache(const char *feed)
{
    struct pf_row_cache rows[4];
    size_t n = stat_caches(pfeedd, feed, rows, 4);

    CHECK(n == 1, "%zu caches", n);
    return rows[0];
}
