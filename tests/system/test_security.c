/* SPDX-License-Identifier: MIT */
/*
 * DESIGN promise 10, for people: four users that no name service knows, and feeds for one of them, for a group of two of them, and
 * for nobody. What each may attach to, look into, see of others, signal or read through /proc: of pfeedd, which runs as root and
 * as a user of its own, and of the others' trainers. What a process could do to another of the same user is tried on one first, so
 * that a way that leads nowhere for anybody proves nothing here.
 *
 * pfeedd leaves itself dumpable: another uid is kept out by the kernel as it is, and whoever has its uid may end it anyway; that
 * even he cannot write to an arena is test_readonly's.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"
#include "machine.h"

#define DAEMON 54320u
#define ANNA   54321u
#define BERT   54322u
#define GROUP  54399u
#define FEEDS  3u
#define PEOPLE 4u

static const char *const feeds[FEEDS] = { "annas", "groups", "nobodys" };

static const struct person {
    uid_t uid;
    gid_t gid, beside;
    uint32_t may; /* bits by feed */
} people[PEOPLE] = {
    { ANNA, 54401, 54501, 1 },
    { BERT, GROUP, 54502, 2 },
    { 54323, 54403, GROUP, 2 },
    { 54324, 54404, 54504, 0 },
};

static struct daemon pfeedd;

static struct {
    uint32_t there, probed, end; /* words */
    int32_t pids[PEOPLE];
} * shared;

static const char yaml[] = "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n"
                           "  annas:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n    access: { users: [54321] }\n"
                           "    fields: { x: { dtype: float32, shape: [16] } }\n"
                           "  groups:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n    access: { groups: [54399] }\n"
                           "    fields: { x: { dtype: float32, shape: [16] } }\n"
                           "  nobodys:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n"
                           "    fields: { x: { dtype: float32, shape: [16] } }\n"
                           "  both:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 16\n"
                           "    access: { users: [54321, 54322] }\n    fields: { x: { dtype: float32, shape: [16] } }\n";

static bool may(const struct person *person, const char *feed)
{
    for (uint32_t f = 0; f < FEEDS; f++)
        if (strcmp(feeds[f], feed) == 0)
            return person->may >> f & 1;
    return strcmp(feed, "both") == 0 && (person->uid == ANNA || person->uid == BERT);
}

/* ---- another process ------------------------------------------------------------------------------------------------ */

static bool opens(pid_t pid, const char *what, int flags)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
    fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool by_fd(pid_t pid)
{
    return opens(pid, "fd", O_RDONLY);
}

static bool by_one_fd(pid_t pid)
{
    bool any = false;
    char name[16];

    for (int fd = 0; fd < 64; fd++) {
        snprintf(name, sizeof(name), "fd/%d", fd);
        any |= opens(pid, name, O_RDONLY);
    }
    return any;
}

static bool by_mem(pid_t pid)
{
    return opens(pid, "mem", O_RDONLY) || opens(pid, "mem", O_RDWR);
}

static bool by_maps(pid_t pid)
{
    return opens(pid, "maps", O_RDONLY) || opens(pid, "map_files", O_RDONLY);
}

static bool by_environment(pid_t pid)
{
    return opens(pid, "environ", O_RDONLY);
}

static bool by_folder(pid_t pid)
{
    return opens(pid, "cwd", O_RDONLY) || opens(pid, "root", O_RDONLY) || opens(pid, "exe", O_RDONLY);
}

static bool by_memory(pid_t pid)
{
    static char here[8];
    struct iovec local = { here, sizeof(here) }, remote = { here, sizeof(here) };

    return process_vm_readv(pid, &local, 1, &remote, 1, 0) >= 0 || errno != EPERM ||
           process_vm_writev(pid, &local, 1, &remote, 1, 0) >= 0 || errno != EPERM;
}

static bool by_trace(pid_t pid)
{
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
        return false;
    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
    waitpid(pid, NULL, __WALL);
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return true;
}

static bool by_signal(pid_t pid)
{
    return kill(pid, 0) == 0;
}

/* Anybody may have a pidfd of anybody. */
static bool by_pidfd(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), fd;
    bool any;

    CHECK(pidfd >= 0, "pidfd_open: %s", strerror(errno));
    any = syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0;
    for (int i = 0; i < 64; i++) {
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
        if (fd < 0)
            continue;
        any = true;
        close(fd);
    }
    close(pidfd);
    return any;
}

static bool by_limit(pid_t pid)
{
    struct rlimit limit;

    return prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0;
}

