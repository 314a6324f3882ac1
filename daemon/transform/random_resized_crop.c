/* SPDX-License-Identifier: MIT */
/* random_resized_crop: a random part of the picture, resized. Called by chain.c, on workers; check on the main thread. */
#include <errno.h>
#include <math.h>

#include "transform/transform.h"

#define TRIES 10

struct random_resized_crop_params {
    struct setting_ints size;
    struct setting_floats scale, ratio;
    int interpolation;
    bool antialias;
};

static const struct setting settings[] = {
    { "size", SETTING_INTS, offsetof(struct random_resized_crop_params, size), NULL, 1, 16384, NULL,
      "pixels of the result: one number, or [height, width]" },
    { "scale", SETTING_FLOATS, offsetof(struct random_resized_crop_params, scale), "[0.08, 1.0]", 1e-6, 1, NULL,
      "smallest and largest share of the picture's area" },
    { "ratio", SETTING_FLOATS, offsetof(struct random_resized_crop_params, ratio), "[0.75, 1.3333333333333333]", 0.01, 100, NULL,
      "smallest and largest width / height of the part" },
    { "interpolation", SETTING_CHOICE, offsetof(struct random_resized_crop_params, interpolation), "bilinear", 0, 0, FILTER_WORDS,
      "filter" },
    { "antialias", SETTING_BOOL, offsetof(struct random_resized_crop_params, antialias), "yes", 0, 0, NULL,
      "stretch the filter when reducing" },
    SETTINGS_END,
};

static int check_range(const char *key, const struct setting_floats *list, struct problem *why)
{
    if (list->n != 2)
        return problem_set(why, -EINVAL, "random_resized_crop: %s has %u numbers; give [smallest, largest]", key, list->n);
    if (list->v[0] > list->v[1])
        return problem_set(why, -EINVAL, "random_resized_crop: %s is [%g, %g]; give the smaller one first", key, list->v[0],
                           list->v[1]);
    return 0;
}

static int random_resized_crop_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct random_resized_crop_params *p = params;
    if (size->scaled)
        return problem_set(why, -EINVAL,
                           "random_resized_crop: the picture was resized before; keep only one of the transforms that resize");
    if (size->padder)
        return problem_set(why, -EINVAL, "random_resized_crop: %s before it pads; put the resize first", size->padder);
    if (p->size.n < 1 || p->size.n > 2)
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL, "random_resized_crop: size has %u numbers; give one, or [height, width]", p->size.n));
    int rc = problem_about(why, "scale", -1, check_range("scale", &p->scale, why));
    if (rc == 0)
        rc = problem_about(why, "ratio", -1, check_range("ratio", &p->ratio, why));
    if (rc < 0)
        return rc;
    size->height = (int32_t)p->size.v[0];
    size->width = (int32_t)p->size.v[p->size.n - 1];
    size->scaled = true;
    return 0;
}

/* torchvision's RandomResizedCrop.get_params: up to ten draws of an area and, uniform in its logarithm, a ratio; where none
 * fits, the largest part in the middle whose ratio is allowed. Rounding is to even, as Python's. */
static struct rect draw_part(const struct random_resized_crop_params *p, struct draw *draw, int32_t width, int32_t height)
{
    const double area = (double)width * height, low = log(p->ratio.v[0]), high = log(p->ratio.v[1]);
    for (int i = 0; i < TRIES; i++) {
        const double target = area * draw_between(draw, p->scale.v[0], p->scale.v[1]);
        const double ratio = exp(draw_between(draw, low, high));
        const double w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));
        if (w < 1 || h < 1 || w > width || h > height)
            continue;
        const int32_t y = (int32_t)draw_below(draw, (uint64_t)(height - (int32_t)h) + 1);
        const int32_t x = (int32_t)draw_below(draw, (uint64_t)(width - (int32_t)w) + 1);
        return (struct rect){ x, y, (int32_t)w, (int32_t)h };
    }
    const double ratio = (double)width / height;
    struct rect part = { 0, 0, width, height };
    if (ratio < p->ratio.v[0])
        part.height = (int32_t)rint(width / p->ratio.v[0]);
    else if (ratio > p->ratio.v[1])
        part.width = (int32_t)rint(height * p->ratio.v[1]);
    if (part.height < 1)
        part.height = 1;
    if (part.width < 1)
        part.width = 1;
    part.x = (width - part.width) / 2;
    part.y = (height - part.height) / 2;
    return part;
}

static int random_resized_crop_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct random_resized_crop_params *p = params;
    (void)why;
    plan_crop(plan, draw_part(p, draw, plan->window.width, plan->window.height));
    plan_resize(plan, (int32_t)p->size.v[p->size.n - 1], (int32_t)p->size.v[0], (enum filter)p->interpolation, p->antialias);
    return 0;
}

const struct transform_ops transform_random_resized_crop = {
    .name = "random_resized_crop",
    .help = "a random part of the picture, resized to `size` (torchvision's RandomResizedCrop)",
    .settings = settings,
    .params_size = sizeof(struct random_resized_crop_params),
    .check = random_resized_crop_check,
    .plan = random_resized_crop_plan,
};
