/* SPDX-License-Identifier: MIT */
/* A worker allocates nothing while it makes rows of pictures: malloc and its like are counted, whoever calls them, libjpeg,
 * libspng and zlib included, over rows of every picture of the fuzzers' corpora, also damaged ones and refused ones. Not under
 * sanitizers, which have a malloc of their own. */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "decode/decode.h"
#include "transform/transform.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
int main(void)
{
    printf("skipped: sanitizers have a malloc of their own\n");
    return 77;
}
#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);

static _Thread_local bool counting;
static uint64_t calls;

/* These take libc's place for the libraries, too. */
__attribute__((visibility("default"))) void *malloc(size_t size)
{
    calls += counting;
    return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    calls += counting;
    return __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *old, size_t size)
{
    calls += counting;
    return __libc_realloc(old, size);
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t size)
{
    calls += counting;
    return __libc_memalign(align, size);
}

__attribute__((visibility("default"))) int posix_memalign(void **out, size_t align, size_t size)
{
    calls += counting;
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}

extern const struct decode_ops decode_image;
extern const struct transform_ops transform_random_resized_crop;

static void *params_of(const struct setting *rows, size_t size)
{
    void *params = calloc(1, size + 1);
    for (const struct setting *row = rows; row->name; row++)
        if (row->initial)
            assert_int_equal(setting_set_default(row, params, ".", NULL), 0);
    return params;
}

static const struct sample_part part = { .name = "image", .kind = PART_ENCODED };

struct world {
    struct field field;
    void *state, *codec, *row;
    uint64_t head, good, rows;
};

static void world_init(struct world *world, enum dtype dtype, const char *orientation)
{
    const char *size[] = { "48" }, *words[] = { orientation };
    struct field *field = &world->field;
    void *crop = params_of(transform_random_resized_crop.settings, transform_random_resized_crop.params_size);
    *world = (struct world){ .field = { .decode = &decode_image, .dtype = dtype, .n_transforms = 1 } };
    field->decode_params = params_of(decode_image.settings, decode_image.params_size);
    assert_int_equal(setting_set(decode_image.settings, (void *)field->decode_params, ".", words, 1, NULL), 0);
    assert_int_equal(setting_set(transform_random_resized_crop.settings, crop, ".", size, 1, NULL), 0);
    field->transforms[0] = (struct transform_use){ .ops = &transform_random_resized_crop, .params = crop };
    assert_int_equal(decode_image.prepare(field, &part, NULL), 0);
    assert_int_equal(decode_image.worker_open(&world->state, field), 0);
    world->codec = aligned_alloc(64, decode_image.codec_bytes(field));
    world->row = malloc(field->row_bytes);
}

static void world_fini(struct world *world)
{
    decode_image.worker_close(world->state);
    free(world->codec);
    free(world->row);
    free((void *)world->field.transforms[0].params);
    free((void *)world->field.decode_params);
}

static void make_row(struct world *world, const void *data, size_t size)
{
    const struct row_key key = { .id = world->rows++ };
    const struct sample_value value = { data, size, &part, &world->head };
    struct problem why;
    counting = true;
    const int error = decode_image.row(world->state, world->codec, &world->field, &value, &key, world->row, &why);
    counting = false;
    world->good += error == 0;
}

/* The files of a corpus begin with a byte that is the target's. */
static void visit(struct world *world, const char *folder)
{
    uint8_t *data = malloc(1 << 20);
    char path[4096];
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file)
            continue;
        const size_t size = fread(data, 1, 1 << 20, file);
        fclose(file);
        for (int i = 0; i < 20; i++) {
            make_row(world, data + 1, size - 1);
            make_row(world, data + 1, (size - 1) * (size_t)i / 20);
        }
    }
    closedir(list);
    free(data);
}

static void test_rows(void **state)
{
    static const struct {
        enum dtype dtype;
        const char *orientation;
    } kinds[] = { { DTYPE_U8, "no" }, { DTYPE_F16, "yes" } };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct world world;
        world_init(&world, kinds[k].dtype, kinds[k].orientation);
        calls = 0;
        visit(&world, SOURCE_ROOT "/tests/fuzz/corpus/jpeg");
        assert_in_range(world.good, 100, world.rows - 100);
#ifdef HAVE_PNG
        const uint64_t jpegs = world.good;
        visit(&world, SOURCE_ROOT "/tests/fuzz/corpus/png");
        assert_in_range(world.good, jpegs + 300, world.rows);
#endif
        if (calls)
            fail_msg("%llu allocations in %llu rows", (unsigned long long)calls, (unsigned long long)world.rows);
        world_fini(&world);
    }
}

/* That the counting counts. */
static void test_counts(void **state)
{
    void *(*volatile take)(size_t) = malloc;
    calls = 0;
    counting = true;
    void *taken = take(1);
    char *text = strdup("of libc itself");
    counting = false;
    assert_int_equal(calls, 2);
    free(taken);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_counts), cmocka_unit_test(test_rows) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
