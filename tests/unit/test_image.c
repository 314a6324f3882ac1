/* SPDX-License-Identifier: MIT */
/* The image and raw decoders: crops equal to whole decodes for every kind of JPEG, inks, orientations, purity, and bad bytes
 * of every kind. The JPEGs are made here with libjpeg, and decoded whole with plain libjpeg calls to compare. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jpeglib.h>

#include "decode/decode.h"
#include "decode/jpeg.h"
#include "half.h"
#include "transform/kernel.h"

extern const struct decode_ops decode_image, decode_raw;
extern const struct transform_ops transform_center_crop, transform_horizontal_flip, transform_normalize,
    transform_random_resized_crop, transform_resize;

static uint64_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

struct recipe {
    const char *name;
    int colours, h, v; /* sampling of the first component */
    bool progressive, apart, ycck, arithmetic;
    unsigned restart;
    int scans; /* of a progressive picture that stops early; 0: all */
    bool many; /* a scan for each coefficient */
};

struct file {
    unsigned char *bytes;
    unsigned long size;
};

static struct file make_jpeg(const struct recipe *recipe, int width, int height, int quality)
{
    static const jpeg_scan_info apart[] = { { 1, { 0 }, 0, 63, 0, 0 }, { 1, { 2 }, 0, 63, 0, 0 }, { 1, { 1 }, 0, 63, 0, 0 } };
    static const jpeg_scan_info early[] = { { 3, { 0, 1, 2 }, 0, 0, 0, 1 }, { 1, { 0 }, 1, 5, 0, 2 } };
    static jpeg_scan_info many[1 + 63 * 3] = { { 3, { 0, 1, 2 }, 0, 0, 0, 0 } };
    for (int i = 0; i < 63 * 3; i++)
        many[1 + i] = (jpeg_scan_info){ 1, { i / 63 }, i % 63 + 1, i % 63 + 1, 0, 0 };
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct file file = { NULL, 0 };
    unsigned char *row = malloc((size_t)width * 4);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &file.bytes, &file.size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = recipe->colours;
    jpeg.in_color_space = recipe->colours == 1 ? JCS_GRAYSCALE : recipe->colours == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    if (recipe->ycck)
        jpeg_set_colorspace(&jpeg, JCS_YCCK);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg.comp_info[0].h_samp_factor = recipe->h;
    jpeg.comp_info[0].v_samp_factor = recipe->v;
    if (recipe->ycck)
        jpeg.comp_info[3] = (jpeg_component_info){ .component_id = 4, .h_samp_factor = recipe->h, .v_samp_factor = recipe->v };
    jpeg.restart_interval = recipe->restart;
    jpeg.arith_code = recipe->arithmetic;
    if (recipe->progressive)
        jpeg_simple_progression(&jpeg);
    if (recipe->apart || recipe->scans) {
        jpeg.scan_info = recipe->apart ? apart : early;
        jpeg.num_scans = recipe->apart ? 3 : recipe->scans;
    }
    if (recipe->many) {
        jpeg.scan_info = many;
        jpeg.num_scans = 1 + 63 * 3;
    }
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < recipe->colours; c++)
                row[x * recipe->colours + c] =
                    (unsigned char)(((x * (c + 2) + y * 3) / 4 % 256 + (int)below(60) + ((x / 9 ^ y / 7) & 1) * 90) & 255);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    return file;
}

/* The whole picture by libjpeg alone. */
static uint8_t *decode_whole(const struct file *file, int *width, int *height)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file->bytes, file->size);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = jpeg.num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&jpeg);
    const size_t n = (size_t)jpeg.output_width, parts = (size_t)jpeg.output_components;
    uint8_t *pixels = malloc(n * jpeg.output_height * 3), *row = malloc(n * parts);
    *width = (int)jpeg.output_width;
    *height = (int)jpeg.output_height;
    for (size_t y = 0; y < jpeg.output_height; y++) {
        jpeg_read_scanlines(&jpeg, &row, 1);
        for (size_t x = 0; x < n; x++)
            for (size_t c = 0; c < 3; c++) {
                const double value = row[x * parts + c], black = parts == 4 ? row[x * parts + 3] : 255;
                /* no ink is 255: black minus the ink's share of it, each rounded half up */
                const int ink = (int)((255 - value) * black / 255 + 0.5);
                pixels[(y * n + x) * 3 + c] = (uint8_t)(parts == 4 ? (int)black - ink : (int)value);
            }
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    free(row);
    return pixels;
}

