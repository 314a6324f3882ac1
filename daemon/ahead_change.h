/* SPDX-License-Identifier: MIT */
/* What ahead.c has changed and the main thread has not told yet: whoever changes a depth may be in a turn of work, in which nothing
 * is logged. With the engine's lock. And the buffers of ahead_pool.c. */
#ifndef PFEED_AHEAD_CHANGE_H
#define PFEED_AHEAD_CHANGE_H

#include <stdint.h>

struct ahead;
struct ahead_read;
struct feed;

#define AHEAD_WHY     160
#define AHEAD_CHANGES 64 /* kept until they are told; one more: the oldest is lost */

struct ahead_change {
    struct feed *feed;
    uint32_t from, to;
    char why[AHEAD_WHY];
};

void ahead_changes_add(struct ahead *ahead, struct feed *feed, uint32_t from, uint32_t to, const char *why);
void ahead_changes_forget(struct ahead *ahead, const struct feed *feed);
/* Of a free read: its larger buffer, if there is one. */
void ahead_take_larger(struct ahead_read *read);

#endif
