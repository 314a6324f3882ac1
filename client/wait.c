/* SPDX-License-Identifier: MIT */
/* The slow side of pfeed_next: no batch is ready. Spin for a bounded time, then sleep on the grant page's bell; find out a dead
 * daemon by its socket, and come back to the next one (reconnect.c); say what is waited for when the time is over. */
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
        written = write(pf->lane.event, &one, sizeof(one));
    while (written < 0 && errno == EINTR);
    pf->lane.told_returned = pf->lane.returned;
    pf->lane.told_next = pf->lane.next;
}

int wait_closed(struct pfeed *pf)
{
    static const char *const why[] = {
        [PF_CLOSED_DROPPED] = "pfeedd has dropped this consumer, because of what it wrote into its return page",
        [PF_CLOSED_SUPERSEDED] = "a newer run of this job has taken its place",
        [PF_CLOSED_FEED_FAILED] = "the feed has failed",
    };
    uint32_t closed = __atomic_load_n(&pf->lane.grants->closed, __ATOMIC_ACQUIRE);
    struct sentence told;
    int rc = 1;

    if (__builtin_expect(closed == PF_OPEN, 1))
        return 0;
    /* The daemon's last message, if it could still send one, says more; answers to questions may lie before it. */
    while (!pf->lane.gone && rc > 0) {
        struct pf_ctl_error last;

        rc = ctlsock_receive(pf->lane.socket, &last, sizeof(last), NULL, 0, 0, &told);
    }
    if (rc == -ESTALE) {
        pf->lane.gone = true;
        return sentence_set(&pf->error, -ESTALE, "%s", told.text);
    }
    return sentence_set(&pf->error, -ESTALE, "%s; what was held is void: close this handle and open another one",
                        closed < sizeof(why) / sizeof(why[0]) && why[closed] ? why[closed] : "pfeedd has closed this consumer");
}

bool wait_gone(struct pfeed *pf)
{
    struct pollfd poll_fd = { .fd = pf->lane.socket, .events = POLLIN | POLLRDHUP };

    if (!pf->lane.gone && poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)))
        pf->lane.gone = true;
    return pf->lane.gone;
}

int wait_read_why(struct pfeed *pf, struct pf_ctl_text *reply, int64_t deadline_ns, struct sentence *why)
{
    int rc = ctlsock_receive(pf->lane.socket, reply, sizeof(*reply), NULL, 0, deadline_ns, why);

    if (rc < 0)
        return rc;
    if (rc != (int)sizeof(*reply) || reply->head.type != PF_CTL_TEXT)
        return sentence_set(why, -EPROTO, "pfeedd answered something else than what was asked for");
    pf->lane.unanswered = 0;
    return 0;
}

/* Answers come in the order of the questions, so that one that came too late is known by its place: it is read and forgotten
 * before a new question is asked, and no more than one is ever open. */
static int ask_why(struct pfeed *pf, struct pf_ctl_text *reply, int64_t deadline_ns, struct sentence *why)
{
    struct pf_ctl_head request;
    int rc;

    if (pf->lane.unanswered && (rc = wait_read_why(pf, reply, deadline_ns, why)) < 0)
        return rc;
    rc = ctlsock_send(pf->lane.socket, &request, PF_CTL_WHY, sizeof(request), deadline_ns, why);
    if (rc < 0)
        return rc;
    pf->lane.unanswered = PF_CTL_WHY;
    return wait_read_why(pf, reply, deadline_ns, why);
}

/* What pfeed_next waits for, from the daemon itself. */
static int timed_out(struct pfeed *pf, int timeout_ms)
{
    int64_t patience_ns = timeout_ms > 0 && (int64_t)timeout_ms * 1000000 < WHY_NS ? (int64_t)timeout_ms * 1000000 : WHY_NS;
    int64_t deadline_ns = ctlsock_now_ns() + patience_ns;
    struct pf_ctl_text reply;
    struct sentence why;

    if (timeout_ms == 0)
        return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' is ready yet", pf->request.feed);
    if (ask_why(pf, &reply, deadline_ns, &why) < 0)
        return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' within %d ms, and pfeedd does not say why (%.300s)",
                            pf->request.feed, timeout_ms, why.text);
    return sentence_set(&pf->error, -ETIMEDOUT, "no batch of feed '%s' within %d ms: %.*s", pf->request.feed, timeout_ms,
                        (int)sizeof(reply.text), reply.text);
}

/* 1 taken, 0 not yet, or -errno. What was granted before the daemon's death is still good; what a living daemon closed is not. */
static int look(struct pfeed *pf, struct pf_grant *grant)
{
    int rc = wait_closed(pf);

    return rc < 0 ? rc : pf_grants_take(pf->lane.grants, pf->lane.returns, &pf->lane.next, grant);
}

