/* SPDX-License-Identifier: MIT */
/* Reduced pictures (daemon/decode/reduced.c): what is kept has the pixels that `resize` gives, for sizes and shapes of every kind, and
 * rows made of it are those of a picture of that size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jpeglib.h>

#include "decode/decode.h"
#include "decode/reduced.h"

extern const struct decode_ops decode_image;
extern const struct transform_ops transform_center_crop, transform_resize, transform_random_resized_crop;

static struct problem why;
static const char *interpolation = "bilinear"; /* of fields that are made, where their transform has it */

static struct sample_value make_jpeg(int width, int height)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, *row = malloc((size_t)width * 3);
    unsigned long size = 0;
    uint32_t noise = (uint32_t)(width * 31 + height);

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width * 3; x++) {
            noise = noise * 1664525 + 1013904223;
            row[x] = (unsigned char)(x / 5 + y * 2 + (int)(noise >> 27));
        }
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    return (struct sample_value){ .data = bytes, .size = size };
}

/* A field of pictures with one transform, given as words. */
struct made {
    struct field field;
    void *decode_params, *params, *state, *codec;
};

static void set_words(const struct setting *rows, void *params, const char *name, const char *const *words, uint32_t n)
{
    for (const struct setting *row = rows; row->name; row++)
        if (strcmp(row->name, "interpolation") == 0)
            assert_int_equal(setting_set(row, params, NULL, &interpolation, 1, &why), 0);
        else
            assert_int_equal(name && strcmp(row->name, name) == 0 ? setting_set(row, params, NULL, words, n, &why)
                                                                  : setting_set_default(row, params, NULL, &why),
                             0);
}

static void make_field(struct made *made, int32_t side, const struct transform_ops *ops, const char *const *words, uint32_t n)
{
    const struct sample_part part = { .name = "image", .kind = PART_ENCODED };

    memset(made, 0, sizeof(*made));
    made->decode_params = calloc(1, decode_image.params_size);
    made->params = calloc(1, ops->params_size);
    set_words(decode_image.settings, made->decode_params, NULL, NULL, 0);
    set_words(ops->settings, made->params, "size", words, n);
    made->field = (struct field){ .name = "image",
                                  .decode = &decode_image,
                                  .decode_params = made->decode_params,
                                  .n_transforms = 1,
                                  .transforms = { { ops, made->params, 0 } },
                                  .dtype = DTYPE_U8,
                                  .layout = LAYOUT_HWC };
    assert_int_equal(decode_image.prepare(&made->field, &part, &why), 0);
    made->field.side = side;
    assert_int_equal(decode_image.worker_open(&made->state, &made->field), 0);
    made->codec = aligned_alloc(64, decode_image.codec_bytes(&made->field));
}

static void free_field(struct made *made)
{
    decode_image.worker_close(made->state);
    setting_release(made->field.transforms[0].ops->settings, made->params);
    setting_release(decode_image.settings, made->decode_params);
    free(made->params);
    free(made->decode_params);
    free(made->codec);
}

static uint8_t *make_row(struct made *made, const struct sample_value *value, uint64_t id)
{
    const struct row_key key = { .seed = 5, .id = id };
    uint8_t *row = malloc(made->field.row_bytes);

    assert_int_equal(decode_image.row(made->state, made->codec, &made->field, value, &key, row, &why), 0);
    return row;
}

static void expect_pixels(int width, int height, int32_t side)
{
    const char *const small[] = { "16", "16" };
    struct sample_value value = make_jpeg(width, height), reduced;
    const int shorter = width < height ? width : height, longer = width < height ? height : width;
    const int to = shorter < side ? shorter : side, other = (int)((double)longer * to / shorter + 0.5);
    char words[2][12];
    const char *const sides[] = { words[0], words[1] };
    struct made keeps, resizes;
    struct picture_head head;
    uint16_t kept[2];
    uint8_t *row;

    make_field(&keeps, side, &transform_resize, small, 2);
    assert_int_equal(decode_image.reduce(keeps.state, keeps.codec, &keeps.field, &value, &reduced, &why), 0);
    assert_true(reduced.reduced);
    assert_true(reduced.size <= reduced_most(side));
    memcpy(kept, reduced.data, sizeof(kept));
    assert_int_equal(kept[0], width < height ? to : other);
    assert_int_equal(kept[1], width < height ? other : to);
    assert_int_equal(picture_reduced.open(&(struct reduced_reader){ 0 },
                                          &(struct picture_file){ reduced.data, reduced.size, NULL, 0 }, &head, &why),
                     0);
    snprintf(words[0], sizeof(words[0]), "%u", kept[1]);
    snprintf(words[1], sizeof(words[1]), "%u", kept[0]);
    make_field(&resizes, 0, &transform_resize, sides, 2);
    row = make_row(&resizes, &value, 0);
    assert_int_equal(resizes.field.row_bytes, reduced.size - 16);
    assert_memory_equal(row, (const uint8_t *)reduced.data + 16, reduced.size - 16);
    free(row);
    free_field(&keeps);
    free_field(&resizes);
    free((void *)value.data);
}

