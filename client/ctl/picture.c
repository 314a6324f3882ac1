/* SPDX-License-Identifier: MIT */
/* See picture.h. */
#include "picture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_INT = 0, CODE_UINT = 1, CODE_FLOAT = 2, CODE_BFLOAT = 4 }; /* DLPack's */
enum { SIDE_MOST = 65535 };

static float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float from_float16(const uint8_t *bytes)
{
    uint16_t half;
    uint32_t sign, exponent, mantissa;

    memcpy(&half, bytes, sizeof(half));
    sign = (uint32_t)(half & 0x8000u) << 16;
    exponent = half >> 10 & 31;
    mantissa = half & 0x3ff;
    if (exponent == 0)
        return (sign ? -1.0f : 1.0f) * (float)mantissa * 0x1p-24f;
    return from_bits(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | mantissa << 13);
}

static float from_bfloat16(const uint8_t *bytes)
{
    uint16_t half;

    memcpy(&half, bytes, sizeof(half));
    return from_bits((uint32_t)half << 16);
}

static float from_float32(const uint8_t *bytes)
{
    float value;

    memcpy(&value, bytes, sizeof(value));
    return value;
}

static float from_uint8(const uint8_t *bytes)
{
    return *bytes;
}

static const struct dtype {
    uint8_t code, bits;
    float (*get)(const uint8_t *bytes);
} dtypes[] = {
    { CODE_UINT, 8, from_uint8 },
    { CODE_FLOAT, 16, from_float16 },
    { CODE_BFLOAT, 16, from_bfloat16 },
    { CODE_FLOAT, 32, from_float32 },
};

static const struct dtype *dtype_of(const struct pf_field *field)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (dtypes[i].code == field->dtype_code && dtypes[i].bits == field->dtype_bits)
            return &dtypes[i];
    return NULL;
}

bool picture_fits(const struct pf_field *field)
{
    bool chw = field->layout == PF_LAYOUT_CHW;
    int64_t channels, height, width;

    if (!dtype_of(field) || (!chw && field->layout != PF_LAYOUT_HWC) || field->ndim != 3)
        return false;
    channels = field->shape[chw ? 0 : 2];
    height = field->shape[chw ? 1 : 0];
    width = field->shape[chw ? 2 : 1];
    return (channels == 1 || channels == 3) && height >= 1 && height <= SIDE_MOST && width >= 1 && width <= SIDE_MOST &&
           field->row_bytes == (uint64_t)(channels * height * width) * (field->dtype_bits / 8);
}

void picture_dtype(const struct pf_field *field, char *to, size_t size)
{
    static const char *const names[] = {
        [CODE_INT] = "int", [CODE_UINT] = "uint", [CODE_FLOAT] = "float", [CODE_BFLOAT] = "bfloat"
    };
    const char *name = field->dtype_code < sizeof(names) / sizeof(names[0]) ? names[field->dtype_code] : NULL;

    snprintf(to, size, "%s%u", name ? name : "unknown", field->dtype_bits);
}

void picture_describe(const struct pf_field *field, char *to, size_t size)
{
    char dtype[24];
    size_t at;

    picture_dtype(field, dtype, sizeof(dtype));
    at = (size_t)snprintf(to, size, "%s %s[", field->name, dtype);
    for (uint32_t d = 0; d < field->ndim && at < size; d++)
        at += (size_t)snprintf(to + at, size - at, "%s%" PRId64, d ? ", " : "", field->shape[d]);
    if (at < size)
        snprintf(to + at, size - at, "]%s",
                 field->layout == PF_LAYOUT_CHW   ? " chw"
                 : field->layout == PF_LAYOUT_HWC ? " hwc"
                                                  : "");
}

static uint8_t to_pixel(const struct pf_field *field, uint32_t channel, float value)
{
    if (field->dtype_code != CODE_UINT) {
        float std = field->std[channel] != 0 ? field->std[channel] : 1; /* 0: a feed that never normalises left it so */

        value = (value * std + field->mean[channel]) * 255.0f;
    }
    if (!(value > 0)) /* NaN is black */
        return 0;
    return value >= 255 ? 255 : (uint8_t)(value + 0.5f);
}

int picture_make(const struct pf_field *field, const void *row, struct picture *out)
{
    const struct dtype *dtype = dtype_of(field);
    bool chw = field->layout == PF_LAYOUT_CHW;
    uint32_t channels = (uint32_t)field->shape[chw ? 0 : 2];
    struct picture picture = { .height = (uint32_t)field->shape[chw ? 1 : 0], .width = (uint32_t)field->shape[chw ? 2 : 1] };
    size_t pixels = (size_t)picture.width * picture.height, element = dtype->bits / 8;
    const uint8_t *bytes = row;

    picture.rgb = malloc(pixels * 3);
    if (!picture.rgb)
        return -ENOMEM;
    for (size_t p = 0; p < pixels; p++)
        for (uint32_t c = 0; c < 3; c++) {
            uint32_t from = channels == 1 ? 0 : c;
            size_t place = chw ? from * pixels + p : p * channels + from;

            picture.rgb[p * 3 + c] = to_pixel(field, from, dtype->get(bytes + place * element));
        }
    *out = picture;
    return 0;
}

void picture_fini(struct picture *picture)
{
    free(picture->rgb);
    picture->rgb = NULL;
}

int picture_write(const struct picture *picture, FILE *out)
{
    size_t bytes = (size_t)picture->width * picture->height * 3;

    errno = 0;
    if (fprintf(out, "P6\n%u %u\n255\n", picture->width, picture->height) < 0 || fwrite(picture->rgb, 1, bytes, out) != bytes ||
        fflush(out) != 0)
        return errno ? -errno : -EIO;
    return 0;
}
