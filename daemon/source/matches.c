/* SPDX-License-Identifier: MIT */
/* See matches.h. */
#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source/matches.h"

#define MOST       1000000 /* names that the braces of one pattern may give */
#define DIGITS     18      /* of a range's ends */
#define BRACE_HINT "write {000..099} or {a,b}, and \\{ for a brace of the name itself"

struct expansion {
    struct matches *matches;
    const char *pattern; /* as it was given */
    size_t n;            /* names so far */
    bool counting;       /* only */
    struct problem *why;
};

static int no_memory(const char *pattern, struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the files of %s", pattern);
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static int compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int add_paths(struct matches *matches, char *const *paths, size_t n)
{
    if (matches->n + n > matches->room) {
        const size_t room = matches->n + n + matches->n / 2;
        char **grown = realloc(matches->paths, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        matches->paths = grown;
        matches->room = room;
    }
    for (size_t i = 0; i < n; i++) {
        matches->paths[matches->n] = strdup(paths[i]);
        if (!matches->paths[matches->n])
            return -ENOMEM;
        matches->n++;
    }
    return 0;
}

/* All matches of a name without braces. */
static int match(struct expansion *e, const char *name)
{
    glob_t found;
    int rc;
    if (e->n++ == MOST)
        return problem_set(e->why, -E2BIG, "the braces of %s give more than %d names; take a smaller range", e->pattern, MOST);
    if (e->counting)
        return 0;
    /* Sorted by ourselves: glob would ask the locale how. */
    rc = glob(name, GLOB_NOSORT | GLOB_ERR, NULL, &found);
    if (rc == GLOB_NOMATCH)
        return problem_set(e->why, -ENOENT, "no file matches %s; check the path", name);
    if (rc == GLOB_ABORTED)
        return problem_set(e->why, -EACCES, "cannot list %s: %s; check that pfeedd may read the folder", name, strerror(errno));
    if (rc)
        return no_memory(e->pattern, e->why);
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, compare);
    rc = add_paths(e->matches, found.gl_pathv, found.gl_pathc);
    globfree(&found);
    return rc < 0 ? no_memory(e->pattern, e->why) : 0;
}

/* --- braces --------------------------------------------------------------------------------------------------------------- */

/* The next of the characters that is not behind a backslash, or the end. */
static const char *find(const char *at, const char *end, const char *characters)
{
    while (at < end && !strchr(characters, *at))
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end ? at : end;
}

/* Of what follows an opening brace: where its part ends, at a comma or the closing one of the same depth. */
static const char *part_end(const char *at, const char *end)
{
    for (uint32_t depth = 0; (at = find(at, end, "{,}")) < end; at++) {
        if (depth == 0 && *at != '{')
            return at;
        depth += *at == '{' ? 1u : *at == '}' ? -1u : 0u;
    }
    return end;
}

static int expand(struct expansion *e, const char *text);

/* The text with its first braces, open up to close, replaced. */
static int expand_with(struct expansion *e, const char *text, const char *open, const char *close, const char *by, size_t length)
{
    char *name;
    if (asprintf(&name, "%.*s%.*s%s", (int)(open - text), text, (int)length, by, close + 1) < 0)
        return no_memory(e->pattern, e->why);
    int rc = expand(e, name);
    free(name);
    return rc;
}

/* A whole number of a range; its width where it has zeros in front. */
static const char *read_end(const char *at, int64_t *value, int *width)
{
    const char *digits = at + (*at == '-');
    const size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > DIGITS)
        return NULL;
    *value = strtoll(at, NULL, 10);
    if (digits[0] == '0' && n > 1 && (int)(digits + n - at) > *width)
        *width = (int)(digits + n - at);
    return digits + n;
}

struct range {
    int64_t first, last, step;
    int width; /* digits at least, zeros in front */
};

