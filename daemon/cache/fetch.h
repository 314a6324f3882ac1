/* SPDX-License-Identifier: MIT */
/* A sample's way through a cache, for row.c on workers: it is there, or it is read as ever and then kept. Only what could be made
 * into a row is kept. What is kept of a file that has changed since (another size or time of change; looked at when the last look is
 * longer ago than `check`) is not used any more, and what has changed so lately that its time might not tell of a further change is
 * not kept yet. */
#ifndef PFEED_CACHE_FETCH_H
#define PFEED_CACHE_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "sample.h"

struct cache_use;
struct feed;

/* Which state of its file bytes are of. */
struct fetch_stamp {
    uint64_t stamp;     /* 0: it is not known, and nothing is kept of them */
    uint32_t checked_s; /* when the file was last known to be so */
};

/* A sample that is not kept yet. */
struct fetch {
    const struct cache_use *use;  /* NULL: it shall not be */
    const struct cache_use *from; /* the disk on which it was found; NULL: the source */
    uint64_t id;
    uint32_t part;
    struct fetch_stamp of; /* what it is made from */
    int64_t cpu_ns;        /* of this thread, when it began */
};

/* In which of the feed's caches field f's samples are kept; NULL: in none of that kind. */
const struct cache_use *fetch_use(const struct feed *feed, uint32_t field, int kind);
/* Whether a cache has field f's sample, so that its file need not be read: as far as can be seen without a look at the file. */
bool fetch_has(const struct feed *feed, uint32_t field, uint64_t id);
/* Whether it is kept: *value then stays as long as the cache; of which state it is. */
bool fetch_kept(const struct feed *feed, const struct cache_use *use, uint64_t id, uint32_t part, int64_t now_ns,
                struct sample_value *value, struct fetch_stamp *of);
/* Likewise of a cache on a disk, into room; found: what is known of it, for a cache in memory to keep it by (fetch_keep, with a use). */
bool fetch_from_disk(struct fetch *found, const struct feed *feed, const struct cache_use *use, uint64_t id, uint32_t part,
                     int64_t now_ns, void *room, uint64_t room_size, struct sample_value *value);
/* Before the part is read: the state of its file, where any cache may keep something of it. */
struct fetch_stamp fetch_look(const struct feed *feed, uint64_t id, uint32_t part, int64_t now_ns);
/* What was read began to be so long ago: its state is not known where the file may have changed since. */
void fetch_aged(struct fetch_stamp *of, const struct feed *feed, uint64_t id, uint32_t part, int64_t age_ns);
/* Before it is made (use NULL: it is not to be kept); when it has been, and from what; when it has been of use. True: it is kept now. */
void fetch_begin(struct fetch *fetch, const struct cache_use *use, uint64_t id, uint32_t part);
void fetch_done(struct fetch *fetch, const struct fetch_stamp *of);
bool fetch_keep(struct fetch *fetch, const struct feed *feed, const struct sample_value *value);

#endif
