/* SPDX-License-Identifier: MIT */
/* Which format a file is, and a sentence for those that are none. Called by decode/image.c on workers. */
#include "decode/picture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "JPEG", "JPEG and PNG", "JPEG, PNG and WebP": those that were built in. */
static const char *names(char *text, size_t size, const char *last)
{
    size_t at = 0;
    text[0] = 0;
    for (size_t k = 0; picture_kinds[k] && at < size; k++)
        at += (size_t)snprintf(text + at, size - at, "%s%s",
                               !k                     ? ""
                               : picture_kinds[k + 1] ? ", "
                                                      : last,
                               picture_kinds[k]->name);
    return text;
}

/* What the bytes look like, where it is known. */
static const char *other_kind(const uint8_t *bytes, size_t size)
{
    static const struct {
        const char *magic;
        size_t at, size;
        const char *name;
    } kinds[] = {
        { "\x89PNG\r\n\x1a\n", 0, 8, "a PNG" },
        { "GIF8", 0, 4, "a GIF" },
        { "WEBP", 8, 4, "a WebP" },
        { "BM", 0, 2, "a BMP" },
        { "II*\0", 0, 4, "a TIFF" },
        { "MM\0*", 0, 4, "a TIFF" },
        { "ftypavif", 4, 8, "an AVIF" },
        { "ftypheic", 4, 8, "a HEIC" },
        { "\0\0\0\x0cjP  ", 0, 8, "a JPEG 2000" },
        { "\xff\x0a", 0, 2, "a JPEG XL" },
        { "\0\0\0\x0cJXL ", 0, 8, "a JPEG XL" },
        { "%PDF", 0, 4, "a PDF" },
        { "\x1f\x8b", 0, 2, "a gzip file" },
        { "PK\3\4", 0, 4, "a zip file" },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (size >= kinds[i].at + kinds[i].size && memcmp(bytes + kinds[i].at, kinds[i].magic, kinds[i].size) == 0)
            return kinds[i].name;
    return NULL;
}

/* Control characters are not text; what is beyond ASCII may be, but not at once. */
static bool is_text(const uint8_t *bytes, size_t size)
{
    const size_t head = size < 64 ? size : 64;
    if (bytes[0] >= 0x7f && memcmp(bytes, "\xef\xbb", size < 2 ? size : 2) != 0)
        return false;
    for (size_t n = 0; n < head; n++)
        if (bytes[n] < 0x20 && bytes[n] != '\t' && bytes[n] != '\n' && bytes[n] != '\r')
            return false;
    return true;
}

static int unknown(const uint8_t *bytes, size_t size, struct problem *why)
{
    char either[80], all[80];
    if (size == 0)
        return problem_set(why, -EILSEQ, "the file is empty");
    names(either, sizeof either, " or ");
    names(all, sizeof all, " and ");
    const char *only = picture_kinds[1] ? "are" : "is", *other = other_kind(bytes, size);
    if (!other && is_text(bytes, size))
        other = "text";
    if (other)
        return problem_set(why, -EILSEQ, "not a %s but %s; only %s %s supported", either, other, all, only);
    return problem_set(why, -EILSEQ, "not a %s: it starts with %02x %02x %02x %02x; only %s %s supported", either, bytes[0],
                       size > 1 ? bytes[1] : 0, size > 2 ? bytes[2] : 0, size > 3 ? bytes[3] : 0, all, only);
}

int picture_kind(const void *data, size_t size, uint32_t *kind, struct problem *why)
{
    for (uint32_t k = 0; picture_kinds[k]; k++)
        if (picture_kinds[k]->is(data, size)) {
            *kind = k;
            return 0;
        }
    return unknown(data, size, why);
}

int picture_check_size(const char *name, uint32_t width, uint32_t height, const char *whole, const struct picture_limits *limits,
                       struct problem *why)
{
    const uint64_t pixels = (uint64_t)width * height;
    if (width > PICTURE_SIDE || height > PICTURE_SIDE)
        return problem_set(why, -EFBIG, "%s: %u x %u pixels, but no side may be over %d", name, width, height, PICTURE_SIDE);
    if (pixels > limits->max_pixels)
        return problem_set(why, -EFBIG, "%s: %u x %u pixels, but max_pixels is %llu", name, width, height,
                           (unsigned long long)limits->max_pixels);
    if (pixels > limits->max_kept && whole)
        return problem_set(why, -EFBIG, "%s: %s, %u x %u pixels, but max_progressive is %llu", name, whole, width, height,
                           (unsigned long long)limits->max_kept);
    return 0;
}
