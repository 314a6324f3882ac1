/* SPDX-License-Identifier: MIT */
/* Rows made by arithmetic, for tests, benchmarks and trying out: each wanted part with its field's own dtype and shape, a pure
 * function of (seed, part, sample, element). A part `label` without a shape is the sample's number modulo `classes`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "source/digest.h"
#include "source/source.h"

#define ROW_BYTES_MAX (UINT64_C(1) << 30)
#define GOLDEN        UINT64_C(0x9e3779b97f4a7c15)

struct synthetic_params {
    int64_t rows, delay_us, slow_every, slow_us, seed, classes;
};

struct source {
    struct synthetic_params params;
    uint32_t n_parts;
    struct sample_part *parts;
    uint64_t *keys; /* one a part: from seed and name */
    size_t max_bytes;
};

static const struct setting settings[] = {
    { "rows", SETTING_INT, offsetof(struct synthetic_params, rows), NULL, 0, 1e15, .help = "number of samples" },
    { "delay_us", SETTING_INT, offsetof(struct synthetic_params, delay_us), "0", 0, 1e7,
      .help = "microseconds that reading a sample takes, as a slow disk would" },
    { "slow_every", SETTING_INT, offsetof(struct synthetic_params, slow_every), "none", 1, 1e9, .choices = "none",
      .help = "the first of so many samples takes slow_us instead" },
    { "slow_us", SETTING_INT, offsetof(struct synthetic_params, slow_us), "0", 0, 1e8, .help = "microseconds; see slow_every" },
    { "seed", SETTING_INT, offsetof(struct synthetic_params, seed), "0", 0, SETTING_NO_MAX, .help = "of the values" },
    { "classes", SETTING_INT, offsetof(struct synthetic_params, classes), "10", 1, 1e6,
      .help = "the part label counts modulo this" },
    SETTINGS_END,
};

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014), over a counter. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Which of 64 random bits a dtype takes, and which it sets: floats come out in [0.5, 1), signed integers not negative. */
static const struct {
    uint64_t keep, set;
} masks[DTYPES] = {
    [DTYPE_U8] = { UINT64_MAX, 0 },
    [DTYPE_U16] = { UINT64_MAX, 0 },
    [DTYPE_U32] = { UINT64_MAX, 0 },
    [DTYPE_I32] = { UINT64_C(0x7fffffff7fffffff), 0 },
    [DTYPE_I64] = { UINT64_C(0x7fffffffffffffff), 0 },
    [DTYPE_F16] = { UINT64_C(0x03ff03ff03ff03ff), UINT64_C(0x3800380038003800) },
    [DTYPE_BF16] = { UINT64_C(0x007f007f007f007f), UINT64_C(0x3f003f003f003f00) },
    [DTYPE_F32] = { UINT64_C(0x007fffff007fffff), UINT64_C(0x3f0000003f000000) },
    [DTYPE_F64] = { UINT64_C(0x000fffffffffffff), UINT64_C(0x3fe0000000000000) },
};

static uint64_t part_bytes(const struct sample_part *part)
{
    uint64_t bytes = dtype_table[part->dtype].size;
    for (uint32_t i = 0; i < part->ndim; i++) {
        if (part->shape[i] < 1 || (uint64_t)part->shape[i] > ROW_BYTES_MAX / bytes)
            return UINT64_MAX;
        bytes *= (uint64_t)part->shape[i];
    }
    return bytes;
}

static bool is_label(const struct sample_part *part)
{
    return part->ndim == 0 && strcmp(part->name, "label") == 0;
}

static bool same_shape(const struct sample_part *a, const struct sample_part *b)
{
    return a->dtype == b->dtype && a->ndim == b->ndim && memcmp(a->shape, b->shape, a->ndim * sizeof *a->shape) == 0;
}

static int add_part(struct source *source, const struct source_env *env, uint32_t index, struct problem *why)
{
    const struct source_want *want = &env->wants[index];
    struct sample_part *part = &source->parts[source->n_parts];
    snprintf(part->name, sizeof part->name, "%s", want->from);
    part->kind = PART_VALUES;
    part->ndim = want->ndim;
    memcpy(part->shape, want->shape, sizeof part->shape);
    part->dtype = want->dtype < DTYPES ? want->dtype : is_label(part) ? DTYPE_I64 : DTYPE_F32;
    for (uint32_t i = 0; i < source->n_parts; i++)
        if (strcmp(source->parts[i].name, part->name) == 0) {
            if (same_shape(&source->parts[i], part))
                return 0;
            return problem_about(why, "from", (int)index,
                                 problem_set(why, -EINVAL,
                                             "two fields read the part '%s' with another dtype or shape; give one of them a "
                                             "'from' of its own",
                                             part->name));
        }
    if (is_label(part) && (part->dtype == DTYPE_F16 || part->dtype == DTYPE_BF16))
        return problem_about(why, "dtype", (int)index,
                             problem_set(why, -EINVAL, "a label cannot be %s; give dtype: int64", dtype_table[part->dtype].name));
    uint64_t bytes = part_bytes(part);
    if (bytes > ROW_BYTES_MAX)
        return problem_about(
            why, "shape", (int)index,
            problem_set(why, -EINVAL, "a row of the part '%s' is larger than 1 GiB; give a smaller 'shape'", part->name));
    if (bytes > source->max_bytes)
        source->max_bytes = (size_t)bytes;
    uint64_t key = mix((uint64_t)source->params.seed + GOLDEN);
    for (const char *at = part->name; *at; at++)
        key = mix(key ^ (unsigned char)*at);
    source->keys[source->n_parts++] = key;
    return 0;
}

