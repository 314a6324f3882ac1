/* SPDX-License-Identifier: MIT */
/* Slots that memory was short of at the start (memory.h), and further ones that tuning asks for: they are made one by one as there is memory for them. Main thread; the memory itself is
 * made by chores. */
#ifndef PFEED_GROW_H
#define PFEED_GROW_H

struct daemon;

/* Once a turn: sees to it that somebody tries every second where slots are missing, and nobody where none are. */
void grow_look(struct daemon *daemon);
void grow_destroy(struct daemon *daemon); /* when the chores have stopped */

#endif
