/* SPDX-License-Identifier: MIT */
/* From a member's bytes to a value, on any worker. Of the worker's memory the value takes the beginning; behind it are the bytes,
 * and behind those what reading JSON needs. See tar_fields.h. */
#include <errno.h>
#include <string.h>

#include "source/csv.h"
#include "source/tar_fields.h"

#define NUMBER_MOST 64 /* bytes of a member that is one number */

static size_t value_bytes(const struct sample_part *part)
{
    size_t size = dtype_table[part->dtype].size;
    for (uint32_t i = 0; i < part->ndim; i++)
        size *= (size_t)part->shape[i];
    return size;
}

static size_t round_up(size_t size)
{
    return (size + 15) / 16 * 16;
}

size_t tar_fields_place(const struct tar_field *field, uint64_t size, size_t *needed)
{
    const size_t value = round_up(value_bytes(&field->part));
    switch (field->value) {
    case TAR_NUMBER:
        *needed = value + NUMBER_MOST + 1;
        return value;
    case TAR_TEXT:
        *needed = value;
        return 0;
    case TAR_JSON:
        size = size < TAR_JSON_MOST ? size : TAR_JSON_MOST;
        *needed = value + round_up(size + 1) + tar_json_room(size);
        return value;
    default:
        *needed = size;
        return 0;
    }
}

/* Bytes that would not fit where they are put: seen before they are read. */
int tar_fields_fits(const struct tar_field *field, uint64_t size, struct problem *why)
{
    const uint64_t most = field->value == TAR_NUMBER ? NUMBER_MOST
                          : field->value == TAR_TEXT ? (uint64_t)field->part.shape[0]
                          : field->value == TAR_JSON ? TAR_JSON_MOST
                                                     : UINT64_MAX;
    if (size <= most)
        return 0;
    return problem_set(why, -EBADMSG, "its member '%s' has %llu bytes; %s takes %llu at most", field->from,
                       (unsigned long long)size,
                       field->value == TAR_NUMBER ? "a number"
                       : field->value == TAR_TEXT ? "the field's shape"
                                                  : "json",
                       (unsigned long long)most);
}

/* A text of one number, with what white space there is. */
static int make_number(const struct tar_field *field, char *text, void *to, struct problem *why)
{
    static const char space[] = " \t\r\n";
    char *at = text + strspn(text, space), *end = at + strlen(at);
    int64_t whole = 0;
    double value = 0;
    while (end > at && strchr(space, end[-1]))
        *--end = 0;
    const bool whole_one = field->part.dtype == DTYPE_I64;
    if (whole_one ? !csv_int(at, &whole) : !csv_float(at, &value))
        return problem_set(why, -EBADMSG, "its member '%s' is '%.40s', not a %snumber", field->from, at,
                           whole_one ? "whole " : "");
    memcpy(to, whole_one ? (const void *)&whole : &value, 8);
    return 0;
}

int tar_fields_make(const struct tar_field *field, void *buffer, uint64_t size, struct sample_value *out, struct problem *why)
{
    size_t needed;
    char *text = (char *)buffer + tar_fields_place(field, size, &needed);
    int rc = 0;
    *out = (struct sample_value){ .data = buffer, .size = (size_t)size };
    if (field->value == TAR_BYTES)
        return 0;
    out->size = value_bytes(&field->part);
    if (field->value == TAR_TEXT) {
        memset(text + size, 0, out->size - (size_t)size);
        return 0;
    }
    text[size] = 0;
    if (field->value == TAR_NUMBER)
        rc = strlen(text) == size ? make_number(field, text, buffer, why)
                                  : problem_set(why, -EBADMSG, "its member '%s' is no text", field->from);
    else
        rc = tar_json_read(&field->key, &field->part, text, (size_t)size, text + round_up((size_t)size + 1), buffer, why);
    return rc;
}
