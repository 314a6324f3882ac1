/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 5, first half: kill -9 of any trainer costs nobody else anything, also where it had forked a child
 * that lives on with the socket open. A rank of a job that dies costs its mate nothing either: each rank is served at its own
 * step (DESIGN section 8), so the mate goes on alone, with the rows that are its own. Only before the job's first step it waits,
 * and is told for whom.
 *
 * The promise is 100 ms, and it is asked of every round. The clock starts when the death can be seen: when a pidfd of the victim,
 * which this test polls itself, turns readable. It stops when the daemon shows neither the consumer nor a grant of it ("random"),
 * at the end of a pfeed_next of a survivor ("others"), or when a trainer that stood because the dead one held the slots has its
 * next batch ("blocked").
 *
 * A busy machine does not run some process for seconds (seen: 5 s, under a load of 20 on 2 cores). So what the machine withheld
 * in that very round is taken off, and nothing else: the time in which threads that stand between the death and the stop of the
 * clock were ready to run and were not run, and what the hypervisor stole (withheld.h). Both figures are printed. On an idle
 * machine next to nothing is taken off. What the daemon does in that time, or sleeps, or waits for, is never taken off.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "withheld.h"

#define ROWS       512u
#define HALF       4u /* of a batch of 8: rows of one rank in two */
#define KILLS      200u
#define BLOCKED    60u
#define SLOTS      24u
#define MATES      40u
#define EPOCHS_MAX 1000000u
#define RANGES     (1u << 20)
#define LIMIT      (100 * MS)

static struct daemon pfeedd;

/* ---- the bound ------------------------------------------------------------------------------------------------------ */

struct delays {
    const char *what;
    unsigned n;
    int64_t longest_ns, longest_net_ns, most_withheld_ns;
    unsigned over; /* as measured, before anything is taken off */
};

static void delay_add(struct delays *delays, int64_t delay_ns, int64_t withheld)
{
    int64_t net_ns = delay_ns > withheld ? delay_ns - withheld : 0;

    delays->n++;
    delays->over += delay_ns > scaled_ns(LIMIT);
    if (delay_ns > delays->longest_ns)
        delays->longest_ns = delay_ns;
    if (net_ns > delays->longest_net_ns)
        delays->longest_net_ns = net_ns;
    if (withheld > delays->most_withheld_ns)
        delays->most_withheld_ns = withheld;
    CHECK(net_ns <= scaled_ns(LIMIT), "%s: %.2f ms in round %u, of which the machine withheld %.2f ms; the limit is %.0f ms",
          delays->what, (double)delay_ns / 1e6, delays->n, (double)withheld / 1e6, (double)scaled_ns(LIMIT) / 1e6);
}

static void delays_note(const struct delays *delays)
{
    note(
        "%s, %u rounds: longest %.2f ms, less what the machine withheld %.2f ms (it withheld up to %.2f ms of a round; %u rounds "
        "were over the limit before that)",
        delays->what, delays->n, (double)delays->longest_ns / 1e6, (double)delays->longest_net_ns / 1e6,
        (double)delays->most_withheld_ns / 1e6, delays->over);
}

/* Kills, and returns the moment at which this process could see the death. */
static int64_t kill_visibly(struct trainer *trainer)
{
    struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, trainer_pid(trainer), 0), .events = POLLIN };
    int64_t seen_ns;

    CHECK(end.fd >= 0, "pidfd_open: %s", strerror(errno));
    kill(trainer_pid(trainer), SIGKILL);
    CHECK(poll(&end, 1, (int)(scaled_ns(10 * SECOND) / MS)) == 1, "the victim does not die");
    seen_ns = now_ns();
    close(end.fd);
    return seen_ns;
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
    uint64_t since_ns;      /* the test: what counts of a pfeed_next is what lies after this moment; 0: nothing */
    uint64_t longest_ns;    /* the longest since then ... */
    uint64_t answered_ns;   /* ... and the first moment at which one gave a batch */
    struct seen *seen;      /* by epoch, shared by the job's ranks */
    uint64_t *ranges;       /* NULL, or a hash of what rank 0 of world 2 has of each step, as this one saw it */
};

