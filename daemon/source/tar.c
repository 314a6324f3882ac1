/* SPDX-License-Identifier: MIT */
/* WebDataset's shards: plain tar archives, whose members of one key are a sample. Indexed once, on the thread that opens it, from the
 * state folder's manifest where the shards are as they were; afterwards constant, so that workers read without a lock, each
 * member by one pread at its place. Ids count through the shards in the order of the patterns, and through each from its
 * beginning. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "source/descriptors.h"
#include "source/digest.h"
#include "source/matches.h"
#include "source/tar_fields.h"
#include "source/tar_header.h"

#define DAMAGED_SHOWN 10 /* in the log */

struct tar_params {
    struct setting_strings path;
};

struct source {
    struct tar_index index;
    struct tar_fields fields;
    struct descriptors *descriptors;
    uint32_t head_part; /* of which heads are kept; UINT32_MAX: none */
    size_t max_bytes;
};

static const struct setting settings[] = {
    { "path", SETTING_PATHS, offsetof(struct tar_params, path), NULL,
      .help = "the shards, plain tar files: one or several, with * ? [] and {a,b} or {000000..000099}" },
    SETTINGS_END,
};

/* --- opening -------------------------------------------------------------------------------------------------------------- */

static int find_shards(const struct tar_params *p, struct matches *matches, struct problem *why)
{
    int rc = 0;
    for (uint32_t i = 0; i < p->path.n && rc == 0; i++)
        rc = matches_add(matches, p->path.v[i], why);
    if (rc == 0 && matches_unique(matches) < 0)
        rc = problem_set(why, -ENOMEM, "out of memory for the list of shards");
    return rc;
}

static int open_index(struct source *source, const struct tar_params *p, const struct source_env *env, struct problem *why)
{
    struct matches matches = { .n = 0 };
    const char **words = calloc(p->path.n + 1, sizeof *words);
    int rc = words ? find_shards(p, &matches, why) : problem_set(why, -ENOMEM, "out of memory for the list of shards");
    if (rc == 0) {
        words[0] = "tar";
        for (uint32_t i = 0; i < p->path.n; i++)
            words[1 + i] = p->path.v[i];
        rc = tar_index_open(&source->index, matches.paths, matches.n, words, p->path.n + 1, env, why);
    }
    free(words);
    matches_fini(&matches);
    return rc;
}

static int no_samples(const struct tar_index *index, struct problem *why)
{
    uint64_t i = 0;
    while (i < index->n_shards && !index->shards[i].damage)
        i++;
    if (i == index->n_shards)
        return problem_set(why, -EINVAL, "no member of %s has a name such as KEY.jpg, so that there are no samples",
                           tar_index_path(index, 0));
    return problem_set(why, -EINVAL, "%s is damaged at byte %llu, before its first sample: %s; is it a tar?",
                       tar_index_path(index, i), (unsigned long long)index->shards[i].damage_at,
                       tar_index_text(index, index->shards[i].damage));
}

/* At each start, also where the index is the manifest's. */
static int report(const struct tar_index *index, const char *name, struct problem *why)
{
    uint64_t n_damaged = 0, n_open = 0, first = 0;
    for (uint64_t i = 0; i < index->n_shards; i++) {
        n_damaged += index->shards[i].damage != 0;
        if (index->shards[i].no_end && n_open++ == 0)
            first = i;
    }
    if (index->n == n_damaged)
        return no_samples(index, why);
    for (uint64_t i = 0, shown = 0; i < index->n_shards && shown < DAMAGED_SHOWN; i++) {
        const struct tar_shard *shard = &index->shards[i];
        if (shard->damage && ++shown)
            log_warn("%s is damaged at byte %llu: %s; the samples before it stay, one bad sample stands for the others",
                     tar_index_path(index, i), (unsigned long long)shard->damage_at, tar_index_text(index, shard->damage));
    }
    if (n_damaged > DAMAGED_SHOWN)
        log_warn("%s: %llu more shards are damaged", name, (unsigned long long)n_damaged - DAMAGED_SHOWN);
    if (n_open)
        log_warn("%s: %llu shards have no blocks of zeros at their end, first %s: they may have been cut between two members",
                 name, (unsigned long long)n_open, tar_index_path(index, first));
    return 0;
}

