/* SPDX-License-Identifier: MIT */
/* See choose.h. */
#include "choose.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "choose_lines.h"
#include "source/file.h"
#include "split.h"

/* Which of two that read as much at a time mixes better: pfeed-order(7) has figures. */
#define BLOCK_AUTO  256
#define WINDOW_AUTO 64
#define LABEL       "label"
#define CLASSES_MAX 65536 /* labels up to here are watched for classes that a part has not */
#define SUM_BITS    62    /* the sum of all weights stays within */

struct chooser {
    const struct choose_env *env;
    const struct config_feed *config;
    uint64_t samples; /* of the source */
    uint64_t *ids;    /* NULL: all */
    uint64_t n;
    uint64_t asked;
    void *buffer; /* of the source's values */
    struct problem *odd, *why;
};

static int no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the samples that take part");
}

static int stopped(struct problem *why)
{
    return problem_set(why, -ECANCELED, "choosing the samples was stopped");
}

static uint64_t id_at(const struct chooser *c, uint64_t i)
{
    return c->ids ? c->ids[i] : i;
}

static void ask(struct chooser *c, const void *what, size_t size)
{
    c->asked = XXH3_64bits_withSeed(what, size, c->asked + 1);
}

static int too_many(const struct chooser *c, const char *what)
{
    return problem_set(c->why, -ENOMEM, "the %s of %llu samples do not fit into the %llu MiB of `daemon: memory`; raise it", what,
                       (unsigned long long)c->n, (unsigned long long)(c->env->progress->most_bytes >> 20));
}

/* ---- values of the source ------------------------------------------------------------------------------------------- */

/* A part of one number each. */
static int find_number(struct chooser *c, const char *name, const char *key, uint32_t *out)
{
    const struct sample_part *parts;
    const uint32_t n = c->config->source->parts(c->env->source, &parts);

    for (uint32_t p = 0; p < n; p++)
        if (strcmp(parts[p].name, name) == 0 && parts[p].kind == PART_VALUES && parts[p].ndim == 0) {
            *out = p;
            c->buffer = c->buffer ? c->buffer : malloc(c->config->source->max_bytes(c->env->source) + 1);
            return c->buffer ? 0 : no_memory(c->why);
        }
    return problem_about(c->why, key, -1,
                         problem_set(c->why, -EINVAL,
                                     "'%s' needs a part '%.60s' of one number a sample, and source '%s' has none", key, name,
                                     c->config->source->name));
}

static int read_number(struct chooser *c, uint64_t id, uint32_t part, double *out)
{
    struct sample_value value = { .data = NULL };
    int64_t whole;
    float single;
    int rc = c->config->source->read(c->env->source, id, part, c->buffer, c->config->source->max_bytes(c->env->source), &value,
                                     c->why);

    if (rc < 0)
        return rc;
    switch (value.part->dtype) {
    case DTYPE_I64:
        memcpy(&whole, value.data, sizeof(whole));
        *out = (double)whole;
        return 0;
    case DTYPE_F64:
        memcpy(out, value.data, sizeof(*out));
        return 0;
    case DTYPE_F32:
        memcpy(&single, value.data, sizeof(single));
        *out = single;
        return 0;
    default:
        return problem_set(c->why, -EINVAL, "the part '%s' is %s; it must be int64, float32 or float64", value.part->name,
                           dtype_table[value.part->dtype].name);
    }
}

/* ---- the subset ----------------------------------------------------------------------------------------------------- */

static int take_subset(struct chooser *c)
{
    uint64_t limit = c->env->progress ? c->env->progress->most_bytes : 0;
    int rc = choose_read_ids(c->config->subset, c->samples, limit, &c->ids, &c->n, c->why);

    if (rc == 0)
        ask(c, c->ids, c->n * sizeof(*c->ids));
    return problem_about(c->why, "subset", -1, rc);
}

/* ---- the split ------------------------------------------------------------------------------------------------------ */

