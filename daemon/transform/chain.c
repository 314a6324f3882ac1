/* SPDX-License-Identifier: MIT */
/* See chain.h. */
#include "transform/chain.h"
#include "transform/shrink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct chain {
    struct kernel *kernel;
    struct chain_shape shape;
    struct plan plan;
    struct pixels pixels;  /* its memory begins at the first plane; NULL: no transform wants pixels */
    uint8_t *tables;       /* the 256 values that each plane's pixels become */
    float mean[3], std[3]; /* what they were made from */
};

/* What may not come before a transform of a stage. */
static const bool barred[TRANSFORM_STAGES][TRANSFORM_STAGES] = {
    [TRANSFORM_PLACE] = { [TRANSFORM_COLOUR] = true, [TRANSFORM_ROW] = true },
    [TRANSFORM_MIRROR] = { [TRANSFORM_ROW] = true },
    [TRANSFORM_COLOUR] = { [TRANSFORM_VALUE] = true, [TRANSFORM_ROW] = true },
    [TRANSFORM_VALUE] = { [TRANSFORM_ROW] = true },
};

int chain_check(const struct transform_use *use, struct plan_size *size, struct problem *why)
{
    static const char *const reasons[TRANSFORM_STAGES] = {
        [TRANSFORM_COLOUR] = "works on the picture in its last size",
        [TRANSFORM_VALUE] = "leaves no colours 0..255",
        [TRANSFORM_ROW] = "works on the finished row",
    };
    const struct transform_ops *ops = use->ops;
    for (int stage = 0; stage < TRANSFORM_STAGES; stage++)
        if (size->last[stage] && barred[ops->stage][stage])
            return problem_set(why, -EINVAL, "%s: %s before it %s; put %s before %s", ops->name, size->last[stage],
                               reasons[stage], ops->name, size->last[stage]);
    const int error = ops->check(use->params, size, why);
    if (!error)
        size->last[ops->stage] = ops->name;
    return error;
}

int chain_check_all(const struct field *field, struct plan_size *size, struct problem *why)
{
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const int error = chain_check(&field->transforms[i], size, why);
        if (error)
            return error;
    }
    if (!size->width || !size->height)
        return problem_set(why, -EINVAL,
                           "the rows would have no fixed size; end with a transform that gives one, such as "
                           "center_crop: { size: 224 } or random_resized_crop: { size: 224 }");
    return 0;
}

static bool has_colours(const struct field *field)
{
    for (uint32_t i = 0; i < field->n_transforms; i++)
        if (field->transforms[i].ops->pixels)
            return true;
    return false;
}

static size_t pixels_bytes(const struct field *field, const struct chain_shape *shape)
{
    bool spare = false;
    for (uint32_t i = 0; i < field->n_transforms; i++)
        spare |= field->transforms[i].ops->spare;
    return ((size_t)shape->width * (size_t)shape->height * (spare ? 6 : 3) + 63) / 64 * 64;
}

static size_t tables_bytes(const struct chain_shape *shape)
{
    return 3 * 256 * dtype_table[shape->dtype].size;
}

size_t chain_bytes(const struct field *field, const struct chain_shape *shape)
{
    size_t sum = sizeof(struct chain) + kernel_bytes(shape->width, shape->height, shape->swap_pixels);
    if (has_colours(field))
        sum += pixels_bytes(field, shape) + tables_bytes(shape);
    return sum;
}

/* Touched, as all that a worker has. */
static int pixels_create(struct chain *chain, const struct field *field)
{
    const size_t bytes = pixels_bytes(field, &chain->shape), plane = (size_t)chain->shape.width * (size_t)chain->shape.height;
    uint8_t *memory = aligned_alloc(64, bytes);
    chain->tables = malloc(tables_bytes(&chain->shape));
    chain->pixels.plane[0] = memory; /* chain_destroy's */
    if (!memory || !chain->tables)
        return -ENOMEM;
    chain->pixels = (struct pixels){ .plane = { memory, memory + plane, memory + 2 * plane },
                                     .spare = bytes >= 6 * plane ? memory + 3 * plane : NULL,
                                     .width = chain->shape.width,
                                     .height = chain->shape.height };
    memset(memory, 0, bytes);
    return 0;
}

