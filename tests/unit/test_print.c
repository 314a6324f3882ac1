/* SPDX-License-Identifier: MIT */
/* The fingerprints of feeds (daemon/print.c): pinned, the same for what is the same, another for each thing that is not. */
#include "opened.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "config.h"
#include "config_table.h"
#include "feed.h"

#define FEED "version: 1\nfeeds:\n  f:\n"

static struct pf_prints prints_kept(const char *yaml, const char *state)
{
    struct feed *feed = NULL;
    struct config *config;
    struct pf_prints prints;
    write_text("pfeed.yaml", yaml);
    assert_int_equal(config_load(&config, "pfeed.yaml"), 0);
    if (config->n_errors == 0)
        feeds_open(&(const struct feeds_env){ .config = config, .feeds = &feed, .state = state });
    assert_int_equal(config_report(config, stderr), 0);
    assert_int_equal(config->n_feeds, 1);
    prints = feed->prints;
    feed_destroy(feed);
    config_destroy(config);
    return prints;
}

static struct pf_prints prints_of(const char *yaml)
{
    return prints_kept(yaml, NULL);
}

/* The prints that differ, in the order of the struct: "data", "order", "recipe". */
static const char *differ(struct pf_prints a, struct pf_prints b)
{
    static char text[64];
    snprintf(text, sizeof text, "%s%s%s", a.data != b.data ? "data " : "", a.order != b.order ? "order " : "",
             a.recipe != b.recipe ? "recipe " : "");
    return text;
}

static void expect_differ(const char *a, const char *b, const char *what)
{
    assert_string_equal(differ(prints_of(a), prints_of(b)), what);
}

#define SOURCE "    source: { type: synthetic, rows: 1000 }\n    batch: 8\n"

/* Tokens that are kept for months must stay good: neither another pfeed nor more settings may change these numbers. */
static void pinned(void **state)
{
    (void)state;
    const struct pf_prints plain = prints_of(FEED SOURCE "    fields: { x: {} }\n");
    assert_int_equal(plain.data, UINT64_C(0x554342067273b266));
    assert_int_equal(plain.order, UINT64_C(0x2d06800538d394c2));
    assert_int_equal(plain.recipe, UINT64_C(0x8513e58ea15ee426));
    mkdir("images", 0700);
    make_file("images/a.jpg");
    const struct pf_prints images = prints_of(FEED "    source: { type: directory, path: images }\n"
                                                   "    batch: 1\n    tail: pad\n    shuffle: none\n    on_error: mask\n"
                                                   "    fields:\n      image:\n        decode: image\n        transforms:\n"
                                                   "          - random_resized_crop: { size: 224, scale: [0.2, 1.0] }\n"
                                                   "          - horizontal_flip\n        dtype: float16\n");
    assert_int_equal(images.data, UINT64_C(0x776354e02777184d));
    assert_int_equal(images.order, UINT64_C(0x16d0fd61b71b7252));
    /* also hashes KERNEL_VERSION: other bits of the same picture are another recipe */
    assert_int_equal(images.recipe, UINT64_C(0x102910c7291d250b));
}

/* A default is part of what the numbers stand for: one that changes here changes what a kept token means, and needs a row of
 * another name. */
static void defaults_written_out(void **state)
{
    (void)state;
    mkdir("images", 0700);
    make_file("images/a.jpg");
    expect_differ(FEED "    source: { type: directory, path: images }\n    batch: 1\n"
                       "    fields:\n      image:\n        decode: image\n        transforms:\n"
                       "          - random_resized_crop: { size: 8 }\n          - horizontal_flip\n",
                  FEED "    source: { type: directory, path: images, extensions: [jpg, jpeg] }\n    batch: 1\n"
                       "    shuffle: { mode: global, seed: 0 }\n    tail: drop\n    deliver: split\n    on_error: replace\n"
                       "    fields:\n      image:\n        from: image\n        decode: { image: { orientation: no, max_pixels: "
                       "64000000, max_progressive: 4000000 } }\n        transforms:\n"
                       "          - random_resized_crop: { size: 8, scale: [0.08, 1.0], ratio: [0.75, 1.3333333333333333], "
                       "interpolation: bilinear, antialias: yes }\n"
                       "          - horizontal_flip: { p: 0.5 }\n        dtype: auto\n        layout: chw\n        shape: []\n"
                       "        length: auto\n        stride: auto\n",
                  "");
}

