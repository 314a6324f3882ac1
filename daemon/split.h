/* SPDX-License-Identifier: MIT */
/* Which part of a split a sample is in: by a keyed hash of its path, so that it depends on nothing but the path and the key. For
 * choose.c, on the thread that opens the feed; config_order.c tries the expressions. */
#ifndef PFEED_SPLIT_H
#define PFEED_SPLIT_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define SPLIT_PARTS 32

/* SipHash-2-4 (Aumasson, Bernstein 2012) of 64 bits, its key being `key` and then 0. */
uint64_t split_hash(uint64_t key, const void *text, size_t size);
/* The first part whose end is above the hash's first 53 bits as a number in [0, 1); n where that is beyond the last. */
uint32_t split_part(uint64_t hash, const double *ends, uint32_t n);
/* Shares one after the other; an end within 1e-9 of 1 is 1. -ERANGE where they come to more. */
int split_ends(double *ends, const double *shares, uint32_t n);

struct split_group {
    bool given;
    regex_t regex;
};

/* POSIX extended; NULL: everything is its own group. */
int split_group_init(struct split_group *group, const char *expression, struct problem *why);
void split_group_fini(struct split_group *group);
/* What of the path is hashed: what the first (...) of the expression matches, or else the whole match. -ENOENT: it does not match. */
int split_group_of(const struct split_group *group, const char *path, const char **text, size_t *size);

#endif
