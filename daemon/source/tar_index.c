/* SPDX-License-Identifier: MIT */
/* The tables of tar shards: how they grow, what is looked up in them, their way into a manifest and back. See tar_index.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source/tar_header.h"
#include "source/tar_index.h"

enum { SHARDS, TEXTS, SAMPLES, MEMBERS, KEYS, HEADS, TABLES };

#define EXTENSIONS_END (UINT64_C(1) << 28) /* of texts, as far as a member can point */

static void tables_of(struct tar_index *index, struct manifest_table tables[TABLES])
{
    tables[SHARDS] = (struct manifest_table){ index->shards, index->n_shards, sizeof *index->shards };
    tables[TEXTS] = (struct manifest_table){ index->texts.text, index->texts.size, 1 };
    tables[SAMPLES] = (struct manifest_table){ index->samples, index->n, sizeof *index->samples };
    tables[MEMBERS] = (struct manifest_table){ index->members, index->n_members, sizeof *index->members };
    tables[KEYS] = (struct manifest_table){ index->keys.text, index->keys.size, 1 };
    tables[HEADS] = (struct manifest_table){ index->heads, index->n + 1, sizeof *index->heads, .heads = true };
}

/* --- looking up ----------------------------------------------------------------------------------------------------------- */

uint64_t tar_index_shard(const struct tar_index *index, uint64_t id)
{
    uint64_t low = 0, high = index->n_shards;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (index->shards[middle].samples <= id)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const char *tar_index_key(const struct tar_index *index, uint64_t id)
{
    return index->keys.text + index->shards[tar_index_shard(index, id)].keys + index->samples[id].key;
}

static uint64_t samples_end(const struct tar_index *index, uint64_t shard)
{
    return shard + 1 < index->n_shards ? index->shards[shard + 1].samples : index->n;
}

static uint64_t members_end(const struct tar_index *index, uint64_t shard)
{
    return shard + 1 < index->n_shards ? index->shards[shard + 1].members : index->n_members;
}

static uint64_t keys_end(const struct tar_index *index, uint64_t shard)
{
    return shard + 1 < index->n_shards ? index->shards[shard + 1].keys : index->keys.size;
}

const struct tar_part *tar_index_members(const struct tar_index *index, uint64_t id, uint64_t *n)
{
    const uint64_t shard = tar_index_shard(index, id), base = index->shards[shard].members;
    const uint64_t first = base + index->samples[id].first;
    *n = (id + 1 < samples_end(index, shard) ? base + index->samples[id + 1].first : members_end(index, shard)) - first;
    return index->members + first;
}

bool tar_index_is_lost(const struct tar_index *index, uint64_t id)
{
    const uint64_t shard = tar_index_shard(index, id);
    return index->shards[shard].damage && id + 1 == samples_end(index, shard);
}

const char *tar_index_text(const struct tar_index *index, uint64_t at)
{
    return index->texts.text + at;
}

const char *tar_index_path(const struct tar_index *index, uint64_t shard)
{
    return tar_index_text(index, index->shards[shard].path);
}

uint64_t tar_index_bytes(const struct tar_index *index)
{
    return index->n_shards * sizeof *index->shards + index->n * (sizeof *index->samples + sizeof *index->heads) +
           index->n_members * sizeof *index->members + index->keys.size + index->texts.size;
}

/* --- growing -------------------------------------------------------------------------------------------------------------- */

static uint64_t *place_of(const struct tar_index *index, const struct tar_words *words, const char *word)
{
    uint64_t at = XXH3_64bits(word, strlen(word)) & (words->room - 1);
    while (words->v[at] && strcmp(index->texts.text + words->v[at], word) != 0)
        at = (at + 1) & (words->room - 1);
    return &words->v[at];
}

static int grow_words(struct tar_index *index)
{
    struct tar_words more = { .room = index->words.room ? 2 * index->words.room : 256, .n = index->words.n };
    more.v = calloc(more.room, sizeof *more.v);
    if (!more.v)
        return -ENOMEM;
    for (uint64_t i = 0; i < index->words.room; i++)
        if (index->words.v[i])
            *place_of(index, &more, index->texts.text + index->words.v[i]) = index->words.v[i];
    free(index->words.v);
    index->words = more;
    return 0;
}

int tar_index_word(struct tar_index *index, const char *word, uint64_t *at)
{
    uint64_t empty;
    if (index->texts.size == 0 && texts_add(&index->texts, "", "", &empty) < 0)
        return -ENOMEM;
    if (2 * index->words.n >= index->words.room && grow_words(index) < 0)
        return -ENOMEM;
    if (!*word) { /* it stands first */
        *at = 0;
        return 0;
    }
    uint64_t *place = place_of(index, &index->words, word);
    if (!*place) {
        int rc = texts_add(&index->texts, word, "", at);
        if (rc < 0)
            return rc;
        *place = *at;
        index->words.n++;
    }
    *at = *place;
    return 0;
}

int tar_index_add_shard(struct tar_index *index, const char *path, const struct tar_shard *facts)
{
    struct tar_shard *grown = file_grown(index->shards, index->n_shards, &index->shards_room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    index->shards = grown;
    struct tar_shard *shard = &grown[index->n_shards];
    *shard = *facts;
    shard->samples = index->n;
    shard->members = index->n_members;
    shard->keys = index->keys.size;
    int rc = tar_index_word(index, path, &shard->path);
    if (rc == 0)
        index->n_shards++;
    return rc;
}

int tar_index_add_sample(struct tar_index *index, const char *key, size_t length)
{
    const struct tar_shard *shard = &index->shards[index->n_shards - 1];
    const uint64_t at = index->keys.size - shard->keys, first = index->n_members - shard->members;
    struct tar_sample *samples = file_grown(index->samples, index->n, &index->samples_room, sizeof *samples);
    if (samples)
        index->samples = samples;
    uint64_t *heads = file_grown(index->heads, index->n + 1, &index->heads_room, sizeof *heads);
    if (heads)
        index->heads = heads;
    char *text = file_grown(index->keys.text, index->keys.size + length + 1, &index->keys.room, 1);
    if (text)
        index->keys.text = text;
    if (!samples || !heads || !text)
        return -ENOMEM;
    if (at > UINT32_MAX || first > UINT32_MAX)
        return -E2BIG;
    memcpy(text + index->keys.size, key, length);
    text[index->keys.size + length] = 0;
    index->keys.size += length + 1;
    samples[index->n] = (struct tar_sample){ (uint32_t)at, (uint32_t)first };
    heads[index->n] = heads[index->n + 1] = 0;
    index->n++;
    return 0;
}

int tar_index_add_member(struct tar_index *index, const char *extension, const struct tar_part *facts)
{
    uint64_t at;
    struct tar_part *grown = file_grown(index->members, index->n_members, &index->members_room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    index->members = grown;
    int rc = tar_index_word(index, extension, &at);
    if (rc == 0 && at >= EXTENSIONS_END)
        rc = -E2BIG;
    if (rc < 0)
        return rc;
    grown[index->n_members] = *facts;
    grown[index->n_members++].extension = (uint32_t)at & (EXTENSIONS_END - 1);
    return 0;
}

/* --- the manifest --------------------------------------------------------------------------------------------------------- */

static bool shard_is_sound(const struct tar_index *index, uint64_t number)
{
    const struct tar_shard *shard = &index->shards[number];
    const uint64_t samples = samples_end(index, number), members = members_end(index, number), keys = keys_end(index, number);
    if (!texts_hold(&index->texts, shard->path) || !texts_hold(&index->texts, shard->damage) || shard->samples > samples ||
        shard->members > members || shard->keys > keys || samples > index->n || members > index->n_members ||
        keys > index->keys.size || (shard->damage && shard->samples == samples))
        return false;
    if (shard->keys < keys && index->keys.text[keys - 1] != 0)
        return false;
    uint64_t before = 0;
    for (uint64_t i = shard->samples; i < samples; i++) {
        const struct tar_sample *sample = &index->samples[i];
        if (sample->key >= keys - shard->keys || sample->first < before || sample->first > members - shard->members)
            return false;
        before = sample->first;
    }
    for (uint64_t i = shard->members; i < members; i++) {
        const struct tar_part *part = &index->members[i];
        if (!texts_hold(&index->texts, part->extension) || part->state > TAR_IS_HUGE ||
            (part->state == TAR_WHOLE && (uint64_t)part->block * TAR_BLOCK + part->size > shard->size))
            return false;
    }
    return shard->samples < samples || shard->members == members;
}

static bool is_sound(const struct tar_index *index)
{
    if (index->n_shards == 0 || !texts_hold(&index->texts, 0) || index->shards[0].samples || index->shards[0].members ||
        index->shards[0].keys)
        return false;
    for (uint64_t i = 0; i < index->n_shards; i++)
        if (!shard_is_sound(index, i))
            return false;
    return true;
}

int tar_index_load(struct tar_index *index, const struct source_progress *progress, struct problem *why)
{
    struct manifest_table tables[TABLES];
    const struct manifest *manifest = &index->manifest;
    tables_of(index, tables);
    int rc = manifest_load(&index->manifest, tables, TABLES, progress, why);
    if (rc < 0)
        return rc;
    index->shards = tables[SHARDS].data;
    index->n_shards = tables[SHARDS].n;
    index->texts = (struct texts){ .text = tables[TEXTS].data, .size = tables[TEXTS].n };
    index->samples = tables[SAMPLES].data;
    index->n = tables[SAMPLES].n;
    index->members = tables[MEMBERS].data;
    index->n_members = tables[MEMBERS].n;
    index->keys = (struct texts){ .text = tables[KEYS].data, .size = tables[KEYS].n };
    index->heads = tables[HEADS].data;
    if (tables[HEADS].n != index->n + 1 || !is_sound(index))
        return problem_set(why, -EBADMSG, "the manifest %s makes no sense", manifest->path);
    return 0;
}

int tar_index_keep(struct tar_index *index, const char *root, const struct source_progress *progress, struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(index, tables);
    return manifest_keep(&index->manifest, tables, TABLES, index->young ? tar_index_path(index, index->young - 1) : NULL, root,
                         progress, why);
}

int tar_index_update(struct tar_index *index, struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(index, tables);
    return manifest_update(&index->manifest, tables, TABLES, why);
}

void tar_index_fini(struct tar_index *index)
{
    free(index->shards);
    free(index->samples);
    free(index->members);
    free(index->heads);
    free(index->words.v);
    texts_fini(&index->keys);
    texts_fini(&index->texts);
    manifest_fini(&index->manifest);
    *index = (struct tar_index){ .n = 0 };
}
