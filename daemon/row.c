/* SPDX-License-Identifier: MIT */
/* See row.h. */
#include "row.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ahead.h"
#include "bad.h"
#include "cache/caches.h"
#include "cache/fetch.h"
#include "decode/decode.h"
#include "feed.h"
#include "random.h"

#define REPLACE_TRIES  32
#define RETRY_FIRST_MS 10
#define RETRY_LAST_MS  500
#define READ_PAST      64 /* bytes behind the read buffer, for codecs that look a word ahead */

/* ---- memory --------------------------------------------------------------------------------------------------------- */

void room_destroy(struct room *room)
{
    if (!room)
        return;
    free(room->buffer);
    free(room->codec);
    free(room);
}

/* Touched here, so that no worker stops for a page later; whole pages, as read() copies faster to them. */
static void *touched(uint64_t size)
{
    size_t whole = (size + PF_PAGE - 1) / PF_PAGE * PF_PAGE;
    void *memory = aligned_alloc(PF_PAGE, whole);

    if (memory)
        memset(memory, 0, whole);
    return memory;
}

struct room *room_create(uint64_t buffer_size, uint64_t codec_size)
{
    struct room *room = calloc(1, sizeof(*room));

    if (!room)
        return NULL;
    room->buffer_size = buffer_size;
    room->codec_size = codec_size;
    room->buffer = touched(buffer_size + READ_PAST);
    room->codec = touched(codec_size + 1);
    if (room->buffer && room->codec)
        return room;
    room_destroy(room);
    return NULL;
}

uint64_t room_bytes(uint64_t buffer_size, uint64_t codec_size)
{
    return sizeof(struct room) + buffer_size + READ_PAST + codec_size;
}

/* ---- one row -------------------------------------------------------------------------------------------------------- */

/* Of the storage, or ours and not the sample's: descriptors and memory that others hold just now. */
static bool transient(int rc)
{
    return rc == -EIO || rc == -ESTALE || rc == -ETIMEDOUT || rc == -EINTR || rc == -EAGAIN || rc == -EMFILE || rc == -ENFILE ||
           rc == -ENOMEM;
}

/* Reads a part, again and again for read_retry where the error may pass. */
static int read_part(const struct row_maker *maker, struct feed *feed, uint64_t id, uint32_t part, struct sample_value *value,
                     struct problem *why)
{
    int64_t until_ns = 0, pause_ms = RETRY_FIRST_MS;

    for (;;) {
        int rc = feed->config->source->read(feed->source, id, part, maker->room->buffer, maker->room->buffer_size, value, why);
        struct timespec pause = { pause_ms / 1000, pause_ms % 1000 * 1000000 };

        if (rc >= 0 || !transient(rc))
            return rc;
        if (until_ns == 0)
            until_ns = feed_now_ns() + feed->config->read_retry_ms * 1000000;
        if (feed_now_ns() + pause_ms * 1000000 > until_ns || __atomic_load_n(maker->stopping, __ATOMIC_RELAXED))
            return rc;
        nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < RETRY_LAST_MS ? pause_ms * 2 : RETRY_LAST_MS;
    }
}

static void show_read(struct row_reading *reading, uint64_t id, uint32_t part, int64_t now_ns)
{
    __atomic_store_n(&reading->id, id, __ATOMIC_RELAXED);
    __atomic_store_n(&reading->part, part, __ATOMIC_RELAXED);
    /* What is read is seen by whoever sees since when. */
    __atomic_store_n(&reading->since_ns, now_ns, __ATOMIC_RELEASE);
}

/* Read by the worker itself; of some reads it is measured how they wait. */
static int read_watched(const struct row_maker *maker, struct feed *feed, uint64_t id, uint32_t part, struct sample_value *value,
                        struct problem *why)
{
    int64_t begun_ns;
    int rc;

    ahead_watch(feed, maker->sampler);
    begun_ns = feed_now_ns();
    rc = read_part(maker, feed, id, part, value, why);
    if (rc >= 0 && value->data == maker->room->buffer)
        ahead_watched(feed, maker->sampler, feed_now_ns() - begun_ns);
    return rc;
}

/* A row on its way: what its fields have of the sample so far. */
struct row_fill {
    const struct row_maker *maker;
    struct feed *feed;
    const struct slot *slot;
    uint32_t row;
    const struct row_key *key;
    struct sample_value value; /* of part `have` */
    struct ahead_read *ahead;  /* value was read ahead, by this; or NULL */
    uint32_t have;             /* UINT32_MAX: none yet */
    struct fetch_stamp of;     /* the state of its file that value is of */
    struct fetch fetch;        /* what value is to be kept by, when it has been of use */
    int64_t start, read_ns, decode_ns;
};