struct splitting {
    double ends[SPLIT_PARTS];
    uint32_t part; /* ours */
    struct split_group group;
    bool stratify;
    uint32_t label; /* part of the source */
    const char *const *classes;
    uint32_t n_classes;
    uint8_t *watched;        /* by label: 1: has a sample, 2: has one in our part */
    uint64_t n_groupless;    /* whose path the expression does not match */
    char groupless[256];     /* the first of them */
    char text[2 * PATH_MAX]; /* what is hashed */
};

static void ask_split(struct chooser *c, const struct splitting *s)
{
    const struct config_split *split = &c->config->split;
    const double bounds[] = { s->part ? s->ends[s->part - 1] : 0, s->ends[s->part] };

    ask(c, bounds, sizeof(bounds));
    ask(c, &split->key, sizeof(split->key));
    ask(c, &split->stratify, sizeof(split->stratify));
    ask(c, split->group ? split->group : "", split->group ? strlen(split->group) : 0);
}

static int begin_split(struct chooser *c, struct splitting *s)
{
    const struct config_split *split = &c->config->split;
    int rc = split_ends(s->ends, split->shares, split->n_parts);

    s->part = split->part_index;
    s->stratify = split->stratify == CONFIG_STRATIFY_CLASS;
    if (rc == 0)
        rc = split_group_init(&s->group, split->group, c->why);
    if (rc < 0 || !s->stratify)
        return rc;
    rc = find_number(c, LABEL, "stratify", &s->label);
    if (rc < 0)
        return rc;
    if (c->config->source->classes)
        s->n_classes = c->config->source->classes(c->env->source, &s->classes);
    s->watched = calloc(CLASSES_MAX, 1);
    return s->watched ? 0 : no_memory(c->why);
}

static void name_class(const struct splitting *s, int64_t label, char *text, size_t size)
{
    if (label >= 0 && label < s->n_classes)
        snprintf(text, size, "%s", s->classes[label]);
    else
        snprintf(text, size, "%lld", (long long)label);
}

/* 1: the sample is of our part; 0: it is not. */
static int is_ours(struct chooser *c, struct splitting *s, uint64_t id)
{
    const struct config_split *split = &c->config->split;
    char path[PATH_MAX];
    const char *grouped;
    size_t size, at = 0;
    double label = -1;
    bool ours;
    int rc;

    c->config->source->path(c->env->source, id, path, sizeof(path));
    rc = split_group_of(&s->group, path, &grouped, &size);
    if (rc == -ENOENT) {
        if (s->n_groupless++ == 0)
            snprintf(s->groupless, sizeof(s->groupless), "%.255s", path);
        return 0;
    }
    if (rc < 0)
        return no_memory(c->why);
    if (s->stratify) {
        rc = read_number(c, id, s->label, &label);
        if (rc < 0)
            return problem_about(c->why, "stratify", -1, rc);
        name_class(s, (int64_t)label, s->text, PATH_MAX);
        at = strlen(s->text) + 1; /* its zero byte parts the two */
    }
    memcpy(s->text + at, grouped, size);
    ours = split_part(split_hash((uint64_t)split->key, s->text, at + size), s->ends, split->n_parts) == s->part;
    if (label >= 0 && label < CLASSES_MAX)
        s->watched[(int)label] |= ours ? 3 : 1;
    return ours;
}

static void find_odd_class(const struct chooser *c, const struct splitting *s)
{
    uint64_t n = 0;
    int first = -1;
    char name[120];

    for (int label = 0; label < CLASSES_MAX; label++) {
        n += s->watched[label] == 1;
        first = first < 0 && s->watched[label] == 1 ? label : first;
    }
    if (n == 0)
        return;
    name_class(s, first, name, sizeof(name));
    problem_set(c->odd, 0, "the part '%s' has no sample of %llu classes, first '%s'; give it a larger share, or another 'key'",
                c->config->split.part, (unsigned long long)n, name);
    c->odd->key = "stratify";
}

