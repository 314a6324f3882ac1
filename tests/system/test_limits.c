/* SPDX-License-Identifier: MIT */
/*
 * What pfeedd does when it is asked for more than there is: places for connections, of which one user may have half; and
 * descriptors, whose end must neither make it spin nor harm those who are attached.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lane.h"
#include "history.h"

#define CONSUMERS 4u
#define PLACES    (CONSUMERS + 64u) /* as daemon/server.c adds for pfeedctl */
#define LOOKS     50u

static struct daemon pfeedd;

static void start_daemon(void)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB, max_consumers: %u }\nfeeds:\n  spine:\n"
             "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 24\n"
             "    fields: { x: { dtype: float32, shape: [16] } }\n",
             CONSUMERS);
    daemon_start(&pfeedd, yaml);
}

/* Whether the daemon answers on a new connection, which then stays; otherwise it has closed it. */
static bool find_place(int *connection)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = PF_STAT_DAEMON };
    struct pollfd answer = { .events = POLLIN };
    union {
        struct pf_ctl_head head;
        uint8_t bytes[PF_CTL_MAX];
    } reply;

    *connection = answer.fd = lane_connect(&pfeedd);
    send(*connection, &request, sizeof(request), MSG_NOSIGNAL); /* refused before it: fails, and what follows says why */
    CHECK(poll(&answer, 1, (int)(scaled_ns(10 * SECOND) / MS)) == 1, "the daemon neither answers nor refuses");
    if (recv(*connection, &reply, sizeof(reply), 0) > 0 && reply.head.type == PF_CTL_ROWS)
        return true;
    close(*connection);
    return false;
}

static void one_place(void)
{
    int connection;

    CHECK(find_place(&connection), "there is no place");
    close(connection);
}

/* ---- places --------------------------------------------------------------------------------------------------------- */

struct crowd {
    uid_t uid;
    uint32_t got, go; /* go: words; 1: gives one place back and takes it again, 2: ends */
};

static void be_crowd(void *arg)
{
    struct crowd *crowd = arg;
    int connections[2 * PLACES];
    uint32_t n = 0;

    CHECK(setgroups(0, NULL) == 0 && setgid(crowd->uid) == 0 && setuid(crowd->uid) == 0, "setuid: %s", strerror(errno));
    while (n < 2 * PLACES && find_place(&connections[n]))
        n++;
    word_set(&crowd->got, n + 1);
    word_await(&crowd->go, 1);
    if (n > 0) {
        close(connections[--n]);
        UNTIL(find_place(&connections[n]))
        {
        }
        n++;
    }
    word_set(&crowd->got, 1);
    word_await(&crowd->go, 2);
    while (n > 0)
        close(connections[--n]);
}

static void run_places(const void *arg)
{
    struct crowd *crowds = shared_memory(3 * sizeof(*crowds));
    uint32_t expected[3] = { PLACES / 2, PLACES - 1 - PLACES / 2, 0 }; /* 1: this test's own */
    struct trainer *trainers[3];

    if (geteuid() != 0)
        skip("needs root, to become other users");
    start_daemon();
    CHECK(chmod(pfeedd.folder, 0755) == 0, "chmod: %s", strerror(errno));
    for (uint32_t i = 0; i < 3; i++) {
        crowds[i].uid = 65530 + i;
        trainers[i] = trainer_start("crowd", be_crowd, &crowds[i]);
        word_await(&crowds[i].got, 1);
        CHECK(word_get(&crowds[i].got) - 1 == expected[i], "user %u of 3 found %u places, not %u", i + 1,
              word_get(&crowds[i].got) - 1, expected[i]);
        one_place(); /* root's */
    }
    for (uint32_t i = 0; i < 3; i++) {
        word_set(&crowds[i].got, 0);
        word_set(&crowds[i].go, 1);
        word_await(&crowds[i].got, 1);
    }
    for (uint32_t i = 0; i < 3; i++) {
        word_set(&crowds[i].go, 2);
        trainer_wait(trainers[i]);
    }
    one_place();
    daemon_stop(&pfeedd);
}

/* ---- descriptors ---------------------------------------------------------------------------------------------------- */

/* On the living daemon; the old limit. */
static rlim_t limit_descriptors(rlim_t n)
{
    struct rlimit old, new;

    CHECK(prlimit(pfeedd.pid, RLIMIT_NOFILE, NULL, &old) == 0, "prlimit: %s", strerror(errno));
    new = (struct rlimit){ n, old.rlim_max };
    CHECK(prlimit(pfeedd.pid, RLIMIT_NOFILE, &new, NULL) == 0, "prlimit: %s", strerror(errno));
    return old.rlim_cur;
}

/* Each look wakes it once; whoever spins wakes up hundreds of times between two. */
static void check_calm(void)
{
    struct timespec pause = { .tv_nsec = 2 * MS };
    struct pf_row_daemon before, after;

    stat_daemon(&pfeedd, &before);
    for (uint32_t look = 0; look < LOOKS; look++) {
        nanosleep(&pause, NULL);
        stat_daemon(&pfeedd, &after);
    }
    CHECK(after.wakeups - before.wakeups <= 2 * LOOKS, "the daemon woke up %llu times where %u were called for",
          (unsigned long long)(after.wakeups - before.wakeups), LOOKS);
    CHECK((after.cpu_ns - before.cpu_ns) * 2 < after.uptime_ns - before.uptime_ns, "the daemon ran for %.1f of %.1f ms",
          (double)(after.cpu_ns - before.cpu_ns) / 1e6, (double)(after.uptime_ns - before.uptime_ns) / 1e6);
}

static void run_descriptors(const void *arg)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(request) }, .feed = "spine", .world = 1 };
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 3, .history = history_create(3 * 8, 3 * 64) };
    struct pf_ctl_error reply;
    struct lane lane;
    int waiting, refused;
    unsigned before;
    rlim_t old;

    start_daemon();
    before = descriptors(pfeedd.pid);
    lane_open(&lane, &pfeedd, "spine", 0);
    CHECK(find_place(&waiting), "there is no place");
    old = limit_descriptors(descriptors(pfeedd.pid));
    for (int i = 0; i < 100; i++)
        CHECK(!find_place(&refused), "somebody was served by a daemon without descriptors");
    check_calm();
    lane_return(&lane, 1, lane_take(&lane, 1)); /* who is attached goes on */
    CHECK(send(waiting, &request, sizeof(request), 0) == sizeof(request), "send: %s", strerror(errno));
    CHECK(recv(waiting, &reply, sizeof(reply), 0) == sizeof(reply) && reply.head.type == PF_CTL_ERROR && reply.code == -EMFILE &&
              strstr(reply.text, "LimitNOFILE="),
          "an attach without descriptors said %d: %.200s", reply.code, reply.text);
    limit_descriptors(old);
    close(waiting);
    lane_close(&lane);
    trainer_wait(trainer_start("afterwards", train, &plan));
    history_check(plan.history, "afterwards", 3, 8);
    history_destroy(plan.history);
    UNTIL(descriptors(pfeedd.pid) == before)
    {
    }
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "places of one user", run_places, NULL },
        { "out of descriptors", run_descriptors, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
