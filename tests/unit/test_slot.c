/* SPDX-License-Identifier: MIT */
/* The rules of daemon/slot_obtain.c (slot_world.h), scenario by scenario. PFEED_TEST_ONLY: a test's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "slot_world.h"

/* One trainer, the fewest slots that it is let in with. */
static void test_least(void **state)
{
    for (uint32_t max_held = 1; max_held <= 4; max_held++) {
        struct problem why;

        world_open(1, max_held + 2, 4, 50, &deliver_split, CONFIG_TAIL_PAD);
        assert_null(trainer_attach("a", 0, 1, 0, 5, max_held + 1, 0, 0, &why)); /* one too few, and told with the numbers */
        assert_non_null(strstr(why.text, "slots"));
        trainer_must_attach("a", 0, 1, 5, max_held, 0, 0);
        world_must_go_on(200, "alone");
        world_must_rest();
        world_all_leave();
        world_close();
    }
}

/* block: within a group the one ahead waits for the one behind, and goes on with it. */
static void test_block(void **state)
{
    struct trainer *behind, *ahead;
    uint64_t took;

    world_open(2, 8, 4, 400, &deliver_split, CONFIG_TAIL_DROP);
    here->config.gang = 2;
    behind = trainer_must_attach("behind", 0, 1, 5, 2, 0, PF_SLOW_BLOCK);
    ahead = trainer_must_attach("ahead", 0, 1, 5, 2, 0, PF_SLOW_BLOCK);
    trainer_hold_all(behind);
    for (unsigned i = 0; i < 200; i++) { /* as far as it comes */
        world_work();
        while (ahead->n_held < 2 && trainer_take(ahead))
            ;
        while (ahead->n_held > 0)
            trainer_give_back(ahead, 0);
        world_turns();
    }
    took = ahead->took;
    assert_in_range(took, 6, 8); /* all slots are behind's: what it holds and what it takes next */
    for (uint32_t s = 0; s < here->feed.n_slots; s++)
        assert_int_equal(here->feed.slots[s].state, PF_SLOT_READY);
    assert_int_equal(here->feed.counters.slots_evicted, 0);
    behind->stalled = false;
    world_must_go_on(100, "after waiting");
    assert_int_equal(here->feed.counters.slots_evicted, 0); /* together: nothing is filled twice */
    world_all_leave();
    world_close();
}

/* The loop rests also while one waits for another. */
static void test_rest_blocked(void **state)
{
    struct trainer *behind, *ahead;

    world_open(2, 8, 4, 400, &deliver_split, CONFIG_TAIL_DROP);
    here->config.gang = 2;
    behind = trainer_must_attach("behind", 0, 1, 5, 2, 0, PF_SLOW_BLOCK);
    ahead = trainer_must_attach("ahead", 0, 1, 5, 2, 0, PF_SLOW_BLOCK);
    trainer_hold_all(behind);
    for (unsigned i = 0; i < 50; i++) {
        world_work();
        while (ahead->n_held < 2 && trainer_take(ahead))
            ;
        while (ahead->n_held > 0)
            trainer_give_back(ahead, 0);
        world_turns();
    }
    world_must_rest();
    world_all_leave();
    world_close();
}

/* Groups apart: whoever holds all that it may and does nothing holds up nobody of another group. */
static void test_groups(void **state)
{
    for (uint32_t max_held = 1; max_held <= 3; max_held++)
        for (uint32_t groups = 2; groups <= 4; groups++) {
            struct trainer *t[4];
            struct problem why;

            world_open(max_held * 10 + groups, groups * (max_held + 2), 4, 200, &deliver_split, CONFIG_TAIL_PAD);
            for (uint32_t g = 0; g < groups; g++) {
                char name[8];

                snprintf(name, sizeof(name), "g%u", g);
                t[g] = trainer_must_attach(name, 0, 1, g, max_held, 0, 0);
            }
            assert_null(trainer_attach("more", 0, 1, 0, 99, max_held, 0, 0, &why)); /* there is no share for it */
            world_must_go_on(30, "groups");
            for (uint32_t g = 1; g < groups; g++) {
                trainer_hold_all(t[g]);
                world_must_go_on(30, "groups, some of them stalled");
            }
            for (uint32_t g = 1; g < groups; g++)
                t[g]->stalled = false;
            world_must_go_on(30, "groups again");
            world_all_leave();
            world_close();
        }
}

