/* SPDX-License-Identifier: MIT */
/* See daemon.h. */
#include "daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DAEMONS  8
#define START_NS (30 * SECOND)
#define STOP_NS  (2 * SECOND)
#define OUTPUT   65536
#define PRINTED  6000

static struct daemon *daemons[DAEMONS];

void (*daemon_prepare)(void);

/* ---- starting and ending -------------------------------------------------------------------------------------------- */

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    CHECK(strlen(path) < sizeof(address.sun_path), "the path '%s' is too long", path);
    strcpy(address.sun_path, path);
    return address;
}

static void make_folder(struct daemon *daemon, const char *yaml)
{
    const char *parent = getenv("TMPDIR");
    struct sockaddr_un address;
    char path[96];
    size_t i = 0;
    FILE *file;

    *daemon = (struct daemon){ .notify = -1, .control = -1 };
    while (i < DAEMONS && daemons[i])
        i++;
    CHECK(i < DAEMONS, "more than %d daemons", DAEMONS);
    if (!parent || strlen(parent) > 24)
        parent = "/tmp";
    snprintf(daemon->folder, sizeof(daemon->folder), "%s/pfeed-test-XXXXXX", parent);
    CHECK(mkdtemp(daemon->folder), "cannot make %s: %s", daemon->folder, strerror(errno));
    daemons[i] = daemon;
    snprintf(daemon->socket, sizeof(daemon->socket), "%s/pfeedd.sock", daemon->folder);
    snprintf(daemon->config, sizeof(daemon->config), "%s/pfeed.yaml", daemon->folder);
    snprintf(daemon->output, sizeof(daemon->output), "%s/output", daemon->folder);
    file = fopen(daemon->config, "w");
    CHECK(file && fputs(yaml, file) >= 0 && fclose(file) == 0, "cannot write %s", daemon->config);
    snprintf(path, sizeof(path), "%s/notify", daemon->folder);
    address = address_of(path);
    daemon->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(daemon->notify >= 0 && bind(daemon->notify, (struct sockaddr *)&address, sizeof(address)) == 0, "cannot bind %s: %s",
          path, strerror(errno));
}

static _Noreturn void become(const struct daemon *daemon, pid_t parent)
{
    const char *program = getenv("PFEED_DAEMON");
    int output = open(daemon->output, O_WRONLY | O_CREAT | O_APPEND, 0600), input = open("/dev/null", O_RDONLY);
    char path[96];
    int file;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    close_range(3, ~0U, 0); /* so that its descriptors are its own */
    snprintf(path, sizeof(path), "%s/notify", daemon->folder);
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("STATE_DIRECTORY", daemon->folder, 1); /* manifests */
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    signal(SIGPIPE, SIG_DFL);
    file = open(program, O_RDONLY | O_CLOEXEC); /* another uid that it becomes may not get to where it lies */
    if (daemon_prepare)
        daemon_prepare();
    execl(program, program, "--config", daemon->config, "--socket", daemon->socket, (char *)NULL);
    if (errno == EACCES)
        fexecve(file,
                (char *[]){ (char *)(uintptr_t)program, (char *)"--config", (char *)(uintptr_t)daemon->config, (char *)"--socket",
                            (char *)(uintptr_t)daemon->socket, NULL },
                environ);
    fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool says_ready(int notify)
{
    char text[4096];
    ssize_t n;

    while ((n = recv(notify, text, sizeof(text) - 1, MSG_DONTWAIT)) >= 0) {
        text[n] = 0;
        for (const char *line = text; line; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (strncmp(line, "READY=1", 7) == 0)
                return true;
        }
    }
    return false;
}

static int wait_status(struct daemon *daemon)
{
    int status;

    CHECK(waitpid(daemon->pid, &status, 0) == daemon->pid, "waitpid: %s", strerror(errno));
    daemon->pid = 0;
    if (daemon->control >= 0)
        close(daemon->control);
    daemon->control = -1;
    return status;
}

static void open_control(struct daemon *daemon)
{
    struct sockaddr_un address = address_of(daemon->socket);

    daemon->control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(daemon->control >= 0 && connect(daemon->control, (struct sockaddr *)&address, sizeof(address)) == 0,
          "cannot connect to the daemon: %s", strerror(errno));
}

static void spawn(struct daemon *daemon)
{
    pid_t parent = getpid(), pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0)
        become(daemon, parent);
    daemon->pid = pid;
}

