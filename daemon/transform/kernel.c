/* SPDX-License-Identifier: MIT */
/* The fused kernel's frame: weights, the ring of rows, and the order in which rows come and go; kernel.h has the arithmetic,
 * kernel_scalar.c the inner loops. Called by decode/image.c, on workers; all memory is made by kernel_create. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "transform/kernel.h"

#define BITS_MIN 14 /* a weight of one must fit an int16 */
#define BITS_MAX 22 /* 255 * 1.25 (the largest sum of |weights|) * 2^22 must fit an int32 */

/* The resampling along one axis of the upright picture. */
struct axis {
    uint32_t n;              /* results that have inputs; the others, of a padded picture, are filled */
    uint32_t before;         /* of the filled ones, those before the first of n */
    int32_t *first, *count;  /* inputs of each result; in the end counted from `from` */
    float *weights;          /* `stride` apart */
    uint32_t stride, widest; /* widest: the largest count */
    int32_t from, length;    /* the inputs that are used at all */
};

struct kernel {
    const struct kernel_ops *ops;
    int32_t width, height;
    enum dtype dtype;
    enum layout layout;
    struct axis x, y;
    double *scratch; /* weights of one result */
    int32_t *first;  /* of `taps`, x.n of them */
    int16_t *fixed;
    struct kernel_taps taps;
    struct kernel_turn turn;
    bool flip_x, flip_y, padded;
    uint8_t fill[3];
    float mean[3], std[3]; /* what scale and bias were made from */
    float *scale, *bias;   /* of each value of one `down`: planes of max(width, height), then one interleaved row */
    float *ring;           /* rows after `across`; of swapped pictures: stored rows, as bytes */
    size_t ring_bytes;
    uint32_t ring_rows, rows_most;
    const float **rows; /* of one sum */
    int32_t *sums;      /* swapped pictures: one column, before and after it is made float */
    float *column;
};

const struct kernel_turn kernel_turns[9] = {
    [1] = { false, false, false }, [2] = { false, true, false }, [3] = { false, true, true }, [4] = { false, false, true },
    [5] = { true, false, false },  [6] = { true, false, true },  [7] = { true, true, true },  [8] = { true, true, false },
};

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

/* Result i of `scaled` made from inputs 0..in-1: its first input, their number and weights. Both ends never go back from one
 * result to the next, which the ring relies on: an input just out of the filter's reach is dropped, zeros inside are not. */
