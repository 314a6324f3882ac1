/* SPDX-License-Identifier: MIT */
/*
 * See worker.h. The main thread appends fillings of slots to a queue; a worker looks through the queue from its oldest entry and
 * claims rows by the slot's own word, which tells one filling from the next, so that a stale entry does no harm. row.c makes the
 * rows.
 *
 * Of the feeds that have rows to claim, a worker takes the one that has had least of the workers' time by its weight (share.h); so
 * a feed on slow storage gets its share of time, and not of rows, and no other feed waits for it longer than for the reads that
 * are under way. No worker is kept back: where one feed alone wants rows, it gets all workers. Hence a feed whose reads never
 * return takes all of them sooner or later, at the latest while the others want nothing. For that there are spare workers, in the
 * budget like all others: they sleep until every other worker has been in one read for longer than STUCK_NS, and then make rows of
 * feeds of which no read has taken so long. So the others go on, at the speed of the spare ones, also with `workers: 1`; and where
 * reads are just slow, no core is taken from anybody, as the others wait. One of the spare ones is lost to a further feed whose
 * reads hang, unless a worker has been caught in it before; for large machines there are several, of which a feed gets all but one.
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

#define QUEUE     (2 * WORKERS_SLOTS)
#define STUCK_NS  INT64_C(100000000) /* a read that takes longer may take for ever */
#define SAVED_NS  INT64_C(100000000) /* by which a feed that comes back is ahead of those that went on */
#define SPARE_FOR 8                  /* a further spare worker for so many */
#define STALE     64                 /* entries that nobody can claim from, beside as many as there are others */

struct entry { /* a filling of a slot */
    struct feed *feed;
    struct slot *slot;
    uint32_t generation;
};

enum found { FOUND_NOTHING, FOUND_OTHERS, FOUND_ROWS }; /* others: rows that are not this worker's to make */

struct worker {
    pthread_t thread;
    struct workers *all;
    uint32_t number;
    bool running, spare;
    struct crash_work work;
    struct room *room, *larger; /* larger: made for a feed that is to come; the worker takes it up by itself */
    bool busy __attribute__((aligned(PF_LINE)));
    uint64_t turn;           /* odd: it may be looking at entries of the queue, and at their feeds */
    const struct feed *feed; /* whose rows it makes in this turn; NULL: it still looks */
    struct row_reading reading;
    struct ahead_sampler sampler;
};

struct workers {
    uint32_t n_workers, most;         /* that were chosen; that there is a place for */
    uint32_t capacity;                /* of the queue: a power of two */
    uint64_t buffer_size, codec_size; /* of the largest rooms made so far */
    struct entry *queue;
    /* Main thread writes, workers read. */
    uint64_t head __attribute__((aligned(PF_LINE))); /* entries before it have no row to claim */
    uint64_t tail;
    uint64_t lively; /* main thread's own: entries that were left when it last looked at all of them */
    bool stopping;
    uint32_t idle __attribute__((aligned(PF_LINE))); /* workers that sleep or are about to; spare_idle: spare ones */
    uint32_t spare_idle, napping;                    /* napping: spare ones that look again soon */
    int64_t least;                                   /* the least that a feed with rows to claim has had: only grows */
    sem_t work, spare_work, ended;                   /* ended: posted by a worker as its last act */
    int event;
    struct ahead *ahead; /* main thread's, or NULL */
    struct worker *workers;
};

static uint32_t spares(uint32_t n_workers)
{
    return n_workers > 0 ? 1 + n_workers / SPARE_FOR : 0;
}

uint32_t workers_threads(const struct workers *all)
{
    return all->n_workers + spares(all->n_workers);
}

static void call_main(const struct workers *all)
{
    const uint64_t one = 1;
    ssize_t written = write(all->event, &one, sizeof(one));

    assert(written == sizeof(one)); /* a counter that the main thread empties */
}

/* ---- claiming ------------------------------------------------------------------------------------------------------- */

