/* SPDX-License-Identifier: MIT */
/* PNG pictures by libspng, row by row down to the crop's last; see picture.h. Called by decode/image.c on workers. Every kind of
 * PNG becomes 8-bit RGB: 16 bits by dropping the lower eight, 1 to 4 bits of grey spread over 0..255, transparency laid over the
 * background; gamma and colour profiles are ignored. An interlaced picture is kept whole.
 *
 * libspng's allocator has no argument of ours: what a picture takes comes from the arena of the thread's reader, from its start
 * on, and is given up all at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <spng.h>

#include "decode/picture.h"
#include "decode/png_chunks.h"

#define KEPT_BYTES 4          /* a pixel of an interlaced picture */
#define ROWS       (4u << 20) /* libspng's rows of the widest picture, 1.5 MiB, its context, zlib's window */

struct png_reader {
    spng_ctx *png;
    struct picture_limits limits;
    uint8_t *memory; /* of one picture */
    size_t memory_size, used;
    struct png_chunks chunks;
    struct spng_ihdr head;
    size_t pixel, pitch;  /* bytes */
    uint8_t *whole;       /* an interlaced picture's rows, else NULL */
    uint32_t x, y, width; /* y: of the next row */
    uint8_t row[PICTURE_SIDE * 4];
};

static _Thread_local struct png_reader *at_work;

static void *take(size_t size)
{
    const size_t free = at_work->memory_size - at_work->used;
    if (size > free || (size + 63) / 64 * 64 > free)
        return NULL;
    uint8_t *taken = at_work->memory + at_work->used;
    at_work->used += (size + 63) / 64 * 64;
    return taken;
}

static void *take_zeroed(size_t n, size_t size)
{
    void *taken = size && n > SIZE_MAX / size ? NULL : take(n * size);
    return taken ? memset(taken, 0, n * size) : NULL;
}

static void *take_more(void *old, size_t size) /* for text only, which it never sees */
{
    return old ? NULL : take(size);
}

static void leave(void *taken)
{
    (void)taken;
}

static int give(spng_ctx *png, void *of, void *to, size_t length)
{
    struct png_reader *reader = of;
    (void)png;
    return png_chunks_read(&reader->chunks, to, length) == length ? 0 : SPNG_IO_EOF;
}

static int broken(const struct png_reader *reader, int error, struct problem *why)
{
    if (error == SPNG_IO_EOF)
        return problem_set(why, -EBADMSG, "PNG: cut or damaged in the chunk that starts at byte %zu", reader->chunks.at);
    return problem_set(why, error == SPNG_EMEM ? -ENOMEM : -EBADMSG, "PNG: %s", spng_strerror(error));
}

static size_t png_reader_bytes(void)
{
    return sizeof(struct png_reader);
}

static size_t png_codec_bytes(const struct picture_limits *limits)
{
    const uint64_t kept = limits->max_kept < limits->max_pixels ? limits->max_kept : limits->max_pixels;
    return ((size_t)kept * KEPT_BYTES + 63) / 64 * 64 + ROWS;
}

static int png_create(void **out, const struct picture_limits *limits)
{
    struct png_reader *reader = malloc(sizeof *reader);
    if (!reader)
        return -ENOMEM;
    memset(reader, 0, sizeof *reader); /* faults it in, too */
    reader->limits = *limits;
    *out = reader;
    return 0;
}

static int start(struct png_reader *reader, struct problem *why)
{
    struct spng_alloc calls = { take, take_more, take_zeroed, leave };
    struct spng_trns trns;
    reader->png = spng_ctx_new2(&calls, 0);
    int error = reader->png ? spng_set_png_stream(reader->png, give, reader) : SPNG_EMEM;
    if (!error)
        error = spng_set_crc_action(reader->png, SPNG_CRC_USE, SPNG_CRC_USE); /* png_chunks.c has looked */
    if (!error)
        error = spng_get_ihdr(reader->png, &reader->head);
    if (error)
        return broken(reader, error, why);
    const int limit = picture_check_size("PNG", reader->head.width, reader->head.height,
                                         reader->head.interlace_method ? "interlaced" : NULL, &reader->limits, why);
    if (limit)
        return limit;
    error = spng_get_trns(reader->png, &trns);
    if (error && error != SPNG_ECHUNKAVAIL)
        return broken(reader, error, why);
    if (reader->limits.classes) {
        if ((reader->head.color_type != SPNG_COLOR_TYPE_INDEXED && reader->head.color_type != SPNG_COLOR_TYPE_GRAYSCALE) ||
            reader->head.bit_depth > 8)
            return problem_set(why, -ENOTSUP, "PNG: %s, but a mask has one channel of up to 8 bits: a palette's or grey",
                               reader->head.bit_depth > 8 ? "16 bits a channel" : "colours or transparency");
        reader->pixel = 0;
        error = spng_decode_image(reader->png, NULL, 0, SPNG_FMT_RAW, SPNG_DECODE_PROGRESSIVE);
        return error ? broken(reader, error, why) : 0;
    }
    const bool alpha = !error || (reader->head.color_type & 4);
    reader->pixel = alpha ? 4 : 3;
    error = spng_decode_image(reader->png, NULL, 0, alpha ? SPNG_FMT_RGBA8 : SPNG_FMT_RGB8,
                              SPNG_DECODE_TRNS | SPNG_DECODE_PROGRESSIVE);
    return error ? broken(reader, error, why) : 0;
}

