/* SPDX-License-Identifier: MIT */
/* Log lines on stderr, in the journal's "<level>" form when stderr is the journal. Any thread of pfeedd; one write(2) a line. A
 * line never waits for whoever reads a pipe, a socket or a terminal: one that is not taken is lost, and counted. */
#ifndef PFEED_LOG_H
#define PFEED_LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(enum log_level level); /* before other threads start; once more where stderr has become another */
int log_level_parse(const char *word, enum log_level *level); /* 0 or -EINVAL */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* What comes from others (names of files, jobs, words of the configuration) must neither forge a line nor steer a terminal. */
void log_disarm(char *text);

/* A sentence that travels up beside a -errno, so that the one who handles it can say what went wrong. */
struct problem {
    char text[512];
    const char *key; /* the setting that it is about; NULL: none, or nobody knows */
    int want;        /* key is one of this field's (its place among the wants of the feed); -1: the plug-in's own */
};

/* Writes the sentence and returns code, so that a caller can `return problem_set(why, -EINVAL, "...")`. why may be NULL. */
int problem_set(struct problem *why, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Around it: says which setting is to blame, so that its place in the configuration can be shown. Nothing where code is 0. */
int problem_about(struct problem *why, const char *key, int want, int code);

#endif
