/* SPDX-License-Identifier: MIT */
/* CSV text cut into fields in place, as RFC 4180 has it: quotes, CRLF, and a byte order mark at the start. For sources; main
 * thread, at start. */
#ifndef PFEED_CSV_H
#define PFEED_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define CSV_FIELDS 64 /* that are kept of a record */

struct csv {
    const char *path; /* for messages */
    char *at, *end;
    uint64_t line;  /* of the next field, from 1 */
    uint64_t start; /* of the record that was cut last */
};

/* text[size] must be a 0. -EINVAL where a zero byte stands before it. */
int csv_init(struct csv *csv, const char *path, char *text, size_t size, struct problem *why);
/* Cuts one record into fields, which point into the text. Returns how many there were (those beyond CSV_FIELDS are counted, not
 * kept), 0 at the end; blank lines are skipped. */
int csv_record(struct csv *csv, char *fields[CSV_FIELDS], struct problem *why);
/* Whether the whole of text is such a number. */
bool csv_int(const char *text, int64_t *out);
bool csv_float(const char *text, double *out);

#endif
