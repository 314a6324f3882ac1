/* SPDX-License-Identifier: MIT */
/* From the configuration's files to one tree of plain structs. Called by pfeedd.c at the start, by reload_change.c on the thread
 * of chores. This file reads
 * the maps of config_table.c and the plug-ins' own; what a value may be is known to setting.c, YAML to reader.c. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_feed.h"
#include "config_table.h"
#include "reader.h"

/* Feeds are named on command lines and in file names. */
static bool good_name(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > CONFIG_NAME_MAX || !isalnum((unsigned char)name[0]))
        return false;
    for (const char *at = name; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("._-", *at))
            return false;
    return true;
}

const struct config_feed *config_feed_find(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->n_feeds; i++)
        if (strcmp(config->feeds[i].name, name) == 0)
            return &config->feeds[i];
    return NULL;
}

static struct config_feed *add_feed(struct config *config, const char *name)
{
    /* Grown at powers of two. */
    if ((config->n_feeds & (config->n_feeds - 1)) == 0) {
        struct config_feed *grown = realloc(config->feeds, (config->n_feeds ? 2 * config->n_feeds : 1) * sizeof *grown);
        if (!grown)
            return NULL;
        config->feeds = grown;
    }
    struct config_feed *feed = &config->feeds[config->n_feeds];
    *feed = (struct config_feed){ .name = strdup(name) };
    if (!feed->name)
        return NULL;
    config->n_feeds++;
    return feed;
}

static void read_named_feed(struct reader *reader, struct config *config, const yaml_node_pair_t *pair)
{
    struct config_mark mark = reader_mark(reader, reader_node(reader, pair->key));
    const char *name = reader_key(reader, pair, "feeds");
    if (!name)
        return;
    const struct config_feed *other = config_feed_find(config, name);
    if (config->n_feeds == CONFIG_FEEDS_MAX) {
        reader_error(reader, &mark, "feed '%.60s' is one too many; at most %d are served", name, CONFIG_FEEDS_MAX);
        return;
    }
    if (!good_name(name)) {
        reader_error(reader, &mark,
                     "'%.80s' cannot name a feed; use up to %d letters, digits, '.', '_' and '-', a letter or digit first", name,
                     CONFIG_NAME_MAX);
        return;
    }
    if (other) {
        reader_error(reader, &mark, "feed '%s' is there already, at %s:%u; rename one of them", name, other->mark.file,
                     other->mark.line);
        return;
    }
    struct config_feed *feed = add_feed(config, name);
    if (!feed) {
        reader->no_memory = true;
        return;
    }
    feed->mark = mark;
    config_feed_read(reader, feed, reader_node(reader, pair->value));
}

static void read_feeds(struct reader *reader, struct config *config, yaml_node_t *map)
{
    struct config_mark mark = reader_mark(reader, map);
    if (reader_is_empty(map))
        return;
    if (map->type != YAML_MAPPING_NODE) {
        reader_error(reader, &mark, "'feeds' is %s; it must be a map from names to feeds", reader_type(reader, map));
        return;
    }
    for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++)
        read_named_feed(reader, config, pair);
}

static void read_daemon(struct reader *reader, struct config *config, yaml_node_t *map)
{
    struct config_mark mark = { .file = reader->file, .line = 1, .column = 1 };
    struct reader_section section = {
        .what = "'daemon'",
        .tables = { { config_daemon_table, &config->daemon, config->daemon.marks } },
    };
    reader_section(reader, &section, map, &mark);
}

static void nested_top(struct reader *reader, struct reader_section *section, const struct setting *row, yaml_node_t *value)
{
    struct config *config = section->owner;
    if (strcmp(row->name, "daemon") == 0)
        read_daemon(reader, config, value);
    else if (value)
        read_feeds(reader, config, value);
}

