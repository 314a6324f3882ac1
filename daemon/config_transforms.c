/* SPDX-License-Identifier: MIT */
/* The list of transforms of a field: from YAML to the field's plug-ins and their params, presets expanded, and what else of the
 * field may stand in it. Called by config_field.c, on its thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_feed.h"
#include "config_preset.h"
#include "config_table.h"
#include "transform/chain.h"

/* Rows of a field that a list may have, too. */
static const char *const listed[CONFIG_LISTED] = { "dtype", "layout" };

/* Transforms, then presets, then those. */
static const char *word_name(uint32_t i)
{
    uint32_t n = 0;
    while (transform_kinds[n])
        n++;
    if (i < n)
        return transform_kinds[i]->name;
    i -= n;
    for (n = 0; preset_kinds[n].name; n++)
        if (i == n)
            return preset_kinds[n].name;
    return i - n < CONFIG_LISTED ? listed[i - n] : NULL;
}

/* --- one transform -------------------------------------------------------------------------------------------------------- */

/* NULL: there are too many already, which has been said. */
static struct transform_use *add_use(struct reader *reader, struct config_field *field, const struct transform_ops *ops,
                                     const struct config_mark *mark)
{
    const uint32_t n = field->field.n_transforms;
    struct transform_use *use = &field->field.transforms[n];
    if (n == FIELD_TRANSFORMS) {
        reader_error(reader, mark, "'transforms' holds too many; give at most %d", FIELD_TRANSFORMS);
        return NULL;
    }
    use->ops = ops;
    for (uint32_t i = 0; i < n; i++)
        use->ordinal += field->field.transforms[i].ops == ops;
    field->transform_mark[n] = *mark;
    field->field.n_transforms++;
    return use;
}

static void read_transform(struct reader *reader, struct config_field *field, const struct transform_ops *ops,
                           yaml_node_t *settings, const struct config_mark *mark)
{
    struct transform_use *use = add_use(reader, field, ops, mark);
    char what[96];
    void *params = NULL;
    if (!use)
        return;
    snprintf(what, sizeof what, "transform '%s'", ops->name);
    reader_params(reader, what, ops->settings, ops->params_size, settings, mark, &params,
                  &field->transform_marks[field->field.n_transforms - 1]);
    use->params = params;
}

/* --- presets -------------------------------------------------------------------------------------------------------------- */

/* A transform of a preset: its own defaults, then what the preset or its user says, each with where that was. */
static void expand_one(struct reader *reader, struct config_field *field, const struct preset *preset,
                       const struct preset_rows *rows, uint32_t index, const void *block, const struct config_mark *marks,
                       const struct config_mark *mark)
{
    const struct transform_ops *ops = rows->ops[index];
    struct transform_use *use = add_use(reader, field, ops, mark);
    struct config_mark *own = use ? reader_marks_for(reader, ops->settings) : NULL;
    char *params = use ? calloc(1, ops->params_size) : NULL;
    struct problem why;
    if (!use)
        return;
    use->params = params;
    field->transform_marks[field->field.n_transforms - 1] = own;
    if (!own || !params) {
        reader->no_memory = true;
        return;
    }
    memcpy(params, (const char *)block + rows->at[index], ops->params_size);
    for (const struct setting *row = ops->settings; row->name; row++) {
        uint32_t v = 0;
        while (rows->rows[v].name && (!preset->values[v].key || preset->values[v].transform != index ||
                                      strcmp(preset->values[v].setting, row->name) != 0))
            v++;
        if (rows->rows[v].name)
            own[row - ops->settings] = marks[v].line ? marks[v] : *mark;
        else if (setting_set_default(row, params, reader->folder, &why) < 0)
            reader->no_memory = true;
    }
}

static void read_preset(struct reader *reader, struct config_field *field, const struct preset *preset, yaml_node_t *settings,
                        struct config_mark mark)
{
    struct preset_rows rows;
    struct config_mark *marks = NULL;
    void *block = NULL;
    char what[96];
    const uint32_t before = reader->config->n_errors;
    preset_rows(preset, &rows);
    snprintf(what, sizeof what, "preset '%s'", preset->name);
    reader_params(reader, what, rows.rows, rows.size, settings, &mark, &block, &marks);
    mark.preset = preset->name;
    for (uint32_t i = 0; i < rows.n_ops && !reader->no_memory && reader->config->n_errors == before; i++)
        if (rows.ops[i]->stage != TRANSFORM_VALUE || preset_normalizes(&rows, block))
            expand_one(reader, field, preset, &rows, i, block, marks, &mark);
    if (!field->preset.line)
        field->preset = mark;
    free(block);
    free(marks);
}

/* --- the list ------------------------------------------------------------------------------------------------------------- */

