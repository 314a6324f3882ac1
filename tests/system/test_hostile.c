/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 6, validation: a consumer that writes nonsense into all that it can write is dropped with a counted reason and
 * harms nobody. 10,000 rounds of noise: each attaches and scribbles over the whole return page, again and again, until it is
 * dropped. 10,000 rounds of tricks: each is granted batches and then breaks one rule: a return that is unknown, foreign, double,
 * not taken or far ahead, or a `taken` that runs ahead, goes back or holds more than max_held. All with an eventfd that is filled
 * to the brim and switched to blocking, and each must be told the reason that fits. (A tenth of the rounds under sanitizers.)
 *
 * Honest trainers run beside it and check every row against what they saw before it came; one sits on a batch all the while and
 * finds it unchanged, its own, and to be given back at the end. Then: what a dropped consumer holds comes back when its process
 * ends, and not before. And the control socket: messages that are not sound.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"

#define ROUNDS    10000u
#define A_PROCESS 8u /* rounds of one process (one of each trick); what they hold comes back when it ends */
#define ROWS      256u
#define BATCH     8u
#define SLOTS     48u
#define MAX_HELD  2u

static struct daemon pfeedd;

struct shared {
    uint32_t known, stop, holding, sits, rise;
    uint64_t reference[ROWS]; /* hash by id, from before the attack */
    uint64_t epochs[3];       /* that the honest trainers finished */
    uint64_t foreign;         /* the grant that the one who sits has out */
    uint64_t reasons[4];      /* how often each of them was told */
};
static struct shared *shared;

/* ---- honest trainers ------------------------------------------------------------------------------------------------ */

static uint64_t row_hash(const struct pfeed_batch *batch, uint32_t row)
{
    const struct pfeed_tensor *x = pfeed_tensor(batch, "x");

    return hash_bytes(1, (const float *)x->data + (size_t)row * (size_t)x->strides[0], (size_t)x->strides[0] * sizeof(float));
}

static void learn(void *arg)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 1 };
    struct pfeed *pf = plan_open(&plan);
    int64_t steps = pfeed_length(pf);

    (void)arg;
    while (steps-- > 0) {
        struct pfeed_batch *batch = must_next(pf);
        const struct pfeed_info *info = pfeed_info(batch);

        for (uint32_t i = 0; i < info->rows; i++)
            shared->reference[info->ids[i]] = row_hash(batch, i);
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

static void be_honest(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct plan plan = {
        .daemon = &pfeedd, .feed = "spine", .job = me < 2 ? "pair" : "single", .rank = me < 2 ? me : 0, .world = me < 2 ? 2 : 1
    };
    struct pfeed *pf = plan_open(&plan);
    uint64_t length = (uint64_t)pfeed_length(pf), step = 0;

    for (; !word_get(&shared->stop); step++) {
        struct pfeed_batch *batch = must_next(pf);
        const struct pfeed_info *info = pfeed_info(batch);

        CHECK(info->epoch == step / length && info->step == step % length, "the history has a hole");
        for (uint32_t i = 0; i < info->rows; i++)
            CHECK(row_hash(batch, i) == shared->reference[info->ids[i]], "sample %llu has other bytes than before",
                  (unsigned long long)info->ids[i]);
        must_done(pf, batch);
        count_set(&shared->epochs[me], (step + 1) / length);
    }
    pfeed_close(pf);
}

#define PASSED 200u /* its number is then beyond all that a hostile one is ever granted */

/* Goes through some batches, keeps one, says its number, and is there until the end. It skips steps: nobody waits for it. */
static void sit(void *arg)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(request) },
                                     .feed = "spine",
                                     .job = "sitter",
                                     .world = 1,
                                     .slow = PF_SLOW_SKIP };
    struct pf_grant grant = { 0 };
    uint64_t next = 0, returned = 0, rung = 0, one = 1, before;
    const struct pf_arena *arena;
    const uint8_t *slot;
    struct lane lane;

    (void)arg;
    lane_open_as(&lane, &pfeedd, &request);
    arena = mmap(NULL, lane.reply.arena_size, PROT_READ, MAP_SHARED, lane.fds[PF_FD_ARENA], 0);
    CHECK(arena != MAP_FAILED, "mmap: %s", strerror(errno));
    for (unsigned k = 0; k < 2 * PASSED; k++) {
        UNTIL(pf_grants_take(lane.grants, lane.returns, &next, &grant))
        {
        }
        if (k == PASSED) {
            slot = (const uint8_t *)arena + arena->slots_offset + grant.slot * arena->slot_bytes;
            before = hash_bytes(1, slot, arena->slot_bytes);
            count_set(&shared->foreign, grant.number);
            word_set(&shared->sits, 1);
            word_await(&shared->rise, 1);
            CHECK(hash_bytes(1, slot, arena->slot_bytes) == before, "a batch that is held has changed");
            CHECK(__atomic_load_n(&lane.grants->closed, __ATOMIC_ACQUIRE) == PF_OPEN, "who sits was dropped");
        }
        pf_returns_push(lane.returns, lane.grants, &returned, grant.number, &rung);
        CHECK(write(lane.fds[PF_FD_EVENT], &one, sizeof(one)) == sizeof(one), "write to an eventfd: %s", strerror(errno));
    }
    munmap((void *)(uintptr_t)arena, lane.reply.arena_size);
    lane_close(&lane);
}