static const struct recipe recipes[] = {
    { "4:4:4", 3, 1, 1 },
    { "4:2:0", 3, 2, 2 },
    { "4:2:2", 3, 2, 1 },
    { "4:4:0", 3, 1, 2 },
    { "4:1:1", 3, 4, 1 },
    { "4:1:0", 3, 4, 2 },
    { "grey", 1, 1, 1 },
    { "grey 2x2", 1, 2, 2 },
    { "progressive 4:2:0", 3, 2, 2, .progressive = true },
    { "progressive 4:4:4", 3, 1, 1, .progressive = true },
    { "progressive grey", 1, 1, 1, .progressive = true },
    { "progressive 4:4:0", 3, 1, 2, .progressive = true },
    { "scans apart 4:2:0", 3, 2, 2, .apart = true },
    { "restart 4:2:0", 3, 2, 2, .restart = 3 },
    { "restart 4:4:4", 3, 1, 1, .restart = 1 },
    { "stops early 1", 3, 2, 2, .scans = 1, .progressive = true },
    { "stops early 2", 3, 1, 1, .scans = 2, .progressive = true },
    { "CMYK", 4, 1, 1 },
    { "CMYK 2x2", 4, 2, 2 },
    { "YCCK", 4, 1, 1, .ycck = true },
    { "YCCK 2x2", 4, 2, 2, .ycck = true },
    { "progressive CMYK", 4, 1, 1, .progressive = true },
};
#define RECIPES (sizeof recipes / sizeof *recipes)

static const struct picture_limits no_limits = { .max_pixels = UINT64_MAX, .max_kept = UINT64_MAX };

static void check_crop(struct jpeg_reader *reader, const struct recipe *recipe, const struct file *file, const uint8_t *whole,
                       int width, int height, struct rect crop)
{
    struct picture_head head;
    struct problem why = { "" };
    if (jpeg_reader_open(reader, file->bytes, file->size, &head, &why) < 0 ||
        jpeg_reader_crop(reader, crop.x, crop.y, crop.width, crop.height, &why) < 0)
        fail_msg("%s: %s", recipe->name, why.text);
    assert_true(head.width == width && head.height == height);
    for (int y = 0; y < crop.height; y++) {
        const uint8_t *row, *expected = whole + ((size_t)(crop.y + y) * (size_t)width + (size_t)crop.x) * 3;
        assert_int_equal(jpeg_reader_row(reader, &row, &why), 0);
        for (int i = 0; i < crop.width * 3; i++)
            if (row[i] != expected[i])
                fail_msg("%s %dx%d crop %d,%d %dx%d: row %d byte %d is %d, not %d", recipe->name, width, height, crop.x, crop.y,
                         crop.width, crop.height, y, i, row[i], expected[i]);
    }
    jpeg_reader_close(reader);
}

static void test_crop_equals_whole(void **state)
{
    struct jpeg_reader *reader;
    assert_int_equal(jpeg_reader_create(&reader, &no_limits), 0);
    for (size_t r = 0; r < RECIPES; r++)
        for (int i = 0; i < 30; i++) {
            int width, height;
            struct file file =
                make_jpeg(&recipes[r], 1 + (int)below(i % 5 ? 140 : 40), 1 + (int)below(i % 4 ? 140 : 40), 40 + i * 2);
            uint8_t *whole = decode_whole(&file, &width, &height);
            check_crop(reader, &recipes[r], &file, whole, width, height, (struct rect){ 0, 0, width, height });
            for (int k = 0; k < 12; k++) {
                const int w = 1 + (int)below((uint32_t)(k % 3       ? width
                                                        : width < 9 ? width
                                                                    : 9)),
                          h = 1 + (int)below((uint32_t)height);
                const struct rect crop = { (int)below((uint32_t)(width - w + 1)), (int)below((uint32_t)(height - h + 1)), w, h };
                check_crop(reader, &recipes[r], &file, whole, width, height, crop);
            }
            free(whole);
            free(file.bytes);
        }
    jpeg_reader_destroy(reader);
}

/* The widest pictures of one scan decode in the memory that is planned for them (jpeg.h), whatever their sampling. */
static void test_widest(void **state)
{
    const struct picture_limits limits = { .max_pixels = UINT64_MAX, .max_kept = 1 };
    void *memory = aligned_alloc(64, JPEG_READER_ROWS);
    struct jpeg_reader *reader;
    size_t kept = 0;
    assert_int_equal(jpeg_reader_create(&reader, &limits), 0);
    assert_non_null(memory);
    for (size_t r = 0; r < RECIPES; r++) {
        struct file file = make_jpeg(&recipes[r], PICTURE_SIDE, 50, 60);
        struct picture_head head;
        struct problem why = { "" };
        const uint8_t *row;
        jpeg_reader_memory(reader, memory, JPEG_READER_ROWS);
        int rc = jpeg_reader_open(reader, file.bytes, file.size, &head, &why);
        kept += rc == -EFBIG; /* of several scans: kept whole, in memory of its own size */
        if (rc == 0)
            rc = jpeg_reader_crop(reader, 0, 0, PICTURE_SIDE, 50, &why);
        for (int y = 0; y < 50 && rc == 0; y++)
            rc = jpeg_reader_row(reader, &row, &why);
        if (rc < 0 && rc != -EFBIG)
            fail_msg("%s: %s", recipes[r].name, why.text);
        jpeg_reader_close(reader);
        free(file.bytes);
    }
    assert_true(kept < RECIPES / 2);
    jpeg_reader_destroy(reader);
    free(memory);
}

