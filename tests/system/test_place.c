/* SPDX-License-Identifier: MIT */
/*
 * Where pfeedd finds itself: folders that cannot be written or are full, several daemons at the same instant, few descriptors or
 * none, a clock that jumps. It goes on, or a sentence says what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"
#include "machine.h"

#define LOOKS 50u

static struct daemon daemons[8], *pfeedd; /* one after the other */
static uint32_t n_daemons;
static char place[32]; /* a folder of the test's */

static const char *recipe(const char *of_daemon)
{
    static char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB%s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 64 }\n"
             "    batch: 8\n    slots: 64\n    fields: { x: { dtype: float32, shape: [16] } }\n",
             of_daemon);
    return yaml;
}

static void start(const char *of_daemon)
{
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, recipe(of_daemon));
}

static void train_once(void)
{
    struct plan plan = { .daemon = pfeedd, .feed = "spine", .epochs = 1, .history = history_create(8, 64) };

    trainer_wait(trainer_start("trainer", train, &plan));
    history_check(plan.history, "trainer", 1, 8);
    history_destroy(plan.history);
}

static void make_place(void)
{
    strcpy(place, "/tmp/pfeed-place-XXXXXX");
    CHECK(mkdtemp(place), "mkdtemp: %s", strerror(errno));
}

static char *read_file(const char *path)
{
    FILE *from = fopen(path, "re");
    char *text = calloc(1, 65536);

    CHECK(from && text, "cannot read %s", path);
    text[fread(text, 1, 65535, from)] = 0;
    fclose(from);
    return text;
}

static char *read_place(const char *file)
{
    char path[320];

    snprintf(path, sizeof(path), "%s/%s", place, file);
    return read_file(path);
}

static bool file_has(const char *path, const char *words)
{
    char *text = read_file(path);
    bool has = strstr(text, words);

    free(text);
    return has;
}

/* ---- daemons by hand ------------------------------------------------------------------------------------------------ */

/* Runs pfeedd with `place`/pfeed.yaml; what it says goes to `place`/said. socket NULL: the default one. gate: a pipe; it
 * begins when that is closed. NULL: at once. */
static pid_t launch(void (*prepare)(void), const char *socket, const char *said, const int *gate)
{
    const char *program = getenv("PFEED_DAEMON");
    char config[96], path[128], byte;
    pid_t pid;

    snprintf(config, sizeof(config), "%s/pfeed.yaml", place);
    snprintf(path, sizeof(path), "%s/%s", place, said);
    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        int output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        dup2(output, 1);
        dup2(output, 2);
        alarm(60);
        if (prepare)
            prepare();
        if (gate) {
            close(gate[1]);
            CHECK(read(gate[0], &byte, 1) == 0, "the gate: %s", strerror(errno));
        }
        execl(program, program, "--config", config, socket ? "--socket" : NULL, socket, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void expect_refusal(void (*prepare)(void), const char *socket, const char *words)
{
    pid_t pid = launch(prepare, socket, "said", NULL);
    char *said;
    int status;

    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    said = read_place("said");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1 && strstr(said, words), "status 0x%x, and not '%s', but: %s", status,
          words, said);
    free(said);
}

/* ---- folders -------------------------------------------------------------------------------------------------------- */

static void readonly_run(void)
{
    machine_own_mounts();
    machine_mount_tmpfs("/run", "", MS_RDONLY);
}

static void mount_full(const char *options)
{
    char folder[96];

    snprintf(folder, sizeof(folder), "%s/full", place);
    machine_own_mounts();
    machine_mount_tmpfs(folder, options, 0);
}

static void no_inode(void)
{
    mount_full("nr_inodes=1");
}

static void one_inode(void)
{
    mount_full("nr_inodes=2");
}

static void run_folders(const void *arg)
{
    char folder[80], socket[100], words[256];

    machine_need_root();
    make_place();
    machine_write(place, "pfeed.yaml", recipe(""));
    snprintf(folder, sizeof(folder), "%s/full", place);
    snprintf(socket, sizeof(socket), "%s/p.sock", folder);
    CHECK(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
    expect_refusal(readonly_run, NULL,
                   "cannot make the folder /run/pfeed: Read-only file system; make room for it there, or use --user (your own "
                   "folder) or --socket PATH");
    snprintf(words, sizeof(words),
             "cannot open the lock %s/p.lock: No space left on device; make room for it there, or use --user", folder);
    expect_refusal(no_inode, socket, words);
    snprintf(words, sizeof(words), "cannot listen at %s: No space left on device; make room for it there, or use --user", socket);
    expect_refusal(one_inode, socket, words);
    machine_write(folder, "p.sock", "somebody's text\n");
    snprintf(words, sizeof(words), "%s is there and is not a socket; remove it, or use --socket PATH", socket);
    expect_refusal(NULL, socket, words);
    remove_folder(place);
}

static unsigned count_words(const char *text, const char *words)
{
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, words)); at += strlen(words))
        n++;
    return n;
}

