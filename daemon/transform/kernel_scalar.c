/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops in plain C: what every other variant must equal bit by bit (the arithmetic is in kernel.h).
 * Called by kernel.c, on workers. Fixed numbers of taps are unrolled, and the loops over values are left to the compiler. */
#include "half.h"
#include "transform/kernel_ops.h"

#define INLINE static inline __attribute__((always_inline))
#define BLOCK  128 /* pixels that stay in L1 between the sum and the conversion */

static size_t table_bytes(uint32_t n)
{
    (void)n;
    return 0;
}

static void prepare(const struct kernel_taps *taps)
{
    (void)taps;
}

INLINE uint32_t value(int32_t sum, const struct kernel_taps *taps)
{
    const uint32_t shift = taps->bits - KERNEL_FRACTION;
    const int32_t most = 255 << taps->bits, least = sum > 0 ? sum : 0;
    return (uint32_t)((least < most ? least : most) + (1 << (shift - 1))) >> shift;
}

INLINE void across_taps(const struct kernel_taps *table, const uint8_t *const rows[2], uint32_t *out, uint32_t taps)
{
    const int16_t *w = table->weights;
    for (uint32_t x = 0; x < table->n; x++, w += table->stride, out += 3) {
        const size_t first = (size_t)table->first[x] * 3;
        for (int r = 0; r < 2; r++) {
            const uint8_t *p = rows[r] + first;
            int32_t sum[3] = { 0 };
            for (uint32_t t = 0; t < taps; t++, p += 3)
                for (int c = 0; c < 3; c++)
                    sum[c] += w[t] * p[c];
            for (int c = 0; c < 3; c++)
                out[c] = r ? out[c] | value(sum[c], table) << 16 : value(sum[c], table);
        }
    }
}

static void across(const struct kernel_taps *table, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2])
{
    for (int r = 0; r < KERNEL_BLOCK; r += 2)
        switch (table->taps) {
        case 1:
            across_taps(table, rows + r, pairs[r / 2], 1);
            break;
        case 2:
            across_taps(table, rows + r, pairs[r / 2], 2);
            break;
        case 3:
            across_taps(table, rows + r, pairs[r / 2], 3);
            break;
        case 4:
            across_taps(table, rows + r, pairs[r / 2], 4);
            break;
        case 5:
            across_taps(table, rows + r, pairs[r / 2], 5);
            break;
        default:
            across_taps(table, rows + r, pairs[r / 2], table->taps);
        }
}

static void sum_exact(const struct kernel_sum *sum, size_t from, size_t n, float *restrict out)
{
    int32_t block[BLOCK * 3];
    for (uint32_t p = 0; p < sum->pairs; p++) {
        const uint32_t *row = sum->rows[p] + from;
        const int32_t even = (int16_t)sum->weights[p], odd = (int16_t)(sum->weights[p] >> 16);
        for (size_t i = 0; i < n; i++)
            block[i] = (p ? block[i] : 0) + even * (int32_t)(row[i] & 0xffff) + odd * (int32_t)(row[i] >> 16);
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (float)block[i];
}

static void sum_fine(const struct kernel_sum *sum, size_t from, size_t n, float *restrict out)
{
    for (uint32_t p = 0; p < sum->pairs; p++) {
        const uint32_t *row = sum->rows[p] + from;
        const float even = sum->fine[2 * p], odd = sum->fine[2 * p + 1];
        for (size_t i = 0; i < n; i++) {
            const float product = even * (float)(int32_t)(row[i] & 0xffff), v = (p ? out[i] : 0.0f) + product;
            out[i] = v + odd * (float)(int32_t)(row[i] >> 16);
        }
    }
}

static void finish(const struct kernel_sum *sum, size_t n, float *restrict v)
{
    for (size_t i = 0; i < n; i++) {
        float x = v[i] > 0.0f ? v[i] : 0.0f;
        v[i] = x < sum->most ? x : sum->most;
    }
    for (size_t i = 0; i < n; i += 3)
        for (size_t c = 0; c < 3; c++) {
            const float x = v[i + c] * sum->scale[c];
            v[i + c] = x + sum->bias[c];
        }
}

/* Pixel i of channel c to out[c][i * step]. */
INLINE void store_as(const float *restrict v, size_t n, enum dtype dtype, void *const out[3], size_t at, size_t step)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++) {
            const float x = v[3 * i + c];
            const size_t to = (at + i) * step;
            if (dtype == DTYPE_U8)
                ((uint8_t *)out[c])[to] = (uint8_t)(int32_t)(x + 0.5f);
            else if (dtype == DTYPE_F16)
                ((uint16_t *)out[c])[to] = half_from_float(x);
            else if (dtype == DTYPE_BF16)
                ((uint16_t *)out[c])[to] = bfloat_from_float(x);
            else
                ((float *)out[c])[to] = x;
        }
}

static void store(const float *v, size_t n, enum dtype dtype, void *const out[3], size_t at, size_t step)
{
    if (dtype == DTYPE_U8)
        store_as(v, n, DTYPE_U8, out, at, step);
    else if (dtype == DTYPE_F16)
        store_as(v, n, DTYPE_F16, out, at, step);
    else if (dtype == DTYPE_BF16)
        store_as(v, n, DTYPE_BF16, out, at, step);
    else
        store_as(v, n, DTYPE_F32, out, at, step);
}

void kernel_scalar_finish(const struct kernel_sum *sum, float *values, size_t n, enum dtype dtype, void *const out[3], size_t at,
                          size_t step)
{
    finish(sum, n * 3, values);
    store(values, n, dtype, out, at, step);
}

static void down(const struct kernel_sum *sum, enum dtype dtype, enum layout layout, void *const out[3])
{
    const size_t size = dtype_table[dtype].size;
    char *const first = out[0];
    void *const pixels[3] = { first, first + size, first + 2 * size };
    float block[BLOCK * 3];
    for (size_t at = 0; at < sum->n; at += BLOCK) {
        const size_t n = sum->n - at < BLOCK ? sum->n - at : BLOCK;
        if (sum->weights)
            sum_exact(sum, at * 3, n * 3, block);
        else
            sum_fine(sum, at * 3, n * 3, block);
        if (layout == LAYOUT_HWC)
            kernel_scalar_finish(sum, block, n, dtype, pixels, at, 3);
        else
            kernel_scalar_finish(sum, block, n, dtype, out, at, 1);
    }
}

const struct kernel_ops kernel_scalar = {
    .name = "scalar", .table_bytes = table_bytes, .prepare = prepare, .across = across, .down = down
};
