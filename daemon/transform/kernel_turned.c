/* SPDX-License-Identifier: MIT */
/* Pictures whose stored rows are the columns of the upright one, as of telephones held upright: the same sums as of upright
 * pictures, column by column and in plain C. Called by kernel_run, on workers. */
#include <string.h>

#include "transform/kernel_state.h"

/* Column i before the pass down, from stored rows: sums over the taps, rounded as `across` does. */
static void column_across(struct kernel *kernel, uint32_t i)
{
    const struct kernel_taps *taps = &kernel->taps;
    const size_t length = (size_t)kernel->y.length * 3;
    const int32_t most = 255 << taps->bits, half = 1 << (taps->bits - KERNEL_FRACTION - 1);
    int32_t *sums = (int32_t *)kernel->values;
    memset(sums, 0, length * sizeof *sums);
    for (uint32_t t = 0; t < taps->taps; t++) {
        const int32_t w = taps->weights[(size_t)i * taps->stride + t];
        const uint8_t *row = (uint8_t *)kernel->ring + ((uint32_t)taps->first[i] + t) % kernel->ring_rows * length;
        if (w)
            for (size_t k = 0; k < length; k++)
                sums[k] += w * row[k];
    }
    for (size_t k = 0; k < length; k++) {
        const int32_t positive = sums[k] > 0 ? sums[k] : 0;
        kernel->column[k] = (uint16_t)(((positive < most ? positive : most) + half) >> (taps->bits - KERNEL_FRACTION));
    }
}

/* The value of channel c in row i of the column. */
static float column_down(const struct kernel *kernel, uint32_t i, size_t c)
{
    const struct axis *y = &kernel->y;
    const uint32_t *weights = kernel->pairs.weights + (size_t)i * kernel->pairs.stride;
    const int32_t odd = y->first[i] & 1;
    int32_t sum = 0;
    float fine = 0;
    for (int32_t t = 0; t < y->count[i]; t++) {
        const int32_t at = y->first[i] + t, k = kernel->turn.mirror_x ? y->length - 1 - at : at;
        const int32_t value = kernel->column[(size_t)k * 3 + c];
        if (kernel->pairs.bits) {
            sum += (int16_t)(weights[(odd + t) / 2] >> (odd + t) % 2 * 16) * value;
        } else {
            float w;
            memcpy(&w, &weights[odd + t], sizeof w);
            const float product = w * (float)value;
            fine = fine + product;
        }
    }
    return kernel->pairs.bits ? (float)sum : fine;
}

static void emit_column(struct kernel *kernel, uint32_t i, uint8_t *out)
{
    const struct axis *x = &kernel->x, *y = &kernel->y;
    const size_t width = (size_t)kernel->width, height = (size_t)kernel->height, bytes = dtype_table[kernel->dtype].size;
    const size_t across = x->before + i, to = kernel->flip_x ? width - 1 - across : across;
    const size_t pixel = kernel->layout == LAYOUT_HWC ? 3 : 1, channel = (pixel == 3 ? 1 : width * height) * bytes;
    uint8_t *first = out + to * pixel * bytes;
    void *const places[3] = { first, first + channel, first + 2 * channel };
    column_across(kernel, i);
    for (uint32_t row = 0; row < y->n; row++) {
        const size_t high = y->before + row, at = kernel->flip_y ? height - 1 - high : high;
        float values[3];
        for (size_t c = 0; c < 3; c++)
            values[c] = column_down(kernel, row, c);
        kernel_scalar_finish(&kernel->sum, values, 1, kernel->dtype, places, at, width * pixel);
    }
}

int kernel_run_swapped(struct kernel *kernel, next_row *next, void *from, uint8_t *out, struct problem *why)
{
    const size_t length = (size_t)kernel->y.length * 3;
    struct turnstile columns = { .axis = &kernel->x, .backwards = kernel->turn.mirror_y };
    for (int32_t k = 0; k < kernel->x.length; k++) {
        const uint8_t *row;
        const int error = next(from, &row, why);
        if (error)
            return error;
        const int32_t input = columns.backwards ? kernel->x.length - 1 - k : k;
        if (!is_wanted(&columns, input))
            continue;
        memcpy((uint8_t *)kernel->ring + (uint32_t)input % kernel->ring_rows * length, row, length);
        for (; is_complete(&columns, input); columns.done++)
            emit_column(kernel, pending(&columns), out);
    }
    return 0;
}
