/* SPDX-License-Identifier: MIT */
/* normalize: (value - mean) / std of each channel, values being 0..1. Called by chain.c, on workers; check on the main thread. */
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

static int check_channels(const char *key, const struct setting_floats *list, double least, struct problem *why)
{
    if (list->n != 1 && list->n != 3)
        return problem_set(why, -EINVAL, "normalize: %s has %u numbers; give one, or three for red, green and blue", key,
                           list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->v[i] > 1)
            return problem_set(why, -EINVAL, "normalize: %s %g, but values are 0..1 here; divide mean and std by 255 (%g)", key,
                               list->v[i], list->v[i] / 255);
        if (!(list->v[i] >= least))
            return problem_set(why, -EINVAL, "normalize: %s %g is too small; give %g to 1", key, list->v[i], least);
    }
    return 0;
}

static int normalize_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct normalize_params *p = params;
    if (size->normalize)
        return problem_set(why, -EINVAL, "normalize: the values are normalised already; keep one of the two");
    int rc = problem_about(why, "mean", -1, check_channels("mean", &p->mean, -1, why));
    if (rc == 0)
        rc = problem_about(why, "std", -1, check_channels("std", &p->std, 1e-6, why));
    if (rc == 0 && size->whole_numbers)
        rc = problem_set(why, -EINVAL,
                         "normalize gives fractions, which uint8 cannot hold; take dtype: float16, or leave normalize to the "
                         "trainer");
    if (rc < 0)
        return rc;
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
    .stage = TRANSFORM_VALUE,
    .settings = settings,
    .params_size = sizeof(struct normalize_params),
    .check = normalize_check,
    .plan = normalize_plan,
};
