/* SPDX-License-Identifier: MIT */
/* The one place that knows libjpeg-turbo; see jpeg.h and, for the format among others, picture.h. Called by decode/image.c on
 * workers. libjpeg leaves by longjmp: each entry point sets its own return place, and everything that must survive lives in the
 * reader. */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "decode/jpeg.h"
#include "decode/jpeg_memory.h"

#define KEPT_BYTES 8   /* a pixel: up to four int16 coefficients, of a picture of several scans */
#define SCANS_MAX  100 /* a few bytes can make libjpeg walk the whole picture once more; encoders write about ten */

struct jpeg_reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct jpeg_memory memory;
    jmp_buf place;
    struct picture_limits limits;
    char message[JMSG_LENGTH_MAX];
    uint32_t skip;  /* pixels at the left of each row that were decoded only for their neighbours */
    uint32_t width; /* of the crop */
    uint32_t block; /* pixels that a block of 8 by 8 gives across and down: fewer where the picture is shrunk */
    bool inks;      /* four components, still to be made RGB */
    uint8_t row[(PICTURE_SIDE + 64) * 4];
};

static void leave(j_common_ptr jpeg)
{
    struct jpeg_reader *reader = jpeg->client_data;
    jpeg->err->format_message(jpeg, reader->message);
    longjmp(reader->place, 1);
}

static void message(j_common_ptr jpeg, int level)
{
    if (level >= 0)
        return;
    /* These two say that a header is unusual; all others that pixels are not what was encoded. */
    if (jpeg->err->msg_code == JWRN_ADOBE_XFORM || jpeg->err->msg_code == JWRN_JFIF_MAJOR)
        return;
    leave(jpeg);
}

static void no_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void count_scans(j_common_ptr jpeg)
{
    struct jpeg_reader *reader = jpeg->client_data;
    if (reader->jpeg.input_scan_number <= SCANS_MAX)
        return;
    snprintf(reader->message, sizeof reader->message, "More than %d scans", SCANS_MAX);
    longjmp(reader->place, 1);
}

/* Where every longjmp ends up. */
static int broken(struct jpeg_reader *reader, struct problem *why)
{
    const int code = reader->errors.msg_code;
    const bool memory = code == JERR_OUT_OF_MEMORY || code == JERR_NO_BACKING_STORE;
    jpeg_abort_decompress(&reader->jpeg);
    return problem_set(why, memory ? -ENOMEM : -EBADMSG, "JPEG: %s", reader->message);
}

size_t jpeg_reader_bytes(void)
{
    return sizeof(struct jpeg_reader) + JPEG_MEMORY_KEPT; /* libjpeg's own first objects: less than that */
}

int jpeg_reader_create(struct jpeg_reader **out, const struct picture_limits *limits)
{
    struct jpeg_reader *reader = aligned_alloc(JPEG_MEMORY_ALIGN, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    memset(reader, 0, sizeof *reader); /* faults it in, too */
    reader->jpeg.err = jpeg_std_error(&reader->errors);
    reader->errors.error_exit = leave;
    reader->errors.emit_message = message;
    reader->errors.output_message = no_output;
    reader->progress.progress_monitor = count_scans;
    reader->jpeg.client_data = reader;
    if (setjmp(reader->place)) {
        jpeg_reader_destroy(reader);
        return -ENOMEM;
    }
    jpeg_create_decompress(&reader->jpeg);
    reader->jpeg.progress = &reader->progress;
    reader->limits = *limits;
    *out = reader;
    return 0;
}

void jpeg_reader_destroy(struct jpeg_reader *reader)
{
    if (!reader)
        return;
    jpeg_destroy_decompress(&reader->jpeg);
    free(reader);
}

void jpeg_reader_memory(struct jpeg_reader *reader, void *memory, size_t size)
{
    jpeg_memory_use(&reader->memory, &reader->jpeg, memory, size);
}

void jpeg_reader_close(struct jpeg_reader *reader)
{
    jpeg_abort_decompress(&reader->jpeg);
}

static const char *colour_name(J_COLOR_SPACE space)
{
    switch (space) {
    case JCS_GRAYSCALE:
        return "grey";
    case JCS_YCbCr:
        return "YCbCr";
    case JCS_RGB:
        return "RGB";
    case JCS_CMYK:
        return "CMYK";
    case JCS_YCCK:
        return "YCCK";
    default:
        return NULL;
    }
}

static int check_head(struct jpeg_reader *reader, struct problem *why)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    const int error = picture_check_size("JPEG", jpeg->image_width, jpeg->image_height,
                                         jpeg_has_multiple_scans(jpeg) ? "progressive" : NULL, &reader->limits, why);
    if (error)
        return error;
    if (jpeg->arith_code)
        return problem_set(why, -ENOTSUP, "JPEG: arithmetic coding is not supported");
    if (jpeg->data_precision != 8)
        return problem_set(why, -ENOTSUP, "JPEG: %d bits a sample are not supported, only 8", jpeg->data_precision);
    if (!colour_name(jpeg->jpeg_color_space))
        return problem_set(why, -ENOTSUP, "JPEG: %d components of an unknown colour space", jpeg->num_components);
    return 0;
}

