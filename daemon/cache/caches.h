/* SPDX-License-Identifier: MIT */
/* Which caches there are, and who uses them: feeds that read the same samples from the same places share one of each kind (of
 * decoded pictures, where they reduce any of them in the same way), and it lives as long as any of them, in whatever form a reload
 * gives them. A cache is declared when its first feed is opened, counted by memory.c, and made before that feed runs; all on the
 * thread that opens feeds or on the main one, under a lock that no worker takes. Workers use what is made by fetch.h. */
#ifndef PFEED_CACHE_CACHES_H
#define PFEED_CACHE_CACHES_H

#include "cache/store.h"
#include "feed.h"

#define CACHE_INDEXES 16 /* of one cache: parts of samples, and ways to reduce them */

enum cache_kind { CACHE_ENCODED, CACHE_DECODED, CACHE_DISK, CACHE_KINDS };

struct disk;

/* What of a sample is kept: a part of it, for `decoded` made in one way. */
struct cache_index {
    char part[NAME_SIZE];
    uint64_t places; /* of all samples: the same part may be of other files in another feed */
    uint64_t recipe; /* 0 in encoded */
    struct store_index store;
};

struct cache {
    struct cache *next;
    uint32_t refs;    /* feeds */
    uint32_t counted; /* caches_add: the last count that it was in */
    enum cache_kind kind;
    uint64_t source; /* what stands for the samples and their places */
    uint64_t samples;
    struct store store; /* in memory; of one on a disk only the size */
    char *path;         /* of one on a disk: whose */
    struct disk *disk;
    bool made;
    uint32_t n_indexes, n_made; /* the first ones have their memory */
    struct cache_index indexes[CACHE_INDEXES];
    /* Workers, by atomic additions. */
    uint64_t hits __attribute__((aligned(PF_LINE)));
    uint64_t misses, stale; /* stale: the sample's file has changed */
    uint64_t saved_ns;
};

/* What a field finds in a cache; cache NULL: it has none. */
struct cache_use {
    struct cache *cache;
    struct cache_index *index;
    uint32_t number; /* of the index */
};

/* A feed's. */
struct feed_caches {
    struct cache *caches[CACHE_KINDS]; /* or NULL */
    struct cache_use uses[PF_FIELDS][CACHE_KINDS];
    int64_t check_s;
};

/* Declares those that the feed asks for, when its fields are prepared. -errno, and the setting of `cache` to blame. */
int caches_declare(struct feed *feed, struct problem *why);
/* Where another feed over the same samples has a cache of the same kind and another size, or the same file for other pictures: its
 * bytes, else 0. */
uint64_t caches_differ(const struct feed *feed, const struct feed *other, enum cache_kind *kind);
double caches_mib(const struct feed *feed, enum cache_kind kind); /* as asked for */
/* Makes those that are not there yet. */
int caches_make(struct feed *feed, struct problem *why);
/* The feed ends. */
void caches_leave(struct feed *feed);

/* A count over several feeds, each cache once: its number first; then what those of the feed that are there take, and what those
 * that are only declared will. */
uint32_t caches_count(void);
void caches_add(const struct feed *feed, uint32_t count, uint64_t *made, uint64_t *declared);

/* For stat.c: whether the feed has the other's cache of that kind; what there is to say of it, but whose it is. */
bool caches_has(const struct feed *feed, const struct feed *other, enum cache_kind kind);
void caches_describe(const struct feed *feed, enum cache_kind kind, struct pf_row_cache *row);

const char *cache_kind_name(enum cache_kind kind);

#endif
