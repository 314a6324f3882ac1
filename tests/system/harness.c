/* SPDX-License-Identifier: MIT */
/* See harness.h. Everything here runs on the only thread of its process. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"

#define TEST_S   120 /* a test may take so long, times PFEED_TEST_SCALE */
#define PATIENCE (30 * SECOND)
#define SKIPPED  77
#define TRAINERS 300

struct trainer {
    char name[32];
    pid_t pid; /* 0: a free entry */
};

static struct trainer trainers[TRAINERS];
static const char *who = "?"; /* the test, or the trainer */
static bool in_trainer;

/* ---- failing -------------------------------------------------------------------------------------------------------- */

void fail_at(const char *file, int line, const char *format, ...)
{
    const char *base = strrchr(file, '/');
    va_list args;

    fflush(stdout);
    fprintf(stderr, "    %s%s: %s:%d: ", in_trainer ? "trainer " : "", who, base ? base + 1 : file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (!in_trainer)
        daemons_print();
    _exit(1);
}

void skip(const char *reason)
{
    printf("    %s: skipped: %s\n", who, reason);
    fflush(stdout);
    _exit(SKIPPED);
}

void note(const char *format, ...)
{
    va_list args;

    printf("    %s: ", who);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* Hung. Not safe in a handler by the letter, but the process ends here and says where it stood. */
static void on_alarm(int number)
{
    FAIL("still running after %lld s", (long long)(scaled_ns(TEST_S * SECOND) / SECOND));
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

int64_t scaled_ns(int64_t ns)
{
    const char *scale = getenv("PFEED_TEST_SCALE");

    return ns * (scale && atoi(scale) > 0 ? atoi(scale) : 1);
}

bool sanitized(const char *name)
{
    const char *in_use = getenv("PFEED_TEST_SANITIZE");

    return in_use && *in_use && strcmp(in_use, "none") != 0 && (!name || strstr(in_use, name));
}

struct patience patience_start(void)
{
    return (struct patience){ .deadline_ns = now_ns() + scaled_ns(PATIENCE) };
}

static void look_after_trainers(void)
{
    for (size_t i = 0; i < TRAINERS; i++) {
        siginfo_t how = { 0 };

        if (trainers[i].pid && waitid(P_PID, (id_t)trainers[i].pid, &how, WEXITED | WNOHANG | WNOWAIT) == 0 && how.si_pid != 0 &&
            (how.si_code != CLD_EXITED || how.si_status != 0))
            FAIL("trainer %s has failed: %s %d", trainers[i].name, how.si_code == CLD_EXITED ? "exit status" : "signal",
                 how.si_status);
    }
}

void patience_wait(const struct patience *patience, const char *file, int line, const char *condition)
{
    struct timespec pause = { .tv_nsec = MS };

    if (!in_trainer)
        look_after_trainers();
    if (now_ns() > patience->deadline_ns)
        fail_at(file, line, "waited in vain for: %s", condition);
    nanosleep(&pause, NULL);
}

/* ---- randomness, hashes, memory ------------------------------------------------------------------------------------- */

uint64_t mix(uint64_t z) /* the finisher of splitmix64 */
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct random random_start(uint64_t salt)
{
    const char *seed = getenv("PFEED_TEST_SEED");

    return (struct random){ .state = mix(seed ? strtoull(seed, NULL, 0) : 1) ^ mix(salt + 77) };
}

uint64_t random_below(struct random *random, uint64_t n)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(random->state) % n;
}

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
    const uint8_t *byte = bytes;
    uint64_t word;

    for (; n >= 8; n -= 8, byte += 8) {
        memcpy(&word, byte, 8);
        hash = ((hash << 29 | hash >> 35) ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    }
    for (; n > 0; n--, byte++)
        hash = ((hash << 29 | hash >> 35) ^ *byte) * UINT64_C(0x9e3779b97f4a7c15);
    return mix(hash + 1);
}

int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

void *shared_memory(size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(map != MAP_FAILED, "no shared memory of %zu bytes: %s", size, strerror(errno));
    return map;
}

uint32_t word_get(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void word_set(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void word_add(uint32_t *word, uint32_t value)
{
    __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void word_await(uint32_t *word, uint32_t least)
{
    int64_t deadline_ns = now_ns() + scaled_ns(in_trainer ? TEST_S * SECOND : PATIENCE); /* the test's own patience ends first */
    uint32_t value;

    while ((value = word_get(word)) < least) {
        struct timespec slice = { .tv_nsec = 100 * MS };

        if (!in_trainer)
            look_after_trainers();
        CHECK(now_ns() < deadline_ns, "waited in vain for a word of the test to become %u; it is %u", least, value);
        syscall(SYS_futex, word, FUTEX_WAIT, value, &slice, NULL, 0);
    }
}

uint64_t count_get(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

void count_set(uint64_t *count, uint64_t value)
{
    __atomic_store_n(count, value, __ATOMIC_RELEASE);
}

/* ---- descriptors and folders ---------------------------------------------------------------------------------------- */

unsigned descriptors(pid_t pid)
{
    char path[64];
    unsigned n = 0;
    DIR *folder;

    if (pid)
        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    else
        snprintf(path, sizeof(path), "/proc/self/fd");
    folder = opendir(path);
    CHECK(folder, "cannot read %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            n++;
    closedir(folder);
    return pid ? n : n - 1; /* less the one that lists */
}

static void print_descriptors(void)
{
    char path[320], target[256];
    DIR *folder = opendir("/proc/self/fd");

    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        n = readlink(path, target, sizeof(target) - 1);
        if (n > 0 && atoi(entry->d_name) != dirfd(folder))
            fprintf(stderr, "      %s -> %.*s\n", entry->d_name, (int)n, target);
    }
    if (folder)
        closedir(folder);
}

static void check_descriptors(unsigned before)
{
    if (descriptors(0) != before) {
        print_descriptors();
        FAIL("%u descriptors at the start, %u at the end", before, descriptors(0));
    }
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *where)
{
    return remove(path);
}

void remove_folder(const char *path)
{
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

static void begin_process(pid_t parent, const char *name)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    who = name;
    signal(SIGALRM, on_alarm);
}

struct trainer *trainer_start(const char *name, void (*body)(void *arg), void *arg)
{
    struct trainer *trainer = NULL;
    pid_t parent = getpid(), pid;

    for (size_t i = 0; i < TRAINERS && !trainer; i++)
        if (!trainers[i].pid)
            trainer = &trainers[i];
    CHECK(trainer, "more than %d trainers", TRAINERS);
    snprintf(trainer->name, sizeof(trainer->name), "%s", name);
    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        unsigned before;

        begin_process(parent, trainer->name);
        in_trainer = true;
        daemons_forget();
        alarm((unsigned)(scaled_ns(TEST_S * SECOND) / SECOND)); /* before the test's own, which began earlier */
        before = descriptors(0);
        body(arg);
        check_descriptors(before);
        exit(0);
    }
    trainer->pid = pid;
    return trainer;
}

pid_t trainer_pid(const struct trainer *trainer)
{
    return trainer->pid;
}

void trainer_wait(struct trainer *trainer)
{
    struct patience patience = patience_start();
    int status;
    pid_t got;

    while ((got = waitpid(trainer->pid, &status, WNOHANG)) == 0) {
        struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, trainer->pid, 0), .events = POLLIN };

        CHECK(end.fd >= 0, "pidfd_open: %s", strerror(errno));
        poll(&end, 1, 1000);
        close(end.fd);
        look_after_trainers();
        CHECK(now_ns() < patience.deadline_ns, "trainer %s does not end", trainer->name);
    }
    CHECK(got == trainer->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "trainer %s has failed: status 0x%x",
          trainer->name, status);
    trainer->pid = 0;
}

void trainer_kill(struct trainer *trainer)
{
    int status;

    kill(trainer->pid, SIGKILL);
    CHECK(waitpid(trainer->pid, &status, 0) == trainer->pid, "waitpid: %s", strerror(errno));
    CHECK(WIFSIGNALED(status), "trainer %s ended by itself before it was killed: status 0x%x", trainer->name, status);
    trainer->pid = 0;
}

void trainer_stop(struct trainer *trainer)
{
    int status;

    kill(trainer->pid, SIGSTOP);
    CHECK(waitpid(trainer->pid, &status, WUNTRACED) == trainer->pid && WIFSTOPPED(status), "trainer %s did not stop",
          trainer->name);
}

void trainer_continue(struct trainer *trainer)
{
    kill(trainer->pid, SIGCONT);
}

static void kill_trainers(void)
{
    for (size_t i = 0; i < TRAINERS; i++)
        if (trainers[i].pid) {
            kill(trainers[i].pid, SIGKILL);
            waitpid(trainers[i].pid, NULL, 0);
        }
}

/* ---- the runner ----------------------------------------------------------------------------------------------------- */

static _Noreturn void run_here(const struct test *test, pid_t runner)
{
    unsigned before;

    setpgid(0, 0);
    begin_process(runner, test->name);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a killed trainer leaves behind is ours to end */
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)(scaled_ns((TEST_S + 5) * SECOND) / SECOND));
    before = descriptors(0);
    test->run(test->arg);
    kill_trainers();
    daemons_end();
    check_descriptors(before);
    exit(0);
}

/* 0, 1 or SKIPPED. Nothing of the test is left afterwards. */
static int run_one(const struct test *test)
{
    int64_t start_ns = now_ns();
    pid_t runner = getpid(), pid;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        perror("fork");
        return 1;
    }
    if (pid == 0)
        run_here(test, runner);
    setpgid(pid, pid); /* whichever of the two comes first */
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    while (waitpid(-pid, NULL, 0) > 0)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        return SKIPPED;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("ok   %s (%.1f s)\n", test->name, (double)(now_ns() - start_ns) / 1e9);
        return 0;
    }
    printf("FAIL %s", test->name);
    if (WIFSIGNALED(status))
        printf(": killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 1)
        printf(": exit status %d", WEXITSTATUS(status));
    putchar('\n');
    return 1;
}

