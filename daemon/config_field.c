/* SPDX-License-Identifier: MIT */
/* The fields of a feed: from their YAML maps to struct config_field, with their decoders; config_transforms.c reads the
 * transforms. Called by config_feed.c on the
 * main thread at start. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config_feed.h"
#include "config_table.h"
#include "decode/decode.h"

#define DEFAULT_DECODER "raw"

static const char *decode_name(uint32_t i)
{
    return decode_kinds[i] ? decode_kinds[i]->name : NULL;
}

static void read_decode(struct reader *reader, struct config_field *field, yaml_node_t *node)
{
    yaml_node_t *settings = NULL;
    const char *word = node ? reader_named(reader, node, "'decode'", &settings) : DEFAULT_DECODER;
    struct config_mark mark = node ? reader_mark(reader, node) : field->mark;
    int index = word ? reader_find_word(reader, &mark, "decoder", decode_name, word) : -1;
    char what[96];
    void *params = NULL;
    if (index < 0)
        return;
    field->field.decode = decode_kinds[index];
    snprintf(what, sizeof what, "decoder '%s'", word);
    reader_params(reader, what, decode_kinds[index]->settings, decode_kinds[index]->params_size, settings, &mark, &params,
                  &field->decode_marks);
    field->field.decode_params = params;
}

static void nested_field(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value)
{
    if (strcmp(row->name, "decode") == 0)
        read_decode(reader, section->owner, value);
    else
        config_transforms_read(reader, section->owner, value);
}

static const char *dtype_name(uint32_t i)
{
    return i < DTYPES ? dtype_table[i].name : NULL;
}

/* From what was written to what the daemon works with. */
static void finish_field(struct reader *reader, struct config_field *field)
{
    struct source_want *want = &field->want;
    struct config_mark mark = config_mark_of(config_field_table, field->marks, "dtype");
    want->dtype = field->field.dtype = DTYPES;
    if (field->dtype && strcmp(field->dtype, "auto") != 0) {
        int index = reader_find_word(reader, &mark, "dtype", dtype_name, field->dtype);
        field->dtype_given = index >= 0;
        if (index >= 0)
            want->dtype = field->field.dtype = (enum dtype)index;
    }
    mark = config_mark_of(config_field_table, field->marks, "from");
    if (!field->from && !(field->from = strdup(field->field.name))) {
        reader->no_memory = true;
        return;
    }
    if (strlen(field->from) >= NAME_SIZE)
        reader_error(reader, &mark, "'from' is longer than %d bytes; give the name of a part of the sample", NAME_SIZE - 1);
    snprintf(field->field.from, sizeof field->field.from, "%.*s", NAME_SIZE - 1, field->from);
    want->name = field->field.name;
    want->from = field->from;
    want->key = field->key;
    want->ndim = field->field.ndim = field->shape.n;
    for (uint32_t i = 0; i < field->shape.n; i++)
        want->shape[i] = field->field.shape[i] = field->shape.v[i];
}

static void read_field(struct reader *reader, struct config_field *field, yaml_node_t *map)
{
    char what[NAME_SIZE + 16];
    uint32_t before = reader->config->n_errors;
    snprintf(what, sizeof what, "field '%s'", field->field.name);
    field->marks = reader_marks_for(reader, config_field_table);
    struct reader_section section = {
        .what = what,
        .tables = { { config_field_table, field, field->marks } },
        .nested = nested_field,
        .owner = field,
    };
    reader_section(reader, &section, map, &field->mark);
    if (!reader->no_memory)
        config_transforms_finish(reader, field);
    if (!reader->no_memory)
        finish_field(reader, field);
    if (!reader->no_memory && reader->config->n_errors == before)
        config_transforms_check(reader, field);
    field->bad = reader->no_memory || reader->config->n_errors != before;
}

static bool good_field_name(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return false;
    for (const char *at = name; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("._-", *at))
            return false;
    return strlen(name) < NAME_SIZE;
}

void config_fields_read(struct reader *reader, struct config_feed *feed, yaml_node_t *map)
{
    struct config_mark mark = reader_mark(reader, map);
    if (map->type != YAML_MAPPING_NODE || map->data.mapping.pairs.start == map->data.mapping.pairs.top) {
        reader_error(reader, &mark, "'fields' is %s; give at least one field, such as 'image: { decode: image }'",
                     map->type == YAML_MAPPING_NODE ? "empty" : reader_type(reader, map));
        return;
    }
    feed->fields = calloc(CONFIG_FIELDS_MAX, sizeof *feed->fields);
    if (!feed->fields) {
        reader->no_memory = true;
        return;
    }
    for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        const char *name = reader_key(reader, pair, "fields");
        const struct config_field *other = NULL;
        mark = reader_mark(reader, reader_node(reader, pair->key));
        for (uint32_t i = 0; name && i < feed->n_fields; i++)
            if (strcmp(feed->fields[i].field.name, name) == 0)
                other = &feed->fields[i];
        if (!name)
            continue;
        if (feed->n_fields == CONFIG_FIELDS_MAX) {
            reader_error(reader, &mark, "feed '%s' has too many fields; give at most %d", feed->name, CONFIG_FIELDS_MAX);
            return;
        }
        if (other)
            reader_error(reader, &mark, "field '%s' is given twice, first on line %u; rename one of them", name,
                         other->mark.line);
        else if (!good_field_name(name))
            reader_error(reader, &mark,
                         "'%.80s' cannot name a field; use up to %d letters, digits, '.', '_' and '-', a letter first", name,
                         NAME_SIZE - 1);
        else {
            struct config_field *field = &feed->fields[feed->n_fields++];
            snprintf(field->field.name, sizeof field->field.name, "%.*s", NAME_SIZE - 1, name);
            field->mark = mark;
            read_field(reader, field, reader_node(reader, pair->value));
        }
    }
    if (!reader->no_memory)
        config_transforms_share(reader, feed);
}

void config_field_release(struct config_field *field)
{
    if (field->field.decode)
        setting_release(field->field.decode->settings, (void *)field->field.decode_params);
    free((void *)field->field.decode_params);
    config_transforms_release(field);
    setting_release(config_field_table, field);
    free(field->decode_marks);
    free(field->marks);
}
