/* SPDX-License-Identifier: MIT */
/* See caches.h. */
#include "cache/caches.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cache/disk.h"
#include "cache/identity.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, and of all in it but what workers change */
static struct cache *all;

const char *cache_kind_name(enum cache_kind kind)
{
    static const char *const names[CACHE_KINDS] = { "encoded", "decoded", "disk" };

    return names[kind];
}

/* ---- what a feed asks for ------------------------------------------------------------------------------------------- */

static uint64_t asked_bytes(const struct config_cache *config, enum cache_kind kind)
{
    return kind == CACHE_ENCODED ? config->encoded : kind == CACHE_DECODED ? config->decoded : config->disk_size;
}

static bool keeps(const struct feed *feed, const struct field *field, enum cache_kind kind)
{
    return identity_has_file(feed, field) && (kind == CACHE_ENCODED || field->side > 0);
}

/* A file is for pictures of certain samples and kinds only: what stands for all of them. */
static uint64_t file_identity(const struct feed *feed, const struct identity *identity)
{
    uint64_t hash = identity->source;

    for (uint32_t f = 0; f < feed->n_fields; f++)
        if (keeps(feed, &feed->fields[f], CACHE_DISK)) {
            const uint64_t all_of[] = { hash, identity->places[f], identity->recipes[f] };
            const char *part = feed->parts[feed->fields[f].part].name;

            hash = XXH3_64bits_withSeed(part, strlen(part), XXH3_64bits(all_of, sizeof(all_of)));
        }
    return hash;
}

static struct cache *create(const struct cache *like)
{
    struct cache *cache = aligned_alloc(PF_LINE, sizeof(*cache));

    if (!cache)
        return NULL;
    *cache = *like;
    cache->path = like->path ? strdup(like->path) : NULL;
    if (like->path && !cache->path) {
        free(cache);
        return NULL;
    }
    cache->next = all;
    all = cache;
    return cache;
}

static bool is_index(const struct cache_index *index, const struct cache_index *like)
{
    return strcmp(index->part, like->part) == 0 && index->places == like->places && index->recipe == like->recipe;
}

static struct cache_index index_like(const struct feed *feed, uint32_t f, enum cache_kind kind, const struct identity *identity)
{
    struct cache_index like = { .places = identity->places[f], .recipe = kind == CACHE_ENCODED ? 0 : identity->recipes[f] };

    memcpy(like.part, feed->parts[feed->fields[f].part].name, NAME_SIZE);
    return like;
}

static struct cache_index *index_of(struct cache *cache, const struct cache_index *like)
{
    for (uint32_t i = 0; i < cache->n_indexes; i++)
        if (is_index(&cache->indexes[i], like))
            return &cache->indexes[i];
    if (cache->n_indexes == CACHE_INDEXES)
        return NULL;
    cache->indexes[cache->n_indexes] = *like;
    return &cache->indexes[cache->n_indexes++];
}

/* Whether it has something that the feed asks for: pictures that are reduced in another way would only take the room. */
static bool of_use(const struct cache *cache, const struct feed *feed, const struct identity *identity)
{
    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct cache_index wanted = index_like(feed, f, cache->kind, identity);

        for (uint32_t i = 0; i < cache->n_indexes && keeps(feed, &feed->fields[f], cache->kind); i++)
            if (is_index(&cache->indexes[i], &wanted))
                return true;
    }
    return false;
}

/* One in memory by its size, one on a disk by its path. */
static struct cache *find(const struct cache *like, const struct feed *feed, const struct identity *identity)
{
    for (struct cache *cache = all; cache; cache = cache->next)
        if (cache->source == like->source && cache->samples == like->samples && cache->kind == like->kind &&
            (like->path ? strcmp(cache->path, like->path) == 0 : cache->store.size == like->store.size) &&
            (like->kind != CACHE_DECODED || of_use(cache, feed, identity)))
            return cache;
    return NULL;
}

