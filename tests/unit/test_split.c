/* SPDX-License-Identifier: MIT */
/* Splits and what else chooses samples: nobody leaks, nobody moves, and shares are what was asked for, on made names. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "choose.h"

/* ---- a source of names ---------------------------------------------------------------------------------------------- */

struct source {
    uint64_t n, first;  /* its samples are those of the whole world from `first` on */
    bool other_numbers; /* of the classes */
};

enum { WORLD = 22000, PATIENTS = 400, CLASSES = 5 };

static uint64_t scattered(uint64_t z)
{
    z = (z + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ z >> 27;
}

static uint64_t patient_of(uint64_t i)
{
    return scattered(i) % PATIENTS;
}

static uint64_t class_of(uint64_t i)
{
    return scattered(i ^ 0xabcdef) % CLASSES;
}

static uint64_t count(const struct source *source)
{
    return source->n;
}

static void path(const struct source *source, uint64_t id, char *text, size_t size)
{
    const uint64_t i = source->first + id;

    snprintf(text, size, "ward-%" PRIu64 "/patient%03" PRIu64 "_scan%" PRIu64 ".jpg", i % 3, patient_of(i), i);
}

static uint32_t parts(const struct source *source, const struct sample_part **out)
{
    static const struct sample_part part = { .name = "label", .kind = PART_VALUES, .dtype = DTYPE_I64 };

    (void)source;
    *out = &part;
    return 1;
}

static size_t max_bytes(const struct source *source)
{
    (void)source;
    return sizeof(int64_t);
}

static int read_label(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t size,
                      struct sample_value *out, struct problem *why)
{
    static const struct sample_part *p;
    int64_t label = (int64_t)class_of(source->first + id);

    (void)part;
    (void)why;
    parts(source, &p);
    assert_true(size >= sizeof(label));
    label = source->other_numbers ? CLASSES - 1 - label : label;
    memcpy(buffer, &label, sizeof(label));
    *out = (struct sample_value){ .data = buffer, .size = sizeof(label), .part = p };
    return 0;
}

static uint32_t classes(const struct source *source, const char *const **names)
{
    static const char *const forwards[] = { "ant", "bee", "cat", "dog", "eel" }, *const backwards[] = { "eel", "dog", "cat",
                                                                                                        "bee", "ant" };

    *names = source->other_numbers ? backwards : forwards;
    return CLASSES;
}

static const struct source_ops ops = {
    .name = "made", .count = count, .path = path, .parts = parts, .max_bytes = max_bytes, .read = read_label, .classes = classes
};

/* ---- choosing ------------------------------------------------------------------------------------------------------- */

#define SHARES                                                                                                                   \
    {                                                                                                                            \
        0.7, 0.2, 0.1                                                                                                            \
    }
static const double shares[] = SHARES;
static const struct source whole = { .n = WORLD };

static struct config_feed split_feed(int64_t key, const char *group, int stratify)
{
    return (struct config_feed){
        .name = (char *)"f",
        .source = &ops,
        .repeat = 1,
        .split = { .given = true,
                   .part = (char *)"p",
                   .key = key,
                   .group = (char *)group,
                   .stratify = stratify,
                   .n_parts = 3,
                   .shares = SHARES },
    };
}

/* The part of every sample by its place in the world; a sample in none, or in two, fails. */
static uint8_t *parts_of(struct config_feed *config, const struct source *source)
{
    uint8_t *out = malloc(WORLD);
    uint64_t n = 0;

    assert_non_null(out);
    memset(out, 0xff, WORLD);
    for (uint32_t part = 0; part < 3; part++) {
        const struct choose_env env = { config, source, NULL };
        struct order_params params;
        struct problem odd, why;

        config->split.part_index = part;
        assert_int_equal(choose(&params, &env, &odd, &why), 0);
        assert_string_equal(odd.text, "");
        for (uint64_t i = 0; i < params.n; i++) {
            assert_true(i == 0 || params.ids[i] > params.ids[i - 1]); /* as the source has them */
            assert_int_equal(out[source->first + params.ids[i]], 0xff);
            out[source->first + params.ids[i]] = (uint8_t)part;
        }
        n += params.n;
        choose_free(&params);
    }
    assert_int_equal(n, source->n);
    return out;
}

static void assert_share(uint64_t got, uint64_t of, double share, const char *what)
{
    const double z = ((double)got - share * (double)of) / sqrt((double)of * share * (1 - share));

    if (!(fabs(z) < 4))
        fail_msg("%s: %" PRIu64 " of %" PRIu64 " are %.1f standard deviations from a share of %g", what, got, of, z, share);
}

static void test_shares(void **state)
{
    (void)state;
    for (int64_t key = 0; key < 20; key++) {
        struct config_feed config = split_feed(key, NULL, key % 2 ? CONFIG_STRATIFY_CLASS : CONFIG_STRATIFY_NONE);
        uint8_t *found = parts_of(&config, &whole);

        for (uint32_t part = 0; part < 3; part++) {
            uint64_t n = 0, of_class[CLASSES] = { 0 }, n_class[CLASSES] = { 0 };

            for (uint64_t i = 0; i < WORLD; i++) {
                n += found[i] == part;
                of_class[class_of(i)] += found[i] == part;
                n_class[class_of(i)]++;
            }
            assert_share(n, WORLD, shares[part], "all");
            for (int c = 0; c < CLASSES; c++)
                assert_share(of_class[c], n_class[c], shares[part], "a class");
        }
        free(found);
    }
}

/* A tenth more files, here before all others, so that every id is another: nobody moves. */
static void test_more_files(void **state)
{
    const struct source before = { .n = WORLD - WORLD / 11, .first = WORLD / 11 };

    (void)state;
    for (int way = 0; way < 3; way++) {
        struct config_feed config = split_feed(3, way == 1 ? "patient[0-9]+" : NULL, way == 2 ? CONFIG_STRATIFY_CLASS : 0);
        uint8_t *few = parts_of(&config, &before), *all = parts_of(&config, &whole);

        assert_memory_equal(few + before.first, all + before.first, before.n);
        free(few);
        free(all);
    }
}

/* Nor when classes are numbered anew, as a new folder of a class does. */
static void test_more_classes(void **state)
{
    const struct source renumbered = { .n = WORLD, .other_numbers = true };
    struct config_feed config = split_feed(3, NULL, CONFIG_STRATIFY_CLASS);
    uint8_t *a = parts_of(&config, &whole), *b = parts_of(&config, &renumbered);

    (void)state;
    assert_memory_equal(a, b, WORLD);
    free(a);
    free(b);
}

static void test_seed_and_key(void **state)
{
    struct config_feed config = split_feed(3, NULL, 0), seeded = config, keyed = config;
    uint8_t *plain, *other;
    uint64_t same = 0;

    (void)state;
    seeded.seed = 99;
    seeded.shuffle = SHUFFLE_BLOCK;
    plain = parts_of(&config, &whole);
    other = parts_of(&seeded, &whole);
    assert_memory_equal(plain, other, WORLD);
    free(other);
    keyed.split.key = 4;
    other = parts_of(&keyed, &whole);
    for (uint64_t i = 0; i < WORLD; i++)
        same += plain[i] == other[i];
    assert_share(same, WORLD, 0.7 * 0.7 + 0.2 * 0.2 + 0.1 * 0.1, "samples that another key leaves where they are");
    free(plain);
    free(other);
}

/* All scans of a patient are on one side, whether the expression says which part of it counts or not. */
static void test_no_leak(void **state)
{
    static const char *const expressions[] = { "patient[0-9]+", "(patient[0-9]+)_", "patient([0-9]+)_scan", "^[^/]*/([^_]*)" };

    (void)state;
    for (size_t e = 0; e < sizeof(expressions) / sizeof(expressions[0]); e++) {
        struct config_feed config = split_feed(8, expressions[e], 0);
        uint8_t *found = parts_of(&config, &whole), of_patient[PATIENTS];
        uint64_t n[3] = { 0 };

        memset(of_patient, 0xff, sizeof(of_patient));
        for (uint64_t i = 0; i < WORLD; i++) {
            uint8_t *part = &of_patient[patient_of(i)];

            if (*part == 0xff)
                n[ *part = found[i]]++;
            assert_int_equal(*part, found[i]);
        }
        for (uint32_t part = 0; part < 3; part++)
            assert_share(n[part], PATIENTS, shares[part], "patients");
        free(found);
    }
}

static void test_groupless(void **state)
{
    struct config_feed config = split_feed(8, "ward-[01]", 0);
    const struct choose_env env = { &config, &whole, NULL };
    struct order_params params;
    struct problem odd, why;
    char path_text[200], want[512];

    (void)state;
    path(&whole, 2, path_text, sizeof(path_text));
    snprintf(want, sizeof(want), "'group' matches the paths of all but 7333 of 22000 samples, first %s; let it match all",
             path_text);
    assert_int_equal(choose(&params, &env, &odd, &why), -EINVAL);
    assert_string_equal(why.text, want);
    assert_string_equal(why.key, "group");
}

/* Shares that leave some out leave them out of every part; a sum that is 1 but for rounding is 1. */
static void test_ends(void **state)
{
    const double some[] = { 0.3, 0.3 }, all[] = { 0.7, 0.2, 0.1 }, many[] = { 0.9, 0.2 };
    double ends[3];

    (void)state;
    assert_int_equal(split_ends(ends, some, 2), 0);
    assert_int_equal(split_part(0, ends, 2), 0);
    assert_int_equal(split_part((uint64_t)(0.31 * 0x1p64), ends, 2), 1);
    assert_int_equal(split_part((uint64_t)(0.61 * 0x1p64), ends, 2), 2);
    assert_true(0.7 + 0.2 + 0.1 < 1);
    assert_int_equal(split_ends(ends, all, 3), 0);
    assert_int_equal(split_part(UINT64_MAX, ends, 3), 2);
    assert_int_equal(split_ends(ends, many, 2), -ERANGE);
}

/* Computed by other means: tests/papers/orders.py, which knows the paper's own example. */
static void test_hash(void **state)
{
    static const struct {
        uint64_t key;
        const char *text;
        uint64_t hash;
    } rows[] = { { 0, "", 0x1e924b9d737700d7 },
                 { 0, "n01440764/n01440764_10026.JPEG", 0x238a81a09f18fe2c },
                 { 1, "patient007", 0x0959bb14cdb493f6 },
                 { 9223372036854775807, "12345678", 0x147a7b6694f3737b },
                 { 17, "a/\303\244.jpg", 0xf2e5d618252c37c2 } };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(split_hash(rows[i].key, rows[i].text, strlen(rows[i].text)), rows[i].hash);
}

/* What a print of the order depends on, of all that is chosen. */
static void test_asked(void **state)
{
    struct config_feed configs[] = { split_feed(3, NULL, 0),
                                     split_feed(4, NULL, 0),
                                     split_feed(3, "patient[0-9]+", 0),
                                     split_feed(3, "patient([0-9]+)", 0),
                                     split_feed(3, NULL, CONFIG_STRATIFY_CLASS),
                                     split_feed(3, NULL, 0),
                                     split_feed(3, NULL, 0) };
    enum { N = sizeof(configs) / sizeof(configs[0]) };
    const struct source fewer = { .n = 1000 };
    uint64_t prints[N];

    (void)state;
    configs[5].split.shares[0] = 0.6;
    configs[6].split.part_index = 1;
    for (int i = 0; i < N; i++) {
        const struct choose_env env = { &configs[i], &whole, NULL }, again = { &configs[i], &fewer, NULL };
        struct order_params params;
        struct problem odd, why;

        assert_int_equal(choose(&params, &env, &odd, &why), 0);
        prints[i] = order_print(&params);
        choose_free(&params);
        for (int k = 0; k < i; k++)
            assert_true(prints[k] != prints[i]);
        assert_int_equal(choose(&params, &again, &odd, &why), 0);
        assert_true(order_print(&params) == prints[i]); /* the source's samples have a print of their own */
        choose_free(&params);
    }
}

/* By a column: int64 here. Only samples of the part are weighed. */
static void test_weights_from(void **state)
{
    struct config_feed config = split_feed(3, NULL, 0);
    const struct choose_env env = { &config, &whole, NULL };
    struct order_params params;
    struct problem odd, why;

    (void)state;
    config.split.part_index = 2;
    config.shuffle = SHUFFLE_WEIGHTED;
    config.weights_from = (char *)"label";
    assert_int_equal(choose(&params, &env, &odd, &why), 0);
    assert_int_equal(params.length, params.n);
    for (uint64_t i = 0; i < params.n; i++) {
        const uint64_t weight = params.sums[i] - (i ? params.sums[i - 1] : 0), most = UINT64_C(1) << 50; /* n is above 2^11 */

        assert_true(weight == class_of(params.ids[i]) * (most / (CLASSES - 1)));
    }
    choose_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_ends),         cmocka_unit_test(test_shares),
        cmocka_unit_test(test_more_files),   cmocka_unit_test(test_more_classes), cmocka_unit_test(test_seed_and_key),
        cmocka_unit_test(test_no_leak),      cmocka_unit_test(test_groupless),    cmocka_unit_test(test_asked),
        cmocka_unit_test(test_weights_from),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
