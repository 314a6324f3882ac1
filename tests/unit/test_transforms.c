/* SPDX-License-Identifier: MIT */
/* Lists of transforms as a worker carries them out (chain.c), with one of this file's own, as somebody would add it: one struct,
 * known to nobody else. And grey, for every pixel there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transform/chain.h"
#include "transform/colour.h"

extern const struct transform_ops transform_resize, transform_normalize, transform_random_erasing, transform_horizontal_flip;

/* ---- a transform of our own: the picture moved by a drawn number of pixels, around the edge ----------------------------- */

struct roll_params {
    int64_t most;
};

static const struct setting roll_settings[] = {
    { "most", SETTING_INT, offsetof(struct roll_params, most), "3", 1, 100, NULL, "pixels" },
    SETTINGS_END,
};

static int roll_check(const void *params, struct plan_size *size, struct problem *why)
{
    (void)params, (void)size, (void)why;
    return 0;
}

static int roll_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct roll_params *p = params;
    (void)why;
    const uint64_t by = draw_below(draw, (uint64_t)p->most + 1);
    if (by)
        plan_act(plan, draw)->v[0] = (double)by;
    return 0;
}

static void roll_pixels(const struct plan_drawn *drawn, struct pixels *pixels)
{
    const size_t width = (size_t)pixels->width, n = width * (size_t)pixels->height, by = (size_t)drawn->v[0];
    for (size_t c = 0; c < 3; c++) {
        memcpy(pixels->spare + c * n, pixels->plane[c], n);
        for (size_t i = 0; i < n; i++)
            pixels->plane[c][i / width * width + (i + by) % width] = pixels->spare[c * n + i];
    }
}

static const struct transform_ops transform_roll = {
    .name = "roll",
    .help = "moves the picture to the right, around the edge",
    .stage = TRANSFORM_COLOUR,
    .settings = roll_settings,
    .params_size = sizeof(struct roll_params),
    .check = roll_check,
    .plan = roll_plan,
    .pixels = roll_pixels,
    .spare = true,
};

/* ---- lists -------------------------------------------------------------------------------------------------------------- */

enum { WIDTH = 23, HEIGHT = 17, PIXELS = WIDTH * HEIGHT };

static uint8_t picture[PIXELS * 3];

static int next_row(void *from, const uint8_t **row, struct problem *why)
{
    const uint8_t **at = from;
    (void)why;
    *row = *at;
    *at += (size_t)WIDTH * 3;
    return 0;
}

/* A transform with its defaults, and size: [HEIGHT, WIDTH] or mean and std of 0.5 where it wants them. */
static void add(struct field *field, const struct transform_ops *ops)
{
    static const char *const size[] = { "17", "23" }, *const half[] = { "0.5" };
    struct transform_use *use = &field->transforms[field->n_transforms++];
    void *params = calloc(1, ops->params_size + 1);
    for (const struct setting *row = ops->settings; row->name; row++) {
        const bool sizes = strcmp(row->name, "size") == 0;
        if (row->initial)
            assert_int_equal(setting_set_default(row, params, ".", NULL), 0);
        else
            assert_int_equal(setting_set(row, params, ".", sizes ? size : half, sizes ? 2 : 1, NULL), 0);
    }
    *use = (struct transform_use){ .ops = ops, .params = params };
    for (uint32_t i = 0; i + 1 < field->n_transforms; i++)
        use->ordinal += field->transforms[i].ops == ops;
}

static void drop(struct field *field)
{
    for (uint32_t i = 0; i < field->n_transforms; i++)
        free((void *)field->transforms[i].params);
}

static void run(const struct field *field, const struct row_key *key, enum dtype dtype, enum layout layout, void *out)
{
    const struct chain_shape shape = { WIDTH, HEIGHT, dtype, layout, 0 };
    const uint8_t *at = picture;
    struct chain *chain;
    struct rect stored;
    assert_int_equal(chain_create(&chain, field, &shape), 0);
    assert_int_equal(chain_plan(chain, field, key, WIDTH, HEIGHT, kernel_turns[1], &(int32_t){ 1 }, &stored, NULL), 0);
    assert_true(stored.width == WIDTH && stored.height == HEIGHT);
    assert_int_equal(chain_run(chain, next_row, &at, out, NULL), 0);
    chain_destroy(chain);
}

