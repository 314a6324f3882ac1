/* SPDX-License-Identifier: MIT */
/* What the tests of caches share: pictures that are old enough to be kept, a feed over them with the cache that a test wants, and
 * trainers of some epochs. */
#ifndef CACHED_H
#define CACHED_H

#include "history.h"

#define PICTURES 180u
#define BATCH    6u
#define STEPS    (PICTURES / BATCH)
#define PATH     1024

extern struct daemon daemons[8], *pfeedd; /* one for each start; the one that runs */
extern char folder[64];                   /* of the pictures */

void make_pictures(void);
void each_picture(void (*call)(const char *path, void *data), void *data);
void first_picture(const char *path, void *data); /* into char[PATH], of zeros first */
/* Written to the disk, and last changed 10^9 s and *(int *)data after 1970. */
void age(const char *path, void *data);
/* Files that change now, in whatever way, are older than what is kept with care: two seconds. */
void settle(void);
uint64_t all_bytes(void); /* a little more than the pictures would take in a cache */

/* cache: what stands behind `cache:`; more: further lines of the feed. To be freed. */
char *feed_yaml(const char *name, const char *cache, const char *more);
char *yaml_of(unsigned workers, unsigned memory_mib, const char *cache, const char *more); /* of one feed `pictures` */
void start_cached(unsigned workers, const char *cache, const char *more);
/* A trainer of so many epochs, recorded; returns when it is gone and all rows are made. */
struct history *run_epochs(const char *feed, uint32_t epochs);
struct pf_row_cache the_cache(const char *feed); /* the only one */

#endif
