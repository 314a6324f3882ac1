/* SPDX-License-Identifier: MIT */
/*
 * The fused kernel alone, each variant in turn: from decoded rows in memory to a finished float16 row, for the crops that
 * random_resized_crop draws of pictures of 500 x 375 (ImageNet's usual size), and for 256 / 224 evaluation. CPU time, medians over
 * the rounds; `plan` is the share of the weights, which every picture makes anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "transform/kernel_ops.h"

#define WIDTH    500
#define HEIGHT   375
#define SIZE     224
#define DRAWS    200
#define REPEATED 20 /* rounds */
#define VARIANTS 8

extern const struct transform_ops transform_random_resized_crop, transform_resize, transform_center_crop;

struct rows {
    const uint8_t *pixels;
    struct rect part;
    int32_t y;
};

enum set { TRAIN, EVAL, SETS };

static const char *const set_names[SETS] = { [TRAIN] = "random_resized_crop 224", [EVAL] = "resize 256, center_crop 224" };
static struct plan plans[SETS][DRAWS];
static uint8_t *pixels, *out;

static int next(void *from, const uint8_t **row, struct problem *why)
{
    struct rows *rows = from;

    (void)why;
    *row = rows->pixels + ((size_t)(rows->part.y + rows->y++) * WIDTH + (size_t)rows->part.x) * 3;
    return 0;
}

static void *params_of(const struct transform_ops *ops, const char *const *sizes, uint32_t n)
{
    void *params = calloc(1, ops->params_size);

    CHECK(params, "no memory");
    for (const struct setting *row = ops->settings; row->name; row++)
        if (strcmp(row->name, "size") == 0)
            CHECK(setting_set(row, params, ".", sizes, n, NULL) == 0, "size");
        else if (row->initial)
            CHECK(setting_set_default(row, params, ".", NULL) == 0, "%s", row->name);
    return params;
}

static void draw(void)
{
    void *crop = params_of(&transform_random_resized_crop, (const char *[]){ "224" }, 1);
    void *resize = params_of(&transform_resize, (const char *[]){ "256" }, 1);
    void *centre = params_of(&transform_center_crop, (const char *[]){ "224" }, 1);

    for (uint64_t i = 0; i < DRAWS; i++) {
        struct draw draw;

        draw_init(&draw, &(struct row_key){ .seed = 42, .id = i }, transform_random_resized_crop.name, 0);
        for (int set = 0; set < SETS; set++) {
            struct plan *plan = &plans[set][i];

            plan_init(plan, WIDTH, HEIGHT);
            for (int c = 0; c < 3; c++)
                plan->mean[c] = 0.45f, plan->std[c] = 0.225f;
        }
        CHECK(transform_random_resized_crop.plan(crop, &draw, &plans[TRAIN][i], NULL) == 0, "a crop");
        plans[TRAIN][i].flip_x = i & 1;
        CHECK(transform_resize.plan(resize, NULL, &plans[EVAL][i], NULL) == 0, "a resize");
        CHECK(transform_center_crop.plan(centre, NULL, &plans[EVAL][i], NULL) == 0, "a crop");
    }
    free(crop);
    free(resize);
    free(centre);
}

/* Nanoseconds for each row. */
static double measure(struct kernel *kernel, enum set set, bool run)
{
    int64_t start_ns = thread_ns();

    for (int i = 0; i < DRAWS; i++) {
        struct rows rows = { .pixels = pixels };

        CHECK(kernel_plan(kernel, &plans[set][i], kernel_turns[1], &rows.part, NULL) == 0, "plan");
        if (run)
            CHECK(kernel_run(kernel, next, &rows, out + (size_t)(i % 16) * SIZE * SIZE * 6, NULL) == 0, "run");
    }
    return (double)(thread_ns() - start_ns) / DRAWS;
}

int main(int argc, char **argv)
{
    const struct kernel_ops *variants[VARIANTS + 1] = { NULL };
    const char *word = getenv("PFEED_BENCH_ROUNDS");
    int rounds = word && atoi(word) > 0 ? atoi(word) : REPEATED;
    static struct series whole[VARIANTS][SETS], planned[VARIANTS][SETS];
    struct kernel *kernels[VARIANTS];

    bench_start("the kernel alone");
    for (size_t i = 0, n = 0; kernel_variants()[i]; i++)
        if (bench_wants(argc, argv, kernel_variants()[i]->name))
            variants[n++] = kernel_variants()[i];
    pin(0);
    pixels = malloc((size_t)WIDTH * HEIGHT * 3);
    out = aligned_alloc(64, (size_t)16 * SIZE * SIZE * 6);
    CHECK(pixels && out, "no memory");
    for (uint32_t i = 0; i < WIDTH * HEIGHT * 3; i++)
        pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    memset(out, 0, (size_t)16 * SIZE * SIZE * 6);
    draw();
    for (int v = 0; variants[v]; v++)
        CHECK(kernel_create(&kernels[v], variants[v], SIZE, SIZE, DTYPE_F16, LAYOUT_CHW, 0) == 0, "no memory");
    for (int round = 0; round < rounds; round++)
        for (int v = 0; variants[v]; v++)
            for (int set = 0; set < SETS; set++) {
                series_add(&whole[v][set], measure(kernels[v], (enum set)set, true) / 1e3, 0);
                series_add(&planned[v][set], measure(kernels[v], (enum set)set, false) / 1e3, 0);
            }
    for (int set = 0; set < SETS; set++) {
        printf("%-30s    us/row  of it plan  times the first\n", set_names[set]);
        for (int v = 0; variants[v]; v++)
            printf("  %-28s %9.1f %11.1f %16.1f\n", variants[v]->name, series_median(&whole[v][set]),
                   series_median(&planned[v][set]), series_median(&whole[0][set]) / series_median(&whole[v][set]));
    }
    printf("json: {\"bench\":\"kernel\"");
    for (int v = 0; variants[v]; v++)
        printf(",\"%s\":[%.2f,%.2f]", variants[v]->name, series_median(&whole[v][TRAIN]), series_median(&whole[v][EVAL]));
    printf("}\n");
    for (int v = 0; variants[v]; v++)
        kernel_destroy(kernels[v]);
    free(pixels);
    free(out);
    return bench_end();
}