/* Under the lock. */
static int declare(struct feed *feed, const struct identity *identity, enum cache_kind kind, struct problem *why)
{
    const struct cache like = { .source = kind == CACHE_DISK ? file_identity(feed, identity) : identity->source,
                                .samples = feed->config->source->count(feed->source),
                                .kind = kind,
                                .store.size = asked_bytes(&feed->config->cache, kind),
                                .path = kind == CACHE_DISK ? feed->config->cache.disk : NULL };
    struct feed_caches *caches = feed->caches;
    struct cache *cache = find(&like, feed, identity);
    uint32_t n = 0;

    if (!cache)
        cache = create(&like);
    if (!cache)
        return problem_set(why, -ENOMEM, "no memory for a cache");
    caches->caches[kind] = cache;
    cache->refs++;
    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct cache_index wanted = index_like(feed, f, kind, identity);

        if (!keeps(feed, &feed->fields[f], kind))
            continue;
        caches->uses[f][kind].cache = cache;
        caches->uses[f][kind].index = index_of(cache, &wanted);
        if (!caches->uses[f][kind].index)
            return problem_set(why, -E2BIG, "more than %d parts of samples are to be kept in one cache; take fewer fields",
                               CACHE_INDEXES);
        caches->uses[f][kind].number = (uint32_t)(caches->uses[f][kind].index - cache->indexes);
        n++;
    }
    return n > 0 ? 0
                 : problem_set(why, -EINVAL,
                               "no field is made from bytes of a file that would be worth keeping (source '%s'); remove it",
                               feed->config->source->name);
}

int caches_declare(struct feed *feed, struct problem *why)
{
    const struct config_cache *config = &feed->config->cache;
    struct identity identity;
    int rc;

    if (!config->encoded && !config->decoded && !config->disk)
        return 0;
    feed->caches = calloc(1, sizeof(*feed->caches));
    if (!feed->caches)
        return problem_set(why, -ENOMEM, "no memory for a cache");
    feed->caches->check_s = config->check_ms / 1000;
    rc = identity_of(feed, &identity);
    if (rc < 0)
        return problem_set(why, rc, "no memory to hash the places of the samples of a cache");
    pthread_mutex_lock(&lock);
    for (int kind = 0; kind < CACHE_KINDS && rc == 0; kind++)
        if (asked_bytes(config, kind))
            rc = problem_about(why, cache_kind_name(kind), -1, declare(feed, &identity, kind, why));
    pthread_mutex_unlock(&lock);
    return rc;
}

uint64_t caches_differ(const struct feed *feed, const struct feed *other, enum cache_kind *kind)
{
    for (int k = 0; k < CACHE_KINDS && feed->caches && other->caches; k++) {
        const struct cache *mine = feed->caches->caches[k], *theirs = other->caches->caches[k];

        const uint64_t size = asked_bytes(&other->config->cache, k);
        const bool share =
            mine && theirs && (mine->path ? strcmp(mine->path, theirs->path) == 0 : mine->source == theirs->source);

        if (!share || (mine->source == theirs->source && size == asked_bytes(&feed->config->cache, k)))
            continue;
        *kind = k;
        return size;
    }
    return 0;
}