/* Ours runs, twice in one list with draws of its own each, and what is drawn is what was done. */
static void test_own_transform(void **state)
{
    static uint8_t out[PIXELS * 3];
    struct field field = { .name = "x" };
    struct problem why;
    struct plan_size size = { .whole_numbers = true };
    int apart = 0;
    add(&field, &transform_resize);
    add(&field, &transform_roll);
    add(&field, &transform_roll);
    assert_int_equal(chain_check_all(&field, &size, &why), 0);
    for (uint64_t id = 0; id < 50; id++) {
        const struct row_key key = { .seed = 5, .id = id };
        struct draw first, second;
        draw_init(&first, &key, "roll", 0);
        draw_init(&second, &key, "roll", 1);
        const size_t one = draw_below(&first, 4), two = draw_below(&second, 4);
        apart += one != two;
        run(&field, &key, DTYPE_U8, LAYOUT_HWC, out);
        for (size_t y = 0; y < HEIGHT; y++)
            for (size_t x = 0; x < WIDTH; x++)
                assert_memory_equal(out + (y * WIDTH + (x + one + two) % WIDTH) * 3, picture + (y * WIDTH + x) * 3, 3);
    }
    assert_true(apart > 20);
    drop(&field);
}

/* By way of the planes a row is what the kernel alone makes of whole numbers, in every type and layout. */
static void test_conversion(void **state)
{
    static const enum dtype dtypes[] = { DTYPE_U8, DTYPE_F16, DTYPE_BF16, DTYPE_F32 };
    static uint8_t direct[PIXELS * 3 * 4], planes[PIXELS * 3 * 4];
    const struct row_key key = { .seed = 1 };
    for (size_t i = 0; i < 16; i++) {
        const enum dtype dtype = dtypes[i / 4];
        const enum layout layout = i & 1 ? LAYOUT_HWC : LAYOUT_CHW;
        struct field plain = { .name = "x" }, coloured = { .name = "x" };
        add(&plain, &transform_resize);
        add(&coloured, &transform_resize);
        add(&coloured, &transform_roll);
        *(int64_t *)coloured.transforms[1].params = 0; /* moves nothing */
        if (i & 2 && dtype != DTYPE_U8) {
            add(&plain, &transform_normalize);
            add(&coloured, &transform_normalize);
        }
        memset(planes, 0xa5, sizeof planes);
        run(&plain, &key, dtype, layout, direct);
        run(&coloured, &key, dtype, layout, planes);
        assert_memory_equal(direct, planes, (size_t)PIXELS * 3 * dtype_table[dtype].size);
        drop(&plain);
        drop(&coloured);
    }
}

static void test_memory_is_told(void **state)
{
    const struct chain_shape shape = { WIDTH, HEIGHT, DTYPE_F32, LAYOUT_CHW, 0 };
    struct field plain = { .name = "x" }, coloured = { .name = "x" };
    add(&plain, &transform_resize);
    add(&coloured, &transform_resize);
    add(&coloured, &transform_roll);
    const size_t more = chain_bytes(&coloured, &shape) - chain_bytes(&plain, &shape);
    assert_in_range(more, 6 * PIXELS + 3 * 256 * 4, 6 * PIXELS + 3 * 256 * 4 + 64);
    drop(&plain);
    drop(&coloured);
}

/* Where each may stand. */
static void test_stages(void **state)
{
    static const struct {
        const struct transform_ops *list[3];
        const char *words; /* NULL: it may */
    } cases[] = {
        { { &transform_resize, &transform_roll, &transform_horizontal_flip }, NULL },
        { { &transform_resize, &transform_roll, &transform_normalize }, NULL },
        { { &transform_resize, &transform_normalize, &transform_horizontal_flip }, NULL },
        { { &transform_roll, &transform_resize }, "resize: roll before it works on the picture in its last size" },
        { { &transform_resize, &transform_normalize, &transform_roll }, "put roll before normalize" },
        { { &transform_resize, &transform_random_erasing, &transform_normalize },
          "normalize: random_erasing before it works on" },
        { { &transform_resize, &transform_random_erasing, &transform_horizontal_flip },
          "put horizontal_flip before random_erasing" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct field field = { .name = "x" };
        struct plan_size size = { .std = { 1, 1, 1 } };
        struct problem why = { "" };
        for (size_t k = 0; k < 3 && cases[i].list[k]; k++)
            add(&field, cases[i].list[k]);
        assert_int_equal(chain_check_all(&field, &size, &why) == 0, !cases[i].words);
        if (cases[i].words && !strstr(why.text, cases[i].words))
            fail_msg("'%s' does not say '%s'", why.text, cases[i].words);
        drop(&field);
    }
}

static void test_grey(void **state)
{
    for (int r = 0; r < 256; r++)
        for (int g = 0; g < 256; g++)
            for (int b = 0; b < 256; b++)
                if (colour_grey((uint8_t)r, (uint8_t)g, (uint8_t)b) != (2989 * r + 5870 * g + 1140 * b) / 10000)
                    fail_msg("%d %d %d", r, g, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_transform), cmocka_unit_test(test_conversion), cmocka_unit_test(test_memory_is_told),
        cmocka_unit_test(test_stages),        cmocka_unit_test(test_grey),
    };
    for (size_t i = 0; i < sizeof picture; i++)
        picture[i] = (uint8_t)(i * i / 7 + i * 31);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
