/* SPDX-License-Identifier: MIT */
/* See kernel_axis.h. */
#include <math.h>
#include <string.h>

#include "transform/kernel_axis.h"

#define BITS_MIN    14 /* a weight of one must fit an int16 */
#define BITS_ACROSS 22 /* 255 * 1.25 (the largest sum of |weights|) * 2^22 must fit an int32 */
#define BITS_DOWN   15 /* and so must 255 * 2^KERNEL_FRACTION * 1.25 * 2^15 */
#define LARGEST     (INT16_MAX - 1)

/* The filters of Pillow's Resample.c and of torchvision with antialias: Keys' cubic with a = -0.5. */
static double filter_at(enum filter filter, double x)
{
    x = fabs(x);
    if (filter == FILTER_BILINEAR)
        return x < 1 ? 1 - x : 0;
    const double a = -0.5;
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double filter_support(enum filter filter, double stretch)
{
    return (filter == FILTER_BICUBIC ? 2.0 : 1.0) * stretch;
}

/* Result i of `scaled` made from inputs 0..in-1, of which `exact` is resized: its first input, their number and weights. Both ends never go back from one
 * result to the next, which the ring relies on: an input just out of the filter's reach is dropped, zeros inside are not. */
static int32_t weigh(double *w, const struct axis_part *part, int32_t i, enum filter filter, double stretch, int32_t *first)
{
    const int32_t in = part->in;
    const double centre = part->exact.from + (i + 0.5) * (part->exact.length / part->scaled),
                 support = filter_support(filter, stretch);
    int32_t low = (int32_t)(centre - support + 0.5), high = (int32_t)(centre + support + 0.5);
    if (low < 0)
        low = 0;
    if (high > in)
        high = in;
    if (high - low > 1 && high - 0.5 - centre >= support)
        high--;
    const double inverse = 1 / stretch;
    double sum = 0;
    for (int32_t k = low; k < high; k++)
        sum += w[k - low] = filter_at(filter, (k - centre + 0.5) * inverse);
    for (int32_t k = 0; k < high - low; k++)
        w[k] /= sum;
    *first = low;
    return high - low;
}

/* Result i is the input that lies under its middle: steps are added up one by one, as Pillow does, so that what falls between
 * two inputs rounds as there. */
static void axis_nearest(struct axis *axis, int32_t in, int32_t scaled, int32_t window)
{
    const double ratio = (double)in / scaled;
    double centre = ratio * 0.5;
    axis->stride = axis->widest = 1;
    axis->largest = 1;
    for (int32_t i = 0; i < window; i++)
        centre += ratio;
    for (uint32_t i = 0; i < axis->n; i++, centre += ratio) {
        axis->first[i] = centre < in - 1 ? (int32_t)centre : in - 1;
        axis->count[i] = 1;
        axis->weights[i] = 1;
    }
    axis->from = axis->first[0];
    axis->length = axis->first[axis->n - 1] + 1 - axis->from;
    for (uint32_t i = 0; i < axis->n; i++)
        axis->first[i] -= axis->from;
}

static void axis_weigh(struct axis *axis, double *scratch, const struct axis_part *part, int32_t window, enum filter filter,
                       bool antialias)
{
    const int32_t in = part->in;
    const double ratio = part->exact.length / part->scaled, stretch = antialias && ratio > 1 ? ratio : 1;
    axis->stride = (uint32_t)(2 * (int64_t)ceil(filter_support(filter, stretch)) + 2);
    if (axis->stride > (uint32_t)in)
        axis->stride = (uint32_t)in;
    axis->widest = 0;
    axis->largest = 0;
    int32_t low = in, high = 0;
    for (uint32_t i = 0; i < axis->n; i++) {
        float *w = axis->weights + (size_t)i * axis->stride;
        const int32_t n = weigh(scratch, part, window + (int32_t)i, filter, stretch, &axis->first[i]);
        axis->count[i] = n;
        for (int32_t k = 0; k < n; k++) {
            w[k] = (float)scratch[k];
            axis->largest = fmaxf(axis->largest, fabsf(w[k]));
        }
        if ((uint32_t)n > axis->widest)
            axis->widest = (uint32_t)n;
        if (axis->first[i] < low)
            low = axis->first[i];
        if (axis->first[i] + n > high)
            high = axis->first[i] + n;
    }
    axis->from = low;
    axis->length = high - low;
    for (uint32_t i = 0; i < axis->n; i++)
        axis->first[i] -= low;
}

void axis_plan(struct axis *axis, double *scratch, const struct plan *plan, const struct axis_part *part)
{
    const int32_t end = part->shown + part->n, low = part->window > part->shown ? part->window : part->shown;
    const int32_t high = part->window + part->room < end ? part->window + part->room : end;
    axis->n = high > low ? (uint32_t)(high - low) : 0;
    axis->before = axis->n ? (uint32_t)(low - part->window) : 0;
    if (axis->n == 0) {
        axis->stride = axis->widest = 1;
        axis->largest = 1;
        axis->from = 0;
        axis->length = 1;
    } else if (plan->filter == FILTER_NEAREST) {
        axis_nearest(axis, part->in, part->scaled, low);
    } else {
        axis_weigh(axis, scratch, part, low, plan->filter, plan->antialias);
    }
}

static uint32_t bits_that_fit(float largest, uint32_t most)
{
    uint32_t bits = most;
    while (bits > BITS_MIN && ldexp((double)largest, (int)bits) > LARGEST)
        bits--;
    return bits;
}

/* Fixed-point weights that sum to exactly 2^bits: each is the difference of two rounded partial sums. */
static void fix_weights(int16_t *fixed, const float *w, int32_t n, uint32_t bits)
{
    double sum = 0, part = 0;
    for (int32_t k = 0; k < n; k++)
        sum += (double)w[k];
    const double unit = (double)(1u << bits) / sum;
    long before = 0;
    for (int32_t k = 0; k < n; k++) {
        part += (double)w[k];
        const long now = lrint(part * unit);
        fixed[k] = (int16_t)(now - before);
        before = now;
    }
}

void axis_across(const struct axis *axis, bool mirror, bool flip, int32_t *first, int16_t *weights, struct kernel_taps *taps)
{
    const int32_t widest = (int32_t)axis->widest;
    taps->n = axis->n;
    taps->taps = axis->widest;
    taps->stride = (axis->widest + 3) / 4 * 4;
    taps->bits = bits_that_fit(axis->largest, BITS_ACROSS);
    taps->first = first;
    taps->weights = weights;
    memset(weights, 0, (size_t)axis->n * taps->stride * sizeof *weights);
    for (uint32_t x = 0; x < axis->n; x++) {
        const uint32_t i = flip ? axis->n - 1 - x : x;
        const int32_t n = axis->count[i], start = mirror ? axis->length - axis->first[i] - n : axis->first[i];
        const int32_t shift = start + widest > axis->length ? start + widest - axis->length : 0;
        int16_t *w = weights + (size_t)x * taps->stride;
        fix_weights(w + shift, axis->weights + (size_t)i * axis->stride, n, taps->bits);
        for (int32_t a = shift, b = shift + n - 1; mirror && a < b; a++, b--) {
            const int16_t keep = w[a];
            w[a] = w[b];
            w[b] = keep;
        }
        first[x] = start - shift;
    }
}

void axis_down(const struct axis *axis, struct axis_pairs *pairs)
{
    const bool exact = axis->widest <= KERNEL_EXACT;
    pairs->stride = (axis->widest + 2) / 2 * (exact ? 1 : 2);
    pairs->bits = exact ? bits_that_fit(axis->largest, BITS_DOWN) : 0;
    memset(pairs->weights, 0, (size_t)axis->n * pairs->stride * sizeof *pairs->weights);
    for (uint32_t i = 0; i < axis->n; i++) {
        const float *w = axis->weights + (size_t)i * axis->stride;
        uint32_t *to = pairs->weights + (size_t)i * pairs->stride;
        const size_t odd = axis->first[i] & 1, n = (size_t)axis->count[i];
        if (!exact) {
            memcpy(to + odd, w, n * sizeof *w);
            continue;
        }
        int16_t fixed[2 * KERNEL_PAIRS] = { 0 };
        fix_weights(fixed + odd, w, (int32_t)n, pairs->bits);
        for (size_t p = 0; 2 * p < odd + n; p++)
            to[p] = (uint16_t)fixed[2 * p] | (uint32_t)(uint16_t)fixed[2 * p + 1] << 16;
    }
}