static void account(struct survivor *survivor, const struct pfeed_info *info, uint64_t length)
{
    uint64_t expected = survivor->steps;
    struct seen *seen = &survivor->seen[info->epoch];
    uint64_t sum = 0, range = 1;

    CHECK(info->epoch == expected / length && info->step == expected % length,
          "batch %llu is epoch %llu step %llu: the history has a hole", (unsigned long long)expected,
          (unsigned long long)info->epoch, (unsigned long long)info->step);
    CHECK(info->epoch < EPOCHS_MAX, "more than %u epochs", EPOCHS_MAX);
    for (uint32_t i = 0; i < info->rows; i++)
        sum += mix(info->ids[i]);
    for (uint32_t i = 0; i < HALF; i++)
        range = mix(range ^ info->ids[i]);
    if (survivor->ranges && expected < RANGES)
        survivor->ranges[expected] = range;
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
        uint64_t start_ns = (uint64_t)now_ns(), end_ns, since_ns;
        struct pfeed_batch *batch = must_next(pf);

        end_ns = (uint64_t)now_ns();
        since_ns = count_get(&survivor->since_ns);
        start_ns = start_ns > since_ns ? start_ns : since_ns;
        if (since_ns && !count_get(&survivor->answered_ns))
            count_set(&survivor->answered_ns, end_ns);
        if (since_ns && end_ns > start_ns + count_get(&survivor->longest_ns))
            count_set(&survivor->longest_ns, end_ns - start_ns);
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

static struct trainer *start_victim(struct random *random, struct victim *victim, unsigned round)
{
    uint64_t target = random_below(random, 40), spin_ns = random_below(random, 300000);
    struct trainer *trainer;
    int64_t start_ns;

    *victim =
        (struct victim){ .plan = { .daemon = &pfeedd, .feed = "spine", .max_held = 2, .seed = round & 1 ? 1000 + round % 3 : 0 },
                         .child = (enum child)(round % 4 < 2 ? NO_CHILD : round % 4 - 1) };
    trainer = trainer_start("victim", run_victim, victim);
    UNTIL(count_get(&victim->ticks) >= target);
    for (start_ns = now_ns(); now_ns() < start_ns + (int64_t)spin_ns;)
        ;
    return trainer;
}

/* All go on after it, also while the victim's child lives, if there is one. */
static int64_t longest_wait(struct survivor *survivors, const uint64_t *steps)
{
    uint64_t longest_ns = 0;

    for (unsigned i = 0; i < 3; i++)
        UNTIL(count_get(&survivors[i].steps) > steps[i] + 2);
    for (unsigned i = 0; i < 3; i++) {
        count_set(&survivors[i].since_ns, 0);
        if (count_get(&survivors[i].longest_ns) > longest_ns)
            longest_ns = count_get(&survivors[i].longest_ns);
    }
    return (int64_t)longest_ns;
}

static void kill_one(struct trainer *trainer, struct survivor *survivors, struct trainer *const *others, struct delays *gone,
                     struct delays *waits)
{
    /* Who stands between the death and what this process sees of it; and between it and a survivor's batch: the daemon, and the
     * other survivors, who have slots and a step to give back. */
    const pid_t observed[] = { pfeedd.pid, getpid(), 0 };
    const pid_t served[] = { pfeedd.pid, trainer_pid(others[0]), trainer_pid(others[1]), trainer_pid(others[2]), 0 };
    struct withheld observer, server;
    pid_t pid = trainer_pid(trainer);
    int64_t seen_ns = kill_visibly(trainer), gone_ns;
    uint64_t steps[3];

    for (unsigned i = 0; i < 3; i++) {
        steps[i] = count_get(&survivors[i].steps);
        count_set(&survivors[i].longest_ns, 0);
        count_set(&survivors[i].since_ns, (uint64_t)seen_ns);
    }
    withheld_start(&observer, observed);
    withheld_start(&server, served);
    trainer_kill(trainer); /* reaps it */
    UNTIL(!has_consumer(pid));
    gone_ns = now_ns();
    delay_add(gone, gone_ns - seen_ns, withheld_ns(&observer));
    check_holders();
    gone_ns = longest_wait(survivors, steps);
    delay_add(waits, gone_ns, withheld_ns(&server));
}

static void run_random(const void *arg)
{
    struct survivor *survivors = shared_memory(3 * sizeof(*survivors));
    struct delays gone = { .what = "grants of the dead come back" }, waits = { .what = "pfeed_next of the others" };
    struct victim *victim = shared_memory(sizeof(*victim));
    struct seen *seen = shared_memory(2 * EPOCHS_MAX * sizeof(*seen));
    uint32_t *stop = shared_memory(sizeof(*stop));
    struct random random = random_start(1);
    struct trainer *trainers[3];
    unsigned before;
    uint64_t epochs;

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
        kill_one(start_victim(&random, victim, round), survivors, trainers, &gone, &waits);
        end_child(victim);
    }
    word_set(stop, 1);
    for (unsigned i = 0; i < 3; i++)
        trainer_wait(trainers[i]);
    epochs = check_seen(survivors, 2) + check_seen(survivors + 2, 1);
    note("%u kills, survivors saw %llu whole epochs", KILLS, (unsigned long long)epochs);
    CHECK(epochs > 0, "no epoch was finished meanwhile");
    delays_note(&gone);
    delays_note(&waits);
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

static void kill_blocker(struct victim *victim, struct survivor *survivor, unsigned round, struct delays *delays)
{
    struct trainer *stands, *sits;
    struct withheld withheld;
    int64_t seen_ns;

    *victim = (struct victim){ .plan = { .daemon = &pfeedd, .feed = "spine", .max_held = 2 }, .child = (enum child)(round % 3) };
    survivor->steps = survivor->epochs = survivor->since_ns = survivor->answered_ns = 0;
    memset(survivor->seen, 0, 4096 * sizeof(*survivor->seen));
    word_set(survivor->stop, 0);
    sits = trainer_start("sitting", sit, victim);
    stands = trainer_start("standing", survive, survivor);
    word_await(&victim->holds, 2);
    await_standstill(survivor, trainer_pid(stands));
    count_set(&survivor->since_ns, (uint64_t)now_ns());
    seen_ns = kill_visibly(sits);
    withheld_start(&withheld, (const pid_t[]){ pfeedd.pid, trainer_pid(stands), 0 });
    trainer_kill(sits); /* reaps it */
    UNTIL(count_get(&survivor->answered_ns));
    delay_add(delays, (int64_t)survivor->answered_ns - seen_ns, withheld_ns(&withheld));
    UNTIL(count_get(&survivor->epochs) > 0); /* it has all that it needs from now on */
    word_set(survivor->stop, 1);
    trainer_wait(stands);
    check_seen(survivor, 1);
    end_child(victim);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
}

static void run_blocked(const void *arg)
{
    struct survivor *survivor = shared_memory(sizeof(*survivor));
    struct victim *victim = shared_memory(sizeof(*victim));
    struct delays delays = { .what = "a trainer that stood goes on" };
    unsigned before;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 512 }\n    shuffle: { mode: global, seed: 5 }\n    batch: 8\n"
                          "    gang: 2\n    slots: 8\n    slow: block\n    fields: { x: { dtype: float32, shape: [256] } }\n");
    before = descriptors(pfeedd.pid);
    *survivor = (struct survivor){ .plan = { .daemon = &pfeedd, .feed = "spine" },
                                   .stop = shared_memory(sizeof(uint32_t)),
                                   .seen = shared_memory(EPOCHS_MAX * sizeof(struct seen)) };
    for (unsigned round = 0; round < BLOCKED; round++)
        kill_blocker(victim, survivor, round, &delays);
    delays_note(&delays);
    UNTIL(descriptors(pfeedd.pid) == before);
    daemon_stop(&pfeedd);
}

