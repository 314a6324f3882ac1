/* SPDX-License-Identifier: MIT */
/* See tar_header.h. */
#include <errno.h>
#include <string.h>

#include "source/tar_header.h"

/* Of a header: where each field begins, and how long it is. */
#define NAME     0
#define NAME_LEN 100
#define SIZE     124
#define SIZE_LEN 12
#define SUM      148
#define SUM_LEN  8
#define TYPE     156
#define MAGIC    257
#define PREFIX   345
#define MAP_GOES 482 /* GNU's sparse files */
#define STAR     508 /* "tar\0": star's, with a shorter prefix */

#define NUMBER_MOST (UINT64_C(1) << 62)

/* "   644 \0", or where a number is larger the same bytes as a binary number with the first bit set. False: neither. */
static bool read_number(const uint8_t *field, size_t length, uint64_t *out)
{
    uint64_t value = field[0] & 0x3f;
    size_t i = 0;
    if (field[0] & 0x80) {
        for (i = 1; i < length && value < NUMBER_MOST >> 8; i++)
            value = value << 8 | field[i];
        *out = value;
        return i == length && !(field[0] & 0x40); /* else it is negative, or too large */
    }
    value = 0;
    while (i < length && field[i] == ' ')
        i++;
    for (; i < length && field[i] >= '0' && field[i] <= '7' && value < NUMBER_MOST >> 3; i++)
        value = value << 3 | (uint64_t)(field[i] - '0');
    while (i < length && field[i] == ' ')
        i++;
    *out = value;
    return i == length || field[i] == 0;
}

/* Some have summed signed bytes. */
static bool sum_is_right(const uint8_t *block)
{
    uint64_t stored;
    uint32_t sum = 0;
    int32_t signed_sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        const uint8_t byte = i >= SUM && i < SUM + SUM_LEN ? ' ' : block[i];
        sum += byte;
        signed_sum += (int8_t)byte;
    }
    return read_number(block + SUM, SUM_LEN, &stored) && (stored == sum || (int64_t)stored == signed_sum);
}

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

static void read_name(const uint8_t *block, char *name)
{
    const char *own = (const char *)block + NAME, *prefix = (const char *)block + PREFIX;
    const size_t room = memcmp(block + STAR, "tar", 4) == 0 ? 131 : 155;
    /* GNU tar's own format has other things there. */
    const size_t before = memcmp(block + MAGIC, "ustar", 6) == 0 ? strnlen(prefix, room) : 0, length = strnlen(own, NAME_LEN);
    memcpy(name, prefix, before);
    if (before)
        name[before] = '/';
    memcpy(name + before + (before > 0), own, length);
    name[before + (before > 0) + length] = 0;
}

static enum tar_kind kind_of(uint8_t type, const char *name)
{
    const size_t length = strlen(name);
    switch (type) {
    case 0: /* v7 has folders so, too */
        return length && name[length - 1] == '/' ? TAR_OTHER : TAR_FILE;
    case '0':
    case '7':
        return TAR_FILE;
    case '1':
    case '2':
        return TAR_LINK;
    case 'S':
        return TAR_SPARSE;
    case 'L':
        return TAR_LONG_NAME;
    case 'K':
        return TAR_LONG_LINK;
    case 'x':
    case 'X': /* Solaris */
        return TAR_PAX;
    case 'g':
        return TAR_PAX_ALL;
    default:
        return TAR_OTHER;
    }
}

int tar_header_read(const uint8_t block[TAR_BLOCK], struct tar_header *out, struct problem *why)
{
    if (is_zero(block))
        return 0;
    if (!sum_is_right(block))
        return problem_set(why, -EBADMSG, "the checksum of the header there is wrong");
    struct tar_header header = { .map_goes = block[MAP_GOES] };
    const uint8_t type = block[TYPE];
    read_name(block, header.name);
    header.kind = kind_of(type, header.name);
    if (!read_number(block + SIZE, SIZE_LEN, &header.size))
        return problem_set(why, -EBADMSG, "the size of '%.100s' is not a number", header.name);
    /* Links, devices and folders have none, whatever the field says. */
    if ((type >= '1' && type <= '6') || (type == 0 && header.kind == TAR_OTHER))
        header.size = 0;
    *out = header;
    return 1;
}

static bool decimal(const char *text, size_t length, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || value >= NUMBER_MOST / 10)
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return length > 0;
}

static bool is(const char *word, size_t length, const char *key)
{
    return strlen(key) == length && memcmp(word, key, length) == 0;
}

static int take_record(const char *key, size_t key_length, const char *value, size_t length, struct tar_records *out,
                       struct problem *why)
{
    static const char sparse[] = "GNU.sparse.";
    const bool real_name = is(key, key_length, "GNU.sparse.name");
    if (real_name || (is(key, key_length, "path") && !(out->sparse && out->has_name))) {
        if (length >= TAR_NAME || memchr(value, 0, length))
            return problem_set(why, -EBADMSG, "a name of %zu bytes, more than %d, or with a zero byte", length, TAR_NAME - 1);
        memcpy(out->name, value, length);
        out->name[length] = 0;
        out->has_name = true;
    } else if (is(key, key_length, "size")) {
        if (!decimal(value, length, &out->size))
            return problem_set(why, -EBADMSG, "the size '%.*s' is not a number", length < 40 ? (int)length : 40, value);
        out->has_size = true;
    }
    out->sparse |= key_length >= sizeof sparse - 1 && memcmp(key, sparse, sizeof sparse - 1) == 0;
    return 0;
}

/* "LENGTH KEY=VALUE\n", the length of all of it, one after the other. */
int tar_records_read(const char *text, size_t size, struct tar_records *out, struct problem *why)
{
    for (size_t at = 0; at < size && text[at];) {
        const char *start = text + at, *space = memchr(start, ' ', size - at), *equals;
        uint64_t length;
        if (!space || !decimal(start, (size_t)(space - start), &length) || length > size - at || start + length < space + 2 ||
            start[length - 1] != '\n' || !(equals = memchr(space + 1, '=', (size_t)(start + length - 1 - (space + 1)))))
            return problem_set(why, -EBADMSG, "the records of pax there make no sense");
        int rc = take_record(space + 1, (size_t)(equals - (space + 1)), equals + 1, (size_t)(start + length - 1 - (equals + 1)),
                             out, why);
        if (rc < 0)
            return rc;
        at += length;
    }
    return 0;
}

/* Of a first folder or the whole name: "__..__". */
static bool is_meta(const char *name)
{
    const size_t length = strcspn(name, "/");
    return length >= 4 && memcmp(name, "__", 2) == 0 && memcmp(name + length - 2, "__", 2) == 0;
}

bool tar_name_cut(const char *name, size_t *key_length, const char **extension)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strchr(base, '.');
    if (!dot || dot == base || is_meta(name))
        return false;
    *key_length = (size_t)(dot - name);
    *extension = dot + 1;
    return true;
}