static bool stuck(const struct worker *worker, int64_t now_ns)
{
    const int64_t since_ns = __atomic_load_n(&worker->reading.since_ns, __ATOMIC_ACQUIRE);

    return since_ns && now_ns - since_ns > STUCK_NS;
}

static bool all_stuck(const struct workers *all, int64_t now_ns)
{
    for (uint32_t w = 0; w < all->n_workers; w++)
        if (!stuck(&all->workers[w], now_ns))
            return false;
    return true;
}

/* Whether a spare worker may make rows of the feed. */
static bool spare_may(const struct workers *all, const struct feed *feed, int64_t now_ns)
{
    uint32_t n_spares = spares(all->n_workers), n = 0;

    for (uint32_t w = 0; w < workers_threads(all); w++) {
        const struct worker *worker = &all->workers[w];

        if (__atomic_load_n(&worker->feed, __ATOMIC_ACQUIRE) != feed)
            continue;
        if (stuck(worker, now_ns))
            return false;
        n += w >= all->n_workers;
    }
    return n == 0 || n + 1 < n_spares;
}

struct pick {
    struct entry entry; /* feed NULL: none */
    int64_t had;
    bool others; /* there were rows that the worker may not make */
};

static void consider(struct workers *all, const struct entry *entry, int64_t now_ns, struct pick *pick)
{
    const int64_t weight = entry->feed->config->weight, least = __atomic_load_n(&all->least, __ATOMIC_RELAXED) - SAVED_NS;
    int64_t had = share_had(&entry->feed->share, weight, now_ns);

    if (had < least) {
        share_join(&entry->feed->share, weight, had, least);
        had = least;
    }
    if (pick->entry.feed && pick->had <= had)
        return;
    pick->entry = *entry;
    pick->had = had;
}

/* Of the feed that has had least, the oldest filling with a row to claim. */
static void look(const struct worker *worker, int64_t now_ns, struct pick *pick)
{
    struct workers *all = worker->all;
    /* The entries are loaded after the tail that covers them. */
    uint64_t tail = __atomic_load_n(&all->tail, __ATOMIC_ACQUIRE);
    const bool may = !worker->spare || all_stuck(all, now_ns);
    const struct feed *seen = NULL; /* the one before: of each feed the first will do */

    *pick = (struct pick){ .others = false };
    for (uint64_t at = __atomic_load_n(&all->head, __ATOMIC_RELAXED); at < tail; at++) {
        const struct entry *shown = &all->queue[at & (all->capacity - 1)];
        const struct entry entry = { .feed = __atomic_load_n(&shown->feed, __ATOMIC_RELAXED),
                                     .slot = __atomic_load_n(&shown->slot, __ATOMIC_RELAXED),
                                     .generation = __atomic_load_n(&shown->generation, __ATOMIC_RELAXED) };

        /* An entry that is being written anew may pair one feed with another's slot; the slot's place tells. */
        if (entry.feed == seen || entry.feed == pick->entry.feed || entry.slot < entry.feed->slots ||
            entry.slot >= entry.feed->slots + entry.feed->n_planned || slot_unclaimed(entry.slot, entry.generation) == 0)
            continue;
        seen = entry.feed;
        if (!may || (worker->spare && !spare_may(all, entry.feed, now_ns)))
            pick->others = true;
        else
            consider(all, &entry, now_ns, pick);
    }
    if (pick->entry.feed && !worker->spare && pick->had > __atomic_load_n(&all->least, __ATOMIC_RELAXED))
        __atomic_store_n(&all->least, pick->had, __ATOMIC_RELAXED);
}

/* Rows that are read ahead are those that nobody has claimed. */
static uint32_t rows_at_once(const struct feed *feed)
{
    return ahead_is_on(&feed->ahead) ? 1 : feed->claim_rows;
}

static enum found claim(const struct worker *worker, int64_t now_ns, struct entry *out, uint32_t *first, uint32_t *count)
{
    struct pick pick;

