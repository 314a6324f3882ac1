/* SPDX-License-Identifier: MIT */
/* How the one budget is shared: what tables, workers and arenas take, compared with every limit of the machine before anything
 * of it is made. Main thread, at start, when the sources are open. */
#ifndef PFEED_MEMORY_H
#define PFEED_MEMORY_H

#include "server.h"

struct memory_plan {
    uint32_t n_workers; /* in */
    uint32_t *slots;    /* out: of each feed; caller's memory */
};

/* Also sets the daemon's budget, used and shm. -ENOMEM or -EINVAL with the numbers where it does not fit. */
int memory_plan(struct daemon *daemon, struct memory_plan *plan, struct problem *why);

#endif
