/* SPDX-License-Identifier: MIT */
/* What transforms of colours share: shades of grey. On workers. */
#ifndef PFEED_TRANSFORM_COLOUR_H
#define PFEED_TRANSFORM_COLOUR_H

#include <stddef.h>
#include <stdint.h>

#define COLOUR_BLOCK 256 /* pixels that are worked on at a time, so that what lies between stays in the nearest cache */

/* floor(0.2989 red + 0.587 green + 0.114 blue), torchvision's weights, computed exactly: n counts steps of 1 / 10000, and the three
 * roundings of the product and the sum stay below half of one, for all of the 2,549,746 values (a test tries them). */
static inline int32_t colour_grey(uint8_t red, uint8_t green, uint8_t blue)
{
    const int32_t n = 2989 * red + 5870 * green + 1140 * blue;
    return (int32_t)((float)n * 1e-4f + 5e-5f);
}

static inline void colour_grey_block(uint8_t *const plane[3], size_t at, size_t n, uint8_t *restrict grey)
{
    const uint8_t *red = plane[0] + at, *green = plane[1] + at, *blue = plane[2] + at;
    for (size_t i = 0; i < n; i++)
        grey[i] = (uint8_t)colour_grey(red[i], green[i], blue[i]);
}

#endif
