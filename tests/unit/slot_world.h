/* SPDX-License-Identifier: MIT */
/*
 * A feed without its threads, for test_slot.c and test_slot_random.c: the real feed.c, consumer.c, job.c and segment.c, in one
 * thread. Workers and trainers are simulated, the main loop runs exactly when the daemon's would (when something has marked the
 * feed dirty, or rung), and a process is an eventfd that stands for its pidfd. Whatever is done, these hold, or the test fails:
 *   - a slot that is FREE or FILLING has no grant out; every slot's count is the sum of what is out;
 *   - what a process took does not change until it was given back or the process is dead, dropped or not (never torn);
 *   - a rank gets its steps in order, without a hole (slow: skip: in order), up to the job's last one;
 *   - with no more jobs than attach lets in, everybody who returns goes on, whoever holds what elsewhere;
 *   - the daemon's loop comes to rest where nobody does anything.
 */
#ifndef SLOT_WORLD_H
#define SLOT_WORLD_H

#include "consumer.h"
#include "feed.h"

extern const struct deliver_ops deliver_split, deliver_each;

struct work { /* rows in a worker's hands */
    struct slot *slot;
    uint32_t first, count;
};

#define WORKS 4 /* workers */

struct world {
    struct config_feed config;
    struct feed feed;
    struct field field;
    struct sample_part part;
    struct loop *loop;
    struct work works[WORKS];
    bool asleep;    /* the main loop, until something happens */
    uint64_t spins; /* most turns of the main loop without a rest */
    uint64_t random;
};

extern struct world *here;
extern uint64_t now; /* the schedule that runs, for messages */

int world_setup(void **state); /* cmocka's, of each test: nobody is there */
void world_open(uint64_t seed, uint32_t n_slots, uint32_t rows, uint64_t samples, const struct deliver_ops *deliver, int tail);
void world_close(void);
uint32_t world_below(uint32_t n); /* random */

/* The main loop, until it would sleep; from then on it does nothing before somebody wakes it. */
void world_turns(void);
/* A worker that has rows finishes them; one that has none claims some of any slot. Whether there was any. */
bool world_work_once(uint32_t worker);
/* Until there is nothing more to fill. With nobody taking anything that is soon: 100 times all slots is a daemon that fills in
 * circles. */
void world_work(void);
void world_check(void);
/* Everybody who is not stalled works on until it has had `more` batches more, or its job's last. */
void world_must_go_on(uint64_t more, const char *what);
void world_must_rest(void);
void world_all_leave(void);

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

#define TRAINERS 12
#define HELD_MAX 8

struct held {
    struct pf_grant grant;
    uint64_t index;
};

struct trainer {
    struct consumer *c; /* NULL: not there */
    struct job *job;    /* as long as it is attached */
    bool hung_up;       /* quarantined: attached no more, but alive */
    bool stalled;       /* does nothing at all */
    bool hoards;        /* gives nothing back before it holds all that it may */
    uint32_t rank, world, max_held;
    uint64_t seed, epochs;
    bool skips;
    char name[16];
    int process; /* the eventfd that is its pidfd; closed by the consumer's end */
    struct pf_grant_page *grants;
    struct pf_return_page *returns;
    uint64_t next, returned, rung, told_returned, told_next;
    struct place expected;
    bool saw_last;
    uint64_t took; /* batches */
    uint32_t n_held;
    struct held held[HELD_MAX];
};

extern struct trainer trainers[TRAINERS];

/* NULL: refused, or all TRAINERS are there. */
struct trainer *trainer_attach(const char *name, uint32_t rank, uint32_t world, uint32_t batch, uint64_t seed, uint32_t max_held,
                               uint32_t epochs, uint32_t slow, struct problem *why);
struct trainer *trainer_must_attach(const char *name, uint32_t rank, uint32_t world, uint64_t seed, uint32_t max_held,
                                    uint32_t epochs, uint32_t slow);
int trainer_take(struct trainer *t); /* 1 took; 0 nothing is there */
void trainer_give_back(struct trainer *t, uint32_t which);
/* Takes all that it may, and does nothing more. */
void trainer_hold_all(struct trainer *t);
void trainer_leave(struct trainer *t);
/* Its process lives on. Whoever holds nothing is forgotten at once. */
void trainer_hang_up(struct trainer *t);
void trainer_die(struct trainer *t);

#endif
