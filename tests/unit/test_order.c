/* SPDX-License-Identifier: MIT */
/* Orders: bijections, uniform by position and by neighbours, unrelated between epochs and seeds, the same for ever (a token
 * resumes them under later versions), and views counted and reused. All seeds are fixed, so that a failure is a change; the
 * statistics find a network of two rounds, or a shuffle that is slightly wrong. */
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

#define Z_MAX 4.0

static void assert_z(double z, uint64_t n, const char *what)
{
    if (getenv("PFEED_TEST_VERBOSE"))
        printf("N = %" PRIu64 ", %s: z = %.2f\n", n, what, z);
    if (!(fabs(z) < Z_MAX))
        fail_msg("N = %" PRIu64 ", %s: z = %.2f", n, what, z);
}

/* Wilson and Hilferty's cube root makes chi-square normal also at few degrees of freedom. */
static double chi_square_z(double q, double df)
{
    return (cbrt(q / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
}

static struct order *create_of(const struct order_params *params, uint32_t views)
{
    struct order *order = NULL;

    assert_int_equal(order_create(&order, params, views), 0);
    assert_non_null(order);
    return order;
}

static struct order *create(uint64_t n, enum shuffle_mode mode, uint32_t views)
{
    return create_of(&(struct order_params){ .n = n, .mode = mode, .repeat = 1 }, views);
}

static void *array(uint64_t n, size_t size)
{
    void *a = calloc(n, size);

    assert_non_null(a);
    return a;
}

/* The t-th of a series of orders: successive epochs of one seed, or epoch 0 of successive seeds. */
enum axis { EPOCHS, SEEDS, AXES };
static const char *const axis_names[] = { "epochs", "seeds" };

static void read_order(struct order *order, uint64_t n, enum axis axis, uint64_t t, uint32_t *ids)
{
    const struct order_view *view = axis == EPOCHS ? order_view(order, 42, t) : order_view(order, t, 0);

    assert_non_null(view);
    for (uint64_t p = 0; p < n; p++) {
        uint64_t id;
        uint32_t occurrence;

        order_at(view, p, &id, &occurrence);
        ids[p] = (uint32_t)id;
    }
    order_release(order, view);
}

/* ---- bijection ------------------------------------------------------------------------------------------------------ */

static void test_bijection(void **state)
{
    static const uint64_t ns[] = { 1,     2,     3,     4,     5,     10,     16,     17,     250,    1000,    4096,
                                   65535, 65536, 65537, 70000, 99991, 131072, 131073, 262144, 262145, 1000003, 1048576 };

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            struct order *order = create(ns[i], SHUFFLE_GLOBAL, 1);
            const struct order_view *view = order_view(order, 7, epoch);
            uint8_t *seen = array(ns[i], 1);

            for (uint64_t p = 0; p < ns[i]; p++) {
                uint64_t id = UINT64_MAX;
                uint32_t occurrence = UINT32_MAX;

                order_at(view, p, &id, &occurrence);
                assert_true(id < ns[i]);
                assert_int_equal(seen[id]++, 0);
                assert_int_equal(occurrence, 0);
            }
            free(seen);
            order_release(order, view);
            order_destroy(order);
        }
    }
}

/* Too many to see all: no id twice among the first. */
static int compare_ids(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void test_huge(void **state)
{
    static const uint64_t ns[] = { UINT64_C(5000000000), UINT64_C(1) << 62, (UINT64_C(1) << 63) + 1, UINT64_MAX };
    enum { FIRST = 20000 };
    static uint64_t ids[FIRST];

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        struct order *order = create(ns[i], SHUFFLE_GLOBAL, 1);
        const struct order_view *view = order_view(order, 7, 1);
        double sum = 0;

        for (uint64_t p = 0; p < FIRST; p++) {
            uint32_t occurrence;

            order_at(view, p, &ids[p], &occurrence);
            assert_true(ids[p] < ns[i]);
            sum += ((double)ids[p] / (double)ns[i] - 0.5) * sqrt(12);
        }
        assert_z(sum / sqrt(FIRST), ns[i], "mean of the first ids");
        qsort(ids, FIRST, sizeof(ids[0]), compare_ids);
        for (uint64_t p = 1; p < FIRST; p++)
            assert_true(ids[p - 1] != ids[p]);
        order_destroy(order);
    }
}

