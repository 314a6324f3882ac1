/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of daemon/job.c against brute force: every position of an epoch is put into a table by counting, and what
 * job_range, job_steps_in, job_next_slot, job_ordinal and job_step_slots say is looked up there. Also local_ranks, terms that
 * must be refused, and the list of divisors.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "feed.h"
#include "job.h"
#include "start.h"

extern const struct deliver_ops deliver_split, deliver_each;

struct setup {
    struct config_feed config;
    struct feed feed;
    struct pf_ctl_attach request;
    struct problem why;
    struct job *job;
};

static void setup_init(struct setup *setup, const struct deliver_ops *deliver, int tail, uint64_t samples, uint32_t slot_rows,
                       uint32_t world, uint32_t batch)
{
    memset(setup, 0, sizeof(*setup));
    setup->config.name = (char *)"f";
    setup->config.tail = tail;
    setup->config.seed = 9;
    setup->feed.config = &setup->config;
    setup->feed.deliver = deliver;
    setup->feed.samples = samples;
    setup->feed.batch = slot_rows;
    setup->request.world = world;
    setup->request.batch = batch;
}

static const struct start fresh = { .kind = START_FRESH };

static int create(struct setup *setup)
{
    return job_create(&setup->job, &setup->feed, 0, &setup->request, start_seed(&fresh, &setup->feed, &setup->request),
                      &setup->why);
}

static int agrees(struct setup *setup, const struct pf_ctl_attach *other)
{
    return job_agrees(setup->job, other, start_seed(&fresh, &setup->feed, other), &setup->why);
}

/* ---- brute force ---------------------------------------------------------------------------------------------------- */

struct one { /* a step of a rank, by counting */
    uint64_t slot;
    uint32_t row, rows, valid;
};

/* Walks through the epoch as DESIGN.md section 8 says: step by step, rank by rank, row by row. Returns the number of steps. */
static uint64_t count(const struct setup *setup, uint32_t b, struct one *out, uint64_t max)
{
    uint64_t samples = setup->feed.samples, position = 0, steps = 0;
    uint32_t world = setup->request.world;
    bool alone = setup->feed.deliver == &deliver_each;

    while (position < samples) {
        uint64_t start = position, taken = 0;

        assert_true((steps + 1) * world <= max);
        for (uint32_t r = 0; r < world; r++) {
            struct one *one = &out[steps * world + r];

            if (alone)
                position = start;
            *one =
                (struct one){ .slot = position / setup->feed.batch, .row = (uint32_t)(position % setup->feed.batch), .rows = b };
            for (uint32_t i = 0; i < b; i++, position++)
                one->valid += position < samples;
            taken += one->valid;
            if (setup->config.tail == CONFIG_TAIL_PARTIAL)
                one->rows = one->valid;
        }
        if (setup->config.tail == CONFIG_TAIL_DROP && taken < (uint64_t)b * world)
            break;
        steps++;
    }
    return steps;
}

static void check_steps_in(const struct job *job, uint32_t rank, const struct one *all, uint64_t steps)
{
    for (uint64_t index = 0; index <= job->spans + 1; index++) {
        uint64_t low = UINT64_MAX, high = 0, first = 7777, last = 7777;

        for (uint64_t k = 0; k < steps; k++)
            if (all[k * job->world + rank].slot == index) {
                low = k < low ? k : low;
                high = k;
            }
        if (job_steps_in(job, rank, index, &first, &last)) {
            assert_int_equal(first, low);
            assert_int_equal(last, high);
        } else {
            assert_int_equal(low, UINT64_MAX);
        }
    }
}

