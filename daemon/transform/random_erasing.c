/* SPDX-License-Identifier: MIT */
/* random_erasing: a rectangle of the finished row is overwritten, now and then. Called by chain.c, on workers; check on the main
 * thread. */
#include <errno.h>
#include <math.h>

#include "half.h"
#include "transform/transform.h"

#define TRIES 10

struct random_erasing_params {
    double p;
    struct setting_floats scale, ratio, value;
};

static const struct setting settings[] = {
    { "p", SETTING_FLOAT, offsetof(struct random_erasing_params, p), "0.5", 0, 1, NULL, "probability" },
    { "scale", SETTING_FLOATS, offsetof(struct random_erasing_params, scale), "[0.02, 0.33]", 0, 1, NULL,
      "smallest and largest share of the row's area" },
    { "ratio", SETTING_FLOATS, offsetof(struct random_erasing_params, ratio), "[0.3, 3.3]", 0.01, 100, NULL,
      "smallest and largest height / width of the rectangle" },
    { "value", SETTING_FLOATS, offsetof(struct random_erasing_params, value), "0", 0, 0, "random",
      "what it is overwritten with, as it then stands in the row: one number, or three for red, green and blue; random: normal "
      "noise of mean 0 and deviation 1" },
    SETTINGS_END,
};

static int check_range(const char *key, const struct setting_floats *list, struct problem *why)
{
    if (list->n != 2)
        return problem_set(why, -EINVAL, "random_erasing: %s has %u numbers; give [smallest, largest]", key, list->n);
    if (list->v[0] > list->v[1])
        return problem_set(why, -EINVAL, "random_erasing: %s is [%g, %g]; give the smaller one first", key, list->v[0],
                           list->v[1]);
    return 0;
}

static int check_value(const struct setting_floats *value, bool whole_numbers, struct problem *why)
{
    if (value->n != 0 && value->n != 1 && value->n != 3)
        return problem_set(why, -EINVAL,
                           "random_erasing: value has %u numbers; give one, three for red, green and blue, or random", value->n);
    if (whole_numbers && value->n == 0)
        return problem_set(why, -EINVAL,
                           "random_erasing: noise has fractions, which uint8 cannot hold; take dtype: float16, or a number");
    for (uint32_t i = 0; i < value->n; i++)
        if (whole_numbers && (value->v[i] < 0 || value->v[i] > 255))
            return problem_set(why, -EINVAL, "random_erasing: value %g is no uint8; give 0 to 255", value->v[i]);
    return 0;
}

static int random_erasing_check(const void *params, struct plan_size *size, struct problem *why)
{
    const struct random_erasing_params *p = params;
    int rc = problem_about(why, "scale", -1, check_range("scale", &p->scale, why));
    if (rc == 0)
        rc = problem_about(why, "ratio", -1, check_range("ratio", &p->ratio, why));
    if (rc == 0)
        rc = problem_about(why, "value", -1, check_value(&p->value, size->whole_numbers, why));
    return rc;
}

/* torchvision's RandomErasing.get_params: up to ten draws of an area and, uniform in its logarithm, a ratio; where none fits,
 * nothing is erased. v: y, x, height, width. */
static int random_erasing_plan(const void *params, struct draw *draw, struct plan *plan, struct problem *why)
{
    const struct random_erasing_params *p = params;
    const double width = plan->window.width, height = plan->window.height, low = log(p->ratio.v[0]), high = log(p->ratio.v[1]);
    (void)why;
    if (draw_unit(draw) >= p->p)
        return 0;
    for (int i = 0; i < TRIES; i++) {
        const double area = width * height * draw_between(draw, p->scale.v[0], p->scale.v[1]);
        const double ratio = exp(draw_between(draw, low, high)), h = rint(sqrt(area * ratio)), w = rint(sqrt(area / ratio));
        if (h >= height || w >= width)
            continue;
        const uint64_t y = draw_below(draw, (uint64_t)(height - h) + 1), x = draw_below(draw, (uint64_t)(width - w) + 1);
        struct plan_drawn *drawn = plan_act(plan, draw);
        drawn->v[0] = (double)y;
        drawn->v[1] = (double)x;
        drawn->v[2] = h;
        drawn->v[3] = w;
        return 0;
    }
    return 0;
}

