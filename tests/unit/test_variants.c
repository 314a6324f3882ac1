/* SPDX-License-Identifier: MIT */
/*
 * Each variant of the kernel's inner loops that this machine can run gives the same bits as the one in plain C: random sizes
 * 1..2000, filters, windows, padding, types, layouts, flips and orientations. Needs nothing but the kernel, so that it can be built
 * for another machine, too.
 *
 *     test_variants [SECONDS [SEED]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transform/kernel_ops.h"

#define SIDE     2000
#define PIXELS   200000 /* of a picture, and of a result: so that small ones are not the only ones there is time for */
#define FLAT     60     /* a result's width by its height */
#define LEAST    50     /* cases */
#define SECONDS  3      /* of a processor's time */
#define VARIANTS 8

static uint64_t state;

static uint32_t below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

/* Small ones as often as large ones. */
static int32_t side(int32_t most)
{
    const int32_t range = 1 << (1 + below(11)), n = 1 + (int32_t)below((uint32_t)range);
    return n < most ? n : most;
}

struct picture {
    int32_t width, height;
    uint8_t *pixels;
};

struct feed {
    const struct picture *picture;
    struct rect part;
    int32_t y;
    uint8_t *row; /* of its exact size, so that ASan sees a kernel that reads past it */
};

static void *memory(size_t size)
{
    void *new = malloc(size ? size : 1);
    if (!new)
        abort();
    return new;
}

static int feed_next(void *from, const uint8_t **row, struct problem *why)
{
    struct feed *feed = from;
    const size_t bytes = (size_t)feed->part.width * 3, stride = (size_t)feed->picture->width * 3;
    (void)why;
    free(feed->row);
    feed->row = memory(bytes);
    memcpy(feed->row, feed->picture->pixels + (size_t)(feed->part.y + feed->y++) * stride + (size_t)feed->part.x * 3, bytes);
    *row = feed->row;
    return 0;
}

/* Noise; the extremes alone, which bicubic passes most; or flat. */
static struct picture picture_random(void)
{
    struct picture p = { .width = side(SIDE) };
    p.height = side(PIXELS / p.width < SIDE ? PIXELS / p.width : SIDE);
    const size_t n = (size_t)p.width * (size_t)p.height * 3;
    const uint32_t kind = below(4);
    p.pixels = memory(n);
    for (size_t i = 0; i < n; i++)
        p.pixels[i] = (uint8_t)(kind == 0 ? 255 * below(2) : kind == 1 ? 255 : below(256));
    return p;
}

static struct rect part_of(int32_t width, int32_t height)
{
    const int32_t w = side(width), h = side(height);
    return (struct rect){ (int32_t)below((uint32_t)(width - w + 1)), (int32_t)below((uint32_t)(height - h + 1)), w, h };
}

struct trial {
    struct plan plan;
    struct kernel_turn turn;
    int orientation;
    enum dtype dtype;
    enum layout layout;
};

static struct trial trial_random(const struct picture *p)
{
    static const enum dtype dtypes[] = { DTYPE_U8, DTYPE_F16, DTYPE_BF16, DTYPE_F32 };
    struct trial trial = { .orientation = 1 + (int)below(8),
                           .dtype = dtypes[below(4)],
                           .layout = below(2) ? LAYOUT_HWC : LAYOUT_CHW };
    struct plan *plan = &trial.plan;
    trial.turn = kernel_turns[trial.orientation];
    plan_init(plan, trial.turn.swap ? p->height : p->width, trial.turn.swap ? p->width : p->height);
    if (below(2))
        plan_crop(plan, part_of(plan->width, plan->height));
    if (below(8)) {
        const int32_t width = below(3) ? side(SIDE) : 1 + plan->crop.width * (int32_t)(1 + below(40)) / 20;
        const int32_t most = PIXELS / width > 1 ? PIXELS / width : 1;
        const int32_t height = below(3) ? side(SIDE) : 1 + plan->crop.height * (int32_t)(1 + below(40)) / 20;
        plan_resize(plan, width, height < most ? height : most, (enum filter)below(3), below(4) > 0);
    }
    if (below(4) == 0)
        plan_crop(plan, part_of(plan->window.width, plan->window.height));
    if (below(4) == 0) {
        plan_pad(plan, (int32_t)below(20), (int32_t)below(20), (int32_t)below(20), (int32_t)below(20),
                 (uint8_t[]){ 9, 128, 255 });
        if (below(2))
            plan_crop(plan, part_of(plan->window.width, plan->window.height));
    }
    /* Not so flat that the kernel, which has memory for any picture 65500 high, takes most of the time to make. */
    if (plan->window.width > FLAT * plan->window.height)
        plan_crop(plan, (struct rect){ plan->window.width / 3, 0, FLAT * plan->window.height / 2, plan->window.height });
    plan->flip_x = below(2);
    plan->flip_y = below(2);
    for (int c = 0; c < 3; c++) {
        plan->mean[c] = (float)below(1000) / 1000;
        plan->std[c] = below(10) ? (float)(1 + below(1000)) / 1000 : 1e-6f; /* the least that normalize takes */
    }
    return trial;
}

