/* SPDX-License-Identifier: MIT */
/* The fused kernel: rows of a decoded crop go in, one at a time; a finished row of the batch comes out in the slot's memory:
 * resized, flipped, normalised, converted and laid out, with no picture in between. Used by decode/image.c and benchmarks;
 * one kernel per worker and field, never shared. Its inner loops exist once in plain C and once for each kind of processor
 * (kernel_ops.h), and all give the same bits; kernel_cpu.c chooses.
 *
 * The arithmetic, which every variant must repeat bit by bit:
 *   weights  as Pillow's and torchvision's (antialiased: the filter is stretched when reducing; the picture's edge cuts the
 *            filter off and the rest is made to sum to one; bicubic has a = -0.5), computed in double; nearest: a weight of one
 *            for the input under the result's middle; made int16 of as many fractional bits as fit, which sum exactly to one;
 *   across   weights of 14 to 22 bits; the sum over the taps is an int32, clamped to 0..255 (which bicubic passes; Pillow and
 *            torchvision clamp here, too) and rounded to 7 fractional bits: (sum + half) >> (bits - 7), 0 to 32640;
 *   down     up to 16 taps: weights of 14 or 15 bits, the sum is an int32, made float (to nearest, ties to even); more taps:
 *            float weights, over the rows from the top: sum = 0; sum = sum + w0 * r0; ... each product and each sum
 *            rounded. Rows are taken in pairs, of which the first is even; a row that has no weight of its own has zero;
 *   convert  v = sum > 0 ? sum : 0; v = v < 255 ? v : 255 (in the sum's unit); v = v * scale; v = v + bias; uint8:
 *            truncate(v + 0.5); float16 and bfloat16: to nearest, ties to even (half.h).
 * Results that a window has beyond the resized picture are its fill, through `convert`.
 * The int32 sums cannot overflow and are exact in any order, so that multiplying pairs of int16 (pmaddwd, vpdpwssd, smlal) gives
 * the same everywhere. The float steps are few and never fused: fma is not in the baseline of x86-64, where fmaf() is a call
 * for each value, and it would save nothing beside int16. No NaN can arise, whose bits would differ between processors: sums are
 * finite, and so are scale and bias, as normalize refuses a std below 1e-6; at worst a float16 is infinite, of one sign.
 * The result stays within 0.1 of 255 steps of the exact one: weights across are off by at most 0.016, the rounding between the
 * passes by 0.004, weights down by 0.063 for 16 taps, all at their worst at once. */
#ifndef PFEED_TRANSFORM_KERNEL_H
#define PFEED_TRANSFORM_KERNEL_H

#include "transform/transform.h"

#define KERNEL_VERSION 2     /* of the arithmetic: 1 kept floats between the passes */
#define KERNEL_SIDE    65500 /* the widest and highest picture */

/* What leads from the upright picture to the stored one, for EXIF's eight orientations. First the axes are exchanged, then
 * the stored ones run backwards. */
struct kernel_turn {
    bool swap, mirror_x, mirror_y;
};

extern const struct kernel_turn kernel_turns[9]; /* [1] to [8]: EXIF's numbers */

struct kernel;
struct kernel_ops;

/* Main thread, at start: the variant of the inner loops that $PFEED_CPU names, or the best for this machine. -EINVAL and a
 * sentence where it names none that this machine has. */
int kernel_choose(struct problem *why);
/* What was chosen: "avx512 (vnni, vbmi)". */
const char *kernel_chosen(void);

/* ops NULL: what kernel_choose chose. dtype: u8, f16, bf16, f32. swap_pixels: of the largest picture whose turn swaps the
 * axes; 0: there will be none. */
int kernel_create(struct kernel **out, const struct kernel_ops *ops, int32_t width, int32_t height, enum dtype dtype,
                  enum layout layout, uint64_t swap_pixels);
void kernel_destroy(struct kernel *kernel);
size_t kernel_bytes(int32_t width, int32_t height, uint64_t swap_pixels); /* what create takes, at most */

/* One for whole pictures that are reduced, and no more than 16 times as long as wide, to results of any size up to most x most:
 * kernel_fit gives the size, before kernel_plan. */
int kernel_create_any(struct kernel **out, const struct kernel_ops *ops, int32_t most, enum dtype dtype, enum layout layout);
size_t kernel_any_bytes(int32_t most);
void kernel_fit(struct kernel *kernel, int32_t width, int32_t height);

/* Makes the weights. stored: the part of the stored picture whose rows kernel_run wants. */
int kernel_plan(struct kernel *kernel, const struct plan *plan, struct kernel_turn turn, struct rect *stored,
                struct problem *why);
/* What the 256 pixels of each channel become in `convert`: three times 256 values. */
void kernel_table(enum dtype dtype, const float mean[3], const float std[3], void *out);
/* next gives stored's rows from the top, 3 bytes a pixel, each valid until the next; out is written whole. */
int kernel_run(struct kernel *kernel, int (*next)(void *from, const uint8_t **row, struct problem *why), void *from, void *out,
               struct problem *why);

#endif
