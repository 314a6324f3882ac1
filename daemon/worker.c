/* SPDX-License-Identifier: MIT */
/*
 * See worker.h. The main thread appends fillings of slots to a queue; a worker looks through the queue from its oldest entry and
 * claims rows by the slot's own word, which tells one filling from the next, so that a stale entry does no harm. No
 * malloc, log, lock or system call between claim and row but what the source needs; a bad sample takes the slow path.
 */
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "decode/decode.h"
#include "feed.h"
#include "random.h"

#define REPLACE_TRIES  32
#define RETRY_FIRST_MS 10
#define RETRY_LAST_MS  500
#define QUEUE          (2 * WORKERS_SLOTS)
#define READ_PAST      64 /* bytes behind the read buffer, for codecs that look a word ahead */

struct entry { /* a filling of a slot */
    struct feed *feed;
    struct slot *slot;
    uint32_t generation;
};

/* A worker's memory for one row at a time, of the most that any feed needs. */
struct room {
    uint8_t *buffer; /* of the source's reads */
    size_t buffer_size;
    void *codec; /* of the decoders, one after another */
    size_t codec_size;
};

struct worker {
    pthread_t thread;
    struct workers *all;
    uint32_t number;
    bool running;
    struct room *room, *larger; /* larger: made for a feed that is to come; the worker takes it up by itself */
    bool busy __attribute__((aligned(PF_LINE)));
    uint64_t turn; /* odd: it may be looking at entries of the queue, and at their feeds */
};

struct workers {
    uint32_t n_workers, capacity;     /* capacity: a power of two */
    uint64_t buffer_size, codec_size; /* of the largest rooms made so far */
    struct entry *queue;
    /* Main thread writes, workers read. */
    uint64_t head __attribute__((aligned(PF_LINE))); /* entries before it have no row to claim */
    uint64_t tail;
    bool stopping;
    uint32_t idle __attribute__((aligned(PF_LINE))); /* workers that sleep or are about to */
    sem_t work, ended;                               /* ended: posted by a worker as its last act */
    int event;
    struct worker *workers;
};

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void room_destroy(struct room *room)
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

static struct room *room_create(uint64_t buffer_size, uint64_t codec_size)
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

/* ---- one row -------------------------------------------------------------------------------------------------------- */

static bool transient(int rc)
{
    return rc == -EIO || rc == -ESTALE || rc == -ETIMEDOUT || rc == -EINTR || rc == -EAGAIN;
}

/* Reads a part, again and again for read_retry where the error may pass. */
static int read_part(struct worker *worker, struct feed *feed, uint64_t id, uint32_t part, struct sample_value *value,
                     struct problem *why)
{
    int64_t until_ns = 0, pause_ms = RETRY_FIRST_MS;

    for (;;) {
        int rc = feed->config->source->read(feed->source, id, part, worker->room->buffer, worker->room->buffer_size, value, why);
        struct timespec pause = { pause_ms / 1000, pause_ms % 1000 * 1000000 };

        if (rc >= 0 || !transient(rc))
            return rc;
        if (until_ns == 0)
            until_ns = feed_now_ns() + feed->config->read_retry_ms * 1000000;
        if (feed_now_ns() + pause_ms * 1000000 > until_ns || __atomic_load_n(&worker->all->stopping, __ATOMIC_RELAXED))
            return rc;
        nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < RETRY_LAST_MS ? pause_ms * 2 : RETRY_LAST_MS;
    }
}

/* All fields of sample key->id into row `row` of the slot. */
static int fill_row(struct worker *worker, struct feed *feed, struct slot *slot, uint32_t row, const struct row_key *key,
                    struct problem *why)
{
    struct sample_value value = { 0 };
    uint32_t have = UINT32_MAX; /* the part that value is of */
    int64_t start = feed_now_ns(), now, read_ns = 0, decode_ns = 0;
    uint64_t bytes = 0;
    int rc = 0;

