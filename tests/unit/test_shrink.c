/* SPDX-License-Identifier: MIT */
/* JPEGs that are decoded shrunk: crops equal to a whole shrunk decode by libjpeg, the crop's place and size exact to a fraction of
 * a pixel whichever way up the picture is, and how far a plan shrinks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jpeglib.h>

#include "decode/decode.h"
#include "decode/jpeg.h"
#include "transform/shrink.h"

extern const struct decode_ops decode_image;
extern const struct picture_ops picture_jpeg;
extern const struct transform_ops transform_random_resized_crop;

static uint64_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

struct kind {
    const char *name;
    int colours, h, v;
    bool progressive;
    unsigned restart;
};

static const struct kind kinds[] = {
    { "4:4:4", 3, 1, 1, false, 0 },      { "4:2:0", 3, 2, 2, false, 0 },    { "4:2:2", 3, 2, 1, false, 0 },
    { "4:4:0", 3, 1, 2, false, 0 },      { "4:1:1", 3, 4, 1, false, 0 },    { "4:1:0", 3, 4, 2, false, 0 },
    { "grey", 1, 1, 1, false, 0 },       { "grey 2x2", 1, 2, 2, false, 0 }, { "CMYK", 4, 1, 1, false, 0 },
    { "progressive", 3, 2, 2, true, 0 }, { "restart", 3, 2, 2, false, 3 },
};
#define KINDS (sizeof kinds / sizeof *kinds)

struct file {
    unsigned char *bytes;
    unsigned long size;
};

/* EXIF's orientation, as the only thing of APP1. */
static void write_orientation(struct jpeg_compress_struct *jpeg, int orientation)
{
    unsigned char exif[] = { 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0 };
    exif[25] = (unsigned char)orientation;
    jpeg_write_marker(jpeg, JPEG_APP0 + 1, exif, sizeof exif);
}

/* Waves `length` pixels long in both directions; noise on top of them. */
static struct file make_jpeg(const struct kind *kind, int width, int height, double length, uint32_t noise, int orientation)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct file file = { NULL, 0 };
    unsigned char *row = malloc((size_t)width * 4);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &file.bytes, &file.size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = kind->colours;
    jpeg.in_color_space = kind->colours == 1 ? JCS_GRAYSCALE : kind->colours == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 95, TRUE);
    jpeg.comp_info[0].h_samp_factor = kind->h;
    jpeg.comp_info[0].v_samp_factor = kind->v;
    jpeg.restart_interval = kind->restart;
    if (kind->progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    write_orientation(&jpeg, orientation);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < kind->colours; c++)
                row[x * kind->colours + c] =
                    (unsigned char)(128 + 50 * sin(x * 6.2832 / length + c) + 50 * sin(y * 6.2832 / length - c) +
                                    (noise ? (int)below(noise) - (int)noise / 2 : 0));
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    return file;
}

/* The whole picture at 1 / by of its size, by libjpeg alone; inks as they are. */
static uint8_t *decode_whole(const struct file *file, unsigned by, int *width, int *height)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file->bytes, file->size);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg.scale_num = 1;
    jpeg.scale_denom = by;
    jpeg_start_decompress(&jpeg);
    *width = (int)jpeg.output_width;
    *height = (int)jpeg.output_height;
    uint8_t *pixels = malloc((size_t)jpeg.output_width * jpeg.output_height * 3);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = pixels + (size_t)jpeg.output_scanline * jpeg.output_width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return pixels;
}

static void check_crop(struct jpeg_reader *reader, const struct kind *kind, const struct file *file, int by)
{
    int width, height;
    uint8_t *whole = decode_whole(file, (unsigned)by, &width, &height);
    for (int i = 0; i < 12; i++) {
        const int w = i ? 1 + (int)below((uint32_t)width) : width, h = i ? 1 + (int)below((uint32_t)height) : height;
        const int x = (int)below((uint32_t)(width - w + 1)), y = (int)below((uint32_t)(height - h + 1));
        struct picture_head head;
        struct problem why = { "" };
        assert_int_equal(jpeg_reader_open(reader, file->bytes, file->size, &head, &why), 0);
        jpeg_reader_shrink(reader, by);
        if (jpeg_reader_crop(reader, x, y, w, h, &why) < 0)
            fail_msg("%s by %d: %s", kind->name, by, why.text);
        for (int r = 0; r < h; r++) {
            const uint8_t *row;
            assert_int_equal(jpeg_reader_row(reader, &row, &why), 0);
            if (memcmp(row, whole + ((size_t)(y + r) * (size_t)width + (size_t)x) * 3, (size_t)w * 3) != 0)
                fail_msg("%s by %d, %dx%d: crop %d,%d %dx%d differs in row %d", kind->name, by, width, height, x, y, w, h, r);
        }
        jpeg_reader_close(reader);
        assert_int_equal(jpeg_reader_open(reader, file->bytes, file->size, &head, &why), 0);
        jpeg_reader_shrink(reader, by);
        assert_true(jpeg_reader_crop(reader, x, y, width - x + 1, h, &why) < 0); /* a column too many */
        jpeg_reader_close(reader);
    }
    free(whole);
}

