/* SPDX-License-Identifier: MIT */
/* One value out of a JSON text, as numbers of one type and shape. For tar_value.c, on any worker: all memory is the caller's. */
#ifndef PFEED_TAR_JSON_H
#define PFEED_TAR_JSON_H

#include "sample.h"

#define TAR_JSON_STEPS 8   /* of a key */
#define TAR_JSON_KEY   128 /* bytes of a key, with its closing zero */
#define TAR_JSON_MOST  ((size_t)1 << 20)

/* What a key says: "a.b.0", or as a JSON Pointer (RFC 6901) "/a/b/0". */
struct tar_json_key {
    char text[TAR_JSON_KEY]; /* the steps, each with its zero */
    uint32_t n;
    const char *steps[TAR_JSON_STEPS]; /* into text: a key cannot be copied */
};

int tar_json_key(struct tar_json_key *out, const char *key, struct problem *why);

/* Memory to read a text of so many bytes with; it must be aligned to 16. */
size_t tar_json_room(size_t size);
/* Writes the value at key as part's numbers to out: a number or true and false, lists of them of part's shape, or, where that is
 * one row of uint8, a string with zeros behind it. -EBADMSG and a sentence. */
int tar_json_read(const struct tar_json_key *key, const struct sample_part *part, const char *text, size_t size, void *room,
                  void *out, struct problem *why);

#endif
