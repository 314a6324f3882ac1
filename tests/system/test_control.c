/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 7, the control socket: what one peer does there costs the others nothing. Groups are the kernel's, however
 * many there are; who owes a word is not waited for for ever; who sends too many is sent away.
 */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"

#define OTHER  54321u /* nobody's uid and gid */
#define GROUPS 300u   /* supplementary ones, from OTHER + 1 on */

static struct daemon pfeedd;

struct shared {
    uint32_t stop, stopped, asked, second;
};
static struct shared *shared;

static void start_daemon(const char *of_daemon, const char *of_feed)
{
    char yaml[512];

    shared = shared_memory(sizeof(*shared));
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB%s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 256 }\n"
             "    batch: 24\n%s    fields: { x: { dtype: float32, shape: [16] } }\n",
             of_daemon, of_feed);
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno)); /* for other uids */
}

/* ---- groups --------------------------------------------------------------------------------------------------------- */

static void attach_as_member(void *arg)
{
    const struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    gid_t groups[GROUPS];
    uint32_t n = *(uint32_t *)arg;

    for (uint32_t g = 0; g < n; g++)
        groups[g] = OTHER + 1 + g;
    CHECK(setgroups(n, groups) == 0 && setgid(OTHER) == 0 && setuid(OTHER) == 0, "setuid: %s", strerror(errno));
    if (n == GROUPS) {
        pfeed_close(plan_open(&plan));
    } else {
        struct pfeed_options options = { .size = sizeof(options), .socket = pfeedd.socket, .feed = "spine" };
        struct pfeed *pf;
        int rc = pfeed_open(&pf, &options);

        CHECK(rc == -EACCES, "one who is not a member gets %d", rc);
    }
}

static void run_groups(const void *arg)
{
    uint32_t all = GROUPS, but_last = GROUPS - 1, none = 0;
    char access[64];

    if (geteuid() != 0)
        skip("only root can take other groups");
    snprintf(access, sizeof(access), "    access: { groups: [%u] }\n", OTHER + GROUPS);
    start_daemon("", access);
    trainer_wait(trainer_start("member", attach_as_member, &all));
    trainer_wait(trainer_start("member of others", attach_as_member, &but_last));
    trainer_wait(trainer_start("member of none", attach_as_member, &none));
    daemon_stop(&pfeedd);
}

/* ---- patience ------------------------------------------------------------------------------------------------------- */

union reply {
    struct pf_ctl_head head;
    struct pf_ctl_error error;
    uint8_t bytes[PF_CTL_MAX];
};

static int connect_daemon(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, pfeedd.socket);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect: %s", strerror(errno));
    return fd;
}

static void ask(int fd, uint32_t what)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = what };

    CHECK(send(fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request), "send: %s", strerror(errno));
}

/* Answers, then an error of that code that has those words, then the end. */
static void expect_end(int fd, int code, const char *words)
{
    union reply reply;
    ssize_t got;

    do
        got = recv(fd, &reply, sizeof(reply), 0);
    while (got > 0 && reply.head.type != PF_CTL_ERROR);
    CHECK(got == sizeof(reply.error), "the connection ends without an error: %zd", got);
    CHECK(reply.error.code == code && strstr(reply.error.text, words), "the error is %d: %s", reply.error.code, reply.error.text);
    got = recv(fd, &reply, sizeof(reply), 0);
    CHECK(got == 0, "after the error the connection stays open");
    close(fd);
}

static void run_patience(const void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    unsigned before, with_asker;
    int asker, unread;
    struct pfeed *pf;

    start_daemon(", patience: 100ms", "    slots: 512\n");
    before = descriptors(pfeedd.pid);
    asker = connect_daemon();
    ask(asker, PF_STAT_DAEMON);
    CHECK(recv(asker, &(union reply){ 0 }, PF_CTL_MAX, 0) > 0, "no answer: %s", strerror(errno));
    pf = plan_open(&plan);
    with_asker = descriptors(pfeedd.pid);
    for (int round = 0; round < 3; round++) {                /* the time limit is set anew each time */
        const struct timespec half = { .tv_nsec = 50 * MS }; /* so that the second one's time ends well after the first one's */
        int silent[2];

        silent[0] = connect_daemon();
        nanosleep(&half, NULL);
        silent[1] = connect_daemon();
        for (int i = 0; i < 2; i++)
            expect_end(silent[i], -ETIMEDOUT, "patience");
    }
    unread = connect_daemon(); /* asks for some 400 KiB, which no socket's buffer holds, and reads none of it */
    ask(unread, PF_STAT_SLOTS);
    UNTIL(descriptors(pfeedd.pid) == with_asker)
    {
    }
    close(unread);
    must_done(pf, must_next(pf)); /* those who keep to the rules stay as long as they like */
    pfeed_close(pf);
    ask(asker, PF_STAT_DAEMON);
    CHECK(recv(asker, &(union reply){ 0 }, PF_CTL_MAX, 0) > 0, "one that was answered did not stay");
    close(asker);
    UNTIL(descriptors(pfeedd.pid) == before)
    {
    }
    daemon_stop(&pfeedd);
}