static void test_crop_equals_whole(void **state)
{
    static const struct picture_limits no_limits = { .max_pixels = UINT64_MAX, .max_kept = UINT64_MAX };
    struct jpeg_reader *reader;
    assert_int_equal(jpeg_reader_create(&reader, &no_limits), 0);
    for (size_t k = 0; k < KINDS; k++)
        for (int i = 0; i < 24 && kinds[k].colours != 4 && picture_jpeg.shrinks(kinds[k].h, kinds[k].v) > 1; i++) {
            struct file file = make_jpeg(&kinds[k], 1 + (int)below(300), 1 + (int)below(300), 30, 120, 1);
            check_crop(reader, &kinds[k], &file, 2 << i % 3);
            free(file.bytes);
        }
    jpeg_reader_destroy(reader);
}

static void *params_of(const struct setting *rows, size_t size, const char *name, const char *value)
{
    void *params = calloc(1, size + 1);
    for (const struct setting *row = rows; row->name; row++) {
        if (row->initial)
            assert_int_equal(setting_set_default(row, params, ".", NULL), 0);
        if (strcmp(row->name, name) == 0)
            assert_int_equal(setting_set(row, params, ".", &value, 1, NULL), 0);
    }
    return params;
}

struct decoder {
    struct field field;
    void *state, *codec;
};

static void decoder_init(struct decoder *decoder, const char *scaled)
{
    static const struct sample_part part = { .name = "image", .kind = PART_ENCODED };
    const char *yes = "yes";
    struct field *field = &decoder->field;
    *decoder = (struct decoder){ .field = { .decode = &decode_image, .dtype = DTYPE_F32, .layout = LAYOUT_HWC } };
    field->decode_params = params_of(decode_image.settings, decode_image.params_size, "scaled_decode", scaled);
    assert_int_equal(setting_set(decode_image.settings, (void *)field->decode_params, ".", &yes, 1, NULL), 0); /* orientation */
    field->transforms[0].ops = &transform_random_resized_crop;
    field->transforms[0].params =
        params_of(transform_random_resized_crop.settings, transform_random_resized_crop.params_size, "size", "40");
    field->n_transforms = 1;
    assert_int_equal(decode_image.prepare(field, &part, NULL), 0);
    assert_int_equal(decode_image.worker_open(&decoder->state, field), 0);
    decoder->codec = aligned_alloc(64, decode_image.codec_bytes(field));
}

static void decoder_row(struct decoder *decoder, const struct file *file, uint64_t id, float *row)
{
    const struct sample_value value = { .data = file->bytes, .size = file->size };
    struct problem why;
    if (decode_image.row(decoder->state, decoder->codec, &decoder->field, &value, &(struct row_key){ .seed = 5, .id = id }, row,
                         &why) < 0)
        fail_msg("%s", why.text);
}

static void decoder_fini(struct decoder *decoder)
{
    decode_image.worker_close(decoder->state);
    free(decoder->codec);
    free((void *)decoder->field.transforms[0].params);
    free((void *)decoder->field.decode_params);
}

enum { SIDE = 40, VALUES = SIDE * SIDE * 3 };

static double light(const float *row, int x, int y)
{
    const float *pixel = row + (y * SIDE + x) * 3;
    return 255 * (0.299 * (double)pixel[0] + 0.587 * (double)pixel[1] + 0.114 * (double)pixel[2]);
}

/* How far the picture has moved along one axis, in pixels of the row, seen in one half of it: by least squares, from how it
 * differs and how it rises. */
static double moved(const float *wanted, const float *got, bool down, bool second)
{
    double product = 0, square = 0;
    for (int a = 1; a < SIDE - 1; a++)
        for (int b = 1 + (second ? SIDE / 2 : 0); b < (second ? SIDE - 1 : SIDE / 2); b++) {
            const int x = down ? a : b, y = down ? b : a, dx = !down, dy = down;
            const double rise = (light(wanted, x + dx, y + dy) - light(wanted, x - dx, y - dy)) / 2;
            product += rise * (light(got, x, y) - light(wanted, x, y));
            square += rise * rise;
        }
    return product / square;
}

