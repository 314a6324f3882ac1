/* SPDX-License-Identifier: MIT */
/* image: pictures, decoded and transformed straight into the batch. prepare on the main thread, the rest on workers; one
 * state per worker and field. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "decode/image.h"
#include "decode/picture.h"
#include "decode/reduced.h"
#include "transform/chain.h"

_Static_assert(PICTURE_SIDE <= KERNEL_SIDE, "the kernel takes whatever is decoded");

#ifdef HAVE_PNG
#define IMAGE_HELP "JPEG (libjpeg-turbo) and PNG (libspng) pictures, only the part that the transforms need"
#else
#define IMAGE_HELP "JPEG pictures (libjpeg-turbo), only the part that the transforms need"
#endif

static const struct setting settings[] = {
    { "orientation", SETTING_BOOL, offsetof(struct image_params, orientation), "no", 0, 0, NULL,
      "turn pictures upright as their EXIF data say" },
    { "max_pixels", SETTING_INT, offsetof(struct image_params, max_pixels), "64000000", 1, 4e9, NULL,
      "a larger picture is a bad sample" },
    { "max_progressive", SETTING_INT, offsetof(struct image_params, max_progressive), "4000000", 1, 4e9, NULL,
      "pixels; a larger progressive or interlaced picture is a bad sample, since each worker must keep it whole at 8 bytes a "
      "pixel" },
    { "background", SETTING_INTS, offsetof(struct image_params, background), "[255, 255, 255]", 0, 255, NULL,
      "red, green and blue, or one number for all three: what transparent pictures are laid over" },
    { "scaled_decode", SETTING_CHOICE, offsetof(struct image_params, scaled_decode), "off", 0, 0, "off|auto",
      "auto: where a JPEG is reduced at least 4 times, it is decoded at a half, a quarter or an eighth of its size; faster, and "
      "other pixels" },
    SETTINGS_END,
};

struct image_state {
    struct chain *chain;
    struct reducer *reducer; /* of a field with a `side` */
    struct reduced_reader reduced;
    void *readers[]; /* one of each of picture_kinds */
};

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
    const struct image_params *params = field->decode_params;
    if (params->background.n != 1 && params->background.n != 3)
        return problem_about(why, "decode", -1,
                             problem_set(why, -EINVAL, "background has %u numbers; take three (red, green, blue) or one for all",
                                         params->background.n));
    if (field->dtype == DTYPES)
        field->dtype = DTYPE_U8;
    struct plan_size size = { .whole_numbers = field->dtype == DTYPE_U8, .std = { 1, 1, 1 } };
    int error = problem_about(why, "transforms", -1, chain_check_all(field, &size, why));
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

static struct chain_shape shape_of(const struct field *field)
{
    const struct image_params *params = field->decode_params;
    const int64_t *sides = field->shape + (field->layout == LAYOUT_CHW ? 1 : 0);
    return (struct chain_shape){ .width = (int32_t)sides[1],
                                 .height = (int32_t)sides[0],
                                 .dtype = field->dtype,
                                 .layout = field->layout,
                                 .swap_pixels = params->orientation ? (uint64_t)params->max_pixels : 0 };
}

static struct picture_limits limits_of(const struct field *field)
{
    const struct image_params *params = field->decode_params;
    struct picture_limits limits = { .max_pixels = (uint64_t)params->max_pixels,
                                     .max_kept = (uint64_t)params->max_progressive,
                                     .classes = field->classes };
    for (uint32_t c = 0; c < 3; c++)
        limits.background[c] = (uint8_t)params->background.v[params->background.n == 3 ? c : 0];
    return limits;
}

static size_t n_kinds(void)
{
    size_t n = 0;
    while (picture_kinds[n])
        n++;
    return n;
}

/* The transforms' own: labels in a mask are not to be mixed. */
static enum filter reduce_filter(const struct field *field)
{
    static const struct row_key key;
    struct problem why;
    struct plan plan;
    plan_init(&plan, PICTURE_SIDE, PICTURE_SIDE);
    if (field->classes)
        return FILTER_NEAREST;
    return chain_draw(field, &key, &plan, &why) == 0 && plan.filter == FILTER_NEAREST ? FILTER_NEAREST : FILTER_BILINEAR;
}

static size_t image_worker_bytes(const struct field *field)
{
    const struct chain_shape shape = shape_of(field);
    size_t sum = sizeof(struct image_state) + chain_bytes(field, &shape);
    for (size_t k = 0; picture_kinds[k]; k++)
        sum += sizeof(void *) + picture_kinds[k]->reader_bytes();
    return sum + (field->side ? reducer_bytes(field->side) : 0);
}