/* ---- a rank of two -------------------------------------------------------------------------------------------------- */

static void check_ranges(const struct survivor *mate, const struct survivor *single)
{
    uint64_t steps = mate->steps < single->steps ? mate->steps : single->steps;

    for (uint64_t k = 0; k < steps && k < RANGES; k++)
        CHECK(mate->ranges[k] == single->ranges[k], "step %llu of the mate has other rows than its own", (unsigned long long)k);
}

static void restart_fresh(void *arg)
{
    const struct victim *victim = arg;
    struct history *history = victim->plan.history;

    CHECK(!plan_open(&victim->plan), "rank 1 could begin anew, while rank 0 is far ahead");
    CHECK(history->open_rc < 0 && strstr(history->sentence, "rank 1") && strstr(history->sentence, "step"), "refused with %d: %s",
          history->open_rc, history->sentence);
}

/* single: runs beside them all the while, through the same order. */
static void kill_mate(struct random *random, struct victim *victim, struct survivor *mate, struct survivor *single,
                      const pid_t *beside, struct delays *gone)
{
    uint64_t target = 2 + random_below(random, 60), steps[2];
    struct trainer *dies, *stays;
    struct withheld withheld;
    int64_t seen_ns;
    pid_t pid;

    victim->ticks = mate->steps = mate->epochs = 0;
    word_set(mate->stop, 0);
    stays = trainer_start("mate", survive, mate);
    dies = trainer_start("victim", run_victim, victim);
    pid = trainer_pid(dies);
    UNTIL(count_get(&victim->ticks) >= target);
    seen_ns = kill_visibly(dies);
    withheld_start(&withheld, beside);
    trainer_kill(dies);
    UNTIL(!has_consumer(pid));
    delay_add(gone, now_ns() - seen_ns, withheld_ns(&withheld));
    check_holders();
    trainer_wait(trainer_start("restarted", restart_fresh, victim));
    steps[0] = count_get(&mate->steps);
    steps[1] = count_get(&single->steps);
    /* Further than all slots reach: nothing waits for the dead rank. */
    UNTIL(count_get(&mate->steps) > steps[0] + 3 * SLOTS && count_get(&single->steps) > steps[1] + 3 * SLOTS);
    word_set(mate->stop, 1);
    trainer_wait(stays);
    check_ranges(mate, single);
}

