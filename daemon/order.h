/* SPDX-License-Identifier: MIT */
/* The order of a feed's samples: a pure function of (n, mode, seed, epoch), O(1) per position. The main thread makes views
 * (one per (seed, epoch) in use) and releases them; workers only call order_at on a view they were given. */
#ifndef PFEED_ORDER_H
#define PFEED_ORDER_H

#include <stddef.h>
#include <stdint.h>

enum shuffle_mode { SHUFFLE_GLOBAL, SHUFFLE_NONE };

struct order;
struct order_view;

/* n >= 1 samples; at most `views` views (distinct (seed, epoch) pairs) are alive at once. All memory is made here. */
int order_create(struct order **out, uint64_t n, enum shuffle_mode mode, uint32_t views);
void order_destroy(struct order *order);
size_t order_bytes(uint64_t n, enum shuffle_mode mode, uint32_t views); /* what order_create will take, for the budget */

uint64_t order_length(const struct order *order, uint64_t epoch);
/* Counted: the same view for the same pair until as many releases. A released view is kept for reuse until its room is needed.
 * NULL only where more than `views` pairs are held. */
const struct order_view *order_view(struct order *order, uint64_t seed, uint64_t epoch);
void order_release(struct order *order, const struct order_view *view);

/* position < order_length. Thread-safe, no lock. */
void order_at(const struct order_view *view, uint64_t position, uint64_t *id, uint32_t *occurrence);

#endif
