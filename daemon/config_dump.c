/* SPDX-License-Identifier: MIT */
/* The configuration as text: every value in force with where it comes from (--dump-config), and the tables (--help). What is
 * dumped loads again to the same. Called by pfeedd.c on the main thread. */
#include <string.h>

#include "config.h"
#include "config_preset.h"
#include "config_table.h"
#include "decode/decode.h"
#include "deliver/deliver.h"
#include "transform/transform.h"

#define AUTO_INDENT                                                                                                              \
    4 /* of daemon and feeds: what is further in goes without, as a dump must not be larger than a configuration may be */

static void print_place(const struct config_mark *mark, FILE *to)
{
    char place[512];
    config_place(mark, place, sizeof place);
    if (mark->line)
        fprintf(to, " # %s%s%s", mark->preset ? mark->preset : "", mark->preset ? ", " : "", place);
    else
        fputs(" # default", to);
}

static void print_mark(const struct config_mark *mark, FILE *to)
{
    print_place(mark, to);
    putc('\n', to);
}

/* "; auto: ..." behind a number that the daemon chooses: what its help says of that, to the end of the sentence. */
static void print_auto(const struct setting *row, const void *params, FILE *to)
{
    const char *text = row->help ? strstr(row->help, "auto: ") : NULL, *end;

    if ((row->type != SETTING_INT && row->type != SETTING_SIZE) || !text || !row->choices || strcmp(row->choices, "auto") != 0 ||
        *(const int64_t *)((const char *)params + row->offset) != 0)
        return;
    end = strstr(text, ". ");
    fprintf(to, "; %.*s", end ? (int)(end - text) : (int)strlen(text), text);
}

static void dump_row(const struct setting *row, const void *params, const struct config_mark *mark, int indent, FILE *to)
{
    fprintf(to, "%*s%s: ", indent, "", row->name);
    setting_print(row, params, to);
    print_place(mark, to);
    if (indent <= AUTO_INDENT)
        print_auto(row, params, to);
    putc('\n', to);
}

/* The plain values of a table; sections are the caller's. */
static void dump_table(const struct setting *rows, const void *params, const struct config_mark *marks, int indent, FILE *to)
{
    for (const struct setting *row = rows; row->name; row++)
        if (row->type != SETTING_SECTION && row->type != SETTING_LATER)
            dump_row(row, params, &marks[row - rows], indent, to);
}

/* "name", or "name:" and its settings below. */
static void dump_plugin(const char *name, const struct setting *rows, const void *params, const struct config_mark *marks,
                        const struct config_mark *mark, int indent, FILE *to)
{
    fprintf(to, "%s%s", name, rows->name ? ":" : "");
    print_mark(mark, to);
    dump_table(rows, params, marks, indent, to);
}

static void dump_field(const struct config_field *field, FILE *to)
{
    const struct field *f = &field->field;
    fprintf(to, "      %s:", f->name);
    print_mark(&field->mark, to);
    for (const struct setting *row = config_field_table; row->name; row++) {
        const struct config_mark *mark = &field->marks[row - config_field_table];
        if (strcmp(row->name, "decode") == 0) {
            fputs("        decode:", to);
            if (f->decode->settings->name)
                print_mark(mark, to);
            fputs(f->decode->settings->name ? "          " : " ", to);
            dump_plugin(f->decode->name, f->decode->settings, f->decode_params, field->decode_marks, mark, 12, to);
        } else if (strcmp(row->name, "transforms") == 0) {
            const uint32_t n = f->geometry ? 0 : f->n_transforms; /* they are the other field's */
            fprintf(to, "        transforms:%s", n ? "" : " []");
            print_mark(mark, to);
            for (uint32_t i = 0; i < n; i++) {
                const struct transform_use *use = &f->transforms[i];
                fputs("          - ", to);
                dump_plugin(use->ops->name, use->ops->settings, use->params, field->transform_marks[i], &field->transform_mark[i],
                            14, to);
            }
        } else {
            dump_row(row, field, mark, 8, to);
        }
    }
}

static void dump_split(const struct config_split *split, FILE *to)
{
    for (const struct setting *row = config_split_table; row->name; row++) {
        const struct config_mark *mark = &split->marks[row - config_split_table];
        if (row->type == SETTING_SECTION) {
            fprintf(to, "      %s:", row->name);
            print_mark(mark, to);
            dump_table(split->parts, split->shares, split->part_marks, 8, to);
        } else {
            dump_row(row, split, mark, 6, to);
        }
    }
}

