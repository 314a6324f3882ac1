/* SPDX-License-Identifier: MIT */
/* See order.h. Up to 65,536 samples a Fisher-Yates table; above, a cycle-walking balanced Feistel network of 8 rounds (Black and
 * Rogaway, "Ciphers with arbitrary finite domains", 2002), whose round function is a 64-bit mix of the half and a Philox round
 * key. slot.c makes and releases views on the main thread; workers call order_at. */
#include "order.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "random.h"

#define TABLE_MOST 65536
#define ROUNDS     8
/* The second key word of row draws is (kind, ordinal); no kind's hash is likely to meet these, and no ordinal does. */
#define KEY_TABLE   UINT64_C(0x6f726465722d6679) /* "order-fy" */
#define KEY_FEISTEL UINT64_C(0x6f726465722d666e) /* "order-fn" */

struct order_view {
    uint64_t n, seed, epoch, used; /* used: for finding the one that was released first */
    uint32_t held, half_bits;
    bool made, none;
    uint64_t round_keys[ROUNDS];
    uint32_t *table; /* NULL above TABLE_MOST */
};

struct order {
    uint64_t n, clock;
    enum shuffle_mode mode;
    uint32_t n_views;
    struct order_view *views;
    uint32_t *tables;
};

static bool has_table(uint64_t n, enum shuffle_mode mode)
{
    return mode == SHUFFLE_GLOBAL && n <= TABLE_MOST;
}

size_t order_bytes(uint64_t n, enum shuffle_mode mode, uint32_t views)
{
    return sizeof(struct order) + views * (sizeof(struct order_view) + (has_table(n, mode) ? n * sizeof(uint32_t) : 0));
}

int order_create(struct order **out, uint64_t n, enum shuffle_mode mode, uint32_t views)
{
    struct order *order = calloc(1, sizeof(*order));

    if (!order)
        return -ENOMEM;
    order->n = n;
    order->mode = mode;
    order->n_views = views;
    order->views = calloc(views, sizeof(*order->views));
    if (has_table(n, mode))
        order->tables = calloc(views * n, sizeof(*order->tables));
    if (!order->views || (has_table(n, mode) && !order->tables)) {
        order_destroy(order);
        return -ENOMEM;
    }
    for (uint32_t v = 0; v < views; v++) {
        order->views[v].n = n;
        order->views[v].none = mode == SHUFFLE_NONE;
        order->views[v].table = order->tables ? order->tables + v * n : NULL;
    }
    *out = order;
    return 0;
}

void order_destroy(struct order *order)
{
    if (!order)
        return;
    free(order->views);
    free(order->tables);
    free(order);
}

uint64_t order_length(const struct order *order, uint64_t epoch)
{
    (void)epoch;
    return order->n;
}

/* Fisher and Yates, from the end; each swap from one word of Philox, unbiased by rejection. */
static void shuffle(struct order_view *view)
{
    struct draw draw = { .key = { view->seed, KEY_TABLE }, .counter = { view->epoch }, .used = 4 };

    for (uint32_t i = 0; i < view->n; i++)
        view->table[i] = i;
    for (uint32_t i = (uint32_t)view->n - 1; i > 0; i--) {
        uint32_t j = (uint32_t)draw_below(&draw, (uint64_t)i + 1), keep = view->table[i];

        view->table[i] = view->table[j];
        view->table[j] = keep;
    }
}

static void make_round_keys(struct order_view *view)
{
    uint32_t bits = 0;

    while (bits < 64 && (view->n - 1) >> bits)
        bits++;
    view->half_bits = (bits + 1) / 2;
    for (uint32_t r = 0; r < ROUNDS; r++) {
        const uint64_t key[2] = { view->seed, KEY_FEISTEL }, counter[4] = { view->epoch, r, 0, 0 };
        uint64_t block[4];

        random_block(key, counter, block);
        view->round_keys[r] = block[0];
    }
}

const struct order_view *order_view(struct order *order, uint64_t seed, uint64_t epoch)
{
    struct order_view *oldest = NULL;

    for (uint32_t v = 0; v < order->n_views; v++) {
        struct order_view *view = &order->views[v];

        if (view->made && view->seed == seed && view->epoch == epoch) {
            view->held++;
            return view;
        }
        if (view->held == 0 && (!oldest || view->used < oldest->used))
            oldest = view;
    }
    if (!oldest)
        return NULL;
    oldest->seed = seed;
    oldest->epoch = epoch;
    oldest->made = true;
    oldest->held = 1;
    if (oldest->table)
        shuffle(oldest);
    else if (!oldest->none)
        make_round_keys(oldest);
    return oldest;
}

void order_release(struct order *order, const struct order_view *view)
{
    struct order_view *own = &order->views[view - order->views];

    own->held--;
    own->used = ++order->clock;
}

/* The finaliser of MurmurHash3 (Appleby): every bit of the half and the key reaches every bit of the result. */
static uint64_t mix(uint64_t half, uint64_t key)
{
    uint64_t x = half + key;

    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return x;
}

static uint64_t feistel(const struct order_view *view, uint64_t x)
{
    uint64_t mask = (UINT64_C(1) << view->half_bits) - 1, left = x >> view->half_bits, right = x & mask;

    for (uint32_t r = 0; r < ROUNDS; r++) {
        uint64_t next = left ^ (mix(right, view->round_keys[r]) & mask);

        left = right;
        right = next;
    }
    return left << view->half_bits | right;
}

void order_at(const struct order_view *view, uint64_t position, uint64_t *id, uint32_t *occurrence)
{
    uint64_t x = position;

    *occurrence = 0;
    if (view->none) {
        *id = position;
        return;
    }
    if (view->table) {
        *id = view->table[position];
        return;
    }
    do /* a permutation of a larger set, walked until it comes back into ours: less than 4 rounds on average */
        x = feistel(view, x);
    while (x >= view->n);
    *id = x;
}