int jpeg_reader_open(struct jpeg_reader *reader, const void *data, size_t size, struct picture_head *head, struct problem *why)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    if (setjmp(reader->place))
        return broken(reader, why);
    jpeg_abort_decompress(jpeg);
    reader->errors.msg_code = 0;
    jpeg_mem_src(jpeg, data, size);
    jpeg_read_header(jpeg, TRUE);
    const int error = check_head(reader, why);
    if (error) {
        jpeg_abort_decompress(jpeg);
        return error;
    }
    reader->inks = jpeg->num_components == 4;
    reader->block = DCTSIZE;
    *head = (struct picture_head){ .width = (int32_t)jpeg->image_width,
                                   .height = (int32_t)jpeg->image_height,
                                   .components = jpeg->num_components,
                                   .across = jpeg->max_h_samp_factor,
                                   .down = jpeg->max_v_samp_factor,
                                   .progressive = jpeg->progressive_mode };
    return 0;
}

/* libjpeg smooths a progressive picture whose scans stop early from neighbouring blocks, which a crop would change. */
static bool is_smoothed(const struct jpeg_decompress_struct *jpeg)
{
    if (!jpeg->progressive_mode || !jpeg->coef_bits)
        return false;
    for (int c = 0; c < jpeg->num_components; c++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (jpeg->coef_bits[c][k] != 0)
                return true;
    return false;
}

/* Fancy upsampling looks at one neighbour on each side and treats the ends of a row apart, so that a pixel more than the
 * crop is decoded; whole columns of iMCUs cost nothing more. Below two of them libjpeg would take up plain upsampling. */
static void crop_columns(struct jpeg_reader *reader, uint32_t x, uint32_t width)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    const uint32_t step = reader->block * (uint32_t)jpeg->max_h_samp_factor;
    uint32_t left = (x ? x - 1 : 0) / step * step, right = (x + width + step) / step * step;
    if (right > jpeg->output_width)
        right = jpeg->output_width;
    if (right - left < 2 * step)
        left = left > step ? left - step : 0;
    JDIMENSION from = left, span = right - left;
    if (span < jpeg->output_width)
        jpeg_crop_scanline(jpeg, &from, &span);
    else
        from = 0;
    reader->skip = x - from;
}

void jpeg_reader_shrink(struct jpeg_reader *reader, int32_t by)
{
    reader->block = DCTSIZE / (uint32_t)by;
}

