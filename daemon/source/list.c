/* SPDX-License-Identifier: MIT */
/* A CSV file that lists samples: one column of paths, every other column a target of its own name. Read once, on the thread that
 * opens it, as RFC 4180 (quotes, CRLF) with or without a byte order mark; afterwards constant. Sample ids are the rows in the
 * file's order. The text is read at each start, which takes no time beside a look at every file that it names: what those
 * looks found is kept in a manifest, with a hash of the text. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source/csv.h"
#include "source/file.h"
#include "source/measure.h"
#include "source/source.h"

#define TEXT_LIMIT         ((size_t)4 << 30)
#define ROW_BYTES(columns) ((columns) * sizeof(int64_t) + 2 * sizeof(uint64_t)) /* its values, the file's size and head */
#define IMAGE              "image"                                              /* the part that holds the file */
#define LABEL              "label"

struct list_params {
    char *path, *root, *path_column;
    struct setting_strings text_columns;
};

enum column_kind { COLUMN_PATH, COLUMN_INT, COLUMN_FLOAT, COLUMN_TEXT };

struct column {
    char *name;
    enum column_kind kind;
    uint32_t part; /* index in parts */
    union {        /* one a row */
        int64_t *ints;
        double *floats;
        const char **texts; /* into the file's text; COLUMN_PATH and, until they are numbered, COLUMN_TEXT */
    };
};

struct source {
    char *text; /* of the file, its fields cut in place */
    size_t text_size;
    char *root;
    uint32_t n_columns;
    struct column columns[CSV_FIELDS];
    uint64_t n;
    struct measure measure; /* of the files */
    struct names classes;   /* of the column `label`, else of the first column of texts */
    uint32_t n_parts;
    struct sample_part parts[CSV_FIELDS];
};

static const struct setting settings[] = {
    { "path", SETTING_PATH, offsetof(struct list_params, path), NULL, .help = "the CSV file; its first line names the columns" },
    { "root", SETTING_PATH, offsetof(struct list_params, root), "",
      .help = "the folder that paths in the file start at; default: the file's own" },
    { "path_column", SETTING_STRING, offsetof(struct list_params, path_column), "path", .help = "the column of paths" },
    { "text_columns", SETTING_STRINGS, offsetof(struct list_params, text_columns), "[]",
      .help = "columns whose values are class names though they look like numbers" },
    SETTINGS_END,
};

static int no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the rows of the list");
}

/* --- columns -------------------------------------------------------------------------------------------------------------- */

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
    int image = find_column(source, IMAGE);
    if (image >= 0 && image != path)
        return problem_set(why, -EINVAL,
                           "%s:1: a column is called '" IMAGE "', as the part that holds the file is; rename it, or give "
                           "'path_column: " IMAGE "'",
                           csv->path);
    for (uint32_t i = 0; i < p->text_columns.n; i++) {
        int column = find_column(source, p->text_columns.v[i]);
        if (column < 0 || column == path)
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
            return no_memory(why);
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
            if (source_too_large(env->progress, source->text_size + room * ROW_BYTES(source->n_columns)))
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
    const char **texts = calloc(source->n, sizeof *texts);
    if (!texts)
        return no_memory(why);
    memcpy(texts, column->texts, source->n * sizeof *texts);
    int rc = file_sort(texts, source->n, sizeof *texts, compare_texts, NULL, env->progress);
    for (uint64_t i = 0; i < source->n && rc == 0; i++)
        if (i == 0 || strcmp(texts[n - 1], texts[i]) != 0)
            texts[n++] = texts[i];
    if (rc == -ECANCELED)
        problem_set(why, rc, "sorting the column '%s' was stopped", column->name);
    else if (rc < 0)
        no_memory(why);
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

static int number_texts(struct source *source, const struct source_env *env, const char *path, struct problem *why)
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

static void make_parts(struct source *source)
{
    source->parts[0] = (struct sample_part){ .name = IMAGE, .kind = PART_ENCODED };
    source->n_parts = 1;
    for (uint32_t i = 0; i < source->n_columns; i++) {
        struct column *column = &source->columns[i];
        if (column->kind == COLUMN_PATH)
            continue;
        column->part = source->n_parts;
        struct sample_part *part = &source->parts[source->n_parts++];
        part->kind = PART_VALUES;
        part->dtype = column->kind == COLUMN_FLOAT ? DTYPE_F64 : DTYPE_I64;
        snprintf(part->name, sizeof part->name, "%.*s", NAME_SIZE - 1, column->name);
    }
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static const struct column *path_column(const struct source *source)
{
    const struct column *column = source->columns;
    while (column->kind != COLUMN_PATH)
        column++;
    return column;
}

static void list_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    const char *path = path_column(source)->texts[id];
    if (path[0] == '/')
        snprintf(text, size, "%s", path);
    else
        snprintf(text, size, "%s/%s", source->root, path);
}

/* As the file has it. */
static void list_sample_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    snprintf(text, size, "%s", path_column(source)->texts[id]);
}

