/* SPDX-License-Identifier: MIT */
/* See kernel_axis.h. */
#include <math.h>
#include <string.h>

#include "transform/kernel_axis.h"

#define BITS_MIN    14 /* a weight of one must fit an int16 */
#define BITS_ACROSS 22 /* 255 * 1.25 (the largest sum of |weights|) * 2^22 must fit an int32 */
#define BITS_DOWN   15 /* and so must 255 * 2^KERNEL_FRACTION * 1.25 * 2^15 */
#define SIDES       16 /* results that are worked on side by side */
#define LARGEST     (INT16_MAX - 1)

/* The filters of Pillow's Resample.c and of torchvision with antialias: Keys' cubic with a = -0.5. Choices, not branches, for
 * compilers that vectorise. */
static inline double filter_at(enum filter filter, double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (filter == FILTER_BILINEAR)
        return (1 - x + fabs(1 - x)) * 0.5; /* 1 - x, or 0 */
    const double near = ((a + 2) * x - (a + 3)) * x * x + 1, far = (((x - 5) * x + 8) * x - 4) * a;
    return x < 1 ? near : x < 2 ? far : 0;
}

static double filter_support(enum filter filter, double stretch)
{
    return (filter == FILTER_BICUBIC ? 2.0 : 1.0) * stretch;
}

/* Weights lie by sixteens of results, tap by tap, so that results are worked on side by side. */
static uint32_t side_by_side(const struct axis *axis, uint32_t from)
{
    return axis->n - from < SIDES ? axis->n - from : SIDES;
}

static float *axis_weight(const struct axis *axis, uint32_t from, uint32_t tap)
{
    return axis->weights + (size_t)from * axis->widest + (size_t)tap * side_by_side(axis, from);
}

/* Where results lie among the inputs: result i's middle at from + (i + 0.5) * ratio; and the filter's stretch, inverted. */
struct reach {
    double from, ratio, inverse;
};

/* Each result's first input and their number. Both ends never go back from one result to the next, which the ring relies on: an
 * input just out of the filter's reach is dropped, zeros inside are not. */
static void axis_reach(struct axis *axis, int32_t in, int32_t window, const struct reach *reach, double support)
{
    int32_t *restrict first = axis->first, *restrict count = axis->count;
    const int32_t n = (int32_t)axis->n;
    for (int32_t i = 0; i < n; i++) {
        const double centre = reach->from + (window + i + 0.5) * reach->ratio, end = centre + support;
        const int32_t low = (int32_t)(centre - support + 0.5), high = (int32_t)(end + 0.5); /* low: rounds to 0 from -1 on */
        const int32_t least = low > 0 ? low : 0, most = high < in ? high : in;
        const int32_t n_inputs = most - least, is_out = most - 0.5 >= end;
        first[i] = least;
        count[i] = n_inputs - (n_inputs > 1 ? is_out : 0);
    }
}

