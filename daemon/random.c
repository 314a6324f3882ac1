/* SPDX-License-Identifier: MIT */
/* See random.h. The counter is (id, epoch, occurrence and view, number of the block), the key (seed, kind and ordinal), so that
 * every draw is a pure function of DESIGN.md section 5's key. Pure; any thread. */
#include "random.h"

#include <Random123/philox.h>

void random_block(const uint64_t key[2], const uint64_t counter[4], uint64_t out[4])
{
    philox4x64_key_t k = { { key[0], key[1] } };
    philox4x64_ctr_t c = { { counter[0], counter[1], counter[2], counter[3] } };

    c = philox4x64(c, k);
    for (int i = 0; i < 4; i++)
        out[i] = c.v[i];
}

/* FNV-1a, 32 bits (Fowler, Noll, Vo). */
static uint32_t hash_kind(const char *kind)
{
    uint32_t hash = 2166136261u;

    for (; *kind; kind++)
        hash = (hash ^ (uint8_t)*kind) * 16777619u;
    return hash;
}

void draw_init(struct draw *draw, const struct row_key *key, const char *kind, uint32_t ordinal)
{
    draw->key[0] = key->seed;
    draw->key[1] = (uint64_t)hash_kind(kind) << 32 | ordinal;
    draw->counter[0] = key->id;
    draw->counter[1] = key->epoch;
    draw->counter[2] = (uint64_t)key->occurrence << 32 | key->view;
    draw->counter[3] = 0;
    draw->used = 4;
}

uint64_t draw_u64(struct draw *draw)
{
    if (draw->used == 4) {
        random_block(draw->key, draw->counter, draw->block);
        draw->counter[3]++;
        draw->used = 0;
    }
    return draw->block[draw->used++];
}

double draw_unit(struct draw *draw)
{
    return (double)(draw_u64(draw) >> 11) * 0x1p-53;
}

double draw_between(struct draw *draw, double low, double high)
{
    return low + (high - low) * draw_unit(draw);
}

/* Multiply and reject (Lemire, "Fast random integer generation in an interval", 2019). */
uint64_t draw_below(struct draw *draw, uint64_t n)
{
    uint64_t least = -n % n;

    for (;;) {
        __uint128_t product = (__uint128_t)draw_u64(draw) * n;

        if ((uint64_t)product >= least)
            return (uint64_t)(product >> 64);
    }
}