static void synthetic_close(struct source *source)
{
    if (!source)
        return;
    free(source->parts);
    free(source->keys);
    free(source);
}

static int synthetic_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    int rc = 0;
    struct source *source = calloc(1, sizeof *source);
    if (!source)
        return problem_set(why, -ENOMEM, "out of memory for a synthetic source");
    source->params = *(const struct synthetic_params *)params;
    source->parts = calloc(env->n_wants + 1, sizeof *source->parts);
    source->keys = calloc(env->n_wants + 1, sizeof *source->keys);
    if (!source->parts || !source->keys)
        rc = problem_set(why, -ENOMEM, "out of memory for a synthetic source");
    for (uint32_t i = 0; i < env->n_wants && rc == 0; i++)
        rc = add_part(source, env, i, why);
    if (rc < 0)
        synthetic_close(source);
    else
        *out = source;
    return rc;
}

static uint64_t synthetic_count(const struct source *source)
{
    return (uint64_t)source->params.rows;
}

static uint32_t synthetic_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = source->parts;
    return source->n_parts;
}

static uint64_t synthetic_bytes(const struct source *source)
{
    return source->n_parts * (sizeof(*source->parts) + sizeof(*source->keys));
}

static size_t synthetic_max_bytes(const struct source *source)
{
    return source->max_bytes;
}

/* Integers only hold the class; a float label is the same number as a float. */
static void write_label(enum dtype dtype, uint64_t value, void *buffer)
{
    float single = (float)value;
    double number = (double)value;
    if (dtype == DTYPE_F32)
        memcpy(buffer, &single, sizeof single);
    else if (dtype == DTYPE_F64)
        memcpy(buffer, &number, sizeof number);
    else
        memcpy(buffer, &value, dtype_table[dtype].size); /* little-endian: the low bytes come first */
}

static void fill(uint64_t counter, enum dtype dtype, unsigned char *to, size_t size)
{
    const uint64_t keep = masks[dtype].keep, set = masks[dtype].set;
    uint64_t word;
    size_t at = 0;
    for (; at + sizeof word <= size; at += sizeof word) {
        word = (mix(counter += GOLDEN) & keep) | set;
        memcpy(to + at, &word, sizeof word);
    }
    word = (mix(counter + GOLDEN) & keep) | set;
    memcpy(to + at, &word, size - at);
}

static void take_time(const struct synthetic_params *params, uint64_t id)
{
    const bool slow = params->slow_every && id % (uint64_t)params->slow_every == 0;
    const int64_t us = slow ? params->slow_us : params->delay_us;
    struct timespec delay = { us / 1000000, us % 1000000 * 1000 };

    while (us && nanosleep(&delay, &delay) < 0 && errno == EINTR)
        ;
}

static int synthetic_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                          struct sample_value *out, struct problem *why)
{
    const struct sample_part *p = &source->parts[part];
    size_t size = (size_t)part_bytes(p);
    if (id >= (uint64_t)source->params.rows || size > buffer_size)
        return problem_set(why, -EINVAL, "synthetic row %llu does not exist", (unsigned long long)id);
    if (part == 0)
        take_time(&source->params, id);
    if (is_label(p))
        write_label(p->dtype, id % (uint64_t)source->params.classes, buffer);
    else
        fill(mix(source->keys[part] ^ mix(id)), p->dtype, buffer, size);
    *out = (struct sample_value){ .data = buffer, .size = size, .part = p };
    return 0;
}

static void synthetic_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    snprintf(text, size, "synthetic row %llu of %lld", (unsigned long long)id, (long long)source->params.rows);
}

static int synthetic_print(const struct source *source, struct digest *digest, struct problem *why)
{
    (void)why;
    digest_number(digest, (uint64_t)source->params.seed);
    digest_number(digest, (uint64_t)source->params.classes);
    return 0;
}

static void synthetic_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    snprintf(text, size, "%llu", (unsigned long long)id);
}

const struct source_ops source_synthetic = {
    .name = "synthetic",
    .help = "rows made by arithmetic, of any dtype and shape, for tests and benchmarks",
    .settings = settings,
    .params_size = sizeof(struct synthetic_params),
    .open = synthetic_open,
    .close = synthetic_close,
    .count = synthetic_count,
    .parts = synthetic_parts,
    .max_bytes = synthetic_max_bytes,
    .bytes = synthetic_bytes,
    .read = synthetic_read,
    .where = synthetic_where,
    .print = synthetic_print,
    .path = synthetic_path,
};
