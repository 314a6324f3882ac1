/* SPDX-License-Identifier: MIT */
/* Which crashes of a daemon count a sample, and which samples the next one takes as bad (daemon/crash.c). Each daemon is a child
 * that dies. */
#include "opened.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "feed.h"

#define N 10u

static uint64_t moved; /* by so many the ids of the samples are higher than they were */

static void where(const struct source *source, uint64_t id, char *text, size_t size)
{
    (void)source;
    snprintf(text, size, "sample %llu", (unsigned long long)(id + 100 - moved));
}

static const struct source_ops source = { .name = "test", .where = where };
static struct config_feed config = { .name = (char *)"f", .source = &source };
static struct feed feed;
static struct crash_work work;

static void reset(void)
{
    moved = 0;
    memset(&feed, 0, sizeof feed);
    feed.config = &config;
    feed.samples = N;
    feed.prints.data = 7;
}

enum death { SEGV, ABORT, SENT, SENT_BY_OTHERS, ELSEWHERE, BETWEEN, KILLED };

static void *crash(void *arg)
{
    (void)arg;
    raise(SIGABRT);
    return NULL;
}

static void die(enum death how, uint32_t worker, uint64_t id, int ready)
{
    pthread_t other;
    crash_open(".");
    crash_judge(&feed, false);
    crash_watch(&work, worker);
    crash_begin(&work, &feed, id);
    switch (how) {
    case SEGV:
        *(volatile int *)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
        break;
    case ABORT:
        abort();
    case SENT:
        kill(getpid(), SIGABRT);
        break;
    case SENT_BY_OTHERS:
        if (write(ready, "x", 1) == 1)
            for (;;)
                pause();
        break;
    case ELSEWHERE:
        pthread_create(&other, NULL, crash, NULL);
        pthread_join(other, NULL);
        break;
    case BETWEEN:
        crash_end(&work);
        abort();
    case KILLED:
        raise(SIGKILL);
    }
}

static void daemon_dies(enum death how, uint32_t worker, uint64_t id)
{
    const struct rlimit none = { 0, 0 };
    int status, ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        for (int number = 1; number < NSIG; number++)
            signal(number, SIG_DFL); /* as cmocka and a sanitizer have their own */
        dup2(open("/dev/null", O_WRONLY), 2);
        die(how, worker, id, ready[1]);
        _exit(0);
    }
    if (how == SENT_BY_OTHERS) {
        assert_int_equal(read(ready[0], &byte, 1), 1);
        kill(pid, SIGSEGV);
    }
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), how == SEGV || how == SENT_BY_OTHERS ? SIGSEGV : how == KILLED ? SIGKILL : SIGABRT);
}

/* What the next daemon, which ends well, makes of it: how many samples are bad, the first of them. */
static uint32_t judge(bool forgotten)
{
    struct feed next = feed;
    crash_open(".");
    crash_judge(&next, forgotten);
    crash_close();
    feed.crashers[0] = next.crashers[0];
    return next.n_crashers;
}

static void twice(void **state)
{
    struct problem why;
    (void)state;
    reset();
    daemon_dies(SEGV, 3, 5);
    assert_int_equal(judge(false), 0);
    daemon_dies(ABORT, 0, 5);
    assert_int_equal(judge(false), 1);
    assert_int_equal(judge(false), 1); /* counted once */
    feed.n_crashers = 1;
    assert_int_equal(crash_check(&feed, 4, &why), 0);
    assert_int_equal(crash_check(&feed, 5, &why), -EBADMSG);
    assert_string_equal(why.text, "was in work at 2 crashes of pfeedd (SIGABRT)");
    feed.n_crashers = 0;
    config.name = (char *)"another";
    assert_int_equal(judge(false), 0);
    config.name = (char *)"f";
    assert_int_equal(judge(true), 0);
    assert_int_equal(judge(false), 0);
    daemon_dies(ABORT, 0, 5);
    assert_int_equal(judge(false), 0);
    assert_int_equal(judge(false), 0); /* the mark is still there, and counts once */
}

static void the_innocent(void **state)
{
    static const enum death deaths[] = { SENT, SENT_BY_OTHERS, ELSEWHERE, BETWEEN, KILLED };
    (void)state;
    reset();
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        daemon_dies(deaths[i], 1, 5);
        daemon_dies(deaths[i], 1, 5);
        assert_int_equal(judge(false), 0);
    }
    daemon_dies(SEGV, 1, 5); /* one that counts, not the second */
    assert_int_equal(judge(false), 0);
}

