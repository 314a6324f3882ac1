/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 6: take + return of a ready batch costs at most 100 ns in C and makes no system call, at any size of the batch.
 *
 * Measured in bursts. Before each, the daemon is waited for (by its own stat rows) until every slot is granted and it sleeps;
 * then `burst` batches are taken and given back, one after the other, with the clock read before, after the first, and at the
 * end. A burst ends one short of the return that rings the daemon: proto/ring.h's wake_at, about half of what is out (daemon/
 * feed.c, wake_after). The returns that ring, and all waiting, lie between the bursts. "first" is a burst's first take + return, for which
 * everything is where the filling of the slots has left it (behind 77 MB batches: in no cache); "next" is the mean of those
 * after it, whose own grants are still untouched but whose code and pages are there. What reading the clock costs is taken off.
 * System calls are counted in the very same bursts (syscalls.h).
 */
#include <stdio.h>
#include <time.h>
#include <stdlib.h>

#include "bench.h"
#include "syscalls.h"

#define TURNS     5
#define TARGET_NS 100    /* of "next" */
#define FLAT_NS   50     /* one line from memory */
#define ASK_NS    250000 /* between two questions: pfeedd takes 5,000 a second */
#define PAUSE_NS  200000 /* the daemon goes to sleep, the core stays awake */
#define MAX_HELD  2
#define MOST      8192 /* bursts of a kind */

struct kind {
    const char *name, *feed;
    const char *recipe;
    uint64_t bytes; /* of a batch */
    uint32_t slots, jobs, bursts;
};

