/* SPDX-License-Identifier: MIT */
/*
 * Storage that lets its readers wait, with and without reading ahead: rows per second of an epoch of small files, 2 workers, on a
 * file system of the bench's own (tests/system/slowfs.h) that answers each read after 1, 5 and 50 ms. Without, workers get
 * 2 / latency rows per second; with `read_ahead: 64` and `auto`, as many as there are buffers may be under way. In turn, an epoch
 * each. Target: at 50 ms, 64 ahead give at least 20 times as much as none (32 would be all of it, were the machine not there).
 */
#include <pfeed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "history.h"
#include "slowfs.h"

#define FILES         256u
#define BYTES         16384u
#define BATCH         16u
#define ROUNDS_WANTED 5
#define TARGET        20.0

enum side { NONE, SIXTY_FOUR, AUTO, SIDES };
static const char *const settings[SIDES] = { "0", "64", "auto" };
static struct daemon daemons[SIDES];
static char folder[] = "/tmp/pfeed-bench-cold-XXXXXX";
static struct slowfs *slow;

static void start(enum side side)
{
    char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 256MiB, read_ahead: %s }\nfeeds:\n  cold:\n"
             "    source: { type: list, path: %s/list.csv, root: %s }\n    batch: %u\n    slots: 12\n"
             "    fields: { x: { from: image, decode: raw, dtype: uint8, shape: [%u] } }\n",
             settings[side], folder, slow->at, BATCH, BYTES);
    daemon_start(&daemons[side], yaml);
}

/* Rows a second of an epoch, from the first question to the last batch. */
static double epoch(enum side side)
{
    struct plan plan = { .daemon = &daemons[side], .feed = "cold", .epochs = 1 };
    struct pfeed *pf = plan_open(&plan);
    const int64_t start_ns = now_ns();

    for (uint32_t step = 0; step < FILES / BATCH; step++)
        must_done(pf, must_next(pf));
    pfeed_close(pf);
    return FILES * 1e9 / (double)(now_ns() - start_ns);
}

static double measure(uint64_t latency_ms)
{
    static struct series rows[SIDES], ratio[2];
    struct pf_row_feed row;

    memset(rows, 0, sizeof(rows));
    memset(ratio, 0, sizeof(ratio));
    count_set(&slow->delay_ns, latency_ms * MS);
    for (int i = 0; i < ROUNDS_WANTED; i++) {
        struct window window;
        double rate[SIDES];

        window_open(&window);
        for (int side = 0; side < SIDES; side++)
            rate[side] = epoch((enum side)side);
        window_close(&window);
        for (int side = 0; side < SIDES; side++)
            series_add(&rows[side], rate[side], window.others);
        series_add(&ratio[0], rate[SIXTY_FOUR] / rate[NONE], window.others);
        series_add(&ratio[1], rate[AUTO] / rate[NONE], window.others);
    }
    row = feed_now(&daemons[AUTO], "cold");
    printf("%3llu ms  none %8.0f rows/s   64 %8.0f (x %.1f)   auto %8.0f (x %.1f, depth %llu)\n", (unsigned long long)latency_ms,
           series_median(&rows[NONE]), series_median(&rows[SIXTY_FOUR]), series_median(&ratio[0]), series_median(&rows[AUTO]),
           series_median(&ratio[1]), (unsigned long long)row.read_ahead);
    if (latency_ms == 50)
        printf("target: at least x %.0f at 50 ms: %s\n", TARGET, verdict(series_median(&ratio[0]) >= TARGET, &ratio[0]));
    return series_median(&ratio[0]);
}

int main(void)
{
    static const uint64_t latencies_ms[] = { 1, 5, 50 };
    double ratios[3];
    char path[96];
    FILE *list;

    bench_start("cold");
    CHECK(mkdtemp(folder), "cannot make %s", folder);
    slow = slowfs_start(folder, FILES, BYTES);
    snprintf(path, sizeof(path), "%s/list.csv", folder);
    list = fopen(path, "we");
    CHECK(list && fputs("path\n", list) >= 0, "cannot write %s", path);
    for (uint32_t i = 0; i < FILES; i++)
        fprintf(list, "f%03u\n", i);
    fclose(list);
    word_set(&slow->rule, SLOWFS_DELAY);
    for (int side = 0; side < SIDES; side++)
        start((enum side)side);
    for (int i = 0; i < 3; i++)
        ratios[i] = measure(latencies_ms[i]);
    printf("json: {\"bench\":\"cold\",\"x_1ms\":%.2f,\"x_5ms\":%.2f,\"x_50ms\":%.2f}\n\n", ratios[0], ratios[1], ratios[2]);
    for (int side = 0; side < SIDES; side++)
        daemon_stop(&daemons[side]);
    slowfs_end(slow);
    remove_folder(folder);
    return bench_end();
}
