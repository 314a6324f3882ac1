/* SPDX-License-Identifier: MIT */
/* deliver: each. Every rank sees every row, as a job of world 1 would: step k is the rows from k * b. */
#include "deliver.h"

static int terms(uint32_t slot_rows, uint32_t world, uint32_t wanted, struct deliver_terms *out, struct problem *why)
{
    (void)world;
    return deliver_alone(slot_rows, wanted, out, why);
}

const struct deliver_ops deliver_each = {
    .name = "each",
    .help = "every rank sees every row",
    .terms = terms,
};
