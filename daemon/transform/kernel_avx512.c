/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops for x86-64 with AVX-512, compiled twice: for its F, BW, VL and DQ, where across is AVX2's; and for
 * VBMI and VNNI, too. Called by kernel.c, on workers; the arithmetic is in kernel.h.
 *
 * across (VBMI): 16 values at a time, of six pixels at most, whose taps lie in 64 bytes: one vpermb brings two taps of each value
 * side by side, vpdpwssd multiplies and adds them. Places and weights come from a table that prepare makes. Where the taps of six
 * pixels do not lie so near, across is AVX2's for wide ones.
 * down: even and odd rows are side by side already; 16 pixels, three registers, at a time. */
#include <immintrin.h>
#include <string.h>

#include "transform/kernel_avx2.h"

#define INLINE static inline __attribute__((always_inline))
#define PIXELS 16 /* at a time, down */

#ifdef __AVX512VBMI__

#define GROUP 16 /* values */
#define TWOS  8  /* pairs of taps that the table has room for */

struct table {
    uint32_t twos; /* of taps; 0: across_wide */
    uint32_t groups;
    int32_t *base;     /* bytes from a row's beginning, of each group */
    uint32_t *places;  /* [group][GROUP]: of the two taps; vpermb takes the low six bits of each byte */
    uint32_t *weights; /* [group][two][GROUP] */
};

static size_t table_bytes(uint32_t n)
{
    const size_t groups = ((size_t)n * 3 + GROUP - 1) / GROUP;
    return 64 + groups * (sizeof(int32_t) + (TWOS + 1) * GROUP * sizeof(uint32_t)) + 64;
}

static void prepare_group(const struct kernel_taps *taps, struct table *table, uint32_t g)
{
    uint32_t *places = table->places + (size_t)g * GROUP, *weights = table->weights + (size_t)g * table->twos * GROUP;
    const uint32_t from = g * GROUP, end = from + GROUP < taps->n * 3 ? from + GROUP : taps->n * 3;
    int32_t base = taps->first[from / 3], last = base;
    for (uint32_t x = from / 3 + 1; x * 3 < end; x++) {
        base = taps->first[x] < base ? taps->first[x] : base;
        last = taps->first[x] > last ? taps->first[x] : last;
    }
    if ((uint32_t)(last - base) * 3 + table->twos * 6 > 64) {
        table->twos = 0;
        return;
    }
    table->base[g] = base * 3;
    uint32_t x = from / 3, c = from % 3;
    for (uint32_t at = from, k = 0; at < end; at++, k++) {
        const uint32_t first = (uint32_t)(taps->first[x] - base) * 3 + c;
        places[k] = first | (first + 3) << 16;
        for (uint32_t two = 0; two < table->twos; two++)
            memcpy(&weights[two * GROUP + k], taps->weights + (size_t)x * taps->stride + 2 * (size_t)two, sizeof *weights);
        if (++c == 3)
            c = 0, x++;
    }
    for (uint32_t k = end - from; k < GROUP; k++)
        for (uint32_t two = 0; two < table->twos; two++)
            weights[two * GROUP + k] = 0;
}

static void prepare(const struct kernel_taps *taps)
{
    struct table *table = taps->table;
    table->twos = taps->taps <= 2 * TWOS ? (taps->taps + 1) / 2 : 0;
    table->groups = (taps->n * 3 + GROUP - 1) / GROUP;
    table->places = (uint32_t *)(void *)((char *)table + 64);
    table->weights = table->places + (size_t)table->groups * GROUP;
    table->base = (int32_t *)(table->weights + (size_t)table->groups * table->twos * GROUP);
    for (uint32_t g = 0; g < table->groups && table->twos; g++)
        prepare_group(taps, table, g);
}

/* What turns sums into values: (clamped sum + half) >> shift, two rows into one. */
struct rounding {
    __m512i half, most;
    __m128i shift, back;
};

