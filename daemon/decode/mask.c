/* SPDX-License-Identifier: MIT */
/* mask: pictures whose pixels are numbers of classes, one channel. They go where the picture's pixels go: the same transforms
 * draw the same, whatever the field (DESIGN.md, section 5). decode_image does the work, into memory of this worker's own; its three
 * channels are the same number. prepare on the main thread, the rest on workers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "decode/image.h"
#include "transform/kernel.h"

extern const struct decode_ops decode_image;

struct mask_params {
    struct image_params image; /* without a background */
    int64_t fill;
};

#define IMAGE(member) offsetof(struct mask_params, image.member)

static const struct setting settings[] = {
    { "orientation", SETTING_BOOL, IMAGE(orientation), "no", 0, 0, NULL, "turn masks upright as their EXIF data say" },
    { "max_pixels", SETTING_INT, IMAGE(max_pixels), "64000000", 1, 4e9, NULL, "a larger mask is a bad sample" },
    { "max_progressive", SETTING_INT, IMAGE(max_progressive), "4000000", 1, 4e9, NULL,
      "pixels; a larger progressive or interlaced mask is a bad sample" },
    { "fill", SETTING_INT, offsetof(struct mask_params, fill), "0", 0, 255, NULL, "the class of what transforms add by padding" },
    SETTINGS_END,
};

struct mask_state {
    struct field inner;
    struct image_params params;
    void *image;
    uint8_t *pixels;
    size_t bytes; /* of pixels */
};

/* The field that decode_image sees. */
static void inner_of(const struct field *field, struct field *inner, struct image_params *params)
{
    const struct mask_params *own = field->decode_params;
    *inner = *field;
    *params = own->image;
    params->background = (struct setting_ints){ .n = 1 };
    inner->decode = &decode_image;
    inner->decode_params = params;
    inner->dtype = DTYPE_U8;
    inner->layout = LAYOUT_HWC;
    inner->classes = true;
    inner->class_fill = (uint8_t)own->fill;
    if (field->ndim == 2) { /* prepared */
        inner->ndim = 3;
        inner->shape[2] = 3;
        inner->row_bytes = 3 * (size_t)field->shape[0] * (size_t)field->shape[1];
    }
}

static int check_transforms(const struct field *field, struct problem *why)
{
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const struct transform_ops *ops = field->transforms[i].ops;
        if (ops->stage != TRANSFORM_PLACE && ops->stage != TRANSFORM_MIRROR)
            return problem_set(why, -EINVAL, "%s changes values, and a mask has numbers of classes; leave it out of this field",
                               ops->name);
    }
    return 0;
}

static int mask_prepare(struct field *field, const struct sample_part *part, struct problem *why)
{
    struct field inner;
    struct image_params params;
    if (field->dtype == DTYPES)
        field->dtype = DTYPE_U8;
    int error = problem_about(why, "transforms", -1, check_transforms(field, why));
    if (!error && field->dtype != DTYPE_U8 && field->dtype != DTYPE_I32 && field->dtype != DTYPE_I64)
        error = problem_about(
            why, "dtype", -1,
            problem_set(why, -EINVAL, "masks cannot be %s; take uint8, int32 or int64", dtype_table[field->dtype].name));
    if (error)
        return error;
    field->ndim = 0;
    inner_of(field, &inner, &params);
    error = decode_image.prepare(&inner, part, why);
    if (error)
        return error;
    field->ndim = 2;
    field->shape[0] = inner.shape[0];
    field->shape[1] = inner.shape[1];
    field->row_bytes = (size_t)inner.shape[0] * (size_t)inner.shape[1] * dtype_table[field->dtype].size;
    return 0;
}

static size_t mask_worker_bytes(const struct field *field)
{
    struct field inner;
    struct image_params params;
    inner_of(field, &inner, &params);
    return sizeof(struct mask_state) + inner.row_bytes + decode_image.worker_bytes(&inner);
}

static size_t mask_codec_bytes(const struct field *field)
{
    struct field inner;
    struct image_params params;
    inner_of(field, &inner, &params);
    return decode_image.codec_bytes(&inner);
}

static void mask_worker_close(void *state)
{
    struct mask_state *mask = state;
    if (!mask)
        return;
    if (mask->image)
        decode_image.worker_close(mask->image);
    free(mask->pixels);
    free(mask);
}

static int mask_worker_open(void **state, const struct field *field)
{
    struct mask_state *mask = calloc(1, sizeof *mask);
    if (!mask)
        return -ENOMEM;
    inner_of(field, &mask->inner, &mask->params);
    mask->bytes = mask->inner.row_bytes;
    mask->pixels = malloc(mask->bytes);
    int error = mask->pixels ? decode_image.worker_open(&mask->image, &mask->inner) : -ENOMEM;
    if (error) {
        mask_worker_close(mask);
        return error;
    }
    memset(mask->pixels, 0, mask->bytes); /* faults it in */
    *state = mask;
    return 0;
}

static int mask_row(void *state, void *codec, const struct field *field, const struct sample_value *value,
                    const struct row_key *key, void *row, struct problem *why)
{
    struct mask_state *mask = state;
    const int error = decode_image.row(mask->image, codec, &mask->inner, value, key, mask->pixels, why);
    const size_t n = mask->bytes / 3;
    if (error)
        return error;
    if (field->dtype == DTYPE_U8)
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)row)[i] = mask->pixels[3 * i];
    else if (field->dtype == DTYPE_I32)
        for (size_t i = 0; i < n; i++)
            ((int32_t *)row)[i] = mask->pixels[3 * i];
    else
        for (size_t i = 0; i < n; i++)
            ((int64_t *)row)[i] = mask->pixels[3 * i];
    return 0;
}

static int mask_reduce(void *state, void *codec, const struct field *field, const struct sample_value *value,
                       struct sample_value *reduced, struct problem *why)
{
    struct mask_state *mask = state;
    (void)field;
    return decode_image.reduce(mask->image, codec, &mask->inner, value, reduced, why);
}

static void *mask_reduced_room(void *codec, const struct field *field, size_t *size)
{
    struct field inner;
    struct image_params params;
    inner_of(field, &inner, &params);
    return decode_image.reduced_room(codec, &inner, size);
}

static uint64_t mask_reduced_print(const struct field *field)
{
    struct field inner;
    struct image_params params;
    inner_of(field, &inner, &params);
    return decode_image.reduced_print(&inner);
}

const struct decode_ops decode_mask = {
    .name = "mask",
    .help = "pictures of class numbers, palette or grey, by nearest neighbours; rows of height and width",
    .settings = settings,
    .params_size = sizeof(struct mask_params),
    .version = KERNEL_VERSION,
    .prepare = mask_prepare,
    .worker_bytes = mask_worker_bytes,
    .codec_bytes = mask_codec_bytes,
    .reduce = mask_reduce,
    .reduced_room = mask_reduced_room,
    .reduced_print = mask_reduced_print,
    .worker_open = mask_worker_open,
    .worker_close = mask_worker_close,
    .row = mask_row,
};