/* Files can be made, and nothing can be written into them. */
static void fill_state(void)
{
    char folder[96];

    mount_full("size=16k");
    snprintf(folder, sizeof(folder), "%s/full", place);
    machine_fill(folder);
}

static void run_state(const void *arg)
{
    char state[128], folder[96], *said;

    machine_need_root();
    make_place();
    snprintf(folder, sizeof(folder), "%s/full", place);
    CHECK(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
    daemon_prepare = fill_state;
    snprintf(state, sizeof(state), ", state: %s", folder);
    start(state);
    train_once();
    said = daemon_output(pfeedd);
    CHECK(count_words(said, "warning: ") <= 1 && count_words(said, "error: ") == 0, "about a full state folder it says: %s",
          said);
    free(said);
    daemon_stop(pfeedd);
    daemon_prepare = no_inode;
    snprintf(state, sizeof(state), ", state: %s/state", folder);
    start(state);
    train_once();
    said = daemon_output(pfeedd);
    CHECK(count_words(said, "warning: ") == 1 &&
              strstr(said, "/full/state: No space left on device; sources are listed anew at each "
                           "start, unless `daemon: state` names another (or says none)"),
          "about a state folder that cannot be made it says: %s", said);
    free(said);
    daemon_stop(pfeedd);
    remove_folder(place);
}

/* ---- several at once ------------------------------------------------------------------------------------------------ */

static void run_eight(const void *arg)
{
    char socket[100], path[128], said[8][16], *text;
    unsigned n_refused = 0, served = 8;
    int gate[2], status;
    pid_t pids[8];

    make_place();
    machine_write(place, "pfeed.yaml", recipe(""));
    snprintf(socket, sizeof(socket), "%s/p.sock", place);
    CHECK(pipe2(gate, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    for (unsigned i = 0; i < 8; i++) {
        snprintf(said[i], sizeof(said[i]), "said%u", i);
        pids[i] = launch(NULL, socket, said[i], gate);
    }
    close(gate[0]);
    close(gate[1]);
    UNTIL(n_refused == 7)
    {
        for (unsigned i = 0; i < 8; i++) {
            if (!pids[i] || waitpid(pids[i], &status, WNOHANG) != pids[i])
                continue;
            text = read_place(said[i]);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1 && strstr(text, "another pfeedd (pid ") &&
                      strstr(text, "`pfeedctl stop --socket "),
                  "status 0x%x: %s", status, text);
            free(text);
            pids[i] = 0;
            n_refused++;
        }
    }
    for (unsigned i = 0; i < 8; i++)
        served = pids[i] ? i : served;
    snprintf(path, sizeof(path), "%s/%s", place, said[served]);
    UNTIL(file_has(path, "ready: "))
    {
    }
    CHECK(kill(pids[served], SIGTERM) == 0 && waitpid(pids[served], &status, 0) == pids[served] && status == 0,
          "the one that serves ended with 0x%x", status);
    remove_folder(place);
}

/* ---- descriptors ---------------------------------------------------------------------------------------------------- */

static void few_descriptors(void)
{
    const struct rlimit limit = { 64, 64 };

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

static int open_one(struct pfeed **pf)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = pfeedd->socket, .feed = "spine", .max_held = 1 };

    return pfeed_open(pf, &options);
}

/* A connection on which the daemon has answered, or that it has refused. */
static int ask(void)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = PF_STAT_DAEMON };
    int fd = lane_connect(pfeedd);
    uint8_t reply[PF_CTL_MAX];

    send(fd, &request, sizeof(request), MSG_NOSIGNAL);
    recv(fd, reply, sizeof(reply), 0);
    return fd;
}

