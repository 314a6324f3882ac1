/* SPDX-License-Identifier: MIT */
/* See segment.h. feed.c makes the arenas, consumer.c the lanes, both on the main thread. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#define SEALS_WRITABLE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SEALS_READONLY (SEALS_WRITABLE | F_SEAL_FUTURE_WRITE)

const char *segment_kind_name(enum segment_kind kind)
{
    return kind == SEGMENT_MEMFD ? "memfd" : "posix";
}

/* Not executable where the kernel knows of that (6.3), as some are set up to make no others. */
static int make_memfd(void)
{
    int fd = memfd_create("pfeed", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    return fd < 0 && errno == EINVAL ? memfd_create("pfeed", MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

/* Descriptors or memory that ran out say nothing about the kernel: the use itself will tell. */
static enum segment_seals probe_seals(void)
{
    enum segment_seals seals = SEGMENT_SEALS_NONE;
    int fd = make_memfd();

    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? SEGMENT_SEALS_ALL : seals;
    if (ftruncate(fd, PF_PAGE) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        seals = fcntl(fd, F_ADD_SEALS, SEALS_READONLY) == 0 ? SEGMENT_SEALS_ALL : SEGMENT_SEALS_SIZE;
    close(fd);
    return seals;
}

enum segment_seals segment_seals(void)
{
    static atomic_int known = -1;

    if (atomic_load(&known) < 0)
        atomic_store(&known, (int)probe_seals());
    return (enum segment_seals)atomic_load(&known);
}

/* A second, read-only description of the same memory: consumers must not get one that was opened for writing. */
static int reopen_readonly(int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int open_memfd(struct segment *segment, struct problem *why)
{
    segment->fd = make_memfd();
    if (segment->fd < 0)
        return problem_set(why, -errno, "cannot make a memfd: %s", strerror(errno));
    /* Else another uid, holding the read-only descriptor, could open it again for writing through /proc. */
    if (fchmod(segment->fd, 0600) != 0)
        return problem_set(why, -errno, "cannot set the mode of a memfd: %s", strerror(errno));
    return 0;
}

/* Without a name, which a daemon that is killed between making and removing it would leave. */
static bool open_nameless(struct segment *segment)
{
    segment->fd = open("/dev/shm", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (segment->fd < 0)
        return false;
    segment->reader = reopen_readonly(segment->fd);
    if (segment->reader >= 0)
        return true;
    close(segment->fd);
    segment->fd = -1;
    return false;
}

static int open_posix(struct segment *segment, struct problem *why)
{
    static atomic_uint serial;
    char name[64];

    if (open_nameless(segment))
        return 0;
    for (int tries = 0; tries < 100; tries++) {
        snprintf(name, sizeof(name), "/pfeed-%ld-%u", (long)getpid(), atomic_fetch_add(&serial, 1));
        segment->fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        if (segment->fd >= 0) {
            segment->reader = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
            shm_unlink(name);
            return segment->reader >= 0 ? 0 : problem_set(why, -errno, "cannot open %s again: %s", name, strerror(errno));
        }
        if (errno != EEXIST)
            break;
    }
    return problem_set(why, -errno, "cannot make a shared-memory object in /dev/shm: %s; try `shm: memfd`", strerror(errno));
}

static int cannot_reserve(const struct segment *segment, uint64_t size, int code, struct problem *why)
{
    return problem_set(why, -code, "cannot reserve %llu MiB of shared memory (%s): %s; %s",
                       (unsigned long long)(size + (1 << 20) - 1) >> 20, segment_kind_name(segment->kind), strerror(code),
                       code == EFBIG ? "raise the limit on the size of files (LimitFSIZE=, `ulimit -f`)"
                                     : "lower `memory` or `slots`");
}

static int map_whole(struct segment *segment, struct problem *why)
{
    if (ftruncate(segment->fd, (off_t)segment->size) != 0)
        return cannot_reserve(segment, segment->size, errno, why);
    segment->map = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
    if (segment->map == MAP_FAILED) {
        segment->map = NULL;
        return problem_set(why, -errno, "cannot map %llu MiB: %s", (unsigned long long)(segment->size >> 20), strerror(errno));
    }
    madvise(segment->map, segment->size, MADV_HUGEPAGE); /* where the kernel gives them to shared memory */
    return 0;
}

/* Seals on the size do not forbid it, as the size stays. */
int segment_make(struct segment *segment, uint64_t made, struct problem *why)
{
    const uint64_t from = segment->made, until = (made + PF_PAGE - 1) / PF_PAGE * PF_PAGE;
    uint8_t *begin = (uint8_t *)segment->map + from;
    int rc = EINTR;

    if (until <= from)
        return 0;
    while (rc == EINTR)
        rc = posix_fallocate(segment->fd, (off_t)from, (off_t)(until - from));
    if (rc != 0)
        return cannot_reserve(segment, until - from, rc, why);
    segment->made = until;
    /* posix_fallocate has reserved every page; this makes the page tables too, where the kernel knows how (5.14). */
#ifdef MADV_POPULATE_WRITE
    if (madvise(begin, until - from, MADV_POPULATE_WRITE) == 0)
        return 0;
#endif
    for (uint64_t at = 0; at < until - from; at += PF_PAGE)
        ((volatile uint8_t *)begin)[at] = 0;
    return 0;
}

/* Seals it, and opens what consumers get. */
static int seal(struct segment *segment, int consumers_write, struct problem *why)
{
    int seals = consumers_write || segment_seals() == SEGMENT_SEALS_SIZE ? SEALS_WRITABLE : SEALS_READONLY;

    if (segment->kind == SEGMENT_MEMFD && fcntl(segment->fd, F_ADD_SEALS, seals) != 0)
        return problem_set(why, -errno, "cannot seal a memfd: %s; try `shm: posix`", strerror(errno));
    if (consumers_write) {
        if (segment->reader >= 0)
            close(segment->reader);
        segment->reader = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    } else if (segment->kind == SEGMENT_MEMFD) {
        segment->reader = reopen_readonly(segment->fd);
    }
    return segment->reader >= 0 ? 0 : problem_set(why, -errno, "cannot open shared memory again: %s", strerror(errno));
}

static int create(struct segment *out, enum segment_kind kind, uint64_t size, uint64_t made, enum pf_segment_kind content,
                  int consumers_write, struct problem *why)
{
    struct segment segment = { .kind = kind, .size = (size + PF_PAGE - 1) / PF_PAGE * PF_PAGE, .fd = -1, .reader = -1 };
    struct pf_head *head;
    int rc = kind == SEGMENT_MEMFD ? open_memfd(&segment, why) : open_posix(&segment, why);

    if (rc == 0)
        rc = map_whole(&segment, why);
    if (rc == 0)
        rc = segment_make(&segment, made, why);
    if (rc == 0)
        rc = seal(&segment, consumers_write, why);
    if (rc < 0) {
        segment_destroy(&segment);
        return rc;
    }
    head = segment.map;
    *head = (struct pf_head){ .version = PF_VERSION, .kind = content, .size = segment.size };
    *out = segment;
    return 0;
}

int segment_create(struct segment *segment, enum segment_kind kind, uint64_t size, enum pf_segment_kind content,
                   int consumers_write, struct problem *why)
{
    if (content != PF_ARENA) /* a lane: sealed wherever that can be, whatever `shm` says */
        kind = segment_seals() == SEGMENT_SEALS_NONE ? SEGMENT_POSIX : SEGMENT_MEMFD;
    return create(segment, kind, size, size, content, consumers_write, why);
}

int segment_create_part(struct segment *segment, enum segment_kind kind, uint64_t size, uint64_t made, struct problem *why)
{
    return create(segment, kind, size, made, PF_ARENA, 0, why);
}

void segment_publish(struct segment *segment)
{
    struct pf_head *head = segment->map;

    /* Everything else in the segment is seen before its magic. */
    __atomic_store_n(&head->magic, PF_MAGIC, __ATOMIC_RELEASE);
}

void segment_destroy(struct segment *segment)
{
    if (segment->map)
        munmap(segment->map, segment->size);
    if (segment->size && segment->reader >= 0)
        close(segment->reader);
    if (segment->size && segment->fd >= 0)
        close(segment->fd);
    *segment = (struct segment){ .fd = -1, .reader = -1 };
}
