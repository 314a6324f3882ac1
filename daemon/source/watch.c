/* SPDX-License-Identifier: MIT */
/* See watch.h. On the thread that opens the source. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "source/watch.h"

#define YOUNG_S 2 /* as coarse as the times of any file system are */

int64_t watch_young_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - YOUNG_S;
}

void watches_init(struct watches *watches)
{
    *watches = (struct watches){ .young_s = watch_young_s() };
}

void watches_trim(struct watches *watches)
{
    watches->v = file_trimmed(watches->v, watches->n, &watches->room, sizeof *watches->v);
    texts_trim(&watches->paths);
}

void watches_fini(struct watches *watches)
{
    free(watches->v);
    texts_fini(&watches->paths);
    watches->v = NULL;
    watches->n = watches->room = 0;
}

/* Also of the time of change, which nobody can set back, as tar, rsync and touch do with the other. Never 0. */
uint64_t watch_stamp(const struct stat *st)
{
    const uint64_t facts[] = {
        st->st_dev,
        st->st_ino,
        st->st_mode & S_IFMT,
        (uint64_t)st->st_size,
        (uint64_t)st->st_mtim.tv_sec,
        (uint64_t)st->st_mtim.tv_nsec,
        (uint64_t)st->st_ctim.tv_sec,
        (uint64_t)st->st_ctim.tv_nsec,
    };
    return XXH3_64bits(facts, sizeof facts) | 1;
}

int watches_add(struct watches *watches, const char *path, const struct stat *st, uint64_t *number)
{
    struct watched watched = { .stamp = st ? watch_stamp(st) : 0 };
    struct watched *grown = file_grown(watches->v, watches->n, &watches->room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    watches->v = grown;
    int rc = texts_add(&watches->paths, path, "", &watched.path);
    if (rc < 0)
        return rc;
    grown[watches->n++] = watched;
    if (st && st->st_mtim.tv_sec >= watches->young_s)
        watches->young = watches->n;
    *number = watches->n - 1;
    return 0;
}

const char *watches_path(const struct watches *watches, uint64_t number)
{
    return watches->paths.text + watches->v[number].path;
}

const char *watches_young(const struct watches *watches)
{
    const char *path = watches->young ? watches_path(watches, watches->young - 1) : NULL;
    return path && !*path ? "." : path;
}

bool watches_are_sound(const struct watches *watches)
{
    for (uint64_t i = 0; i < watches->n; i++)
        if (!texts_hold(&watches->paths, watches->v[i].path))
            return false;
    return true;
}

int watches_hold(const struct watches *watches, const char *root, const struct source_progress *progress, struct problem *why)
{
    struct stat st;
    int rc = 0;
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return problem_set(why, -ESTALE, "cannot open %s: %s", root, strerror(errno));
    for (uint64_t i = 0; i < watches->n && rc == 0; i++) {
        const char *path = watches_path(watches, i);
        uint64_t stamp = fstatat(fd, path, &st, *path ? 0 : AT_EMPTY_PATH) == 0 ? watch_stamp(&st) : 0;
        if (source_stopping(progress))
            rc = -ECANCELED;
        else if (stamp != watches->v[i].stamp)
            rc =
                problem_set(why, -ESTALE, "%s%s%s has changed", *path == '/' ? "" : root, *path && *path != '/' ? "/" : "", path);
    }
    close(fd);
    return rc;
}
