/* SPDX-License-Identifier: MIT */
/* raw: plain numbers, converted to the field's dtype; bytes of a file as they are. prepare on the main thread, row on workers;
 * no state. */
#include <errno.h>
#include <string.h>

#include "decode/decode.h"
#include "half.h"

static const struct setting settings[] = { SETTINGS_END };

static bool is_float(enum dtype dtype)
{
    return dtype >= DTYPE_F16;
}

static int check_shape(const struct field *field, const struct sample_part *part, struct problem *why)
{
    bool same = field->ndim == part->ndim;
    for (uint32_t i = 0; same && i < part->ndim; i++)
        same = field->shape[i] == part->shape[i];
    return same ? 0 : problem_set(why, -EINVAL, "the shape is not that of part '%s'; leave it out", part->name);
}

static int prepare_values(struct field *field, const struct sample_part *part, struct problem *why)
{
    if (field->dtype == DTYPES)
        field->dtype = part->dtype;
    if (is_float(part->dtype) && !is_float(field->dtype))
        return problem_about(why, "dtype", -1,
                             problem_set(why, -EINVAL, "part '%s' is %s, which %s cannot hold; take a float dtype", part->name,
                                         dtype_table[part->dtype].name, dtype_table[field->dtype].name));
    if (field->ndim)
        return problem_about(why, "shape", -1, check_shape(field, part, why));
    field->ndim = part->ndim;
    memcpy(field->shape, part->shape, sizeof field->shape);
    return 0;
}

static int prepare_bytes(struct field *field, const struct sample_part *part, struct problem *why)
{
    if (field->dtype == DTYPES)
        field->dtype = DTYPE_U8;
    if (field->dtype != DTYPE_U8)
        return problem_about(
            why, "dtype", -1,
            problem_set(why, -EINVAL, "part '%s' holds encoded bytes, not %s; take decode: image, or dtype: uint8 for the bytes",
                        part->name, dtype_table[field->dtype].name));
    if (!field->ndim)
        return problem_set(why, -EINVAL,
                           "part '%s' holds encoded bytes of no fixed size; take decode: image, or give the field's "
                           "shape, such as [3072]",
                           part->name);
    return 0;
}

static int raw_prepare(struct field *field, const struct sample_part *part, struct problem *why)
{
    if (field->n_transforms)
        return problem_about(why, "transforms", -1,
                             problem_set(why, -EINVAL, "transforms need pictures; take decode: image, or remove them"));
    int error = part->kind == PART_VALUES ? prepare_values(field, part, why) : prepare_bytes(field, part, why);
    if (error)
        return error;
    field->row_bytes = dtype_table[field->dtype].size;
    for (uint32_t i = 0; i < field->ndim; i++)
        if (field->shape[i] < 1 || __builtin_mul_overflow(field->row_bytes, (size_t)field->shape[i], &field->row_bytes))
            return problem_set(why, -EINVAL, "field '%s': %lld cannot be a size of its shape", field->name,
                               (long long)field->shape[i]);
    for (int c = 0; c < 3; c++) {
        field->mean[c] = 0;
        field->std[c] = 1;
    }
    field->is_image = false;
    return 0;
}

/* Numbers lie wherever the source put them, not always aligned. */
static int64_t load_int(const uint8_t *from, enum dtype dtype)
{
    union {
        uint16_t u16;
        uint32_t u32;
        int32_t i32;
        int64_t i64;
    } n;
    memcpy(&n, from, dtype_table[dtype].size);
    switch (dtype) {
    case DTYPE_U8:
        return *from;
    case DTYPE_U16:
        return n.u16;
    case DTYPE_U32:
        return n.u32;
    case DTYPE_I32:
        return n.i32;
    default:
        return n.i64;
    }
}

static double load_float(const uint8_t *from, enum dtype dtype)
{
    union {
        uint16_t half;
        float f32;
        double f64;
    } n;
    if (!is_float(dtype))
        return (double)load_int(from, dtype);
    memcpy(&n, from, dtype_table[dtype].size);
    switch (dtype) {
    case DTYPE_F16:
        return (double)half_to_float(n.half);
    case DTYPE_BF16:
        return (double)bfloat_to_float(n.half);
    case DTYPE_F32:
        return (double)n.f32;
    default:
        return n.f64;
    }
}

/* Two's complement, little end first: the low bytes are the number. */
static void store_int(int64_t value, enum dtype dtype, uint8_t *to)
{
    memcpy(to, &value, dtype_table[dtype].size);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "store_int");

static void store_float(double value, enum dtype dtype, uint8_t *to)
{
    const uint16_t half = dtype == DTYPE_F16 ? half_from_float(half_odd_float(value)) : bfloat_from_float(half_odd_float(value));
    const float single = (float)value;
    if (dtype == DTYPE_F64)
        memcpy(to, &value, sizeof value);
    else if (dtype == DTYPE_F32)
        memcpy(to, &single, sizeof single);
    else
        memcpy(to, &half, sizeof half);
}

static bool int_fits(int64_t value, enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_U8:
        return value >= 0 && value <= UINT8_MAX;
    case DTYPE_U16:
        return value >= 0 && value <= UINT16_MAX;
    case DTYPE_U32:
        return value >= 0 && value <= UINT32_MAX;
    case DTYPE_I32:
        return value >= INT32_MIN && value <= INT32_MAX;
    case DTYPE_F16:
        return value > -65520 && value < 65520; /* what is nearer to infinity than to 65504 does not fit */
    default:
        return true;
    }
}

/* Integers must fit. Floats round to nearest, ties to even, and may become infinite, as everywhere. */
static int convert(const uint8_t *from, enum dtype from_dtype, uint8_t *to, enum dtype to_dtype, size_t n, struct problem *why)
{
    const size_t step = dtype_table[from_dtype].size, to_step = dtype_table[to_dtype].size;
    for (size_t i = 0; i < n; i++, from += step, to += to_step) {
        if (!is_float(from_dtype) && !int_fits(load_int(from, from_dtype), to_dtype))
            return problem_set(why, -ERANGE, "number %zu is %lld, which %s cannot hold", i, (long long)load_int(from, from_dtype),
                               dtype_table[to_dtype].name);
        if (is_float(to_dtype))
            store_float(load_float(from, from_dtype), to_dtype, to);
        else
            store_int(load_int(from, from_dtype), to_dtype, to);
    }
    return 0;
}

static int raw_row(void *state, void *codec, const struct field *field, const struct sample_value *value,
                   const struct row_key *key, void *row, struct problem *why)
{
    (void)state, (void)codec, (void)key;
    const struct sample_part *part = value->part;
    const enum dtype from = part->kind == PART_VALUES ? part->dtype : DTYPE_U8;
    const size_t n = field->row_bytes / dtype_table[field->dtype].size, expected = n * dtype_table[from].size;
    if (value->size != expected)
        return problem_set(why, -EMSGSIZE, "%zu bytes where %zu were expected for field '%s'", value->size, expected,
                           field->name);
    if (from != field->dtype)
        return convert(value->data, from, row, field->dtype, n, why);
    memcpy(row, value->data, expected);
    return 0;
}

const struct decode_ops decode_raw = {
    .name = "raw",
    .help = "plain numbers, converted to the field's dtype; or bytes as they are",
    .settings = settings,
    .params_size = 0,
    .prepare = raw_prepare,
    .row = raw_row,
};
