/* SPDX-License-Identifier: MIT */
/*
 * proto/ring.h. First one thread on both sides; then a stress of two threads that checks that no grant is lost, doubled or torn,
 * and that nobody sleeps for ever; then the two hand-shakes of "store, fence, load" as litmus tests, one round at a time, which
 * find a missing fence within seconds on x86. (The fence of pf_grants_ring is the exception: it follows a locked instruction
 * there, so that its absence shows on other machines only.)
 *
 * Suites unit and threads. PFEED_TEST_ROUNDS: rounds of each litmus test.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ring.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#ifdef __SANITIZE_THREAD__ /* gcc */
#define SANITIZED 1
#else
#define SANITIZED __has_feature(thread_sanitizer)
#endif
#define NEVER UINT64_MAX

struct lane {
    struct pf_grant_page grants;
    struct pf_return_page returns;
};

static struct lane *lane_create(void)
{
    struct lane *lane = aligned_alloc(PF_PAGE, sizeof(*lane));

    assert_non_null(lane);
    memset(lane, 0, sizeof(*lane));
    lane->grants.wake_at = NEVER;
    return lane;
}

/* Every field is a function of the number, so that a torn entry cannot look whole. */
static struct pf_grant grant_of(uint64_t n)
{
    return (struct pf_grant){ .number = n,
                              .epoch = n * UINT64_C(0x9e3779b97f4a7c15),
                              .step = ~n,
                              .slot = (uint32_t)(n * 7),
                              .row = (uint32_t)(n * 11),
                              .rows = (uint32_t)(n * 13),
                              .valid = (uint32_t)(n * 17),
                              .flags = n ^ 0x5555 };
}

static bool grant_whole(const struct pf_grant *grant)
{
    struct pf_grant right = grant_of(grant->number);

    return grant->epoch == right.epoch && grant->step == right.step && grant->slot == right.slot && grant->row == right.row &&
           grant->rows == right.rows && grant->valid == right.valid && grant->flags == right.flags;
}

static void publish(struct lane *lane, uint64_t n)
{
    struct pf_grant grant = grant_of(n);

    pf_grants_publish(&lane->grants, &grant);
}

/* ---- one thread ----------------------------------------------------------------------------------------------------- */

static void test_order(void **state)
{
    struct lane *lane = lane_create();
    uint64_t next = 0, returned = 0, rung = 0, published = 0;
    struct pf_grant grant = { 0 };

    /* Many times round both rings, with every number of grants out from 1 to a full ring. */
    for (unsigned turn = 0; turn < 40 * PF_RING; turn++) {
        uint64_t batch = turn % PF_RING + 1, first = next;

        assert_int_equal(pf_grants_take(&lane->grants, &lane->returns, &next, &grant), 0);
        for (uint64_t i = 0; i < batch; i++)
            publish(lane, published++);
        for (uint64_t i = 0; i < batch; i++) {
            assert_int_equal(pf_grants_take(&lane->grants, &lane->returns, &next, &grant), 1);
            assert_int_equal(grant.number, first + i);
            assert_true(grant_whole(&grant));
            assert_int_equal(next, first + i + 1);
        }
        for (uint64_t i = batch; i-- > 0;) /* given back in another order */
            assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, first + i, &rung), 0);
        assert_int_equal(pf_returns_tail(&lane->returns), published);
        for (uint64_t i = 0; i < batch; i++)
            assert_int_equal(pf_returns_number(&lane->returns, first + i), first + batch - 1 - i);
    }
    free(lane);
}

static void test_revoke(void **state)
{
    struct lane *lane = lane_create();
    uint64_t next = 0, published = 0, from = 77;
    struct pf_grant grant = { 0 };

    assert_int_equal(pf_grants_revoke(&lane->returns, 0, 0, &from), 0); /* nothing is there */
    assert_int_equal(from, 0);
    for (unsigned turn = 0; turn < 10 * PF_RING; turn++) {
        uint64_t first = published, takes = turn % 7;

        while (published < first + 6)
            publish(lane, published++);
        for (uint64_t i = 0; i < takes && i < 6; i++) {
            assert_int_equal(pf_grants_take(&lane->grants, &lane->returns, &next, &grant), 1);
            assert_int_equal(grant.number, first + i);
        }
        assert_int_equal(pf_grants_revoke(&lane->returns, first, published, &from), 0);
        assert_int_equal(from, first + (takes < 6 ? takes : 6));
        assert_int_equal(lane->returns.taken, published);
        assert_int_equal(pf_grants_revoke(&lane->returns, published, published, &from), 0); /* once more: nothing */
        assert_int_equal(from, published);
        assert_int_equal(pf_grants_take(&lane->grants, &lane->returns, &next, &grant), 0);
        publish(lane, published++); /* the next one that is taken is the first after the revoked ones */
        assert_int_equal(pf_grants_take(&lane->grants, &lane->returns, &next, &grant), 1);
        assert_int_equal(grant.number, published - 1);
        assert_true(grant_whole(&grant));
        assert_int_equal(next, published);
    }
    free(lane);
}

