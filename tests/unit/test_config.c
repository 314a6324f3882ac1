/* SPDX-License-Identifier: MIT */
/* The configuration as structs: what is read, what of it is bad, feeds.d, and that a dump is whole and loads again to the same. What
 * pfeedd says of files is tests/config's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef SOURCE_ROOT
#define SOURCE_ROOT "."
#endif

#include "config.h"
#include "config_table.h"
#include "decode/decode.h"
#include "transform/transform.h"

#define HEAD  "version: 1\n"
#define FEED  HEAD "feeds:\n  a:\n    source: { type: synthetic, rows: 10 }\n    fields: { x: {} }\n"
#define BATCH FEED "    batch: 4\n"

static char folder[] = "/tmp/pfeed-config-XXXXXX";

static void write_file(const char *name, const void *text, size_t size)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* *errors is to be freed. */
static int load(struct config **config, const char *path, char **errors)
{
    size_t size;
    FILE *stream = open_memstream(errors, &size);
    assert_int_equal(config_load(config, path), 0);
    int rc = config_report(*config, stream);
    fclose(stream);
    return rc;
}

static struct config *load_good(const char *text)
{
    struct config *config = NULL;
    char *errors;
    write_file("t.yaml", text, strlen(text));
    int rc = load(&config, "t.yaml", &errors);
    assert_string_equal(errors, "");
    assert_int_equal(rc, 0);
    free(errors);
    return config;
}

static const char full[] = "version: 1\n"
                           "daemon: { workers: 3, memory: 8GiB, shm: posix, max_consumers: 9, user_consumers: 4, user_jobs: 5 }\n"
                           "feeds:\n"
                           "  train:\n"
                           "    source: { type: directory, path: data/train, extensions: [jpg, \"j\\\"p\"] }\n"
                           "    shuffle: { mode: global, seed: 42 }\n"
                           "    batch: 256\n"
                           "    tail: pad\n"
                           "    deliver: each\n"
                           "    gang: 3\n"
                           "    epochs: 5\n"
                           "    slots: 12\n"
                           "    max_held: 4\n"
                           "    slow: skip\n"
                           "    on_error: mask\n"
                           "    read_retry: 1500ms\n"
                           "    warm: yes\n"
                           "    access: { users: [root, 4242], groups: root }\n"
                           "    fields:\n"
                           "      image:\n"
                           "        decode: { image: { orientation: yes } }\n"
                           "        transforms:\n"
                           "          - random_resized_crop: { size: 224, scale: [0.1, 1.0] }\n"
                           "          - horizontal_flip\n"
                           "          - horizontal_flip: { p: 0.25 }\n"
                           "        dtype: float16\n"
                           "        layout: hwc\n"
                           "      label: { dtype: int64 }\n"
                           "      again:\n"
                           "        from: label\n"
                           "  val:\n"
                           "    source: { type: list, path: /val.csv, classes_of: train }\n"
                           "    shuffle: none\n"
                           "    batch: 1\n"
                           "    fields: { label: }\n"
                           "  text:\n"
                           "    source: { type: tokens, path: [a-*.bin, /b.bin], dtype: uint16, skip: 1KiB }\n"
                           "    batch: 32\n"
                           "    fields: { tokens: { length: 1025, stride: 1024, dtype: int32 } }\n"
                           "  test:\n"
                           "    source: { type: synthetic, rows: 100000 }\n"
                           "    batch: 64\n"
                           "    fields: { x: { dtype: float16, shape: [3, 224, 224] } }\n";

