/* SPDX-License-Identifier: MIT */
/* Memory that is filled once and never emptied: an arena to which entries are appended, and for each sample a word that says where
 * its entry is. Made on the thread of chores, found and filled by any number of workers at once; nobody ever waits: a sample has one
 * writer, who has claimed it, and readers see all of an entry or nothing. What was read stays where it is until the store ends, also
 * an entry that was given up, whose room is lost until then. */
#ifndef PFEED_CACHE_STORE_H
#define PFEED_CACHE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_PAST  64 /* bytes behind the last entry, for codecs that look a word ahead */
#define STORE_INDEX 8  /* bytes of an index for each sample */

/* In front of the bytes that it keeps, at a multiple of 64. */
struct store_entry {
    uint64_t size;
    uint64_t stamp;   /* of the file that they are from: source_look */
    uint64_t cost_ns; /* what it took to have them */
    uint64_t reserved[4];
    uint32_t checked_s; /* atomic: when the file was last known to be as it was then */
    uint32_t reserved_too;
};

_Static_assert(sizeof(struct store_entry) == 64, "its bytes are aligned as it is");

struct store {
    uint8_t *arena;
    uint64_t size; /* bytes, as asked for */
    /* Atomic, in any order. */
    uint64_t used __attribute__((aligned(64))); /* from the front */
    uint64_t lost;                              /* of that: entries that were given up */
    uint64_t entries;                           /* that can be found */
};

/* 0: nothing; 1 -> claimed (a worker copies) -> where the entry lies, or 0 again where there is no room; given up -> 0 */
struct store_index {
    uint64_t *places; /* atomic; one a sample */
    uint64_t n;
};

uint64_t store_bytes(uint64_t size); /* that a store of so many takes */
/* All of it reserved and touched; -ENOMEM. */
int store_init(struct store *store, uint64_t size);
void store_fini(struct store *store);
int store_index_init(struct store_index *index, uint64_t n);
void store_index_fini(struct store_index *index);

/* On workers. NULL: it is not there. */
struct store_entry *store_find(const struct store *store, const struct store_index *index, uint64_t id);
static inline const uint8_t *store_entry_bytes(const struct store_entry *entry)
{
    return (const uint8_t *)(entry + 1);
}
/* Copies the bytes. False: somebody has or does the same, or they do not fit. */
bool store_add(struct store *store, struct store_index *index, uint64_t id, const struct store_entry *entry, const void *bytes);
/* It is found no more; whoever has it may go on reading it. */
void store_drop(struct store *store, struct store_index *index, uint64_t id, const struct store_entry *entry);

#endif
