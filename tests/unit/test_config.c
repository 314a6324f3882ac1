/* SPDX-License-Identifier: MIT */
/* The configuration: good texts, broken texts with their exact messages, feeds.d, and that a dump loads again to the same. */
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
#include "decode/decode.h"
#include "transform/transform.h"

#define HEAD   "version: 1\n"
#define FEED   HEAD "feeds:\n  a:\n    source: { type: synthetic, rows: 10 }\n    fields: { x: {} }\n"
#define BATCH  FEED "    batch: 4\n"
#define SOURCE HEAD "feeds:\n  a:\n    batch: 4\n    fields: { x: {} }\n    source: "
#define FIELDS HEAD "feeds:\n  a:\n    batch: 4\n    source: { type: synthetic, rows: 10 }\n    fields:"

struct broken {
    const char *text, *errors;
};

static const struct broken broken[] = {
    { "", "t.yaml:1:1: the file is empty; it must begin with 'version: 1'\n" },
    { "# nothing\n", "t.yaml:1:1: the file is empty; it must begin with 'version: 1'\n" },
    { "daemon: {}\n", "t.yaml:1:1: the configuration has no 'version'; add a whole number (the version of this format: 1)\n" },
    { "version: 2\n", "t.yaml:1:10: version 2 is not known to this pfeedd; it reads version 1\n" },
    { "version: one\n", "t.yaml:1:10: 'version' is 'one', which is not a whole number; give a whole number\n" },
    { "- a\n", "t.yaml:1:1: the configuration is a list; it must be a map of keys ('key: value' lines)\n" },
    { "hello\n", "t.yaml:1:1: the configuration is a word; it must be a map of keys ('key: value' lines)\n" },
    { HEAD "feds: {}\n", "t.yaml:2:1: unknown key 'feds' in the configuration; did you mean 'feeds'?\n" },
    { HEAD "zzzzzz: 1\n", "t.yaml:2:1: unknown key 'zzzzzz' in the configuration; the keys here are version, daemon, feeds\n" },
    { HEAD "daemon: { workers: 0 }\n",
      "t.yaml:2:20: 'workers' is 0, which is out of range; give a whole number from 1 to 1024 or 'auto'\n" },
    { HEAD "daemon: { workers: [1, 2] }\n", "t.yaml:2:20: 'workers' is a list; give a whole number from 1 to 1024 or 'auto'\n" },
    { HEAD "daemon: { workers: -4 }\n",
      "t.yaml:2:20: 'workers' is -4, which is out of range; give a whole number from 1 to 1024 or 'auto'\n" },
    { HEAD "daemon: { workers: 1.5 }\n",
      "t.yaml:2:20: 'workers' is '1.5', which is not a whole number; give a whole number from 1 to 1024 or 'auto'\n" },
    { HEAD "daemon:\n"
           "  memory: 8GB\n",
      "t.yaml:3:11: 'memory' is '8GB', which is not a size; give a size such as 4GiB (B, KiB, MiB, GiB, TiB) from 1MiB to "
      "1024TiB or 'auto'\n" },
    { HEAD "daemon:\n"
           "  memory: 10\n",
      "t.yaml:3:11: 'memory' is 10, which is out of range; give a size such as 4GiB (B, KiB, MiB, GiB, TiB) from 1MiB to 1024TiB "
      "or 'auto'\n" },
    { HEAD "daemon:\n"
           "  memory: 99999999999TiB\n",
      "t.yaml:3:11: 'memory' is 99999999999TiB, which is out of range; give a size such as 4GiB (B, KiB, MiB, GiB, TiB) from "
      "1MiB to 1024TiB or 'auto'\n" },
    { HEAD "daemon:\n"
           "  memory: 1.0001KiB\n",
      "t.yaml:3:11: 'memory' is '1.0001KiB', which is not a size; give a size such as 4GiB (B, KiB, MiB, GiB, TiB) from 1MiB to "
      "1024TiB or 'auto'\n" },
    { HEAD "daemon:\n"
           "  shm: memdf\n",
      "t.yaml:3:8: 'shm' cannot be 'memdf'; did you mean 'memfd'?\n" },
    { HEAD "daemon:\n"
           "  shm: disk\n",
      "t.yaml:3:8: 'shm' cannot be 'disk'; use 'auto', 'memfd' or 'posix'\n" },
    { HEAD "daemon: [workers]\n", "t.yaml:2:9: 'daemon' is a list; it must be a map of keys ('key: value' lines)\n" },
    { HEAD "daemon:\n"
           "  workers: 1\n"
           "  workers: 2\n",
      "t.yaml:4:3: 'workers' is given twice in 'daemon', first on line 3; remove one\n" },
    { HEAD "daemon:\n"
           "  workers:\n",
      "t.yaml:3:11: 'workers' has no value; give a whole number from 1 to 1024 or 'auto'\n" },
    { HEAD "feeds: [a]\n", "t.yaml:2:8: 'feeds' is a list; it must be a map from names to feeds\n" },
    { BATCH "  a:\n"
            "    batch: 1\n",
      "t.yaml:7:3: feed 'a' is there already, at t.yaml:3; rename one of them\n" },
    { HEAD "feeds:\n"
           "  a/b: {}\n",
      "t.yaml:3:3: 'a/b' cannot name a feed; use up to 63 letters, digits, '.', '_' and '-', a letter or digit first\n" },
    { HEAD "feeds:\n"
           "  a:\n",
      "t.yaml:3:3: feed 'a' has no 'source'; add it (where the samples are: 'type' and that kind's own keys)\n"
      "t.yaml:3:3: feed 'a' has no 'batch'; add a whole number from 1 to 1048576 (rows of a slot, and of one global step unless "
      "a job asks otherwise)\n"
      "t.yaml:3:3: feed 'a' has no 'fields'; add it (a map from each field's name to how its rows are made)\n" },
    { FEED "    bacth: 4\n", "t.yaml:3:3: feed 'a' has no 'batch'; add a whole number from 1 to 1048576 (rows of a slot, and of "
                             "one global step unless a job asks otherwise)\n"
                             "t.yaml:6:5: unknown key 'bacth' in feed 'a'; did you mean 'batch'?\n" },
    { FEED "    batch: 0\n", "t.yaml:6:12: 'batch' is 0, which is out of range; give a whole number from 1 to 1048576\n" },
    { FEED "    batch: 99999999999999999999\n",
      "t.yaml:6:12: 'batch' is 99999999999999999999, which is out of range; give a whole number from 1 to 1048576\n" },
    { FEED "    batch: many\n",
      "t.yaml:6:12: 'batch' is 'many', which is not a whole number; give a whole number from 1 to 1048576\n" },
    { BATCH "    cache: { encoded: 4GiB }\n",
      "t.yaml:7:5: 'cache' is not in this version; remove it (caches of encoded or decoded samples come later)\n" },
    { BATCH "    slow: park\n", "t.yaml:7:11: 'slow: park' is not in this version; use 'block' or 'skip'\n" },
    { BATCH "    slow: blok\n", "t.yaml:7:11: 'slow' cannot be 'blok'; did you mean 'block'?\n" },
    { BATCH "    tail: cut\n", "t.yaml:7:11: 'tail' cannot be 'cut'; use 'drop', 'pad' or 'partial'\n" },
    { BATCH "    deliver: eahc\n", "t.yaml:7:14: unknown deliver mode 'eahc'; did you mean 'each'?\n" },
    { BATCH "    deliver: first\n", "t.yaml:7:14: unknown deliver mode 'first'; use one of each, split\n" },
    { BATCH "    max_held: 17\n", "t.yaml:7:15: 'max_held' is 17, which is out of range; give a whole number from 1 to 16\n" },
    { BATCH "    read_retry: 30 days\n", "t.yaml:7:17: 'read_retry' is '30 days', which is not a duration; give a duration such "
                                         "as 30s (ms, s, m, h) from 0s to 1h\n" },
    { BATCH "    warm: maybe\n", "t.yaml:7:11: 'warm' is 'maybe', which is not yes or no; give yes or no\n" },
    { BATCH "    epochs: 0\n",
      "t.yaml:7:13: 'epochs' is 0, which is out of range; give a whole number from 1 to 1000000000 or 'forever'\n" },
    { BATCH "    shuffle: blobal\n", "t.yaml:7:14: 'shuffle' cannot be 'blobal'; did you mean 'global'?\n" },
    { BATCH "    shuffle: { mode: block }\n", "t.yaml:7:22: 'mode: block' is not in this version; use 'global' or 'none'\n" },
    { BATCH "    shuffle: [none]\n", "t.yaml:7:14: 'shuffle' is a list; it must be a map of keys ('key: value' lines)\n" },
    { BATCH "    shuffle: { seed: -1 }\n", "t.yaml:7:22: 'seed' is -1, which is out of range; give a whole number, 0 or more\n" },
    { BATCH "    access: { users: [no-such-user] }\n",
      "t.yaml:7:22: no user 'no-such-user' on this machine; see 'getent passwd', or give a number\n" },
    { BATCH "    access: { groups: no-such-group }\n",
      "t.yaml:7:23: no group 'no-such-group' on this machine; see 'getent group', or give a number\n" },
    { BATCH "    access: { groups: [{a: 1}] }\n", "t.yaml:7:24: 'groups' holds a map; give a word or a list of words\n" },
    { SOURCE "synthetic\n", "t.yaml:6:13: 'source' is a word; it must be a map such as '{ type: directory, path: /data }'\n" },
    { SOURCE "\n", "t.yaml:6:12: 'source' is empty; it must be a map such as '{ type: directory, path: /data }'\n" },
    { SOURCE "{ rows: 4 }\n", "t.yaml:6:13: the source has no 'type'; give one of directory, list, synthetic, tokens\n" },
    { SOURCE "{ type: directroy }\n", "t.yaml:6:21: unknown source type 'directroy'; did you mean 'directory'?\n" },
    { SOURCE "{ type: s3 }\n", "t.yaml:6:21: unknown source type 's3'; use one of directory, list, synthetic, tokens\n" },
    { SOURCE "{ type: synthetic, row: 4 }\n",
      "t.yaml:6:13: source 'synthetic' has no 'rows'; add a whole number from 0 to 1000000000000000 (number of samples)\n"
      "t.yaml:6:32: unknown key 'row' in source 'synthetic'; did you mean 'rows'?\n" },
    { SOURCE "{ type: directory }\n", "t.yaml:6:13: source 'directory' has no 'path'; add a path (the folder; its folders are "
                                      "the classes, or it holds all files itself)\n" },
    { SOURCE "{ type: directory, path: '' }\n", "t.yaml:6:38: 'path' is empty; give a path\n" },
    { SOURCE "{ type: directory, path: /x, classes_of: a }\n",
      "t.yaml:6:54: 'classes_of' leads back to this feed; let one of them number the classes by itself\n" },
    { SOURCE "{ type: directory, path: /x, classes_of: imagenet }\n",
      "t.yaml:6:54: 'classes_of' names no feed: 'imagenet'; give the name of another feed\n" },
    { SOURCE "{ type: synthetic, rows: 1, classes_of: a }\n",
      "t.yaml:6:53: source 'synthetic' has no classes; remove 'classes_of'\n" },
    { SOURCE "{ type: tokens, path: x, dtype: int16 }\n", "t.yaml:6:45: 'dtype' cannot be 'int16'; did you mean 'uint16'?\n" },
    { FIELDS " {}\n", "t.yaml:6:13: 'fields' is empty; give at least one field, such as 'image: { decode: image }'\n" },
    { FIELDS " [x]\n", "t.yaml:6:13: 'fields' is a list; give at least one field, such as 'image: { decode: image }'\n" },
    { FIELDS "\n"
             "      x: {}\n"
             "      x: {}\n",
      "t.yaml:8:7: field 'x' is given twice, first on line 7; rename one of them\n" },
    { FIELDS "\n"
             "      3x: {}\n",
      "t.yaml:7:7: '3x' cannot name a field; use up to 31 letters, digits, '.', '_' and '-', a letter first\n" },
    { FIELDS "\n"
             "      x: { dtype: flaot16 }\n",
      "t.yaml:7:19: unknown dtype 'flaot16'; did you mean 'float16'?\n" },
    { FIELDS "\n"
             "      x: { dtype: double }\n",
      "t.yaml:7:19: unknown dtype 'double'; use one of uint8, uint16, uint32, int32, int64, float16, bfloat16, float32, "
      "float64\n" },
    { FIELDS "\n"
             "      x: { layout: nchw }\n",
      "t.yaml:7:20: 'layout' cannot be 'nchw'; did you mean 'chw'?\n" },
    { FIELDS "\n"
             "      x: { shape: [3, 0] }\n",
      "t.yaml:7:19: 'shape' holds 0, which is out of range; give a list of whole numbers from 1 to 2147483647\n" },
    { FIELDS "\n"
             "      x: { shape: [1,1,1,1,1,1,1,1,1] }\n",
      "t.yaml:7:19: 'shape' has 9 numbers; give at most 8\n" },
    { FIELDS "\n"
             "      x: { decode: imag }\n",
      "t.yaml:7:20: unknown decoder 'imag'; did you mean 'image'?\n" },
    { FIELDS "\n"
             "      x: { decode: [image] }\n",
      "t.yaml:7:20: 'decode' is a list; give a name, or '{ name: { settings } }'\n" },
    { FIELDS "\n"
             "      x: { decode: { image: {}, raw: {} } }\n",
      "t.yaml:7:20: 'decode' is a map of several keys; write one '{ name: { settings } }'\n" },
    { FIELDS "\n"
             "      x: { decode: { raw: { rotate: yes } } }\n",
      "t.yaml:7:29: unknown key 'rotate' in decoder 'raw'; it takes no keys, remove it\n" },
    { FIELDS "\n"
             "      x: { transforms: { resize: {} } }\n",
      "t.yaml:7:24: 'transforms' is a map; it must be a list ('- name' lines)\n" },
    { FIELDS "\n"
             "      x: { transforms: [horizontal_filp] }\n",
      "t.yaml:7:25: unknown transform 'horizontal_filp'; did you mean 'horizontal_flip'?\n" },
    { FIELDS "\n"
             "      x: { transforms: [[resize]] }\n",
      "t.yaml:7:25: a transform is a list; give a name, or '{ name: { settings } }'\n" },
    { FIELDS "\n"
             "      x: { transforms: [{ resize: { size: 224 }, normalize: {} }] }\n",
      "t.yaml:7:25: a transform is a map of several keys; write one '{ name: { settings } }'\n" },
    { FIELDS "\n"
             "      x:\n"
             "        transforms:\n"
             "          -\n",
      "t.yaml:9:12: a transform is empty; give a name, or '{ name: { settings } }'\n" },
    { HEAD "daemon:\n"
           "\tworkers: 1\n",
      "t.yaml:3:1: the line is indented by a tab; use spaces\n" },
    { HEAD "daemon: &d { workers: 1 }\n"
           "feeds: *d\n",
      "t.yaml:2:9: &d: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:3:8: *d: anchors and aliases are not taken here; write the value out\n" },
    { "a: &a [x, x]\n"
      "b: &b [*a, *a]\n"
      "c: [*b, *b]\n",
      "t.yaml:1:4: &a: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:2:4: &b: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:2:8: *a: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:2:12: *a: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:3:5: *b: anchors and aliases are not taken here; write the value out\n"
      "t.yaml:3:9: *b: anchors and aliases are not taken here; write the value out\n" },
    { HEAD "---\n"
           "version: 1\n",
      "t.yaml:2:1: a second document begins here; keep one a file\n" },
    { HEAD "daemon: { workers: 1\n"
           "feeds: {}\n",
      "t.yaml:3:6: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; check the indentation and "
      "quotes up to here\n" },
    { HEAD " daemon: 1\n", "t.yaml:2:8: not valid YAML: mapping values are not allowed in this context; check the indentation "
                           "and quotes up to here\n" },
    { HEAD "\"\\e[31m\": 1\n",
      "t.yaml:2:1: unknown key '?[31m' in the configuration; the keys here are version, daemon, feeds\n" },
    { BATCH "    deliver: \"sp\\0lit\"\n", "t.yaml:7:14: 'deliver' is a word with a zero byte in it; give a word\n" },
    { HEAD "? [a, b]\n"
           ": 1\n",
      "t.yaml:2:3: a key in the configuration is a list; a key must be one word\n" },
    { "version: 2\n"
      "daemon: { worker: 1, memory: lots }\n"
      "feeds:\n"
      "  x: { batch: 0 }\n",
      "t.yaml:1:10: version 2 is not known to this pfeedd; it reads version 1\n"
      "t.yaml:2:11: unknown key 'worker' in 'daemon'; did you mean 'workers'?\n"
      "t.yaml:2:30: 'memory' is 'lots', which is not a size; give a size such as 4GiB (B, KiB, MiB, GiB, TiB) from 1MiB to "
      "1024TiB or 'auto'\n"
      "t.yaml:4:3: feed 'x' has no 'source'; add it (where the samples are: 'type' and that kind's own keys)\n"
      "t.yaml:4:3: feed 'x' has no 'fields'; add it (a map from each field's name to how its rows are made)\n"
      "t.yaml:4:15: 'batch' is 0, which is out of range; give a whole number from 1 to 1048576\n" },
};

