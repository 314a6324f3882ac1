/* SPDX-License-Identifier: MIT */
/* From the configuration's feeds to feeds with open sources: what of a recipe can only be judged with the data before us. Called
 * by reload_change.c, at start and later on the thread of chores, and for --check. Goes on after an error, so that one run shows
 * all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/caches.h"
#include "choose.h"
#include "config_table.h"
#include "decode/decode.h"
#include "deliver/deliver.h"
#include "feed.h"
#include "print.h"
#include "reach.h"

/* All feeds of a configuration while they are opened; one may need the classes of another. */
struct opening {
    const struct feeds_env *env;
    struct config *config;
    struct feed **feeds;
    bool *begun; /* one a feed */
};

static struct config_mark mark_or(struct config_mark mark, const struct config_mark *otherwise)
{
    return mark.line ? mark : *otherwise;
}

/* Where a source's problem was written: its key, or that of the field that asked; else the source's first setting. */
static struct config_mark blame(const struct config_feed *feed, const struct problem *why)
{
    const struct setting *rows = feed->source->settings;
    struct config_mark mark;

    if (why->want >= 0) {
        const struct config_field *field = &feed->fields[why->want];

        return mark_or(config_mark_of(config_field_table, field->marks, why->key), &field->mark);
    }
    mark = config_mark_of(rows, feed->source_marks, why->key ? why->key : rows->name);
    if (!mark.line && why->key)
        mark = config_mark_of(config_source_table, feed->source_type_marks, why->key);
    return mark_or(mark, &feed->source_mark);
}

/* ---- fields --------------------------------------------------------------------------------------------------------- */

/* Fields first, each on a line of its own, then what every row has. */
static void lay_out(struct feed *feed)
{
    uint64_t at = 0;

    for (uint32_t f = 0; f < feed->n_fields; f++) {
        feed->field_offsets[f] = at;
        at += feed_round_up((uint64_t)feed->batch * feed->fields[f].row_bytes, PF_LINE);
    }
    feed->ids_offset = at;
    at += feed_round_up((uint64_t)feed->batch * sizeof(uint64_t), PF_LINE);
    feed->used_ids_offset = at;
    at += feed_round_up((uint64_t)feed->batch * sizeof(uint64_t), PF_LINE);
    feed->flags_offset = at;
    at += feed->batch;
    feed->slot_bytes = feed_round_up(at, PF_PAGE);
}

/* number: of the field, and of what it wants. */
static int find_part(struct feed *feed, uint32_t n_parts, uint32_t number, struct field *field, struct problem *why)
{
    const struct source_ops *source = feed->config->source;
    char names[256] = "";
    struct nearest nearest;

    if (source->part_of) {
        field->part = source->part_of(feed->source, number);
        return 0;
    }
    if (feed->config->fields[number].key)
        return problem_about(why, "key", -1,
                             problem_set(why, -EINVAL, "source '%s' has no parts with a 'key'; remove it", source->name));
    nearest_init(&nearest, field->from);
    for (uint32_t p = 0; p < n_parts; p++) {
        size_t at = strlen(names);

        if (strcmp(feed->parts[p].name, field->from) == 0) {
            field->part = p;
            return 0;
        }
        nearest_offer(&nearest, feed->parts[p].name);
        snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "", feed->parts[p].name);
    }
    if (nearest.best)
        problem_set(why, -EINVAL, "source '%s' has no part '%s'; did you mean 'from: %s'?", source->name, field->from,
                    nearest.best);
    else
        problem_set(why, -EINVAL, "source '%s' has no part '%s'; name one by 'from', it has: %s", source->name, field->from,
                    names);
    return problem_about(why, "from", -1, -EINVAL);
}

static void prepare_fields(struct opening *opening, struct feed *feed)
{
    uint32_t n_parts = feed->config->source->parts(feed->source, &feed->parts);

    feed->n_fields = feed->config->n_fields;
    feed->fields = calloc(feed->n_fields + 1, sizeof(*feed->fields));
    if (!feed->fields) {
        opening->config->no_memory = true;
        return;
    }
    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct config_field *from = &feed->config->fields[f];
        struct field *field = &feed->fields[f];
        struct problem why;
        struct config_mark mark;
        int rc;

        if (from->bad)
            continue;
        *field = from->field;
        field->std[0] = field->std[1] = field->std[2] = 1;
        rc = find_part(feed, n_parts, f, field, &why);
        if (rc == 0)
            rc = field->decode->prepare(field, &feed->parts[field->part], &why);
        if (rc == 0 && field->decode->reduce && feed->config->cache.reduces)
            field->side = (int32_t)feed->config->cache.side;
        if (rc == 0)
            continue;
        mark = config_mark_of(config_field_table, from->marks, why.key ? why.key : "decode");
        mark = mark_or(mark, &from->mark);
        config_error(opening->config, &mark, "field '%s': %s", field->name, why.text);
    }
}