static int32_t weigh(double *w, int32_t in, int32_t scaled, int32_t i, enum filter filter, double stretch, int32_t *first)
{
    const double centre = (i + 0.5) * ((double)in / scaled), support = filter_support(filter, stretch);
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

static void axis_weigh(struct axis *axis, double *scratch, int32_t in, int32_t scaled, int32_t window, enum filter filter,
                       bool antialias)
{
    const double ratio = (double)in / scaled, stretch = antialias && ratio > 1 ? ratio : 1;
    axis->stride = (uint32_t)(2 * (int64_t)ceil(filter_support(filter, stretch)) + 2);
    if (axis->stride > (uint32_t)in)
        axis->stride = (uint32_t)in;
    axis->widest = 0;
    int32_t low = in, high = 0;
    for (uint32_t i = 0; i < axis->n; i++) {
        float *w = axis->weights + (size_t)i * axis->stride;
        const int32_t n = weigh(scratch, in, scaled, window + (int32_t)i, filter, stretch, &axis->first[i]);
        axis->count[i] = n;
        for (int32_t k = 0; k < n; k++)
            w[k] = (float)scratch[k];
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

/* The results from `window` on, `room` of them, as far as they are among the n that are shown from `shown` on. Where none is, the
 * first input is taken, and nothing is made of it. */
static void axis_plan(struct axis *axis, double *scratch, const struct plan *plan, int32_t in, int32_t scaled, int32_t window,
                      int32_t room, int32_t shown, int32_t n)
{
    const int32_t low = window > shown ? window : shown, high = window + room < shown + n ? window + room : shown + n;
    axis->n = high > low ? (uint32_t)(high - low) : 0;
    axis->before = axis->n ? (uint32_t)(low - window) : 0;
    if (axis->n == 0) {
        axis->stride = axis->widest = 1;
        axis->from = 0;
        axis->length = 1;
    } else if (plan->filter == FILTER_NEAREST) {
        axis_nearest(axis, in, scaled, low);
    } else {
        axis_weigh(axis, scratch, in, scaled, low, plan->filter, plan->antialias);
    }
}

/* Fixed-point weights that sum to exactly 2^bits: each is the difference of two rounded partial sums. */
static void fix_weights(int16_t *fixed, const float *w, int32_t n, int bits)
{
    double sum = 0, part = 0;
    for (int32_t k = 0; k < n; k++)
        sum += (double)w[k];
    const double unit = ldexp(1, bits) / sum;
    long before = 0;
    for (int32_t k = 0; k < n; k++) {
        part += (double)w[k];
        const long now = lrint(part * unit);
        fixed[k] = (int16_t)(now - before);
        before = now;
    }
}

/* The horizontal table, with mirror and flip already in it; returns its fractional bits. */
static int taps_plan(struct kernel *kernel, bool mirror, bool flip)
{
    const struct axis *axis = &kernel->x;
    float largest = 0;
    for (uint32_t i = 0; i < axis->n; i++)
        for (int32_t k = 0; k < axis->count[i]; k++)
            largest = fmaxf(largest, fabsf(axis->weights[(size_t)i * axis->stride + (size_t)k]));
    int bits = BITS_MAX;
    while (bits > BITS_MIN && ldexp((double)largest, bits) > INT16_MAX - 1)
        bits--;
    const int32_t taps = (int32_t)axis->widest;
    memset(kernel->fixed, 0, (size_t)axis->n * axis->widest * sizeof *kernel->fixed);
    for (uint32_t x = 0; x < axis->n; x++) {
        const uint32_t i = flip ? axis->n - 1 - x : x;
        const int32_t n = axis->count[i], first = mirror ? axis->length - axis->first[i] - n : axis->first[i];
        const int32_t shift = first + taps > axis->length ? first + taps - axis->length : 0;
        int16_t *w = kernel->fixed + (size_t)x * axis->widest;
        fix_weights(w + shift, axis->weights + (size_t)i * axis->stride, n, bits);
        for (int32_t a = shift, b = shift + n - 1; mirror && a < b; a++, b--) {
            const int16_t keep = w[a];
            w[a] = w[b];
            w[b] = keep;
        }
        kernel->first[x] = first - shift;
    }
    kernel->taps = (struct kernel_taps){ axis->n, axis->widest, kernel->first, kernel->fixed, 255 << bits };
    return bits;
}

/* value = (pixel / 255 - mean) / std = pixel * scale + bias; uint8 keeps pixels. */
void kernel_value(enum dtype dtype, float mean, float std, float *scale, float *bias)
{
    *scale = dtype == DTYPE_U8 ? 1 : (float)(1 / (255 * (double)std));
    *bias = dtype == DTYPE_U8 ? 0 : (float)(0 - (double)mean / (double)std);
}

static void values_plan(struct kernel *kernel, const struct plan *plan)
{
    if (memcmp(kernel->mean, plan->mean, sizeof kernel->mean) == 0 && memcmp(kernel->std, plan->std, sizeof kernel->std) == 0)
        return;
    memcpy(kernel->mean, plan->mean, sizeof kernel->mean);
    memcpy(kernel->std, plan->std, sizeof kernel->std);
    const size_t plane = (size_t)(kernel->width > kernel->height ? kernel->width : kernel->height);
    for (size_t c = 0; c < 3; c++) {
        float scale, bias;
        kernel_value(kernel->dtype, plan->mean[c], plan->std[c], &scale, &bias);
        for (size_t i = 0; i < plane; i++) {
            kernel->scale[c * plane + i] = kernel->scale[3 * plane + 3 * i + c] = scale;
            kernel->bias[c * plane + i] = kernel->bias[3 * plane + 3 * i + c] = bias;
        }
    }
}

int kernel_plan(struct kernel *kernel, const struct plan *plan, struct kernel_turn turn, struct rect *stored, struct problem *why)
{
    assert(plan->window.width == kernel->width && plan->window.height == kernel->height);
    assert(plan->padded ||
           (plan->window.x >= 0 && plan->window.y >= 0 && plan->window.x + plan->window.width <= plan->scaled_width &&
            plan->window.y + plan->window.height <= plan->scaled_height));
    if (plan->width > KERNEL_SIDE || plan->height > KERNEL_SIDE)
        return problem_set(why, -EFBIG, "a picture of %d x %d is too large", plan->width, plan->height);
    const struct rect *crop = &plan->crop;
    const struct rect *window = &plan->window, all = { 0, 0, plan->scaled_width, plan->scaled_height };
    const struct rect *shown = plan->padded ? &plan->shown : &all;
    axis_plan(&kernel->x, kernel->scratch, plan, crop->width, plan->scaled_width, window->x, kernel->width, shown->x,
              shown->width);
    axis_plan(&kernel->y, kernel->scratch, plan, crop->height, plan->scaled_height, window->y, kernel->height, shown->y,
              shown->height);
    if (kernel->x.n == 0 || kernel->y.n == 0)
        kernel->x.n = kernel->y.n = 0;
    kernel->padded = kernel->x.n < (uint32_t)kernel->width || kernel->y.n < (uint32_t)kernel->height;
    memcpy(kernel->fill, plan->fill, sizeof kernel->fill);
    kernel->turn = turn;
    kernel->flip_x = plan->flip_x;
    kernel->flip_y = plan->flip_y;
    /* A swapped picture's columns come as rows: they are mirrored and flipped as they come and go. */
    const int bits = taps_plan(kernel, !turn.swap && turn.mirror_x, !turn.swap && plan->flip_x);
    const float unit = (float)ldexp(1, -bits); /* a power of two: exact, whichever factor carries it */
    for (size_t i = 0; i < (size_t)kernel->y.n * kernel->y.stride; i++)
        kernel->y.weights[i] *= unit;
    values_plan(kernel, plan);
    kernel->ring_rows = turn.swap ? kernel->x.widest : kernel->y.widest;

    /* Only a window that passes the resized picture can be larger than that, and so ask for more. */
    const size_t row_bytes = turn.swap ? (size_t)kernel->y.length * 3 : (size_t)kernel->width * 3 * sizeof(float);
    if (kernel->ring_rows * row_bytes > kernel->ring_bytes || (!turn.swap && kernel->ring_rows > kernel->rows_most))
        return problem_set(why, -EFBIG, "a picture of %d x %d is reduced too far, to %d x %d, before it is padded", plan->width,
                           plan->height, plan->scaled_width, plan->scaled_height);

    const int32_t x = crop->x + kernel->x.from, y = crop->y + kernel->y.from;
    *stored = turn.swap ? (struct rect){ y, x, kernel->y.length, kernel->x.length }
                        : (struct rect){ x, y, kernel->x.length, kernel->y.length };
    const int32_t width = turn.swap ? plan->height : plan->width, height = turn.swap ? plan->width : plan->height;
    if (turn.mirror_x)
        stored->x = width - stored->x - stored->width;
    if (turn.mirror_y)
        stored->y = height - stored->y - stored->height;
    return 0;
}

/* Walks the results of an axis in the order in which its inputs come. */
struct turnstile {
    const struct axis *axis;
    bool backwards;
    uint32_t done;
};

static uint32_t pending(const struct turnstile *t)
{
    return t->backwards ? t->axis->n - 1 - t->done : t->done;
}

static bool is_complete(const struct turnstile *t, int32_t input)
{
    if (t->done == t->axis->n)
        return false;
    const uint32_t i = pending(t);
    return t->backwards ? t->axis->first[i] >= input : t->axis->first[i] + t->axis->count[i] - 1 <= input;
}

static bool is_wanted(const struct turnstile *t, int32_t input)
{
    if (t->done == t->axis->n)
        return false;
    const uint32_t i = pending(t);
    return t->backwards ? input < t->axis->first[i] + t->axis->count[i] : input >= t->axis->first[i];
}

static void emit_row(struct kernel *kernel, uint32_t i, uint8_t *out)
{
    const struct axis *axis = &kernel->y;
    const size_t width = (size_t)kernel->width, height = (size_t)kernel->height, bytes = dtype_table[kernel->dtype].size;
    const size_t plane = width > height ? width : height, high = axis->before + i,
                 row = kernel->flip_y ? height - 1 - high : high;
    const size_t wide = kernel->x.n, left = kernel->flip_x ? width - wide - kernel->x.before : kernel->x.before;
    const uint32_t n = (uint32_t)axis->count[i];
    for (uint32_t t = 0; t < n; t++)
        kernel->rows[t] = kernel->ring + ((uint32_t)axis->first[i] + t) % kernel->ring_rows * width * 3;
    struct kernel_sum sum = { .rows = kernel->rows, .weights = axis->weights + (size_t)i * axis->stride, .taps = n };
    if (kernel->layout == LAYOUT_HWC) {
        sum.n = wide * 3;
        sum.scale = kernel->scale + 3 * plane;
        sum.bias = kernel->bias + 3 * plane;
        kernel->ops->down(&sum, kernel->dtype, out + (row * width + left) * 3 * bytes);
        return;
    }
    sum.n = wide;
    for (size_t c = 0; c < 3; c++) {
        sum.offset = c * width;
        sum.scale = kernel->scale + c * plane;
        sum.bias = kernel->bias + c * plane;
        kernel->ops->down(&sum, kernel->dtype, out + ((c * height + row) * width + left) * bytes);
    }
}

/* All of a padded picture's result, before what is not padding is written over it. The ring holds no row yet. */
static void emit_fill(struct kernel *kernel, uint8_t *out)
{
    const size_t width = (size_t)kernel->width, height = (size_t)kernel->height, bytes = dtype_table[kernel->dtype].size;
    const size_t plane = width > height ? width : height, planes = kernel->layout == LAYOUT_HWC ? 1 : 3, n = width * 3 / planes;
    for (size_t c = 0; c < planes; c++) {
        uint8_t *first = out + c * height * n * bytes;
        for (size_t i = 0; i < n; i++)
            kernel->ring[i] = kernel->fill[planes == 1 ? i % 3 : c];
        kernel->rows[0] = kernel->ring;
        const struct kernel_sum sum = { .rows = kernel->rows,
                                        .weights = &(const float){ 1 },
                                        .taps = 1,
                                        .n = n,
                                        .scale = kernel->scale + (planes == 1 ? 3 : c) * plane,
                                        .bias = kernel->bias + (planes == 1 ? 3 : c) * plane };
        kernel->ops->down(&sum, kernel->dtype, first);
        for (size_t row = 1; row < height; row++)
            memcpy(first + row * n * bytes, first, n * bytes);
    }
}

typedef int next_row(void *from, const uint8_t **row, struct problem *why);

static int run_upright(struct kernel *kernel, next_row *next, void *from, uint8_t *out, struct problem *why)
{
    const size_t width = (size_t)kernel->width, pixel = kernel->layout == LAYOUT_HWC ? 3 : 1, channel = pixel == 3 ? 1 : width;
    struct turnstile rows = { .axis = &kernel->y, .backwards = kernel->turn.mirror_y };
    for (int32_t k = 0; k < kernel->y.length; k++) {
        const uint8_t *row;
        const int error = next(from, &row, why);
        if (error)
            return error;
        const int32_t input = rows.backwards ? kernel->y.length - 1 - k : k;
        if (!is_wanted(&rows, input))
            continue;
        float *to = kernel->ring + (uint32_t)input % kernel->ring_rows * width * 3;
        kernel->ops->across(&kernel->taps, row, to, pixel, channel);
        for (; is_complete(&rows, input); rows.done++)
            emit_row(kernel, pending(&rows), out);
    }
    return 0;
}

/* Column i of the upright result, from stored rows: the same sums as emit_row's, value by value. */
static void emit_column(struct kernel *kernel, uint32_t i, uint8_t *out)
{
    const struct axis *x = &kernel->x, *y = &kernel->y;
    const size_t width = (size_t)kernel->width, height = (size_t)kernel->height, bytes = dtype_table[kernel->dtype].size;
    const size_t plane = width > height ? width : height, length = (size_t)y->length * 3;
    memset(kernel->sums, 0, length * sizeof *kernel->sums);
    for (uint32_t t = 0; t < x->widest; t++) {
        const int32_t w = kernel->fixed[(size_t)i * x->widest + t];
        const uint8_t *row = (uint8_t *)kernel->ring + ((uint32_t)kernel->first[i] + t) % kernel->ring_rows * length;
        if (w)
            for (size_t k = 0; k < length; k++)
                kernel->sums[k] += w * row[k];
    }
    for (size_t k = 0; k < length; k++) {
        const int32_t positive = kernel->sums[k] > 0 ? kernel->sums[k] : 0;
        kernel->sums[k] = positive < kernel->taps.most ? positive : kernel->taps.most;
    }
    const size_t across = x->before + i, to = kernel->flip_x ? width - 1 - across : across;
    const size_t high = y->n, top = kernel->flip_y ? height - high - y->before : y->before;
    float *values = kernel->column;
    uint8_t *made = (uint8_t *)(values + height);
    for (size_t c = 0; c < 3; c++) {
        for (size_t row = 0; row < high; row++) {
            const float *w = y->weights + row * y->stride;
            float v = 0;
            for (int32_t t = 0; t < y->count[row]; t++) {
                const int32_t at = y->first[row] + t, k = kernel->turn.mirror_x ? y->length - 1 - at : at;
                const float term = w[t] * (float)kernel->sums[(size_t)k * 3 + c];
                v = t ? v + term : term;
            }
            values[kernel->flip_y ? high - 1 - row : row] = v;
        }
        kernel->rows[0] = values;
        const struct kernel_sum sum = { .rows = kernel->rows,
                                        .weights = &(const float){ 1 },
                                        .taps = 1,
                                        .n = high,
                                        .scale = kernel->scale + c * plane,
                                        .bias = kernel->bias + c * plane };
        kernel->ops->down(&sum, kernel->dtype, made);
        for (size_t row = 0; row < high; row++) {
            const size_t at =
                kernel->layout == LAYOUT_HWC ? ((top + row) * width + to) * 3 + c : (c * height + top + row) * width + to;
            memcpy(out + at * bytes, made + row * bytes, bytes);
        }
    }
}

static int run_swapped(struct kernel *kernel, next_row *next, void *from, uint8_t *out, struct problem *why)
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

int kernel_run(struct kernel *kernel, next_row *next, void *from, void *out, struct problem *why)
{
    if (kernel->padded)
        emit_fill(kernel, out);
    return kernel->turn.swap ? run_swapped(kernel, next, from, out, why) : run_upright(kernel, next, from, out, why);
}

/* Bounds: a result has at most 4 * in / scaled + 6 taps (bicubic reaches twice the ratio to either side), and scaled is at
 * least the axis's n; where nothing is padded, at least the kernel's width or height. */
static size_t taps_total(int32_t n)
{
    return 4 * (size_t)KERNEL_SIDE + 8 * (size_t)n;
}

static size_t taps_most(int32_t n)
{
    const size_t most = 4 * (size_t)KERNEL_SIDE / (size_t)n + 6;
    return most < KERNEL_SIDE ? most : KERNEL_SIDE;
}

static size_t ring_bytes(int32_t width, int32_t height, uint64_t swap_pixels)
{
    const size_t upright = taps_most(height) * (size_t)width * 3 * sizeof(float);
    if (!swap_pixels)
        return upright;
    /* taps * height of the crop: 4 * pixels / width for the stretch, 6 rows for the rest */
    const size_t swapped = (4 * (size_t)swap_pixels / (size_t)width + 6 * (size_t)KERNEL_SIDE) * 3;
    return upright > swapped ? upright : swapped;
}

/* One place for the sizes, so that the budget and the allocations cannot differ. */
static size_t each_part(struct kernel *kernel, int32_t width, int32_t height, int32_t least, uint64_t swap_pixels)
{
    const size_t w = (size_t)width, h = (size_t)height, plane = w > h ? w : h;
    struct kernel none, *k = kernel ? kernel : &none;
    const struct {
        void *place;
        size_t bytes;
    } parts[] = {
        { &k->x.first, w * sizeof(int32_t) },
        { &k->x.count, w * sizeof(int32_t) },
        { &k->y.first, h * sizeof(int32_t) },
        { &k->y.count, h * sizeof(int32_t) },
        { &k->x.weights, taps_total(width) * sizeof(float) },
        { &k->y.weights, taps_total(height) * sizeof(float) },
        { &k->scratch, (KERNEL_SIDE + 8) * sizeof(double) },
        { &k->first, w * sizeof(int32_t) },
        { &k->fixed, taps_total(width) * sizeof(int16_t) },
        { &k->scale, plane * 6 * sizeof(float) },
        { &k->bias, plane * 6 * sizeof(float) },
        { &k->ring, ring_bytes(width, height, swap_pixels) },
        { &k->rows, taps_most(least) * sizeof(float *) },
        { &k->sums, swap_pixels ? (size_t)KERNEL_SIDE * 3 * sizeof(int32_t) : 0 },
        { &k->column, swap_pixels ? h * 2 * sizeof(float) : 0 },
    };
    size_t total = sizeof *kernel;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const size_t bytes = (parts[i].bytes + 63) / 64 * 64;
        total += bytes;
        if (!kernel || !bytes)
            continue;
        void *memory = aligned_alloc(64, bytes);
        if (!memory)
            return 0;
        memset(memory, 0, bytes); /* faults it in before READY */
        memcpy(parts[i].place, &memory, sizeof memory);
    }
    return total;
}

size_t kernel_bytes(int32_t width, int32_t height, uint64_t swap_pixels)
{
    return each_part(NULL, width, height, height, swap_pixels);
}

/* least: of the heights that it may be fitted to. */
static int create(struct kernel **out, const struct kernel_ops *ops, int32_t width, int32_t height, int32_t least,
                  enum dtype dtype, enum layout layout, uint64_t swap_pixels)
{
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel)
        return -ENOMEM;
    kernel->ops = ops ? ops : &kernel_scalar;
    kernel->width = width;
    kernel->height = height;
    kernel->dtype = dtype;
    kernel->layout = layout;
    kernel->ring_bytes = ring_bytes(width, height, swap_pixels);
    kernel->rows_most = (uint32_t)taps_most(least);
    if (!each_part(kernel, width, height, least, swap_pixels)) {
        kernel_destroy(kernel);
        return -ENOMEM;
    }
    *out = kernel;
    return 0;
}

int kernel_create(struct kernel **out, const struct kernel_ops *ops, int32_t width, int32_t height, enum dtype dtype,
                  enum layout layout, uint64_t swap_pixels)
{
    return create(out, ops, width, height, height, dtype, layout, swap_pixels);
}

#define LEAST 16 /* of the heights, where any will do */

/* With most x most the ring has room for 4 * KERNEL_SIDE + 6 * most pixels. Reduced by the same factor both ways, W x H to w x h,
 * rows of w pixels are wanted 2 * H / h + 4 times, which is 2 * W + 4 * w. */
int kernel_create_any(struct kernel **out, const struct kernel_ops *ops, int32_t most, enum dtype dtype, enum layout layout)
{
    return create(out, ops, most, most, LEAST, dtype, layout, 0);
}

size_t kernel_any_bytes(int32_t most)
{
    return each_part(NULL, most, most, LEAST, 0);
}

void kernel_fit(struct kernel *kernel, int32_t width, int32_t height)
{
    kernel->width = width;
    kernel->height = height;
    kernel->std[0] = 0; /* what is laid out by them is to be made again */
}

void kernel_destroy(struct kernel *kernel)
{
    if (!kernel)
        return;
    void *const parts[] = { kernel->x.first,   kernel->x.count, kernel->y.first, kernel->y.count, kernel->x.weights,
                            kernel->y.weights, kernel->scratch, kernel->first,   kernel->fixed,   kernel->scale,
                            kernel->bias,      kernel->ring,    kernel->rows,    kernel->sums,    kernel->column };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
    free(kernel);
}