static void run_mates(const void *arg)
{
    struct survivor *both = shared_memory(2 * sizeof(*both)), *mate = both, *single = both + 1;
    struct seen *seen = shared_memory(2 * EPOCHS_MAX * sizeof(*seen));
    struct delays gone = { .what = "grants of a dead rank come back" };
    struct victim *victim = shared_memory(sizeof(*victim));
    struct random random = random_start(3);
    struct trainer *trainer;
    unsigned before;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 512 }\n    shuffle: { mode: global, seed: 5 }\n    batch: 8\n"
                          "    slots: 24\n    fields: { x: { dtype: float32, shape: [256] } }\n");
    before = descriptors(pfeedd.pid);
    for (unsigned i = 0; i < 2; i++)
        both[i] = (struct survivor){ .plan = { .daemon = &pfeedd, .feed = "spine", .job = i ? "single" : "pair", .world = 2 - i },
                                     .stop = shared_memory(sizeof(uint32_t)),
                                     .seen = seen + i * (size_t)EPOCHS_MAX,
                                     .ranges = shared_memory(RANGES * sizeof(uint64_t)) };
    victim->plan = mate->plan;
    victim->plan.rank = 1;
    victim->plan.history = history_create(1, 1);
    trainer = trainer_start("single", survive, single);
    for (unsigned round = 0; round < MATES; round++)
        kill_mate(&random, victim, mate, single, (const pid_t[]){ pfeedd.pid, getpid(), 0 }, &gone);
    word_set(single->stop, 1);
    trainer_wait(trainer);
    CHECK(check_seen(single, 1) > 0, "no epoch was finished meanwhile");
    delays_note(&gone);
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    UNTIL(descriptors(pfeedd.pid) == before);
    daemon_stop(&pfeedd);
}