static void run_few(const void *arg)
{
    struct pfeed *consumers[64];
    int n = 0, rc = 0, idle[10];

    daemon_prepare = few_descriptors;
    start("");
    while (n < 64 && (rc = open_one(&consumers[n])) == 0)
        must_done(consumers[n], must_next(consumers[n])), n++;
    note("%d consumers", n);
    CHECK(n >= 4 && rc == -EMFILE, "with 64 descriptors %d consumers, and then %d: %s", n, rc, pfeed_error(NULL));
    for (int again = 0; again < 20; again++) {
        if (again >= 10) /* from here on there is soon no descriptor for a connection either */
            idle[again - 10] = ask();
        CHECK(open_one(&consumers[n]) == -EMFILE, "there is room all of a sudden: %s", pfeed_error(NULL));
        CHECK(strcmp(pfeed_error(NULL),
                     "pfeedd has no file descriptor left (its limit is 64, a consumer takes 7): close some trainers, or start "
                     "pfeedd with a higher limit (LimitNOFILE= of its unit, `ulimit -n` of a shell)") == 0,
              "who finds no descriptor hears: %s", pfeed_error(NULL));
    }
    for (int i = 0; i < 10; i++)
        close(idle[i]);
    for (int i = 0; i < n; i++)
        must_done(consumers[i], must_next(consumers[i]));
    pfeed_close(consumers[--n]);
    UNTIL(open_one(&consumers[n]) == 0)
    {
    }
    must_done(consumers[n], must_next(consumers[n]));
    for (int i = 0; i <= n; i++)
        pfeed_close(consumers[i]);
    daemon_stop(pfeedd);
}

/* Not even the spare one can be had back: nobody is listened to for a while, and pfeedd neither spins nor stays deaf. */
static void run_none(const void *arg)
{
    struct timespec pause = { .tv_nsec = 2 * MS };
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = PF_STAT_DAEMON };
    struct pf_row_daemon before, after;
    struct rlimit limit;
    int waiting[3];
    union {
        struct pf_ctl_head head;
        uint8_t bytes[PF_CTL_MAX];
    } reply;

    start("");
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, NULL, &limit) == 0, "prlimit: %s", strerror(errno));
    limit.rlim_cur = 3;
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, &limit, NULL) == 0, "prlimit: %s", strerror(errno));
    for (int i = 0; i < 3; i++) {
        waiting[i] = lane_connect(pfeedd);
        send(waiting[i], &request, sizeof(request), MSG_NOSIGNAL);
    }
    stat_daemon(pfeedd, &before);
    for (uint32_t look = 0; look < LOOKS; look++) {
        nanosleep(&pause, NULL);
        stat_daemon(pfeedd, &after);
    }
    CHECK(after.wakeups - before.wakeups <= 2 * LOOKS, "the daemon woke up %llu times where %u were called for",
          (unsigned long long)(after.wakeups - before.wakeups), LOOKS);
    limit.rlim_cur = limit.rlim_max;
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, &limit, NULL) == 0, "prlimit: %s", strerror(errno));
    CHECK(recv(waiting[2], &reply, sizeof(reply), 0) > 0 && reply.head.type == PF_CTL_ROWS, "who waited is not served");
    for (int i = 0; i < 3; i++)
        close(waiting[i]);
    train_once();
    daemon_stop(pfeedd);
}

