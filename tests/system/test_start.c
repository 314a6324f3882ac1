/* SPDX-License-Identifier: MIT */
/*
 * How pfeedd starts and ends, as an administrator meets it: its options and exit codes, READY, STATUS and STOPPING, a socket from
 * systemd (LISTEN_FDS), the lock against a second daemon and the socket of a dead one, a budget that the machine has not got,
 * SIGTERM while a worker is stuck, and a stderr that nobody reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define ARGS 8

static const char plain[] = "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                            "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 4\n"
                            "    fields: { x: { dtype: float32, shape: [16] } }\n";

/* As systemd does it: descriptor 3 is a socket, LISTEN_PID names the process. */
static void pass_socket(int fd)
{
    char own[32];

    snprintf(own, sizeof(own), "%ld", (long)getpid());
    setenv("LISTEN_PID", own, 1);
    setenv("LISTEN_FDS", "1", 1);
    if (fd == 3)
        fcntl(3, F_SETFD, 0);
    else
        dup2(fd, 3);
}

/* Runs pfeedd to its end: its exit status, and what it printed on either stream. passed: a descriptor for it, or -1. */
static int run(char *const args[], int passed, char *printed, size_t size)
{
    const char *program = getenv("PFEED_DAEMON");
    char *full[ARGS + 2] = { (char *)(uintptr_t)program };
    int ends[2], status;
    size_t at = 0;
    ssize_t got;
    pid_t pid;

    for (int i = 0; args[i]; i++)
        full[i + 1] = args[i];
    CHECK(pipe2(ends, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        alarm(60);
        if (passed >= 0)
            pass_socket(passed);
        execv(program, full);
        _exit(127);
    }
    close(ends[1]);
    while ((got = read(ends[0], printed + at, size - 1 - at)) > 0)
        at += (size_t)got;
    printed[at] = 0;
    close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "pfeedd %s did not exit by itself", args[0]);
    return WEXITSTATUS(status);
}

static void expect_with(char *const args[], int passed, int status, const char *words)
{
    static char printed[65536];
    int got = run(args, passed, printed, sizeof(printed));

    CHECK(got == status, "pfeedd %s ended with %d, not %d: %s", args[0], got, status, printed);
    CHECK(strstr(printed, words), "pfeedd %s does not say '%s': %s", args[0], words, printed);
}

