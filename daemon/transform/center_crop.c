/* SPDX-License-Identifier: MIT */
/* center_crop: the middle of the picture. Nothing is padded: a picture that is smaller is a bad sample, since torchvision's
 * black borders are rarely what was meant. Called by chain.c, on workers; check on the main thread. */
#include <errno.h>

#include "transform/transform.h"

struct center_crop_params {
    struct setting_ints size;
};

static const struct setting settings[] = {
    { "size", SETTING_INTS, offsetof(struct center_crop_params, size), NULL, 1, 16384, NULL,
      "pixels of the result: one number, or [height, width]; a smaller picture is a bad sample" },
    SETTINGS_END,
};

static int center_crop_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct center_crop_params *p = params;
    if (p->size.n < 1 || p->size.n > 2)
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL, "center_crop: size has %u numbers; give one, or [height, width]", p->size.n));
    const int32_t height = (int32_t)p->size.v[0], width = (int32_t)p->size.v[p->size.n - 1];
    if ((size->width && width > size->width) || (size->height && height > size->height))
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL,
                        "center_crop: %d x %d (height x width) is more than the %d x %d that are left here; give "
                        "less, or a larger size before it",
                        height, width, size->height, size->width));
    size->height = height;
    size->width = width;
    return 0;
}

/* torchvision rounds half of the surplus to even. */
static int32_t half_even(int32_t surplus)
{
    const int32_t half = surplus / 2;
    return surplus % 2 ? half + half % 2 : half;
}

static int center_crop_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct center_crop_params *p = params;
    (void)draw;
    const int32_t height = (int32_t)p->size.v[0], width = (int32_t)p->size.v[p->size.n - 1];
    const int32_t wide = plan->window.width - width, high = plan->window.height - height;
    if (wide < 0 || high < 0)
        return problem_set(why, -ERANGE, "center_crop: the picture is %d x %d here, smaller than %d x %d; put a resize before it",
                           plan->window.width, plan->window.height, width, height);
    plan_crop(plan, (struct rect){ half_even(wide), half_even(high), width, height });
    return 0;
}

const struct transform_ops transform_center_crop = {
    .name = "center_crop",
    .help = "the middle of the picture (torchvision's CenterCrop, without padding)",
    .settings = settings,
    .params_size = sizeof(struct center_crop_params),
    .check = center_crop_check,
    .plan = center_crop_plan,
};
