/* SPDX-License-Identifier: MIT */
/* How the one budget is shared: what tables, workers and arenas take, compared with every limit of the machine before anything
 * of it is made. Main thread, when the sources are open. */
#ifndef PFEED_MEMORY_H
#define PFEED_MEMORY_H

#include "server.h"

struct memory_plan {
    uint32_t n_feeds;
    struct feed **feeds;                /* as they shall be: some run already, the others are open and not yet started */
    uint32_t *slots;                    /* out: of each that is not yet started; caller's memory */
    uint64_t buffer_bytes, codec_bytes; /* out: room that each worker needs */
    uint32_t ahead_reads;               /* out: reads ahead, and */
    uint64_t ahead_bytes;               /* what each may be long */
};

/* At start, before anything is allocated or listed: sets the daemon's budget and kind of shared memory. -ENOMEM or -EINVAL where
 * the machine does not have what the configuration says. */
int memory_begin(struct daemon *daemon, struct problem *why);
/* Feeds of the daemon that the plan leaves out are
 * taken to end where nobody uses them, and to stay otherwise. -ENOMEM or -EINVAL with the numbers where it does not fit. */
int memory_plan(struct daemon *daemon, struct memory_plan *plan, struct problem *why);
bool memory_ends(const struct memory_plan *plan, const struct feed *feed); /* the plan leaves it out */
uint32_t memory_workers(const struct daemon *daemon);                      /* that the configuration asks for */
void memory_count(struct daemon *daemon);                                  /* sets its `used` */

#endif