static int sort_out(struct chooser *c, struct splitting *s, uint64_t **out, uint64_t *n)
{
    uint64_t *kept = NULL, room = 0, *grown;

    for (uint64_t i = 0; i < c->n; i++) {
        int ours = is_ours(c, s, id_at(c, i));

        if (ours < 0)
            return ours;
        if (!ours)
            continue;
        grown = file_grown(kept, *n, &room, sizeof(*kept));
        kept = *out = grown ? grown : kept;
        if (!grown)
            return no_memory(c->why);
        if (source_too_large(c->env->progress, room * sizeof(*kept)))
            return too_many(c, "ids");
        kept[(*n)++] = id_at(c, i);
        if (source_stopping(c->env->progress))
            return stopped(c->why);
    }
    if (s->n_groupless)
        return problem_about(c->why, "group", -1,
                             problem_set(c->why, -EINVAL,
                                         "'group' matches the paths of all but %llu of %llu samples, first %s; let it match all",
                                         (unsigned long long)s->n_groupless, (unsigned long long)c->n, s->groupless));
    if (*n == 0)
        return problem_about(c->why, "part", -1,
                             problem_set(c->why, -EINVAL, "none of %llu samples is in the part '%s'; give it a larger share",
                                         (unsigned long long)c->n, c->config->split.part));
    return 0;
}

static int take_part(struct chooser *c)
{
    struct splitting *s = calloc(1, sizeof(*s));
    uint64_t *kept = NULL, n = 0;
    int rc = s ? begin_split(c, s) : no_memory(c->why);

    if (rc == 0)
        ask_split(c, s);
    if (rc == 0)
        rc = sort_out(c, s, &kept, &n);
    if (rc == 0 && s->stratify)
        find_odd_class(c, s);
    if (rc == 0) {
        free(c->ids);
        c->ids = kept;
        c->n = n;
    } else {
        free(kept);
    }
    if (s) {
        split_group_fini(&s->group);
        free(s->watched);
    }
    free(s);
    return rc;
}

/* ---- weights -------------------------------------------------------------------------------------------------------- */

/* One a member, from the file or the source's part. */
static int read_weights(struct chooser *c, double *weights)
{
    const struct config_feed *config = c->config;
    const uint64_t limit = c->env->progress ? c->env->progress->most_bytes : 0;
    uint32_t part = 0;
    double *all = NULL;
    int rc;

    if (config->weights)
        rc = problem_about(c->why, "weights", -1, choose_read_weights(config->weights, c->samples, limit, &all, c->why));
    else
        rc = find_number(c, config->weights_from, "weights_from", &part);
    for (uint64_t i = 0; i < c->n && rc == 0; i++) {
        if (all)
            weights[i] = all[id_at(c, i)];
        else
            rc = problem_about(c->why, "weights_from", -1, read_number(c, id_at(c, i), part, &weights[i]));
        if (rc == 0 && !all && (!isfinite(weights[i]) || weights[i] < 0))
            rc = problem_about(c->why, "weights_from", -1,
                               problem_set(c->why, -EINVAL, "the weight of sample %llu is %g; it must be 0 or more",
                                           (unsigned long long)id_at(c, i), weights[i]));
        if (rc == 0 && source_stopping(c->env->progress))
            rc = stopped(c->why);
    }
    free(all);
    return rc;
}

/* As whole numbers, the largest of so many bits that the sum of all has SUM_BITS; who has any weight keeps some. */
static void sum_up(const double *weights, uint64_t n, double most, uint64_t *sums)
{
    const int bits = SUM_BITS - (n > 1 ? 64 - __builtin_clzll(n - 1) : 0);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        const uint64_t whole = (uint64_t)floor(ldexp(weights[i] / most, bits) + 0.5);

        sum += whole || weights[i] <= 0 ? whole : 1;
        sums[i] = sum;
    }
}

