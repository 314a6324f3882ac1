/* SPDX-License-Identifier: MIT */
/* See bench.h. */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REST_LOOKS 10
#define REST_NS    (2 * MS)

static int64_t began_ns, longest_ns = 240 * SECOND;
static size_t rounds_wanted = 7;
static cpu_set_t allowed;

void bench_start(const char *name)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    setenv("PFEED_DAEMON", BENCH_DAEMON, 0);
    setenv("PFEED_TEST_SCALE", "20", 0); /* harness.h: its time limits are a test's */
    setpgid(0, 0);
    sched_getaffinity(0, sizeof(allowed), &allowed);
    began_ns = now_ns();
    printf("%s: %d CPUs\n", name, CPU_COUNT(&allowed));
}

const char *bench_pictures(void)
{
    const char *path = getenv("PFEED_BENCH_DATA") ? getenv("PFEED_BENCH_DATA") : BENCH_DATA;

    if (access(path, R_OK) == 0)
        return path;
    printf("skipped: no folder of JPEGs at %s; name one by PFEED_BENCH_DATA\n", path);
    exit(SKIPPED);
}

void bench_rounds(size_t wanted, int64_t longest)
{
    if (getenv("PFEED_BENCH_ROUNDS"))
        return;
    rounds_wanted = wanted;
    longest_ns = longest;
}

bool bench_wants(int argc, char **argv, const char *part)
{
    bool named = argc < 2;

    for (int i = 1; i < argc; i++)
        named |= strcmp(argv[i], part) == 0;
    if (named)
        began_ns = now_ns();
    return named;
}

int bench_end(void)
{
    daemons_end();
    return 0;
}

/* ---- figures -------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;

    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

double median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), by_value);
    return quantile(values, n, 0.5);
}

void series_add(struct series *series, double value, double others)
{
    CHECK(series->n < ROUNDS, "more than %d rounds", ROUNDS);
    series->values[series->n] = value;
    series->others[series->n++] = others;
}

size_t series_quiet(const struct series *series)
{
    size_t n = 0;

    for (size_t i = 0; i < series->n; i++)
        n += series->others[i] <= QUIET;
    return n;
}

/* Sorted. */
static size_t choose(const struct series *series, double *values)
{
    bool quiet = series_quiet(series) >= 5;
    size_t n = 0;

    CHECK(series->n > 0, "a figure that was never measured");
    for (size_t i = 0; i < series->n; i++)
        if (!quiet || series->others[i] <= QUIET)
            values[n++] = series->values[i];
    qsort(values, n, sizeof(*values), by_value);
    return n;
}

double series_median(const struct series *series)
{
    double values[ROUNDS];
    size_t n = choose(series, values);

    return quantile(values, n, 0.5);
}

double series_low(const struct series *series)
{
    double values[ROUNDS];

    memcpy(values, series->values, sizeof(values));
    qsort(values, series->n, sizeof(*values), by_value);
    return quantile(values, series->n, 0.25);
}

double series_spread(const struct series *series)
{
    double values[ROUNDS];
    size_t n = choose(series, values);

    return (quantile(values, n, 0.75) - quantile(values, n, 0.25)) / 2 / quantile(values, n, 0.5);
}

const char *verdict(bool held, const struct series *series)
{
    if (series_quiet(series) < 5)
        return held ? "held by these figures, but others used the machine: run it again when it is quiet"
                    : "MISSED by these figures, but others used the machine: run it again when it is quiet";
    return held ? "held" : "MISSED";
}

bool more_rounds(const struct series *any)
{
    const char *word = getenv("PFEED_BENCH_ROUNDS");
    size_t wanted = word && atoi(word) > 0 ? (size_t)atoi(word) : rounds_wanted;

    if (any->n >= ROUNDS || (any->n >= wanted && now_ns() - began_ns > longest_ns))
        return false;
    return series_quiet(any) < wanted && any->n < 3 * wanted;
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

int64_t thread_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t task_ns(pid_t pid, const char *task)
{
    char path[320];
    long long ns = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, task);
    file = fopen(path, "re");
    if (file && fscanf(file, "%lld", &ns) != 1)
        ns = 0;
    if (file)
        fclose(file);
    return ns;
}

