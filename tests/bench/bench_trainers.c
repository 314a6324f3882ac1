/* SPDX-License-Identifier: MIT */
/*
 * Photographs delivered to K trainers that stand at the same place, each a process and a job of its own (recipe of DESIGN section
 * 12; a gang of K; workers: as many as there are CPUs for this process), all of them together, by the clock from the moment when
 * each has had its first batch. The trainers look at nothing, so that what is measured is the loading.
 *   bench_trainers K IMAGES    until IMAGES have been delivered; a line of JSON
 * images.py calls it in turn with loaders of each trainer's own. Without arguments: K = 1, 2, 4, and 20,000 images.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>

#include "bench.h"
#include "pictures.h"

#define BATCH  128
#define SLOTS  8
#define IMAGES 20000

static void all_had_one(const struct crew *crew)
{
    for (uint32_t i = 0; i < crew->n; i++)
        UNTIL(count_get(&crew->words[i].batches) > 0)
        {
        }
}

/* 128, as other loaders are asked for, or all of a small folder. */
static uint32_t batch_of(const char *path)
{
    uint32_t pictures = pictures_in(path);

    return pictures < BATCH ? pictures : BATCH;
}

static void deliver(const char *path, uint32_t n, uint64_t images)
{
    static struct daemon daemon;
    static struct crew crew;
    const uint32_t batch = batch_of(path);
    char feed[2048], yaml[4096];
    struct window window;
    uint64_t before, batches;
    int64_t cpu_ns;
    cpu_set_t cpus;

    sched_getaffinity(0, sizeof(cpus), &cpus);
    pictures_feed(feed, sizeof(feed), "photographs", path, batch, SLOTS, n);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: %d, memory: 3GiB }\nfeeds:\n%s", CPU_COUNT(&cpus), feed);
    daemon_start(&daemon, yaml);
    crew_start(&crew, &daemon, "photographs", n);
    crew_run(&crew);
    all_had_one(&crew);
    window_open(&window);
    before = crew_batches(&crew);
    cpu_ns = process_ns(daemon.pid);
    do {
        pause_ns(10 * MS);
        batches = crew_batches(&crew) - before;
    } while (batches * batch < images);
    cpu_ns = process_ns(daemon.pid) - cpu_ns;
    window_close(&window);
    crew_stop(&crew);
    daemon_stop(&daemon);
    printf("{\"trainers\":%u,\"images\":%llu,\"images_s\":%.1f,\"daemon_cores\":%.3f,\"others\":%.3f}\n", n,
           (unsigned long long)(batches * batch), (double)(batches * batch) * 1e9 / (double)window.wall_ns,
           (double)cpu_ns / (double)window.wall_ns, window.others);
}

int main(int argc, char **argv)
{
    const char *path;

    bench_start("trainers");
    path = bench_pictures();
    if (argc == 3)
        deliver(path, (uint32_t)atoi(argv[1]), strtoull(argv[2], NULL, 10));
    for (uint32_t n = 1; argc < 3 && n <= 4; n *= 2)
        deliver(path, n, IMAGES);
    return bench_end();
}
