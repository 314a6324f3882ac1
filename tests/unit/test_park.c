/* SPDX-License-Identifier: MIT */
/*
 * When a parked job goes on (daemon/park.c), for ranks that were put into a state by hand: the rank that held the others up has a
 * step and sleeps; a mate waits in pfeed_next for that step, for one before it, or for a later one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "consumer.h"
#include "feed.h"
#include "park.h"

#define MS INT64_C(1000000)

static struct config_feed config;
static struct feed feed;
static struct job job, other;
static struct consumer staller, mate, starved;
static struct pf_return_page pages[3];

static void attach(struct consumer *c, struct job *of, struct pf_return_page *page)
{
    *c = (struct consumer){ .next = feed.consumers, .feed = &feed, .job = of, .state = CONSUMER_ATTACHED, .returns = page };
    memset(page, 0, sizeof(*page));
    feed.consumers = c;
}

/* One rank of `job` has step 5 and is what others were held up by, its mate is at step `at`; the other job has what it wants. */
static void set_up(uint64_t at)
{
    config = (struct config_feed){ .name = (char *)"f", .park_after_ms = 60000 };
    memset(&feed, 0, sizeof(feed));
    feed.config = &config;
    job = (struct job){ .feed = &feed, .next = &other, .started = true, .parked = true, .parked_ns = feed_now_ns() };
    other = (struct job){ .feed = &feed, .started = true };
    job.slow = other.slow = CONFIG_SLOW_PARK;
    feed.jobs = &job;
    attach(&staller, &job, &pages[0]);
    attach(&mate, &job, &pages[1]);
    attach(&starved, &other, &pages[2]);
    staller.stalls = staller.asleep = true;
    staller.at = (struct place){ .epoch = 0, .step = 6 };
    staller.n_out = 1;
    staller.out[0].place = (struct place){ .epoch = 0, .step = 5 };
    mate.at = (struct place){ .epoch = 0, .step = at };
    mate.asleep = true;
}

static void starve(void)
{
    feed.starving = true;
    starved.starved_ns = feed_now_ns();
}

static bool goes_on(void)
{
    feed.due_ns = 0;
    park_turn(&feed);
    return !job.parked;
}

static void an_all_reduce(void **state)
{
    (void)state;
    set_up(5);
    assert_false(goes_on()); /* nobody asks */
    __atomic_store_n(&pages[1].waiting, 1, __ATOMIC_SEQ_CST);
    assert_true(goes_on());
    set_up(4);
    mate.rang = true;
    assert_true(goes_on());
}

static void a_mate_that_is_ahead(void **state)
{
    (void)state;
    set_up(6);
    mate.rang = true;
    __atomic_store_n(&pages[1].waiting, 1, __ATOMIC_SEQ_CST);
    assert_false(goes_on());
    staller.rang = true;
    assert_true(goes_on());
}

/* While others starve: not at once, but in the end. */
static void after_the_others(void **state)
{
    (void)state;
    set_up(5);
    starve();
    mate.rang = true;
    assert_false(goes_on());
    assert_true(feed.due_ns == job.parked_ns + 60000 * MS);
    job.parked_ns -= 60001 * MS;
    assert_true(goes_on());
    set_up(5);
    starve();
    config.park_after_ms = 0;
    job.parked_ns = feed_now_ns() + 1000 * MS;
    mate.rang = true;
    assert_false(goes_on());
    assert_true(feed.due_ns > job.parked_ns);
    feed.starving = false;
    starved.starved_ns = 0;
    assert_true(goes_on());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_all_reduce),
        cmocka_unit_test(a_mate_that_is_ahead),
        cmocka_unit_test(after_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