static void find_max_bytes(struct source *source)
{
    source->max_bytes = sizeof(int64_t);
    for (uint32_t f = 0; f < source->fields.n; f++) {
        size_t needed;
        tar_fields_place(&source->fields.v[f], source->fields.v[f].max_bytes, &needed);
        source->max_bytes = needed > source->max_bytes ? needed : source->max_bytes;
    }
}

/* Of the first part that is decoded; those of another one that the manifest has are of no use. */
static void find_heads(struct source *source)
{
    struct tar_index *index = &source->index;
    uint64_t whose = 0;
    source->head_part = UINT32_MAX;
    for (uint32_t f = source->fields.n; f-- > 0;)
        if (source->fields.v[f].value == TAR_BYTES)
            source->head_part = f;
    if (source->head_part != UINT32_MAX) {
        const char *from = source->fields.v[source->head_part].from;
        whose = XXH3_64bits(from, strlen(from)) | 1;
    }
    if (index->heads[index->n] != whose)
        memset(index->heads, 0, index->n * sizeof *index->heads);
    index->heads[index->n] = whose;
}

static void tar_close(struct source *source)
{
    if (!source)
        return;
    descriptors_destroy(source->descriptors);
    tar_fields_fini(&source->fields);
    tar_index_fini(&source->index);
    free(source);
}

static int tar_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    const struct tar_params *p = params;
    struct source *source = calloc(1, sizeof *source);
    int rc = source ? tar_fields_init(&source->fields, env, why) : problem_set(why, -ENOMEM, "out of memory for a source of tar");
    if (rc == 0)
        rc = open_index(source, p, env, why);
    if (rc == 0)
        rc = report(&source->index, p->path.v[0], why);
    if (rc == 0)
        rc = tar_fields_match(&source->fields, &source->index, p->path.v[0], why);
    if (rc == 0 && !(source->descriptors = descriptors_create(source->index.n_shards)))
        rc = problem_set(why, -ENOMEM, "out of memory for the descriptors of shards");
    if (rc < 0) {
        tar_close(source);
        return rc;
    }
    find_max_bytes(source);
    find_heads(source);
    *out = source;
    return 0;
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

static uint64_t tar_count(const struct source *source)
{
    return source->index.n;
}

static uint32_t tar_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = source->fields.parts;
    return source->fields.n;
}

static uint32_t tar_part_of(const struct source *source, uint32_t want)
{
    return source->fields.of[want];
}

static uint64_t tar_bytes(const struct source *source)
{
    return tar_index_bytes(&source->index) + descriptors_bytes(source->descriptors);
}

static size_t tar_max_bytes(const struct source *source)
{
    return source->max_bytes;
}

static void tar_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct tar_index *index = &source->index;
    snprintf(text, size, "%s!%s", tar_index_path(index, tar_index_shard(index, id)), tar_index_key(index, id));
}

/* The shard's name without its folder: samples stay on their side where shards are moved. */
static void tar_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct tar_index *index = &source->index;
    const char *path = tar_index_path(index, tar_index_shard(index, id)), *slash = strrchr(path, '/');
    snprintf(text, size, "%s!%s", slash ? slash + 1 : path, tar_index_key(index, id));
}

/* Whether the file is what was indexed: another one would have other bytes at the same places. */
static int check_shard(int fd, const char *path, const struct tar_shard *shard, struct problem *why)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return problem_set(why, -errno, "cannot measure %s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == shard->size &&
        st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == shard->mtime_ns)
        return 0;
    return problem_set(why, -EBADMSG, "%s has changed since pfeedd listed it; `pfeedctl rescan` lists it anew", path);
}

static int read_at(int fd, const char *path, void *to, uint64_t size, uint64_t at, struct problem *why)
{
    uint64_t used = 0;
    while (used < size) {
        const ssize_t got = pread(fd, (char *)to + used, (size_t)(size - used), (off_t)(at + used));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return problem_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return problem_set(why, -EBADMSG, "%s ended while it was read", path);
        used += (uint64_t)got;
    }
    return 0;
}

