/* SPDX-License-Identifier: MIT */
/* Why a path is closed to this process, for people. Called by feed_open.c for what a source could not open; thread of chores. */
#ifndef PFEED_REACH_H
#define PFEED_REACH_H

#include <stdbool.h>
#include <stddef.h>

/* Whether permissions are what bars the way to path (which may end in a pattern), or reading it. The text says who this process
 * is, what bars it, and what to do. */
bool reach_barred(const char *path, char *text, size_t size);

#endif
