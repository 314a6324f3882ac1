/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops for AArch64, whose baseline has all that is used here. Called by kernel.c, on workers; the arithmetic
 * is in kernel.h.
 *
 * across: values go by fours, two pixels: 16 bytes are loaded, tbl brings one tap of each into the lower half of a register and
 * the next tap into the upper half, smlal and smlal2 multiply and add. The places and weights come from a table that prepare
 * makes. Where two neighbours' taps do not lie in 16 bytes, pixels are made one by one, four taps at once (across_wide).
 * down: even and odd rows are side by side already and are added at the end; 8 pixels, six registers, at a time. */
#include <arm_neon.h>
#include <stdlib.h>
#include <string.h>

#include "transform/kernel_ops.h"

#define INLINE  static inline __attribute__((always_inline))
#define TWOS    12   /* pairs of taps that the table has room for */
#define GROUP   4    /* values */
#define PIXELS  8    /* at a time, down */
#define PARTS   6    /* registers of sums that these are */
#define NEAR    3    /* pixels between neighbours' first taps: the later one's second tap ends at byte 3 * 3 + 5 */
#define NOTHING 0xff /* tbl: a zero */

struct group {
    int32_t base; /* bytes from a row's beginning */
    uint8_t places[16];
    int16_t weights[TWOS][2][GROUP];
};

struct table {
    uint32_t twos, groups; /* twos: of taps; 0: across_wide */
    struct group group[];
};

static size_t table_bytes(uint32_t n)
{
    return sizeof(struct table) + ((size_t)n * 3 + GROUP - 1) / GROUP * sizeof(struct group);
}

static bool is_near(const struct kernel_taps *taps)
{
    for (uint32_t x = 1; x < taps->n; x++)
        if (abs(taps->first[x] - taps->first[x - 1]) > NEAR)
            return false;
    return taps->taps <= 2 * TWOS;
}

/* Four values, of which the first is value `at` of the row, and two pixels have a part. */
static void prepare_group(const struct kernel_taps *taps, struct group *group, uint32_t twos, size_t at)
{
    const size_t x = at / 3, y = x + 1 < taps->n ? x + 1 : x;
    const int32_t base = taps->first[x] < taps->first[y] ? taps->first[x] : taps->first[y];
    group->base = base * 3;
    memset(group->places, NOTHING, sizeof group->places);
    memset(group->weights, 0, sizeof group->weights[0] * twos);
    for (size_t k = 0; k < GROUP && at + k < (size_t)taps->n * 3; k++) {
        const size_t pixel = (at + k) / 3, channel = (at + k) % 3;
        const int16_t *w = taps->weights + pixel * taps->stride;
        const int32_t first = (taps->first[pixel] - base) * 3 + (int32_t)channel;
        group->places[2 * k] = (uint8_t)first;
        group->places[2 * (GROUP + k)] = (uint8_t)(first + 3);
        for (uint32_t two = 0; two < twos; two++) {
            group->weights[two][0][k] = w[2 * two];
            group->weights[two][1][k] = w[2 * two + 1];
        }
    }
}

static void prepare(const struct kernel_taps *taps)
{
    struct table *table = taps->table;
    table->twos = is_near(taps) ? (taps->taps + 1) / 2 : 0;
    table->groups = (taps->n * 3 + GROUP - 1) / GROUP;
    for (uint32_t g = 0; g < table->groups && table->twos; g++)
        prepare_group(taps, &table->group[g], table->twos, (size_t)g * GROUP);
}

/* (clamped sum + half) >> shift, two rows into one; the sums have `half` in them already. */
INLINE uint32x4_t two_rows(int32x4_t even, int32x4_t odd, const struct kernel_taps *taps)
{
    const int shift = (int)taps->bits - KERNEL_FRACTION;
    const int32x4_t most = vdupq_n_s32((255 << taps->bits) + (1 << (shift - 1))), zero = vdupq_n_s32(0);
    even = vminq_s32(vmaxq_s32(even, zero), most);
    odd = vminq_s32(vmaxq_s32(odd, zero), most);
    return vbslq_u32(vdupq_n_u32(0xffff0000), vshlq_u32(vreinterpretq_u32_s32(odd), vdupq_n_s32(16 - shift)),
                     vshlq_u32(vreinterpretq_u32_s32(even), vdupq_n_s32(-shift)));
}