static int weigh(struct chooser *c, struct order_params *params)
{
    const char *key = c->config->weights ? "weights" : "weights_from";
    double most = 0, *weights = NULL;
    int rc = 0;

    params->length = c->config->length ? (uint64_t)c->config->length : c->n;
    if (params->length > UINT32_MAX / params->repeat)
        return problem_about(c->why, c->config->length ? "length" : key, -1,
                             problem_set(c->why, -ERANGE,
                                         "%llu draws, %u times each, are more than an epoch may have; give a 'length' up to %u",
                                         (unsigned long long)params->length, params->repeat, UINT32_MAX / params->repeat));
    if (source_too_large(c->env->progress, 2 * c->n * sizeof(double)))
        return too_many(c, "weights");
    weights = malloc(c->n * sizeof(*weights));
    params->sums = malloc(c->n * sizeof(*params->sums));
    if (!weights || !params->sums)
        rc = no_memory(c->why);
    if (rc == 0)
        rc = read_weights(c, weights);
    for (uint64_t i = 0; i < c->n && rc == 0; i++)
        most = fmax(most, weights[i]);
    if (rc == 0 && most <= 0)
        rc = problem_about(c->why, key, -1,
                           problem_set(c->why, -EINVAL, "all weights of the %llu samples are 0; give one of them more",
                                       (unsigned long long)c->n));
    if (rc == 0) {
        ask(c, weights, c->n * sizeof(*weights));
        sum_up(weights, c->n, most, params->sums);
    }
    free(weights);
    return rc;
}

/* ---- all ------------------------------------------------------------------------------------------------------------ */

/* The ids in as few bytes as they need. */
static int pack(struct chooser *c, struct order_params *params)
{
    if (!c->ids)
        return 0;
    if (c->samples > UINT32_MAX) {
        void *cut = realloc(c->ids, c->n * sizeof(*c->ids));

        params->wide_ids = cut ? cut : c->ids;
        c->ids = NULL;
        return 0;
    }
    params->ids = malloc(c->n * sizeof(*params->ids));
    if (!params->ids)
        return no_memory(c->why);
    for (uint64_t i = 0; i < c->n; i++)
        params->ids[i] = (uint32_t)c->ids[i];
    return 0;
}

int choose(struct order_params *out, const struct choose_env *env, struct problem *odd, struct problem *why)
{
    const struct config_feed *config = env->config;
    const uint64_t samples = config->source->count(env->source);
    struct chooser c = { .env = env, .config = config, .samples = samples, .n = samples, .odd = odd, .why = why };
    struct order_params params = { .mode = (enum shuffle_mode)config->shuffle, .repeat = (uint32_t)config->repeat };
    int rc = 0;

    odd->text[0] = 0;
    if (params.mode == SHUFFLE_BLOCK) {
        params.block = config->block ? (uint64_t)config->block : BLOCK_AUTO;
        params.window = config->window ? (uint64_t)config->window : WINDOW_AUTO;
    }
    if (config->subset)
        rc = take_subset(&c);
    if (rc == 0 && config->split.given)
        rc = take_part(&c);
    if (rc == 0 && params.mode == SHUFFLE_WEIGHTED)
        rc = weigh(&c, &params);
    if (rc == 0)
        rc = pack(&c, &params);
    free(c.ids);
    free(c.buffer);
    if (rc < 0) {
        choose_free(&params);
        return rc;
    }
    params.n = c.n;
    params.asked = c.asked;
    *out = params;
    return 0;
}

void choose_free(struct order_params *params)
{
    free(params->ids);
    free(params->wide_ids);
    free(params->sums);
    params->ids = NULL;
    params->wide_ids = params->sums = NULL;
}

uint64_t choose_bytes(const struct order_params *params)
{
    return params->n * ((params->ids ? sizeof(*params->ids) : 0) + (params->wide_ids ? sizeof(*params->wide_ids) : 0) +
                        (params->sums ? sizeof(*params->sums) : 0));
}
