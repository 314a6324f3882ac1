/* SPDX-License-Identifier: MIT */
/* See disk.h. */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC    "pfeedCA\n"
#define ORDER    0x01020304u /* as this machine stores it */
#define VERSION  1u
#define PAGE     4096u
#define AT_ONCE  32768u /* slots that are read at once */
#define ATTEMPTS 8      /* at a path that others rename at the same time */

/* Of the first page. */
struct header {
    char magic[8];
    uint32_t order, version;
    uint64_t checksum; /* of what follows, but the owner */
    uint64_t identity, samples;
    uint32_t n_indexes, reserved;
    uint64_t owner; /* its pid, for people */
};

struct slot {
    uint64_t offset; /* in pages; 0: nothing */
    uint32_t size, cost_us;
    uint64_t stamp, checksum;
};

_Static_assert(sizeof(struct slot) == 32, "as disk.h says");

/* Of a sample: NOTHING -> CLAIMED (a worker writes) -> THERE or more: when its file was last looked at -> NOTHING (given up) */
enum { NOTHING, CLAIMED, THERE };

struct disk {
    int fd;
    char *path;
    struct disk_key key;
    uint64_t data;    /* where entries begin */
    uint32_t *states; /* atomic; one a slot */
    uint64_t size;    /* atomic */
    uint64_t used __attribute__((aligned(64)));
    uint64_t entries, lost, damaged;
    int stopped; /* atomic: errno; nothing is written any more */
    char note[160];
};

static uint64_t pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static uint64_t n_slots(const struct disk_key *key)
{
    return key->samples * key->n_indexes;
}

static uint64_t slot_number(const struct disk *disk, uint32_t index, uint64_t id)
{
    return index * disk->key.samples + id;
}

static off_t slot_at(uint64_t number)
{
    return (off_t)(PAGE + number * sizeof(struct slot));
}

static bool read_all(int fd, void *to, uint64_t size, off_t at)
{
    for (uint64_t used = 0; used < size;) {
        const ssize_t got = pread(fd, (char *)to + used, size - used, at + (off_t)used);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        used += (uint64_t)got;
    }
    return true;
}

