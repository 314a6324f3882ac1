/* SPDX-License-Identifier: MIT */
/*
 * What pfeed.h says about forks: the child's copies of a handle answer -ECHILD, never by a hang or a crash; a forked child may open
 * a handle of its own; and the parent's goes on as if nothing had been. Also where the child was cloned behind libc's back, so
 * that no fork handler ran, and where another thread opens and closes handles at the moment of the fork.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define FORKS 50

static struct daemon pfeedd;

struct forker {
    struct plan plan;
    bool clone;
};

/* A trainer is a process without threads but for run_threads, and a child that hangs is ended by its alarm. */
static pid_t begin_child(bool clone)
{
    pid_t pid;

    fflush(NULL);
    pid = clone ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm((unsigned)(scaled_ns(20 * SECOND) / SECOND));
    }
    return pid;
}

static void end_child(pid_t pid)
{
    int status;

    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
}

static void use_copy(struct pfeed *pf, struct pfeed_batch *batch)
{
    static const int timeouts[] = { 0, 1, -1 };
    struct pfeed_batch *none = NULL;

    CHECK(!pfeed_tensor(batch, "x") && !pfeed_tensor_at(batch, 0), "a tensor of a batch that the child has not got");
    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
        int rc = pfeed_next(pf, &none, timeouts[i]);

        CHECK(rc == -ECHILD && !none, "pfeed_next(%d) said %d", timeouts[i], rc);
        CHECK(strstr(pfeed_error(pf), "fork"), "the sentence is: %s", pfeed_error(pf));
    }
    CHECK(pfeed_done(pf, batch) == -ECHILD, "pfeed_done of the parent's batch went through");
    CHECK(pfeed_done(pf, NULL) == -ECHILD, "pfeed_done of nothing went through");
    CHECK(pfeed_info(batch)->rows > 0 && pfeed_length(pf) > 0, "what the child has copies of is gone");
    pfeed_close(pf);
}

static void use_own(const struct plan *plan)
{
    struct pfeed *pf = plan_open(plan);
    struct pfeed_batch *batch = must_next(pf);

    batch_hash(batch);
    must_done(pf, batch);
    pfeed_close(pf);
}

static void fork_with_batch(void *arg)
{
    const struct forker *forker = arg;
    struct pfeed *pf = plan_open(&forker->plan);
    struct pfeed_batch *batch = must_next(pf);
    uint64_t hash = batch_hash(batch), steps = 1;
    pid_t pid = begin_child(forker->clone);

    if (pid == 0) {
        use_copy(pf, batch);
        use_own(&forker->plan);
        _exit(0);
    }
    end_child(pid);
    CHECK(batch_hash(batch) == hash, "what the parent holds has changed");
    must_done(pf, batch);
    for (; steps < 3 * (uint64_t)pfeed_length(pf); steps++) {
        batch = must_next(pf);
        CHECK(pfeed_info(batch)->step == steps % (uint64_t)pfeed_length(pf), "the parent's history has a hole");
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

static void start_daemon(void)
{
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 24\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
}

static void run_copies(const void *arg)
{
    struct forker forker = { .plan = { .daemon = &pfeedd, .feed = "spine" }, .clone = arg != NULL };

    start_daemon();
    trainer_wait(trainer_start("forking", fork_with_batch, &forker));
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    daemon_stop(&pfeedd);
}

static bool enough;

static void *open_and_close(void *arg)
{
    while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE))
        use_own(arg);
    return NULL;
}

/* glibc's fork in a program with threads is sound in the child as far as malloc goes; so libpfeed must be. */
static void fork_beside_thread(void *arg)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, open_and_close, arg) == 0, "pthread_create failed");
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = begin_child(false);

        if (pid == 0) {
            use_own(arg);
            _exit(0);
        }
        end_child(pid);
    }
    __atomic_store_n(&enough, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

static void run_threads(const void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine" };

    if (sanitized("thread"))
        skip("ThreadSanitizer does not bear threads that are lost in a fork");
    start_daemon();
    trainer_wait(trainer_start("threads and forks", fork_beside_thread, &plan));
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a fork's copies", run_copies, NULL },
        { "a clone's copies", run_copies, "clone" },
        { "forks beside a thread that opens", run_threads, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