#define X(shape) "fields: { x: { dtype: float16, shape: " shape " } }"
static const struct kind kinds[] = {
    { "8 B", "b8", "batch: 1\n    " X("[4]"), 8, 16, 1, 400 },
    { "4 KB", "b4k", "batch: 1\n    " X("[2048]"), 4096, 16, 1, 400 },
    { "256 KB", "b256k", "batch: 64\n    " X("[2048]"), 64 * 4096, 16, 1, 400 },
    { "4 MB", "b4m", "batch: 64\n    " X("[32768]"), 64 * 65536, 16, 1, 100 },
    { "77 MB", "b77m", "batch: 256\n    " X("[3, 224, 224]"), 256 * 3 * 224 * 224 * 2, 16, 1, 12 },
    { "8 B, long burst", "long", "batch: 1\n    " X("[4]"), 8, 64, 1, 400 },
    { "256 KB, 4 jobs", "four", "gang: 4\n    batch: 64\n    " X("[2048]"), 64 * 4096, 16, 4, 200 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct result {
    size_t n; /* bursts */
    double next[MOST], first[MOST], turns[TURNS];
    uint32_t burst;
    int64_t batches, calls;
};

static struct result results[KINDS];
static struct daemon pfeedd;
static double clock_ns;
static bool counting;

static void start_daemon(void)
{
    char yaml[8192];
    int at = snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { memory: 3GiB }\nfeeds:\n");

    for (size_t k = 0; k < KINDS; k++)
        at += snprintf(
            yaml + at, sizeof(yaml) - (size_t)at,
            "  %s:\n    source: { type: synthetic, rows: 1000000000 }\n    shuffle: none\n    slots: %u\n    max_held: %d\n"
            "    %s\n",
            kinds[k].feed, kinds[k].slots, MAX_HELD, kinds[k].recipe);
    daemon_start(&pfeedd, yaml);
}

static double read_clock(void)
{
    double costs[1001];

    for (size_t i = 0; i < 1001; i++) {
        int64_t start = now_ns();

        costs[i] = (double)(now_ns() - start);
    }
    return median(costs, 1001);
}

/* Whether all consumers have every slot granted. */
static bool all_granted(const struct kind *kind)
{
    struct pf_row_consumer rows[4];
    size_t n = stat_consumers(&pfeedd, kind->feed, rows, 4);

    CHECK(n == kind->jobs, "%zu consumers of feed %s", n, kind->feed);
    while (n > 0 && rows[n - 1].granted == kind->slots)
        n--;
    return n == 0;
}

/* Until then, and until the daemon sleeps: it grants before it answers, and says (wake_at) when it wants to be rung before it
 * sleeps. */
static uint32_t await_grants(const struct kind *kind)
{
    const struct timespec asked = { .tv_nsec = ASK_NS };
    int64_t deadline_ns = now_ns() + 30 * SECOND, quiet_ns;

    while (!all_granted(kind) || !sleeps(pfeedd.pid)) {
        CHECK(now_ns() < deadline_ns, "feed %s does not get ready", kind->feed);
        nanosleep(&asked, NULL);
    }
    quiet_ns = now_ns() + PAUSE_NS;
    while (now_ns() < quiet_ns)
        ;
    return (kind->slots - MAX_HELD) / 2 - 1;
}

static void take_and_return(struct pfeed *pf)
{
    struct pfeed_batch *batch;

    if (__builtin_expect(pfeed_next(pf, &batch, 0) != 0 || pfeed_done(pf, batch) != 0, 0))
        FAIL("a batch was not ready: %s", pfeed_error(pf));
}

static double one_burst(struct pfeed *pf, uint32_t burst, double *first)
{
    int64_t start, middle, end;

    if (counting)
        syscalls_begin();
    start = now_ns();
    take_and_return(pf);
    middle = now_ns();
    for (uint32_t i = 1; i < burst; i++)
        take_and_return(pf);
    end = now_ns();
    if (counting)
        syscalls_end();
    *first = (double)(middle - start) - clock_ns;
    return ((double)(end - middle) - clock_ns) / (burst - 1);
}

static void measure(const struct kind *kind, struct result *result, int turn)
{
    struct crew others = { .n = 0 };
    struct pfeed *pf;
    int64_t calls;
    size_t from = result->n;
    double nexts[MOST];

    if (kind->jobs > 1)
        crew_start(&others, &pfeedd, kind->feed, kind->jobs - 1);
    pf = consumer_open(&pfeedd, kind->feed, "measured");
    counting = syscalls_open() != NULL;
    calls = syscalls_count();
    for (uint32_t i = 0; i < kind->bursts; i++, result->n++) {
        result->burst = await_grants(kind);
        result->next[result->n] = nexts[result->n - from] = one_burst(pf, result->burst, &result->first[result->n]);
        consume(pf, 1); /* rings */
        if (others.n)
            crew_take(&others, result->burst + 1);
    }
    result->calls += syscalls_count() - calls;
    result->batches += (int64_t)kind->bursts * result->burst;
    syscalls_close();
    result->turns[turn] = median(nexts, kind->bursts);
    pfeed_close(pf);
    if (others.n)
        crew_stop(&others);
    UNTIL(feed_at_rest(&pfeedd, kind->feed));
}

static void show(const struct kind *kind, struct result *result, double *typical)
{
    double first = median(result->first, result->n);

    *typical = median(result->turns, TURNS);
    median(result->next, result->n); /* sorts */
    printf("%-16s %5u %6zu  %6.1f %6.1f %6.1f   %7.1f %6.0f   %7lld / %lld\n", kind->name, result->burst, result->n,
           result->next[0], *typical, quantile(result->next, result->n, 0.99), first, quantile(result->first, result->n, 0.99),
           (long long)result->calls, (long long)result->batches);
}

int main(void)
{
    double typical[KINDS], least, most;
    int64_t calls = 0;
    const char *way;
    bool flat;

    bench_start("take + return of a ready batch");
    way = syscalls_open();
    syscalls_close();
    start_daemon();
    clock_ns = read_clock();
    for (int turn = 0; turn < TURNS; turn++)
        for (size_t k = 0; k < KINDS; k++)
            measure(&kinds[k], &results[k], turn);
    printf("system calls counted by: %s\n", way ? way : "nothing permitted here; run `strace -c -f` over this program");
    printf("one reading of the clock: %.0f ns, taken off\n\n", clock_ns);
    printf("                 batches         next, ns a batch        first, ns        system calls\n");
    printf("batch            burst bursts     min median    p99    median    p99         / batches\n");
    for (size_t k = 0; k < KINDS; k++) {
        show(&kinds[k], &results[k], &typical[k]);
        calls += results[k].calls;
    }
    least = most = typical[0];
    for (size_t k = 1; k < 5; k++) {
        least = typical[k] < least ? typical[k] : least;
        most = typical[k] > most ? typical[k] : most;
    }
    flat = most - least <= FLAT_NS;
    printf("\ntarget: median <= %d ns at every size, no system call, flat (within %d ns): %s\n", TARGET_NS, FLAT_NS,
           most <= TARGET_NS && flat && (calls == 0 && way) ? "held" : "MISSED");
    printf("json: {\"bench\":\"handoff\",\"target_ns\":%d,\"clock_ns\":%.0f,\"system_calls\":%lld,\"counted\":%s", TARGET_NS,
           clock_ns, (long long)calls, way ? "true" : "false");
    for (size_t k = 0; k < KINDS; k++)
        printf(",\"%s\":{\"bytes\":%llu,\"burst\":%u,\"min_ns\":%.1f,\"median_ns\":%.1f,\"p99_ns\":%.1f,\"first_ns\":%.1f}",
               kinds[k].feed, (unsigned long long)kinds[k].bytes, results[k].burst, results[k].next[0], typical[k],
               quantile(results[k].next, results[k].n, 0.99), median(results[k].first, results[k].n));
    printf("}\n");
    return bench_end();
}
