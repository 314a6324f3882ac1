/* SPDX-License-Identifier: MIT */
/* See random.h. Workers draw rows' lots here, the main thread makes orders' tables from it; pure functions of their arguments.
 * What comes out is part of pfeed's promise (a resumed run sees the same bytes under a later version): test_random.c pins it. */
#include "random.h"

#include <assert.h>
#include <Random123/philox.h>

#define BLOCK_WORDS 4

/* Fowler, Noll, Vo: FNV-1a, 64 bits. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return hash;
}

void random_block(const uint64_t key[2], const uint64_t counter[4], uint64_t out[4])
{
    philox4x64_key_t k = { { key[0], key[1] } };
    philox4x64_ctr_t c = { { counter[0], counter[1], counter[2], counter[3] } };

    c = philox4x64(c, k);
    for (int i = 0; i < BLOCK_WORDS; i++)
        out[i] = c.v[i];
}

void draw_init(struct draw *draw, const struct row_key *key, const char *kind, uint32_t ordinal)
{
    /* Every input has bits of its own, so that no two streams share a block unless two kinds' names collide. The number of the
     * block is the low half of counter[3]. */
    *draw = (struct draw){
        .key = { key->seed, hash_name(kind) },
        .counter = { key->epoch, key->id, (uint64_t)key->occurrence << 32 | key->view, (uint64_t)ordinal << 32 },
        .used = BLOCK_WORDS,
    };
}

uint64_t draw_u64(struct draw *draw)
{
    if (draw->used == BLOCK_WORDS) {
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

/* Lemire, "Fast random integer generation in an interval" (2019): the high word of a product, and the few low words that
 * would favour some results drawn again. */
uint64_t draw_below(struct draw *draw, uint64_t n)
{
    uint64_t high, low;

    assert(n > 0);
    low = mulhilo64(draw_u64(draw), n, &high);
    if (low < n) {
        const uint64_t least = -n % n;

        while (low < least)
            low = mulhilo64(draw_u64(draw), n, &high);
    }
    return high;
}

double draw_between(struct draw *draw, double low, double high)
{
    /* Never above high: a difference that was rounded up times the largest unit is one step below itself. */
    return low + (high - low) * draw_unit(draw);
}