static void beside(void **state)
{
    (void)state;
    expect_differ(FEED SOURCE "    fields: { x: {}, y: { dtype: int64 } }\n",
                  "version: 1\nfeeds:\n  g:\n    source: { type: synthetic, rows: 1000, delay_us: 7 }\n    batch: 16\n"
                  "    shuffle: { seed: 9 }\n    gang: 2\n    epochs: 3\n    slots: 5\n    max_held: 1\n    slow: skip\n    "
                  "park_after: 5s\n"
                  "    max_errors: 0.5\n    read_retry: 1s\n    warm: yes\n    access: { users: [0] }\n"
                  "    fields: { x: {}, y: { dtype: int64 } }\n",
                  "");
}

static void each_its_own(void **state)
{
    static const struct {
        const char *yaml, *what;
    } others[] = {
        { FEED SOURCE "    tail: pad\n    fields: { x: {} }\n", "order " },
        { FEED SOURCE "    shuffle: none\n    fields: { x: {} }\n", "order " },
        { FEED SOURCE "    deliver: each\n    fields: { x: {} }\n", "order " },
        { FEED SOURCE "    on_error: fail\n    fields: { x: {} }\n", "recipe " },
        { FEED SOURCE "    fields: { x: { layout: hwc } }\n", "recipe " },
        { FEED SOURCE "    fields: { z: { from: x } }\n", "recipe " },
        { FEED SOURCE "    fields: { x: { shape: [2] } }\n", "data recipe " },
        { FEED SOURCE "    fields: { x: { dtype: int32 } }\n", "data recipe " },
        { FEED "    source: { type: synthetic, rows: 1001 }\n    batch: 8\n    fields: { x: {} }\n", "data " },
        { FEED "    source: { type: synthetic, rows: 1000, seed: 1 }\n    batch: 8\n    fields: { x: {} }\n", "data " },
        { FEED "    source: { type: synthetic, rows: 1000, classes: 11 }\n    batch: 8\n    fields: { x: {} }\n", "data " },
    };
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_differ(FEED SOURCE "    fields: { x: {} }\n", others[i].yaml, others[i].what);
}

static void transforms(void **state)
{
#define PICTURE                                                                                                                  \
    FEED "    source: { type: directory, path: images }\n    batch: 1\n    fields:\n      image:\n        decode: image\n"       \
         "        transforms:\n"
    (void)state;
    mkdir("images", 0700);
    make_file("images/a.jpg");
    expect_differ(PICTURE "          - resize: { size: 8 }\n          - center_crop: { size: 8 }\n",
                  PICTURE "          - resize: { size: 9 }\n          - center_crop: { size: 8 }\n", "recipe ");
    expect_differ(PICTURE "          - resize: { size: [8, 8] }\n          - center_crop: { size: 8 }\n",
                  PICTURE "          - resize: { size: [8, 8] }\n", "recipe ");
    expect_differ(PICTURE "          - resize: { size: [8, 8] }\n          - horizontal_flip: { p: 0.5 }\n",
                  PICTURE "          - resize: { size: [8, 8] }\n          - horizontal_flip: { p: 0.25 }\n", "recipe ");
}

/* What the decoder makes of the same file. */
static void decoding(void **state)
{
#define DECODED(settings)                                                                                                        \
    FEED "    source: { type: directory, path: images }\n    batch: 1\n    fields:\n      image:\n        decode: { image: "     \
         "{" settings "} }\n        transforms: [ { resize: { size: [8, 8] } } ]\n"
    (void)state;
    mkdir("images", 0700);
    make_file("images/a.jpg");
    expect_differ(DECODED(""), DECODED("scaled_decode: auto"), "recipe ");
    expect_differ(DECODED(""), DECODED("background: [0, 0, 1]"), "recipe ");
    expect_differ(DECODED(""), DECODED("scaled_decode: off, background: [255, 255, 255]"), "");
}

