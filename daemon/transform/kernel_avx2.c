/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops for x86-64 with AVX2 and F16C. Called by kernel.c, on workers; the arithmetic is in kernel.h.
 *
 * across: values go by fours, two pixels, into each half of a register: 16 bytes are loaded, vpshufb brings two taps of each
 * value side by side, vpmaddwd multiplies and adds them. The places and weights come from a table that prepare makes. Where two
 * neighbours' taps do not lie in 16 bytes, pixels are made one by one, four taps at once (across_wide).
 * down: even and odd rows are side by side already; 8 pixels, three registers, at a time. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "transform/kernel_avx2.h"

#define INLINE  static inline __attribute__((always_inline))
#define TWOS    12   /* pairs of taps that the table has room for */
#define GROUP   8    /* values */
#define PIXELS  8    /* at a time, down */
#define NEAR    3    /* pixels between neighbours' first taps: the later one's second tap ends at byte 3 * 3 + 5 */
#define NOTHING 0x80 /* vpshufb: a zero */

struct table {
    uint32_t twos; /* of taps; 0: across_wide */
    uint32_t groups;
    int32_t *base;     /* bytes from a row's beginning, of each four values */
    uint8_t *places;   /* 32 of each group */
    uint32_t *weights; /* [group][two][GROUP] */
};

size_t kernel_avx2_table_bytes(uint32_t n)
{
    const size_t groups = ((size_t)n * 3 + GROUP - 1) / GROUP;
    return sizeof(struct table) + groups * (2 * sizeof(int32_t) + 32 + TWOS * GROUP * sizeof(uint32_t)) + 64;
}

static bool is_near(const struct kernel_taps *taps)
{
    for (uint32_t x = 1; x < taps->n; x++)
        if (abs(taps->first[x] - taps->first[x - 1]) > NEAR)
            return false;
    return taps->taps <= 2 * TWOS;
}

/* Four values, of which the first is value `at` of the row, and two pixels have a part. */
static void prepare_four(const struct kernel_taps *taps, struct table *table, size_t at)
{
    const size_t x = at / 3, y = x + 1 < taps->n ? x + 1 : x, group = at / GROUP, lane = at % GROUP;
    const int32_t base = taps->first[x] < taps->first[y] ? taps->first[x] : taps->first[y];
    uint32_t *weights = table->weights + group * table->twos * GROUP + lane;
    table->base[at / 4] = base * 3;
    for (size_t k = 0; k < 4; k++) {
        const size_t pixel = (at + k) / 3, channel = (at + k) % 3;
        if (pixel >= taps->n) { /* behind the row */
            for (uint32_t two = 0; two < table->twos; two++)
                weights[two * GROUP + k] = 0;
            continue;
        }
        const int32_t first = (taps->first[pixel] - base) * 3 + (int32_t)channel;
        const uint8_t places[4] = { (uint8_t)first, NOTHING, (uint8_t)(first + 3), NOTHING };
        memcpy(table->places + (at + k) * 4, places, sizeof places);
        for (uint32_t two = 0; two < table->twos; two++)
            memcpy(&weights[two * GROUP + k], taps->weights + pixel * taps->stride + 2 * (size_t)two, sizeof *weights);
    }
}

void kernel_avx2_prepare(const struct kernel_taps *taps)
{
    struct table *table = taps->table;
    table->twos = is_near(taps) ? (taps->taps + 1) / 2 : 0;
    table->groups = (taps->n * 3 + GROUP - 1) / GROUP;
    table->places = (uint8_t *)table + (sizeof *table + 31) / 32 * 32;
    table->weights = (uint32_t *)(void *)(table->places + (size_t)table->groups * 32);
    table->base = (int32_t *)(table->weights + (size_t)table->groups * table->twos * GROUP);
    for (size_t at = 0; table->twos && at < (size_t)table->groups * GROUP; at += 4)
        if (at / 3 < taps->n)
            prepare_four(taps, table, at);
        else
            table->base[at / 4] = 0;
}

/* What turns sums into values: (clamped sum + half) >> shift, two rows into one. */
struct rounding {
    __m256i half, most;
    __m128i shift, back;
};

INLINE struct rounding rounding_of(const struct kernel_taps *taps)
{
    const int shift = (int)taps->bits - KERNEL_FRACTION, half = 1 << (shift - 1);
    return (struct rounding){ _mm256_set1_epi32(half), _mm256_set1_epi32((255 << taps->bits) + half), _mm_cvtsi32_si128(shift),
                              _mm_cvtsi32_si128(16 - shift) };
}

/* The sums have `half` in them already. */
INLINE __m256i two_rows(__m256i even, __m256i odd, const struct rounding *r, bool clamp)
{
    if (clamp) {
        even = _mm256_min_epi32(_mm256_max_epi32(even, _mm256_setzero_si256()), r->most);
        odd = _mm256_min_epi32(_mm256_max_epi32(odd, _mm256_setzero_si256()), r->most);
    }
    return _mm256_blend_epi16(_mm256_srl_epi32(even, r->shift), _mm256_sll_epi32(odd, r->back), 0xaa);
}