static void test_revoke_nonsense(void **state)
{
    struct lane *lane = lane_create();
    const uint64_t bad[] = { 0, 9, 21, 22, 1000, UINT64_MAX, UINT64_C(1) << 63 };
    uint64_t from = 77;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        lane->returns.taken = bad[i];
        assert_int_equal(pf_grants_revoke(&lane->returns, 10, 20, &from), -1);
        assert_int_equal(from, 77);
        assert_int_equal(lane->returns.taken, bad[i]);
    }
    for (uint64_t taken = 10; taken <= 20; taken++) {
        lane->returns.taken = taken;
        assert_int_equal(pf_grants_revoke(&lane->returns, 10, 20, &from), 0);
        assert_int_equal(from, taken);
    }
    free(lane);
}

static void test_wake_at(void **state)
{
    struct lane *lane = lane_create();
    uint64_t returned = 0, rung = 0;

    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 0, &rung), 0); /* not asked */
    pf_returns_arm(&lane->grants, 3);
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 1, &rung), 0);
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 2, &rung), 1); /* the third */
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 3, &rung), 0); /* once is enough */
    pf_returns_arm(&lane->grants, 2); /* already reached, and asked anew */
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 4, &rung), 1);
    pf_returns_arm(&lane->grants, NEVER);
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 5, &rung), 0);
    pf_returns_arm(&lane->grants, 7);
    assert_int_equal(pf_returns_push(&lane->returns, &lane->grants, &returned, 6, &rung), 1);
    free(lane);
}

static void test_bell(void **state)
{
    struct lane *lane = lane_create();
    uint32_t bell = pf_grants_sleepy(&lane->grants, &lane->returns);

    assert_int_equal(lane->returns.waiting, 1);
    assert_int_equal(pf_grants_ring(&lane->grants, &lane->returns), 1);
    assert_int_not_equal(lane->grants.bell, bell);
    pf_grants_awake(&lane->returns);
    assert_int_equal(lane->returns.waiting, 0);
    assert_int_equal(pf_grants_ring(&lane->grants, &lane->returns), 0);
    free(lane);
}

/* ---- two threads ---------------------------------------------------------------------------------------------------- */

/* The first CPUs that this process may use: one for each side. */
static void pin(unsigned which)
{
    cpu_set_t mine, one;

    if (sched_getaffinity(0, sizeof(mine), &mine) != 0 || CPU_COUNT(&mine) < 2)
        return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mine) && which-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
            return;
        }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#define STRESS    (SANITIZED ? 60000u : 600000u) /* grants */
#define LIMIT_NS  INT64_C(5000000000)            /* a sleep as long as this was never ended: its wake-up was lost */
#define SLOT_ROWS 16

enum fate { UNKNOWN, TAKEN, REVOKED };

/* The daemon's side publishes, revokes, reads returns, and uses a slot again only when its grant has come back. Slots are plain
 * memory: a race is TSan's to find, a wrong row the consumer's. */
struct stress {
    struct lane *lane;
    uint64_t slots[PF_RING][SLOT_ROWS];
    uint8_t fates[STRESS]; /* of every grant, by the consumer where it took it, by the daemon where it revoked it */
    uint8_t returned[STRESS];
    uint32_t event;                                                           /* stands for the eventfd */
    uint64_t n_taken, torn, taken_twice, lost_consumer, sleeps_consumer;      /* the consumer's */
    uint64_t n_revoked, strange, revoked_wrongly, lost_daemon, sleeps_daemon; /* the daemon's */
};

/* Sleeps while *word is value. False, and counted: for too long. After that the test has failed, and goes on fast. */
static bool sleep_on(uint32_t *word, uint32_t value, uint64_t *lost)
{
    struct timespec limit = { 0, 1000000 };

    if (*lost == 0)
        limit = (struct timespec){ LIMIT_NS / 1000000000, 0 };
    while (syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0) != 0)
        if (errno != EINTR) {
            *lost += errno != EAGAIN;
            return errno == EAGAIN;
        }
    return true;
}

