/* SPDX-License-Identifier: MIT */
/*
 * pfeed_next over a daemon's death, against a daemon that is told what to do: what the new one is asked for, what is held and
 * counted meanwhile, which refusals are waited out, how long, and that a call with a timeout of 0 only looks.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_lane.h"
#include "internal.h"

static struct fake_daemon daemon_;
#define D (&daemon_)

static struct pfeed_batch *must_next(struct pfeed *pf, uint64_t epoch, uint64_t step)
{
    struct pfeed_batch *batch = NULL;
    const float *rows;
    int rc = pfeed_next(pf, &batch, 20000);

    CHECK(rc == 0 && batch, "%d: %s", rc, pfeed_error(pf));
    CHECK(pfeed_info(batch)->epoch == epoch && pfeed_info(batch)->step == step, "step %llu",
          (unsigned long long)pfeed_info(batch)->step);
    rows = pfeed_tensor(batch, "x")->data;
    for (unsigned i = 0; i < FAKE_ROWS * 4; i++)
        CHECK(rows[i] == (float)(epoch * 1000 + step), "its row %u is %f", i / 4, (double)rows[i]);
    return batch;
}

static void must_fail(struct pfeed *pf, int timeout_ms, int code, const char *words)
{
    struct pfeed_batch *batch = NULL;
    int rc = pfeed_next(pf, &batch, timeout_ms);

    CHECK(rc == code && !batch, "%d: %s", rc, pfeed_error(pf));
    CHECK(strstr(pfeed_error(pf), words), "not '%s': %s", words, pfeed_error(pf));
}

/* Maps of this process with that name; the daemon's own count. */
static unsigned maps(const char *name)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned n = 0;

    CHECK(file, "%s", strerror(errno));
    while (fgets(line, sizeof(line), file))
        n += strstr(line, name) != NULL;
    fclose(file);
    return n;
}

static void comes_back(void)
{
    struct pfeed_batch *first, *second;
    struct pf_token token;
    struct pfeed *pf;

    pf = fake_open(D, 0, 0);
    CHECK(!(D->attach.flags & (PF_ATTACH_RECONNECT | PF_ATTACH_SEED)) && !*D->attach.start, "the first attach is as any");
    for (uint64_t step = 0; step < 3; step++)
        fake_grant(D, 0, step, 0);
    first = must_next(pf, 0, 0);
    fake_daemon_fall(D);
    second = must_next(pf, 0, 1); /* granted before it fell */
    CHECK(pfeed_done(pf, second) == 0, "%s", pfeed_error(pf));
    second = must_next(pf, 0, 2);
    CHECK(pfeed_done(pf, second) == 0, "%s", pfeed_error(pf));
    CHECK(maps("fake-grants") == 2, "the lane ends before all was taken");
    must_fail(pf, 0, -ETIMEDOUT, "no pfeedd at");
    must_fail(pf, 60, -ETIMEDOUT, "of the 60.0 s of options.reconnect_ms");
    CHECK(maps("fake-arena") == 2 && maps("fake-grants") == 1, "the arena stays while one is held, and nothing else");
    CHECK(*(const float *)pfeed_tensor(first, "x")->data == 0, "what is held has changed");
    CHECK(pfeed_length(pf) == 8, "its length is %lld", (long long)pfeed_length(pf));

    fake_grant(D, 0, 3, 0);
    fake_grant(D, 0, 4, 0);
    fake_daemon_rise(D);
    second = must_next(pf, 0, 3);
    CHECK(D->attach.flags == (PF_ATTACH_RECONNECT | PF_ATTACH_SEED), "flags are %u", D->attach.flags);
    CHECK(D->attach.seed == 7 && D->attach.max_held == 2, "other terms");
    CHECK(pf_token_parse(D->attach.start, &token) == 0, "start is %s", D->attach.start);
    CHECK(token.epoch == 0 && token.row == 3 * 8 && token.prints.recipe == 0xf, "start is %s", D->attach.start);
    must_fail(pf, 0, -ENOBUFS, "2 batches are held");
    CHECK(*(const float *)pfeed_tensor(first, "x")->data == 0, "what is held has changed");
    CHECK(maps("fake-arena") == 3, "the old arena, the new one, and the daemon's own map of it");
    CHECK(pfeed_done(pf, first) == 0, "%s", pfeed_error(pf));
    CHECK(maps("fake-arena") == 2 && D->lane.returns->returned == 0, "it goes back to nobody, and its arena goes");
    CHECK(pfeed_done(pf, first) == -EINVAL, "it is given back twice");
    first = must_next(pf, 0, 4);
    CHECK(pfeed_done(pf, second) == 0 && D->lane.returns->returned == 1, "the new one's goes to the new daemon");
    pfeed_close(pf);
}