int64_t process_ns(pid_t pid)
{
    char path[64];
    int64_t ns = 0;
    DIR *folder;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    folder = opendir(path);
    CHECK(folder, "cannot read %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            ns += task_ns(pid, entry->d_name);
    closedir(folder);
    return ns;
}

int64_t main_thread_ns(pid_t pid)
{
    char task[16];

    snprintf(task, sizeof(task), "%d", pid);
    return task_ns(pid, task);
}

static bool task_sleeps(pid_t pid, const char *task)
{
    char path[320], text[512] = "", *after;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid, task);
    file = fopen(path, "re");
    CHECK(file && fgets(text, sizeof(text), file), "cannot read %s", path);
    fclose(file);
    after = strrchr(text, ')'); /* names may have blanks */
    return after && after[1] == ' ' && after[2] == 'S';
}

bool sleeps(pid_t pid)
{
    bool all = true;
    char path[64];
    DIR *folder;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    folder = opendir(path);
    CHECK(folder, "cannot read %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));)
        all &= entry->d_name[0] == '.' || task_sleeps(pid, entry->d_name);
    closedir(folder);
    return all;
}

int64_t rest(pid_t pid)
{
    struct timespec pause = { .tv_nsec = REST_NS };
    int64_t last = process_ns(pid), last_ns = now_ns();

    for (int same = 0; same < REST_LOOKS;) {
        int64_t now;

        nanosleep(&pause, NULL);
        now = process_ns(pid);
        same = now == last && sleeps(pid) ? same + 1 : 0;
        if (same == 0)
            last_ns = now_ns();
        last = now;
    }
    return last_ns;
}

void pin(int place)
{
    cpu_set_t set = allowed;

    if (place >= 0) {
        int cpu = CPU_SETSIZE - 1;

        while (cpu > 0 && !(CPU_ISSET(cpu, &allowed) && place-- == 0))
            cpu--;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
    }
    CHECK(sched_setaffinity(0, sizeof(set), &set) == 0 || place >= 0, "sched_setaffinity: %s", strerror(errno));
}

static uint64_t busy_ticks(void)
{
    unsigned long long user = 0, nice = 0, system = 0, idle, wait, irq = 0, softirq = 0, steal = 0;
    FILE *file = fopen("/proc/stat", "re");

    CHECK(file && fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &softirq,
                         &steal) == 8,
          "cannot read /proc/stat");
    fclose(file);
    return user + nice + system + irq + softirq + steal;
}