/* ---- the source ----------------------------------------------------------------------------------------------------- */

static int find_classes(struct opening *opening, const struct config_feed *config, struct source_env *env, struct problem *why)
{
    const struct config_feed *other = config_feed_find(opening->config, config->classes_of);
    const struct feed *feed = opening->feeds[other - opening->config->feeds];
    const char *const *names = NULL;

    if (!feed || !feed->source)
        return problem_set(why, -ECANCELED, "feed '%s', which numbers the classes, cannot be opened", other->name);
    env->n_classes = other->source->classes(feed->source, &names);
    env->classes = names;
    if (env->n_classes == 0)
        return problem_about(
            why, "classes_of", -1,
            problem_set(why, -EINVAL, "feed '%s' has no classes; remove 'classes_of', or name another", other->name));
    return 0;
}

static bool any_bad_field(const struct config_feed *config)
{
    bool bad = config->n_fields == 0;

    for (uint32_t f = 0; f < config->n_fields; f++)
        bad |= config->fields[f].bad;
    return bad;
}

/* Says which feed is being listed, from 0 samples on. */
static void tell(const struct feeds_env *env, const char *name)
{
    if (env->progress)
        __atomic_store_n(&env->progress->listed, 0, __ATOMIC_RELAXED);
    if (env->listing)
        __atomic_store_n(env->listing, name, __ATOMIC_RELEASE);
}

/* Puts behind the sentence what bars the way to the source's paths, if permissions do. */
static void explain(const struct config_feed *config, struct problem *why)
{
    const struct problem told = *why;
    char text[400];

    for (const struct setting *row = config->source->settings; row->name; row++) {
        const char *const *paths = (const char *const *)((const char *)config->source_params + row->offset);
        struct setting_strings list = { 0 };

        if (row->type == SETTING_PATHS)
            memcpy(&list, paths, sizeof(list));
        for (uint32_t p = 0; p < list.n + (row->type == SETTING_PATH); p++) {
            const char *path = row->type == SETTING_PATH ? *paths : list.v[p];

            if (path && reach_barred(path, text, sizeof(text))) {
                problem_set(why, 0, "%s: %s", told.text, text);
                why->key = told.key;
                why->want = told.want;
                return;
            }
        }
    }
}

static bool rescanned(const struct feeds_env *env, const struct config_feed *config)
{
    return env->rescan && (!*env->rescan || strcmp(env->rescan, config->name) == 0);
}

/* Whether the source is open. */
static bool open_source(struct opening *opening, struct feed *feed)
{
    const struct config_feed *config = feed->config;
    struct source_want wants[PF_FIELDS];
    struct source_env env = { .wants = wants,
                              .n_wants = config->n_fields,
                              .state = opening->env->state,
                              .rescan = rescanned(opening->env, config),
                              .progress = opening->env->progress };
    struct problem why = { .key = NULL, .want = -1 };
    struct config_mark mark;
    int rc = 0;

    for (uint32_t f = 0; f < config->n_fields; f++)
        wants[f] = config->fields[f].want;
    if (config->classes_of)
        rc = find_classes(opening, config, &env, &why);
    tell(opening->env, config->name);
    if (rc == 0)
        rc = config->source->open(&feed->source, config->source_params, &env, &why);
    if (rc == 0)
        return true;
    if (rc == -ECANCELED || (why.want >= 0 && any_bad_field(config)))
        return false; /* it follows from what was said already */
    mark = blame(config, &why);
    explain(config, &why);
    config_error(opening->config, &mark, "feed '%s': %s", config->name, why.text);
    return false;
}

/* ---- feeds ---------------------------------------------------------------------------------------------------------- */

uint32_t feed_least_slots(const struct config_feed *config)
{
    return (uint32_t)config->max_held + 2;
}

/* A slot for each batch that a consumer holds, the one that it takes next and the one that is filled (slot_obtain.c). */
static void check_slots(struct opening *opening, const struct config_feed *config)
{
    struct config_mark mark = config_mark_of(config_feed_table, config->marks, "slots");

    if (config->slots > 0 && config->max_held > 0 && config->slots < feed_least_slots(config))
        config_error(opening->config, &mark,
                     "feed '%s': 'slots' is %lld, too few for 'max_held' %lld; give at least %u or 'auto'", config->name,
                     (long long)config->slots, (long long)config->max_held, feed_least_slots(config));
}

