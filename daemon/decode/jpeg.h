/* SPDX-License-Identifier: MIT */
/* JPEG pictures by libjpeg-turbo, row by row and only the rows and columns that are wanted: the one place that knows libjpeg.
 * Used by decode/image.c and the benchmarks; one reader per worker, reused from picture to picture, never shared.
 * (libjpeg owns the prefix jpeg_ and even jpeg_destroy, hence jpeg_reader_.)
 *
 *     jpeg_reader_open(reader, data, size, &head, why);
 *     jpeg_reader_crop(reader, x, y, width, height, why);
 *     for (i = 0; i < height; i++) jpeg_reader_row(reader, &row, why);
 *     jpeg_reader_close(reader);
 *
 * The rows are equal to those of a decode of the whole picture: accurate DCT, fancy upsampling. What lies below the crop is
 * not read. Any doubt of libjpeg's about the data (an error, or a warning such as a premature end) is an error here. */
#ifndef PFEED_DECODE_JPEG_H
#define PFEED_DECODE_JPEG_H

#include "decode/picture.h"

struct jpeg_reader;

/* What any picture of several components and one scan takes, however wide. */
#define JPEG_READER_ROWS (12u << 20)

int jpeg_reader_create(struct jpeg_reader **out, const struct picture_limits *limits);
void jpeg_reader_destroy(struct jpeg_reader *reader);
size_t jpeg_reader_bytes(void); /* what create takes */
/* Before an open: what libjpeg needs for one picture comes from here, aligned to 64, until close; readers of one thread may share
 * it. Without this call libjpeg asks malloc. */
void jpeg_reader_memory(struct jpeg_reader *reader, void *memory, size_t size);

/* The data must stay until close. -EBADMSG damaged, -ENOTSUP a kind of JPEG that is not read, -EFBIG past a limit, -ENOMEM;
 * with a sentence. */
int jpeg_reader_open(struct jpeg_reader *reader, const void *data, size_t size, struct picture_head *head, struct problem *why);
/* Between open and crop, 2, 4 or 8: the picture is decoded shrunk, by the DCT, its sizes rounded up. */
void jpeg_reader_shrink(struct jpeg_reader *reader, int32_t by);
/* Once after open; the rectangle must lie in the picture. */
int jpeg_reader_crop(struct jpeg_reader *reader, int32_t x, int32_t y, int32_t width, int32_t height, struct problem *why);
/* The crop's next row, 3 bytes a pixel, red first; valid until the next call. */
int jpeg_reader_row(struct jpeg_reader *reader, const uint8_t **row, struct problem *why);
/* At any time, also after an error. */
void jpeg_reader_close(struct jpeg_reader *reader);

/* EXIF's orientation, 1 to 8; 1 where there is none or it makes no sense. */
int jpeg_reader_orientation(const void *data, size_t size);

#endif
