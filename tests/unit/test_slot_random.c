/* SPDX-License-Identifier: MIT */
/* The rules of daemon/slot_obtain.c (slot_world.h) under random schedules of attach, leave, hang up, die, take, return and work.
 * PFEED_TEST_SEED, PFEED_TEST_ROUNDS: of the schedules. PFEED_TEST_ONLY: a test's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "slot_world.h"

struct variety {
    uint32_t max_held, rows, batch, world, epochs, slow;
    bool each;
};

static void act(const struct variety *v)
{
    struct trainer *t = &trainers[world_below(TRAINERS)];
    static const char *const names[] = { "a", "b", "c", "d" };
    struct problem why;

    switch (world_below(24)) {
    case 0: {
        uint32_t name = world_below(4), rank = world_below(v->world);

        trainer_attach(names[name], rank, v->world, v->batch, name % 3, 1 + world_below(v->max_held), v->epochs,
                       name & 1 ? v->slow : PF_SLOW_BLOCK, &why);
        return;
    }
    case 1:
        if (t->c && !t->hung_up && world_below(4) == 0)
            trainer_leave(t);
        return;
    case 2:
        if (t->c && world_below(4) == 0)
            trainer_die(t);
        return;
    case 3:
        if (t->c && !t->hung_up && world_below(4) == 0)
            trainer_hang_up(t);
        return;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        world_work_once(world_below(WORKS));
        return;
    case 9:
    case 10:
    case 11:
    case 12:
        world_turns();
        return;
    default:
        if (!t->c || t->hung_up)
            return;
        if (t->n_held > 0 && world_below(2))
            trainer_give_back(t, world_below(t->n_held));
        else if (t->n_held < t->max_held && !t->saw_last)
            trainer_take(t);
    }
}

/* Jobs that are not whole cannot go on by themselves: their ranks leave, one way or the other. */
static void make_whole(void)
{
    for (size_t i = 0; i < TRAINERS; i++) {
        struct trainer *t = &trainers[i];
        uint32_t there = 0;

        if (!t->c || t->hung_up)
            continue;
        for (size_t k = 0; k < TRAINERS; k++)
            there += trainers[k].c && !trainers[k].hung_up && strcmp(trainers[k].name, t->name) == 0;
        if (there < t->world)
            trainer_leave(t);
    }
}

static uint64_t random_round(uint64_t seed)
{
    static const uint32_t batches[] = { 0, 1, 2 };
    struct variety v;
    uint64_t took = 0;
    uint32_t slots;

    memset(trainers, 0, sizeof(trainers));
    world_open(seed, 1, 4, 1, &deliver_split, CONFIG_TAIL_PAD); /* for world_below() */
    v.max_held = 1 + world_below(3);
    v.rows = (uint32_t[]){ 2, 4, 6, 12 }[world_below(4)];
    v.world = 1 + world_below(3);
    v.batch = v.rows % v.world == 0 ? batches[world_below(3)] : 1 + world_below(2);
    v.epochs = world_below(2) ? 0 : 1 + world_below(3);
    v.each = world_below(3) == 0;
    v.slow = v.world == 1 || v.each ? world_below(3) : 0; /* of every other job */
    slots = (v.max_held + 2) * (1 + world_below(4)) + world_below(3);
    world_close();
    world_open(seed * 31 + 7, slots, v.rows, v.rows * (4 + seed % 30) + seed % 7, v.each ? &deliver_each : &deliver_split,
               seed & 1 ? CONFIG_TAIL_PAD : CONFIG_TAIL_DROP);
    here->config.max_held = v.max_held;
    for (unsigned i = 0; i < 1500; i++) {
        act(&v);
        world_check();
    }
    for (size_t i = 0; i < TRAINERS; i++) /* the quarantined ones end: nobody promised a share to them */
        if (trainers[i].c && trainers[i].hung_up)
            trainer_die(&trainers[i]);
    make_whole();
    world_must_go_on(60, "after a random schedule");
    for (size_t i = 0; i < TRAINERS; i++)
        took += trainers[i].took;
    world_all_leave();
    world_close();
    return took;
}

static void test_random(void **state)
{
    const char *seed = getenv("PFEED_TEST_SEED"), *rounds = getenv("PFEED_TEST_ROUNDS");
    uint64_t first = seed ? strtoull(seed, NULL, 0) : 1, n = rounds ? strtoull(rounds, NULL, 0) : 400, took = 0;

    for (uint64_t round = first; round < first + n; round++) {
        now = round;
        took += random_round(round);
    }
    printf("    %llu schedules, %llu batches in the trainers that were left\n", (unsigned long long)n, (unsigned long long)took);
}

/* Schedules that once ended with nobody moving: ranks of one job waited for each other, the one behind in its all-reduce for the
 * one that asks, that one (rule 3) for the slots of the one behind. */
static void test_once_stuck(void **state)
{
    static const uint64_t seeds[] = { 118, 128, 235, 4201, 5347, 5476, 9021, 10943 };

    for (size_t i = 0; i < sizeof(seeds) / sizeof(*seeds); i++) {
        now = seeds[i];
        random_round(now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_once_stuck, world_setup),
        cmocka_unit_test_setup(test_random, world_setup),
    };

    log_init(LOG_ERROR);
    cmocka_set_test_filter(getenv("PFEED_TEST_ONLY"));
    alarm(600);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
