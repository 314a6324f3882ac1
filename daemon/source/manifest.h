/* SPDX-License-Identifier: MIT */
/* A file in the state folder that keeps what the scan of one source found: tables of fixed-size elements, with a checksum over
 * everything. Used by the sources on the thread that opens them, and to save on any one thread.
 *
 *     header | key, as texts | table | table | ...         each from a multiple of 8 bytes on
 *
 * It is written under another name and renamed, so that it is whole or not there; of several writers the last one wins. What
 * was read is what somebody wrote as this source's manifest, by the checksum and the key; whoever owns a table still checks
 * every number in it before using it. */
#ifndef PFEED_MANIFEST_H
#define PFEED_MANIFEST_H

#include "source/watch.h"

#define MANIFEST_MAGIC   "pfeedMF\n"
#define MANIFEST_ORDER   0x01020304u /* as this machine stores it */
#define MANIFEST_VERSION 1u          /* of the header and of every source's tables */
#define MANIFEST_TABLES  7           /* most; the first is the key */

struct manifest_header {
    char magic[8];
    uint32_t order, version;
    uint64_t checksum; /* XXH3, 64 bits, of the whole file with a 0 here */
    uint64_t size;     /* of the file */
    struct {
        uint64_t n;         /* elements */
        uint32_t each, pad; /* bytes of one; 0 */
    } tables[MANIFEST_TABLES];
};

_Static_assert(sizeof(struct manifest_header) == 32 + 16 * MANIFEST_TABLES, "no holes");

/* n elements of `each` bytes. manifest_load allocates data. */
struct manifest_table {
    void *data;
    uint64_t n;
    uint32_t each;
    bool heads; /* uint64_t that workers store while they are saved */
};

struct manifest {
    char *path; /* of the file; NULL: nothing is kept */
    struct texts key;
    uint64_t heads; /* hash of the heads that the file has */
};

/* words: the kind of source, its canonical path, and every setting that changes what is listed. Keeps nothing where state is
 * NULL, or a word is. -ENOMEM. */
int manifest_init(struct manifest *manifest, const char *state, const char *const *words, size_t n_words);
void manifest_fini(struct manifest *manifest);

/* Gives the tables their data and n; `each` must be what the file has. All or nothing, with a sentence: -ENOENT there is none,
 * -EBADMSG it is damaged, -ESTALE another version's or source's, -ECANCELED. */
int manifest_load(struct manifest *manifest, struct manifest_table *tables, size_t n, const struct source_progress *progress,
                  struct problem *why);
/* After a scan: writes it, and where that cannot be done says so in the log and keeps nothing from then on. It is not done where
 * something of root's, young, has changed so lately that it might change again without its time changing. 0 or -ECANCELED. */
int manifest_keep(struct manifest *manifest, const struct manifest_table *tables, size_t n, const char *young, const char *root,
                  const struct source_progress *progress, struct problem *why);
/* Writes it again where heads have come since. */
int manifest_update(struct manifest *manifest, const struct manifest_table *tables, size_t n, struct problem *why);

#endif
