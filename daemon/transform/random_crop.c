/* SPDX-License-Identifier: MIT */
/* random_crop: a part of one size, anywhere in the picture or in what padding makes of it. Called by chain.c, on workers; check on
 * the main thread. */
#include <errno.h>

#include "transform/transform.h"

struct random_crop_params {
    struct setting_ints size, padding, fill;
    bool pad_if_needed;
    int padding_mode;
};

static const struct setting settings[] = {
    { "size", SETTING_INTS, offsetof(struct random_crop_params, size), NULL, 1, 16384, NULL,
      "pixels of the result: one number, or [height, width]" },
    { "padding", SETTING_INTS, offsetof(struct random_crop_params, padding), "0", 0, 16384, NULL,
      "pixels added first: one number, [left and right, top and bottom], or [left, top, right, bottom]" },
    { "pad_if_needed", SETTING_BOOL, offsetof(struct random_crop_params, pad_if_needed), "no", 0, 0, NULL,
      "add to both sides what a smaller picture lacks; else such a picture is a bad sample" },
    { "fill", SETTING_INTS, offsetof(struct random_crop_params, fill), "0", 0, 255, NULL,
      "the colour of what is added, 0..255: one number, or three for red, green and blue" },
    { "padding_mode", SETTING_CHOICE, offsetof(struct random_crop_params, padding_mode), "constant", 0, 0,
      "constant|!edge|!reflect|!symmetric", "what is added: one colour" },
    SETTINGS_END,
};

static int32_t height_of(const struct random_crop_params *p)
{
    return (int32_t)p->size.v[0];
}

static int32_t width_of(const struct random_crop_params *p)
{
    return (int32_t)p->size.v[p->size.n - 1];
}

/* torchvision's order: left, top, right, bottom. */
static void padding_of(const struct random_crop_params *p, int32_t sides[4])
{
    for (uint32_t i = 0; i < 4; i++)
        sides[i] = (int32_t)p->padding.v[p->padding.n == 1 ? 0 : p->padding.n == 2 ? i % 2 : i];
}

static bool pads(const struct random_crop_params *p)
{
    for (uint32_t i = 0; i < p->padding.n; i++)
        if (p->padding.v[i])
            return true;
    return p->pad_if_needed;
}

static int random_crop_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct random_crop_params *p = params;
    int32_t sides[4];
    if (p->size.n < 1 || p->size.n > 2)
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL, "random_crop: size has %u numbers; give one, or [height, width]", p->size.n));
    if (p->padding.n != 1 && p->padding.n != 2 && p->padding.n != 4)
        return problem_about(
            why, "padding", -1,
            problem_set(why, -EINVAL,
                        "random_crop: padding has %u numbers; give one, [left and right, top and bottom], or [left, top, right, "
                        "bottom]",
                        p->padding.n));
    padding_of(p, sides);
    const int32_t height = height_of(p), width = width_of(p), high = size->height + sides[1] + sides[3],
                  wide = size->width + sides[0] + sides[2];
    if (!p->pad_if_needed && ((size->width && width > wide) || (size->height && height > high)))
        return problem_about(
            why, "size", -1,
            problem_set(why, -EINVAL,
                        "random_crop: %d x %d (height x width) is more than the %d x %d that are left here; give "
                        "less, more padding, or pad_if_needed: yes",
                        height, width, high, wide));
    size->height = height;
    size->width = width;
    return pads(p) ? plan_size_pad(size, "random_crop", &p->fill, why) : 0;
}

/* torchvision's RandomCrop: padding, then, of a picture that is still smaller, what it lacks on both sides; the place is uniform. */
static int random_crop_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct random_crop_params *p = params;
    const int32_t height = height_of(p), width = width_of(p);
    int32_t sides[4];
    padding_of(p, sides);
    const int32_t wide = plan->window.width + sides[0] + sides[2], high = plan->window.height + sides[1] + sides[3];
    const int32_t lacks_x = width > wide ? width - wide : 0, lacks_y = height > high ? height - high : 0;
    if (!p->pad_if_needed && (lacks_x || lacks_y))
        return problem_set(why, -ERANGE,
                           "random_crop: the picture is %d x %d here, smaller than %d x %d; put a resize before it, or give "
                           "pad_if_needed: yes",
                           wide, high, width, height);
    if (pads(p)) {
        uint8_t fill[3];
        plan_fill(&p->fill, fill);
        plan_pad(plan, sides[0] + lacks_x, sides[1] + lacks_y, sides[2] + lacks_x, sides[3] + lacks_y, fill);
    }
    const int32_t y = (int32_t)draw_below(draw, (uint64_t)(plan->window.height - height) + 1);
    const int32_t x = (int32_t)draw_below(draw, (uint64_t)(plan->window.width - width) + 1);
    plan_crop(plan, (struct rect){ x, y, width, height });
    return 0;
}

const struct transform_ops transform_random_crop = {
    .name = "random_crop",
    .help = "a part of `size`, anywhere in the picture or in the padding around it (torchvision's RandomCrop)",
    .settings = settings,
    .params_size = sizeof(struct random_crop_params),
    .check = random_crop_check,
    .plan = random_crop_plan,
};
