/* SPDX-License-Identifier: MIT */
/* color_jitter: brightness, contrast, saturation and hue changed by drawn factors, in a drawn order. The arithmetic is that of
 * torchvision's v2 transforms of uint8 tensors: in float32, cut to 0..255 and truncated after each of the four; but each product
 * and sum is rounded (torch fuses some on some machines), and grey is exact (colour.h). Called by chain.c, on workers; check on the
 * main thread. */
#include <errno.h>

#include "transform/colour.h"
#include "transform/transform.h"

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE, KINDS };

struct color_jitter_params {
    struct setting_floats ranges[KINDS];
    double p;
};

#define RANGE(kind) offsetof(struct color_jitter_params, ranges) + (kind) * sizeof(struct setting_floats)

static const struct setting settings[] = {
    { "brightness", SETTING_FLOATS, RANGE(BRIGHTNESS), "0", 0, 100, NULL,
      "x: the factor is drawn from max(0, 1 - x) to 1 + x; or [smallest, largest]" },
    { "contrast", SETTING_FLOATS, RANGE(CONTRAST), "0", 0, 100, NULL, "the same, of the distance to the picture's mean grey" },
    { "saturation", SETTING_FLOATS, RANGE(SATURATION), "0", 0, 100, NULL, "the same, of the distance to the pixel's grey" },
    { "hue", SETTING_FLOATS, RANGE(HUE), "0", -0.5, 0.5, NULL,
      "x: what is added, in turns of the colour circle, is drawn from -x to x; or [smallest, largest]" },
    { "p", SETTING_FLOAT, offsetof(struct color_jitter_params, p), "1", 0, 1, NULL,
      "probability that anything is changed (torchvision's RandomApply)" },
    SETTINGS_END,
};

/* The range of a factor; 1, of hue 0, changes nothing. */
static void range_of(const struct color_jitter_params *p, int kind, double *low, double *high)
{
    const struct setting_floats *range = &p->ranges[kind];
    const double middle = kind == HUE ? 0 : 1;
    *low = range->n == 2 ? range->v[0] : middle - range->v[0];
    *high = range->n == 2 ? range->v[1] : middle + range->v[0];
    if (kind != HUE && *low < 0)
        *low = 0;
}

static bool is_active(const struct color_jitter_params *p, int kind)
{
    double low, high;
    range_of(p, kind, &low, &high);
    return low != high || low != (kind == HUE ? 0 : 1);
}

static int color_jitter_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct color_jitter_params *p = params;
    bool any = false;
    (void)size;
    for (int kind = 0; kind < KINDS; kind++) {
        const struct setting_floats *range = &p->ranges[kind];
        const char *name = settings[kind].name;
        if (range->n != 1 && range->n != 2)
            return problem_about(
                why, name, -1,
                problem_set(why, -EINVAL, "color_jitter: %s has %u numbers; give one, or [smallest, largest]", name, range->n));
        if (range->n == 1 && range->v[0] < 0)
            return problem_about(
                why, name, -1,
                problem_set(why, -EINVAL, "color_jitter: %s is %g; give 0 to 0.5, or [smallest, largest]", name, range->v[0]));
        if (range->n == 2 && range->v[0] > range->v[1])
            return problem_about(why, name, -1,
                                 problem_set(why, -EINVAL, "color_jitter: %s is [%g, %g]; give the smaller one first", name,
                                             range->v[0], range->v[1]));
        any |= is_active(p, kind);
    }
    return any ? 0
               : problem_set(
                     why, -EINVAL,
                     "color_jitter changes nothing; give brightness, contrast, saturation or hue, such as brightness: 0.4");
}

/* v: the four factors, then their order. All are drawn, wanted or not, so that none depends on what else the list says. */
static int color_jitter_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct color_jitter_params *p = params;
    int order[KINDS] = { BRIGHTNESS, CONTRAST, SATURATION, HUE };
    (void)why;
    if (draw_unit(draw) >= p->p)
        return 0;
    for (uint32_t i = KINDS - 1; i > 0; i--) {
        const uint64_t j = draw_below(draw, i + 1);
        const int keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
    struct plan_drawn *drawn = plan_act(plan, draw);
    for (int kind = 0; kind < KINDS; kind++) {
        double low, high;
        range_of(p, kind, &low, &high);
        drawn->v[kind] = draw_between(draw, low, high);
        drawn->v[KINDS + kind] = order[kind];
    }
    return 0;
}

static float cut(float v)
{
    v = v > 0.0f ? v : 0.0f;
    return v < 255.0f ? v : 255.0f;
}

static void map(struct pixels *pixels, const uint8_t table[256])
{
    const size_t n = (size_t)pixels->width * (size_t)pixels->height;
    for (int c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            pixels->plane[c][i] = table[pixels->plane[c][i]];
}

static void brightness(struct pixels *pixels, double factor)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)cut((float)i * (float)factor);
    map(pixels, table);
}

