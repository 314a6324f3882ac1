/* SPDX-License-Identifier: MIT */
/* What sources, decoders and transforms share: the parts of a sample, the key from which all its randomness comes, and a
 * compiled field. No locks here: sources are read by several workers at once, everything else belongs to one worker. */
#ifndef PFEED_SAMPLE_H
#define PFEED_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "log.h"

#define SAMPLE_DIMS      8
#define FIELD_TRANSFORMS 16
#define NAME_SIZE        32 /* of fields, parts; with the closing zero */

enum part_kind {
    PART_ENCODED, /* bytes of a file, to be decoded */
    PART_VALUES,  /* plain numbers of `dtype` and `shape` */
};

/* One part of a source's samples, such as "image" or "label". */
struct sample_part {
    char name[NAME_SIZE];
    enum part_kind kind;
    enum dtype dtype; /* PART_VALUES */
    uint32_t ndim;    /* PART_VALUES; 0: a scalar */
    int64_t shape[SAMPLE_DIMS];
};

/* A part of a picture, in pixels from its upper left corner. */
struct rect {
    int32_t x, y, width, height;
};

/* What the head of a picture's file says, so that a crop can be planned before the file is read. A hint: the file may have
 * changed since it was last visited. */
struct sample_head {
    uint32_t width, height; /* as stored, up to 65,535 */
    uint32_t components;    /* 1 grey, 3 colour, 4 inks; up to 7 */
    uint32_t across, down;  /* largest sampling factors, 1 to 4: 2, 2 is 4:2:0 */
    uint32_t orientation;   /* EXIF's, 1 to 8 */
    bool progressive;
};

#define SAMPLE_HEAD_SIZES UINT64_C(0xffffffff) /* width and height */

/* In 64 bits, of which 0 means: not known. */
static inline uint64_t sample_head_pack(const struct sample_head *head)
{
    return head->width | (uint64_t)head->height << 16 | (uint64_t)head->components << 32 | (uint64_t)head->across << 35 |
           (uint64_t)head->down << 38 | (uint64_t)head->orientation << 41 | (uint64_t)head->progressive << 45;
}

static inline struct sample_head sample_head_unpack(uint64_t bits)
{
    return (struct sample_head){ .width = bits & 0xffff,
                                 .height = bits >> 16 & 0xffff,
                                 .components = bits >> 32 & 7,
                                 .across = bits >> 35 & 7,
                                 .down = bits >> 38 & 7,
                                 .orientation = bits >> 41 & 15,
                                 .progressive = bits >> 45 & 1 };
}

/* The upright size of a sample's picture; 0: not known yet. */
struct sample_size {
    int32_t width, height;
};

/* The value of one part of one sample, valid until the worker reads the next part. */
struct sample_value {
    const void *data;
    size_t size; /* bytes */
    const struct sample_part *part;
    uint64_t *head; /* a packed head that the decoder may set, by one relaxed store; NULL: the source keeps none */
    bool reduced;   /* data is what the decoder's `reduce` has made */
    /* The fields of one sample that share geometry share this: each must find its picture's size there, or sets it. NULL: nobody
     * asks. */
    struct sample_size *size_of;
};

/* Everything that a row's randomness may depend on (DESIGN.md section 5). */
struct row_key {
    uint64_t seed, epoch, id;
    uint32_t occurrence, view;
};

enum layout { LAYOUT_CHW, LAYOUT_HWC };

struct transform_ops;
struct decode_ops;

struct transform_use {
    const struct transform_ops *ops;
    const void *params;
    uint32_t ordinal; /* 0 for the first of its kind in the list, then 1, ... */
};

/* A field as the workers see it; made by config.c and decode_ops.prepare, constant afterwards. */
struct field {
    char name[NAME_SIZE];
    char from[NAME_SIZE]; /* the part of the sample */
    uint32_t part;        /* its index in the source's parts */
    const struct decode_ops *decode;
    const void *decode_params;
    uint32_t geometry; /* 0, or 1 + the index of the field whose geometry it has */
    uint32_t n_transforms;
    struct transform_use transforms[FIELD_TRANSFORMS];
    enum dtype dtype;
    enum layout layout;
    uint32_t ndim;
    int64_t shape[SAMPLE_DIMS]; /* of one row; (3, H, W) or (H, W, 3) for images, () for a label */
    size_t row_bytes;
    bool classes;          /* pixels are numbers of classes: nearest neighbours, a palette's own numbers */
    uint8_t class_fill;    /* what padding adds, then */
    int32_t side;          /* the decoder goes through a picture reduced to this shorter side; 0: it does not */
    bool is_image;         /* peek shows it; mean and std undo the normalising */
    float mean[3], std[3]; /* value = (pixel / 255 - mean) / std; 0 and 1 without normalize */
};

#endif