static int write_all(int fd, const void *from, uint64_t size, off_t at)
{
    for (uint64_t used = 0; used < size;) {
        const ssize_t got = pwrite(fd, (const char *)from + used, size - used, at + (off_t)used);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        used += (uint64_t)got;
    }
    return 0;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static struct header header_of(const struct disk_key *key)
{
    struct header header = { .magic = MAGIC, .order = ORDER, .version = VERSION };

    header.identity = key->identity;
    header.samples = key->samples;
    header.n_indexes = key->n_indexes;
    header.checksum = XXH3_64bits(&header.identity, offsetof(struct header, owner) - offsetof(struct header, identity));
    header.owner = (uint64_t)getpid();
    return header;
}

static int cannot(const struct disk *disk, const char *what, int error, struct problem *why)
{
    return problem_set(why, -error, "cannot %s the cache %s: %s; check the folder and its permissions, or give another 'disk'",
                       what, disk->path, strerror(error));
}

/* Opens and locks what is at the path, whoever renames it meanwhile. */
static int lock(struct disk *disk, struct problem *why)
{
    for (int n = 0; n < ATTEMPTS; n++) {
        struct stat here, there;
        struct header header = { .owner = 0 };

        disk->fd = open(disk->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
        if (disk->fd < 0)
            return cannot(disk, "open", errno, why);
        if (fstat(disk->fd, &here) < 0)
            return cannot(disk, "measure", errno, why);
        if (!S_ISREG(here.st_mode))
            return problem_set(why, -EEXIST, "%s is there and is no file; give another 'disk'", disk->path);
        if (flock(disk->fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno != EWOULDBLOCK)
                return cannot(disk, "lock", errno, why);
            if (!read_all(disk->fd, &header, sizeof(header), 0))
                header.owner = 0;
            return problem_set(why, -EBUSY,
                               "the cache %s is in use by another pfeedd (process %llu); stop that one, or give another 'disk'",
                               disk->path, (unsigned long long)header.owner);
        }
        if (stat(disk->path, &there) == 0 && there.st_ino == here.st_ino && there.st_dev == here.st_dev)
            return 0;
        close(disk->fd);
        disk->fd = -1;
    }
    return cannot(disk, "lock", EAGAIN, why);
}

static bool all_zeros(const uint8_t *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Whether the first page is one of ours, or what a crash or a full disk may leave of it: nothing, its beginning, or zeros. */
static int read_header(struct disk *disk, struct header *header, struct problem *why)
{
    uint8_t page[PAGE];
    struct stat st;
    uint64_t n;

    if (fstat(disk->fd, &st) < 0)
        return cannot(disk, "measure", errno, why);
    n = (uint64_t)st.st_size < PAGE ? (uint64_t)st.st_size : PAGE;
    if (!read_all(disk->fd, page, n, 0))
        return cannot(disk, "read", EIO, why);
    memset(header, 0, sizeof(*header));
    if (all_zeros(page, n))
        return 0;
    memcpy(header, page, n < sizeof(*header) ? n : sizeof(*header));
    if (memcmp(page, MAGIC, n < sizeof(header->magic) ? n : sizeof(header->magic)) != 0)
        return problem_set(why, -EEXIST, "%s is there and is no cache of pfeed's; give another 'disk', or remove it", disk->path);
    return n >= sizeof(*header);
}

/* 1: it is what the key says; 0: it is to be made. */
static int judge(struct disk *disk, struct problem *why)
{
    const struct header wanted = header_of(&disk->key);
    struct header header;
    const int rc = read_header(disk, &header, why);

    if (rc <= 0)
        return rc;
    if (memcmp(&header, &wanted, offsetof(struct header, owner)) == 0)
        return 1;
    log_info("the cache %s is of %s; it is made anew", disk->path,
             header.order != ORDER || header.version != VERSION ? "another version of pfeed" : "other samples or another recipe");
    return 0;
}

/* Which samples are there; a slot that makes no sense is none. */
static int load(struct disk *disk, struct problem *why)
{
    const uint64_t n = n_slots(&disk->key);
    struct slot *slots = malloc(AT_ONCE * sizeof(*slots));
    struct stat st;

    if (!slots || fstat(disk->fd, &st) < 0) {
        free(slots);
        return problem_set(why, -ENOMEM, "no memory for the cache %s", disk->path);
    }
    for (uint64_t at = 0; at < n; at += AT_ONCE) {
        const uint64_t some = n - at < AT_ONCE ? n - at : AT_ONCE;

        if (!read_all(disk->fd, slots, some * sizeof(*slots), slot_at(at)))
            break; /* a file that is shorter has no more */
        for (uint64_t i = 0; i < some; i++) {
            const uint64_t offset = slots[i].offset * PAGE, end = offset + slots[i].size;

            if (slots[i].offset >= UINT64_MAX / PAGE / 2 || offset < disk->data || end > (uint64_t)st.st_size)
                continue;
            disk->states[at + i] = THERE;
            disk->entries++;
            disk->used = pages(end) > disk->used ? pages(end) : disk->used;
        }
    }
    free(slots);
    return 0;
}

/* An empty one: slots are holes until they are written. Whatever ends it, the file is empty or has its header. */
static int make(struct disk *disk, struct problem *why)
{
    const struct header header = header_of(&disk->key);
    int rc = ftruncate(disk->fd, 0) < 0 ? -errno : write_all(disk->fd, &header, sizeof(header), 0);

    if (rc == 0 && ftruncate(disk->fd, (off_t)disk->data) < 0)
        rc = -errno;
    return rc < 0 ? cannot(disk, "write", -rc, why) : 0;
}

static int open_file(struct disk *disk, struct problem *why)
{
    const struct header header = header_of(&disk->key);
    int rc = lock(disk, why);

    if (rc == 0)
        rc = judge(disk, why);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return make(disk, why);
    rc = write_all(disk->fd, &header, sizeof(header), 0); /* the owner */
    return rc < 0 ? cannot(disk, "write", -rc, why) : load(disk, why);
}

int disk_open(struct disk **out, const char *path, const struct disk_key *key, bool fresh, struct problem *why)
{
    struct disk *disk = aligned_alloc(64, (sizeof(*disk) + 63) / 64 * 64);
    int rc = -ENOMEM;

    if (!disk)
        return problem_set(why, rc, "no memory for the cache %s", path);
    memset(disk, 0, sizeof(*disk));
    disk->fd = -1;
    disk->key = *key;
    disk->size = key->size;
    disk->used = disk->data = pages((uint64_t)slot_at(n_slots(key)));
    disk->path = strdup(path);
    disk->states = malloc((n_slots(key) + 1) * sizeof(*disk->states));
    if (disk->states)
        memset(disk->states, 0, (n_slots(key) + 1) * sizeof(*disk->states)); /* touched */
    if (!disk->path || !disk->states)
        problem_set(why, rc, "no memory for the cache %s", path);
    else if (fresh && unlink(path) < 0 && errno != ENOENT)
        rc = cannot(disk, "replace", errno, why);
    else
        rc = open_file(disk, why);
    if (rc < 0) {
        disk_close(disk);
        return rc;
    }
    if (disk->entries)
        log_info("the cache %s has %llu samples", path, (unsigned long long)disk->entries);
    *out = disk;
    return 0;
}

void disk_close(struct disk *disk)
{
    if (!disk)
        return;
    if (disk->fd >= 0)
        close(disk->fd);
    free(disk->path);
    free(disk->states);
    free(disk);
}

void disk_resize(struct disk *disk, uint64_t size)
{
    __atomic_store_n(&disk->size, size, __ATOMIC_RELAXED);
}

/* ---- entries -------------------------------------------------------------------------------------------------------- */

/* Of the entry, its slot, and where and what for it was written. */
static uint64_t checksum(const struct disk *disk, uint64_t number, const struct slot *slot, const void *bytes)
{
    const uint64_t seed[] = { disk->key.identity, number, slot->offset, slot->size, slot->cost_us, slot->stamp };

    return XXH3_64bits_withSeed(bytes, slot->size, XXH3_64bits(seed, sizeof(seed)));
}

/* Of several workers that find it wrong, or out of date, one. */
static bool give_up(struct disk *disk, uint64_t number, uint32_t state)
{
    if (!__atomic_compare_exchange_n(&disk->states[number], &state, NOTHING, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return false;
    __atomic_fetch_sub(&disk->entries, 1, __ATOMIC_RELAXED);
    return true;
}

bool disk_read(struct disk *disk, uint32_t index, uint64_t id, void *room, uint64_t room_size, struct disk_entry *entry)
{
    const uint64_t number = slot_number(disk, index, id);
    /* The file's bytes are there before the state says so: pairs with disk_add. */
    const uint32_t state = __atomic_load_n(&disk->states[number], __ATOMIC_ACQUIRE);
    struct slot slot;

    if (state < THERE)
        return false;
    if (read_all(disk->fd, &slot, sizeof(slot), slot_at(number)) && slot.offset < UINT64_MAX / PAGE / 2 &&
        slot.size <= room_size && read_all(disk->fd, room, slot.size, (off_t)(slot.offset * PAGE)) &&
        checksum(disk, number, &slot, room) == slot.checksum) {
        *entry = (struct disk_entry){ .size = slot.size,
                                      .stamp = slot.stamp,
                                      .cost_ns = slot.cost_us * UINT64_C(1000),
                                      .checked_s = state == THERE ? 0 : state };
        return true;
    }
    if (give_up(disk, number, state))
        __atomic_fetch_add(&disk->damaged, 1, __ATOMIC_RELAXED);
    return false;
}

bool disk_has(const struct disk *disk, uint32_t index, uint64_t id)
{
    return __atomic_load_n(&disk->states[slot_number(disk, index, id)], __ATOMIC_RELAXED) >= THERE;
}

void disk_checked(struct disk *disk, uint32_t index, uint64_t id, uint32_t now_s)
{
    uint32_t *state = &disk->states[slot_number(disk, index, id)], was = __atomic_load_n(state, __ATOMIC_RELAXED);

    if (was >= THERE && now_s > THERE)
        __atomic_compare_exchange_n(state, &was, now_s, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

void disk_drop(struct disk *disk, uint32_t index, uint64_t id)
{
    const uint64_t number = slot_number(disk, index, id);
    const uint32_t state = __atomic_load_n(&disk->states[number], __ATOMIC_RELAXED);
    struct slot slot;

    if (state >= THERE && read_all(disk->fd, &slot, sizeof(slot), slot_at(number)) && give_up(disk, number, state))
        __atomic_fetch_add(&disk->lost, pages(slot.size), __ATOMIC_RELAXED);
}

/* 0: there is no room. */
static uint64_t reserve(struct disk *disk, uint64_t bytes)
{
    const uint64_t size = __atomic_load_n(&disk->size, __ATOMIC_RELAXED);
    uint64_t used = __atomic_load_n(&disk->used, __ATOMIC_RELAXED);

    do {
        if (used > size || bytes > size - used)
            return 0;
    } while (!__atomic_compare_exchange_n(&disk->used, &used, used + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return used;
}

/* Whoever is first says so; the log is written by a worker, once in a daemon's life. */
static void stop(struct disk *disk, int error)
{
    int none = 0;

    if (!__atomic_compare_exchange_n(&disk->stopped, &none, error, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    log_warn("the cache %s cannot grow: %s; what is in it goes on being used, until the next start nothing is added", disk->path,
             strerror(error));
}

bool disk_add(struct disk *disk, uint32_t index, uint64_t id, const struct disk_entry *entry, const void *bytes)
{
    const uint64_t number = slot_number(disk, index, id), whole = pages(entry->size);
    struct slot slot = { .size = (uint32_t)entry->size, .stamp = entry->stamp };
    uint32_t state = NOTHING;
    uint64_t at;
    int rc = -ENOSPC;

    if (__atomic_load_n(&disk->stopped, __ATOMIC_RELAXED) || entry->size == 0 || entry->size > UINT32_MAX ||
        !__atomic_compare_exchange_n(&disk->states[number], &state, CLAIMED, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return false;
    at = reserve(disk, whole);
    if (at) {
        slot.offset = at / PAGE;
        slot.cost_us = entry->cost_ns / 1000 < UINT32_MAX ? (uint32_t)(entry->cost_ns / 1000) : UINT32_MAX;
        slot.checksum = checksum(disk, number, &slot, bytes);
        rc = write_all(disk->fd, bytes, entry->size, (off_t)at);
        if (rc == 0)
            rc = write_all(disk->fd, &slot, sizeof(slot), slot_at(number));
        if (rc < 0)
            stop(disk, -rc);
    }
    if (rc == 0)
        __atomic_fetch_add(&disk->entries, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&disk->states[number],
                     rc < 0                     ? NOTHING
                     : entry->checked_s > THERE ? entry->checked_s
                                                : THERE,
                     __ATOMIC_RELEASE);
    return rc == 0;
}

void disk_forget(struct disk *disk, uint32_t index, uint64_t id)
{
    struct slot slot;

    if (read_all(disk->fd, &slot, sizeof(slot), slot_at(slot_number(disk, index, id))) && slot.offset < UINT64_MAX / PAGE / 2)
        posix_fadvise(disk->fd, (off_t)(slot.offset * PAGE), (off_t)pages(slot.size), POSIX_FADV_DONTNEED);
}

void disk_look(const struct disk *disk, struct disk_figures *figures)
{
    const int stopped = __atomic_load_n(&disk->stopped, __ATOMIC_RELAXED);

    *figures = (struct disk_figures){ .entries = __atomic_load_n(&disk->entries, __ATOMIC_RELAXED),
                                      .used = __atomic_load_n(&disk->used, __ATOMIC_RELAXED),
                                      .lost = __atomic_load_n(&disk->lost, __ATOMIC_RELAXED),
                                      .damaged = __atomic_load_n(&disk->damaged, __ATOMIC_RELAXED),
                                      .note = stopped ? strerror(stopped) : "" };
}