static void count(struct row_fill *fill, int64_t *spent_ns)
{
    const int64_t now = feed_now_ns();

    *spent_ns += now - fill->start;
    fill->start = now;
}

/* Its files are opened and written for that, which may hang as a read may. */
static bool keep(struct row_fill *fill, struct fetch *fetch, const struct sample_value *value)
{
    bool kept;

    if (!fetch->use)
        return false;
    show_read(fill->maker->reading, fetch->id, fetch->part, feed_now_ns());
    kept = fetch_keep(fetch, fill->feed, value);
    __atomic_store_n(&fill->maker->reading->since_ns, 0, __ATOMIC_RELAXED);
    return kept;
}

/* The bytes of field f's part: kept ones, read ahead, or read. */
static int get_bytes(struct row_fill *fill, uint32_t f, struct problem *why)
{
    struct feed *feed = fill->feed;
    const struct cache_use *use = fetch_use(feed, f, CACHE_ENCODED);
    const uint64_t id = fill->key->id;
    const uint32_t part = feed->fields[f].part;
    int rc = 0;

    if (part == fill->have)
        return 0;
    count(fill, &fill->decode_ns);
    keep(fill, &fill->fetch, &fill->value);
    ahead_give_back(fill->ahead);
    fill->ahead = NULL;
    show_read(fill->maker->reading, id, part, fill->start);
    if (!use || !fetch_kept(feed, use, id, part, fill->start, &fill->value, &fill->of)) {
        fetch_begin(&fill->fetch, use, id, part);
        fill->of = fetch_look(feed, id, part, fill->start);
        fill->ahead = ahead_take(feed, fill->slot, fill->row, id, part, &fill->value);
        if (!fill->ahead)
            rc = read_watched(fill->maker, feed, id, part, &fill->value, why);
        if (fill->ahead)
            fetch_aged(&fill->of, feed, id, part, ahead_age_ns(fill->ahead));
        fetch_done(&fill->fetch, &fill->of);
        if (rc >= 0)
            FEED_ADD(feed, read_bytes, fill->value.size);
    }
    __atomic_store_n(&fill->maker->reading->since_ns, 0, __ATOMIC_RELAXED);
    fill->have = part;
    count(fill, &fill->read_ns);
    return rc;
}

/* Field f's reduced picture, where it is kept. One that is found on a disk is kept in memory, too, if there is room. */
static bool find_reduced(struct row_fill *fill, uint32_t f, struct sample_value *out)
{
    struct feed *feed = fill->feed;
    const struct field *field = &feed->fields[f];
    const struct cache_use *memory = fetch_use(feed, f, CACHE_DECODED), *disk = fetch_use(feed, f, CACHE_DISK);
    const uint64_t id = fill->key->id;
    struct fetch found;
    struct fetch_stamp of;
    size_t room_size;
    void *room = field->decode->reduced_room(fill->maker->room->codec, field, &room_size);

    if (memory && fetch_kept(feed, memory, id, field->part, fill->start, out, &of))
        return true;
    if (!disk || !fetch_from_disk(&found, feed, disk, id, field->part, fill->start, room, room_size, out))
        return false;
    found.use = memory;
    fetch_keep(&found, feed, out);
    return true;
}

/* Field f's reduced picture: a kept one, or made; its file's bytes need not be kept as well, then. */
static int get_reduced(struct row_fill *fill, uint32_t f, struct sample_value *out, struct problem *why)
{
    struct feed *feed = fill->feed;
    const struct field *field = &feed->fields[f];
    const uint64_t id = fill->key->id;
    struct fetch memory, disk;
    bool kept;
    int rc;

    count(fill, &fill->decode_ns);
    show_read(fill->maker->reading, id, field->part, fill->start);
    kept = find_reduced(fill, f, out);
    __atomic_store_n(&fill->maker->reading->since_ns, 0, __ATOMIC_RELAXED);
    count(fill, &fill->read_ns);
    if (kept)
        return 0;
    fetch_begin(&memory, fetch_use(feed, f, CACHE_DECODED), id, field->part);
    fetch_begin(&disk, fetch_use(feed, f, CACHE_DISK), id, field->part);
    rc = get_bytes(fill, f, why);
    if (rc >= 0)
        rc = field->decode->reduce(feed->states[fill->maker->worker][f], fill->maker->room->codec, field, &fill->value, out, why);
    /* The file as it was when these bytes were read, by whichever field: it may be another one by now. */
    fetch_done(&memory, &fill->of);
    fetch_done(&disk, &fill->of);
    if (rc < 0 || !out->reduced)
        return rc;
    kept = keep(fill, &memory, out);
    kept |= keep(fill, &disk, out);
    if (kept)
        fill->fetch.use = NULL;
    return rc;
}

