/* SPDX-License-Identifier: MIT */
/* Files of one number a line: ids of a subset, weights. For choose.c, on its thread. */
#ifndef PFEED_CHOOSE_LINES_H
#define PFEED_CHOOSE_LINES_H

#include <stdint.h>

#include "log.h"

/* Ids below `samples`, each once, in the file's order; *out to be freed. most_bytes: what file and table may take, 0: anything. */
int choose_read_ids(const char *path, uint64_t samples, uint64_t most_bytes, uint64_t **out, uint64_t *n, struct problem *why);
/* One weight a sample, finite and not below 0; *out, of n, to be freed. */
int choose_read_weights(const char *path, uint64_t n, uint64_t most_bytes, double **out, struct problem *why);

#endif