double caches_mib(const struct feed *feed, enum cache_kind kind)
{
    return (double)asked_bytes(&feed->config->cache, kind) / (1 << 20);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* What is not there yet. */
static uint64_t declared_bytes(const struct cache *cache)
{
    if (cache->kind == CACHE_DISK)
        return cache->made ? 0 : sizeof(*cache) + cache->n_indexes * cache->samples * DISK_INDEX;
    return (cache->made ? 0 : sizeof(*cache) + store_bytes(cache->store.size)) +
           (cache->n_indexes - cache->n_made) * cache->samples * STORE_INDEX;
}

static uint64_t made_bytes(const struct cache *cache)
{
    if (cache->kind == CACHE_DISK)
        return cache->made ? sizeof(*cache) + cache->n_made * cache->samples * DISK_INDEX : 0;
    return (cache->made ? sizeof(*cache) + store_bytes(cache->store.size) : 0) + cache->n_made * cache->samples * STORE_INDEX;
}

uint32_t caches_count(void)
{
    static uint32_t counts; /* main thread */

    return ++counts;
}

void caches_add(const struct feed *feed, uint32_t count, uint64_t *made, uint64_t *declared)
{
    for (int k = 0; k < CACHE_KINDS && feed->caches; k++) {
        struct cache *cache = feed->caches->caches[k];

        if (!cache || cache->counted == count)
            continue;
        pthread_mutex_lock(&lock);
        cache->counted = count;
        *made += made_bytes(cache);
        *declared += declared_bytes(cache);
        pthread_mutex_unlock(&lock);
    }
}

/* Another cache at the same path is a feed's that ends: its file is left to it. */
static int make_file(struct cache *cache, struct problem *why)
{
    const struct disk_key key = { cache->source, cache->samples, cache->n_indexes, cache->store.size };
    bool fresh = false;
    int rc;

    if (cache->made)
        return 0;
    pthread_mutex_lock(&lock);
    for (const struct cache *other = all; other; other = other->next)
        fresh |= other != cache && other->disk && strcmp(other->path, cache->path) == 0;
    pthread_mutex_unlock(&lock);
    rc = disk_open(&cache->disk, cache->path, &key, fresh, why);
    if (rc < 0)
        return rc;
    cache->n_made = cache->n_indexes;
    cache->made = true;
    return 0;
}

/* Memory is touched without the lock, as that takes long: only one thread makes any. */
static int make_memory(struct cache *cache, struct problem *why)
{
    struct store store;
    struct store_index index;
    int rc = cache->made ? 0 : store_init(&store, cache->store.size);

    while (rc == 0 && (!cache->made || cache->n_made < cache->n_indexes)) {
        const bool first = !cache->made;

        if (!first)
            rc = store_index_init(&index, cache->samples);
        pthread_mutex_lock(&lock);
        if (first)
            cache->store = store;
        else if (rc == 0)
            cache->indexes[cache->n_made++].store = index;
        cache->made = true;
        pthread_mutex_unlock(&lock);
    }
    if (rc < 0)
        problem_set(why, rc, "no memory for a cache of %llu MiB", (unsigned long long)(cache->store.size >> 20));
    return rc;
}

int caches_make(struct feed *feed, struct problem *why)
{
    int rc = 0;

    for (int k = 0; k < CACHE_KINDS && feed->caches && rc == 0; k++) {
        struct cache *cache = feed->caches->caches[k];

        if (cache)
            rc = cache->kind == CACHE_DISK ? make_file(cache, why) : make_memory(cache, why);
        if (cache && cache->disk && rc == 0)
            disk_resize(cache->disk, cache->store.size = feed->config->cache.disk_size);
    }
    return rc;
}

static void destroy(struct cache *cache)
{
    store_fini(&cache->store);
    disk_close(cache->disk);
    free(cache->path);
    for (uint32_t i = 0; i < cache->n_indexes; i++)
        store_index_fini(&cache->indexes[i].store);
    free(cache);
}

void caches_leave(struct feed *feed)
{
    for (int k = 0; k < CACHE_KINDS && feed->caches; k++) {
        struct cache *cache = feed->caches->caches[k], **link = &all;
        bool last;

        pthread_mutex_lock(&lock);
        last = cache && --cache->refs == 0;
        while (last && *link != cache)
            link = &(*link)->next;
        if (last)
            *link = cache->next;
        pthread_mutex_unlock(&lock);
        if (last)
            destroy(cache);
    }
    free(feed->caches);
    feed->caches = NULL;
}

/* ---- for people ----------------------------------------------------------------------------------------------------- */

bool caches_has(const struct feed *feed, const struct feed *other, enum cache_kind kind)
{
    return feed->caches && other->caches && other->caches->caches[kind] &&
           feed->caches->caches[kind] == other->caches->caches[kind];
}

static uint64_t ppm(uint64_t part, uint64_t of)
{
    return of ? (uint64_t)((double)part * 1e6 / (double)of + 0.5) : 0;
}

void caches_describe(const struct feed *feed, enum cache_kind kind, struct pf_row_cache *row)
{
    const struct cache *cache = feed->caches->caches[kind];
    uint64_t n_made;
    struct disk_figures figures = { .entries = __atomic_load_n(&cache->store.entries, __ATOMIC_RELAXED),
                                    .used = __atomic_load_n(&cache->store.used, __ATOMIC_RELAXED),
                                    .lost = __atomic_load_n(&cache->store.lost, __ATOMIC_RELAXED),
                                    .note = "" };

    pthread_mutex_lock(&lock); /* another feed may come to share it */
    n_made = cache->n_made;
    row->size_bytes = cache->store.size;
    pthread_mutex_unlock(&lock);
    snprintf(row->kind, sizeof(row->kind), "%s", cache_kind_name(kind));
    snprintf(row->source, sizeof(row->source), "%s", feed->config->source->name);
    if (cache->disk)
        disk_look(cache->disk, &figures);
    snprintf(row->file, sizeof(row->file), "%s", cache->path ? cache->path : "");
    snprintf(row->note, sizeof(row->note), "%s", figures.note);
    row->samples = cache->samples * n_made;
    row->entries = figures.entries;
    row->used_bytes = figures.used;
    row->lost_bytes = figures.lost;
    row->damaged = figures.damaged;
    row->index_bytes = n_made * cache->samples * (cache->disk ? DISK_INDEX : STORE_INDEX);
    row->hits = __atomic_load_n(&cache->hits, __ATOMIC_RELAXED);
    row->misses = __atomic_load_n(&cache->misses, __ATOMIC_RELAXED);
    row->stale = __atomic_load_n(&cache->stale, __ATOMIC_RELAXED);
    row->saved_ns = __atomic_load_n(&cache->saved_ns, __ATOMIC_RELAXED);
    row->share_ppm = ppm(row->entries, row->samples);
    row->hit_ppm = ppm(row->hits, row->hits + row->misses);
}
