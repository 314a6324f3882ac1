/* SPDX-License-Identifier: MIT */
/*
 * What many jobs on one feed cost. Parts, which may be named on the command line:
 *   death      kill -9 of a trainer that holds max_held batches: from its end (its pidfd) until every slot is free.
 *   attach     pfeed_open of each of 256 processes, one after the other, those before it attached and granted what is ready.
 *   consumers  256 processes against 4, each a job of its own on the same kind of feed, that take and give back the same batches as
 *              fast as they come, or in bursts of ready ones: CPU time of all trainers and of the daemon's main thread, per
 *              batch and consumer, in turn. What workers do is left out: they fill each batch once, however many take it.
 *   thread     8 trainers that each take 125 batches a second, by the clock: the main thread's share of a core; on one feed, and
 *              each on a feed of its own.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define DEATHS          31
#define DEATH_TARGET    10.0 /* ms, the median */
#define ATTACH_TARGET   5.0  /* ms, each */
#define RATIO_TARGET    2.0
#define THREAD_TARGET   2.0 /* per cent of a core */
#define FEW             4
#define MANY            256
#define READY           24
#define MORE_THAN_SLOTS 64
#define PACED           8
#define PACE_NS         (8 * MS)
#define PACED_WINDOW    (2 * SECOND)
#define MAX_HELD        2

#define FEED(name, gang)                                                                                                         \
    "  " name ":\n    source: { type: synthetic, rows: 1000000000 }\n    shuffle: none\n    batch: 4\n    slots: 32\n"           \
    "    max_held: 2\n    gang: " gang "\n    fields: { x: { dtype: float32, shape: [16] } }\n"
#define DAEMON "version: 1\ndaemon: { memory: 512MiB, max_consumers: 600 }\nfeeds:\n"

static struct daemon pfeedd;

/* ---- death ---------------------------------------------------------------------------------------------------------- */

static uint32_t *holds;

static void hold(void *argument)
{
    struct pfeed *pf = consumer_open(&pfeedd, "one", "victim");
    struct pfeed_batch *batch;

    (void)argument;
    for (int i = 0; i < MAX_HELD; i++)
        CHECK(pfeed_next(pf, &batch, -1) == 0, "pfeed_next: %s", pfeed_error(pf));
    word_set(holds, 1);
    for (;;)
        pause();
}

static bool all_free(void)
{
    struct pf_row_feed row = feed_now(&pfeedd, "one");

    return row.consumers == 0 && row.free == row.n_slots;
}

static void one_death(struct series *series)
{
    struct trainer *trainer;
    struct pollfd end = { .events = POLLIN };
    struct window window;
    int64_t start_ns, freed_ns;

    word_set(holds, 0);
    trainer = trainer_start("victim", hold, NULL);
    word_await(holds, 1);
    rest(pfeedd.pid);
    end.fd = (int)syscall(SYS_pidfd_open, trainer_pid(trainer), 0);
    CHECK(end.fd >= 0, "pidfd_open failed");
    window_open(&window);
    kill(trainer_pid(trainer), SIGKILL);
    CHECK(poll(&end, 1, 10000) == 1, "it does not die");
    start_ns = now_ns();
    while (!all_free())
        CHECK(now_ns() - start_ns < 10 * SECOND, "its slots do not come back");
    freed_ns = now_ns();
    window_close(&window);
    series_add(series, (double)(freed_ns - start_ns) / 1e6, window.others);
    close(end.fd);
    trainer_kill(trainer);
}

