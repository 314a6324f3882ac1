/* SPDX-License-Identifier: MIT */
/* See tar_fields.h: from the words of the configuration to parts of samples, and which members they are. tar_value.c has the rest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/tar_fields.h"

#define SHOWN 12 /* extensions in a sentence */

/* By the last part of the extension, as WebDataset does: seg.png is a png. */
static enum tar_value value_of(const char *extension)
{
    static const struct {
        const char *word;
        enum tar_value value;
    } kinds[] = {
        { "cls", TAR_NUMBER },      { "cls2", TAR_NUMBER },  { "index", TAR_NUMBER }, { "inx", TAR_NUMBER },
        { "id", TAR_NUMBER },       { "count", TAR_NUMBER }, { "txt", TAR_TEXT },     { "text", TAR_TEXT },
        { "transcript", TAR_TEXT }, { "json", TAR_JSON },    { "jsn", TAR_JSON },
    };
    const char *dot = strrchr(extension, '.'), *last = dot ? dot + 1 : extension;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(last, kinds[i].word) == 0)
            return kinds[i].value;
    return TAR_BYTES;
}

static int cut_words(struct tar_field *field, const struct source_want *want, struct problem *why)
{
    const char *at = want->from;
    snprintf(field->from, sizeof field->from, "%s", want->from);
    for (;;) {
        const size_t length = strcspn(at, ";");
        if (length == 0 || length >= NAME_SIZE)
            return problem_set(why, -EINVAL, "'from' is '%s'; give extensions with ';' between them, such as jpg;jpeg;png",
                               want->from);
        if (field->n == TAR_ALTERNATIVES)
            return problem_set(why, -EINVAL, "'from' has more than %d alternatives", TAR_ALTERNATIVES);
        for (size_t i = 0; i < length; i++)
            field->words[field->n][i] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] - 'A' + 'a') : at[i];
        field->n++;
        if (!at[length])
            break;
        at += length + 1;
    }
    field->value = value_of(field->words[0]);
    for (uint32_t i = 1; i < field->n; i++)
        if (value_of(field->words[i]) != field->value)
            return problem_set(why, -EINVAL,
                               "'%s' and '%s' are of different kinds; let the alternatives be all pictures, or all "
                               "numbers, texts or json",
                               field->words[0], field->words[i]);
    return 0;
}

static bool is_float(enum dtype dtype)
{
    return dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F32 || dtype == DTYPE_F64;
}

static int no_dtype(const char *from, struct problem *why)
{
    return problem_about(
        why, "dtype", 0,
        problem_set(why, -EINVAL,
                    "a field that reads '%s' does not say what of; give 'dtype: int64' or 'float32' for a number, or 'shape', "
                    "such as [256], for that many bytes of text",
                    from));
}

/* What numbers the values are. */
static int make_part(struct tar_field *field, const struct source_want *want, struct problem *why)
{
    struct sample_part *part = &field->part;
    part->kind = field->value == TAR_BYTES ? PART_ENCODED : PART_VALUES;
    /* Bytes are called by what they are, as caches are shared by that; numbers as the field is, for `stratify` and weights. */
    snprintf(part->name, sizeof part->name, "%s", field->value == TAR_BYTES || !want->name ? want->from : want->name);
    if (field->value == TAR_BYTES)
        return 0;
    part->dtype = is_float(want->dtype) ? DTYPE_F64 : DTYPE_I64;
    part->ndim = want->ndim;
    memcpy(part->shape, want->shape, sizeof part->shape);
    if (field->value == TAR_NUMBER && want->ndim)
        return problem_about(why, "shape", 0,
                             problem_set(why, -EINVAL, "'%s' is one number a sample; remove 'shape'", want->from));
    if (field->value == TAR_NUMBER)
        part->dtype = DTYPE_I64;
    else if (want->ndim == 0 && want->dtype == DTYPES)
        return no_dtype(want->from, why);
    if (field->value == TAR_TEXT && want->ndim > 1)
        return problem_about(why, "shape", 0,
                             problem_set(why, -EINVAL,
                                         "'%s' is a text; give one number as its 'shape', such as "
                                         "[256]",
                                         want->from));
    if (field->value == TAR_TEXT && want->ndim == 0)
        field->value = TAR_NUMBER;
    else if (field->value == TAR_TEXT ||
             (field->value == TAR_JSON && want->ndim == 1 && (want->dtype == DTYPE_U8 || want->dtype == DTYPES)))
        part->dtype = DTYPE_U8;
    return 0;
}

