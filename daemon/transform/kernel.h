/* SPDX-License-Identifier: MIT */
/* The fused kernel: rows of a decoded crop go in, one at a time; a finished row of the batch comes out in the slot's memory:
 * resized, flipped, normalised, converted and laid out, with no picture in between. Used by decode/image.c and benchmarks;
 * one kernel per worker and field, never shared.
 *
 * The arithmetic, which every variant must repeat bit by bit:
 *   weights  as Pillow's and torchvision's (antialiased: the filter is stretched when reducing; the picture's edge cuts the
 *            filter off and the rest is made to sum to one; bicubic has a = -0.5), computed in double; nearest: a weight of one
 *            for the input under the result's middle;
 *   across   int16 weights of 14 to 22 fractional bits, as many as fit, summing exactly to one; the sum over the taps is an
 *            int32, exact in any order, clamped to 0..255 (where bicubic passes them; Pillow and torchvision clamp here, too)
 *            and made a float (round to nearest, ties to even);
 *   down     float weights, over the rows from the top: sum = w0 * r0; sum = sum + w1 * r1; ... each product and each sum
 *            rounded, never fused: fma is not in the baseline of x86-64, where fmaf() is a call for each tap;
 *   convert  v = sum > 0 ? sum : 0; v = v < 255 ? v : 255; v = v * scale; v = v + bias; uint8: truncate(v + 0.5);
 *            float16 and bfloat16: to nearest, ties to even (half.h).
 * Results that a window has beyond the resized picture are its fill, through `convert`.
 * Without rounding between the passes it stays within 0.1 of 255 steps of the exact result. */
#ifndef PFEED_TRANSFORM_KERNEL_H
#define PFEED_TRANSFORM_KERNEL_H

#include "transform/transform.h"

#define KERNEL_SIDE 65500 /* the widest and highest picture */

/* What leads from the upright picture to the stored one, for EXIF's eight orientations. First the axes are exchanged, then
 * the stored ones run backwards. */
struct kernel_turn {
    bool swap, mirror_x, mirror_y;
};

extern const struct kernel_turn kernel_turns[9]; /* [1] to [8]: EXIF's numbers */

/* Weights of one row pass: taps of them for each of n results, padded with zeros; first[i] + taps never passes the row. */
struct kernel_taps {
    uint32_t n, taps;
    const int32_t *first;
    const int16_t *weights;
    int32_t most; /* 255, in the weights' fractional bits */
};

/* One vertical pass over n values that lie one after another. */
struct kernel_sum {
    const float *const *rows;
    const float *weights;
    uint32_t taps;
    size_t offset, n;          /* into each row */
    const float *scale, *bias; /* of each value */
};

struct kernel_ops {
    const char *name;
    /* row: 3 bytes a pixel; result x of channel c goes to out[x * pixel + c * channel]. */
    void (*across)(const struct kernel_taps *taps, const uint8_t *row, float *out, size_t pixel, size_t channel);
    void (*down)(const struct kernel_sum *sum, enum dtype dtype, void *out);
};

/* What a normalised value of a type is made with: pixel * scale + bias. */
void kernel_value(enum dtype dtype, float mean, float std, float *scale, float *bias);

extern const struct kernel_ops kernel_scalar; /* kernel_scalar.c */

struct kernel;

/* ops NULL: the best for this machine. dtype: u8, f16, bf16, f32. swap_pixels: of the largest picture whose turn swaps the
 * axes; 0: there will be none. */
int kernel_create(struct kernel **out, const struct kernel_ops *ops, int32_t width, int32_t height, enum dtype dtype,
                  enum layout layout, uint64_t swap_pixels);
void kernel_destroy(struct kernel *kernel);
size_t kernel_bytes(int32_t width, int32_t height, uint64_t swap_pixels); /* what create takes */

/* One for whole pictures that are reduced, and no more than 16 times as long as wide, to results of any size up to most x most:
 * kernel_fit gives the size, before kernel_plan. */
int kernel_create_any(struct kernel **out, const struct kernel_ops *ops, int32_t most, enum dtype dtype, enum layout layout);
size_t kernel_any_bytes(int32_t most);
void kernel_fit(struct kernel *kernel, int32_t width, int32_t height);

/* Makes the weights. stored: the part of the stored picture whose rows kernel_run wants. */
int kernel_plan(struct kernel *kernel, const struct plan *plan, struct kernel_turn turn, struct rect *stored,
                struct problem *why);
/* next gives stored's rows from the top, 3 bytes a pixel, each valid until the next; out is written whole. */
int kernel_run(struct kernel *kernel, int (*next)(void *from, const uint8_t **row, struct problem *why), void *from, void *out,
               struct problem *why);

#endif
