/* SPDX-License-Identifier: MIT */
/* slow: park. A job that stalls the others is set aside: it keeps what it holds, pins no slots, and goes on from its own step when it
 * asks. feed.c calls it once a turn, main thread. */
#ifndef PFEED_PARK_H
#define PFEED_PARK_H

#include "feed.h"

/* After what is wanted was asked for: parks and unparks; sets feed->due_ns to when the next job would have to be parked. */
void park_turn(struct feed *feed);
/* For how long c's job may stall others, in ns. */
int64_t park_patience_ns(const struct job *job);
/* A step of the job took so long. */
void park_step(struct job *job, int64_t step_ns);

#endif