/* The end of the epoch is told first, and the place is the next one's beginning. */
static void at_an_epochs_end(void)
{
    struct pfeed_batch *batch = NULL;
    struct pf_token token;
    struct pfeed *pf = fake_open(D, 0, 0);

    fake_grant(D, 0, 7, PF_GRANT_LAST_OF_EPOCH);
    pfeed_done(pf, must_next(pf, 0, 7));
    fake_daemon_fall(D);
    fake_grant(D, 1, 0, 0);
    fake_daemon_rise(D);
    CHECK(pfeed_next(pf, &batch, 0) == PFEED_EPOCH && !batch, "the end is not told");
    pfeed_done(pf, must_next(pf, 1, 0));
    CHECK(pf_token_parse(D->attach.start, &token) == 0 && token.epoch == 1 && token.row == 0, "start is %s", D->attach.start);
    pfeed_close(pf);
}

static void never(void)
{
    struct pfeed *pf = fake_open(D, -1, 0);

    fake_daemon_fall(D);
    fake_daemon_rise(D);
    for (int timeout = -1; timeout <= 1; timeout++)
        must_fail(pf, timeout, -EPIPE, "pfeedd has gone");
    CHECK(D->n_attach == 1, "it has attached again");
    pfeed_close(pf);
}

static void gives_up(void)
{
    struct pfeed *pf = fake_open(D, 150, 0);
    char token[PFEED_TOKEN_MAX];

    fake_daemon_fall(D);
    must_fail(pf, -1, -EPIPE, "options.reconnect_ms says: no pfeedd at");
    fake_daemon_rise(D);
    for (int timeout = -1; timeout <= 1; timeout++)
        must_fail(pf, timeout, -EPIPE, "options.reconnect_ms says: no pfeedd at");
    CHECK(D->n_attach == 1, "it goes on trying");
    CHECK(pfeed_token(pf, NULL, token, sizeof(token)) == 0, "no token any more: %s", pfeed_error(pf));
    pfeed_close(pf);
}

static void waits_out(void)
{
    static const int codes[] = { -EAGAIN, -ENOSPC, 0, -EBUSY, -EUSERS };
    struct pfeed *pf = fake_open(D, 0, 0);

    fake_daemon_fall(D);
    D->codes = codes;
    D->refusals = 5;
    fake_grant(D, 0, 0, 0);
    fake_daemon_rise(D);
    pfeed_done(pf, must_next(pf, 0, 0));
    CHECK(D->n_attach == 1 + 5 + 1, "%u attempts", D->n_attach);
    pfeed_close(pf);
}

static void takes_no_for_an_answer(void)
{
    static const int codes[] = { -ENOENT, -EINVAL, -EACCES, -EIO, -ESTALE, -EOPNOTSUPP };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct pfeed *pf;
        unsigned before;

        fake_attaches(D, FAKE_SERVES, 0, NULL);
        pf = fake_open(D, 0, 0);
        fake_daemon_fall(D);
        fake_attaches(D, FAKE_REFUSES, codes[i], "this cannot be");
        fake_daemon_rise(D);
        before = fake_attached(D);
        must_fail(pf, -1, -EPIPE, "cannot take this rank back: this cannot be");
        must_fail(pf, 0, -EPIPE, "cannot take this rank back: this cannot be");
        CHECK(D->n_attach == before + 1, "%u attempts", D->n_attach - before);
        pfeed_close(pf);
    }
}

/* A daemon that takes its time does not hold up one that polls: it answers only after the call has. */
static void only_looks(void)
{
    struct pfeed_batch *batch = NULL;
    struct pfeed *pf = fake_open(D, 0, 0);
    int rc;

    fake_daemon_fall(D);
    fake_attaches(D, FAKE_IS_SILENT, 0, NULL);
    fake_grant(D, 0, 0, 0);
    fake_daemon_rise(D);
    while (fake_attached(D) < 2)
        must_fail(pf, 0, -ETIMEDOUT, "no attempt has ended yet");
    for (int i = 0; i < 100; i++)
        must_fail(pf, 0, -ETIMEDOUT, "no attempt has ended yet");
    CHECK(D->n_attach == 2, "it waited for the first attempt's end");
    fake_serve_late(D);
    while ((rc = pfeed_next(pf, &batch, 0)) == -ETIMEDOUT)
        continue;
    CHECK(rc == 0 && pfeed_done(pf, batch) == 0, "%d: %s", rc, pfeed_error(pf));
    CHECK(D->n_attach == 2, "another attempt");
    pfeed_close(pf);
}

/* One that never answers is given up, too. */
static void is_not_answered(void)
{
    struct pfeed *pf = fake_open(D, 100, 0);

    fake_daemon_fall(D);
    fake_attaches(D, FAKE_IS_SILENT, 0, NULL);
    fake_daemon_rise(D);
    must_fail(pf, -1, -EPIPE, "did not answer in time");
    pfeed_close(pf);
}

