/* SPDX-License-Identifier: MIT */
/* The kernel's weights along one axis, from a plan to the integers of kernel_ops.h. Called by kernel_plan, on workers. */
#ifndef PFEED_TRANSFORM_KERNEL_AXIS_H
#define PFEED_TRANSFORM_KERNEL_AXIS_H

#include "transform/kernel_ops.h"

/* The resampling along one axis of the upright picture. */
struct axis {
    uint32_t n;             /* results that have inputs; the others, of a padded picture, are filled */
    uint32_t before;        /* of the filled ones, those before the first of n */
    int32_t *first, *count; /* inputs of each result; in the end counted from `from` */
    float *weights;         /* not yet made to sum to one; see axis_weight */
    double *sums;           /* of each result's weights */
    uint32_t widest;        /* the largest count */
    float largest;          /* of the weights, without sign */
    int32_t from, length;   /* the inputs that are used at all */
};

/* The weights down, for pairs of rows: of result i, `pairs[i]` from pair first[i] / 2 on. */
struct axis_pairs {
    uint32_t stride; /* pairs from one result to the next */
    uint32_t bits;   /* 0: they are floats, two for each pair */
    uint32_t *weights;
};

/* One axis of a plan: `in` pixels are resized to `scaled`, of which come out those from `window` on, `room` of them, as far as they
 * are among the n that are shown from `shown` on. Where none is, the first input is taken, and nothing is made of it. */
struct axis_part {
    int32_t in, scaled, window, room, shown, n;
    struct plan_span exact; /* what of the pixels is resized: all, from 0 to `in`, unless they are of a shrunk picture */
};

void axis_plan(struct axis *axis, const struct plan *plan, const struct axis_part *part);
/* With mirror and flip already in it; fills first and weights, of which taps will say where they are. */
void axis_across(const struct axis *axis, bool mirror, bool flip, int32_t *first, int16_t *weights, struct kernel_taps *taps);
void axis_down(const struct axis *axis, struct axis_pairs *pairs);

static inline uint32_t axis_pair_count(const struct axis *axis, uint32_t i)
{
    return ((uint32_t)(axis->first[i] & 1) + (uint32_t)axis->count[i] + 1) / 2;
}

#endif
