/* SPDX-License-Identifier: MIT */
/* Fuzz target: what a consumer can write. Two of them on one feed, in one thread, over the real feed.c, consumer.c and slot.c; one
 * is honest, the other's return page gets any bytes at any moment. Never a crash; at most one ring's length of returns is read
 * at a time; every slot counts the grants that are out, and is READY while there are any; the honest one is never dropped and
 * gets its steps in order. */
#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bytes.h"
#include "consumer.h"
#include "feed.h"
#include "server.h"
#include "worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS    4u
#define SLOTS   9u
#define SAMPLES 64u

extern const struct deliver_ops deliver_split;

static struct config_feed config = { .name = (char *)"f", .tail = CONFIG_TAIL_DROP, .max_held = 2, .batch = ROWS };
static struct field field = { .name = "x", .dtype = DTYPE_I64, .row_bytes = 8 };
static struct sample_part part = { .name = "x", .kind = PART_VALUES, .dtype = DTYPE_I64 };

struct player {
    struct consumer *c;
    uint64_t id, next, returned, rung;
    uint64_t steps; /* that it took */
    uint64_t held[PF_RING];
    uint32_t n_held;
};

static struct feed *feed;
static struct loop *loop;

/* ---- what the daemon would bring along ------------------------------------------------------------------------------ */

void workers_post(struct workers *workers, struct feed *of, struct slot *slot)
{
    (void)workers;
    (void)of;
    assert(slot->state == PF_SLOT_FILLING);
}

bool workers_reading(const struct workers *workers, const struct feed *of, uint64_t *id, int64_t *since_ns)
{
    (void)workers;
    (void)of;
    (void)id;
    (void)since_ns;
    return false;
}

void server_close(struct connection *connection)
{
    (void)connection;
    abort(); /* nobody is connected */
}

void server_tell(struct connection *connection, const char *sentence)
{
    (void)connection;
    (void)sentence;
    abort();
}

static void world_open(void)
{
    struct problem why;

    log_init(LOG_ERROR);
    feed = aligned_alloc(_Alignof(struct feed), sizeof(*feed));
    assert(feed);
    memset(feed, 0, sizeof(*feed));
    feed->config = &config;
    feed->deliver = &deliver_split;
    feed->samples = SAMPLES;
    feed->order_params = (struct order_params){ .n = SAMPLES, .mode = SHUFFLE_NONE, .repeat = 1 };
    feed->batch = ROWS;
    feed->n_fields = 1;
    feed->fields = &field;
    feed->parts = &part;
    feed->segment.fd = feed->segment.reader = -1;
    feed->ids_offset = feed->used_ids_offset = feed->flags_offset = ROWS * 8;
    feed->slot_bytes = PF_PAGE;
    pthread_mutex_init(&feed->lock, NULL);
    assert(feed_start(feed, SLOTS, SEGMENT_MEMFD, 0, &why) == 0);
    assert(loop_create(&loop) == 0);
}

static void attach(struct player *player)
{
    const struct pf_ctl_attach request = { .world = 1, .max_held = 2 };
    struct consumer_peer peer = { .pid = getpid(), .uid = getuid(), .pidfd = eventfd(0, EFD_CLOEXEC) };
    struct pf_ctl_attached reply;
    struct problem why;
    int fds[PF_ATTACH_FDS];

    *player = (struct player){ .c = NULL };
    assert(peer.pidfd >= 0);
    assert(consumer_attach(&player->c, feed, loop, &request, &peer, &reply, fds, &why) == 0);
    player->id = player->c->id;
}

/* ---- the invariants ------------------------------------------------------------------------------------------------- */

static bool is_there(const struct player *player)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next)
        if (c == player->c && c->id == player->id && c->state == CONSUMER_ATTACHED)
            return true;
    return false;
}

static void check(const struct player *honest)
{
    uint32_t out[SLOTS] = { 0 };

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        assert(c->n_out <= PF_RING && c->taken <= c->published);
        assert(c->state == CONSUMER_ATTACHED || c->n_out <= c->max_held);
        for (uint32_t i = 0; i < c->n_out; i++) {
            assert(c->out[i].slot < feed->n_slots && c->out[i].number < c->published);
            assert(i == 0 || c->out[i].number > c->out[i - 1].number);
            out[c->out[i].slot]++;
        }
    }
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        const struct slot *slot = &feed->slots[s];

        assert(slot->grants == out[s]);
        assert(slot->grants == 0 || slot->state == PF_SLOT_READY);
        assert(slot->state <= PF_SLOT_READY && feed->table[s].state == slot->state);
        assert(slot->state == PF_SLOT_FREE || (feed->table[s].sequence & 1) == (slot->state == PF_SLOT_FILLING));
    }
    assert(is_there(honest));
}