static void no_samples(struct opening *opening, const struct feed *feed)
{
    const struct config_feed *config = feed->config;
    struct problem nothing = { .key = NULL, .want = -1 };
    struct config_mark mark = blame(config, &nothing);
    char known[256] = "";

    for (const struct setting *row = config->source->settings; row->name; row++)
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", *known ? ", " : "", row->name);
    config_error(opening->config, &mark, "feed '%s': source '%s' has no samples; check its settings (%s)", config->name,
                 config->source->name, known);
}

/* Where what choose() blames was written. */
static struct config_mark blame_choice(const struct config_feed *config, const struct problem *why)
{
    struct config_mark mark = { .line = 0 };

    if (why->key && config->split.given)
        mark = config_mark_of(config_split_table, config->split.marks, why->key);
    if (why->key && !mark.line)
        mark = config_mark_of(config_shuffle_table, config->shuffle_marks, why->key);
    if (why->key && !mark.line)
        mark = config_mark_of(config_feed_table, config->marks, why->key);
    return mark_or(mark, &config->mark);
}

/* False: it was told to stop. Where there are none that take part, feed->samples stays 0. */
static bool choose_samples(struct opening *opening, struct feed *feed)
{
    const struct config_feed *config = feed->config;
    const struct choose_env env = { config, feed->source, opening->env->progress };
    struct problem odd = { .key = NULL, .want = -1 }, why = { .key = NULL, .want = -1 };
    struct config_mark mark;
    int rc;

    if (config->source->count(feed->source) == 0) {
        no_samples(opening, feed);
        return true;
    }
    if (config->order_bad)
        return true;
    rc = choose(&feed->order_params, &env, &odd, &why);
    if (rc < 0) {
        mark = blame_choice(config, &why);
        if (rc != -ECANCELED)
            config_error(opening->config, &mark, "feed '%s': %s", config->name, why.text);
        return rc != -ECANCELED;
    }
    feed->samples = order_length(&feed->order_params);
    mark = blame_choice(config, &odd);
    if (*odd.text)
        config_warning(opening->config, &mark, "feed '%s': %s", config->name, odd.text);
    return true;
}

static void check_batch(struct opening *opening, const struct feed *feed)
{
    const struct config_feed *config = feed->config;
    struct config_mark mark;

    if (feed->samples == 0 || config->batch <= 0 || (uint64_t)config->batch <= feed->samples)
        return;
    mark = config_mark_of(config_feed_table, config->marks, "batch");
    if (config->tail == CONFIG_TAIL_DROP)
        config_warning(
            opening->config, &mark,
            "feed '%s': 'batch' is %lld, but there are %llu samples, so that 'tail: drop' leaves nothing, and only jobs "
            "with an options.batch of their own can attach; give at most %llu, or 'tail: pad'",
            config->name, (long long)config->batch, (unsigned long long)feed->samples, (unsigned long long)feed->samples);
    else
        config_warning(opening->config, &mark,
                       "feed '%s': 'batch' is %lld, but there are %llu samples, so that no batch is ever full; %llu would do",
                       config->name, (long long)config->batch, (unsigned long long)feed->samples,
                       (unsigned long long)feed->samples);
}

/* ---- caches --------------------------------------------------------------------------------------------------------- */

static struct config_mark mark_of_cache(const struct config_feed *config, const char *key)
{
    struct config_mark mark = config_mark_of(config_cache_table, config->cache.marks, key ? key : "encoded");

    return mark_or(mark, &config->mark);
}

/* One cache has one size. */
static void compare_caches(struct opening *opening, const struct feed *feed)
{
    for (uint32_t f = 0; f < opening->config->n_feeds; f++) {
        const struct feed *other = opening->feeds[f];
        enum cache_kind kind = CACHE_ENCODED;
        const uint64_t theirs = other && other != feed ? caches_differ(feed, other, &kind) : 0;
        struct config_mark mark = mark_of_cache(feed->config, cache_kind_name(kind));

        if (!theirs)
            continue;
        if (kind == CACHE_DISK && feed->caches->caches[kind] != other->caches->caches[kind]) {
            config_error(opening->config, &mark,
                         "feed '%s': feed '%s' has the same 'disk' for other samples or another recipe; give each its own file",
                         feed->config->name, other->config->name);
            return;
        }
        config_error(
            opening->config, &mark,
            "feed '%s': '%s' has another size (%.1f MiB) than that of feed '%s' (%.1f MiB), and they share one cache, as "
            "they read the same samples; give both the same size",
            feed->config->name, cache_kind_name(kind), caches_mib(feed, kind), other->config->name, caches_mib(other, kind));
        return;
    }
}