/* ---- hostile ones --------------------------------------------------------------------------------------------------- */

static void ring_bell(struct lane *lane)
{
    uint64_t most = UINT64_MAX - 1, old;
    int fd = lane->fds[PF_FD_EVENT];

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (read(fd, &old, sizeof(old)) < 0) /* emptied first: a full one cannot ring */
        CHECK(errno == EAGAIN, "read from an eventfd: %s", strerror(errno));
    if (write(fd, &most, sizeof(most)) < 0)
        CHECK(errno == EAGAIN, "write to an eventfd: %s", strerror(errno));
    fcntl(fd, F_SETFL, 0); /* blocking, and full: whoever writes to it now hangs */
}

enum reason { NOT_GRANTED, TOO_MANY, NOT_OUT, TOO_MUCH_HELD, REASONS };
static const char *const reasons[REASONS] = {
    [NOT_GRANTED] = "takes what was not granted",
    [TOO_MANY] = "more returns than grants are out",
    [NOT_OUT] = "returns a grant that is not out",
    [TOO_MUCH_HELD] = "holds more batches than max_held",
};

static enum reason told(struct lane *lane)
{
    char text[1024];

    lane_await_drop(lane);
    lane_reason(lane, text, sizeof(text));
    for (unsigned r = 0; r < REASONS; r++)
        if (strstr(text, reasons[r])) {
            __atomic_fetch_add(&shared->reasons[r], 1, __ATOMIC_RELAXED);
            return (enum reason)r;
        }
    FAIL("the reason is '%s'", text);
}

/* Small, about right, anything, or what is there: what no rule forbids at once goes further. */
static uint64_t any_word(struct random *random, uint64_t about, uint64_t old)
{
    switch (random_below(random, 5)) {
    case 0:
        return random_below(random, 4);
    case 1:
        return random_below(random, about + 2);
    case 2:
        return about + random_below(random, 2 * PF_RING) - PF_RING;
    case 3:
        return mix(random_below(random, UINT64_MAX)) >> random_below(random, 64);
    default:
        return old;
    }
}

static void make_noise(struct lane *lane, struct random *random)
{
    uint64_t *words = (uint64_t *)lane->returns;

    lane_take(lane, random_below(random, MAX_HELD + 1)); /* so that there is something to lie about */
    UNTIL(__atomic_load_n(&lane->grants->closed, __ATOMIC_ACQUIRE) != PF_OPEN)
    {
        uint64_t about = __atomic_load_n(&lane->grants->published, __ATOMIC_ACQUIRE);

        for (size_t at = 0; at < sizeof(*lane->returns) / sizeof(*words); at++)
            __atomic_store_n(&words[at], any_word(random, about, words[at]), __ATOMIC_RELEASE);
        ring_bell(lane);
    }
    told(lane);
}