/* The natural logarithm of 0 < x < 1 by nothing but products, sums and one quotient: libm's may differ in the last bit from one
 * machine to another. 2 artanh((m - 1) / (m + 1)), whose next term would be below 10^-18. */
static double logarithm(double x)
{
    int exponent;
    double m = frexp(x, &exponent), sum = 0;
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    const double s = (m - 1) / (m + 1), z = s * s;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * z + 1.0 / k;
    return 2 * s * sum + exponent * 0.69314718055994531;
}

static double quotient(const double over[8], const double under[8], double r)
{
    double a = over[7], b = under[7];
    for (int i = 6; i >= 0; i--) {
        a = a * r + over[i];
        b = b * r + under[i];
    }
    return a / b;
}

/* The normal distribution's quantile for 0 < p < 1: M. J. Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37, 1988. */
static double normal(double p)
{
    static const double middle[2][8] = {
        { 3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
          4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3 },
        { 1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
          3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3 },
    };
    static const double side[2][8] = {
        { 1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
          1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4 },
        { 1, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
          1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9 },
    };
    static const double tail[2][8] = {
        { 6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
          2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7 },
        { 1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4,
          1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15 },
    };
    const double q = p - 0.5;
    if (fabs(q) <= 0.425)
        return q * quotient(middle[0], middle[1], 0.180625 - q * q);
    const double r = sqrt(-logarithm(q < 0 ? p : 1 - p));
    const double z = r <= 5 ? quotient(side[0], side[1], r - 1.6) : quotient(tail[0], tail[1], r - 5);
    return q < 0 ? -z : z;
}

static void store(const struct values *values, size_t at, float v)
{
    switch (values->dtype) {
    case DTYPE_U8:
        ((uint8_t *)values->data)[at] = (uint8_t)(v + 0.5f);
        break;
    case DTYPE_F16:
        ((uint16_t *)values->data)[at] = half_from_float(v);
        break;
    case DTYPE_BF16:
        ((uint16_t *)values->data)[at] = bfloat_from_float(v);
        break;
    default:
        ((float *)values->data)[at] = v;
    }
}

/* Channel by channel, row by row, a word of the stream for each value. */
static void random_erasing_finish(const struct plan_drawn *drawn, struct values *values)
{
    const struct setting_floats *value = &((const struct random_erasing_params *)drawn->params)->value;
    const size_t width = (size_t)values->width, plane = width * (size_t)values->height;
    const size_t top = (size_t)drawn->v[0], left = (size_t)drawn->v[1], high = (size_t)drawn->v[2], wide = (size_t)drawn->v[3];
    struct draw draw = drawn->draw;
    for (size_t c = 0; c < 3; c++) {
        float v = value->n ? (float)value->v[value->n == 1 ? 0 : c] : 0;
        for (size_t y = top; y < top + high; y++)
            for (size_t x = left; x < left + wide; x++) {
                if (value->n == 0)
                    v = (float)normal(((double)(draw_u64(&draw) >> 12) + 0.5) * 0x1p-52);
                store(values, values->layout == LAYOUT_CHW ? c * plane + y * width + x : (y * width + x) * 3 + c, v);
            }
    }
}

const struct transform_ops transform_random_erasing = {
    .name = "random_erasing",
    .help = "overwrites a random rectangle with probability `p` (torchvision's RandomErasing)",
    .stage = TRANSFORM_ROW,
    .settings = settings,
    .params_size = sizeof(struct random_erasing_params),
    .check = random_erasing_check,
    .plan = random_erasing_plan,
    .finish = random_erasing_finish,
};
