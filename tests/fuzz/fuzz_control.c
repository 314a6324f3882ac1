/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: a daemon, alive in this process, and what its clients may do to it. An input is a sequence of moves: connect, send
 * (a request with any fields, one that is patched, any bytes: asked.h), take and give back as a trainer, scribble on the return
 * page, hang up, half or whole, change the configuration that a reload reads, let the daemon turn. After each turn: every slot
 * counts the grants that are out and is READY, and not written, while there are any; states are legal. At the end everybody hangs
 * up, the first configuration is in force again, and nothing else is left.
 */
#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "asked.h"
#include "bytes.h"
#include "chore.h"
#include "consumer.h"
#include "memory.h"
#include "reload.h"
#include "ring.h"
#include "server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS   4
#define CONSUMERS 8 /* max_consumers */
#define MOVES     200

/* A reload reads one of them: a is changed and c is new; a is removed and b is changed; nothing is right. What needs a restart is
 * only said. */
#define HEAD(workers) "version: 1\ndaemon: { workers: " workers ", memory: 64MiB, max_consumers: 8 }\nfeeds:\n"
#define FEED(name, rows, slots, more)                                                                                            \
    "  " name ": { source: { type: synthetic, rows: " rows " }, slots: " slots ", " more                                         \
    ", fields: { x: { dtype: int64, shape: [1] } } }\n"
#define FEED_A FEED("a", "37", "6", "batch: 4, max_held: 1")
#define FEED_B FEED("b", "16", "9", "batch: 8, tail: pad, deliver: each")
static const char *const yamls[] = {
    HEAD("1") FEED_A FEED_B,
    HEAD("2") FEED("a", "41", "7", "batch: 4, max_held: 1, seed: 5") FEED_B FEED("c", "9", "5", "batch: 3, warm: yes"),
    HEAD("1") FEED("b", "16", "9", "batch: 4, tail: pad, deliver: each, slow: skip"),
    HEAD("1") FEED_A FEED("b", "0", "9", "batch: 8, nothing: known"),
};
#define YAMLS (sizeof(yamls) / sizeof(yamls[0]))

struct client {
    int fd; /* -1: not connected */
    struct pf_grant_page *grants;
    struct pf_return_page *returns;
    uint64_t next, returned, rung, held[PF_RING];
    uint32_t n_held;
    struct pf_ctl_attach last; /* outlives its connection, so that the next one can go on there */
};

static struct daemon pfeedd;
static struct watch work;
static int config_fd;
static bool strayed; /* a configuration other than the first one was written */
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct client clients[CLIENTS];

/* Which filling of its slot each grant that is out was of, at the last look and at this one. */
struct seen {
    uint64_t consumer, number, sequence;
};
static struct seen seen[2][CONSUMERS * PF_RING];
static uint32_t n_seen[2];

static struct {
    uint64_t attached, published, served_by_retired, ended;
} reached;

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

static void on_work(struct watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    workers_seen(pfeedd.workers);
    for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
        pfeedd.feeds[f]->dirty = true;
}

/* As pfeedd.c's main loop. */
static void daemon_turn(bool block)
{
    const struct config *before = pfeedd.config;
    bool again = false;

    for (uint32_t f = 0; f < pfeedd.n_feeds; f++) {
        if (pfeedd.feeds[f]->dirty)
            feed_turn(pfeedd.feeds[f]);
        again |= feed_arm(pfeedd.feeds[f]) || pfeedd.feeds[f]->dirty;
    }
    reload_reap(&pfeedd);
    reached.ended += pfeedd.endings != NULL;
    assert(loop_turn(pfeedd.loop, block && !again ? -1 : 0) == 0);
    reached.published += pfeedd.config != before;
}

/* Not while a chore may be reading it. */
static void write_config(uint32_t number)
{
    size_t size = strlen(yamls[number]);

    if (pfeedd.change)
        return;
    strayed |= number != 0;
    assert(ftruncate(config_fd, 0) == 0 && pwrite(config_fd, yamls[number], size, 0) == (ssize_t)size);
}

/* Reads it anew: config NULL; else as the daemon starts. */
static void load(struct config *config)
{
    const struct reload_ask ask = { .config = config };
    struct problem why;

    assert(reload_begin(&pfeedd, &ask, &why) == 0);
    while (pfeedd.change)
        daemon_turn(true);
    assert(pfeedd.n_feeds == 2);
}