static void expect(char *const args[], int status, const char *words)
{
    expect_with(args, -1, status, words);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

static void run_options(const void *arg)
{
    char folder[] = "/tmp/pfeed-test-XXXXXX", good[64], bad[64], huge[64], words[128];

    CHECK(mkdtemp(folder), "mkdtemp: %s", strerror(errno));
    snprintf(good, sizeof(good), "%s/good.yaml", folder);
    snprintf(bad, sizeof(bad), "%s/bad.yaml", folder);
    snprintf(huge, sizeof(huge), "%s/huge.yaml", folder);
    write_file(good, plain);
    write_file(bad, "version: 1\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 64 }\n    btch: 8\n"
                    "    fields: { x: { dtype: float32, shape: [16] } }\n");
    write_file(huge,
               "version: 1\ndaemon: { workers: 1, memory: 512TiB }\nfeeds:\n  spine:\n"
               "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    fields: { x: { dtype: float32, shape: [16] } }\n");
    expect((char *[]){ "--help", NULL }, 0, "--dump-config");
    expect((char *[]){ "--version", NULL }, 0, PFEED_VERSION);
    expect((char *[]){ "--nonsense", NULL }, 2, "--help");
    expect((char *[]){ "nonsense", NULL }, 2, "nonsense");
    expect((char *[]){ "--log-level", "loud", NULL }, 2, "debug");
    expect((char *[]){ "--check", good, NULL }, 0, "fine");
    snprintf(words, sizeof(words), "%s:5:5: ", bad);
    expect((char *[]){ "--check", bad, NULL }, 78, words);
    expect((char *[]){ "--check", bad, NULL }, 78, "did you mean 'batch'");
    expect((char *[]){ "--config", bad, NULL }, 78, words);
    expect((char *[]){ "--config", "/nonexistent/pfeed.yaml", NULL }, 78, "/nonexistent/pfeed.yaml");
    expect((char *[]){ "--dump-config", "--config", good, NULL }, 0, "good.yaml:6");
    snprintf(words, sizeof(words), "%s/a.sock", folder);
    expect((char *[]){ "--config", huge, "--socket", words, NULL }, 78, "MiB");
    unsetenv("XDG_RUNTIME_DIR");
    expect((char *[]){ "--user", "--config", good, NULL }, 78, "XDG_RUNTIME_DIR");
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("PFEED_CPU", "fastest", 1);
    expect((char *[]){ "--check", good, NULL }, 78, "PFEED_CPU is 'fastest'; this machine offers scalar");
    setenv("PFEED_CPU", "scala", 1); /* no beginning of a word */
    expect((char *[]){ "--config", good, NULL }, 78, "PFEED_CPU is 'scala'");
    unsetenv("PFEED_CPU");
    remove_folder(folder);
}

/* Everything that came on the notify socket from now until `words` did. */
static void await_notice(const struct daemon *daemon, const char *words)
{
    int64_t deadline_ns = now_ns() + scaled_ns(30 * SECOND);
    char text[4096];

    for (;;) {
        struct pollfd poll_fd = { .fd = daemon->notify, .events = POLLIN };
        ssize_t n;

        CHECK(now_ns() < deadline_ns, "the daemon did not tell systemd '%s'", words);
        poll(&poll_fd, 1, 100);
        n = recv(daemon->notify, text, sizeof(text) - 1, MSG_DONTWAIT);
        if (n < 0)
            continue;
        text[n] = 0;
        if (strstr(text, words))
            return;
    }
}

static void run_notices(const void *arg)
{
    static struct daemon pfeedd; /* the harness looks at it when the test is over */
    int status;

    daemon_start(&pfeedd, plain);
    CHECK(kill(pfeedd.pid, SIGTERM) == 0, "kill: %s", strerror(errno));
    await_notice(&pfeedd, "STOPPING=1");
    CHECK(waitpid(pfeedd.pid, &status, 0) == pfeedd.pid && status == 0, "it ended with 0x%x", (unsigned)status);
    pfeedd.pid = 0;
    CHECK(access(pfeedd.socket, F_OK) != 0, "its socket is still there");
}

static void run_second(const void *arg)
{
    struct pf_row_daemon row;
    static struct daemon pfeedd; /* the harness looks at it when the test is over */
    char words[64];

    daemon_start(&pfeedd, plain);
    snprintf(words, sizeof(words), "pid %ld", (long)pfeedd.pid);
    expect((char *[]){ "--config", pfeedd.config, "--socket", pfeedd.socket, NULL }, 1, words);
    stat_daemon(&pfeedd, &row);
    CHECK(row.pid == (uint64_t)pfeedd.pid, "the first daemon no longer answers");
    daemon_kill(&pfeedd);
    CHECK(access(pfeedd.socket, F_OK) == 0, "a killed daemon leaves its socket");
    daemon_again(&pfeedd); /* takes the dead one's socket over */
    daemon_stop(&pfeedd);
}

static int bound_socket(int type, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "cannot bind %s: %s", path, strerror(errno));
    return fd;
}