static void dump_cache(const struct config_cache *cache, FILE *to)
{
    for (const struct setting *row = config_cache_table; row->name; row++) {
        const struct config_mark *mark = &cache->marks[row - config_cache_table];
        if (row->type != SETTING_SECTION) {
            dump_row(row, cache, mark, 6, to);
        } else if (cache->reduces) {
            fprintf(to, "      %s:", row->name);
            print_mark(mark, to);
            dump_table(config_decoded_table, cache, cache->decoded_marks, 8, to);
        }
    }
}

static void dump_feed_section(const struct config_feed *feed, const struct setting *row, FILE *to)
{
    const struct config_mark *mark = &feed->marks[row - config_feed_table];
    if (strcmp(row->name, "access") == 0 && !feed->access.given) {
        fputs("    # access: not given: group pfeed, root and the daemon's own user\n", to);
        return;
    }
    fprintf(to, "    %s:%s", row->name,
            (strcmp(row->name, "split") == 0 && !feed->split.given) || (strcmp(row->name, "cache") == 0 && !feed->cache.given)
                ? " {}"
                : "");
    print_mark(mark, to);
    if (strcmp(row->name, "source") == 0) {
        dump_table(config_source_table, feed, feed->source_type_marks, 6, to);
        dump_table(feed->source->settings, feed->source_params, feed->source_marks, 6, to);
    } else if (strcmp(row->name, "shuffle") == 0) {
        dump_table(config_shuffle_table, feed, feed->shuffle_marks, 6, to);
    } else if (strcmp(row->name, "split") == 0) {
        if (feed->split.given)
            dump_split(&feed->split, to);
    } else if (strcmp(row->name, "cache") == 0) {
        if (feed->cache.given)
            dump_cache(&feed->cache, to);
    } else if (strcmp(row->name, "access") == 0) {
        dump_table(config_access_table, &feed->access, feed->access.marks, 6, to);
    } else {
        for (uint32_t i = 0; i < feed->n_fields; i++)
            dump_field(&feed->fields[i], to);
    }
}

void config_dump_feed(const struct config_feed *feed, FILE *to)
{
    fprintf(to, "  %s:", feed->name);
    print_mark(&feed->mark, to);
    for (const struct setting *row = config_feed_table; row->name; row++) {
        if (row->type == SETTING_SECTION)
            dump_feed_section(feed, row, to);
        else if (row->type != SETTING_LATER)
            dump_row(row, feed, &feed->marks[row - config_feed_table], 4, to);
    }
}

void config_dump(const struct config *config, FILE *to)
{
    fprintf(to, "version: %d", CONFIG_VERSION);
    print_mark(&config->version_mark, to);
    fputs("daemon:\n", to);
    dump_table(config_daemon_table, &config->daemon, config->daemon.marks, 2, to);
    fputs(config->n_feeds ? "feeds:\n" : "feeds: {}\n", to);
    for (uint32_t i = 0; i < config->n_feeds; i++)
        config_dump_feed(&config->feeds[i], to);
}

static void help_plugin(const char *stage, const char *name, const char *help, const struct setting *rows, FILE *to)
{
    fprintf(to, "\n%s '%s': %s\n", stage, name, help);
    if (rows)
        setting_help(rows, 2, to);
}

void config_help(FILE *to)
{
    static const struct {
        const char *title;
        const struct setting *rows;
    } tables[] = {
        { "The file", config_top_table },     { "daemon:", config_daemon_table },
        { "A feed", config_feed_table },      { "split:", config_split_table },
        { "shuffle:", config_shuffle_table }, { "access:", config_access_table },
        { "cache:", config_cache_table },     { "cache: decoded:", config_decoded_table },
        { "A field", config_field_table },    { "source: of any kind", config_source_table },
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        fprintf(to, "%s%s\n", i ? "\n" : "", tables[i].title);
        setting_help(tables[i].rows, 2, to);
    }
    for (size_t i = 0; source_kinds[i]; i++)
        help_plugin("source", source_kinds[i]->name, source_kinds[i]->help, source_kinds[i]->settings, to);
    for (size_t i = 0; decode_kinds[i]; i++)
        help_plugin("decode", decode_kinds[i]->name, decode_kinds[i]->help, decode_kinds[i]->settings, to);
    for (size_t i = 0; transform_kinds[i]; i++)
        help_plugin("transform", transform_kinds[i]->name, transform_kinds[i]->help, transform_kinds[i]->settings, to);
    for (size_t i = 0; preset_kinds[i].name; i++) {
        struct preset_rows rows;
        preset_rows(&preset_kinds[i], &rows);
        help_plugin("preset", preset_kinds[i].name, preset_kinds[i].help, rows.rows, to);
    }
    for (size_t i = 0; deliver_kinds[i]; i++)
        help_plugin("deliver", deliver_kinds[i]->name, deliver_kinds[i]->help, NULL, to);
}
