/* SPDX-License-Identifier: MIT */
/* Which samples of a feed's source take part, and in what order: from the YAML of `split` and `shuffle` to struct config_feed.
 * Called by config_feed.c, on its thread; choose.c judges it with the samples before it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_feed.h"
#include "config_table.h"

/* --- shuffle -------------------------------------------------------------------------------------------------------------- */

/* A key that means nothing in the mode that is in force. */
static void check_mode(struct reader *reader, const struct config_feed *feed, const char *key, bool given, enum shuffle_mode mode,
                       const char *word)
{
    const struct config_mark mark = config_mark_of(config_shuffle_table, feed->shuffle_marks, key);

    if (given && feed->shuffle != (int)mode)
        reader_error(reader, &mark, "'%s' is for 'mode: %s' alone; remove it, or give that mode", key, word);
}

static void check_shuffle(struct reader *reader, const struct config_feed *feed, const struct config_mark *where)
{
    struct config_mark mark = config_mark_of(config_shuffle_table, feed->shuffle_marks, "mode");

    check_mode(reader, feed, "block", feed->block, SHUFFLE_BLOCK, "block");
    check_mode(reader, feed, "window", feed->window, SHUFFLE_BLOCK, "block");
    check_mode(reader, feed, "weights", feed->weights, SHUFFLE_WEIGHTED, "weighted");
    check_mode(reader, feed, "weights_from", feed->weights_from, SHUFFLE_WEIGHTED, "weighted");
    check_mode(reader, feed, "length", feed->length, SHUFFLE_WEIGHTED, "weighted");
    if (feed->shuffle != SHUFFLE_WEIGHTED)
        return;
    if (!feed->weights && !feed->weights_from)
        reader_error(reader, mark.line ? &mark : where,
                     "'mode: weighted' has no weights; give 'weights' (a file) or 'weights_from' (a part of the samples)");
    mark = config_mark_of(config_shuffle_table, feed->shuffle_marks, "weights_from");
    if (feed->weights && feed->weights_from)
        reader_error(reader, &mark, "'weights' is given too; remove one of them");
    mark = config_mark_of(config_shuffle_table, feed->shuffle_marks, "length");
    if (feed->length > UINT32_MAX / feed->repeat)
        reader_error(reader, &mark, "'length' is %lld and 'repeat' %lld, more than an epoch may have; give a length up to %lld",
                     (long long)feed->length, (long long)feed->repeat, (long long)(UINT32_MAX / feed->repeat));
}

void config_shuffle_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node)
{
    struct config_mark mark = node ? reader_mark(reader, node) : feed->mark;
    const char *word = node ? reader_word(node) : NULL;
    struct problem why;
    uint32_t before;
    feed->shuffle_marks = reader_marks_for(reader, config_shuffle_table);
    struct reader_section section = { .what = "'shuffle'", .tables = { { config_shuffle_table, feed, feed->shuffle_marks } } };
    if (word && !reader_is_empty(node) && feed->shuffle_marks) {
        /* The mode alone: `shuffle: none`. */
        struct setting row = config_shuffle_table[0];
        row.name = "shuffle";
        feed->shuffle_marks[0] = mark;
        if (setting_set(&row, feed, NULL, &word, 1, &why) < 0)
            reader_error(reader, &mark, "%s", why.text);
        node = NULL;
    }
    before = reader->config->n_errors;
    reader_section(reader, &section, node, &mark);
    if (!reader->no_memory && reader->config->n_errors == before)
        check_shuffle(reader, feed, &mark);
}

/* --- split ---------------------------------------------------------------------------------------------------------------- */

static bool good_part(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n < NAME_SIZE && !name[n];
}

static bool has_part(const struct config_split *split, const char *name)
{
    for (uint32_t i = 0; i < split->n_parts; i++)
        if (strcmp(split->parts[i].name, name) == 0)
            return true;
    return false;
}

/* A row each, so that shares are read, and dumped, as other values are. */
static void name_parts(struct reader *reader, struct config_split *split, yaml_node_t *map)
{
    split->parts = calloc(SPLIT_PARTS + 1, sizeof *split->parts);
    if (!split->parts) {
        reader->no_memory = true;
        return;
    }
    for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        struct config_mark mark = reader_mark(reader, reader_node(reader, pair->key));
        const char *name = reader_key(reader, pair, "'parts'");
        if (!name || has_part(split, name))
            continue; /* reader_section says what is given twice */
        if (!good_part(name)) {
            reader_error(reader, &mark, "'%.80s' cannot name a part; use up to %d letters, digits, '.', '_' and '-'", name,
                         NAME_SIZE - 1);
            continue;
        }
        if (split->n_parts == SPLIT_PARTS) {
            reader_error(reader, &mark, "'%s' is one part too many; give at most %d", name, SPLIT_PARTS);
            return;
        }
        split->parts[split->n_parts] = (struct setting){ .name = strdup(name),
                                                         .type = SETTING_FLOAT,
                                                         .offset = split->n_parts * sizeof *split->shares,
                                                         .min = 1e-9,
                                                         .max = 1,
                                                         .help = "share of the samples" };
        if (!split->parts[split->n_parts].name) {
            reader->no_memory = true;
            return;
        }
        split->n_parts++;
    }
}

