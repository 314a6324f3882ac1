/* SPDX-License-Identifier: MIT */
/* The slow side of pfeed_next: no batch is ready. Spin for a bounded time, then sleep on the grant page's bell; find out a dead
 * daemon by its socket; say what is waited for when the time is over. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* A futex cannot wait for a socket's hang-up, so a sleeper looks at the socket this often. */
#define SLICE_NS INT64_C(250000000)
#define WHY_NS   INT64_C(200000000)

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

void wait_wake_daemon(struct pfeed *pf)
{
    uint64_t one = 1;
    ssize_t written;

    /* A full counter means that nobody has looked since 2^64 writes: it cannot be. Errors leave the daemon to find the return
     * at its next turn. */
    do
        written = write(pf->event, &one, sizeof(one));
    while (written < 0 && errno == EINTR);
    pf->told_returned = pf->returned;
    pf->told_next = pf->next;
}

static int closed_error(struct pfeed *pf, uint32_t closed)
{
    static const char *const why[] = {
        [PF_CLOSED_DROPPED] = "pfeedd has dropped this consumer, because of what it wrote into its return page",
        [PF_CLOSED_SUPERSEDED] = "a newer run of this job has taken its place",
        [PF_CLOSED_FEED_FAILED] = "the feed has failed",
    };
    struct sentence told;
    int rc = 1;

    /* The daemon's last message, if it could still send one, says more; answers to questions may lie before it. */
    while (!pf->gone && rc > 0) {
        struct pf_ctl_error last;

        rc = ctlsock_receive(pf->socket, &last, sizeof(last), NULL, 0, 0, &told);
    }
    if (rc == -ESTALE) {
        pf->gone = true;
        return sentence_set(&pf->error, -ESTALE, "%s", told.text);
    }
    return sentence_set(&pf->error, -ESTALE, "%s; what was held is void: close this handle and open another one",
                        closed < sizeof(why) / sizeof(why[0]) && why[closed] ? why[closed] : "pfeedd has closed this consumer");
}

static bool daemon_gone(struct pfeed *pf)
{
    struct pollfd poll_fd = { .fd = pf->socket, .events = POLLIN | POLLRDHUP };

    if (!pf->gone && poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)))
        pf->gone = true;
    return pf->gone;
}

static int read_answer(struct pfeed *pf, struct pf_ctl_text *reply, int64_t deadline_ns, struct sentence *why)
{
    int rc = ctlsock_receive(pf->socket, reply, sizeof(*reply), NULL, 0, deadline_ns, why);

    if (rc < 0)
        return rc;
    if (rc != (int)sizeof(*reply) || reply->head.type != PF_CTL_TEXT)
        return sentence_set(why, -EPROTO, "pfeedd answered something else than what was asked for");
    pf->unanswered = false;
    return 0;
}

/* Answers come in the order of the questions, so that one that came too late is known by its place: it is read and forgotten
 * before a new question is asked, and no more than one is ever open. */
static int ask_why(struct pfeed *pf, struct pf_ctl_text *reply, int64_t deadline_ns, struct sentence *why)
{
    struct pf_ctl_head request;
    int rc;

    if (pf->unanswered && (rc = read_answer(pf, reply, deadline_ns, why)) < 0)
        return rc;
    rc = ctlsock_send(pf->socket, &request, PF_CTL_WHY, sizeof(request), deadline_ns, why);
    if (rc < 0)
        return rc;
    pf->unanswered = true;
    return read_answer(pf, reply, deadline_ns, why);
}

/* What pfeed_next waits for, from the daemon itself. */
static int timed_out(struct pfeed *pf, int timeout_ms)
{
    int64_t patience_ns = timeout_ms > 0 && (int64_t)timeout_ms * 1000000 < WHY_NS ? (int64_t)timeout_ms * 1000000 : WHY_NS;
    int64_t deadline_ns = ctlsock_now_ns() + patience_ns;
    struct pf_ctl_text reply;
    struct sentence why;

    if (timeout_ms == 0)
        return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' is ready yet", pf->name);
    if (ask_why(pf, &reply, deadline_ns, &why) < 0)
        return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' within %d ms, and pfeedd does not say why (%.300s)",
                            pf->name, timeout_ms, why.text);
    return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' within %d ms: %.*s", pf->name, timeout_ms,
                        (int)sizeof(reply.text), reply.text);
}