/* A preset is the list that it stands for, and what may stand in a list is what the field says. */
static void presets(void **state)
{
#define LONG                                                                                                                     \
    PICTURE "          - resize: { size: 256 }\n          - center_crop: { size: 200 }\n"                                        \
            "          - normalize: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }\n"
    (void)state;
    mkdir("images", 0700);
    make_file("images/a.jpg");
    expect_differ(LONG "        dtype: float32\n", PICTURE "          - imagenet-eval: { size: 200 }\n", "");
    expect_differ(LONG "        dtype: float32\n", PICTURE "          - imagenet-eval\n", "recipe ");
    expect_differ(LONG "        dtype: float16\n        layout: hwc\n",
                  PICTURE "          - layout: hwc\n          - imagenet-eval: { size: 200 }\n          - dtype: float16\n", "");
    expect_differ(PICTURE "          - resize: { size: 256 }\n          - center_crop: { size: 224 }\n        dtype: uint8\n",
                  PICTURE "          - imagenet-eval: { normalize: no }\n        dtype: uint8\n", "");
}

static void order_of_fields(void **state)
{
    (void)state;
    expect_differ(FEED SOURCE "    fields: { x: { layout: hwc }, y: {} }\n",
                  FEED SOURCE "    fields: { y: {}, x: { layout: hwc } }\n", "");
    expect_differ(FEED SOURCE "    fields: { x: { layout: hwc }, y: {} }\n",
                  FEED SOURCE "    fields: { y: { layout: hwc }, x: {} }\n", "recipe ");
}

/* Which samples take part, and how often, is of the order; files by what is in them. */
static void chosen(void **state)
{
#define PART(part, key)                                                                                                          \
    FEED SOURCE "    split: { part: " part ", parts: { a: 0.5, b: 0.5 }, key: " key " }\n    fields: { x: {} }\n"
#define SUBSET(file) FEED SOURCE "    subset: " file "\n    fields: { x: {} }\n"
    static const char *const files[] = { "ids", "same", "other" };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        FILE *file = fopen(files[i], "w");

        assert_non_null(file);
        for (unsigned id = 0; id < 100; id++)
            fprintf(file, "%u\n", id + (i == 2 && id == 99));
        fclose(file);
    }
    expect_differ(PART("a", "0"), PART("a", "0"), "");
    expect_differ(PART("a", "0"), PART("b", "0"), "order ");
    expect_differ(PART("a", "0"), PART("a", "1"), "order ");
    expect_differ(FEED SOURCE "    fields: { x: {} }\n", PART("a", "0"), "order ");
    expect_differ(SUBSET("ids"), SUBSET("same"), "");
    expect_differ(SUBSET("ids"), SUBSET("other"), "order ");
}

/* Every row that a history depends on is in a table that print.c walks: a new section has to say what it is. */
static void sections(void **state)
{
    static const char *const known[] = { "source", "shuffle", "split", "fields", "cache", "access", "decode", "transforms" };
    const struct setting *const tables[] = { config_feed_table, config_field_table, config_shuffle_table };
    (void)state;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct setting *row = tables[t]; row->name; row++) {
            size_t i = 0;
            while (i < sizeof known / sizeof *known && strcmp(row->name, known[i]) != 0)
                i++;
            assert_true(row->type != SETTING_SECTION || i < sizeof known / sizeof *known);
        }
}

/* ---- data ---------------------------------------------------------------------------------------------------------------- */

#define FOLDER(path) FEED "    source: { type: directory, path: " path " }\n    batch: 1\n    fields: { label: {} }\n"

static void make_classes(const char *root, const char *const *names, size_t n)
{
    char path[128];
    mkdir(root, 0700);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%.*s", root, (int)strcspn(names[i], "/"), names[i]);
        mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        write_text(path, names[i]);
    }
}

