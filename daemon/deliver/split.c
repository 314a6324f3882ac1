/* SPDX-License-Identifier: MIT */
/* deliver: split. The ranks of a job divide every step between them: step k of rank r is the rows from (k * world + r) * b. */
#include <errno.h>
#include <stdio.h>

#include "deliver.h"

static int terms(uint32_t slot_rows, uint32_t world, uint32_t wanted, struct deliver_terms *out, struct problem *why)
{
    char fit[256];
    int rc = deliver_check_batch(slot_rows, wanted, why);

    if (rc < 0)
        return rc;
    deliver_divisors(slot_rows, fit, sizeof(fit));
    if (!wanted && slot_rows % world != 0)
        return problem_set(
            why, -EINVAL,
            "the feed's batch of %u rows does not divide by world %u: let world be one of %s, or give options.batch, "
            "the rows of each rank's step, as one of these",
            slot_rows, world, fit);
    out->batch = wanted ? wanted : slot_rows / world;
    out->stride = (uint64_t)out->batch * world;
    out->alone = false;
    out->queue = false;
    return 0;
}

static uint64_t offset(const struct deliver_terms *terms_, uint32_t rank)
{
    return (uint64_t)rank * terms_->batch;
}

const struct deliver_ops deliver_split = {
    .name = "split",
    .help = "the ranks of a job divide every step between them",
    .terms = terms,
    .offset = offset,
};
