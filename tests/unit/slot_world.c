/* SPDX-License-Identifier: MIT */
/* See slot_world.h. */
#include "slot_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "server.h"
#include "worker.h"

/* ---- the stubs ------------------------------------------------------------------------------------------------------ */

struct world *here;
uint64_t now;

bool workers_reading(const struct workers *workers, const struct feed *feed, uint64_t *id, int64_t *since_ns)
{
    return false;
}

void workers_post(struct workers *workers, struct feed *feed, struct slot *slot)
{
    assert_int_equal(slot->state, PF_SLOT_FILLING);
}

void server_close(struct connection *connection)
{
    fail_msg("nobody is connected");
}

void server_tell(struct connection *connection, const char *sentence)
{
    fail_msg("nobody is connected");
}

uint32_t world_below(uint32_t n)
{
    here->random = here->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((here->random >> 33) % n);
}

/* What row `row` of slot (seed, epoch, index) holds. */
static uint64_t stamp(uint64_t seed, uint64_t epoch, uint64_t index, uint32_t row)
{
    uint64_t z =
        seed * UINT64_C(0x9e3779b97f4a7c15) ^ epoch * UINT64_C(0xbf58476d1ce4e5b9) ^ index * UINT64_C(0x94d049bb133111eb) ^ row;

    return (z ^ z >> 29) * UINT64_C(0x2545f4914f6cdd1d);
}

void world_open(uint64_t seed, uint32_t n_slots, uint32_t rows, uint64_t samples, const struct deliver_ops *deliver, int tail)
{
    struct problem why;

    here = aligned_alloc(_Alignof(struct world), sizeof(*here));
    assert_non_null(here);
    memset(here, 0, sizeof(*here));
    here->random = seed;
    here->config =
        (struct config_feed){ .name = (char *)"f", .tail = tail, .max_held = 2, .slow = CONFIG_SLOW_BLOCK, .batch = rows };
    here->part = (struct sample_part){ .name = "x", .kind = PART_VALUES, .dtype = DTYPE_I64 };
    here->field = (struct field){ .name = "x", .dtype = DTYPE_I64, .row_bytes = 8 };
    here->feed.config = &here->config;
    here->feed.deliver = deliver;
    here->feed.samples = samples;
    here->feed.order_params = (struct order_params){ .n = samples, .mode = SHUFFLE_NONE, .repeat = 1 };
    here->feed.batch = rows;
    here->feed.n_fields = 1;
    here->feed.fields = &here->field;
    here->feed.parts = &here->part;
    here->feed.segment.fd = here->feed.segment.reader = -1;
    here->feed.ids_offset = here->feed.used_ids_offset = here->feed.flags_offset = (uint64_t)rows * 8;
    here->feed.slot_bytes = ((uint64_t)rows * 25 + PF_PAGE) / PF_PAGE * PF_PAGE;
    pthread_mutex_init(&here->feed.lock, NULL);
    assert_int_equal(feed_start(&here->feed, n_slots, SEGMENT_MEMFD, 0, &why), 0);
    assert_int_equal(loop_create(&here->loop), 0);
}

void world_close(void)
{
    while (here->feed.consumers)
        consumer_destroy(here->feed.consumers);
    assert_null(here->feed.jobs);
    slots_destroy(&here->feed);
    order_destroy(here->feed.order);
    segment_destroy(&here->feed.segment);
    free(here->feed.states);
    loop_destroy(here->loop);
    free(here);
    here = NULL;
}

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

struct trainer trainers[TRAINERS];

static void check_held(const struct trainer *t)
{
    for (uint32_t i = 0; i < t->n_held; i++) {
        const struct held *held = &t->held[i];
        const uint64_t *rows = (const uint64_t *)feed_slot_base(&here->feed, held->grant.slot);

        for (uint32_t row = held->grant.row; row < held->grant.row + held->grant.rows; row++)
            if (rows[row] != stamp(t->seed, held->grant.epoch, held->index, row))
                fail_msg("schedule %llu: %s rank %u: epoch %llu step %llu in slot %u, row %u is not what it was granted",
                         (unsigned long long)now, t->name, t->rank, (unsigned long long)held->grant.epoch,
                         (unsigned long long)held->grant.step, held->grant.slot, row);
    }
}