/* All has been given back, and then the process does not hang up. */
static void run_left(const void *arg)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(request) }, .feed = "spine", .world = 1 };
    struct pf_ctl_head detach = { PF_CTL_VERSION, PF_CTL_DETACH, sizeof(detach) };
    union reply reply;
    int fd;

    start_daemon(", patience: 100ms", "");
    fd = connect_daemon();
    CHECK(send(fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request), "send: %s", strerror(errno));
    CHECK(recv(fd, &reply, sizeof(reply), 0) > 0 && reply.head.type == PF_CTL_ATTACHED, "not attached");
    CHECK(send(fd, &detach, sizeof(detach), MSG_NOSIGNAL) == sizeof(detach), "send: %s", strerror(errno));
    expect_end(fd, -ETIMEDOUT, "patience");
    daemon_stop(&pfeedd);
}

/* ---- too many messages ---------------------------------------------------------------------------------------------- */

static void goes_on(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    struct pfeed *pf = plan_open(&plan);

    while (!word_get(&shared->stop))
        must_done(pf, must_next(pf));
    pfeed_close(pf);
}

/* Asks and reads, faster than anybody needs. Refused at the latest when it has sent what the limit allows in the time that has
 * passed; a machine that does not get there in ten seconds cannot show it. */
static void run_fast(const void *arg)
{
    enum { A_SECOND = 5000 };
    struct trainer *trainer;
    union reply reply = { 0 };
    uint64_t sent = 0, most;
    int64_t start_ns;
    int fd;

    start_daemon("", "");
    trainer = trainer_start("beside it", goes_on, NULL);
    fd = connect_daemon();
    start_ns = now_ns();
    do {
        ask(fd, PF_STAT_DAEMON);
        sent++;
        CHECK(recv(fd, &reply, sizeof(reply), 0) > 0, "recv: %s", strerror(errno));
        most = A_SECOND + A_SECOND * (uint64_t)(now_ns() - start_ns) / SECOND + 1;
        CHECK(reply.head.type == PF_CTL_ERROR || sent <= most, "%llu messages were answered, and the limit is %llu",
              (unsigned long long)sent, (unsigned long long)most);
    } while (reply.head.type != PF_CTL_ERROR && now_ns() - start_ns < scaled_ns(10 * SECOND));
    if (reply.head.type == PF_CTL_ERROR) {
        note("refused after %llu messages in %lld ms", (unsigned long long)sent, (long long)((now_ns() - start_ns) / MS));
        CHECK(sent > A_SECOND, "refused after %llu messages", (unsigned long long)sent);
        CHECK(reply.error.code == -EDQUOT && strstr(reply.error.text, "a second"), "the error is %d: %s", reply.error.code,
              reply.error.text);
        CHECK(recv(fd, &reply, sizeof(reply), 0) == 0, "the connection stays open");
    } else {
        note("this machine is too slow to pass the limit");
    }
    close(fd);
    word_set(&shared->stop, 1);
    trainer_wait(trainer);
    daemon_stop(&pfeedd);
}

/* In which turn of its loop the daemon has answered. */
static uint64_t answered_in(int fd)
{
    union {
        union reply any;
        struct {
            struct pf_ctl_rows head;
            struct pf_row_daemon row;
        } about;
    } reply;

    CHECK(recv(fd, &reply, sizeof(reply), 0) == sizeof(reply.about) && reply.any.head.type == PF_CTL_ROWS, "no answer");
    return reply.about.row.wakeups;
}

/* However many questions of one peer are there, what others do comes in between: one of them is answered a turn, and another peer's
 * question, which was there with them when the daemon looked, before all but the first. */
