/* SPDX-License-Identifier: MIT */
/*
 * Rows per CPU-second of the daemon on photographs, recipe of DESIGN section 12, against libjpeg-turbo decoding the same crops
 * in a bare loop. Everything but decoding and the resize kernel (order, reads, claiming, publishing, hand-off, the main thread)
 * may cost at most 3 % of the bare loop.
 *
 * Four things are done for the same rows in turn, each on the same CPU, and their CPU times compared round by round:
 *   bare    open, skip, crop, read rows (decode/jpeg.h); no resize; files in memory
 *   made    decode/image.c: the same and the fused kernel, into memory that lies as the slots do; files in memory
 *   read    as made, each file read anew by the daemon's source (page cache)
 *   daemon  all threads of pfeedd with one worker, between two states of rest; the same files
 * So made - bare is the kernel's, daemon - made everything else's. A slot is an epoch of all pictures, so that a window of E
 * batches fills exactly the epochs that the others then work through; the first such batch is compared byte by byte.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "pictures.h"

#define SLOTS    4
#define EPOCHS   2 /* a window */
#define PLANNED  (SLOTS + 1 + EPOCHS * ROUNDS)
#define TARGET   0.03

static struct daemon pfeedd;
static struct pictures *pictures;
static struct series bare_us, made_us, daemon_us, main_us, read_us, kernel_share, read_share, rest_share;

static void compare_epoch(struct pfeed *pf)
{
    size_t bytes = pictures_row_bytes(pictures);
    const struct pfeed_tensor *image;
    struct pfeed_batch *batch;

    CHECK(pfeed_next(pf, &batch, -1) == 0, "%s", pfeed_error(pf));
    image = pfeed_tensor(batch, "image");
    for (uint64_t row = 0; row < pictures_count(pictures); row++)
        CHECK(memcmp((const char *)image->data + row * bytes, pictures_row(pictures, 0, row), bytes) == 0,
              "row %llu is not what this process makes of it", (unsigned long long)row);
    CHECK(pfeed_done(pf, batch) == 0, "%s", pfeed_error(pf));
}

/* The daemon fills epochs first .. first + EPOCHS - 1. */
static int64_t daemon_window(struct pfeed *pf, int64_t *main_ns)
{
    uint64_t rows = feed_now(&pfeedd, "photographs").rows_filled;
    int64_t cpu_ns;

    rest(pfeedd.pid);
    cpu_ns = process_ns(pfeedd.pid);
    *main_ns = main_thread_ns(pfeedd.pid);
    consume(pf, EPOCHS);
    rest(pfeedd.pid);
    *main_ns = main_thread_ns(pfeedd.pid) - *main_ns;
    cpu_ns = process_ns(pfeedd.pid) - cpu_ns;
    rows = feed_now(&pfeedd, "photographs").rows_filled - rows;
    CHECK(rows == EPOCHS * pictures_count(pictures), "%llu rows were filled in a window", (unsigned long long)rows);
    return cpu_ns;
}

static void measure(struct pfeed *pf, uint32_t epoch)
{
    double rows = (double)(EPOCHS * pictures_count(pictures)), bare, made, read, all, others;
    int64_t main_ns;
    struct window window;

    window_open(&window);
    pin(0);
    bare = (double)pictures_decode(pictures, epoch, EPOCHS, 1) / 1e3 / rows;
    pin(1);
    all = (double)daemon_window(pf, &main_ns) / 1e3 / rows;
    pin(0);
    read = (double)pictures_make(pictures, epoch, EPOCHS, true) / 1e3 / rows;
    made = (double)pictures_make(pictures, epoch, EPOCHS, false) / 1e3 / rows;
    window_close(&window);
    others = window.others;
    series_add(&bare_us, bare, others);
    series_add(&made_us, made, others);
    series_add(&daemon_us, all, others);
    series_add(&main_us, (double)main_ns / 1e3 / rows, others);
    series_add(&read_us, read, others);
    series_add(&read_share, (read - made) / bare, others);
    series_add(&kernel_share, (made - bare) / bare, others);
    series_add(&rest_share, (all - made) / bare, others);
}

static void row(const char *name, const struct series *series)
{
    double us = series_median(series), bare = series_median(&bare_us);

    printf("%-34s %9.1f %9.1f %9.1f %% %8.1f %%\n", name, us, 1e6 / us, 100 * us / bare, 100 * series_spread(series));
}

int main(void)
{
    const char *path;
    char feeds[2048], yaml[4096];
    uint32_t count, epoch = SLOTS + 1;
    double rest_of_it;
    struct pfeed *pf;

    bench_start("photographs");
    path = bench_pictures();
    count = pictures_in(path);
    pictures_feed(feeds, sizeof(feeds), "photographs", path, count, SLOTS, 1);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: 1, memory: 2GiB }\nfeeds:\n%s", feeds);
    pin(0);
    daemon_start(&pfeedd, yaml);
    pictures = pictures_open(pfeedd.config, PLANNED, SLOTS);
    pf = consumer_open(&pfeedd, "photographs", NULL);
    rest(pfeedd.pid);
    compare_epoch(pf); /* epoch 0; warms everything up */
    rest(pfeedd.pid);
    for (; more_rounds(&rest_share); epoch += EPOCHS)
        measure(pf, epoch);
    pfeed_close(pf);
    rest_of_it = series_median(&rest_share);
    printf("%u pictures, %.0f pixels decoded a crop; %zu rounds of %u rows, %zu of them quiet\n\n", count, pictures_pixels(pictures),
           rest_share.n, EPOCHS * count, series_quiet(&rest_share));
    printf("CPU                                   us/row rows/CPU-s    of bare    spread\n");
    row("bare: libjpeg-turbo, same crops", &bare_us);
    row("made: decode + kernel, no daemon", &made_us);
    row("read: the same, files read anew", &read_us);
    row("daemon, 1 worker, 1 job", &daemon_us);
    printf("\n%-34s %9.1f %19.1f %%\n", "the scalar kernel (made - bare)", series_median(&kernel_share) * series_median(&bare_us),
           100 * series_median(&kernel_share));
    printf("%-34s %9.1f %19.1f %%\n", "everything else (daemon - made)", rest_of_it * series_median(&bare_us), 100 * rest_of_it);
    printf("%-34s %9.1f %19.1f %%\n", "  of it reads (read - made)", series_median(&read_share) * series_median(&bare_us),
           100 * series_median(&read_share));
    printf("%-34s %9.1f %19.2f %%\n", "  of it the main thread", series_median(&main_us), 100 * series_median(&main_us) / series_median(&bare_us));
    printf("\ntarget: everything else <= %.0f %% of the bare loop: %s\n", 100 * TARGET, rest_of_it <= TARGET ? "held" : "MISSED");
    printf("json: {\"bench\":\"images\",\"target\":%.2f,\"quiet\":%zu,\"rounds\":%zu,\"bare_us\":%.1f,\"made_us\":%.1f,\"daemon_us\":%.1f,"
           "\"main_us\":%.1f,\"read_us\":%.1f,\"kernel_share\":%.4f,\"read_share\":%.4f,\"rest_share\":%.4f,\"daemon_rows_cpu_s\":%.1f}\n",
           TARGET, series_quiet(&rest_share), rest_share.n, series_median(&bare_us), series_median(&made_us), series_median(&daemon_us),
           series_median(&main_us), series_median(&read_us), series_median(&kernel_share), series_median(&read_share), rest_of_it, 1e6 / series_median(&daemon_us));
    return bench_end();
}