struct trainer *trainer_attach(const char *name, uint32_t rank, uint32_t world, uint32_t batch, uint64_t seed, uint32_t max_held,
                               uint32_t epochs, uint32_t slow, struct problem *why)
{
    struct pf_ctl_attach request = { .rank = rank,
                                     .world = world,
                                     .batch = batch,
                                     .seed = seed,
                                     .max_held = max_held,
                                     .epochs = epochs,
                                     .slow = slow,
                                     .flags = PF_ATTACH_SEED };
    struct pf_ctl_attached reply;
    struct consumer_peer peer = { .pid = 1 };
    int fds[PF_ATTACH_FDS];
    struct trainer *t = NULL;
    struct consumer *c;

    for (size_t i = 0; i < TRAINERS && !t; i++)
        if (!trainers[i].c)
            t = &trainers[i];
    if (!t)
        return NULL;
    snprintf(request.job, sizeof(request.job), "%s", name);
    peer.pidfd = eventfd(0, EFD_CLOEXEC);
    assert_true(peer.pidfd >= 0);
    if (consumer_attach(&c, &here->feed, here->loop, &request, &peer, &reply, fds, why) < 0) {
        close(peer.pidfd);
        return NULL;
    }
    *t = (struct trainer){ .c = c,
                           .job = c->job,
                           .rank = rank,
                           .world = world,
                           .max_held = c->max_held,
                           .seed = seed,
                           .epochs = epochs,
                           .skips = slow == PF_SLOW_SKIP,
                           .process = peer.pidfd,
                           .grants = c->grants,
                           .returns = c->returns };
    t->hoards = world_below(2);
    snprintf(t->name, sizeof(t->name), "%s", name);
    return t;
}

void world_turns(void)
{
    uint64_t turns = 0;
    bool again = true;

    while (again && turns++ < 400) {
        assert_int_equal(loop_turn(here->loop, 0), 0);
        if (here->asleep && !here->feed.dirty)
            return;
        if (here->feed.dirty)
            feed_turn(&here->feed);
        again = feed_arm(&here->feed) || here->feed.dirty;
    }
    here->asleep = true;
    if (turns > here->spins)
        here->spins = turns;
    if (again) /* it would go on: let it rest here, so that everything else can be looked at as well */
        here->spins = UINT64_MAX;
}

/* Its eventfd. */
static void ring(struct trainer *t)
{
    t->told_returned = t->returned;
    t->told_next = t->next;
    here->feed.dirty = true;
}

int trainer_take(struct trainer *t)
{
    struct held *held = &t->held[t->n_held];
    struct place place;
    struct range range;

    assert_true(t->n_held < t->max_held && t->n_held < HELD_MAX);
    if (!pf_grants_take(t->grants, t->returns, &t->next, &held->grant)) {
        /* As wait_take: before it waits it tells of returns and takes that were not asked for. */
        if ((t->returned != t->told_returned || t->next != t->told_next) && t->grants->wake_at != UINT64_MAX)
            ring(t);
        return 0;
    }
    place = (struct place){ held->grant.epoch, held->grant.step };
    if (t->skips ? place.epoch < t->expected.epoch || (place.epoch == t->expected.epoch && place.step < t->expected.step)
                 : place.epoch != t->expected.epoch || place.step != t->expected.step)
        fail_msg("%s rank %u: epoch %llu step %llu was granted, and %llu %llu is next", t->name, t->rank,
                 (unsigned long long)place.epoch, (unsigned long long)place.step, (unsigned long long)t->expected.epoch,
                 (unsigned long long)t->expected.step);
    assert_false(t->saw_last);
    range = job_range(t->job, t->rank, place);
    held->index = range.index;
    assert_int_equal(held->grant.row, range.row);
    assert_int_equal(held->grant.rows, range.rows);
    t->saw_last = held->grant.flags & PF_GRANT_LAST;
    t->expected = job_after(t->job, place);
    t->n_held++;
    t->took++;
    check_held(t);
    return 1;
}

void trainer_give_back(struct trainer *t, uint32_t which)
{
    uint64_t number = t->held[which].grant.number;

    check_held(t);
    memmove(&t->held[which], &t->held[which + 1], (t->n_held - which - 1) * sizeof(t->held[0]));
    t->n_held--;
    if (pf_returns_push(t->returns, t->grants, &t->returned, number, &t->rung))
        ring(t);
}