static void pixels(void **state)
{
    static const int sizes[][3] = { { 500, 375, 256 },  { 375, 500, 256 }, { 500, 375, 100 }, { 1000, 64, 64 },
                                    { 64, 1024, 64 },   { 1024, 64, 16 },  { 33, 31, 64 },    { 1, 16, 16 },
                                    { 17, 17, 16 },     { 4000, 250, 16 }, { 250, 4000, 17 }, { 2001, 1333, 333 },
                                    { 300, 4800, 299 }, { 64, 64, 64 },    { 65, 64, 64 },    { 3000, 3000, 16 } };
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        expect_pixels(sizes[i][0], sizes[i][1], sizes[i][2]);
}

/* Numbers that are labels are not mixed: the nearest pixel, of a mask as of its reduced form. */
static void masks(void **state)
{
    (void)state;
    interpolation = "nearest";
    expect_pixels(500, 375, 256);
    expect_pixels(64, 1000, 40);
    interpolation = "bilinear";
}

/* Too long: used as it is. */
static void long_ones(void **state)
{
    const char *const small[] = { "16" };
    static const int sizes[][2] = { { 1025, 64 }, { 20, 321 }, { 3000, 1 } };
    struct sample_value reduced;
    struct made made;

    (void)state;
    make_field(&made, 32, &transform_random_resized_crop, small, 1);
    for (size_t i = 0; i < 3; i++) {
        struct sample_value value = make_jpeg(sizes[i][0], sizes[i][1]);
        uint8_t *a, *b;

        assert_int_equal(decode_image.reduce(made.state, made.codec, &made.field, &value, &reduced, &why), 0);
        assert_true(!reduced.reduced && reduced.data == value.data && reduced.size == value.size);
        a = make_row(&made, &value, i);
        b = make_row(&made, &reduced, i);
        assert_memory_equal(a, b, made.field.row_bytes);
        free(a);
        free(b);
        free((void *)value.data);
    }
    free_field(&made);
}

/* A row from what is kept is the same wherever it lies, and not the same for every draw. */
static void rows(void **state)
{
    const char *const crop[] = { "48" };
    struct sample_value value = make_jpeg(640, 480), reduced, copy;
    struct made made;
    unsigned differ = 0;

    (void)state;
    make_field(&made, 128, &transform_random_resized_crop, crop, 1);
    assert_int_equal(decode_image.reduce(made.state, made.codec, &made.field, &value, &reduced, &why), 0);
    copy = reduced;
    copy.data = malloc(reduced.size);
    memcpy((void *)copy.data, reduced.data, reduced.size);
    for (uint64_t id = 0; id < 50; id++) {
        uint8_t *a = make_row(&made, &reduced, id), *b = make_row(&made, &copy, id), *c = make_row(&made, &copy, id + 1);

        assert_memory_equal(a, b, made.field.row_bytes);
        differ += memcmp(a, c, made.field.row_bytes) != 0;
        free(a);
        free(b);
        free(c);
    }
    assert_int_equal(differ, 50);
    copy.size--;
    assert_int_equal(decode_image.row(made.state, made.codec, &made.field, &copy, &(struct row_key){ 0 }, &differ, &why),
                     -EBADMSG);
    free((void *)copy.data);
    free((void *)value.data);
    free_field(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pixels), cmocka_unit_test(masks), cmocka_unit_test(long_ones),
                                        cmocka_unit_test(rows) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