static char folder[] = "/tmp/pfeed-config-XXXXXX";

static void write_file(const char *name, const void *text, size_t size)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Loads t.yaml of the current folder. *errors is to be freed. */
static int load(struct config **config, char **errors)
{
    size_t size;
    FILE *stream = open_memstream(errors, &size);
    int rc = config_load(config, "t.yaml", stream);
    fclose(stream);
    return rc;
}

static struct config *load_good(const char *text)
{
    struct config *config = NULL;
    char *errors;
    write_file("t.yaml", text, strlen(text));
    int rc = load(&config, &errors);
    assert_string_equal(errors, "");
    assert_int_equal(rc, 0);
    free(errors);
    return config;
}

static void expect_errors(const void *text, size_t size, const char *expected)
{
    struct config *config = NULL;
    char *errors;
    write_file("t.yaml", text, size);
    int rc = load(&config, &errors);
    assert_string_equal(errors, expected);
    assert_int_equal(rc, -EINVAL);
    assert_null(config);
    free(errors);
}

static void test_broken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        expect_errors(broken[i].text, strlen(broken[i].text), broken[i].errors);
}

static void test_not_text(void **state)
{
    (void)state;
    char deep[4096];
    static const char zeros[] = "version: 1\n\0\1\2", latin[] = "version: 1\n# caf\xe9, noir\n";
    expect_errors(zeros, sizeof zeros - 1,
                  "t.yaml:2:1: not a text file (control characters are not allowed); the configuration is YAML in UTF-8\n");
    expect_errors(latin, sizeof latin - 1,
                  "t.yaml:2:7: not a text file (invalid trailing UTF-8 octet); the configuration is YAML in UTF-8\n");
    memset(deep, '[', sizeof deep);
    memcpy(deep, "a: ", 3);
    expect_errors(deep, sizeof deep, "t.yaml:1:35: more than 32 levels of lists and maps; nothing here needs so many\n");
    char *big = calloc(1, 2 << 20);
    assert_non_null(big);
    memset(big, '#', 2 << 20);
    struct config *config = NULL;
    char *errors;
    write_file("t.yaml", big, 2 << 20);
    assert_int_equal(load(&config, &errors), -EFBIG);
    assert_string_equal(errors, "t.yaml:1:1: cannot read the file: File too large; check the path and its permissions\n");
    free(errors);
    free(big);
}

