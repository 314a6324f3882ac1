/* SPDX-License-Identifier: MIT */
/* See digest.h. XXH3, 64 bits, of each full buffer, with the hash of those before as its seed. */
#include <string.h>
#include <xxhash.h>

#include "source/digest.h"

static void flush(struct digest *digest)
{
    digest->hash = XXH3_64bits_withSeed(digest->bytes, digest->n, digest->hash);
    digest->n = 0;
}

void digest_add(struct digest *digest, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size) {
        size_t room = sizeof digest->bytes - digest->n, part = size < room ? size : room;
        memcpy(digest->bytes + digest->n, from, part);
        digest->n += part;
        from += part;
        size -= part;
        if (digest->n == sizeof digest->bytes)
            flush(digest);
    }
}

void digest_text(struct digest *digest, const char *text)
{
    digest_add(digest, text, strlen(text) + 1);
}

void digest_number(struct digest *digest, uint64_t number)
{
    digest_add(digest, &number, sizeof number);
}

uint64_t digest_end(struct digest *digest)
{
    flush(digest);
    return digest->hash;
}
