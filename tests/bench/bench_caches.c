/* SPDX-License-Identifier: MIT */
/*
 * What a row costs the daemon whose sample is in a cache, against one that is read and decoded: CPU time of all its threads, one
 * worker, photographs in the page cache, recipe of DESIGN section 12. Daemons without a cache, with an encoded one, a decoded one
 * (shorter side 256) and one on a disk are measured in turn; all that the caches can have is in them before. A slot is an epoch; a
 * window begins with the daemon at rest, its slots full, the consumer gives EPOCHS batches back, and it ends when the daemon rests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "pictures.h"

#define SLOTS  4
#define EPOCHS 2

static struct side {
    const char *name, *cache;
    struct daemon daemon;
    struct crew crew;
    struct series row_us;
} sides[] = {
    { .name = "read and decoded", .cache = "{}" },
    { .name = "encoded", .cache = "{ encoded: 128MiB }" },
    { .name = "decoded, side 256", .cache = "{ decoded: 256MiB }" },
    { .name = "disk, side 256", .cache = "{ disk: %s, size: 256MiB }" },
};
#define SIDES (sizeof(sides) / sizeof(sides[0]))

static char file[] = "/var/tmp/pfeed-bench-XXXXXX";

static void begin(struct side *side, const char *path, uint32_t pictures)
{
    char feed[2048], cache[256], yaml[4096];

    pictures_feed(feed, sizeof(feed), "photographs", path, pictures, SLOTS, 1);
    snprintf(cache, sizeof(cache), side->cache, file);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: 1, memory: 3GiB }\nfeeds:\n%s    cache: %s\n", feed, cache);
    pin(0);
    daemon_start(&side->daemon, yaml);
    pin(1);
    crew_start(&side->crew, &side->daemon, "photographs", 1);
    crew_take(&side->crew, SLOTS); /* all is in the caches, and warm */
}

static void measure(struct side *side)
{
    struct window window;
    uint64_t rows;
    int64_t cpu_ns;

    window_open(&window);
    rows = feed_now(&side->daemon, "photographs").rows_filled;
    rest(side->daemon.pid);
    cpu_ns = process_ns(side->daemon.pid);
    crew_take(&side->crew, EPOCHS);
    rest(side->daemon.pid);
    cpu_ns = process_ns(side->daemon.pid) - cpu_ns;
    rows = feed_now(&side->daemon, "photographs").rows_filled - rows;
    window_close(&window);
    CHECK(rows > 0, "nothing was filled");
    series_add(&side->row_us, (double)cpu_ns / 1e3 / (double)rows, window.others);
}

static void show(uint32_t pictures)
{
    const double without = series_low(&sides[0].row_us);

    printf("%u pictures, %zu rounds of %d epochs, %zu quiet\n\n", pictures, sides[0].row_us.n, EPOCHS,
           series_quiet(&sides[0].row_us));
    printf("CPU of the daemon, lower quartiles    us/row  of read and decoded    kept  hit rate   saved ms\n");
    for (size_t s = 0; s < SIDES; s++) {
        struct pf_row_cache row = { .entries = 0 };
        const double us = series_low(&sides[s].row_us);

        stat_caches(&sides[s].daemon, "", &row, 1);
        printf("%-34s %9.1f %17.1f %% %9llu %9.3f %10.1f\n", sides[s].name, us, 100 * us / without,
               (unsigned long long)row.entries, (double)row.hit_ppm / 1e6, (double)row.saved_ns / 1e6);
    }
    printf("json: "
           "{\"bench\":\"caches\",\"rounds\":%zu,\"without_us\":%.1f,\"encoded_us\":%.1f,\"decoded_us\":%.1f,\"disk_us\":%.1f}\n",
           sides[0].row_us.n, without, series_low(&sides[1].row_us), series_low(&sides[2].row_us), series_low(&sides[3].row_us));
}

int main(void)
{
    const char *path;
    uint32_t pictures;
    int fd;

    bench_start("caches");
    path = bench_pictures();
    pictures = pictures_in(path);
    fd = mkstemp(file);
    CHECK(fd >= 0, "cannot make a file in /var/tmp");
    close(fd);
    for (size_t s = 0; s < SIDES; s++)
        begin(&sides[s], path, pictures);
    while (more_rounds(&sides[0].row_us))
        for (size_t s = 0; s < SIDES; s++)
            measure(&sides[s]);
    show(pictures);
    for (size_t s = 0; s < SIDES; s++)
        crew_stop(&sides[s].crew);
    unlink(file);
    return bench_end();
}