int jpeg_reader_crop(struct jpeg_reader *reader, int32_t x, int32_t y, int32_t width, int32_t height, struct problem *why)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    if (setjmp(reader->place))
        return broken(reader, why);
    jpeg->scale_num = reader->block;
    jpeg->scale_denom = DCTSIZE;
    jpeg_calc_output_dimensions(jpeg);
    if (x < 0 || y < 0 || width < 1 || height < 1 || (uint32_t)x + (uint32_t)width > jpeg->output_width ||
        (uint32_t)y + (uint32_t)height > jpeg->output_height)
        return problem_set(why, -ERANGE, "JPEG: the crop %d,%d %dx%d is not inside the picture", x, y, width, height);
    jpeg->out_color_space = reader->inks ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE; /* also keeps merged upsampling away */
    jpeg_start_decompress(jpeg);
    reader->width = (uint32_t)width;
    uint32_t surplus = (uint32_t)y;
    if (is_smoothed(jpeg)) {
        reader->skip = (uint32_t)x;
    } else {
        crop_columns(reader, (uint32_t)x, (uint32_t)width);
        /* Skips that do not fall on iMCU rows can give wrong rows (libjpeg-turbo's issue 915): the surplus is read. */
        const uint32_t step = reader->block * (uint32_t)jpeg->max_v_samp_factor, whole = surplus / step * step;
        if (whole)
            jpeg_skip_scanlines(jpeg, whole);
        surplus -= whole;
    }
    JSAMPROW row = reader->row;
    for (; surplus; surplus--)
        jpeg_read_scanlines(jpeg, &row, 1);
    return 0;
}

/* Adobe stores inks inverted (255 is none), and so does everybody's CMYK JPEG. red = cyan * black / 255, rounded as Pillow
 * does: black - (255 - cyan) * black / 255. */
static void inks_to_rgb(uint8_t *row, uint32_t n)
{
    const uint8_t *from = row;
    for (uint32_t i = 0; i < n; i++, from += 4, row += 3) {
        const uint32_t black = from[3];
        for (int c = 0; c < 3; c++) {
            const uint32_t product = (255u - from[c]) * black + 128u;
            row[c] = (uint8_t)(black - ((product + (product >> 8)) >> 8));
        }
    }
}

int jpeg_reader_row(struct jpeg_reader *reader, const uint8_t **row, struct problem *why)
{
    if (setjmp(reader->place))
        return broken(reader, why);
    JSAMPROW to = reader->row;
    jpeg_read_scanlines(&reader->jpeg, &to, 1);
    uint8_t *first = reader->row + (size_t)reader->skip * (reader->inks ? 4 : 3);
    if (reader->inks)
        inks_to_rgb(first, reader->width);
    *row = first;
    return 0;
}

/* ---- the format ----------------------------------------------------------------------------------------------------- */

static bool format_is(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static size_t format_codec_bytes(const struct picture_limits *limits)
{
    const uint64_t kept = limits->max_kept < limits->max_pixels ? limits->max_kept : limits->max_pixels;
    return ((size_t)kept * KEPT_BYTES + 63) / 64 * 64 + JPEG_READER_ROWS;
}

static int format_create(void **reader, const struct picture_limits *limits)
{
    struct jpeg_reader *made;
    const int error = jpeg_reader_create(&made, limits);
    if (!error)
        *reader = made;
    return error;
}

static void format_destroy(void *reader)
{
    jpeg_reader_destroy(reader);
}

static int format_open(void *reader, const struct picture_file *file, struct picture_head *head, struct problem *why)
{
    jpeg_reader_memory(reader, file->memory, file->memory_size);
    return jpeg_reader_open(reader, file->data, file->size, head, why);
}

/* Of colours at a quarter too little would be left, as libjpeg upsamples them only afterwards; and of 4:1:0 it crops too much. */
static int32_t format_shrinks(int32_t across, int32_t down)
{
    return across <= 2 && down <= 2 ? DCTSIZE : 1;
}

static void format_shrink(void *reader, int32_t by)
{
    jpeg_reader_shrink(reader, by);
}

static int format_crop(void *reader, const struct rect *crop, struct problem *why)
{
    return jpeg_reader_crop(reader, crop->x, crop->y, crop->width, crop->height, why);
}

static int format_row(void *reader, const uint8_t **row, struct problem *why)
{
    return jpeg_reader_row(reader, row, why);
}

static void format_close(void *reader)
{
    jpeg_reader_close(reader);
}

const struct picture_ops picture_jpeg = {
    .name = "JPEG",
    .is = format_is,
    .orientation = jpeg_reader_orientation,
    .reader_bytes = jpeg_reader_bytes,
    .codec_bytes = format_codec_bytes,
    .create = format_create,
    .destroy = format_destroy,
    .open = format_open,
    .shrinks = format_shrinks,
    .shrink = format_shrink,
    .crop = format_crop,
    .row = format_row,
    .close = format_close,
};
