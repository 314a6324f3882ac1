/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops: what kernel.c asks of a variant (kernel_scalar.c is the oracle, the others must equal it bit by bit;
 * kernel.h has the arithmetic), and the list of variants. */
#ifndef PFEED_TRANSFORM_KERNEL_OPS_H
#define PFEED_TRANSFORM_KERNEL_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "sample.h"
#include "transform/kernel.h"

#define KERNEL_BLOCK    4  /* rows that go across at once */
#define KERNEL_SLACK    64 /* bytes behind each row that may be read, whatever they are, and stand beside weights of zero */
#define KERNEL_VALUES   48 /* values behind each row of pairs that may be read and, beyond the row's own, written */
#define KERNEL_FRACTION 7  /* bits of a value between the passes */
#define KERNEL_EXACT    16 /* taps down, up to which sums are int32 */
#define KERNEL_PAIRS    (KERNEL_EXACT / 2 + 1)

/* Weights of a row's results: `taps` of them each, padded with zeros to `stride`, a multiple of 4. first[i] + taps never passes
 * the row. */
struct kernel_taps {
    uint32_t n, taps, stride; /* n: results, of 3 channels each */
    const int32_t *first;
    const int16_t *weights;
    uint32_t bits;
    bool clamp;  /* sums may pass 0..255 */
    void *table; /* the variant's own form of all this */
};

/* One row of results: n pixels of 3 values, made from `pairs` rows of pairs. */
struct kernel_sum {
    const uint32_t *const *rows; /* of each value, the even row in the low half and the odd one in the high half */
    const uint32_t *weights;     /* int16 pairs in the same way; NULL: */
    const float *fine;           /* more than KERNEL_EXACT taps: two for each pair */
    uint32_t pairs;
    size_t n;
    bool clamp;
    float most, scale[3], bias[3]; /* most: 255, in the sums' unit */
};

struct kernel_ops {
    const char *name;
    /* Of rows no wider than n results: what prepare writes to taps->table, aligned to 64. 0: nothing. */
    size_t (*table_bytes)(uint32_t n);
    void (*prepare)(const struct kernel_taps *taps);
    /* 4 rows of 3 bytes a pixel, to 2 rows of pairs of 3 values a pixel. */
    void (*across)(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2]);
    /* out: one place for hwc, one of each channel for chw. */
    void (*down)(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3]);
};

extern const struct kernel_ops kernel_scalar, kernel_avx2, kernel_avx512, kernel_avx512_vnni, kernel_neon;
/* The end of down: n pixels of 3 sums; pixel i of channel c becomes element (at + i) * step of out[c]. */
void kernel_scalar_finish(const struct kernel_sum *sum, float *values, size_t n, enum dtype dtype, void *const out[3], size_t at,
                          size_t step);

/* kernel_cpu.c. All that this machine can run, the best last; ends with NULL. */
const struct kernel_ops *const *kernel_variants(void);
const struct kernel_ops *kernel_ops_chosen(void);

#endif