static void contrast(struct pixels *pixels, double factor)
{
    const size_t n = (size_t)pixels->width * (size_t)pixels->height;
    uint8_t table[256], grey[COLOUR_BLOCK];
    uint64_t sum = 0;
    for (size_t at = 0; at < n; at += COLOUR_BLOCK) {
        const size_t some = n - at < COLOUR_BLOCK ? n - at : COLOUR_BLOCK;
        uint32_t part = 0;
        colour_grey_block(pixels->plane, at, some, grey);
        for (size_t i = 0; i < some; i++)
            part += grey[i];
        sum += part;
    }
    const float mean = (float)((double)sum / (double)n), rest = (float)(1 - factor) * mean;
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)cut((float)i * (float)factor + rest);
    map(pixels, table);
}

static void saturation(struct pixels *pixels, double factor)
{
    const size_t n = (size_t)pixels->width * (size_t)pixels->height;
    const float own = (float)factor, other = (float)(1 - factor);
    uint8_t grey[COLOUR_BLOCK];
    for (size_t at = 0; at < n; at += COLOUR_BLOCK) {
        const size_t some = n - at < COLOUR_BLOCK ? n - at : COLOUR_BLOCK;
        colour_grey_block(pixels->plane, at, some, grey);
        for (int c = 0; c < 3; c++) {
            uint8_t *plane = pixels->plane[c] + at;
            for (size_t i = 0; i < some; i++)
                plane[i] = (uint8_t)(int32_t)cut((float)plane[i] * own + other * (float)grey[i]);
        }
    }
}

static float smaller(float a, float b)
{
    return a < b ? a : b;
}

static float larger(float a, float b)
{
    return a > b ? a : b;
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(int32_t)(smaller(larger(v, 0.0f), 1.0f) * 255.999f);
}

/* One pixel to hue, saturation and value and back; without branches, as every lane of a vector goes all ways. */
static inline void turn_hue(uint8_t *red, uint8_t *green, uint8_t *blue, float turn)
{
    const float unit = (float)(1.0 / 255), r = (float)*red * unit, g = (float)*green * unit, b = (float)*blue * unit;
    const float most = larger(larger(r, g), b), least = smaller(smaller(r, g), b), range = most - least;
    const float s = range / (range > 0.0f ? most : 1.0f), divisor = range > 0.0f ? range : 1.0f;
    const float rc = (most - r) / divisor, gc = (most - g) / divisor, bc = (most - b) / divisor;
    const float sixths = most == r ? bc - gc : most == g ? rc + 2.0f - bc : gc + 4.0f - rc;
    float h = sixths * (float)(1.0 / 6) + 1.0f;
    h = h >= 1.0f ? h - 1.0f : h;
    h = h + turn;
    h = h < 0.0f ? h + 1.0f : h;
    h = h >= 1.0f ? h - 1.0f : h;
    const float h6 = h * 6.0f;
    const int32_t sector = (int32_t)h6;
    const float f = h6 - (float)sector, sf = s * f;
    const float q = (1.0f - sf) * most, t = (sf + (1.0f - s)) * most, p = (1.0f - s) * most;
    const int32_t i = sector > 5 ? 0 : sector;
    *red = to_byte(i == 0 || i == 5 ? most : i == 1 ? q : i == 4 ? t : p);
    *green = to_byte(i == 1 || i == 2 ? most : i == 0 ? t : i == 3 ? q : p);
    *blue = to_byte(i == 3 || i == 4 ? most : i == 2 ? t : i == 5 ? q : p);
}

static void hue(struct pixels *pixels, double turn)
{
    const size_t n = (size_t)pixels->width * (size_t)pixels->height;
    uint8_t *restrict red = pixels->plane[0], *restrict green = pixels->plane[1], *restrict blue = pixels->plane[2];
    for (size_t i = 0; i < n; i++)
        turn_hue(&red[i], &green[i], &blue[i], (float)turn);
}

static void color_jitter_pixels(const struct plan_drawn *drawn, struct pixels *pixels)
{
    static void (*const change[KINDS])(struct pixels *, double) = { brightness, contrast, saturation, hue };
    for (int i = 0; i < KINDS; i++) {
        const int kind = (int)drawn->v[KINDS + i];
        if (is_active(drawn->params, kind))
            change[kind](pixels, drawn->v[kind]);
    }
}

const struct transform_ops transform_color_jitter = {
    .name = "color_jitter",
    .help = "changes brightness, contrast, saturation and hue by drawn factors, in a drawn order (torchvision's ColorJitter)",
    .stage = TRANSFORM_COLOUR,
    .settings = settings,
    .params_size = sizeof(struct color_jitter_params),
    .check = color_jitter_check,
    .plan = color_jitter_plan,
    .pixels = color_jitter_pixels,
};