static void change(struct fake_lane *lane, unsigned kind)
{
    struct pf_field *field = (struct pf_field *)(lane->arena + 1024);

    switch (kind) {
    case 0:
        lane->reply.steps = 9;
        break;
    case 1:
        lane->reply.world_batch = 16;
        break;
    case 2:
        field->dtype_code = 0;
        break;
    case 3:
        ((struct pf_arena *)lane->arena)->n_fields = 2;
        break;
    case 4:
        lane->reply.step = 5;
        break;
    case 5: /* is none: rows may lie elsewhere in their slot */
        field->offset = 512;
    }
}

static void finds_changes(void)
{
    static const char *const words[] = { "an epoch has 9 steps, and had 8", "a step has 16 rows, and had 8",
                                         "field 0 is now 'x', of another", "has 2 fields, and had 1",
                                         "goes on at epoch 0, step 5, not at epoch 0, step 0" };

    for (unsigned kind = 0; kind < 5; kind++) {
        struct pfeed *pf = fake_open(D, 0, 0);

        fake_daemon_fall(D);
        change(&D->lane, kind);
        fake_daemon_rise(D);
        must_fail(pf, -1, -EPIPE, words[kind]);
        pfeed_close(pf);
        fake_daemon_fall(D);
        fake_daemon_rise(D);
    }
    for (unsigned kind = 0; kind < 6; kind++) {
        struct pfeed *pf = fake_open(D, 0, kind < 5 ? PFEED_OPT_ACCEPT_CHANGED : 0);
        struct pfeed_batch *batch;

        fake_daemon_fall(D);
        change(&D->lane, kind);
        fake_grant(D, 0, 0, 0);
        fake_daemon_rise(D);
        CHECK(pfeed_next(pf, &batch, 20000) == 0, "%u: %s", kind, pfeed_error(pf));
        CHECK(pfeed_length(pf) == (kind == 0 ? 9 : 8), "the length is the old one's");
        CHECK(pfeed_tensor(batch, "x")->dtype.code == (kind == 2 ? 0 : 2), "the tensor is the old one's");
        CHECK(!!(D->attach.flags & PF_ATTACH_ACCEPT_CHANGED) == (kind < 5), "it is asked for what the options say");
        pfeed_close(pf);
        fake_daemon_fall(D);
        fake_daemon_rise(D);
    }
}

/* Every batch is described anew, also one that was not lent between two daemons. */
static void describes_anew(void)
{
    struct pfeed *pf = fake_open(D, 0, PFEED_OPT_ACCEPT_CHANGED);

    for (uint64_t step = 0; step < 2; step++) {
        fake_daemon_fall(D);
        fake_grant(D, 0, step, 0);
        fake_daemon_rise(D);
        pfeed_done(pf, must_next(pf, 0, step));
    }
    fake_daemon_fall(D);
    change(&D->lane, 2);
    fake_grant(D, 0, 2, 0);
    fake_grant(D, 0, 3, 0);
    fake_daemon_rise(D);
    for (uint64_t step = 2; step < 4; step++)
        CHECK(pfeed_tensor(must_next(pf, 0, step), "x")->dtype.code == 0, "batch %u is the old one's", (unsigned)step);
    pfeed_close(pf);
}

/* What a living daemon has closed is void, and is not come back to. */
static void closed_is_closed(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);

    fake_grant(D, 0, 0, 0);
    __atomic_store_n(&D->lane.grants->closed, (uint32_t)PF_CLOSED_SUPERSEDED, __ATOMIC_RELEASE);
    fake_daemon_fall(D);
    fake_daemon_rise(D);
    for (int timeout = -1; timeout <= 1; timeout++)
        must_fail(pf, timeout, -ESTALE, "a newer run");
    CHECK(D->n_attach == 1, "it has attached again");
    pfeed_close(pf);
}

/* One that serves nobody, again and again, is an absence like any other. */
static void dies_again_and_again(void)
{
    struct pfeed *pf = fake_open(D, 400, 0);
    struct pfeed_batch *batch;
    unsigned lives = 0;
    int rc;

    do {
        fake_daemon_fall(D);
        fake_daemon_rise(D);
        while (fake_attached(D) < lives + 2 && (rc = pfeed_next(pf, &batch, 1)) == -ETIMEDOUT)
            continue;
        lives++;
        CHECK(lives < 1000, "its patience never ends");
    } while (rc == -ETIMEDOUT);
    CHECK(rc == -EPIPE && strstr(pfeed_error(pf), "without granting anything"), "%d: %s", rc, pfeed_error(pf));
    pfeed_close(pf);
}

static void on_alarm(int signal)
{
}

