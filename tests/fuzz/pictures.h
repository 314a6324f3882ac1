/* SPDX-License-Identifier: MIT */
/* One picture through the image decoder, for the fuzz targets of its formats. */
#ifndef TESTS_FUZZ_PICTURES_H
#define TESTS_FUZZ_PICTURES_H

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "setting.h"
#include "transform/transform.h"

static void *params_of(const struct setting *rows, size_t size, const char *name, const char *value)
{
    struct problem why;
    void *params = calloc(1, size + 1);

    for (const struct setting *row = rows; row->name; row++) {
        const char *words[1] = { value };

        if (name && strcmp(row->name, name) == 0)
            assert(setting_set(row, params, ".", words, 1, &why) == 0);
        else if (row->initial)
            assert(setting_set_default(row, params, ".", &why) == 0);
    }
    return params;
}

static const struct decode_ops *image;
static struct field fields[2];
static void *states[2], *codec;

static void prepare(void)
{
    static const struct sample_part part = { .name = "image", .kind = PART_ENCODED };
    struct problem why;

    for (const struct decode_ops *const *kind = decode_kinds; *kind; kind++)
        if (strcmp((*kind)->name, "image") == 0)
            image = *kind;
    for (int f = 0; f < 2; f++) {
        struct field *field = &fields[f];

        field->decode = image;
        field->decode_params = params_of(image->settings, image->params_size, "orientation", f ? "yes" : "no");
        field->dtype = f ? DTYPE_F16 : DTYPE_U8;
        for (const struct transform_ops *const *kind = transform_kinds; *kind; kind++)
            if (strcmp((*kind)->name, "random_resized_crop") == 0) {
                field->transforms[0].ops = *kind;
                field->transforms[0].params = params_of((*kind)->settings, (*kind)->params_size, "size", "32");
                field->n_transforms = 1;
            }
        assert(image->prepare(field, &part, &why) == 0);
        assert(image->worker_open(&states[f], field) == 0);
    }
    codec = aligned_alloc(64, image->codec_bytes(&fields[0])); /* both ask for the same */
}

/* first chooses the crop's draw and whether EXIF counts. A row of exactly the field's size is written, or an error with a
 * sentence returned. */
static void picture_row(uint8_t first, const uint8_t *data, size_t size)
{
    const struct row_key key = { .seed = first };
    const struct sample_value value = { .data = data, .size = size };
    struct problem why = { "" };
    int f = first & 1, rc;
    uint8_t *row;

    if (!image)
        prepare();
    row = malloc(fields[f].row_bytes); /* its own block, so that ASan sees a write past the end */
    rc = image->row(states[f], codec, &fields[f], &value, &key, row, &why);
    assert(rc == 0 || (rc < 0 && why.text[0]));
    free(row);
}

#endif
