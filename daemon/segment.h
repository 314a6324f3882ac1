/* SPDX-License-Identifier: MIT */
/* One piece of shared memory: a sealed memfd, or a POSIX object that is unlinked as soon as it is open. Reserved and faulted in
 * when made, so that a later touch cannot fail. On the thread that makes it, afterwards main thread. */
#ifndef PFEED_SEGMENT_H
#define PFEED_SEGMENT_H

#include <stdint.h>

#include "layout.h"
#include "log.h"

enum segment_kind { SEGMENT_MEMFD, SEGMENT_POSIX };
/* What this kernel can seal: nothing; the size (Linux 3.17); also against being opened again for writing (5.1). */
enum segment_seals { SEGMENT_SEALS_NONE, SEGMENT_SEALS_SIZE, SEGMENT_SEALS_ALL };

struct segment {
    void *map;     /* read and write */
    uint64_t size; /* bytes, a multiple of the page */
    uint64_t made; /* of them so many from the start are reserved and faulted in, a multiple of the page */
    int fd;        /* the daemon's own, read and write */
    int reader;    /* what consumers get: read-only where consumers_write was false */
    enum segment_kind kind;
};

/* consumers_write: their descriptor may write but not resize (a return page; lanes are memfds wherever anything can be sealed;
 * where nothing can, only those may have one who could end the daemon anyway). The memory is zero but for the
 * head, whose magic segment_publish stores. */
int segment_create(struct segment *segment, enum segment_kind kind, uint64_t size, enum pf_segment_kind content,
                   int consumers_write, struct problem *why);
/* An arena of which no more than the first `made` bytes are there yet: nobody may touch the others. */
int segment_create_part(struct segment *segment, enum segment_kind kind, uint64_t size, uint64_t made, struct problem *why);
/* Makes the segment as far as that, if it is not. Any one thread, while others use what is there; on failure all is as before. */
int segment_make(struct segment *segment, uint64_t made, struct problem *why);
void segment_publish(struct segment *segment);
void segment_destroy(struct segment *segment); /* of a zeroed one: nothing */
/* Any thread. */
enum segment_seals segment_seals(void);
const char *segment_kind_name(enum segment_kind kind);

#endif
