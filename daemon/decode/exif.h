/* SPDX-License-Identifier: MIT */
/* What EXIF data say about a picture, whichever format they come in. Used by decode/jpeg_orientation.c and decode/png.c. */
#ifndef PFEED_DECODE_EXIF_H
#define PFEED_DECODE_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* tiff: from its byte order mark on. 1 to 8; 0 where it says none or it makes no sense. */
int exif_orientation(const uint8_t *tiff, size_t size);

#endif
