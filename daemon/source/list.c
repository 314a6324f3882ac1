/* SPDX-License-Identifier: MIT */
/* A CSV file that lists samples: one column of paths, every other column a target of its own name. Read once, on the thread that
 * opens it, as RFC 4180 (quotes, CRLF) with or without a byte order mark; afterwards constant. Sample ids are the rows in the
 * file's order. The text is read at each start, which takes no time beside a look at every file that it names: what those
 * looks found is kept in a manifest, with a hash of the text. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "source/digest.h"
#include "source/list.h"

static const struct setting settings[] = {
    { "path", SETTING_PATH, offsetof(struct list_params, path), NULL, .help = "the CSV file; its first line names the columns" },
    { "root", SETTING_PATH, offsetof(struct list_params, root), "",
      .help = "the folder that paths in the file start at; default: the file's own" },
    { "path_column", SETTING_STRING, offsetof(struct list_params, path_column), "path", .help = "the column of paths" },
    { "text_columns", SETTING_STRINGS, offsetof(struct list_params, text_columns), "[]",
      .help = "columns whose values are class names though they look like numbers" },
    { "file_columns", SETTING_STRINGS, offsetof(struct list_params, file_columns), "[]",
      .help = "further columns of paths, each a part of its own name that holds the file: masks, say" },
    SETTINGS_END,
};

static void make_parts(struct source *source)
{
    source->parts[0] = (struct sample_part){ .name = LIST_IMAGE, .kind = PART_ENCODED };
    source->n_parts = 1;
    for (uint32_t i = 0; i < source->n_columns; i++) {
        struct column *column = &source->columns[i];
        if (column->kind == COLUMN_PATH && column->file == 0)
            continue;
        column->part = source->n_parts;
        struct sample_part *part = &source->parts[source->n_parts++];
        part->kind = column->kind == COLUMN_PATH ? PART_ENCODED : PART_VALUES;
        part->dtype = column->kind == COLUMN_FLOAT ? DTYPE_F64 : DTYPE_I64;
        snprintf(part->name, sizeof part->name, "%.*s", NAME_SIZE - 1, column->name);
    }
}

static const struct column *file_column(const struct source *source, uint32_t file)
{
    const struct column *column = source->columns;
    while (column->kind != COLUMN_PATH || column->file != file)
        column++;
    return column;
}

static const struct column *path_column(const struct source *source)
{
    return file_column(source, 0);
}

/* index: of the measure. */
static void file_where(const struct source *source, uint64_t index, char *text, size_t size)
{
    const char *path = file_column(source, (uint32_t)(index / source->n))->texts[index % source->n];
    if (path[0] == '/')
        snprintf(text, size, "%s", path);
    else
        snprintf(text, size, "%s/%s", source->root, path);
}

/* The index in the measure of the file that the part is. */
static uint64_t file_of(const struct source *source, uint64_t id, uint32_t part)
{
    const struct column *column = source->columns;
    while (part && column->part != part)
        column++;
    return part ? column->file * source->n + id : id;
}

static void list_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    file_where(source, id, text, size);
}

/* As the file has it. */
static void list_sample_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    snprintf(text, size, "%s", path_column(source)->texts[id]);
}

/* A file that is not there is a bad sample; that none is there is a wrong root. */
static int measure_columns(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why)
{
    char *list = realpath(p->path, NULL), *root = realpath(source->root, NULL);
    const char *words[4 + CSV_FIELDS] = { "list", list, root, p->path_column };
    for (uint32_t i = 0; i < p->file_columns.n; i++)
        words[4 + i] = p->file_columns.v[i];
    source->measure.n = source->n * source->n_files;
    const char **paths = calloc(source->measure.n ? source->measure.n : 1, sizeof *paths);
    int rc = paths ? 0 : list_no_memory(why);
    for (uint32_t f = 0; f < source->n_files && rc == 0 && source->n > 0; f++)
        memcpy(paths + f * source->n, file_column(source, f)->texts, source->n * sizeof *paths);
    if (rc == 0)
        rc = measure_open(&source->measure, source->root, paths, words, 4 + p->file_columns.n, env, why);
    free(paths);
    free(list);
    free(root);
    return rc;
}

static int measure_files(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why)
{
    const struct measure *measure = &source->measure;
    char first[PATH_MAX];
    int rc = measure_columns(source, p, env, why);
    if (rc == 0)
        source_listed(env->progress, source->n);
    if (rc < 0 || measure->absent == 0)
        return rc;
    file_where(source, measure->first_absent, first, sizeof first);
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

static int list_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    const struct list_params *p = params;
    struct source *source = calloc(1, sizeof *source);
    int rc = source && (source->root = root_of(p)) ? 0 : list_no_memory(why);
    if (rc == 0)
        rc = list_read_text(source, p, env, why);
    if (rc == 0)
        rc = list_number_texts(source, env, p->path, why);
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

static bool list_place(const struct source *source, uint64_t id, uint32_t part, struct source_place *place)
{
    if (source->parts[part].kind != PART_ENCODED)
        return false;
    const uint64_t index = file_of(source, id, part);
    file_where(source, index, place->path, sizeof place->path);
    if (source->measure.sizes[index] == FILE_ABSENT)
        return false;
    place->fd = -1;
    place->whole = true;
    place->offset = 0;
    place->size = source->measure.sizes[index];
    place->head = &source->measure.heads[index];
    place->file_mtime_ns = 0;
    return true;
}

static int list_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                     struct sample_value *out, struct problem *why)
{
    const struct column *column = source->columns;
    char path[PATH_MAX];
    if (source->parts[part].kind == PART_ENCODED) {
        const uint64_t index = file_of(source, id, part), size = source->measure.sizes[index];
        file_where(source, index, path, sizeof path);
        int rc = file_read(path, size, buffer, buffer_size, why);
        if (rc == 0)
            *out = (struct sample_value){
                .data = buffer, .size = (size_t)size, .part = &source->parts[part], .head = &source->measure.heads[index]
            };
        return rc;
    }
    while (column->part != part)
        column++;
    /* Both kinds take 8 bytes. */
    *out = (struct sample_value){ .data = &column->ints[id], .size = sizeof *column->ints, .part = &source->parts[part] };
    return 0;
}

/* Paths as the file has them, but for a root that is written out. */
static int list_print(const struct source *source, struct digest *digest, struct problem *why)
{
    const size_t root = strlen(source->root);
    (void)why;
    for (uint32_t f = 0; f < source->n_files; f++) {
        const char *const *paths = file_column(source, f)->texts;
        for (uint64_t i = 0; i < source->n; i++) {
            const bool below = strncmp(paths[i], source->root, root) == 0 && paths[i][root] == '/';
            digest_text(digest, paths[i] + (below ? root + 1 : 0));
            digest_number(digest, source->measure.sizes[f * source->n + i]);
        }
    }
    for (const struct column *column = source->columns; column < source->columns + source->n_columns; column++)
        if (column->kind != COLUMN_PATH)
            digest_add(digest, column->ints, source->n * sizeof *column->ints);
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
    .place = list_place,
    .path = list_sample_path,
    .classes = list_classes,
    .print = list_print,
    .save = list_save,
};