static const struct {
    const char *name;
    bool (*try)(pid_t pid);
} ways[] = {
    { "/proc/PID/fd", by_fd },
    { "/proc/PID/fd/N", by_one_fd },
    { "/proc/PID/mem", by_mem },
    { "/proc/PID/maps", by_maps },
    { "/proc/PID/environ", by_environment },
    { "/proc/PID/cwd", by_folder },
    { "process_vm_readv", by_memory },
    { "ptrace", by_trace },
    { "kill", by_signal },
    { "pidfd_getfd", by_pidfd },
    { "prlimit", by_limit },
};

static void try_ways(pid_t pid, const char *whose, bool open)
{
    for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++)
        CHECK(ways[w].try(pid) == open, "uid %u: %s %s of %s", geteuid(), ways[w].name, open ? "shows nothing" : "got hold",
              whose);
}

/* A process of the same user. */
static void try_own(void)
{
    pid_t child = fork();

    CHECK(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    try_ways(child, "a process of its own", true);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* ---- the daemon, by its socket -------------------------------------------------------------------------------------- */

static void try_attach(const struct person *person)
{
    for (uint32_t f = 0; f < FEEDS; f++) {
        struct pfeed_options options = { .size = sizeof(options), .socket = pfeedd.socket, .feed = feeds[f] };
        char words[96];
        struct pfeed *pf;
        int rc = pfeed_open(&pf, &options);

        if (person->may >> f & 1) {
            CHECK(rc == 0, "uid %u may not have '%s': %s", person->uid, feeds[f], pfeed_error(NULL));
            must_done(pf, must_next(pf));
            pfeed_close(pf);
            continue;
        }
        snprintf(words, sizeof(words), "uid %u may not use feed '%s'", person->uid, feeds[f]);
        CHECK(rc == -EACCES && strstr(pfeed_error(NULL), words), "uid %u at '%s': %d, %s", person->uid, feeds[f], rc,
              pfeed_error(NULL));
    }
}

union reply {
    struct pf_ctl_head head;
    struct pf_ctl_error error;
    struct pf_ctl_rows rows;
    uint8_t bytes[PF_CTL_MAX];
};

/* Sends a request and gets an answer; how many descriptors came with it, and *fd the first of them. */
static int ask(int connection, const void *request, size_t size, union reply *reply, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec part = { reply, sizeof(*reply) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
    struct cmsghdr *cmsg;

    CHECK(send(connection, request, size, MSG_NOSIGNAL) == (ssize_t)size, "send: %s", strerror(errno));
    CHECK(recvmsg(connection, &header, MSG_CMSG_CLOEXEC) > 0, "no answer: %s", strerror(errno));
    cmsg = CMSG_FIRSTHDR(&header);
    if (!cmsg)
        return 0;
    memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
    return (int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

/* `pfeedctl peek` is given the arena's descriptor. */
static void try_peek(const struct person *person)
{
    for (uint32_t f = 0; f < FEEDS; f++) {
        struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_PEEK, sizeof(request) } };
        int connection = lane_connect(&pfeedd), fd = -1, n;
        union reply reply;

        snprintf(request.feed, sizeof(request.feed), "%s", feeds[f]);
        n = ask(connection, &request, sizeof(request), &reply, &fd);
        if (person->may >> f & 1) {
            CHECK(reply.head.type == PF_CTL_OK && n == 1, "uid %u may not look into '%s'", person->uid, feeds[f]);
            CHECK(write(fd, "", 1) < 0, "uid %u may write to '%s'", person->uid, feeds[f]);
            close(fd);
        } else {
            CHECK(reply.head.type == PF_CTL_ERROR && reply.error.code == -EACCES && n == 0,
                  "uid %u looks into '%s': message %u, %d descriptors", person->uid, feeds[f], reply.head.type, n);
        }
        close(connection);
    }
}

/* How many rows of that kind there are about that feed ("": any); each begins with its feed's name. */
static uint32_t look(const struct person *person, uint32_t what, const char *feed)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = what };
    int connection = lane_connect(&pfeedd), none;
    union reply reply;
    uint32_t n = 0;

    snprintf(request.feed, sizeof(request.feed), "%s", feed);
    ask(connection, &request, sizeof(request), &reply, &none);
    for (;;) {
        if (reply.head.type == PF_CTL_ERROR) /* there is no such feed for this user */
            break;
        CHECK(reply.head.type == PF_CTL_ROWS, "message %u", reply.head.type);
        for (uint32_t i = 0; i < reply.rows.count; i++) {
            const char *of = (const char *)(reply.bytes + sizeof(reply.rows) + i * reply.rows.row_size);

            CHECK(may(person, of), "uid %u is shown rows of kind %u about '%s'", person->uid, what, of);
        }
        n += reply.rows.count;
        if (!reply.rows.more)
            break;
        CHECK(recv(connection, &reply, sizeof(reply), 0) > 0, "recv: %s", strerror(errno));
    }
    close(connection);
    return n;
}

static void try_looks(const struct person *person)
{
    static const uint32_t kinds[] = { PF_STAT_FEEDS, PF_STAT_SLOTS, PF_STAT_CONSUMERS, PF_STAT_JOBS, PF_STAT_ERRORS };

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        look(person, kinds[k], "");
        for (uint32_t f = 0; f < FEEDS; f++) {
            uint32_t n = look(person, kinds[k], feeds[f]);

            /* Each user has a consumer on what he may use. */
            if (person->may >> f & 1)
                CHECK(n > 0 || kinds[k] == PF_STAT_ERRORS, "uid %u sees no rows of kind %u about '%s'", person->uid, kinds[k],
                      feeds[f]);
            else
                CHECK(n == 0, "uid %u sees %u rows of kind %u about '%s'", person->uid, n, kinds[k], feeds[f]);
        }
    }
}