static void same_files_elsewhere(void **state)
{
    static const char *const there[] = { "a/1.jpg", "a/2.jpg", "b/1.jpg", "c/7.jpg" };
    static const char *const turned[] = { "c/7.jpg", "b/1.jpg", "a/2.jpg", "a/1.jpg" };
    const struct timespec long_ago[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
    (void)state;
    make_classes("one", there, 4);
    mkdir("deep", 0700);
    make_classes("deep/two", turned, 4);
    utimensat(AT_FDCWD, "deep/two/a/1.jpg", long_ago, 0);
    utimensat(AT_FDCWD, "deep/two/a", long_ago, 0);
    expect_differ(FOLDER("one"), FOLDER("deep/two"), "");
    expect_differ(FOLDER("one"), FOLDER("one/"), "");
    assert_int_equal(rename("deep/two/a/2.jpg", "deep/two/a/3.jpg"), 0);
    expect_differ(FOLDER("one"), FOLDER("deep/two"), "data ");
    assert_int_equal(rename("deep/two/a/3.jpg", "deep/two/a/2.jpg"), 0);
    expect_differ(FOLDER("one"), FOLDER("deep/two"), "");
    write_text("deep/two/c/7.jpg", "longer than it was");
    expect_differ(FOLDER("one"), FOLDER("deep/two"), "data ");
    write_text("deep/two/c/7.jpg", turned[0]);
    assert_int_equal(rename("deep/two/c", "deep/two/d"), 0);
    expect_differ(FOLDER("one"), FOLDER("deep/two"), "data ");
}

static void other_numbers_of_classes(void **state)
{
    static const char *const there[] = { "a/1.jpg", "b/1.jpg" };
    (void)state;
    make_classes("one", there, 2);
    write_text("classes.txt", "b\na\n");
    expect_differ(FOLDER("one"), FOLDER("one, classes: classes.txt"), "data ");
    write_text("classes.txt", "a\nb\n");
    expect_differ(FOLDER("one"), FOLDER("one, classes: classes.txt"), "");
}

static void make_old(const char *path)
{
    const struct timespec long_ago[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
}

/* The manifest is there and is read: by a file that is longer now, which a list that is kept does not know. */
static void kept_lists(void **state)
{
    static const char *const there[] = { "a/1.jpg", "a/2.jpg", "b/1.jpg" };
    (void)state;
    make_classes("one", there, 3);
    make_old("one/a");
    make_old("one/b");
    make_old("one");
    write_text("one.csv", "path,label\na/1.jpg,cat\nb/1.jpg,dog\n");
    mkdir("state", 0700);
    const char *const feeds[] = {
        FOLDER("one"), FEED "    source: { type: list, path: one.csv, root: one }\n    batch: 1\n    fields: { label: {} }\n"
    };
    for (int i = 0; i < 2; i++) {
        write_text("one/a/1.jpg", there[0]);
        const struct pf_prints scanned = prints_kept(feeds[i], "state");
        write_text("one/a/1.jpg", "longer than it was");
        assert_string_equal(differ(scanned, prints_kept(feeds[i], "state")), "");
        assert_string_equal(differ(scanned, prints_of(feeds[i])), "data ");
    }
}

static void lists(void **state)
{
#define LIST FEED "    source: { type: list, path: one.csv, root: one }\n    batch: 1\n    fields: { label: {} }\n"
    static const char *const there[] = { "a/1.jpg", "b/1.jpg" };
    char text[256];
    (void)state;
    make_classes("one", there, 2);
    write_text("one.csv", "path,label\na/1.jpg,1\nb/1.jpg,2\n");
    const struct pf_prints one = prints_of(LIST);
    assert_int_equal(rename("one", "two"), 0);
    assert_string_equal(
        differ(one,
               prints_of(FEED "    source: { type: list, path: one.csv, root: two }\n    batch: 1\n    fields: { label: {} }\n")),
        "");
    assert_int_equal(rename("two", "one"), 0);
    snprintf(text, sizeof text, "path,label\n%s/one/a/1.jpg,1\nb/1.jpg,2\n", folder);
    write_text("one.csv", text);
    snprintf(text, sizeof text,
             FEED "    source: { type: list, path: one.csv, root: %s/one }\n    batch: 1\n    fields: { label: {} }\n", folder);
    assert_string_equal(differ(one, prints_of(text)), "");
    write_text("one.csv", "path,label\na/1.jpg,1\nb/1.jpg,3\n");
    assert_string_equal(differ(one, prints_of(LIST)), "data ");
    write_text("one.csv", "path,label\nb/1.jpg,2\na/1.jpg,1\n");
    assert_string_equal(differ(one, prints_of(LIST)), "data ");
    write_text("one.csv", "path,label\na/1.jpg,1\nb/1.jpg,2\n");
    assert_string_equal(differ(one, prints_of(LIST)), "");
    write_text("one/b/1.jpg", "");
    assert_string_equal(differ(one, prints_of(LIST)), "data ");
    unlink("one/b/1.jpg");
    assert_string_equal(differ(one, prints_of(LIST)), "data ");
}

static void tokens(void **state)
{
#define TOKENS(path)                                                                                                             \
    FEED "    source: { type: tokens, path: \"" path "\", dtype: uint16 }\n    batch: 1\n    fields: { tokens: { length: 8 } "   \
         "}\n"
    static char bytes[1 << 20];
    (void)state;
    mkdir("a", 0700);
    mkdir("b", 0700);
    write_bytes("a/1.bin", bytes, sizeof bytes);
    write_bytes("a/2.bin", bytes, 4096);
    write_bytes("b/1.bin", bytes, sizeof bytes);
    write_bytes("b/2.bin", bytes, 4096);
    expect_differ(TOKENS("a/*.bin"), TOKENS("b/?.bin"), "");
    expect_differ(TOKENS("a/*.bin"), TOKENS("a/1.bin"), "data ");
    /* The first block, and the last bytes of all. */
    bytes[4095] = 1;
    write_bytes("b/1.bin", bytes, sizeof bytes);
    expect_differ(TOKENS("a/*.bin"), TOKENS("b/*.bin"), "data ");
    bytes[4095] = 0;
    write_bytes("b/1.bin", bytes, sizeof bytes);
    expect_differ(TOKENS("a/*.bin"), TOKENS("b/*.bin"), "");
    bytes[4095] = 1;
    write_bytes("b/2.bin", bytes, 4096);
    expect_differ(TOKENS("a/*.bin"), TOKENS("b/*.bin"), "data ");
    /* A last file that is smaller than a block; and where all are. */
    for (size_t first = sizeof bytes; first >= 64; first = first > 64 ? 64 : 0) {
        write_bytes("a/1.bin", bytes, first);
        write_bytes("b/1.bin", bytes, first);
        write_bytes("a/2.bin", bytes + 4096 - 64, 64);
        write_bytes("b/2.bin", bytes + 4096 - 64, 64);
        expect_differ(TOKENS("a/*.bin"), TOKENS("b/*.bin"), "");
        write_bytes("b/2.bin", bytes, 64);
        expect_differ(TOKENS("a/*.bin"), TOKENS("b/*.bin"), "data ");
    }
    expect_differ(TOKENS("a/*.bin"),
                  FEED "    source: { type: tokens, path: \"a/*.bin\", dtype: uint16, skip: 16 }\n    batch: 1\n"
                       "    fields: { tokens: { length: 8 } }\n",
                  "data ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pinned),
        TEST(defaults_written_out),
        TEST(beside),
        TEST(each_its_own),
        TEST(transforms),
        TEST(decoding),
        TEST(presets),
        TEST(order_of_fields),
        TEST(sections),
        TEST(chosen),
        TEST(same_files_elsewhere),
        TEST(other_numbers_of_classes),
        TEST(kept_lists),
        TEST(lists),
        TEST(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
