/* SPDX-License-Identifier: MIT */
/* What a feed's fields want of the members of a tar sample, as parts: fields that want the same share one. For tar.c: made on the
 * thread that opens the source; values are made of bytes on any worker. */
#ifndef PFEED_TAR_FIELDS_H
#define PFEED_TAR_FIELDS_H

#include "source/source.h"
#include "source/tar_index.h"
#include "source/tar_json.h"

#define TAR_ALTERNATIVES 8

enum tar_value {
    TAR_BYTES,  /* as they are: to be decoded */
    TAR_NUMBER, /* decimal */
    TAR_TEXT,   /* so many bytes, zeros behind it */
    TAR_JSON,
};

struct tar_field {
    enum tar_value value;
    uint32_t want; /* the first that wants it */
    char from[NAME_SIZE];
    uint32_t n;
    char words[TAR_ALTERNATIVES][NAME_SIZE]; /* extensions, the first that is there counts */
    uint64_t extensions[TAR_ALTERNATIVES];   /* the same in the index's texts */
    bool known[TAR_ALTERNATIVES];            /* it is there */
    struct tar_json_key key;                 /* TAR_JSON */
    struct sample_part part;
    uint64_t max_bytes; /* of a whole member in any sample */
};

struct tar_fields {
    uint32_t n, n_wants;
    struct tar_field *v;
    struct sample_part *parts; /* the same in a row */
    uint32_t *of;              /* a want's */
};

/* Of zeros first; what failed is to be finished too. */
int tar_fields_init(struct tar_fields *fields, const struct source_env *env, struct problem *why);
void tar_fields_fini(struct tar_fields *fields);
/* With the samples: finds the extensions, and the sizes. -EINVAL and a sentence where no sample has what a field wants; warns of
 * samples that lack it. name: of the source, for people. */
int tar_fields_match(struct tar_fields *fields, const struct tar_index *index, const char *name, struct problem *why);

/* The member of sample id that the field is made of. -ENOENT, -EBADMSG and a sentence. */
int tar_fields_find(const struct tar_field *field, const struct tar_index *index, uint64_t id, const struct tar_part **out,
                    struct problem *why);
/* What a worker needs to make values of a member of so many bytes: where its bytes are to be put in the worker's memory, and how
 * much of that is needed. */
size_t tar_fields_place(const struct tar_field *field, uint64_t size, size_t *needed);
/* -EBADMSG and a sentence: a member of so many bytes cannot be the field's. */
int tar_fields_fits(const struct tar_field *field, uint64_t size, struct problem *why);
/* Makes the value of a member's bytes, which are at tar_fields_place of buffer. */
int tar_fields_make(const struct tar_field *field, void *buffer, uint64_t size, struct sample_value *out, struct problem *why);

#endif
