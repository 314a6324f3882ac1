/* SPDX-License-Identifier: MIT */
/* See log.h. Any thread of pfeedd may write a line; what log_init finds out is constant before the other threads start. */
#include "log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_SIZE 2048

static const struct {
    const char *word;    /* as written after --log-level */
    const char *journal; /* sd-daemon(3) */
    const char *plain, *colour;
} levels[] = {
    [LOG_ERROR] = { "error", "<3>", "error: ", "\033[1;31m" },
    [LOG_WARN] = { "warn", "<4>", "warning: ", "\033[1;33m" },
    [LOG_INFO] = { "info", "<6>", "", "" },
    [LOG_DEBUG] = { "debug", "<7>", "debug: ", "\033[2m" },
};

static enum log_level threshold = LOG_INFO;
static bool to_journal, in_colour;

/* The variable is inherited by children whose stderr is something else, hence the comparison that systemd.exec(5) asks for. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_init(enum log_level level)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    threshold = level;
    to_journal = stderr_is_journal();
    in_colour = !to_journal && isatty(STDERR_FILENO) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

int log_level_parse(const char *word, enum log_level *level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(word, levels[i].word) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* Names of files and jobs come from others: a newline in one must not forge a second line, nor an escape sequence (also as a
 * C1 control, which is two bytes in UTF-8) reach a terminal. */
void log_disarm(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c == '\n' || *c == '\t')
            *c = ' ';
        else if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
            c[0] = c[1] = '?';
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[LINE_SIZE], line[LINE_SIZE + 64];
    int saved_errno = errno, length;
    va_list args;

    if (level > threshold)
        return;
    va_start(args, format);
    length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (length < 0)
        snprintf(text, sizeof(text), "a message could not be formatted: %s", format);
    else if ((size_t)length >= sizeof(text))
        strcpy(text + sizeof(text) - sizeof("..."), "...");
    log_disarm(text);
    if (to_journal)
        length = snprintf(line, sizeof(line), "%s%s\n", levels[level].journal, text);
    else if (in_colour)
        length = snprintf(line, sizeof(line), "pfeedd: %s%s%s%s\n", levels[level].colour, levels[level].plain,
                          *levels[level].colour ? "\033[0m" : "", text);
    else
        length = snprintf(line, sizeof(line), "pfeedd: %s%s\n", levels[level].plain, text);
    /* One write, so that the lines of several threads never mix; there is nowhere to report a stderr that does not take it. */
    while (write(STDERR_FILENO, line, (size_t)length) < 0 && errno == EINTR)
        continue;
    errno = saved_errno;
}

int problem_set(struct problem *why, int code, const char *format, ...)
{
    char text[sizeof(why->text)]; /* the arguments may point into why->text, to put words around the sentence */
    va_list args;

    if (!why)
        return code;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(why->text, text, sizeof(text));
    why->key = NULL;
    why->want = -1;
    return code;
}

int problem_about(struct problem *why, const char *key, int want, int code)
{
    if (why && code < 0) {
        why->key = key;
        why->want = want;
    }
    return code;
}
