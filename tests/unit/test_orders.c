/* SPDX-License-Identifier: MIT */
/* Orders other than the global shuffle and none: what blocks, weights, repeats and tables of ids promise, and that a window is
 * permuted as evenly as the global shuffle is. Seeds are fixed, so that a failure is a change. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "order.h"

static struct order *create(const struct order_params *params)
{
    struct order *order = NULL;

    assert_int_equal(order_create(&order, params, 1), 0);
    assert_non_null(order);
    return order;
}

static void *array(uint64_t n, size_t size)
{
    void *a = calloc(n, size);

    assert_non_null(a);
    return a;
}

struct place {
    uint64_t id;
    uint32_t occurrence;
};

/* A whole epoch; to be freed. */
static struct place *read_epoch(const struct order_params *params, uint64_t seed, uint64_t epoch)
{
    struct order *order = create(params);
    const struct order_view *view = order_view(order, seed, epoch);
    struct place *places = array(order_length(params), sizeof(*places));

    for (uint64_t p = 0; p < order_length(params); p++)
        order_at(view, p, &places[p].id, &places[p].occurrence);
    order_release(order, view);
    order_destroy(order);
    return places;
}

static struct order_params blocks(uint64_t n, uint64_t block, uint64_t window)
{
    return (struct order_params){ .n = n, .mode = SHUFFLE_BLOCK, .block = block, .window = window, .repeat = 1 };
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

static const struct {
    uint64_t n, block, window;
} shapes[] = { { 1, 1, 1 },     { 1, 5, 3 },       { 2, 1, 1 },      { 10, 3, 2 },        { 10, 10, 1 },     { 11, 10, 16 },
               { 12, 4, 2 },    { 100, 7, 1 },     { 100, 1, 100 },  { 1000, 64, 4 },     { 1000, 1001, 1 }, { 4097, 16, 16 },
               { 70001, 1, 7 }, { 70000, 64, 16 }, { 131073, 2, 3 }, { 300000, 1024, 16 } };

static void test_block_bijection(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const uint64_t n = shapes[i].n;
        const struct order_params params = blocks(n, shapes[i].block, shapes[i].window);

        for (uint64_t epoch = 0; epoch < 12; epoch++) { /* the short block stands in many places */
            struct place *places = read_epoch(&params, 7, epoch);
            uint8_t *seen = array(n, 1);

            for (uint64_t p = 0; p < n; p++) {
                assert_true(places[p].id < n);
                assert_int_equal(seen[places[p].id]++, 0);
                assert_int_equal(places[p].occurrence, 0);
            }
            free(seen);
            free(places);
        }
    }
}

/* The reason to be of it: never more than `window` blocks are begun and not finished, and none is after each window. */
static void test_block_is_local(void **state)
{
    enum { FULL = 100, BLOCK = 64, SHORT = 17, WINDOW = 8, N = FULL * BLOCK + SHORT };
    const struct order_params params = blocks(N, BLOCK, WINDOW);

    (void)state;
    for (uint64_t epoch = 0; epoch < 20; epoch++) {
        struct place *places = read_epoch(&params, 3, epoch);
        uint32_t left[FULL + 1], begun = 0, windows = 0;

        for (uint32_t b = 0; b <= FULL; b++)
            left[b] = b < FULL ? BLOCK : SHORT;
        for (uint64_t p = 0; p < N; p++) {
            const uint64_t b = places[p].id / BLOCK;

            begun += left[b] == (b < FULL ? BLOCK : SHORT);
            assert_in_range(begun, 1, WINDOW);
            begun -= --left[b] == 0;
            windows += begun == 0;
        }
        assert_in_range(windows, (FULL + 1 + WINDOW - 1) / WINDOW, FULL + 1);
        free(places);
    }
}

static void assert_z(double z, uint64_t n, const char *what)
{
    if (getenv("PFEED_TEST_VERBOSE"))
        printf("N = %" PRIu64 ", %s: z = %.2f\n", n, what, z);
    if (!(fabs(z) < 4))
        fail_msg("N = %" PRIu64 ", %s: z = %.2f", n, what, z);
}