static void test_no_file(void **state)
{
    (void)state;
    struct config *config = NULL;
    char *errors;
    unlink("t.yaml");
    assert_int_equal(load(&config, &errors), -ENOENT);
    assert_string_equal(errors,
                        "t.yaml:1:1: cannot read the file: No such file or directory; check the path and its permissions\n");
    free(errors);
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
        snprintf(text, sizeof text, HEAD "daemon: { memory: %s }\n", sizes[i].word);
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
    assert_non_null(strstr(text, "    slots: auto # default\n"));
    assert_non_null(strstr(text, "    read_retry: 1500ms # t.yaml:16\n"));
    assert_non_null(strstr(text, "extensions: [\"jpg\", \"j\\\"p\"] # t.yaml:5\n"));
    assert_non_null(strstr(text, "          - horizontal_flip: # t.yaml:24\n              p: 0.5 # default\n"));
    assert_true(asprintf(&path, "path: [\"%s/a-*.bin\", \"/b.bin\"] # t.yaml:37\n", here) > 0);
    assert_non_null(strstr(text, path));
    free(path);
    free(here);
    free(text);
    check_round_trip(config);
    check_round_trip(load_good(HEAD));
}

static void test_sample(void **state)
{
    (void)state;
    struct config *config = NULL;
    char *errors = NULL, *path = NULL;
    size_t size;
    const char *root = getenv("PFEED_SOURCE_ROOT");
    assert_true(asprintf(&path, "%s/deploy/pfeed.yaml", root ? root : SOURCE_ROOT) > 0);
    FILE *stream = open_memstream(&errors, &size);
    int rc = config_load(&config, path, stream);
    fclose(stream);
    assert_string_equal(errors, "");
    assert_int_equal(rc, 0);
    assert_int_equal(config->n_feeds, 1);
    check_round_trip(config);
    free(errors);
    free(path);
}

