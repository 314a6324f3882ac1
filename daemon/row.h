/* SPDX-License-Identifier: MIT */
/* One row: its sample is read, decoded and transformed into the slot, or replaced where it is bad. Called by worker.c, on any
 * worker. No malloc, log, lock or system call but what the source needs; a bad sample takes the slow path. */
#ifndef PFEED_ROW_H
#define PFEED_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ahead_sampler;
struct feed;
struct slot;
struct crash_work;

/* A worker's memory for one row at a time, of the most that any feed needs. */
struct room {
    uint8_t *buffer; /* of the source's reads */
    size_t buffer_size;
    void *codec; /* of the decoders, one after another */
    size_t codec_size;
};

struct room *room_create(uint64_t buffer_size, uint64_t codec_size); /* all touched; NULL: no memory */
void room_destroy(struct room *room);
uint64_t room_bytes(uint64_t buffer_size, uint64_t codec_size);

/* The read that a worker is in, for others to look at: relaxed, but since_ns last. */
struct row_reading {
    uint64_t id;
    uint32_t part;
    int64_t since_ns; /* with all the times that it was tried again; 0: it reads nothing */
};

struct row_maker {
    const struct room *room;
    struct row_reading *reading;
    uint32_t worker;      /* its number, for the decoders' states */
    const bool *stopping; /* atomic: no read is tried again */
    struct crash_work *work;
    struct ahead_sampler *sampler;
};

/* Which sample stands there, and the how manieth of its kind. The slot is FILLING. */
void row_sample(const struct feed *feed, const struct slot *slot, uint32_t row, uint64_t *id, uint32_t *occurrence);
/* Writes row `row` of the slot, which the worker has claimed. True: its sample is bad, and the feed has failed with it. */
bool row_make(const struct row_maker *maker, struct feed *feed, struct slot *slot, uint32_t row);

#endif