static double chi_square_z(double q, double df)
{
    return (cbrt(q / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
}

/* Which id the first, a middle and the last position have: each as likely, where no block is short. */
static void test_block_uniform(void **state)
{
    static const struct {
        uint64_t n, block, window;
    } rows[] = { { 12, 3, 2 }, { 60, 4, 4 }, { 250, 10, 7 }, { 1000, 50, 4 } };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const uint64_t n = rows[i].n, turns = 40 * n;
        const struct order_params params = blocks(n, rows[i].block, rows[i].window);
        struct order *order = create(&params);
        uint32_t *counts = array(3 * n, sizeof(*counts));

        for (uint64_t epoch = 0; epoch < turns; epoch++) {
            const struct order_view *view = order_view(order, 11, epoch);

            for (uint64_t k = 0; k < 3; k++) {
                uint64_t id;
                uint32_t occurrence;

                order_at(view, k * (n - 1) / 2, &id, &occurrence);
                counts[k * n + id]++;
            }
            order_release(order, view);
        }
        for (uint64_t k = 0; k < 3; k++) {
            double q = 0;

            for (uint64_t id = 0; id < n; id++)
                q += (counts[k * n + id] - 40.0) * (counts[k * n + id] - 40.0) / 40;
            assert_z(chi_square_z(q, (double)n - 1), n, "id of a position");
        }
        free(counts);
        order_destroy(order);
    }
}

/* ---- weights -------------------------------------------------------------------------------------------------------- */

/* Sums of n weights: every seventh is 0, the others 1 to 16. */
static uint64_t *make_sums(uint64_t n, uint64_t scale)
{
    uint64_t *sums = array(n, sizeof(*sums)), sum = 0;

    for (uint64_t i = 0; i < n; i++)
        sums[i] = sum += i % 7 == 3 ? 0 : (i * UINT64_C(0x9e3779b97f4a7c15) >> 60) * scale + 1;
    return sums;
}

static uint64_t weight_of(const uint64_t *sums, uint64_t i)
{
    return sums[i] - (i ? sums[i - 1] : 0);
}

/* Every member is drawn as often as its share of the length, but for less than two; no occurrence of it twice. */
static void test_weighted_counts(void **state)
{
    static const struct {
        uint64_t n, length, scale;
    } rows[] = { { 1, 1, 1 },
                 { 1, 9, 1 },
                 { 10, 10, 1 },
                 { 1000, 1000, UINT64_C(1) << 48 },
                 { 1000, 77, 3 },
                 { 500, 90001, 3 },
                 { 70000, 70000, UINT64_C(1) << 40 } };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const uint64_t n = rows[i].n, length = rows[i].length;
        uint64_t *sums = make_sums(n, rows[i].scale);
        const struct order_params params = { .n = n, .mode = SHUFFLE_WEIGHTED, .length = length, .repeat = 1, .sums = sums };

        for (uint64_t epoch = 0; epoch < 5; epoch++) {
            struct place *places = read_epoch(&params, 5, epoch);
            uint32_t *counts = array(n, sizeof(*counts));
            uint8_t *seen = array(n * 64 + length * 64, 1);

            assert_int_equal(order_length(&params), length);
            for (uint64_t p = 0; p < length; p++) {
                const uint64_t room = length * 64 / n + 64;

                assert_true(places[p].id < n);
                counts[places[p].id]++;
                if (room * n <= n * 64 + length * 64 && places[p].occurrence < room)
                    assert_int_equal(seen[places[p].id * room + places[p].occurrence]++, 0);
            }
            for (uint64_t m = 0; m < n; m++) {
                const double share = (double)weight_of(sums, m) / (double)sums[n - 1] * (double)length;

                assert_true(fabs(counts[m] - share) < 2);
                assert_true(share > 0 || counts[m] == 0);
            }
            free(seen);
            free(counts);
            free(places);
        }
        free(sums);
    }
}

/* Over epochs each member is drawn in proportion to its weight; the variance is at most that of a coin per stratum. */
static void test_weighted_mean(void **state)
{
    enum { N = 30, LENGTH = 20, EPOCHS = 20000 };
    uint64_t *sums = make_sums(N, 1000003);
    const struct order_params params = { .n = N, .mode = SHUFFLE_WEIGHTED, .length = LENGTH, .repeat = 1, .sums = sums };
    struct order *order = create(&params);
    uint32_t counts[N] = { 0 };

    (void)state;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        const struct order_view *view = order_view(order, 1, epoch);

        for (uint64_t p = 0; p < LENGTH; p++) {
            uint64_t id;
            uint32_t occurrence;

            order_at(view, p, &id, &occurrence);
            counts[id]++;
        }
        order_release(order, view);
    }
    for (uint64_t m = 0; m < N; m++) {
        const double share = (double)weight_of(sums, m) / (double)sums[N - 1] * LENGTH;

        if (share > 0)
            assert_z((counts[m] - share * EPOCHS) / sqrt(0.5 * EPOCHS), m, "draws of a member");
    }
    order_destroy(order);
    free(sums);
}