static void test_none(void **state)
{
    static const uint64_t ns[] = { 1, 10, 70000 };

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        struct order *order = create(ns[i], SHUFFLE_NONE, 2);
        const struct order_view *view = order_view(order, 7, 3);

        for (uint64_t p = 0; p < ns[i]; p++) {
            uint64_t id;
            uint32_t occurrence;

            order_at(view, p, &id, &occurrence);
            assert_int_equal(id, p);
            assert_int_equal(occurrence, 0);
        }
        order_destroy(order);
    }
}

/* ---- uniformity ----------------------------------------------------------------------------------------------------- */

/* How a position or an id falls into one of `bins` bins of equal size: its high digits, or its low ones. */
static uint64_t bin_of(uint64_t x, uint64_t n, uint64_t bins, bool low)
{
    return low ? x % bins : x / (n / bins);
}

/* Position against id in n_orders orders, in bins of m = n / bins. The one-hot matrix of a random permutation has covariance
 * (P x P) / (n - 1), P the projection that takes out the mean; binning multiplies it by m^2. So this is chi-square with
 * (bins - 1)^2 degrees of freedom, with that mean exactly (not Pearson's sum over independent draws, which is n - 1 over n of
 * it). */
static void position_id_of(const struct order_params *params, uint64_t bins, uint64_t n_orders, enum axis axis)
{
    const uint64_t n = params->n;
    static const char *const names[] = { "positions' high digits to ids' high", "positions' high digits to ids' low",
                                         "positions' low digits to ids' high", "positions' low digits to ids' low" };
    const double m = (double)(n / bins), expected = (double)n_orders * m * m / (double)n;
    const uint64_t kinds = bins == n ? 1 : 4; /* without bins all four are the same */
    struct order *order = create_of(params, 1);
    uint32_t *counts = array(4 * bins * bins, sizeof(*counts)), *ids = array(n, sizeof(*ids));
    char what[80];

    assert_int_equal(n % bins, 0);
    assert_true(expected >= 5);
    for (uint64_t t = 0; t < n_orders; t++) {
        read_order(order, n, axis, t, ids);
        for (uint64_t k = 0; k < kinds; k++)
            for (uint64_t p = 0; p < n; p++)
                counts[(k * bins + bin_of(p, n, bins, k >> 1)) * bins + bin_of(ids[p], n, bins, k & 1)]++;
    }
    for (uint64_t k = 0; k < kinds; k++) {
        double q = 0;

        for (uint64_t c = k * bins * bins; c < (k + 1) * bins * bins; c++)
            q += ((double)counts[c] - expected) * ((double)counts[c] - expected);
        q *= (double)(n - 1) / (m * m * (double)n_orders);
        snprintf(what, sizeof(what), "%s over %s", names[k], axis_names[axis]);
        assert_z(chi_square_z(q, (double)((bins - 1) * (bins - 1))), n, what);
    }
    free(ids);
    free(counts);
    order_destroy(order);
}

static void position_id(uint64_t n, uint64_t bins, uint64_t n_orders, enum axis axis)
{
    position_id_of(&(struct order_params){ .n = n, .mode = SHUFFLE_GLOBAL, .repeat = 1 }, bins, n_orders, axis);
}

static void test_position_id(void **state)
{
    (void)state;
    for (enum axis axis = 0; axis < AXES; axis++) {
        position_id(2, 2, 4000, axis);
        position_id(3, 3, 6000, axis);
        position_id(10, 10, 6000, axis);
        position_id(16, 16, 6000, axis);
        position_id(60, 60, 4000, axis);
        position_id(250, 250, 1500, axis);
        position_id(1000, 250, 350, axis);
        position_id(4096, 256, 120, axis);
        position_id(65536, 256, 6, axis);
        position_id(70000, 250, 20, axis);
        position_id(70000, 16, 20, axis);
        position_id(131072, 256, 10, axis);
        position_id(262144, 512, 6, axis);
    }
}

/* Differences of neighbours, (at(p + 1) - at(p)) mod n, of the n / 2 disjoint pairs of an order (beginning at 0 and at 1 in
 * turn). They are not independent: with k pairs, cov(d = a, d' = b) = (n - 4 + [a = b] + [a = -b]) / ((n-1)(n-2)(n-3))
 * - 1 / (n-1)^2, so that counts of d plus counts of -d spread more than their difference, by 1 + 2(k - 1)/((n-2)(n-3)). Each
 * part is scaled by its own variance; together n - 2 degrees of freedom. */
