/* SPDX-License-Identifier: MIT */
/* See fetch.h. */
#include "cache/fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/caches.h"
#include "cache/disk.h"

#define YOUNG_NS INT64_C(2000000000) /* the coarsest times of change that file systems keep */

static int64_t thread_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What tells one state of a file from another; 0: it cannot be told, or it has changed less than YOUNG_NS before what was age_ns
 * ago. */
static uint64_t look(const struct feed *feed, uint64_t id, uint32_t part, bool young_too, int64_t age_ns)
{
    struct source_place place;
    struct timespec now;
    struct stat st;
    int64_t changed_ns, now_ns;
    uint64_t stamp;

    if (!feed->config->source->place(feed->source, id, part, &place) || stat(place.path, &st) < 0)
        return 0;
    changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    clock_gettime(CLOCK_REALTIME, &now);
    now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (!young_too && changed_ns > now_ns - age_ns - YOUNG_NS)
        return 0;
    /* An older file may have been moved there since. */
    if (age_ns > 0 && (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec > now_ns - age_ns - YOUNG_NS)
        return 0;
    stamp = ((uint64_t)changed_ns ^ (uint64_t)st.st_size << 40 ^ (uint64_t)st.st_size >> 24) * UINT64_C(0x9e3779b97f4a7c15);
    return stamp ? stamp : 1;
}

/* Whether a file is as it was. */
enum state { SAME, CHANGED, UNKNOWN };

/* checked_s: when it last was. Whether it was looked at just now: *looked. */
static enum state compare(const struct feed *feed, uint64_t id, uint32_t part, uint64_t stamp, uint32_t checked_s, uint32_t now_s,
                          bool *looked)
{
    uint64_t now;

    *looked = !checked_s || feed->caches->check_s == 0 || now_s - checked_s >= (uint64_t)feed->caches->check_s;
    if (!*looked)
        return SAME;
    now = look(feed, id, part, true, 0);
    return now == stamp ? SAME : now ? CHANGED : UNKNOWN;
}

const struct cache_use *fetch_use(const struct feed *feed, uint32_t field, int kind)
{
    return feed->caches && feed->caches->uses[field][kind].cache ? &feed->caches->uses[field][kind] : NULL;
}

bool fetch_has(const struct feed *feed, uint32_t field, uint64_t id)
{
    for (int kind = 0; kind < CACHE_KINDS; kind++) {
        const struct cache_use *use = fetch_use(feed, field, kind);

        if (use && (use->cache->disk ? disk_has(use->cache->disk, use->number, id)
                                     : store_find(&use->cache->store, &use->index->store, id) != NULL))
            return true;
    }
    return false;
}

static bool count(const struct cache_use *use, enum state state, uint64_t cost_ns)
{
    struct cache *cache = use->cache;

    if (state == CHANGED)
        __atomic_fetch_add(&cache->stale, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(state == SAME ? &cache->hits : &cache->misses, 1, __ATOMIC_RELAXED);
    if (state == SAME)
        __atomic_fetch_add(&cache->saved_ns, cost_ns, __ATOMIC_RELAXED);
    return state == SAME;
}

bool fetch_kept(const struct feed *feed, const struct cache_use *use, uint64_t id, uint32_t part, int64_t now_ns,
                struct sample_value *value, struct fetch_stamp *of)
{
    const uint32_t now_s = (uint32_t)(now_ns / 1000000000);
    struct store_entry *entry = store_find(&use->cache->store, &use->index->store, id);
    enum state state = UNKNOWN;
    bool looked;

    if (entry) {
        state = compare(feed, id, part, entry->stamp, __atomic_load_n(&entry->checked_s, __ATOMIC_RELAXED), now_s, &looked);
        if (state == SAME && looked)
            __atomic_store_n(&entry->checked_s, now_s, __ATOMIC_RELAXED);
        else if (state == CHANGED)
            store_drop(&use->cache->store, &use->index->store, id, entry);
        *value = (struct sample_value){ .data = store_entry_bytes(entry),
                                        .size = entry->size,
                                        .part = &feed->parts[part],
                                        .reduced = use->cache->kind == CACHE_DECODED };
        *of = (struct fetch_stamp){ entry->stamp, __atomic_load_n(&entry->checked_s, __ATOMIC_RELAXED) };
    }
    return count(use, state, entry ? entry->cost_ns : 0);
}

bool fetch_from_disk(struct fetch *found, const struct feed *feed, const struct cache_use *use, uint64_t id, uint32_t part,
                     int64_t now_ns, void *room, uint64_t room_size, struct sample_value *value)
{
    const uint32_t now_s = (uint32_t)(now_ns / 1000000000);
    struct disk *disk = use->cache->disk;
    enum state state = UNKNOWN;
    struct disk_entry entry = { .size = 0 };
    bool looked;

    if (disk_read(disk, use->number, id, room, room_size, &entry)) {
        state = compare(feed, id, part, entry.stamp, entry.checked_s, now_s, &looked);
        if (state == SAME && looked)
            disk_checked(disk, use->number, id, now_s);
        else if (state == CHANGED)
            disk_drop(disk, use->number, id);
        *value = (struct sample_value){ .data = room, .size = entry.size, .part = &feed->parts[part], .reduced = true };
        *found = (struct fetch){ .from = use,
                                 .id = id,
                                 .part = part,
                                 .of = { entry.stamp, looked ? now_s : entry.checked_s },
                                 .cpu_ns = (int64_t)entry.cost_ns };
    }
    return count(use, state, entry.cost_ns);
}

static bool any_keeps(const struct feed *feed, uint32_t part)
{
    for (uint32_t f = 0; f < feed->n_fields; f++)
        for (int kind = 0; kind < CACHE_KINDS; kind++)
            if (feed->fields[f].part == part && fetch_use(feed, f, kind))
                return true;
    return false;
}

struct fetch_stamp fetch_look(const struct feed *feed, uint64_t id, uint32_t part, int64_t now_ns)
{
    /* From before the read: of a file that changes meanwhile it is the old state, and does not hold later. */
    return (struct fetch_stamp){ any_keeps(feed, part) ? look(feed, id, part, false, 0) : 0, (uint32_t)(now_ns / 1000000000) };
}

void fetch_aged(struct fetch_stamp *of, const struct feed *feed, uint64_t id, uint32_t part, int64_t age_ns)
{
    if (of->stamp && look(feed, id, part, false, age_ns) != of->stamp)
        of->stamp = 0;
}

void fetch_begin(struct fetch *fetch, const struct cache_use *use, uint64_t id, uint32_t part)
{
    *fetch = (struct fetch){ .use = use, .id = id, .part = part, .cpu_ns = use ? thread_ns() : 0 };
}

void fetch_done(struct fetch *fetch, const struct fetch_stamp *of)
{
    if (!of->stamp)
        fetch->use = NULL;
    fetch->of = *of;
    if (fetch->use)
        fetch->cpu_ns = thread_ns() - fetch->cpu_ns;
}

/* The kernel need not keep the same bytes. */
static void forget_pages(const struct feed *feed, uint64_t id, uint32_t part)
{
    struct source_place place;
    int fd;

    if (!feed->config->source->place(feed->source, id, part, &place))
        return;
    fd = open(place.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    posix_fadvise(fd, (off_t)place.offset, (off_t)place.size, POSIX_FADV_DONTNEED);
    close(fd);
}

bool fetch_keep(struct fetch *fetch, const struct feed *feed, const struct sample_value *value)
{
    const struct cache_use *use = fetch->use;
    const struct fetch_stamp of = fetch->of;
    const uint64_t cost_ns = (uint64_t)fetch->cpu_ns;
    const struct store_entry entry = { value->size, of.stamp, cost_ns, .checked_s = of.checked_s };
    const struct disk_entry written = { value->size, of.stamp, cost_ns, of.checked_s };
    bool kept;

    fetch->use = NULL;
    if (!use)
        return false;
    kept = use->cache->disk ? disk_add(use->cache->disk, use->number, fetch->id, &written, value->data)
                            : store_add(&use->cache->store, &use->index->store, fetch->id, &entry, value->data);
    if (kept && fetch->from)
        disk_forget(fetch->from->cache->disk, fetch->from->number, fetch->id);
    else if (kept)
        forget_pages(feed, fetch->id, fetch->part);
    return kept;
}
