/* SPDX-License-Identifier: MIT */
/*
 * Failing on purpose: the k-th call of each kind fails in each way (inject.h), for k = 1, 2, .. until the run succeeds without a
 * failure. The daemon: starts, serves an epoch of each feed, reloads, serves again, stops; or it says why it cannot and ends with
 * its status. A trainer: an epoch of each feed, or a sentence; and the daemon serves the next one. A manifest that cannot be
 * saved: the daemon serves all the same, and what lies there is good for the next one. pfeedctl: all that it shows, or a sentence
 * alone. Never a signal, a hang, a leak (where AddressSanitizer looks), a descriptor more, a wrong byte, a name left in /dev/shm, a
 * lock that stays.
 *
 * PFEED_FAULT_SECONDS: as many of them as fit (default 75; spread over all k, from a start that PFEED_TEST_SEED sets: a number,
 * default 1, or "clock"); 0: all. PFEED_FAULT_CALL, PFEED_FAULT_CODE, PFEED_FAULT_K: only those; with K, where it failed is printed,
 * too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "machine.h"
#include "stage.h"

#define SECONDS_DEFAULT 75 /* the sum of all shares */
#define PRINTED         10 /* failures told in full */
#define SANITIZER_EXIT  99
#define TOLD_EXIT       3
#define FOR_EVER        UINT64_MAX

static const char *const call_names[] = {
#define NAME(name, ...) #name,
    FAULT_CALLS(NAME)
#undef NAME
};
static const int codes[][4] = {
#define CODES(name, ...) { __VA_ARGS__ },
    FAULT_CALLS(CODES)
#undef CODES
};