static void wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool stress_take(struct stress *stress, uint64_t *next, struct pf_grant *grant)
{
    if (!pf_grants_take(&stress->lane->grants, &stress->lane->returns, next, grant))
        return false;
    if (!grant_whole(grant) || *next != grant->number + 1)
        stress->torn++;
    grant->number = *next - 1;
    return true;
}

static bool slot_whole(const struct stress *stress, uint64_t number)
{
    const uint64_t *rows = stress->slots[number % PF_RING];

    for (unsigned i = 0; i < SLOT_ROWS; i++)
        if (rows[i] != number * SLOT_ROWS + i)
            return false;
    return true;
}

static void *stress_consumer(void *arg)
{
    struct stress *stress = arg;
    struct lane *lane = stress->lane;
    uint64_t next = 0, returned = 0, rung = 0, random = 1, held[4];
    struct pf_grant grant = { 0 };
    unsigned n_held = 0;

    pin(1);
    while (next < STRESS || n_held > 0) {
        bool took = n_held < 4 && next < STRESS && stress_take(stress, &next, &grant);

        if (!took && n_held == 0 && next < STRESS) {
            uint32_t bell = pf_grants_sleepy(&lane->grants, &lane->returns);

            took = stress_take(stress, &next, &grant);
            /* A revocation does not ring: as in the daemon, what is taken back is published again, or more is. */
            if (!took && __atomic_load_n(&lane->returns.taken, __ATOMIC_RELAXED) < STRESS) {
                stress->sleeps_consumer++;
                sleep_on(&lane->grants.bell, bell, &stress->lost_consumer);
            }
            pf_grants_awake(&lane->returns);
            if (!took && __atomic_load_n(&lane->returns.taken, __ATOMIC_ACQUIRE) >= STRESS)
                next = STRESS; /* the last ones were revoked */
        }
        if (took) {
            if (!slot_whole(stress, grant.number))
                stress->torn++;
            if (__atomic_exchange_n(&stress->fates[grant.number], TAKEN, __ATOMIC_RELAXED) != UNKNOWN)
                stress->taken_twice++;
            stress->n_taken++;
            held[n_held++] = grant.number;
        }
        if (n_held > 0 && (!took || n_held == 4 || next_random(&random) % 4 == 0)) {
            unsigned which = (unsigned)(next_random(&random) % n_held);
            uint64_t number = held[which];

            if (!slot_whole(stress, number)) /* the last look before it goes back */
                stress->torn++;
            held[which] = held[--n_held];
            if (pf_returns_push(&lane->returns, &lane->grants, &returned, number, &rung)) {
                __atomic_fetch_add(&stress->event, 1, __ATOMIC_RELEASE);
                wake(&stress->event);
            }
        }
    }
    return NULL;
}

struct stress_daemon {
    uint64_t published, known, tail, n_out;
    bool out[PF_RING]; /* by slot: granted and neither returned nor revoked */
};

static void stress_drain(struct stress *stress, struct stress_daemon *daemon)
{
    uint64_t tail = pf_returns_tail(&stress->lane->returns);

    for (; daemon->tail != tail; daemon->tail++) {
        uint64_t number = pf_returns_number(&stress->lane->returns, daemon->tail);

        if (number >= daemon->published || !daemon->out[number % PF_RING] || stress->returned[number]++) {
            stress->strange++;
            continue;
        }
        daemon->out[number % PF_RING] = false;
        daemon->n_out--;
    }
}

static void stress_publish(struct stress *stress, struct stress_daemon *daemon, uint64_t n)
{
    bool any = false;

    for (; n > 0 && daemon->published < STRESS && !daemon->out[daemon->published % PF_RING]; n--, any = true) {
        uint64_t number = daemon->published++;

        for (unsigned i = 0; i < SLOT_ROWS; i++)
            stress->slots[number % PF_RING][i] = number * SLOT_ROWS + i;
        daemon->out[number % PF_RING] = true;
        daemon->n_out++;
        publish(stress->lane, number);
    }
    if (any && pf_grants_ring(&stress->lane->grants, &stress->lane->returns))
        wake(&stress->lane->grants.bell);
}

static void stress_revoke(struct stress *stress, struct stress_daemon *daemon)
{
    uint64_t from;

    if (pf_grants_revoke(&stress->lane->returns, daemon->known, daemon->published, &from) != 0) {
        stress->strange++;
        return;
    }
    daemon->known = daemon->published;
    for (uint64_t number = from; number < daemon->published; number++) {
        if (__atomic_exchange_n(&stress->fates[number], REVOKED, __ATOMIC_RELAXED) != UNKNOWN || !daemon->out[number % PF_RING])
            stress->revoked_wrongly++;
        daemon->out[number % PF_RING] = false;
        daemon->n_out--;
        stress->n_revoked++;
        for (unsigned i = 0; i < SLOT_ROWS; i++) /* it is free: written at once */
            stress->slots[number % PF_RING][i] = NEVER;
    }
}

