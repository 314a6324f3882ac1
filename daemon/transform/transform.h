/* SPDX-License-Identifier: MIT */
/* What a kind of transform is: one file of this folder, one const struct transform_ops at its end named transform_<word>, one
 * word in daemon/meson.build. All that is random about it is drawn into a plan, from the picture's size alone; chain.c then
 * carries out the whole list. Where a picture's pixels go (crops, resizes, flips, padding) is left to the fused kernel
 * (kernel.c), which does all of it on the way from the decoder into the slot. What changes colours has `pixels`, which is handed
 * the picture in its last size; what works on the finished row has `finish`. tests/unit/test_transforms.c adds one of its own. */
#ifndef PFEED_TRANSFORM_H
#define PFEED_TRANSFORM_H

#include "random.h"
#include "sample.h"
#include "setting.h"

enum filter { FILTER_BILINEAR, FILTER_BICUBIC, FILTER_NEAREST };
#define FILTER_WORDS "bilinear|bicubic|nearest" /* of settings, in the order of the enum */

struct transform_ops;

/* What a transform of colours or of finished rows is to do with one picture. */
struct plan_drawn {
    const struct transform_ops *ops;
    const void *params;
    double v[8];      /* the transform's own numbers */
    struct draw draw; /* for more than fits there: where its stream stands */
};

/* Along one axis, in pixels from the crop's edge. */
struct plan_span {
    double from, length;
};

/* What will be done to one picture. Rectangles are in pixels of the upright picture. */
struct plan {
    int32_t width, height;               /* of the whole picture; given */
    struct rect crop;                    /* of the source; starts as the whole picture */
    int32_t scaled_width, scaled_height; /* the crop is resized to this; starts as the crop's size */
    bool scaled;                         /* a transform has set the above */
    bool shrunk;                         /* it is decoded shrunk (shrink.h): what the crop, in whole pixels of that, is exactly */
    struct plan_span across, down;
    struct rect window; /* of the resized picture: what comes out; starts as all of it */
    bool padded;        /* there are the two below */
    struct rect shown;  /* of the resized picture: what of it is left in the window; the rest is `fill` */
    uint8_t fill[3];
    bool flip_x, flip_y; /* of what comes out */
    enum filter filter;
    bool antialias;
    bool normalize;
    float mean[3], std[3];
    uint32_t n_drawn;
    struct plan_drawn drawn[FIELD_TRANSFORMS]; /* in the order of the list */
};

/* Where in the list a kind may stand: see chain_check (chain.h). */
enum transform_stage {
    TRANSFORM_PLACE,  /* moves pixels: crops, resizes */
    TRANSFORM_MIRROR, /* flips: as much, but they may stand after TRANSFORM_COLOUR, too */
    TRANSFORM_COLOUR, /* `pixels` */
    TRANSFORM_VALUE,  /* normalize */
    TRANSFORM_ROW,    /* `finish` */
    TRANSFORM_STAGES
};

/* The size of what comes out, as far as it is known before any picture is seen (0: not known). */
struct plan_size {
    int32_t width, height;
    const char *last[TRANSFORM_STAGES]; /* names of the last transform of each stage so far; NULL: none; chain_check's */
    bool scaled, normalize;
    const char *padder; /* who padded, NULL: nobody; with what */
    uint8_t fill[3];
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
    if (plan->scaled || plan->padded) {
        plan->window = (struct rect){ plan->window.x + area.x, plan->window.y + area.y, area.width, area.height };
        return;
    }
    plan->crop = (struct rect){ plan->crop.x + area.x, plan->crop.y + area.y, area.width, area.height };
    plan->window = (struct rect){ 0, 0, area.width, area.height };
    plan->scaled_width = area.width;
    plan->scaled_height = area.height;
}

/* What both have; its width or height is 0 where that is nothing. */
static inline struct rect rect_meet(struct rect a, struct rect b)
{
    const int32_t x = a.x > b.x ? a.x : b.x, y = a.y > b.y ? a.y : b.y;
    const int32_t right = a.x + a.width < b.x + b.width ? a.x + a.width : b.x + b.width;
    const int32_t bottom = a.y + a.height < b.y + b.height ? a.y + a.height : b.y + b.height;
    return (struct rect){ x, y, right > x ? right - x : 0, bottom > y ? bottom - y : 0 };
}

/* What comes out grows by so many pixels on each side, filled with one colour; flips drawn earlier are as in plan_crop. Not
 * before a resize: check() refuses that (plan_size_pad). */
static inline void plan_pad(struct plan *plan, int32_t left, int32_t top, int32_t right, int32_t bottom, const uint8_t fill[3])
{
    plan->shown = plan->padded ? rect_meet(plan->shown, plan->window) : plan->window; /* a crop may have cut some off */
    plan->padded = true;
    for (int c = 0; c < 3; c++)
        plan->fill[c] = fill[c];
    plan->window.x -= plan->flip_x ? right : left;
    plan->window.y -= plan->flip_y ? bottom : top;
    plan->window.width += left + right;
    plan->window.height += top + bottom;
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

/* In plan, of a transform with `pixels` or `finish`: it will be called, with this. Not asked for: nothing is done to this picture. */
static inline struct plan_drawn *plan_act(struct plan *plan, const struct draw *draw)
{
    struct plan_drawn *drawn = &plan->drawn[plan->n_drawn++];
    drawn->draw = *draw;
    return drawn;
}

/* A picture in its last size: red, green and blue, each width * height bytes, rows from the top. */
struct pixels {
    uint8_t *plane[3];
    uint8_t *spare; /* as much again, for who has `spare` set; its planes lie one after another */
    int32_t width, height;
};

/* The finished row, where it lies in the batch. */
struct values {
    void *data;
    int32_t width, height;
    enum dtype dtype; /* u8, f16, bf16 or f32 */
    enum layout layout;
};

/* In check: the colour that `fill:` says (none: black), and that plan_pad may be called with it. */
int plan_size_pad(struct plan_size *size, const char *name, const struct setting_ints *fill, struct problem *why);
void plan_fill(const struct setting_ints *words, uint8_t fill[3]);

struct transform_ops {
    const char *name, *help;
    enum transform_stage stage;
    const struct setting *settings; /* ends with SETTINGS_END */
    size_t params_size;
    /* Main thread, at start: checks the params, follows the size. */
    int (*check)(const void *params, struct plan_size *size, struct problem *why);
    /* On a worker: pure in draw's key. The plan's picture may be any size; -ERANGE and a sentence where it cannot be done. */
    int (*plan)(const void *params, struct draw *draw, struct plan *plan, struct problem *why);
    /* On a worker, where plan has asked for it: changes the pixels in place. */
    void (*pixels)(const struct plan_drawn *drawn, struct pixels *pixels);
    bool spare;
    /* The same of the finished row. */
    void (*finish)(const struct plan_drawn *drawn, struct values *values);
};

extern const struct transform_ops *const transform_kinds[]; /* generated; NULL at the end */

#endif