    do { /* again where another worker has claimed the last row meanwhile */
        look(worker, now_ns, &pick);
        if (!pick.entry.feed)
            return pick.others ? FOUND_OTHERS : FOUND_NOTHING;
    } while (!slot_claim(pick.entry.slot, pick.entry.generation, rows_at_once(pick.entry.feed), first, count));
    *out = pick.entry;
    return FOUND_ROWS;
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

static void make_rows(struct worker *worker, const struct entry *entry, uint32_t first, uint32_t count, int64_t now_ns)
{
    const struct row_maker maker = { worker->room,           &worker->reading, worker->number,
                                     &worker->all->stopping, &worker->work,    &worker->sampler };
    struct feed *feed = entry->feed;
    int64_t ended_ns;

    __atomic_store_n(&worker->feed, feed, __ATOMIC_RELEASE);
    share_begin(&feed->share, now_ns);
    for (uint32_t i = 0; i < count; i++)
        if (row_make(&maker, feed, entry->slot, entry->slot->rows[first + i]))
            call_main(worker->all);
    ended_ns = feed_now_ns();
    share_end(&feed->share, now_ns, ended_ns);
    FEED_ADD(feed, rows_filled, count);
    if (slot_rows_done(entry->slot, count, ended_ns - now_ns))
        call_main(worker->all);
    __atomic_store_n(&worker->feed, NULL, __ATOMIC_RELAXED);
}

static enum found work_once(struct worker *worker)
{
    const int64_t now_ns = feed_now_ns();
    struct entry entry;
    uint32_t first, count;
    enum found found;

