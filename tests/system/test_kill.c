/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 5, first half: kill -9 of any trainer costs nobody else anything, also where it had forked a child
 * that lives on with the socket open.
 *
 * What is measured: from the moment at which the process is dead (the kernel took as long as it took) until the daemon shows
 * neither the consumer nor a grant of it ("random"); and from the call of kill() until a trainer that stood because the dead one
 * held the slots has its next batch ("blocked"). The promise is 100 ms. A busy machine does not run some process for seconds
 * (seen: 5 s, under a load of 20 on 2 cores), so one late round proves nothing: at least 19 rounds of 20 must be within 100 ms
 * and the median within 50 ms, which no design with a heartbeat or a time-out reaches; and none may take 10 s.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define ROWS         512u
#define BATCH        8u
#define KILLS        200u
#define BLOCKED      60u
#define EPOCHS_MAX   1000000u
#define LIMIT        (100 * MS)
#define LIMIT_MEDIAN (50 * MS)
#define LIMIT_EVER   (10 * SECOND)

static struct daemon pfeedd;

/* ---- the bound ------------------------------------------------------------------------------------------------------ */

static void check_delays(const char *what, int64_t *delays, size_t n)
{
    size_t within = 0;

    qsort(delays, n, sizeof(*delays), by_size);
    while (within < n && delays[within] <= scaled_ns(LIMIT))
        within++;
    note("%s: median %.2f ms, 19 of 20 within %.2f ms, longest %.2f ms", what, (double)delays[n / 2] / 1e6,
         (double)delays[n * 19 / 20] / 1e6, (double)delays[n - 1] / 1e6);
    CHECK(delays[n / 2] <= scaled_ns(LIMIT_MEDIAN), "%s: the median is %.1f ms", what, (double)delays[n / 2] / 1e6);
    CHECK(within * 20 >= n * 19, "%s: %zu of %zu took longer than 100 ms", what, n - within, n);
    CHECK(delays[n - 1] <= scaled_ns(LIMIT_EVER), "%s: one took %.1f ms", what, (double)delays[n - 1] / 1e6);
}

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

enum child { NO_CHILD, FORKED, CLONED };

/* A trainer that will die. */
struct victim {
    struct plan plan;
    enum child child;
    int32_t child_pid;
    uint64_t ticks; /* moves at every small thing it does */
    uint32_t holds; /* batches at the moment, where it sits */
};

static void tick(struct victim *victim)
{
    __atomic_fetch_add(&victim->ticks, 1, __ATOMIC_RELEASE);
}

/* The child does nothing but keep what it inherited: all descriptors where it was cloned behind libpfeed's back. */
static void leave_child(struct victim *victim)
{
    pid_t pid;

    if (victim->child == NO_CHILD)
        return;
    pid = victim->child == FORKED ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(120); /* should nobody end it */
        for (;;)
            pause();
    }
    __atomic_store_n(&victim->child_pid, pid, __ATOMIC_RELEASE);
}

/* Takes, reads and returns, one or two at a time, until it is killed. */
static void run_victim(void *arg)
{
    struct victim *victim = arg;
    struct pfeed *pf = plan_open(&victim->plan);

    tick(victim);
    leave_child(victim);
    for (unsigned k = 0;; k++) {
        struct pfeed_batch *first = must_next(pf), *second = NULL;

        tick(victim);
        batch_hash(first);
        tick(victim);
        if (k & 1) {
            second = must_next(pf);
            tick(victim);
        }
        must_done(pf, first);
        tick(victim);
        if (second)
            must_done(pf, second);
    }
}

/* Takes all that it may hold and sits on it. */
static void sit(void *arg)
{
    struct victim *victim = arg;
    struct pfeed *pf = plan_open(&victim->plan);

    leave_child(victim);
    for (unsigned i = 0; i < victim->plan.max_held; i++)
        must_next(pf);
    word_set(&victim->holds, victim->plan.max_held);
    for (;;)
        pause();
}

