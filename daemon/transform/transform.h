/* SPDX-License-Identifier: MIT */
/* What a kind of transform is: one file of this folder, one const struct transform_ops at its end named transform_<word>, one
 * word in daemon/meson.build. Transforms of pictures do not touch pixels: they write into a plan, drawn from the picture's
 * size alone, and one fused kernel (kernel.c) carries it out on the way from the decoder into the slot. */
#ifndef PFEED_TRANSFORM_H
#define PFEED_TRANSFORM_H

#include "random.h"
#include "sample.h"
#include "setting.h"

enum filter { FILTER_BILINEAR, FILTER_BICUBIC };

/* What will be done to one picture. Rectangles are in pixels of the upright picture. */
struct plan {
    int32_t width, height;               /* of the whole picture; given */
    struct rect crop;                    /* of the source; starts as the whole picture */
    int32_t scaled_width, scaled_height; /* the crop is resized to this; starts as the crop's size */
    bool scaled;                         /* a transform has set the above */
    struct rect window;                  /* of the resized picture: what comes out; starts as all of it */
    bool flip_x, flip_y;                 /* of what comes out */
    enum filter filter;
    bool antialias;
    bool normalize;
    float mean[3], std[3];
};

/* The size of what comes out, as far as it is known before any picture is seen (0: not known). */
struct plan_size {
    int32_t width, height;
    bool scaled, normalize;
    bool whole_numbers; /* what comes out is uint8 */
    float mean[3], std[3];
};

/* What happens to a plan, in the words of the list of transforms: each step sees what the steps before it would give. */
static inline void plan_init(struct plan *plan, int32_t width, int32_t height)
{
    *plan = (struct plan){ .width = width,
                           .height = height,
                           .crop = { 0, 0, width, height },
                           .scaled_width = width,
                           .scaled_height = height,
                           .window = { 0, 0, width, height },
                           .antialias = true,
                           .std = { 1, 1, 1 } };
}

/* area: of what comes out at this point, whose size is plan->window's. A flip drawn earlier is carried out last, so that
 * the area is mirrored here. */
static inline void plan_crop(struct plan *plan, struct rect area)
{
    if (plan->flip_x)
        area.x = plan->window.width - area.x - area.width;
    if (plan->flip_y)
        area.y = plan->window.height - area.y - area.height;
    if (plan->scaled) {
        plan->window = (struct rect){ plan->window.x + area.x, plan->window.y + area.y, area.width, area.height };
        return;
    }
    plan->crop = (struct rect){ plan->crop.x + area.x, plan->crop.y + area.y, area.width, area.height };
    plan->window = (struct rect){ 0, 0, area.width, area.height };
    plan->scaled_width = area.width;
    plan->scaled_height = area.height;
}

/* Once per plan: check() refuses a second transform that resizes. */
static inline void plan_resize(struct plan *plan, int32_t width, int32_t height, enum filter filter, bool antialias)
{
    plan->scaled = true;
    plan->scaled_width = width;
    plan->scaled_height = height;
    plan->window = (struct rect){ 0, 0, width, height };
    plan->filter = filter;
    plan->antialias = antialias;
}

struct transform_ops {
    const char *name, *help;
    const struct setting *settings; /* ends with SETTINGS_END */
    size_t params_size;
    /* Main thread, at start: checks the params, follows the size. */
    int (*check)(const void *params, struct plan_size *size, struct problem *why);
    /* On a worker: pure in draw's key. The plan's picture may be any size; -ERANGE and a sentence where it cannot be done. */
    int (*plan)(const void *params, struct draw *draw, struct plan *plan, struct problem *why);
};

extern const struct transform_ops *const transform_kinds[]; /* generated; NULL at the end */

#endif