int chain_create(struct chain **out, const struct field *field, const struct chain_shape *shape)
{
    const bool colours = has_colours(field);
    struct chain *chain = calloc(1, sizeof *chain);
    if (!chain)
        return -ENOMEM;
    chain->shape = *shape;
    int error = kernel_create(&chain->kernel, NULL, shape->width, shape->height, colours ? DTYPE_U8 : shape->dtype,
                              colours ? LAYOUT_CHW : shape->layout, shape->swap_pixels);
    if (!error && colours)
        error = pixels_create(chain, field);
    if (error) {
        chain_destroy(chain);
        return error;
    }
    *out = chain;
    return 0;
}

void chain_destroy(struct chain *chain)
{
    if (!chain)
        return;
    kernel_destroy(chain->kernel);
    free(chain->pixels.plane[0]);
    free(chain->tables);
    free(chain);
}

int chain_draw(const struct field *field, const struct row_key *key, struct plan *plan, struct problem *why)
{
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const struct transform_use *use = &field->transforms[i];
        struct draw draw;
        draw_init(&draw, key, use->ops->name, use->ordinal);
        struct plan_drawn *drawn = &plan->drawn[plan->n_drawn];
        const int error = use->ops->plan(use->params, &draw, plan, why);
        if (error)
            return error;
        drawn->ops = use->ops;
        drawn->params = use->params;
    }
    return 0;
}

int chain_plan(struct chain *chain, const struct field *field, const struct row_key *key, int32_t width, int32_t height,
               struct kernel_turn turn, int32_t *shrink, struct rect *stored, struct problem *why)
{
    plan_init(&chain->plan, width, height);
    const int error = chain_draw(field, key, &chain->plan, why);
    if (field->classes) {
        chain->plan.filter = FILTER_NEAREST;
        memset(chain->plan.fill, field->class_fill, sizeof chain->plan.fill);
    }
    if (!error)
        *shrink = plan_shrink(&chain->plan, turn, *shrink);
    return error ? error : kernel_plan(chain->kernel, &chain->plan, turn, stored, why);
}

static void tables_plan(struct chain *chain)
{
    const struct plan *plan = &chain->plan;
    if (memcmp(chain->mean, plan->mean, sizeof chain->mean) == 0 && memcmp(chain->std, plan->std, sizeof chain->std) == 0)
        return;
    memcpy(chain->mean, plan->mean, sizeof chain->mean);
    memcpy(chain->std, plan->std, sizeof chain->std);
    kernel_table(chain->shape.dtype, plan->mean, plan->std, chain->tables);
}

#define CONVERT(type)                                                                                                            \
    for (size_t c = 0; c < 3; c++) {                                                                                             \
        const uint8_t *from = chain->pixels.plane[c];                                                                            \
        const type *table = (const type *)(const void *)chain->tables + 256 * c;                                                 \
        type *to = (type *)row + (chain->shape.layout == LAYOUT_CHW ? c * n : c);                                                \
        const size_t step = chain->shape.layout == LAYOUT_CHW ? 1 : 3;                                                           \
        for (size_t i = 0; i < n; i++)                                                                                           \
            to[i * step] = table[from[i]];                                                                                       \
    }

/* Normalised, converted and laid out. */
static void convert(struct chain *chain, void *row)
{
    const size_t n = (size_t)chain->shape.width * (size_t)chain->shape.height;
    tables_plan(chain);
    switch (dtype_table[chain->shape.dtype].size) {
    case 1:
        CONVERT(uint8_t);
        break;
    case 2:
        CONVERT(uint16_t);
        break;
    default:
        CONVERT(uint32_t);
    }
}

int chain_run(struct chain *chain, int (*next)(void *from, const uint8_t **row, struct problem *why), void *from, void *row,
              struct problem *why)
{
    const struct plan *plan = &chain->plan;
    struct values values = { row, chain->shape.width, chain->shape.height, chain->shape.dtype, chain->shape.layout };
    uint8_t *pixels = chain->pixels.plane[0];
    const int error = kernel_run(chain->kernel, next, from, pixels ? pixels : row, why);
    if (error)
        return error;
    for (uint32_t i = 0; i < plan->n_drawn; i++)
        if (plan->drawn[i].ops->pixels)
            plan->drawn[i].ops->pixels(&plan->drawn[i], &chain->pixels);
    if (pixels)
        convert(chain, row);
    for (uint32_t i = 0; i < plan->n_drawn; i++)
        if (plan->drawn[i].ops->finish)
            plan->drawn[i].ops->finish(&plan->drawn[i], &values);
    return 0;
}
