/* SPDX-License-Identifier: MIT */
/* What a kind of decoder is: one file of this folder, one const struct decode_ops at its end named decode_<word>, one word in
 * daemon/meson.build. A decoder takes one part of a sample, runs the field's transforms, and writes the row's bytes straight
 * into the slot. */
#ifndef PFEED_DECODE_H
#define PFEED_DECODE_H

#include "sample.h"
#include "setting.h"

struct decode_ops {
    const char *name, *help;
    const struct setting *settings; /* `decode: { image: { orientation: yes } }`; ends with SETTINGS_END */
    size_t params_size;
    uint32_t version; /* of the bytes that it makes of the same sample and settings; part of the recipe where it is not 0 */
    /* Main thread, at start: checks dtype, layout and transforms of the field against the part, and fills ndim, shape,
     * row_bytes, is_image, mean and std. Before: dtype is DTYPES where it was not given (then it is filled, too), ndim and
     * shape are the configuration's, ndim 0 where it gave none. A problem is about a key of the field's map. */
    int (*prepare)(struct field *field, const struct sample_part *part, struct problem *why);
    /* For the budget, NULL: none. What worker_open takes, for each field; and the most that the codec may need while a row is
     * made, which a worker has once for all its fields, as it makes one row at a time: a multiple of 64. */
    size_t (*worker_bytes)(const struct field *field);
    size_t (*codec_bytes)(const struct field *field);
    /* Of a field with a `side`; NULL: the decoder cannot do that. Makes of value, which is as the source has it, what a cache keeps: a
     * picture that takes no decoding. It lies in reduced_room, in codec's memory, until that is used again. Where a picture is of no
     * shape to be reduced, *reduced is value as it was. `row` takes either. */
    int (*reduce)(void *state, void *codec, const struct field *field, const struct sample_value *value,
                  struct sample_value *reduced, struct problem *why);
    void *(*reduced_room)(void *codec, const struct field *field, size_t *size);
    /* What decides the pixels of that, beside the file's bytes: another number where they may be others. */
    uint64_t (*reduced_print)(const struct field *field);
    /* A worker's own memory: made and touched before READY, used by row, which allocates nothing. May be NULL. */
    int (*worker_open)(void **state, const struct field *field);
    void (*worker_close)(void *state);
    /* On a worker. codec: at least codec_bytes, aligned to 64, nothing stays there from row to row. Writes exactly
     * field->row_bytes at row. -errno and a sentence for a bad sample (row is then unspecified). */
    int (*row)(void *state, void *codec, const struct field *field, const struct sample_value *value, const struct row_key *key,
               void *row, struct problem *why);
};

extern const struct decode_ops *const decode_kinds[]; /* generated; NULL at the end */

#endif