static uint64_t process_ticks(const char *pid, int group)
{
    unsigned long long user, system;
    char path[320], text[512], *after;
    int its_group;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    file = fopen(path, "re");
    text[0] = 0;
    if (file) {
        if (!fgets(text, sizeof(text), file))
            text[0] = 0;
        fclose(file);
    }
    after = strrchr(text, ')'); /* names may have blanks */
    if (!after || sscanf(after, ") %*c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &its_group, &user, &system) != 3)
        return 0;
    return its_group == group ? user + system : 0;
}

static uint64_t own_ticks(void)
{
    DIR *folder = opendir("/proc");
    uint64_t ticks = 0;

    CHECK(folder, "cannot read /proc");
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            ticks += process_ticks(entry->d_name, getpgrp());
    closedir(folder);
    return ticks;
}

void window_open(struct window *window)
{
    window->own = own_ticks();
    window->busy = busy_ticks();
    window->start_ns = now_ns();
}

void window_close(struct window *window)
{
    double ticks, ns_a_tick = 1e9 / (double)sysconf(_SC_CLK_TCK);

    window->wall_ns = now_ns() - window->start_ns;
    window->busy = busy_ticks() - window->busy;
    window->own = own_ticks() - window->own;
    ticks = (double)window->busy - (double)window->own;
    window->others = ticks > 0 ? ticks * ns_a_tick / (double)(window->wall_ns > 0 ? window->wall_ns : 1) : 0;
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

struct pfeed *consumer_open(const struct daemon *daemon, const char *feed, const char *job)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = daemon->socket, .feed = feed, .job = job };
    struct pfeed *pf;

    CHECK(pfeed_open(&pf, &options) == 0, "cannot open feed %s: %s", feed, pfeed_error(NULL));
    return pf;
}

void consume(struct pfeed *pf, uint64_t batches)
{
    while (batches > 0) {
        struct pfeed_batch *batch;
        int rc = pfeed_next(pf, &batch, -1);

        CHECK(rc >= 0 && rc != PFEED_END, "pfeed_next: %s", rc < 0 ? pfeed_error(pf) : "the end");
        if (!batch)
            continue;
        CHECK(pfeed_done(pf, batch) == 0, "pfeed_done: %s", pfeed_error(pf));
        batches--;
    }
}

void pause_ns(int64_t ns)
{
    const struct timespec pause = { ns / SECOND, ns % SECOND };

    nanosleep(&pause, NULL);
}

struct member {
    const struct daemon *daemon;
    const char *feed;
    struct crew_words *words;
    int64_t batch_ns, at_ns; /* 0: at no pace */
    char job[16];
};

static void keep_pace(struct member *member)
{
    const struct timespec at = { member->at_ns / SECOND, member->at_ns % SECOND };

    if (member->batch_ns)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    member->at_ns += member->batch_ns;
}

static void work(void *argument)
{
    struct member *member = argument;
    struct crew_words *words = member->words;
    int64_t start_ns = now_ns();
    struct pfeed *pf = consumer_open(member->daemon, member->feed, member->job);
    uint32_t taken = 0;

    words->open_ns = (uint64_t)(now_ns() - start_ns);
    word_set(&words->ready, 1);
    while (!word_get(&words->stop)) {
        word_await(&words->quota, taken + 1);
        while (taken < word_get(&words->quota) && !word_get(&words->stop)) {
            keep_pace(member);
            consume(pf, 1);
            count_set(&words->batches, ++taken);
        }
        word_set(&words->reached, taken);
    }
    pfeed_close(pf);
}

void crew_start_paced(struct crew *crew, const struct daemon *daemon, const char *feed, uint32_t n, int64_t batch_ns)
{
    const int64_t start_ns = now_ns();

    CHECK(n <= CREW, "a crew of more than %d", CREW);
    *crew = (struct crew){ .n = n, .words = shared_memory(CREW * sizeof(*crew->words)) };
    for (uint32_t i = 0; i < n; i++) {
        struct member member = { daemon, feed, &crew->words[i], batch_ns, start_ns + batch_ns * i / n, "" };

        snprintf(member.job, sizeof(member.job), "job%u", i);
        crew->trainers[i] = trainer_start(member.job, work, &member); /* a fork: it has its own copy */
        word_await(&crew->words[i].ready, 1);
    }
}

void crew_start(struct crew *crew, const struct daemon *daemon, const char *feed, uint32_t n)
{
    crew_start_paced(crew, daemon, feed, n, 0);
}

void crew_take(struct crew *crew, uint32_t batches)
{
    for (uint32_t i = 0; i < crew->n; i++)
        word_add(&crew->words[i].quota, batches);
    for (uint32_t i = 0; i < crew->n; i++)
        word_await(&crew->words[i].reached, word_get(&crew->words[i].quota));
}

void crew_run(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->n; i++)
        word_set(&crew->words[i].quota, UINT32_MAX);
}

uint64_t crew_batches(const struct crew *crew)
{
    uint64_t batches = 0;

    for (uint32_t i = 0; i < crew->n; i++)
        batches += count_get(&crew->words[i].batches);
    return batches;
}

int64_t crew_ns(const struct crew *crew)
{
    int64_t ns = 0;

    for (uint32_t i = 0; i < crew->n; i++)
        ns += process_ns(trainer_pid(crew->trainers[i]));
    return ns;
}

void crew_stop(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->n; i++) {
        word_set(&crew->words[i].stop, 1);
        word_set(&crew->words[i].quota, UINT32_MAX);
    }
    for (uint32_t i = 0; i < crew->n; i++)
        trainer_wait(crew->trainers[i]);
}