/* The sums have `half` in them already. */
INLINE __m512i two_rows(__m512i even, __m512i odd, const struct rounding *r, bool clamp)
{
    if (clamp) {
        even = _mm512_min_epi32(_mm512_max_epi32(even, _mm512_setzero_si512()), r->most);
        odd = _mm512_min_epi32(_mm512_max_epi32(odd, _mm512_setzero_si512()), r->most);
    }
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srl_epi32(even, r->shift), _mm512_sll_epi32(odd, r->back));
}

INLINE void across_twos(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2],
                        uint32_t twos, bool clamp)
{
    const struct table *table = taps->table;
    const int shift = (int)taps->bits - KERNEL_FRACTION, half = 1 << (shift - 1);
    const struct rounding rounding = { _mm512_set1_epi32(half), _mm512_set1_epi32((255 << taps->bits) + half),
                                       _mm_cvtsi32_si128(shift), _mm_cvtsi32_si128(16 - shift) };
    const uint32_t *weights = table->weights;
    for (uint32_t g = 0; g < table->groups; g++) {
        __m512i places = _mm512_load_si512(table->places + (size_t)g * GROUP), bytes[KERNEL_BLOCK];
        __m512i sums[KERNEL_BLOCK] = { rounding.half, rounding.half, rounding.half, rounding.half };
        for (int r = 0; r < KERNEL_BLOCK; r++)
            bytes[r] = _mm512_loadu_si512(rows[r] + table->base[g]);
        for (uint32_t two = 0; two < twos; two++, weights += GROUP) {
            const __m512i w = _mm512_load_si512(weights);
            for (int r = 0; r < KERNEL_BLOCK; r++)
                sums[r] = _mm512_dpwssd_epi32(sums[r], _mm512_maskz_permutexvar_epi8(0x5555555555555555, places, bytes[r]), w);
            places = _mm512_add_epi32(places, _mm512_set1_epi32(0x00060006));
        }
        for (int r = 0; r < KERNEL_BLOCK; r += 2)
            _mm512_storeu_si512(pairs[r / 2] + (size_t)g * GROUP, two_rows(sums[r], sums[r + 1], &rounding, clamp));
    }
}

INLINE void across_any(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2],
                       uint32_t twos, bool clamp)
{
    switch (twos) {
    case 0:
        kernel_avx2_across_wide(taps, rows, pairs);
        break;
    case 1:
        across_twos(taps, rows, pairs, 1, clamp);
        break;
    case 2:
        across_twos(taps, rows, pairs, 2, clamp);
        break;
    case 3:
        across_twos(taps, rows, pairs, 3, clamp);
        break;
    default:
        across_twos(taps, rows, pairs, twos, clamp);
    }
}

static void across(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    const uint32_t twos = ((const struct table *)taps->table)->twos;
    if (taps->clamp)
        across_any(taps, rows, pairs, twos, true);
    else
        across_any(taps, rows, pairs, twos, false);
}

#endif

/* ---- down ----------------------------------------------------------------------------------------------------------- */

INLINE __m512i multiply_add(__m512i total, __m512i row, __m512i w)
{
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(total, row, w);
#else
    return _mm512_add_epi32(total, _mm512_madd_epi16(row, w));
#endif
}

INLINE void sum_exact(const struct kernel_sum *sum, size_t at, uint32_t pairs, __m512 v[3])
{
    __m512i total[3] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
    for (uint32_t p = 0; p < pairs; p++) {
        const __m512i w = _mm512_set1_epi32((int)sum->weights[p]);
        for (int k = 0; k < 3; k++)
            total[k] = multiply_add(total[k], _mm512_loadu_si512(sum->rows[p] + at + 16 * k), w);
    }
    for (int k = 0; k < 3; k++)
        v[k] = _mm512_cvtepi32_ps(total[k]);
}

INLINE void sum_fine(const struct kernel_sum *sum, size_t at, __m512 v[3])
{
    v[0] = v[1] = v[2] = _mm512_setzero_ps();
    for (uint32_t p = 0; p < sum->pairs; p++) {
        const __m512 even = _mm512_set1_ps(sum->fine[2 * p]), odd = _mm512_set1_ps(sum->fine[2 * p + 1]);
        for (int k = 0; k < 3; k++) {
            const __m512i both = _mm512_loadu_si512(sum->rows[p] + at + 16 * k);
            const __m512 low = _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(0xffff)));
            const __m512 high = _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 16)), product = _mm512_mul_ps(even, low);
            v[k] = _mm512_add_ps(_mm512_add_ps(v[k], product), _mm512_mul_ps(odd, high));
        }
    }
}