static void end_child(struct victim *victim)
{
    pid_t pid = __atomic_load_n(&victim->child_pid, __ATOMIC_ACQUIRE);

    if (pid > 0) { /* ours since its parent died: this process is the subreaper */
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, NULL, 0) == pid, "the victim's child is not ours to end");
    }
}

/* What all ranks of a job saw of an epoch: enough to tell "each sample once" from anything else. */
struct seen {
    uint64_t rows, sum; /* sum of mix(id) */
};

struct survivor {
    struct plan plan;
    uint32_t *stop;
    uint64_t steps, epochs; /* finished */
    uint64_t longest_ns;    /* longest pfeed_next since it was last set to 0 */
    uint64_t asked_ns;      /* the test: from now on ... */
    uint64_t answered_ns;   /* ... the first moment at which pfeed_next gave a batch */
    struct seen *seen;      /* by epoch, shared by the job's ranks */
};

static void account(struct survivor *survivor, const struct pfeed_info *info, uint64_t length)
{
    uint64_t expected = survivor->steps;
    struct seen *seen = &survivor->seen[info->epoch];
    uint64_t sum = 0;

    CHECK(info->epoch == expected / length && info->step == expected % length,
          "batch %llu is epoch %llu step %llu: the history has a hole", (unsigned long long)expected,
          (unsigned long long)info->epoch, (unsigned long long)info->step);
    CHECK(info->epoch < EPOCHS_MAX, "more than %u epochs", EPOCHS_MAX);
    for (uint32_t i = 0; i < info->rows; i++)
        sum += mix(info->ids[i]);
    __atomic_fetch_add(&seen->sum, sum, __ATOMIC_RELAXED);
    __atomic_fetch_add(&seen->rows, info->rows, __ATOMIC_RELAXED);
    count_set(&survivor->steps, expected + 1);
    if (info->step + 1 == length)
        count_set(&survivor->epochs, info->epoch + 1);
}