static void run_between(const void *arg)
{
    enum { QUESTIONS = 100 };
    uint64_t turns[QUESTIONS], other;
    int many, one, status;

    start_daemon("", "");
    many = connect_daemon();
    one = connect_daemon();
    ask(many, PF_STAT_DAEMON);
    ask(one, PF_STAT_DAEMON);
    answered_in(many);
    answered_in(one); /* both are known */
    CHECK(kill(pfeedd.pid, SIGSTOP) == 0 && waitpid(pfeedd.pid, &status, WUNTRACED) == pfeedd.pid, "cannot stop the daemon: %s",
          strerror(errno));
    for (unsigned i = 0; i < QUESTIONS; i++)
        ask(many, PF_STAT_DAEMON);
    ask(one, PF_STAT_DAEMON);
    kill(pfeedd.pid, SIGCONT);
    for (unsigned i = 0; i < QUESTIONS; i++) {
        turns[i] = answered_in(many);
        CHECK(i == 0 || turns[i] > turns[i - 1], "questions %u and %u of a peer are answered in one turn", i, i + 1);
    }
    other = answered_in(one);
    CHECK(other <= turns[1], "another peer is answered after %llu of the questions", (unsigned long long)(other - turns[0]));
    close(one);
    close(many);
    daemon_stop(&pfeedd);
}

/* Asks without reading: ends when its socket is full of answers. */
static void run_heap(const void *arg)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = PF_STAT_DAEMON };
    union reply reply = { 0 };
    unsigned answers = 0;
    int fd;

    start_daemon("", "");
    fd = connect_daemon();
    while (send(fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request)) /* blocks where the daemon does not read */
        CHECK(++answers < 100000, "10^5 questions were taken, and no answer was read");
    while (recv(fd, &reply, sizeof(reply), 0) > 0 && reply.head.type != PF_CTL_ERROR)
        answers++;
    close(fd);
    daemon_stop(&pfeedd);
}

/* What a peer has still said when it is sent away does not cost it the reason. */
static void run_last_word(const void *arg)
{
    struct pf_ctl_head head = { PF_CTL_VERSION, 77, sizeof(head) };
    int fd;

    start_daemon("", "");
    fd = connect_daemon();
    CHECK(kill(pfeedd.pid, SIGSTOP) == 0, "kill: %s", strerror(errno));
    CHECK(send(fd, &head, sizeof(head), MSG_NOSIGNAL) == sizeof(head), "send: %s", strerror(errno));
    for (int i = 0; i < 5; i++)
        ask(fd, PF_STAT_DAEMON);
    kill(pfeedd.pid, SIGCONT);
    expect_end(fd, -EPROTO, "not sound");
    daemon_stop(&pfeedd);
}

/* ---- no descriptors ------------------------------------------------------------------------------------------------- */

static void allow_descriptors(rlim_t n)
{
    struct rlimit limit;

    CHECK(prlimit(pfeedd.pid, RLIMIT_NOFILE, NULL, &limit) == 0, "prlimit: %s", strerror(errno));
    limit.rlim_cur = n ? n : limit.rlim_max;
    CHECK(prlimit(pfeedd.pid, RLIMIT_NOFILE, &limit, NULL) == 0, "prlimit: %s", strerror(errno));
}

/* The descriptor that is kept to refuse somebody with is lost, as others are quicker, and must be had back. */
static void run_spare(const void *arg)
{
    const struct timespec span = { .tv_nsec = 200 * MS };
    struct pf_row_daemon first, last;
    union reply reply;
    int64_t start_ns;
    uint64_t most;
    unsigned before;
    int fd;

    start_daemon("", "");
    before = descriptors(pfeedd.pid);
    allow_descriptors(3); /* all of these are taken: closing the spare one is of no help */
    fd = connect_daemon();
    UNTIL(descriptors(pfeedd.pid) == before - 1)
    {
    }
    stat_daemon(&pfeedd, &first); /* those who are there are served */
    start_ns = now_ns();
    nanosleep(&span, NULL);
    stat_daemon(&pfeedd, &last);
    most = (uint64_t)(now_ns() - start_ns) / (100 * MS) + 3; /* it tries again ten times a second */
    CHECK(last.wakeups - first.wakeups <= most, "%llu turns, not %llu: it comes back for ever to who cannot be let in",
          (unsigned long long)(last.wakeups - first.wakeups), (unsigned long long)most);
    allow_descriptors(0);
    ask(fd, PF_STAT_DAEMON);
    CHECK(recv(fd, &reply, sizeof(reply), 0) > 0 && reply.head.type == PF_CTL_ROWS, "who came meanwhile was forgotten");
    close(fd);
    UNTIL(descriptors(pfeedd.pid) == before)
    {
    }
    daemon_stop(&pfeedd);
}

/* ---- why ------------------------------------------------------------------------------------------------------------ */