static size_t make(const struct trial *trial, const struct kernel_ops *ops, const struct picture *p, uint8_t **out)
{
    const struct plan *plan = &trial->plan;
    const size_t size = (size_t)plan->window.width * (size_t)plan->window.height * 3 * dtype_table[trial->dtype].size;
    const uint64_t swap = trial->turn.swap ? (uint64_t)p->width * (uint64_t)p->height : 0;
    struct feed feed = { .picture = p };
    struct problem why = { "no memory" };
    struct kernel *kernel;
    *out = memory(size);
    memset(*out, 0xa5, size);
    if (kernel_create(&kernel, ops, plan->window.width, plan->window.height, trial->dtype, trial->layout, swap) < 0 ||
        kernel_plan(kernel, plan, trial->turn, &feed.part, &why) < 0 || kernel_run(kernel, feed_next, &feed, *out, &why) < 0) {
        printf("%s: %s\n", ops->name, why.text);
        exit(1);
    }
    kernel_destroy(kernel);
    free(feed.row);
    return size;
}

static void print(const struct trial *t)
{
    const struct plan *p = &t->plan;
    printf(
        "picture %d x %d, crop %d,%d %dx%d, scaled %dx%d, window %d,%d %dx%d, padded %d, filter %d, antialias %d, flips %d %d, "
        "orientation %d, dtype %s, layout %d\n",
        p->width, p->height, p->crop.x, p->crop.y, p->crop.width, p->crop.height, p->scaled_width, p->scaled_height, p->window.x,
        p->window.y, p->window.width, p->window.height, p->padded, (int)p->filter, p->antialias, p->flip_x, p->flip_y,
        t->orientation, dtype_table[t->dtype].name, (int)t->layout);
}

/* False, and what differs, where a variant does not give what the scalar one gives. */
static bool compare(const struct trial *trial, const struct picture *p)
{
    uint8_t *expected, *out;
    bool same = true;
    const size_t size = make(trial, &kernel_scalar, p, &expected);
    for (const struct kernel_ops *const *v = kernel_variants(); *v; v++) {
        if (*v == &kernel_scalar)
            continue;
        make(trial, *v, p, &out);
        for (size_t i = 0; same && i < size; i++)
            if (out[i] != expected[i]) {
                printf("%s differs from scalar at byte %zu of %zu (%u, not %u): ", (*v)->name, i, size, out[i], expected[i]);
                print(trial);
                same = false;
            }
        free(out);
    }
    free(expected);
    return same;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    const double until = now() + (argc > 1 ? atof(argv[1]) : SECONDS);
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    size_t n = 0;
    for (const struct kernel_ops *const *v = kernel_variants(); *v; v++)
        printf("%s%s", v == kernel_variants() ? "variants: " : ", ", (*v)->name);
    printf("; seed %" PRIu64 "\n", seed);
    if (!kernel_variants()[1]) {
        printf("skipped: there is only one\n");
        return 77;
    }
    for (; n < LEAST || now() < until; n++) {
        state = seed + n * UINT64_C(0x9e3779b97f4a7c15); /* each case by itself: the seed and its number give it again */
        struct picture p = picture_random();
        const struct trial trial = trial_random(&p);
        const bool same = compare(&trial, &p);
        free(p.pixels);
        if (!same) {
            printf("case %zu of seed %" PRIu64 "\n", n, seed);
            return 1;
        }
    }
    printf("%zu cases: the same bits\n", n);
    return 0;
}