static int make_key(struct tar_field *field, const struct source_want *want, struct problem *why)
{
    if (field->value != TAR_JSON)
        return want->key ? problem_about(why, "key", 0,
                                         problem_set(why, -EINVAL, "'key' is for json, and '%s' is none; remove it", want->from))
                         : 0;
    if (!want->key)
        return problem_about(why, "key", 0,
                             problem_set(why, -EINVAL,
                                         "a field that reads '%s' has no 'key'; name the value in it, such as 'label' or 'box.0'",
                                         want->from));
    return problem_about(why, "key", 0, tar_json_key(&field->key, want->key, why));
}

static int make_field(struct tar_field *field, const struct source_want *want, uint32_t number, struct problem *why)
{
    field->want = number;
    int rc = problem_about(why, "from", 0, cut_words(field, want, why));
    if (rc == 0)
        rc = make_key(field, want, why);
    if (rc == 0)
        rc = make_part(field, want, why);
    if (rc < 0 && why)
        why->want = (int)number;
    return rc;
}

static bool is_same(const struct source_want *left, const struct source_want *right)
{
    return strcmp(left->from, right->from) == 0 && strcmp(left->key ? left->key : "", right->key ? right->key : "") == 0 &&
           left->dtype == right->dtype && left->ndim == right->ndim &&
           memcmp(left->shape, right->shape, left->ndim * sizeof *left->shape) == 0;
}

int tar_fields_init(struct tar_fields *fields, const struct source_env *env, struct problem *why)
{
    fields->v = calloc(env->n_wants + 1, sizeof *fields->v);
    fields->parts = calloc(env->n_wants + 1, sizeof *fields->parts);
    fields->of = calloc(env->n_wants + 1, sizeof *fields->of);
    if (!fields->v || !fields->parts || !fields->of)
        return problem_set(why, -ENOMEM, "out of memory for %u fields", env->n_wants);
    for (uint32_t w = 0; w < env->n_wants; w++) {
        uint32_t at = 0;
        while (at < fields->n && !is_same(&env->wants[fields->v[at].want], &env->wants[w]))
            at++;
        fields->of[fields->n_wants++] = at;
        if (at < fields->n)
            continue;
        int rc = make_field(&fields->v[at], &env->wants[w], w, why);
        if (rc < 0)
            return rc;
        fields->parts[fields->n++] = fields->v[at].part;
    }
    return 0;
}

void tar_fields_fini(struct tar_fields *fields)
{
    free(fields->v);
    free(fields->parts);
    free(fields->of);
    *fields = (struct tar_fields){ .n = 0 };
}

/* --- with the samples ----------------------------------------------------------------------------------------------------- */

static const struct tar_part *find(const struct tar_field *field, const struct tar_part *members, uint64_t n, uint32_t *word)
{
    for (uint32_t w = 0; w < field->n; w++)
        for (uint64_t m = 0; m < n && field->known[w]; m++)
            if (members[m].extension == field->extensions[w]) {
                *word = w;
                return &members[m];
            }
    return NULL;
}

/* Which extensions there are, each once, the first ones in `seen`; and where the field's are. */
static uint32_t find_extensions(struct tar_fields *fields, const struct tar_index *index, uint64_t seen[SHOWN])
{
    uint32_t n = 0;
    for (uint64_t m = 0; m < index->n_members; m++) {
        const uint64_t at = index->members[m].extension;
        bool old = false;
        for (uint32_t i = 0; i < n && !old; i++)
            old = seen[i] == at;
        if (old)
            continue;
        const char *word = tar_index_text(index, at);
        for (uint32_t f = 0; f < fields->n; f++)
            for (uint32_t w = 0; w < fields->v[f].n; w++)
                if (strcmp(fields->v[f].words[w], word) == 0) {
                    fields->v[f].extensions[w] = at;
                    fields->v[f].known[w] = true;
                }
        if (n < SHOWN)
            seen[n++] = at;
    }
    return n;
}

