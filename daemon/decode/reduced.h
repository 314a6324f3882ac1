/* SPDX-License-Identifier: MIT */
/* Reduced pictures, as caches keep them: a header and rows of three bytes a pixel, of a picture whose shorter side is no more than
 * a given number of pixels; as stored, with the orientation that the file says. Made by the fused kernel, read back as a format of
 * pictures of its own that takes no decoding. For decode/image.c, on workers; one reducer per worker and field. */
#ifndef PFEED_DECODE_REDUCED_H
#define PFEED_DECODE_REDUCED_H

#include "decode/picture.h"
#include "transform/kernel.h"

#define REDUCED_LONGEST 16 /* times the shorter side; longer pictures are used as they are */

/* Read back, by memory of its own. */
struct reduced_reader {
    const uint8_t *next;
    size_t width, height, bytes; /* of the picture; of one of its rows */
    int32_t left;                /* rows of the crop */
};

extern const struct picture_ops picture_reduced; /* `create` and what else the budget asks for it has not: a reader is given */

struct reducer;

size_t reduced_most(int32_t side); /* bytes of the largest one */
size_t reducer_bytes(int32_t side);
int reducer_create(struct reducer **out, int32_t side, enum filter filter);
void reducer_destroy(struct reducer *reducer);

/* Whether a picture of that size can be reduced at all. */
bool reducer_takes(const struct picture_head *head);
/* The picture is open, and its orientation known. Writes *size bytes, reduced_most at the most. */
int reducer_run(struct reducer *reducer, const struct picture_ops *ops, void *reader, const struct picture_head *head,
                int orientation, void *out, size_t *size, struct problem *why);

#endif
