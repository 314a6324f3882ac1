/* SPDX-License-Identifier: MIT */
/* mkjpeg: raw pixels from stdin into a JPEG of any kind that libjpeg can write, for tests/parity: Pillow cannot write most of
 * them.
 *
 *     mkjpeg OUT WIDTH HEIGHT grey|rgb|cmyk [WORD...]
 *
 * Words: quality=1..100 (90), sampling=HxV of every component in turn, such as 2x2,1x1,1x1 (1x1), stored (RGB stays RGB),
 * ycck, progressive, early (progressive, and the finest scans left out), apart (a scan a component), optimise,
 * restart_rows=N, restart_mcus=N, exif=HEX (the TIFF after "Exif"). Exit codes: 0 written, 1 could not write, 2 usage. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>

enum { EXIF_MAX = 4096 };

static const jpeg_scan_info apart[] = { { 1, { 0 }, 0, 63, 0, 0 }, { 1, { 2 }, 0, 63, 0, 0 }, { 1, { 1 }, 0, 63, 0, 0 } };
static const jpeg_scan_info early[] = { { 3, { 0, 1, 2 }, 0, 0, 0, 1 }, { 1, { 0 }, 1, 5, 0, 2 } };

struct exif {
    unsigned size;
    uint8_t bytes[EXIF_MAX];
};

static bool is_word(const char *word, const char *name, const char **value)
{
    const size_t n = strlen(name);
    if (strncmp(word, name, n) != 0 || (word[n] != 0 && word[n] != '='))
        return false;
    *value = word[n] ? word + n + 1 : "";
    return true;
}

static bool set_sampling(struct jpeg_compress_struct *jpeg, const char *text)
{
    for (int c = 0; c < jpeg->num_components; c++) {
        int n = 0;
        if (sscanf(text, "%dx%d%n", &jpeg->comp_info[c].h_samp_factor, &jpeg->comp_info[c].v_samp_factor, &n) != 2)
            return false;
        text += n + (text[n] == ',');
    }
    return *text == 0;
}

static bool set_exif(struct exif *exif, const char *hex)
{
    memcpy(exif->bytes, "Exif\0\0", 6);
    unsigned byte;
    for (exif->size = 6; exif->size < EXIF_MAX && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        exif->bytes[exif->size++] = (uint8_t)byte;
    return *hex == 0;
}

/* Colour spaces reset the sampling: the words come in the order in which they are given. */
static bool set_word(struct jpeg_compress_struct *jpeg, struct exif *exif, const char *word)
{
    const char *value;
    if (is_word(word, "quality", &value))
        jpeg_set_quality(jpeg, atoi(value), TRUE);
    else if (is_word(word, "sampling", &value))
        return set_sampling(jpeg, value);
    else if (is_word(word, "stored", &value))
        jpeg_set_colorspace(jpeg, JCS_RGB);
    else if (is_word(word, "ycck", &value))
        jpeg_set_colorspace(jpeg, JCS_YCCK);
    else if (is_word(word, "progressive", &value))
        jpeg_simple_progression(jpeg);
    else if (is_word(word, "early", &value))
        jpeg->scan_info = early, jpeg->num_scans = 2;
    else if (is_word(word, "apart", &value))
        jpeg->scan_info = apart, jpeg->num_scans = 3;
    else if (is_word(word, "optimise", &value))
        jpeg->optimize_coding = TRUE;
    else if (is_word(word, "restart_rows", &value))
        jpeg->restart_in_rows = atoi(value);
    else if (is_word(word, "restart_mcus", &value))
        jpeg->restart_interval = (unsigned)atoi(value);
    else if (is_word(word, "exif", &value))
        return set_exif(exif, value);
    else
        return false;
    return true;
}

static bool set_head(struct jpeg_compress_struct *jpeg, char **words)
{
    jpeg->image_width = (JDIMENSION)atoi(words[0]);
    jpeg->image_height = (JDIMENSION)atoi(words[1]);
    if (strcmp(words[2], "grey") == 0)
        jpeg->in_color_space = JCS_GRAYSCALE, jpeg->input_components = 1;
    else if (strcmp(words[2], "rgb") == 0)
        jpeg->in_color_space = JCS_RGB, jpeg->input_components = 3;
    else if (strcmp(words[2], "cmyk") == 0)
        jpeg->in_color_space = JCS_CMYK, jpeg->input_components = 4;
    else
        return false;
    jpeg_set_defaults(jpeg);
    for (int c = 0; c < jpeg->num_components; c++)
        jpeg->comp_info[c].h_samp_factor = jpeg->comp_info[c].v_samp_factor = 1;
    jpeg_set_quality(jpeg, 90, TRUE);
    return true;
}

static int compress(struct jpeg_compress_struct *jpeg, const struct exif *exif)
{
    const size_t bytes = (size_t)jpeg->image_width * (size_t)jpeg->input_components;
    JSAMPROW row = malloc(bytes);
    int error = row ? 0 : -ENOMEM;
    jpeg_start_compress(jpeg, TRUE);
    if (exif->size)
        jpeg_write_marker(jpeg, JPEG_APP0 + 1, exif->bytes, exif->size);
    for (JDIMENSION y = 0; !error && y < jpeg->image_height; y++) {
        if (fread(row, 1, bytes, stdin) == bytes)
            jpeg_write_scanlines(jpeg, &row, 1);
        else
            error = -ENODATA;
    }
    if (!error)
        jpeg_finish_compress(jpeg);
    free(row);
    return error;
}

int main(int argc, char **argv)
{
    static struct exif exif;
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors); /* which prints a sentence and exits with 1 */
    jpeg_create_compress(&jpeg);
    bool understood = argc >= 5 && set_head(&jpeg, argv + 2);
    for (int i = 5; understood && i < argc; i++)
        understood = set_word(&jpeg, &exif, argv[i]);
    if (!understood) {
        fprintf(stderr, "usage: mkjpeg OUT WIDTH HEIGHT grey|rgb|cmyk [quality=90] [stored] [ycck] [sampling=2x2,1x1,1x1]\n"
                        "  [progressive|early|apart] [optimise] [restart_rows=N] [restart_mcus=N] [exif=HEX] <PIXELS\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "wb");
    if (!file) {
        fprintf(stderr, "mkjpeg: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    jpeg_stdio_dest(&jpeg, file);
    const int error = compress(&jpeg, &exif);
    if (error)
        fprintf(stderr, "mkjpeg: %s: the pixels are %s\n", argv[1], error == -ENODATA ? "too few" : "too many for the memory");
    jpeg_destroy_compress(&jpeg);
    return fclose(file) != 0 || error;
}
