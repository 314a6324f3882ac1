/* SPDX-License-Identifier: MIT */
/* grayscale: the colours become grey, always or now and then; there are still three. Called by chain.c, on workers. */
#include <string.h>

#include "transform/colour.h"
#include "transform/transform.h"

struct grayscale_params {
    double p;
};

static const struct setting settings[] = {
    { "p", SETTING_FLOAT, offsetof(struct grayscale_params, p), "1", 0, 1, NULL, "probability" },
    SETTINGS_END,
};

static int grayscale_check(const void *params, struct plan_size *size, struct problem *why)
{
    (void)params, (void)size, (void)why;
    return 0;
}

static int grayscale_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct grayscale_params *p = params;
    (void)why;
    if (draw_unit(draw) < p->p)
        plan_act(plan, draw);
    return 0;
}

static void grayscale_pixels(const struct plan_drawn *drawn, struct pixels *pixels)
{
    const size_t n = (size_t)pixels->width * (size_t)pixels->height;
    uint8_t grey[COLOUR_BLOCK];
    (void)drawn;
    for (size_t at = 0; at < n; at += COLOUR_BLOCK) {
        const size_t some = n - at < COLOUR_BLOCK ? n - at : COLOUR_BLOCK;
        colour_grey_block(pixels->plane, at, some, grey);
        for (int c = 0; c < 3; c++)
            memcpy(pixels->plane[c] + at, grey, some);
    }
}

const struct transform_ops transform_grayscale = {
    .name = "grayscale",
    .help = "three equal channels of grey, with probability `p` (torchvision's Grayscale and RandomGrayscale)",
    .stage = TRANSFORM_COLOUR,
    .settings = settings,
    .params_size = sizeof(struct grayscale_params),
    .check = grayscale_check,
    .plan = grayscale_plan,
    .pixels = grayscale_pixels,
};
