/* SPDX-License-Identifier: MIT */
/* What is wrong with a configuration, each thing with its place, so that one run shows them all. The files' readers add to the
 * list (config.c and below), and so does whoever opens the feeds (feed_open.c); on one thread at a time,
 * the main one at the start, that of chores at a reload. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define KEPT 200 /* a file that is wrong in more places is another kind of file */

struct config_complaint {
    struct config_mark mark;
    uint32_t file, order;
    bool warning;
    char text[640];
};

static uint32_t file_index(const struct config *config, const char *file)
{
    uint32_t i = 0;
    while (i < config->n_files && strcmp(config->files[i], file) != 0)
        i++;
    return i;
}

static void add(struct config *config, bool warning, const struct config_mark *mark, const char *format, va_list args)
{
    *(warning ? &config->n_warnings : &config->n_errors) += 1;
    if (config->n_complaints == KEPT)
        return;
    struct config_complaint *grown = realloc(config->complaints, (config->n_complaints + 1) * sizeof *grown);
    if (!grown) {
        config->no_memory = true;
        return;
    }
    config->complaints = grown;
    struct config_complaint *one = &grown[config->n_complaints];
    *one = (struct config_complaint){ .mark = *mark, .order = config->n_complaints++, .warning = warning };
    one->file = file_index(config, mark->file);
    vsnprintf(one->text, sizeof one->text, format, args);
    /* Words of the file are quoted in messages; they must not steer the terminal. */
    log_disarm(one->text);
}

void config_error(struct config *config, const struct config_mark *mark, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(config, false, mark, format, args);
    va_end(args);
}

void config_verror(struct config *config, const struct config_mark *mark, const char *format, va_list args)
{
    add(config, false, mark, format, args);
}

void config_warning(struct config *config, const struct config_mark *mark, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(config, true, mark, format, args);
    va_end(args);
}

struct config_mark config_mark_of(const struct setting *rows, const struct config_mark *marks, const char *name)
{
    for (const struct setting *row = rows; marks && row->name; row++)
        if (strcmp(row->name, name) == 0)
            return marks[row - rows];
    return (struct config_mark){ .line = 0 };
}

void config_place(const struct config_mark *mark, char *text, size_t size)
{
    snprintf(text, size, "%s:%u", mark->file ? mark->file : "", mark->line);
    log_disarm(text);
}

static int compare(const void *left, const void *right)
{
    const struct config_complaint *a = left, *b = right;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->mark.line != b->mark.line)
        return a->mark.line < b->mark.line ? -1 : 1;
    if (a->mark.column != b->mark.column)
        return a->mark.column < b->mark.column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* A value that several feeds take by an alias is wrong once. */
static bool said_before(const struct config *config, uint32_t index)
{
    const struct config_complaint *one = &config->complaints[index];
    for (uint32_t i = index; i-- > 0;) {
        const struct config_complaint *other = &config->complaints[i];
        if (other->file != one->file || other->mark.line != one->mark.line || other->mark.column != one->mark.column)
            return false;
        if (strcmp(other->text, one->text) == 0)
            return true;
    }
    return false;
}

int config_report(struct config *config, FILE *to)
{
    char place[512];
    uint32_t all = config->n_errors + config->n_warnings;
    if (config->n_complaints)
        qsort(config->complaints, config->n_complaints, sizeof *config->complaints, compare);
    for (uint32_t i = 0; i < config->n_complaints; i++) {
        const struct config_complaint *one = &config->complaints[i];
        config_place(&one->mark, place, sizeof place);
        if (!said_before(config, i))
            fprintf(to, "%s:%u: %s%s\n", place, one->mark.column, one->warning ? "warning: " : "", one->text);
    }
    if (all > config->n_complaints)
        fprintf(to, "%s: %u more errors; mend these first\n", config->files[0], all - config->n_complaints);
    if (config->no_memory)
        fprintf(to, "%s: out of memory while reading the configuration; free some and try again\n", config->files[0]);
    return config->no_memory ? -ENOMEM : config->n_errors ? -EINVAL : 0;
}
