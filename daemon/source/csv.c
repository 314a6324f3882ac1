/* SPDX-License-Identifier: MIT */
/* CSV text cut into fields in place, as RFC 4180 has it. Called by sources on the main thread at start; the text may be anything. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/csv.h"

int csv_init(struct csv *csv, const char *path, char *text, size_t size, struct problem *why)
{
    *csv = (struct csv){ .path = path, .at = text, .end = text + size, .line = 1 };
    const char *zero = memchr(text, 0, size);
    if (zero) {
        for (const char *at = text; at < zero; at++)
            csv->line += *at == '\n';
        return problem_set(why, -EINVAL, "%s:%llu: a zero byte; the list must be a text file", path,
                           (unsigned long long)csv->line);
    }
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        csv->at += 3;
    return 0;
}

/* A quoted field, at its first quote: unquoted in place. Afterwards csv->at is at what follows the closing quote. */
static int cut_quoted(struct csv *csv, char **out, struct problem *why)
{
    char *to = csv->at, *from = csv->at + 1;
    uint64_t line = csv->line;
    *out = to;
    while (from < csv->end) {
        if (*from == '"' && from + 1 < csv->end && from[1] == '"')
            from++;
        else if (*from == '"')
            break;
        csv->line += *from == '\n';
        *to++ = *from++;
    }
    if (from >= csv->end)
        return problem_set(why, -EINVAL, "%s:%llu: a quote is not closed; double the quotes inside a field", csv->path,
                           (unsigned long long)line);
    csv->at = from + 1;
    /* `to` is at most at the closing quote, so that what follows is still there to be looked at. */
    *to = 0;
    if (csv->at < csv->end && !strchr(",\r\n", *csv->at))
        return problem_set(why, -EINVAL, "%s:%llu: text follows a closing quote; double the quotes inside a field", csv->path,
                           (unsigned long long)csv->line);
    return 0;
}

int csv_record(struct csv *csv, char *fields[CSV_FIELDS], struct problem *why)
{
    int n = 0;
    bool more = true;
    while (csv->at < csv->end && strchr("\r\n", *csv->at))
        csv->line += *csv->at++ == '\n';
    csv->start = csv->line;
    if (csv->at == csv->end)
        return 0;
    while (more) {
        char *field = csv->at;
        if (csv->at < csv->end && *csv->at == '"') {
            int rc = cut_quoted(csv, &field, why);
            if (rc < 0)
                return rc;
        } else {
            csv->at += strcspn(csv->at, ",\r\n");
        }
        char stop = csv->at < csv->end ? *csv->at : '\n';
        if (csv->at < csv->end)
            *csv->at++ = 0;
        if (stop == '\r' && csv->at < csv->end && *csv->at == '\n')
            csv->at++;
        csv->line += stop != ',';
        more = stop == ',';
        if (n < CSV_FIELDS)
            fields[n] = field;
        n++;
    }
    return n;
}

bool csv_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || strchr(" \t\v\f", *text))
        return false;
    *out = value;
    return true;
}

bool csv_float(const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || strchr(" \t\v\f", *text))
        return false;
    *out = value;
    return true;
}
