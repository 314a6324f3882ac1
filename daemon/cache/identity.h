/* SPDX-License-Identifier: MIT */
/* What tells a feed's samples, and what is kept of them, from another feed's: hashes over all of them, for caches.c, on the thread
 * that opens feeds. */
#ifndef PFEED_CACHE_IDENTITY_H
#define PFEED_CACHE_IDENTITY_H

#include "feed.h"

struct identity {
    uint64_t source;             /* each sample's number and place */
    uint64_t places[PF_FIELDS];  /* of the bytes of the field's part: a sample may have several files */
    uint64_t recipes[PF_FIELDS]; /* of pictures that are reduced: what they depend on beside their files */
};

/* Where field f's bytes are encoded ones of a file. */
bool identity_has_file(const struct feed *feed, const struct field *field);
int identity_of(const struct feed *feed, struct identity *out); /* -ENOMEM */

#endif