enum outcome { FINE, TOLD, REFUSED, ENDED, BAD, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {
    [FINE] = "fine",       /* as if nothing had been */
    [TOLD] = "told",       /* a trainer got a sentence; the next one was served */
    [REFUSED] = "refused", /* the daemon did not start, and said why */
    [ENDED] = "ended",     /* the daemon ended later, and said why */
    [BAD] = "BAD",
};

static struct stage stage;
static char why[512];        /* of the last BAD */
static unsigned fds_at_rest; /* of a daemon that nobody uses */
static char output[1 << 16];

static enum outcome bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
static enum outcome bad(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    return BAD;
}

/* ---- processes ------------------------------------------------------------------------------------------------------ */

static const char *read_output(void)
{
    int fd = open(stage.output, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, output, sizeof(output) - 1, 0) : 0;

    output[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
    return output;
}

static const struct denial no_uring = { .call = SYS_io_uring_setup, .error = EPERM };

static _Noreturn void become(const char *program, const char *const *arguments, bool harmed, pid_t parent)
{
    int to = open(stage.output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600), from = open("/dev/null", O_RDONLY);
    char options[160];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    dup2(from, 0);
    dup2(to, 1);
    dup2(to, 2);
    close_range(3, ~0U, 0);
    setenv("ASAN_OPTIONS", "exitcode=99:detect_leaks=1:verify_asan_link_order=0:detect_stack_use_after_return=1", 1);
    setenv("UBSAN_OPTIONS", "halt_on_error=1:exitcode=99:print_stacktrace=1", 1);
    snprintf(options, sizeof(options), "exitcode=99:suppressions=%s/leaks", stage.folder);
    setenv("LSAN_OPTIONS", options, 1);
    setenv("STATE_DIRECTORY", stage.folder, 1);
    setenv(FAULT_ENV, stage.page_path, 1);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("LISTEN_FDS");
    if (harmed) {
        setenv("LD_PRELOAD", getenv("PFEED_FAULT_LIBRARY"), 1);
        machine_deny(&no_uring, 1); /* its reads would not be calls that can be made to fail: threads read ahead */
    }
    execv(program, (char *const *)arguments);
    fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

struct process {
    pid_t pid;
    struct timespec begun; /* as files' times are */
    int pidfd, status;
    bool ended;
};

static void process_start(struct process *process, const char *program, const char *const *arguments, bool harmed)
{
    pid_t parent = getpid();

    *process = (struct process){ 0 };
    clock_gettime(CLOCK_REALTIME_COARSE, &process->begun);
    process->pid = fork();
    CHECK(process->pid >= 0, "fork: %s", strerror(errno));
    if (process->pid == 0)
        become(program, arguments, harmed, parent);
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    CHECK(process->pidfd >= 0, "pidfd_open: %s", strerror(errno));
}

/* Whether it has ended, after at most so long. */
static bool process_ended(struct process *process, int ms)
{
    struct pollfd end = { .fd = process->pidfd, .events = POLLIN };

    if (process->ended || poll(&end, 1, ms) != 1)
        return process->ended;
    CHECK(waitpid(process->pid, &process->status, 0) == process->pid, "waitpid: %s", strerror(errno));
    process->ended = true;
    return true;
}

static void process_fini(struct process *process)
{
    if (!process->ended)
        kill(process->pid, SIGKILL);
    process_ended(process, -1);
    close(process->pidfd);
}

/* Waits until the daemon has said so. FINE; else it has ended (ENDED), or BAD. */
static enum outcome await_words(struct process *daemon, const char *words)
{
    int64_t deadline_ns = now_ns() + scaled_ns(20 * SECOND);

    while (!strstr(read_output(), words)) {
        if (process_ended(daemon, 1))
            return ENDED;
        if (now_ns() > deadline_ns)
            return bad("hangs: it does not say '%s'", words);
    }
    return FINE;
}

/* ---- judging -------------------------------------------------------------------------------------------------------- */

static bool fired(void)
{
    return __atomic_load_n(&stage.page->fault.fired, __ATOMIC_RELAXED) > 0;
}

/* An interruption, or less than was asked for: nobody may notice. */
static bool is_harmless(void)
{
    return stage.page->fault.code == EINTR || stage.page->fault.code == FAULT_SHORT;
}

/* One error of the storage is tried again: no sample may be bad for it. */
static bool passes_by(void)
{
    return stage.page->fault.call == FAULT_read && stage.page->fault.code == EIO && stage.page->fault.count == 1;
}

/* Whether samples may be bad, once it has fired. */
static bool harms_samples(void)
{
    uint32_t call = stage.page->fault.call;

    return !is_harmless() && !passes_by() &&
           (call == FAULT_read || call == FAULT_open || call == FAULT_stat || call == FAULT_alloc);
}

/* One of that name from an earlier process of the same number, which was killed, is not ours. */
static bool is_ours(int folder, const char *name, const struct process *process)
{
    char prefix[64];
    struct stat st;

    snprintf(prefix, sizeof(prefix), "pfeed-%d-", process->pid);
    return strncmp(name, prefix, strlen(prefix)) == 0 && fstatat(folder, name, &st, 0) == 0 &&
           (st.st_mtim.tv_sec > process->begun.tv_sec ||
            (st.st_mtim.tv_sec == process->begun.tv_sec && st.st_mtim.tv_nsec >= process->begun.tv_nsec));
}

static enum outcome judge_left(const struct process *process)
{
    char path[128];
    DIR *shm = opendir("/dev/shm");
    bool found = false;
    int lock;

    for (struct dirent *entry; shm && (entry = readdir(shm));)
        found |= is_ours(dirfd(shm), entry->d_name, process);
    if (shm)
        closedir(shm);
    if (found)
        return bad("it leaves a name in /dev/shm");
    snprintf(path, sizeof(path), "%s/pfeedd.lock", stage.folder);
    lock = open(path, O_RDWR | O_CLOEXEC);
    if (lock < 0)
        return FINE; /* it ended before it made one */
    if (flock(lock, LOCK_EX | LOCK_NB) != 0)
        bad("its lock stays");
    close(lock);
    return *why ? BAD : FINE;
}

/* Whether what was written says which failure it was; a thread that finds no memory is told EAGAIN by libc. */
static bool names_failure(void)
{
    const struct fault *fault = &stage.page->fault;

    return strstr(output, strerror(fault->code)) ||
           (fault->code == ENOMEM && (strstr(output, "memory") || strstr(output, strerror(EAGAIN))));
}

/* How a process has ended: FINE with status 0, ENDED with another and words about it. */
static enum outcome judge_end(const struct process *process)
{
    int status = process->status;

    read_output();
    if (WIFSIGNALED(status))
        return bad("signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == SANITIZER_EXIT || strstr(output, "Sanitizer") || strstr(output, "runtime error"))
        return bad("a sanitizer has found something");
    if (strstr(output, "ending without it"))
        return bad("a thread is stuck");
    if (judge_left(process) == BAD)
        return BAD;
    if (WEXITSTATUS(status) == 0)
        return FINE;
    if (WEXITSTATUS(status) == 127 && strstr(output, "cannot allocate memory for thread-local data: ABORT"))
        return ENDED; /* libc's own way, which nobody can change */
    if (WEXITSTATUS(status) != 1 && WEXITSTATUS(status) != 78)
        return bad("exit status %d", WEXITSTATUS(status));
    return names_failure() ? ENDED : bad("exit status %d, and the failure is not named", WEXITSTATUS(status));
}

/* An epoch of each feed. One that fails is tried again, and must succeed then, unless calls go on failing. */
static enum outcome serve_all(struct process *daemon)
{
    enum outcome outcome = FINE;
    char sentence[512];

    for (uint32_t f = 0; f < STAGE_FEEDS; f++) {
        int rc = stage_epoch(&stage, f, false, harms_samples(), sentence, sizeof(sentence));

        if (rc < 0 && process_ended(daemon, 0))
            return ENDED;
        if (rc == -EBADMSG)
            return bad("feed %s: %s", stage_feeds[f], sentence);
        if (rc == 0)
            continue;
        if (!fired())
            return bad("feed %s: without a failure %s", stage_feeds[f], sentence);
        outcome = TOLD;
        if (stage.page->fault.count == 1 && stage_epoch(&stage, f, false, harms_samples(), sentence, sizeof(sentence)) < 0)
            return process_ended(daemon, (int)(scaled_ns(SECOND) / MS)) ? ENDED
                                                                        : bad("feed %s: and again %s", stage_feeds[f], sentence);
    }
    return outcome;
}

static enum outcome await_descriptors(struct process *daemon)
{
    int64_t deadline_ns = now_ns() + scaled_ns(5 * SECOND);
    unsigned n = 0;

    while (!process_ended(daemon, 0) && (n = descriptors(daemon->pid)) > fds_at_rest) {
        if (now_ns() > deadline_ns)
            return bad("%u descriptors, and %u before", n, fds_at_rest);
        process_ended(daemon, 1);
    }
    return FINE;
}

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

static void daemon_start(struct process *daemon, bool harmed)
{
    const char *program = getenv("PFEED_DAEMON");
    const char *const arguments[] = { program, "--config", stage.config, "--socket", stage.socket, NULL };

    unlink(stage.output);
    process_start(daemon, program, arguments, harmed);
}

static enum outcome daemon_plays(struct process *daemon)
{
    enum outcome outcome = await_words(daemon, "ready: "), later;

    if (outcome != FINE)
        return outcome == ENDED ? REFUSED : outcome;
    outcome = serve_all(daemon);
    if (outcome == BAD || outcome == ENDED)
        return outcome;
    kill(daemon->pid, SIGHUP);
    later = await_words(daemon, "SIGHUP: ");
    if (later == FINE)
        later = serve_all(daemon);
    if (later == FINE || later == TOLD)
        later = later == TOLD || await_descriptors(daemon) == FINE ? later : BAD;
    if (later != FINE && later != TOLD)
        return later;
    kill(daemon->pid, SIGTERM);
    if (!process_ended(daemon, (int)(scaled_ns(5 * SECOND) / MS)))
        return bad("hangs after SIGTERM");
    return outcome == TOLD ? TOLD : later;
}

static enum outcome daemon_case(void)
{
    struct process daemon;
    enum outcome outcome, end;

    daemon_start(&daemon, true);
    outcome = daemon_plays(&daemon);
    if (outcome != BAD) {
        end = process_ended(&daemon, (int)(scaled_ns(5 * SECOND) / MS)) ? judge_end(&daemon) : bad("hangs at its end");
        if (end == BAD || (end == FINE && (outcome == REFUSED || outcome == ENDED)))
            outcome = end == BAD ? BAD : bad("it ended by itself, with status 0");
        else if (end == ENDED && outcome != REFUSED)
            outcome = ENDED;
    }
    process_fini(&daemon);
    if (outcome != FINE && outcome != BAD && !fired())
        outcome = bad("%s, without a failure", outcome_names[outcome]);
    return outcome;
}

/* ---- the trainer ---------------------------------------------------------------------------------------------------- */

/* The process that is harmed: PROGRAM --trainer PAGE SOCKET. */
static int be_trainer(char **arguments)
{
    struct stage own = { .page = stage_map(arguments[0]) };
    char sentence[512];

    snprintf(own.socket, sizeof(own.socket), "%s", arguments[1]);
    for (uint32_t f = 0; f < STAGE_FEEDS; f++) {
        int rc = stage_epoch(&own, f, false, false, sentence, sizeof(sentence));

        if (rc < 0) {
            dprintf(2, "error: %s\n", sentence);
            return rc == -EBADMSG ? 4 : TOLD_EXIT;
        }
    }
    return 0;
}

static struct process server;

static enum outcome trainer_case(void)
{
    const char *const arguments[] = { "test_fault", "--trainer", stage.page_path, stage.socket, NULL };
    enum outcome outcome = FINE;
    struct process trainer;
    char sentence[512];

    process_start(&trainer, "/proc/self/exe", arguments, true);
    if (!process_ended(&trainer, (int)(scaled_ns(20 * SECOND) / MS)))
        outcome = bad("hangs");
    else if (WIFSIGNALED(trainer.status))
        outcome = bad("signal %d", WTERMSIG(trainer.status));
    else if (WEXITSTATUS(trainer.status) == TOLD_EXIT)
        outcome = fired() ? TOLD : bad("an error without a failure");
    else if (WEXITSTATUS(trainer.status) != 0)
        outcome = bad("exit status %d", WEXITSTATUS(trainer.status));
    process_fini(&trainer);
    for (uint32_t f = 0; f < STAGE_FEEDS && outcome != BAD; f++)
        if (stage_epoch(&stage, f, false, false, sentence, sizeof(sentence)) < 0)
            outcome = bad("the next trainer: feed %s: %s", stage_feeds[f], sentence);
    if (outcome != BAD && await_descriptors(&server) == BAD)
        outcome = BAD;
    return process_ended(&server, 0) ? bad("the daemon has ended") : outcome;
}

/* ---- a manifest ----------------------------------------------------------------------------------------------------- */

/* Files of the state folder that end so. */
static unsigned remove_files(const char *end)
{
    DIR *folder = opendir(stage.folder);
    char path[512];
    unsigned n = 0;

    CHECK(folder, "cannot open %s: %s", stage.folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *at = strstr(entry->d_name, end);

        snprintf(path, sizeof(path), "%s/%s", stage.folder, entry->d_name);
        if (at && !at[strlen(end)] && unlink(path) == 0)
            n++;
    }
    closedir(folder);
    return n;
}

/* So that the folder is listed anew, and old enough that what is found may be kept. */
static void age_pictures(unsigned n)
{
    const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 + n } };
    char path[512];
    DIR *folder;

    snprintf(path, sizeof(path), "%s/pictures", stage.folder);
    folder = opendir(path);
    CHECK(folder, "cannot open %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, "..") != 0)
            CHECK(utimensat(dirfd(folder), entry->d_name, times, 0) == 0, "cannot age %s: %s", entry->d_name, strerror(errno));
    closedir(folder);
}

/* A daemon that nothing happens to, over what the last one has left. */
static enum outcome next_start(void)
{
    struct process daemon;
    char sentence[512];
    enum outcome outcome;

    daemon_start(&daemon, false);
    outcome = await_words(&daemon, "ready: ");
    if (outcome == FINE && stage_epoch(&stage, 0, false, false, sentence, sizeof(sentence)) < 0)
        outcome = bad("the next daemon: %s", sentence);
    kill(daemon.pid, SIGTERM);
    if (outcome == FINE && !process_ended(&daemon, (int)(scaled_ns(5 * SECOND) / MS)))
        outcome = bad("the next daemon hangs after SIGTERM");
    if (outcome == FINE)
        outcome = judge_end(&daemon);
    process_fini(&daemon);
    if (outcome != FINE)
        return outcome == BAD ? BAD : bad("the next daemon does not serve");
    if (strstr(output, "damaged") || strstr(output, "no sense"))
        return bad("a damaged manifest was left");
    return FINE;
}

/* Every other time there is an older one. */
static enum outcome save_case(void)
{
    static unsigned n;
    enum outcome outcome;

    age_pictures(n);
    if (n++ % 2)
        remove_files(".manifest");
    outcome = daemon_case();
    if (outcome == BAD)
        return BAD;
    if (outcome != FINE && stage.page->fault.call != FAULT_flock)
        return bad("%s, where only a manifest could not be saved", outcome_names[outcome]);
    if (is_harmless() && strstr(read_output(), "every start will list"))
        return bad("it is not kept");
    if (remove_files(".manifest.new") > 0 && stage.page->fault.call != FAULT_flock) /* then it may be another one's */
        return bad("an unfinished manifest was left");
    return next_start() == BAD ? BAD : outcome;
}

/* ---- pfeedctl ------------------------------------------------------------------------------------------------------- */

static const char *const *ctl_words; /* after the socket's */
static uint64_t shown;               /* what it shows where nothing fails */

/* The next line of the output that is not the daemon's, which writes there too; `line` itself the first time. */
static const char *ctl_line(const char *line, bool first)
{
    do {
        line += first ? 0 : strcspn(line, "\n");
        line += !first && *line == '\n';
        first = false;
    } while (strstr(line, "pfeedd: ") == line);
    return line;
}

/* The first word of each line, as figures differ; and the picture, where it has written one. */
static uint64_t shape(void)
{
    uint64_t hash = 1;
    char path[128];
    FILE *picture;

    for (const char *line = ctl_line(read_output(), true); *line; line = ctl_line(line, false))
        hash = hash_bytes(hash, line, strcspn(line, " \n"));
    snprintf(path, sizeof(path), "%s/picture", stage.folder);
    picture = fopen(path, "rb");
    if (picture)
        hash = hash_bytes(hash, output, fread(output, 1, sizeof(output), picture));
    if (picture)
        fclose(picture);
    unlink(path);
    return hash;
}

static enum outcome ctl_case(void)
{
    const char *arguments[8] = { "pfeedctl", "--socket", stage.socket };
    enum outcome outcome = FINE;
    struct process process;

    for (size_t i = 0; ctl_words[i]; i++)
        arguments[3 + i] = ctl_words[i];
    process_start(&process, getenv("PFEED_PFEEDCTL"), arguments, true);
    if (!process_ended(&process, (int)(scaled_ns(20 * SECOND) / MS)))
        outcome = bad("hangs");
    else if (WIFSIGNALED(process.status))
        outcome = bad("signal %d", WTERMSIG(process.status));
    else if (WEXITSTATUS(process.status) == 1 || WEXITSTATUS(process.status) == 3)
        outcome = strncmp(ctl_line(read_output(), true), "pfeedctl: ", 10) != 0
                      ? bad("a failure, and something else than a sentence")
                      : TOLD;
    else if (WEXITSTATUS(process.status) != 0)
        outcome = bad("exit status %d", WEXITSTATUS(process.status));
    else if (stage.page->fault.call == FAULT_KINDS)
        shown = shape();
    else if (shape() != shown)
        outcome = bad("status 0, and not all is shown");
    process_fini(&process);
    if (outcome == TOLD && !fired())
        outcome = bad("an error without a failure");
    if (outcome != BAD && await_descriptors(&server) == BAD)
        outcome = BAD;
    return process_ended(&server, 0) ? bad("the daemon has ended") : outcome;
}

/* ---- all k ---------------------------------------------------------------------------------------------------------- */

struct sweep {
    const char *who;
    enum outcome (*play)(void);
    unsigned share;              /* of SECONDS_DEFAULT */
    uint32_t only;               /* 1 << enum fault_call, which all must be made; 0: all kinds, as they come */
    int64_t start_ns, limit_ns;  /* 0: none */
    uint64_t calls[FAULT_KINDS]; /* of a run without a failure */
    uint64_t seed;
    unsigned n_bad;
};

static const char *code_name(int code)
{
    return code == FAULT_SHORT ? "short" : strerrorname_np(code);
}

static enum outcome play(struct sweep *sweep, uint32_t call, int code, uint64_t k, uint64_t count)
{
    struct fault *fault = &stage.page->fault;
    enum outcome outcome;

    *fault = (struct fault){ .call = call, .code = code, .first = k, .count = count, .trace = getenv("PFEED_FAULT_K") != NULL };
    why[0] = 0;
    outcome = sweep->play();
    if (is_harmless() && outcome != FINE && outcome != BAD)
        outcome = bad("%s: it was noticed", outcome_names[outcome]);
    if (outcome == BAD && sweep->n_bad++ < PRINTED)
        fprintf(stderr, "    %s: %s number %llu%s, %s: %s\n%s\n", sweep->who, call < FAULT_KINDS ? call_names[call] : "nothing",
                (unsigned long long)k, count > 1 ? " and all after it" : "", code ? code_name(code) : "-", why, read_output());
    else if (fault->trace)
        fprintf(stderr, "    %s\n%s\n", outcome_names[outcome], read_output());
    return outcome;
}

static uint64_t divisor(uint64_t a, uint64_t b)
{
    return b ? divisor(b, a % b) : a;
}

/* The k-th, for all k, in an order that is spread evenly however early the time is over. */
static void sweep_code(struct sweep *sweep, uint32_t call, int code, uint64_t count, int64_t until_ns)
{
    uint64_t n = sweep->calls[call], step = (uint64_t)((double)n * 0.618) + 1, tried[OUTCOMES] = { 0 }, i = 0;
    const char *one = getenv("PFEED_FAULT_K");
    bool whole = false;

    while (n > 0 && divisor(step, n) != 1)
        step++;
    for (; one ? i < 1 : i < n && (!sweep->limit_ns || now_ns() < until_ns); i++)
        tried[play(sweep, call, code, one ? strtoull(one, NULL, 10) : 1 + (sweep->seed + i * step) % n, count)]++;
    while (!one && i >= n && !whole && (!sweep->limit_ns || now_ns() < until_ns)) {
        tried[play(sweep, call, code, ++i, count)]++;
        whole = !fired();
    }
    printf("    %-8s %-16s %-8s %-8s %6llu %6llu%c", sweep->who, call_names[call], code_name(code), count > 1 ? "and on" : "once",
           (unsigned long long)n, (unsigned long long)i, whole ? ' ' : '~');
    for (int o = 0; o < OUTCOMES; o++)
        printf(" %6llu", (unsigned long long)tried[o]);
    putchar('\n');
    fflush(stdout);
}

/* Those that can go on for ever without keeping a process from its work by the letter: a shortage. */
static bool is_shortage(uint32_t call, int code)
{
    return (call == FAULT_alloc && code == ENOMEM) || (call == FAULT_open && code == EMFILE) ||
           (call == FAULT_mmap && code == ENOMEM) || (call == FAULT_eventfd && code == EMFILE) ||
           (call == FAULT_memfd_create && code == EMFILE);
}

/* A case that takes longer gets more of the time; what the others leave, too, as allocations are the last. */
static uint64_t for_each_case(struct sweep *sweep, uint64_t all)
{
    const char *only = getenv("PFEED_FAULT_CALL"), *only_code = getenv("PFEED_FAULT_CODE");
    uint64_t part = 0;

    for (uint32_t call = 0; call < FAULT_KINDS; call++)
        for (int c = 0; c < 4 && codes[call][c]; c++)
            for (int on = 0; on <= is_shortage(call, codes[call][c]); on++) {
                const int code = codes[call][c];

                if (sweep->only && !(sweep->only >> call & 1))
                    continue;
                if ((only && strcmp(only, call_names[call]) != 0) || (only_code && strcmp(only_code, code_name(code)) != 0))
                    continue;
                part += 1 + sweep->calls[call] / 200;
                if (all)
                    sweep_code(sweep, call, code, on ? FOR_EVER : 1,
                               sweep->start_ns + (int64_t)((uint64_t)sweep->limit_ns / all * part));
            }
    return part;
}

static void sweep_all(struct sweep *sweep)
{
    const char *seconds = getenv("PFEED_FAULT_SECONDS"), *seed = getenv("PFEED_TEST_SEED");

    alarm(0); /* each run has a deadline of its own */
    sweep->seed = mix(seed && strcmp(seed, "clock") == 0 ? (uint64_t)now_ns() : strtoull(seed ? seed : "1", NULL, 0)) >> 32;
    sweep->limit_ns = (seconds ? strtoll(seconds, NULL, 10) : SECONDS_DEFAULT) * SECOND * sweep->share / SECONDS_DEFAULT;
    note("PFEED_TEST_SEED is %s", seed ? seed : "not set: 1");
    CHECK(play(sweep, FAULT_KINDS, 0, 0, 0) == FINE, "a run without a failure fails");
    memcpy(sweep->calls, stage.page->fault.calls, sizeof(sweep->calls));
    CHECK(sweep->calls[FAULT_alloc] > 0, "%s is not preloaded", getenv("PFEED_FAULT_LIBRARY"));
    for (uint32_t call = 0; call < FAULT_KINDS; call++)
        CHECK(!(sweep->only >> call & 1) || sweep->calls[call] > 0, "%s: %s is not called", sweep->who, call_names[call]);
    sweep->start_ns = now_ns();
    printf("    %-8s %-16s %-8s %-8s %6s %7s %6s %6s %6s %6s %6s\n", "who", "call", "fails", "", "calls", "tried", "fine", "told",
           "refused", "ended", "BAD");
    for_each_case(sweep, for_each_case(sweep, 0));
    CHECK(sweep->n_bad == 0, "%u runs were not right", sweep->n_bad);
}

/* What the rows are, from a daemon that nothing happens to; and how many descriptors it has when nobody uses it. */
static void learn(struct process *daemon)
{
    char sentence[512];
    unsigned n = 0;

    daemon_start(daemon, false);
    CHECK(await_words(daemon, "ready: ") == FINE, "the daemon does not start: %s", read_output());
    for (uint32_t f = 0; f < STAGE_FEEDS; f++)
        CHECK(stage_epoch(&stage, f, true, false, sentence, sizeof(sentence)) == 0, "feed %s: %s", stage_feeds[f], sentence);
    UNTIL(descriptors(daemon->pid) == n) /* its last connection has gone */
    {
        n = descriptors(daemon->pid);
    }
    fds_at_rest = n;
}

/* Of a daemon that ends then. */
static void learn_alone(void)
{
    struct process daemon;

    learn(&daemon);
    kill(daemon.pid, SIGTERM);
    CHECK(process_ended(&daemon, (int)(scaled_ns(5 * SECOND) / MS)) && judge_end(&daemon) == FINE, "%s", why);
    process_fini(&daemon);
}

static void run_daemon(const void *shm)
{
    struct sweep sweep = { .who = "daemon", .play = daemon_case, .share = 20 };

    stage_make(&stage, shm);
    learn_alone();
    sweep_all(&sweep);
    stage_end(&stage);
}

static void run_trainer(const void *shm)
{
    struct sweep sweep = { .who = "trainer", .play = trainer_case, .share = 20 };

    stage_make(&stage, shm);
    learn(&server);
    sweep_all(&sweep);
    kill(server.pid, SIGTERM);
    CHECK(process_ended(&server, (int)(scaled_ns(5 * SECOND) / MS)), "the daemon does not stop");
    process_fini(&server);
    stage_end(&stage);
}

static void run_save(const void *shm)
{
    struct sweep sweep = { .who = "save",
                           .play = save_case,
                           .share = 10,
                           .only = 1u << FAULT_write | 1u << FAULT_fsync | 1u << FAULT_rename | 1u << FAULT_flock };

    stage_make(&stage, shm);
    learn_alone();
    sweep_all(&sweep);
    stage_end(&stage);
}

static void run_ctl(const void *shm)
{
    static char picture[128];
    static const char *const verbs[][5] = {
        { "status" }, { "feeds" }, { "slots" }, { "peek", "pictures", "--out", picture }, { "reload" }
    };

    stage_make(&stage, shm);
    snprintf(picture, sizeof(picture), "%s/picture", stage.folder);
    learn(&server);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        struct sweep sweep = { .who = verbs[i][0],
                               .play = ctl_case,
                               .share = 1,
                               .only = 1u << FAULT_alloc | 1u << FAULT_sendmsg | 1u << FAULT_recvmsg };

        if (strcmp(sweep.who, "reload") == 0)
            sweep.only = 1u << FAULT_alloc; /* who does not hear its answer leaves it in progress for the next one */
        ctl_words = verbs[i];
        sweep_all(&sweep);
    }
    kill(server.pid, SIGTERM);
    CHECK(process_ended(&server, (int)(scaled_ns(5 * SECOND) / MS)), "the daemon does not stop");
    process_fini(&server);
    stage_end(&stage);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { { "daemon", run_daemon, "memfd" },
                                         { "trainer", run_trainer, "memfd" },
                                         { "daemon, shm: posix", run_daemon, "posix" },
                                         { "manifests", run_save, "memfd" },
                                         { "pfeedctl", run_ctl, "memfd" } };

    if (argc == 4 && strcmp(argv[1], "--trainer") == 0)
        return be_trainer(argv + 2);
    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