void trainer_leave(struct trainer *t)
{
    while (t->n_held > 0)
        trainer_give_back(t, 0);
    consumer_detach(t->c);
    t->c = NULL;
}

static bool is_there(const struct consumer *wanted)
{
    const struct consumer *c = here->feed.consumers;

    while (c && c != wanted)
        c = c->next;
    return c;
}

void trainer_hang_up(struct trainer *t)
{
    uint32_t n_held = t->n_held;

    consumer_hangup(t->c);
    t->hung_up = true;
    t->job = NULL;
    assert_int_equal(is_there(t->c), n_held > 0);
    if (n_held == 0)
        t->c = NULL;
}

void trainer_die(struct trainer *t)
{
    uint64_t one = 1;

    assert_int_equal(write(t->process, &one, sizeof(one)), sizeof(one));
    t->n_held = 0;
    t->c = NULL;
    assert_int_equal(loop_turn(here->loop, 0), 0);
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

static void finish(struct work *work)
{
    struct slot *slot = work->slot;
    uint64_t *rows = (uint64_t *)slot->base;

    assert_int_equal(slot->state, PF_SLOT_FILLING);
    assert_int_equal(slot->grants, 0);
    for (uint32_t i = 0; i < work->count; i++) {
        uint32_t row = slot->rows[work->first + i];

        rows[row] = stamp(slot->seed, slot->epoch, slot->index, row);
    }
    if (slot_rows_done(slot, work->count, 0))
        here->feed.dirty = true; /* the workers' eventfd */
    work->slot = NULL;
}

bool world_work_once(uint32_t worker)
{
    struct work *work = &here->works[worker];
    uint32_t start = world_below(here->feed.n_slots);

    if (work->slot) {
        finish(work);
        return true;
    }
    for (uint32_t i = 0; i < here->feed.n_slots; i++) {
        struct slot *slot = &here->feed.slots[(start + i) % here->feed.n_slots];

        if (slot->state == PF_SLOT_FILLING &&
            slot_claim(slot, slot_generation(slot), 1 + world_below(here->feed.batch), &work->first, &work->count)) {
            work->slot = slot;
            for (uint32_t k = 0; k < work->count; k++) /* from now on the row is whatever */
                ((uint64_t *)slot->base)[slot->rows[work->first + k]] = UINT64_MAX;
            return true;
        }
    }
    return false;
}

void world_work(void)
{
    uint64_t begin = here->feed.counters.slots_filled;

    for (bool any = true; any;) {
        any = false;
        if (here->feed.counters.slots_filled - begin > 100 * here->feed.n_slots)
            fail_msg("schedule %llu: the workers fill for ever, and nobody takes", (unsigned long long)now);
        for (uint32_t w = 0; w < WORKS; w++)
            any |= world_work_once(w);
        world_turns();
    }
}

/* ---- what must hold ------------------------------------------------------------------------------------------------- */

void world_check(void)
{
    uint32_t out[PF_SLOTS_MAX] = { 0 };

    for (const struct consumer *c = here->feed.consumers; c; c = c->next)
        for (uint32_t i = 0; i < c->n_out; i++)
            out[c->out[i].slot]++;
    for (uint32_t s = 0; s < here->feed.n_slots; s++) {
        const struct slot *slot = &here->feed.slots[s];

        assert_int_equal(slot->grants, out[s]);
        if (slot->state != PF_SLOT_READY)
            assert_int_equal(slot->grants, 0);
        assert_int_equal(here->feed.table[s].state, slot->state);
        assert_int_equal(here->feed.table[s].sequence & 1, slot->state == PF_SLOT_READY ? 0 : slot->sequence & 1);
    }
    for (size_t i = 0; i < TRAINERS; i++)
        if (trainers[i].c)
            check_held(&trainers[i]);
}

/* Whether it may take its next step now: ranks of a job that stall or are missing hold the others up (all-reduce). */
static bool may_step(const struct trainer *t)
{
    uint32_t there = 0;
    bool each = here->feed.deliver == &deliver_each;

    for (size_t i = 0; i < TRAINERS; i++) {
        const struct trainer *o = &trainers[i];

        if (o->c && !o->hung_up && strcmp(o->name, t->name) == 0) {
            there++;
            if (!each && o->took < t->took)
                return false;
        }
    }
    return there == t->world || each;
}

static void print_world(void)
{
    for (size_t i = 0; i < TRAINERS; i++)
        if (trainers[i].c)
            fprintf(
                stderr, "    %s rank %u of %u, seed %llu, max_held %u: held %u, took %llu, next %llu/%llu (of %llu steps)%s%s\n",
                trainers[i].name, trainers[i].rank, trainers[i].world, (unsigned long long)trainers[i].seed, trainers[i].max_held,
                trainers[i].n_held, (unsigned long long)trainers[i].took, (unsigned long long)trainers[i].expected.epoch,
                (unsigned long long)trainers[i].expected.step, (unsigned long long)(trainers[i].job ? trainers[i].job->steps : 0),
                trainers[i].stalled ? " stalled" : "", trainers[i].hung_up ? " hung up" : "");
    for (uint32_t s = 0; s < here->feed.n_slots; s++)
        fprintf(stderr, "    slot %u: state %d, seed %llu, epoch %llu, index %llu, grants %u, pins %u\n", s,
                here->feed.slots[s].state, (unsigned long long)here->feed.slots[s].seed,
                (unsigned long long)here->feed.slots[s].epoch, (unsigned long long)here->feed.slots[s].index,
                here->feed.slots[s].grants, slot_pins(&here->feed, &here->feed.slots[s]));
}

void world_must_go_on(uint64_t more, const char *what)
{
    uint64_t goal[TRAINERS];
    unsigned idle = 0;

    for (size_t i = 0; i < TRAINERS; i++)
        goal[i] = trainers[i].took + more;
    for (uint64_t round = 0; round < 1000 + 100 * more; round++) {
        bool all = true, moved = false;

        world_work();
        for (size_t i = 0; i < TRAINERS; i++) {
            struct trainer *t = &trainers[i];

            if (!t->c || t->hung_up || t->stalled)
                continue;
            if (t->n_held == t->max_held || t->saw_last || (t->n_held > 0 && !t->hoards && world_below(3) == 0)) {
                if (t->n_held > 0) {
                    trainer_give_back(t, world_below(t->n_held));
                    moved = true;
                }
            } else if (may_step(t)) {
                moved |= trainer_take(t) == 1;
            }
            all &= t->saw_last ? t->n_held == 0 : t->took >= goal[i];
            if (world_below(2))
                world_turns();
        }
        world_check();
        if (all)
            return;
        world_turns();
        idle = moved ? 0 : idle + 1;
        if (idle > 20)
            break;
    }
    print_world();
    fail_msg("%s (schedule %llu): nobody moves any more", what, (unsigned long long)now);
}

void world_must_rest(void)
{
    if (here->spins == UINT64_MAX)
        fail_msg("the daemon's loop does not come to rest where nobody does anything");
}

void world_all_leave(void)
{
    for (size_t i = 0; i < TRAINERS; i++)
        if (trainers[i].c && trainers[i].hung_up)
            trainer_die(&trainers[i]);
        else if (trainers[i].c)
            trainer_leave(&trainers[i]);
    world_work();
    world_turns();
    for (uint32_t s = 0; s < here->feed.n_slots; s++) { /* nothing is lost */
        assert_int_equal(here->feed.slots[s].state, PF_SLOT_FREE);
        assert_int_equal(here->feed.slots[s].grants, 0);
    }
    assert_null(here->feed.consumers);
    assert_null(here->feed.jobs);
}

struct trainer *trainer_must_attach(const char *name, uint32_t rank, uint32_t world, uint64_t seed, uint32_t max_held,
                                    uint32_t epochs, uint32_t slow)
{
    struct problem why = { "" };
    struct trainer *t = trainer_attach(name, rank, world, 0, seed, max_held, epochs, slow, &why);

    if (!t)
        fail_msg("attach: %s", why.text);
    return t;
}

void trainer_hold_all(struct trainer *t)
{
    for (unsigned tries = 0; t->n_held < t->max_held; tries++) {
        if (tries == 100) {
            print_world();
            fail_msg("%s cannot take as many as it may hold", t->name);
        }
        world_turns();
        world_work();
        if (trainer_take(t))
            tries = 0;
    }
    t->stalled = true;
}

int world_setup(void **state)
{
    memset(trainers, 0, sizeof(trainers));
    return 0;
}
