/* SPDX-License-Identifier: MIT */
/* The fused kernel's frame: the ring of rows, and the order in which rows come and go; kernel.h has the arithmetic,
 * kernel_axis.c makes the weights, and the variants of kernel_ops.h are the inner loops. Called by decode/image.c, on workers;
 * all memory is made by kernel_create. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "transform/kernel_state.h"

const struct kernel_turn kernel_turns[9] = {
    [1] = { false, false, false }, [2] = { false, true, false }, [3] = { false, true, true }, [4] = { false, false, true },
    [5] = { true, false, false },  [6] = { true, false, true },  [7] = { true, true, true },  [8] = { true, true, false },
};

/* value = (pixel / 255 - mean) / std = pixel * scale + bias; uint8 keeps pixels. unit: of the sums, a power of two: exact,
 * whichever factor carries it. */
static void values_plan(struct kernel_sum *sum, enum dtype dtype, const float mean[3], const float std[3], float unit)
{
    for (size_t c = 0; c < 3; c++) {
        sum->scale[c] = (dtype == DTYPE_U8 ? 1 : (float)(1 / (255 * (double)std[c]))) * unit;
        sum->bias[c] = dtype == DTYPE_U8 ? 0 : (float)(0 - (double)mean[c] / (double)std[c]);
    }
    sum->most = 255 / unit;
}

void kernel_table(enum dtype dtype, const float mean[3], const float std[3], void *out)
{
    const size_t bytes = 256 * dtype_table[dtype].size;
    uint8_t *const first = out;
    struct kernel_sum sum = { 0 };
    float pixels[256 * 3];
    for (size_t i = 0; i < 256 * 3; i++)
        pixels[i] = (float)(i / 3);
    values_plan(&sum, dtype, mean, std, 1);
    kernel_scalar_finish(&sum, pixels, 256, dtype, (void *const[3]){ first, first + bytes, first + 2 * bytes }, 0, 1);
}

/* Only a window that passes the resized picture can be larger than that, and so ask for more than there is. */
static bool has_room(const struct kernel *kernel)
{
    if (kernel->turn.swap)
        return kernel->ring_rows * (size_t)kernel->y.length * 3 <= kernel->ring_bytes;
    return kernel->ring_rows * 2 * kernel->ring_stride * sizeof(uint32_t) <= kernel->ring_bytes &&
           (kernel->y.widest + 2) / 2 <= kernel->rows_most;
}

static void axes_plan(struct kernel *kernel, const struct plan *plan)
{
    const struct rect *crop = &plan->crop, *window = &plan->window, all = { 0, 0, plan->scaled_width, plan->scaled_height };
    const struct rect *shown = plan->padded ? &plan->shown : &all;
    const struct plan_span across = plan->shrunk ? plan->across : (struct plan_span){ 0, crop->width };
    const struct plan_span down = plan->shrunk ? plan->down : (struct plan_span){ 0, crop->height };
    axis_plan(&kernel->x, plan,
              &(struct axis_part){ crop->width, plan->scaled_width, window->x, kernel->width, shown->x, shown->width, across });
    axis_plan(&kernel->y, plan,
              &(struct axis_part){ crop->height, plan->scaled_height, window->y, kernel->height, shown->y, shown->height, down });
    if (kernel->x.n == 0 || kernel->y.n == 0)
        kernel->x.n = kernel->y.n = 0;
    kernel->padded = kernel->x.n < (uint32_t)kernel->width || kernel->y.n < (uint32_t)kernel->height;
    memcpy(kernel->fill, plan->fill, sizeof kernel->fill);
}

/* Of the stored picture. */
static struct rect stored_part(const struct kernel *kernel, const struct plan *plan)
{
    const struct kernel_turn turn = kernel->turn;
    const int32_t x = plan->crop.x + kernel->x.from, y = plan->crop.y + kernel->y.from;
    const int32_t width = turn.swap ? plan->height : plan->width, height = turn.swap ? plan->width : plan->height;
    struct rect part = turn.swap ? (struct rect){ y, x, kernel->y.length, kernel->x.length }
                                 : (struct rect){ x, y, kernel->x.length, kernel->y.length };
    if (turn.mirror_x)
        part.x = width - part.x - part.width;
    if (turn.mirror_y)
        part.y = height - part.y - part.height;
    return part;
}

