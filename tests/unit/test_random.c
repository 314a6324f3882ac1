/* SPDX-License-Identifier: MIT */
/* Row randomness: Philox against Random123's known answers, our streams against each other and against fixed values (what they
 * draw may never change: runs are resumed under later versions). All seeds are fixed, so that a failure is a change. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "random.h"

#define Z_MAX 4.0

static void assert_z(double z, const char *what)
{
    if (!(fabs(z) < Z_MAX))
        fail_msg("%s: z = %.2f", what, z);
}

/* tests/kat_vectors of Random123, "philox4x64 10" */
static void test_known_answers(void **state)
{
    static const struct {
        uint64_t counter[4], key[2], out[4];
    } rows[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b } },
        { { -1, -1, -1, -1 }, { -1, -1 }, { 0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0 } },
        { { 0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89 },
          { 0x452821e638d01377, 0xbe5466cf34e90c6c },
          { 0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6 } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t out[4];

        random_block(rows[i].key, rows[i].counter, out);
        assert_memory_equal(out, rows[i].out, sizeof(out));
    }
}

static const struct row_key some_key = { .seed = 42, .epoch = 3, .id = 1234567, .occurrence = 1, .view = 2 };

/* Computed by other means than random.c: Philox and FNV-1a written again in Python. */
static void test_golden(void **state)
{
    static const uint64_t words[] = { 0x1362339be31dd82e, 0xe069e41bd1b519a0, 0xda438e280a05a05a,
                                      0x2db37d0f73562d2c, 0xdd7b0475824aed9a, 0x24fc87adfebff997 };
    struct draw draw;

    (void)state;
    draw_init(&draw, &some_key, "random_resized_crop", 1);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        assert_int_equal(draw_u64(&draw), words[i]);
    draw_init(&draw, &some_key, "horizontal_flip", 0);
    assert_true(draw_unit(&draw) == 0x1.ec87d08a13af7p-1);
    assert_true(draw_between(&draw, -3, 5) == 0x1.02f6a1fc4bc6p-3);
    assert_int_equal(draw_below(&draw, 1000), 59);
    assert_int_equal(draw_below(&draw, UINT64_C(3) << 62), 7016372085571314889);
}

static int compare_words(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

#define STREAMS      64
#define STREAM_WORDS 4096

/* Neighbours in every input of the key: one bit, one unit, swapped inputs, small and large. */
static uint32_t make_streams(struct draw draws[STREAMS])
{
    static const char *const kinds[] = { "random_resized_crop", "horizontal_flip", "order.table", "order.network", "replace" };
    uint32_t n = 0;

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        draw_init(&draws[n++], &(struct row_key){ 0 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ 0 }, kinds[k], 1);
        draw_init(&draws[n++], &(struct row_key){ 0 }, kinds[k], 2);
        draw_init(&draws[n++], &(struct row_key){ .seed = 1 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .epoch = 1 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .id = 1 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .occurrence = 1 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .view = 1 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .id = UINT64_C(1) << 32 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .epoch = UINT64_C(1) << 63 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .seed = UINT64_C(1) << 63 }, kinds[k], 0);
        draw_init(&draws[n++], &(struct row_key){ .view = UINT32_MAX }, kinds[k], 0);
    }
    draw_init(&draws[n++], &(struct row_key){ 0 }, "horizontal_flip", UINT32_MAX);
    draw_init(&draws[n++], &(struct row_key){ .occurrence = UINT32_MAX }, "horizontal_flip", 0);
    return n;
}

/* No word of any stream comes again in any, which finds streams that overlap at whatever distance (2^18 words of 64 bits
 * agree by chance once in 2^29 tries); and each pair agrees in half of its bits. */
static void test_streams_independent(void **state)
{
    static uint64_t words[STREAMS][STREAM_WORDS], sorted[STREAMS * STREAM_WORDS];
    struct draw draws[STREAMS];
    const uint32_t n = make_streams(draws);
    double sum = 0, squares = 0;

    (void)state;
    assert_in_range(n, 2, STREAMS);
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t i = 0; i < STREAM_WORDS; i++)
            words[s][i] = draw_u64(&draws[s]);
    memcpy(sorted, words, n * sizeof(words[0]));
    qsort(sorted, (size_t)n * STREAM_WORDS, sizeof(sorted[0]), compare_words);
    for (size_t i = 1; i < (size_t)n * STREAM_WORDS; i++)
        assert_int_not_equal(sorted[i - 1], sorted[i]);
    for (uint32_t a = 0; a < n; a++) {
        for (uint32_t b = 0; b < a; b++) {
            int64_t differ = 0;

            for (uint32_t i = 0; i < STREAM_WORDS; i++)
                differ += __builtin_popcountll(words[a][i] ^ words[b][i]);
            const double z = ((double)differ - 32.0 * STREAM_WORDS) / sqrt(16.0 * STREAM_WORDS);
            /* 1,900 pairs: one beyond 4.75 in 260 tries */
            if (fabs(z) > 4.75)
                fail_msg("streams %u and %u: z = %.2f", a, b, z);
            sum += z;
            squares += z * z;
        }
    }
    const double pairs = n * (n - 1) / 2.0;
    assert_z(sum / sqrt(pairs), "mean of the pairs");
    assert_z((squares - pairs) / sqrt(2 * pairs), "spread of the pairs");
}

