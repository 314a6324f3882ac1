/* SPDX-License-Identifier: MIT */
/* imagerow: pictures through the `image` decoder, their rows on stdout as they would lie in a batch; for tests/parity and for
 * people who want to see what a recipe does.
 *
 *     imagerow FILE SEED DTYPE LAYOUT WORD... where WORD is NAME[:SETTING=VALUE[/VALUE]...], `image`, `mask` (first) or a transform
 *     imagerow cat.jpg 1 float32 chw image:orientation=yes resize:size=256:interpolation=bicubic center_crop:size=224
 *     imagerow -   the same words from stdin, a picture a line, tabs between them
 *
 * The plan, "picture W H crop X Y W H scaled W H window X Y W H flip 0|1", goes to stderr; with `-` it goes to stdout before
 * the row, as "row BYTES PLAN" and a newline, or "error SENTENCE" where there is no row. As in the daemon, the state of a
 * recipe is kept from picture to picture. Exit codes: 0, 1 no row (not with `-`), 2 usage. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode.h"
#include "decode/picture.h"
#include "transform/chain.h"

enum { WORDS_MAX = 3 + FIELD_TRANSFORMS, LINE_BYTES = 8192, RECIPES = 64, KEPT_BYTES = 128 << 20 /* of recipes kept open */ };

/* A field and what a worker keeps for it. */
struct recipe {
    char text[LINE_BYTES]; /* "DTYPE LAYOUT WORD...", tabs between them; empty: not open */
    uint64_t used;
    struct field field;
    void *state, *row;
};

static const struct sample_part part = { .name = "image", .kind = PART_ENCODED };

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
        free((void *)field->decode_params);
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
    const char *decoder = n > 2 && (strcmp(words[2], "mask") == 0 || strncmp(words[2], "mask:", 5) == 0) ? "mask" : "image";
    snprintf(field->name, sizeof field->name, "%s", decoder);
    for (uint32_t i = 0; decode_kinds[i]; i++)
        if (strcmp(decode_kinds[i]->name, decoder) == 0)
            field->decode = decode_kinds[i];
    if (dtype_parse(words[0], &field->dtype) < 0)
        return problem_set(why, -1, "no dtype '%s'", words[0]);
    field->layout = strcmp(words[1], "hwc") == 0 ? LAYOUT_HWC : LAYOUT_CHW;
    char plain[8];
    snprintf(plain, sizeof plain, "%s", decoder);
    if (add_word(field, plain, why) < 0)
        return -1;
    for (int i = 2; i < n && field->n_transforms < FIELD_TRANSFORMS; i++)
        if (add_word(field, words[i], why) < 0)
            return -1;
    return 0;
}

static void *codec; /* the same for every recipe, as their limits of pictures are */

static void recipe_close(struct recipe *recipe)
{
    if (recipe->state)
        recipe->field.decode->worker_close(recipe->state);
    for (uint32_t i = 0; i < recipe->field.n_transforms; i++)
        free((void *)recipe->field.transforms[i].params);
    free((void *)recipe->field.decode_params);
    free(recipe->row);
    memset(recipe, 0, sizeof *recipe);
}

static int recipe_open(struct recipe *recipe, const char *text, struct problem *why)
{
    char copy[LINE_BYTES], *words[WORDS_MAX], *rest = NULL;
    int n = 0;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, "\t", &rest); word && n < WORDS_MAX; word = strtok_r(NULL, "\t", &rest))
        words[n++] = word;
    struct field *field = &recipe->field;
    if (n < 2)
        return problem_set(why, -1, "FILE, SEED, DTYPE and LAYOUT are wanted");
    if (make_field(field, n, words, why) < 0 || field->decode->prepare(field, &part, why) < 0)
        return -1;
    recipe->row = malloc(field->row_bytes);
    if (!codec)
        codec = aligned_alloc(64, field->decode->codec_bytes(field));
    if (!recipe->row || !codec || field->decode->worker_open(&recipe->state, field) < 0)
        return problem_set(why, -1, "no memory");
    snprintf(recipe->text, sizeof recipe->text, "%s", text);
    return 0;
}

/* Closes recipes until what is kept is small again: one of a flat and wide result takes hundreds of megabytes. */
static void recipes_trim(struct recipe *recipes, const struct recipe *newest)
{
    size_t kept = 0;
    for (const struct recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++)
        kept += recipe->used ? recipe->field.decode->worker_bytes(&recipe->field) : 0;
    while (kept > KEPT_BYTES) {
        struct recipe *oldest = NULL;
        for (struct recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++)
            if (recipe->used && recipe != newest && (!oldest || recipe->used < oldest->used))
                oldest = recipe;
        if (!oldest)
            return;
        kept -= oldest->field.decode->worker_bytes(&oldest->field);
        recipe_close(oldest);
    }
}

