/* SPDX-License-Identifier: MIT */
/* What a trainer saw, in memory that the test can read while it runs; and the plain training loop that records it. */
#ifndef HISTORY_H
#define HISTORY_H

#include <pfeed.h>

#include "daemon.h"

struct history_row {
    uint64_t id, used_id, hash; /* hash: of the row's bytes in all fields */
    uint64_t flags;
};

struct history_step {
    uint64_t epoch, step;
    uint32_t rows, valid;
    uint64_t first; /* its rows begin here in history.rows */
};

struct history {
    int32_t open_rc, rc;      /* of pfeed_open; of the last pfeed_next */
    char sentence[1024];      /* where one of them failed */
    int64_t length;           /* pfeed_length */
    uint64_t n_steps, n_rows; /* so far */
    uint64_t n_epochs;        /* PFEED_EPOCH was told so often; the k-th time after epoch_at[k] steps */
    uint64_t epoch_at[16];
    uint64_t longest_ns; /* the longest pfeed_next */
    size_t max_steps, max_rows;
    struct history_step *steps;
    struct history_row *rows;
};

/* In shared memory. */
struct history *history_create(size_t max_steps, size_t max_rows);
void history_destroy(struct history *history);

/* How to train. Zero is pfeed's default. */
struct plan {
    const struct daemon *daemon;
    const char *feed, *job, *slow;
    uint32_t rank, world, batch, epochs, max_held;
    uint64_t seed, run;
    int reconnect_ms;
    struct history *history;
    uint32_t *pace; /* train: batches that may be taken so far; NULL: all */
};

/* pfeed_open by another user, as which root is known at connect: the kernel tells the daemon the effective uid. */
int try_open_as(const struct daemon *daemon, uid_t uid, struct pfeed_options options, struct pfeed **out);

/* pfeed_open as the plan says; NULL: history (if there is one) has the code and the sentence, otherwise the trainer fails. */
struct pfeed *plan_open(const struct plan *plan);
/* The next batch, or fails the trainer with pfeed's sentence; never waits for ever. */
struct pfeed_batch *must_next(struct pfeed *pf);
void must_done(struct pfeed *pf, struct pfeed_batch *batch);
/* Of all bytes that the batch lends: ids, used ids, flags and every field. */
uint64_t batch_hash(const struct pfeed_batch *batch);

/* Opens, takes until PFEED_END (which it asks for twice) or an error, records, closes. For trainer_start: arg is a plan. */
void train(void *plan);

/* Checks one trainer's record of a job of `epochs` epochs: each has `steps` steps in sequence, PFEED_EPOCH came once after each
 * of them, PFEED_END at the end; rows, valid and the flags agree. */
void history_check(const struct history *history, const char *what, uint64_t epochs, uint64_t steps);
/* The same steps with the same rows, and PFEED_EPOCH at the same places. */
void history_same(const struct history *history, const char *what, const struct history *other);

#endif