void daemon_begin(struct daemon *daemon, const char *yaml)
{
    make_folder(daemon, yaml);
    spawn(daemon);
}

bool daemon_connects(struct daemon *daemon)
{
    struct sockaddr_un address = address_of(daemon->socket);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0, "socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        daemon->control = fd;
        return true;
    }
    close(fd);
    return false;
}

int daemon_run(struct daemon *daemon)
{
    int64_t deadline_ns = now_ns() + scaled_ns(START_NS);
    struct pollfd events[2];
    bool ready = false;
    int status;

    spawn(daemon);
    events[0] = (struct pollfd){ .fd = daemon->notify, .events = POLLIN };
    events[1] = (struct pollfd){ .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN };
    CHECK(events[1].fd >= 0, "pidfd_open: %s", strerror(errno));
    while (!ready && !(events[1].revents & POLLIN)) {
        CHECK(now_ns() < deadline_ns, "the daemon does not say READY=1");
        poll(events, 2, 1000);
        ready = says_ready(daemon->notify);
    }
    close(events[1].fd);
    if (ready) {
        struct pf_row_daemon row;

        open_control(daemon);
        stat_daemon(daemon, &row); /* so that the connection is accepted: it counts among the descriptors from now on */
        return -1;
    }
    status = wait_status(daemon);
    CHECK(WIFEXITED(status), "the daemon died of signal %d before it was ready", WTERMSIG(status));
    return WEXITSTATUS(status);
}

int daemon_try(struct daemon *daemon, const char *yaml)
{
    make_folder(daemon, yaml);
    return daemon_run(daemon);
}

void daemon_start(struct daemon *daemon, const char *yaml)
{
    int status = daemon_try(daemon, yaml);

    CHECK(status == -1, "the daemon ended with exit status %d before it was ready", status);
}

void daemon_again(struct daemon *daemon)
{
    int status = daemon_run(daemon);

    CHECK(status == -1, "the daemon did not start again: exit status %d", status);
}

void daemon_stop(struct daemon *daemon)
{
    struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN };
    int status;

    CHECK(end.fd >= 0, "the daemon is gone already");
    kill(daemon->pid, SIGTERM);
    CHECK(poll(&end, 1, (int)(scaled_ns(STOP_NS) / MS)) == 1, "the daemon did not stop within 2 s of SIGTERM");
    close(end.fd);
    status = wait_status(daemon);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the daemon ended with status 0x%x after SIGTERM", status);
}

void daemon_kill(struct daemon *daemon)
{
    int status;

    kill(daemon->pid, SIGKILL);
    status = wait_status(daemon);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the daemon ended by itself: status 0x%x", status);
}

int daemon_dies(struct daemon *daemon)
{
    struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN };
    int status;

    CHECK(end.fd >= 0, "pidfd_open: %s", strerror(errno));
    CHECK(poll(&end, 1, (int)(scaled_ns(START_NS) / MS)) == 1, "the daemon does not die");
    close(end.fd);
    status = wait_status(daemon);
    CHECK(WIFSIGNALED(status), "the daemon ended with status 0x%x, and not by a signal", status);
    return WTERMSIG(status);
}

char *daemon_output(const struct daemon *daemon)
{
    FILE *file = fopen(daemon->output, "r");
    char *text = calloc(1, OUTPUT + 1);

    CHECK(text, "no memory");
    if (!file)
        return text;
    if (fseek(file, -OUTPUT, SEEK_END) != 0)
        rewind(file); /* it is shorter */
    text[fread(text, 1, OUTPUT, file)] = 0;
    fclose(file);
    return text;
}

static size_t stat_rows(struct daemon *daemon, uint32_t what, const char *feed, void *rows, size_t row_size, size_t max);

