/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: cursors. An input is a feed and a sequence of moves of honest trainers on it: attach (fresh, live, with a token, after
 * a daemon's death, as a newer run), take, give back, seek, stand still, leave in every way; in one thread, over the real feed.c,
 * consumer*.c, job.c, slot*.c, group.c, park.c, queue.c and start.c, with a clock that only the input moves. Beside it runs a model
 * (cursors_model.h). Whatever is done:
 *   - each trainer gets its own next step, in the rows that the model counts, and what it holds does not change;
 *   - who is let in stands where the model says; who is refused has changed nothing;
 *   - no step of a queue is lost; a job whose ranks all stay sees each row of an epoch once;
 *   - at the end everybody who asks goes on, also beside a job that stands still and may be parked;
 *   - the daemon rests where nobody does anything, and when all have gone all slots are free.
 */
#include <time.h>

#include "cursors_moves.h"
#include "server.h"
#include "worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

#define MOVES    160
#define ROUNDS   400 /* in which everybody must have gone on */
#define ROUND_NS 1000000
#define LONG_NS  INT64_C(100000000000000) /* 10 of the longest steps that an input can make */

/* ---- what the daemon would bring along ------------------------------------------------------------------------------ */

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    if (!playing || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, out);
    *out = (struct timespec){ clock_ns / 1000000000, clock_ns % 1000000000 };
    return 0;
}

bool workers_reading(const struct workers *workers, const struct feed *of, uint64_t *id, int64_t *since_ns)
{
    return false;
}

void workers_post(struct workers *workers, struct feed *of, struct slot *slot)
{
    (void)workers;
    (void)of;
    assert(slot->state == PF_SLOT_FILLING);
    posted[slot->number] = ++posts;
}

void server_close(struct connection *connection)
{
    (void)connection;
    abort(); /* nobody is connected */
}

void server_tell(struct connection *connection, const char *sentence)
{
    (void)connection;
    (void)sentence;
    abort();
}

/* ---- everybody goes on ---------------------------------------------------------------------------------------------- */

/* Everybody who does not stand still gives back all, and takes what there is. */
static void round_of_all(void)
{
    reached.rounds++;
    work_all();
    for (int i = 0; i < PLAYERS; i++) {
        if (players[i].state != THERE || players[i].stands)
            continue;
        while (players[i].n_held > 0)
            give_back(&players[i], 0);
        while (take(&players[i]))
            ;
    }
    clock_ns += ROUND_NS;
    turns();
}

/* attach counts slots for one process of a job, and those of a queue want different ones: with too few, one of them may wait until
 * the others are through. */
static bool one_suffices(void)
{
    uint32_t need = 0;

    for (int i = 0; i < PLAYERS; i++)
        need += players[i].state == THERE ? (players[i].max_held + 2) * players[i].job->step_slots : 0;
    return rules.mode == 'f' && need > rules.slots;
}

static bool must_go_on(const struct player *p)
{
    return p->state == THERE && !p->stands && p->c->job->started;
}

static void all_go_on(void)
{
    uint64_t goals[PLAYERS];
    int rounds = 0;
    bool all = false, any = false;

    round_of_all();
    clock_ns += INT64_C(2000000000); /* gang_wait */
    turns();
    for (int i = 0; i < PLAYERS; i++)
        goals[i] = players[i].steps + 3;
    for (int i = 0; i < PLAYERS; i++)
        assert(players[i].state != THERE || players[i].c->job->started || !players[i].job->ready);
    while (!all && rounds++ < ROUNDS) {
        if (rounds == ROUNDS / 2)
            clock_ns += LONG_NS; /* whoever may be parked, is */
        round_of_all();
        all = true;
        for (int i = 0; i < PLAYERS; i++) {
            const bool has = players[i].over || players[i].steps >= goals[i];

            all &= !must_go_on(&players[i]) || has;
            any |= must_go_on(&players[i]) && has;
        }
        all |= any && one_suffices();
    }
    assert(all);
}