enum trick { UNKNOWN, FOREIGN, DOUBLE, FAR_AHEAD, TAKEN_AHEAD, TAKEN_BACK, HOARD, UNTAKEN, TRICKS };
_Static_assert(TRICKS == A_PROCESS, "one of each trick");

static void play(struct lane *lane, enum trick trick, struct random *random)
{
    uint64_t number;

    switch (trick) {
    case UNKNOWN:
        lane_take(lane, 1);
        lane_return(lane, 1, UINT64_C(1) << 40 | random_below(random, 1000));
        break;
    case FOREIGN:
        lane_take(lane, 1);
        lane_return(lane, 1, count_get(&shared->foreign));
        break;
    case DOUBLE:
        number = lane_take(lane, 2);
        lane->returns->numbers[0] = number;
        lane_return(lane, 2, number);
        break;
    case FAR_AHEAD:
        __atomic_store_n(&lane->returns->returned, PF_RING + 1 + random_below(random, 1 << 20), __ATOMIC_RELEASE);
        break;
    case TAKEN_AHEAD:
        __atomic_store_n(&lane->returns->taken, UINT64_C(1) << 40, __ATOMIC_RELEASE);
        break;
    case TAKEN_BACK: /* the daemon sees 2 at one turn, and less at another */
        lane_take(lane, 2);
        number = 2;
        UNTIL(__atomic_load_n(&lane->grants->closed, __ATOMIC_ACQUIRE) != PF_OPEN)
        {
            __atomic_store_n(&lane->returns->taken, number ^= 2, __ATOMIC_RELEASE);
            ring_bell(lane);
        }
        break;
    case HOARD:
        lane_take(lane, MAX_HELD + 1);
        break;
    case UNTAKEN:
        UNTIL(__atomic_load_n(&lane->grants->published, __ATOMIC_ACQUIRE) > 0)
        {
        }
        lane_return(lane, 1, 0);
        break;
    case TRICKS:
        break;
    }
    ring_bell(lane);
}

static const enum reason fits[TRICKS] = {
    [UNKNOWN] = NOT_OUT,         [FOREIGN] = NOT_OUT,        [DOUBLE] = NOT_OUT,      [FAR_AHEAD] = TOO_MANY,
    [TAKEN_AHEAD] = NOT_GRANTED, [TAKEN_BACK] = NOT_GRANTED, [HOARD] = TOO_MUCH_HELD, [UNTAKEN] = NOT_OUT,
};

static void be_noisy(void *arg)
{
    struct random random = random_start((uint32_t)(uintptr_t)arg);

    for (uint32_t r = 0; r < A_PROCESS; r++) {
        struct lane lane;

        lane_open(&lane, &pfeedd, "spine", MAX_HELD);
        make_noise(&lane, &random);
        lane_close(&lane);
    }
}

static void be_tricky(void *arg)
{
    struct random random = random_start((uint32_t)(uintptr_t)arg);

    for (uint32_t trick = 0; trick < TRICKS; trick++) {
        struct lane lane;
        enum reason reason;

        lane_open(&lane, &pfeedd, "spine", MAX_HELD);
        play(&lane, (enum trick)trick, &random);
        reason = told(&lane);
        /* What was not taken may have been revoked by now: then nothing is out at all. */
        CHECK(reason == fits[trick] || (trick == UNTAKEN && reason == TOO_MANY), "trick %u is told: %s", trick, reasons[reason]);
        lane_close(&lane);
    }
}

static void start_daemon(void)
{
    char yaml[512];

    shared = shared_memory(sizeof(*shared));
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: %u }\n"
             "    batch: %u\n    slots: %u\n    fields: { x: { dtype: float32, shape: [16] } }\n",
             ROWS, BATCH, SLOTS);
    daemon_start(&pfeedd, yaml);
}

