/* SPDX-License-Identifier: MIT */
/* The kernel's inner loops in plain C: what every other variant must equal bit by bit (the arithmetic is in kernel.h).
 * Called by kernel.c, on workers. Fixed numbers of taps are unrolled, and the loops over values are left to the compiler. */
#include "half.h"
#include "transform/kernel.h"

#define INLINE static inline __attribute__((always_inline))
#define BLOCK  256 /* values that stay in L1 between the sum and the conversion */

/* Before or after the conversion is the same, which keeps the order of numbers; min and max of floats are in every baseline. */
INLINE float clamp(int32_t sum, float most)
{
    float value = (float)sum;
    value = value > 0.0f ? value : 0.0f;
    return value < most ? value : most;
}

INLINE void across_taps(const struct kernel_taps *table, const uint8_t *row, float *out, size_t pixel, size_t channel,
                        uint32_t taps)
{
    const int16_t *w = table->weights;
    const float most = (float)table->most;
    for (uint32_t x = 0; x < table->n; x++, w += taps, out += pixel) {
        const uint8_t *p = row + (size_t)table->first[x] * 3;
        int32_t red = 0, green = 0, blue = 0;
        for (uint32_t t = 0; t < taps; t++, p += 3) {
            red += w[t] * p[0];
            green += w[t] * p[1];
            blue += w[t] * p[2];
        }
        out[0] = clamp(red, most);
        out[channel] = clamp(green, most);
        out[2 * channel] = clamp(blue, most);
    }
}

static void across(const struct kernel_taps *table, const uint8_t *row, float *out, size_t pixel, size_t channel)
{
    switch (table->taps) {
    case 1:
        across_taps(table, row, out, pixel, channel, 1);
        break;
    case 2:
        across_taps(table, row, out, pixel, channel, 2);
        break;
    case 3:
        across_taps(table, row, out, pixel, channel, 3);
        break;
    case 4:
        across_taps(table, row, out, pixel, channel, 4);
        break;
    case 5:
        across_taps(table, row, out, pixel, channel, 5);
        break;
    case 6:
        across_taps(table, row, out, pixel, channel, 6);
        break;
    default:
        across_taps(table, row, out, pixel, channel, table->taps);
    }
}

INLINE void sum_taps(const struct kernel_sum *sum, size_t from, size_t n, float *restrict out, uint32_t taps)
{
    const float *rows[6];
    for (uint32_t t = 0; t < taps; t++)
        rows[t] = sum->rows[t] + sum->offset + from;
    for (size_t i = 0; i < n; i++) {
        float v = sum->weights[0] * rows[0][i];
        for (uint32_t t = 1; t < taps; t++)
            v = v + sum->weights[t] * rows[t][i];
        out[i] = v;
    }
}

static void sum_many(const struct kernel_sum *sum, size_t from, size_t n, float *restrict out)
{
    const float *row = sum->rows[0] + sum->offset + from;
    for (size_t i = 0; i < n; i++)
        out[i] = sum->weights[0] * row[i];
    for (uint32_t t = 1; t < sum->taps; t++) {
        const float w = sum->weights[t];
        row = sum->rows[t] + sum->offset + from;
        for (size_t i = 0; i < n; i++)
            out[i] = out[i] + w * row[i];
    }
}

static void finish(float *restrict v, const float *restrict scale, const float *restrict bias, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = v[i] > 0.0f ? v[i] : 0.0f;
        x = x < 255.0f ? x : 255.0f;
        x = x * scale[i];
        v[i] = x + bias[i];
    }
}

static void store(const float *restrict v, size_t n, enum dtype dtype, void *restrict out, size_t at)
{
    if (dtype == DTYPE_U8) {
        uint8_t *to = (uint8_t *)out + at;
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)(int32_t)(v[i] + 0.5f);
    } else if (dtype == DTYPE_F16) {
        uint16_t *to = (uint16_t *)out + at;
        for (size_t i = 0; i < n; i++)
            to[i] = half_from_float(v[i]);
    } else if (dtype == DTYPE_BF16) {
        uint16_t *to = (uint16_t *)out + at;
        for (size_t i = 0; i < n; i++)
            to[i] = bfloat_from_float(v[i]);
    } else {
        float *to = (float *)out + at;
        for (size_t i = 0; i < n; i++)
            to[i] = v[i];
    }
}

static void down(const struct kernel_sum *sum, enum dtype dtype, void *out)
{
    float block[BLOCK];
    for (size_t at = 0; at < sum->n; at += BLOCK) {
        const size_t n = sum->n - at < BLOCK ? sum->n - at : BLOCK;
        switch (sum->taps) {
        case 1:
            sum_taps(sum, at, n, block, 1);
            break;
        case 2:
            sum_taps(sum, at, n, block, 2);
            break;
        case 3:
            sum_taps(sum, at, n, block, 3);
            break;
        case 4:
            sum_taps(sum, at, n, block, 4);
            break;
        case 5:
            sum_taps(sum, at, n, block, 5);
            break;
        case 6:
            sum_taps(sum, at, n, block, 6);
            break;
        default:
            sum_many(sum, at, n, block);
        }
        finish(block, sum->scale + at, sum->bias + at, n);
        store(block, n, dtype, out, at);
    }
}

const struct kernel_ops kernel_scalar = { .name = "scalar", .across = across, .down = down };