static int png_open(void *of, const struct picture_file *file, struct picture_head *head, struct problem *why)
{
    static const uint8_t components[7] = { 1, 0, 3, 3, 2, 0, 4 };
    struct png_reader *reader = at_work = of;
    reader->memory = file->memory;
    reader->memory_size = file->memory_size;
    reader->used = 0;
    reader->chunks = (struct png_chunks){ .data = file->data, .size = file->size };
    const int error = start(reader, why);
    if (error)
        return error;
    reader->pitch = reader->pixel ? reader->head.width * reader->pixel : (reader->head.width * reader->head.bit_depth + 7) / 8;
    *head = (struct picture_head){ .width = (int32_t)reader->head.width,
                                   .height = (int32_t)reader->head.height,
                                   .components = reader->pixel ? components[reader->head.color_type] : 1,
                                   .across = 1,
                                   .down = 1,
                                   .progressive = reader->head.interlace_method != 0 };
    return 0;
}

/* Adam7: the last pass has every second row, so that nothing is whole before the end. */
static int read_whole(struct png_reader *reader)
{
    struct spng_row_info row;
    int error = (reader->whole = take(reader->pitch * reader->head.height)) ? 0 : SPNG_EMEM;
    if (!error && !reader->pixel) /* pixels of less than a byte are put in by `or` */
        memset(reader->whole, 0, reader->pitch * reader->head.height);
    while (!error && !(error = spng_get_row_info(reader->png, &row)))
        error = spng_decode_row(reader->png, reader->whole + row.row_num * reader->pitch, reader->pitch);
    return error == SPNG_EOI ? 0 : error;
}

static int png_crop(void *of, const struct rect *crop, struct problem *why)
{
    struct png_reader *reader = at_work = of;
    reader->x = (uint32_t)crop->x;
    reader->y = (uint32_t)crop->y;
    reader->width = (uint32_t)crop->width;
    reader->whole = NULL;
    int error = reader->head.interlace_method ? read_whole(reader) : 0;
    for (uint32_t y = 0; y < reader->y && !reader->whole && !error; y++)
        error = spng_decode_row(reader->png, reader->row, reader->pitch);
    return error ? broken(reader, error, why) : 0;
}

/* Numbers of 1, 2, 4 or 8 bits, the first one highest, to three times the same byte. */
static void spread(const struct png_reader *reader, const uint8_t *from, uint8_t *to)
{
    const uint32_t bits = reader->head.bit_depth, each = 8 / bits;
    for (uint32_t i = 0; i < reader->width; i++) {
        const uint32_t x = reader->x + i, number = from[x / each] >> (8 - bits * (x % each + 1)) & ((1u << bits) - 1);
        to[3 * i] = to[3 * i + 1] = to[3 * i + 2] = (uint8_t)number;
    }
}

static int png_row(void *of, const uint8_t **row, struct problem *why)
{
    struct png_reader *reader = at_work = of;
    /* What is spread lies behind where it comes to lie. */
    uint8_t *bytes = reader->whole   ? reader->whole + reader->y++ * reader->pitch
                     : reader->pixel ? reader->row
                                     : reader->row + PICTURE_SIDE * 3;
    const int error = reader->whole ? 0 : spng_decode_row(reader->png, bytes, reader->pitch);
    if (error && error != SPNG_EOI)
        return broken(reader, error, why);
    if (!reader->pixel) {
        spread(reader, bytes, reader->row);
        *row = reader->row;
        return 0;
    }
    bytes += reader->x * reader->pixel;
    for (uint32_t x = 0; x < reader->width && reader->pixel == 4; x++)
        for (uint32_t c = 0, alpha = bytes[4 * x + 3]; c < 3; c++) /* in place: reads keep ahead of writes */
            bytes[3 * x + c] = (uint8_t)((bytes[4 * x + c] * alpha + reader->limits.background[c] * (255 - alpha) + 127) / 255);
    *row = bytes;
    return 0;
}

static void png_close(void *reader) /* all that it took lies in the picture's memory */
{
    (void)reader;
}

const struct picture_ops picture_png = {
    .name = "PNG",
    .is = png_is,
    .orientation = png_orientation,
    .reader_bytes = png_reader_bytes,
    .codec_bytes = png_codec_bytes,
    .create = png_create,
    .destroy = free,
    .open = png_open,
    .crop = png_crop,
    .row = png_row,
    .close = png_close,
};
