/* SPDX-License-Identifier: MIT */
/* The threads that move data: they claim rows of FILLING slots, oldest first over all feeds, and write them into the arena. The
 * main thread hands them slots; semaphores wake them, an eventfd wakes the main thread. */
#ifndef PFEED_WORKER_H
#define PFEED_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

struct feed;
struct slot;
struct workers;

/* Makes every worker's memory and starts the threads. feeds stays where it is. */
int workers_create(struct workers **out, uint32_t n_workers, struct feed *feeds, uint32_t n_feeds, struct problem *why);
/* Asks them to stop, waits up to limit_ms. False: some are stuck (in a read) and go on; nothing may be freed then. */
bool workers_stop(struct workers *workers, int limit_ms);
void workers_destroy(struct workers *workers); /* after workers_stop said true; or NULL */

/* A slot that has just begun FILLING. Main thread. */
void workers_post(struct workers *workers, struct feed *feed, struct slot *slot);
int workers_eventfd(const struct workers *workers); /* readable when slots have finished, or a feed has failed */
void workers_seen(struct workers *workers);         /* before looking at the slots */
uint32_t workers_busy(const struct workers *workers);
uint32_t workers_count(const struct workers *workers);
uint64_t workers_bytes(const struct feed *feeds, uint32_t n_feeds); /* that one worker takes, for the budget */

#endif