    for (uint32_t f = 0; f < feed->n_fields && rc >= 0; f++) {
        const struct field *field = &feed->fields[f];

        if (field->part != have) {
            rc = read_part(worker, feed, key->id, field->part, &value, why);
            if (rc < 0)
                break;
            have = field->part;
            bytes += value.size;
            now = feed_now_ns();
            read_ns += now - start;
            start = now;
        }
        rc = field->decode->row(feed->states[worker->number][f], worker->room->codec, field, &value, key,
                                slot->base + feed->field_offsets[f] + row * field->row_bytes, why);
        now = feed_now_ns();
        decode_ns += now - start;
        start = now;
    }
    FEED_ADD(feed, read_ns, (uint64_t)read_ns);
    FEED_ADD(feed, decode_ns, (uint64_t)decode_ns);
    FEED_ADD(feed, read_bytes, bytes);
    return rc;
}

static void note_error(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason)
{
    struct feed_error *error = NULL;

    pthread_mutex_lock(&feed->lock);
    for (uint32_t i = 0; i < feed->n_errors && i < FEED_ERRORS; i++)
        if (feed->errors[i].id == id)
            error = &feed->errors[i];
    if (!error) {
        error = &feed->errors[feed->n_errors++ % FEED_ERRORS];
        *error = (struct feed_error){ .id = id };
        feed->config->source->where(feed->source, id, error->where, sizeof(error->where));
        if (feed->n_errors == 1) /* the others are in `pfeedctl errors` */
            log_warn("feed '%s': the first bad sample is %llu (%s): %s", feed->config->name, (unsigned long long)id, error->where,
                     reason);
    }
    error->epoch = epoch;
    error->count++;
    strncpy(error->reason, reason, sizeof(error->reason) - 1);
    pthread_mutex_unlock(&feed->lock);
}

static void fail_feed(struct feed *feed, uint64_t id, const char *reason)
{
    char where[100];

    feed->config->source->where(feed->source, id, where, sizeof(where));
    pthread_mutex_lock(&feed->lock);
    if (!feed->failed[0])
        snprintf(feed->failed, sizeof(feed->failed), "sample %llu (%s) is bad: %.80s; on_error is `fail`", (unsigned long long)id,
                 where, reason);
    pthread_mutex_unlock(&feed->lock);
}

static void zero_row(struct feed *feed, struct slot *slot, uint32_t row)
{
    for (uint32_t f = 0; f < feed->n_fields; f++)
        memset(slot->base + feed->field_offsets[f] + row * feed->fields[f].row_bytes, 0, feed->fields[f].row_bytes);
}

/* The scheduled sample is bad: another one, chosen by the same pure key, or none. */
static void replace_row(struct worker *worker, struct feed *feed, struct slot *slot, uint32_t row, struct row_key key,
                        uint64_t *used_id, uint8_t *flags, struct problem *why)
{
    uint64_t scheduled = key.id;

    note_error(feed, scheduled, key.epoch, why->text);
    if (feed->config->on_error == CONFIG_FAIL)
        fail_feed(feed, scheduled, why->text);
    for (uint32_t t = 0; feed->config->on_error == CONFIG_REPLACE && t < REPLACE_TRIES; t++) {
        struct draw draw;

        key.id = scheduled;
        draw_init(&draw, &key, "row.replace", t);
        key.id = draw_below(&draw, feed->samples);
        if (key.id == scheduled)
            continue;
        if (fill_row(worker, feed, slot, row, &key, why) >= 0) {
            *used_id = key.id;
            *flags |= PF_ROW_REPLACED;
            FEED_ADD(feed, rows_replaced, 1);
            return;
        }
        note_error(feed, key.id, key.epoch, why->text);
    }
    zero_row(feed, slot, row);
    *flags |= PF_ROW_MASKED;
    FEED_ADD(feed, rows_masked, 1);
}