/* A field with the image decoder. Params have the defaults; words set others: "size=224/200". */
struct setup {
    struct field field;
    struct sample_part part;
    void *state, *codec;
};

static void *params_make(const struct setting *rows, size_t size, const char *words)
{
    char text[200], *rest = NULL;
    void *params = calloc(1, size + 1);
    snprintf(text, sizeof text, "%s", words);
    for (const struct setting *row = rows; row->name; row++)
        if (row->initial)
            assert_int_equal(setting_set_default(row, params, ".", NULL), 0);
    for (char *one = strtok_r(text, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        const char *list[8];
        uint32_t n = 0;
        char *inner = NULL, *value = strchr(one, '=');
        *value++ = 0;
        for (char *word = strtok_r(value, "/", &inner); word; word = strtok_r(NULL, "/", &inner))
            list[n++] = word;
        for (const struct setting *row = rows; row->name; row++)
            if (strcmp(row->name, one) == 0)
                assert_int_equal(setting_set(row, params, ".", list, n, NULL), 0);
    }
    return params;
}

static void add(struct setup *setup, const struct transform_ops *ops, const char *words)
{
    struct transform_use *use = &setup->field.transforms[setup->field.n_transforms++];
    *use = (struct transform_use){ .ops = ops, .params = params_make(ops->settings, ops->params_size, words) };
}

static void setup_init(struct setup *setup, enum dtype dtype, enum layout layout, const char *words)
{
    *setup = (struct setup){ .part = { .name = "image", .kind = PART_ENCODED } };
    setup->field = (struct field){ .name = "image", .decode = &decode_image, .dtype = dtype, .layout = layout };
    setup->field.decode_params = params_make(decode_image.settings, decode_image.params_size, words);
}

static void setup_open(struct setup *setup)
{
    struct problem why;
    if (decode_image.prepare(&setup->field, &setup->part, &why) < 0)
        fail_msg("%s", why.text);
    setup->codec = aligned_alloc(64, decode_image.codec_bytes(&setup->field));
    memset(setup->codec, 0xa5, decode_image.codec_bytes(&setup->field)); /* as full of others' pixels as it may be */
    assert_int_equal(decode_image.worker_open(&setup->state, &setup->field), 0);
}

static void setup_fini(struct setup *setup)
{
    decode_image.worker_close(setup->state);
    free(setup->codec);
    for (uint32_t i = 0; i < setup->field.n_transforms; i++)
        free((void *)setup->field.transforms[i].params);
    free((void *)setup->field.decode_params);
}

static int setup_row(struct setup *setup, const void *data, size_t size, uint64_t id, void *row, struct problem *why)
{
    const struct sample_value value = { data, size, &setup->part };
    return decode_image.row(setup->state, setup->codec, &setup->field, &value, &(struct row_key){ .seed = 3, .id = id }, row,
                            why);
}

static void test_purity(void **state)
{
    struct setup setup, other;
    setup_init(&setup, DTYPE_F16, LAYOUT_CHW, "");
    add(&setup, &transform_random_resized_crop, "size=64");
    add(&setup, &transform_horizontal_flip, "");
    add(&setup, &transform_normalize, "mean=0.485/0.456/0.406 std=0.229/0.224/0.225");
    setup_open(&setup);
    other = setup;
    assert_int_equal(decode_image.worker_open(&other.state, &other.field), 0);
    assert_int_equal(setup.field.row_bytes, 64 * 64 * 3 * 2);
    assert_true(setup.field.is_image && setup.field.ndim == 3 && setup.field.shape[0] == 3 && setup.field.std[0] == 0.229f);
    uint8_t *rows[3];
    for (int i = 0; i < 3; i++)
        rows[i] = malloc(setup.field.row_bytes);
    for (uint64_t id = 0; id < 40; id++) {
        struct file file = make_jpeg(&recipes[id % RECIPES], 90, 70, 80);
        assert_int_equal(setup_row(&setup, file.bytes, file.size, id, rows[0], NULL), 0);
        assert_int_equal(setup_row(&setup, file.bytes, file.size, id + 1000, rows[1], NULL), 0);
        setup_row(&setup, file.bytes, file.size / 2, id, rows[2], NULL); /* a failure in between changes nothing */
        assert_memory_not_equal(rows[0], rows[1], setup.field.row_bytes);
        assert_int_equal(setup_row(&setup, file.bytes, file.size, id, rows[1], NULL), 0);
        assert_int_equal(setup_row(&other, file.bytes, file.size, id, rows[2], NULL), 0);
        assert_memory_equal(rows[0], rows[1], setup.field.row_bytes);
        assert_memory_equal(rows[0], rows[2], setup.field.row_bytes);
        free(file.bytes);
    }
    for (int i = 0; i < 3; i++)
        free(rows[i]);
    decode_image.worker_close(other.state);
    setup_fini(&setup);
}

/* file with an APP1 segment of EXIF after its first marker. */
static struct file with_exif(const struct file *file, int orientation, bool big)
{
    uint8_t app1[] = { 0xff,
                       0xe1,
                       0,
                       34,
                       'E',
                       'x',
                       'i',
                       'f',
                       0,
                       0,
                       'I',
                       'I',
                       42,
                       0,
                       8,
                       0,
                       0,
                       0,
                       1,
                       0,
                       0x12,
                       1,
                       3,
                       0,
                       1,
                       0,
                       0,
                       0,
                       (uint8_t)orientation,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0 };
    static const uint8_t motorola[] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0 };
    if (big) {
        memcpy(app1 + 10, motorola, sizeof motorola);
        app1[29] = (uint8_t)orientation;
    }
    struct file out = { malloc(file->size + sizeof app1), file->size + sizeof app1 };
    memcpy(out.bytes, file->bytes, 2);
    memcpy(out.bytes + 2, app1, sizeof app1);
    memcpy(out.bytes + 2 + sizeof app1, file->bytes + 2, file->size - 2);
    return out;
}