/* ---- moves ---------------------------------------------------------------------------------------------------------- */

static void work(uint8_t how)
{
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        struct slot *slot = &feed->slots[s];
        uint32_t first, count;

        if (slot->state != PF_SLOT_FILLING || !slot_claim(slot, slot_generation(slot), 1 + how % ROWS, &first, &count))
            continue;
        slot_rows_done(slot, count, 0);
        feed->dirty = true;
    }
}

static void take(struct player *player, bool honest)
{
    struct pf_grant grant;

    if (player->n_held >= 2 || !is_there(player) || !pf_grants_take(player->c->grants, player->c->returns, &player->next, &grant))
        return;
    if (honest)
        assert(grant.step == player->steps % (SAMPLES / ROWS) && grant.epoch == player->steps / (SAMPLES / ROWS) &&
               feed->slots[grant.slot].grants > 0 && feed->slots[grant.slot].index == grant.step);
    player->steps++;
    player->held[player->n_held++] = grant.number;
}

static void give_back(struct player *player, uint32_t which)
{
    uint64_t number;

    if (player->n_held == 0 || !is_there(player))
        return;
    which %= player->n_held--;
    number = player->held[which];
    player->held[which] = player->held[player->n_held];
    if (pf_returns_push(player->c->returns, player->c->grants, &player->returned, number, &player->rung))
        feed->dirty = true;
}

/* Anything, anywhere that it can write. */
static void scribble(struct player *player, struct bytes *bytes)
{
    struct pf_return_page *page;
    uint8_t how = bytes_next(bytes);

    if (!is_there(player))
        return;
    page = player->c->returns;
    if (how % 4 == 0)
        __atomic_store_n(&page->taken, bytes_number(bytes, page->taken), __ATOMIC_RELEASE);
    else if (how % 4 == 1)
        __atomic_store_n(&page->returned, bytes_number(bytes, page->returned), __ATOMIC_RELEASE);
    else if (how % 4 == 2)
        page->numbers[how / 4 % PF_RING] = bytes_number(bytes, page->taken);
    else
        bytes_copy(bytes, (uint8_t *)page + bytes_next(bytes) * 32u, 1 + how / 4);
    feed->dirty |= how & 0x80;
}

static void turn(const struct player *liar)
{
    uint64_t tail = is_there(liar) ? liar->c->tail : 0, taken = is_there(liar) ? liar->c->taken : 0;

    feed_turn(feed);
    assert(!is_there(liar) || (liar->c->tail - tail <= PF_RING && liar->c->taken >= taken));
    feed_arm(feed);
}

/* All who are gone, dead or not, leave nothing. */
static void bury_all(bool all)
{
    for (struct consumer *c = feed->consumers, *next; c; c = next) {
        next = c->next;
        if (all || c->state == CONSUMER_QUARANTINED)
            consumer_destroy(c);
    }
}

static void move(struct player *honest, struct player *liar, struct bytes *bytes)
{
    uint8_t what = bytes_next(bytes);

    switch (what % 10) {
    case 0:
    case 1:
        turn(liar);
        break;
    case 2:
        work(what / 10);
        break;
    case 3:
        take(honest, true);
        break;
    case 4:
        give_back(honest, what / 10);
        break;
    case 5:
        take(liar, false);
        break;
    case 6:
        give_back(liar, what / 10);
        break;
    case 7:
    case 8:
        scribble(liar, bytes);
        break;
    default:
        if (is_there(liar) && what & 0x40)
            what & 0x80 ? consumer_hangup(liar->c) : consumer_detach(liar->c);
        if (!is_there(liar)) {
            bury_all(false);
            attach(liar);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, data + size };
    struct player honest, liar;

    if (!feed)
        world_open();
    attach(&honest);
    attach(&liar);
    while (bytes.at < bytes.end) {
        move(&honest, &liar, &bytes);
        check(&honest);
    }
    bury_all(true);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        uint32_t first, count;

        while (feed->slots[s].state == PF_SLOT_FILLING &&
               slot_claim(&feed->slots[s], slot_generation(&feed->slots[s]), ROWS, &first, &count))
            slot_rows_done(&feed->slots[s], count, 0);
        slot_finish(feed, &feed->slots[s]);
        slot_release(feed, &feed->slots[s]);
        assert(feed->slots[s].state == PF_SLOT_FREE && feed->slots[s].grants == 0);
    }
    assert(!feed->jobs && consumer_count() == 0);
    return 0;
}