/* Two at one place, who are refused together while the slots of another group are filled, are given some when these are ready. */
static void test_refused(void **state)
{
    world_open(17, 8, 4, 200, &deliver_split, CONFIG_TAIL_PAD);
    trainer_must_attach("first", 0, 1, 1, 2, 0, PF_SLOW_BLOCK)->stalled = true;
    world_turns();
    trainer_must_attach("one", 0, 1, 2, 2, 0, PF_SLOW_BLOCK);
    trainer_must_attach("other", 0, 1, 2, 2, 0, PF_SLOW_BLOCK);
    world_turns();
    for (uint32_t s = 0; s < here->feed.n_slots; s++) {
        assert_int_equal(here->feed.slots[s].state, PF_SLOT_FILLING);
        assert_int_equal(here->feed.slots[s].seed, 1);
    }
    assert_true(here->feed.in_vain.any);
    world_must_go_on(100, "refused once");
    world_all_leave();
    world_close();
}

/* Who is refused because he waits for another of his group does not keep another group from having what he may not. */
static void test_refused_elsewhere(void **state)
{
    struct trainer *apart, *behind, *ahead;

    world_open(18, 8, 4, 400, &deliver_split, CONFIG_TAIL_DROP);
    apart = trainer_must_attach("apart", 0, 1, 6, 2, 0, PF_SLOW_BLOCK);
    trainer_hold_all(apart);
    here->config.gang = 3;
    behind = trainer_must_attach("behind", 0, 1, 5, 2, 0, PF_SLOW_BLOCK);
    ahead = trainer_must_attach("ahead", 0, 1, 5, 2, 0, PF_SLOW_BLOCK); /* the newest asks first */
    trainer_hold_all(behind);
    while (apart->n_held > 0)
        trainer_give_back(apart, 0);
    for (unsigned i = 0; i < 200; i++) { /* as far as it comes */
        world_work();
        while (ahead->n_held < 2 && trainer_take(ahead))
            ;
        while (ahead->n_held > 0)
            trainer_give_back(ahead, 0);
        world_turns();
    }
    ahead->stalled = true;
    apart->stalled = false;
    world_must_go_on(50, "beside one that waits");
    world_all_leave();
    world_close();
}

/* What a stopped trainer did not take is not its own: only what it holds stays. */
static void test_untaken(void **state)
{
    struct trainer *stopped;
    uint32_t held = 0;

    world_open(4, 8, 4, 200, &deliver_split, CONFIG_TAIL_PAD);
    stopped = trainer_must_attach("stopped", 0, 1, 1, 2, 0, 0);
    world_turns();
    world_work();
    assert_true(stopped->c->n_out > 2); /* it was granted all slots */
    assert_int_equal(trainer_take(stopped), 1);
    stopped->stalled = true;
    trainer_must_attach("goes", 0, 1, 2, 2, 0, 0);
    world_must_go_on(100, "beside a stopped one");
    for (uint32_t s = 0; s < here->feed.n_slots; s++)
        held += here->feed.slots[s].grants > 0 && here->feed.slots[s].seed == 1 && here->feed.slots[s].epoch == 0 &&
                here->feed.slots[s].index == 0;
    assert_int_equal(held, 1);
    stopped->stalled = false;
    world_must_go_on(100, "both");
    world_all_leave();
    world_close();
}

