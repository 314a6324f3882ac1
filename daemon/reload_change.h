/* SPDX-License-Identifier: MIT */
/* The change of the set of feeds that is in progress: what the files around reload.c share. A chore alone touches it while one
 * runs, the main thread otherwise. */
#ifndef PFEED_RELOAD_CHANGE_H
#define PFEED_RELOAD_CHANGE_H

#include <stdio.h>

#include "chore.h"
#include "memory.h"
#include "reload.h"

struct change {
    struct chore chore;
    struct daemon *daemon;
    struct reload_ask ask;
    struct config *config;
    bool first;              /* the daemon starts */
    struct memory_plan plan; /* also: the new set, in the configuration's order; a kept feed is RUNNING, a new one OPENING */
    uint32_t n_ending;
    struct feed **ending; /* no longer in daemon->feeds */
    struct source_progress progress;
    const char *listing;          /* atomic: name of the feed that is being listed */
    struct watch timer;           /* says how far it is */
    FILE *errors, *report, *gone; /* gone: names of feeds that have ended already */
    char *errors_text, *report_text, *gone_text;
    size_t errors_size, report_size, gone_size;
    int rc;
};

/* reload_change.c: reads the configuration, and opens the feeds that are new or have changed; on the chore's thread. */
void reload_list(struct chore *chore);
/* With the feeds that were not published. */
void reload_change_destroy(struct change *change);

/* reload.c, main thread: the sentence of the status, when nothing special is going on. */
void reload_say(struct daemon *daemon);
/* reload_ending.c: of feeds that were to end, when the chores have stopped. */
void reload_endings_destroy(struct daemon *daemon);

#endif