/* They still go on; each says how far it came. */
static void end_honest(struct trainer *const *honest)
{
    uint64_t epochs = UINT64_MAX;

    for (int i = 0; i < 3; i++) {
        uint64_t done = count_get(&shared->epochs[i]);

        UNTIL(count_get(&shared->epochs[i]) > done + 1)
        {
        }
    }
    word_set(&shared->stop, 1);
    for (int i = 0; i < 3; i++) {
        trainer_wait(honest[i]);
        epochs = shared->epochs[i] < epochs ? shared->epochs[i] : epochs;
    }
    note("the honest saw at least %llu whole epochs", (unsigned long long)epochs);
}

static void check_sitter(pid_t pid)
{
    struct pf_row_consumer rows[64];
    size_t n = stat_consumers(&pfeedd, "spine", rows, 64);

    for (size_t i = 0; i < n && i < 64; i++)
        if (rows[i].pid == pid) {
            CHECK(rows[i].held == 1 && rows[i].returns == PASSED, "who sits holds %u and has returned %llu", rows[i].held,
                  (unsigned long long)rows[i].returns);
            return;
        }
    FAIL("who sits is gone");
}

struct attack {
    const char *name;
    void (*body)(void *arg); /* A_PROCESS rounds */
    uint64_t least;          /* of each reason, in all ROUNDS */
};

static void run_rounds(const void *arg)
{
    uint32_t rounds = sanitized(NULL) ? ROUNDS / 10 : ROUNDS; /* the same rules, ten times as slow */
    const struct attack *attack = arg;
    struct pf_row_daemon row;
    struct trainer *honest[3], *sitter;
    unsigned before;

    start_daemon();
    before = descriptors(pfeedd.pid);
    trainer_wait(trainer_start("learning", learn, NULL));
    for (uintptr_t i = 0; i < 3; i++)
        honest[i] = trainer_start("honest", be_honest, (void *)i);
    sitter = trainer_start("sitter", sit, NULL);
    word_await(&shared->sits, 1);
    for (uint32_t p = 0; p < rounds / A_PROCESS; p++) {
        trainer_wait(trainer_start(attack->name, attack->body, (void *)(uintptr_t)p));
        if (p % 16 == 0)
            check_sitter(trainer_pid(sitter));
    }
    stat_daemon(&pfeedd, &row);
    CHECK(row.dropped == rounds, "%u were dropped, not %u", row.dropped, rounds);
    for (unsigned r = 0; r < REASONS; r++) {
        note("%llu of %u: %s", (unsigned long long)shared->reasons[r], rounds, reasons[r]);
        CHECK(shared->reasons[r] >= attack->least * rounds / ROUNDS, "too few: the attack does not reach that rule");
    }
    word_set(&shared->rise, 1);
    trainer_wait(sitter);
    end_honest(honest);
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    UNTIL(descriptors(pfeedd.pid) == before)
    {
    }
    daemon_stop(&pfeedd);
}

/* ---- quarantine ----------------------------------------------------------------------------------------------------- */

/* Takes what it may, returns what it never had, and is dropped. */
static void take_and_lie(struct lane *lane)
{
    lane_open(lane, &pfeedd, "spine", MAX_HELD);
    lane_take(lane, MAX_HELD);
    lane_return(lane, 1, 12345);
    ring_bell(lane);
    lane_await_drop(lane);
}

static void hold_and_lie(void *arg)
{
    struct lane lane;

    (void)arg;
    take_and_lie(&lane);
    lane_close(&lane); /* even so: what it mapped elsewhere cannot be known */
    word_set(&shared->holding, 1);
    word_await(&shared->stop, 1);
}