    /* The turn is seen as odd before the queue is looked at; pairs with the fence in workers_forget. */
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    take_room(worker);
    found = claim(worker, now_ns, &entry, &first, &count);
    if (found == FOUND_ROWS)
        make_rows(worker, &entry, first, count, now_ns);
    __atomic_store_n(&worker->turn, worker->turn + 1, __ATOMIC_RELEASE);
    return found;
}

/* There is nothing left to claim: spare workers need not look again. */
static void end_naps(struct workers *all)
{
    uint32_t n;

    /* What was claimed is seen before it is known who naps; pairs with the fence in run_spare. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    n = __atomic_load_n(&all->napping, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < n; i++)
        sem_post(&all->spare_work);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct workers *all = worker->all;

    crash_watch(&worker->work, worker->number);
    while (!__atomic_load_n(&all->stopping, __ATOMIC_RELAXED)) {
        if (work_once(worker) == FOUND_ROWS)
            continue;
        __atomic_store_n(&worker->busy, false, __ATOMIC_RELAXED);
        __atomic_fetch_add(&all->idle, 1, __ATOMIC_SEQ_CST);
        /* Idle is raised before the queue is looked at again; pairs with the fence in workers_post. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (work_once(worker) != FOUND_ROWS) {
            end_naps(all);
            while (sem_wait(&all->work) != 0 && errno == EINTR)
                ;
        }
        __atomic_fetch_sub(&all->idle, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&worker->busy, true, __ATOMIC_RELAXED);
    }
    crash_unwatch(&worker->work);
    sem_post(&all->ended);
    return NULL;
}

/* Until rows are posted; for a while only where there are some that it may have to make. */
static void rest(struct workers *all, enum found found)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += STUCK_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (found == FOUND_OTHERS)
        sem_clockwait(&all->spare_work, CLOCK_MONOTONIC, &until);
    else
        while (sem_wait(&all->spare_work) != 0 && errno == EINTR)
            ;
}

/* A spare worker: while there are rows that others have not claimed yet, it looks now and then whether they can. */
static void *run_spare(void *argument)
{
    struct worker *worker = argument;
    struct workers *all = worker->all;

    while (!__atomic_load_n(&all->stopping, __ATOMIC_RELAXED)) {
        const enum found found = work_once(worker);
        uint32_t *waiting = found == FOUND_OTHERS ? &all->napping : &all->spare_idle;

        if (found == FOUND_ROWS)
            continue;
        __atomic_fetch_add(waiting, 1, __ATOMIC_SEQ_CST);
        /* As in run, and with the fence there. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (work_once(worker) == found)
            rest(all, found);
        __atomic_fetch_sub(waiting, 1, __ATOMIC_SEQ_CST);
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

/* Drops entries that nobody can claim from any more: those at the front, or all of them, where there have come to be as many as
 * others (a feed that hangs keeps its entries at the front) or the queue is full. A slot has at most one entry that lives, so that
 * there is room then. True: others were moved, and a worker that looked meanwhile may have missed them. */
static bool clean(struct workers *all)
{
    uint64_t n = all->tail - all->head;
    bool whole = n == all->capacity || n > 2 * all->lively + STALE;
    struct entry entry;

    while (n-- > 0) {
        entry = all->queue[all->head & (all->capacity - 1)];
        if (slot_unclaimed(entry.slot, entry.generation) > 0 && !whole)
            return false;
        __atomic_store_n(&all->head, all->head + 1, __ATOMIC_RELAXED);
        if (slot_unclaimed(entry.slot, entry.generation) > 0)
            append(all, &entry);
    }
    all->lively = all->tail - all->head;
    return whole;
}

void workers_post(struct workers *all, struct feed *feed, struct slot *slot)
{
    const struct entry entry = { feed, slot, slot_generation(slot) };
    uint32_t rows = slot_unclaimed(slot, entry.generation), wake;
    const bool moved = clean(all);

    ahead_post(all->ahead, feed, slot);
    append(all, &entry);
    /* The tail and the slot's claim word are stored before idle is loaded; pairs with the fence in run. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wake = __atomic_load_n(&all->idle, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < wake && (moved || i < (rows + feed->claim_rows - 1) / feed->claim_rows); i++)
        sem_post(&all->work);
    wake = __atomic_load_n(&all->spare_idle, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < wake; i++)
        sem_post(&all->spare_work);
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
    const uint64_t threads = n_workers + spares(n_workers);

    return QUEUE * sizeof(struct entry) + threads * (sizeof(struct worker) + room_bytes(buffer_size, codec_size));
}

bool workers_reading(const struct workers *all, const struct feed *feed, uint64_t *id, int64_t *since_ns)
{
    bool any = false;

    for (uint32_t w = 0; w < workers_threads(all); w++) {
        const struct worker *worker = &all->workers[w];
        const int64_t since = __atomic_load_n(&worker->reading.since_ns, __ATOMIC_ACQUIRE);
        const uint64_t of = __atomic_load_n(&worker->reading.id, __ATOMIC_ACQUIRE);

        /* No two reads of a worker begin in the same nanosecond: it is still the one of which the sample was loaded. */
        if (!since || (any && since >= *since_ns) || __atomic_load_n(&worker->feed, __ATOMIC_ACQUIRE) != feed ||
            __atomic_load_n(&worker->reading.since_ns, __ATOMIC_RELAXED) != since)
            continue;
        *id = of;
        *since_ns = since;
        any = true;
    }
    return any;
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

static void wake_all(struct workers *all)
{
    for (uint32_t w = 0; w < workers_threads(all); w++)
        sem_post(w < all->n_workers ? &all->work : &all->spare_work);
}

int workers_make_room(struct workers *all, uint64_t buffer_size, uint64_t codec_size, struct problem *why)
{
    buffer_size = buffer_size > all->buffer_size ? buffer_size : all->buffer_size;
    codec_size = codec_size > all->codec_size ? codec_size : all->codec_size;
    if (buffer_size == all->buffer_size && codec_size == all->codec_size)
        return 0;
    for (uint32_t w = 0; w < workers_threads(all); w++) {
        struct room *room = room_create(buffer_size, codec_size);

        if (!room)
            return problem_set(why, -ENOMEM, "no memory for a worker's buffers of %llu bytes",
                               (unsigned long long)(buffer_size + codec_size));
        room_destroy(__atomic_exchange_n(&all->workers[w].larger, room, __ATOMIC_ACQ_REL));
    }
    all->buffer_size = buffer_size;
    all->codec_size = codec_size;
    wake_all(all); /* who sleeps gives its smaller room back */
    return 0;
}

/* Entries of a feed that ends can no longer be claimed, as its slots are FREE; but a worker that claims looks at the feed. */
void workers_forget(struct workers *all, struct feed *feed)
{
    uint64_t n = all->tail - all->head;

    ahead_forget(feed);
    while (n-- > 0) {
        struct entry entry = all->queue[all->head & (all->capacity - 1)];

        __atomic_store_n(&all->head, all->head + 1, __ATOMIC_RELAXED);
        if (entry.feed != feed)
            append(all, &entry);
    }
    /* The queue is seen without the feed before a turn is loaded; pairs with the fence in work_once. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void workers_pass(const struct workers *all, struct feed *feed)
{
    const struct timespec pause = { 0, 1000000 };

    ahead_pass(feed);
    for (uint32_t w = 0; w < workers_threads(all); w++) {
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

void workers_read_ahead(struct workers *all, struct ahead *ahead)
{
    all->ahead = ahead;
}

void workers_choose(struct workers *all, uint32_t n_workers)
{
    assert(all->n_workers == 0 && n_workers <= all->most);
    all->n_workers = n_workers;
}

int workers_start(struct workers *all, struct problem *why)
{
    for (uint32_t w = 0; w < workers_threads(all); w++) {
        struct worker *worker = &all->workers[w];
        int rc;

        if (worker->running)
            continue;
        worker->all = all;
        worker->number = w;
        worker->busy = true;
        worker->spare = w >= all->n_workers;
        rc = -pthread_create(&worker->thread, NULL, worker->spare ? run_spare : run, worker);
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
    sem_init(&all->spare_work, 0, 0);
    sem_init(&all->ended, 0, 0);
    all->capacity = QUEUE;
    all->queue = aligned_alloc(PF_LINE, all->capacity * sizeof(*all->queue));
    all->workers = aligned_alloc(PF_LINE, (most + spares(most)) * sizeof(*all->workers));
    if (rc == 0 && (!all->queue || !all->workers))
        rc = problem_set(why, -ENOMEM, "no memory for %u workers", most);
    if (rc < 0) {
        workers_destroy(all);
        return rc;
    }
    memset(all->queue, 0, all->capacity * sizeof(*all->queue)); /* faults it in, too */
    memset(all->workers, 0, (most + spares(most)) * sizeof(*all->workers));
    *out = all;
    return 0;
}

bool workers_stop(struct workers *all, int limit_ms)
{
    struct timespec until;

    __atomic_store_n(&all->stopping, true, __ATOMIC_RELAXED);
    wake_all(all);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_ms / 1000;
    until.tv_nsec += limit_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    /* Waited for here and joined below, as ThreadSanitizer takes threads joined by pthread_clockjoin_np for leaked ones. */
    for (uint32_t w = 0; w < workers_threads(all); w++)
        while (all->workers[w].running && sem_clockwait(&all->ended, CLOCK_MONOTONIC, &until) != 0)
            if (errno != EINTR)
                return false;
    for (uint32_t w = 0; w < workers_threads(all); w++)
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
    for (uint32_t w = 0; w < workers_threads(all); w++) {
        room_destroy(all->workers[w].room);
        room_destroy(all->workers[w].larger);
    }
    free(all->workers);
    free(all->queue);
    if (all->event >= 0)
        close(all->event);
    sem_destroy(&all->ended);
    sem_destroy(&all->spare_work);
    sem_destroy(&all->work);
    free(all);
}