/* Four taps of a pixel's three channels: two in each register, whose last quarters are nothing. */
static void across_wide(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    static const uint8_t places[2][16] = { { 0, 255, 1, 255, 2, 255, 255, 255, 3, 255, 4, 255, 5, 255, 255, 255 },
                                           { 6, 255, 7, 255, 8, 255, 255, 255, 9, 255, 10, 255, 11, 255, 255, 255 } };
    const uint8x16_t first_two = vld1q_u8(places[0]), other_two = vld1q_u8(places[1]);
    const int32x4_t half = vdupq_n_s32(1 << (taps->bits - KERNEL_FRACTION - 1));
    const int16_t *weights = taps->weights;
    for (uint32_t x = 0; x < taps->n; x++, weights += taps->stride) {
        int32x4_t sums[KERNEL_BLOCK];
        for (int r = 0; r < KERNEL_BLOCK; r++) {
            const uint8_t *from = rows[r] + (size_t)taps->first[x] * 3;
            int32x4_t sum = half;
            for (uint32_t t = 0; t < taps->stride; t += 4, from += 12) {
                const uint8x16_t bytes = vld1q_u8(from);
                const int16x8_t a = vreinterpretq_s16_u8(vqtbl1q_u8(bytes, first_two));
                const int16x8_t b = vreinterpretq_s16_u8(vqtbl1q_u8(bytes, other_two));
                sum = vmlal_n_s16(sum, vget_low_s16(a), weights[t]);
                sum = vmlal_high_n_s16(sum, a, weights[t + 1]);
                sum = vmlal_n_s16(sum, vget_low_s16(b), weights[t + 2]);
                sum = vmlal_high_n_s16(sum, b, weights[t + 3]);
            }
            sums[r] = sum;
        }
        for (int r = 0; r < KERNEL_BLOCK; r += 2) /* the fourth value is written over by the next pixel */
            vst1q_u32(pairs[r / 2] + (size_t)x * 3, two_rows(sums[r], sums[r + 1], taps));
    }
}

static void across(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    const struct table *table = taps->table;
    const int32x4_t half = vdupq_n_s32(1 << (taps->bits - KERNEL_FRACTION - 1));
    if (!table->twos) {
        across_wide(taps, rows, pairs);
        return;
    }
    for (uint32_t g = 0; g < table->groups; g++) {
        const struct group *group = &table->group[g];
        const uint8x16_t places = vld1q_u8(group->places);
        int32x4_t sums[KERNEL_BLOCK] = { half, half, half, half };
        for (uint32_t two = 0; two < table->twos; two++) {
            const int16x8_t w = vld1q_s16(group->weights[two][0]);
            for (int r = 0; r < KERNEL_BLOCK; r++) {
                const uint8x16_t bytes = vld1q_u8(rows[r] + group->base + 6 * two);
                const int16x8_t v = vreinterpretq_s16_u8(vqtbl1q_u8(bytes, places));
                sums[r] = vmlal_s16(sums[r], vget_low_s16(v), vget_low_s16(w));
                sums[r] = vmlal_high_s16(sums[r], v, w);
            }
        }
        for (int r = 0; r < KERNEL_BLOCK; r += 2)
            vst1q_u32(pairs[r / 2] + (size_t)g * GROUP, two_rows(sums[r], sums[r + 1], taps));
    }
}

/* ---- down ----------------------------------------------------------------------------------------------------------- */

INLINE void sum_exact(const struct kernel_sum *sum, size_t at, float32x4_t v[PARTS])
{
    int32x4_t low[PARTS], high[PARTS];
    for (int k = 0; k < PARTS; k++)
        low[k] = high[k] = vdupq_n_s32(0);
    for (uint32_t p = 0; p < sum->pairs; p++) {
        const int16x8_t w = vreinterpretq_s16_u32(vdupq_n_u32(sum->weights[p]));
        for (int k = 0; k < PARTS; k++) {
            const int16x8_t row = vreinterpretq_s16_u32(vld1q_u32(sum->rows[p] + at + 4 * k));
            low[k] = vmlal_s16(low[k], vget_low_s16(row), vget_low_s16(w));
            high[k] = vmlal_high_s16(high[k], row, w);
        }
    }
    for (int k = 0; k < PARTS; k++)
        v[k] = vcvtq_f32_s32(vpaddq_s32(low[k], high[k]));
}

INLINE void sum_fine(const struct kernel_sum *sum, size_t at, float32x4_t v[PARTS])
{
    for (int k = 0; k < PARTS; k++)
        v[k] = vdupq_n_f32(0);
    for (uint32_t p = 0; p < sum->pairs; p++)
        for (int k = 0; k < PARTS; k++) {
            const uint32x4_t both = vld1q_u32(sum->rows[p] + at + 4 * k);
            const float32x4_t even = vcvtq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff)));
            const float32x4_t odd = vcvtq_f32_u32(vshrq_n_u32(both, 16));
            v[k] = vaddq_f32(v[k], vmulq_n_f32(even, sum->fine[2 * p]));
            v[k] = vaddq_f32(v[k], vmulq_n_f32(odd, sum->fine[2 * p + 1]));
        }
}