static void check_train(const struct config *config, const struct config_feed *feed)
{
    assert_string_equal(feed->name, "train");
    assert_int_equal(feed->mark.line, 4);
    assert_int_equal(feed->source_mark.line, 5);
    assert_string_equal(feed->source->name, "directory");
    assert_int_equal(feed->shuffle, SHUFFLE_GLOBAL);
    assert_int_equal(feed->seed, 42);
    assert_int_equal(feed->batch, 256);
    assert_int_equal(feed->tail, CONFIG_TAIL_PAD);
    assert_string_equal(feed->deliver, "each");
    assert_int_equal(feed->gang, 3);
    assert_int_equal(feed->epochs, 5);
    assert_int_equal(feed->slots, 12);
    assert_int_equal(feed->max_held, 4);
    assert_int_equal(feed->slow, CONFIG_SLOW_SKIP);
    assert_int_equal(feed->on_error, CONFIG_MASK);
    assert_int_equal(feed->read_retry_ms, 1500);
    assert_true(feed->warm);
    assert_true(feed->access.given);
    assert_int_equal(feed->access.n_users, 2);
    assert_int_equal(feed->access.users[0], 0);
    assert_int_equal(feed->access.users[1], 4242);
    assert_int_equal(feed->access.n_groups, 1);
    assert_int_equal(feed->access.groups[0], 0);
    assert_int_equal(feed->n_fields, 3);
    assert_ptr_equal(config_feed_find(config, "train"), feed);
}

static void check_fields(const struct config_feed *feed)
{
    const struct config_field *image = &feed->fields[0], *label = &feed->fields[1], *again = &feed->fields[2];
    assert_string_equal(image->field.name, "image");
    assert_string_equal(image->field.from, "image");
    assert_string_equal(image->field.decode->name, "image");
    assert_int_equal(image->field.n_transforms, 3);
    assert_string_equal(image->field.transforms[0].ops->name, "random_resized_crop");
    assert_int_equal(image->field.transforms[0].ordinal, 0);
    assert_int_equal(image->field.transforms[1].ordinal, 0);
    assert_string_equal(image->field.transforms[2].ops->name, "horizontal_flip");
    assert_int_equal(image->field.transforms[2].ordinal, 1);
    assert_true(image->dtype_given);
    assert_int_equal(image->field.dtype, DTYPE_F16);
    assert_int_equal(image->want.dtype, DTYPE_F16);
    assert_int_equal(image->field.layout, LAYOUT_HWC);
    assert_string_equal(label->field.decode->name, "raw");
    assert_int_equal(label->field.dtype, DTYPE_I64);
    assert_int_equal(label->field.n_transforms, 0);
    assert_string_equal(again->field.from, "label");
    assert_string_equal(again->want.from, "label");
    assert_false(again->dtype_given);
    assert_int_equal(again->want.dtype, DTYPES);
    assert_int_equal(again->field.dtype, DTYPES); /* not 0, which is uint8 */
}

static void test_units(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        uint64_t bytes;
    } sizes[] = { { "1048576", 1 << 20 },
                  { "2048KiB", 2 << 20 },
                  { "1.5GiB", UINT64_C(3) << 29 },
                  { "1TiB", UINT64_C(1) << 40 },
                  { "auto", 0 } };
    static const struct {
        const char *word;
        int64_t ms;
    } durations[] = { { "5", 5000 }, { "0.25", 250 }, { "250ms", 250 }, { "2m", 120000 }, { "1h", 3600000 }, { "0", 0 } };
    char text[512];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(text, sizeof text, BATCH "daemon: { memory: %s }\n", sizes[i].word);
        struct config *config = load_good(text);
        assert_int_equal(config->daemon.memory, sizes[i].bytes);
        config_destroy(config);
    }
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        snprintf(text, sizeof text, BATCH "    read_retry: %s\n", durations[i].word);
        struct config *config = load_good(text);
        assert_int_equal(config->feeds[0].read_retry_ms, durations[i].ms);
        config_destroy(config);
    }
}