static void read_file(struct reader *reader, struct config *config, uint32_t index)
{
    const struct setting *table = index ? config_drop_in_table : config_top_table;
    struct config_top top = { .version = 0 };
    struct reader_section section = {
        .what = index ? "a file of feeds.d" : "the configuration",
        .tables = { { table, &top, reader_marks_for(reader, table) } },
        .nested = nested_top,
        .owner = config,
    };
    struct config_mark *marks = section.tables[0].marks;
    if (reader_open_file(reader, config->files[index]) == 0 && marks) {
        yaml_node_t *root = yaml_document_get_root_node(reader->document);
        struct config_mark mark = root ? reader_mark(reader, root) : (struct config_mark){ config->files[index], 1, 1 };
        reader_section(reader, &section, root, &mark);
        if (index == 0)
            config->version_mark = marks[0];
        if (marks[0].line && top.version && top.version != CONFIG_VERSION)
            reader_error(reader, &marks[0],
                         "version %lld is not known to this pfeedd; it reads version %d, so write 'version: %d'",
                         (long long)top.version, CONFIG_VERSION, CONFIG_VERSION);
    } else {
        reader->unread = true;
    }
    free(marks);
    reader_close_file(reader);
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static int add_file(struct config *config, const char *folder, const char *name)
{
    char **grown = realloc(config->files, (config->n_files + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    config->files = grown;
    grown[config->n_files] = NULL;
    if (asprintf(&grown[config->n_files], "%s%s%s", folder, *folder ? "/" : "", name) < 0)
        return -ENOMEM;
    config->n_files++;
    return 0;
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return name[0] != '.' && n > m && strcasecmp(name + n - m, end) == 0;
}

/* Also those that somebody may think to be one. */
static int is_drop_in(const struct dirent *entry)
{
    return ends_in(entry->d_name, ".yaml") || ends_in(entry->d_name, ".yml");
}

static int bytewise(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void not_read(struct config *config, const char *folder, const char *name)
{
    struct config_mark mark = { .file = config->files[0], .line = 1, .column = 1 };
    config_warning(config, &mark, "%s/%s is not read; let its name end in .yaml, or remove it", folder, name);
}

static void add_drop_ins(struct reader *reader, struct config *config, const char *path)
{
    char *folder = NULL;
    struct dirent **entries = NULL;
    const char *slash = strrchr(path, '/');
    if (asprintf(&folder, "%.*sfeeds.d", slash ? (int)(slash - path) + 1 : 0, path) < 0) {
        reader->no_memory = true;
        return;
    }
    int n = scandir(folder, &entries, is_drop_in, bytewise);
    if (n < 0 && errno != ENOENT && errno != ENOTDIR) {
        struct config_mark mark = { .file = config->files[0], .line = 1, .column = 1 };
        reader_error(reader, &mark, "cannot list %s: %s; check its permissions", folder, strerror(errno));
    }
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name + strlen(name) - 5, ".yaml") != 0)
            not_read(config, folder, name);
        else if (add_file(config, folder, name) < 0)
            reader->no_memory = true;
        free(entries[i]);
    }
    free(entries);
    free(folder);
}

/* --- what only the whole can tell ----------------------------------------------------------------------------------------- */

static bool classes_loop(const struct config *config, const struct config_feed *feed)
{
    const struct config_feed *other = feed;
    for (uint32_t steps = 0; other && other->classes_of && steps <= config->n_feeds; steps++) {
        other = config_feed_find(config, other->classes_of);
        if (other == feed)
            return true;
    }
    return false;
}

static void check_classes_of(struct reader *reader, const struct config *config, const struct config_feed *feed)
{
    const struct config_mark *mark = &feed->source_type_marks[1];
    const struct config_feed *other = config_feed_find(config, feed->classes_of);
    struct nearest nearest;
    nearest_init(&nearest, feed->classes_of);
    for (uint32_t i = 0; i < config->n_feeds; i++)
        nearest_offer(&nearest, config->feeds[i].name);
    if (!other && reader->unread)
        return; /* it may stand in the file that could not be read */
    if (!other && nearest.best)
        reader_error(reader, mark, "'classes_of' names no feed: '%.60s'; did you mean '%s'?", feed->classes_of, nearest.best);
    else if (!other)
        reader_error(reader, mark, "'classes_of' names no feed: '%.60s'; give the name of another feed", feed->classes_of);
    else if (!feed->source->classes)
        reader_error(reader, mark, "source '%s' has no classes; remove 'classes_of'", feed->source->name);
    else if (other->source && !other->source->classes)
        reader_error(reader, mark, "feed '%s' has no classes (source '%s'); name one that has", other->name, other->source->name);
    else if (classes_loop(config, feed))
        reader_error(reader, mark, "'classes_of' leads back to this feed; let one of them number the classes by itself");
}

static void check_whole(struct reader *reader, struct config *config)
{
    for (uint32_t i = 0; i < config->n_feeds; i++) {
        struct config_feed *feed = &config->feeds[i];
        uint32_t before = config->n_errors;
        if (!feed->source || !feed->classes_of || !feed->source_type_marks)
            continue;
        check_classes_of(reader, config, feed);
        if (config->n_errors != before || !config_feed_find(config, feed->classes_of))
            feed->bad = feed->source_bad = true;
    }
    if (config->n_feeds == 0 && config->n_errors == 0) {
        struct config_mark mark = { .file = config->files[0], .line = 1, .column = 1 };
        config_warning(config, &mark, "there is no feed, so that nothing can be served; add one under 'feeds'");
    }
}

static void destroy(struct config *config)
{
    for (uint32_t i = 0; i < config->n_feeds; i++)
        config_feed_release(&config->feeds[i]);
    while (config->n_files)
        free(config->files[--config->n_files]);
    free(config->files);
    setting_release(config_daemon_table, &config->daemon);
    free(config->daemon.marks);
    free(config->complaints);
    free(config->feeds);
    free(config);
}

struct config *config_ref(struct config *config)
{
    __atomic_fetch_add(&config->refs, 1, __ATOMIC_RELAXED);
    return config;
}

void config_destroy(struct config *config)
{
    if (config && __atomic_fetch_sub(&config->refs, 1, __ATOMIC_ACQ_REL) == 1)
        destroy(config);
}

int config_load(struct config **out, const char *path)
{
    struct reader reader = { .file = path };
    struct config *config = reader.config = calloc(1, sizeof *config);
    if (config)
        config->refs = 1;
    int rc = config ? add_file(config, "", path) : -ENOMEM;
    if (rc < 0) {
        config_destroy(config);
        return rc;
    }
    config->daemon.marks = reader_marks_for(&reader, config_daemon_table);
    add_drop_ins(&reader, config, path);
    for (uint32_t i = 0; i < config->n_files && !reader.no_memory; i++)
        read_file(&reader, config, i);
    if (!reader.no_memory)
        check_whole(&reader, config);
    reader_close_file(&reader);
    config->no_memory |= reader.no_memory;
    *out = config;
    return 0;
}