/* A file that is not there is a bad sample; that none is there is a wrong root. */
static int measure_files(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why)
{
    const struct measure *measure = &source->measure;
    char *list = realpath(p->path, NULL), *root = realpath(source->root, NULL);
    const char *const words[] = { "list", list, root, p->path_column };
    char first[PATH_MAX];
    source->measure.n = source->n;
    int rc =
        measure_open(&source->measure, source->root, path_column(source)->texts, words, sizeof words / sizeof *words, env, why);
    free(list);
    free(root);
    if (rc < 0 || measure->absent == 0)
        return rc;
    list_where(source, measure->first_absent, first, sizeof first);
    if (measure->absent == measure->n)
        return problem_about(why, "root", -1,
                             problem_set(why, -ENOENT, "none of the %llu files of %s can be read, first %.200s; check 'root'",
                                         (unsigned long long)measure->absent, p->path, first));
    log_warn("%s: %llu of %llu files cannot be read, first %s", p->path, (unsigned long long)measure->absent,
             (unsigned long long)measure->n, first);
    return 0;
}

static void list_close(struct source *source)
{
    if (!source)
        return;
    for (uint32_t i = 0; i < source->n_columns; i++)
        free(source->columns[i].ints);
    names_fini(&source->classes);
    measure_fini(&source->measure);
    free(source->root);
    free(source->text);
    free(source);
}

static char *root_of(const struct list_params *p)
{
    const char *slash = strrchr(p->path, '/');
    if (p->root)
        return strdup(p->root);
    return slash ? strndup(p->path, (size_t)(slash - p->path)) : strdup(".");
}

static int read_text(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why)
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

static int list_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    const struct list_params *p = params;
    struct source *source = calloc(1, sizeof *source);
    int rc = source && (source->root = root_of(p)) ? 0 : no_memory(why);
    if (rc == 0)
        rc = read_text(source, p, env, why);
    if (rc == 0)
        rc = number_texts(source, env, p->path, why);
    if (rc == 0)
        rc = measure_files(source, p, env, why);
    if (rc < 0) {
        list_close(source);
        return rc;
    }
    make_parts(source);
    *out = source;
    return 0;
}

static uint64_t list_count(const struct source *source)
{
    return source->n;
}

static uint32_t list_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = source->parts;
    return source->n_parts;
}

static uint64_t list_bytes(const struct source *source)
{
    return source->text_size + source->n * source->n_columns * sizeof *source->columns->ints + measure_bytes(&source->measure) +
           names_bytes(&source->classes);
}

static size_t list_max_bytes(const struct source *source)
{
    const uint64_t max_bytes = source->measure.max_bytes;
    return max_bytes > sizeof(int64_t) ? (size_t)max_bytes : sizeof(int64_t);
}

static int list_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                     struct sample_value *out, struct problem *why)
{
    const struct column *column = source->columns;
    char path[PATH_MAX];
    if (part == 0) {
        list_where(source, id, path, sizeof path);
        const uint64_t size = source->measure.sizes[id];
        int rc = file_read(path, size, buffer, buffer_size, why);
        if (rc == 0)
            *out = (struct sample_value){
                .data = buffer, .size = (size_t)size, .part = &source->parts[0], .head = &source->measure.heads[id]
            };
        return rc;
    }
    while (column->part != part)
        column++;
    /* Both kinds take 8 bytes. */
    *out = (struct sample_value){ .data = &column->ints[id], .size = sizeof *column->ints, .part = &source->parts[part] };
    return 0;
}

static uint32_t list_classes(const struct source *source, const char *const **names)
{
    *names = source->classes.names;
    return source->classes.n;
}

static int list_save(struct source *source, struct problem *why)
{
    return measure_update(&source->measure, why);
}

const struct source_ops source_list = {
    .name = "list",
    .help = "a CSV file of paths and targets; parts image and one for each other column",
    .settings = settings,
    .params_size = sizeof(struct list_params),
    .open = list_open,
    .close = list_close,
    .count = list_count,
    .parts = list_parts,
    .max_bytes = list_max_bytes,
    .bytes = list_bytes,
    .read = list_read,
    .where = list_where,
    .path = list_sample_path,
    .classes = list_classes,
    .save = list_save,
};