/* As feed_arm does: asks, looks again, sleeps. */
static void stress_sleep(struct stress *stress, struct stress_daemon *daemon, uint64_t wake_at)
{
    uint32_t event = __atomic_load_n(&stress->event, __ATOMIC_ACQUIRE);

    pf_returns_arm(&stress->lane->grants, wake_at);
    if (pf_returns_tail(&stress->lane->returns) < wake_at) {
        stress->sleeps_daemon++;
        sleep_on(&stress->event, event, &stress->lost_daemon);
    }
    pf_returns_arm(&stress->lane->grants, NEVER);
}

static void *stress_produce(void *arg)
{
    struct stress *stress = arg;
    struct stress_daemon daemon = { 0 };
    uint64_t random = 2;

    pin(0);
    while (daemon.published < STRESS || daemon.n_out > 0) {
        stress_drain(stress, &daemon);
        stress_publish(stress, &daemon, next_random(&random) % 8 + 1);
        if (next_random(&random) % 4 == 0)
            stress_revoke(stress, &daemon);
        else if (daemon.n_out > 0 && next_random(&random) % 4 == 0)
            /* One is surely returned: the consumer keeps none for ever. */
            stress_sleep(stress, &daemon, daemon.tail + 1);
    }
    /* Should the consumer sleep because the last ones were revoked. */
    pf_grants_ring(&stress->lane->grants, &stress->lane->returns);
    wake(&stress->lane->grants.bell);
    return NULL;
}

static void test_stress(void **state)
{
    struct stress *stress = calloc(1, sizeof(*stress));
    pthread_t daemon, consumer;
    uint64_t unknown = 0;

    assert_non_null(stress);
    stress->lane = lane_create();
    assert_int_equal(pthread_create(&daemon, NULL, stress_produce, stress), 0);
    assert_int_equal(pthread_create(&consumer, NULL, stress_consumer, stress), 0);
    pthread_join(daemon, NULL);
    pthread_join(consumer, NULL);
    for (uint64_t n = 0; n < STRESS; n++)
        unknown += stress->fates[n] == UNKNOWN || (stress->fates[n] == TAKEN) != (stress->returned[n] == 1);
    printf("    %u grants: %llu taken, %llu revoked; the consumer slept %llu times, the daemon %llu times\n", STRESS,
           (unsigned long long)stress->n_taken, (unsigned long long)stress->n_revoked,
           (unsigned long long)stress->sleeps_consumer, (unsigned long long)stress->sleeps_daemon);
    assert_int_equal(stress->torn, 0);
    assert_int_equal(stress->taken_twice + stress->revoked_wrongly, 0);
    assert_int_equal(stress->strange, 0);
    assert_int_equal(unknown, 0);
    assert_int_equal(stress->n_taken + stress->n_revoked, STRESS);
    assert_int_equal(stress->lost_consumer, 0);
    assert_int_equal(stress->lost_daemon, 0);
    assert_true(stress->n_taken > STRESS / 100 && stress->n_revoked > STRESS / 100);
    free(stress->lane);
    free(stress);
}

/* ---- litmus tests --------------------------------------------------------------------------------------------------- */

/*
 * One round at a time, both sides let go at once. A round is lost where each side misses what the other one stored: both would
 * then sleep for ever.
 */
struct litmus {
    struct lane *lane;
    bool (*consumer)(struct litmus *litmus, uint64_t round); /* whether it saw, or told */
    bool (*daemon)(struct litmus *litmus, uint64_t round);
    void (*consumer_after)(struct litmus *litmus, uint64_t round); /* may overlap the daemon's part */
    uint64_t next, returned, rung;                                 /* the consumer's */
    uint64_t rounds;
    int64_t deadline_ns;
    bool consumer_saw;
    uint64_t go __attribute__((aligned(128)));
    uint64_t done __attribute__((aligned(128)));
};

static bool spin_until(const uint64_t *word, uint64_t value)
{
    for (unsigned spins = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) < value; spins++)
        if (spins % 4096 == 0)
            sched_yield(); /* the other side does not run */
    return __atomic_load_n(word, __ATOMIC_ACQUIRE) != NEVER;
}