/* Of 48 values, those of each channel: value 3 i + c is in lane (3 i + c) % 16 of register (3 i + c) / 16. First two registers
 * are brought together (16 + n: lane n of the second), then the third. */
#define PLANE(c, n) ((3 * (n) + (c)) % 32)
#define THIRD(c, n) (3 * (n) + (c) < 32 ? (n) : 16 + (3 * (n) + (c)) % 16)
#define EACH(of, c)                                                                                                              \
    of(c, 0), of(c, 1), of(c, 2), of(c, 3), of(c, 4), of(c, 5), of(c, 6), of(c, 7), of(c, 8), of(c, 9), of(c, 10), of(c, 11),    \
        of(c, 12), of(c, 13), of(c, 14), of(c, 15)

static const int16_t planes_halves[3][2][16] __attribute__((aligned(32))) = { { { EACH(PLANE, 0) }, { EACH(THIRD, 0) } },
                                                                              { { EACH(PLANE, 1) }, { EACH(THIRD, 1) } },
                                                                              { { EACH(PLANE, 2) }, { EACH(THIRD, 2) } } };
static const int32_t planes_words[3][2][16] __attribute__((aligned(64))) = { { { EACH(PLANE, 0) }, { EACH(THIRD, 0) } },
                                                                             { { EACH(PLANE, 1) }, { EACH(THIRD, 1) } },
                                                                             { { EACH(PLANE, 2) }, { EACH(THIRD, 2) } } };

INLINE void planes_16(__m256i v[3])
{
    const __m256i a = v[0], b = v[1], c = v[2];
    for (int k = 0; k < 3; k++) {
        const __m256i two = _mm256_permutex2var_epi16(a, _mm256_load_si256((const __m256i *)planes_halves[k][0]), b);
        v[k] = _mm256_permutex2var_epi16(two, _mm256_load_si256((const __m256i *)planes_halves[k][1]), c);
    }
}

INLINE void planes_32(__m512 v[3])
{
    const __m512 a = v[0], b = v[1], c = v[2];
    for (int k = 0; k < 3; k++) {
        const __m512 two = _mm512_permutex2var_ps(a, _mm512_load_si512(planes_words[k][0]), b);
        v[k] = _mm512_permutex2var_ps(two, _mm512_load_si512(planes_words[k][1]), c);
    }
}

/* Of 16 values, in 16 bits each. */
INLINE __m256i convert(__m512 v, enum dtype dtype)
{
    if (dtype == DTYPE_U8)
        return _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(_mm512_add_ps(v, _mm512_set1_ps(0.5f))));
    if (dtype == DTYPE_F16)
        return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); /* never flushes what is small */
    const __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

/* 16 pixels; out as in kernel_ops.h. */
INLINE void store(__m512 v[3], enum dtype dtype, enum layout layout, char *const out[3])
{
    const bool planes = layout == LAYOUT_CHW;
    if (dtype == DTYPE_F32) {
        if (planes)
            planes_32(v);
        for (int k = 0; k < 3; k++)
            _mm512_storeu_ps(planes ? out[k] : out[0] + 64 * k, v[k]);
        return;
    }
    __m256i halves[3];
    for (int k = 0; k < 3; k++)
        halves[k] = convert(v[k], dtype);
    if (planes)
        planes_16(halves);
    for (int k = 0; k < 3; k++)
        if (dtype == DTYPE_U8)
            _mm_storeu_si128((__m128i *)(planes ? out[k] : out[0] + 16 * k), _mm256_cvtepi16_epi8(halves[k]));
        else
            _mm256_storeu_si256((__m256i *)(planes ? out[k] : out[0] + 32 * k), halves[k]);
}

