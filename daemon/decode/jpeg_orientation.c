/* SPDX-License-Identifier: MIT */
/* Which way up a JPEG's EXIF data say that it is; see jpeg.h. Called on workers, over the file's bytes alone. */
#include <string.h>

#include "decode/exif.h"
#include "decode/jpeg.h"

/* Walks the markers itself, so that nothing need be kept in libjpeg's memory. ITU T.81, annex B. */
int jpeg_reader_orientation(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t at = 2;
    while (at + 4 <= size) {
        if (bytes[at] != 0xff)
            return 1;
        const uint8_t marker = bytes[at + 1];
        if (marker == 0xff) {
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9)
            return 1;
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
            at += 2;
            continue;
        }
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length < 2 || length > size - at - 2)
            return 1;
        if (marker == 0xe1 && length >= 8 && memcmp(bytes + at + 4, "Exif\0\0", 6) == 0) {
            const int orientation = exif_orientation(bytes + at + 10, length - 8);
            if (orientation)
                return orientation;
        }
        at += 2 + length;
    }
    return 1;
}