static pid_t start_activated(const char *config, int listener)
{
    const char *program = getenv("PFEED_DAEMON");
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        alarm(60);
        pass_socket(listener);
        execl(program, program, "--config", config, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void run_activation(const void *arg)
{
    char folder[] = "/tmp/pfeed-test-XXXXXX", config[64], path[64], words[64];
    struct pfeed_options options = { .size = sizeof(options), .feed = "spine", .epochs = 1, .socket = path };
    struct pfeed_batch *batch;
    struct pfeed *pf = NULL;
    int listener, status, rc;
    pid_t pid;

#ifndef HAVE_SYSTEMD
    skip("built without libsystemd");
#endif
    CHECK(mkdtemp(folder), "mkdtemp: %s", strerror(errno));
    snprintf(config, sizeof(config), "%s/pfeed.yaml", folder);
    snprintf(path, sizeof(path), "%s/given.sock", folder);
    write_file(config, plain);
    listener = bound_socket(SOCK_SEQPACKET, path);
    CHECK(listen(listener, 16) == 0, "cannot listen: %s", strerror(errno));
    pid = start_activated(config, listener);
    rc = pfeed_open(&pf, &options); /* connects at once, waits until the daemon accepts */
    CHECK(rc == 0, "pfeed_open: %s", pfeed_error(NULL));
    CHECK(pfeed_next(pf, &batch, 30000) == 0 && pfeed_done(pf, batch) == 0, "pfeed_next: %s", pfeed_error(pf));
    /* Its path is as well guarded as one that it made: against a second daemon of either kind. */
    snprintf(words, sizeof(words), "pid %ld", (long)pid);
    expect((char *[]){ "--config", config, "--socket", path, NULL }, 1, words);
    expect_with((char *[]){ "--config", config, NULL }, listener, 1, words);
    CHECK(pfeed_next(pf, &batch, 30000) == 0 && pfeed_done(pf, batch) == 0, "pfeed_next: %s", pfeed_error(pf));
    pfeed_close(pf);
    close(listener);
    CHECK(kill(pid, SIGTERM) == 0 && waitpid(pid, &status, 0) == pid && status == 0, "it ended with 0x%x", (unsigned)status);
    CHECK(access(path, F_OK) == 0, "it removed a socket that is not its own");
    remove_folder(folder);
}

static void run_wrong_socket(const void *arg)
{
    static const struct {
        const char *name;
        int type;
        bool listens;
    } kinds[] = { { "stream", SOCK_STREAM, true }, { "dgram", SOCK_DGRAM, false }, { "deaf", SOCK_SEQPACKET, false } };
    char folder[] = "/tmp/pfeed-test-XXXXXX", config[64], path[64];
    int fd;

#ifndef HAVE_SYSTEMD
    skip("built without libsystemd");
#endif
    CHECK(mkdtemp(folder), "mkdtemp: %s", strerror(errno));
    snprintf(config, sizeof(config), "%s/pfeed.yaml", folder);
    write_file(config, plain);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s.sock", folder, kinds[i].name);
        fd = bound_socket(kinds[i].type, path);
        CHECK(!kinds[i].listens || listen(fd, 16) == 0, "cannot listen: %s", strerror(errno));
        expect_with((char *[]){ "--config", config, NULL }, fd, 78, "is not a listening SOCK_SEQPACKET Unix socket");
        CHECK(access(path, F_OK) == 0, "it removed a socket that is not its own");
        close(fd);
    }
    fd = open(config, O_RDONLY | O_CLOEXEC);
    expect_with((char *[]){ "--config", config, NULL }, fd, 78, "ListenSequentialPacket=");
    close(fd);
    remove_folder(folder);
}

/* With all that is needed it starts; with 4 KiB less it names both figures, which differ. */
static void run_budget(const void *arg)
{
    static const char yaml[] = "version: 1\ndaemon: { workers: 1, memory: %llu }\nfeeds:\n  spine:\n"
                               "    source: { type: synthetic, rows: 1000 }\n    batch: 64\n    slots: 8\n"
                               "    fields: { x: { dtype: float32, shape: [%u] } }\n";
    static struct daemon ample, enough, less; /* the harness looks at them when the test is over */
    unsigned long long used, mib;
    struct pf_row_daemon row;
    char text[512], words[64];
    char *output;

    snprintf(text, sizeof(text), yaml, 256ULL << 20, 8192);
    daemon_start(&ample, text);
    stat_daemon(&ample, &row);
    daemon_stop(&ample);
    used = row.memory_used_bytes;
    mib = used >> 20;
    snprintf(text, sizeof(text), yaml, used, 8192);
    daemon_start(&enough, text);
    daemon_stop(&enough);
    snprintf(text, sizeof(text), yaml, used - 4096, 8192);
    CHECK(daemon_try(&less, text) == 78, "it did not end with 78");
    output = daemon_output(&less);
    snprintf(words, sizeof(words), "need at least %llu MiB", mib + 1);
    CHECK(strstr(output, words), "it does not say '%s': %s", words, output);
    snprintf(words, sizeof(words), "the budget is %llu MiB", (used - 4096) >> 20);
    CHECK(strstr(output, words), "it does not say '%s': %s", words, output);
    free(output);
}

static void ask(void *arg)
{
    struct pfeed *pf = plan_open(arg);
    struct pfeed_batch *batch;
    int rc = pfeed_next(pf, &batch, 300000);

    CHECK(rc == -EPIPE, "pfeed_next said %d: %s", rc, pfeed_error(pf));
    pfeed_close(pf);
}

/* A read that takes ten seconds. daemon_stop allows 2 s. */
static void run_stuck(const void *arg)
{
    static struct daemon pfeedd; /* the harness looks at it when the test is over */
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .reconnect_ms = -1 };
    struct trainer *trainer;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64, delay_us: 10000000 }\n    batch: 8\n    slots: 4\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    trainer = trainer_start("asking", ask, &plan);
    UNTIL(feed_now(&pfeedd, "spine").filling > 0);
    daemon_stop(&pfeedd);
    trainer_wait(trainer);
}

