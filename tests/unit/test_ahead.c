/* SPDX-License-Identifier: MIT */
/* How far ahead is read: daemon/ahead_depth.c, with storage, workers and a page cache made of arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "ahead_depth.h"

#define US 1000u
#define MS 1000000u

struct world {
    struct ahead_tuner tuner;
    uint32_t depth, most, n_workers, changes;
    uint64_t work_ns;
    char why[160];
};

/* A window in which so many of 16 reads wait that long, and the others hardly any time. */
static uint32_t look(struct world *world, uint32_t slept, uint64_t latency_ns)
{
    const struct ahead_window window = { .reads = AHEAD_WINDOW,
                                         .slept = slept,
                                         .took_ns = slept * latency_ns + (AHEAD_WINDOW - slept) * 10 * US,
                                         .rows = world->work_ns ? AHEAD_WINDOW : 0,
                                         .work_ns = world->work_ns * AHEAD_WINDOW };
    const uint32_t before = world->depth;

    world->depth =
        ahead_depth_next(&world->tuner, &window, world->n_workers, before, world->most, world->why, sizeof(world->why));
    world->changes += world->depth != before;
    return world->depth;
}

static struct world start(uint64_t work_ns)
{
    return (struct world){ .most = 64, .n_workers = 2, .work_ns = work_ns };
}

/* Half as many again as workers take rows in the time of one read. */
static void test_little(void **state)
{
    struct world world = start(5 * MS);

    assert_int_equal(look(&world, 16, 50 * MS), 30);
    assert_string_equal(world.why, "reads wait 50.00 ms, and 2 workers take 5.00 ms for the rest of a row");
    world = start(1 * MS);
    assert_int_equal(look(&world, 16, 1 * MS), 3);
    assert_int_equal(look(&world, 16, 100 * MS), 3); /* once: it may be a hiccup */
    world = start(10 * US);
    assert_int_equal(look(&world, 16, 50 * MS), 64); /* never more than there are buffers */
    world = start(0);                                /* no row was made yet: what is known is that reads wait */
    assert_int_equal(look(&world, 16, 50 * MS), 3);
    world.work_ns = 1 * MS;
    assert_int_equal(look(&world, 16, 50 * MS), 64);
}

/* Reads that do not wait, or that are nothing beside the work. */
static void test_warm(void **state)
{
    struct world world = start(1 * MS);

    for (int i = 0; i < 100; i++) {
        assert_int_equal(look(&world, 0, 0), 0);
        assert_int_equal(look(&world, 1, 5 * MS), 0); /* one in sixteen */
    }
    world = start(5 * MS);
    assert_int_equal(look(&world, 16, 400 * US), 0);
    world = start(5 * MS);
    assert_int_equal(look(&world, 16, 600 * US), 2);
}

/* The page cache comes to have them: after four windows in turn, and not for one of them. */
static void test_off(void **state)
{
    struct world world = start(1 * MS);

    look(&world, 16, 10 * MS);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(look(&world, 0, 0), 30);
        assert_int_equal(look(&world, 0, 0), 30);
        assert_int_equal(look(&world, 0, 0), 30);
        assert_int_equal(look(&world, 16, 10 * MS), 30);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&world, 0, 0), 30);
    assert_int_equal(look(&world, 0, 0), 0);
    assert_non_null(strstr(world.why, "do not wait any more (0 of the last 16 did)"));
    assert_int_equal(look(&world, 16, 10 * MS), 30);
}

/* Latency that swings by a fifth, and a tenth of the reads in the page cache: the depth stays. */
static void test_steady(void **state)
{
    struct world world = start(1 * MS);

    for (uint32_t i = 0; i < 1000; i++)
        look(&world, i % 3 ? 16 : 14, 10 * MS + i * 7919 % 9 * 250 * US);
    assert_true(world.changes <= 3);
    assert_in_range(world.depth, 25, 35);
}

/* Storage that serves no more than so much a second answers later the more is asked of it: the depth does not follow. */
static void test_saturated(void **state)
{
    struct world world = start(100 * US);

    look(&world, 16, 1 * MS);
    assert_int_equal(world.depth, 30);
    for (int i = 0; i < 7; i++)
        look(&world, 16, world.depth * (uint64_t)MS);
    assert_int_equal(world.depth, 30);
    for (int i = 0; i < 20; i++) /* it has become slower for good */
        look(&world, 16, 4 * MS);
    assert_int_equal(world.depth, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_little), cmocka_unit_test(test_warm),      cmocka_unit_test(test_off),
        cmocka_unit_test(test_steady), cmocka_unit_test(test_saturated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