/* All fields of sample key->id into row `row` of the slot. */
static int fill_fields(const struct row_maker *maker, struct feed *feed, struct slot *slot, uint32_t row,
                       const struct row_key *key, struct problem *why)
{
    struct row_fill fill = {
        .maker = maker, .feed = feed, .slot = slot, .row = row, .key = key, .have = UINT32_MAX, .start = feed_now_ns()
    };
    struct sample_size sizes[PF_FIELDS] = { { 0, 0 } };
    int rc = 0;

    for (uint32_t f = 0; f < feed->n_fields && rc >= 0; f++) {
        const struct field *field = &feed->fields[f];
        struct sample_value reduced, *value = field->side ? &reduced : &fill.value;

        rc = field->side ? get_reduced(&fill, f, &reduced, why) : get_bytes(&fill, f, why);
        value->size_of = &sizes[field->geometry ? field->geometry - 1 : f];
        if (rc >= 0)
            rc = field->decode->row(feed->states[maker->worker][f], maker->room->codec, field, value, key,
                                    slot->base + feed->field_offsets[f] + row * field->row_bytes, why);
    }
    count(&fill, &fill.decode_ns);
    FEED_ADD(feed, read_ns, (uint64_t)fill.read_ns);
    FEED_ADD(feed, decode_ns, (uint64_t)fill.decode_ns);
    if (rc >= 0)
        keep(&fill, &fill.fetch, &fill.value);
    ahead_give_back(fill.ahead);
    return rc;
}

/* The same, unless it is known to crash us. */
static int fill_row(const struct row_maker *maker, struct feed *feed, struct slot *slot, uint32_t row, const struct row_key *key,
                    struct problem *why)
{
    int rc = feed->n_crashers ? crash_check(feed, key->id, why) : 0;

    if (rc < 0)
        return rc;
    crash_begin(maker->work, feed, key->id);
    rc = fill_fields(maker, feed, slot, row, key, why);
    crash_end(maker->work);
    return rc;
}

static void zero_row(struct feed *feed, struct slot *slot, uint32_t row)
{
    for (uint32_t f = 0; f < feed->n_fields; f++)
        memset(slot->base + feed->field_offsets[f] + row * feed->fields[f].row_bytes, 0, feed->fields[f].row_bytes);
}

/* The scheduled sample is bad: another one, chosen by the same pure key, or none. True: the feed has failed. */
static bool replace_row(const struct row_maker *maker, struct feed *feed, struct slot *slot, uint32_t row, struct row_key key,
                        uint64_t *used_id, uint8_t *flags, struct problem *why)
{
    uint64_t scheduled = key.id;
    bool failed = bad_scheduled(feed, scheduled, key.epoch, why->text);

    for (uint32_t t = 0; feed->config->on_error == CONFIG_REPLACE && t < REPLACE_TRIES; t++) {
        struct draw draw;

        key.id = scheduled;
        draw_init(&draw, &key, "row.replace", t);
        key.id = order_pick(feed->order, &draw);
        if (key.id == scheduled)
            continue;
        if (fill_row(maker, feed, slot, row, &key, why) >= 0) {
            *used_id = key.id;
            *flags |= PF_ROW_REPLACED;
            FEED_ADD(feed, rows_replaced, 1);
            return failed;
        }
        bad_note(feed, key.id, key.epoch, why->text);
    }
    zero_row(feed, slot, row);
    *flags |= PF_ROW_MASKED;
    FEED_ADD(feed, rows_masked, 1);
    return failed;
}

void row_sample(const struct feed *feed, const struct slot *slot, uint32_t row, uint64_t *id, uint32_t *occurrence)
{
    order_at(slot->view, (slot->index * feed->batch + row) % feed->samples, id, occurrence);
}

bool row_make(const struct row_maker *maker, struct feed *feed, struct slot *slot, uint32_t row)
{
    uint64_t *ids = (uint64_t *)(slot->base + feed->ids_offset), *used_ids = (uint64_t *)(slot->base + feed->used_ids_offset);
    struct row_key key = { .seed = slot->seed, .epoch = slot->epoch };
    uint8_t *flags = slot->base + feed->flags_offset + row;
    struct problem why;

    *flags = slot->index * feed->batch + row >= feed->samples ? PF_ROW_PADDED : 0;
    row_sample(feed, slot, row, &key.id, &key.occurrence);
    ids[row] = used_ids[row] = key.id;
    if (fill_row(maker, feed, slot, row, &key, &why) >= 0)
        return false;
    return replace_row(maker, feed, slot, row, key, &used_ids[row], flags, &why);
}