static void daemon_open(void)
{
    struct problem why;
    char path[64];
    int fd;

    log_init(LOG_ERROR);
    config_fd = memfd_create("fuzz", MFD_CLOEXEC);
    assert(config_fd >= 0);
    write_config(0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", config_fd);
    assert(config_load(&pfeedd.config, path) == 0 && pfeedd.config->n_errors == 0);
    pfeedd.started = config_ref(pfeedd.config);
    assert(memory_begin(&pfeedd, &why) == 0);
    assert(workers_create(&pfeedd.workers, 1, &why) == 0 && loop_create(&pfeedd.loop) == 0);
    work = (struct watch){ .fd = workers_eventfd(pfeedd.workers), .call = on_work };
    assert(loop_add(pfeedd.loop, &work, 0) == 0 && chores_create(&pfeedd.chores, pfeedd.loop, &why) == 0);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "pfeed-fuzz-%d", getpid());
    assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0);
    pfeedd.socket = "fuzz";
    assert(server_create(&pfeedd.server, &pfeedd, fd, &why) == 0);
    load(config_ref(pfeedd.config));
    for (int c = 0; c < CLIENTS; c++)
        clients[c].fd = -1;
}

static void check_grant(const struct consumer *c, const struct granted *granted, uint64_t sequence)
{
    for (uint32_t i = 0; i < n_seen[0]; i++)
        if (seen[0][i].consumer == c->id && seen[0][i].number == granted->number)
            assert(seen[0][i].sequence == sequence);
    assert(n_seen[1] < CONSUMERS * PF_RING);
    seen[1][n_seen[1]++] = (struct seen){ c->id, granted->number, sequence };
}

static void check_feed(const struct feed *feed)
{
    uint32_t out[16] = { 0 };

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        assert(c->n_out <= PF_RING && c->taken <= c->published);
        for (uint32_t i = 0; i < c->n_out; i++) {
            out[c->out[i].slot]++;
            check_grant(c, &c->out[i], feed->slots[c->out[i].slot].sequence);
        }
    }
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        const struct slot *slot = &feed->slots[s];

        assert(slot->grants == out[s] && slot->state <= PF_SLOT_READY && feed->table[s].state == slot->state);
        assert(slot->grants == 0 || (slot->state == PF_SLOT_READY && slot->sequence % 2 == 0));
    }
    reached.served_by_retired += feed->state == FEED_RETIRED && feed->jobs;
    for (const struct job *job = feed->jobs; job; job = job->next)
        assert(job->n_attached > 0 && job->n_attached <= job->n_local && job->n_local <= job->world);
}

static void turn(bool block)
{
    daemon_turn(block);
    n_seen[1] = 0;
    for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
        check_feed(pfeedd.feeds[f]);
    memcpy(seen[0], seen[1], n_seen[1] * sizeof(seen[0][0]));
    n_seen[0] = n_seen[1];
    pfeedd.stopping = false;
}

/* ---- a client ------------------------------------------------------------------------------------------------------- */

static void forget_lane(struct client *client)
{
    if (client->grants)
        munmap(client->grants, sizeof(*client->grants));
    if (client->returns)
        munmap(client->returns, sizeof(*client->returns));
    *client = (struct client){ .fd = client->fd, .last = client->last };
}

static void hang_up(struct client *client)
{
    forget_lane(client);
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static void connect_it(struct client *client)
{
    hang_up(client);
    client->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert(client->fd >= 0);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        hang_up(client); /* the queue is full */
}

static void take_lane(struct client *client, const int *fds)
{
    forget_lane(client);
    client->grants = mmap(NULL, sizeof(*client->grants), PROT_READ, MAP_SHARED, fds[PF_FD_GRANT], 0);
    client->returns = mmap(NULL, sizeof(*client->returns), PROT_READ | PROT_WRITE, MAP_SHARED, fds[PF_FD_RETURN], 0);
    assert((void *)client->grants != MAP_FAILED && (void *)client->returns != MAP_FAILED);
}

/* All that the daemon has said: each is sound, and an error has a sentence. */
static void receive_all(struct client *client)
{
    union {
        struct pf_ctl_head head;
        struct pf_ctl_error error;
        uint8_t bytes[PF_CTL_MAX];
    } message;
    ssize_t got;

    for (;;) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(8 * sizeof(int))];
        } control;
        struct iovec part = { &message, sizeof(message) };
        struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        struct cmsghdr *with;
        int fds[8], n = 0;

        got = client->fd < 0 ? -1 : recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0)
            return;
        assert(!(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && message.head.size == got &&
               message.head.version == PF_CTL_VERSION);
        assert(message.head.type >= PF_CTL_ERROR && message.head.type <= PF_CTL_PLACE);
        assert(message.head.type != PF_CTL_ERROR || (message.error.code < 0 && message.error.text[0]));
        with = CMSG_FIRSTHDR(&header);
        if (with) {
            n = (int)((with->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(with), (size_t)n * sizeof(int));
        }
        if (message.head.type == PF_CTL_ATTACHED) {
            assert(n == PF_ATTACH_FDS);
            reached.attached++;
            take_lane(client, fds);
        }
        while (n > 0)
            close(fds[--n]);
    }
}

