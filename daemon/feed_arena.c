/* SPDX-License-Identifier: MIT */
/* See feed.h. What a feed takes of the budget, and making it: the arena and what is written at its head, slots, order and the
 * decoders' states. memory.c asks for the sizes; reload.c makes, on the thread of chores. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/caches.h"
#include "choose.h"
#include "decode/decode.h"
#include "feed.h"

/* Slots that are being filled are seldom of many epochs; where they are, some wait for a view. */
static uint32_t views(uint32_t n_slots)
{
    return n_slots < 32 ? n_slots : 32;
}

static uint64_t table_offset(const struct feed *feed)
{
    return feed_round_up(sizeof(struct pf_arena) + feed->n_fields * sizeof(struct pf_field), PF_LINE);
}

static uint64_t slots_offset(const struct feed *feed, uint32_t n_planned)
{
    return feed_round_up(table_offset(feed) + n_planned * sizeof(struct pf_slot), PF_PAGE);
}

uint64_t feed_arena_bytes(const struct feed *feed, uint32_t n_slots)
{
    return slots_offset(feed, n_slots + feed->slots_short + feed->slots_room) + n_slots * feed->slot_bytes;
}

uint64_t feed_bytes(const struct feed *feed, uint32_t n_slots, uint32_t n_workers)
{
    const uint32_t wanted = n_slots + feed->slots_short, n_planned = wanted + feed->slots_room;
    uint64_t states = sizeof(void *);

    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct decode_ops *decode = feed->fields[f].decode;

        states += sizeof(void *) + (decode->worker_bytes ? decode->worker_bytes(&feed->fields[f]) : 0);
    }
    return feed_arena_bytes(feed, n_slots) + slots_bytes(n_planned, feed->batch) + n_workers * states + sizeof(*feed) +
           feed->n_fields * sizeof(*feed->fields) + feed->config->source->bytes(feed->source) +
           choose_bytes(&feed->order_params) + order_bytes(&feed->order_params, views(wanted));
}

uint64_t feed_codec_bytes(const struct feed *feed)
{
    uint64_t most = 0;

    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct decode_ops *decode = feed->fields[f].decode;
        uint64_t one = decode->codec_bytes ? decode->codec_bytes(&feed->fields[f]) : 0;

        most = one > most ? one : most;
    }
    return most;
}

static void describe_fields(const struct feed *feed, struct pf_field *shown)
{
    for (uint32_t f = 0; f < feed->n_fields; f++) {
        const struct field *field = &feed->fields[f];

        memcpy(shown[f].name, field->name, sizeof(shown[f].name));
        shown[f].dtype_code = dtype_table[field->dtype].code;
        shown[f].dtype_bits = (uint8_t)(dtype_table[field->dtype].size * 8);
        shown[f].dtype_lanes = 1;
        shown[f].ndim = field->ndim;
        memcpy(shown[f].shape, field->shape, sizeof(shown[f].shape));
        shown[f].row_bytes = field->row_bytes;
        shown[f].offset = feed->field_offsets[f];
        shown[f].layout = !field->is_image ? PF_LAYOUT_NONE : field->layout == LAYOUT_CHW ? PF_LAYOUT_CHW : PF_LAYOUT_HWC;
        memcpy(shown[f].mean, field->mean, sizeof(shown[f].mean));
        memcpy(shown[f].std, field->std, sizeof(shown[f].std));
    }
}

