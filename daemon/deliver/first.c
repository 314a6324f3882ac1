/* SPDX-License-Identifier: MIT */
/* deliver: first. A work queue: a step is b rows, and goes to whichever of the job's processes asks first. */
#include "deliver.h"

static int terms(uint32_t slot_rows, uint32_t world, uint32_t wanted, struct deliver_terms *out, struct problem *why)
{
    int rc = deliver_alone(slot_rows, wanted, out, why);

    (void)world;
    if (rc == 0)
        out->queue = true;
    return rc;
}

const struct deliver_ops deliver_first = {
    .name = "first",
    .help = "a work queue: each step goes to whoever asks first, at least once",
    .terms = terms,
};
