/* SPDX-License-Identifier: MIT */
/* Where the samples of tar shards are: for each its key and its members, in the order of the archives, and each member's place. Made
 * by tar_scan.c or from a manifest, on the thread that opens the source; afterwards constant but for the heads.
 *
 * A sample takes 16 bytes, its key, and 12 for each member (8 + 8 + 12 each): numbers count within a shard. A shard that is damaged
 * has one sample more behind those before the damage, without members, which stands for what was lost. */
#ifndef PFEED_TAR_INDEX_H
#define PFEED_TAR_INDEX_H

#include "source/manifest.h"

enum tar_state {
    TAR_WHOLE,
    TAR_IS_LINK,
    TAR_IS_SPARSE,
    TAR_IS_CUT,
    TAR_IS_HUGE, /* 4 GiB and more */
};

struct tar_part {
    uint32_t block; /* where its bytes begin */
    uint32_t size;
    uint32_t extension : 28; /* in texts */
    uint32_t state : 4;      /* enum tar_state */
};

struct tar_sample {
    uint32_t key, first; /* of the shard's keys; of its members */
};

struct tar_shard {
    uint64_t path;  /* in texts */
    uint64_t stamp; /* watch_stamp */
    uint64_t size;
    int64_t mtime_ns;
    uint64_t samples, members, keys; /* where its own begin */
    uint64_t damage, damage_at;      /* what is wrong, in texts; 0: nothing is */
    uint64_t no_end;                 /* the blocks at its end are missing */
};

/* Which texts there are: their places by hash, while an index is made. */
struct tar_words {
    uint64_t *v, room, n;
};

struct tar_index {
    struct tar_shard *shards;
    struct tar_sample *samples;
    struct tar_part *members;
    uint64_t *heads; /* one a sample, and one more: whose they are */
    uint64_t n_shards, n, n_members;
    uint64_t shards_room, samples_room, members_room, heads_room;
    struct texts keys, texts; /* texts: "", then paths, extensions, and what is wrong */
    struct tar_words words;
    uint64_t scanned; /* shards that are not as a manifest had them */
    uint64_t young;   /* one more than the number of such a shard; 0: none */
    struct manifest manifest;
};

/* paths: of the shards, in their order. words: as manifest_init. An index of zeros first; what failed is to be finished too. */
int tar_index_open(struct tar_index *index, char *const *paths, size_t n_paths, const char *const *words, size_t n_words,
                   const struct source_env *env, struct problem *why);
/* Its part that needs no shards: as manifest_load. */
int tar_index_load(struct tar_index *index, const struct source_progress *progress, struct problem *why);
int tar_index_keep(struct tar_index *index, const char *root, const struct source_progress *progress, struct problem *why);
int tar_index_update(struct tar_index *index, struct problem *why); /* as manifest_update */
void tar_index_fini(struct tar_index *index);
uint64_t tar_index_bytes(const struct tar_index *index);

uint64_t tar_index_shard(const struct tar_index *index, uint64_t id); /* of which sample id is */
const char *tar_index_key(const struct tar_index *index, uint64_t id);
/* Its members. */
const struct tar_part *tar_index_members(const struct tar_index *index, uint64_t id, uint64_t *n);
/* It stands for what is lost of a damaged shard. */
bool tar_index_is_lost(const struct tar_index *index, uint64_t id);
const char *tar_index_text(const struct tar_index *index, uint64_t at);
const char *tar_index_path(const struct tar_index *index, uint64_t shard);

/* For tar_scan.c: a shard, to which samples are added, and members to the last of them. -ENOMEM, -E2BIG. */
int tar_index_add_shard(struct tar_index *index, const char *path, const struct tar_shard *facts);
int tar_index_add_sample(struct tar_index *index, const char *key, size_t length);
int tar_index_add_member(struct tar_index *index, const char *extension, const struct tar_part *facts);
/* The place of a text, which is added where it is not there. */
int tar_index_word(struct tar_index *index, const char *word, uint64_t *at);

/* Adds the shard at path. -EINVAL and a sentence: it is none. A damaged one is no error. */
int tar_scan(struct tar_index *index, const char *path, struct source_progress *progress, struct problem *why);

#endif