/* Equal weights and as many draws as members: each once, shuffled. */
static void test_weighted_equal(void **state)
{
    enum { N = 1000 };
    uint64_t sums[N];
    const struct order_params params = { .n = N, .mode = SHUFFLE_WEIGHTED, .length = N, .repeat = 1, .sums = sums };
    uint8_t seen[N] = { 0 };
    struct place *places;

    (void)state;
    for (uint64_t i = 0; i < N; i++)
        sums[i] = (i + 1) << 40;
    places = read_epoch(&params, 2, 2);
    for (uint64_t p = 0; p < N; p++) {
        assert_int_equal(seen[places[p].id]++, 0);
        assert_int_equal(places[p].occurrence, 0);
    }
    free(places);
}

/* ---- repeats, tables, picks ----------------------------------------------------------------------------------------- */

/* Every position of the plain order becomes `repeat`, one after the other, with occurrences of their own. */
static void test_repeat(void **state)
{
    uint64_t *sums = make_sums(300, 1);
    struct order_params all[] = { { .n = 300, .mode = SHUFFLE_GLOBAL },
                                  { .n = 300, .mode = SHUFFLE_NONE },
                                  { .n = 300, .mode = SHUFFLE_BLOCK, .block = 16, .window = 4 },
                                  { .n = 300, .mode = SHUFFLE_WEIGHTED, .length = 500, .sums = sums } };

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct place *once, *often;
        uint64_t length;

        all[i].repeat = 1;
        length = order_length(&all[i]);
        once = read_epoch(&all[i], 4, 1);
        all[i].repeat = 3;
        assert_int_equal(order_length(&all[i]), 3 * length);
        often = read_epoch(&all[i], 4, 1);
        for (uint64_t p = 0; p < 3 * length; p++) {
            assert_int_equal(often[p].id, once[p / 3].id);
            assert_int_equal(often[p].occurrence, once[p / 3].occurrence * 3 + p % 3);
        }
        free(once);
        free(often);
    }
    free(sums);
}

static void test_ids(void **state)
{
    enum { N = 500 };
    uint32_t ids[N];
    uint64_t wide_ids[N];
    struct order_params params = { .n = N, .mode = SHUFFLE_GLOBAL, .repeat = 1 };
    struct place *plain = read_epoch(&params, 4, 1), *narrow, *wide;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = 1000 + i * 3;
        wide_ids[i] = (UINT64_C(1) << 33) + i * 5;
    }
    params.ids = ids;
    narrow = read_epoch(&params, 4, 1);
    params.ids = NULL;
    params.wide_ids = wide_ids;
    wide = read_epoch(&params, 4, 1);
    for (uint64_t p = 0; p < N; p++) {
        assert_int_equal(narrow[p].id, ids[plain[p].id]);
        assert_int_equal(wide[p].id, wide_ids[plain[p].id]);
    }
    free(plain);
    free(narrow);
    free(wide);
}

/* What stands in for a bad sample takes part itself: is in the table, and has a weight. */
static void test_pick(void **state)
{
    enum { N = 70, TURNS = 20000 };
    uint64_t *sums = make_sums(N, 1);
    uint32_t ids[N], counts[2][N] = { { 0 } };
    struct order_params params = { .n = N, .mode = SHUFFLE_GLOBAL, .repeat = 1, .ids = ids };

    (void)state;
    for (uint32_t i = 0; i < N; i++)
        ids[i] = i * 2 + 100;
    for (int weighted = 0; weighted < 2; weighted++) {
        struct order *order;

        if (weighted)
            params =
                (struct order_params){ .n = N, .mode = SHUFFLE_WEIGHTED, .length = 9, .repeat = 1, .ids = ids, .sums = sums };
        order = create(&params);
        for (uint64_t turn = 0; turn < TURNS; turn++) {
            struct draw draw;
            uint64_t id;

            draw_init(&draw, &(struct row_key){ .id = turn }, "row.replace", 0);
            id = order_pick(order, &draw);
            assert_true(id >= 100 && id < 100 + 2 * N && id % 2 == 0);
            counts[weighted][(id - 100) / 2]++;
        }
        order_destroy(order);
    }
    for (uint64_t i = 0; i < N; i++) {
        const double share = (double)weight_of(sums, i) / (double)sums[N - 1], even = TURNS / (double)N;

        assert_z((counts[0][i] - even) / sqrt(even), i, "picks of a member");
        if (weight_of(sums, i) == 0)
            assert_int_equal(counts[1][i], 0);
        else
            assert_z((counts[1][i] - share * TURNS) / sqrt(share * TURNS), i, "picks by weight");
    }
    free(sums);
}