/* Of two jobs one stands still as a whole, and there are slots to fill for both apart. */
static bool may_be_parked(void)
{
    int n = 0, stand = 0;

    for (int j = 0; j <= PLAYERS; j++) {
        bool all = true, any = false;

        if (!jobs[j].there)
            continue;
        for (int i = 0; i < PLAYERS; i++)
            if (players[i].state == THERE && players[i].job == &jobs[j]) {
                all &= players[i].stands;
                any |= players[i].stands;
            }
        if (any && !all)
            return false; /* ranks of a job wait for each other */
        n++;
        stand += all && jobs[j].slow == PF_SLOW_PARK;
    }
    return n == 2 && stand == 1 && others_need(NULL, NULL) <= rules.slots;
}

static void check_end(void)
{
    for (int i = 0; i < PLAYERS; i++) {
        if (players[i].state == QUARANTINED)
            die(&players[i]);
        if (players[i].state == THERE && players[i].stands)
            pf_grants_awake(players[i].c->returns);
    }
    turns();
    if (may_be_parked())
        all_go_on();
    for (int i = 0; i < PLAYERS; i++)
        players[i].stands = false;
    all_go_on();
    for (int j = 0; j <= PLAYERS; j++)
        for (uint64_t e = 0;
             jobs[j].there && jobs[j].clean && rules.mode != 'f' && e < EPOCHS && rear_of(&jobs[j]) >= (e + 1) * jobs[j].steps;
             e++)
            model_check_epoch(&rules, &jobs[j], e);
}

static void all_leave(struct bytes *bytes)
{
    for (int i = 0; i < PLAYERS; i++)
        leave(&players[i], bytes_next(bytes));
    for (int i = 0; i < PLAYERS; i++)
        leave(&players[i], 2);
    work_all();
    turns();
    assert(!feed->jobs && !feed->consumers && consumer_count() == 0);
    for (uint32_t s = 0; s < feed->n_slots; s++)
        assert(feed->slots[s].state == PF_SLOT_FREE && feed->slots[s].grants == 0);
    reached.revoked += feed->counters.slots_evicted;
}

static void move(struct bytes *bytes)
{
    const uint8_t what = bytes_next(bytes);
    struct player *p = &players[what >> 4 & 7];

    switch (what & 15) {
    case 0:
    case 1:
        attach(p, bytes);
        break;
    case 2:
    case 3:
    case 4:
        if (!p->stands)
            take(p);
        break;
    case 5:
    case 6:
        if (!p->stands)
            give_back(p, what & 1 ? 0 : what >> 7 ? 2 : 1);
        break;
    case 7:
        work_once(&works[what >> 4 & 1], 1 + (what >> 5 & 3));
        break;
    case 8:
        work_all();
        break;
    case 9:
        turn();
        break;
    case 10:
        turns();
        break;
    case 11:
        seek(p, bytes);
        break;
    case 12:
        leave(p, bytes_next(bytes));
        break;
    case 13:
        clock_ns += INT64_C(1000000) << (what >> 4);
        break;
    case 14:
        p->stands = what >> 7;
        if (p->state == THERE && p->stands)
            pf_grants_awake(p->c->returns); /* it has waited in vain, and does something else */
        else if (p->state == THERE)
            ring(p);
        break;
    default:
        round_of_all();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, data + size };

    log_init(LOG_ERROR);
    playing = true;
    world_open(&bytes);
    for (int i = 0; i < MOVES && bytes.at < bytes.end; i++)
        move(&bytes);
    check_end();
    all_leave(&bytes);
    world_close();
    playing = false;
    return 0;
}

void fuzz_replayed(void)
{
    printf("%llu attached, %llu refused, %llu taken, %llu seeks, %llu parked, %llu evicted, %llu came back, %llu rounds\n",
           (unsigned long long)reached.attached, (unsigned long long)reached.refused, (unsigned long long)reached.taken,
           (unsigned long long)reached.sought, (unsigned long long)reached.parked, (unsigned long long)reached.revoked,
           (unsigned long long)reached.resumed, (unsigned long long)reached.rounds);
    assert(reached.attached >= 40 && reached.refused >= 1 && reached.taken >= 400 && reached.sought >= 8 && reached.parked >= 2 &&
           reached.revoked >= 1 && reached.resumed >= 4);
}