static int nobody_has(const struct tar_field *field, const struct tar_index *index, const uint64_t *seen, uint32_t n_seen,
                      const char *name, struct problem *why)
{
    struct nearest nearest;
    char list[256] = "";
    nearest_init(&nearest, field->words[0]);
    for (uint32_t i = 0; i < n_seen; i++) {
        const char *word = tar_index_text(index, seen[i]);
        nearest_offer(&nearest, word);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.40s", *list ? ", " : "", word);
    }
    if (nearest.best)
        problem_set(why, -EINVAL, "no sample of %.150s has a member '%s'; did you mean '%.40s'? There are: %s", name, field->from,
                    nearest.best, list);
    else
        problem_set(why, -EINVAL, "no sample of %.150s has a member '%s'; there are: %s", name, field->from, list);
    return problem_about(why, "from", (int)field->want, -EINVAL);
}

static void warn_lacking(const struct tar_field *field, const struct tar_index *index, uint64_t lacking, uint64_t first,
                         const char *name)
{
    const uint64_t shard = tar_index_shard(index, first);
    log_warn("%s: %llu of %llu samples have no member '%s', first %s!%s%s", name, (unsigned long long)lacking,
             (unsigned long long)index->n, field->from, tar_index_path(index, shard), tar_index_key(index, first),
             lacking >= index->n / 2 ? "; the members of a sample must lie one after the other, as tar --sort=name writes them"
                                     : "");
}

int tar_fields_match(struct tar_fields *fields, const struct tar_index *index, const char *name, struct problem *why)
{
    uint64_t seen[SHOWN];
    const uint32_t n_seen = find_extensions(fields, index, seen);
    for (uint32_t f = 0; f < fields->n; f++) {
        struct tar_field *field = &fields->v[f];
        uint64_t lacking = 0, first = 0, lost = 0;
        uint32_t word;
        for (uint64_t id = 0; id < index->n; id++) {
            uint64_t n;
            const struct tar_part *members = tar_index_members(index, id, &n), *member = find(field, members, n, &word);
            if (member && member->state == TAR_WHOLE && member->size > field->max_bytes)
                field->max_bytes = member->size;
            lost += n == 0;
            if (!member && n && lacking++ == 0)
                first = id;
        }
        if (index->n && lacking == index->n - lost)
            return nobody_has(field, index, seen, n_seen, name, why);
        if (lacking)
            warn_lacking(field, index, lacking, first, name);
    }
    return 0;
}

static int lacks(const struct tar_field *field, const struct tar_index *index, const struct tar_part *members, uint64_t n,
                 struct problem *why)
{
    char list[200] = "";
    for (uint64_t m = 0; m < n && m < SHOWN; m++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.40s", m ? ", " : "",
                 tar_index_text(index, members[m].extension));
    return problem_set(why, -ENOENT, "there is no member '%s'; it has: %s", field->from, list);
}

int tar_fields_find(const struct tar_field *field, const struct tar_index *index, uint64_t id, const struct tar_part **out,
                    struct problem *why)
{
    static const char *const states[] = {
        [TAR_IS_LINK] = "is a link, which has no bytes of its own; write the shard with tar --hard-dereference --dereference",
        [TAR_IS_SPARSE] = "is a sparse file; write the shard without tar --sparse",
        [TAR_IS_CUT] = "is cut: the shard ends within it",
        [TAR_IS_HUGE] = "has 4 GiB or more",
    };
    uint64_t n;
    uint32_t word, other;
    const struct tar_part *members = tar_index_members(index, id, &n), *member = find(field, members, n, &word);
    const struct tar_shard *shard = &index->shards[tar_index_shard(index, id)];
    if (tar_index_is_lost(index, id))
        return problem_set(why, -EBADMSG, "%s; samples from there on are lost", tar_index_text(index, shard->damage));
    if (!member)
        return lacks(field, index, members, n, why);
    if (find(field, member + 1, n - (uint64_t)(member + 1 - members), &other) && other == word)
        return problem_set(why, -EBADMSG, "there are two members '%s'; write the shard anew, each once", field->words[word]);
    if (member->state != TAR_WHOLE)
        return problem_set(why, -EBADMSG, "its member '%s' %s", field->words[word], states[member->state]);
    *out = member;
    return 0;
}