/* `- dtype: float16`: kept until the field's own keys are read. */
static void read_listed(struct reader *reader, struct config_field *field, uint32_t index, yaml_node_t *value,
                        struct config_mark mark)
{
    const char *word = value && !reader_is_empty(value) ? reader_word(value) : NULL;
    if (value)
        mark = reader_mark(reader, value);
    if (!word)
        reader_error(reader, &mark, "'%s' in the list has no value; write '%s: %s'", listed[index], listed[index],
                     index ? "hwc" : "float16");
    else if (field->listed[index] && strcmp(field->listed[index], word) != 0)
        reader_error(reader, &mark, "'%s' is %.60s here and %.60s on line %u; give one of them", listed[index], word,
                     field->listed[index], field->listed_mark[index].line);
    else if (!field->listed[index] && !(field->listed[index] = strdup(word)))
        reader->no_memory = true;
    else if (!field->listed_mark[index].line)
        field->listed_mark[index] = mark;
}

static void read_item(struct reader *reader, struct config_field *field, yaml_node_t *node)
{
    yaml_node_t *settings;
    const char *word = reader_named(reader, node, "a transform", &settings);
    struct config_mark mark = reader_mark(reader, node);
    int index = word ? reader_find_word(reader, &mark, "transform", word_name, word) : -1;
    int n = 0;
    if (index < 0)
        return;
    for (; transform_kinds[n]; n++)
        if (index == n)
            read_transform(reader, field, transform_kinds[n], settings, &mark);
    index -= n;
    for (n = 0; preset_kinds[n].name; n++)
        if (index == n)
            read_preset(reader, field, &preset_kinds[n], settings, mark);
    index -= n;
    if (index >= 0)
        read_listed(reader, field, (uint32_t)index, settings, mark);
}

void config_transforms_read(struct reader *reader, struct config_field *field, yaml_node_t *list)
{
    if (!list || reader_is_empty(list))
        return;
    struct config_mark mark = reader_mark(reader, list);
    const bool one = reader_word(list) ||
                     (list->type == YAML_MAPPING_NODE && list->data.mapping.pairs.top - list->data.mapping.pairs.start == 1);
    if (one) {
        read_item(reader, field, list);
        return;
    }
    if (list->type != YAML_SEQUENCE_NODE) {
        reader_error(reader, &mark, "'transforms' is %s; it must be a list ('- name' lines)", reader_type(reader, list));
        return;
    }
    for (const yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++) {
        if (field->field.n_transforms == FIELD_TRANSFORMS) {
            reader_error(reader, &mark, "'transforms' holds too many; give at most %d", FIELD_TRANSFORMS);
            return;
        }
        read_item(reader, field, reader_node(reader, *item));
    }
}

/* The value that the field has, as it would be written. */
static const char *given_word(const struct config_field *field, const struct setting *row, int *length)
{
    if (row->type == SETTING_CHOICE)
        return setting_word(row, field, length);
    *length = (int)strlen(field->dtype);
    return field->dtype;
}

static void take(struct reader *reader, struct config_field *field, const struct setting *row, const char *word,
                 const struct config_mark *mark)
{
    struct problem why;
    const struct setting alone[] = { *row, SETTINGS_END };
    setting_release(alone, field);
    if (setting_set(row, field, reader->folder, &word, 1, &why) < 0) {
        reader_error(reader, mark, "%s", why.text);
        (void)setting_set_default(row, field, reader->folder, &why);
    }
    field->marks[row - config_field_table] = *mark;
}

/* The field's own keys are read by now. */
void config_transforms_finish(struct reader *reader, struct config_field *field)
{
    for (uint32_t i = 0; i < CONFIG_LISTED; i++) {
        const struct setting *row = config_field_table;
        int length;
        while (strcmp(row->name, listed[i]) != 0)
            row++;
        const struct config_mark *mark = &field->marks[row - config_field_table];
        if (!field->listed[i] || !field->dtype) /* what was given could not be read */
            continue;
        const char *given = given_word(field, row, &length);
        if (!mark->line)
            take(reader, field, row, field->listed[i], &field->listed_mark[i]);
        else if ((int)strlen(field->listed[i]) != length || memcmp(given, field->listed[i], (size_t)length) != 0)
            reader_error(reader, &field->listed_mark[i],
                         "'%s' is %.60s here, but the field says %.*s on line %u; give one of them", listed[i], field->listed[i],
                         length, given, mark->line);
    }
    /* What a preset says is the least of all. */
    const struct setting *row = config_field_table;
    while (strcmp(row->name, "dtype") != 0)
        row++;
    if (field->preset.line && !field->marks[row - config_field_table].line)
        take(reader, field, row, "float32", &field->preset);
}