/* "000..099" or "0..90..10", up to the closing brace. */
static bool read_range(const char *at, const char *close, struct range *out)
{
    struct range range = { .step = 1 };
    int none = 0;
    at = read_end(at, &range.first, &range.width);
    if (!at || strncmp(at, "..", 2) != 0)
        return false;
    const char *second = at + 2;
    at = read_end(second, &range.last, &range.width);
    if (at && at < close && strncmp(at, "..", 2) == 0)
        at = read_end(at + 2, &range.step, &none);
    if (at != close || range.step == 0)
        return false;
    if ((range.first <= range.last) != (range.step > 0))
        range.step = -range.step;
    *out = range;
    return true;
}

static int expand_range(struct expansion *e, const char *text, const char *open, const char *close, const struct range *range)
{
    char number[32];
    int rc = 0;
    for (int64_t at = range->first; rc == 0 && (range->step > 0 ? at <= range->last : at >= range->last); at += range->step) {
        const int n = snprintf(number, sizeof number, "%0*lld", range->width, (long long)at);
        rc = expand_with(e, text, open, close, number, (size_t)n);
    }
    return rc;
}

static int expand_list(struct expansion *e, const char *text, const char *open, const char *close)
{
    int rc = 0;
    for (const char *at = open + 1; at <= close && rc == 0;) {
        const char *end = part_end(at, close);
        rc = expand_with(e, text, open, close, at, (size_t)(end - at));
        at = end + 1;
    }
    return rc;
}

/* Writes out the first braces, and then those of what comes out. */
static int expand(struct expansion *e, const char *text)
{
    const char *end = text + strlen(text), *open = find(text, end, "{}"), *close;
    struct range range;
    bool list = false;
    if (open == end)
        return match(e, text);
    if (*open == '}')
        return problem_set(e->why, -EINVAL, "'}' without '{' in %s; " BRACE_HINT, e->pattern);
    for (close = part_end(open + 1, end); close < end && *close == ','; close = part_end(close + 1, end))
        list = true;
    if (close == end)
        return problem_set(e->why, -EINVAL, "'{' without '}' in %s; " BRACE_HINT, e->pattern);
    if (list)
        return expand_list(e, text, open, close);
    if (read_range(open + 1, close, &range))
        return expand_range(e, text, open, close, &range);
    return problem_set(e->why, -EINVAL, "'%.*s' in %s is neither a range nor a list; " BRACE_HINT, (int)(close + 1 - open), open,
                       e->pattern);
}

int matches_add(struct matches *matches, const char *pattern, struct problem *why)
{
    struct expansion e = { .matches = matches, .pattern = pattern, .counting = true, .why = why };
    int rc = expand(&e, pattern);
    if (rc < 0)
        return rc;
    e.counting = false;
    e.n = 0;
    return expand(&e, pattern);
}

static int compare_places(const void *left, const void *right)
{
    char *const *a = *(char *const *const *)left, *const *b = *(char *const *const *)right;
    const int order = strcmp(*a, *b);
    return order ? order : (a > b) - (a < b);
}

int matches_unique(struct matches *matches)
{
    char ***places = calloc(matches->n ? matches->n : 1, sizeof *places);
    size_t kept = 0;
    if (!places)
        return -ENOMEM;
    for (size_t i = 0; i < matches->n; i++)
        places[i] = &matches->paths[i];
    qsort(places, matches->n, sizeof *places, compare_places);
    for (size_t i = matches->n; i-- > 1;)
        if (strcmp(*places[i], *places[i - 1]) == 0) {
            free(*places[i]);
            *places[i] = NULL;
        }
    for (size_t i = 0; i < matches->n; i++)
        if (matches->paths[i])
            matches->paths[kept++] = matches->paths[i];
    matches->n = kept;
    free(places);
    return 0;
}

void matches_fini(struct matches *matches)
{
    for (size_t i = 0; i < matches->n; i++)
        free(matches->paths[i]);
    free(matches->paths);
    *matches = (struct matches){ .n = 0 };
}