/* 1 taken, 0 not yet, or -errno. What was granted before the daemon's death is still good; what a living daemon closed is not. */
static int look(struct pfeed *pf, struct pf_grant *grant)
{
    uint32_t closed = __atomic_load_n(&pf->grants->closed, __ATOMIC_ACQUIRE);

    if (closed != PF_OPEN)
        return closed_error(pf, closed);
    return pf_grants_take(pf->grants, pf->returns, &pf->next, grant);
}

/* The daemon is short of slots and knows neither what was returned since it last looked nor that the last grant was taken: with
 * either it may go on. And a job that it has parked it takes up again when somebody waits. What it is to see is stored before
 * wake_at is loaded: the callers have a fence between. */
static void tell(struct pfeed *pf)
{
    uint64_t wake_at = __atomic_load_n(&pf->grants->wake_at, __ATOMIC_RELAXED);

    if (wake_at == PF_WAKE_PARKED || (wake_at != UINT64_MAX && (pf->returned != pf->told_returned || pf->next != pf->told_next)))
        wait_wake_daemon(pf);
}

static int sleep_once(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns)
{
    uint32_t bell = pf_grants_sleepy(pf->grants, pf->returns);
    int64_t left_ns = deadline_ns - ctlsock_now_ns();
    struct timespec slice;
    int rc = look(pf, grant);
    long slept = 0;

    if (rc == 0 && left_ns > 0) {
        tell(pf); /* `waiting` is stored: a daemon that parks this job from now on sees it */
        if (left_ns > SLICE_NS)
            left_ns = SLICE_NS;
        slice = (struct timespec){ .tv_nsec = left_ns };
        slept = syscall(SYS_futex, &pf->grants->bell, FUTEX_WAIT, bell, &slice, NULL, 0);
        if (slept < 0)
            slept = -errno;
    }
    pf_grants_awake(pf->returns);
    if (rc != 0)
        return rc;
    rc = look(pf, grant);
    if (rc == 0 && slept == -EINTR)
        return sentence_set(&pf->error, -EINTR, "pfeed_next was interrupted by a signal");
    return rc;
}

static int sleep_until(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns)
{
    for (;;) {
        int rc = sleep_once(pf, grant, deadline_ns);

        if (rc != 0)
            return rc;
        if (daemon_gone(pf)) {
            rc = look(pf, grant); /* what it published with its last breath */
            return rc != 0 ? rc : sentence_set(&pf->error, -EPIPE, "pfeedd has gone, and all that it had granted was taken");
        }
        if (ctlsock_now_ns() >= deadline_ns)
            return 0;
    }
}

int wait_take(struct pfeed *pf, struct pf_grant *grant, int timeout_ms)
{
    int64_t start_ns = ctlsock_now_ns(), now_ns = start_ns;
    int64_t deadline_ns = timeout_ms < 0 ? INT64_MAX : start_ns + (int64_t)timeout_ms * 1000000;
    int64_t spin_ns = start_ns + pf->spin_ns;
    int rc = look(pf, grant);

    /* `next` and the return are stored (in the return page) before wake_at is loaded. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (rc == 0)
        tell(pf);
    while (rc == 0 && now_ns < spin_ns && now_ns < deadline_ns) {
        for (int i = 0; i < 32 && rc == 0; i++) {
            relax();
            rc = look(pf, grant);
        }
        now_ns = ctlsock_now_ns();
    }
    if (rc == 0 && timeout_ms == 0 && daemon_gone(pf)) {
        rc = look(pf, grant);
        if (rc == 0)
            rc = sentence_set(&pf->error, -EPIPE, "pfeedd has gone, and all that it had granted was taken");
    }
    if (rc == 0 && timeout_ms != 0)
        rc = sleep_until(pf, grant, deadline_ns);
    __atomic_store_n(&pf->returns->wait_ns, pf->returns->wait_ns + (uint64_t)(ctlsock_now_ns() - start_ns), __ATOMIC_RELAXED);
    __atomic_store_n(&pf->returns->waits, pf->returns->waits + 1, __ATOMIC_RELAXED);
    if (rc == 0)
        return timed_out(pf, timeout_ms);
    return rc < 0 ? rc : 0;
}