/* Whether pictures that are reduced are still large enough for the rows. */
static bool check_side(struct opening *opening, const struct feed *feed)
{
    const struct config_cache *cache = &feed->config->cache;
    const struct config_mark whole = mark_of_cache(feed->config, "decoded");
    const struct config_mark mark = mark_or(config_mark_of(config_decoded_table, cache->decoded_marks, "side"), &whole);
    bool any = false;

    for (uint32_t f = 0; f < feed->n_fields && cache->reduces; f++) {
        const struct field *field = &feed->fields[f];
        const int64_t *sides = field->shape + (field->ndim == 3 && field->layout == LAYOUT_CHW ? 1 : 0);

        any |= field->side > 0;
        if (field->side > 0 && (sides[0] > field->side || sides[1] > field->side))
            config_error(
                opening->config, &mark,
                "feed '%s': pictures would be reduced to a shorter side of %d and then enlarged again, as the rows of field "
                "'%s' have %lld x %lld; give a 'side' of at least %lld",
                feed->config->name, field->side, field->name, (long long)sides[1], (long long)sides[0],
                (long long)(sides[0] > sides[1] ? sides[0] : sides[1]));
    }
    if (cache->reduces && !any)
        config_error(opening->config, &whole, "feed '%s': 'decoded' keeps pictures, and no field is one; remove it",
                     feed->config->name);
    return any || !cache->reduces;
}

static void declare_caches(struct opening *opening, struct feed *feed)
{
    struct problem why = { .key = NULL, .want = -1 };
    struct config_mark mark;

    if (!feed->fields || feed->config->bad)
        return;
    if (!check_side(opening, feed))
        return;
    if (caches_declare(feed, &why) < 0) {
        mark = mark_of_cache(feed->config, why.key);
        config_error(opening->config, &mark, "feed '%s': '%s': %s", feed->config->name, why.key ? why.key : "cache", why.text);
    } else {
        compare_caches(opening, feed);
    }
}

static struct feed *create(struct config *owner, const struct config_feed *config)
{
    struct feed *feed = aligned_alloc(PF_LINE, sizeof(*feed));

    if (!feed)
        return NULL;
    memset(feed, 0, sizeof(*feed));
    feed->owner = config_ref(owner);
    feed->config = config;
    feed->segment.fd = feed->segment.reader = -1;
    pthread_mutex_init(&feed->lock, NULL);
    for (const struct deliver_ops *const *d = deliver_kinds; *d; d++)
        if (config->deliver && strcmp((*d)->name, config->deliver) == 0)
            feed->deliver = *d;
    return feed;
}

/* Only of a feed in which nothing is wrong: of another the parts may be missing. */
static void take_prints(struct opening *opening, struct feed *feed)
{
    struct problem why = { .key = NULL, .want = -1 };
    struct config_mark mark;

    if (feed->config->bad)
        return;
    opening->config->no_memory |= print_config(feed->config, &feed->prints) < 0;
    print_chosen(feed, &feed->prints);
    if (print_data(feed, &feed->prints, &why) == 0)
        return;
    mark = blame(feed->config, &why);
    config_error(opening->config, &mark, "feed '%s': %s", feed->config->name, why.text);
}

static void open_one(struct opening *opening, uint32_t index)
{
    const struct config_feed *config = &opening->config->feeds[index], *other = NULL;
    struct feed *feed;

    if (opening->begun[index] || opening->feeds[index])
        return;
    opening->begun[index] = true;
    check_slots(opening, config);
    if (config->source_bad)
        return;
    if (config->classes_of) {
        other = config_feed_find(opening->config, config->classes_of);
        open_one(opening, (uint32_t)(other - opening->config->feeds));
    }
    feed = opening->feeds[index] = create(opening->config, config);
    opening->config->no_memory |= !feed;
    if (!feed || !open_source(opening, feed))
        return;
    if (!choose_samples(opening, feed))
        return;
    feed->batch = (uint32_t)config->batch;
    feed->max_bytes = config->source->max_bytes(feed->source);
    check_batch(opening, feed);
    prepare_fields(opening, feed);
    if (feed->fields)
        lay_out(feed);
    take_prints(opening, feed);
    declare_caches(opening, feed);
    crash_judge(feed, rescanned(opening->env, config));
}

void feeds_open(const struct feeds_env *env)
{
    struct config *config = env->config;
    struct opening opening = { env, config, env->feeds, calloc(config->n_feeds + 1, sizeof(bool)) };

    config->no_memory |= !opening.begun; /* then what was read may lack parts, too */
    for (uint32_t f = 0; f < config->n_feeds && !config->no_memory; f++)
        open_one(&opening, f);
    tell(env, NULL);
    free(opening.begun);
}
