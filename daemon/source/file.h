/* SPDX-License-Identifier: MIT */
/* What sources of files share: reading one whole file on a worker; at start growing tables, sorting, and lists of names. */
#ifndef PFEED_FILE_H
#define PFEED_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/source.h"

#define FILE_ABSENT UINT64_MAX /* as size: was not there at the scan */

/* A worker reads path, which had `size` bytes at the scan, into buffer. -EBADMSG where its size has changed since. */
int file_read(const char *path, uint64_t size, void *buffer, size_t buffer_size, struct problem *why);

/* The whole of path with a 0 behind it, to be freed; *size without the 0. Main thread. */
int file_slurp(const char *path, size_t limit, char **text, size_t *size, struct problem *why);

/* array with room for more than n elements of `each` bytes; NULL where memory is out, and array is as before. */
void *file_grown(void *array, uint64_t n, uint64_t *room, size_t each);
/* array without the room beyond n elements. */
void *file_trimmed(void *array, uint64_t n, uint64_t *room, size_t each);

/* Texts one after the other, each with its 0. */
struct texts {
    char *text;
    uint64_t size, room;
};

/* Adds left and right as one text; *at is where it begins. */
int texts_add(struct texts *texts, const char *left, const char *right, uint64_t *at);
bool texts_hold(const struct texts *texts, uint64_t at); /* a text begins or goes on there, and ends */
void texts_trim(struct texts *texts);
void texts_fini(struct texts *texts);

/* Sorts as qsort_r does, stably, and gives up with -ECANCELED when it is told to. */
int file_sort(void *array, uint64_t n, size_t each, int (*compare)(const void *, const void *, void *), void *context,
              const struct source_progress *progress);

/* Names of classes: number i is the i-th. Main thread at start; constant afterwards. */
struct names {
    const char **names;
    uint32_t n;
    uint32_t *sorted; /* numbers by name, bytewise */
    char *text;       /* what they point into */
    size_t text_size;
};

int names_load(struct names *out, const char *path, struct problem *why); /* one a line, blank lines skipped */
/* Copies the texts. -EEXIST: a name is there twice. */
int names_make(struct names *out, const char *const *names, uint32_t n, struct problem *why);
void names_fini(struct names *names);
uint64_t names_bytes(const struct names *names);
int64_t names_find(const struct names *names, const char *name); /* -1: not there */

#endif
