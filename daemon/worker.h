/* SPDX-License-Identifier: MIT */
/* The threads that move data: they claim rows of FILLING slots, of each feed as it has a share in them, its oldest slot first, and
 * write them into the arena. The main thread hands them slots; semaphores wake them, an eventfd wakes the main thread. */
#ifndef PFEED_WORKER_H
#define PFEED_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

struct ahead;
struct feed;
struct slot;
struct workers;

#define WORKERS_SLOTS 32768u /* of all feeds together: a slot has at most one entry in the queue that lives */

/* A place for so many; none is there yet. Then, once: how many there shall be; room for them; their threads. */
int workers_create(struct workers **out, uint32_t most, struct problem *why);
void workers_choose(struct workers *workers, uint32_t n_workers);
void workers_read_ahead(struct workers *workers, struct ahead *ahead); /* before the first slot is posted: or NULL */
/* Before the first slot of a feed is posted: room for its reads and codecs. Any thread, one at a time. */
int workers_make_room(struct workers *workers, uint64_t buffer_size, uint64_t codec_size, struct problem *why);
int workers_start(struct workers *workers, struct problem *why); /* those that do not run yet. Main thread */
/* Asks them to stop, waits up to limit_ms. False: some are stuck (in a read) and go on; nothing may be freed then. */
bool workers_stop(struct workers *workers, int limit_ms);
void workers_destroy(struct workers *workers); /* after workers_stop said true; or NULL */

/* A slot that has just begun FILLING. Main thread. */
void workers_post(struct workers *workers, struct feed *feed, struct slot *slot);
int workers_eventfd(const struct workers *workers); /* readable when slots have finished, or a feed has failed */
void workers_seen(struct workers *workers);         /* before looking at the slots */
uint32_t workers_busy(const struct workers *workers);
uint32_t workers_count(const struct workers *workers);
uint32_t workers_threads(const struct workers *workers); /* those and the spare ones: a feed has decoders' states for so many */
void workers_room(const struct workers *workers, uint64_t *buffer_size, uint64_t *codec_size);
uint64_t workers_used(const struct workers *workers); /* bytes that they take now */
/* The read for that feed that takes longest just now. False: there is none. */
bool workers_reading(const struct workers *workers, const struct feed *feed, uint64_t *id, int64_t *since_ns);
/* What so many of them, and their spare ones, take with that room, for the budget. */
uint64_t workers_bytes(uint32_t n_workers, uint64_t buffer_size, uint64_t codec_size);

/* The feed ends: its slots are FREE and no longer posted. When pass (any thread but theirs) returns, no worker knows it. */
void workers_forget(struct workers *workers, struct feed *feed);
void workers_pass(const struct workers *workers, struct feed *feed);

#endif