int kernel_plan(struct kernel *kernel, const struct plan *plan, struct kernel_turn turn, struct rect *stored, struct problem *why)
{
    assert(plan->window.width == kernel->width && plan->window.height == kernel->height);
    assert(plan->padded ||
           (plan->window.x >= 0 && plan->window.y >= 0 && plan->window.x + plan->window.width <= plan->scaled_width &&
            plan->window.y + plan->window.height <= plan->scaled_height));
    if (plan->width > KERNEL_SIDE || plan->height > KERNEL_SIDE)
        return problem_set(why, -EFBIG, "a picture of %d x %d is too large", plan->width, plan->height);
    axes_plan(kernel, plan);
    kernel->turn = turn;
    kernel->flip_x = plan->flip_x;
    kernel->flip_y = plan->flip_y;
    kernel->ring_rows = turn.swap ? kernel->x.widest : (kernel->y.widest + 2) / KERNEL_BLOCK + 1;
    if (!has_room(kernel))
        return problem_set(why, -EFBIG, "a picture of %d x %d is reduced too far, to %d x %d, before it is padded", plan->width,
                           plan->height, plan->scaled_width, plan->scaled_height);
    kernel->taps.clamp = plan->filter == FILTER_BICUBIC;
    /* A swapped picture's columns come as rows: they are mirrored and flipped as they come and go. */
    axis_across(&kernel->x, !turn.swap && turn.mirror_x, !turn.swap && plan->flip_x, kernel->first, kernel->fixed, &kernel->taps);
    axis_down(&kernel->y, &kernel->pairs);
    const float unit = (float)ldexp(1, -(int)kernel->pairs.bits - KERNEL_FRACTION);
    values_plan(&kernel->sum, kernel->dtype, plan->mean, plan->std, unit);
    kernel->sum.clamp = kernel->taps.clamp || !kernel->pairs.bits; /* weights of floats only nearly sum to one */
    if (!turn.swap)
        kernel->ops->prepare(&kernel->taps);
    *stored = stored_part(kernel, plan);
    return 0;
}

/* Of rows 2 * pair and 2 * pair + 1. */
static uint32_t *ring_row(const struct kernel *kernel, uint32_t pair)
{
    return kernel->ring + (pair / 2 % kernel->ring_rows * 2 + pair % 2) * kernel->ring_stride;
}

/* Where the row of results begins in each channel, at a place across. */
static void row_places(const struct kernel *kernel, uint8_t *out, size_t row, size_t left, void *places[3])
{
    const size_t width = (size_t)kernel->width, bytes = dtype_table[kernel->dtype].size;
    const size_t pixel = kernel->layout == LAYOUT_HWC ? 3 : 1, channel = pixel == 3 ? 1 : width * (size_t)kernel->height;
    for (size_t c = 0; c < 3; c++)
        places[c] = out + ((row * width + left) * pixel + c * channel) * bytes;
}

static void emit_row(struct kernel *kernel, uint32_t i, uint8_t *out)
{
    const struct axis *x = &kernel->x, *y = &kernel->y;
    const uint32_t left = kernel->flip_x ? (uint32_t)kernel->width - x->n - x->before : x->before;
    const uint32_t row = kernel->flip_y ? (uint32_t)kernel->height - 1 - y->before - i : y->before + i;
    const uint32_t *weights = kernel->pairs.weights + (size_t)i * kernel->pairs.stride;
    struct kernel_sum *sum = &kernel->sum;
    void *places[3];
    row_places(kernel, out, row, left, places);
    sum->pairs = axis_pair_count(y, i);
    for (uint32_t p = 0; p < sum->pairs; p++)
        kernel->rows[p] = ring_row(kernel, (uint32_t)y->first[i] / 2 + p);
    sum->rows = kernel->rows;
    sum->weights = kernel->pairs.bits ? weights : NULL;
    sum->fine = (const float *)weights;
    sum->n = x->n;
    kernel->ops->down(sum, kernel->dtype, kernel->layout, places);
}

