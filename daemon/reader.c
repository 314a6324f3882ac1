/* SPDX-License-Identifier: MIT */
/* YAML files read against tables of settings. config.c calls it on the main thread at start. Every error is kept with its place
 * and reading goes on, so that one run shows them all. The files are trusted to be the administrator's, not to be sane. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

void reader_error(struct reader *reader, const struct config_mark *mark, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    config_verror(reader->config, mark, format, args);
    va_end(args);
}

/* --- nodes ---------------------------------------------------------------------------------------------------------------- */

struct config_mark reader_mark(const struct reader *reader, const yaml_node_t *node)
{
    return (struct config_mark){ .file = reader->file,
                                 .line = (uint32_t)node->start_mark.line + 1,
                                 .column = (uint32_t)node->start_mark.column + 1 };
}

yaml_node_t *reader_node(const struct reader *reader, int index)
{
    return yaml_document_get_node(reader->document, index);
}

const char *reader_word(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

bool reader_is_empty(const yaml_node_t *node)
{
    const char *word = reader_word(node);
    return word && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*word || strcmp(word, "~") == 0 || strcmp(word, "null") == 0);
}

const char *reader_type(struct reader *reader, const yaml_node_t *node)
{
    const char *word = reader_word(node);
    if (!word)
        return node->type == YAML_SEQUENCE_NODE ? "a list" : "a map";
    if (reader_is_empty(node))
        return "empty";
    snprintf(reader->type, sizeof reader->type, "'%.60s'", word);
    return reader->type;
}

const char *reader_key(struct reader *reader, const yaml_node_pair_t *pair, const char *what)
{
    const yaml_node_t *node = reader_node(reader, pair->key);
    const char *word = reader_word(node);
    struct config_mark mark = reader_mark(reader, node);
    if (word && *word && strlen(word) == node->data.scalar.length)
        return word;
    reader_error(reader, &mark, "a key in %s is %s; a key must be one word", what,
                 !word                                           ? reader_type(reader, node)
                 : word[0] == 0 && node->data.scalar.length == 0 ? "empty"
                                                                 : "a word with a zero byte in it");
    return NULL;
}

struct config_mark *reader_marks_for(struct reader *reader, const struct setting *rows)
{
    size_t n = 1;
    for (const struct setting *row = rows; row && row->name; row++)
        n++;
    struct config_mark *marks = calloc(n, sizeof *marks);
    if (!marks)
        reader->no_memory = true;
    return marks;
}

/* --- sections ------------------------------------------------------------------------------------------------------------- */