/* The first word alone, over neighbouring ids: what a flip is made of. */
static void test_first_words(void **state)
{
    enum { N = 200000 };
    double sum = 0, product = 0, before = 0;
    int64_t bits[64] = { 0 };

    (void)state;
    for (uint64_t id = 0; id < N; id++) {
        struct draw draw;

        draw_init(&draw, &(struct row_key){ .seed = 1, .id = id }, "horizontal_flip", 0);
        const uint64_t word = draw_u64(&draw);
        const double unit = ((double)(word >> 11) * 0x1p-53 - 0.5) * sqrt(12);

        for (int b = 0; b < 64; b++)
            bits[b] += word >> b & 1;
        sum += unit;
        product += unit * before;
        before = unit;
    }
    assert_z(sum / sqrt(N), "mean over ids");
    assert_z(product / sqrt(N - 1), "correlation of neighbouring ids");
    for (int b = 0; b < 64; b++)
        assert_z(((double)bits[b] - N / 2.0) / sqrt(N / 4.0), "a bit over ids");
}

static double deviation(uint64_t count, double expected)
{
    return ((double)count - expected) * ((double)count - expected) / expected;
}

/* Wilson and Hilferty's cube root makes chi-square normal also at few degrees of freedom. */
static double chi_square_z(double q, double df)
{
    return (cbrt(q / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
}

/* By high digits and by remainders: with a product that is not rejected every third result for 3 * 2^62 would come twice as
 * often, and the high digits would not show it. */
static void test_below_uniform(void **state)
{
    static const uint64_t ns[] = { 1, 2, 3, 7, 100, 65536, 1000003, UINT64_C(3) << 62, UINT64_C(5) << 61, UINT64_MAX };
    enum { DRAWS = 300000, CELLS = 96, REMAINDERS = 15 };

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        const uint64_t n = ns[i], cells = n < CELLS ? n : CELLS, remainders = n < REMAINDERS ? n : REMAINDERS;
        uint64_t highs[CELLS] = { 0 }, lows[REMAINDERS] = { 0 };
        double q_high = 0, q_low = 0;
        struct draw draw;

        draw_init(&draw, &(struct row_key){ .seed = 5, .id = i }, "test", 0);
        for (int k = 0; k < DRAWS; k++) {
            const uint64_t value = draw_below(&draw, n);

            assert_true(value < n);
            highs[(uint64_t)((long double)value * (long double)cells / (long double)n)]++;
            lows[value % remainders]++;
        }
        for (uint64_t c = 0; c < cells; c++) {
            const long double part = (long double)n / (long double)cells;
            const long double width = ceill((long double)(c + 1) * part) - ceill((long double)c * part);

            q_high += deviation(highs[c], (double)(width / (long double)n * DRAWS));
        }
        for (uint64_t c = 0; c < remainders; c++)
            q_low += deviation(lows[c], (double)(n / remainders + (c < n % remainders)) / (double)n * DRAWS);
        if (n > 1) {
            assert_z(chi_square_z(q_high, (double)cells - 1), "high digits of draw_below");
            assert_z(chi_square_z(q_low, (double)remainders - 1), "remainders of draw_below");
        }
    }
}

static void test_unit_and_between(void **state)
{
    enum { DRAWS = 200000, CELLS = 128 };
    uint64_t counts[CELLS] = { 0 };
    double q = 0, least = 1, most = 0;
    struct draw draw;

    (void)state;
    draw_init(&draw, &(struct row_key){ .seed = 6 }, "test", 0);
    for (int i = 0; i < DRAWS; i++) {
        const double unit = draw_unit(&draw);

        assert_true(unit >= 0 && unit < 1);
        counts[(int)(unit * CELLS)]++;
        least = unit < least ? unit : least;
        most = unit > most ? unit : most;
    }
    for (int c = 0; c < CELLS; c++)
        q += deviation(counts[c], (double)DRAWS / CELLS);
    assert_z(chi_square_z(q, CELLS - 1), "draw_unit");
    assert_true(least < 1e-4 && most > 1 - 1e-4);
    for (int i = 0; i < 100000; i++) {
        const double low = ldexp(draw_unit(&draw) - 0.5, (int)draw_below(&draw, 60));
        const double high = low + ldexp(draw_unit(&draw), (int)draw_below(&draw, 60));
        const double value = draw_between(&draw, low, high);

        assert_true(value >= low && value <= high);
    }
    assert_true(draw_between(&draw, 0.25, 0.25) == 0.25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_golden),        cmocka_unit_test(test_streams_independent),
        cmocka_unit_test(test_first_words),   cmocka_unit_test(test_below_uniform), cmocka_unit_test(test_unit_and_between),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
