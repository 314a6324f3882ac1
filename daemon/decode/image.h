/* SPDX-License-Identifier: MIT */
/* What decode/image.c takes, for decode/mask.c, which lets it decode. */
#ifndef PFEED_DECODE_IMAGE_H
#define PFEED_DECODE_IMAGE_H

#include "setting.h"

struct image_params {
    bool orientation;
    int64_t max_pixels, max_progressive;
    struct setting_ints background;
    int scaled_decode;
};

#endif
