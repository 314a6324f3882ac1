/* SPDX-License-Identifier: MIT */
/* image: pictures, decoded and transformed straight into the batch. prepare on the main thread, the rest on workers; one
 * state per worker and field. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "decode/jpeg.h"
#include "transform/kernel.h"

#define KEPT_BYTES 8 /* a pixel: up to four int16 coefficients, of a picture of several scans */

struct image_params {
    bool orientation;
    int64_t max_pixels, max_progressive;
};

static const struct setting settings[] = {
    { "orientation", SETTING_BOOL, offsetof(struct image_params, orientation), "no", 0, 0, NULL,
      "turn pictures upright as their EXIF data say" },
    { "max_pixels", SETTING_INT, offsetof(struct image_params, max_pixels), "64000000", 1, 4e9, NULL,
      "a larger picture is a bad sample" },
    { "max_progressive", SETTING_INT, offsetof(struct image_params, max_progressive), "4000000", 1, 4e9, NULL,
      "pixels; a larger progressive picture is a bad sample, since each worker must keep it whole at 8 bytes a pixel" },
    SETTINGS_END,
};

struct image_state {
    struct jpeg_reader *jpeg;
    struct kernel *kernel;
};

static int check_transforms(const struct field *field, struct plan_size *size, struct problem *why)
{
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const struct transform_use *use = &field->transforms[i];
        const int error = use->ops->check(use->params, size, why);
        if (error)
            return error;
    }
    if (!size->width || !size->height)
        return problem_set(why, -EINVAL,
                           "the rows would have no fixed size; end with a transform that gives one, such as "
                           "center_crop: { size: 224 } or random_resized_crop: { size: 224 }");
    return 0;
}

static int check_dtype(const struct field *field, struct problem *why)
{
    if (field->dtype == DTYPE_U8 || field->dtype == DTYPE_F16 || field->dtype == DTYPE_BF16 || field->dtype == DTYPE_F32)
        return 0;
    return problem_set(why, -EINVAL, "pictures cannot be %s; take uint8 (0..255), or float16, bfloat16 or float32 (0..1)",
                       dtype_table[field->dtype].name);
}

static int image_prepare(struct field *field, const struct sample_part *part, struct problem *why)
{
    if (part->kind != PART_ENCODED)
        return problem_about(
            why, "decode", -1,
            problem_set(why, -EINVAL, "part '%s' holds plain numbers, not encoded pictures; take decode: raw", part->name));
    if (field->dtype == DTYPES)
        field->dtype = DTYPE_U8;
    struct plan_size size = { .whole_numbers = field->dtype == DTYPE_U8, .std = { 1, 1, 1 } };
    int error = problem_about(why, "transforms", -1, check_transforms(field, &size, why));
    if (!error)
        error = problem_about(why, "dtype", -1, check_dtype(field, why));
    if (error)
        return error;
    field->ndim = 3;
    if (field->layout == LAYOUT_CHW)
        memcpy(field->shape, (int64_t[]){ 3, size.height, size.width }, 3 * sizeof(int64_t));
    else
        memcpy(field->shape, (int64_t[]){ size.height, size.width, 3 }, 3 * sizeof(int64_t));
    field->row_bytes = 3 * (size_t)size.width * (size_t)size.height * dtype_table[field->dtype].size;
    field->is_image = true;
    memcpy(field->mean, size.mean, sizeof field->mean);
    memcpy(field->std, size.std, sizeof field->std);
    return 0;
}

static void image_size(const struct field *field, int32_t *width, int32_t *height)
{
    const int64_t *first = field->shape + (field->layout == LAYOUT_CHW ? 1 : 0);
    *height = (int32_t)first[0];
    *width = (int32_t)first[1];
}

static uint64_t swap_pixels(const struct image_params *params)
{
    return params->orientation ? (uint64_t)params->max_pixels : 0;
}

static size_t image_worker_bytes(const struct field *field)
{
    int32_t width, height;
    image_size(field, &width, &height);
    return sizeof(struct image_state) + jpeg_reader_bytes() + kernel_bytes(width, height, swap_pixels(field->decode_params));
}

static size_t image_codec_bytes(const struct field *field)
{
    const struct image_params *params = field->decode_params;
    const int64_t kept = params->max_progressive < params->max_pixels ? params->max_progressive : params->max_pixels;
    return ((size_t)kept * KEPT_BYTES + 63) / 64 * 64 + JPEG_READER_ROWS;
}

static void image_worker_close(void *state)
{
    struct image_state *image = state;
    if (!image)
        return;
    kernel_destroy(image->kernel);
    jpeg_reader_destroy(image->jpeg);
    free(image);
}

static int image_worker_open(void **state, const struct field *field)
{
    const struct image_params *params = field->decode_params;
    const struct jpeg_limits limits = { (uint64_t)params->max_pixels, (uint64_t)params->max_progressive };
    int32_t width, height;
    image_size(field, &width, &height);
    struct image_state *image = calloc(1, sizeof *image);
    if (!image)
        return -ENOMEM;
    int error = jpeg_reader_create(&image->jpeg, &limits);
    if (!error)
        error = kernel_create(&image->kernel, NULL, width, height, field->dtype, field->layout, swap_pixels(params));
    if (error) {
        image_worker_close(image);
        return error;
    }
    *state = image;
    return 0;
}

