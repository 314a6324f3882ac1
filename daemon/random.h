/* SPDX-License-Identifier: MIT */
/* Row randomness: Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11) of Random123, keyed by
 * (seed, epoch, id, occurrence, view, transform kind and its ordinal) and by nothing else. Workers; no state but the caller's. */
#ifndef PFEED_RANDOM_H
#define PFEED_RANDOM_H

#include <stdint.h>

#include "sample.h"

struct draw {
    uint64_t key[2], counter[4], block[4];
    uint32_t used; /* words of block given out */
};

/* kind: the transform's name ("random_resized_crop"), hashed by FNV-1a into the key; ordinal: which of its kind in the list.
 * Draws for other purposes than rows' take a name with a dot ("order.table"), which no transform can have. */
void draw_init(struct draw *draw, const struct row_key *key, const char *kind, uint32_t ordinal);
uint64_t draw_u64(struct draw *draw);
double draw_unit(struct draw *draw);                             /* uniform in [0, 1), 53 bits */
uint64_t draw_below(struct draw *draw, uint64_t n);              /* uniform in 0..n-1, unbiased; n > 0 */
double draw_between(struct draw *draw, double low, double high); /* uniform in [low, high) before the last rounding */

/* One block of the raw generator. */
void random_block(const uint64_t key[2], const uint64_t counter[4], uint64_t out[4]);

#endif
