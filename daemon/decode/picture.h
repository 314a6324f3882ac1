/* SPDX-License-Identifier: MIT */
/* What a format of pictures is: one file of this folder, one const struct picture_ops at its end named picture_<word>, one word
 * in daemon/meson.build. decode/image.c chooses by the file's first bytes and calls, on workers:
 *
 *     open, crop, row as often as the crop has rows, close
 *
 * Each worker has one reader of each format for each field, made and touched before READY and used from picture to picture.
 * After that nothing is allocated: what one picture needs lies in the memory that open is handed, which the readers of a
 * worker share. The pixels are those of a decode of the whole picture, whatever the crop; what lies below it is not read. */
#ifndef PFEED_PICTURE_H
#define PFEED_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "sample.h"

#define PICTURE_SIDE 65500 /* the widest and highest picture: libjpeg's own limit, and the kernel's */

struct picture_head {
    int32_t width, height; /* as stored, before any orientation */
    int32_t components;    /* 1 grey, 2 grey and alpha, 3 colour, 4 inks, or colour and alpha */
    int32_t across, down;  /* the largest sampling factors of any component; 1 where there is no such thing */
    bool progressive;      /* kept whole while it is decoded */
};

struct picture_limits {
    uint64_t max_pixels;
    uint64_t max_kept;     /* pixels of a picture that is only decoded whole, and kept: a progressive JPEG, an interlaced PNG */
    uint8_t background[3]; /* what transparent pictures are laid over */
    bool classes;          /* pixels are numbers of classes: one channel of up to 8 bits, as it is stored; three times the same */
};

/* The file, which must stay until close, and memory for what the picture needs: aligned to 64, codec_bytes of it. */
struct picture_file {
    const void *data;
    size_t size;
    void *memory;
    size_t memory_size;
};

struct picture_ops {
    const char *name; /* as people write it: "JPEG" */
    bool (*is)(const uint8_t *bytes, size_t size);
    int (*orientation)(const void *data, size_t size); /* EXIF's, 1 to 8; 1 where it says none. NULL: always 1 */
    /* For the budget: what create takes; and what one picture may take, a multiple of 64. */
    size_t (*reader_bytes)(void);
    size_t (*codec_bytes)(const struct picture_limits *limits);
    int (*create)(void **reader, const struct picture_limits *limits);
    void (*destroy)(void *reader); /* NULL is fine */
    /* -EBADMSG damaged, -ENOTSUP a kind that is not read, -EFBIG past a limit, -ENOMEM; with a sentence. */
    int (*open)(void *reader, const struct picture_file *file, struct picture_head *head, struct problem *why);
    /* How far the format can shrink a picture of those sampling factors while it decodes it: 1, 2, 4 or 8. NULL: 1. And, before
     * crop, that it is to: a pixel is then about the mean of `by` times `by`, and the sizes are rounded up. */
    int32_t (*shrinks)(int32_t across, int32_t down);
    void (*shrink)(void *reader, int32_t by);
    /* Once after open; the crop lies in the stored, or shrunk, picture. */
    int (*crop)(void *reader, const struct rect *crop, struct problem *why);
    /* The crop's next row, 3 bytes a pixel, red first; valid until the next call. */
    int (*row)(void *reader, const uint8_t **row, struct problem *why);
    void (*close)(void *reader); /* at any time, also after an error */
};

extern const struct picture_ops *const picture_kinds[]; /* generated; NULL at the end */

/* Which of picture_kinds a file is, by its first bytes; -EILSEQ and what it seems to be. */
int picture_kind(const void *data, size_t size, uint32_t *kind, struct problem *why);
/* For open: -EFBIG and a sentence past a limit. whole: what the picture is that is only decoded whole, or NULL. */
int picture_check_size(const char *name, uint32_t width, uint32_t height, const char *whole, const struct picture_limits *limits,
                       struct problem *why);

#endif