static void neighbours_of(const struct order_params *params, uint64_t n_orders, enum axis axis)
{
    const uint64_t n = params->n;
    struct order *order = create_of(params, 1);
    uint32_t *counts = array(n, sizeof(*counts)), *ids = array(n, sizeof(*ids));
    const uint64_t pairs = (n - 1) / 2; /* from 0 or 1, as many */
    const double odd = (double)(pairs * n_orders) / (double)(n - 1);
    const double even = n > 3 ? odd * (1 + 2.0 * (double)(pairs - 1) / (double)((n - 2) * (n - 3))) : odd;
    double q = 0;
    char what[80];

    assert_true(odd >= 5);
    for (uint64_t t = 0; t < n_orders; t++) {
        read_order(order, n, axis, t, ids);
        for (uint64_t k = 0, p = t & 1; k < pairs; k++, p += 2)
            counts[(ids[p + 1] + n - ids[p]) % n]++;
    }
    assert_int_equal(counts[0], 0);
    for (uint64_t d = 1; d < n; d++) {
        const double a = (double)counts[d] - odd, b = (double)counts[n - d] - odd;

        q += (a + b) * (a + b) / 4 / even + (a - b) * (a - b) / 4 / odd;
    }
    snprintf(what, sizeof(what), "differences of neighbours over %s", axis_names[axis]);
    assert_z(chi_square_z(q, (double)(n - 2)), n, what);
    free(ids);
    free(counts);
    order_destroy(order);
}

static void neighbours(uint64_t n, uint64_t n_orders, enum axis axis)
{
    neighbours_of(&(struct order_params){ .n = n, .mode = SHUFFLE_GLOBAL, .repeat = 1 }, n_orders, axis);
}

static void test_neighbours(void **state)
{
    static const struct {
        uint64_t n, n_orders;
    } rows[] = { { 3, 6000 },   { 10, 6000 },  { 16, 6000 },  { 60, 4000 },  { 250, 2000 },  { 1000, 500 },
                 { 4096, 120 }, { 65536, 12 }, { 65537, 12 }, { 70000, 20 }, { 131072, 12 }, { 200000, 12 } };

    (void)state;
    for (enum axis axis = 0; axis < AXES; axis++)
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
            neighbours(rows[i].n, rows[i].n_orders, axis);
}

/* A window of blocks, here one of all samples, is permuted by a network of more rounds. */
static void test_window(void **state)
{
    static const struct {
        uint64_t n, bins, id_orders, orders;
    } rows[] = { { 3, 3, 6000, 6000 },    { 10, 10, 6000, 6000 },   { 16, 16, 6000, 6000 },
                 { 60, 60, 4000, 4000 },  { 250, 250, 1500, 2000 }, { 1000, 250, 350, 500 },
                 { 4096, 256, 120, 120 }, { 16384, 256, 40, 40 },   { 70000, 250, 20, 20 } };

    (void)state;
    for (enum axis axis = 0; axis < AXES; axis++)
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            const struct order_params params = {
                .n = rows[i].n, .mode = SHUFFLE_BLOCK, .block = rows[i].n + 1, .window = 1, .repeat = 1
            };

            position_id_of(&params, rows[i].bins, rows[i].id_orders, axis);
            neighbours_of(&params, rows[i].orders, axis);
        }
}

/* All n! orders equally often: nothing else can be wrong with so few. */
static void test_all_orders(void **state)
{
    (void)state;
    for (enum axis axis = 0; axis < AXES; axis++) {
        for (uint64_t n = 2, orders = 2; n <= 6; n++, orders *= n) {
            struct order *order = create(n, SHUFFLE_GLOBAL, 1);
            const uint64_t n_orders = 30 * orders;
            uint32_t counts[720] = { 0 }, ids[6];
            double q = 0;

            for (uint64_t t = 0; t < n_orders; t++) {
                uint64_t rank = 0; /* Lehmer's code */

                read_order(order, n, axis, t, ids);
                for (uint64_t i = 0; i < n; i++) {
                    uint64_t smaller = 0;

                    for (uint64_t j = i + 1; j < n; j++)
                        smaller += ids[j] < ids[i];
                    rank = rank * (n - i) + smaller;
                }
                counts[rank]++;
            }
            for (uint64_t i = 0; i < orders; i++)
                q += ((double)counts[i] - 30) * ((double)counts[i] - 30) / 30;
            assert_z(chi_square_z(q, (double)orders - 1), n, "all orders");
            order_destroy(order);
        }
    }
}

