/* SPDX-License-Identifier: MIT */
/* A PNG as a row of chunks: the file without those that no pixel depends on (text, profiles: any that is not critical, but
 * tRNS), so that libspng neither inflates nor keeps them; and which way up EXIF says that it is. Used by decode/png.c, on
 * workers. Each chunk's checksum is looked at before anything of it is used, so that no row comes from a damaged one, wherever the
 * crop ends; also of those that are left out. */
#ifndef PFEED_DECODE_PNG_CHUNKS_H
#define PFEED_DECODE_PNG_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct png_chunks {
    const uint8_t *data; /* which is a PNG by its first bytes */
    size_t size;
    size_t at, left; /* left: bytes of the chunk that `at` is in; both from 0 */
};

/* The next bytes; fewer at the end, and before a chunk that is damaged or cut: `at` is where. */
size_t png_chunks_read(struct png_chunks *chunks, void *to, size_t length);

bool png_is(const uint8_t *bytes, size_t size);
int png_orientation(const void *data, size_t size); /* EXIF's, 1 to 8 */

#endif
