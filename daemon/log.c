/* SPDX-License-Identifier: MIT */
/* See log.h. Any thread of pfeedd may write a line; what log_init finds out is constant before the other threads start. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_SIZE 2048
#define ROOM      64 /* for what stands before the text */
_Static_assert(LINE_SIZE + ROOM <= PIPE_BUF, "a pipe takes a line whole or not at all");

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

/* Whoever reads stderr may have stopped to, and nobody here may wait for that. */
static enum {
    OUT_WAITS,  /* a file; or a description of our own that does not */
    OUT_SOCKET, /* each send says that it does not wait */
    OUT_ASKED,  /* a pipe or terminal of somebody else's, which may not be opened anew: asked first whether it takes a line */
} out_kind;
static int out = STDERR_FILENO;
static uint64_t lost; /* atomic: lines since the last that was taken */

/* The variable is inherited by children whose stderr is something else, hence the comparison that systemd.exec(5) asks for. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

/* O_NONBLOCK belongs to the open file description, which stderr shares with others, such as the shell: hence one of our own. */
static void open_out(void)
{
    struct stat st;
    int own;

    if (out != STDERR_FILENO)
        close(out);
    out = STDERR_FILENO;
    out_kind = OUT_WAITS;
    if (fstat(STDERR_FILENO, &st) != 0)
        return;
    if (S_ISSOCK(st.st_mode))
        out_kind = OUT_SOCKET;
    if (!S_ISFIFO(st.st_mode) && !isatty(STDERR_FILENO))
        return;
    own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0)
        out = own;
    else
        out_kind = OUT_ASKED;
}

void log_init(enum log_level level)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    open_out();
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

/* One write, so that the lines of several threads never mix. False: not taken, or (by a terminal) in part. */
static bool put(const char *line, size_t length)
{
    struct pollfd room = { .fd = out, .events = POLLOUT };
    ssize_t n;

    do {
        if (out_kind == OUT_SOCKET)
            n = send(out, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (out_kind == OUT_WAITS || poll(&room, 1, 0) == 1)
            n = write(out, line, length);
        else
            return false;
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)length;
}

static bool put_text(enum log_level level, const char *text)
{
    char line[LINE_SIZE + ROOM];
    int length;

    if (to_journal)
        length = snprintf(line, sizeof(line), "%s%s\n", levels[level].journal, text);
    else if (in_colour)
        length = snprintf(line, sizeof(line), "pfeedd: %s%s%s%s\n", levels[level].colour, levels[level].plain,
                          *levels[level].colour ? "\033[0m" : "", text);
    else
        length = snprintf(line, sizeof(line), "pfeedd: %s%s\n", levels[level].plain, text);
    return put(line, (size_t)length);
}

/* Before the next line. False: that will not be taken either. */
static bool tell_lost(void)
{
    const uint64_t n = __atomic_exchange_n(&lost, 0, __ATOMIC_RELAXED);
    char text[100];

    if (n == 0)
        return true;
    snprintf(text, sizeof(text), "%" PRIu64 " %s lost here: nobody read what came before", n, n == 1 ? "line was" : "lines were");
    if (put_text(LOG_WARN, text))
        return true;
    __atomic_fetch_add(&lost, n, __ATOMIC_RELAXED);
    return false;
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[LINE_SIZE];
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
    if (!tell_lost() || !put_text(level, text))
        __atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
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