static void survive(void *arg)
{
    struct survivor *survivor = arg;
    struct pfeed *pf = plan_open(&survivor->plan);
    uint64_t length = (uint64_t)pfeed_length(pf);

    while (!word_get(survivor->stop)) {
        int64_t start_ns = now_ns(), end_ns;
        struct pfeed_batch *batch = must_next(pf);

        end_ns = now_ns();
        if (count_get(&survivor->asked_ns) && !count_get(&survivor->answered_ns))
            count_set(&survivor->answered_ns, (uint64_t)end_ns);
        if ((uint64_t)(end_ns - start_ns) > count_get(&survivor->longest_ns))
            count_set(&survivor->longest_ns, (uint64_t)(end_ns - start_ns));
        account(survivor, pfeed_info(batch), length);
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

/* Every epoch that all ranks finished had each sample once. */
static uint64_t check_seen(const struct survivor *ranks, unsigned world)
{
    uint64_t epochs = UINT64_MAX, sum = 0;

    for (uint64_t id = 0; id < ROWS; id++)
        sum += mix(id);
    for (unsigned i = 0; i < world; i++)
        if (ranks[i].epochs < epochs)
            epochs = ranks[i].epochs;
    for (uint64_t epoch = 0; epoch < epochs; epoch++)
        CHECK(ranks->seen[epoch].rows == ROWS && ranks->seen[epoch].sum == sum,
              "epoch %llu of %s: %llu rows, not each sample once", (unsigned long long)epoch, ranks->plan.job,
              (unsigned long long)ranks->seen[epoch].rows);
    return epochs;
}

/* ---- 200 kills at random points ------------------------------------------------------------------------------------- */

static bool has_consumer(pid_t pid)
{
    struct pf_row_consumer rows[32];
    size_t n = stat_consumers(&pfeedd, "spine", rows, 32);

    CHECK(n <= 32, "%zu consumers", n);
    for (size_t i = 0; i < n; i++)
        if (rows[i].pid == pid)
            return true;
    return false;
}

/* No slot has a grant that belongs to nobody who is there. */
static void check_holders(void)
{
    static struct pf_row_slot slots[PF_SLOTS_MAX];
    struct pf_row_consumer rows[32];
    size_t n_slots = stat_slots(&pfeedd, "spine", slots, PF_SLOTS_MAX), n = stat_consumers(&pfeedd, "spine", rows, 32);

    for (size_t s = 0; s < n_slots; s++)
        for (uint32_t h = 0; h < slots[s].n_holders && h < PF_HOLDERS; h++) {
            bool there = false;

            for (size_t i = 0; i < n && i < 32; i++)
                there |= rows[i].consumer == slots[s].holders[h].consumer;
            CHECK(there, "slot %zu is held by consumer %llu, which has gone", s,
                  (unsigned long long)slots[s].holders[h].consumer);
        }
}

static int64_t kill_one(struct random *random, struct victim *victim, unsigned round)
{
    uint64_t target = random_below(random, 40), spin_ns = random_below(random, 300000);
    struct trainer *trainer;
    int64_t start_ns;
    pid_t pid;

    *victim =
        (struct victim){ .plan = { .daemon = &pfeedd, .feed = "spine", .max_held = 2, .seed = round & 1 ? 1000 + round % 3 : 0 },
                         .child = (enum child)(round % 4 < 2 ? NO_CHILD : round % 4 - 1) };
    trainer = trainer_start("victim", run_victim, victim);
    pid = trainer_pid(trainer);
    UNTIL(count_get(&victim->ticks) >= target);
    for (start_ns = now_ns(); now_ns() < start_ns + (int64_t)spin_ns;)
        ;
    trainer_kill(trainer);
    start_ns = now_ns();
    UNTIL(!has_consumer(pid));
    return now_ns() - start_ns;
}

static void run_random(const void *arg)
{
    struct survivor *survivors = shared_memory(3 * sizeof(*survivors));
    struct victim *victim = shared_memory(sizeof(*victim));
    struct seen *seen = shared_memory(2 * EPOCHS_MAX * sizeof(*seen));
    uint32_t *stop = shared_memory(sizeof(*stop));
    struct random random = random_start(1);
    int64_t gone[KILLS], waits[KILLS];
    struct trainer *trainers[3];
    unsigned before;
    uint64_t steps;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 128MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 512 }\n    shuffle: { mode: global, seed: 5 }\n    batch: 8\n"
                          "    slots: 24\n    fields: { x: { dtype: float32, shape: [256] } }\n");
    before = descriptors(pfeedd.pid);
    for (unsigned i = 0; i < 3; i++) {
        survivors[i] = (struct survivor){ .plan = { .daemon = &pfeedd,
                                                    .feed = "spine",
                                                    .job = i < 2 ? "pair" : "single",
                                                    .rank = i < 2 ? i : 0,
                                                    .world = i < 2 ? 2 : 1 },
                                          .stop = stop,
                                          .seen = i < 2 ? seen : seen + EPOCHS_MAX };
        trainers[i] = trainer_start("survivor", survive, &survivors[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        UNTIL(count_get(&survivors[i].steps) > 0);
    for (unsigned round = 0; round < KILLS; round++) {
        for (unsigned i = 0; i < 3; i++)
            count_set(&survivors[i].longest_ns, 0);
        gone[round] = kill_one(&random, victim, round);
        check_holders();
        for (unsigned i = 0; i < 3; i++) { /* all go on: while the victim's child lives, if there is one */
            steps = count_get(&survivors[i].steps);
            UNTIL(count_get(&survivors[i].steps) > steps + 2);
        }
        waits[round] = 0;
        for (unsigned i = 0; i < 3; i++)
            if ((int64_t)count_get(&survivors[i].longest_ns) > waits[round])
                waits[round] = (int64_t)count_get(&survivors[i].longest_ns);
        end_child(victim);
    }
    word_set(stop, 1);
    for (unsigned i = 0; i < 3; i++)
        trainer_wait(trainers[i]);
    steps = check_seen(survivors, 2) + check_seen(survivors + 2, 1);
    note("%u kills, survivors saw %llu whole epochs", KILLS, (unsigned long long)steps);
    CHECK(steps > 0, "no epoch was finished meanwhile");
    check_delays("grants of the dead come back", gone, KILLS);
    check_delays("longest pfeed_next of the others about a kill", waits, KILLS);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    UNTIL(descriptors(pfeedd.pid) == before);
    daemon_stop(&pfeedd);
}

/* ---- a trainer that stands because of the dead one ------------------------------------------------------------------- */

/* Whether it has nothing to take and nothing is being filled for it, for so many looks in a row that it surely stands. */
static void await_standstill(const struct survivor *survivor, pid_t pid)
{
    struct pf_row_consumer rows[8];
    uint64_t steps = UINT64_MAX;
    unsigned same = 0;

    UNTIL(same >= 5)
    {
        struct pf_row_feed feed = feed_now(&pfeedd, "spine");
        size_t n = stat_consumers(&pfeedd, "spine", rows, 8);

        for (size_t i = 0; i < n && i < 8; i++)
            if (rows[i].pid == pid)
                same = rows[i].granted == 0 && feed.filling == 0 && count_get(&survivor->steps) == steps ? same + 1 : 0;
        steps = count_get(&survivor->steps);
    }
}

static int64_t kill_blocker(struct victim *victim, struct survivor *survivor, unsigned round)
{
    struct trainer *stands, *sits;
    int64_t start_ns;

    *victim = (struct victim){ .plan = { .daemon = &pfeedd, .feed = "spine", .max_held = 2 }, .child = (enum child)(round % 3) };
    survivor->steps = survivor->epochs = survivor->asked_ns = survivor->answered_ns = 0;
    memset(survivor->seen, 0, 4096 * sizeof(*survivor->seen));
    word_set(survivor->stop, 0);
    sits = trainer_start("sitting", sit, victim);
    stands = trainer_start("standing", survive, survivor);
    word_await(&victim->holds, 2);
    await_standstill(survivor, trainer_pid(stands));
    start_ns = now_ns();
    count_set(&survivor->asked_ns, (uint64_t)start_ns);
    trainer_kill(sits);
    UNTIL(count_get(&survivor->epochs) > 0); /* it has all that it needs from now on */
    word_set(survivor->stop, 1);
    trainer_wait(stands);
    check_seen(survivor, 1);
    end_child(victim);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    return (int64_t)survivor->answered_ns - start_ns;
}

static void run_blocked(const void *arg)
{
    struct survivor *survivor = shared_memory(sizeof(*survivor));
    struct victim *victim = shared_memory(sizeof(*victim));
    int64_t delays[BLOCKED];
    unsigned before;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 512 }\n    shuffle: { mode: global, seed: 5 }\n    batch: 8\n"
                          "    gang: 2\n    slots: 8\n    slow: block\n    fields: { x: { dtype: float32, shape: [256] } }\n");
    before = descriptors(pfeedd.pid);
    *survivor = (struct survivor){ .plan = { .daemon = &pfeedd, .feed = "spine" },
                                   .stop = shared_memory(sizeof(uint32_t)),
                                   .seen = shared_memory(EPOCHS_MAX * sizeof(struct seen)) };
    for (unsigned round = 0; round < BLOCKED; round++)
        delays[round] = kill_blocker(victim, survivor, round);
    check_delays("a trainer that stood goes on", delays, BLOCKED);
    UNTIL(descriptors(pfeedd.pid) == before);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "200 kills at random points", run_random, NULL },
                                  { "kill of who holds the slots", run_blocked, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