/* ---- for ever the same ---------------------------------------------------------------------------------------------- */

/* Computed by other means: tests/papers/orders.py, which has all of it from the manual's text. Weights are i modulo 7. */
static void test_golden(void **state)
{
    static const struct {
        struct order_params params;
        uint64_t seed, epoch, hash; /* FNV-1a, a whole word at a time, over id and occurrence of the first 1,000 positions */
    } rows[] = {
        { { .n = 10, .mode = SHUFFLE_BLOCK, .block = 3, .window = 2, .repeat = 1 }, 42, 0, 0x3590b2dde0a8fffc },
        { { .n = 1000, .mode = SHUFFLE_BLOCK, .block = 256, .window = 64, .repeat = 1 }, 42, 1, 0xb29bbaa30874443d },
        { { .n = 70000, .mode = SHUFFLE_BLOCK, .block = 64, .window = 16, .repeat = 1 }, 1099511627776, 7, 0x14514be556312d08 },
        { { .n = 10, .mode = SHUFFLE_WEIGHTED, .length = 10, .repeat = 1 }, 42, 0, 0x36fa239b2fe01e12 },
        { { .n = 1000, .mode = SHUFFLE_WEIGHTED, .length = 3000, .repeat = 2 }, 42, 1, 0xa83f6a67ecd1e435 },
        { { .n = 300, .mode = SHUFFLE_WEIGHTED, .length = 100, .repeat = 1 }, 0, 5, 0xa8892deb2e9aa5c3 },
        { { .n = 1000, .mode = SHUFFLE_GLOBAL, .repeat = 4 }, 3, 2, 0x1ab4b55e68cce7b5 }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct order_params params = rows[i].params;
        const int bits = 62 - (64 - __builtin_clzll(params.n - 1));
        uint64_t hash = UINT64_C(0xcbf29ce484222325), sum = 0;
        struct place *places;

        params.sums = array(params.n, sizeof(*params.sums));
        for (uint64_t m = 0; m < params.n; m++)
            params.sums[m] = sum += (uint64_t)floor(ldexp((double)(m % 7) / 6, bits) + 0.5);
        places = read_epoch(&params, rows[i].seed, rows[i].epoch);
        for (uint64_t p = 0; p < order_length(&params) && p < 1000; p++) {
            hash = (hash ^ places[p].id) * UINT64_C(0x100000001b3);
            hash = (hash ^ places[p].occurrence) * UINT64_C(0x100000001b3);
        }
        assert_int_equal(hash, rows[i].hash);
        free(places);
        free(params.sums);
    }
}

/* ---- prints --------------------------------------------------------------------------------------------------------- */

/* Whatever decides which sample stands where changes the print, and nothing else does. */
static void test_print(void **state)
{
    uint64_t sums[] = { 1, 2 }, prints[8];
    const struct order_params all[] = {
        { .n = 2, .repeat = 1 },
        { .n = 2, .repeat = 2 },
        { .n = 2, .repeat = 1, .asked = 1 },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_NONE },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_BLOCK, .block = 2, .window = 4 },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_BLOCK, .block = 4, .window = 2 },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_WEIGHTED, .length = 2, .sums = sums },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_WEIGHTED, .length = 4, .sums = sums },
    };
    struct order_params more = all[0];

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        prints[i] = order_print(&all[i]);
        for (size_t k = 0; k < i; k++)
            assert_true(prints[k] != prints[i]);
    }
    more.n = 3; /* the source's, which has a print of its own */
    more.block = 9;
    more.length = 5;
    assert_true(order_print(&more) == prints[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_bijection),
        cmocka_unit_test(test_block_is_local),
        cmocka_unit_test(test_block_uniform),
        cmocka_unit_test(test_weighted_counts),
        cmocka_unit_test(test_weighted_mean),
        cmocka_unit_test(test_weighted_equal),
        cmocka_unit_test(test_repeat),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_pick),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
