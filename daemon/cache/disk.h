/* SPDX-License-Identifier: MIT */
/* A cache in a file of its own, which outlives the daemon. Opened and closed on the thread of chores; found and filled by any number
 * of workers at once, each sample by one.
 *
 *     header, a page | a slot of 32 bytes for each sample of each index | entries, from multiples of a page on
 *
 * Entries are appended and never moved. An entry is written before its slot, and the slot has a checksum over both and over all that
 * the file is for: whatever a crash has left half written, or a disk has changed, is seen when it is read, and made anew. The file is
 * one daemon's alone (flock), and is made anew where it is of another version, of other samples or another recipe. */
#ifndef PFEED_CACHE_DISK_H
#define PFEED_CACHE_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

#define DISK_INDEX 4 /* bytes of memory for each sample of each index */

struct disk;

/* What the file is for, and how large it may become. */
struct disk_key {
    uint64_t identity; /* of samples and recipe */
    uint64_t samples;
    uint32_t n_indexes;
    uint64_t size;
};

/* fresh: nobody in this process may use what is there. -EBUSY another process has it, -EEXIST it is something else, or what the system
 * says; with a sentence. */
int disk_open(struct disk **out, const char *path, const struct disk_key *key, bool fresh, struct problem *why);
void disk_close(struct disk *disk);
void disk_resize(struct disk *disk, uint64_t size);

/* An entry as it was added. */
struct disk_entry {
    uint64_t size, stamp, cost_ns;
    uint32_t checked_s; /* as in struct store_entry; 0: not since the start */
};

/* On workers. Reads it into room. False: it is not there, or damaged. */
bool disk_read(struct disk *disk, uint32_t index, uint64_t id, void *room, uint64_t room_size, struct disk_entry *entry);
bool disk_has(const struct disk *disk, uint32_t index, uint64_t id);
/* The file that it is from has been looked at; or has changed, and the entry is given up. */
void disk_checked(struct disk *disk, uint32_t index, uint64_t id, uint32_t now_s);
void disk_drop(struct disk *disk, uint32_t index, uint64_t id);
/* False: somebody else does it, or it does not fit, or cannot be written (told once). */
bool disk_add(struct disk *disk, uint32_t index, uint64_t id, const struct disk_entry *entry, const void *bytes);

/* What was read is kept in memory from now on: the kernel need not keep it, too. */
void disk_forget(struct disk *disk, uint32_t index, uint64_t id);

/* For people. */
struct disk_figures {
    uint64_t entries, used, lost, damaged;
    const char *note; /* why it does not grow, or "" */
};
void disk_look(const struct disk *disk, struct disk_figures *figures);

#endif
