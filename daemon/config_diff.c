/* SPDX-License-Identifier: MIT */
/* What a reload changes in a feed, for people: the dumps of both forms, line by line. Called by reload.c and
 * reload_change.c, on any thread. */
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "config_table.h"

/* Cuts the next line off, without the comment that says where the value comes from. */
static char *next_line(char **rest)
{
    char *line = *rest, *end = line ? strchr(line, '\n') : NULL, *comment = NULL;

    if (!end)
        return NULL;
    *end = 0;
    *rest = end + 1;
    for (char *at = line; (at = strstr(at, " # ")); at++)
        comment = at;
    if (comment)
        *comment = 0;
    return line;
}

static char *dump(const struct config_feed *feed)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    config_dump_feed(feed, to);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* Lines of one place differ: "batch: 64 -> 128", or both lines whole where the keys differ, too. */
static void print_change(const char *old, const char *new, FILE *to)
{
    size_t key;

    old += strspn(old, " -");
    new += strspn(new, " -");
    key = strcspn(old, ":");
    if (old[key] && strncmp(old, new, key + 1) == 0)
        fprintf(to, "%.*s:%s ->%s\n", (int)key, old, old + key + 1, new + key + 1);
    else
        fprintf(to, "%s -> %s\n", old, new);
}

static void print_changes(char *old, char *new, FILE *to)
{
    char *a, *b;

    do {
        a = next_line(&old);
        b = next_line(&new);
        if (a && b && strcmp(a, b) != 0)
            print_change(a, b, to);
        else if (a && !b)
            fprintf(to, "no longer %s\n", a + strspn(a, " -"));
        else if (b && !a)
            fprintf(to, "new %s\n", b + strspn(b, " -"));
    } while (a || b);
}

char *config_feed_changes(const struct config_feed *old, const struct config_feed *new)
{
    char *a = dump(old), *b = dump(new), *text = NULL;
    size_t size;
    FILE *to = a && b ? open_memstream(&text, &size) : NULL;

    if (to) {
        print_changes(a, b, to);
        if (fclose(to) != 0) {
            free(text);
            text = NULL;
        }
    }
    free(a);
    free(b);
    return text;
}

/* As in YAML; to be freed, NULL: no memory. */
static char *value_of(const struct setting *row, const struct config_daemon *daemon)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    setting_print(row, daemon, to);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

void config_daemon_changes(const struct config_daemon *started, const struct config_daemon *old, const struct config_daemon *new,
                           FILE *to)
{
    for (const struct setting *row = config_daemon_table; row->name; row++) {
        char *a = value_of(row, row->restart ? started : old), *b = value_of(row, new);

        if (a && b && strcmp(a, b) != 0)
            fprintf(to, "daemon: %s: %s -> %s %s\n", row->name, a, b, row->restart ? "needs a restart" : "from now on");
        free(a);
        free(b);
    }
}
