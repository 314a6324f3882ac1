/* SPDX-License-Identifier: MIT */
/* The members of a tar archive, one after the other, with the place of their bytes. For tar_scan.c, on the thread that opens the
 * source; what it reads from is the caller's. */
#ifndef PFEED_TAR_WALK_H
#define PFEED_TAR_WALK_H

#include "source/tar_header.h"

#define TAR_WINDOW 8192 /* read at a time: a header, and those of small members behind it */

struct tar_walk {
    /* Up to size bytes from `at` on: how many there were, or -errno. Set these three before. */
    int64_t (*read)(void *context, void *to, size_t size, uint64_t at);
    void *context;
    uint64_t size; /* of the archive */
    uint64_t at;   /* of the next header; where it was damaged */
    bool no_end;   /* it ended without the two blocks of zeros */
    uint64_t window_at, window_size;
    char *text; /* of records, on the heap */
    size_t text_room;
    struct tar_records records;
    uint8_t window[TAR_WINDOW];
};

struct tar_member {
    const char *name; /* until the next one */
    enum tar_kind kind;
    uint64_t at, size; /* its bytes */
};

/* 1: a member, of which the archive has all bytes; 0: the end; -EBADMSG: damaged at walk->at, with a sentence: where the bytes of a
 * member are cut, out is that member, else its name is NULL. Other codes: it cannot be read just now, or memory is out. */
int tar_walk_next(struct tar_walk *walk, struct tar_member *out, struct problem *why);
void tar_walk_fini(struct tar_walk *walk);

#endif
