/* SPDX-License-Identifier: MIT */
/* The sizes and heads of files that a list names, by a stat of each or from a manifest. For source/list.c, on the thread that
 * opens the source; afterwards constant but for the heads. */
#ifndef PFEED_MEASURE_H
#define PFEED_MEASURE_H

#include "source/manifest.h"
#include "source/watch.h"

struct measure {
    uint64_t n;
    uint64_t *sizes; /* FILE_ABSENT */
    uint64_t *heads; /* sample_head_pack */
    uint64_t max_bytes, absent, first_absent;
    uint64_t list;          /* hash of the list itself */
    struct watches folders; /* those of the files; and files that are not there */
    struct manifest manifest;
};

/* The files are paths[0..n), below root or absolute. words: as manifest_init. A measure of zeros but for n and list; what failed
 * is to be finished too. */
int measure_open(struct measure *measure, const char *root, const char *const *paths, const char *const *words, size_t n_words,
                 const struct source_env *env, struct problem *why);
/* Its part that needs no files: as manifest_load; also -ESTALE where the list or a folder has changed. */
int measure_load(struct measure *measure, const char *root, struct source_progress *progress, struct problem *why);
int measure_update(struct measure *measure, struct problem *why); /* as manifest_update */
void measure_fini(struct measure *measure);
uint64_t measure_bytes(const struct measure *measure);

#endif
