/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks stand on, beside tests/system's harness.h and daemon.h. CPU times come from /proc/PID/task/N/schedstat,
 * which is exact where the threads sleep: a measurement begins and ends with the daemon at rest, and asks it nothing meanwhile.
 * The machine may be shared: every measurement notes how much CPU others used during it (of one core), things to be compared
 * are measured in turn, and medians are taken over the rounds that were quiet, where there are enough of them.
 *
 * Environment: PFEED_DAEMON path of pfeedd (else the build's own); PFEED_BENCH_DATA a folder of JPEGs; PFEED_BENCH_ROUNDS quiet
 * rounds wanted (7, or what bench_rounds says).
 */
#ifndef BENCH_H
#define BENCH_H

#include "daemon.h"
#include "harness.h"
#include "pfeed.h"

#define SKIPPED 77
#define QUIET   0.10 /* of one core: what others may use in a quiet round */
#define ROUNDS  64   /* most */

/* Once, first. */
void bench_start(const char *name);
/* The folder of JPEGs; ends the process with 77 where it is missing. */
const char *bench_pictures(void);
/* Where a round is long: so many quiet ones, and after that time no more than those, if PFEED_BENCH_ROUNDS does not say. */
void bench_rounds(size_t wanted, int64_t longest_ns);
/* Whether this part is to run: those that the command line names, or all. */
bool bench_wants(int argc, char **argv, const char *part);
/* Stops the daemons. The exit status. */
int bench_end(void);

/* ---- figures -------------------------------------------------------------------------------------------------------- */

double median(double *values, size_t n); /* sorts them */
double quantile(const double *sorted, size_t n, double q);

/* One figure, measured once a round. */
struct series {
    size_t n;
    double values[ROUNDS], others[ROUNDS];
};
void series_add(struct series *series, double value, double others);
/* Of the quiet rounds where there are five, else of all. */
double series_median(const struct series *series);
/* The lower quartile of all rounds: where every round does the same work, others can only have made it longer. */
double series_low(const struct series *series);
double series_spread(const struct series *series); /* half the range that holds the middle half of them, over the median */
size_t series_quiet(const struct series *series);

/* "held" or "MISSED", and whether the machine was quiet enough to say so. */
const char *verdict(bool held, const struct series *series);

/* Whether another round is wanted: until there are enough quiet ones, or three times as many in all, or the part takes too long
 * (four minutes). */
bool more_rounds(const struct series *any);

/* ---- time ----------------------------------------------------------------------------------------------------------- */

int64_t thread_ns(void);       /* CPU time of this thread */
int64_t process_ns(pid_t pid); /* CPU time of all threads of a process */
int64_t main_thread_ns(pid_t pid);
bool sleeps(pid_t pid);  /* all its threads, at this moment */
int64_t rest(pid_t pid); /* until they sleep and none has run for 20 ms; when the last one was seen to have run */

/* This thread, and what it starts from now on, to one CPU: the last that is allowed for 0, the one before it for 1; -1: to all. */
void pin(int place);

/* A measurement: its wall time, and what others used of the machine's CPUs in it. Processes of this group are not others. */
struct window {
    int64_t start_ns, wall_ns;
    uint64_t busy, own; /* in ticks */
    double others;      /* of one core */
};
void window_open(struct window *window);
void window_close(struct window *window);

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

struct pfeed *consumer_open(const struct daemon *daemon, const char *feed, const char *job);
void consume(struct pfeed *pf, uint64_t batches); /* takes them and gives each back */

void pause_ns(int64_t ns);

/* Jobs of one rank, each in a process of its own; they attach one after the other. */
#define CREW 256
struct crew_words {
    uint32_t ready, quota, reached, stop;
    uint64_t batches, open_ns; /* open_ns: what pfeed_open took */
} __attribute__((aligned(64)));
struct crew {
    uint32_t n;
    struct trainer *trainers[CREW];
    struct crew_words *words;
};
void crew_start(struct crew *crew, const struct daemon *daemon, const char *feed, uint32_t n);
/* Likewise; each takes no more than one batch in that time, in turn with the others. */
void crew_start_paced(struct crew *crew, const struct daemon *daemon, const char *feed, uint32_t n, int64_t batch_ns);
void crew_take(struct crew *crew, uint32_t batches); /* each so many more; returns when all have given them back */
void crew_run(struct crew *crew);                    /* as fast as they come, until they are stopped */
uint64_t crew_batches(const struct crew *crew);      /* taken so far by all of them */
int64_t crew_ns(const struct crew *crew);            /* their CPU time */
void crew_stop(struct crew *crew);

#endif