static void run_quarantine(const void *arg)
{
    struct pf_row_consumer rows[4];
    struct trainer *trainer;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 5, .history = history_create(5 * ROWS / BATCH, 5 * ROWS) };
    char *output;

    start_daemon();
    trainer = trainer_start("lying", hold_and_lie, NULL);
    word_await(&shared->holding, 1);
    CHECK(stat_consumers(&pfeedd, "spine", rows, 4) == 1 && rows[0].state == PF_CONSUMER_QUARANTINED &&
              rows[0].granted == MAX_HELD,
          "it is not in quarantine with %u batches", MAX_HELD);
    trainer_wait(trainer_start("beside it", train, &plan)); /* goes through the other slots */
    history_check(plan.history, "beside it", 5, ROWS / BATCH);
    CHECK(stat_consumers(&pfeedd, "spine", rows, 4) == 1 && rows[0].granted == MAX_HELD, "its slots came back while it lived");
    CHECK(feed_now(&pfeedd, "spine").held == MAX_HELD, "its slots are not held");
    word_set(&shared->stop, 1);
    trainer_wait(trainer);
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    output = daemon_output(&pfeedd);
    CHECK(strstr(output, "returns a grant that is not out (12345)"), "the reason is not in the log");
    free(output);
    daemon_stop(&pfeedd);
    history_destroy(plan.history);
}

/* It takes what it may, is dropped, and then writes `taken` back again and again, takes what the ring still shows, and rings. */
static void hold_and_rewind(void *arg)
{
    struct pf_grant grant;
    struct lane lane;
    uint64_t published;

    (void)arg;
    take_and_lie(&lane);
    published = __atomic_load_n(&lane.grants->published, __ATOMIC_ACQUIRE);
    word_set(&shared->holding, 1);
    fcntl(lane.fds[PF_FD_EVENT], F_SETFL, O_NONBLOCK);
    while (!word_get(&shared->stop)) {
        uint64_t next = 0, one = 1;

        __atomic_store_n(&lane.returns->taken, 0, __ATOMIC_RELEASE);
        while (pf_grants_take(lane.grants, lane.returns, &next, &grant))
            lane_return(&lane, next, grant.number);
        CHECK(next == published, "it took %llu grants of %llu", (unsigned long long)next, (unsigned long long)published);
        CHECK(write(lane.fds[PF_FD_EVENT], &one, sizeof(one)) == sizeof(one) || errno == EAGAIN, "write: %s", strerror(errno));
        CHECK(__atomic_load_n(&lane.grants->published, __ATOMIC_ACQUIRE) == published,
              "it was granted more after it was dropped");
    }
    lane_close(&lane);
}

static void run_rewind(const void *arg)
{
    struct pf_row_consumer rows[4];
    struct pf_row_daemon daemon;
    struct trainer *trainer;
    struct plan plan = { .daemon = &pfeedd, .feed = "spine", .epochs = 5, .history = history_create(5 * ROWS / BATCH, 5 * ROWS) };

    start_daemon();
    trainer = trainer_start("rewinding", hold_and_rewind, NULL);
    word_await(&shared->holding, 1);
    for (uint32_t round = 0; round < 5; round++) {
        memset(plan.history->epoch_at, 0, sizeof(plan.history->epoch_at));
        plan.history->n_steps = plan.history->n_rows = plan.history->n_epochs = 0;
        trainer_wait(trainer_start("beside it", train, &plan));
        history_check(plan.history, "beside it", 5, ROWS / BATCH);
        CHECK(stat_consumers(&pfeedd, "spine", rows, 4) == 1 && rows[0].state == PF_CONSUMER_QUARANTINED &&
                  rows[0].granted == MAX_HELD,
              "it is not in quarantine with %u batches, but in state %u with %u", MAX_HELD, rows[0].state, rows[0].granted);
    }
    stat_daemon(&pfeedd, &daemon);
    CHECK(daemon.dropped == 1, "%u were dropped", daemon.dropped);
    word_set(&shared->stop, 1);
    trainer_wait(trainer);
    UNTIL(feed_at_rest(&pfeedd, "spine"))
    {
    }
    daemon_stop(&pfeedd);
    history_destroy(plan.history);
}

/* ---- the control socket --------------------------------------------------------------------------------------------- */