struct whole {
    const uint8_t *at;
    size_t step;
};

static int pixels_next(void *from, const uint8_t **row, struct problem *why)
{
    struct whole *pixels = from;
    *row = pixels->at;
    pixels->at += pixels->step;
    return 0;
}

/* What the row must be: the whole picture turned upright pixel by pixel, as a viewer does, then the same plan. */
static void expected_row(const struct setup *setup, const uint8_t *whole, int width, int height, int orientation, void *row)
{
    const bool swap = orientation > 4;
    const int w = swap ? height : width, h = swap ? width : height;
    uint8_t *up = malloc((size_t)w * (size_t)h * 3);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int at[9][2] = { { 0 },
                                   { x, y },
                                   { width - 1 - x, y },
                                   { width - 1 - x, height - 1 - y },
                                   { x, height - 1 - y },
                                   { y, x },
                                   { y, height - 1 - x },
                                   { width - 1 - y, height - 1 - x },
                                   { width - 1 - y, x } };
            memcpy(up + (y * w + x) * 3, whole + (at[orientation][1] * width + at[orientation][0]) * 3, 3);
        }
    struct plan plan;
    struct draw draw;
    struct kernel *kernel;
    struct rect need;
    plan_init(&plan, w, h);
    draw_init(&draw, &(struct row_key){ .seed = 3, .id = 5 }, "random_resized_crop", 0);
    const struct transform_use *use = &setup->field.transforms[0];
    assert_int_equal(use->ops->plan(use->params, &draw, &plan, NULL), 0);
    assert_int_equal(kernel_create(&kernel, NULL, 40, 30, setup->field.dtype, setup->field.layout, 0), 0);
    assert_int_equal(kernel_plan(kernel, &plan, kernel_turns[1], &need, NULL), 0);
    struct whole pixels = { up + (need.y * w + need.x) * 3, (size_t)w * 3 };
    assert_int_equal(kernel_run(kernel, pixels_next, &pixels, row, NULL), 0);
    kernel_destroy(kernel);
    free(up);
}

