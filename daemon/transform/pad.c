/* SPDX-License-Identifier: MIT */
/* What the transforms that pad have in common: one colour for all of them. check on the main thread, plans on workers. */
#include <errno.h>
#include <string.h>

#include "transform/transform.h"

void plan_fill(const struct setting_ints *words, uint8_t fill[3])
{
    for (uint32_t c = 0; c < 3; c++)
        fill[c] = words->n ? (uint8_t)words->v[words->n == 1 ? 0 : c] : 0;
}

int plan_size_pad(struct plan_size *size, const char *name, const struct setting_ints *words, struct problem *why)
{
    uint8_t fill[3];
    if (words->n != 1 && words->n != 3)
        return problem_about(
            why, "fill", -1,
            problem_set(why, -EINVAL, "%s: fill has %u numbers; give one, or three for red, green and blue", name, words->n));
    plan_fill(words, fill);
    if (size->normalize)
        return problem_set(why, -EINVAL, "%s: fill is a colour, and the values are normalised here; put %s before normalize",
                           name, name);
    if (size->padder && memcmp(fill, size->fill, sizeof fill) != 0)
        return problem_about(why, "fill", -1,
                             problem_set(why, -EINVAL, "%s: %s before it fills with another colour; let both have the same fill",
                                         name, size->padder));
    size->padder = name;
    memcpy(size->fill, fill, sizeof fill);
    return 0;
}