static void is_interrupted(void)
{
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval often = { .it_interval = { .tv_usec = 10000 }, .it_value = { .tv_usec = 10000 } };
    struct pfeed *pf = fake_open(D, 0, 0);
    sigset_t alarms;

    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL); /* the fake's thread, which inherits it */
    fake_daemon_fall(D);
    fake_attaches(D, FAKE_IS_SILENT, 0, NULL);
    fake_daemon_rise(D);
    sigaction(SIGALRM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    must_fail(pf, -1, -EINTR, "interrupted by a signal");
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
    pfeed_close(pf);
}

/* A child has neither the old daemon's nor the new one's socket. */
static void is_forked(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    struct pfeed_batch *held, *batch;
    int status, socket;
    pid_t pid;

    fake_grant(D, 0, 0, 0);
    held = must_next(pf, 0, 0);
    fake_daemon_fall(D);
    fake_attaches(D, FAKE_IS_SILENT, 0, NULL);
    fake_daemon_rise(D);
    while (pf->reconnect.socket < 0)
        must_fail(pf, 0, -ETIMEDOUT, "pfeedd has gone");
    socket = pf->reconnect.socket;
    pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        char token[PFEED_TOKEN_MAX];
        bool fine = fcntl(socket, F_GETFD) < 0 && pfeed_next(pf, &batch, -1) == -ECHILD && pfeed_done(pf, held) == -ECHILD &&
                    pfeed_seek(pf, "restart") == -ECHILD && pfeed_token(pf, NULL, token, sizeof(token)) == -ECHILD &&
                    pfeed_fingerprint(pf, token, sizeof(token)) == -ECHILD && !pfeed_tensor(held, "x");

        pfeed_close(pf);
        _exit(!fine);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with 0x%x", (unsigned)status);
    CHECK(fcntl(socket, F_GETFD) >= 0, "the parent's socket is closed");
    fake_serve_late(D);
    CHECK(pfeed_done(pf, held) == 0, "%s", pfeed_error(pf));
    pfeed_close(pf);
}

/* A parked job's rank rings with every return, and whenever there is nothing for it; any other only as it did. */
static void rings_when_parked(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);

    for (uint64_t step = 0; step < 4; step++)
        fake_grant(D, 0, step, 0);
    D->lane.grants->wake_at = PF_WAKE_PARKED;
    for (uint64_t step = 0; step < 4; step++) {
        struct pfeed_batch *batch = must_next(pf, 0, step);

        CHECK(fake_rung(D) == 0, "taking rings");
        pfeed_done(pf, batch);
        CHECK(fake_rung(D) == 1, "a return does not ring");
    }
    for (int i = 0; i < 3; i++) {
        must_fail(pf, 0, -ETIMEDOUT, "no batch");
        CHECK(fake_rung(D) == 1, "looking for one does not ring");
    }
    must_fail(pf, 1, -ETIMEDOUT, "no batch");
    CHECK(fake_rung(D) >= 1, "waiting for one does not ring");
    D->lane.grants->wake_at = 4;
    must_fail(pf, 0, -ETIMEDOUT, "no batch");
    CHECK(fake_rung(D) == 0, "it rings although nothing was taken or returned since");
    D->lane.grants->wake_at = UINT64_MAX;
    must_fail(pf, 1, -ETIMEDOUT, "no batch");
    CHECK(fake_rung(D) == 0, "it rings although nobody wants it");
    pfeed_close(pf);
}

/* Parks the job of one that sleeps already, and grants only when it is rung. */
static void *park(void *arg)
{
    while (!__atomic_load_n(&D->lane.returns->waiting, __ATOMIC_ACQUIRE))
        usleep(1000);
    __atomic_store_n(&D->lane.grants->wake_at, PF_WAKE_PARKED, __ATOMIC_SEQ_CST);
    while (fake_rung(D) == 0)
        usleep(1000);
    fake_grant(D, 0, 0, 0);
    return NULL;
}

static void rings_when_parked_asleep(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, park, NULL) == 0, "no thread");
    pfeed_done(pf, must_next(pf, 0, 0));
    pthread_join(thread, NULL);
    pfeed_close(pf);
}

int main(void)
{
    void (*const tests[])(void) = { comes_back,
                                    at_an_epochs_end,
                                    never,
                                    gives_up,
                                    waits_out,
                                    takes_no_for_an_answer,
                                    only_looks,
                                    is_not_answered,
                                    finds_changes,
                                    describes_anew,
                                    closed_is_closed,
                                    dies_again_and_again,
                                    is_interrupted,
                                    is_forked,
                                    rings_when_parked,
                                    rings_when_parked_asleep };

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        fake_daemon_start(D);
        tests[i]();
        fake_daemon_stop(D);
    }
    return 0;
}
