/* SPDX-License-Identifier: MIT */
/* See store.h. */
#include "cache/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN   64
#define CLAIMED 1 /* no entry lies there: the arena begins with ALIGN bytes that nobody has */
#define PAGE    4096

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

uint64_t store_bytes(uint64_t size)
{
    return round_up(size + STORE_PAST, PAGE);
}

/* In huge pages where they can be had, as entries are read at random; every page is touched. */
static void *map(uint64_t bytes)
{
    volatile uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    madvise((void *)memory, bytes, MADV_HUGEPAGE);
    for (uint64_t at = 0; at < bytes; at += PAGE)
        memory[at] = 0;
    return (void *)memory;
}

int store_init(struct store *store, uint64_t size)
{
    memset(store, 0, sizeof(*store));
    store->arena = map(store_bytes(size));
    if (!store->arena)
        return -ENOMEM;
    store->size = size;
    store->used = ALIGN;
    return 0;
}

void store_fini(struct store *store)
{
    if (store->arena)
        munmap(store->arena, store_bytes(store->size));
    store->arena = NULL;
}

int store_index_init(struct store_index *index, uint64_t n)
{
    index->places = map(round_up(n * STORE_INDEX + 1, PAGE));
    index->n = n;
    return index->places ? 0 : -ENOMEM;
}

void store_index_fini(struct store_index *index)
{
    if (index->places)
        munmap(index->places, round_up(index->n * STORE_INDEX + 1, PAGE));
    index->places = NULL;
}

/* ---- entries -------------------------------------------------------------------------------------------------------- */

struct store_entry *store_find(const struct store *store, const struct store_index *index, uint64_t id)
{
    /* The entry is seen as it was when its place was stored: pairs with store_add. */
    const uint64_t place = __atomic_load_n(&index->places[id], __ATOMIC_ACQUIRE);

    return place > CLAIMED ? (struct store_entry *)(store->arena + place) : NULL;
}

/* Room for so many bytes, of this caller alone; 0: there is none. */
static uint64_t reserve(struct store *store, uint64_t bytes)
{
    uint64_t used = __atomic_load_n(&store->used, __ATOMIC_RELAXED);

    do {
        if (used > store->size || bytes > store->size - used)
            return 0;
    } while (!__atomic_compare_exchange_n(&store->used, &used, used + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return used;
}

bool store_add(struct store *store, struct store_index *index, uint64_t id, const struct store_entry *entry, const void *bytes)
{
    uint64_t nothing = 0, place;
    struct store_entry *to;

    if (entry->size > store->size ||
        !__atomic_compare_exchange_n(&index->places[id], &nothing, CLAIMED, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return false;
    place = reserve(store, round_up(sizeof(*entry) + entry->size, ALIGN));
    if (place) {
        to = (struct store_entry *)(store->arena + place);
        *to = *entry;
        memcpy(to + 1, bytes, entry->size);
        __atomic_fetch_add(&store->entries, 1, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&index->places[id], place, __ATOMIC_RELEASE);
    return place != 0;
}

void store_drop(struct store *store, struct store_index *index, uint64_t id, const struct store_entry *entry)
{
    uint64_t place = (uint64_t)((const uint8_t *)entry - store->arena);

    if (!__atomic_compare_exchange_n(&index->places[id], &place, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return; /* another one has done it */
    __atomic_fetch_sub(&store->entries, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&store->lost, round_up(sizeof(*entry) + entry->size, ALIGN), __ATOMIC_RELAXED);
}