static void test_drop_ins(void **state)
{
    (void)state;
    static const char b[] = "feeds:\n  b:\n    source: { type: synthetic, rows: 1 }\n    batch: 1\n    fields: { x: {} }\n";
    static const char a[] = "version: 1\nfeeds:\n  a: {}\n";
    static const char wrong[] = "daemon: {}\nfeeds:\n";
    static const char both[] =
        "feeds.d/1.yaml:3:3: feed 'a' is there already, at t.yaml:3; rename one of them\n"
        "feeds.d/2.yaml:1:1: unknown key 'daemon' in a file of feeds.d; the keys here are version, feeds\n";
    assert_int_equal(mkdir("feeds.d", 0700), 0);
    write_file("feeds.d/0.yaml", b, strlen(b));
    write_file("feeds.d/.hidden.yaml", "?", 1);
    write_file("feeds.d/other.txt", "?", 1);
    struct config *config = load_good(BATCH);
    assert_int_equal(config->n_feeds, 2);
    assert_string_equal(config->feeds[0].name, "a");
    assert_string_equal(config->feeds[1].name, "b");
    assert_string_equal(config->feeds[1].mark.file, "feeds.d/0.yaml");
    assert_int_equal(config->feeds[1].mark.line, 2);
    config_destroy(config);
    write_file("feeds.d/1.yaml", a, strlen(a));
    write_file("feeds.d/2.yaml", wrong, strlen(wrong));
    expect_errors(BATCH, strlen(BATCH), both);
    assert_int_equal(unlink("feeds.d/0.yaml") | unlink("feeds.d/1.yaml") | unlink("feeds.d/2.yaml"), 0);
    assert_int_equal(unlink("feeds.d/.hidden.yaml") | unlink("feeds.d/other.txt") | rmdir("feeds.d"), 0);
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
        cmocka_unit_test(test_good),     cmocka_unit_test(test_units),    cmocka_unit_test(test_broken),
        cmocka_unit_test(test_not_text), cmocka_unit_test(test_no_file),  cmocka_unit_test(test_dump),
        cmocka_unit_test(test_sample),   cmocka_unit_test(test_drop_ins), cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
