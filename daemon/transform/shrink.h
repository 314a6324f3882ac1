/* SPDX-License-Identifier: MIT */
/* Large reductions of a picture that its decoder can shrink by 2, 4 or 8 for less than a whole decode costs (libjpeg's scaled
 * DCT): how far, and where the crop lies in the shrunk picture. Called by chain.c on workers, after a plan is drawn. */
#ifndef PFEED_TRANSFORM_SHRINK_H
#define PFEED_TRANSFORM_SHRINK_H

#include "transform/kernel.h"

#define SHRINK_REST                                                                                                              \
    2 /* the resize that is left reduces at least so far, so that its filter, not the decoder's, makes the result */

/* most: what the decoder can, a power of two. Returns what it is to do; more than 1: the plan is now one of the shrunk picture,
 * whose sizes are rounded up, and places and sizes are exact: by fractions of a pixel, which the kernel takes as its filters'
 * places. */
int32_t plan_shrink(struct plan *plan, struct kernel_turn turn, int32_t most);

#endif
