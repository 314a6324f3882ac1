/* SPDX-License-Identifier: MIT */
/* The files that patterns match: braces ({000..099}, {a,b}, nested) are written out as a shell does, in their order; what each
 * gives is matched with * ? [], and sorted bytewise. For sources of few large files, on the thread that opens them. */
#ifndef PFEED_MATCHES_H
#define PFEED_MATCHES_H

#include <stddef.h>

#include "log.h"

struct matches { /* of zeros first */
    char **paths;
    size_t n, room;
};

/* Adds what the pattern matches. -EINVAL: its braces make no sense; -ENOENT: there is no file for one of the names that they give;
 * -E2BIG: they give too many. */
int matches_add(struct matches *matches, const char *pattern, struct problem *why);
/* A file that several patterns match stays where it was matched first. -ENOMEM. */
int matches_unique(struct matches *matches);
void matches_fini(struct matches *matches);

#endif
