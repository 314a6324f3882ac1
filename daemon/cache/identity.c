/* SPDX-License-Identifier: MIT */
/* See identity.h. */
#include "cache/identity.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "source/digest.h"

#define REDUCED_VERSION 1 /* another where the pictures of a decoder become others */

bool identity_has_file(const struct feed *feed, const struct field *field)
{
    return feed->config->source->place && feed->parts[field->part].kind == PART_ENCODED;
}

/* What is kept by a sample's number is then of its place. That a file has changed is seen when it is used. */
static uint64_t source_of(const struct feed *feed, struct digest *digest)
{
    const struct source_ops *ops = feed->config->source;
    const uint64_t n = ops->count(feed->source);
    char where[PATH_MAX];

    memset(digest, 0, sizeof(*digest));
    digest_text(digest, ops->name);
    for (uint64_t id = 0; id < n; id++) {
        ops->where(feed->source, id, where, sizeof(where));
        digest_text(digest, where);
    }
    return digest_end(digest);
}

static uint64_t places_of(const struct feed *feed, uint32_t part, struct digest *digest)
{
    const struct source_ops *ops = feed->config->source;
    const uint64_t n = ops->count(feed->source);
    struct source_place place;

    memset(digest, 0, sizeof(*digest));
    for (uint64_t id = 0; id < n; id++) {
        place.path[0] = '\0';
        place.offset = 0;
        ops->place(feed->source, id, part, &place);
        digest_text(digest, place.path); /* also of a file that is not there just now */
        digest_number(digest, place.offset);
    }
    return digest_end(digest);
}

static int recipe_of(const struct field *field, struct digest *digest, uint64_t *recipe)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    int rc;

    if (!to)
        return -ENOMEM;
    for (const struct setting *row = field->decode->settings; row->name; row++) {
        fprintf(to, "%s: ", row->name);
        setting_print(row, field->decode_params, to);
    }
    rc = ferror(to) ? -ENOMEM : 0;
    if (fclose(to) != 0 || !text) /* it does not always say that it had no memory for the text */
        rc = -ENOMEM;
    if (rc == 0) {
        memset(digest, 0, sizeof(*digest));
        digest_number(digest, REDUCED_VERSION);
        digest_text(digest, field->decode->name);
        digest_number(digest, field->decode->version);
        digest_text(digest, text);
        digest_number(digest, field->decode->reduced_print(field));
        *recipe = digest_end(digest);
    }
    free(text);
    return rc;
}

/* Fields of the same part have the same places, which take a while to hash. */
static uint64_t places_again(const struct feed *feed, uint32_t f, const struct identity *identity, struct digest *digest)
{
    for (uint32_t before = 0; before < f; before++)
        if (feed->fields[before].part == feed->fields[f].part)
            return identity->places[before];
    return places_of(feed, feed->fields[f].part, digest);
}

int identity_of(const struct feed *feed, struct identity *out)
{
    struct digest *digest = malloc(sizeof(*digest));
    struct identity identity;
    int rc = digest ? 0 : -ENOMEM;

    memset(&identity, 0, sizeof(identity));
    if (rc == 0)
        identity.source = source_of(feed, digest);
    for (uint32_t f = 0; f < feed->n_fields && rc == 0; f++) {
        const struct field *field = &feed->fields[f];

        if (!identity_has_file(feed, field))
            continue;
        identity.places[f] = places_again(feed, f, &identity, digest);
        if (field->side > 0)
            rc = recipe_of(field, digest, &identity.recipes[f]);
    }
    free(digest);
    if (rc == 0)
        *out = identity;
    return rc;
}