/* Sends it; the daemon must answer with an error and close, or just close. */
static void expect_refusal(const void *message, size_t size, const char *what)
{
    int fd = lane_connect(&pfeedd);
    struct pf_ctl_error reply;
    ssize_t got;

    CHECK(send(fd, message, size, 0) == (ssize_t)size, "send: %s", strerror(errno));
    got = recv(fd, &reply, sizeof(reply), 0);
    CHECK(got == 0 || (got == sizeof(reply) && reply.head.type == PF_CTL_ERROR && reply.code < 0), "%s was not refused", what);
    if (got > 0)
        CHECK(recv(fd, &reply, sizeof(reply), 0) <= 0, "after %s the connection stays open", what);
    close(fd);
}

static void send_descriptor(void)
{
    struct pf_ctl_stat request = { .head = { PF_CTL_VERSION, PF_CTL_STAT, sizeof(request) }, .what = PF_STAT_DAEMON };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { &request, sizeof(request) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
    int fd = lane_connect(&pfeedd), one = 1;

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &one, sizeof(one));
    CHECK(sendmsg(fd, &header, 0) == sizeof(request), "sendmsg: %s", strerror(errno));
    recv(fd, &request, sizeof(request), 0);
    close(fd);
}

static void run_messages(const void *arg)
{
    struct pf_ctl_attach attach_request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(attach_request) }, .world = 1 };
    struct pf_ctl_head head = { PF_CTL_VERSION, 77, sizeof(head) };
    struct random random = random_start(7);
    uint8_t noise[PF_CTL_MAX + 64];
    struct pf_row_daemon row;
    unsigned before;
    int silent[16];

    start_daemon();
    before = descriptors(pfeedd.pid);
    expect_refusal("x", 1, "one byte");
    expect_refusal(&head, sizeof(head), "an unknown type");
    head.type = PF_CTL_WHY;
    expect_refusal(&head, sizeof(head), "WHY without ATTACH");
    head.type = PF_CTL_DETACH;
    expect_refusal(&head, sizeof(head), "DETACH without ATTACH");
    head = (struct pf_ctl_head){ PF_CTL_VERSION + 1, PF_CTL_STOP, sizeof(head) };
    expect_refusal(&head, sizeof(head), "another version");
    head = (struct pf_ctl_head){ PF_CTL_VERSION, PF_CTL_STOP, sizeof(head) + 1 };
    expect_refusal(&head, sizeof(head), "a false size");
    memset(attach_request.feed, 'x', sizeof(attach_request.feed));
    expect_refusal(&attach_request, sizeof(attach_request), "a name without an end");
    expect_refusal(&attach_request, sizeof(attach_request) - 1, "a short message");
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = 1 + random_below(&random, sizeof(noise));

        for (size_t at = 0; at < size; at++)
            noise[at] = (uint8_t)random_below(&random, 256);
        if (i & 1 && size >= sizeof(head)) { /* a head that is sound before a body that is not */
            head = (struct pf_ctl_head){ PF_CTL_VERSION, (uint16_t)(1 + random_below(&random, 5)), (uint32_t)size };
            memcpy(noise, &head, sizeof(head));
        }
        expect_refusal(noise, size, "noise");
    }
    for (int i = 0; i < 16; i++)
        silent[i] = lane_connect(&pfeedd);
    for (int i = 0; i < 100; i++)
        send_descriptor();
    stat_daemon(&pfeedd, &row);
    CHECK(row.consumers == 0, "somebody is attached");
    for (int i = 0; i < 16; i++)
        close(silent[i]);
    UNTIL(descriptors(pfeedd.pid) == before)
    {
    }
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct attack noise = { "noisy", be_noisy, 5 }, tricks = { "tricky", be_tricky, 1200 };
    static const struct test tests[] = {
        { "10,000 rounds of noise", run_rounds, &noise },
        { "10,000 rounds of tricks", run_rounds, &tricks },
        { "quarantine", run_quarantine, NULL },
        { "taken goes back in quarantine", run_rewind, NULL },
        { "messages that are not sound", run_messages, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
