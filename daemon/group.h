/* SPDX-License-Identifier: MIT */
/* Groups: jobs of a feed that stand so near each other that they share slots, and how many slots all groups need. Counted anew each
 * time, as attaching, seeking and parking are rare. Main thread. */
#ifndef PFEED_GROUP_H
#define PFEED_GROUP_H

#include "job.h"

#define GROUPS_APART                                                                                                             \
    2 /* groups of one feed that are filled apart for a job that was parked; past that, jobs wait for each other */

/* Whether the feed has slots for `job`, whose rearmost rank would stand at `place`, beside all others; `old` does not count: its
 * place is taken. DESIGN.md section 6: max_held + 2 for each group. -ENOSPC with the numbers. */
int group_fits(const struct feed *feed, const struct job *job, struct place place, const struct job *old, uint32_t max_held,
               struct problem *why);
/* Whether `job` may be parked: it will want slots of its own when it goes on. */
bool group_may_park(const struct feed *feed, const struct job *job);
/* Sets `group` of all jobs: from 1, in the order of their places; 0 where there are too many groups to tell them apart. The number of
 * groups, and the slots that they need. */
uint32_t group_all(struct feed *feed, uint32_t *slots);

#endif