/* Of any format. */
static size_t format_bytes(const struct field *field)
{
    const struct picture_limits limits = limits_of(field);
    size_t most = 0;
    for (size_t k = 0; picture_kinds[k]; k++) {
        const size_t bytes = picture_kinds[k]->codec_bytes(&limits);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Behind it a reduced picture, while it is made and while it is used. */
static size_t image_codec_bytes(const struct field *field)
{
    return format_bytes(field) + (field->side ? (reduced_most(field->side) + 63) / 64 * 64 : 0);
}

static void *image_reduced_room(void *codec, const struct field *field, size_t *size)
{
    *size = reduced_most(field->side);
    return (uint8_t *)codec + format_bytes(field);
}

static void image_worker_close(void *state)
{
    struct image_state *image = state;
    if (!image)
        return;
    for (size_t k = 0; picture_kinds[k]; k++)
        picture_kinds[k]->destroy(image->readers[k]);
    chain_destroy(image->chain);
    reducer_destroy(image->reducer);
    free(image);
}

static int image_worker_open(void **state, const struct field *field)
{
    const struct picture_limits limits = limits_of(field);
    const struct chain_shape shape = shape_of(field);
    struct image_state *image = calloc(1, sizeof *image + n_kinds() * sizeof *image->readers);
    if (!image)
        return -ENOMEM;
    int error = 0;
    for (size_t k = 0; picture_kinds[k] && !error; k++)
        error = picture_kinds[k]->create(&image->readers[k], &limits);
    if (!error)
        error = chain_create(&image->chain, field, &shape);
    if (!error && field->side)
        error = reducer_create(&image->reducer, field->side, reduce_filter(field));
    if (error) {
        image_worker_close(image);
        return error;
    }
    *state = image;
    return 0;
}

/* A picture on its way: what image_row's steps hand on. */
struct job {
    const struct picture_ops *ops;
    void *reader;
    struct picture_head head;
    int turned; /* EXIF's orientation */
    /* What the crop was drawn from, if it was. */
    bool planned;
    int32_t width, height, shrinks;
    int orientation;
    int32_t shrink;     /* as drawn */
    struct rect stored; /* the rows and columns of the stored picture that the kernel wants */
};

static int next_row(void *from, const uint8_t **row, struct problem *why)
{
    const struct job *job = from;
    return job->ops->row(job->reader, row, why);
}

static int plan_job(struct image_state *image, const struct field *field, const struct row_key *key, struct job *job,
                    int32_t width, int32_t height, int32_t shrinks, int orientation, struct problem *why)
{
    const struct kernel_turn turn = kernel_turns[orientation];
    job->shrink = job->shrinks = shrinks;
    const int error = chain_plan(image->chain, field, key, turn.swap ? height : width, turn.swap ? width : height, turn,
                                 &job->shrink, &job->stored, why);
    job->width = width;
    job->height = height;
    job->orientation = orientation;
    job->planned = !error;
    return error;
}

/* Of which a plan must know. */
static int orientation_of(const struct field *field, uint32_t orientation)
{
    const struct image_params *params = field->decode_params;
    return params->orientation ? (int)orientation : 1;
}

static int32_t shrinks_of(const struct field *field, const struct job *job, int32_t across, int32_t down)
{
    const struct image_params *params = field->decode_params;
    return params->scaled_decode && job->ops->shrinks ? job->ops->shrinks(across, down) : 1;
}

/* Draws the crop from what the source has kept of the file's head, before the decoder is opened. */
static void plan_kept(struct image_state *image, const struct field *field, const struct sample_value *value,
                      const struct row_key *key, struct job *job)
{
    const uint64_t bits = value->head && !value->reduced ? __atomic_load_n(value->head, __ATOMIC_RELAXED) : 0;
    const struct sample_head kept = sample_head_unpack(bits);
    if (kept.width && kept.height && kept.orientation >= 1 && kept.orientation <= 8)
        plan_job(image, field, key, job, (int32_t)kept.width, (int32_t)kept.height,
                 shrinks_of(field, job, (int32_t)kept.across, (int32_t)kept.down), orientation_of(field, kept.orientation), NULL);
}

/* What has the geometry of another field draws the same only in a picture of the same size. */
static int same_size(struct sample_size *seen, const struct job *job, int orientation, struct problem *why)
{
    const bool swap = kernel_turns[orientation].swap;
    const int32_t width = swap ? job->head.height : job->head.width, height = swap ? job->head.width : job->head.height;
    if (seen && seen->width && (seen->width != width || seen->height != height))
        return problem_set(why, -ERANGE, "%d x %d, but the picture whose geometry it shares is %d x %d", width, height,
                           seen->width, seen->height);
    if (seen)
        *seen = (struct sample_size){ width, height };
    return 0;
}

/* That was a hint: what the file says counts. */
static int plan_opened(struct image_state *image, const struct field *field, const struct sample_value *value,
                       const struct row_key *key, struct job *job, struct problem *why)
{
    const int orientation = orientation_of(field, (uint32_t)job->turned),
              error = same_size(value->size_of, job, orientation, why);
    if (error)
        return error;
    const int32_t shrinks = shrinks_of(field, job, job->head.across, job->head.down);
    if (job->planned && job->shrinks == shrinks && job->width == job->head.width && job->height == job->head.height &&
        job->orientation == orientation)
        return 0;
    return plan_job(image, field, key, job, job->head.width, job->head.height, shrinks, orientation, why);
}

/* The reader of the format that its bytes are of. */
static int choose_reader(struct image_state *image, const struct sample_value *value, struct job *job, struct problem *why)
{
    uint32_t kind;
    *job = (struct job){ .ops = &picture_reduced, .reader = &image->reduced };
    const int error = value->reduced ? 0 : picture_kind(value->data, value->size, &kind, why);
    if (!error && !value->reduced) {
        job->ops = picture_kinds[kind];
        job->reader = image->readers[kind];
    }
    return error;
}

/* At the first visit, and where the file is another by now: every other one finds what it has itself. */
static void keep_head(uint64_t *kept, const struct job *job)
{
    const struct sample_head head = { .width = (uint32_t)job->head.width,
                                      .height = (uint32_t)job->head.height,
                                      .components = (uint32_t)job->head.components,
                                      .across = (uint32_t)job->head.across,
                                      .down = (uint32_t)job->head.down,
                                      .orientation = (uint32_t)job->turned,
                                      .progressive = job->head.progressive };
    const uint64_t bits = sample_head_pack(&head);
    if (__atomic_load_n(kept, __ATOMIC_RELAXED) != bits)
        __atomic_store_n(kept, bits, __ATOMIC_RELAXED);
}

static int open_picture(void *codec, const struct field *field, const struct sample_value *value, struct job *job,
                        struct problem *why)
{
    const struct picture_file file = { value->data, value->size, codec, format_bytes(field) };
    const int error = job->ops->open(job->reader, &file, &job->head, why);
    if (error)
        return error;
    if (field->classes && !value->reduced && job->head.components != 1) {
        job->ops->close(job->reader);
        return problem_set(why, -ENOTSUP, "%s: %d channels, but a mask has one: a palette's or grey", job->ops->name,
                           job->head.components);
    }
    job->turned = job->ops->orientation ? job->ops->orientation(value->data, value->size) : 1;
    if (value->head && !value->reduced)
        keep_head(value->head, job);
    return 0;
}

static int image_reduce(void *state, void *codec, const struct field *field, const struct sample_value *value,
                        struct sample_value *reduced, struct problem *why)
{
    struct image_state *image = state;
    size_t room;
    void *out = image_reduced_room(codec, field, &room);
    struct job job;
    int error = choose_reader(image, value, &job, why);
    if (!error)
        error = open_picture(codec, field, value, &job, why);
    if (error)
        return error;
    *reduced = *value;
    if (reducer_takes(&job.head)) {
        error = reducer_run(image->reducer, job.ops, job.reader, &job.head, job.turned, out, &reduced->size, why);
        reduced->data = out;
        reduced->reduced = true;
        reduced->head = NULL;
    }
    job.ops->close(job.reader);
    return error;
}

static uint64_t image_reduced_print(const struct field *field)
{
    return (uint64_t)field->side << 8 | (uint64_t)field->classes << 7 | reduce_filter(field);
}

static int image_row(void *state, void *codec, const struct field *field, const struct sample_value *value,
                     const struct row_key *key, void *row, struct problem *why)
{
    struct image_state *image = state;
    struct job job;
    int error = choose_reader(image, value, &job, why);
    if (error)
        return error;
    plan_kept(image, field, value, key, &job);
    error = open_picture(codec, field, value, &job, why);
    if (error)
        return error;
    error = plan_opened(image, field, value, key, &job, why);
    if (!error && job.shrink > 1)
        job.ops->shrink(job.reader, job.shrink);
    if (!error)
        error = job.ops->crop(job.reader, &job.stored, why);
    if (!error)
        error = chain_run(image->chain, next_row, &job, row, why);
    job.ops->close(job.reader);
    return error;
}

const struct decode_ops decode_image = {
    .name = "image",
    .help = IMAGE_HELP,
    .settings = settings,
    .params_size = sizeof(struct image_params),
    .version = KERNEL_VERSION,
    .prepare = image_prepare,
    .worker_bytes = image_worker_bytes,
    .codec_bytes = image_codec_bytes,
    .reduce = image_reduce,
    .reduced_room = image_reduced_room,
    .reduced_print = image_reduced_print,
    .worker_open = image_worker_open,
    .worker_close = image_worker_close,
    .row = image_row,
};
