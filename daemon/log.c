/* SPDX-License-Identifier: MIT */
/* See log.h. Any thread; a line is one write(2), so that lines of several threads do not mix. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *colour;
    int syslog; /* the journal's level */
} levels[] = {
    [LOG_ERROR] = { "error", "\033[31m", 3 },
    [LOG_WARN] = { "warning", "\033[33m", 4 },
    [LOG_INFO] = { "info", "", 6 },
    [LOG_DEBUG] = { "debug", "\033[2m", 7 },
};

static enum log_level threshold = LOG_INFO;
static bool journal, colours;

void log_init(enum log_level level)
{
    threshold = level;
    journal = getenv("JOURNAL_STREAM") != NULL;
    colours = !journal && isatty(STDERR_FILENO) && !getenv("NO_COLOR");
}

int log_level_parse(const char *word, enum log_level *level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (strcmp(word, levels[i].name) == 0 || (i == LOG_WARN && strcmp(word, "warn") == 0)) {
            *level = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[2048];
    bool coloured = colours && *levels[level].colour;
    int at;
    va_list args;
    ssize_t written;

    if (level > threshold)
        return;
    if (journal)
        at = snprintf(line, sizeof(line), "<%d>", levels[level].syslog);
    else
        at = snprintf(line, sizeof(line), "pfeedd: %s%s: %s", coloured ? levels[level].colour : "", levels[level].name,
                      coloured ? "\033[0m" : "");
    va_start(args, format);
    vsnprintf(line + at, sizeof(line) - 1 - (size_t)at, format, args);
    va_end(args);
    strcat(line, "\n");
    written = write(STDERR_FILENO, line, strlen(line));
    (void)written; /* nowhere to say it */
}

int problem_set(struct problem *why, int code, const char *format, ...)
{
    va_list args;

    if (!why)
        return code;
    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return code;
}