/* The recipe of this text, opened where it is not yet. NULL with a sentence. */
static struct recipe *recipe_find(struct recipe *recipes, const char *text, struct problem *why)
{
    static uint64_t uses;
    struct recipe *oldest = recipes;
    for (struct recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++) {
        if (recipe->used && strcmp(recipe->text, text) == 0) {
            recipe->used = ++uses;
            return recipe;
        }
        if (recipe->used < oldest->used)
            oldest = recipe;
    }
    recipe_close(oldest);
    if (recipe_open(oldest, text, why) < 0) {
        recipe_close(oldest);
        return NULL;
    }
    oldest->used = ++uses;
    recipes_trim(recipes, oldest);
    return oldest;
}

/* What the decoder does before it decodes. */
static int describe_plan(const struct field *field, const struct row_key *key, const void *data, size_t size, char *text,
                         size_t text_size)
{
    static void *readers[8]; /* of picture_kinds */
    static const struct picture_limits limits = { .max_pixels = UINT64_MAX, .max_kept = UINT64_MAX };
    const struct picture_file file = { data, size, codec, field->decode->codec_bytes(field) };
    struct picture_head head;
    struct plan plan;
    uint32_t kind;
    if (picture_kind(data, size, &kind, NULL) < 0)
        return -1;
    const struct picture_ops *ops = picture_kinds[kind];
    if (!readers[kind] && ops->create(&readers[kind], &limits) < 0)
        return -1;
    if (ops->open(readers[kind], &file, &head, NULL) < 0)
        return -1;
    ops->close(readers[kind]);
    const bool swap = *(const bool *)field->decode_params && ops->orientation && ops->orientation(data, size) > 4;
    plan_init(&plan, swap ? head.height : head.width, swap ? head.width : head.height);
    if (chain_draw(field, key, &plan, NULL) < 0)
        return -1;
    snprintf(text, text_size, "picture %d %d crop %d %d %d %d scaled %d %d window %d %d %d %d flip %d", plan.width, plan.height,
             plan.crop.x, plan.crop.y, plan.crop.width, plan.crop.height, plan.scaled_width, plan.scaled_height, plan.window.x,
             plan.window.y, plan.window.width, plan.window.height, plan.flip_x);
    return 0;
}

/* Line: "FILE SEED RECIPE". The recipe whose row is filled, and its plan; NULL with a sentence. */
static struct recipe *run_line(struct recipe *recipes, char *line, char *plan, size_t plan_size, struct problem *why)
{
    char *rest = NULL, *path = strtok_r(line, "\t", &rest), *seed = strtok_r(NULL, "\t", &rest);
    struct recipe *recipe = recipe_find(recipes, rest ? rest : "", why);
    if (!recipe || !path || !seed)
        return NULL;
    const struct row_key key = { .seed = strtoull(seed, NULL, 0) };
    struct sample_value value = { .part = &part };
    value.data = read_file(path, &value.size);
    int error = value.data ? 0 : problem_set(why, -1, "cannot be read");
    if (!error)
        error = recipe->field.decode->row(recipe->state, codec, &recipe->field, &value, &key, recipe->row, why);
    if (!error)
        error = describe_plan(&recipe->field, &key, value.data, value.size, plan, plan_size);
    free((void *)value.data);
    return error ? NULL : recipe;
}

static int run_lines(struct recipe *recipes)
{
    char line[LINE_BYTES], plan[256];
    while (fgets(line, sizeof line, stdin)) {
        struct problem why = { "" };
        line[strcspn(line, "\n")] = 0;
        const struct recipe *recipe = run_line(recipes, line, plan, sizeof plan, &why);
        if (recipe) {
            printf("row %zu %s\n", recipe->field.row_bytes, plan);
            fwrite(recipe->row, 1, recipe->field.row_bytes, stdout);
        } else {
            printf("error %s\n", why.text);
        }
        fflush(stdout);
    }
    return 0;
}

static int run_one(struct recipe *recipes, char **words)
{
    struct problem why = { "" };
    char line[LINE_BYTES] = "", plan[256];
    for (size_t at = 0; *words && at < sizeof line; words++)
        at += (size_t)snprintf(line + at, sizeof line - at, "%s\t", *words);
    const struct recipe *recipe = run_line(recipes, line, plan, sizeof plan, &why);
    if (!recipe) {
        fprintf(stderr, "imagerow: %s: %s\n", line, why.text);
        return 1;
    }
    fprintf(stderr, "%s\n", plan);
    return fwrite(recipe->row, 1, recipe->field.row_bytes, stdout) != recipe->field.row_bytes;
}

int main(int argc, char **argv)
{
    static struct recipe recipes[RECIPES];
    const bool lines = argc == 2 && strcmp(argv[1], "-") == 0;
    if (!lines && argc < 5) {
        fprintf(stderr, "usage: imagerow FILE SEED DTYPE chw|hwc [NAME[:SETTING=VALUE[/VALUE]...]]...\n"
                        "       imagerow -   such lines from stdin, tabs between the words\n");
        return 2;
    }
    const int status = lines ? run_lines(recipes) : run_one(recipes, argv + 1);
    for (struct recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++)
        recipe_close(recipe);
    free(codec);
    return status;
}