static void send_request(struct client *client, struct bytes *bytes)
{
    union asked asked = { .bytes = { 0 } };
    size_t size = ask(&asked, &pfeedd, &client->last, bytes);

    if (client->fd >= 0)
        (void)!send(client->fd, &asked, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void take(struct client *client)
{
    struct pf_grant grant;

    if (client->grants && client->n_held < 2 && pf_grants_take(client->grants, client->returns, &client->next, &grant))
        client->held[client->n_held++] = grant.number;
}

static void give_back(struct client *client)
{
    if (client->grants && client->n_held > 0)
        pf_returns_push(client->returns, client->grants, &client->returned, client->held[--client->n_held], &client->rung);
}

static void scribble(struct client *client, struct bytes *bytes)
{
    uint8_t where = bytes_next(bytes);

    if (!client->returns)
        return;
    if (where & 1)
        __atomic_store_n(&client->returns->taken, bytes_number(bytes, client->returns->taken), __ATOMIC_RELEASE);
    else if (where & 2)
        __atomic_store_n(&client->returns->returned, bytes_number(bytes, client->returns->returned), __ATOMIC_RELEASE);
    else
        client->returns->numbers[where >> 2] = bytes_number(bytes, client->returns->taken);
}

/* Rows come from another thread: until there is nothing to fill. */
static void settle(void)
{
    for (int tries = 0; tries < 1000; tries++) {
        bool filling = pfeedd.change != NULL;

        turn(filling); /* a chore's end wakes the loop */
        for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
            for (uint32_t s = 0; s < pfeedd.feeds[f]->n_slots; s++)
                filling |= pfeedd.feeds[f]->slots[s].state == PF_SLOT_FILLING;
        if (!filling)
            return;
        sched_yield();
    }
}

static void move(struct bytes *bytes)
{
    uint8_t what = bytes_next(bytes);
    struct client *client = &clients[what & 3];

    switch (what >> 2 & 15) {
    case 0:
        connect_it(client);
        break;
    case 1:
    case 2:
    case 3:
        send_request(client, bytes);
        break;
    case 4:
        hang_up(client);
        break;
    case 5:
        if (client->fd >= 0)
            shutdown(client->fd, what & 64 ? SHUT_WR : SHUT_RDWR);
        break;
    case 6:
        scribble(client, bytes);
        break;
    case 7:
    case 8:
        take(client);
        break;
    case 9:
    case 10:
        give_back(client);
        break;
    case 11:
        settle();
        break;
    case 12:
        for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
            pfeedd.feeds[f]->dirty = true; /* somebody has rung */
        break;
    case 13:
        write_config((what & 3) % YAMLS);
        break;
    default:
        turn(false);
        receive_all(client);
    }
}

/* This process lives, so that those who hung up with batches in hand would stay. */
static void bury_all(void)
{
    for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
        while (pfeedd.feeds[f]->consumers)
            consumer_destroy(pfeedd.feeds[f]->consumers);
}

static bool has_retired(void)
{
    for (uint32_t f = 0; f < pfeedd.n_feeds; f++)
        if (pfeedd.feeds[f]->state == FEED_RETIRED)
            return true;
    return false;
}

static void await_endings(void)
{
    bury_all();
    while (pfeedd.change || pfeedd.endings || has_retired()) {
        turn(true);
        bury_all();
    }
}

static void check_rest(void)
{
    for (int c = 0; c < CLIENTS; c++)
        hang_up(&clients[c]);
    for (int i = 0; i < 8; i++)
        turn(false);
    await_endings();
    if (strayed) {
        write_config(0);
        load(NULL);
        await_endings();
        strayed = false;
    }
    settle();
    settle();
    assert(consumer_count() == 0 && pfeedd.n_feeds == 2);
    for (uint32_t f = 0; f < pfeedd.n_feeds; f++) {
        assert(!pfeedd.feeds[f]->jobs && !pfeedd.feeds[f]->consumers && !pfeedd.feeds[f]->failed[0]);
        for (uint32_t s = 0; s < pfeedd.feeds[f]->n_slots; s++)
            assert(pfeedd.feeds[f]->slots[s].grants == 0 && pfeedd.feeds[f]->slots[s].state != PF_SLOT_FILLING);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, data + size };

    if (!pfeedd.server)
        daemon_open();
    for (int i = 0; i < MOVES && bytes.at < bytes.end; i++)
        move(&bytes);
    check_rest();
    return 0;
}

void fuzz_replayed(void)
{
    printf("%llu attached, %llu configurations published, %llu turns with a job of a retired feed, %llu with one that ends\n",
           (unsigned long long)reached.attached, (unsigned long long)reached.published,
           (unsigned long long)reached.served_by_retired, (unsigned long long)reached.ended);
    assert(reached.attached >= 24 && reached.published >= 8 && reached.served_by_retired >= 10 && reached.ended >= 2);
}
