/* SPDX-License-Identifier: MIT */
/*
 * The rules of tuning, against a simulated daemon: workers that claim the rows of slots, oldest first, and a trainer that takes
 * batches in order, on a clock of its own. The same rules run in the daemon (tune_feed.c), on measured times.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "feed.h"
#include "tune.h"
#include "tune_rule.h"

enum { BASE = 4, MOST = 64, ROWS = 64, MOST_WORKERS = 8, BATCHES = 8192, SETTLES = 20 };

struct load {
    double compute, compute_noise; /* of the trainer, a batch; the noise as a coefficient of variation */
    double row, row_noise;         /* of a worker, a row */
    uint32_t slow_every;           /* a row of so many takes SLOW times as long; 0: none */
};
#define SLOW 100

struct work {
    uint32_t batch;
    double until, takes;
};

struct world {
    uint64_t random;
    struct load load;
    uint32_t n_workers, in_use_fixed; /* fixed: nothing is tuned */
    double now;
    struct work work[MOST_WORKERS];
    uint32_t claimed[BATCHES], done[BATCHES];
    double took[BATCHES], longest[BATCHES], ready[BATCHES];
    uint32_t posted, oldest,
        returned; /* oldest: first batch with rows to claim; returned: batches that the trainer is through with */
    bool computing;
    double compute_until, takes, waits_since, waited, all_waited;
    struct tune_series job, feed;
    struct tune_slots slots;
    uint32_t changes, last_change; /* last_change: batches returned by then */
};

static uint64_t draw_bits(struct world *world)
{
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double draw(struct world *world)
{
    return (double)(draw_bits(world) >> 11) * 0x1p-53;
}

/* Of mean 1: a gamma distribution's shape by the sum of exponential ones where it varies much, else a normal one. */
static double noisy(struct world *world, double varies)
{
    double normal = sqrt(-2 * log(1 - draw(world))) * cos(6.283185307179586 * draw(world));

    return varies >= 1 ? -log(1 - draw(world)) : fmax(0.05, 1 + varies * normal);
}

static uint32_t in_use(const struct world *world)
{
    return world->in_use_fixed ? world->in_use_fixed : world->slots.in_use;
}

static void filled(struct world *world, uint32_t batch)
{
    struct tune_pace pace;
    struct tune_need need = { .base = BASE, .known = true, .batches = 1 };

    world->ready[batch] = world->now;
    tune_add(&world->feed, world->took[batch] - world->longest[batch], 1, world->longest[batch]);
    pace = tune_pace(&world->job, &world->feed, world->n_workers);
    if (!pace.known)
        return;
    need.burst = tune_burst(&pace, pace.slowest);
    need.keep = tune_burst(&pace, pace.once);
    need.starved = tune_starved(&pace);
    need.shifts = world->job.shifts + world->feed.shifts;
    if (tune_slots(&world->slots, &need, MOST) != TUNE_STAYS) {
        world->changes++;
        world->last_change = world->returned;
    }
}

static void claim(struct world *world, struct work *work)
{
    const struct load *load = &world->load;

    while (world->oldest < world->posted && world->claimed[world->oldest] == ROWS)
        world->oldest++;
    work->until = INFINITY;
    if (world->oldest == world->posted)
        return;
    work->batch = world->oldest;
    work->takes = load->row * noisy(world, load->row_noise);
    if (load->slow_every && draw_bits(world) % load->slow_every == 0)
        work->takes *= SLOW;
    work->until = world->now + work->takes;
    world->claimed[work->batch]++;
}

static void row_done(struct world *world, struct work *work)
{
    const uint32_t batch = work->batch;

    world->took[batch] += work->takes;
    world->longest[batch] = fmax(world->longest[batch], work->takes);
    if (++world->done[batch] == ROWS)
        filled(world, batch);
    work->until = INFINITY;
}

static void step(struct world *world)
{
    struct work *first = &world->work[0];

    while (world->posted < BATCHES && world->posted - world->returned < in_use(world))
        world->posted++;
    for (uint32_t w = 0; w < world->n_workers; w++)
        if (world->work[w].until == INFINITY)
            claim(world, &world->work[w]);
    if (!world->computing && world->returned < world->posted && world->done[world->returned] == ROWS) {
        world->computing = true;
        world->waited = world->now - world->waits_since;
        world->takes = world->load.compute * noisy(world, world->load.compute_noise);
        world->compute_until = world->now + world->takes;
    }
    for (uint32_t w = 1; w < world->n_workers; w++)
        if (world->work[w].until < first->until)
            first = &world->work[w];
    if (world->computing && world->compute_until <= first->until) {
        world->now = world->compute_until;
        world->computing = false;
        world->waits_since = world->now;
        world->all_waited += world->returned > SETTLES ? world->waited : 0;
        if (world->returned > 0)
            tune_add(&world->job, world->takes, 1, world->returned > TUNE_KEPT ? world->waited : 0);
        world->returned++;
        return;
    }
    world->now = first->until;
    row_done(world, first);
}

static struct world *begin(uint64_t seed, uint32_t n_workers, const struct load *load)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->random = seed * 7919;
    world->n_workers = n_workers;
    world->load = *load;
    world->slots.in_use = 16;
    for (uint32_t w = 0; w < n_workers; w++)
        world->work[w].until = INFINITY;
    return world;
}

