/* SPDX-License-Identifier: MIT */
/* horizontal_flip: left and right exchanged, now and then. Called by chain.c, on workers. */
#include "transform/transform.h"

struct horizontal_flip_params {
    double p;
};

static const struct setting settings[] = {
    { "p", SETTING_FLOAT, offsetof(struct horizontal_flip_params, p), "0.5", 0, 1, NULL, "probability" },
    SETTINGS_END,
};

static int horizontal_flip_check(const void *params, struct plan_size *size, struct problem *why)
{
    (void)params, (void)size, (void)why;
    return 0;
}

static int horizontal_flip_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct horizontal_flip_params *p = params;
    (void)why;
    if (draw_unit(draw) < p->p)
        plan->flip_x = !plan->flip_x;
    return 0;
}

const struct transform_ops transform_horizontal_flip = {
    .name = "horizontal_flip",
    .help = "exchanges left and right with probability `p` (torchvision's RandomHorizontalFlip)",
    .stage = TRANSFORM_MIRROR,
    .settings = settings,
    .params_size = sizeof(struct horizontal_flip_params),
    .check = horizontal_flip_check,
    .plan = horizontal_flip_plan,
};
