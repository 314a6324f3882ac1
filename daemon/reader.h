/* SPDX-License-Identifier: MIT */
/* YAML files read against tables of settings, with every error collected. Used by config.c only; on the
 * main thread at the start, on that of chores at a reload. */
#ifndef PFEED_READER_H
#define PFEED_READER_H

#include <yaml.h>

#include "config.h"

/* Everything about one load; the files' names belong to the config, because its marks point to them. */
struct reader {
    struct config *config; /* has the errors */
    const char *file;      /* now being read */
    char *folder;          /* of that file, absolute: relative paths start here */
    yaml_document_t *document;
    char type[80]; /* reader_type's answer */
    bool unread;   /* a file was not YAML, so that names may be missing */
    bool no_memory;
};

struct reader_table {
    const struct setting *rows; /* NULL: no table */
    void *params;
    struct config_mark *marks; /* one a row, zeroed before; a row that was not given keeps line 0 */
};

/* One map of the file and the tables that its keys come from. */
struct reader_section {
    const char *what; /* "feed 'x'", for messages */
    struct reader_table tables[2];
    /* Rows of type SETTING_SECTION; value is NULL where the key was not given and need not be. */
    void (*nested)(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value);
    void *owner;
};

/* Opens, checks and composes one file. 0, or -errno where it cannot be read (reported as an error as well); -EINVAL: not YAML
 * that we take. On success reader->document is set until reader_close_file. */
int reader_open_file(struct reader *reader, const char *name);
void reader_close_file(struct reader *reader);

void reader_error(struct reader *reader, const struct config_mark *mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct config_mark reader_mark(const struct reader *reader, const yaml_node_t *node);
yaml_node_t *reader_node(const struct reader *reader, int index);
/* The text of a scalar; NULL where the node is none. */
const char *reader_word(const yaml_node_t *node);
bool reader_is_empty(const yaml_node_t *node); /* nothing, ~ or null */
/* What stands there instead of what was expected: "a list", "'word'", "empty". */
const char *reader_type(struct reader *reader, const yaml_node_t *node);

/* Reads map (NULL or empty: only defaults) into the section's params. where is blamed for keys that are missing. */
void reader_section(struct reader *reader, struct reader_section *section, yaml_node_t *map, const struct config_mark *where);
/* For maps with names of the user's own as keys: the key's text, or NULL (reported). */
const char *reader_key(struct reader *reader, const yaml_node_pair_t *pair, const char *what);
struct config_mark *reader_marks_for(struct reader *reader, const struct setting *rows);

/* Words that come from a list kept elsewhere, such as a registry: name_of(i) is NULL past the end. */
typedef const char *reader_names(uint32_t i);
void reader_name_list(reader_names *name_of, char *text, size_t size); /* "a, b, c" */
/* The index of word among the names, or -1 (reported; what: "transform"). */
int reader_find_word(struct reader *reader, const struct config_mark *mark, const char *what, reader_names *name_of,
                     const char *word);
/* "name" or "{ name: settings }": the name, with *settings NULL in the first form. NULL: reported. */
const char *reader_named(struct reader *reader, yaml_node_t *node, const char *what, yaml_node_t **settings);
/* The settings of one plug-in, into memory that is the caller's to free. */
void reader_params(struct reader *reader, const char *what, const struct setting *rows, size_t size, yaml_node_t *map,
                   const struct config_mark *where, void **params, struct config_mark **marks);

#endif
