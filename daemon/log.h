/* SPDX-License-Identifier: MIT */
/* Log lines on stderr, in the journal's "<level>" form when stderr is the journal. Any thread of pfeedd; one write(2) a line. */
#ifndef PFEED_LOG_H
#define PFEED_LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(enum log_level level);
int log_level_parse(const char *word, enum log_level *level); /* 0 or -EINVAL */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* A sentence that travels up beside a -errno, so that the one who handles it can say what went wrong. */
struct problem {
    char text[512];
};

/* Writes the sentence and returns code, so that a caller can `return problem_set(why, -EINVAL, "...")`. why may be NULL. */
int problem_set(struct problem *why, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
