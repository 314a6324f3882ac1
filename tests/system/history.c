/* SPDX-License-Identifier: MIT */
/* See history.h. */
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NEXT_MS ((int)(scaled_ns(30 * SECOND) / MS))

struct history *history_create(size_t max_steps, size_t max_rows)
{
    struct history *history =
        shared_memory(sizeof(*history) + max_steps * sizeof(*history->steps) + max_rows * sizeof(*history->rows));

    history->max_steps = max_steps;
    history->max_rows = max_rows;
    history->steps = (struct history_step *)(history + 1);
    history->rows = (struct history_row *)(history->steps + max_steps);
    return history;
}

void history_destroy(struct history *history)
{
    munmap(history, sizeof(*history) + history->max_steps * sizeof(*history->steps) + history->max_rows * sizeof(*history->rows));
}

int try_open_as(const struct daemon *daemon, uid_t uid, struct pfeed_options options, struct pfeed **out)
{
    int rc;

    options.size = sizeof(options);
    options.socket = daemon->socket;
    CHECK(seteuid(uid) == 0, "seteuid: %s", strerror(errno));
    rc = pfeed_open(out, &options);
    CHECK(seteuid(0) == 0, "seteuid: %s", strerror(errno));
    return rc;
}

struct pfeed *plan_open(const struct plan *plan)
{
    struct pfeed_options options = {
        .size = sizeof(options),
        .socket = plan->daemon->socket,
        .feed = plan->feed,
        .job = plan->job,
        .rank = plan->rank,
        .world = plan->world,
        .batch = plan->batch,
        .epochs = plan->epochs,
        .seed = plan->seed,
        .run = plan->run,
        .slow = plan->slow,
        .max_held = plan->max_held,
        .reconnect_ms = plan->reconnect_ms,
    };
    struct pfeed *pf = NULL;
    int rc = pfeed_open(&pf, &options);

    if (rc == 0)
        return pf;
    CHECK(pf == NULL, "pfeed_open failed with %d and wrote a handle", rc);
    CHECK(plan->history, "pfeed_open: %d: %s", rc, pfeed_error(NULL));
    plan->history->open_rc = rc;
    snprintf(plan->history->sentence, sizeof(plan->history->sentence), "%s", pfeed_error(NULL));
    return NULL;
}

struct pfeed_batch *must_next(struct pfeed *pf)
{
    struct pfeed_batch *batch = NULL;
    int rc;

    do
        rc = pfeed_next(pf, &batch, NEXT_MS);
    while (rc == PFEED_EPOCH);
    CHECK(rc == 0 && batch, "pfeed_next: %d: %s", rc, pfeed_error(pf));
    return batch;
}

void must_done(struct pfeed *pf, struct pfeed_batch *batch)
{
    int rc = pfeed_done(pf, batch);

    CHECK(rc == 0, "pfeed_done: %d: %s", rc, pfeed_error(pf));
}

static size_t row_bytes(const struct pfeed_tensor *tensor)
{
    size_t bytes = tensor->dtype.bits / 8;

    for (uint32_t d = 1; d < tensor->ndim; d++)
        bytes *= (size_t)tensor->shape[d];
    return bytes;
}

static uint64_t row_hash(const struct pfeed_batch *batch, uint32_t row)
{
    const struct pfeed_tensor *tensor;
    uint64_t hash = 0;

    for (uint32_t field = 0; (tensor = pfeed_tensor_at(batch, field)); field++)
        hash = hash_bytes(hash, (const uint8_t *)tensor->data + row * row_bytes(tensor), row_bytes(tensor));
    return hash;
}

uint64_t batch_hash(const struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    uint64_t hash = hash_bytes(info->rows, info->ids, info->rows * sizeof(*info->ids));

    hash = hash_bytes(hash, info->used_ids, info->rows * sizeof(*info->used_ids));
    hash = hash_bytes(hash, info->flags, info->rows);
    for (uint32_t row = 0; row < info->rows; row++)
        hash = mix(hash ^ row_hash(batch, row));
    return hash;
}

static void record(struct history *history, const struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    struct history_step *step = &history->steps[history->n_steps];

    CHECK(history->n_steps < history->max_steps && history->n_rows + info->rows <= history->max_rows,
          "more than %zu steps or %zu rows; now epoch %llu step %llu", history->max_steps, history->max_rows,
          (unsigned long long)info->epoch, (unsigned long long)info->step);
    *step = (struct history_step){ info->epoch, info->step, info->rows, info->valid, history->n_rows };
    for (uint32_t row = 0; row < info->rows; row++)
        history->rows[history->n_rows + row] =
            (struct history_row){ info->ids[row], info->used_ids[row], row_hash(batch, row), info->flags[row] };
    history->n_rows += info->rows;
    count_set(&history->n_steps, history->n_steps + 1);
}

static int next_recorded(struct pfeed *pf, const struct plan *plan, struct pfeed_batch **batch)
{
    struct history *history = plan->history;
    int64_t start_ns;
    uint64_t took_ns;

    if (plan->pace)
        word_await(plan->pace, (uint32_t)history->n_steps + 1);
    start_ns = now_ns();
    history->rc = pfeed_next(pf, batch, NEXT_MS);
    took_ns = (uint64_t)(now_ns() - start_ns);
    if (took_ns > history->longest_ns)
        history->longest_ns = took_ns;
    return history->rc;
}

