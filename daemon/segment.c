/* SPDX-License-Identifier: MIT */
/* See segment.h. feed.c makes the arenas, consumer.c the lanes, both on the main thread. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS_WRITABLE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SEALS_READONLY (SEALS_WRITABLE | F_SEAL_FUTURE_WRITE)

const char *segment_kind_name(enum segment_kind kind)
{
    return kind == SEGMENT_MEMFD ? "memfd" : "posix";
}

enum segment_kind segment_best(void)
{
    int fd = memfd_create("pfeed-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc;

    if (fd < 0)
        return SEGMENT_POSIX;
    rc = ftruncate(fd, PF_PAGE);
    if (rc == 0)
        rc = fcntl(fd, F_ADD_SEALS, SEALS_READONLY);
    close(fd);
    return rc == 0 ? SEGMENT_MEMFD : SEGMENT_POSIX;
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
    segment->fd = memfd_create("pfeed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (segment->fd < 0)
        return problem_set(why, -errno, "cannot make a memfd: %s", strerror(errno));
    /* Else another uid, holding the read-only descriptor, could open it again for writing through /proc. */
    if (fchmod(segment->fd, 0600) != 0)
        return problem_set(why, -errno, "cannot set the mode of a memfd: %s", strerror(errno));
    return 0;
}

static int open_posix(struct segment *segment, struct problem *why)
{
    static atomic_uint serial;
    char name[64];

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

static int reserve(struct segment *segment, struct problem *why)
{
    int rc = posix_fallocate(segment->fd, 0, (off_t)segment->size);

    while (rc == EINTR)
        rc = posix_fallocate(segment->fd, 0, (off_t)segment->size);
    if (rc != 0)
        return problem_set(why, -rc, "cannot reserve %llu MiB of shared memory (%s): %s; lower `memory` or `slots`",
                           (unsigned long long)(segment->size >> 20), segment_kind_name(segment->kind), strerror(rc));
    segment->map = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
    if (segment->map == MAP_FAILED) {
        segment->map = NULL;
        return problem_set(why, -errno, "cannot map %llu MiB: %s", (unsigned long long)(segment->size >> 20), strerror(errno));
    }
    madvise(segment->map, segment->size, MADV_HUGEPAGE); /* where the kernel gives them to shared memory */
    /* posix_fallocate has reserved every page; this makes the page tables too, where the kernel knows how (5.14). */
#ifdef MADV_POPULATE_WRITE
    if (madvise(segment->map, segment->size, MADV_POPULATE_WRITE) == 0)
        return 0;
#endif
    for (uint64_t at = 0; at < segment->size; at += PF_PAGE)
        ((volatile uint8_t *)segment->map)[at] = 0;
    return 0;
}

int segment_create(struct segment *out, enum segment_kind kind, uint64_t size, enum pf_segment_kind content, int consumers_write,
                   struct problem *why)
{
    struct segment segment = { .kind = consumers_write || content == PF_GRANT_PAGE ? SEGMENT_MEMFD : kind,
                               .size = (size + PF_PAGE - 1) / PF_PAGE * PF_PAGE,
                               .fd = -1,
                               .reader = -1 };
    struct pf_head *head;
    int rc;

    rc = segment.kind == SEGMENT_MEMFD ? open_memfd(&segment, why) : open_posix(&segment, why);
    if (rc < 0)
        goto fail;
    rc = reserve(&segment, why);
    if (rc < 0)
        goto fail;
    if (segment.kind == SEGMENT_MEMFD) {
        if (fcntl(segment.fd, F_ADD_SEALS, consumers_write ? SEALS_WRITABLE : SEALS_READONLY) != 0) {
            rc = problem_set(why, -errno, "cannot seal a memfd: %s; try `shm: posix`", strerror(errno));
            goto fail;
        }
        segment.reader = consumers_write ? fcntl(segment.fd, F_DUPFD_CLOEXEC, 0) : reopen_readonly(segment.fd);
        if (segment.reader < 0) {
            rc = problem_set(why, -errno, "cannot open a memfd for reading: %s", strerror(errno));
            goto fail;
        }
    }
    head = segment.map;
    *head = (struct pf_head){ .version = PF_VERSION, .kind = content, .size = segment.size };
    *out = segment;
    return 0;
fail:
    segment_destroy(&segment);
    return rc;
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
