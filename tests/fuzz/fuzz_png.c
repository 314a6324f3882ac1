/* SPDX-License-Identifier: MIT */
/* Fuzz target: PNGs. The first byte is for pictures.h, and whether the checksums are made right first, so that what is behind
 * them is reached; the rest is the file. */
#include <zlib.h>

#include "pictures.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_checksums(uint8_t *png, size_t size)
{
    for (size_t at = 8; size - at >= 12;) {
        const uint32_t length = (uint32_t)png[at] << 24 | (uint32_t)png[at + 1] << 16 | (uint32_t)png[at + 2] << 8 | png[at + 3];
        uint32_t sum;

        if (length > size - at - 12)
            return;
        sum = (uint32_t)crc32_z(0, png + at + 4, (size_t)length + 4);
        for (int i = 0; i < 4; i++)
            png[at + 8 + length + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        at += 12 + (size_t)length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *png;

    if (size == 0)
        return 0;
    png = malloc(size); /* a byte more than the file, for an empty one */
    memcpy(png, data + 1, size - 1);
    if (size > 8 && !(data[0] & 2))
        mend_checksums(png, size - 1);
    png = realloc(png, size - 1 ? size - 1 : 1); /* its own block, so that ASan sees a read past the end */
    picture_row(data[0], png, size - 1);
    free(png);
    return 0;
}