/* Scale and bias of 16 values that lie one after another, from value `16 * k` on. */
INLINE __m512 thrice(const float of[3], int k)
{
    float values[16];
    for (int i = 0; i < 16; i++)
        values[i] = of[(16 * k + i) % 3];
    return _mm512_loadu_ps(values);
}

struct factors {
    __m512 scale[3], bias[3], most;
};

/* The pixels from `at` on. */
INLINE void down_block(const struct kernel_sum *sum, const struct factors *by, size_t at, enum dtype dtype, enum layout layout,
                       char *red, char *green, char *blue, uint32_t pairs)
{
    __m512 v[3];
    if (pairs)
        sum_exact(sum, at * 3, pairs, v);
    else
        sum_fine(sum, at * 3, v);
    if (sum->clamp)
        for (int k = 0; k < 3; k++)
            v[k] = _mm512_min_ps(_mm512_max_ps(v[k], _mm512_setzero_ps()), by->most);
    for (int k = 0; k < 3; k++)
        v[k] = _mm512_add_ps(_mm512_mul_ps(v[k], by->scale[k]), by->bias[k]);
    store(v, dtype, layout, (char *const[3]){ red, green, blue });
}

INLINE void down_as(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3], uint32_t pairs)
{
    const size_t size = dtype == DTYPE_F32 ? 4 : dtype == DTYPE_U8 ? 1 : 2, step = size * (layout == LAYOUT_CHW ? 1 : 3);
    const struct factors by = { .scale = { thrice(sum->scale, 0), thrice(sum->scale, 1), thrice(sum->scale, 2) },
                                .bias = { thrice(sum->bias, 0), thrice(sum->bias, 1), thrice(sum->bias, 2) },
                                .most = _mm512_set1_ps(sum->most) };
    char *red = out[0], *green = out[1], *blue = out[2], rest[3][PIXELS * 3 * sizeof(float)];
    size_t at = 0;
    for (; at + PIXELS <= sum->n; at += PIXELS)
        down_block(sum, &by, at, dtype, layout, red + at * step, green + at * step, blue + at * step, pairs);
    if (at == sum->n)
        return;
    down_block(sum, &by, at, dtype, layout, rest[0], rest[1], rest[2], pairs);
    memcpy(red + at * step, rest[0], (sum->n - at) * step);
    if (layout == LAYOUT_CHW) {
        memcpy(green + at * step, rest[1], (sum->n - at) * step);
        memcpy(blue + at * step, rest[2], (sum->n - at) * step);
    }
}

INLINE void down_pairs(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    if (!sum->weights)
        down_as(sum, dtype, layout, out, 0);
    else if (sum->pairs == 1)
        down_as(sum, dtype, layout, out, 1);
    else if (sum->pairs == 2)
        down_as(sum, dtype, layout, out, 2);
    else if (sum->pairs == 3)
        down_as(sum, dtype, layout, out, 3);
    else
        down_as(sum, dtype, layout, out, sum->pairs);
}

INLINE void down_layout(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    if (layout == LAYOUT_CHW)
        down_pairs(sum, dtype, LAYOUT_CHW, out);
    else
        down_pairs(sum, dtype, LAYOUT_HWC, out);
}

static void down(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    if (dtype == DTYPE_U8)
        down_layout(sum, DTYPE_U8, layout, out);
    else if (dtype == DTYPE_F16)
        down_layout(sum, DTYPE_F16, layout, out);
    else if (dtype == DTYPE_BF16)
        down_layout(sum, DTYPE_BF16, layout, out);
    else
        down_layout(sum, DTYPE_F32, layout, out);
}

#ifdef __AVX512VBMI__
const struct kernel_ops kernel_avx512_vnni = {
    .name = "avx512 (vnni, vbmi)", .table_bytes = table_bytes, .prepare = prepare, .across = across, .down = down
};
#else
const struct kernel_ops kernel_avx512 = { .name = "avx512",
                                          .table_bytes = kernel_avx2_table_bytes,
                                          .prepare = kernel_avx2_prepare,
                                          .across = kernel_avx2_across,
                                          .down = down };
#endif
