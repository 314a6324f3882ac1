/* SPDX-License-Identifier: MIT */
/* See png_chunks.h. Reads a file's bytes only, and allocates nothing. */
#include "decode/png_chunks.h"

#include <string.h>

#include <zlib.h>

#include "decode/exif.h"

#define HEAD 8 /* bytes before the first chunk; and of a chunk before its data */

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The whole chunk at `at`: length, type, data, checksum; 0 where the file ends before it does. */
static size_t chunk_size(const uint8_t *data, size_t size, size_t at)
{
    const uint64_t rest = size - at, whole = rest < HEAD ? HEAD : (uint64_t)get32(data + at) + HEAD + 4;
    return whole <= rest ? (size_t)whole : 0;
}

/* The next chunk that is wanted, from `at` on: 0 at the end, and where one is not as it was written: also one that is not wanted, as
 * it may have been tRNS. */
static size_t next_chunk(struct png_chunks *chunks)
{
    size_t size;
    if (chunks->at == 0)
        return HEAD;
    while ((size = chunk_size(chunks->data, chunks->size, chunks->at))) {
        const uint8_t *type = chunks->data + chunks->at + 4;
        if (crc32_z(0, type, size - HEAD) != get32(type + size - HEAD))
            return 0;
        if (!(type[0] & 32) || memcmp(type, "tRNS", 4) == 0)
            return size;
        chunks->at += size;
    }
    return 0;
}

size_t png_chunks_read(struct png_chunks *chunks, void *to, size_t length)
{
    uint8_t *bytes = to;
    size_t done = 0;
    while (done < length) {
        if (!chunks->left && !(chunks->left = next_chunk(chunks)))
            break;
        const size_t n = length - done < chunks->left ? length - done : chunks->left;
        memcpy(bytes + done, chunks->data + chunks->at, n);
        chunks->at += n;
        chunks->left -= n;
        done += n;
    }
    return done;
}

bool png_is(const uint8_t *bytes, size_t size)
{
    return size >= HEAD && memcmp(bytes, "\x89PNG\r\n\x1a\n", HEAD) == 0;
}

int png_orientation(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t at = HEAD, n; at < size && (n = chunk_size(bytes, size, at)); at += n) {
        if (memcmp(bytes + at + 4, "IDAT", 4) == 0)
            break;
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0) {
            const int orientation = exif_orientation(bytes + at + HEAD, n - HEAD - 4);
            return orientation ? orientation : 1;
        }
    }
    return 1;
}