INLINE __m256i load_two(const uint8_t *low, const uint8_t *high)
{
    const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low));
    return _mm256_inserti128_si256(first, _mm_loadu_si128((const __m128i *)high), 1);
}

INLINE void across_twos(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2],
                        uint32_t twos, bool clamp)
{
    const struct table *table = taps->table;
    const struct rounding rounding = rounding_of(taps);
    const uint32_t *weights = table->weights;
    for (uint32_t g = 0; g < table->groups; g++) {
        const __m256i places = _mm256_load_si256((const __m256i *)(table->places + (size_t)g * 32));
        const int32_t low = table->base[2 * g], high = table->base[2 * g + 1];
        __m256i sums[KERNEL_BLOCK] = { rounding.half, rounding.half, rounding.half, rounding.half };
        for (uint32_t two = 0; two < twos; two++, weights += GROUP) {
            const __m256i w = _mm256_load_si256((const __m256i *)weights);
            for (int r = 0; r < KERNEL_BLOCK; r++) {
                const __m256i bytes = load_two(rows[r] + low + 6 * two, rows[r] + high + 6 * two);
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(_mm256_shuffle_epi8(bytes, places), w));
            }
        }
        for (int r = 0; r < KERNEL_BLOCK; r += 2)
            _mm256_storeu_si256((__m256i *)(pairs[r / 2] + (size_t)g * GROUP), two_rows(sums[r], sums[r + 1], &rounding, clamp));
    }
}

INLINE void across_any(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2],
                       bool clamp)
{
    switch (((const struct table *)taps->table)->twos) {
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
        across_twos(taps, rows, pairs, ((const struct table *)taps->table)->twos, clamp);
    }
}

void kernel_avx2_across(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    if (taps->clamp)
        across_any(taps, rows, pairs, true);
    else
        across_any(taps, rows, pairs, false);
}

/* Four taps of a pixel's three channels: two in each half, whose last quarter is nothing. */
void kernel_avx2_across_wide(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    const __m256i places = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1,
                                            8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i spread =
        _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, -1, -1, -1, -1, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, -1, -1, -1, -1);
    const struct rounding rounding = rounding_of(taps);
    const int16_t *weights = taps->weights;
    for (uint32_t x = 0; x < taps->n; x++) {
        const size_t first = (size_t)taps->first[x] * 3;
        __m256i sums[KERNEL_BLOCK] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                                       _mm256_setzero_si256() };
        for (uint32_t t = 0; t < taps->stride; t += 4, weights += 4) {
            long long four;
            memcpy(&four, weights, sizeof four);
            const __m256i w = _mm256_shuffle_epi8(_mm256_set1_epi64x(four), spread);
            for (int r = 0; r < KERNEL_BLOCK; r++) {
                const __m256i bytes =
                    _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(rows[r] + first + (size_t)t * 3)));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(_mm256_shuffle_epi8(bytes, places), w));
            }
        }
        for (int r = 0; r < KERNEL_BLOCK; r++) {
            const __m256i halves = _mm256_permute2x128_si256(sums[r], sums[r], 1);
            sums[r] = _mm256_add_epi32(_mm256_add_epi32(sums[r], halves), rounding.half);
        }
        for (int r = 0; r < KERNEL_BLOCK; r += 2) /* the fourth value is written over by the next pixel */
            _mm_storeu_si128((__m128i *)(pairs[r / 2] + (size_t)x * 3),
                             _mm256_castsi256_si128(two_rows(sums[r], sums[r + 1], &rounding, true)));
    }
}

/* ---- down ----------------------------------------------------------------------------------------------------------- */

INLINE void sum_exact(const struct kernel_sum *sum, size_t at, uint32_t pairs, __m256 v[3])
{
    __m256i total[3] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };
    for (uint32_t p = 0; p < pairs; p++) {
        const __m256i w = _mm256_set1_epi32((int)sum->weights[p]);
        const __m256i *row = (const __m256i *)(sum->rows[p] + at);
        for (int k = 0; k < 3; k++)
            total[k] = _mm256_add_epi32(total[k], _mm256_madd_epi16(_mm256_loadu_si256(row + k), w));
    }
    for (int k = 0; k < 3; k++)
        v[k] = _mm256_cvtepi32_ps(total[k]);
}

INLINE void sum_fine(const struct kernel_sum *sum, size_t at, __m256 v[3])
{
    v[0] = v[1] = v[2] = _mm256_setzero_ps();
    for (uint32_t p = 0; p < sum->pairs; p++) {
        const __m256 even = _mm256_set1_ps(sum->fine[2 * p]), odd = _mm256_set1_ps(sum->fine[2 * p + 1]);
        const __m256i *row = (const __m256i *)(sum->rows[p] + at);
        for (int k = 0; k < 3; k++) {
            const __m256i both = _mm256_loadu_si256(row + k);
            const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(0xffff)));
            const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(both, 16)), product = _mm256_mul_ps(even, low);
            v[k] = _mm256_add_ps(_mm256_add_ps(v[k], product), _mm256_mul_ps(odd, high));
        }
    }
}