/* ---- a rank that dies before the first step --------------------------------------------------------------------------- */

#define EARLY_STEPS (ROWS / 2 / HALF)

struct early {
    struct plan plan;
    uint32_t there, ask, told, go;
};

static void die_early(void *arg)
{
    struct early *early = arg;
    struct plan plan = early->plan;

    plan.rank = 1;
    plan_open(&plan);
    word_add(&early->there, 1);
    for (;;)
        pause();
}

static void wait_for_mate(void *arg)
{
    struct early *early = arg;
    struct pfeed *pf = plan_open(&early->plan);
    struct pfeed_batch *batch = NULL;
    int rc;

    word_add(&early->there, 1);
    word_await(&early->ask, 1);
    rc = pfeed_next(pf, &batch, 50);
    CHECK(rc == -ETIMEDOUT && !batch, "pfeed_next gives %d where rank 1 is dead", rc);
    CHECK(strstr(pfeed_error(pf), "job 'pair' waits for rank 1 of world 2"), "it is told: %s", pfeed_error(pf));
    word_set(&early->told, 1);
    word_await(&early->go, 1);
    for (unsigned k = 0; k < EARLY_STEPS; k++) {
        batch = must_next(pf);
        CHECK(pfeed_info(batch)->epoch == 0 && pfeed_info(batch)->step == k, "not step %u", k);
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

static void run_early(const void *arg)
{
    struct early *early = shared_memory(sizeof(*early));
    struct history *histories[] = { history_create(EARLY_STEPS, ROWS), history_create(EARLY_STEPS, ROWS) };
    struct trainer *waits, *dies, *others[2];
    struct plan plans[2];
    pid_t pid;

    /* The gang is the pair and one more: nothing begins before that one is there. */
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 512 }\n    batch: 8\n    slots: 24\n    gang: 3\n"
                          "    fields: { x: { dtype: float32, shape: [256] } }\n");
    early->plan = (struct plan){ .daemon = &pfeedd, .feed = "spine", .job = "pair", .world = 2, .epochs = 1 };
    plans[0] = plans[1] = early->plan;
    plans[0].rank = 1;
    plans[1].job = NULL;
    plans[1].world = 1;
    waits = trainer_start("waiting", wait_for_mate, early);
    dies = trainer_start("early victim", die_early, early);
    word_await(&early->there, 2);
    pid = trainer_pid(dies);
    trainer_kill(dies);
    UNTIL(!has_consumer(pid));
    word_set(&early->ask, 1);
    word_await(&early->told, 1);
    word_set(&early->go, 1);
    for (unsigned i = 0; i < 2; i++) { /* one in the place of the dead, and the third of the gang */
        plans[i].history = histories[i];
        others[i] = trainer_start("other", train, &plans[i]);
    }
    trainer_wait(waits);
    for (unsigned i = 0; i < 2; i++) {
        trainer_wait(others[i]);
        history_check(histories[i], i ? "the third" : "in its place", 1, EARLY_STEPS);
        history_destroy(histories[i]);
    }
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = { { "200 kills at random points", run_random, NULL },
                                  { "kill of who holds the slots", run_blocked, NULL },
                                  { "kill of a rank of two", run_mates, NULL },
                                  { "kill of a rank before the first step", run_early, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
