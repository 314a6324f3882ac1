/* SPDX-License-Identifier: MIT */
/*
 * What every system test stands on. tests_run gives each test a process of its own (the idea of wayland's test-runner): a test
 * that fails, hangs or leaks a descriptor is named, and whatever it started is gone when the next one begins. A test starts
 * daemons (daemon.h) and trainers (processes of their own, which run a function of the test), talks with the trainers through
 * shared memory, and waits for conditions, never for time: UNTIL and word_await fail the test at a deadline.
 *
 * Environment: PFEED_DAEMON path of pfeedd; PFEED_MKIMAGES path of mkimages; PFEED_PFEEDCTL path of pfeedctl; PFEED_TEST_SCALE
 * multiplies every time limit (sanitizers); PFEED_TEST_SANITIZE the sanitizers in use; PFEED_TEST_SEED of the tests' own
 * randomness.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct test {
    const char *name;
    void (*run)(const void *arg);
    const void *arg;
};

/* Runs those that the arguments name, or all. The program's exit status: 0, 1, or 77 where nothing failed and all were skipped. */
int tests_run(const struct test *tests, size_t n, int argc, char **argv);

/* End the process: the test's, which then has failed, or a trainer's, which makes its test fail. */
_Noreturn void fail_at(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void skip(const char *reason);
#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...)                                                                                                    \
    do {                                                                                                                         \
        if (!(condition))                                                                                                        \
            FAIL(__VA_ARGS__);                                                                                                   \
    } while (0)
/* Prints; for figures that a reader of the log wants. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- time ----------------------------------------------------------------------------------------------------------- */

#define MS     INT64_C(1000000)
#define SECOND INT64_C(1000000000)

int64_t now_ns(void);
int64_t scaled_ns(int64_t ns);    /* times PFEED_TEST_SCALE */
bool sanitized(const char *name); /* "address", "thread"; NULL: by any */

struct patience {
    int64_t deadline_ns;
};
struct patience patience_start(void);
/* Pauses for a millisecond; fails at the deadline, or at once where a trainer has failed. */
void patience_wait(const struct patience *patience, const char *file, int line, const char *condition);
#define UNTIL(condition)                                                                                                         \
    for (struct patience patience_ = patience_start(); !(condition); patience_wait(&patience_, __FILE__, __LINE__, #condition))

/* ---- randomness, hashes, memory ------------------------------------------------------------------------------------- */

struct random {
    uint64_t state;
};
struct random random_start(uint64_t salt);
uint64_t random_below(struct random *random, uint64_t n);
uint64_t mix(uint64_t value); /* a bijection that scatters */
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n);

int by_size(const void *a, const void *b); /* for qsort over int64_t */

/* Zeroed, shared with trainers that are started later, until the process ends. Untouched pages cost nothing. */
void *shared_memory(size_t size);

/* Words in shared memory. */
uint32_t word_get(const uint32_t *word);
void word_set(uint32_t *word, uint32_t value);   /* and wakes those who wait for it */
void word_add(uint32_t *word, uint32_t value);   /* likewise */
void word_await(uint32_t *word, uint32_t least); /* fails at the deadline, or where a trainer has failed */
uint64_t count_get(const uint64_t *count);
void count_set(uint64_t *count, uint64_t value);

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

struct trainer;

/* Forks; body(arg) runs in the child, which then checks that it has no more descriptors than before, and exits with 0. */
struct trainer *trainer_start(const char *name, void (*body)(void *arg), void *arg);
pid_t trainer_pid(const struct trainer *trainer);
void trainer_wait(struct trainer *trainer); /* must exit with 0 before the deadline */
void trainer_kill(struct trainer *trainer); /* SIGKILL; returns when it is dead (and reaped) */
void trainer_stop(struct trainer *trainer); /* SIGSTOP; returns when it is stopped */
void trainer_continue(struct trainer *trainer);

/* Descriptors that process has open (0: this one). */
unsigned descriptors(pid_t pid);

/* Folder and all that is in it. */
void remove_folder(const char *path);
/* JPEGs by mkimages, one in ten of them progressive; skips the test where it is not there. */
void images_make(const char *folder, unsigned count, unsigned classes);

#endif