void train(void *arg)
{
    const struct plan *plan = arg;
    struct history *history = plan->history;
    struct pfeed *pf = plan_open(plan);
    struct pfeed_batch *batch;
    int rc;

    if (!pf)
        return;
    history->length = pfeed_length(pf);
    while ((rc = next_recorded(pf, plan, &batch)) == 0 || rc == PFEED_EPOCH) {
        CHECK(!batch == (rc == PFEED_EPOCH), "pfeed_next gave %d and %s batch", rc, batch ? "a" : "no");
        if (batch) {
            record(history, batch);
            must_done(pf, batch);
        } else {
            CHECK(history->n_epochs < 16, "PFEED_EPOCH more than 16 times");
            history->epoch_at[history->n_epochs++] = history->n_steps;
        }
    }
    if (rc == PFEED_END)
        CHECK(!batch && pfeed_next(pf, &batch, 0) == PFEED_END && !batch, "PFEED_END is not said again");
    else
        snprintf(history->sentence, sizeof(history->sentence), "%s", pfeed_error(pf));
    pfeed_close(pf);
}

static void check_step(const struct history *history, const char *what, const struct history_step *step)
{
    uint32_t padded = 0;

    for (uint32_t row = 0; row < step->rows; row++) {
        const struct history_row *seen = &history->rows[step->first + row];

        CHECK((seen->flags & ~(uint64_t)PFEED_ROW_PADDED) == 0 && seen->used_id == seen->id,
              "%s: epoch %llu step %llu row %u: id %llu, used id %llu, flags %llu", what, (unsigned long long)step->epoch,
              (unsigned long long)step->step, row, (unsigned long long)seen->id, (unsigned long long)seen->used_id,
              (unsigned long long)seen->flags);
        padded += seen->flags == PFEED_ROW_PADDED;
    }
    CHECK(step->valid == step->rows - padded, "%s: epoch %llu step %llu: %u rows, %u padded, valid %u", what,
          (unsigned long long)step->epoch, (unsigned long long)step->step, step->rows, padded, step->valid);
}

void history_check(const struct history *history, const char *what, uint64_t epochs, uint64_t steps)
{
    CHECK(history->open_rc == 0, "%s: pfeed_open: %d: %s", what, history->open_rc, history->sentence);
    CHECK(history->rc == PFEED_END, "%s: after %llu steps pfeed_next: %d: %s", what, (unsigned long long)history->n_steps,
          history->rc, history->sentence);
    CHECK(history->length == (int64_t)steps, "%s: pfeed_length is %lld, not %llu", what, (long long)history->length,
          (unsigned long long)steps);
    CHECK(history->n_steps == epochs * steps, "%s: %llu steps, not %llu x %llu", what, (unsigned long long)history->n_steps,
          (unsigned long long)epochs, (unsigned long long)steps);
    CHECK(history->n_epochs == epochs, "%s: PFEED_EPOCH %llu times, not %llu", what, (unsigned long long)history->n_epochs,
          (unsigned long long)epochs);
    for (uint64_t epoch = 0; epoch < epochs; epoch++)
        CHECK(history->epoch_at[epoch] == (epoch + 1) * steps, "%s: PFEED_EPOCH after %llu steps", what,
              (unsigned long long)history->epoch_at[epoch]);
    for (uint64_t k = 0; k < history->n_steps; k++) {
        const struct history_step *step = &history->steps[k];

        CHECK(step->epoch == k / steps && step->step == k % steps, "%s: batch %llu is epoch %llu step %llu", what,
              (unsigned long long)k, (unsigned long long)step->epoch, (unsigned long long)step->step);
        check_step(history, what, step);
    }
}

void history_same(const struct history *history, const char *what, const struct history *other)
{
    CHECK(history->n_steps == other->n_steps && history->n_rows == other->n_rows && history->n_epochs == other->n_epochs,
          "%s: %llu steps, %llu rows, %llu epochs, not %llu, %llu, %llu", what, (unsigned long long)history->n_steps,
          (unsigned long long)history->n_rows, (unsigned long long)history->n_epochs, (unsigned long long)other->n_steps,
          (unsigned long long)other->n_rows, (unsigned long long)other->n_epochs);
    CHECK(memcmp(history->epoch_at, other->epoch_at, sizeof(history->epoch_at)) == 0, "%s: PFEED_EPOCH came elsewhere", what);
    for (uint64_t k = 0; k < history->n_steps; k++) {
        const struct history_step *step = &history->steps[k], *its = &other->steps[k];

        CHECK(step->epoch == its->epoch && step->step == its->step && step->rows == its->rows && step->valid == its->valid &&
                  memcmp(&history->rows[step->first], &other->rows[its->first], step->rows * sizeof(*history->rows)) == 0,
              "%s: batch %llu (epoch %llu step %llu) is another one, or has other rows", what, (unsigned long long)k,
              (unsigned long long)step->epoch, (unsigned long long)step->step);
    }
}