/* The daemon is short of slots and knows neither what was returned since it last looked nor that the last grant was taken: with
 * either it may go on. And a job that it has parked (wake_at 0) it takes up again when somebody waits. What it is to see is stored
 * before wake_at is loaded: the callers have a fence between. */
static void tell(struct pfeed *pf)
{
    const struct lane *lane = &pf->lane;
    uint64_t wake_at = __atomic_load_n(&lane->grants->wake_at, __ATOMIC_RELAXED);

    if (wake_at == PF_WAKE_PARKED ||
        (wake_at != UINT64_MAX && (lane->returned != lane->told_returned || lane->next != lane->told_next)))
        wait_wake_daemon(pf);
}

int wait_readable(int fd, int64_t deadline_ns)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    int64_t left_ns = deadline_ns - ctlsock_now_ns();
    struct timespec left;
    int n;

    if (left_ns < 0)
        left_ns = 0;
    left = (struct timespec){ .tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000 };
    n = ppoll(&poll_fd, 1, &left, NULL);
    return n < 0 ? -errno : n;
}

static int sleep_once(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns)
{
    uint32_t bell = pf_grants_sleepy(pf->lane.grants, pf->lane.returns);
    int64_t left_ns = deadline_ns - ctlsock_now_ns();
    struct timespec slice;
    int rc = look(pf, grant);
    long slept = 0;

    if (rc == 0 && left_ns > 0) {
        tell(pf); /* `waiting` is stored: a daemon that parks this job from now on sees it */
        if (left_ns > SLICE_NS)
            left_ns = SLICE_NS;
        slice = (struct timespec){ .tv_nsec = left_ns };
        slept = syscall(SYS_futex, &pf->lane.grants->bell, FUTEX_WAIT, bell, &slice, NULL, 0);
        if (slept < 0)
            slept = -errno;
    }
    pf_grants_awake(pf->lane.returns);
    if (rc != 0)
        return rc;
    rc = look(pf, grant);
    return rc == 0 && slept == -EINTR ? -EINTR : rc;
}

#define GONE 2

/* The daemon has hung up: 1 one more was granted with its last breath, GONE all was taken, or -errno. */
static int last_breath(struct pfeed *pf, struct pf_grant *grant)
{
    int rc = look(pf, grant);

    return rc != 0 ? rc : GONE;
}

static int sleep_until(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns)
{
    for (;;) {
        int rc = sleep_once(pf, grant, deadline_ns);

        if (rc != 0)
            return rc;
        if (wait_gone(pf))
            return last_breath(pf, grant);
        if (ctlsock_now_ns() >= deadline_ns)
            return 0;
    }
}

/* 1 taken, 0 the time is over, GONE, or -errno. */
static int wait_on_lane(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns, bool sleep)
{
    int64_t now_ns = ctlsock_now_ns(), spin_ns = now_ns + pf->lane.spin_ns;
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
    if (rc != 0)
        return rc;
    if (sleep)
        return sleep_until(pf, grant, deadline_ns);
    return wait_gone(pf) ? last_breath(pf, grant) : 0;
}

/* 1, 0 the time is over and the daemon is there, or -errno. */
static int wait_for_grant(struct pfeed *pf, struct pf_grant *grant, int64_t deadline_ns, bool sleep)
{
    for (;;) {
        int rc = pf->lane.grants ? 0 : reconnect_await(pf, deadline_ns);

        if (rc == 0)
            rc = wait_on_lane(pf, grant, deadline_ns, sleep);
        if (rc != GONE)
            return rc;
        reconnect_begin(pf);
    }
}

int wait_take(struct pfeed *pf, struct pf_grant *grant, int timeout_ms)
{
    int64_t start_ns = ctlsock_now_ns();
    int64_t deadline_ns = timeout_ms < 0 ? INT64_MAX : start_ns + (int64_t)timeout_ms * 1000000;
    int rc = wait_for_grant(pf, grant, deadline_ns, timeout_ms != 0);
    struct pf_return_page *page = pf->lane.returns;

    if (page) {
        __atomic_store_n(&page->wait_ns, page->wait_ns + (uint64_t)(ctlsock_now_ns() - start_ns), __ATOMIC_RELAXED);
        __atomic_store_n(&page->waits, page->waits + 1, __ATOMIC_RELAXED);
    }
    if (rc == 0)
        return timed_out(pf, timeout_ms);
    if (rc == -EINTR)
        return sentence_set(&pf->error, -EINTR, "pfeed_next was interrupted by a signal");
    return rc < 0 ? rc : 0;
}
