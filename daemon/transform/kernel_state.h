/* SPDX-License-Identifier: MIT */
/* What a kernel keeps; kernel.c makes it and walks upright pictures, kernel_turned.c the others. On workers. */
#ifndef PFEED_TRANSFORM_KERNEL_STATE_H
#define PFEED_TRANSFORM_KERNEL_STATE_H

#include "transform/kernel_axis.h"

typedef int next_row(void *from, const uint8_t **row, struct problem *why);

struct kernel {
    const struct kernel_ops *ops;
    int32_t width, height;
    enum dtype dtype;
    enum layout layout;
    struct axis x, y;
    int32_t *first; /* of `taps`, x.n of them */
    int16_t *fixed;
    struct kernel_taps taps;
    struct axis_pairs pairs;
    struct kernel_turn turn;
    bool flip_x, flip_y, padded;
    uint8_t fill[3];
    struct kernel_sum sum; /* what is the same for all rows of a picture */
    uint8_t *strip;        /* rows of one block, before `across`, which are `strip_stride` apart */
    size_t strip_stride;
    uint32_t *ring; /* rows of pairs after `across`, `ring_stride` values apart; of swapped pictures: stored rows, as bytes */
    size_t ring_stride;
    size_t ring_bytes, rows_most;
    uint32_t ring_rows;    /* blocks of 2 rows of pairs; of swapped pictures: rows */
    const uint32_t **rows; /* of one sum */
    uint16_t *column;      /* swapped pictures: one column after `across`, then as sums */
    float *values;
};

/* Walks the results of an axis in the order in which its inputs come. */
struct turnstile {
    const struct axis *axis;
    bool backwards;
    uint32_t done;
};

static inline uint32_t pending(const struct turnstile *t)
{
    return t->backwards ? t->axis->n - 1 - t->done : t->done;
}

/* Whether input `last` is the last one that the pending result waits for, or later. */
static inline bool is_complete(const struct turnstile *t, int32_t last)
{
    if (t->done == t->axis->n)
        return false;
    const uint32_t i = pending(t);
    return t->backwards ? t->axis->first[i] >= last : t->axis->first[i] + t->axis->count[i] - 1 <= last;
}

/* Whether the pending result needs input `last` or one before it that is not past. */
static inline bool is_wanted(const struct turnstile *t, int32_t last)
{
    if (t->done == t->axis->n)
        return false;
    const uint32_t i = pending(t);
    return t->backwards ? last < t->axis->first[i] + t->axis->count[i] : last >= t->axis->first[i];
}

int kernel_run_swapped(struct kernel *kernel, next_row *next, void *from, uint8_t *out, struct problem *why);

#endif
