/* SPDX-License-Identifier: MIT */
/*
 * In which order a worker makes rows: daemon/worker.c claims them from the oldest filling that has any left, whatever the slot's
 * number, and whatever has become of fillings that were begun and given up meanwhile. One worker; its first row waits at a gate
 * until all fillings are posted.
 */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "decode/decode.h"
#include "feed.h"
#include "source/source.h"
#include "worker.h"

#define SLOTS 8u
#define BATCH 4u
#define ROWS  (SLOTS * BATCH)

static struct {
    struct config_feed config;
    struct feed feed;
    struct field field;
    struct sample_part part;
    struct workers *workers;
    sem_t gate, made;
    uint32_t n_made, slots_made[ROWS]; /* the slot of each row, as they were made; of the worker, until `made` was waited for */
} here;

/* ---- the feed ------------------------------------------------------------------------------------------------------- */

static int read_sample(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                       struct sample_value *out, struct problem *why)
{
    memcpy(buffer, &id, sizeof(id));
    *out = (struct sample_value){ .data = buffer, .size = sizeof(id), .part = &here.part };
    return 0;
}

static int make_row(void *state, void *codec, const struct field *field, const struct sample_value *value,
                    const struct row_key *key, void *row, struct problem *why)
{
    size_t at = (size_t)((uint8_t *)row - feed_slot_base(&here.feed, 0));

    while (sem_wait(&here.gate) != 0)
        ;
    memcpy(row, value->data, value->size);
    here.slots_made[here.n_made++] = (uint32_t)(at / here.feed.slot_bytes);
    sem_post(&here.made);
    return 0;
}

static const struct source_ops source = { .name = "test", .read = read_sample };
static const struct decode_ops decode = { .name = "test", .row = make_row };

static int open_world(void **state)
{
    struct problem why;

    memset(&here, 0, sizeof(here));
    here.config = (struct config_feed){ .name = (char *)"f", .max_held = 2, .weight = 1, .batch = BATCH, .source = &source };
    here.part = (struct sample_part){ .name = "x", .kind = PART_VALUES, .dtype = DTYPE_I64 };
    here.field = (struct field){ .name = "x", .dtype = DTYPE_I64, .row_bytes = 8, .decode = &decode };
    here.feed.config = &here.config;
    here.feed.samples = ROWS;
    here.feed.order_params = (struct order_params){ .n = ROWS, .mode = SHUFFLE_NONE, .repeat = 1 };
    here.feed.batch = BATCH;
    here.feed.n_fields = 1;
    here.feed.fields = &here.field;
    here.feed.parts = &here.part;
    here.feed.max_bytes = 8;
    here.feed.segment.fd = here.feed.segment.reader = -1;
    here.feed.ids_offset = here.feed.used_ids_offset = here.feed.flags_offset = BATCH * 8;
    here.feed.slot_bytes = PF_PAGE;
    sem_init(&here.gate, 0, 0);
    sem_init(&here.made, 0, 0);
    pthread_mutex_init(&here.feed.lock, NULL);
    assert_int_equal(feed_start(&here.feed, SLOTS, SEGMENT_MEMFD, 2, &why), 0);
    assert_int_equal(workers_create(&here.workers, 1, &why), 0);
    workers_choose(here.workers, 1);
    assert_int_equal(workers_make_room(here.workers, 8, 0, &why), 0);
    assert_int_equal(workers_start(here.workers, &why), 0);
    return 0;
}

static int close_world(void **state)
{
    assert_true(workers_stop(here.workers, 30000));
    workers_destroy(here.workers);
    free(here.feed.states[0]);
    free(here.feed.states[1]);
    free(here.feed.states);
    slots_destroy(&here.feed);
    order_destroy(here.feed.order);
    segment_destroy(&here.feed.segment);
    pthread_mutex_destroy(&here.feed.lock);
    sem_destroy(&here.made);
    sem_destroy(&here.gate);
    return 0;
}

static void post(uint32_t slot)
{
    assert_int_equal(slot_begin_warm(&here.feed, &here.feed.slots[slot], slot), 0);
    workers_post(here.workers, &here.feed, &here.feed.slots[slot]);
}

/* Opens the gate; all rows of these slots must come, one slot after the other. */
static void expect_order(const uint32_t *slots, uint32_t n)
{
    for (uint32_t i = 0; i < n * BATCH; i++)
        sem_post(&here.gate);
    for (uint32_t i = 0; i < n * BATCH; i++)
        while (sem_wait(&here.made) != 0)
            ;
    for (uint32_t i = 0; i < n * BATCH; i++)
        if (here.slots_made[i] != slots[i / BATCH])
            fail_msg("row %u was made in slot %u, not in slot %u", i, here.slots_made[i], slots[i / BATCH]);
}

/* ---- the tests ------------------------------------------------------------------------------------------------------ */

static void test_oldest_first(void **state)
{
    static const uint32_t slots[] = { 3, 0, 5, 1, 7, 2 };

    for (uint32_t i = 0; i < 6; i++)
        post(slots[i]);
    expect_order(slots, 6);
}

/* Slot 6 is begun and given up so often that the queue is full again and again; those that wait keep their turn. */
static void test_given_up(void **state)
{
    static const uint32_t slots[] = { 4, 1, 7, 6, 0 };

    post(4);
    while (slot_unclaimed(&here.feed.slots[4], slot_generation(&here.feed.slots[4])) == BATCH)
        usleep(100); /* from now on the worker stands at the gate, and looks at the queue when it is complete */
    post(1);
    for (uint32_t i = 0; i < 200000; i++) {
        if (i == 100000)
            post(7);
        post(6);
        slot_release(&here.feed, &here.feed.slots[6]);
        assert_int_equal(here.feed.slots[6].state, PF_SLOT_FREE);
    }
    post(6);
    post(0);
    expect_order(slots, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_oldest_first, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_given_up, open_world, close_world),
    };

    log_init(LOG_ERROR);
    alarm(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
