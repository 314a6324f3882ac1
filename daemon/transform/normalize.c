/* SPDX-License-Identifier: MIT */
/* normalize: (value - mean) / std of each channel, values being 0..1. Called by decode/image.c on workers; check on the main
 * thread. */
#include <errno.h>

#include "transform/transform.h"

struct normalize_params {
    struct setting_floats mean, std;
};

static const struct setting settings[] = {
    { "mean", SETTING_FLOATS, offsetof(struct normalize_params, mean), NULL, 0, 0, NULL, "of red, green and blue, within 0..1" },
    { "std", SETTING_FLOATS, offsetof(struct normalize_params, std), NULL, 0, 0, NULL, "of red, green and blue, within 0..1" },
    SETTINGS_END,
};

static void fill(const struct normalize_params *p, float mean[3], float std[3])
{
    for (uint32_t c = 0; c < 3; c++) {
        mean[c] = (float)p->mean.v[p->mean.n == 1 ? 0 : c];
        std[c] = (float)p->std.v[p->std.n == 1 ? 0 : c];
    }
}

static int normalize_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct normalize_params *p = params;
    if (size->normalize)
        return problem_set(why, -EINVAL, "normalize: the values are normalised already; keep one of the two");
    if ((p->mean.n != 1 && p->mean.n != 3) || (p->std.n != 1 && p->std.n != 3))
        return problem_set(why, -EINVAL, "normalize: mean and std are one number or three, for red, green and blue");
    for (uint32_t i = 0; i < p->mean.n; i++)
        if (!(p->mean.v[i] >= -1 && p->mean.v[i] <= 1))
            return problem_set(why, -EINVAL, "normalize: mean %g, but values are 0..1 here: divide mean and std by 255 (%g)",
                               p->mean.v[i], p->mean.v[i] / 255);
    for (uint32_t i = 0; i < p->std.n; i++) {
        if (p->std.v[i] > 1)
            return problem_set(why, -EINVAL, "normalize: std %g, but values are 0..1 here: divide mean and std by 255 (%g)",
                               p->std.v[i], p->std.v[i] / 255);
        if (!(p->std.v[i] >= 1e-6))
            return problem_set(why, -EINVAL, "normalize: std %g must be more than 0", p->std.v[i]);
    }
    fill(p, size->mean, size->std);
    size->normalize = true;
    return 0;
}

static int normalize_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    (void)draw, (void)why;
    fill(params, plan->mean, plan->std);
    plan->normalize = true;
    return 0;
}

const struct transform_ops transform_normalize = {
    .name = "normalize",
    .help = "(value - mean) / std of each channel; values are 0..1 before it (torchvision's Normalize)",
    .settings = settings,
    .params_size = sizeof(struct normalize_params),
    .check = normalize_check,
    .plan = normalize_plan,
};