/* That many batches under that load. The batch, counted from its beginning, after which nothing was changed any more. */
static uint32_t run(struct world *world, const struct load *load, uint32_t batches)
{
    const uint32_t from = world->returned;

    world->load = *load;
    world->last_change = from;
    world->all_waited = 0;
    while (world->returned < from + batches)
        step(world);
    return world->last_change - from;
}

/* ---- step loads ----------------------------------------------------------------------------------------------------- */

#define STAGE 400 /* batches under one load */
#define SEEDS 50

struct tally {
    uint32_t worst, stages, in_time, most_changes;
    uint64_t sum, changes;
};

static void count(struct tally *tally, uint32_t settled, uint32_t changes)
{
    tally->worst = settled > tally->worst ? settled : tally->worst;
    tally->stages++;
    tally->in_time += settled <= SETTLES;
    tally->sum += settled;
    tally->changes += changes;
    tally->most_changes = changes > tally->most_changes ? changes : tally->most_changes;
}

static void show(const char *what, const struct load *load, uint32_t n_workers, const struct tally *tally)
{
    printf("%s, supply / compute %.2f, noise %.2f: %.2f changes a step, %u at most, the last of them after %.1f batches, at the "
           "latest %u; %u "
           "of %u within %u\n",
           what, load->row * ROWS / n_workers / load->compute, load->compute_noise, (double)tally->changes / tally->stages,
           tally->most_changes, (double)tally->sum / tally->stages, tally->worst, tally->in_time, tally->stages, SETTLES);
}

/* The trainer as it is, twice as fast, then half as fast as at first, then as at first. */
static void run_steps(uint64_t seed, uint32_t n_workers, const struct load *load, struct tally *tally)
{
    static const double speeds[] = { 1, 2, 0.5, 1 };
    struct world *world = begin(seed, n_workers, load);

    for (size_t s = 0; s < sizeof(speeds) / sizeof(speeds[0]); s++) {
        struct load now = *load;
        const uint32_t changes = world->changes;
        uint32_t settled;

        now.compute = load->compute / speeds[s];
        settled = run(world, &now, STAGE);
        count(tally, settled, world->changes - changes);
    }
    free(world);
}

static void test_steps(void **state)
{
    static const double noises[] = { 0.02, 0.1, 0.25 };
    static const double shares[] = { 0.8, 0.45, 0.2 };

    (void)state;
    for (size_t r = 0; r < 3; r++)
        for (size_t n = 0; n < 3; n++) {
            const struct load load = { 10, noises[n], 10 * shares[r] * 2 / ROWS, noises[n], 0 };
            struct tally tally = { 0 };

            for (uint64_t seed = 1; seed <= SEEDS; seed++)
                run_steps(seed, 2, &load, &tally);
            show("steps", &load, 2, &tally);
            assert_true(tally.most_changes <= (noises[n] > 0.2 ? 3 : 2));
            assert_true(tally.in_time * 100 >= tally.stages * (noises[n] > 0.2 ? 90 : 100));
        }
}

/* The same where one row of 500 takes a hundred times as long. */
static void test_slow_steps(void **state)
{
    static const double shares[] = { 0.8, 0.45, 0.2 };

    (void)state;
    for (size_t r = 0; r < 3; r++) {
        const struct load load = { 10, 0.1, 10 * shares[r] * 4 / ROWS / 1.2, 0.1, 500 };
        struct tally tally = { 0 };

        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            run_steps(seed, 4, &load, &tally);
        show("slow rows", &load, 4, &tally);
        assert_true(tally.most_changes <= 3);
        assert_true(tally.in_time * 100 >= tally.stages * 85); /* a row that comes once in many batches is met later than that */
    }
}

static void test_slow(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const struct load load = { 10, 0.1, 6.0 * 4 / ROWS / 1.2, 0.1, 500 };
        struct world *world = begin(seed, 4, &load), *fixed = begin(seed, 4, &load);
        const uint32_t settled = run(world, &load, 4000);
        double waited, waited_fixed;

        fixed->in_use_fixed = BASE;
        run(fixed, &load, 4000);
        waited = 100 * world->all_waited / world->now;
        waited_fixed = 100 * fixed->all_waited / fixed->now;
        printf("slow rows, seed %llu: %u changes, the last after %u of 4000 batches, %u slots in use; the trainer waits %.2f %%, "
               "with %u slots "
               "%.2f %%\n",
               (unsigned long long)seed, world->changes, settled, world->slots.in_use, waited, BASE, waited_fixed);
        assert_true(waited < 0.5 && waited_fixed > 2 && world->changes <= 2);
        free(world);
        free(fixed);
    }
}

