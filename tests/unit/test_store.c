/* SPDX-License-Identifier: MIT */
/* daemon/cache/store.c: many threads that find, add and give up the same entries; whoever finds one sees all of it, nobody's copy
 * is there twice, and nothing lies beyond what the store was made for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cache/store.h"

#define SAMPLES 500u
#define THREADS 4u
#define ROUNDS  20000u
#define LARGEST 700u
#define FACTOR  256u /* to take a while to copy */
#define FEW     60u
#define WHOLE   (SAMPLES * (64u + LARGEST + 64u) + 64u) /* room for every sample */

static struct {
    struct store store;
    struct store_index index;
    uint32_t added[SAMPLES]; /* atomic */
    bool drops;
    uint64_t factor; /* of sizes */
    pthread_barrier_t all;
} here;

/* A sample's bytes: as many as its number says, and of a value that every generation of it changes. */
static uint64_t size_of(uint64_t id)
{
    return (id * 7 % LARGEST + 1) * here.factor;
}

static void check_entry(const struct store_entry *entry, uint64_t id)
{
    const uint8_t *bytes = store_entry_bytes(entry);
    uint8_t wrong = 0;

    assert_int_equal(entry->size, size_of(id));
    assert_int_equal(entry->cost_ns, id + 1);
    for (uint64_t i = 0; i < entry->size; i++)
        wrong |= bytes[i] ^ (uint8_t)(entry->stamp * 31 + i);
    assert_int_equal(wrong, 0);
}

static void add(uint64_t id, uint64_t stamp)
{
    const struct store_entry entry = { .size = size_of(id), .stamp = stamp, .cost_ns = id + 1 };
    uint8_t bytes[LARGEST * FACTOR];

    for (uint64_t i = 0; i < entry.size; i++)
        bytes[i] = (uint8_t)(stamp * 31 + i);
    if (store_add(&here.store, &here.index, id, &entry, bytes))
        __atomic_fetch_add(&here.added[id], 1, __ATOMIC_RELAXED);
}

static void *work(void *argument)
{
    uint64_t state = (uintptr_t)argument + 1;

    for (unsigned r = 0; r < ROUNDS; r++) {
        struct store_entry *entry;
        uint64_t id;

        state = state * 6364136223846793005u + 1442695040888963407u;
        id = (state >> 33) % SAMPLES;
        entry = store_find(&here.store, &here.index, id);
        if (!entry) {
            add(id, state >> 50);
            continue;
        }
        check_entry(entry, id);
        if (here.drops && (state >> 40) % 64 == 0) {
            store_drop(&here.store, &here.index, id, entry);
            check_entry(entry, id); /* it stays readable */
        }
    }
    return NULL;
}

static void run(uint64_t size, bool drops)
{
    pthread_t threads[THREADS];

    memset(&here, 0, sizeof(here));
    here.drops = drops;
    here.factor = 1;
    assert_int_equal(store_init(&here.store, size), 0);
    assert_int_equal(store_index_init(&here.index, SAMPLES), 0);
    for (uintptr_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work, (void *)t), 0);
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
}

static void end(void)
{
    store_index_fini(&here.index);
    store_fini(&here.store);
}

static uint64_t count_found(void)
{
    uint64_t n = 0;

    for (uint64_t id = 0; id < SAMPLES; id++)
        n += store_find(&here.store, &here.index, id) != NULL;
    return n;
}

static void each_once(void **state)
{
    uint64_t bytes = 64;

    (void)state;
    run(WHOLE, false);
    for (uint64_t id = 0; id < SAMPLES; id++) {
        assert_int_equal(here.added[id], 1);
        check_entry(store_find(&here.store, &here.index, id), id);
        bytes += 64 + (size_of(id) + 63) / 64 * 64;
    }
    assert_int_equal(here.store.entries, SAMPLES);
    assert_int_equal(here.store.used, bytes);
    assert_int_equal(here.store.lost, 0);
    end();
}

/* All threads at the same sample, each time as one begins to copy it. */
static void *work_together(void *argument)
{
    for (uint64_t id = 0; id < FEW; id++) {
        pthread_barrier_wait(&here.all);
        for (unsigned n = 0; n < 100; n++) {
            const struct store_entry *entry = store_find(&here.store, &here.index, FEW - id);

            if (entry)
                check_entry(entry, FEW - id);
            else
                add(FEW - id, (uintptr_t)argument);
        }
    }
    return NULL;
}

static void together(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    memset(&here, 0, sizeof(here));
    here.factor = FACTOR;
    assert_int_equal(pthread_barrier_init(&here.all, NULL, THREADS), 0);
    assert_int_equal(store_init(&here.store, THREADS * FEW * (LARGEST * FACTOR + 128)), 0);
    assert_int_equal(store_index_init(&here.index, SAMPLES), 0);
    for (uintptr_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work_together, (void *)t), 0);
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (uint64_t id = 1; id <= FEW; id++)
        assert_int_equal(here.added[id], 1);
    pthread_barrier_destroy(&here.all);
    end();
}

static void too_small(void **state)
{
    (void)state;
    run(WHOLE / 3, false);
    assert_in_range(here.store.used, WHOLE / 3 - 128, WHOLE / 3); /* small ones go in when large ones fit no more */
    assert_in_range(here.store.entries, SAMPLES / 4, SAMPLES - 1);
    assert_int_equal(count_found(), here.store.entries);
    end();
    run(64, false); /* nothing fits at all */
    assert_int_equal(here.store.entries, 0);
    assert_int_equal(count_found(), 0);
    end();
}

static void given_up(void **state)
{
    uint64_t added = 0;

    (void)state;
    run(2 * WHOLE, true);
    for (uint64_t id = 0; id < SAMPLES; id++)
        added += here.added[id];
    assert_true(here.store.lost > 0 && here.store.lost < here.store.used);
    assert_int_equal(count_found(), here.store.entries);
    assert_true(added > here.store.entries);
    end();
}

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(store_bytes(4096 - STORE_PAST), 4096);
    assert_int_equal(store_bytes(4096), 8192);
    assert_int_equal(store_init(&here.store, UINT64_C(1) << 62), -12);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_once), cmocka_unit_test(together), cmocka_unit_test(too_small),
                                        cmocka_unit_test(given_up), cmocka_unit_test(sizes) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