static void test_orientation(void **state)
{
    for (int i = 0; i < 64; i++) {
        struct setup setup;
        const int orientation = 1 + i % 8;
        int width, height;
        setup_init(&setup, i & 8 ? DTYPE_U8 : DTYPE_F32, i & 16 ? LAYOUT_HWC : LAYOUT_CHW, "orientation=yes");
        add(&setup, &transform_random_resized_crop, i & 32 ? "size=30/40 interpolation=bicubic" : "size=30/40");
        setup_open(&setup);
        struct file file = make_jpeg(&recipes[i % RECIPES], 60 + (int)below(100), 60 + (int)below(100), 90);
        struct file turned = with_exif(&file, orientation, i & 32);
        assert_int_equal(jpeg_reader_orientation(turned.bytes, turned.size), orientation);
        assert_int_equal(jpeg_reader_orientation(file.bytes, file.size), 1);
        uint8_t *whole = decode_whole(&file, &width, &height), *row = malloc(setup.field.row_bytes),
                *wanted = malloc(setup.field.row_bytes);
        assert_int_equal(setup_row(&setup, turned.bytes, turned.size, 5, row, NULL), 0);
        expected_row(&setup, whole, width, height, orientation, wanted);
        assert_memory_equal(row, wanted, setup.field.row_bytes);
        free(whole);
        free(row);
        free(wanted);
        free(file.bytes);
        free(turned.bytes);
        setup_fini(&setup);
    }
}

/* The first visit fills the head in; so does one that finds another picture there; a broken file leaves it alone. */
static void test_heads(void **state)
{
    struct setup setup;
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    add(&setup, &transform_random_resized_crop, "size=30/40");
    setup_open(&setup);
    uint8_t *row = malloc(setup.field.row_bytes);
    uint64_t word = 0;
    for (size_t i = 0; i < 2 * RECIPES; i++) {
        const struct recipe *recipe = &recipes[i % RECIPES];
        const uint32_t width = 60 + below(100), height = 160 + below(100), orientation = 1 + (uint32_t)i % 8;
        struct file file = make_jpeg(recipe, (int)width, (int)height, 80), turned = with_exif(&file, (int)orientation, i & 1);
        const struct sample_value value = { turned.bytes, turned.size, &setup.part, &word };
        const struct row_key key = { .seed = 3, .id = i };
        assert_int_equal(decode_image.row(setup.state, setup.codec, &setup.field, &value, &key, row, NULL), 0);
        const struct sample_head head = sample_head_unpack(word);
        assert_true(head.width == width && head.height == height && head.orientation == orientation);
        assert_true(head.components == (uint32_t)recipe->colours && head.progressive == recipe->progressive);
        assert_true(head.across == (uint32_t)recipe->h && head.down == (uint32_t)recipe->v);
        assert_int_equal(sample_head_pack(&head), word);
        uint64_t before = word;
        assert_int_equal(decode_image.row(setup.state, setup.codec, &setup.field, &value, &key, row, NULL), 0);
        assert_int_equal(word, before);
        const struct sample_value broken = { turned.bytes, 40, &setup.part, &word };
        assert_true(decode_image.row(setup.state, setup.codec, &setup.field, &broken, &key, row, NULL) < 0);
        assert_int_equal(word, before);
        free(file.bytes);
        free(turned.bytes);
    }
    free(row);
    setup_fini(&setup);
}

static uint32_t draws;
static const struct transform_ops *counted_ops;

static int counted_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    draws++;
    return counted_ops->plan(params, draw, plan, why);
}

/* The crop is drawn from the kept head, before the decoder is opened; where that is not the file's, it is drawn again, and the
 * row is the same as without. */
static void test_kept_heads(void **state)
{
    struct setup setup;
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "orientation=yes");
    add(&setup, &transform_random_resized_crop, "size=30/40");
    setup_open(&setup);
    counted_ops = setup.field.transforms[0].ops;
    struct transform_ops counting = *counted_ops;
    counting.plan = counted_plan;
    setup.field.transforms[0].ops = &counting;
    uint8_t *row = malloc(setup.field.row_bytes), *wanted = malloc(setup.field.row_bytes);
    for (uint32_t i = 0; i < 40; i++) {
        const uint32_t orientation = 1 + i % 8;
        struct file plain = make_jpeg(&recipes[i % RECIPES], 120, 90, 80), file = with_exif(&plain, (int)orientation, i & 1);
        uint64_t word = 0;
        const struct sample_value value = { file.bytes, file.size, &setup.part, &word };
        const struct row_key key = { .seed = 3, .id = i };
        draws = 0;
        assert_int_equal(decode_image.row(setup.state, setup.codec, &setup.field, &value, &key, wanted, NULL), 0);
        assert_int_equal(draws, 1);
        const uint64_t head = word;
        struct sample_head other[5];
        for (int k = 0; k < 5; k++)
            other[k] = sample_head_unpack(head);
        other[1].width = 119;
        other[2].height = 65535;
        other[3].orientation = orientation % 8 + 1;
        other[4].orientation = 9;
        for (uint32_t k = 0; k < 5; k++) {
            word = sample_head_pack(&other[k]);
            draws = 0;
            memset(row, 0xee, setup.field.row_bytes);
            assert_int_equal(decode_image.row(setup.state, setup.codec, &setup.field, &value, &key, row, NULL), 0);
            assert_memory_equal(row, wanted, setup.field.row_bytes);
            assert_int_equal(draws, k == 0 || k == 4 ? 1 : 2);
            assert_int_equal(word, head);
        }
        draws = 0;
        const struct sample_value broken = { file.bytes, 30, &setup.part, &word };
        assert_true(decode_image.row(setup.state, setup.codec, &setup.field, &broken, &key, row, NULL) < 0);
        assert_int_equal(draws, 1); /* it could not be opened */
        free(plain.bytes);
        free(file.bytes);
    }
    free(row);
    free(wanted);
    setup_fini(&setup);
}