static int read_member(const struct source *source, uint64_t id, const struct tar_part *member, void *to, struct problem *why)
{
    const struct tar_index *index = &source->index;
    const uint64_t number = tar_index_shard(index, id);
    const char *path = tar_index_path(index, number);
    struct lent lent;
    int rc = descriptors_take(source->descriptors, number, path, &lent, why);
    if (rc < 0)
        return rc;
    rc = check_shard(lent.fd, path, &index->shards[number], why);
    const bool same = rc == 0;
    if (rc == 0)
        rc = read_at(lent.fd, path, to, member->size, (uint64_t)member->block * TAR_BLOCK, why);
    descriptors_give(source->descriptors, &lent, same);
    return rc;
}

static bool tar_place(const struct source *source, uint64_t id, uint32_t part, struct source_place *place)
{
    const struct tar_index *index = &source->index;
    const struct tar_part *member;
    if (source->fields.v[part].value != TAR_BYTES || tar_fields_find(&source->fields.v[part], index, id, &member, NULL) < 0)
        return false;
    const struct tar_shard *shard = &index->shards[tar_index_shard(index, id)];
    place->fd = -1;
    place->whole = false;
    place->offset = (uint64_t)member->block * TAR_BLOCK;
    place->size = member->size;
    place->head = part == source->head_part ? &source->index.heads[id] : NULL;
    place->file_size = shard->size;
    place->file_mtime_ns = shard->mtime_ns;
    snprintf(place->path, sizeof place->path, "%s", tar_index_path(index, tar_index_shard(index, id)));
    return true;
}

static int tar_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                    struct sample_value *out, struct problem *why)
{
    const struct tar_field *field = &source->fields.v[part];
    const struct tar_part *member;
    struct sample_value value;
    size_t needed;
    int rc = tar_fields_find(field, &source->index, id, &member, why);
    if (rc == 0)
        rc = tar_fields_fits(field, member->size, why);
    if (rc < 0)
        return rc;
    const size_t place = tar_fields_place(field, member->size, &needed);
    if (needed > buffer_size)
        return problem_set(why, -EINVAL, "sample %llu does not fit", (unsigned long long)id);
    rc = read_member(source, id, member, (char *)buffer + place, why);
    if (rc == 0)
        rc = tar_fields_make(field, buffer, member->size, &value, why);
    if (rc < 0)
        return rc;
    value.part = &source->fields.parts[part];
    value.head = part == source->head_part ? &source->index.heads[id] : NULL;
    *out = value;
    return 0;
}

/* Shards by their names alone: where they are kept does not matter. */
static int tar_print(const struct source *source, struct digest *digest, struct problem *why)
{
    const struct tar_index *index = &source->index;
    (void)why;
    for (uint64_t i = 0; i < index->n_shards; i++) {
        const char *path = tar_index_path(index, i), *slash = strrchr(path, '/');
        digest_text(digest, slash ? slash + 1 : path);
        digest_number(digest, index->shards[i].size);
        digest_number(digest, index->shards[i].samples);
    }
    digest_number(digest, index->keys.size);
    digest_add(digest, index->keys.text, index->keys.size);
    for (uint64_t m = 0; m < index->n_members; m++) {
        const struct tar_part *member = &index->members[m];
        const uint64_t place[] = { member->block, (uint64_t)member->size << 4 | member->state };
        digest_add(digest, place, sizeof place);
        digest_text(digest, tar_index_text(index, member->extension));
    }
    return 0;
}

static int tar_save(struct source *source, struct problem *why)
{
    return tar_index_update(&source->index, why);
}

const struct source_ops source_tar = {
    .name = "tar",
    .help = "WebDataset's tar shards; each field names by 'from' the extension of the member that it is made of",
    .settings = settings,
    .params_size = sizeof(struct tar_params),
    .open = tar_open,
    .close = tar_close,
    .count = tar_count,
    .parts = tar_parts,
    .part_of = tar_part_of,
    .max_bytes = tar_max_bytes,
    .bytes = tar_bytes,
    .read = tar_read,
    .where = tar_where,
    .place = tar_place,
    .path = tar_path,
    .print = tar_print,
    .save = tar_save,
};
