/* SPDX-License-Identifier: MIT */
/*
 * Decoded once for all, and by all cores, on photographs (recipe of DESIGN section 12). Parts, which may be named on the command
 * line:
 *   jobs     three jobs on one feed (gang: 3) against one job on another feed of the same recipe, one worker: the daemon's CPU
 *            time per decoded row may differ by 5 %. Each slot is an epoch; a window fills the same epochs on both.
 *   workers  rows per second of 2 workers against 1 gain at least 0.98 of what the bare loop (decode/jpeg.h, the same crops,
 *            files in memory) gains on 2 threads, all in the same run. These are wall times: they need both CPUs for themselves.
 * A window begins with the daemon at rest, its slots full; the consumers give back EPOCHS batches at once, and it ends when the
 * daemon rests again, so that all of it is filling.
 */
#include <stdio.h>

#include "bench.h"
#include "pictures.h"

#define SLOTS       4
#define EPOCHS      2
#define PLANNED     (SLOTS + EPOCHS * ROUNDS)
#define JOBS_TARGET 0.05
#define GAIN_TARGET 0.98

struct side {
    struct daemon daemon;
    const char *feed;
    struct crew crew;
};

static struct side one = { .feed = "one" }, three = { .feed = "three" };
static struct side one_worker = { .feed = "one" }, two_workers = { .feed = "one" };
static struct pictures *pictures;
static uint32_t count;
static const char *path;

static struct series one_us, three_us, jobs_ratio;         /* CPU a row */
static struct series one_wall, three_wall;                 /* rows a second */
static struct series wall1, wall2, bare_wall1, bare_wall2; /* rows a second */
static struct series cpu1, cpu2, bare_cpu1, bare_cpu2;     /* CPU a row */
static struct series gain, bare_gain, gain_ratio;

static void start_daemon(struct daemon *daemon, uint32_t workers, bool with_three)
{
    char feeds[2][2048] = { "", "" }, yaml[8192];

    pictures_feed(feeds[0], sizeof(feeds[0]), "one", path, count, SLOTS, 1);
    if (with_three)
        pictures_feed(feeds[1], sizeof(feeds[1]), "three", path, count, SLOTS, 3);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: %u, memory: 3GiB }\nfeeds:\n%s%s", workers, feeds[0], feeds[1]);
    daemon_start(daemon, yaml);
}

static void begin(struct side *side, uint32_t jobs)
{
    crew_start(&side->crew, &side->daemon, side->feed, jobs);
    rest(side->daemon.pid);
}

/* CPU time in all, and wall time until the last row. */
static int64_t fill(struct side *side, pid_t pid, int64_t *wall_ns)
{
    uint64_t rows = feed_now(&side->daemon, side->feed).rows_filled;
    int64_t cpu_ns, start_ns;

    rest(pid);
    cpu_ns = process_ns(pid);
    start_ns = now_ns();
    crew_take(&side->crew, EPOCHS);
    *wall_ns = rest(pid) - start_ns;
    cpu_ns = process_ns(pid) - cpu_ns;
    rows = feed_now(&side->daemon, side->feed).rows_filled - rows;
    CHECK(rows == (uint64_t)EPOCHS * count, "%llu rows were filled in a window", (unsigned long long)rows);
    return cpu_ns;
}

static void measure_jobs(void)
{
    double rows = (double)EPOCHS * count, one_cpu, three_cpu;
    struct window window;
    int64_t one_ns, three_ns;

    window_open(&window);
    one_cpu = (double)fill(&one, one.daemon.pid, &one_ns);
    three_cpu = (double)fill(&three, one.daemon.pid, &three_ns);
    window_close(&window);
    series_add(&one_us, one_cpu / 1e3 / rows, window.others);
    series_add(&three_us, three_cpu / 1e3 / rows, window.others);
    series_add(&one_wall, rows * 1e9 / (double)one_ns, window.others);
    series_add(&three_wall, rows * 1e9 / (double)three_ns, window.others);
    series_add(&jobs_ratio, three_cpu / one_cpu, window.others);
}

static void measure_workers(uint32_t epoch)
{
    double rows = (double)EPOCHS * count;
    int64_t wall_ns[4], cpu_ns[4];
    struct window window;

    window_open(&window);
    cpu_ns[0] = fill(&one_worker, one_worker.daemon.pid, &wall_ns[0]);
    cpu_ns[1] = fill(&two_workers, two_workers.daemon.pid, &wall_ns[1]);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        int64_t start_ns = now_ns();

        cpu_ns[threads + 1] = pictures_decode(pictures, epoch, EPOCHS, threads);
        wall_ns[threads + 1] = now_ns() - start_ns;
    }
    window_close(&window);
    series_add(&wall1, rows * 1e9 / (double)wall_ns[0], window.others);
    series_add(&wall2, rows * 1e9 / (double)wall_ns[1], window.others);
    series_add(&bare_wall1, rows * 1e9 / (double)wall_ns[2], window.others);
    series_add(&bare_wall2, rows * 1e9 / (double)wall_ns[3], window.others);
    series_add(&cpu1, (double)cpu_ns[0] / 1e3 / rows, window.others);
    series_add(&cpu2, (double)cpu_ns[1] / 1e3 / rows, window.others);
    series_add(&bare_cpu1, (double)cpu_ns[2] / 1e3 / rows, window.others);
    series_add(&bare_cpu2, (double)cpu_ns[3] / 1e3 / rows, window.others);
    series_add(&gain, (double)wall_ns[0] / (double)wall_ns[1], window.others);
    series_add(&bare_gain, (double)wall_ns[2] / (double)wall_ns[3], window.others);
    series_add(&gain_ratio, (double)wall_ns[0] / (double)wall_ns[1] * (double)wall_ns[3] / (double)wall_ns[2], window.others);
}

