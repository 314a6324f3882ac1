/* SPDX-License-Identifier: MIT */
/* See order.h. One order a feed; its views are made and counted by the main thread, read by workers. What comes out is part of
 * pfeed's promise (a token resumes the same order under a later version): test_order.c pins it, and tests/papers/orders.py has
 * all of it a second time, from the manual's text. */
#include "order.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TABLE_MAX     UINT64_C(65536) /* numbers of a table fit in 16 bits; a network over fewer is measurably not uniform */
#define ROUNDS        8
#define WINDOW_ROUNDS 16 /* a window is smaller than what ROUNDS is enough for */
#define GOLDEN        UINT64_C(0x9e3779b97f4a7c15)

/* Not the names of transforms (those have no dot), so that no order shares a stream with a row. */
#define TABLE_STREAM    "order.table"
#define NETWORK_STREAM  "order.network"
#define BLOCK_STREAM    "order.block"
#define WEIGHTED_STREAM "order.weighted"

__extension__ typedef unsigned __int128 wide;

/* Of 0..n-1: members, draws or whole blocks. */
struct permutation {
    uint64_t n;
    uint16_t *table; /* NULL: not by table */
    uint64_t keys[ROUNDS];
    unsigned half_bits; /* 0: not by network */
};

struct order_view {
    /* written before workers get the view */
    const struct order_params *params;
    struct permutation base;
    uint64_t window_keys[WINDOW_ROUNDS];
    uint64_t blocks, short_at; /* SHUFFLE_BLOCK: with the short one; where that stands, `blocks`: there is none */
    uint64_t seed, epoch;
    /* the main thread's */
    bool made;
    uint32_t held;
    uint64_t released; /* order->clock at that time */
};

struct order {
    struct order_params params;
    uint64_t clock;
    uint32_t n_views;
    struct order_view views[]; /* and their tables behind them */
};

/* What the permutation is of: 0 where there is none. */
static uint64_t permuted(const struct order_params *params)
{
    switch (params->mode) {
    case SHUFFLE_NONE:
        return 0;
    case SHUFFLE_GLOBAL:
        return params->n;
    case SHUFFLE_BLOCK:
        return params->n / params->block; /* the last one, where it is short, finds its place by itself */
    case SHUFFLE_WEIGHTED:
        return params->length;
    }
    return 0;
}

static uint64_t table_length(const struct order_params *params)
{
    const uint64_t n = permuted(params);

    return n <= TABLE_MAX ? n : 0;
}

/* ceil(ceil(log2 n) / 2) for n > 1 */
static unsigned half_bits_of(uint64_t n)
{
    const unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);

    return (bits + 1) / 2;
}

uint64_t order_length(const struct order_params *params)
{
    return (params->mode == SHUFFLE_WEIGHTED ? params->length : params->n) * params->repeat;
}

uint64_t order_print(const struct order_params *params)
{
    const bool block = params->mode == SHUFFLE_BLOCK, weighted = params->mode == SHUFFLE_WEIGHTED;
    const uint64_t all[] = { (uint64_t)params->mode,
                             block ? params->block : 0,
                             block ? params->window : 0,
                             weighted ? params->length : 0,
                             params->repeat,
                             params->asked };

    return XXH3_64bits(all, sizeof(all));
}

size_t order_bytes(const struct order_params *params, uint32_t views)
{
    return sizeof(struct order) + views * (sizeof(struct order_view) + table_length(params) * sizeof(uint16_t));
}

static bool is_sound(const struct order_params *params)
{
    if (params->n < 1 || params->repeat < 1)
        return false;
    if (params->mode == SHUFFLE_BLOCK)
        return params->block >= 1 && params->window >= 1;
    return params->mode != SHUFFLE_WEIGHTED || (params->length >= 1 && params->sums && params->sums[params->n - 1] > 0);
}

int order_create(struct order **out, const struct order_params *params, uint32_t views)
{
    const uint64_t length = is_sound(params) ? table_length(params) : 0;
    struct order *order;
    uint16_t *tables;

    if (!is_sound(params) || views < 1)
        return -EINVAL;
    order = malloc(order_bytes(params, views));
    if (!order)
        return -ENOMEM;
    *order = (struct order){ .params = *params, .n_views = views };
    tables = (uint16_t *)&order->views[views];
    for (uint32_t i = 0; i < views; i++) {
        struct order_view *view = &order->views[i];

        *view = (struct order_view){ .params = &order->params, .base.n = permuted(params) };
        if (length) {
            view->base.table = tables + i * length;
            /* Faulted in now: memory must not be found missing in the middle of a run. */
            memset(view->base.table, 0xff, length * sizeof(uint16_t));
        } else if (view->base.n) {
            view->base.half_bits = half_bits_of(view->base.n);
        }
    }
    *out = order;
    return 0;
}