/* A dropped process that lives keeps what it took, and nothing else, until it is dead. */
static void test_quarantine(void **state)
{
    struct trainer *gone;
    uint32_t held = 0;

    world_open(5, 8, 4, 200, &deliver_split, CONFIG_TAIL_PAD);
    gone = trainer_must_attach("gone", 0, 1, 1, 2, 0, 0);
    world_turns();
    world_work();
    assert_int_equal(trainer_take(gone), 1);
    assert_int_equal(trainer_take(gone), 1);
    trainer_hang_up(gone);
    world_turns();
    for (uint32_t s = 0; s < here->feed.n_slots; s++)
        held += here->feed.slots[s].grants;
    assert_int_equal(held, 2);
    trainer_must_attach("goes", 0, 1, 1, 2, 0, 0);
    world_must_go_on(300, "beside a quarantined one"); /* check_held looks at what the quarantined one reads */
    assert_int_equal(gone->c->n_out, 2);
    trainer_die(gone);
    world_turns();
    world_must_go_on(100, "after its death");
    world_all_leave();
    world_close();
}

/* skip: a slow job is passed over, the others never wait for it; and it still gets its last step. */
static void test_skip(void **state)
{
    struct trainer *slow;
    uint64_t took;

    world_open(6, 8, 4, 200, &deliver_split, CONFIG_TAIL_DROP);
    here->config.gang = 2;
    slow = trainer_must_attach("slow", 0, 1, 1, 2, 4, PF_SLOW_SKIP);
    trainer_must_attach("fast", 0, 1, 1, 2, 0, 0);
    trainer_hold_all(slow);
    world_must_go_on(120, "beside one that is skipped");
    took = slow->took;
    assert_int_equal(took, 2);
    slow->stalled = false;
    while (slow->n_held > 0)
        trainer_give_back(slow, 0);
    world_must_go_on(300, "the skipped one, to its end"); /* until it saw PF_GRANT_LAST */
    assert_true(slow->saw_last);
    assert_true(slow->took < 200);
    world_all_leave();
    world_close();
}

/* Rule 2 must not pass a skipper over its job's last step, also where its slots become ready out of order. */
static void test_skip_last(void **state)
{
    for (unsigned seed = 0; seed < 300; seed++) {
        struct trainer *slow;

        memset(trainers, 0, sizeof(trainers));
        world_open(seed, 6, 2, 40, &deliver_split, CONFIG_TAIL_DROP);
        here->config.gang = 2;
        slow = trainer_must_attach("slow", 0, 1, 1, 1, 1 + seed % 2, PF_SLOW_SKIP);
        trainer_must_attach("fast", 0, 1, 1, 1, 0, 0);
        for (unsigned i = 0; i < 400 && !slow->saw_last; i++) {
            struct trainer *t = &trainers[world_below(8) != 0];

            if (world_below(4) != 0)
                world_work_once(world_below(WORKS));
            if (t->n_held > 0)
                trainer_give_back(t, 0);
            else if (!t->saw_last)
                trainer_take(t);
            world_turns();
            world_check();
        }
        world_must_go_on(100, "to the end");
        assert_true(slow->saw_last);
        world_all_leave();
        world_close();
    }
}

/* Several that are passed over, each up to the end of its own job, in as few slots as there may be. */
static void test_skip_ends(void **state)
{
    struct trainer *slow[4];

    world_open(9, 3, 2, 40, &deliver_split, CONFIG_TAIL_DROP);
    here->config.gang = 5;
    for (uint32_t i = 0; i < 4; i++) {
        char name[8];

        snprintf(name, sizeof(name), "slow%u", i);
        slow[i] = trainer_must_attach(name, 0, 1, 1, 1, i + 1, PF_SLOW_SKIP);
        slow[i]->stalled = true;
    }
    trainer_must_attach("fast", 0, 1, 1, 1, 0, 0);
    for (unsigned i = 0; i < 600; i++) { /* until it stands before slots that are others' last ones */
        world_work();
        while (trainers[4].n_held > 0)
            trainer_give_back(&trainers[4], 0);
        trainer_take(&trainers[4]);
        world_turns();
    }
    assert_true(trainers[4].took > 20);
    for (uint32_t i = 0; i < 4; i++)
        slow[i]->stalled = false;
    world_must_go_on(100, "all skippers to their ends");
    for (uint32_t i = 0; i < 4; i++)
        assert_true(slow[i]->saw_last);
    world_all_leave();
    world_close();
}