static void await_second(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "trio", .world = 3 };
    struct pfeed *pf = plan_open(&plan);
    struct pfeed_batch *batch;

    word_await(&shared->stopped, 1);
    CHECK(pfeed_next(pf, &batch, 50) == -ETIMEDOUT && strstr(pfeed_error(pf), "does not say why"), "told: %s", pfeed_error(pf));
    word_set(&shared->asked, 1);
    word_await(&shared->second, 1);
    do
        CHECK(pfeed_next(pf, &batch, 100) == -ETIMEDOUT, "a batch for two of three ranks");
    while (!strstr(pfeed_error(pf), "waits for rank"));
    CHECK(strstr(pfeed_error(pf), "waits for rank 2 of"), "the answer is the one to the question before: %s", pfeed_error(pf));
    word_set(&shared->stop, 1);
    pfeed_close(pf);
}

static void be_second(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "trio", .rank = 1, .world = 3 };
    struct pfeed *pf = plan_open(&plan);

    word_set(&shared->second, 1);
    word_await(&shared->stop, 1);
    pfeed_close(pf);
}

/* The daemon answers when nobody waits for it any more; the next question gets an answer of its own. */
static void run_late(const void *arg)
{
    struct trainer *first, *second;

    start_daemon("", "");
    first = trainer_start("first", await_second, NULL);
    UNTIL(feed_now(&pfeedd, "spine").consumers == 1)
    {
    }
    CHECK(kill(pfeedd.pid, SIGSTOP) == 0, "kill: %s", strerror(errno));
    word_set(&shared->stopped, 1);
    word_await(&shared->asked, 1);
    kill(pfeedd.pid, SIGCONT);
    second = trainer_start("second", be_second, NULL); /* the question lies before its attach */
    trainer_wait(first);
    trainer_wait(second);
    daemon_stop(&pfeedd);
}

static void wait_for_holder(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    struct pfeed *pf = plan_open(&plan);
    struct pfeed_batch *batch;
    int rc;

    do
        if ((rc = pfeed_next(pf, &batch, 100)) == 0)
            must_done(pf, batch);
    while (rc == 0 || !strstr(pfeed_error(pf), "holds 2"));
    word_set(&shared->asked, 1);
    word_await(&shared->second, 1);
    do
        rc = pfeed_next(pf, &batch, 100);
    while (rc == -ETIMEDOUT && strstr(pfeed_error(pf), "does not say why"));
    CHECK(rc == 0 || !strstr(pfeed_error(pf), "holds 2"), "told what is over: %s", pfeed_error(pf));
    must_done(pf, rc == 0 ? batch : must_next(pf));
    pfeed_close(pf);
}

/* A batch that was given back without a word is no reason to wait any more, even if nobody but the one who waits rings. */
static void run_over(const void *arg)
{
    struct trainer *waiting;
    struct lane lane;
    struct pf_grant grant, first;
    uint64_t next = 0;

    start_daemon("", "    gang: 2\n    slots: 4\n");
    waiting = trainer_start("waiting", wait_for_holder, NULL);
    lane_open(&lane, &pfeedd, "spine", 0);
    UNTIL(pf_grants_take(lane.grants, lane.returns, &next, &first) == 1)
    {
    }
    UNTIL(pf_grants_take(lane.grants, lane.returns, &next, &grant) == 1)
    {
    }
    word_await(&shared->asked, 1);
    lane_return(&lane, 1, first.number);
    word_set(&shared->second, 1);
    trainer_wait(waiting);
    lane_close(&lane);
    daemon_stop(&pfeedd);
}

/* One that has lied in its return page, and asks before the daemon has found out. */
static void run_liar(const void *arg)
{
    struct pf_ctl_head why = { PF_CTL_VERSION, PF_CTL_WHY, sizeof(why) };
    struct pf_row_feed feed;
    struct lane lane;

    start_daemon("", "    slots: 4\n");
    lane_open(&lane, &pfeedd, "spine", 0);
    UNTIL((feed = feed_now(&pfeedd, "spine")).filling == 0 && feed.ready + feed.held == feed.n_slots)
    {
    }
    lane_return(&lane, 1, 12345); /* now that nothing but the question makes the daemon look */
    CHECK(send(lane.connection, &why, sizeof(why), MSG_NOSIGNAL) == sizeof(why), "send: %s", strerror(errno));
    expect_end(dup(lane.connection), -ESTALE, "not sound");
    lane_close(&lane);
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a peer in 300 groups", run_groups, NULL },
        { "nothing is said", run_patience, NULL },
        { "nothing is left to say", run_left, NULL },
        { "10^5 messages a second", run_fast, NULL },
        { "others in between", run_between, NULL },
        { "questions without end", run_heap, NULL },
        { "the last word", run_last_word, NULL },
        { "no spare descriptor", run_spare, NULL },
        { "an answer that comes late", run_late, NULL },
        { "a reason that is over", run_over, NULL },
        { "a liar asks", run_liar, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