/* Of 24 values, those of each channel: in their order the lanes are 0 3 6 1 4 7 2 5 and so on of one of the three registers. */
INLINE void planes_16(__m128i v[3])
{
    const __m128i order = _mm_setr_epi8(0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15, 4, 5, 10, 11);
    const __m128i a = v[0], b = v[1], c = v[2];
    const __m128i red = _mm_blend_epi16(_mm_blend_epi16(a, b, 0x92), c, 0x24);
    const __m128i green = _mm_blend_epi16(_mm_blend_epi16(a, b, 0x24), c, 0x49);
    const __m128i blue = _mm_blend_epi16(_mm_blend_epi16(a, b, 0x49), c, 0x92);
    v[0] = _mm_shuffle_epi8(red, order);
    v[1] = _mm_shuffle_epi8(green, _mm_setr_epi8(2, 3, 8, 9, 14, 15, 4, 5, 10, 11, 0, 1, 6, 7, 12, 13));
    v[2] = _mm_shuffle_epi8(blue, _mm_setr_epi8(4, 5, 10, 11, 0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15));
}

INLINE void planes_32(__m256 v[3])
{
    const __m256 a = v[0], b = v[1], c = v[2];
    const __m256 red = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x92), c, 0x24);
    const __m256 green = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x24), c, 0x49);
    const __m256 blue = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x49), c, 0x92);
    v[0] = _mm256_permutevar8x32_ps(red, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    v[1] = _mm256_permutevar8x32_ps(green, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6));
    v[2] = _mm256_permutevar8x32_ps(blue, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
}

INLINE __m128i narrow(__m256i v)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Of 8 values, in 16 bits each. */
INLINE __m128i convert(__m256 v, enum dtype dtype)
{
    if (dtype == DTYPE_U8)
        return narrow(_mm256_cvttps_epi32(_mm256_add_ps(v, _mm256_set1_ps(0.5f))));
    if (dtype == DTYPE_F16)
        return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); /* never flushes what is small */
    const __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return narrow(_mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16));
}

/* 8 pixels; out as in kernel_ops.h. */
INLINE void store(__m256 v[3], enum dtype dtype, enum layout layout, char *const out[3])
{
    const bool planes = layout == LAYOUT_CHW;
    if (dtype == DTYPE_F32) {
        if (planes)
            planes_32(v);
        for (int k = 0; k < 3; k++)
            _mm256_storeu_ps((float *)(void *)(planes ? out[k] : out[0] + 32 * k), v[k]);
        return;
    }
    __m128i halves[3];
    for (int k = 0; k < 3; k++)
        halves[k] = convert(v[k], dtype);
    if (planes)
        planes_16(halves);
    for (int k = 0; k < 3; k++)
        if (dtype == DTYPE_U8)
            _mm_storel_epi64((__m128i *)(planes ? out[k] : out[0] + 8 * k), _mm_packus_epi16(halves[k], halves[k]));
        else
            _mm_storeu_si128((__m128i *)(planes ? out[k] : out[0] + 16 * k), halves[k]);
}

/* Scale and bias of 8 values that lie one after another, from value `8 * k` on. */
INLINE __m256 thrice(const float of[3], int k)
{
    float values[8];
    for (int i = 0; i < 8; i++)
        values[i] = of[(8 * k + i) % 3];
    return _mm256_loadu_ps(values);
}

struct factors {
    __m256 scale[3], bias[3], most;
};

/* The pixels from `at` on. */
INLINE void down_block(const struct kernel_sum *sum, const struct factors *by, size_t at, enum dtype dtype, enum layout layout,
                       char *red, char *green, char *blue, uint32_t pairs)
{
    __m256 v[3];
    if (pairs)
        sum_exact(sum, at * 3, pairs, v);
    else
        sum_fine(sum, at * 3, v);
    if (sum->clamp)
        for (int k = 0; k < 3; k++)
            v[k] = _mm256_min_ps(_mm256_max_ps(v[k], _mm256_setzero_ps()), by->most);
    for (int k = 0; k < 3; k++)
        v[k] = _mm256_add_ps(_mm256_mul_ps(v[k], by->scale[k]), by->bias[k]);
    store(v, dtype, layout, (char *const[3]){ red, green, blue });
}

INLINE void down_as(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3], uint32_t pairs)
{
    const size_t size = dtype == DTYPE_F32 ? 4 : dtype == DTYPE_U8 ? 1 : 2, step = size * (layout == LAYOUT_CHW ? 1 : 3);
    const struct factors by = { .scale = { thrice(sum->scale, 0), thrice(sum->scale, 1), thrice(sum->scale, 2) },
                                .bias = { thrice(sum->bias, 0), thrice(sum->bias, 1), thrice(sum->bias, 2) },
                                .most = _mm256_set1_ps(sum->most) };
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

const struct kernel_ops kernel_avx2 = { .name = "avx2",
                                        .table_bytes = kernel_avx2_table_bytes,
                                        .prepare = kernel_avx2_prepare,
                                        .across = kernel_avx2_across,
                                        .down = down };
