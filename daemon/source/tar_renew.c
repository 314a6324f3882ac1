/* SPDX-License-Identifier: MIT */
/* An index of tar shards as they are now: of each that has not changed what the manifest has, of the others what a scan finds. See
 * tar_index.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "source/tar_index.h"
#include "source/watch.h"

static int no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the index of the shards");
}

/* All of a shard of another index. */
static int copy_shard(struct tar_index *index, const struct tar_index *from, uint64_t number)
{
    const struct tar_shard *shard = &from->shards[number];
    struct tar_shard facts = *shard;
    const uint64_t end = number + 1 < from->n_shards ? from->shards[number + 1].samples : from->n;
    int rc = tar_index_word(index, tar_index_text(from, shard->damage), &facts.damage);
    if (rc == 0)
        rc = tar_index_add_shard(index, tar_index_path(from, number), &facts);
    for (uint64_t id = shard->samples; id < end && rc == 0; id++) {
        const char *key = from->keys.text + shard->keys + from->samples[id].key;
        uint64_t n;
        const struct tar_part *members = tar_index_members(from, id, &n);
        rc = tar_index_add_sample(index, key, strlen(key));
        if (rc == 0)
            index->heads[index->n - 1] = from->heads[id];
        for (uint64_t m = 0; m < n && rc == 0; m++)
            rc = tar_index_add_member(index, tar_index_text(from, members[m].extension), &members[m]);
    }
    return rc;
}

struct places {
    const struct tar_index *index;
    uint64_t *v; /* numbers of shards by path */
};

static int compare(const void *left, const void *right, void *context)
{
    const struct tar_index *index = context;
    return strcmp(tar_index_path(index, *(const uint64_t *)left), tar_index_path(index, *(const uint64_t *)right));
}

static bool find(const struct places *places, const char *path, uint64_t *out)
{
    uint64_t low = 0, high = places->index->n_shards;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        const int order = strcmp(path, tar_index_path(places->index, places->v[middle]));
        if (order == 0) {
            *out = places->v[middle];
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static bool is_same(const struct tar_index *old, uint64_t number, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && watch_stamp(&st) == old->shards[number].stamp;
}

/* Whether the old index is what a new one would be. */
static bool holds(const struct tar_index *old, char *const *paths, size_t n_paths, const struct source_progress *progress)
{
    if (old->n_shards != n_paths)
        return false;
    for (size_t i = 0; i < n_paths; i++)
        if (source_stopping(progress) || strcmp(tar_index_path(old, i), paths[i]) != 0 || !is_same(old, i, paths[i]))
            return false;
    return true;
}

static void trim(struct tar_index *index)
{
    index->shards = file_trimmed(index->shards, index->n_shards, &index->shards_room, sizeof *index->shards);
    index->samples = file_trimmed(index->samples, index->n, &index->samples_room, sizeof *index->samples);
    index->members = file_trimmed(index->members, index->n_members, &index->members_room, sizeof *index->members);
    index->heads = file_trimmed(index->heads, index->n + 1, &index->heads_room, sizeof *index->heads);
    texts_trim(&index->keys);
    texts_trim(&index->texts);
    free(index->words.v);
    index->words = (struct tar_words){ .n = 0 };
}

static int build(struct tar_index *index, const struct places *old, char *const *paths, size_t n_paths,
                 struct source_progress *progress, struct problem *why)
{
    int rc = 0;
    for (size_t i = 0; i < n_paths && rc == 0; i++) {
        uint64_t number;
        if (find(old, paths[i], &number) && is_same(old->index, number, paths[i])) {
            rc = copy_shard(index, old->index, number);
            if (rc < 0)
                return no_memory(why);
            source_listed(progress, index->n);
        } else {
            index->scanned++;
            rc = tar_scan(index, paths[i], progress, why);
        }
        if (rc == 0 && source_stopping(progress))
            rc = problem_set(why, -ECANCELED, "the scan of %s was stopped", paths[i]);
    }
    if (rc == 0 && !index->heads && !(index->heads = calloc(1, sizeof *index->heads)))
        rc = no_memory(why);
    if (rc == 0 && old->index->n_shards)
        index->heads[index->n] = old->index->heads[old->index->n];
    return rc;
}

/* old may be of zeros. */
static int renew(struct tar_index *index, const struct tar_index *old, char *const *paths, size_t n_paths,
                 struct source_progress *progress, struct problem *why)
{
    struct places places = { old, calloc(old->n_shards + 1, sizeof *places.v) };
    if (!places.v)
        return no_memory(why);
    for (uint64_t i = 0; i < old->n_shards; i++)
        places.v[i] = i;
    qsort_r(places.v, old->n_shards, sizeof *places.v, compare, (void *)old);
    int rc = build(index, &places, paths, n_paths, progress, why);
    free(places.v);
    trim(index);
    return rc;
}

int tar_index_open(struct tar_index *index, char *const *paths, size_t n_paths, const char *const *words, size_t n_words,
                   const struct source_env *env, struct problem *why)
{
    struct tar_index old = { .n = 0 };
    struct problem inner = { .text = "" };
    int rc = manifest_init(&old.manifest, env->state, words, n_words);
    if (rc == 0)
        rc = manifest_init(&index->manifest, env->state, words, n_words);
    if (rc < 0) {
        tar_index_fini(&old);
        return no_memory(why);
    }
    rc = env->rescan ? -ENOENT : tar_index_load(&old, env->progress, &inner);
    if (rc == 0 && holds(&old, paths, n_paths, env->progress)) {
        tar_index_fini(index);
        *index = old;
        source_kept(env->progress, true);
        source_listed(env->progress, index->n);
        return 0;
    }
    source_kept(env->progress, false);
    if (rc < 0) {
        if (rc == -ECANCELED)
            problem_set(why, rc, "the scan of %s was stopped", paths[0]);
        else if (rc != -ENOENT)
            log_info("%s; all shards are scanned", inner.text);
        manifest_fini(&old.manifest);
        tar_index_fini(&old);
    }
    if (rc != -ECANCELED)
        rc = renew(index, &old, paths, n_paths, env->progress, why);
    if (rc == 0 && old.n_shards)
        log_info("%s: %llu of %zu shards are new or have changed, and were scanned", words[1], (unsigned long long)index->scanned,
                 n_paths);
    if (rc == 0)
        rc = tar_index_keep(index, words[1], env->progress, why);
    tar_index_fini(&old);
    return rc;
}
