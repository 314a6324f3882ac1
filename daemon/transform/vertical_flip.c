/* SPDX-License-Identifier: MIT */
/* vertical_flip: top and bottom exchanged, now and then. Called by chain.c, on workers. */
#include "transform/transform.h"

struct vertical_flip_params {
    double p;
};

static const struct setting settings[] = {
    { "p", SETTING_FLOAT, offsetof(struct vertical_flip_params, p), "0.5", 0, 1, NULL, "probability" },
    SETTINGS_END,
};

static int vertical_flip_check(const void *params, struct plan_size *size, struct problem *why)
{
    (void)params, (void)size, (void)why;
    return 0;
}

static int vertical_flip_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct vertical_flip_params *p = params;
    (void)why;
    if (draw_unit(draw) < p->p)
        plan->flip_y = !plan->flip_y;
    return 0;
}

const struct transform_ops transform_vertical_flip = {
    .name = "vertical_flip",
    .help = "exchanges top and bottom with probability `p` (torchvision's RandomVerticalFlip)",
    .stage = TRANSFORM_MIRROR,
    .settings = settings,
    .params_size = sizeof(struct vertical_flip_params),
    .check = vertical_flip_check,
    .plan = vertical_flip_plan,
};