/* A value of a plain type into its table. */
static void set(struct reader *reader, const struct reader_table *table, const struct setting *row, yaml_node_t *value)
{
    struct config_mark mark = reader_mark(reader, value);
    struct problem why;
    char expects[256];
    const char *one, **words = &one;
    uint32_t n = 1;
    bool list = value->type == YAML_SEQUENCE_NODE && setting_takes_list(row);
    setting_expects(row, expects, sizeof expects);
    if (reader_is_empty(value)) {
        reader_error(reader, &mark, "'%s' has no value; give %s", row->name, expects);
        return;
    }
    if (list) {
        n = (uint32_t)(value->data.sequence.items.top - value->data.sequence.items.start);
        words = calloc(n ? n : 1, sizeof *words);
        if (!words) {
            reader->no_memory = true;
            goto done;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        yaml_node_t *item = list ? reader_node(reader, value->data.sequence.items.start[i]) : value;
        words[i] = reader_word(item);
        if (!words[i] || strlen(words[i]) != item->data.scalar.length) {
            mark = reader_mark(reader, item);
            reader_error(reader, &mark, "'%s' %s %s; give %s", row->name, list ? "holds" : "is",
                         words[i] ? "a word with a zero byte in it" : reader_type(reader, item), expects);
            goto done;
        }
    }
    if (setting_set(row, table->params, reader->folder, words, n, &why) < 0)
        reader_error(reader, &mark, "%s", why.text);
done:
    if (list)
        free(words);
}

static const struct setting *find(const struct reader_section *section, const char *key, const struct reader_table **table)
{
    for (int i = 0; i < 2; i++)
        for (const struct setting *row = section->tables[i].rows; row && row->name; row++)
            if (strcmp(row->name, key) == 0) {
                *table = &section->tables[i];
                return row;
            }
    return NULL;
}

static void unknown_key(struct reader *reader, const struct reader_section *section, const char *key,
                        const struct config_mark *mark)
{
    struct nearest nearest;
    char known[320] = "";
    size_t used = 0;
    if (strcmp(key, "<<") == 0) {
        reader_error(reader, mark, "'<<' does not merge maps here; repeat the keys, or take a whole value by '*name'");
        return;
    }
    nearest_init(&nearest, key);
    for (int i = 0; i < 2; i++)
        for (const struct setting *row = section->tables[i].rows; row && row->name; row++) {
            if (row->type == SETTING_LATER)
                continue;
            nearest_offer(&nearest, row->name);
            if (used < sizeof known)
                used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", row->name);
        }
    if (nearest.best)
        reader_error(reader, mark, "unknown key '%.60s' in %s; did you mean '%s'?", key, section->what, nearest.best);
    else if (used)
        reader_error(reader, mark, "unknown key '%.60s' in %s; the keys here are %s", key, section->what, known);
    else
        reader_error(reader, mark, "unknown key '%.60s' in %s; it takes no keys, remove it", key, section->what);
}

static void read_pair(struct reader *reader, struct reader_section *section, const yaml_node_pair_t *pair)
{
    const struct reader_table *table = NULL;
    yaml_node_t *value = reader_node(reader, pair->value);
    struct config_mark mark = reader_mark(reader, reader_node(reader, pair->key));
    const char *key = reader_key(reader, pair, section->what);
    if (!key)
        return;
    const struct setting *row = find(section, key, &table);
    if (!row) {
        unknown_key(reader, section, key, &mark);
        return;
    }
    struct config_mark *kept = &table->marks[row - table->rows];
    if (kept->line) {
        reader_error(reader, &mark, "'%s' is given twice in %s, first on line %u; remove one", key, section->what, kept->line);
        return;
    }
    *kept = row->type == SETTING_SECTION ? mark : reader_mark(reader, value);
    if (row->type == SETTING_LATER)
        reader_error(reader, &mark, "'%s' is not in this version; remove it (%s)", key, row->help);
    else if (row->type == SETTING_SECTION)
        section->nested(reader, section, row, value);
    else
        set(reader, table, row, value);
}

static void read_missing(struct reader *reader, struct reader_section *section, const struct reader_table *table,
                         const struct config_mark *where)
{
    struct problem why;
    char expects[256];
    for (const struct setting *row = table->rows; row && row->name; row++) {
        if (table->marks[row - table->rows].line || row->type == SETTING_LATER)
            continue;
        if (!row->initial) {
            setting_expects(row, expects, sizeof expects);
            reader_error(reader, where, "%s has no '%s'; add %s (%s)", section->what, row->name,
                         row->type == SETTING_SECTION ? "it" : expects, row->help);
        } else if (row->type == SETTING_SECTION) {
            section->nested(reader, section, row, NULL);
        } else if (setting_set_default(row, table->params, reader->folder, &why) < 0) {
            /* Only memory can fail here: defaults are ours. */
            reader->no_memory = true;
        }
    }
}

void reader_section(struct reader *reader, struct reader_section *section, yaml_node_t *map, const struct config_mark *where)
{
    struct config_mark mark;
    for (int i = 0; i < 2; i++)
        if (section->tables[i].rows && (!section->tables[i].marks || !section->tables[i].params)) {
            reader->no_memory = true;
            return;
        }
    if (map && !reader_is_empty(map) && map->type != YAML_MAPPING_NODE) {
        mark = reader_mark(reader, map);
        reader_error(reader, &mark, "%s is %s; it must be a map of keys ('key: value' lines)", section->what,
                     reader_type(reader, map));
        return;
    }
    if (map && map->type == YAML_MAPPING_NODE)
        for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++)
            read_pair(reader, section, pair);
    for (int i = 0; i < 2; i++)
        read_missing(reader, section, &section->tables[i], where);
}

/* --- names that come from lists ------------------------------------------------------------------------------------------- */

void reader_name_list(reader_names *name_of, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; name_of(i) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", name_of(i));
}

int reader_find_word(struct reader *reader, const struct config_mark *mark, const char *what, reader_names *name_of,
                     const char *word)
{
    struct nearest nearest;
    char known[256];
    nearest_init(&nearest, word);
    for (uint32_t i = 0; name_of(i); i++) {
        if (strcmp(name_of(i), word) == 0)
            return (int)i;
        nearest_offer(&nearest, name_of(i));
    }
    reader_name_list(name_of, known, sizeof known);
    if (nearest.best)
        reader_error(reader, mark, "unknown %s '%.60s'; did you mean '%s'?", what, word, nearest.best);
    else
        reader_error(reader, mark, "unknown %s '%.60s'; use one of %s", what, word, known);
    return -1;
}

void reader_params(struct reader *reader, const char *what, const struct setting *rows, size_t size, yaml_node_t *map,
                   const struct config_mark *where, void **params, struct config_mark **marks)
{
    *params = calloc(1, size ? size : 1);
    *marks = reader_marks_for(reader, rows);
    struct reader_section section = { .what = what, .tables = { { rows, *params, *marks } } };
    reader_section(reader, &section, map, where);
}

const char *reader_named(struct reader *reader, yaml_node_t *node, const char *what, yaml_node_t **settings)
{
    struct config_mark mark = reader_mark(reader, node);
    const char *word = reader_word(node);
    *settings = NULL;
    if (word && !reader_is_empty(node))
        return word;
    if (node->type == YAML_MAPPING_NODE && node->data.mapping.pairs.top - node->data.mapping.pairs.start == 1) {
        const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
        *settings = reader_node(reader, pair->value);
        return reader_key(reader, pair, what);
    }
    if (node->type == YAML_MAPPING_NODE)
        reader_error(reader, &mark, "%s is a map of several keys; write one '{ name: { settings } }'", what);
    else
        reader_error(reader, &mark, "%s is %s; give a name, or '{ name: { settings } }'", what, reader_type(reader, node));
    return NULL;
}