/* Of n results from `from` on. Returns the largest weight, without sign, once they sum to one. */
static inline __attribute__((always_inline)) double weigh(struct axis *axis, uint32_t from, uint32_t n, int32_t window,
                                                          const struct reach *reach, enum filter filter)
{
    const int32_t *first = axis->first + from, *count = axis->count + from;
    const double inverse = reach->inverse;
    double centres[SIDES], sums[SIDES] = { 0 }, mosts[SIDES] = { 0 }, largest = 0;
    for (uint32_t i = 0; i < n; i++)
        centres[i] = reach->from + (window + (int32_t)(from + i) + 0.5) * reach->ratio - first[i] - 0.5;
    for (uint32_t t = 0; t < axis->widest; t++) {
        float *w = axis_weight(axis, from, t);
        for (uint32_t i = 0; i < n; i++) {
            const double is_there = (int32_t)t < count[i], v = filter_at(filter, (t - centres[i]) * inverse) * is_there,
                         size = fabs(v);
            w[i] = (float)v;
            sums[i] += (double)(float)v;
            mosts[i] = size > mosts[i] ? size : mosts[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        axis->sums[from + i] = sums[i];
        largest = mosts[i] > largest * sums[i] ? mosts[i] / sums[i] : largest;
    }
    return largest;
}

/* Result i is the input that lies under its middle: steps are added up one by one, as Pillow does, so that what falls between
 * two inputs rounds as there. */
static void axis_nearest(struct axis *axis, int32_t in, int32_t scaled, int32_t window)
{
    const double ratio = (double)in / scaled;
    double centre = ratio * 0.5;
    axis->widest = 1;
    axis->largest = 1;
    for (int32_t i = 0; i < window; i++)
        centre += ratio;
    for (uint32_t i = 0; i < axis->n; i++, centre += ratio) {
        axis->first[i] = centre < in - 1 ? (int32_t)centre : in - 1;
        axis->count[i] = 1;
        axis->weights[i] = 1;
        axis->sums[i] = 1;
    }
    axis->from = axis->first[0];
    axis->length = axis->first[axis->n - 1] + 1 - axis->from;
    for (uint32_t i = 0; i < axis->n; i++)
        axis->first[i] -= axis->from;
}

static void axis_weigh(struct axis *axis, const struct axis_part *part, int32_t window, enum filter filter, bool antialias)
{
    const int32_t in = part->in;
    const double ratio = part->exact.length / part->scaled, stretch = antialias && ratio > 1 ? ratio : 1;
    const struct reach reach = { part->exact.from, ratio, 1 / stretch };
    int32_t low = in, high = 0;
    axis_reach(axis, in, window, &reach, filter_support(filter, stretch));
    const int32_t *first = axis->first, *count = axis->count;
    int32_t widest = 0;
    for (uint32_t i = 0, n = axis->n; i < n; i++) {
        const int32_t end = first[i] + count[i];
        widest = count[i] > widest ? count[i] : widest;
        low = first[i] < low ? first[i] : low;
        high = end > high ? end : high;
    }
    axis->widest = (uint32_t)widest;
    double largest = 0;
    for (uint32_t from = 0; from < axis->n; from += SIDES) {
        const uint32_t n = side_by_side(axis, from);
        double most;
        if (filter == FILTER_BICUBIC)
            most = weigh(axis, from, n, window, &reach, FILTER_BICUBIC);
        else if (n == SIDES)
            most = weigh(axis, from, SIDES, window, &reach, FILTER_BILINEAR);
        else
            most = weigh(axis, from, n, window, &reach, FILTER_BILINEAR);
        largest = most > largest ? most : largest;
    }
    axis->largest = (float)largest;
    axis->from = low;
    axis->length = high - low;
    for (uint32_t i = 0, n = axis->n; i < n; i++)
        axis->first[i] -= low;
}

void axis_plan(struct axis *axis, const struct plan *plan, const struct axis_part *part)
{
    const int32_t end = part->shown + part->n, low = part->window > part->shown ? part->window : part->shown;
    const int32_t high = part->window + part->room < end ? part->window + part->room : end;
    axis->n = high > low ? (uint32_t)(high - low) : 0;
    axis->before = axis->n ? (uint32_t)(low - part->window) : 0;
    if (axis->n == 0) {
        axis->widest = 1;
        axis->largest = 1;
        axis->from = 0;
        axis->length = 1;
    } else if (plan->filter == FILTER_NEAREST) {
        axis_nearest(axis, part->in, part->scaled, low);
    } else {
        axis_weigh(axis, part, low, plan->filter, plan->antialias);
    }
}

static uint32_t bits_that_fit(float largest, uint32_t most)
{
    uint32_t bits = most;
    while (bits > BITS_MIN && ldexp((double)largest, (int)bits) > LARGEST)
        bits--;
    return bits;
}

static inline int64_t bits_of(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Fixed-point weights of n results from `from` on, that sum to exactly 2^bits: each is the difference of two rounded partial sums.
 * Adding ROUNDED leaves a double's integer, rounded to nearest, in its low bits. */
#define ROUNDED 0x1.8p52

static inline __attribute__((always_inline)) void fix_weights(const struct axis *axis, uint32_t from, uint32_t n, uint32_t bits,
                                                              int16_t *to, ptrdiff_t step)
{
    double units[SIDES], parts[SIDES];
    int64_t sums[SIDES], before[SIDES];
    const int64_t zero = bits_of(ROUNDED);
    for (uint32_t i = 0; i < n; i++) {
        units[i] = (double)(1u << bits) / axis->sums[from + i];
        parts[i] = 0;
        before[i] = zero;
    }
    for (uint32_t t = 0; t < axis->widest; t++) {
        const float *w = axis_weight(axis, from, t);
        for (uint32_t i = 0; i < n; i++) {
            parts[i] += (double)w[i];
            sums[i] = bits_of(parts[i] * units[i] + ROUNDED);
        }
        for (uint32_t i = 0; i < n; i++) {
            to[(ptrdiff_t)i * step + t] = (int16_t)(sums[i] - before[i]);
            before[i] = sums[i];
        }
    }
}

static void fix(const struct axis *axis, uint32_t from, uint32_t bits, int16_t *to, ptrdiff_t step)
{
    const uint32_t n = side_by_side(axis, from);
    if (n == SIDES)
        fix_weights(axis, from, SIDES, bits, to, step);
    else
        fix_weights(axis, from, n, bits, to, step);
}

/* The weights of one result, w, taken to where they stand among the row's. */
static int32_t place_weights(const struct axis *axis, uint32_t i, bool mirror, int16_t *w)
{
    const int32_t n = axis->count[i], first = mirror ? axis->length - axis->first[i] - n : axis->first[i];
    const int32_t over = first + (int32_t)axis->widest - axis->length, shift = over > 0 ? over : 0;
    for (int32_t a = 0, b = n - 1; mirror && a < b; a++, b--) {
        const int16_t keep = w[a];
        w[a] = w[b];
        w[b] = keep;
    }
    if (shift) {
        memmove(w + shift, w, (size_t)n * sizeof *w);
        memset(w, 0, (size_t)shift * sizeof *w);
    }
    return first - shift;
}

void axis_across(const struct axis *axis, bool mirror, bool flip, int32_t *first, int16_t *weights, struct kernel_taps *taps)
{
    taps->n = axis->n;
    taps->taps = axis->widest;
    taps->stride = (axis->widest + 3) / 4 * 4;
    taps->bits = bits_that_fit(axis->largest, BITS_ACROSS);
    taps->first = first;
    taps->weights = weights;
    const ptrdiff_t step = flip ? -(ptrdiff_t)taps->stride : (ptrdiff_t)taps->stride;
    for (uint32_t from = 0; from < axis->n; from += SIDES)
        fix(axis, from, taps->bits, weights + (flip ? axis->n - 1 - from : from) * (size_t)taps->stride, step);
    for (uint32_t x = 0; x < axis->n; x++) {
        int16_t *w = weights + (size_t)x * taps->stride;
        for (uint32_t t = taps->taps; t < taps->stride; t++)
            w[t] = 0;
        first[x] = place_weights(axis, flip ? axis->n - 1 - x : x, mirror, w);
    }
}

void axis_down(const struct axis *axis, struct axis_pairs *pairs)
{
    const bool exact = axis->widest <= KERNEL_EXACT;
    int16_t fixed[SIDES][2 * KERNEL_PAIRS + 2] = { 0 };
    pairs->stride = (axis->widest + 2) / 2 * (exact ? 1 : 2);
    pairs->bits = exact ? bits_that_fit(axis->largest, BITS_DOWN) : 0;
    for (uint32_t i = 0; i < axis->n; i++) {
        uint32_t *to = pairs->weights + (size_t)i * pairs->stride;
        const uint32_t odd = axis->first[i] & 1, from = i / SIDES * SIDES;
        if (exact && i == from)
            fix(axis, from, pairs->bits, &fixed[0][1], sizeof fixed[0] / sizeof fixed[0][0]);
        for (uint32_t p = 0; exact && p < pairs->stride; p++) { /* from a zero on, where the first is odd */
            const int16_t *w = &fixed[i - from][1 - odd + 2 * p];
            to[p] = (uint16_t)w[0] | (uint32_t)(uint16_t)w[1] << 16;
        }
        for (uint32_t t = 0; !exact && t < pairs->stride; t++) {
            const bool is_there = t >= odd && t - odd < axis->widest;
            const float w = is_there ? (float)((double)axis_weight(axis, from, t - odd)[i - from] / axis->sums[i]) : 0;
            memcpy(&to[t], &w, sizeof w);
        }
    }
}
