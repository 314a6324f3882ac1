/* SPDX-License-Identifier: MIT */
/* deliver: each. Every rank sees every row, as a job of world 1 would: step k is the rows from k * b. */
#include <errno.h>
#include <stdio.h>

#include "deliver.h"

static int terms(uint32_t slot_rows, uint32_t world, uint32_t wanted, struct deliver_terms *out, struct problem *why)
{
    char fit[256];

    (void)world;
    deliver_divisors(slot_rows, fit, sizeof(fit));
    if (wanted && slot_rows % wanted != 0)
        return problem_set(why, -EINVAL, "the feed's batch of %u rows does not divide by options.batch %u: let it be one of %s",
                           slot_rows, wanted, fit);
    out->batch = wanted ? wanted : slot_rows;
    out->stride = out->batch;
    out->alone = true;
    out->queue = false;
    return 0;
}

static uint64_t offset(const struct deliver_terms *terms_, uint32_t rank)
{
    (void)terms_;
    (void)rank;
    return 0;
}

const struct deliver_ops deliver_each = {
    .name = "each",
    .help = "every rank sees every row",
    .terms = terms,
    .offset = offset,
};