static double mean_difference(const float *wanted, const float *got)
{
    double sum = 0;
    for (int i = 0; i < VALUES; i++)
        sum += fabs((double)(wanted[i] - got[i])) * 255;
    return sum / VALUES;
}

/* Against a whole decode: nowhere moved by 0.04 pixels of what comes out, of which a pixel of the shrunk picture is up to a half,
 * whichever part and orientation. */
static void test_place(void **state)
{
    struct decoder off, shrunk;
    float *wanted = malloc(VALUES * sizeof *wanted), *got = malloc(VALUES * sizeof *got);
    uint32_t others = 0;
    decoder_init(&off, "off");
    decoder_init(&shrunk, "auto");
    for (uint64_t id = 0; id < 96; id++) {
        const struct kind *kind = &kinds[id % KINDS];
        struct file file = make_jpeg(kind, 700 + (int)below(300), 700 + (int)below(300), 100, 0, 1 + (int)(id % 8));
        decoder_row(&off, &file, id, wanted);
        decoder_row(&shrunk, &file, id, got);
        if (kind->h == 4)
            assert_memory_equal(got, wanted, VALUES * sizeof *got);
        others += memcmp(wanted, got, VALUES * sizeof *got) != 0;
        for (int i = 0; i < 4; i++)
            if (fabs(moved(wanted, got, i & 1, i & 2)) > 0.04)
                fail_msg("%s, orientation %d, id %d: moved %s by %.3f in half %d", kind->name, 1 + (int)(id % 8), (int)id,
                         i & 1 ? "down" : "across", moved(wanted, got, i & 1, i & 2), i / 2);
        if (mean_difference(wanted, got) > 2)
            fail_msg("%s, id %d: differs by %.2f", kind->name, (int)id, mean_difference(wanted, got));
        free(file.bytes);
    }
    assert_in_range(others, 60, 84); /* small crops are not shrunk, nor are 4:1:1 and 4:1:0 */
    decoder_fini(&off);
    decoder_fini(&shrunk);
    free(wanted);
    free(got);
}

static int32_t shrunk_by(int32_t crop, int32_t to, enum filter filter, bool antialias, int32_t most)
{
    struct plan plan;
    plan_init(&plan, 2001, 2001);
    plan_crop(&plan, (struct rect){ 3, 5, crop, crop });
    plan_resize(&plan, to, to, filter, antialias);
    const struct plan before = plan;
    const int32_t by = plan_shrink(&plan, kernel_turns[2], most);
    if (by == 1) {
        assert_memory_equal(&plan, &before, sizeof plan);
        return by;
    }
    /* from the right: 3 + crop of 2001 pixels */
    const double end = (2001 + by - 1) / by, from = end - (2001 - 3) / (double)by;
    assert_true(plan.shrunk && plan.width == (int32_t)end && plan.height == (int32_t)end);
    assert_true(plan.crop.x + plan.across.from == from && plan.across.length == crop / (double)by);
    assert_true(plan.crop.y + plan.down.from == 5 / (double)by && plan.down.length == crop / (double)by);
    assert_true(plan.across.from >= 0 && plan.across.from < 1 && plan.across.from + plan.across.length <= plan.crop.width);
    assert_true(plan.crop.x >= 0 && plan.crop.x + plan.crop.width <= plan.width);
    return by;
}

static void test_how_far(void **state)
{
    assert_int_equal(shrunk_by(399, 100, FILTER_BILINEAR, true, 8), 1);
    assert_int_equal(shrunk_by(400, 100, FILTER_BILINEAR, true, 8), 2);
    assert_int_equal(shrunk_by(799, 100, FILTER_BICUBIC, true, 8), 2);
    assert_int_equal(shrunk_by(800, 100, FILTER_BICUBIC, true, 8), 4);
    assert_int_equal(shrunk_by(1600, 100, FILTER_BILINEAR, true, 8), 8);
    assert_int_equal(shrunk_by(1990, 10, FILTER_BILINEAR, true, 8), 8);
    assert_int_equal(shrunk_by(1990, 10, FILTER_BILINEAR, true, 2), 2);
    assert_int_equal(shrunk_by(1990, 10, FILTER_BILINEAR, true, 1), 1);
    assert_int_equal(shrunk_by(1990, 10, FILTER_BILINEAR, false, 8), 1);
    assert_int_equal(shrunk_by(1990, 10, FILTER_NEAREST, true, 8), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crop_equals_whole),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_how_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