/* ---- one order against the next ------------------------------------------------------------------------------------- */

struct relation {
    double ranks, fixed, kept; /* each of mean 0 and variance 1 where the orders are unrelated */
};

/* Of id by position (Pearson's r has variance 1/(n-1)); of ids that stay at their position (1, variance 1); and of ids that
 * keep their successor ((n-1)/n; variance 1 - 1/n up to 1/n^2, as in the count of successions). */
static struct relation relate(const uint32_t *a, const uint32_t *b, uint64_t n, uint32_t *after)
{
    const double mean = ((double)n - 1) / 2, variance = ((double)n * (double)n - 1) / 12;
    struct relation r = { 0, -1, -((double)n - 1) / (double)n };

    for (uint64_t p = 0; p < n; p++) {
        r.ranks += ((double)a[p] - mean) * ((double)b[p] - mean);
        r.fixed += a[p] == b[p];
        after[a[p]] = p + 1 < n ? a[p + 1] : UINT32_MAX;
    }
    for (uint64_t p = 0; p + 1 < n; p++)
        r.kept += after[b[p]] == b[p + 1];
    r.ranks /= variance * (double)n / sqrt((double)n - 1);
    return r;
}

static void test_successive(void **state)
{
    static const struct {
        uint64_t n, n_orders;
    } rows[] = { { 3, 6000 },   { 10, 6000 },  { 16, 6000 },  { 60, 4000 },  { 250, 2000 },
                 { 1000, 500 }, { 4096, 200 }, { 65536, 20 }, { 70000, 30 }, { 131072, 20 } };

    (void)state;
    for (enum axis axis = 0; axis < AXES; axis++) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            const uint64_t n = rows[i].n;
            struct order *order = create(n, SHUFFLE_GLOBAL, 1);
            uint32_t *ids[3] = { array(n, 4), array(n, 4), array(n, 4) };
            struct relation sum = { 0 };
            const double root = sqrt((double)rows[i].n_orders);

            read_order(order, n, axis, 0, ids[0]);
            for (uint64_t t = 1; t <= rows[i].n_orders; t++) {
                read_order(order, n, axis, t, ids[t & 1]);
                const struct relation r = relate(ids[~t & 1], ids[t & 1], n, ids[2]);

                assert_true(n < 60 || memcmp(ids[0], ids[1], n * sizeof(uint32_t)) != 0);
                sum.ranks += r.ranks;
                sum.fixed += r.fixed;
                sum.kept += r.kept;
            }
            assert_z(sum.ranks / root, n, axis == EPOCHS ? "correlation of epochs" : "correlation of seeds");
            assert_z(sum.fixed / root, n, axis == EPOCHS ? "same place in the next epoch" : "same place with the next seed");
            if (n >= 60)
                assert_z(sum.kept / root, n, axis == EPOCHS ? "same successor in the next epoch" : "same successor, next seed");
            for (int k = 0; k < 3; k++)
                free(ids[k]);
            order_destroy(order);
        }
    }
}

/* Seed and epoch are not added up: (s, e + 1) is not (s + 1, e). */
static void test_seed_is_not_epoch(void **state)
{
    static const uint64_t ns[] = { 1000, 70000 };

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        struct order *order = create(ns[i], SHUFFLE_GLOBAL, 2);
        const struct order_view *a = order_view(order, 5, 6), *b = order_view(order, 6, 5);
        uint64_t same = 0;

        for (uint64_t p = 0; p < ns[i]; p++) {
            uint64_t x, y;
            uint32_t occurrence;

            order_at(a, p, &x, &occurrence);
            order_at(b, p, &y, &occurrence);
            same += x == y;
        }
        assert_in_range(same, 0, 8);
        order_destroy(order);
    }
}

/* ---- for ever the same ---------------------------------------------------------------------------------------------- */