/* What lies below the crop is not read: a file cut there is as good. */
static void test_below_the_crop(void **state)
{
    struct jpeg_reader *reader;
    assert_int_equal(jpeg_reader_create(&reader, &no_limits), 0);
    for (size_t r = 0; r < RECIPES; r++) {
        int width, height;
        struct file file = make_jpeg(&recipes[r], 200, 400, 80);
        uint8_t *whole = decode_whole(&file, &width, &height);
        const struct file cut = { file.bytes, file.size * 3 / 4 };
        const struct rect crop = { 10, 20, 150, 200 };
        if (!recipes[r].progressive && !recipes[r].apart)
            check_crop(reader, &recipes[r], &cut, whole, width, height, crop);
        free(whole);
        free(file.bytes);
    }
    jpeg_reader_destroy(reader);
}

/* Every byte of the segment changed in many ways, in memory that ends where the data end. */
static void test_orientation_hostile(void **state)
{
    struct file file = make_jpeg(&recipes[0], 8, 8, 50), turned = with_exif(&file, 6, true);
    for (int i = 0; i < 40000; i++) {
        const size_t size = below(4) ? turned.size : below(60);
        uint8_t *bytes = malloc(size + !size);
        memcpy(bytes, turned.bytes, size);
        for (uint32_t k = below(4); k && size; k--)
            bytes[below((uint32_t)(size < 60 ? size : 60))] = (uint8_t)(below(2) ? below(256) : below(3) * 127 + below(2));
        const int orientation = jpeg_reader_orientation(bytes, size);
        assert_in_range(orientation, 1, 8);
        free(bytes);
    }
    free(file.bytes);
    free(turned.bytes);
}

static int bad(struct setup *setup, const void *data, size_t size, const char *word)
{
    struct problem why = { "" };
    uint8_t *row = malloc(setup->field.row_bytes), *bytes = malloc(size + !size);
    memcpy(bytes, data, size);
    const int error = setup_row(setup, bytes, size, 1, row, &why);
    if (error >= 0 || !strstr(why.text, word))
        fail_msg("%d, '%s', without '%s'", error, why.text, word);
    free(row);
    free(bytes);
    return error;
}

static void setup_plain(struct setup *setup, const char *words)
{
    setup_init(setup, DTYPE_U8, LAYOUT_HWC, words);
    add(setup, &transform_resize, "size=32/32");
    setup_open(setup);
}

static void test_bad_bytes(void **state)
{
    struct setup setup;
    setup_plain(&setup, "");
    assert_int_equal(bad(&setup, "", 0, "empty"), -EILSEQ);
    bad(&setup, "\xff", 1, "ff");
    bad(&setup, "\xff\xd8", 2, "not a JPEG");
    bad(&setup, "\xff\xd8\xff", 3, "JPEG");
    bad(&setup, "<html>", 6, "text");
    bad(&setup, "\x89PNG\r\n\x1a\n123", 11, "PNG");
    bad(&setup, "GIF89a", 6, "GIF");
    bad(&setup, "RIFF1234WEBPVP8 ", 16, "WebP");
    for (size_t r = 0; r < RECIPES; r++) {
        struct file file = make_jpeg(&recipes[r], 120, 90, 85);
        for (int i = 0; i < 20; i++)
            bad(&setup, file.bytes, 3 + below((uint32_t)file.size - 8),
                "JPEG"); /* without its end marker alone it may be whole */
        free(file.bytes);
    }
    setup_fini(&setup);
}

