/* SPDX-License-Identifier: MIT */
/*
 * What the daemon itself can carry: rows of 4 KB that cost next to nothing to make, through 1 and 4 jobs (a gang: every row is
 * made once and delivered to each). There is no target; the figures stand beside each other for the next change to be held
 * against. Consumers are processes that take and give back at once, so that all of it shares the machine's CPUs.
 */
#include <stdio.h>

#include "bench.h"

#define WINDOW_MS 700
#define WARM_MS   150
#define ROW_BYTES 4096

static const struct kind {
    const char *feed;
    uint32_t batch, jobs;
} kinds[] = { { "b64j1", 64, 1 }, { "b64j4", 64, 4 }, { "b256j1", 256, 1 }, { "b256j4", 256, 4 } };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct result {
    struct series rows, batches, row_ns, main_ns, consumer_ns;
};

static struct result results[KINDS];
static struct daemon pfeedd;

static void start_daemon(void)
{
    char yaml[4096];
    int at = snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { memory: 512MiB }\nfeeds:\n");

    for (size_t k = 0; k < KINDS; k++)
        at += snprintf(yaml + at, sizeof(yaml) - (size_t)at,
                       "  %s:\n    source: { type: synthetic, rows: 1000000 }\n    batch: %u\n    slots: 16\n    gang: %u\n"
                       "    fields: { x: { dtype: float32, shape: [%d] } }\n",
                       kinds[k].feed, kinds[k].batch, kinds[k].jobs, ROW_BYTES / 4);
    daemon_start(&pfeedd, yaml);
}

static void measure(const struct kind *kind, struct result *result)
{
    struct window window;
    struct crew crew;
    int64_t cpu_ns, main_ns, crew_cpu_ns;
    uint64_t rows, batches;
    double seconds;

    crew_start(&crew, &pfeedd, kind->feed, kind->jobs);
    crew_run(&crew);
    pause_ns(WARM_MS * MS);
    window_open(&window);
    rows = feed_now(&pfeedd, kind->feed).rows_filled;
    batches = crew_batches(&crew);
    cpu_ns = process_ns(pfeedd.pid);
    main_ns = main_thread_ns(pfeedd.pid);
    crew_cpu_ns = crew_ns(&crew);
    pause_ns(WINDOW_MS * MS);
    crew_cpu_ns = crew_ns(&crew) - crew_cpu_ns;
    main_ns = main_thread_ns(pfeedd.pid) - main_ns;
    cpu_ns = process_ns(pfeedd.pid) - cpu_ns;
    batches = crew_batches(&crew) - batches;
    rows = feed_now(&pfeedd, kind->feed).rows_filled - rows;
    window_close(&window);
    crew_stop(&crew);
    seconds = (double)window.wall_ns / 1e9;
    series_add(&result->rows, (double)rows / seconds, window.others);
    series_add(&result->batches, (double)batches / seconds, window.others);
    series_add(&result->row_ns, (double)cpu_ns / (double)rows, window.others);
    series_add(&result->main_ns, (double)main_ns / (double)rows * kind->batch, window.others);
    series_add(&result->consumer_ns, (double)crew_cpu_ns / (double)batches, window.others);
    UNTIL(feed_at_rest(&pfeedd, kind->feed));
}

int main(void)
{
    struct pf_row_daemon about;

    bench_start("synthetic rows of 4 KB");
    start_daemon();
    stat_daemon(&pfeedd, &about);
    while (more_rounds(&results[KINDS - 1].rows))
        for (size_t k = 0; k < KINDS; k++)
            measure(&kinds[k], &results[k]);
    printf("%u workers; %zu rounds, %zu of them quiet\n\n", about.workers, results[0].rows.n,
           series_quiet(&results[KINDS - 1].rows));
    printf("batch jobs    made         delivered                 daemon CPU            consumer CPU\n");
    printf("              rows/s       rows/s     batches/s   ns/row  main us/batch   us/batch   spread of rows/s\n");
    for (size_t k = 0; k < KINDS; k++) {
        struct result *r = &results[k];

        printf("%5u %4u %9.0f %12.0f %12.0f %8.0f %12.2f %12.2f %9.1f %%\n", kinds[k].batch, kinds[k].jobs,
               series_median(&r->rows), series_median(&r->batches) * kinds[k].batch, series_median(&r->batches),
               series_median(&r->row_ns), series_median(&r->main_ns) / 1e3, series_median(&r->consumer_ns) / 1e3,
               100 * series_spread(&r->rows));
    }
    printf("\nno target\njson: {\"bench\":\"synthetic\",\"workers\":%u,\"quiet\":%zu", about.workers,
           series_quiet(&results[KINDS - 1].rows));
    for (size_t k = 0; k < KINDS; k++) {
        struct result *r = &results[k];

        printf(",\"%s\":{\"rows_s\":%.0f,\"batches_s\":%.0f,\"daemon_ns_row\":%.0f,\"main_ns_batch\":%.0f,\"consumer_ns_batch\":%"
               ".0f}",
               kinds[k].feed, series_median(&r->rows), series_median(&r->batches), series_median(&r->row_ns),
               series_median(&r->main_ns), series_median(&r->consumer_ns));
    }
    printf("}\n");
    return bench_end();
}