/* Who stands where, and what the slots hold. */
static void print_inside(struct daemon *daemon)
{
    static struct pf_row_consumer consumers[64];
    static struct pf_row_slot slots[64];
    static struct pf_row_feed feeds[64];
    struct pf_row_daemon row = { 0 };
    size_t n;

    stat_daemon(daemon, &row);
    fprintf(stderr, "      up %.3f s, CPU %.3f s, %llu turns, %u workers busy\n", (double)row.uptime_ns / 1e9,
            (double)row.cpu_ns / 1e9, (unsigned long long)row.wakeups, row.workers_busy);
    n = stat_rows(daemon, PF_STAT_FEEDS, "", feeds, sizeof(*feeds), 64);
    for (size_t i = 0; i < n && i < 64; i++)
        fprintf(stderr, "      feed %s: rows %llu filled, %llu granted, %llu delivered; slots %llu filled, %llu evicted\n",
                feeds[i].name, (unsigned long long)feeds[i].rows_filled, (unsigned long long)feeds[i].rows_granted,
                (unsigned long long)feeds[i].rows_delivered, (unsigned long long)feeds[i].slots_filled,
                (unsigned long long)feeds[i].slots_evicted);
    n = stat_consumers(daemon, "", consumers, 64);
    for (size_t i = 0; i < n && i < 64; i++)
        fprintf(stderr,
                "      consumer %llu pid %lld %s job '%s' rank %u: at %llu/%llu, %u granted, %u held of %u, state %u %s\n",
                (unsigned long long)consumers[i].consumer, (long long)consumers[i].pid, consumers[i].feed, consumers[i].job,
                consumers[i].rank, (unsigned long long)consumers[i].epoch, (unsigned long long)consumers[i].step,
                consumers[i].granted, consumers[i].held, consumers[i].max_held, consumers[i].state, consumers[i].waits_for);
    n = stat_slots(daemon, "", slots, 64);
    for (size_t i = 0; i < n && i < 64; i++)
        if (slots[i].state != PF_SLOT_FREE)
            fprintf(stderr, "      slot %u %s: state %u, seed %llu, %llu/%llu, %u of %u rows, %u grants, %u pins\n",
                    slots[i].slot, slots[i].feed, slots[i].state, (unsigned long long)slots[i].seed,
                    (unsigned long long)slots[i].epoch, (unsigned long long)slots[i].index, slots[i].rows_done, slots[i].rows,
                    slots[i].grants, slots[i].pins);
}

/* After a failure: ended first, so that sanitizers have told what they know. */
static void end_and_print(struct daemon *daemon)
{
    bool ran = daemon->pid;
    char *text;

    if (ran) {
        struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN };

        kill(daemon->pid, SIGTERM);
        if (poll(&end, 1, (int)(scaled_ns(STOP_NS) / MS)) != 1)
            kill(daemon->pid, SIGKILL);
        waitpid(daemon->pid, NULL, 0);
    }
    text = daemon_output(daemon);
    fprintf(stderr, "    the daemon %s; its last words:\n%s", ran ? "ran" : "had ended",
            strlen(text) > PRINTED ? text + strlen(text) - PRINTED : text);
    free(text);
    remove_folder(daemon->folder);
}

void daemons_print(void)
{
    static bool looked; /* looking may itself fail, and come here again */

    for (size_t i = 0; i < DAEMONS && daemons[i] && !looked; i++) {
        struct pollfd dead = { .fd = daemons[i]->control, .events = POLLIN };

        if (daemons[i]->pid && daemons[i]->control >= 0 && poll(&dead, 1, 0) == 0) {
            looked = true;
            print_inside(daemons[i]);
        }
    }
    looked = true;
    for (size_t i = 0; i < DAEMONS && daemons[i]; i++)
        end_and_print(daemons[i]);
}

static void close_all(struct daemon *daemon)
{
    if (daemon->notify >= 0)
        close(daemon->notify);
    if (daemon->control >= 0)
        close(daemon->control);
    daemon->notify = daemon->control = -1;
}

void daemons_forget(void)
{
    for (size_t i = 0; i < DAEMONS && daemons[i]; i++)
        close_all(daemons[i]);
}

void daemons_end(void)
{
    for (size_t i = 0; i < DAEMONS && daemons[i]; i++) {
        if (daemons[i]->pid)
            daemon_stop(daemons[i]);
        close_all(daemons[i]);
        remove_folder(daemons[i]->folder);
    }
}

/* ---- looking inside ------------------------------------------------------------------------------------------------- */

