/* SPDX-License-Identifier: MIT */
/* deliver: first. Which step a process of the job gets next: one that somebody ended without returning, else the next of the epoch.
 * Each process has one step laid aside as its cursor (consumer.at), beside those that are granted to it. Main thread. */
#ifndef PFEED_QUEUE_H
#define PFEED_QUEUE_H

#include "job.h"

void queue_fini(struct queue *queue);
/* Room for all that one process more may leave behind. */
int queue_reserve(struct job *job);
/* The next step for a process of the job; one past the job's end where there is none now. */
struct place queue_take(struct job *job);
/* Nobody has returned it: somebody else gets it. There is room. */
void queue_give_back(struct job *job, struct place place);
/* A process that has come from a daemon that died goes on there: from then on all is given out, also what others had. Its step. */
struct place queue_lower(struct job *job, struct place place);
/* Once a turn: lays steps aside for those who have none, and at the job's end takes from the busy what the idle could do. */
void queue_turn(struct feed *feed);
/* Whether nothing is left to lay aside. */
bool queue_ends(const struct job *job);
/* Whether all its steps were returned. */
bool queue_done(const struct job *job);

#endif