static void test_bad_mutations(void **state)
{
    struct setup setup;
    int errors = 0;
    setup_plain(&setup, "orientation=yes");
    uint8_t *row = malloc(setup.field.row_bytes), *again = malloc(setup.field.row_bytes);
    struct file good = make_jpeg(&recipes[1], 64, 64, 85);
    assert_int_equal(setup_row(&setup, good.bytes, good.size, 1, row, NULL), 0);
    for (int i = 0; i < 3000; i++) {
        struct problem why = { "" };
        struct file file = make_jpeg(&recipes[(size_t)i % RECIPES], 40 + (int)below(60), 40 + (int)below(60), 60);
        for (uint32_t k = 1 + below(6); k; k--)
            file.bytes[2 + below((uint32_t)(below(2)          ? file.size - 2
                                            : 600 < file.size ? 600
                                                              : file.size - 2))] = (uint8_t)below(256);
        const int error = setup_row(&setup, file.bytes, file.size, 1, again, &why);
        assert_true(error == 0 || why.text[0]);
        errors += error < 0;
        free(file.bytes);
        if (i % 10 == 0) { /* an error leaves nothing behind */
            assert_int_equal(setup_row(&setup, good.bytes, good.size, 1, again, NULL), 0);
            assert_memory_equal(row, again, setup.field.row_bytes);
        }
    }
    assert_in_range(errors, 1000, 3000);
    free(good.bytes);
    free(row);
    free(again);
    setup_fini(&setup);
}

static void test_limits(void **state)
{
    struct setup setup;
    struct file file = make_jpeg(&recipes[0], 100, 101, 50), progressive = make_jpeg(&recipes[9], 100, 50, 50);
    const struct recipe arithmetic = { "arithmetic", 3, 1, 1, .arithmetic = true };
    struct file other = make_jpeg(&arithmetic, 100, 50, 50);
    setup_plain(&setup, "max_pixels=10099 max_progressive=4999");
    assert_int_equal(bad(&setup, file.bytes, file.size, "max_pixels"), -EFBIG);
    assert_int_equal(bad(&setup, progressive.bytes, progressive.size, "max_progressive"), -EFBIG);
    assert_int_equal(bad(&setup, other.bytes, other.size, "arithmetic"), -ENOTSUP);
    other.bytes[0] = 0xff;
    for (size_t i = 2; i + 4 < file.size; i++)
        if (file.bytes[i] == 0xff && file.bytes[i + 1] == 0xc0) {
            file.bytes[i + 4] = 12; /* bits a sample */
            break;
        }
    bad(&setup, file.bytes, file.size, "12");
    setup_fini(&setup);
    setup_plain(&setup, "max_pixels=10100 max_progressive=5000");
    uint8_t *row = malloc(setup.field.row_bytes);
    assert_int_equal(setup_row(&setup, progressive.bytes, progressive.size, 1, row, NULL), 0);
    setup_fini(&setup);
    free(row);
    free(file.bytes);
    free(progressive.bytes);
    free(other.bytes);
}

/* A few bytes a scan can cost a walk over the picture each. */
static void test_many_scans(void **state)
{
    struct setup setup;
    const struct recipe many = { "many scans", 3, 1, 1, .progressive = true, .many = true };
    struct file file = make_jpeg(&many, 64, 64, 50);
    setup_plain(&setup, "");
    bad(&setup, file.bytes, file.size, "scans");
    setup_fini(&setup);
    free(file.bytes);
}

static void prepare_fails(struct setup *setup, const char *word)
{
    struct problem why = { "" };
    assert_int_equal(decode_image.prepare(&setup->field, &setup->part, &why), -EINVAL);
    if (!strstr(why.text, word))
        fail_msg("'%s' has no '%s'", why.text, word);
    setup_fini(setup);
}

static void test_prepare(void **state)
{
    struct setup setup;
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    prepare_fails(&setup, "center_crop");
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    add(&setup, &transform_resize, "size=256");
    prepare_fails(&setup, "center_crop");
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    add(&setup, &transform_center_crop, "size=20");
    add(&setup, &transform_normalize, "mean=0.5 std=0.5");
    prepare_fails(&setup, "float16");
    setup_init(&setup, DTYPE_I64, LAYOUT_CHW, "");
    add(&setup, &transform_center_crop, "size=20");
    prepare_fails(&setup, "int64");
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    add(&setup, &transform_center_crop, "size=20");
    setup.part.kind = PART_VALUES;
    prepare_fails(&setup, "raw");
    setup_init(&setup, DTYPE_U8, LAYOUT_CHW, "");
    add(&setup, &transform_resize, "size=20/20");
    add(&setup, &transform_random_resized_crop, "size=20");
    prepare_fails(&setup, "resized before");
    setup_init(&setup, DTYPE_F32, LAYOUT_HWC, "");
    add(&setup, &transform_center_crop, "size=20/30");
    setup_open(&setup);
    assert_true(setup.field.shape[0] == 20 && setup.field.shape[1] == 30 && setup.field.shape[2] == 3);
    assert_int_equal(setup.field.row_bytes, 20 * 30 * 3 * 4);
    setup_fini(&setup);
}

