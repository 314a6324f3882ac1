/* SPDX-License-Identifier: MIT */
/* One thread for what the main thread must not wait for: listing folders, reserving and touching memory, giving it back. Chores
 * run one after another, in the order in which they were added. Main thread, but for chore.run. */
#ifndef PFEED_CHORE_H
#define PFEED_CHORE_H

#include <stdbool.h>

#include "log.h"
#include "loop.h"

struct chore {
    void (*run)(struct chore *chore);  /* on the thread; owns what it works on until then */
    void (*done)(struct chore *chore); /* on the main thread, afterwards; may free the chore and add others */
    struct chore *next;
};

struct chores;

int chores_create(struct chores **out, struct loop *loop, struct problem *why);
void chores_add(struct chores *chores, struct chore *chore); /* its memory stays until done */
/* Lets those that were added end, for up to limit_ms; `done` is not called. False: one is stuck, and nothing may be freed. */
bool chores_stop(struct chores *chores, int limit_ms);
void chores_destroy(struct chores *chores); /* after chores_stop said true; or NULL */

#endif