static void try_orders(void)
{
    const struct pf_ctl_head stop = { PF_CTL_VERSION, PF_CTL_STOP, sizeof(stop) };
    const struct pf_ctl_reload reload = { .head = { PF_CTL_VERSION, PF_CTL_RELOAD, sizeof(reload) } };
    const struct pf_ctl_reload rescan = { .head = reload.head, .flags = PF_RELOAD_RESCAN };
    const struct {
        const void *message;
        size_t size;
    } orders[] = { { &stop, sizeof(stop) }, { &reload, sizeof(reload) }, { &rescan, sizeof(rescan) } };

    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        int connection = lane_connect(&pfeedd), none;
        union reply reply;

        ask(connection, orders[i].message, orders[i].size, &reply, &none);
        CHECK(reply.head.type == PF_CTL_ERROR && reply.error.code == -EACCES && strstr(reply.error.text, "only root"),
              "uid %u gave an order, and got message %u", geteuid(), reply.head.type);
        close(connection);
    }
}

/* ---- the daemon's files --------------------------------------------------------------------------------------------- */

static void try_files(void)
{
    char path[160], other[160];
    int fd;

    snprintf(path, sizeof(path), "%s/pfeedd.lock", pfeedd.folder);
    fd = open(path, O_RDONLY | O_CLOEXEC); /* who can open it can hold it, and no daemon would start any more */
    CHECK(fd < 0 && errno == EACCES, "uid %u can open the lock", geteuid());
    snprintf(other, sizeof(other), "%s/mine", pfeedd.folder);
    CHECK(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0, "uid %u can make files beside the socket", geteuid());
    CHECK(unlink(pfeedd.socket) != 0 && rename(pfeedd.socket, other) != 0 && chmod(pfeedd.socket, 0600) != 0,
          "uid %u can take the socket away", geteuid());
    snprintf(path, sizeof(path), "%s/state", pfeedd.folder);
    CHECK(open(path, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES, "uid %u can list the state folder", geteuid());
    snprintf(other, sizeof(other), "%s/state/mine", pfeedd.folder);
    CHECK(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EACCES, "uid %u can put files into the state folder",
          geteuid());
}

/* ---- people --------------------------------------------------------------------------------------------------------- */

static void become(uid_t uid, gid_t gid, const gid_t *beside, size_t n)
{
    CHECK(setgroups(n, beside) == 0 && setgid(gid) == 0 && setuid(uid) == 0, "setuid: %s", strerror(errno));
    /* A process that has changed its user is root's in /proc, which would protect it more than a trainer that began as this user. */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0, "prctl: %s", strerror(errno));
}

static void visit(void *arg)
{
    const struct person *person = arg;
    const uint32_t own = (uint32_t)(person - people);
    struct lane lane;
    bool attached = person->may != 0;

    become(person->uid, person->gid, &person->beside, 1);
    if (attached) /* with all the descriptors that libpfeed closes */
        lane_open(&lane, &pfeedd, feeds[person->may >> 1], 0);
    shared->pids[own] = getpid();
    word_add(&shared->there, 1);
    word_await(&shared->there, PEOPLE);
    try_own();
    try_ways(pfeedd.pid, "pfeedd", false);
    CHECK(kill(pfeedd.pid, SIGTERM) != 0 && errno == EPERM && kill(pfeedd.pid, SIGSTOP) != 0, "uid %u can end pfeedd",
          person->uid);
    for (uint32_t p = 0; p < PEOPLE; p++)
        if (p != own)
            try_ways(shared->pids[p], "another user's trainer", false);
    try_attach(person);
    try_peek(person);
    try_looks(person);
    try_orders();
    try_files();
    word_add(&shared->probed, 1);
    word_await(&shared->probed, PEOPLE);
    if (attached)
        lane_close(&lane);
}