static bool chosen(const struct test *test, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], test->name) == 0)
            return true;
    return argc < 2;
}

int tests_run(const struct test *tests, size_t n, int argc, char **argv)
{
    size_t ran = 0, failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (!getenv("PFEED_DAEMON")) {
        printf("skipped: PFEED_DAEMON does not name a pfeedd\n");
        return SKIPPED;
    }
    for (size_t i = 0; i < n; i++) {
        int rc = chosen(&tests[i], argc, argv) ? run_one(&tests[i]) : SKIPPED;

        ran += rc != SKIPPED;
        failed += rc == 1;
    }
    if (failed)
        printf("%zu of %zu failed\n", failed, ran);
    return failed ? 1 : ran ? 0 : SKIPPED;
}

void images_make(const char *folder, unsigned count, unsigned classes)
{
    const char *mkimages = getenv("PFEED_MKIMAGES");
    char counts[2][16];
    int status;
    pid_t pid;

    if (!mkimages)
        skip("PFEED_MKIMAGES does not name mkimages");
    snprintf(counts[0], sizeof(counts[0]), "%u", count);
    snprintf(counts[1], sizeof(counts[1]), "%u", classes);
    pid = fork();
    if (pid == 0) {
        execl(mkimages, mkimages, "--out", folder, "--count", counts[0], "--classes", counts[1], "--seed", "5", (char *)NULL);
        _exit(127);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "mkimages has failed");
}
