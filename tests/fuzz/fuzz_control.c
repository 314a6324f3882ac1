/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: a daemon, alive in this process, and what its clients may do to it. An input is a sequence of moves: connect, send
 * (a request with any fields, one that is patched, any bytes), take and give back as a trainer, scribble on the return page,
 * hang up, half or whole, let the daemon turn. After each turn: every slot counts the grants that are out and is READY, and not
 * written, while there are any; states are legal. At the end everybody hangs up, and nothing is left.
 */
#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

static const char yaml[] = "version: 1\n"
                           "daemon: { workers: 1, memory: 64MiB, max_consumers: 8 }\n"
                           "feeds:\n"
                           "  a:\n"
                           "    source: { type: synthetic, rows: 37 }\n"
                           "    batch: 4\n"
                           "    slots: 6\n"
                           "    max_held: 1\n"
                           "    fields: { x: { dtype: int64, shape: [1] } }\n"
                           "  b:\n"
                           "    source: { type: synthetic, rows: 16 }\n"
                           "    batch: 8\n"
                           "    slots: 9\n"
                           "    tail: pad\n"
                           "    deliver: each\n"
                           "    fields: { x: { dtype: int64, shape: [1] } }\n";

struct client {
    int fd; /* -1: not connected */
    struct pf_grant_page *grants;
    struct pf_return_page *returns;
    uint64_t next, returned, rung, held[PF_RING];
    uint32_t n_held;
};

static struct daemon pfeedd;
static struct watch work;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct client clients[CLIENTS];

/* Which filling of its slot each grant that is out was of, at the last look and at this one. */
struct seen {
    uint64_t consumer, number, sequence;
};
static struct seen seen[2][CONSUMERS * PF_RING];
static uint32_t n_seen[2];

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
    bool again = false;

    for (uint32_t f = 0; f < pfeedd.n_feeds; f++) {
        if (pfeedd.feeds[f]->dirty)
            feed_turn(pfeedd.feeds[f]);
        again |= feed_arm(pfeedd.feeds[f]) || pfeedd.feeds[f]->dirty;
    }
    reload_reap(&pfeedd);
    assert(loop_turn(pfeedd.loop, block && !again ? -1 : 0) == 0);
}

static void daemon_open(void)
{
    const struct reload_ask ask_nothing = { .ended = NULL };
    struct reload_ask ask = ask_nothing;
    struct problem why;
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    log_init(LOG_ERROR);
    assert(fd >= 0 && write(fd, yaml, sizeof(yaml) - 1) == sizeof(yaml) - 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* stays: reloads read it again */
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
    ask.config = config_ref(pfeedd.config);
    assert(reload_begin(&pfeedd, &ask, &why) == 0);
    while (pfeedd.change)
        daemon_turn(true);
    assert(pfeedd.n_feeds == 2);
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
    *client = (struct client){ .fd = client->fd };
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
        assert(message.head.type >= PF_CTL_ERROR && message.head.type <= PF_CTL_REPORT);
        assert(message.head.type != PF_CTL_ERROR || (message.error.code < 0 && message.error.text[0]));
        with = CMSG_FIRSTHDR(&header);
        if (with) {
            n = (int)((with->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(with), (size_t)n * sizeof(int));
        }
        if (message.head.type == PF_CTL_ATTACHED) {
            assert(n == PF_ATTACH_FDS);
            take_lane(client, fds);
        }
        while (n > 0)
            close(fds[--n]);
    }
}

static size_t make_attach(struct pf_ctl_attach *request, struct bytes *bytes)
{
    static const char *const feeds[] = { "a", "b", "c", "" }, *const jobs[] = { "", "j", "k", "j" },
                             *const ranks[] = { "", "0", "0-1", "0,2-3", "1-", "0-99999999999" };
    uint8_t how = bytes_next(bytes), more = bytes_next(bytes);

    strcpy(request->feed, feeds[how & 3]);
    strcpy(request->job, jobs[how >> 2 & 3]);
    request->world = 1u << (how >> 4 & 3);
    request->rank = how >> 6;
    if (more & 1)
        strcpy(request->local_ranks, ranks[more >> 1 & 7 % 6]);
    if (more & 16)
        request->batch = (uint32_t)bytes_number(bytes, 4);
    if (more & 32)
        request->epochs = (uint32_t)bytes_number(bytes, 0), request->max_held = (uint32_t)bytes_number(bytes, 2);
    if (more & 64)
        request->run = bytes_number(bytes, 1), request->seed = bytes_number(bytes, 0);
    if (more & 128)
        request->slow = bytes_next(bytes) % 4, request->flags = bytes_next(bytes) % 4;
    return sizeof(*request);
}

static void send_request(struct client *client, struct bytes *bytes)
{
    union {
        struct pf_ctl_head head;
        struct pf_ctl_attach attach;
        struct pf_ctl_stat stat;
        struct pf_ctl_reload reload;
        uint8_t bytes[PF_CTL_MAX + 8];
    } message;
    uint8_t how = bytes_next(bytes);
    uint16_t type = how % 8 == PF_CTL_RELOAD && how < 0xd0 ? PF_CTL_ATTACH : how % 8; /* reloads take long */
    size_t size = sizeof(message.head);

    memset(&message, 0, sizeof(message));
    if (type == PF_CTL_ATTACH)
        size = make_attach(&message.attach, bytes);
    else if (type == PF_CTL_STAT || type == PF_CTL_PEEK) {
        size = sizeof(message.stat);
        message.stat.what = bytes_next(bytes) % 8;
        message.stat.feed[0] = (char)(how & 8 ? 'a' + (how >> 4 & 3) : 0);
    } else if (type == PF_CTL_RELOAD) {
        size = sizeof(message.reload);
        message.reload.flags = (how & 0xf0) == 0xf0;
    } else if (type == 0)
        size = bytes_copy(bytes, &message, bytes_next(bytes) * (how & 8 ? 33u : 1u) % sizeof(message));
    if (type != 0)
        message.head = (struct pf_ctl_head){ PF_CTL_VERSION, type, (uint32_t)size };
    if (how >= 0xe0 && type != PF_CTL_RELOAD && size > 0)
        message.bytes[bytes_number(bytes, 0) % size] ^= bytes_next(bytes);
    if (client->fd >= 0)
        (void)!send(client->fd, &message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
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

        turn(false);
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

static void check_rest(void)
{
    for (int c = 0; c < CLIENTS; c++)
        hang_up(&clients[c]);
    for (int i = 0; i < 8; i++)
        turn(false);
    bury_all();
    while (pfeedd.change || pfeedd.endings || pfeedd.n_feeds != 2) {
        turn(true);
        bury_all();
    }
    settle();
    settle();
    assert(consumer_count() == 0);
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
