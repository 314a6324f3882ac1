/* SPDX-License-Identifier: MIT */
/* See text.h. */
#include "text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

uint32_t text_next(const char **text, const char *end)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *at = (const unsigned char *)*text;
    unsigned length = *at < 0x80 ? 1 : *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : *at >= 0xc2 ? 2 : 0;
    uint32_t code = *at;

    (*text)++;
    if (length == 1)
        return code;
    if (length == 0 || *at > 0xf4 || (size_t)(end - *text) < length - 1)
        return TEXT_INVALID;
    code &= 0x7fu >> length;
    for (unsigned i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return TEXT_INVALID;
        code = code << 6 | (at[i] & 0x3fu);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return TEXT_INVALID;
    *text += length - 1;
    return code;
}

void text_clean(char *to, size_t size, const char *from, size_t n)
{
    const char *end = from + strnlen(from, n);
    size_t at = 0;

    while (from < end) {
        const char *begin = from;
        uint32_t code = text_next(&from, end);
        bool fine = code != TEXT_INVALID && code >= 0x20 && (code < 0x7f || code >= 0xa0);
        size_t length = fine ? (size_t)(from - begin) : 1;

        if (at + length >= size)
            break;
        memcpy(to + at, fine ? begin : "?", length);
        at += length;
    }
    to[at] = 0;
}

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += !continues(*text);
    return width;
}

size_t text_cut(const char *text, size_t width)
{
    size_t bytes = 0;

    for (; text[bytes]; bytes++)
        if (!continues(text[bytes]) && width-- == 0)
            break;
    return bytes;
}

/* Three significant digits: "12.3" + gap + prefix + unit. */
static void scaled(char *to, size_t size, double value, double step, const char *const *prefixes, const char *unit)
{
    while (value >= step * 0.9995 && prefixes[1]) {
        value /= step;
        prefixes++;
    }
    snprintf(to, size, "%.*f%s%s%s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, **prefixes ? " " : "", *prefixes, unit);
}

static const char *const decimal[] = { "", "k", "M", "G", "T", NULL };
static const char *const binary[] = { "B", "KiB", "MiB", "GiB", "TiB", NULL };

static void duration(char *to, size_t size, uint64_t ns)
{
    static const char *const small[] = { "ns", "us", "ms", "s", NULL };
    uint64_t s = ns / 1000000000;

    if (ns < 1000)
        snprintf(to, size, "%" PRIu64 " ns", ns);
    else if (s < 60)
        scaled(to, size, (double)ns, 1000, small, "");
    else if (s < 3600)
        snprintf(to, size, "%" PRIu64 " min %02" PRIu64 " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(to, size, "%" PRIu64 " h %02" PRIu64 " min", s / 3600, s / 60 % 60);
    else
        snprintf(to, size, "%" PRIu64 " d %02" PRIu64 " h", s / 86400, s / 3600 % 24);
}

void text_number(char *to, size_t size, uint64_t value, const char *unit)
{
    if (strcmp(unit, "ns") == 0)
        duration(to, size, value);
    else if (strcmp(unit, "bytes") == 0 && value >= 1024)
        scaled(to, size, (double)value, 1024, binary, "");
    else if (strcmp(unit, "bytes") == 0)
        snprintf(to, size, "%" PRIu64 " B", value);
    else if (!*unit || value < 10000)
        snprintf(to, size, "%" PRIu64, value);
    else
        scaled(to, size, (double)value, 1000, decimal, "");
}

void text_rate(char *to, size_t size, double per_s, const char *unit)
{
    char per[32];

    snprintf(per, sizeof(per), "%s%s/s", *unit ? " " : "", unit);
    if (strcmp(unit, "ns") == 0)
        snprintf(to, size, "%.*f %%", per_s < 1e8 ? 1 : 0, per_s / 1e7);
    else if (per_s == 0)
        snprintf(to, size, "0%s", strcmp(unit, "bytes") == 0 ? " B/s" : per);
    else if (strcmp(unit, "bytes") == 0)
        scaled(to, size, per_s, 1024, binary, "/s");
    else
        scaled(to, size, per_s, 1000, decimal, per);
}