static void prepare_user(void)
{
    char notify[96];

    snprintf(notify, sizeof(notify), "%s/notify", pfeedd.folder);
    CHECK(chown(notify, DAEMON, DAEMON) == 0 && chown(pfeedd.folder, DAEMON, DAEMON) == 0 &&
              chown(pfeedd.config, DAEMON, DAEMON) == 0,
          "chown: %s", strerror(errno));
    become(DAEMON, DAEMON, NULL, 0);
}

static void use_state(void)
{
    char state[96];

    snprintf(state, sizeof(state), "%s/state", pfeedd.folder);
    setenv("STATE_DIRECTORY", state, 1);
    umask(0); /* nothing rests on it */
}

static void prepare_own_user(void)
{
    use_state();
    prepare_user();
}

static void run_people(const void *arg)
{
    struct trainer *trainers[PEOPLE];

    machine_need_root();
    shared = shared_memory(sizeof(*shared));
    daemon_prepare = *(const bool *)arg ? use_state : prepare_own_user;
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno));
    for (uint32_t p = 0; p < PEOPLE; p++)
        trainers[p] = trainer_start("visitor", visit, (void *)(uintptr_t)&people[p]);
    for (uint32_t p = 0; p < PEOPLE; p++)
        trainer_wait(trainers[p]);
    for (uint32_t f = 0; f < FEEDS; f++)
        UNTIL(feed_at_rest(&pfeedd, feeds[f])); /* and it lives */
    daemon_stop(&pfeedd);
}

/* ---- jobs ----------------------------------------------------------------------------------------------------------- */

static int try_open(uid_t uid, struct pfeed_options options, struct pfeed **out)
{
    options.feed = "both";
    options.job = "run";
    return try_open_as(&pfeedd, uid, options, out);
}

static struct pfeed *open_as(uid_t uid, struct pfeed_options options)
{
    struct pfeed *pf;
    int rc = try_open(uid, options, &pf);

    CHECK(rc == 0, "uid %u was refused: %s", uid, pfeed_error(NULL));
    return pf;
}

/* The same name is another job for each user: nobody takes another's rank, ends his run or is refused for what his job is. */
static void run_jobs(const void *arg)
{
    static struct pf_row_job rows[8];
    struct pfeed *annas[2], *bert, *none;
    struct pfeed_batch *batch;
    size_t n;

    machine_need_root();
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno));
    annas[0] = open_as(ANNA, (struct pfeed_options){ .world = 2 });
    bert = open_as(BERT, (struct pfeed_options){ .run = 9 }); /* newer: Anna's own would end for it */
    batch = must_next(bert);
    CHECK(pfeed_info(batch)->rows == 8 && pfeed_info(batch)->step == 0, "Bert has a part of Anna's step");
    must_done(bert, batch);
    CHECK(try_open(BERT, (struct pfeed_options){ .rank = 1, .world = 2, .run = 9 }, &none) == -EINVAL &&
              strstr(pfeed_error(NULL), "job 'run' has world 1"),
          "Bert is told of another job than his: %s", pfeed_error(NULL));
    annas[1] = open_as(ANNA, (struct pfeed_options){ .rank = 1, .world = 2 }); /* her rank is still free */
    for (int rank = 0; rank < 2; rank++) {
        batch = must_next(annas[rank]);
        CHECK(pfeed_info(batch)->rows == 4 && pfeed_info(batch)->step == 0, "rank %d has %u rows", rank, pfeed_info(batch)->rows);
        must_done(annas[rank], batch);
    }
    n = stat_jobs(&pfeedd, "both", rows, 8);
    CHECK(n == 2 && rows[0].uid + rows[1].uid == ANNA + BERT && strcmp(rows[0].job, "run") == 0 &&
              strcmp(rows[1].job, "run") == 0,
          "%zu jobs, of uids %u and %u", n, rows[0].uid, rows[1].uid);
    for (int rank = 0; rank < 2; rank++)
        pfeed_close(annas[rank]);
    pfeed_close(bert);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const bool yes = true, no = false;
    static const struct test tests[] = {
        { "people, and a daemon of root's", run_people, &yes },
        { "people, and a daemon of its own user's", run_people, &no },
        { "jobs of the same name", run_jobs, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
