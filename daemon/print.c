/* SPDX-License-Identifier: MIT */
/* See print.h. Order and recipe are texts made by walking the tables of settings, so that a new row counts by itself unless it is
 * marked (setting.h); they are hashed, and so are the samples, which each kind of source adds by itself. */
#include "print.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "config_table.h"
#include "decode/decode.h"
#include "source/digest.h"
#include "transform/transform.h"

/* ---- order and recipe ----------------------------------------------------------------------------------------------- */

/* The value as YAML; to be freed, NULL: no memory. */
static char *value_of(const struct setting *row, const void *params)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    setting_print(row, params, to);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* The same of a row's default. */
static char *default_of(const struct setting *row)
{
    const struct setting alone[] = { { .name = row->name,
                                       .type = row->type,
                                       .initial = row->initial,
                                       .min = row->min,
                                       .max = row->max,
                                       .choices = row->choices },
                                     SETTINGS_END };
    union { /* as large as any value */
        struct setting_ints ints;
        struct setting_floats floats;
        struct setting_strings strings;
    } value;
    struct problem why;
    char *text = NULL;

    memset(&value, 0, sizeof(value));
    if (setting_set_default(alone, &value, NULL, &why) == 0)
        text = value_of(alone, &value);
    setting_release(alone, &value);
    return text;
}

/* A line for each plain row that counts here and is not at its default, with what tells it from rows of other tables before it.
 * Sections are the caller's. */
static int put_table(const struct setting *rows, const void *params, enum setting_print print, const char *of, FILE *to)
{
    int rc = 0;

    for (const struct setting *row = rows; row->name && rc == 0; row++) {
        char *value, *initial;

        if (row->print != print || row->type == SETTING_SECTION || row->type == SETTING_LATER)
            continue;
        value = value_of(row, params);
        initial = row->initial ? default_of(row) : NULL;
        if (!value || (row->initial && !initial))
            rc = -ENOMEM;
        else if (!initial || strcmp(value, initial) != 0)
            fprintf(to, "%s%s: %s\n", of, row->name, value);
        free(value);
        free(initial);
    }
    return rc;
}

static int put_field(const struct config_field *field, FILE *to)
{
    const struct field *f = &field->field;
    int rc;

    fprintf(to, "field %s\n", f->name);
    rc = put_table(config_field_table, field, SETTING_COUNTS, "", to);
    if (rc == 0 && fprintf(to, "decode %s\n", f->decode->name) > 0)
        rc = put_table(f->decode->settings, f->decode_params, SETTING_COUNTS, "", to);
    if (f->decode->version)
        fprintf(to, "version %u\n", f->decode->version);
    for (uint32_t t = 0; t < f->n_transforms && rc == 0; t++) {
        fprintf(to, "transform %s\n", f->transforms[t].ops->name);
        rc = put_table(f->transforms[t].ops->settings, f->transforms[t].params, SETTING_COUNTS, "", to);
    }
    return rc;
}

/* What a section of a feed adds to the order; nothing where all of it is at its defaults. */
static int put_section(const struct config_feed *config, const struct setting *row, FILE *to)
{
    if (strcmp(row->name, "shuffle") == 0)
        return put_table(config_shuffle_table, config, SETTING_COUNTS, "shuffle ", to);
    /* The data's print, the recipe's, what print_chosen hashes, and none. Whoever adds a section says here what it is. */
    assert(strcmp(row->name, "source") == 0 || strcmp(row->name, "split") == 0 || strcmp(row->name, "fields") == 0 ||
           strcmp(row->name, "cache") == 0 || strcmp(row->name, "access") == 0);
    return 0;
}

static int put_order(const struct config_feed *config, FILE *to)
{
    int rc = put_table(config_feed_table, config, SETTING_COUNTS, "", to);

    for (const struct setting *row = config_feed_table; row->name && rc == 0; row++)
        if (row->type == SETTING_SECTION)
            rc = put_section(config, row, to);
    return rc;
}

/* Where pictures are reduced first, to what: also its default counts, as without it they are not. */
static int put_reduced(const struct config_feed *config, int rc, FILE *to)
{
    if (rc == 0 && config->cache.reduces)
        fprintf(to, "cache decoded side: %lld\n", (long long)config->cache.side);
    return rc;
}

/* The hash of the field, or of what concerns the whole feed where it is NULL. */
static int hash_of(const struct config_feed *config, const struct config_field *field, enum setting_print print, uint64_t *out)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    int rc;

    if (!to)
        return -ENOMEM;
    if (field)
        rc = put_field(field, to);
    else if (print == SETTING_RECIPE)
        rc = put_reduced(config, put_table(config_feed_table, config, print, "", to), to);
    else
        rc = put_order(config, to);
    rc = ferror(to) ? -ENOMEM : rc;
    if (fclose(to) != 0 || !text) /* it does not always say that it had no memory for the text */
        rc = -ENOMEM;
    if (rc == 0)
        *out = XXH3_64bits(text, size);
    free(text);
    return rc;
}

int print_config(const struct config_feed *config, struct pf_prints *prints)
{
    uint64_t order = 0, recipe = 0, field = 0;
    int rc = hash_of(config, NULL, SETTING_COUNTS, &order);

    if (rc == 0)
        rc = hash_of(config, NULL, SETTING_RECIPE, &recipe);
    /* A sum, as the place of a field in the map says nothing. */
    for (uint32_t f = 0; f < config->n_fields && rc == 0; f++) {
        rc = hash_of(config, &config->fields[f], SETTING_COUNTS, &field);
        recipe += field;
    }
    if (rc < 0)
        return rc;
    prints->order = order;
    prints->recipe = recipe;
    return 0;
}

void print_chosen(const struct feed *feed, struct pf_prints *prints)
{
    const uint64_t both[] = { prints->order, feed->order_params.asked };

    if (feed->order_params.asked)
        prints->order = XXH3_64bits(both, sizeof(both));
}

/* ---- data ----------------------------------------------------------------------------------------------------------- */

static uint64_t hash_part(const struct sample_part *part)
{
    struct digest digest = { .n = 0 };

    digest_text(&digest, part->name);
    digest_text(&digest, part->kind == PART_ENCODED ? "" : dtype_table[part->dtype].name);
    digest_add(&digest, part->shape, part->ndim * sizeof(*part->shape));
    return digest_end(&digest);
}

int print_data(const struct feed *feed, struct pf_prints *prints, struct problem *why)
{
    const struct source_ops *ops = feed->config->source;
    const struct sample_part *parts;
    uint32_t n_parts = ops->parts(feed->source, &parts);
    struct digest digest = { .n = 0 };
    uint64_t sum = 0; /* as a source may have them in the order of the fields that ask */
    int rc;

    for (uint32_t p = 0; p < n_parts; p++)
        sum += hash_part(&parts[p]);
    digest_text(&digest, ops->name);
    digest_number(&digest, ops->count(feed->source));
    digest_number(&digest, sum);
    rc = ops->print(feed->source, &digest, why);
    if (rc == 0)
        prints->data = digest_end(&digest);
    return rc;
}
