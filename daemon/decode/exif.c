/* SPDX-License-Identifier: MIT */
/* See exif.h. Called by the formats of pictures, on workers. */
#include "decode/exif.h"

#include <stdbool.h>
#include <string.h>

static uint32_t get16(const uint8_t *p, bool big)
{
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const uint8_t *p, bool big)
{
    return big ? get16(p, true) << 16 | get16(p + 2, true) : get16(p + 2, false) << 16 | get16(p, false);
}

/* TIFF 6.0, section 2; EXIF 2.3, 4.6.4: tag 0x112, one SHORT, in the first directory. */
int exif_orientation(const uint8_t *tiff, size_t size)
{
    if (size < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 0;
    const bool big = tiff[0] == 'M';
    const size_t at = get32(tiff + 4, big);
    if (at > size - 2)
        return 0;
    const uint32_t entries = get16(tiff + at, big);
    for (uint32_t i = 0; i < entries; i++) {
        const size_t entry = at + 2 + (size_t)i * 12;
        if (entry + 12 > size)
            return 0;
        if (get16(tiff + entry, big) != 0x112)
            continue;
        if (get16(tiff + entry + 2, big) != 3 || get32(tiff + entry + 4, big) != 1)
            return 0;
        const uint32_t value = get16(tiff + entry + 8, big);
        return value >= 1 && value <= 8 ? (int)value : 0;
    }
    return 0;
}
