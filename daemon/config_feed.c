/* SPDX-License-Identifier: MIT */
/* One feed of the configuration: its source, fields, transforms and access. Called by config.c, on its thread; opens
 * nothing. Name service is asked here, once, for the users and groups, because the running daemon must never wait for it. */
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "config_feed.h"
#include "config_table.h"
#include "deliver/deliver.h"

static const char *source_name(uint32_t i)
{
    return source_kinds[i] ? source_kinds[i]->name : NULL;
}

static const char *deliver_name(uint32_t i)
{
    return deliver_kinds[i] ? deliver_kinds[i]->name : NULL;
}

/* --- source, access ------------------------------------------------------------------------------------------------------- */

static void read_source(struct reader *reader, struct config_feed *feed, yaml_node_t *map)
{
    struct config_mark mark = reader_mark(reader, map);
    yaml_node_t *type = NULL;
    char what[64], known[256];
    reader_name_list(source_name, known, sizeof known);
    if (map->type != YAML_MAPPING_NODE) {
        reader_error(reader, &mark, "'source' is %s; it must be a map such as '{ type: directory, path: /data }'",
                     reader_type(reader, map));
        return;
    }
    for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        const char *key = reader_word(reader_node(reader, pair->key));
        if (key && strcmp(key, "type") == 0 && !type)
            type = reader_node(reader, pair->value);
    }
    if (!type || !reader_word(type) || reader_is_empty(type)) {
        reader_error(reader, &mark, "the source has no 'type'; give one of %s", known);
        return;
    }
    mark = reader_mark(reader, type);
    int index = reader_find_word(reader, &mark, "source type", source_name, reader_word(type));
    if (index < 0)
        return;
    feed->source = source_kinds[index];
    feed->source_params = calloc(1, feed->source->params_size ? feed->source->params_size : 1);
    feed->source_type_marks = reader_marks_for(reader, config_source_table);
    feed->source_marks = reader_marks_for(reader, feed->source->settings);
    snprintf(what, sizeof what, "source '%s'", feed->source->name);
    struct reader_section section = {
        .what = what,
        .tables = { { config_source_table, feed, feed->source_type_marks },
                    { feed->source->settings, feed->source_params, feed->source_marks } },
    };
    mark = reader_mark(reader, map);
    reader_section(reader, &section, map, &mark);
}

/* A number, or a name that this machine knows. 0, or -ENOENT. */
static int find_id(const char *word, bool group, uint32_t *id)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(word, &end, 10);
    if (isdigit((unsigned char)*word) && !*end) {
        if (errno || number >= UINT32_MAX)
            return -ENOENT;
        *id = (uint32_t)number;
        return 0;
    }
    const struct passwd *user = group ? NULL : getpwnam(word);
    const struct group *entry = group ? getgrnam(word) : NULL;
    if (!user && !entry)
        return -ENOENT;
    *id = user ? user->pw_uid : entry->gr_gid;
    return 0;
}

static void find_ids(struct reader *reader, const struct setting_strings *words, const struct config_mark *mark, bool group,
                     uint32_t **ids, uint32_t *n)
{
    _Static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t), "ids are 32 bits");
    *ids = calloc(words->n ? words->n : 1, sizeof **ids);
    if (!*ids) {
        reader->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < words->n; i++)
        if (find_id(words->v[i], group, &(*ids)[(*n)++]) < 0)
            reader_error(reader, mark, "no %s '%.60s' on this machine; see 'getent %s', or give a number",
                         group ? "group" : "user", words->v[i], group ? "group" : "passwd");
}

static void read_access(struct reader *reader, struct config_access *access, yaml_node_t *map, const struct config_mark *where)
{
    access->given = map && !reader_is_empty(map);
    access->marks = reader_marks_for(reader, config_access_table);
    struct reader_section section = { .what = "'access'", .tables = { { config_access_table, access, access->marks } } };
    reader_section(reader, &section, map, where);
    if (reader->no_memory)
        return;
    find_ids(reader, &access->user_words, &access->marks[0], false, &access->users, &access->n_users);
    find_ids(reader, &access->group_words, &access->marks[1], true, &access->groups, &access->n_groups);
}

/* --- the feed ------------------------------------------------------------------------------------------------------------- */

static void nested_feed(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value)
{
    struct config_feed *feed = section->owner;
    const uint32_t before = reader->config->n_errors;
    if (strcmp(row->name, "source") == 0) {
        feed->source_mark = feed->marks[row - config_feed_table];
        read_source(reader, feed, value);
        feed->source_bad = reader->config->n_errors != before;
    } else if (strcmp(row->name, "shuffle") == 0) {
        config_shuffle_read(reader, feed, value);
        feed->order_bad |= reader->config->n_errors != before;
    } else if (strcmp(row->name, "split") == 0) {
        config_split_read(reader, feed, value);
        feed->order_bad |= reader->config->n_errors != before;
    } else if (strcmp(row->name, "fields") == 0) {
        config_fields_read(reader, feed, value);
    } else if (strcmp(row->name, "cache") == 0) {
        config_cache_read(reader, feed, value);
    } else {
        read_access(reader, &feed->access, value, &feed->mark);
    }
}

void config_feed_read(struct reader *reader, struct config_feed *feed, yaml_node_t *map)
{
    char what[CONFIG_NAME_MAX + 16];
    uint32_t before = reader->config->n_errors;
    snprintf(what, sizeof what, "feed '%s'", feed->name);
    feed->marks = reader_marks_for(reader, config_feed_table);
    struct reader_section section = {
        .what = what,
        .tables = { { config_feed_table, feed, feed->marks } },
        .nested = nested_feed,
        .owner = feed,
    };
    reader_section(reader, &section, map, &feed->mark);
    feed->bad = reader->no_memory || reader->config->n_errors != before;
    feed->source_bad |= !feed->source || reader->no_memory;
    if (reader->no_memory || (!feed->deliver && feed->bad))
        return;
    struct config_mark mark = config_mark_of(config_feed_table, feed->marks, "deliver");
    if (reader_find_word(reader, &mark, "deliver mode", deliver_name, feed->deliver ? feed->deliver : "") < 0)
        feed->bad = true;
}

void config_feed_release(struct config_feed *feed)
{
    for (uint32_t i = 0; i < feed->n_fields; i++)
        config_field_release(&feed->fields[i]);
    free(feed->fields);
    if (feed->source)
        setting_release(feed->source->settings, feed->source_params);
    free(feed->source_params);
    setting_release(config_source_table, feed);
    setting_release(config_feed_table, feed);
    setting_release(config_shuffle_table, feed);
    config_split_release(&feed->split);
    config_cache_release(&feed->cache);
    setting_release(config_access_table, &feed->access);
    free(feed->access.users);
    free(feed->access.groups);
    free(feed->access.marks);
    free(feed->marks);
    free(feed->shuffle_marks);
    free(feed->source_type_marks);
    free(feed->source_marks);
    free(feed->name);
}
