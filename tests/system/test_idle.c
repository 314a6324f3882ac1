/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 11: idle costs nothing. In several states in which there is nothing to do the daemon's threads are
 * watched for 5 s: none may run at all (the kernel's count of their context switches stands still), no row may be filled, and
 * the main loop's own count of turns may move by one: the question that reads it. The 5 s are the measurement.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <errno.h>
#include <unistd.h>

#include "history.h"

#define WATCH_S 5
#define SLOTS   8u
#define BATCH   8u

static struct daemon pfeedd;

struct shared {
    uint32_t holding, finish;
};
static struct shared *shared;

static void start_with(const char *of_daemon, const char *more)
{
    char yaml[512];

    shared = shared_memory(sizeof(*shared));
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 64MiB%s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 256 }\n"
             "    batch: %u\n    slots: %u\n%s    fields: { x: { dtype: float32, shape: [64] } }\n",
             of_daemon, BATCH, SLOTS, more);
    daemon_start(&pfeedd, yaml);
}

static void start_daemon(const char *more)
{
    start_with("", more);
}

static uint64_t switches(void)
{
    struct process process;

    process_read(pfeedd.pid, &process);
    return process.switches;
}

/* Until nothing has run for 20 looks of a millisecond and more: what was begun is done. A daemon that never rests is watch's
 * to find. */
static void settle(void)
{
    struct patience patience = { .deadline_ns = INT64_MAX };
    int64_t deadline_ns = now_ns() + scaled_ns(2 * SECOND);
    uint64_t last = switches();

    for (unsigned same = 0; same < 20 && now_ns() < deadline_ns; patience_wait(&patience, __FILE__, __LINE__, "rest")) {
        uint64_t now = switches();

        same = now == last ? same + 1 : 0;
        last = now;
    }
}

static void watch(void)
{
    struct timespec span = { .tv_sec = WATCH_S };
    struct pf_row_daemon before, after;
    struct pf_row_feed feed = feed_now(&pfeedd, "spine");
    uint64_t rows = feed.rows_filled, from, to;

    if (!sanitized("thread")) /* whose runtime has a thread that never rests */
        settle();             /* what was begun is done: no event is on its way when turns are first counted */
    stat_daemon(&pfeedd, &before);
    if (!sanitized("thread"))
        settle();
    from = switches();
    nanosleep(&span, NULL);
    to = switches();
    stat_daemon(&pfeedd, &after);
    feed = feed_now(&pfeedd, "spine");
    note("%d s: %llu context switches, %llu turns, %.2f ms of CPU", WATCH_S, (unsigned long long)(to - from),
         (unsigned long long)(after.wakeups - before.wakeups), (double)(after.cpu_ns - before.cpu_ns) / 1e6);
    CHECK(to == from || sanitized("thread"), "the daemon's threads ran %llu times in %d s", (unsigned long long)(to - from),
          WATCH_S);
    CHECK(after.wakeups - before.wakeups <= 1, "%llu turns of the main loop in %d s, one of them our question",
          (unsigned long long)(after.wakeups - before.wakeups), WATCH_S);
    CHECK(feed.rows_filled == rows, "%llu rows were filled meanwhile", (unsigned long long)(feed.rows_filled - rows));
}

/* ---- nobody is there ------------------------------------------------------------------------------------------------ */

static void run_pristine(const void *arg)
{
    start_daemon("");
    watch();
    CHECK(feed_now(&pfeedd, "spine").rows_filled == 0, "rows were filled for nobody");
    daemon_stop(&pfeedd);
}

/* One connection has asked and stays, another said nothing and was closed: nobody owes the daemon a word, so that it has no
 * timer to wait for. */
static void run_asked(const void *arg)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct pf_ctl_error last;

    start_with(", patience: 10ms", "");
    strcpy(address.sun_path, pfeedd.socket);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect: %s", strerror(errno));
    while (recv(fd, &last, sizeof(last), 0) > 0)
        continue;
    close(fd);
    watch();
    daemon_stop(&pfeedd);
}

static void run_left(const void *arg)
{
    struct history *history = history_create(64, 512);
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 1, .history = history };

    start_daemon("");
    trainer_wait(trainer_start("short", train, &plan));
    UNTIL(feed_at_rest(&pfeedd, "spine"));
    watch();
    daemon_stop(&pfeedd);
    history_destroy(history);
}

static void run_warm(const void *arg)
{
    struct pf_row_feed feed;

    start_daemon("    warm: yes\n");
    UNTIL(feed_now(&pfeedd, "spine").ready == SLOTS);
    watch();
    feed = feed_now(&pfeedd, "spine");
    CHECK(feed.ready == SLOTS && feed.rows_filled == SLOTS * BATCH, "%u slots are ready, %llu rows were filled", feed.ready,
          (unsigned long long)feed.rows_filled);
    daemon_stop(&pfeedd);
}

/* ---- somebody is there, and does not move --------------------------------------------------------------------------- */

static void hold(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    must_next(pf);
    must_next(pf);
    word_set(&shared->holding, 1);
    word_await(&shared->finish, 1);
    pfeed_close(pf);
}

static void run_held(const void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .max_held = 2 };
    struct trainer *trainer;
    struct pf_row_feed feed;

    start_daemon("");
    trainer = trainer_start("holding", hold, &plan);
    word_await(&shared->holding, 1);
    UNTIL((feed = feed_now(&pfeedd, "spine")).filling == 0 && feed.ready + feed.held >= 2 + 2);
    watch();
    word_set(&shared->finish, 1);
    trainer_wait(trainer);
    daemon_stop(&pfeedd);
}

/* Goes on until the other one's slots stop it, and then waits inside pfeed_next for as long as that takes. */
static void wait_for_other(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    while (!word_get(&shared->finish))
        must_done(pf, must_next(pf));
    pfeed_close(pf);
}

static struct pf_row_consumer consumer_row(pid_t pid)
{
    struct pf_row_consumer rows[8];
    size_t n = stat_consumers(&pfeedd, "spine", rows, 8);

    for (size_t i = 0; i < n && i < 8; i++)
        if (rows[i].pid == pid)
            return rows[i];
    return (struct pf_row_consumer){ .granted = UINT32_MAX };
}

static void run_waiting(const void *arg)
{
    struct plan plans[2] = { { .daemon = &pfeedd, .feed = "spine", .max_held = 2, .slow = "block" },
                             { .daemon = &pfeedd, .feed = "spine", .max_held = 2, .slow = "block" } };
    struct trainer *holding, *waiting;
    unsigned same = 0;

    start_daemon("    gang: 2\n");
    holding = trainer_start("holding", hold, &plans[0]);
    waiting = trainer_start("waiting", wait_for_other, &plans[1]);
    word_await(&shared->holding, 1);
    UNTIL(same >= 5) same = consumer_row(trainer_pid(waiting)).granted == 0 ? same + 1 : 0;
    watch();
    CHECK(consumer_row(trainer_pid(waiting)).granted == 0, "the trainer that should wait does not");
    word_set(&shared->finish, 1);
    trainer_wait(holding);
    trainer_wait(waiting);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "nobody came yet", run_pristine, NULL },     { "asked, and stays", run_asked, NULL },
        { "all have left", run_left, NULL },           { "warm", run_warm, NULL },
        { "all slots full and held", run_held, NULL }, { "one holds, one waits", run_waiting, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