static void jobs(void)
{
    struct pf_row_feed row;

    start_daemon(&one.daemon, 1, true);
    three.daemon = one.daemon; /* its connection */
    begin(&one, 1);
    begin(&three, 3);
    while (more_rounds(&jobs_ratio))
        measure_jobs();
    row = feed_now(&one.daemon, "three");
    CHECK(row.rows_delivered == 3 * EPOCHS * count * jobs_ratio.n, "three jobs were given %llu rows",
          (unsigned long long)row.rows_delivered);
    crew_stop(&three.crew);
    crew_stop(&one.crew);
    daemon_stop(&one.daemon);
    printf("jobs: %zu rounds of %u rows, %zu of them quiet\n", jobs_ratio.n, EPOCHS * count, series_quiet(&jobs_ratio));
    printf("  1 job   %8.1f us of daemon CPU a decoded row, %8.1f rows/s by the clock\n", series_median(&one_us),
           series_median(&one_wall));
    printf("  3 jobs  %8.1f                              %8.1f, each decoded once and delivered 3 times\n",
           series_median(&three_us), series_median(&three_wall));
    printf("  ratio   %8.4f (spread %.2f %%)\n", series_median(&jobs_ratio), 100 * series_spread(&jobs_ratio));
    printf("  target: at most %.2f: %s\n\n", 1 + JOBS_TARGET,
           verdict(series_median(&jobs_ratio) <= 1 + JOBS_TARGET, &jobs_ratio));
    printf(
        "json: "
        "{\"bench\":\"sharing\",\"one_us\":%.1f,\"three_us\":%.1f,\"one_rows_s\":%.1f,\"three_rows_s\":%.1f,\"jobs_ratio\":%.4f,"
        "\"jobs_quiet\":%zu}\n\n",
        series_median(&one_us), series_median(&three_us), series_median(&one_wall), series_median(&three_wall),
        series_median(&jobs_ratio), series_quiet(&jobs_ratio));
}

static void workers(void)
{
    uint32_t epoch = SLOTS;

    start_daemon(&one_worker.daemon, 1, false);
    start_daemon(&two_workers.daemon, 2, false);
    pictures = pictures_open(two_workers.daemon.config, PLANNED, 1);
    begin(&one_worker, 1);
    begin(&two_workers, 1);
    for (; more_rounds(&gain_ratio); epoch += EPOCHS)
        measure_workers(epoch);
    crew_stop(&two_workers.crew);
    crew_stop(&one_worker.crew);
    printf("workers: %zu rounds of %u rows, %zu of them quiet\n", gain_ratio.n, EPOCHS * count, series_quiet(&gain_ratio));
    printf("               rows/s: 1      2     gain      CPU us/row: 1       2\n");
    printf("  daemon      %9.1f %9.1f %7.3f %15.1f %9.1f\n", series_median(&wall1), series_median(&wall2), series_median(&gain),
           series_median(&cpu1), series_median(&cpu2));
    printf("  bare loop   %9.1f %9.1f %7.3f %15.1f %9.1f\n", series_median(&bare_wall1), series_median(&bare_wall2),
           series_median(&bare_gain), series_median(&bare_cpu1), series_median(&bare_cpu2));
    printf("  ratio of the gains %.3f (spread %.1f %%)\n", series_median(&gain_ratio), 100 * series_spread(&gain_ratio));
    printf("  target: at least %.2f: %s\n\n", GAIN_TARGET, verdict(series_median(&gain_ratio) >= GAIN_TARGET, &gain_ratio));
    printf("json: "
           "{\"bench\":\"workers\",\"workers1_rows_s\":%.1f,\"workers2_rows_s\":%.1f,\"gain\":%.4f,\"bare1_rows_s\":%.1f,"
           "\"bare2_rows_s\":%.1f,\"bare_gain\":%.4f,\"gain_ratio\":%.4f,\"gain_quiet\":%zu,\"rounds\":%zu}\n",
           series_median(&wall1), series_median(&wall2), series_median(&gain), series_median(&bare_wall1),
           series_median(&bare_wall2), series_median(&bare_gain), series_median(&gain_ratio), series_quiet(&gain_ratio),
           gain_ratio.n);
}

int main(int argc, char **argv)
{
    bench_start("sharing");
    path = bench_pictures();
    count = pictures_in(path);
    if (bench_wants(argc, argv, "jobs"))
        jobs();
    if (bench_wants(argc, argv, "workers"))
        workers();
    return bench_end();
}