/* What bytes that are no JPEG look like, for the sentence. */
static int not_a_jpeg(const uint8_t *bytes, size_t size, struct problem *why)
{
    static const struct {
        const char *magic;
        size_t at, size;
        const char *name;
    } kinds[] = {
        { "\x89PNG\r\n\x1a\n", 0, 8, "a PNG" },
        { "GIF8", 0, 4, "a GIF" },
        { "WEBP", 8, 4, "a WebP" },
        { "BM", 0, 2, "a BMP" },
        { "II*\0", 0, 4, "a TIFF" },
        { "MM\0*", 0, 4, "a TIFF" },
        { "ftypavif", 4, 8, "an AVIF" },
        { "ftypheic", 4, 8, "a HEIC" },
        { "\0\0\0\x0cjP  ", 0, 8, "a JPEG 2000" },
        { "\xff\x0a", 0, 2, "a JPEG XL" },
        { "\0\0\0\x0cJXL ", 0, 8, "a JPEG XL" },
        { "%PDF", 0, 4, "a PDF" },
        { "\x1f\x8b", 0, 2, "a gzip file" },
        { "PK\3\4", 0, 4, "a zip file" },
    };
    if (size == 0)
        return problem_set(why, -EILSEQ, "the file is empty");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (size >= kinds[i].at + kinds[i].size && memcmp(bytes + kinds[i].at, kinds[i].magic, kinds[i].size) == 0)
            return problem_set(why, -EILSEQ, "not a JPEG but %s; only JPEG is supported", kinds[i].name);
    /* control characters are not text; what is beyond ASCII may be, but not at once */
    const size_t head = size < 64 ? size : 64;
    size_t n = bytes[0] < 0x7f || memcmp(bytes, "\xef\xbb", size < 2 ? size : 2) == 0 ? 0 : head + 1;
    while (n < head && (bytes[n] >= 0x20 || bytes[n] == '\t' || bytes[n] == '\n' || bytes[n] == '\r'))
        n++;
    if (n == head)
        return problem_set(why, -EILSEQ, "not a JPEG but text; only JPEG is supported");
    return problem_set(why, -EILSEQ, "not a JPEG: it starts with %02x %02x %02x %02x; only JPEG is supported", bytes[0],
                       size > 1 ? bytes[1] : 0, size > 2 ? bytes[2] : 0, size > 3 ? bytes[3] : 0);
}

static int make_plan(const struct field *field, const struct row_key *key, struct plan *plan, struct problem *why)
{
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const struct transform_use *use = &field->transforms[i];
        struct draw draw;
        draw_init(&draw, key, use->ops->name, use->ordinal);
        const int error = use->ops->plan(use->params, &draw, plan, why);
        if (error)
            return error;
    }
    return 0;
}

static int next_row(void *from, const uint8_t **row, struct problem *why)
{
    return jpeg_reader_row(from, row, why);
}

/* At the first visit, and where the file is another by now: every other one finds the sizes that it has itself. */
static void keep_head(const struct sample_value *value, const struct jpeg_head *head)
{
    const struct sample_head kept = { .width = (uint32_t)head->width,
                                      .height = (uint32_t)head->height,
                                      .components = (uint32_t)head->components,
                                      .across = (uint32_t)head->across,
                                      .down = (uint32_t)head->down,
                                      .orientation = (uint32_t)jpeg_reader_orientation(value->data, value->size),
                                      .progressive = head->progressive };
    __atomic_store_n(value->head, sample_head_pack(&kept), __ATOMIC_RELAXED);
}

static bool head_is_kept(const struct sample_value *value, const struct jpeg_head *head)
{
    const struct sample_head sizes = { .width = (uint32_t)head->width, .height = (uint32_t)head->height };
    return (__atomic_load_n(value->head, __ATOMIC_RELAXED) & SAMPLE_HEAD_SIZES) == sample_head_pack(&sizes);
}

static int image_row(void *state, void *codec, const struct field *field, const struct sample_value *value,
                     const struct row_key *key, void *row, struct problem *why)
{
    struct image_state *image = state;
    const struct image_params *params = field->decode_params;
    const uint8_t *bytes = value->data;
    if (value->size < 3 || bytes[0] != 0xff || bytes[1] != 0xd8 || bytes[2] != 0xff)
        return not_a_jpeg(bytes, value->size, why);
    struct jpeg_head head;
    jpeg_reader_memory(image->jpeg, codec, image_codec_bytes(field));
    int error = jpeg_reader_open(image->jpeg, bytes, value->size, &head, why);
    if (error)
        return error;
    if (value->head && !head_is_kept(value, &head))
        keep_head(value, &head);
    const struct kernel_turn turn = kernel_turns[params->orientation ? jpeg_reader_orientation(bytes, value->size) : 1];
    struct plan plan;
    plan_init(&plan, turn.swap ? head.height : head.width, turn.swap ? head.width : head.height);
    struct rect stored;
    error = make_plan(field, key, &plan, why);
    if (!error)
        error = kernel_plan(image->kernel, &plan, turn, &stored, why);
    if (!error)
        error = jpeg_reader_crop(image->jpeg, stored.x, stored.y, stored.width, stored.height, why);
    if (!error)
        error = kernel_run(image->kernel, next_row, image->jpeg, row, why);
    jpeg_reader_close(image->jpeg);
    return error;
}

const struct decode_ops decode_image = {
    .name = "image",
    .help = "JPEG pictures (libjpeg-turbo), only the part that the transforms need",
    .settings = settings,
    .params_size = sizeof(struct image_params),
    .prepare = image_prepare,
    .worker_bytes = image_worker_bytes,
    .codec_bytes = image_codec_bytes,
    .worker_open = image_worker_open,
    .worker_close = image_worker_close,
    .row = image_row,
};