/* All of a padded picture's result, before what is not padding is written over it. The ring holds no row yet. */
static void emit_fill(struct kernel *kernel, uint8_t *out)
{
    const size_t width = (size_t)kernel->width, bytes = dtype_table[kernel->dtype].size;
    const uint32_t half = kernel->pairs.bits ? 1u << (kernel->pairs.bits - 1) : 0; /* the even row's, and the odd one's */
    struct kernel_sum sum = kernel->sum;
    void *first[3], *places[3];
    for (size_t i = 0; i < width * 3; i++)
        kernel->ring[i] = (uint32_t)kernel->fill[i % 3] << KERNEL_FRACTION | (uint32_t)kernel->fill[i % 3]
                                                                                 << (16 + KERNEL_FRACTION);
    kernel->rows[0] = kernel->ring;
    sum.rows = kernel->rows;
    sum.weights = half ? &(const uint32_t){ half | half << 16 } : NULL;
    sum.fine = (const float[2]){ 1, 0 };
    sum.pairs = 1;
    sum.n = width;
    row_places(kernel, out, 0, 0, first);
    kernel->ops->down(&sum, kernel->dtype, kernel->layout, first);
    for (size_t row = 1; row < (size_t)kernel->height; row++) {
        row_places(kernel, out, row, 0, places);
        for (size_t c = 0; c < 3; c++)
            if (kernel->layout == LAYOUT_CHW)
                memcpy(places[c], first[c], width * bytes);
            else if (c == 0)
                memcpy(places[c], first[c], width * 3 * bytes);
    }
}

static void across_block(struct kernel *kernel, uint32_t block)
{
    const uint8_t *rows[KERNEL_BLOCK];
    for (size_t r = 0; r < KERNEL_BLOCK; r++)
        rows[r] = kernel->strip + r * kernel->strip_stride;
    kernel->ops->across(&kernel->taps, rows,
                        (uint32_t *const[2]){ ring_row(kernel, 2 * block), ring_row(kernel, 2 * block + 1) });
}

/* Rows are taken in blocks of the upright picture's; one that is cut off at the end keeps older rows, whose weights are zero. */
static int run_upright(struct kernel *kernel, next_row *next, void *from, uint8_t *out, struct problem *why)
{
    const int32_t length = kernel->y.length;
    struct turnstile rows = { .axis = &kernel->y, .backwards = kernel->turn.mirror_y };
    for (int32_t k = 0; k < length; k++) {
        const uint8_t *row;
        const int error = next(from, &row, why);
        if (error)
            return error;
        const int32_t input = rows.backwards ? length - 1 - k : k, block = input / KERNEL_BLOCK;
        const int32_t last = block * KERNEL_BLOCK + (rows.backwards ? 0 : KERNEL_BLOCK - 1); /* of the block, to come */
        if (!is_wanted(&rows, last))
            continue;
        memcpy(kernel->strip + (size_t)(input % KERNEL_BLOCK) * kernel->strip_stride, row, (size_t)kernel->x.length * 3);
        if (input != last && k != length - 1)
            continue;
        across_block(kernel, (uint32_t)block);
        for (; is_complete(&rows, last); rows.done++)
            emit_row(kernel, pending(&rows), out);
    }
    return 0;
}

int kernel_run(struct kernel *kernel, next_row *next, void *from, void *out, struct problem *why)
{
    if (kernel->padded)
        emit_fill(kernel, out);
    return kernel->turn.swap ? kernel_run_swapped(kernel, next, from, out, why) : run_upright(kernel, next, from, out, why);
}

/* Bounds: a result has at most 4 * in / scaled + 6 taps (bicubic reaches twice the ratio to either side), and scaled is at
 * least the axis's n, and, where nothing is padded, the kernel's width or height; 3 taps more where they are rounded up to
 * four. */
static size_t taps_total(int32_t n)
{
    return 4 * (size_t)KERNEL_SIDE + 12 * (size_t)n;
}

static size_t taps_most(int32_t n)
{
    const size_t most = 4 * (size_t)KERNEL_SIDE / (size_t)n + 6;
    return most < KERNEL_SIDE ? most : KERNEL_SIDE;
}

static size_t rows_most(int32_t height)
{
    return taps_most(height) / 2 + 2;
}

