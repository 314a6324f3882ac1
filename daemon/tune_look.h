/* SPDX-License-Identifier: MIT */
/* Asks the rules of tuning (tune_rule.h) what follows from the figures of all feeds (tune_feed.h), and does it. Main thread. */
#ifndef PFEED_TUNE_LOOK_H
#define PFEED_TUNE_LOOK_H

#include <stdbool.h>

struct daemon;

/* After the feeds' turns. True: one of them has something to do for it. */
bool tune_look(struct daemon *daemon);

#endif