static void receive(struct daemon *daemon, void *message, size_t *size)
{
    struct pollfd event = { .fd = daemon->control, .events = POLLIN };
    const struct pf_ctl_error *error = message;
    ssize_t n;

    CHECK(poll(&event, 1, (int)(scaled_ns(10 * SECOND) / MS)) == 1, "the daemon does not answer a stat request");
    n = recv(daemon->control, message, PF_CTL_MAX, 0);
    CHECK(n > 0, "the daemon closed the control connection (%s)", n < 0 ? strerror(errno) : "end of file");
    CHECK(error->head.type != PF_CTL_ERROR, "the daemon answers a stat request with %d: %.1000s", error->code, error->text);
    *size = (size_t)n;
}

static size_t stat_rows(struct daemon *daemon, uint32_t what, const char *feed, void *rows, size_t row_size, size_t max)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = what };
    union {
        struct pf_ctl_rows rows;
        uint8_t bytes[PF_CTL_MAX];
    } reply;
    size_t n = 0, size;

    snprintf(request.feed, sizeof(request.feed), "%s", feed);
    CHECK(send(daemon->control, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request), "cannot ask the daemon: %s",
          strerror(errno));
    do {
        receive(daemon, &reply, &size);
        CHECK(reply.rows.head.type == PF_CTL_ROWS && size >= sizeof(reply.rows) && reply.rows.row_size == row_size &&
                  size == sizeof(reply.rows) + reply.rows.count * row_size,
              "the daemon's stat rows are not sound: type %u, %u rows of %u bytes in %zu", reply.rows.head.type, reply.rows.count,
              reply.rows.row_size, size);
        for (uint32_t i = 0; i < reply.rows.count; i++, n++)
            if (n < max)
                memcpy((uint8_t *)rows + n * row_size, reply.bytes + sizeof(reply.rows) + i * row_size, row_size);
    } while (reply.rows.more);
    return n;
}

void stat_daemon(struct daemon *daemon, struct pf_row_daemon *row)
{
    size_t n = stat_rows(daemon, PF_STAT_DAEMON, "", row, sizeof(*row), 1);

    CHECK(n == 1, "%zu rows about the daemon", n);
}

void stat_feed(struct daemon *daemon, const char *feed, struct pf_row_feed *row)
{
    size_t n = stat_rows(daemon, PF_STAT_FEEDS, feed, row, sizeof(*row), 1);

    CHECK(n == 1 && strcmp(row->name, feed) == 0, "%zu rows about the feed %s", n, feed);
    CHECK(!row->failed[0], "the feed %s has failed: %s", feed, row->failed);
}

size_t stat_feeds(struct daemon *daemon, struct pf_row_feed *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_FEEDS, "", rows, sizeof(*rows), max);
}

size_t stat_errors(struct daemon *daemon, const char *feed, struct pf_row_error *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_ERRORS, feed, rows, sizeof(*rows), max);
}

size_t stat_slots(struct daemon *daemon, const char *feed, struct pf_row_slot *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_SLOTS, feed, rows, sizeof(*rows), max);
}

size_t stat_jobs(struct daemon *daemon, const char *feed, struct pf_row_job *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_JOBS, feed, rows, sizeof(*rows), max);
}

size_t stat_consumers(struct daemon *daemon, const char *feed, struct pf_row_consumer *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_CONSUMERS, feed, rows, sizeof(*rows), max);
}

size_t stat_caches(struct daemon *daemon, const char *feed, struct pf_row_cache *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_CACHES, feed, rows, sizeof(*rows), max);
}

size_t stat_tune(struct daemon *daemon, const char *feed, struct pf_row_tune *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_TUNE, feed, rows, sizeof(*rows), max);
}

size_t stat_changes(struct daemon *daemon, const char *feed, struct pf_row_change *rows, size_t max)
{
    return stat_rows(daemon, PF_STAT_CHANGES, feed, rows, sizeof(*rows), max);
}

struct pf_row_feed feed_now(struct daemon *daemon, const char *feed)
{
    struct pf_row_feed row;

    stat_feed(daemon, feed, &row);
    return row;
}

