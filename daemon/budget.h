/* SPDX-License-Identifier: MIT */
/* What the machine, its cgroups and /dev/shm allow: cores and bytes. Read at start, main thread. */
#ifndef PFEED_BUDGET_H
#define PFEED_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "segment.h"

struct budget_limits {
    uint64_t total;     /* least of RAM and every ancestor cgroup's limit */
    uint64_t available; /* least of MemAvailable and what every ancestor cgroup has left */
    uint64_t shm;       /* free in /dev/shm */
    char total_from[256], available_from[256];
};

void budget_read(struct budget_limits *limits);
/* Cores by affinity and by every ancestor cgroup's quota, rounded up; at least 1. */
uint32_t budget_cores(void);
/* For messages: what is needed is rounded up and what there is down, so that the two never look equal. */
uint64_t budget_mib_up(uint64_t bytes);
/* -ENOMEM and the numbers where `bytes` in all, of which `shared` in segments of that kind, cannot be had. */
int budget_check(const struct budget_limits *limits, uint64_t bytes, uint64_t shared, enum segment_kind kind,
                 struct problem *why);

#endif