/* No sample is bad because pfeedd could not open it. */
static void run_reads(const void *arg)
{
    struct plan plan = { .daemon = &daemons[0], .feed = "pictures", .epochs = 1, .history = history_create(8, 64) };
    struct rlimit few, old;
    struct trainer *trainer;
    struct pf_row_feed row;
    char yaml[512];

    make_place();
    images_make(place, 64, 2);
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 512MiB, state: none }\nfeeds:\n  pictures:\n"
             "    source: { type: directory, path: %s }\n    batch: 8\n    fields:\n      image: { decode: image, dtype: uint8,\n"
             "        transforms: [ random_resized_crop: { size: 32 } ] }\n",
             place);
    pfeedd = &daemons[n_daemons++];
    daemon_start(pfeedd, yaml);
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, NULL, &old) == 0, "prlimit: %s", strerror(errno));
    few = (struct rlimit){ descriptors(pfeedd->pid) + 7, old.rlim_max }; /* for the trainer */
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, &few, NULL) == 0, "prlimit: %s", strerror(errno));
    trainer = trainer_start("trainer", train, &plan);
    UNTIL((row = feed_now(pfeedd, "pictures")).filling > 0 || row.rows_filled > 0)
    {
    }
    nanosleep(&(struct timespec){ .tv_nsec = 50 * MS }, NULL); /* for some attempts; none would do, too */
    CHECK(prlimit(pfeedd->pid, RLIMIT_NOFILE, &old, NULL) == 0, "prlimit: %s", strerror(errno));
    trainer_wait(trainer);
    history_check(plan.history, "trainer", 1, 8);
    history_destroy(plan.history);
    row = feed_now(pfeedd, "pictures");
    CHECK(row.rows_replaced == 0 && row.rows_masked == 0, "%llu rows were replaced and %llu masked",
          (unsigned long long)row.rows_replaced, (unsigned long long)row.rows_masked);
    daemon_stop(pfeedd);
    remove_folder(place);
}

/* ---- the clock ------------------------------------------------------------------------------------------------------ */

static char faketime[128];

static void jumping_clock(void)
{
    char file[96];

    snprintf(file, sizeof(file), "%s/clock", place);
    setenv("LD_PRELOAD", faketime, 1);
    setenv("FAKETIME_TIMESTAMP_FILE", file, 1);
    setenv("FAKETIME_NO_CACHE", "1", 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
}

static void find_faketime(void)
{
    static const char *const folders[] = { "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib" };

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        snprintf(faketime, sizeof(faketime), "%s/faketime/libfaketimeMT.so.1", folders[i]);
        if (access(faketime, R_OK) == 0)
            return;
    }
    skip("there is no libfaketime (package faketime)");
}

/* In an order in which it goes forward and back, by an hour and by years. */
static const char *const jumps[] = { "+3600", "-3600", "+0", "-300000000", "+300000000", "+0" };

static void step_through(void *arg)
{
    struct plan plan = { .daemon = pfeedd, .feed = "spine" };
    struct pfeed *pf = plan_open(&plan);
    uint64_t *slept = arg;

    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        int64_t start_ns;

        machine_write(place, "clock", jumps[i]);
        start_ns = now_ns();
        for (int k = 0; k < 100; k++)
            must_done(pf, must_next(pf));
        *slept += (uint64_t)(now_ns() - start_ns);
    }
    pfeed_close(pf);
}

static void run_clock(const void *arg)
{
    uint64_t *slept = shared_memory(sizeof(*slept));
    struct pf_row_daemon row;
    char maps[64];

    find_faketime();
    if (sanitized("thread"))
        skip("libfaketime and ThreadSanitizer do not go together");
    make_place();
    machine_write(place, "clock", "+0");
    daemon_prepare = jumping_clock;
    start("");
    trainer_wait(trainer_start("trainer", step_through, slept));
    CHECK(*slept < (uint64_t)scaled_ns(10 * SECOND), "600 steps took %llu ms", (unsigned long long)(*slept / 1000000));
    machine_write(place, "clock", "+300000000");
    snprintf(maps, sizeof(maps), "/proc/%d/maps", pfeedd->pid);
    CHECK(file_has(maps, "libfaketime"), "libfaketime is not there");
    stat_daemon(pfeedd, &row);
    CHECK(row.uptime_ns < (uint64_t)scaled_ns(60 * SECOND), "it believes that it has been up for %llu s",
          (unsigned long long)(row.uptime_ns / 1000000000));
    machine_write(place, "clock", "-3600");
    daemon_stop(pfeedd); /* within 2 s, though it waits for its threads */
    remove_folder(place);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a read-only or full place for the socket", run_folders, NULL },
        { "a full place for the state", run_state, NULL },
        { "eight at the same instant", run_eight, NULL },
        { "64 descriptors", run_few, NULL },
        { "no descriptor at all", run_none, NULL },
        { "reads without descriptors", run_reads, NULL },
        { "a clock that jumps", run_clock, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