static void death(void)
{
    static struct series ms;
    double sorted[ROUNDS];

    holds = shared_memory(sizeof(*holds));
    daemon_start(&pfeedd, DAEMON FEED("one", "1"));
    for (int i = 0; i < DEATHS; i++)
        one_death(&ms);
    daemon_stop(&pfeedd);
    memcpy(sorted, ms.values, sizeof(sorted));
    median(sorted, ms.n);
    printf("death: %zu trainers that held %d batches of 32 slots\n", ms.n, MAX_HELD);
    printf("  death to all slots free: median %.3f ms, worst %.3f ms, wall time, with the asking\n", quantile(sorted, ms.n, 0.5),
           sorted[ms.n - 1]);
    printf("  target: median at most %.0f ms: %s\n", DEATH_TARGET, verdict(quantile(sorted, ms.n, 0.5) <= DEATH_TARGET, &ms));
    printf("json: {\"bench\":\"death\",\"n\":%zu,\"median_ms\":%.4f,\"worst_ms\":%.4f}\n\n", ms.n, quantile(sorted, ms.n, 0.5),
           sorted[ms.n - 1]);
}

/* ---- attach --------------------------------------------------------------------------------------------------------- */

static void attach(void)
{
    static struct series medians, tails, worsts, main_us;
    static struct crew crew;

    daemon_start(&pfeedd, DAEMON FEED("one", "1"));
    while (more_rounds(&medians)) {
        double ms[MANY];
        struct window window;
        int64_t main_ns;

        window_open(&window);
        main_ns = main_thread_ns(pfeedd.pid);
        crew_start(&crew, &pfeedd, "one", MANY);
        rest(pfeedd.pid);
        main_ns = main_thread_ns(pfeedd.pid) - main_ns;
        window_close(&window);
        for (uint32_t i = 0; i < MANY; i++)
            ms[i] = (double)crew.words[i].open_ns / 1e6;
        series_add(&medians, median(ms, MANY), window.others);
        series_add(&tails, quantile(ms, MANY, 0.99), window.others);
        series_add(&worsts, ms[MANY - 1], window.others);
        series_add(&main_us, (double)main_ns / 1e3 / MANY, window.others);
        crew_stop(&crew);
        UNTIL(feed_at_rest(&pfeedd, "one"))
        {
        }
    }
    daemon_stop(&pfeedd);
    printf("attach: %zu rounds of %d processes, %zu of them quiet\n", medians.n, MANY, series_quiet(&medians));
    printf("  pfeed_open: median %.3f ms, 99 %% within %.3f ms, worst of a round %.3f ms, wall time\n", series_median(&medians),
           series_median(&tails), series_median(&worsts));
    printf("  the daemon's main thread, with the grants: %.1f us of CPU each\n", series_median(&main_us));
    printf("  target: each at most %.0f ms: %s\n", ATTACH_TARGET, verdict(series_median(&worsts) <= ATTACH_TARGET, &worsts));
    printf(
        "json: "
        "{\"bench\":\"attach\",\"n\":%d,\"median_ms\":%.4f,\"p99_ms\":%.4f,\"worst_ms\":%.4f,\"main_us\":%.2f,\"quiet\":%zu}\n\n",
        MANY, series_median(&medians), series_median(&tails), series_median(&worsts), series_median(&main_us),
        series_quiet(&medians));
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

/* As they come: each takes so many as fast as it can. Ready: the daemon rests before each burst, and no burst uses up what is granted. */
struct side {
    const char *name, *json;
    struct crew *crew;
    uint32_t bursts, batches;                  /* that each consumer takes in a burst */
    struct series trainer_ns, main_ns, all_ns; /* CPU per batch and consumer */
};

static struct crew few, many;
static struct side sides[] = {
    { .name = "as they come", .json = "few", .crew = &few, .bursts = 1, .batches = 4096 },
    { .name = "as they come", .json = "many", .crew = &many, .bursts = 1, .batches = 256 },
    { .name = "ready", .json = "few_ready", .crew = &few, .bursts = 16, .batches = READY },
    { .name = "ready", .json = "many_ready", .crew = &many, .bursts = 4, .batches = READY },
};

/* Others' use of the machine. */
static double hand_off(struct side *side)
{
    const double handed = (double)side->crew->n * side->bursts * side->batches;
    int64_t main_ns, trainer_ns;
    struct window window;

    rest(pfeedd.pid);
    window_open(&window);
    main_ns = main_thread_ns(pfeedd.pid);
    trainer_ns = crew_ns(side->crew);
    for (uint32_t i = 0; i < side->bursts; i++) {
        crew_take(side->crew, side->batches);
        rest(pfeedd.pid);
    }
    trainer_ns = crew_ns(side->crew) - trainer_ns;
    main_ns = main_thread_ns(pfeedd.pid) - main_ns;
    window_close(&window);
    series_add(&side->trainer_ns, (double)trainer_ns / handed, window.others);
    series_add(&side->main_ns, (double)main_ns / handed, window.others);
    series_add(&side->all_ns, (double)(main_ns + trainer_ns) / handed, window.others);
    return window.others;
}

static void compare(struct side *pair, struct series *ratio)
{
    double a = hand_off(&pair[0]), b = hand_off(&pair[1]);

    series_add(ratio, pair[1].all_ns.values[ratio->n] / pair[0].all_ns.values[ratio->n], a > b ? a : b);
}

static void show_consumers(const struct series *ratios, const struct series *stopped_ns)
{
    bool held = series_median(&ratios[0]) <= RATIO_TARGET && series_median(&ratios[1]) <= RATIO_TARGET;

    printf("consumers: %zu rounds, %zu of them quiet; ns of CPU a batch and consumer\n", ratios[1].n, series_quiet(&ratios[1]));
    printf("                             trainers   main thread         both\n");
    for (size_t i = 0; i < 4; i++) {
        printf("  %3u consumers, %-12s %8.0f %12.0f %12.0f\n", sides[i].crew->n, sides[i].name,
               series_median(&sides[i].trainer_ns), series_median(&sides[i].main_ns), series_median(&sides[i].all_ns));
        if (i % 2 == 1)
            printf("  ratio %.3f (spread %.1f %%)\n", series_median(&ratios[i / 2]), 100 * series_spread(&ratios[i / 2]));
    }
    printf("  of %d consumers one stops: main thread %.0f ns a batch until all others wait for it\n", MANY,
           series_median(stopped_ns));
    printf("  target: at most %.1f: %s\n", RATIO_TARGET, verdict(held, &ratios[1]));
    printf("json: "
           "{\"bench\":\"consumers\",\"few\":%d,\"many\":%d,\"ratio\":%.4f,\"ready_ratio\":%.4f,\"stopped_main_ns\":%.0f,"
           "\"quiet\":%zu",
           FEW, MANY, series_median(&ratios[0]), series_median(&ratios[1]), series_median(stopped_ns), series_quiet(&ratios[1]));
    for (size_t i = 0; i < 4; i++)
        printf(",\"%s_trainer_ns\":%.0f,\"%s_main_ns\":%.0f", sides[i].json, series_median(&sides[i].trainer_ns), sides[i].json,
               series_median(&sides[i].main_ns));
    printf("}\n\n");
}

/* One of the many stops: the others use up all slots and wait for it. */
static void one_stops(struct series *main_ns)
{
    struct window window;
    uint64_t taken, before;
    int64_t cpu_ns;

    rest(pfeedd.pid);
    trainer_stop(many.trainers[0]);
    window_open(&window);
    taken = crew_batches(&many);
    cpu_ns = main_thread_ns(pfeedd.pid);
    for (uint32_t i = 0; i < MANY; i++)
        word_add(&many.words[i].quota, MORE_THAN_SLOTS);
    do {
        before = crew_batches(&many);
        pause_ns(100 * MS);
        rest(pfeedd.pid);
    } while (crew_batches(&many) != before);
    window_close(&window);
    CHECK(before > taken, "nobody took anything");
    series_add(main_ns, (double)(main_thread_ns(pfeedd.pid) - cpu_ns) / (double)(before - taken), window.others);
    trainer_continue(many.trainers[0]);
    crew_take(&many, 0); /* until all have had theirs */
}

static void consumers(void)
{
    static struct series ratios[2], stopped_ns;

    daemon_start(&pfeedd, DAEMON FEED("few", "4") FEED("many", "256"));
    crew_start(&few, &pfeedd, "few", FEW);
    crew_start(&many, &pfeedd, "many", MANY);
    while (more_rounds(&ratios[1])) {
        compare(&sides[0], &ratios[0]);
        compare(&sides[2], &ratios[1]);
        one_stops(&stopped_ns);
    }
    crew_stop(&few);
    crew_stop(&many);
    daemon_stop(&pfeedd);
    show_consumers(ratios, &stopped_ns);
}

/* ---- the main thread ------------------------------------------------------------------------------------------------ */

struct paced {
    const char *name;
    uint32_t crews, n; /* so many feeds with n consumers each */
    struct series share, rate;
};

static const char *const feeds[PACED] = { "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7" };
static struct paced together = { .name = "on one feed", .crews = 1, .n = PACED };
static struct paced apart = { .name = "each on its own", .crews = PACED, .n = 1 };

static uint64_t taken_by(const struct crew *crews, uint32_t n)
{
    uint64_t batches = 0;

    for (uint32_t i = 0; i < n; i++)
        batches += crew_batches(&crews[i]);
    return batches;
}

static void run_paced(struct paced *paced)
{
    static struct crew crews[PACED];
    struct window window;
    uint64_t batches;
    int64_t main_ns;

    for (uint32_t i = 0; i < paced->crews; i++) {
        crew_start_paced(&crews[i], &pfeedd, feeds[i], paced->n, PACE_NS);
        crew_run(&crews[i]);
    }
    pause_ns(SECOND / 4);
    window_open(&window);
    batches = taken_by(crews, paced->crews);
    main_ns = main_thread_ns(pfeedd.pid);
    pause_ns(PACED_WINDOW);
    main_ns = main_thread_ns(pfeedd.pid) - main_ns;
    batches = taken_by(crews, paced->crews) - batches;
    window_close(&window);
    series_add(&paced->share, 100.0 * (double)main_ns / (double)window.wall_ns, window.others);
    series_add(&paced->rate, (double)batches * 1e9 / (double)window.wall_ns, window.others);
    for (uint32_t i = 0; i < paced->crews; i++)
        crew_stop(&crews[i]);
    UNTIL(feed_at_rest(&pfeedd, feeds[0]))
    {
    }
}

static void show_paced(const struct paced *paced)
{
    printf("  %u trainers %-16s %6.0f batches/s   main thread %.3f %% of a core, %.2f us a batch\n", PACED, paced->name,
           series_median(&paced->rate), series_median(&paced->share),
           series_median(&paced->share) * 1e4 / series_median(&paced->rate));
}

static void thread(void)
{
    double worst;

    daemon_start(&pfeedd, DAEMON FEED("f0", "1") FEED("f1", "1") FEED("f2", "1") FEED("f3", "1") FEED("f4", "1") FEED("f5", "1")
                              FEED("f6", "1") FEED("f7", "1"));
    while (more_rounds(&apart.share)) {
        run_paced(&together);
        run_paced(&apart);
    }
    daemon_stop(&pfeedd);
    worst = series_median(&together.share) > series_median(&apart.share) ? series_median(&together.share)
                                                                         : series_median(&apart.share);
    printf("thread: %zu rounds, %zu of them quiet\n", apart.share.n, series_quiet(&apart.share));
    show_paced(&together);
    show_paced(&apart);
    printf("  target: less than %.0f %% of a core: %s\n", THREAD_TARGET, verdict(worst < THREAD_TARGET, &apart.share));
    printf(
        "json: "
        "{\"bench\":\"thread\",\"together_percent\":%.4f,\"together_batches_s\":%.0f,\"apart_percent\":%.4f,\"apart_batches_s\":"
        "%.0f,\"quiet\":%zu}\n\n",
        series_median(&together.share), series_median(&together.rate), series_median(&apart.share), series_median(&apart.rate),
        series_quiet(&apart.share));
}

int main(int argc, char **argv)
{
    bench_start("many jobs");
    if (bench_wants(argc, argv, "death"))
        death();
    if (bench_wants(argc, argv, "attach"))
        attach();
    if (bench_wants(argc, argv, "consumers"))
        consumers();
    if (bench_wants(argc, argv, "thread"))
        thread();
    return bench_end();
}