/* Of 8 values, in 16 bits each. */
INLINE uint16x8_t convert(float32x4_t a, float32x4_t b, enum dtype dtype)
{
    if (dtype == DTYPE_U8) {
        const float32x4_t half = vdupq_n_f32(0.5f);
        return vcombine_u16(vmovn_u32(vcvtq_u32_f32(vaddq_f32(a, half))), vmovn_u32(vcvtq_u32_f32(vaddq_f32(b, half))));
    }
    if (dtype == DTYPE_F16) /* to nearest, as the control register says from the start; never flushes what is small */
        return vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32(a)), vreinterpret_u16_f16(vcvt_f16_f32(b)));
    const uint32x4_t one = vdupq_n_u32(1), most = vdupq_n_u32(0x7fff);
    const uint32x4_t x = vreinterpretq_u32_f32(a), y = vreinterpretq_u32_f32(b);
    return vcombine_u16(vshrn_n_u32(vaddq_u32(vaddq_u32(x, most), vandq_u32(vshrq_n_u32(x, 16), one)), 16),
                        vshrn_n_u32(vaddq_u32(vaddq_u32(y, most), vandq_u32(vshrq_n_u32(y, 16), one)), 16));
}

/* 8 pixels as they lie in an interleaved row; ld3 takes them apart on the way to planes. */
INLINE void store(const float32x4_t v[PARTS], enum dtype dtype, uint8_t row[PIXELS * 3 * sizeof(float)])
{
    for (int k = 0; k < PARTS; k += 2) {
        if (dtype == DTYPE_F32) {
            vst1q_f32((float *)(void *)row + 4 * k, v[k]);
            vst1q_f32((float *)(void *)row + 4 * k + 4, v[k + 1]);
        } else if (dtype == DTYPE_U8) {
            vst1_u8(row + 4 * k, vmovn_u16(convert(v[k], v[k + 1], dtype)));
        } else {
            vst1q_u16((uint16_t *)(void *)row + 4 * k, convert(v[k], v[k + 1], dtype));
        }
    }
}

INLINE void planes(const uint8_t *row, enum dtype dtype, uint8_t plane[3][PIXELS * sizeof(float)])
{
    for (int c = 0; c < 3; c++)
        if (dtype == DTYPE_U8) {
            vst1_u8(plane[c], vld3_u8(row).val[c]);
        } else if (dtype == DTYPE_F32) {
            vst1q_f32((float *)(void *)plane[c], vld3q_f32((const float *)(const void *)row).val[c]);
            vst1q_f32((float *)(void *)plane[c] + 4, vld3q_f32((const float *)(const void *)row + 12).val[c]);
        } else {
            vst1q_u16((uint16_t *)(void *)plane[c], vld3q_u16((const uint16_t *)(const void *)row).val[c]);
        }
}

INLINE void down_as(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    const size_t size = dtype == DTYPE_F32 ? 4 : dtype == DTYPE_U8 ? 1 : 2;
    float32x4_t scale[3], bias[3];
    for (int k = 0; k < 3; k++) {
        const float scales[4] = { sum->scale[k], sum->scale[(k + 1) % 3], sum->scale[(k + 2) % 3], sum->scale[k] };
        const float biases[4] = { sum->bias[k], sum->bias[(k + 1) % 3], sum->bias[(k + 2) % 3], sum->bias[k] };
        scale[k] = vld1q_f32(scales);
        bias[k] = vld1q_f32(biases);
    }
    for (size_t at = 0; at < sum->n; at += PIXELS) {
        const size_t n = at + PIXELS <= sum->n ? PIXELS : sum->n - at;
        _Alignas(16) uint8_t row[PIXELS * 3 * sizeof(float)], plane[3][PIXELS * sizeof(float)];
        float32x4_t v[PARTS];
        if (sum->weights)
            sum_exact(sum, at * 3, v);
        else
            sum_fine(sum, at * 3, v);
        for (int k = 0; k < PARTS; k++) { /* four values on, the channels have moved by one */
            v[k] = vminq_f32(vmaxq_f32(v[k], vdupq_n_f32(0)), vdupq_n_f32(sum->most));
            v[k] = vaddq_f32(vmulq_f32(v[k], scale[k % 3]), bias[k % 3]);
        }
        store(v, dtype, row);
        if (layout == LAYOUT_HWC) {
            memcpy((uint8_t *)out[0] + at * 3 * size, row, n * 3 * size);
            continue;
        }
        planes(row, dtype, plane);
        for (int c = 0; c < 3; c++)
            memcpy((uint8_t *)out[c] + at * size, plane[c], n * size);
    }
}

static void down(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    if (dtype == DTYPE_U8)
        down_as(sum, DTYPE_U8, layout, out);
    else if (dtype == DTYPE_F16)
        down_as(sum, DTYPE_F16, layout, out);
    else if (dtype == DTYPE_BF16)
        down_as(sum, DTYPE_BF16, layout, out);
    else
        down_as(sum, DTYPE_F32, layout, out);
}

const struct kernel_ops kernel_neon = {
    .name = "neon", .table_bytes = table_bytes, .prepare = prepare, .across = across, .down = down
};
