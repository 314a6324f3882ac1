/* SPDX-License-Identifier: MIT */
/*
 * Rows per CPU-second of the daemon on photographs, recipe of DESIGN section 12, against libjpeg-turbo decoding the same crops
 * in a bare loop. Everything but decoding and the resize kernel (order, reads, claiming, publishing, hand-off, the main thread)
 * may cost at most 3 % of the bare loop.
 *
 * Five things are done in turn, each on the same CPU and for the same rows (all pictures, epochs 0 and 1), round after round:
 *   bare    open, skip, crop, read rows (decode/jpeg.h); no resize; files in memory
 *   made    decode/image.c: the same and the fused kernel, into memory as large as the slots; files in memory
 *   read    as made, each file read anew by the daemon's source (page cache)
 *   kernel  kernel_plan and kernel_run from the crops' pixels, which are in memory
 *   daemon  all threads of pfeedd with one worker, from rest to rest: a consumer attaches, and all slots are filled
 * So made - bare is the kernel's, daemon - made everything else's. As every round does the same work, and others on the machine
 * can only make it longer, the figures are lower quartiles over the rounds. The first batch is compared byte by byte.
 *
 * `bench_images turns FILE` is for images.py, which measures other loaders in turn: it writes the crops to FILE, says "ready", and
 * for each line that it reads does all five once and prints them as a line of JSON. With PFEED_BENCH_CACHE={ decoded: SIZE } only the
 * daemon does, which then has a recipe that this process does not follow.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pictures.h"
#include "transform/kernel.h"

#define EPOCHS   2 /* that the slots hold */
#define SLOTS    4
#define REPEATED 20 /* rounds */
#define TARGET   0.03

enum thing { BARE, MADE, READ, KERNEL, DAEMON, THINGS };

static const char *const names[THINGS] = {
    [BARE] = "bare: libjpeg-turbo, same crops", [MADE] = "made: decode + kernel, no daemon",
    [READ] = "read: the same, files read anew", [KERNEL] = "kernel alone, crops in memory",
    [DAEMON] = "daemon, 1 worker, 1 job",
};
static struct series things[THINGS], walls[THINGS], main_us; /* CPU a row; time by the clock; of the main thread */
static struct daemon pfeedd;
static struct pictures *pictures;
static uint32_t batch;
static bool cached; /* the daemon alone */

static void compare(struct pfeed *pf)
{
    size_t bytes = pictures_row_bytes(pictures);
    const struct pfeed_tensor *image;
    struct pfeed_batch *first;

    CHECK(pfeed_next(pf, &first, -1) == 0, "%s", pfeed_error(pf));
    image = pfeed_tensor(first, "image");
    for (uint64_t row = 0; row < batch; row++)
        CHECK(memcmp((const char *)image->data + row * bytes, pictures_row(pictures, 0, row), bytes) == 0,
              "row %llu is not what this process makes of it", (unsigned long long)row);
    CHECK(pfeed_done(pf, first) == 0, "%s", pfeed_error(pf));
}

/* The daemon makes epochs 0 to EPOCHS - 1, which are given up at the end. */
static int64_t daemon_fills(int64_t *main_ns, bool look)
{
    uint64_t rows = feed_now(&pfeedd, "photographs").rows_filled;
    struct pfeed *pf;
    int64_t cpu_ns;

    rest(pfeedd.pid);
    cpu_ns = process_ns(pfeedd.pid);
    *main_ns = main_thread_ns(pfeedd.pid);
    pf = consumer_open(&pfeedd, "photographs", NULL);
    rest(pfeedd.pid);
    *main_ns = main_thread_ns(pfeedd.pid) - *main_ns;
    cpu_ns = process_ns(pfeedd.pid) - cpu_ns;
    rows = feed_now(&pfeedd, "photographs").rows_filled - rows;
    CHECK(rows == (uint64_t)SLOTS * batch, "%llu rows were filled in a window", (unsigned long long)rows);
    if (look)
        compare(pf);
    pfeed_close(pf);
    return cpu_ns;
}

static void measure_own(int64_t *cpu_ns, int64_t *at_ns)
{
    pin(0);
    at_ns[BARE] = now_ns();
    cpu_ns[BARE] = pictures_decode(pictures, 0, EPOCHS, 1);
    at_ns[MADE] = now_ns();
    cpu_ns[MADE] = pictures_make(pictures, 0, EPOCHS, false);
    at_ns[READ] = now_ns();
    cpu_ns[READ] = pictures_make(pictures, 0, EPOCHS, true);
    at_ns[KERNEL] = now_ns();
    cpu_ns[KERNEL] = pictures_scale(pictures, 0, EPOCHS);
}

static void measure(void)
{
    double rows = (double)SLOTS * batch * 1e3;
    int64_t cpu_ns[THINGS] = { 0 }, at_ns[THINGS + 1] = { 0 }, main_ns;
    struct window window;

    window_open(&window);
    if (!cached)
        measure_own(cpu_ns, at_ns);
    pin(1); /* the consumer, out of the daemon's way */
    at_ns[DAEMON] = now_ns();
    cpu_ns[DAEMON] = daemon_fills(&main_ns, false);
    at_ns[THINGS] = now_ns();
    window_close(&window);
    for (int t = 0; t < THINGS; t++) {
        series_add(&things[t], (double)cpu_ns[t] / rows, window.others);
        series_add(&walls[t], (double)(at_ns[t + 1] - at_ns[t]) / rows, window.others);
    }
    series_add(&main_us, (double)main_ns / rows, window.others);
}