/* What is taken away from another group is what it wants last. */
static void test_farthest(void **state)
{
    struct trainer *stopped;
    uint64_t n = 0, sum = 0;

    world_open(10, 12, 4, 200, &deliver_split, CONFIG_TAIL_PAD);
    stopped = trainer_must_attach("stopped", 0, 1, 1, 2, 0, 0);
    world_turns();
    world_work();
    assert_int_equal(stopped->c->n_out, 12);
    stopped->stalled = true;
    trainer_must_attach("goes", 0, 1, 2, 2, 0, 0);
    world_must_go_on(20, "beside a stopped one");
    for (uint32_t s = 0; s < here->feed.n_slots; s++)
        if (here->feed.slots[s].state == PF_SLOT_READY && here->feed.slots[s].seed == 1) {
            n++;
            sum += here->feed.slots[s].index;
        }
    assert_in_range(n, 1, 11);
    assert_int_equal(sum, n * (n - 1) / 2); /* 0 .. n - 1 */
    assert_int_equal(stopped->c->n_out, n);
    world_all_leave();
    world_close();
}

/* A rank whose max_held is larger than the slots allow is refused like a first one. */
static void test_join_checked(void **state)
{
    struct problem why = { "" };
    struct trainer *t;

    world_open(7, 4, 4, 200, &deliver_split, CONFIG_TAIL_DROP);
    trainer_must_attach("pair", 0, 2, 1, 2, 0, 0);
    t = trainer_attach("pair", 1, 2, 0, 1, HELD_MAX, 0, 0, &why);
    if (t) {
        t->hoards = true;
        world_must_go_on(100, "a rank that joined with max_held 8 where there are 4 slots");
        fail_msg("max_held 8 was accepted with 4 slots");
    }
    assert_non_null(strstr(why.text, "slots"));
    world_all_leave();
    world_close();
}

/* Groups with different max_held: each needs its own share. */
static void test_unequal_groups(void **state)
{
    struct problem why = { "" };
    struct trainer *large;

    world_open(8, 8, 4, 200, &deliver_split, CONFIG_TAIL_DROP);
    large = trainer_must_attach("large", 0, 1, 1, 6, 0, 0); /* 8 slots: all of them are its share */
    if (trainer_attach("small", 0, 1, 0, 2, 1, 0, 0, &why)) {
        trainer_hold_all(large);
        world_must_go_on(100, "a second group beside one with max_held 6, with 8 slots");
    }
    world_all_leave();
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_least, world_setup),        cmocka_unit_test_setup(test_block, world_setup),
        cmocka_unit_test_setup(test_rest_blocked, world_setup), cmocka_unit_test_setup(test_groups, world_setup),
        cmocka_unit_test_setup(test_refused, world_setup),      cmocka_unit_test_setup(test_refused_elsewhere, world_setup),
        cmocka_unit_test_setup(test_untaken, world_setup),      cmocka_unit_test_setup(test_quarantine, world_setup),
        cmocka_unit_test_setup(test_skip, world_setup),         cmocka_unit_test_setup(test_skip_last, world_setup),
        cmocka_unit_test_setup(test_skip_ends, world_setup),    cmocka_unit_test_setup(test_farthest, world_setup),
        cmocka_unit_test_setup(test_join_checked, world_setup), cmocka_unit_test_setup(test_unequal_groups, world_setup),
    };

    log_init(LOG_ERROR);
    cmocka_set_test_filter(getenv("PFEED_TEST_ONLY"));
    alarm(600);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