static void check_next_slot(const struct job *job, uint32_t rank, const struct one *all, uint64_t steps)
{
    for (uint64_t k = 0; k < steps; k++) {
        struct place next = job_next_slot(job, rank, (struct place){ 3, k }), after = job_after(job, (struct place){ 3, k });
        uint64_t j = k;

        while (j < steps && all[j * job->world + rank].slot == all[k * job->world + rank].slot)
            j++;
        assert_int_equal(next.epoch, j < steps ? 3 : 4);
        assert_int_equal(next.step, j < steps ? j : 0);
        assert_int_equal(after.epoch, k + 1 < steps ? 3 : 4);
        assert_int_equal(after.step, k + 1 < steps ? k + 1 : 0);
        /* Ordinals grow along a rank's way, and into the next epoch. */
        if (j < steps)
            assert_true(job_ordinal(job, 3, all[k * job->world + rank].slot) <
                        job_ordinal(job, 3, all[j * job->world + rank].slot));
        else
            assert_true(job_ordinal(job, 3, all[k * job->world + rank].slot) < job_ordinal(job, 4, all[rank].slot));
    }
}

/* The most slots that one step of all ranks touches (in `each`: of one rank, since they need not go together). */
static uint64_t touched(const struct job *job, const struct one *all, uint64_t steps)
{
    uint64_t most = 0;

    for (uint64_t k = 0; k < steps; k++) {
        const struct one *ranks = &all[k * job->world];
        uint64_t n = ranks[job->world - 1].slot - ranks[0].slot + 1;

        most = n > most ? n : most;
    }
    return most;
}

static unsigned checked, underestimated;

static void check_job(const struct setup *setup, struct one *all, uint64_t max)
{
    const struct job *job = setup->job;
    uint64_t steps = count(setup, job->terms.batch, all, max), last = 0;

    assert_int_equal(job->steps, steps);
    for (uint64_t k = 0; k < steps; k++)
        for (uint32_t r = 0; r < job->world; r++) {
            const struct one *one = &all[k * job->world + r];
            struct range range = job_range(job, r, (struct place){ 3, k });

            assert_int_equal(range.epoch, 3);
            assert_int_equal(range.index, one->slot);
            assert_int_equal(range.row, one->row);
            assert_int_equal(range.rows, one->rows);
            assert_int_equal(range.valid, one->valid);
            assert_true(range.row + range.rows <= setup->feed.batch); /* never crosses a slot */
            last = one->slot > last ? one->slot : last;
        }
    assert_int_equal(job->spans, last + 1);
    for (uint32_t r = 0; r < job->world; r++) {
        check_steps_in(job, r, all, steps);
        check_next_slot(job, r, all, steps);
    }
    underestimated += job_step_slots(job) < touched(job, all, steps);
    checked++;
}

/* By the rules, not by the code: whether such a job can be. */
static bool must_fit(const struct setup *setup)
{
    bool alone = setup->feed.deliver == &deliver_each;
    uint32_t rows = setup->feed.batch, world = setup->request.world, batch = setup->request.batch;
    uint64_t b;

    if (batch ? rows % batch != 0 : !alone && rows % world != 0)
        return false;
    if (setup->config.tail == CONFIG_TAIL_PARTIAL && world != 1 && !alone)
        return false;
    b = batch ? batch : alone ? rows : rows / world;
    return setup->config.tail != CONFIG_TAIL_DROP || setup->feed.samples >= (alone ? b : b * world);
}

static void test_brute_force(void **state)
{
    static const uint32_t rows[] = { 1, 2, 3, 4, 6, 8, 12 }, worlds[] = { 1, 2, 3, 4, 5, 8 };
    static struct one all[4096];
    struct setup setup;

    checked = underestimated = 0;
    for (unsigned deliver = 0; deliver < 2; deliver++)
        for (int tail = CONFIG_TAIL_DROP; tail <= CONFIG_TAIL_PARTIAL; tail++)
            for (size_t s = 0; s < sizeof(rows) / sizeof(*rows); s++)
                for (size_t w = 0; w < sizeof(worlds) / sizeof(*worlds); w++)
                    for (uint32_t batch = 0; batch <= rows[s]; batch++)
                        for (uint64_t samples = 1; samples <= 60; samples++) {
                            setup_init(&setup, deliver ? &deliver_each : &deliver_split, tail, samples, rows[s], worlds[w],
                                       batch);
                            if (create(&setup) < 0) {
                                assert_false(must_fit(&setup));
                                assert_true(*setup.why.text);
                                continue;
                            }
                            assert_true(must_fit(&setup));
                            check_job(&setup, all, sizeof(all) / sizeof(*all));
                            job_destroy(setup.job);
                        }
    printf("    %u jobs\n", checked);
    assert_true(checked > 10000);
    assert_int_equal(underestimated, 0); /* job_step_slots is the promise of how few slots will do */
}

