/* SPDX-License-Identifier: MIT */
/* Open files that are read again and again at random places, no more than so many at a time. Made on the thread that opens a source;
 * taken and given back on any worker, several at once, without a lock: who finds its file's place in use by another opens the
 * file for itself alone. */
#ifndef PFEED_DESCRIPTORS_H
#define PFEED_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

struct descriptors;

struct lent {
    int fd;
    int64_t place; /* -1: nobody else's */
};

/* For files that are numbered 0..n_files-1. NULL: no memory. */
struct descriptors *descriptors_create(uint64_t n_files);
void descriptors_destroy(struct descriptors *descriptors); /* NULL is fine */
uint64_t descriptors_bytes(const struct descriptors *descriptors);

/* The file, whose path is always the same. -errno and a sentence where it cannot be opened. */
int descriptors_take(struct descriptors *descriptors, uint64_t file, const char *path, struct lent *out, struct problem *why);
/* keep: false where what is open turned out not to be the file any more. */
void descriptors_give(struct descriptors *descriptors, const struct lent *lent, bool keep);

#endif