static void do_row(struct worker *worker, struct feed *feed, struct slot *slot, uint32_t row)
{
    uint64_t position = slot->index * feed->batch + row, length = order_length(feed->order, slot->epoch);
    uint64_t *ids = (uint64_t *)(slot->base + feed->ids_offset), *used_ids = (uint64_t *)(slot->base + feed->used_ids_offset);
    struct row_key key = { .seed = slot->seed, .epoch = slot->epoch };
    uint8_t *flags = slot->base + feed->flags_offset + row;
    struct problem why;

    *flags = position >= length ? PF_ROW_PADDED : 0;
    order_at(slot->view, position % length, &key.id, &key.occurrence);
    ids[row] = used_ids[row] = key.id;
    if (fill_row(worker, feed, slot, row, &key, &why) < 0)
        replace_row(worker, feed, slot, row, key, &used_ids[row], flags, &why);
}

/* ---- claiming ------------------------------------------------------------------------------------------------------- */

/* The oldest slot with a row to claim. */
static bool claim(struct workers *all, struct entry *out, uint32_t *first, uint32_t *count)
{
    /* The entries are loaded after the tail that covers them. */
    uint64_t tail = __atomic_load_n(&all->tail, __ATOMIC_ACQUIRE);

    for (uint64_t at = __atomic_load_n(&all->head, __ATOMIC_RELAXED); at < tail; at++) {
        struct entry *entry = &all->queue[at & (all->capacity - 1)];
        struct feed *feed = __atomic_load_n(&entry->feed, __ATOMIC_RELAXED);
        struct slot *slot = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);
        uint32_t generation = __atomic_load_n(&entry->generation, __ATOMIC_RELAXED);

        /* An entry that is being written anew may pair one feed with another's slot; the slot's place tells. */
        if (slot < feed->slots || slot >= feed->slots + feed->n_slots)
            continue;
        if (slot_claim(slot, generation, feed->claim_rows, first, count)) {
            *out = (struct entry){ feed, slot, generation };
            return true;
        }
    }
    return false;
}

/* A feed whose rows need more room has come. Its memory was made and touched before any of its slots were posted. */
static void take_room(struct worker *worker)
{
    struct room *larger = __atomic_exchange_n(&worker->larger, NULL, __ATOMIC_ACQUIRE);

    if (!larger)
        return;
    room_destroy(worker->room);
    worker->room = larger;
}

