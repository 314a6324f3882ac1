/* SPDX-License-Identifier: MIT */
/* See order.h. One order a feed; its views are made and counted by the main thread, read by workers. What comes out is part of
 * pfeed's promise (a token resumes the same order under a later version): test_order.c pins it. */
#include "order.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define TABLE_MAX UINT64_C(65536) /* ids of a table fit in 16 bits; a network over fewer is measurably not uniform */
#define ROUNDS    8

/* Not the names of transforms (those have no dot), so that no order shares a stream with a row. */
#define TABLE_STREAM   "order.table"
#define NETWORK_STREAM "order.network"

struct order_view {
    /* written before workers get the view */
    uint64_t n;
    uint16_t *table; /* NULL: not by table */
    uint64_t keys[ROUNDS];
    unsigned half_bits; /* 0: not by network */
    /* the main thread's */
    bool made;
    uint32_t held;
    uint64_t seed, epoch;
    uint64_t released; /* order->clock at that time */
};

struct order {
    uint64_t n, clock;
    unsigned half_bits;
    uint32_t n_views;
    struct order_view views[]; /* and their tables behind them */
};

static bool by_table(uint64_t n, enum shuffle_mode mode)
{
    return mode == SHUFFLE_GLOBAL && n <= TABLE_MAX;
}

/* ceil(ceil(log2 n) / 2) */
static unsigned half_bits_of(uint64_t n)
{
    const unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);

    return (bits + 1) / 2;
}

size_t order_bytes(uint64_t n, enum shuffle_mode mode, uint32_t views)
{
    const size_t table = by_table(n, mode) ? n * sizeof(uint16_t) : 0;

    return sizeof(struct order) + views * (sizeof(struct order_view) + table);
}

int order_create(struct order **out, uint64_t n, enum shuffle_mode mode, uint32_t views)
{
    struct order *order;
    uint16_t *tables;

    if (n < 1 || views < 1)
        return -EINVAL;
    order = malloc(order_bytes(n, mode, views));
    if (!order)
        return -ENOMEM;
    *order = (struct order){ .n = n, .n_views = views };
    if (mode == SHUFFLE_GLOBAL && !by_table(n, mode))
        order->half_bits = half_bits_of(n);
    tables = (uint16_t *)&order->views[views];
    for (uint32_t i = 0; i < views; i++) {
        order->views[i] = (struct order_view){ .n = n };
        if (by_table(n, mode)) {
            order->views[i].table = tables + i * n;
            /* Faulted in now: memory must not be found missing in the middle of a run. */
            memset(order->views[i].table, 0xff, n * sizeof(uint16_t));
        }
    }
    *out = order;
    return 0;
}

void order_destroy(struct order *order)
{
    free(order);
}

uint64_t order_length(const struct order *order, uint64_t epoch)
{
    (void)epoch; /* orders that draw (weighted, mixture) will differ in it */
    return order->n;
}

/* Fisher and Yates' shuffle, in Durstenfeld's form that builds the table as it goes. */
static void fill_table(uint16_t *table, uint64_t n, uint64_t seed, uint64_t epoch)
{
    struct draw draw;

    draw_init(&draw, &(struct row_key){ .seed = seed, .epoch = epoch }, TABLE_STREAM, 0);
    table[0] = 0;
    for (uint64_t i = 1; i < n; i++) {
        const uint64_t j = draw_below(&draw, i + 1);

        table[i] = table[j]; /* j == i reads what the next line writes over */
        table[j] = (uint16_t)i;
    }
}

static void fill_keys(uint64_t keys[ROUNDS], uint64_t seed, uint64_t epoch)
{
    struct draw draw;

    draw_init(&draw, &(struct row_key){ .seed = seed, .epoch = epoch }, NETWORK_STREAM, 0);
    for (int round = 0; round < ROUNDS; round++)
        keys[round] = draw_u64(&draw);
}

static void make(const struct order *order, struct order_view *view, uint64_t seed, uint64_t epoch)
{
    view->seed = seed;
    view->epoch = epoch;
    view->made = true;
    view->half_bits = order->half_bits;
    if (view->table)
        fill_table(view->table, view->n, seed, epoch);
    else if (view->half_bits)
        fill_keys(view->keys, seed, epoch);
}

const struct order_view *order_view(struct order *order, uint64_t seed, uint64_t epoch)
{
    struct order_view *room = NULL; /* never made, else released longest ago */

    for (uint32_t i = 0; i < order->n_views; i++) {
        struct order_view *view = &order->views[i];

        if (view->made && view->seed == seed && view->epoch == epoch) {
            view->held++;
            return view;
        }
        if (view->held == 0 && (!room || view->released < room->released))
            room = view;
    }
    if (!room)
        return NULL;
    make(order, room, seed, epoch);
    room->held = 1;
    return room;
}

void order_release(struct order *order, const struct order_view *view)
{
    struct order_view *own = &order->views[view - order->views];

    assert(own->held > 0);
    own->held--;
    own->released = ++order->clock;
}

/* The high bits of splitmix64's finaliser (Stafford's Mix13) over the half and the round's key. */
static uint64_t mix(uint64_t half, uint64_t key, unsigned bits)
{
    uint64_t z = half ^ key;

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) >> (64 - bits);
}

/* A bijection of 0 .. 4^half_bits - 1. */
static uint64_t permute(const struct order_view *view, uint64_t x)
{
    const unsigned bits = view->half_bits;
    uint64_t left = x >> bits, right = x & ((UINT64_C(1) << bits) - 1);

    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t next = left ^ mix(right, view->keys[round], bits);

        left = right;
        right = next;
    }
    return left << bits | right;
}

void order_at(const struct order_view *view, uint64_t position, uint64_t *id, uint32_t *occurrence)
{
    assert(position < view->n);
    *occurrence = 0;
    if (view->table) {
        *id = view->table[position];
    } else if (view->half_bits) {
        /* Following the cycle until it is back inside gives a bijection of 0 .. n-1 (Black and Rogaway, "Ciphers with arbitrary
         * finite domains"); 4^half_bits < 4 n, so that it takes fewer than 4 turns on average. */
        do
            position = permute(view, position);
        while (position >= view->n);
        *id = position;
    } else {
        *id = position;
    }
}
