/* SPDX-License-Identifier: MIT */
/* What a delivery mode is: which rows of an epoch's order a rank gets at a step. One file each, one const struct deliver_ops at
 * its end named deliver_<word>, one word in daemon/meson.build. Main thread. */
#ifndef PFEED_DELIVER_H
#define PFEED_DELIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

/* Step k of rank r is the `batch` positions from k * stride + offset(r). */
struct deliver_terms {
    uint32_t batch;  /* b: rows of a rank's step; divides the slot's rows */
    uint64_t stride; /* G: positions that a step takes over all ranks */
    bool alone;      /* every rank sees the whole epoch, as a job of world 1 would */
    bool queue;      /* each step goes to whoever asks first; again, where he ends without returning it (daemon/queue.c) */
};

struct deliver_ops {
    const char *name, *help;
    /* slot_rows: the feed's batch; wanted: options.batch or 0. -EINVAL and a sentence that lists what would fit. */
    int (*terms)(uint32_t slot_rows, uint32_t world, uint32_t wanted, struct deliver_terms *out, struct problem *why);
    uint64_t (*offset)(const struct deliver_terms *terms, uint32_t rank); /* NULL: 0 for all */
};

extern const struct deliver_ops *const deliver_kinds[]; /* generated; NULL at the end */

/* For the kinds (job.c). "1, 2, 4, 8": the divisors of n, for messages. */
void deliver_divisors(uint32_t n, char *text, size_t size);
/* Whether options.batch, where it is given, divides the slot's rows; -EINVAL and what would. */
int deliver_check_batch(uint32_t slot_rows, uint32_t wanted, struct problem *why);
/* Where every rank sees the whole epoch: steps of `wanted` rows, or of a slot's; no queue. */
int deliver_alone(uint32_t slot_rows, uint32_t wanted, struct deliver_terms *out, struct problem *why);

#endif