static void read_parts(struct reader *reader, struct config_split *split, yaml_node_t *map)
{
    struct config_mark mark = reader_mark(reader, map);
    uint32_t before = reader->config->n_errors;
    double ends[SPLIT_PARTS], sum = 0;
    if (map->type != YAML_MAPPING_NODE || map->data.mapping.pairs.start == map->data.mapping.pairs.top) {
        reader_error(reader, &mark, "'parts' is %s; it must be a map from names to shares, such as { train: 0.9, val: 0.1 }",
                     map->type == YAML_MAPPING_NODE ? "an empty map" : reader_type(reader, map));
        return;
    }
    name_parts(reader, split, map);
    if (reader->no_memory || reader->config->n_errors != before)
        return;
    split->part_marks = reader_marks_for(reader, split->parts);
    struct reader_section section = { .what = "'parts'", .tables = { { split->parts, split->shares, split->part_marks } } };
    reader_section(reader, &section, map, &mark);
    for (uint32_t i = 0; i < split->n_parts; i++)
        sum += split->shares[i];
    if (reader->config->n_errors == before && split_ends(ends, split->shares, split->n_parts) < 0)
        reader_error(reader, &mark, "the shares of 'parts' come to %.12g; let them come to 1 or less", sum);
}

static void nested_split(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value)
{
    (void)row; /* there is one */
    read_parts(reader, section->owner, value);
}

static void find_part(struct reader *reader, struct config_split *split)
{
    const struct config_mark mark = config_mark_of(config_split_table, split->marks, "part");
    struct nearest nearest;
    char known[320] = "";
    size_t used = 0;
    nearest_init(&nearest, split->part);
    for (uint32_t i = 0; i < split->n_parts; i++) {
        const char *name = split->parts[i].name;
        if (strcmp(name, split->part) == 0) {
            split->part_index = i;
            return;
        }
        nearest_offer(&nearest, name);
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", name);
    }
    if (nearest.best)
        reader_error(reader, &mark, "there is no part '%.60s'; did you mean '%s'?", split->part, nearest.best);
    else
        reader_error(reader, &mark, "there is no part '%.60s'; the parts are %s", split->part, known);
}

static void check_split(struct reader *reader, struct config_split *split)
{
    struct config_mark mark = config_mark_of(config_split_table, split->marks, "group");
    struct split_group group;
    struct problem why;
    find_part(reader, split);
    int rc = split_group_init(&group, split->group, &why);
    reader->no_memory |= rc == -ENOMEM;
    if (rc < 0 && rc != -ENOMEM)
        reader_error(reader, &mark, "%s", why.text);
    split_group_fini(&group);
    mark = config_mark_of(config_split_table, split->marks, "stratify");
    if (split->group && split->stratify == CONFIG_STRATIFY_CLASS)
        reader_error(reader, &mark,
                     "'stratify: class' splits each class for itself, which would tear groups of several classes apart; "
                     "remove it, or 'group'");
}

void config_split_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node)
{
    struct config_split *split = &feed->split;
    uint32_t before = reader->config->n_errors;
    struct config_mark mark;
    if (!node || reader_is_empty(node) ||
        (node->type == YAML_MAPPING_NODE && node->data.mapping.pairs.start == node->data.mapping.pairs.top))
        return;
    mark = reader_mark(reader, node);
    split->given = true;
    split->marks = reader_marks_for(reader, config_split_table);
    struct reader_section section = {
        .what = "'split'", .tables = { { config_split_table, split, split->marks } }, .nested = nested_split, .owner = split
    };
    reader_section(reader, &section, node, &mark);
    if (!reader->no_memory && reader->config->n_errors == before)
        check_split(reader, split);
}

void config_split_release(struct config_split *split)
{
    setting_release(config_split_table, split);
    while (split->n_parts)
        free((char *)split->parts[--split->n_parts].name);
    free(split->parts);
    free(split->marks);
    free(split->part_marks);
}
