/* SPDX-License-Identifier: MIT */
/* See chain.h. */
#include "transform/chain.h"

#include <errno.h>
#include <stdlib.h>

struct chain {
    struct kernel *kernel;
    struct plan plan;
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

size_t chain_bytes(const struct field *field, const struct chain_shape *shape)
{
    (void)field;
    return sizeof(struct chain) + kernel_bytes(shape->width, shape->height, shape->swap_pixels);
}

int chain_create(struct chain **out, const struct field *field, const struct chain_shape *shape)
{
    struct chain *chain = calloc(1, sizeof *chain);
    if (!chain)
        return -ENOMEM;
    (void)field;
    const int error =
        kernel_create(&chain->kernel, NULL, shape->width, shape->height, shape->dtype, shape->layout, shape->swap_pixels);
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
    free(chain);
}

int chain_draw(const struct field *field, const struct row_key *key, struct plan *plan, struct problem *why)
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

int chain_plan(struct chain *chain, const struct field *field, const struct row_key *key, int32_t width, int32_t height,
               struct kernel_turn turn, struct rect *stored, struct problem *why)
{
    plan_init(&chain->plan, width, height);
    const int error = chain_draw(field, key, &chain->plan, why);
    return error ? error : kernel_plan(chain->kernel, &chain->plan, turn, stored, why);
}

int chain_run(struct chain *chain, int (*next)(void *from, const uint8_t **row, struct problem *why), void *from, void *row,
              struct problem *why)
{
    return kernel_run(chain->kernel, next, from, row, why);
}
