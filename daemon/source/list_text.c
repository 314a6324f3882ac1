/* SPDX-License-Identifier: MIT */
/* See list.h. From the text of a list to columns of numbers and texts, and from texts to the numbers of their classes. Called by
 * list.c on the thread that opens the source. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source/list.h"

#define TEXT_LIMIT ((size_t)4 << 30)
/* Its values; of each file the size, the head and, for a while, the path. */
#define ROW_BYTES(columns, files) ((columns) * sizeof(int64_t) + 3 * (files) * sizeof(uint64_t))
#define LABEL                     "label"

int list_no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the rows of the list");
}

static int find_column(const struct source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_columns; i++)
        if (strcmp(source->columns[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int read_header(struct source *source, const struct list_params *p, struct csv *csv, struct problem *why)
{
    char *fields[CSV_FIELDS];
    int n = csv_record(csv, fields, why);
    if (n < 0)
        return n;
    if (n == 0)
        return problem_set(why, -EINVAL, "%s:1: the file is empty; its first line must name the columns", csv->path);
    if (n > CSV_FIELDS)
        return problem_set(why, -EINVAL, "%s:1: %d columns; at most %d are taken", csv->path, n, CSV_FIELDS);
    for (int i = 0; i < n; i++) {
        if (!*fields[i] || strlen(fields[i]) >= NAME_SIZE)
            return problem_set(why, -EINVAL, "%s:1: column %d has no name, or one longer than %d bytes", csv->path, i + 1,
                               NAME_SIZE - 1);
        if (find_column(source, fields[i]) >= 0)
            return problem_set(why, -EINVAL, "%s:1: the column '%s' is there twice; rename one", csv->path, fields[i]);
        source->columns[source->n_columns++] = (struct column){ .name = fields[i], .kind = COLUMN_INT };
    }
    int path = find_column(source, p->path_column);
    if (path < 0)
        return problem_about(why, "path_column", -1,
                             problem_set(why, -EINVAL, "%s:1: no column '%s'; name the column of paths so, or give 'path_column'",
                                         csv->path, p->path_column));
    source->columns[path].kind = COLUMN_PATH;
    int image = find_column(source, LIST_IMAGE);
    if (image >= 0 && image != path)
        return problem_set(why, -EINVAL,
                           "%s:1: a column is called '" LIST_IMAGE "', as the part that holds the file is; rename it, or give "
                           "'path_column: " LIST_IMAGE "'",
                           csv->path);
    source->n_files = 1;
    for (uint32_t i = 0; i < p->file_columns.n; i++) {
        int column = find_column(source, p->file_columns.v[i]);
        if (column < 0 || source->columns[column].kind == COLUMN_PATH)
            return problem_about(why, "file_columns", -1,
                                 problem_set(why, -EINVAL,
                                             "%s:1: '%s' in 'file_columns' is %s; give other names of its first line than "
                                             "'path_column', each once",
                                             csv->path, p->file_columns.v[i], column < 0 ? "no column" : "taken already"));
        source->columns[column].kind = COLUMN_PATH;
        source->columns[column].file = source->n_files++;
    }
    for (uint32_t i = 0; i < p->text_columns.n; i++) {
        int column = find_column(source, p->text_columns.v[i]);
        if (column < 0 || source->columns[column].kind == COLUMN_PATH)
            return problem_about(why, "text_columns", -1,
                                 problem_set(why, -EINVAL,
                                             "%s:1: no column '%s' for 'text_columns'; give names of its first line", csv->path,
                                             p->text_columns.v[i]));
        source->columns[column].kind = COLUMN_TEXT;
    }
    return 0;
}

static int resize(struct source *source, uint64_t room, struct problem *why)
{
    for (uint32_t i = 0; i < source->n_columns; i++) {
        void *grown = realloc(source->columns[i].ints, room * sizeof(int64_t));
        if (!grown)
            return list_no_memory(why);
        source->columns[i].ints = grown;
    }
    return 0;
}

/* The first row decides what a column holds; whole numbers turn into floats when a fraction comes. */
static int add_value(struct source *source, struct column *column, char *text, const struct csv *csv, struct problem *why)
{
    uint64_t row = source->n;
    int64_t whole;
    double number;
    if (column->kind == COLUMN_INT && !csv_int(text, &whole)) {
        if (csv_float(text, &number)) {
            for (uint64_t i = 0; i < row; i++)
                column->floats[i] = (double)column->ints[i];
            column->kind = COLUMN_FLOAT;
        } else if (row == 0 && *text) {
            column->kind = COLUMN_TEXT;
        }
    }
    if ((column->kind == COLUMN_PATH || column->kind == COLUMN_TEXT) && *text)
        column->texts[row] = text;
    else if (column->kind == COLUMN_INT && csv_int(text, &whole))
        column->ints[row] = whole;
    else if (column->kind == COLUMN_FLOAT && csv_float(text, &number))
        column->floats[row] = number;
    else if (!*text)
        return problem_set(why, -EINVAL, "%s:%llu: the column '%s' is empty; fill it in, or remove the row", csv->path,
                           (unsigned long long)csv->start, column->name);
    else
        return problem_set(why, -EINVAL,
                           "%s:%llu: '%.60s' in the column '%s' is not a number, as those above are; mend it, or name "
                           "the column in 'text_columns'",
                           csv->path, (unsigned long long)csv->start, text, column->name);
    return 0;
}

static int stopped(const char *path, struct problem *why)
{
    return problem_set(why, -ECANCELED, "reading %s was stopped", path);
}

static int read_rows(struct source *source, struct csv *csv, const struct source_env *env, struct problem *why)
{
    char *fields[CSV_FIELDS];
    uint64_t room = 0;
    int n, rc;
    while ((n = csv_record(csv, fields, why)) > 0) {
        if ((uint32_t)n != source->n_columns)
            return problem_set(why, -EINVAL, "%s:%llu: %d fields where the first line names %u columns; check commas and quotes",
                               csv->path, (unsigned long long)csv->start, n, source->n_columns);
        if (source->n == room) {
            room += room / 2 + 1024;
            if (source_too_large(env->progress, source->text_size + room * ROW_BYTES(source->n_columns, source->n_files)))
                return problem_set(why, -ENOMEM, "the rows of %s do not fit into the %llu MiB of `daemon: memory`; raise it",
                                   csv->path, (unsigned long long)(env->progress->most_bytes >> 20));
            rc = resize(source, room, why);
            if (rc < 0)
                return rc;
        }
        for (uint32_t i = 0; i < source->n_columns; i++) {
            rc = add_value(source, &source->columns[i], fields[i], csv, why);
            if (rc < 0)
                return rc;
        }
        source->n++;
        if (source_stopping(env->progress))
            return stopped(csv->path, why);
    }
    return n < 0 || source->n == 0 ? n : resize(source, source->n, why); /* to what there is */
}

static int compare_texts(const void *left, const void *right, void *context)
{
    (void)context;
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The different texts of a column, sorted bytewise, are its classes. */
static int collect_classes(const struct source *source, const struct column *column, const struct source_env *env,
                           struct names *out, struct problem *why)
{
    uint64_t n = 0;
    const char **texts = calloc(source->n ? source->n : 1, sizeof *texts);
    if (!texts)
        return list_no_memory(why);
    if (source->n > 0)
        memcpy(texts, column->texts, source->n * sizeof *texts);
    int rc = file_sort(texts, source->n, sizeof *texts, compare_texts, NULL, env->progress);
    for (uint64_t i = 0; i < source->n && rc == 0; i++)
        if (i == 0 || strcmp(texts[n - 1], texts[i]) != 0)
            texts[n++] = texts[i];
    if (rc == -ECANCELED)
        problem_set(why, rc, "sorting the column '%s' was stopped", column->name);
    else if (rc < 0)
        list_no_memory(why);
    else
        rc = n > UINT32_MAX ? -E2BIG : names_make(out, texts, (uint32_t)n, why);
    free(texts);
    return rc;
}

/* The line that a row begins on. Lines are not kept: this is for one message, and reads the file again. */
static uint64_t line_of(const char *path, uint64_t row)
{
    struct csv csv = { .start = 0 };
    char *text, *fields[CSV_FIELDS];
    size_t size;
    if (file_slurp(path, TEXT_LIMIT, &text, &size, NULL) < 0)
        return 0;
    if (csv_init(&csv, path, text, size, NULL) == 0)
        for (uint64_t i = 0; i < row + 2 && csv_record(&csv, fields, NULL) > 0; i++)
            ;
    free(text);
    return csv.start;
}

/* Turns the texts into their numbers, in place: both take 8 bytes. */
static int number_column(struct source *source, struct column *column, const struct names *classes, const char *path,
                         const struct source_env *env, struct problem *why)
{
    _Static_assert(sizeof(int64_t) == sizeof(char *), "a text's place holds its number");
    for (uint64_t row = 0; row < source->n; row++) {
        int64_t number = names_find(classes, column->texts[row]);
        if (number < 0)
            return problem_about(why, "classes_of", -1,
                                 problem_set(why, -EINVAL,
                                             "%s:%llu: '%.60s' in the column '%s' is not among the %u classes of the feed in "
                                             "'classes_of'; mend the row, or remove 'classes_of'",
                                             path, (unsigned long long)line_of(path, row), column->texts[row], column->name,
                                             classes->n));
        column->ints[row] = number;
        if (source_stopping(env->progress))
            return stopped(path, why);
    }
    return 0;
}

int list_number_texts(struct source *source, const struct source_env *env, const char *path, struct problem *why)
{
    int main_column = find_column(source, LABEL);
    int rc = 0;
    if (main_column >= 0 && source->columns[main_column].kind != COLUMN_TEXT)
        main_column = -1;
    for (uint32_t i = 0; i < source->n_columns && main_column < 0; i++)
        if (source->columns[i].kind == COLUMN_TEXT)
            main_column = (int)i;
    for (uint32_t i = 0; i < source->n_columns && rc == 0; i++) {
        struct column *column = &source->columns[i];
        struct names own = { .n = 0 }, *classes = (int)i == main_column ? &source->classes : &own;
        if (column->kind != COLUMN_TEXT)
            continue;
        if (classes == &source->classes && env->classes)
            rc = names_make(classes, env->classes, env->n_classes, why);
        else
            rc = collect_classes(source, column, env, classes, why);
        if (rc == 0)
            rc = number_column(source, column, classes, path, env, why);
        names_fini(&own);
    }
    return rc;
}

int list_read_text(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why)
{
    struct csv csv;
    const size_t limit = source_too_large(env->progress, TEXT_LIMIT) ? (size_t)env->progress->most_bytes : TEXT_LIMIT;
    int rc = file_slurp(p->path, limit, &source->text, &source->text_size, why);
    if (rc < 0)
        return rc;
    source->measure.list = XXH3_64bits(source->text, source->text_size);
    rc = csv_init(&csv, p->path, source->text, source->text_size, why);
    if (rc == 0)
        rc = read_header(source, p, &csv, why);
    return rc < 0 ? rc : read_rows(source, &csv, env, why);
}