static void test_good(void **state)
{
    (void)state;
    struct config *config = load_good(full);
    assert_int_equal(config->daemon.workers, 3);
    assert_int_equal(config->daemon.memory, UINT64_C(8) << 30);
    assert_int_equal(config->daemon.shm, CONFIG_SHM_POSIX);
    assert_int_equal(config->daemon.max_consumers, 9);
    assert_int_equal(config->daemon.user_consumers, 4);
    assert_int_equal(config->daemon.user_jobs, 5);
    assert_int_equal(config->daemon.user_held, 512);
    assert_int_equal(config->n_feeds, 4);
    check_train(config, &config->feeds[0]);
    check_fields(&config->feeds[0]);
    assert_string_equal(config->feeds[1].classes_of, "train");
    assert_int_equal(config->feeds[1].shuffle, SHUFFLE_NONE);
    assert_int_equal(config->feeds[1].slots, 0);
    assert_int_equal(config->feeds[1].max_held, 2);
    assert_false(config->feeds[1].access.given);
    const struct source_want *tokens = &config->feeds[2].fields[0].want, *x = &config->feeds[3].fields[0].want;
    assert_int_equal(tokens->length, 1025);
    assert_int_equal(tokens->stride, 1024);
    assert_int_equal(x->ndim, 3);
    assert_int_equal(x->shape[2], 224);
    assert_int_equal(config->feeds[3].fields[0].field.ndim, 3);
    assert_int_equal(config->feeds[3].fields[0].field.shape[2], 224);
    config_destroy(config);
}

static char *dump(const struct config *config)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    config_dump(config, stream);
    fclose(stream);
    return text;
}

/* Cuts the comments: where values come from differs, what they are must not. No value here holds " #". */
static void cut_comments(char *text)
{
    char *to = text;
    for (char *from = text; *from;) {
        if (from[0] == ' ' && from[1] == '#')
            from += strcspn(from, "\n");
        else
            *to++ = *from++;
    }
    *to = 0;
}