/* Large numbers: no overflow, still the same rules. */
static void test_large(void **state)
{
    struct setup setup;
    struct range range;
    uint64_t first, last, steps;

    setup_init(&setup, &deliver_split, CONFIG_TAIL_PAD, UINT64_C(1) << 48, 1 << 20, PF_WORLD_MAX, 1 << 20);
    assert_int_equal(create(&setup), 0);
    steps = (UINT64_C(1) << 48) / ((UINT64_C(1) << 20) * PF_WORLD_MAX);
    assert_int_equal(setup.job->steps, steps);
    range = job_range(setup.job, PF_WORLD_MAX - 1, (struct place){ UINT64_C(1) << 40, steps - 1 });
    assert_int_equal(range.index, (UINT64_C(1) << 28) - 1);
    assert_int_equal(range.rows, 1 << 20);
    assert_true(job_steps_in(setup.job, PF_WORLD_MAX - 1, range.index, &first, &last));
    assert_int_equal(first, steps - 1);
    assert_int_equal(last, steps - 1);
    job_destroy(setup.job);
}

static void test_over(void **state)
{
    struct setup setup;

    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 20, 4, 1, 0);
    setup.request.epochs = 2;
    assert_int_equal(create(&setup), 0);
    assert_false(job_over(setup.job, (struct place){ 1, 4 }));
    assert_true(job_over(setup.job, job_after(setup.job, (struct place){ 1, 4 })));
    job_destroy(setup.job);
    setup.request.epochs = 0;
    assert_int_equal(create(&setup), 0);
    assert_false(job_over(setup.job, (struct place){ UINT64_MAX / 2, 0 }));
    job_destroy(setup.job);
}

/* ---- texts ---------------------------------------------------------------------------------------------------------- */

static void test_local_ranks(void **state)
{
    static const struct {
        const char *text, *local; /* NULL: refused */
    } cases[] = {
        { "", "11111111" },
        { "0", "10000000" },
        { "7", "00000001" },
        { "0-7", "11111111" },
        { "0-3,6-7", "11110011" },
        { "5,1", "01000100" },
        { "2-2", "00100000" },
        { "0-4,2-6", "11111110" },
        { "03", "00010000" },
        { "8", NULL },
        { "0-8", NULL },
        { "3-2", NULL },
        { "-1", NULL },
        { "1-", NULL },
        { "1-2-3", NULL },
        { ",", NULL },
        { "1,", NULL },
        { ",1", NULL },
        { "1,,2", NULL },
        { "1, 2", NULL },
        { " 1", NULL },
        { "1 ", NULL },
        { "a", NULL },
        { "0x1", NULL },
        { "+1", NULL },
        { "4294967295", NULL },
        { "4294967296", NULL },
        { "18446744073709551616", NULL },
        { "0-4294967295", NULL },
        { "4294967297", NULL },
        { "99999999999999999999999999", NULL },
    };
    struct setup setup;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint32_t n = 0;

        setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, 8, 0);
        snprintf(setup.request.local_ranks, sizeof(setup.request.local_ranks), "%s", cases[i].text);
        if (!cases[i].local) {
            assert_int_equal(create(&setup), -EINVAL);
            assert_non_null(strstr(setup.why.text, cases[i].text));
            continue;
        }
        assert_int_equal(create(&setup), 0);
        for (uint32_t r = 0; r < 8; r++) {
            assert_int_equal(setup.job->local[r], cases[i].local[r] - '0');
            n += setup.job->local[r];
        }
        assert_int_equal(setup.job->n_local, n);
        job_destroy(setup.job);
    }
}

