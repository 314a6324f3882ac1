/* SPDX-License-Identifier: MIT */
/* A file system of the test's own (FUSE), in a process of its own, whose reads take as long as the test wants. Flat: files f000,
 * f001, .. of the same size, whose bytes tell the file and the place. */
#ifndef SLOWFS_H
#define SLOWFS_H

#include "harness.h"

enum slowfs_rule {
    SLOWFS_AT_ONCE, /* every read is answered as it comes */
    SLOWFS_HOLD,    /* none is */
    SLOWFS_KEEP,    /* that of the lowest file is answered where `keep` others are under way, or all of `total` have come */
    SLOWFS_DELAY,   /* each after delay_ns */
};

struct slowfs {                  /* in shared memory: the test writes the first part at any time, the file system the second */
    uint32_t rule, keep, cached; /* cached: the kernel keeps what it has read */
    uint32_t held_below;         /* files below this number are not answered at all, whatever the rule */
    uint32_t failing, cutting;   /* the first read of each file fails with this errno; gives only half */
    uint64_t total, delay_ns;
    uint32_t ready, stop;
    uint64_t come, now, most; /* reads so far; under way; the most that were at a time */
    uint64_t by_file[4096];
    char at[96];
    uint32_t files;
    uint64_t bytes;
};

/* Mounts it at a new folder below `folder`, in mounts of the test's own; skips the test where that cannot be had. */
struct slowfs *slowfs_start(const char *folder, uint32_t files, uint64_t bytes);
void slowfs_end(struct slowfs *fs);
/* What file number `file` has at `at`. */
uint8_t slowfs_byte(uint64_t file, uint64_t at);
uint64_t slowfs_now(const struct slowfs *fs);

#endif