static void *litmus_consumer(void *arg)
{
    struct litmus *litmus = arg;

    pin(1);
    for (uint64_t round = 1; spin_until(&litmus->go, round); round++) {
        litmus->consumer_saw = litmus->consumer(litmus, round - 1);
        __atomic_store_n(&litmus->done, round, __ATOMIC_RELEASE);
        if (litmus->consumer_after)
            litmus->consumer_after(litmus, round - 1);
    }
    return NULL;
}

static void *litmus_daemon(void *arg)
{
    struct litmus *litmus = arg;
    uint64_t round = 0, lost = 0;

    pin(0);
    while (round < litmus->rounds && (round % 1024 != 0 || now_ns() < litmus->deadline_ns)) {
        bool saw;

        __atomic_store_n(&litmus->go, ++round, __ATOMIC_RELEASE);
        for (unsigned i = 0; i < round % 60; i++)
            __asm__ __volatile__(""); /* the two meet at every distance */
        saw = litmus->daemon(litmus, round - 1);
        spin_until(&litmus->done, round);
        lost += !saw && !litmus->consumer_saw;
        pf_grants_awake(&litmus->lane->returns); /* here, where nobody looks */
    }
    litmus->rounds = round;
    __atomic_store_n(&litmus->go, NEVER, __ATOMIC_RELEASE);
    return (void *)(uintptr_t)lost;
}

static void run_litmus(const char *what, struct litmus *litmus)
{
    const char *rounds = getenv("PFEED_TEST_ROUNDS");
    pthread_t daemon, consumer;
    void *lost;

    litmus->lane = lane_create();
    litmus->rounds = rounds ? strtoull(rounds, NULL, 0) : SANITIZED ? 20000 : 2000000;
    litmus->deadline_ns = now_ns() + (rounds ? INT64_C(300) : 10) * 1000000000; /* on a busy machine */
    assert_int_equal(pthread_create(&consumer, NULL, litmus_consumer, litmus), 0);
    assert_int_equal(pthread_create(&daemon, NULL, litmus_daemon, litmus), 0);
    pthread_join(daemon, &lost);
    pthread_join(consumer, NULL);
    printf("    %s: %llu rounds, %llu wake-ups lost\n", what, (unsigned long long)litmus->rounds,
           (unsigned long long)(uintptr_t)lost);
    free(litmus->lane);
    assert_int_equal((uintptr_t)lost, 0);
}

/* Returns against arming: the consumer must ring, or the daemon must see the tail. */
static bool push(struct litmus *litmus, uint64_t round)
{
    return pf_returns_push(&litmus->lane->returns, &litmus->lane->grants, &litmus->returned, round, &litmus->rung);
}

static bool arm(struct litmus *litmus, uint64_t round)
{
    pf_returns_arm(&litmus->lane->grants, round + 1);
    return pf_returns_tail(&litmus->lane->returns) >= round + 1;
}

static void test_litmus_returns(void **state)
{
    run_litmus("returns", &(struct litmus){ .consumer = push, .daemon = arm });
}

/* Falling asleep against publishing: the consumer must see the grant, or that the bell has moved, or the daemon that it waits. */
static bool fall_asleep(struct litmus *litmus, uint64_t round)
{
    uint32_t bell = pf_grants_sleepy(&litmus->lane->grants, &litmus->lane->returns);
    struct pf_grant grant = { 0 };
    bool saw = pf_grants_take(&litmus->lane->grants, &litmus->lane->returns, &litmus->next, &grant) ||
               __atomic_load_n(&litmus->lane->grants.bell, __ATOMIC_RELAXED) != bell; /* what FUTEX_WAIT asks */

    return saw;
}

static void catch_up(struct litmus *litmus, uint64_t round)
{
    struct pf_grant grant = { 0 };

    while (litmus->next <= round)
        pf_grants_take(&litmus->lane->grants, &litmus->lane->returns, &litmus->next, &grant);
}

static bool grant_one(struct litmus *litmus, uint64_t round)
{
    publish(litmus->lane, round);
    return pf_grants_ring(&litmus->lane->grants, &litmus->lane->returns);
}

static void test_litmus_grants(void **state)
{
    run_litmus("grants", &(struct litmus){ .consumer = fall_asleep, .daemon = grant_one, .consumer_after = catch_up });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),          cmocka_unit_test(test_revoke),        cmocka_unit_test(test_revoke_nonsense),
        cmocka_unit_test(test_wake_at),        cmocka_unit_test(test_bell),          cmocka_unit_test(test_stress),
        cmocka_unit_test(test_litmus_returns), cmocka_unit_test(test_litmus_grants),
    };

    alarm(400); /* a lane that is broken may stand still */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