/* Computed by other means than order.c: all of it written again in Python. */
static void test_golden(void **state)
{
    static const struct {
        uint64_t n, seed, epoch, first[4], hash; /* FNV-1a, a whole word at a time, over the first 1,000 (or n) ids */
    } rows[] = {
        { 10, 42, 0, { 3, 7, 5, 9 }, 0xe3bb52397fc7ae38 },
        { 10, 42, 1, { 5, 2, 9, 7 }, 0x2cdfd342ed0e1772 },
        { 1000, 0, 0, { 316, 101, 942, 585 }, 0xb30cfd11e9f7e11f },
        { 65536, 42, 7, { 2612, 56083, 28516, 44474 }, 0xe0934e6f0d2aef1a },
        { 65537, 42, 7, { 21361, 26793, 1342, 13121 }, 0x91c0c9e9bdd4d428 },
        { 70000, 0, 0, { 66492, 46488, 26167, 30670 }, 0x66db109fc4709192 },
        { 1281167, 42, 0, { 84252, 1122641, 1275340, 1275327 }, 0xcd82a2f14951c0af },
        { 1000000000000, UINT64_MAX, 1000000, { 727309003534, 900838885030, 199374957136, 67434220218 }, 0x764c9b346d75d72b },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct order *order = create(rows[i].n, SHUFFLE_GLOBAL, 1);
        const struct order_view *view = order_view(order, rows[i].seed, rows[i].epoch);
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (uint64_t p = 0; p < rows[i].n && p < 1000; p++) {
            uint64_t id;
            uint32_t occurrence;

            order_at(view, p, &id, &occurrence);
            if (p < 4)
                assert_int_equal(id, rows[i].first[p]);
            hash = (hash ^ id) * UINT64_C(0x100000001b3);
        }
        assert_int_equal(hash, rows[i].hash);
        order_destroy(order);
    }
}

/* ---- views ---------------------------------------------------------------------------------------------------------- */

static void test_views(void **state)
{
    static const uint64_t ns[] = { 100, 70000 };

    (void)state;
    for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
        struct order *order = create(ns[i], SHUFFLE_GLOBAL, 3);
        const struct order_view *a = order_view(order, 0, 0), *b = order_view(order, 0, 1), *c = order_view(order, 1, 0);
        uint64_t before, after;
        uint32_t occurrence;

        assert_true(a && b && c && a != b && b != c && a != c);
        assert_null(order_view(order, 1, 1)); /* three pairs are held */
        assert_ptr_equal(order_view(order, 0, 1), b);
        order_release(order, b);
        assert_null(order_view(order, 1, 1)); /* b is held once more */
        order_release(order, b);
        order_release(order, a);
        assert_ptr_equal(order_view(order, 0, 1), b); /* kept, in either order */
        assert_ptr_equal(order_view(order, 0, 0), a);
        order_release(order, b);
        order_release(order, a);
        order_at(b, 17, &before, &occurrence);
        assert_ptr_equal(order_view(order, 9, 9), b); /* the one released longest ago makes room */
        assert_ptr_equal(order_view(order, 0, 0), a);
        order_release(order, a);
        assert_ptr_equal(order_view(order, 0, 1), a); /* made anew, and the same */
        order_at(a, 17, &after, &occurrence);
        assert_int_equal(before, after);
        order_destroy(order);
    }
}

static void test_arguments(void **state)
{
    static uint64_t sums[2];
    static const struct order_params bad[] = {
        { .n = 0, .repeat = 1 },
        { .n = 1, .repeat = 0 },
        { .n = 1, .repeat = 1, .mode = SHUFFLE_BLOCK, .block = 0, .window = 1 },
        { .n = 1, .repeat = 1, .mode = SHUFFLE_BLOCK, .block = 1, .window = 0 },
        { .n = 1, .repeat = 1, .mode = SHUFFLE_WEIGHTED, .length = 1 },
        { .n = 2, .repeat = 1, .mode = SHUFFLE_WEIGHTED, .length = 1, .sums = sums }, /* all weights are 0 */
    };
    struct order_params params = { .n = 65536, .repeat = 1 };
    struct order *order = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(order_create(&order, &bad[i], 1) < 0);
    assert_true(order_create(&order, &params, 0) < 0);
    assert_null(order);
    order_destroy(NULL);
    assert_in_range(order_bytes(&params, 4), 4 * 131072, 4 * 131072 + 2048);
    params.mode = SHUFFLE_NONE;
    assert_in_range(order_bytes(&params, 4), 1, 2048);
    params = (struct order_params){ .n = UINT64_MAX, .repeat = 1 };
    assert_in_range(order_bytes(&params, 4), 1, 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bijection),  cmocka_unit_test(test_huge),
        cmocka_unit_test(test_none),       cmocka_unit_test(test_position_id),
        cmocka_unit_test(test_neighbours), cmocka_unit_test(test_all_orders),
        cmocka_unit_test(test_successive), cmocka_unit_test(test_seed_is_not_epoch),
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_views),
        cmocka_unit_test(test_arguments),  cmocka_unit_test(test_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
