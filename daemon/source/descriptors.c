/* SPDX-License-Identifier: MIT */
/* See descriptors.h. Each file has one place, which it shares with others where there are more files than places. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "source/descriptors.h"

#define MOST   128 /* of a source: the daemon's consumers need theirs, too */
#define STALE  (UINT64_C(1) << 31)
#define HOLDER UINT64_C(1)

/* state: file + 1 in the upper half, then STALE, then how many hold it. 0: EMPTY.
 *   EMPTY, or nobody holds it -> OPENING (one holder, of no file) -> the file with one holder, or EMPTY where it does not open
 * fd is written by the one who is OPENING it, and is read by holders. */
struct place {
    uint64_t state;
    int fd;
};

struct descriptors {
    uint64_t n;
    struct place places[];
};

#define OPENING (UINT64_C(0xffffffff) << 32 | HOLDER)

struct descriptors *descriptors_create(uint64_t n_files)
{
    const uint64_t n = n_files < MOST ? n_files : MOST;
    struct descriptors *descriptors = calloc(1, sizeof *descriptors + n * sizeof(struct place));
    if (!descriptors)
        return NULL;
    descriptors->n = n;
    for (uint64_t i = 0; i < n; i++)
        descriptors->places[i].fd = -1;
    return descriptors;
}

void descriptors_destroy(struct descriptors *descriptors)
{
    for (uint64_t i = 0; descriptors && i < descriptors->n; i++)
        if (descriptors->places[i].fd >= 0)
            close(descriptors->places[i].fd);
    free(descriptors);
}

uint64_t descriptors_bytes(const struct descriptors *descriptors)
{
    return sizeof *descriptors + descriptors->n * sizeof(struct place);
}

/* Not blocking: the file may have become a pipe since the scan. */
static int open_file(const char *path, struct problem *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? problem_set(why, -errno, "cannot open %s: %s", path, strerror(errno)) : fd;
}

static uint32_t holders(uint64_t state)
{
    return (uint32_t)(state & (STALE - 1));
}

int descriptors_take(struct descriptors *descriptors, uint64_t file, const char *path, struct lent *out, struct problem *why)
{
    const uint64_t number = file % descriptors->n, mine = (file + 1) << 32;
    struct place *place = &descriptors->places[number];
    uint64_t state = __atomic_load_n(&place->state, __ATOMIC_ACQUIRE);
    int fd;
    while ((state & ~(STALE - 1)) == mine) /* neither another's, nor stale */
        if (__atomic_compare_exchange_n(&place->state, &state, state + HOLDER, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
            *out = (struct lent){ place->fd, (int64_t)number };
            return 0;
        }
    if (holders(state) == 0 &&
        __atomic_compare_exchange_n(&place->state, &state, OPENING, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        if (place->fd >= 0)
            close(place->fd);
        place->fd = fd = open_file(path, why);
        /* fd is seen by whoever sees that it is this file's. */
        __atomic_store_n(&place->state, fd < 0 ? 0 : mine | HOLDER, __ATOMIC_RELEASE);
        *out = (struct lent){ fd, (int64_t)number };
        return fd < 0 ? fd : 0;
    }
    fd = open_file(path, why);
    *out = (struct lent){ fd, -1 };
    return fd < 0 ? fd : 0;
}

void descriptors_give(struct descriptors *descriptors, const struct lent *lent, bool keep)
{
    if (lent->place < 0) {
        close(lent->fd);
        return;
    }
    struct place *place = &descriptors->places[lent->place];
    if (!keep)
        __atomic_fetch_or(&place->state, STALE, __ATOMIC_RELAXED);
    /* What was read of fd is done before another one may close it. */
    __atomic_fetch_sub(&place->state, HOLDER, __ATOMIC_RELEASE);
}
