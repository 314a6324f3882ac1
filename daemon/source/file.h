/* SPDX-License-Identifier: MIT */
/* What sources of files share: reading one whole file on a worker, and lists of names at start. */
#ifndef PFEED_FILE_H
#define PFEED_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define FILE_ABSENT UINT64_MAX /* as size: was not there at the scan */

/* A worker reads path, which had `size` bytes at the scan, into buffer. -EBADMSG where its size has changed since. */
int file_read(const char *path, uint64_t size, void *buffer, size_t buffer_size, struct problem *why);

/* The whole of path with a 0 behind it, to be freed; *size without the 0. Main thread. */
int file_slurp(const char *path, size_t limit, char **text, size_t *size, struct problem *why);

/* Names of classes: number i is the i-th. Main thread at start; constant afterwards. */
struct names {
    const char **names;
    uint32_t n;
    uint32_t *sorted; /* numbers by name, bytewise */
    char *text;       /* what they point into */
};

int names_load(struct names *out, const char *path, struct problem *why); /* one a line, blank lines skipped */
/* Copies the texts. -EEXIST: a name is there twice. */
int names_make(struct names *out, const char *const *names, uint32_t n, struct problem *why);
void names_fini(struct names *names);
int64_t names_find(const struct names *names, const char *name); /* -1: not there */

#endif