void order_destroy(struct order *order)
{
    free(order);
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

static void fill_keys(uint64_t *keys, int n, struct draw *draw)
{
    for (int round = 0; round < n; round++)
        keys[round] = draw_u64(draw);
}

/* The keys of the windows, and the place of the short block: any, as if all blocks were permuted. */
static void place_blocks(struct order_view *view, uint64_t seed, uint64_t epoch)
{
    const bool is_short = view->params->n % view->params->block != 0;
    struct draw draw;

    draw_init(&draw, &(struct row_key){ .seed = seed, .epoch = epoch }, BLOCK_STREAM, 0);
    fill_keys(view->window_keys, WINDOW_ROUNDS, &draw);
    view->blocks = view->base.n + is_short;
    view->short_at = is_short ? draw_below(&draw, view->blocks) : view->blocks;
}

static void make(struct order_view *view, uint64_t seed, uint64_t epoch)
{
    struct draw draw;

    view->seed = seed;
    view->epoch = epoch;
    view->made = true;
    if (view->base.table) {
        fill_table(view->base.table, view->base.n, seed, epoch);
    } else if (view->base.half_bits) {
        draw_init(&draw, &(struct row_key){ .seed = seed, .epoch = epoch }, NETWORK_STREAM, 0);
        fill_keys(view->base.keys, ROUNDS, &draw);
    }
    if (view->params->mode == SHUFFLE_BLOCK)
        place_blocks(view, seed, epoch);
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
    make(room, seed, epoch);
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
static uint64_t network(uint64_t x, unsigned bits, const uint64_t *keys, int rounds, uint64_t tweak)
{
    uint64_t left = x >> bits, right = x & ((UINT64_C(1) << bits) - 1);

    for (int round = 0; round < rounds; round++) {
        const uint64_t next = left ^ mix(right, keys[round] + tweak, bits);

        left = right;
        right = next;
    }
    return left << bits | right;
}

static uint64_t permute(const struct permutation *permutation, uint64_t x)
{
    if (permutation->table)
        return permutation->table[x];
    if (permutation->half_bits == 0)
        return x;
    /* Following the cycle until it is back inside gives a bijection of 0 .. n-1 (Black and Rogaway, "Ciphers with arbitrary finite
     * domains"); 4^half_bits < 4 n, so that it takes fewer than 4 turns on average. */
    do
        x = network(x, permutation->half_bits, permutation->keys, ROUNDS, 0);
    while (x >= permutation->n);
    return x;
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

/* The first position of the block at a place, or of what is behind the last one. */
static uint64_t start_of(const struct order_view *view, uint64_t place)
{
    const uint64_t block = view->params->block;

    return place * block - (place > view->short_at ? block - view->params->n % block : 0);
}

static uint64_t place_of(const struct order_view *view, uint64_t position)
{
    const uint64_t block = view->params->block, rest = view->params->n % block, before = view->short_at * block;

    if (position < before)
        return position / block;
    return position < before + rest ? view->short_at : (position - rest) / block + 1;
}

/* The position within the window, moved to another one in it. */
static uint64_t mix_window(const struct order_view *view, uint64_t window, uint64_t size, uint64_t x)
{
    const unsigned bits = size > 1 ? half_bits_of(size) : 0;

    while (bits) {
        x = network(x, bits, view->window_keys, WINDOW_ROUNDS, window * GOLDEN);
        if (x < size)
            break;
    }
    return x;
}

static uint64_t block_at(const struct order_view *view, uint64_t position)
{
    const struct order_params *params = view->params;
    const uint64_t window = place_of(view, position) / params->window, first = window * params->window;
    const uint64_t last = view->blocks - first < params->window ? view->blocks : first + params->window;
    const uint64_t begin = start_of(view, first);
    uint64_t place, block;

    position = begin + mix_window(view, window, start_of(view, last) - begin, position - begin);
    place = place_of(view, position);
    block = place == view->short_at ? view->base.n : permute(&view->base, place - (place > view->short_at));
    return block * params->block + (position - start_of(view, place));
}

/* ---- weights -------------------------------------------------------------------------------------------------------- */

/* The member whose part of 0 .. sum - 1 the point lies in: the first whose sum is above it. */
static uint64_t member_at(const struct order_params *params, uint64_t point)
{
    uint64_t low = 0, high = params->n - 1;

    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;

        if (point < params->sums[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Stratified: 0 .. sum - 1 is cut into as many equal strata as there are draws, and each draw is a point of its own stratum
 * (Kitagawa, "Monte Carlo filter and smoother", 1996). A member is then drawn as often as its share says, but for less than two. */
static uint64_t weighted_at(const struct order_view *view, uint64_t index, uint64_t *times)
{
    const struct order_params *params = view->params;
    const uint64_t sum = params->sums[params->n - 1];
    struct draw draw;
    uint64_t member;

    draw_init(&draw, &(struct row_key){ .seed = view->seed, .epoch = view->epoch, .id = index }, WEIGHTED_STREAM, 0);
    member = member_at(params, (uint64_t)(((wide)index * sum + draw_below(&draw, sum)) / params->length));
    /* The member's first stratum is that of its first point; no two draws are of one stratum. */
    *times = index - (uint64_t)((wide)(member ? params->sums[member - 1] : 0) * params->length / sum);
    return member;
}

/* ---- all ------------------------------------------------------------------------------------------------------------ */

static uint64_t id_of(const struct order_params *params, uint64_t member)
{
    if (params->ids)
        return params->ids[member];
    return params->wide_ids ? params->wide_ids[member] : member;
}

void order_at(const struct order_view *view, uint64_t position, uint64_t *id, uint32_t *occurrence)
{
    const struct order_params *params = view->params;
    uint64_t at = position / params->repeat, times = 0;

    assert(position < order_length(params));
    if (params->mode == SHUFFLE_BLOCK)
        at = block_at(view, at);
    else if (params->mode == SHUFFLE_WEIGHTED)
        at = weighted_at(view, permute(&view->base, at), &times);
    else
        at = permute(&view->base, at);
    *id = id_of(params, at);
    *occurrence = (uint32_t)(times * params->repeat + position % params->repeat);
}

uint64_t order_pick(const struct order *order, struct draw *draw)
{
    const struct order_params *params = &order->params;

    if (params->mode == SHUFFLE_WEIGHTED)
        return id_of(params, member_at(params, draw_below(draw, params->sums[params->n - 1])));
    return id_of(params, draw_below(draw, params->n));
}
