/* SPDX-License-Identifier: MIT */
/* See shrink.h. */
#include "transform/shrink.h"

#include <math.h>

static int32_t furthest(const struct plan *plan, int32_t most)
{
    int32_t by = 1;
    if (plan->filter == FILTER_NEAREST || !plan->antialias) /* these take single pixels */
        return 1;
    while (by < most && plan->crop.width / (2 * by) >= SHRINK_REST * plan->scaled_width &&
           plan->crop.height / (2 * by) >= SHRINK_REST * plan->scaled_height)
        by *= 2;
    return by;
}

/* Of `size` pixels those from *at on, *length of them. A mirrored axis is shrunk from its other end, so that the pixel that may
 * be narrower than others is the first. */
static struct plan_span shrink_axis(int32_t *size, int32_t *at, int32_t *length, int32_t by, bool mirrored)
{
    const int32_t shrunk = (*size + by - 1) / by, before = mirrored ? shrunk * by - *size : 0;
    const double from = (double)(*at + before) / by, end = (double)(*at + before + *length) / by;
    *size = shrunk;
    *at = (int32_t)floor(from);
    *length = (int32_t)ceil(end) - *at;
    return (struct plan_span){ from - *at, end - from };
}

int32_t plan_shrink(struct plan *plan, struct kernel_turn turn, int32_t most)
{
    const int32_t by = furthest(plan, most);
    if (by == 1)
        return 1;
    plan->across = shrink_axis(&plan->width, &plan->crop.x, &plan->crop.width, by, turn.swap ? turn.mirror_y : turn.mirror_x);
    plan->down = shrink_axis(&plan->height, &plan->crop.y, &plan->crop.height, by, turn.swap ? turn.mirror_x : turn.mirror_y);
    plan->shrunk = true;
    return by;
}
