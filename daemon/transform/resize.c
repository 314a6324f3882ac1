/* SPDX-License-Identifier: MIT */
/* resize: the whole picture, resized. Called by chain.c, on workers; check on the main thread. */
#include <errno.h>
#include <math.h>

#include "transform/transform.h"

struct resize_params {
    struct setting_ints size, fill;
    int interpolation;
    bool antialias, pad;
};

static const struct setting settings[] = {
    { "size", SETTING_INTS, offsetof(struct resize_params, size), NULL, 1, 16384, NULL,
      "one number: of the shorter side, the other in proportion; or [height, width]; with `pad` one number is [number, number]" },
    { "interpolation", SETTING_CHOICE, offsetof(struct resize_params, interpolation), "bilinear", 0, 0, FILTER_WORDS, "filter" },
    { "antialias", SETTING_BOOL, offsetof(struct resize_params, antialias), "yes", 0, 0, NULL,
      "stretch the filter when reducing" },
    { "pad", SETTING_BOOL, offsetof(struct resize_params, pad), "no", 0, 0, NULL,
      "in proportion, as large as fits into `size`, in the middle of it (Pillow's ImageOps.pad)" },
    { "fill", SETTING_INTS, offsetof(struct resize_params, fill), "0", 0, 255, NULL,
      "with `pad` the colour of what is added, 0..255: one number, or three for red, green and blue" },
    SETTINGS_END,
};

/* Pillow's ImageOps.contain: the side with less room fits, the other is rounded, halves to even. */
static void fitted(const struct resize_params *p, int64_t width, int64_t height, int64_t *to_width, int64_t *to_height)
{
    *to_width = p->size.v[p->size.n - 1];
    *to_height = p->size.v[0];
    if (width * *to_height > height * *to_width)
        *to_height = (int64_t)rint((double)height / (double)width * (double)*to_width);
    else if (width * *to_height < height * *to_width)
        *to_width = (int64_t)rint((double)width / (double)height * (double)*to_height);
    *to_width = *to_width > 0 ? *to_width : 1;
    *to_height = *to_height > 0 ? *to_height : 1;
}

/* What a picture of width x height becomes; torchvision truncates the long side. */
static void resized(const struct resize_params *p, int64_t width, int64_t height, int64_t *to_width, int64_t *to_height)
{
    *to_width = p->size.v[p->size.n - 1];
    *to_height = p->size.v[0];
    if (p->size.n == 2)
        return;
    if (width > height)
        *to_width = *to_height * width / height;
    else
        *to_height = *to_width * height / width;
}

static int resize_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct resize_params *p = params;
    if (size->scaled)
        return problem_set(why, -EINVAL, "resize: the picture was resized before; keep only one of the transforms that resize");
    if (p->size.n < 1 || p->size.n > 2)
        return problem_about(why, "size", -1,
                             problem_set(why, -EINVAL, "resize: size has %u numbers; give one, or [height, width]", p->size.n));
    if (size->padder)
        return problem_set(why, -EINVAL, "resize: %s before it pads; put the resize first", size->padder);
    size->scaled = true;
    if (p->pad) {
        size->width = (int32_t)p->size.v[p->size.n - 1];
        size->height = (int32_t)p->size.v[0];
        return plan_size_pad(size, "resize", &p->fill, why);
    }
    /* The long side is known only for each picture, unless a crop before this one has fixed both. */
    if (p->size.n == 1 && !size->width)
        return 0;
    int64_t width, height;
    resized(p, size->width, size->height, &width, &height);
    if (width > 65536 || height > 65536)
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL, "resize: %d x %d (height x width) would become %lld x %lld; give less, or [height, width]",
                        size->height, size->width, (long long)height, (long long)width));
    size->width = (int32_t)width;
    size->height = (int32_t)height;
    return 0;
}

static int32_t half_even(int32_t n)
{
    return n / 2 + (n % 2 && n / 2 % 2);
}

static void plan_padded(const struct resize_params *p, struct plan *plan)
{
    int64_t width, height;
    uint8_t fill[3];
    fitted(p, plan->window.width, plan->window.height, &width, &height);
    plan_resize(plan, (int32_t)width, (int32_t)height, (enum filter)p->interpolation, p->antialias);
    const int32_t more_x = (int32_t)(p->size.v[p->size.n - 1] - width), more_y = (int32_t)(p->size.v[0] - height);
    /* A flip drawn before is carried out last, but the picture lies where it would without. */
    const int32_t left = half_even(more_x), top = half_even(more_y);
    plan_fill(&p->fill, fill);
    plan_pad(plan, left, top, more_x - left, more_y - top, fill);
}

static int resize_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct resize_params *p = params;
    (void)draw;
    if (p->pad) {
        plan_padded(p, plan);
        return 0;
    }
    int64_t width, height;
    resized(p, plan->window.width, plan->window.height, &width, &height);
    if (width > INT32_MAX / 2 || height > INT32_MAX / 2)
        return problem_set(why, -ERANGE, "resize: %d x %d would become %lld x %lld", plan->width, plan->height, (long long)width,
                           (long long)height);
    plan_resize(plan, (int32_t)width, (int32_t)height, (enum filter)p->interpolation, p->antialias);
    return 0;
}

const struct transform_ops transform_resize = {
    .name = "resize",
    .help = "the whole picture, resized (torchvision's Resize)",
    .settings = settings,
    .params_size = sizeof(struct resize_params),
    .check = resize_check,
    .plan = resize_plan,
};
