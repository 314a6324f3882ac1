/* SPDX-License-Identifier: MIT */
/* Log lines about what clients were refused: each of them, unless somebody makes so many that they would fill the log. */
#ifndef PFEED_AUDIT_H
#define PFEED_AUDIT_H

#include <sys/types.h>

void audit_line(uid_t uid, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tells how many lines were left out and not told yet. */
void audit_end(void);

#endif
