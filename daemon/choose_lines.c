/* SPDX-License-Identifier: MIT */
/* See choose_lines.h. */
#include "choose_lines.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "source/csv.h"
#include "source/file.h"

#define TEXT_LIMIT (UINT64_C(4) << 30)

struct lines {
    const char *path;
    char *text, *at, *end;
    uint64_t line; /* of the last one that was cut, from 1 */
};

static int lines_open(struct lines *lines, const char *path, uint64_t most_bytes, struct problem *why)
{
    const uint64_t limit = most_bytes && most_bytes < TEXT_LIMIT ? most_bytes : TEXT_LIMIT;
    size_t size;
    int rc = file_slurp(path, limit, &lines->text, &size, why);

    if (rc < 0)
        return rc;
    lines->path = path;
    lines->at = lines->text;
    lines->end = lines->text + size;
    lines->line = 0;
    return 0;
}

/* NULL: there are no more. A carriage return before the line's end is none of it. */
static const char *lines_next(struct lines *lines)
{
    char *line = lines->at, *end;

    if (line == lines->end)
        return NULL;
    end = memchr(line, '\n', (size_t)(lines->end - line));
    lines->at = end ? end + 1 : lines->end;
    end = end ? end : lines->end;
    *end = 0;
    if (end > line && end[-1] == '\r')
        end[-1] = 0;
    lines->line++;
    return line;
}

static int no_memory(const char *path, struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the lines of %s", path);
}

struct numbered {
    uint64_t id, line;
};

static int compare(const void *left, const void *right, void *context)
{
    const struct numbered *a = left, *b = right;

    (void)context;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Each id is given once. */
static int check_once(const char *path, const uint64_t *ids, uint64_t n, struct problem *why)
{
    struct numbered *sorted = calloc(n, sizeof(*sorted));
    int rc = 0;

    if (!sorted)
        return no_memory(path, why);
    for (uint64_t i = 0; i < n; i++)
        sorted[i] = (struct numbered){ ids[i], i + 1 };
    if (file_sort(sorted, n, sizeof(*sorted), compare, NULL, NULL) < 0)
        rc = no_memory(path, why);
    for (uint64_t i = 1; i < n && rc == 0; i++)
        if (sorted[i].id == sorted[i - 1].id)
            rc = problem_set(why, -EEXIST, "%s:%llu: id %llu is there already, on line %llu; remove one", path,
                             (unsigned long long)sorted[i].line, (unsigned long long)sorted[i].id,
                             (unsigned long long)sorted[i - 1].line);
    free(sorted);
    return rc;
}

int choose_read_ids(const char *path, uint64_t samples, uint64_t most_bytes, uint64_t **out, uint64_t *n, struct problem *why)
{
    uint64_t *ids = NULL, room = 0, count = 0;
    struct lines lines;
    const char *line;
    int64_t id;
    int rc = lines_open(&lines, path, most_bytes, why);

    if (rc < 0)
        return rc;
    while (rc == 0 && (line = lines_next(&lines))) {
        uint64_t *grown = file_grown(ids, count, &room, sizeof(*ids));

        ids = grown ? grown : ids;
        if (!grown)
            rc = no_memory(path, why);
        else if (!csv_int(line, &id))
            rc = problem_set(why, -EINVAL, "%s:%llu: '%.60s' is no id; give one whole number a line", path,
                             (unsigned long long)lines.line, line);
        else if (id < 0 || (uint64_t)id >= samples)
            rc = problem_set(why, -ERANGE, "%s:%llu: no sample has id %lld; the source has ids 0 to %llu", path,
                             (unsigned long long)lines.line, (long long)id, (unsigned long long)samples - 1);
        else
            ids[count++] = (uint64_t)id;
    }
    if (rc == 0 && count == 0)
        rc = problem_set(why, -EINVAL, "%s has no ids; give one a line", path);
    if (rc == 0)
        rc = check_once(path, ids, count, why);
    free(lines.text);
    if (rc < 0) {
        free(ids);
        return rc;
    }
    *out = ids;
    *n = count;
    return 0;
}

int choose_read_weights(const char *path, uint64_t n, uint64_t most_bytes, double **out, struct problem *why)
{
    struct lines lines;
    const char *line;
    double *weights = NULL;
    uint64_t count = 0;
    int rc = lines_open(&lines, path, most_bytes, why);

    if (rc < 0)
        return rc;
    if (n <= SIZE_MAX / sizeof(*weights) && (!most_bytes || n * sizeof(*weights) <= most_bytes))
        weights = malloc(n * sizeof(*weights));
    if (!weights)
        rc = no_memory(path, why);
    while (rc == 0 && (line = lines_next(&lines))) {
        double weight;

        if (!csv_float(line, &weight) || !isfinite(weight) || weight < 0)
            rc = problem_set(why, -EINVAL, "%s:%llu: '%.60s' is no weight; give one number of 0 or more a line", path,
                             (unsigned long long)lines.line, line);
        else if (count++ < n)
            weights[count - 1] = weight;
    }
    if (rc == 0 && count != n)
        rc = problem_set(why, -EINVAL, "%s has %llu weights, and the source has %llu samples; give one a sample", path,
                         (unsigned long long)count, (unsigned long long)n);
    free(lines.text);
    if (rc < 0) {
        free(weights);
        return rc;
    }
    *out = weights;
    return 0;
}