static int make_arena(struct feed *feed, enum segment_kind kind, struct problem *why)
{
    struct pf_arena *arena;
    int rc;

    feed->slots_offset = slots_offset(feed, feed->n_planned);
    rc = segment_create_part(&feed->segment, kind, feed->slots_offset + feed->n_planned * feed->slot_bytes,
                             feed_arena_bytes(feed, feed->n_slots), why);
    if (rc < 0)
        return rc;
    arena = feed->segment.map;
    arena->n_slots = feed->n_planned;
    arena->n_fields = feed->n_fields;
    arena->batch = feed->batch;
    arena->fields_offset = sizeof(*arena);
    arena->table_offset = table_offset(feed);
    arena->slots_offset = feed->slots_offset;
    arena->slot_bytes = feed->slot_bytes;
    arena->ids_offset = feed->ids_offset;
    arena->used_ids_offset = feed->used_ids_offset;
    arena->flags_offset = feed->flags_offset;
    arena->samples = feed->samples;
    describe_fields(feed, (struct pf_field *)((uint8_t *)arena + arena->fields_offset));
    feed->table = (struct pf_slot *)((uint8_t *)arena + arena->table_offset);
    return 0;
}

static int open_states(struct feed *feed, uint32_t n_workers, struct problem *why)
{
    feed->states = calloc(n_workers + 1, sizeof(*feed->states));
    if (!feed->states)
        return problem_set(why, -ENOMEM, "no memory for %u workers' decoders", n_workers);
    for (; feed->n_workers < n_workers; feed->n_workers++) {
        void **states = feed->states[feed->n_workers] = calloc(feed->n_fields, sizeof(*states));
        int rc = states ? 0 : -ENOMEM;

        for (uint32_t f = 0; f < feed->n_fields && rc == 0; f++)
            if (feed->fields[f].decode->worker_open)
                rc = feed->fields[f].decode->worker_open(&states[f], &feed->fields[f]);
        if (rc < 0)
            return problem_set(why, rc, "no memory for %u workers' decoders: %s", n_workers, strerror(-rc));
    }
    return 0;
}

void feed_close_states(struct feed *feed)
{
    for (uint32_t w = 0; feed->states && w <= feed->n_workers; w++) { /* the last one may be half made */
        for (uint32_t f = 0; feed->states[w] && f < feed->n_fields; f++)
            if (feed->fields[f].decode->worker_close && feed->states[w][f])
                feed->fields[f].decode->worker_close(feed->states[w][f]);
        free(feed->states[w]);
    }
    free(feed->states);
}

/* Several small rows at a time; a picture is worth a claim of its own. */
static uint32_t rows_at_once(const struct feed *feed)
{
    uint64_t row_bytes = 0;
    uint32_t rows;

    for (uint32_t f = 0; f < feed->n_fields; f++)
        row_bytes += feed->parts[feed->fields[f].part].kind == PART_ENCODED ? 1 << 20 : feed->fields[f].row_bytes;
    rows = row_bytes < 16384 ? (uint32_t)(16384 / (row_bytes + 1)) : 1;
    if (rows > feed->batch / 8)
        rows = feed->batch / 8 ? feed->batch / 8 : 1;
    return rows;
}

int feed_start(struct feed *feed, uint32_t n_slots, enum segment_kind kind, uint32_t n_workers, struct problem *why)
{
    int rc;

    feed->n_slots = n_slots;
    feed->n_planned = n_slots + feed->slots_short + feed->slots_room;
    rc = make_arena(feed, kind, why);
    if (rc < 0)
        return rc;
    if (slots_create(feed) < 0)
        return problem_set(why, -ENOMEM, "no memory for %u slots", feed->n_planned);
    rc = order_create(&feed->order, &feed->order_params, views(n_slots + feed->slots_short));
    if (rc < 0)
        return problem_set(why, rc, "no memory for the order of %llu samples", (unsigned long long)feed->order_params.n);
    rc = open_states(feed, n_workers, why);
    if (rc == 0)
        rc = caches_make(feed, why);
    if (rc < 0)
        return rc;
    feed->claim_rows = rows_at_once(feed);
    tune_feed_begin(feed);
    segment_publish(&feed->segment);
    return 0;
}

void feed_add_slot(struct feed *feed)
{
    feed->slots[feed->n_slots++].since_ns = feed_now_ns();
    if (feed->slots_short > 0)
        feed->slots_short--;
    else
        feed->slots_room--;
    feed->bytes += feed->slot_bytes;
    feed->dirty = true;
}