static void check_round_trip(struct config *config)
{
    char *first = dump(config);
    config_destroy(config);
    config = load_good(first);
    char *second = dump(config);
    config_destroy(config);
    cut_comments(first);
    cut_comments(second);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void test_dump(void **state)
{
    (void)state;
    struct config *config = load_good(full);
    char *text = dump(config), *here = getcwd(NULL, 0), *path = NULL;
    assert_non_null(strstr(text, "    batch: 256 # t.yaml:7\n"));
    assert_non_null(strstr(text, "    slots: auto # default; auto: as measured times need, at most 64\n"));
    assert_non_null(strstr(text, "    read_retry: 1500ms # t.yaml:16\n"));
    assert_non_null(strstr(text, "extensions: [\"jpg\", \"j\\\"p\"] # t.yaml:5\n"));
    assert_non_null(strstr(text, "          - horizontal_flip: # t.yaml:24\n              p: 0.5 # default\n"));
    assert_true(asprintf(&path, "path: [\"%s/a-*.bin\", \"/b.bin\"] # t.yaml:37\n", here) > 0);
    assert_non_null(strstr(text, path));
    free(path);
    free(here);
    free(text);
    check_round_trip(config);
    check_round_trip(load_good(BATCH));
}

static uint32_t count(const char *text, const char *words)
{
    uint32_t n = 0;
    for (const char *at = strstr(text, words); at; at = strstr(at + 1, words))
        n++;
    return n;
}

/* A dump must have a line for each setting of a table, in each of the `times` places where the table is used. */
static void check_rows(const struct setting *rows, const char *text, int indent, uint32_t times)
{
    char words[64];
    for (const struct setting *row = rows; row->name; row++) {
        bool seldom = strcmp(row->name, "access") == 0; /* not given, it means another thing than an empty one */
        if (row->type == SETTING_LATER)
            continue;
        snprintf(words, sizeof words, "\n%*s%s:", indent, "", row->name);
        if (count(text, words) < (seldom ? 1 : times))
            fail_msg("the dump has '%s' %u times, not %u", row->name, count(text, words), times);
    }
}

static void test_dump_whole(void **state)
{
    (void)state;
    static const char images[] =
        HEAD "feeds:\n  a:\n    source: { type: directory, path: p }\n    batch: 1\n    fields:\n      x:\n"
             "        decode: image\n        transforms: [%s: { %s }]\n";
    static const char masked[] =
        HEAD "feeds:\n  a:\n    source: { type: directory, path: p }\n    batch: 1\n"
             "    fields: { x: { decode: mask, geometry: y }, y: { decode: image, transforms: [center_crop: "
             "{ size: 4 }] } }\n";
    struct config *config = load_good(full);
    char *text = dump(config), line[600];
    check_rows(config_top_table + 1, text, 0, 1); /* `version` is the first line */
    check_rows(config_daemon_table, text, 2, 1);
    check_rows(config_feed_table, text, 4, 4);
    check_rows(config_access_table, text, 6, 1);
    check_rows(config_source_table, text, 6, 4);
    check_rows(config_shuffle_table, text, 6, 4);
    check_rows(config_field_table, text, 8, 6);
    for (size_t i = 0; source_kinds[i]; i++)
        check_rows(source_kinds[i]->settings, text, 6, 1);
    for (size_t i = 0; decode_kinds[i]; i++)
        if (strcmp(decode_kinds[i]->name, "mask") != 0)
            check_rows(decode_kinds[i]->settings, text, 12, 1);
    free(text);
    config_destroy(config);
    config = load_good(masked);
    text = dump(config);
    for (size_t i = 0; decode_kinds[i]; i++)
        if (strcmp(decode_kinds[i]->name, "mask") == 0)
            check_rows(decode_kinds[i]->settings, text, 12, 1);
    assert_non_null(strstr(text, "        transforms: [] # default\n        geometry: \"y\" # t.yaml:6\n"));
    free(text);
    config_destroy(config);
    for (size_t i = 0; transform_kinds[i]; i++) {
        const char *name = transform_kinds[i]->name;
        snprintf(line, sizeof line, images, name,
                 strcmp(name, "normalize") == 0                              ? "mean: 0, std: 1"
                 : strcmp(name, "color_jitter") == 0                         ? "hue: 0.1"
                 : strcmp(transform_kinds[i]->settings[0].name, "size") == 0 ? "size: 4"
                                                                             : "");
        config = load_good(line);
        text = dump(config);
        check_rows(transform_kinds[i]->settings, text, 14, 1);
        free(text);
        config_destroy(config);
    }
}

/* Where each value of a preset comes from. */
static void test_dump_preset(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "          - random_resized_crop: # imagenet-train, t.yaml:8\n",
        "              size: [96] # t.yaml:9\n",
        "              scale: [0.08, 1] # imagenet-train, t.yaml:8\n",
        "              antialias: yes # default\n",
        "          - horizontal_flip: # imagenet-train, t.yaml:8\n              p: 0.25 # t.yaml:10\n",
        "              std: [0.229, 0.224, 0.225] # imagenet-train, t.yaml:8\n",
        "        dtype: \"float32\" # imagenet-train, t.yaml:8\n        layout: chw # default\n",
    };
    struct config *config =
        load_good(HEAD "feeds:\n  a:\n    source: { type: directory, path: p }\n    batch: 1\n    fields:\n"
                       "      x: { decode: image, transforms:\n        { imagenet-train:\n        { size: 96,\n"
                       "          flip: 0.25 } } }\n");
    char *text = dump(config);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i]))
            fail_msg("'%s' is not in\n%s", lines[i], text);
    free(text);
    config_destroy(config);
}

/* Whether text has a line or a word `name:`, also where it is commented out. */
static void expect_key(const char *text, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s:", name);
    for (const char *at = text; (at = strstr(at, key)); at++)
        if (at > text && strchr(" {,\n", at[-1]))
            return;
    fail_msg("deploy/pfeed.yaml has no '%s'", key);
}