static void test_divisors(void **state)
{
    for (uint32_t n = 1; n <= 4096; n++)
        for (size_t size = 8; size <= 256; size *= 2) {
            char text[256 + 16], all[1024] = "", one[16];
            size_t at = 0;

            memset(text, '#', sizeof(text));
            for (uint32_t d = 1; d <= n; d++)
                if (n % d == 0) {
                    snprintf(one, sizeof(one), at ? ", %u" : "%u", d);
                    memcpy(all + at, one, strlen(one) + 1);
                    at += strlen(one);
                }
            deliver_divisors(n, text, size);
            assert_non_null(memchr(text, 0, size));
            assert_int_equal(text[size], '#'); /* nothing beyond */
            if (strlen(all) < size) {
                assert_string_equal(text, all);
            } else { /* a beginning of it, and dots */
                size_t length = strlen(text);

                assert_true(length >= 3 && strcmp(text + length - 3, "...") == 0);
                assert_memory_equal(text, all, length > 8 ? length - 8 : 0);
            }
        }
}

/* A sentence for whoever asks for what does not fit, with what would. */
static void test_refusals(void **state)
{
    struct setup setup;

    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, 3, 0);
    assert_int_equal(create(&setup), -EINVAL);
    assert_non_null(strstr(setup.why.text, "1, 2, 4, 8"));
    setup_init(&setup, &deliver_each, CONFIG_TAIL_DROP, 800, 8, 3, 5);
    assert_int_equal(create(&setup), -EINVAL);
    assert_non_null(strstr(setup.why.text, "1, 2, 4, 8"));
    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 7, 8, 1, 0);
    assert_int_equal(create(&setup), -EINVAL);
    assert_non_null(strstr(setup.why.text, "7 samples"));
    setup_init(&setup, &deliver_split, CONFIG_TAIL_PARTIAL, 800, 8, 2, 0);
    assert_int_equal(create(&setup), -EINVAL);
    assert_non_null(strstr(setup.why.text, "tail: pad"));
    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, 2, 0);
    setup.request.slow = PF_SLOW_SKIP;
    assert_int_equal(create(&setup), -EINVAL);
    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, 0, 0);
    assert_int_equal(create(&setup), -EINVAL);
    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, PF_WORLD_MAX + 1, 1);
    assert_int_equal(create(&setup), -EINVAL);
}

static void test_agrees(void **state)
{
    struct pf_ctl_attach other;
    struct setup setup;

    setup_init(&setup, &deliver_split, CONFIG_TAIL_DROP, 800, 8, 2, 0);
    assert_int_equal(create(&setup), 0);
    other = setup.request;
    assert_int_equal(agrees(&setup, &other), 0);
    other.batch = 4; /* the same as its default */
    assert_int_equal(agrees(&setup, &other), 0);
    other.batch = 2;
    assert_int_equal(agrees(&setup, &other), -EINVAL);
    assert_non_null(strstr(setup.why.text, "batch 4, this rank says 2"));
    other = setup.request;
    other.world = 4;
    assert_int_equal(agrees(&setup, &other), -EINVAL);
    assert_non_null(strstr(setup.why.text, "world 2, this rank says 4"));
    other = setup.request;
    other.flags = PF_ATTACH_SEED;
    other.seed = 9; /* the feed's */
    assert_int_equal(agrees(&setup, &other), 0);
    other.seed = 10;
    assert_int_equal(agrees(&setup, &other), -EINVAL);
    other = setup.request;
    other.epochs = 1;
    assert_int_equal(agrees(&setup, &other), -EINVAL);
    other = setup.request;
    other.slow = PF_SLOW_SKIP;
    assert_int_equal(agrees(&setup, &other), -EINVAL);
    job_destroy(setup.job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force), cmocka_unit_test(test_large),    cmocka_unit_test(test_over),
        cmocka_unit_test(test_local_ranks), cmocka_unit_test(test_divisors), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_agrees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
