/* SPDX-License-Identifier: MIT */
/* Fuzz target: pictures. The first byte chooses the crop's draw and whether EXIF counts; the rest is the file. A row of exactly
 * the field's size is written, or an error with a sentence returned. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "setting.h"
#include "transform/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIDE 32

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct row_key key = { .seed = size > 0 ? data[0] : 0 };
    int f = size > 0 && (data[0] & 1);
    struct sample_value value;
    struct problem why = { "" };
    uint8_t *row;
    int rc;

    if (size == 0)
        return 0;
    if (!image)
        prepare();
    value = (struct sample_value){ .data = data + 1, .size = size - 1 };
    row = malloc(fields[f].row_bytes); /* its own block, so that ASan sees a write past the end */
    rc = image->row(states[f], codec, &fields[f], &value, &key, row, &why);
    assert(rc == 0 || (rc < 0 && why.text[0]));
    free(row);
    return 0;
}
