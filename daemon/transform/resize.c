/* SPDX-License-Identifier: MIT */
/* resize: the whole picture, resized. Called by decode/image.c on workers; check on the main thread. */
#include <errno.h>

#include "transform/transform.h"

struct resize_params {
    struct setting_ints size;
    int interpolation;
    bool antialias;
};

static const struct setting settings[] = {
    { "size", SETTING_INTS, offsetof(struct resize_params, size), NULL, 1, 16384, NULL,
      "one number: of the shorter side, the other in proportion; or [height, width]" },
    { "interpolation", SETTING_CHOICE, offsetof(struct resize_params, interpolation), "bilinear", 0, 0, "bilinear|bicubic",
      "filter" },
    { "antialias", SETTING_BOOL, offsetof(struct resize_params, antialias), "yes", 0, 0, NULL,
      "stretch the filter when reducing" },
    SETTINGS_END,
};

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
    size->scaled = true;
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

static int resize_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct resize_params *p = params;
    (void)draw;
    int64_t width, height;
    resized(p, plan->window.width, plan->window.height, &width, &height);
    if (width > INT32_MAX / 2 || height > INT32_MAX / 2)
        return problem_set(why, -ERANGE, "resize: %d x %d would become %lld x %lld", plan->width, plan->height, (long long)width,
                           (long long)height);
    plan_resize(plan, (int32_t)width, (int32_t)height, p->interpolation ? FILTER_BICUBIC : FILTER_BILINEAR, p->antialias);
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