static bool work_once(struct worker *worker)
{
    struct workers *all = worker->all;
    struct entry entry;
    uint32_t first, count;
    uint64_t one = 1;
    bool found;

    /* The turn is seen as odd before the queue is looked at; pairs with the fence in workers_forget. */
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    found = claim(all, &entry, &first, &count);
    if (found) {
        take_room(worker);
        for (uint32_t i = 0; i < count; i++)
            do_row(worker, entry.feed, entry.slot, entry.slot->rows[first + i]);
        FEED_ADD(entry.feed, rows_filled, count);
        if (slot_rows_done(entry.slot, count)) {
            ssize_t written = write(all->event, &one, sizeof(one));

            assert(written == sizeof(one)); /* a counter that the main thread empties */
        }
    }
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELEASE);
    return found;
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct workers *all = worker->all;

    while (!__atomic_load_n(&all->stopping, __ATOMIC_RELAXED)) {
        if (work_once(worker))
            continue;
        __atomic_store_n(&worker->busy, false, __ATOMIC_RELAXED);
        __atomic_fetch_add(&all->idle, 1, __ATOMIC_SEQ_CST);
        /* Idle is raised before the queue is looked at again; pairs with the fence in workers_post. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (!work_once(worker))
            while (sem_wait(&all->work) != 0 && errno == EINTR)
                ;
        __atomic_fetch_sub(&all->idle, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&worker->busy, true, __ATOMIC_RELAXED);
    }
    sem_post(&all->ended);
    return NULL;
}

/* ---- main thread ---------------------------------------------------------------------------------------------------- */

static void append(struct workers *all, const struct entry *new)
{
    struct entry *entry = &all->queue[all->tail & (all->capacity - 1)];

    __atomic_store_n(&entry->feed, new->feed, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->slot, new->slot, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->generation, new->generation, __ATOMIC_RELAXED);
    /* The entry is seen before the tail that covers it. */
    __atomic_store_n(&all->tail, all->tail + 1, __ATOMIC_RELEASE);
}

/* Drops entries that nobody can claim from any more: those at the front, or, where the queue is full, all of them. A slot has
 * at most one entry that lives, so that there is room then. */
static void clean(struct workers *all)
{
    uint64_t n = all->tail - all->head;
    bool full = n == all->capacity;
    struct entry entry;

    while (n-- > 0) {
        entry = all->queue[all->head & (all->capacity - 1)];
        if (slot_unclaimed(entry.slot, entry.generation) > 0 && !full)
            return;
        __atomic_store_n(&all->head, all->head + 1, __ATOMIC_RELAXED);
        if (slot_unclaimed(entry.slot, entry.generation) > 0)
            append(all, &entry);
    }
}

void workers_post(struct workers *all, struct feed *feed, struct slot *slot)
{
    const struct entry entry = { feed, slot, slot_generation(slot) };
    uint32_t rows = slot_unclaimed(slot, entry.generation), wake;

    clean(all);
    append(all, &entry);
    /* The tail and the slot's claim word are stored before idle is loaded; pairs with the fence in run. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wake = __atomic_load_n(&all->idle, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < wake && i < (rows + feed->claim_rows - 1) / feed->claim_rows; i++)
        sem_post(&all->work);
}

int workers_eventfd(const struct workers *all)
{
    return all->event;
}

void workers_seen(struct workers *all)
{
    uint64_t count;
    ssize_t got = read(all->event, &count, sizeof(count));

    (void)got; /* nothing there: somebody looked already */
}

uint32_t workers_busy(const struct workers *all)
{
    uint32_t busy = 0;

    for (uint32_t w = 0; w < all->n_workers; w++)
        busy += __atomic_load_n(&all->workers[w].busy, __ATOMIC_RELAXED);
    return busy;
}

uint32_t workers_count(const struct workers *all)
{
    return all->n_workers;
}

uint64_t workers_bytes(uint32_t n_workers, uint64_t buffer_size, uint64_t codec_size)
{
    return QUEUE * sizeof(struct entry) +
           n_workers * (sizeof(struct worker) + sizeof(struct room) + buffer_size + READ_PAST + codec_size);
}

uint64_t workers_used(const struct workers *all)
{
    return workers_bytes(all->n_workers, all->buffer_size, all->codec_size);
}

void workers_room(const struct workers *all, uint64_t *buffer_size, uint64_t *codec_size)
{
    *buffer_size = all->buffer_size;
    *codec_size = all->codec_size;
}

int workers_make_room(struct workers *all, uint64_t buffer_size, uint64_t codec_size, struct problem *why)
{
    buffer_size = buffer_size > all->buffer_size ? buffer_size : all->buffer_size;
    codec_size = codec_size > all->codec_size ? codec_size : all->codec_size;
    if (buffer_size == all->buffer_size && codec_size == all->codec_size)
        return 0;
    for (uint32_t w = 0; w < all->n_workers; w++) {
        struct room *room = room_create(buffer_size, codec_size);

        if (!room)
            return problem_set(why, -ENOMEM, "no memory for a worker's buffers of %llu bytes",
                               (unsigned long long)(buffer_size + codec_size));
        room_destroy(__atomic_exchange_n(&all->workers[w].larger, room, __ATOMIC_ACQ_REL));
    }
    all->buffer_size = buffer_size;
    all->codec_size = codec_size;
    return 0;
}

/* Entries of a feed that ends can no longer be claimed, as its slots are FREE; but a worker that claims looks at the feed. */
void workers_forget(struct workers *all, const struct feed *feed)
{
    uint64_t n = all->tail - all->head;

    while (n-- > 0) {
        struct entry entry = all->queue[all->head & (all->capacity - 1)];

        __atomic_store_n(&all->head, all->head + 1, __ATOMIC_RELAXED);
        if (entry.feed != feed)
            append(all, &entry);
    }
    /* The queue is seen without the feed before a turn is loaded; pairs with the fence in work_once. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void workers_pass(const struct workers *all)
{
    const struct timespec pause = { 0, 1000000 };

    for (uint32_t w = 0; w < all->n_workers; w++) {
        uint64_t turn = __atomic_load_n(&all->workers[w].turn, __ATOMIC_ACQUIRE);

        while ((turn & 1) && __atomic_load_n(&all->workers[w].turn, __ATOMIC_ACQUIRE) == turn)
            nanosleep(&pause, NULL);
    }
}

static int start_workers(struct workers *all, uint32_t n_workers, struct problem *why)
{
    for (; all->n_workers < n_workers; all->n_workers++) {
        struct worker *worker = &all->workers[all->n_workers];
        int rc;

        worker->all = all;
        worker->number = all->n_workers;
        worker->busy = true;
        rc = -pthread_create(&worker->thread, NULL, run, worker);
        if (rc < 0)
            return problem_set(why, rc, "cannot start a worker thread: %s", strerror(-rc));
        worker->running = true;
    }
    return 0;
}

int workers_create(struct workers **out, uint32_t n_workers, struct problem *why)
{
    struct workers *all = aligned_alloc(PF_LINE, sizeof(*all));
    int rc;

    if (!all)
        return problem_set(why, -ENOMEM, "no memory for workers");
    memset(all, 0, sizeof(*all));
    all->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = all->event < 0 ? problem_set(why, -errno, "cannot make an eventfd: %s", strerror(errno)) : 0;
    sem_init(&all->work, 0, 0);
    sem_init(&all->ended, 0, 0);
    all->capacity = QUEUE;
    all->queue = touched(all->capacity * sizeof(*all->queue));
    all->workers = aligned_alloc(PF_LINE, n_workers * sizeof(*all->workers));
    if (rc == 0 && (!all->queue || !all->workers))
        rc = problem_set(why, -ENOMEM, "no memory for %u workers", n_workers);
    if (rc < 0)
        goto fail;
    memset(all->workers, 0, n_workers * sizeof(*all->workers));
    rc = start_workers(all, n_workers, why);
    if (rc == 0) {
        *out = all;
        return 0;
    }
fail:
    workers_stop(all, 1000);
    workers_destroy(all);
    return rc;
}

bool workers_stop(struct workers *all, int limit_ms)
{
    struct timespec until;

    __atomic_store_n(&all->stopping, true, __ATOMIC_RELAXED);
    for (uint32_t w = 0; w < all->n_workers; w++)
        sem_post(&all->work);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_ms / 1000;
    until.tv_nsec += limit_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    /* Waited for here and joined below, as ThreadSanitizer takes threads joined by pthread_clockjoin_np for leaked ones. */
    for (uint32_t w = 0; w < all->n_workers; w++)
        while (all->workers[w].running && sem_clockwait(&all->ended, CLOCK_MONOTONIC, &until) != 0)
            if (errno != EINTR)
                return false;
    for (uint32_t w = 0; w < all->n_workers; w++)
        if (all->workers[w].running) {
            pthread_join(all->workers[w].thread, NULL);
            all->workers[w].running = false;
        }
    return true;
}

void workers_destroy(struct workers *all)
{
    if (!all)
        return;
    for (uint32_t w = 0; w < all->n_workers; w++) {
        room_destroy(all->workers[w].room);
        room_destroy(all->workers[w].larger);
    }
    free(all->workers);
    free(all->queue);
    if (all->event >= 0)
        close(all->event);
    sem_destroy(&all->ended);
    sem_destroy(&all->work);
    free(all);
}
