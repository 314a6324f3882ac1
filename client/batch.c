/* SPDX-License-Identifier: MIT */
/* Lending and giving back: the hand-off itself. Nothing here makes a system call while a batch is ready and the daemon is not
 * short of slots. */
#include <errno.h>
#include <string.h>

#include "internal.h"

static void fill(struct mapped *mapped, struct pfeed_batch *batch, const struct pf_grant *grant)
{
    const struct pf_arena *info = mapped->info;
    const uint8_t *slot = mapped->arena + info->slots_offset + grant->slot * info->slot_bytes;

    if (__builtin_expect(batch->mapped != mapped, 0))
        mapped_describe(mapped, batch);
    batch->held = true;
    batch->number = grant->number;
    batch->slot = slot;
    batch->row = grant->row;
    batch->info.epoch = grant->epoch;
    batch->info.step = grant->step;
    batch->info.rows = grant->rows;
    batch->info.valid = grant->valid;
    batch->info.ids = (const uint64_t *)(slot + info->ids_offset) + grant->row;
    batch->info.used_ids = (const uint64_t *)(slot + info->used_ids_offset) + grant->row;
    batch->info.flags = slot + info->flags_offset + grant->row;
}

static struct pfeed_batch *spare(struct pfeed *pf)
{
    for (uint32_t i = 0; i < pf->n_batches; i++)
        if (!pf->batches[i].held)
            return &pf->batches[i];
    return NULL;
}

/* The end of an epoch is told once, after its last batch was lent. */
static int told_end(struct pfeed *pf)
{
    if (pf->last_flags & PF_GRANT_LAST_OF_EPOCH) {
        pf->ended = pf->last_flags & PF_GRANT_LAST;
        pf->last_flags = 0;
        pf->epoch++;
        return PFEED_EPOCH;
    }
    return pf->ended ? PFEED_END : 0;
}

/* The next grant, or PFEED_EPOCH where the steps that would have closed the epoch were skipped (slow: skip). */
static int take(struct pfeed *pf, struct pf_grant *grant, int timeout_ms)
{
    struct lane *lane = &pf->lane;
    /* `closed` is set before anything that was granted becomes void. */
    const bool open = lane->grants && __atomic_load_n(&lane->grants->closed, __ATOMIC_ACQUIRE) == PF_OPEN;
    int rc;

    if (__builtin_expect(pf->kept && open, 0)) {
        *grant = pf->kept_grant;
    } else if (__builtin_expect(!open, 0) || !pf_grants_take(lane->grants, lane->returns, &lane->next, grant)) {
        rc = wait_take(pf, grant, timeout_ms);
        if (rc < 0)
            return rc;
    }
    pf->kept = grant->epoch > pf->epoch;
    if (__builtin_expect(pf->kept, 0)) {
        pf->kept_grant = *grant;
        pf->epoch++;
        return PFEED_EPOCH;
    }
    return 0;
}

int pfeed_next(struct pfeed *pf, struct pfeed_batch **out, int timeout_ms)
{
    struct pfeed_batch *batch;
    struct pf_grant grant;
    int rc;

    if (fork_happened(pf))
        return fork_refuse(pf);
    if (__builtin_expect(pf->lane.unanswered == PF_CTL_SEEK, 0) && (rc = place_settle(pf, &timeout_ms)) < 0)
        return rc;
    if (__builtin_expect(pf->last_flags != 0 || pf->ended, 0)) {
        rc = told_end(pf);
        if (rc != 0) {
            *out = NULL;
            return rc;
        }
    }
    if (__builtin_expect(pf->n_held >= pf->max_held, 0))
        return sentence_set(
            &pf->error, -ENOBUFS,
            "%u batches are held, as many as this consumer may (max_held): give one back by pfeed_done, copy what "
            "must be kept, or open with a larger max_held",
            pf->n_held);
    rc = take(pf, &grant, timeout_ms);
    if (__builtin_expect(rc != 0, 0)) {
        if (rc > 0)
            *out = NULL;
        return rc;
    }
    if (__builtin_expect(grant.slot >= pf->mapped->info->n_slots || grant.rows > pf->mapped->info->batch ||
                             grant.row > pf->mapped->info->batch - grant.rows || grant.rows == 0,
                         0)) {
        if (grant.rows != 0 || !(grant.flags & PF_GRANT_LAST))
            return sentence_set(&pf->error, -EPROTO, "pfeedd granted rows that are not in the arena");
        pf->ended = true;
        *out = NULL;
        return PFEED_END;
    }
    batch = spare(pf);
    fill(pf->mapped, batch, &grant);
    pf->n_held++;
    pf->last_flags = grant.flags;
    pf->place = (struct place){ grant.epoch, grant.step + 1 };
    *out = batch;
    return 0;
}

int pfeed_done(struct pfeed *pf, struct pfeed_batch *batch)
{
    struct lane *lane = &pf->lane;

    if (fork_happened(pf))
        return fork_refuse(pf);
    if (!batch || batch->owner != pf || !batch->held)
        return sentence_set(&pf->error, -EINVAL, "pfeed_done: not a batch that this handle holds");
    batch->held = false;
    pf->n_held--;
    if (__builtin_expect(batch->mapped->ended, 0))
        mapped_returned(pf, batch); /* there is nobody to give it back to */
    else if (pf_returns_push(lane->returns, lane->grants, &lane->returned, batch->number, &lane->rung))
        wait_wake_daemon(pf);
    return 0;
}

const struct pfeed_tensor *pfeed_tensor_at(const struct pfeed_batch *batch, uint32_t index)
{
    const struct pf_field *field;
    struct pfeed_tensor *tensor;

    if (fork_happened(batch->owner) || !batch->held || index >= batch->mapped->n_fields)
        return NULL; /* a fork has not inherited the maps */
    field = &batch->mapped->fields[index];
    tensor = &batch->tensors[index];
    tensor->data = batch->slot + field->offset + batch->row * field->row_bytes;
    batch->shapes[index][0] = batch->info.rows;
    return tensor;
}

const struct pfeed_tensor *pfeed_tensor(const struct pfeed_batch *batch, const char *name)
{
    if (fork_happened(batch->owner) || !batch->held)
        return NULL;
    for (uint32_t i = 0; i < batch->mapped->n_fields; i++)
        if (strcmp(batch->mapped->fields[i].name, name) == 0)
            return pfeed_tensor_at(batch, i);
    return NULL;
}

const struct pfeed_info *pfeed_info(const struct pfeed_batch *batch)
{
    return &batch->info;
}

int64_t pfeed_length(struct pfeed *pf)
{
    return (int64_t)pf->mapped->steps;
}

const char *pfeed_version(void)
{
    return PFEED_VERSION;
}
