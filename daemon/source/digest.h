/* SPDX-License-Identifier: MIT */
/* A hash over things of any size, many of them small: they are gathered in a buffer. For print.c and the `print` of sources, on
 * the thread that opens a feed. Numbers count as this machine stores them. */
#ifndef PFEED_DIGEST_H
#define PFEED_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest { /* of zeros first */
    uint64_t hash;
    size_t n;
    uint8_t bytes[16384];
};

void digest_add(struct digest *digest, const void *data, size_t size); /* size must follow from what was added before */
void digest_text(struct digest *digest, const char *text);             /* with its 0 */
void digest_number(struct digest *digest, uint64_t number);
uint64_t digest_end(struct digest *digest);

#endif