bool feed_at_rest(struct daemon *daemon, const char *feed)
{
    static struct pf_row_slot slots[PF_SLOTS_MAX];
    struct pf_row_feed row = feed_now(daemon, feed);
    size_t n = stat_slots(daemon, feed, slots, PF_SLOTS_MAX);

    for (size_t i = 0; i < n; i++)
        if (slots[i].grants || slots[i].state == PF_SLOT_FILLING)
            return false;
    return row.consumers == 0 && row.held == 0 && row.free + row.ready == row.n_slots && n == row.n_slots;
}

static uint64_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static bool read_text(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (file < 0)
        return false;
    n = read(file, text, size - 1);
    close(file);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

int daemon_reload(struct daemon *daemon, const char *yaml, const char *rescan, char **report)
{
    struct pf_ctl_reload request = { .head = { PF_CTL_VERSION, PF_CTL_RELOAD, sizeof(request) } };
    struct pollfd event = { .fd = daemon->control, .events = POLLIN };
    struct pf_ctl_report part;
    ssize_t n;

    if (yaml) {
        FILE *file = fopen(daemon->config, "we");

        CHECK(file && fputs(yaml, file) >= 0 && fclose(file) == 0, "cannot write %s", daemon->config);
    }
    if (rescan) {
        request.flags = PF_RELOAD_RESCAN;
        snprintf(request.feed, sizeof(request.feed), "%s", rescan);
    }
    CHECK(send(daemon->control, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request), "cannot ask the daemon: %s",
          strerror(errno));
    CHECK(poll(&event, 1, (int)(scaled_ns(30 * SECOND) / MS)) == 1, "the daemon does not answer a reload");
    n = recv(daemon->control, &part, sizeof(part), 0);
    CHECK(n >= (ssize_t)sizeof(struct pf_ctl_error), "the daemon's answer to a reload has %zd bytes", n);
    if (part.head.type == PF_CTL_ERROR) {
        const struct pf_ctl_error *error = (const struct pf_ctl_error *)&part;

        *report = strdup(error->text);
        return error->code;
    }
    CHECK(n == sizeof(part) && part.head.type == PF_CTL_REPORT && !part.more, "the daemon's report is not sound, or long");
    *report = strdup(part.text);
    return part.code;
}

void process_read(pid_t pid, struct process *process)
{
    char path[320], text[8192];
    DIR *folder;

    *process = (struct process){ .descriptors = descriptors(pid) };
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    CHECK(read_text(path, text, sizeof(text)), "cannot read %s", path);
    process->threads = (unsigned)number_after(text, "\nThreads:");
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    CHECK(read_text(path, text, sizeof(text)) && strrchr(text, ')'), "cannot read %s", path);
    /* ") state ppid pgrp session tty tpgid flags minflt" */
    CHECK(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %" SCNu64, &process->faults) == 1, "cannot parse %s", path);
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    folder = opendir(path);
    CHECK(folder, "cannot read %s", path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
        if (entry->d_name[0] != '.' && read_text(path, text, sizeof(text)))
            process->switches +=
                number_after(text, "\nvoluntary_ctxt_switches:") + number_after(text, "\nnonvoluntary_ctxt_switches:");
    }
    closedir(folder);
}

/* Page by page: the counters in /proc/PID/status are kept per CPU, and may be off by some hundred KiB. */
void process_measure(pid_t pid, struct process *process)
{
    uint64_t rss_bytes = 0, anon_bytes = 0, shmem_bytes = 0;
    char path[64], line[512];
    bool shared = false;
    FILE *file;

    process_read(pid, process);
    snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
    file = fopen(path, "re");
    CHECK(file, "cannot read %s", path);
    while (fgets(line, sizeof(line), file)) {
        unsigned long long kib;

        if (strchr("0123456789abcdef", line[0])) /* "7f0000000000-7f0000001000 rw-s 00000000 00:01 77 /memfd:name (deleted)" */
            shared = strstr(line, "s 0") && strstr(line, "(deleted)");
        else if (sscanf(line, "Rss: %llu", &kib) == 1) {
            rss_bytes += kib * 1024;
            shmem_bytes += shared ? kib * 1024 : 0;
        } else if (sscanf(line, "Anonymous: %llu", &kib) == 1) {
            anon_bytes += kib * 1024;
        }
    }
    fclose(file);
    process->rss_bytes = rss_bytes;
    process->anon_bytes = anon_bytes;
    process->shmem_bytes = shmem_bytes;
}