/* The decoder checks again when it follows the sizes; here the places in the file are known, and no source is needed. */
void config_transforms_check(struct reader *reader, const struct config_field *field)
{
    struct plan_size size = { .whole_numbers = field->dtype_given && field->want.dtype == DTYPE_U8 };
    for (uint32_t i = 0; i < field->field.n_transforms; i++) {
        const struct transform_use *use = &field->field.transforms[i];
        struct config_mark mark = field->transform_mark[i], key = { .line = 0 };
        struct problem why;
        if (chain_check(use, &size, &why) == 0)
            continue;
        if (why.key && why.want < 0)
            key = config_mark_of(use->ops->settings, field->transform_marks[i], why.key);
        if (mark.preset && use->ops->stage == TRANSFORM_VALUE && size.whole_numbers)
            reader_error(reader, &mark,
                         "preset '%s' normalises, which uint8 cannot hold; take dtype: float16, or write '%s: { "
                         "normalize: no }'",
                         mark.preset, mark.preset);
        else
            reader_error(reader, key.line ? &key : &mark, "%s", why.text);
    }
}

/* --- shared geometry ------------------------------------------------------------------------------------------------------ */

static struct config_field *find_field(struct config_feed *feed, const char *name)
{
    for (uint32_t i = 0; i < feed->n_fields; i++)
        if (strcmp(feed->fields[i].field.name, name) == 0)
            return &feed->fields[i];
    return NULL;
}

/* The field that this one names; NULL: reported. */
static struct config_field *leader_of(struct reader *reader, struct config_feed *feed, const struct config_field *field)
{
    const struct config_mark mark = config_mark_of(config_field_table, field->marks, "geometry");
    struct config_field *leader = find_field(feed, field->geometry);
    struct nearest nearest;
    nearest_init(&nearest, field->geometry);
    for (uint32_t i = 0; i < feed->n_fields; i++)
        if (&feed->fields[i] != field)
            nearest_offer(&nearest, feed->fields[i].field.name);
    if (!leader && nearest.best)
        reader_error(reader, &mark, "'geometry' names no field: '%.60s'; did you mean '%s'?", field->geometry, nearest.best);
    else if (!leader)
        reader_error(reader, &mark, "'geometry' names no field: '%.60s'; give the name of another field", field->geometry);
    else if (leader == field)
        reader_error(reader, &mark, "'geometry' is this field itself; give the name of another, or remove it");
    else if (leader->geometry)
        reader_error(reader, &mark, "field '%s' has its geometry from '%s'; give that", leader->field.name, leader->geometry);
    else if (field->field.n_transforms)
        reader_error(reader, &mark, "the field has 'geometry' and 'transforms'; give one of them");
    else
        return leader;
    return NULL;
}

/* Params are plain here: transforms that move pixels own no memory in them. */
static int copy_use(struct config_field *to, const struct config_field *from, uint32_t index)
{
    const struct transform_use *use = &from->field.transforms[index];
    const uint32_t n = to->field.n_transforms;
    size_t rows = 0;
    while (use->ops->settings[rows].name)
        rows++;
    void *params = malloc(use->ops->params_size);
    struct config_mark *marks = malloc((rows + 1) * sizeof *marks);
    if (!params || !marks) {
        free(params);
        free(marks);
        return -ENOMEM;
    }
    memcpy(params, use->params, use->ops->params_size);
    memcpy(marks, from->transform_marks[index], (rows + 1) * sizeof *marks);
    to->field.transforms[n] = (struct transform_use){ use->ops, params, use->ordinal };
    to->transform_marks[n] = marks;
    to->transform_mark[n] = from->transform_mark[index];
    to->field.n_transforms++;
    return 0;
}

void config_transforms_share(struct reader *reader, struct config_feed *feed)
{
    for (uint32_t f = 0; f < feed->n_fields; f++) {
        struct config_field *field = &feed->fields[f];
        const uint32_t before = reader->config->n_errors;
        struct config_field *leader = field->geometry ? leader_of(reader, feed, field) : NULL;
        for (uint32_t i = 0; leader && !leader->bad && i < leader->field.n_transforms; i++) {
            const enum transform_stage stage = leader->field.transforms[i].ops->stage;
            if ((stage == TRANSFORM_PLACE || stage == TRANSFORM_MIRROR) && copy_use(field, leader, i) < 0)
                reader->no_memory = true;
        }
        if (leader)
            field->field.geometry = 1 + (uint32_t)(leader - feed->fields);
        field->bad |= reader->config->n_errors != before || (leader && leader->bad);
    }
}

void config_transforms_release(struct config_field *field)
{
    for (uint32_t i = 0; i < field->field.n_transforms; i++) {
        setting_release(field->field.transforms[i].ops->settings, (void *)field->field.transforms[i].params);
        free((void *)field->field.transforms[i].params);
        free(field->transform_marks[i]);
    }
    for (uint32_t i = 0; i < CONFIG_LISTED; i++)
        free(field->listed[i]);
}
