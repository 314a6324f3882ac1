/* SPDX-License-Identifier: MIT */
/*
 * Kernels that lack what this one has: seals against writing, seals at all, memfds, SO_PEERPIDFD, pidfds. Their system calls are
 * made to fail as there; what pfeedd then does, or why it does not, is in a sentence.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "history.h"
#include "machine.h"

#define OTHER        54321u /* nobody's uid */
#define FUTURE_WRITE 0x0010u
#define PEERPIDFD    77u
#define DENY(c, e, a, m, v)                                                                                                      \
    {                                                                                                                            \
        .call = SYS_##c, .error = e, .argument = a, .mask = m, .value = v                                                        \
    }

/* From the newest to the oldest. */
static const struct denial no_peerpidfd[] = { DENY(getsockopt, ENOPROTOOPT, 2, UINT32_MAX, PEERPIDFD) },
                           no_pidfd[] = { DENY(getsockopt, ENOPROTOOPT, 2, UINT32_MAX, PEERPIDFD),
                                          DENY(pidfd_open, ENOSYS, 0, 0, 0) },
                           no_noexec[] = { DENY(memfd_create, EINVAL, 1, 8, 8) },
                           no_future_write[] = { DENY(fcntl, EINVAL, 2, ~0x0fu, FUTURE_WRITE) },
                           no_seals[] = { DENY(fcntl, EINVAL, 1, UINT32_MAX, F_ADD_SEALS) },
                           no_sealing[] = { DENY(memfd_create, EINVAL, 1, 2, 2) },
                           no_memfd[] = { DENY(memfd_create, ENOSYS, 0, 0, 0) };

static struct daemon daemons[8], *pfeedd; /* one after the other */
static uint32_t n_daemons;
static const struct denial *denials;
static size_t n_denials;

static void deny(void)
{
    machine_deny(denials, n_denials);
}

static int try(const struct denial *list, size_t n, const char *shm)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB, shm: %s }\nfeeds:\n  spine:\n"
             "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 8\n    access: { users: [%u] }\n"
             "    fields: { x: { dtype: float32, shape: [16] } }\n",
             shm, OTHER);
    denials = list;
    n_denials = n;
    daemon_prepare = deny;
    pfeedd = &daemons[n_daemons++];
    return daemon_try(pfeedd, yaml);
}
#define TRY(list, shm) try(list, sizeof(list) / sizeof((list)[0]), shm)

static void expect_words(const char *words)
{
    char *said = daemon_output(pfeedd);

    CHECK(strstr(said, words), "pfeedd does not say '%s', but: %s", words, said);
    free(said);
}

static void hold_one(void *arg)
{
    const struct plan plan = { .daemon = pfeedd, .feed = "spine" };
    struct pfeed *pf = plan_open(&plan);

    must_next(pf);
    word_set(arg, 1);
    word_await(arg, 2);
}

/* A whole epoch for one; another dies, and its batch comes back. */
static void train_and_die(void)
{
    struct plan plan = { .daemon = pfeedd, .feed = "spine", .epochs = 1, .history = history_create(8, 64) };
    uint32_t *held = shared_memory(sizeof(*held));
    struct trainer *trainer;

    trainer_wait(trainer_start("trainer", train, &plan));
    history_check(plan.history, "trainer", 1, 8);
    history_destroy(plan.history);
    trainer = trainer_start("victim", hold_one, held);
    word_await(held, 1);
    trainer_kill(trainer);
    UNTIL(feed_at_rest(pfeedd, "spine"))
    {
    }
}

static void expect_runs(int status, const char *shm)
{
    struct pf_row_daemon row;

    CHECK(status == -1, "pfeedd ended with %d", status);
    stat_daemon(pfeedd, &row);
    CHECK(strcmp(row.shm, shm) == 0, "shm is %s, not %s", row.shm, shm);
    train_and_die();
}

static void attach_as_other(void *arg)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = pfeedd->socket, .feed = "spine" };
    const char *refused = arg;
    struct pfeed *pf;
    int rc;

    CHECK(setgid(OTHER) == 0 && setuid(OTHER) == 0, "setuid: %s", strerror(errno));
    rc = pfeed_open(&pf, &options);
    if (!refused)
        CHECK(rc == 0, "another user gets %d: %s", rc, pfeed_error(NULL));
    else
        CHECK(rc == -EPERM && strcmp(pfeed_error(NULL), refused) == 0, "another user gets %d: %s", rc, pfeed_error(NULL));
    if (rc == 0)
        pfeed_close(pf);
}

static void expect_of_other(const char *refused)
{
    if (geteuid() != 0)
        return;
    CHECK(chmod(pfeedd->folder, 0711) == 0, "chmod: %s", strerror(errno));
    trainer_wait(trainer_start("another user", attach_as_other, (void *)(uintptr_t)refused));
}

static void run_seals(const void *arg)
{
    int status;

    expect_runs(TRY(no_noexec, "auto"), "memfd");
    daemon_stop(pfeedd);
    expect_runs(TRY(no_future_write, "auto"), "posix");
    expect_words("this kernel cannot seal memory against writing (Linux 5.1): `shm` is posix, which protects batches against "
                 "other users only");
    expect_of_other(NULL); /* the return page is sealed against resizing */
    daemon_stop(pfeedd);
    status = TRY(no_future_write, "memfd");
    CHECK(status == 78, "`shm: memfd` without seals ended with %d", status);
    expect_words(
        "`shm: memfd` needs a kernel that can seal memory against writing (Linux 5.1), and this one cannot; use `shm: auto` "
        "or `shm: posix`");
}

/* Whoever writes into a page that is not sealed can cut it short, and pfeedd would die of SIGBUS. */
static void run_no_seals(const void *arg)
{
    static const char refused[] = "the kernel under pfeedd cannot seal shared memory (Linux 3.17), so that only root and the "
                                  "daemon's own user may attach; run your own by `pfeedd --user`";

    expect_runs(TRY(no_seals, "auto"), "posix");
    expect_words("this kernel cannot seal the size of memory either (Linux 3.17): only root and uid ");
    expect_of_other(refused);
    daemon_stop(pfeedd);
    expect_runs(TRY(no_sealing, "posix"), "posix");
    expect_of_other(refused);
    daemon_stop(pfeedd);
    expect_runs(TRY(no_memfd, "auto"), "posix");
    expect_of_other(refused);
    daemon_stop(pfeedd);
}

static void run_pidfds(const void *arg)
{
    int status;

    expect_runs(TRY(no_peerpidfd, "auto"), "memfd");
    daemon_stop(pfeedd);
    status = TRY(no_pidfd, "auto");
    CHECK(status == 1, "pfeedd without pidfds ended with %d", status);
    expect_words(
        "cannot open a pidfd: Function not implemented; pfeedd sees by it that a trainer has died, which needs Linux 5.3, "
        "and a sandbox that permits pidfd_open");
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "no seals against writing", run_seals, NULL },
        { "no seals at all", run_no_seals, NULL },
        { "pidfds", run_pidfds, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
