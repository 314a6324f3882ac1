/* SPDX-License-Identifier: MIT */
/* `cache:` of a feed: from its YAML map to struct config_cache. Called by config_feed.c, on its thread; caches.c judges it with the
 * samples before it. */
#include <stdlib.h>

#include "config_feed.h"
#include "config_table.h"

/* `decoded: 6GiB`, or a map. */
static void nested_cache(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value)
{
    struct config_cache *cache = section->owner;
    struct config_mark mark = value ? reader_mark(reader, value) : (struct config_mark){ .line = 0 };
    const char *word = value ? reader_word(value) : NULL;
    struct problem why;
    cache->reduces = value && !reader_is_empty(value);
    cache->decoded_marks = reader_marks_for(reader, config_decoded_table);
    struct reader_section decoded = { .what = "'decoded'", .tables = { { config_decoded_table, cache, cache->decoded_marks } } };
    if (word && cache->reduces && cache->decoded_marks) {
        struct setting size = config_decoded_table[0];
        size.name = row->name;
        cache->decoded_marks[0] = mark;
        if (setting_set(&size, cache, NULL, &word, 1, &why) < 0)
            reader_error(reader, &mark, "%s", why.text);
        cache->reduces = cache->decoded > 0;
        value = NULL;
    }
    reader_section(reader, &decoded, value, &mark);
}

static void check(struct reader *reader, struct config_cache *cache)
{
    struct config_mark mark = config_mark_of(config_cache_table, cache->marks, "disk");
    if (cache->disk && !cache->disk_size)
        reader_error(reader, &mark, "'disk' has no 'size' beside it; add how large the file may become, such as 'size: 100GiB'");
    mark = config_mark_of(config_cache_table, cache->marks, "size");
    if (!cache->disk && cache->disk_size)
        reader_error(reader, &mark, "'size' is that of 'disk', which is not given; add 'disk: FILE', or remove it");
    mark = config_mark_of(config_cache_table, cache->marks, "decoded");
    if (cache->reduces && !cache->decoded && !cache->disk)
        reader_error(reader, &mark, "'decoded' keeps nothing; give it a 'size', or 'disk' and 'size' beside it, or remove it");
    if (!cache->reduces && cache->disk)
        cache->reduces = true;
}

void config_cache_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node)
{
    struct config_cache *cache = &feed->cache;
    struct config_mark mark = node ? reader_mark(reader, node) : feed->mark;
    const uint32_t before = reader->config->n_errors;
    cache->given = node && node->type == YAML_MAPPING_NODE && node->data.mapping.pairs.start < node->data.mapping.pairs.top;
    cache->marks = reader_marks_for(reader, config_cache_table);
    struct reader_section section = {
        .what = "'cache'",
        .tables = { { config_cache_table, cache, cache->marks } },
        .nested = nested_cache,
        .owner = cache,
    };
    reader_section(reader, &section, node, &mark);
    if (!reader->no_memory && reader->config->n_errors == before)
        check(reader, cache);
}

void config_cache_release(struct config_cache *cache)
{
    setting_release(config_cache_table, cache);
    setting_release(config_decoded_table, cache);
    free(cache->marks);
    free(cache->decoded_marks);
}