/* It says that it has all keys. */
static void expect_keys(const char *path)
{
    const struct setting *const tables[] = { config_top_table,   config_daemon_table, config_feed_table,  config_shuffle_table,
                                             config_field_table, config_access_table, config_source_table };
    char text[32768];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    assert_true(size > 0 && size < sizeof text - 1 && fclose(file) == 0);
    text[size] = 0;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct setting *row = tables[i]; row->name; row++)
            if (row->type != SETTING_LATER && strcmp(row->name, "version") != 0)
                expect_key(text, row->name);
}

static void test_sample(void **state)
{
    (void)state;
    struct config *config = NULL;
    char *errors = NULL, *path = NULL;
    const char *root = getenv("PFEED_SOURCE_ROOT");
    assert_true(asprintf(&path, "%s/deploy/pfeed.yaml", root ? root : SOURCE_ROOT) > 0);
    int rc = load(&config, path, &errors);
    assert_string_equal(errors, "");
    assert_int_equal(rc, 0);
    assert_int_equal(config->n_feeds, 1);
    check_round_trip(config);
    expect_keys(path);
    free(errors);
    free(path);
}

static void test_drop_ins(void **state)
{
    (void)state;
    static const char b[] = "feeds:\n  b:\n    source: { type: synthetic, rows: 1 }\n    batch: 1\n    fields: { x: {} }\n";
    assert_int_equal(mkdir("feeds.d", 0700), 0);
    write_file("feeds.d/0.yaml", b, strlen(b));
    struct config *config = load_good(BATCH);
    assert_int_equal(config->n_feeds, 2);
    assert_string_equal(config->feeds[0].name, "a");
    assert_string_equal(config->feeds[1].name, "b");
    assert_string_equal(config->feeds[1].mark.file, "feeds.d/0.yaml");
    assert_int_equal(config->feeds[1].mark.line, 2);
    config_destroy(config);
    assert_int_equal(unlink("feeds.d/0.yaml") | rmdir("feeds.d"), 0);
}

/* What of a feed is wrong is known, so that the rest of it can still be looked at. */
static void test_bad_parts(void **state)
{
    (void)state;
    static const char text[] = HEAD "feeds:\n"
                                    "  batch: { source: { type: synthetic, rows: 4 }, batch: 0, fields: { x: {} } }\n"
                                    "  source: { source: { type: synthetic }, batch: 1, fields: { x: {} } }\n"
                                    "  field: { source: { type: synthetic, rows: 4 }, batch: 1, fields: { x: {}, y: { z: } } }\n"
                                    "  fine: { source: { type: synthetic, rows: 4 }, batch: 1, fields: { x: {} } }\n";
    static const struct {
        bool bad, source_bad, field_bad;
    } expected[] = { { true, false, false }, { true, true, false }, { true, false, true }, { false, false, false } };
    struct config *config = NULL;
    char *errors;
    write_file("t.yaml", text, strlen(text));
    assert_int_equal(load(&config, "t.yaml", &errors), -EINVAL);
    assert_int_equal(config->n_errors, 3);
    for (uint32_t i = 0; i < 4; i++) {
        const struct config_feed *feed = &config->feeds[i];
        assert_int_equal(feed->bad, expected[i].bad);
        assert_int_equal(feed->source_bad, expected[i].source_bad);
        assert_int_equal(feed->fields[feed->n_fields - 1].bad, expected[i].field_bad);
        assert_false(feed->fields[0].bad);
    }
    config_destroy(config);
    free(errors);
}

static void test_help(void **state)
{
    (void)state;
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    config_help(stream);
    fclose(stream);
    assert_non_null(strstr(text, "read_retry"));
    assert_non_null(strstr(text, "source 'tokens'"));
    free(text);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink("t.yaml");
    return chdir("/") || rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_units),       cmocka_unit_test(test_dump),
        cmocka_unit_test(test_dump_whole), cmocka_unit_test(test_dump_preset), cmocka_unit_test(test_sample),
        cmocka_unit_test(test_drop_ins),   cmocka_unit_test(test_bad_parts),   cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