static int raw(enum dtype from, enum dtype to, const void *data, size_t n, void *row)
{
    const struct sample_part part = { .name = "x", .kind = PART_VALUES, .dtype = from, .ndim = 1, .shape = { (int64_t)n } };
    struct field field = { .name = "x", .decode = &decode_raw, .dtype = to };
    const struct sample_value value = { data, n * dtype_table[from].size, &part };
    struct problem why = { "" };
    const int error = decode_raw.prepare(&field, &part, &why);
    if (error)
        return error;
    assert_true(field.ndim == 1 && field.shape[0] == (int64_t)n && field.row_bytes == n * dtype_table[to].size);
    return decode_raw.row(NULL, NULL, &field, &value, &(struct row_key){ 0 }, row, &why);
}

static void test_raw(void **state)
{
    const uint16_t tokens[] = { 0, 1, 50256, 65535 };
    int32_t ints[4];
    assert_int_equal(raw(DTYPE_U16, DTYPE_I32, tokens, 4, ints), 0);
    assert_true(ints[0] == 0 && ints[2] == 50256 && ints[3] == 65535);
    const int64_t wide[] = { -1, 255, 256, INT64_MIN };
    uint8_t bytes[4];
    uint16_t shorts[4];
    assert_int_equal(raw(DTYPE_I64, DTYPE_U8, wide + 1, 1, bytes), 0);
    assert_int_equal(bytes[0], 255);
    assert_int_equal(raw(DTYPE_I64, DTYPE_U8, wide + 2, 1, bytes), -ERANGE);
    assert_int_equal(raw(DTYPE_I64, DTYPE_U16, wide, 1, shorts), -ERANGE);
    assert_int_equal(raw(DTYPE_I64, DTYPE_I32, wide + 3, 1, ints), -ERANGE);
    assert_int_equal(raw(DTYPE_I64, DTYPE_I32, wide, 3, ints), 0);
    assert_int_equal(ints[0], -1);
    const float floats[] = { 0.1f, -65519.0f, 1e-7f, 3 };
    assert_int_equal(raw(DTYPE_F32, DTYPE_F16, floats, 4, shorts), 0);
    assert_true(shorts[0] == 0x2e66 && shorts[1] == 0xfbff && shorts[2] == 2 && shorts[3] == 0x4200);
    assert_int_equal(raw(DTYPE_F32, DTYPE_BF16, floats, 4, shorts), 0);
    assert_true(shorts[0] == 0x3dcd && shorts[3] == 0x4040);
    assert_int_equal(raw(DTYPE_F32, DTYPE_I32, floats, 4, ints), -EINVAL);
    const uint16_t halves[] = { 0x3c00, 0x0001, 0x7c00 };
    float back[3];
    assert_int_equal(raw(DTYPE_F16, DTYPE_F32, halves, 3, back), 0);
    assert_true(back[0] == 1 && back[1] == 0x1p-24f && back[2] > 1e38f);
    const int32_t large[] = { 65519, 65520 };
    assert_int_equal(raw(DTYPE_I32, DTYPE_F16, large, 1, shorts), 0);
    assert_int_equal(shorts[0], 0x7bff);
    assert_int_equal(raw(DTYPE_I32, DTYPE_F16, large, 2, shorts), -ERANGE);
}

static void test_raw_bytes(void **state)
{
    struct sample_part part = { .name = "b", .kind = PART_ENCODED };
    struct field field = { .name = "b", .decode = &decode_raw, .dtype = DTYPE_U8 };
    struct problem why;
    char row[6];
    assert_int_equal(decode_raw.prepare(&field, &part, &why), -EINVAL);
    assert_non_null(strstr(why.text, "shape"));
    field.ndim = 2;
    field.shape[0] = 2;
    field.shape[1] = 3;
    assert_int_equal(decode_raw.prepare(&field, &part, &why), 0);
    assert_int_equal(field.row_bytes, 6);
    struct sample_value value = { "abcdef", 6, &part };
    assert_int_equal(decode_raw.row(NULL, NULL, &field, &value, &(struct row_key){ 0 }, row, &why), 0);
    assert_memory_equal(row, "abcdef", 6);
    value.size = 5;
    assert_int_equal(decode_raw.row(NULL, NULL, &field, &value, &(struct row_key){ 0 }, row, &why), -EMSGSIZE);
    field.dtype = DTYPE_F32;
    assert_int_equal(decode_raw.prepare(&field, &part, &why), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crop_equals_whole),
        cmocka_unit_test(test_widest),
        cmocka_unit_test(test_purity),
        cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_orientation_hostile),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_kept_heads),
        cmocka_unit_test(test_below_the_crop),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_bad_mutations),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_scans),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_raw_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