static void line(const char *name, double us)
{
    printf("%-34s %9.1f %19.1f %%\n", name, us, 100 * us / series_low(&things[BARE]));
}

/* The daemon, and what this process needs to do the same; all is warm then. */
static void begin(void)
{
    const char *path = bench_pictures();
    char feeds[2048], yaml[4096];
    int64_t main_ns;

    batch = pictures_in(path) * EPOCHS / SLOTS;
    pictures_feed(feeds, sizeof(feeds), "photographs", path, batch, SLOTS, 1);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: 1, memory: 4GiB }\nfeeds:\n%s", feeds);
    pin(0);
    daemon_start(&pfeedd, yaml);
    if (!cached) {
        pictures = pictures_open(pfeedd.config, EPOCHS, EPOCHS);
        CHECK(pictures_count(pictures) * EPOCHS == (uint64_t)batch * SLOTS, "an odd number of pictures");
        pictures_keep(pictures, 0, EPOCHS);
    }
    daemon_fills(&main_ns, !cached);
}

static void write_crops(const char *path)
{
    FILE *file = fopen(path, "we");

    CHECK(file, "cannot write %s", path);
    pictures_list(pictures, EPOCHS, file);
    CHECK(fclose(file) == 0, "cannot write %s", path);
}

static void turns(const char *crops)
{
    char line[16];

    if (!cached)
        write_crops(crops);
    printf("{\"ready\":\"pfeed\",\"rows\":%u,\"kernel\":\"%s\"}\n", SLOTS * batch, kernel_chosen());
    while (fgets(line, sizeof(line), stdin)) {
        size_t last = things[BARE].n;

        CHECK(last < ROUNDS, "more than %d turns", ROUNDS);
        measure();
        printf("{\"bare\":%.2f,\"made\":%.2f,\"read\":%.2f,\"kernel\":%.2f,\"daemon\":%.2f,\"others\":%.3f}\n",
               things[BARE].values[last], things[MADE].values[last], things[READ].values[last], things[KERNEL].values[last],
               things[DAEMON].values[last], things[BARE].others[last]);
    }
}

static void show(void)
{
    double low[THINGS];

    for (int t = 0; t < THINGS; t++)
        low[t] = series_low(&things[t]);
    printf("%llu pictures, %.0f pixels decoded a crop; %zu rounds of %u rows, %zu of them quiet\n\n",
           (unsigned long long)pictures_count(pictures), pictures_pixels(pictures), things[BARE].n, SLOTS * batch,
           series_quiet(&things[BARE]));
    printf("CPU, lower quartiles                  us/row rows/CPU-s    of bare    spread    medians: CPU      wall us/row\n");
    for (int t = 0; t < THINGS; t++)
        printf("%-34s %9.1f %9.1f %9.1f %% %8.1f %% %15.1f %16.1f\n", names[t], low[t], 1e6 / low[t], 100 * low[t] / low[BARE],
               100 * series_spread(&things[t]), series_median(&things[t]), series_median(&walls[t]));
    putchar('\n');
    line("the kernel (made - bare)", low[MADE] - low[BARE]);
    line("everything else (daemon - made)", low[DAEMON] - low[MADE]);
    line("  of it reads (read - made)", low[READ] - low[MADE]);
    line("  of it the rest (daemon - read)", low[DAEMON] - low[READ]);
    line("  of the rest the main thread", series_low(&main_us));
    printf("\ntarget: everything else <= %.0f %% of the bare loop: %s\n", 100 * TARGET,
           verdict(low[DAEMON] - low[MADE] <= TARGET * low[BARE], &things[BARE]));
    printf(
        "json: "
        "{\"bench\":\"images\",\"target\":%.2f,\"quiet\":%zu,\"rounds\":%zu,\"bare_us\":%.1f,\"made_us\":%.1f,\"read_us\":%.1f,"
        "\"kernel_us\":%.1f,"
        "\"daemon_us\":%.1f,\"main_us\":%.2f,\"kernel_share\":%.4f,\"read_share\":%.4f,\"rest_share\":%.4f,\"daemon_rows_cpu_s\":"
        "%.1f}\n",
        TARGET, series_quiet(&things[BARE]), things[BARE].n, low[BARE], low[MADE], low[READ], low[KERNEL], low[DAEMON],
        series_low(&main_us), (low[MADE] - low[BARE]) / low[BARE], (low[READ] - low[MADE]) / low[BARE],
        (low[DAEMON] - low[MADE]) / low[BARE], 1e6 / low[DAEMON]);
}

int main(int argc, char **argv)
{
    const char *word = getenv("PFEED_BENCH_ROUNDS");
    size_t rounds = word && atoi(word) > 0 ? (size_t)atoi(word) : REPEATED;

    bench_start("photographs");
    cached = getenv("PFEED_BENCH_CACHE") && *getenv("PFEED_BENCH_CACHE");
    begin();
    if (argc == 3 && strcmp(argv[1], "turns") == 0) {
        turns(argv[2]);
        return bench_end();
    }
    for (size_t round = 0; round < rounds && round < ROUNDS; round++)
        measure();
    show();
    return bench_end();
}