/* Values, of 4 bytes; an odd number of cache lines, so that rows do not lie one page apart. */
static size_t ring_stride(int32_t width)
{
    return ((size_t)width * 3 + KERNEL_VALUES + 15) / 16 * 16 + ((size_t)width * 3 / 16 % 2 ? 0 : 16);
}

/* least: of the heights that the kernel may be fitted to, when its rows are narrower and end in as much as those that are not. */
static size_t ring_bytes(int32_t width, int32_t height, int32_t least, uint64_t swap_pixels)
{
    const size_t rows = taps_most(height) / 2 + KERNEL_BLOCK, more = least < height ? taps_most(least) / 2 + KERNEL_BLOCK : 0;
    const size_t upright = (rows * ring_stride(width) + more * ring_stride(1)) * sizeof(uint32_t);
    if (!swap_pixels)
        return upright;
    /* taps * height of the crop: 4 * pixels / width for the stretch, 6 rows for the rest */
    const size_t swapped = (4 * (size_t)swap_pixels / (size_t)width + 6 * (size_t)KERNEL_SIDE) * 3;
    return upright > swapped ? upright : swapped;
}

#define STRIP_STRIDE (((size_t)KERNEL_SIDE * 3 + KERNEL_SLACK + 63) / 64 * 64 + 64)

/* One place for the sizes, so that the budget and the allocations cannot differ. */
static size_t each_part(struct kernel *kernel, const struct kernel_ops *ops, int32_t width, int32_t height, int32_t least,
                        uint64_t swap_pixels)
{
    const size_t w = (size_t)width, h = (size_t)height;
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
        { &k->x.sums, w * sizeof(double) },
        { &k->y.sums, h * sizeof(double) },
        { &k->first, w * sizeof(int32_t) },
        { &k->fixed, taps_total(width) * sizeof(int16_t) },
        { &k->taps.table, ops->table_bytes((uint32_t)width) },
        { &k->pairs.weights, taps_total(height) * sizeof(uint32_t) },
        { &k->strip, KERNEL_BLOCK * STRIP_STRIDE },
        { &k->ring, ring_bytes(width, height, least, swap_pixels) },
        { &k->rows, rows_most(least) * sizeof(uint32_t *) },
        { &k->column, swap_pixels ? (size_t)KERNEL_SIDE * 3 * sizeof(uint16_t) : 0 },
        { &k->values, swap_pixels ? (size_t)KERNEL_SIDE * 3 * sizeof(float) : 0 },
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
    return each_part(NULL, kernel_ops_chosen(), width, height, height, swap_pixels);
}

/* least: of the heights that it may be fitted to. */
static int create(struct kernel **out, const struct kernel_ops *ops, int32_t width, int32_t height, int32_t least,
                  enum dtype dtype, enum layout layout, uint64_t swap_pixels)
{
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel)
        return -ENOMEM;
    kernel->ops = ops ? ops : kernel_ops_chosen();
    kernel->width = width;
    kernel->height = height;
    kernel->dtype = dtype;
    kernel->layout = layout;
    kernel->ring_bytes = ring_bytes(width, height, least, swap_pixels);
    kernel->rows_most = rows_most(least);
    kernel->strip_stride = STRIP_STRIDE;
    kernel->ring_stride = ring_stride(width);
    if (!each_part(kernel, kernel->ops, width, height, least, swap_pixels)) {
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
    return each_part(NULL, kernel_ops_chosen(), most, most, LEAST, 0);
}

void kernel_fit(struct kernel *kernel, int32_t width, int32_t height)
{
    kernel->width = width;
    kernel->height = height;
    kernel->ring_stride = ring_stride(width);
}

void kernel_destroy(struct kernel *kernel)
{
    if (!kernel)
        return;
    void *const parts[] = { kernel->x.first,    kernel->x.count,       kernel->y.first, kernel->y.count, kernel->x.weights,
                            kernel->y.weights,  kernel->x.sums,        kernel->y.sums,  kernel->first,   kernel->fixed,
                            kernel->taps.table, kernel->pairs.weights, kernel->strip,   kernel->ring,    kernel->rows,
                            kernel->column,     kernel->values };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
    free(kernel);
}
