/* SPDX-License-Identifier: MIT */
/* The order of a feed's samples: a pure function of (parameters, seed, epoch), O(1) per position, or O(log n) where it is
 * weighted. The main thread makes views (one per (seed, epoch) in use) and releases them; workers only call order_at on a view
 * they were given. pfeed-order(7) has every formula. */
#ifndef PFEED_ORDER_H
#define PFEED_ORDER_H

#include <stddef.h>
#include <stdint.h>

#include "random.h"

/* The words of `shuffle: mode`, in their order. */
enum shuffle_mode { SHUFFLE_GLOBAL, SHUFFLE_NONE, SHUFFLE_BLOCK, SHUFFLE_WEIGHTED };

/* What an order is made from; choose.c makes it. The tables must outlive the order. */
struct order_params {
    uint64_t n; /* samples that take part, the members 0..n-1 */
    enum shuffle_mode mode;
    uint64_t block, window; /* SHUFFLE_BLOCK: members of a block, blocks of a window */
    uint64_t length;        /* SHUFFLE_WEIGHTED: draws of an epoch */
    uint32_t repeat;        /* each position of the above is there so often, one after the other; 1 or more */
    uint32_t *ids;          /* the source's ids by member, */
    uint64_t *wide_ids;     /* or these; both NULL: a member's number is its id */
    uint64_t *sums;         /* SHUFFLE_WEIGHTED: of the whole-numbered weights of members 0..i; the last is over 0 */
    uint64_t asked;         /* hash of what the tables were made by: split, subset, weights */
};

struct order;
struct order_view;

/* n >= 1; at most `views` views (distinct (seed, epoch) pairs) are alive at once. All memory is made here. */
int order_create(struct order **out, const struct order_params *params, uint32_t views);
void order_destroy(struct order *order);
size_t order_bytes(const struct order_params *params, uint32_t views); /* what order_create will take, for the budget */

uint64_t order_length(const struct order_params *params); /* positions of an epoch */
/* Of all that decides which sample stands at a position, given seed, epoch and the source's samples. */
uint64_t order_print(const struct order_params *params);

/* Counted: the same view for the same pair until as many releases. A released view is kept for reuse until its room is needed.
 * NULL only where more than `views` pairs are held. */
const struct order_view *order_view(struct order *order, uint64_t seed, uint64_t epoch);
void order_release(struct order *order, const struct order_view *view);

/* position < order_length. Thread-safe, no lock. occurrence: different wherever the id comes again in the epoch. */
void order_at(const struct order_view *view, uint64_t position, uint64_t *id, uint32_t *occurrence);
/* The id of a sample that takes part, to stand in for another one: each as likely, or by its weight. Thread-safe, no lock. */
uint64_t order_pick(const struct order *order, struct draw *draw);

#endif
