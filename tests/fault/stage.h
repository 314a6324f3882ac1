/* SPDX-License-Identifier: MIT */
/* Where test_fault plays: a folder with a small configuration (pictures, the same by a list, numbers and tokens), what its rows must be, and an
 * epoch of each feed taken and judged. */
#ifndef FAULT_STAGE_H
#define FAULT_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inject.h"

#define STAGE_FEEDS 4u
#define STAGE_ROWS  16u /* of the largest feed */

/* In the file that FAULT_ENV names, behind the fault itself: also a client in a process of its own judges by it. */
struct stage_page {
    struct fault fault;
    uint32_t n_rows[STAGE_FEEDS];
    uint64_t hash[STAGE_FEEDS][STAGE_ROWS]; /* of a sample's row */
    uint64_t zeros[STAGE_FEEDS];            /* of a row that was left out */
};

struct stage {
    char folder[64], socket[96], config[96], output[96], page_path[96];
    struct stage_page *page;
};

/* shm: "memfd" or "posix". */
void stage_make(struct stage *stage, const char *shm);
void stage_end(struct stage *stage);
/* By system calls that cannot be made to fail. */
struct stage_page *stage_map(const char *path);

extern const char *const stage_feeds[STAGE_FEEDS];

/* One epoch of a feed, as a trainer: 0, or -errno and a sentence. -EBADMSG: what came is not right. fill: take it as right;
 * bad_samples: once the fault has fired, rows may have been replaced or left out, and say so. */
int stage_epoch(const struct stage *stage, uint32_t feed, bool fill, bool bad_samples, char *why, size_t size);

#endif