/* `pfeedctl stop` has ended when the daemon hangs up; from then on another one may have its place, although a worker was still
 * reading. */
static void run_stop(const void *arg)
{
    static struct daemon pfeedd, next;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .reconnect_ms = -1 };
    struct pf_ctl_head request = { PF_CTL_VERSION, PF_CTL_STOP, sizeof(request) };
    struct pollfd event = { .events = POLLIN };
    struct trainer *trainer;
    char message[PF_CTL_MAX];
    int status, n_messages = 0;
    pid_t pid;

    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64, delay_us: 1000000 }\n    batch: 8\n    slots: 4\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    trainer = trainer_start("asking", ask, &plan);
    UNTIL(feed_now(&pfeedd, "spine").filling > 0);
    event.fd = pfeedd.control;
    CHECK(send(event.fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request), "cannot ask it to stop");
    while (poll(&event, 1, (int)(scaled_ns(10 * SECOND) / MS)) == 1 && recv(event.fd, message, sizeof(message), 0) > 0)
        n_messages++;
    CHECK(n_messages == 1, "%d messages before it hung up", n_messages);
    next = pfeedd;
    next.control = -1;
    pid = pfeedd.pid;
    status = daemon_run(&next);
    CHECK(status == -1, "the next daemon ended with exit status %d", status);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the first one ended with 0x%x",
          status);
    close(pfeedd.control);
    pfeedd.control = -1;
    pfeedd.pid = 0;
    trainer_wait(trainer);
    daemon_stop(&next);
}

/* A pipe that takes nothing more. The daemon has the other end, too, so that the writer is not told that nobody will ever read. */
static void full_stderr(void)
{
    static const char block[PIPE_BUF];
    int ends[2];

    CHECK(pipe(ends) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0, "pipe: %s", strerror(errno));
    while (write(ends[1], block, sizeof(block)) > 0)
        ;
    CHECK(errno == EAGAIN && fcntl(ends[1], F_SETFL, 0) == 0, "the pipe does not fill: %s", strerror(errno));
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

/* What waits to be read of a process's stderr, less zeros. */
static size_t read_stderr(pid_t pid, char *text, size_t size)
{
    char path[64], byte;
    size_t n = 0;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/fd/2", pid);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(fd >= 0, "cannot open %s: %s", path, strerror(errno));
    while (n + 1 < size && read(fd, &byte, 1) == 1)
        if (byte)
            text[n++] = byte;
    text[n] = 0;
    close(fd);
    return n;
}

/* Which kind of loops is used, and how it is forced. */
static void run_kernels(const void *arg)
{
    static struct daemon pfeedd;
    struct pf_row_daemon about;

    setenv("PFEED_CPU", "scalar", 1);
    daemon_start(&pfeedd, plain);
    UNTIL((stat_daemon(&pfeedd, &about), strstr(about.status, " scalar kernel")));
    daemon_stop(&pfeedd);
}

/* It starts, reloads and serves although nobody reads what it says; and says so to the one who then does. */
static void run_unread(const void *arg)
{
    static struct daemon pfeedd;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 1 };
    char text[4096] = "";

    daemon_prepare = full_stderr;
    daemon_start(&pfeedd, plain);
    plan.history = history_create(64, 512);
    trainer_wait(trainer_start("served", train, &plan));
    history_check(plan.history, "unread", 1, 8);
    CHECK(read_stderr(pfeedd.pid, text, sizeof(text)) == 0, "the pipe was not full: %s", text);
    kill(pfeedd.pid, SIGHUP);
    UNTIL(read_stderr(pfeedd.pid, text, sizeof(text)) > 0);
    CHECK(strstr(text, "lost here"), "pfeedd says: %s", text);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "options and exit codes", run_options, NULL },
        { "notices to systemd", run_notices, NULL },
        { "a second daemon, a dead one", run_second, NULL },
        { "socket activation", run_activation, NULL },
        { "a passed socket of another kind", run_wrong_socket, NULL },
        { "a budget too small by 4 KiB", run_budget, NULL },
        { "SIGTERM with a stuck worker", run_stuck, NULL },
        { "pfeedctl stop waits for the end", run_stop, NULL },
        { "its kernel", run_kernels, NULL },
        { "nobody reads its log", run_unread, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
