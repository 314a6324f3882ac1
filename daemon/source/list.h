/* SPDX-License-Identifier: MIT */
/* A list's rows, as the source and the reader of its text share them: list.c and list_text.c, on the thread that opens it. */
#ifndef PFEED_LIST_H
#define PFEED_LIST_H

#include "source/csv.h"
#include "source/file.h"
#include "source/measure.h"
#include "source/source.h"

#define LIST_IMAGE "image" /* the part that holds the file */

struct list_params {
    char *path, *root, *path_column;
    struct setting_strings text_columns, file_columns;
};

enum column_kind { COLUMN_PATH, COLUMN_INT, COLUMN_FLOAT, COLUMN_TEXT };

struct column {
    char *name;
    enum column_kind kind;
    uint32_t part; /* index in parts */
    uint32_t file; /* COLUMN_PATH: its files are those of the measure from file * n on */
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
    uint32_t n_files;       /* columns of paths; that of `path_column` is the first */
    struct measure measure; /* of the files */
    struct names classes;   /* of the column `label`, else of the first column of texts */
    uint32_t n_parts;
    struct sample_part parts[CSV_FIELDS];
};

/* Reads the file, into columns; the first row decides what each one holds. */
int list_read_text(struct source *source, const struct list_params *p, const struct source_env *env, struct problem *why);
/* Then: the texts of classes become their numbers. */
int list_number_texts(struct source *source, const struct source_env *env, const char *path, struct problem *why);
int list_no_memory(struct problem *why);

#endif