/* Other samples are not it, and after a change of the data it is found by its place. */
static void two_samples(void **state)
{
    (void)state;
    reset();
    daemon_dies(SEGV, 1, 5);
    daemon_dies(SEGV, 1, 6);
    assert_int_equal(judge(false), 0);
    daemon_dies(SEGV, 1, 6);
    assert_int_equal(judge(false), 1);
    assert_int_equal(feed.crashers[0].id, 6);
    moved = 2; /* two files have come before it */
    feed.prints.data = 8;
    assert_int_equal(judge(false), 1);
    assert_int_equal(feed.crashers[0].id, 8);
    daemon_dies(SEGV, 1, 7); /* the other one: it has crashed twice now, under two ids */
    assert_int_equal(judge(false), 2);
    moved = 6; /* the first one is the last sample now, and the other gone */
    feed.prints.data = 9;
    feed.samples = 12;
    assert_int_equal(judge(false), 1);
    assert_int_equal(feed.crashers[0].id, 11);
}

/* A crash of which only the id is known, when the data have changed before the feed was open again. */
static void nobody_knows(void **state)
{
    (void)state;
    reset();
    daemon_dies(SEGV, 1, 5);
    feed.prints.data = 8;
    assert_int_equal(judge(false), 0);
    feed.prints.data = 7;
    daemon_dies(SEGV, 1, 5);
    assert_int_equal(judge(false), 0);
}

static void many_samples(void **state)
{
    (void)state;
    reset();
    feed.samples = 1000;
    daemon_dies(SEGV, 1, 999);
    daemon_dies(SEGV, 1, 999);
    for (uint64_t id = 0; id < CRASH_SAMPLES + 3; id++)
        daemon_dies(SEGV, 1, id);
    assert_int_equal(judge(false), 1); /* the bad one was not pushed out */
    assert_int_equal(feed.crashers[0].id, 999);
    daemon_dies(SEGV, 1, 0); /* that was */
    assert_int_equal(judge(false), 1);
    daemon_dies(SEGV, 1, CRASH_SAMPLES + 2);
    assert_int_equal(judge(false), 2);
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Anything may lie there. */
static void damaged(void **state)
{
    static unsigned char good[1 << 20], bytes[1 << 20];
    uint64_t x = 88172645463325252u;
    (void)state;
    reset();
    daemon_dies(SEGV, 1, 5);
    daemon_dies(SEGV, 1, 5);
    FILE *from = fopen("crashes", "r");
    assert_non_null(from);
    const size_t size = fread(good, 1, sizeof good, from);
    fclose(from);
    assert_true(size > 1000 && size < sizeof good);
    for (size_t round = 0; round < 200; round++) {
        const size_t at = round < 64 ? round : (size_t)(next_random(&x) % size);
        memcpy(bytes, good, size);
        bytes[at] ^= (unsigned char)(1 + next_random(&x) % 255);
        write_bytes("crashes", bytes, round % 10 == 9 ? at : size);
        const uint32_t n = judge(false);
        /* The first record, and before it the head. */
        assert_in_range(n, 0, round < 64 ? 0 : 1);
        assert_int_equal(judge(false), n);
    }
    write_text("crashes", "");
    assert_int_equal(judge(false), 0);
    daemon_dies(SEGV, 1, 5); /* and it works again */
    daemon_dies(SEGV, 1, 5);
    assert_int_equal(judge(false), 1);
}

static void no_file(void **state)
{
    (void)state;
    reset();
    crash_open(NULL);
    crash_judge(&feed, false);
    crash_close();
    assert_int_equal(mkdir("crashes", 0700), 0);
    assert_int_equal(judge(false), 0);
    daemon_dies(SEGV, 1, 5);
    assert_int_equal(rmdir("crashes"), 0);
    assert_int_equal(judge(false), 0);
    /* Of two daemons with one folder the first has it. */
    int other = open("crashes", O_RDWR);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    daemon_dies(SEGV, 1, 5);
    daemon_dies(SEGV, 1, 5);
    close(other);
    assert_int_equal(judge(false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(twice), TEST(the_innocent), TEST(two_samples), TEST(nobody_knows), TEST(many_samples), TEST(damaged), TEST(no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
