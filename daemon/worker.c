/* SPDX-License-Identifier: MIT */
/*
 * See worker.h. The main thread appends fillings of slots to a queue; a worker looks through the queue from its oldest entry and
 * claims rows by the slot's own word, which tells one filling from the next, so that a stale entry does no harm. row.c makes the
 * rows.
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

#include "feed.h"
#include "row.h"

#define QUEUE (2 * WORKERS_SLOTS)

struct entry { /* a filling of a slot */
    struct feed *feed;
    struct slot *slot;
    uint32_t generation;
};

struct worker {
    pthread_t thread;
    struct workers *all;
    uint32_t number;
    bool running;
    struct crash_work work;
    struct room *room, *larger; /* larger: made for a feed that is to come; the worker takes it up by itself */
    bool busy __attribute__((aligned(PF_LINE)));
    uint64_t turn;           /* odd: it may be looking at entries of the queue, and at their feeds */
    const struct feed *feed; /* whose rows it makes in this turn; NULL: it still looks */
};

struct workers {
    uint32_t n_workers, most;         /* that were chosen; that there is a place for */
    uint32_t capacity;                /* of the queue: a power of two */
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

static void call_main(const struct workers *all)
{
    const uint64_t one = 1;
    ssize_t written = write(all->event, &one, sizeof(one));

    assert(written == sizeof(one)); /* a counter that the main thread empties */
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
        if (slot < feed->slots || slot >= feed->slots + feed->n_planned)
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
    struct room *larger = NULL;

    if (__atomic_load_n(&worker->larger, __ATOMIC_RELAXED))
        larger = __atomic_exchange_n(&worker->larger, NULL, __ATOMIC_ACQUIRE);
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
    bool found;

    /* The turn is seen as odd before the queue is looked at; pairs with the fence in workers_forget. */
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    take_room(worker);
    found = claim(all, &entry, &first, &count);
    if (found) {
        __atomic_store_n(&worker->feed, entry.feed, __ATOMIC_RELEASE);
        for (uint32_t i = 0; i < count; i++)
            if (row_make(&(struct row_maker){ worker->room, worker->number, &all->stopping, &worker->work }, entry.feed,
                         entry.slot, entry.slot->rows[first + i]))
                call_main(all);
        FEED_ADD(entry.feed, rows_filled, count);
        if (slot_rows_done(entry.slot, count))
            call_main(all);
        __atomic_store_n(&worker->feed, NULL, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELEASE);
    return found;
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct workers *all = worker->all;

    crash_watch(&worker->work, worker->number);
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
    crash_unwatch(&worker->work);
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
    return QUEUE * sizeof(struct entry) + n_workers * (sizeof(struct worker) + room_bytes(buffer_size, codec_size));
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
    for (uint32_t w = 0; w < all->n_workers; w++)
        sem_post(&all->work); /* who sleeps gives its smaller room back */
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

void workers_pass(const struct workers *all, const struct feed *feed)
{
    const struct timespec pause = { 0, 1000000 };

    for (uint32_t w = 0; w < all->n_workers; w++) {
        const struct worker *worker = &all->workers[w];
        uint64_t turn = __atomic_load_n(&worker->turn, __ATOMIC_ACQUIRE);

        /* One that makes rows of another feed has done with the queue, and finds this feed there no more when it comes back. */
        while ((turn & 1) && __atomic_load_n(&worker->turn, __ATOMIC_ACQUIRE) == turn) {
            const struct feed *at = __atomic_load_n(&worker->feed, __ATOMIC_ACQUIRE);

            if (at && at != feed)
                break;
            nanosleep(&pause, NULL);
        }
    }
}

void workers_choose(struct workers *all, uint32_t n_workers)
{
    assert(all->n_workers == 0 && n_workers <= all->most);
    all->n_workers = n_workers;
}

int workers_start(struct workers *all, struct problem *why)
{
    for (uint32_t w = 0; w < all->n_workers; w++) {
        struct worker *worker = &all->workers[w];
        int rc;

        if (worker->running)
            continue;
        worker->all = all;
        worker->number = w;
        worker->busy = true;
        rc = -pthread_create(&worker->thread, NULL, run, worker);
        if (rc < 0)
            return problem_set(why, rc, "cannot start a worker thread: %s", strerror(-rc));
        worker->running = true;
    }
    return 0;
}

int workers_create(struct workers **out, uint32_t most, struct problem *why)
{
    struct workers *all = aligned_alloc(PF_LINE, sizeof(*all));
    int rc;

    if (!all)
        return problem_set(why, -ENOMEM, "no memory for workers");
    memset(all, 0, sizeof(*all));
    all->most = most;
    all->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = all->event < 0 ? problem_set(why, -errno, "cannot make an eventfd: %s", strerror(errno)) : 0;
    sem_init(&all->work, 0, 0);
    sem_init(&all->ended, 0, 0);
    all->capacity = QUEUE;
    all->queue = aligned_alloc(PF_LINE, all->capacity * sizeof(*all->queue));
    all->workers = aligned_alloc(PF_LINE, most * sizeof(*all->workers));
    if (rc == 0 && (!all->queue || !all->workers))
        rc = problem_set(why, -ENOMEM, "no memory for %u workers", most);
    if (rc < 0) {
        workers_destroy(all);
        return rc;
    }
    memset(all->queue, 0, all->capacity * sizeof(*all->queue)); /* faults it in, too */
    memset(all->workers, 0, most * sizeof(*all->workers));
    *out = all;
    return 0;
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