/* Nothing swings where nothing changes but by chance. */
static void test_noise(void **state)
{
    static const double shares[] = { 1, 0.95, 0.8, 0.45 };

    (void)state;
    for (size_t r = 0; r < 4; r++) {
        uint32_t most = 0;

        for (uint64_t seed = 1; seed <= 10; seed++) {
            const struct load load = { 10, 0.3, 10 * shares[r] * 2 / ROWS, 0.3, 0 };
            struct world *world = begin(seed, 2, &load);

            run(world, &load, 8000);
            most = world->changes > most ? world->changes : most;
            free(world);
        }
        printf("noise 0.3, supply / compute %.2f: at most %u changes in 8000 batches\n", shares[r], most);
        assert_true(most <= 8);
    }
}

/* ---- single rules --------------------------------------------------------------------------------------------------- */

static void test_bounds(void **state)
{
    static const double bursts[] = { 0, 3, 1000, 1e300, INFINITY };

    (void)state;
    for (size_t i = 0; i < sizeof(bursts) / sizeof(bursts[0]); i++)
        for (uint32_t most = 1; most <= MOST; most *= 2) {
            const struct tune_need need = { .base = BASE, .burst = bursts[i], .starved = true, .known = true, .batches = 1 };
            struct tune_slots slots = { .in_use = most };

            for (int k = 0; k < 1000; k++) {
                tune_slots(&slots, &need, most);
                assert_true(slots.in_use <= most && (slots.in_use > BASE || slots.in_use == most));
            }
        }
}

/* What is missing comes at once; what there is too much of goes when it is calm, once. */
static void test_one_step(void **state)
{
    struct tune_need need = { .base = BASE, .burst = 8, .known = true, .batches = 1 };
    struct tune_slots slots = { .in_use = 8 };
    uint32_t changes = 0;

    (void)state;
    assert_int_equal(tune_slots(&slots, &need, MOST), TUNE_NEEDED);
    assert_int_equal(slots.in_use, 15);
    for (int k = 0; k < 1000; k++)
        assert_int_equal(tune_slots(&slots, &need, MOST), TUNE_STAYS);
    need.burst = 1;
    need.shifts = 1; /* the load has changed */
    for (int k = 0; k < 1000; k++)
        changes += tune_slots(&slots, &need, MOST) != TUNE_STAYS;
    assert_int_equal(changes, 1);
    assert_int_equal(slots.in_use, 7);
}

/* A change of load is forgotten; noise is none. */
static void test_series(void **state)
{
    struct tune_series series = { 0 };

    (void)state;
    for (int k = 0; k < 40; k++)
        tune_add(&series, 10 + (k % 2), 1, 0);
    assert_int_equal(series.shifts, 0);
    assert_true(fabs(tune_mean(&series) - 10.5) < 0.1 && fabs(sqrt(tune_variation(&series)) * 10.5 - sqrt(0.5)) < 0.1);
    for (int k = 0; k < 10; k++)
        tune_add(&series, 5 + 0.5 * (k % 2), 1, 0);
    assert_int_equal(series.shifts, 1);
    assert_true(fabs(tune_mean(&series) - 5.25) < 0.3 && tune_variation(&series) < 0.01);
    for (int k = 0; k < 300; k++) /* batches that come four at once: means of four vary half as much */
        tune_add(&series, 5 + 0.5 * (k % 2), 4, 0);
    assert_true(fabs(sqrt(tune_variation(&series)) * 5.25 - 2 * sqrt(0.125)) < 0.1);
}

static void test_log(void **state)
{
    static const struct config_feed config = { .name = "tuned" };
    struct feed *feed = calloc(1, sizeof(*feed));
    struct tune_change change;

    (void)state;
    assert_non_null(feed);
    feed->config = &config;
    pthread_mutex_init(&feed->lock, NULL);
    assert_true(tune_changes(feed) == 0 && !tune_change(feed, 0, &change) && !tune_change(feed, 1, &change));
    for (uint32_t n = 1; n <= TUNE_CHANGES + 3; n++)
        tune_note(feed, TUNE_READ_DEPTH, n, n + 1, "because of %u", n);
    assert_int_equal(tune_changes(feed), TUNE_CHANGES + 3);
    assert_false(tune_change(feed, 3, &change));
    for (uint32_t n = 4; n <= TUNE_CHANGES + 3; n++) {
        assert_true(tune_change(feed, n, &change));
        assert_true(change.number == n && change.from == n && change.to == n + 1 && change.what == TUNE_READ_DEPTH);
        assert_int_equal(atoi(change.why + strlen("because of ")), n);
    }
    pthread_mutex_destroy(&feed->lock);
    free(feed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),  cmocka_unit_test(test_slow_steps), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_noise),  cmocka_unit_test(test_bounds),     cmocka_unit_test(test_one_step),
        cmocka_unit_test(test_series), cmocka_unit_test(test_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
