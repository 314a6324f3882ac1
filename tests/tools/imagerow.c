/* SPDX-License-Identifier: MIT */
/* imagerow: one picture through the `image` decoder, its row on stdout as it would lie in a batch; for parity.py and for
 * people who want to see what a recipe does.
 *
 *     imagerow FILE SEED DTYPE LAYOUT WORD... where WORD is NAME[:SETTING=VALUE[/VALUE]...], `image` or a transform
 *     imagerow cat.jpg 1 float32 chw image:orientation=yes resize:size=256:interpolation=bicubic center_crop:size=224
 *
 * stderr: the plan, "picture W H crop X Y W H scaled W H window X Y W H flip 0|1". Exit codes: 0, 1 bad sample, 2 usage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "decode/jpeg.h"
#include "transform/transform.h"

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size + 1);
    if (bytes && fread(bytes, 1, *size, file) != *size)
        *size = 0;
    fclose(file);
    return bytes;
}

/* "size=224/200" into params. */
static int set_one(const struct setting *rows, void *params, char *text, struct problem *why)
{
    char *value = strchr(text, '='), *words[8];
    uint32_t n = 0;
    if (!value)
        return problem_set(why, -1, "'%s' is not SETTING=VALUE", text);
    *value++ = 0;
    for (char *rest = NULL, *word = strtok_r(value, "/", &rest); word && n < 8; word = strtok_r(NULL, "/", &rest))
        words[n++] = word;
    for (; rows->name; rows++)
        if (strcmp(rows->name, text) == 0)
            return setting_set(rows, params, ".", (const char *const *)words, n, why);
    return problem_set(why, -1, "no setting '%s'", text);
}

static void *make_params(const struct setting *rows, size_t size, char *settings, struct problem *why)
{
    char *rest = NULL;
    void *params = calloc(1, size + 1);
    for (const struct setting *row = rows; params && row->name; row++)
        if (row->initial && setting_set_default(row, params, ".", why) < 0)
            return NULL;
    for (char *one = settings ? strtok_r(settings, ":", &rest) : NULL; params && one; one = strtok_r(NULL, ":", &rest))
        if (set_one(rows, params, one, why) < 0)
            return NULL;
    return params;
}

static int add_word(struct field *field, char *text, struct problem *why)
{
    char *settings = strchr(text, ':');
    if (settings)
        *settings++ = 0;
    if (strcmp(text, field->decode->name) == 0) {
        field->decode_params = make_params(field->decode->settings, field->decode->params_size, settings, why);
        return field->decode_params ? 0 : -1;
    }
    for (const struct transform_ops *const *kind = transform_kinds; *kind; kind++) {
        if (strcmp((*kind)->name, text) != 0)
            continue;
        struct transform_use *use = &field->transforms[field->n_transforms];
        use->ops = *kind;
        for (uint32_t i = 0; i < field->n_transforms; i++)
            use->ordinal += field->transforms[i].ops == *kind;
        use->params = make_params((*kind)->settings, (*kind)->params_size, settings, why);
        field->n_transforms++;
        return use->params ? 0 : -1;
    }
    return problem_set(why, -1, "no transform '%s'", text);
}

static int make_field(struct field *field, int n, char **words, struct problem *why)
{
    snprintf(field->name, sizeof field->name, "image");
    for (uint32_t i = 0; decode_kinds[i]; i++)
        if (strcmp(decode_kinds[i]->name, "image") == 0)
            field->decode = decode_kinds[i];
    if (dtype_parse(words[0], &field->dtype) < 0)
        return problem_set(why, -1, "no dtype '%s'", words[0]);
    field->layout = strcmp(words[1], "hwc") == 0 ? LAYOUT_HWC : LAYOUT_CHW;
    char plain[] = "image";
    if (add_word(field, plain, why) < 0)
        return -1;
    for (int i = 2; i < n && field->n_transforms < FIELD_TRANSFORMS; i++)
        if (add_word(field, words[i], why) < 0)
            return -1;
    return 0;
}

static void print_plan(const struct field *field, const struct row_key *key, const void *data, size_t size)
{
    struct jpeg_reader *reader;
    struct jpeg_head head;
    struct plan plan;
    const struct jpeg_limits limits = { .max_pixels = UINT64_MAX, .max_kept = UINT64_MAX };
    if (jpeg_reader_create(&reader, &limits) < 0)
        return;
    if (jpeg_reader_open(reader, data, size, &head, NULL) == 0) {
        const bool swap = *(const bool *)field->decode_params && jpeg_reader_orientation(data, size) > 4;
        plan_init(&plan, swap ? head.height : head.width, swap ? head.width : head.height);
        for (uint32_t i = 0; i < field->n_transforms; i++) {
            struct draw draw;
            draw_init(&draw, key, field->transforms[i].ops->name, field->transforms[i].ordinal);
            field->transforms[i].ops->plan(field->transforms[i].params, &draw, &plan, NULL);
        }
        fprintf(stderr, "picture %d %d crop %d %d %d %d scaled %d %d window %d %d %d %d flip %d\n", plan.width, plan.height,
                plan.crop.x, plan.crop.y, plan.crop.width, plan.crop.height, plan.scaled_width, plan.scaled_height, plan.window.x,
                plan.window.y, plan.window.width, plan.window.height, plan.flip_x);
    }
    jpeg_reader_destroy(reader);
}

int main(int argc, char **argv)
{
    struct problem why = { "" };
    struct field field = { 0 };
    const struct sample_part part = { .name = "image", .kind = PART_ENCODED };
    void *state = NULL, *row = NULL, *codec = NULL;
    if (argc < 5) {
        fprintf(stderr, "usage: imagerow FILE SEED DTYPE chw|hwc [NAME[:SETTING=VALUE[/VALUE]...]]...\n");
        return 2;
    }
    if (make_field(&field, argc - 3, argv + 3, &why) < 0 || field.decode->prepare(&field, &part, &why) < 0) {
        fprintf(stderr, "imagerow: %s\n", why.text);
        return 2;
    }
    struct sample_value value = { .part = &part };
    value.data = read_file(argv[1], &value.size);
    row = malloc(field.row_bytes);
    codec = aligned_alloc(64, field.decode->codec_bytes(&field));
    if (!value.data || !row || !codec || field.decode->worker_open(&state, &field) < 0) {
        fprintf(stderr, "imagerow: %s: cannot be read, or no memory\n", argv[1]);
        return 1;
    }
    const struct row_key key = { .seed = strtoull(argv[2], NULL, 0) };
    const int error = field.decode->row(state, codec, &field, &value, &key, row, &why);
    if (error)
        fprintf(stderr, "imagerow: %s: %s\n", argv[1], why.text);
    else
        print_plan(&field, &key, value.data, value.size);
    const bool failed = error || fwrite(row, 1, field.row_bytes, stdout) != field.row_bytes;
    field.decode->worker_close(state);
    for (uint32_t i = 0; i < field.n_transforms; i++)
        free((void *)field.transforms[i].params);
    free((void *)field.decode_params);
    free((void *)value.data);
    free(codec);
    free(row);
    return failed;
}
