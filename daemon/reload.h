/* SPDX-License-Identifier: MIT */
/* Feeds come and go: all of them at the start, later what SIGHUP, `pfeedctl reload` and `pfeedctl rescan` change. The new
 * configuration is read and checked whole before anything changes; samples are listed, memory is made and given back by chores,
 * so that jobs on other feeds never notice. Main thread.
 *
 * A feed whose configuration is unchanged stays as it is. One that has changed, or is listed anew, is made a second time for
 * new jobs; the old one is RETIRED and serves its jobs until their last rank is gone. */
#ifndef PFEED_RELOAD_H
#define PFEED_RELOAD_H

#include "server.h"

struct reload_ask {
    struct config *config;   /* to be taken over; NULL: read it again from where the present one is */
    bool rescan;             /* list the samples anew, */
    char feed[PF_FEED_NAME]; /* of this feed; "": of all */
    /* Called once. rc 0, or -errno: nothing has changed. report: lines, "" where nothing was to do. */
    void (*ended)(void *context, int rc, const char *report);
    void *context;
};

/* -EBUSY while another one is in progress; ended is not called then. */
int reload_begin(struct daemon *daemon, const struct reload_ask *ask, struct problem *why);
/* Whoever asked has gone: ended is not called for that context. */
void reload_forget(struct daemon *daemon, const void *context);
/* Brings the daemon's status up to date: how far a change in progress is. */
void reload_look(struct daemon *daemon);
/* After each turn: ends retired feeds that nobody uses any more. */
void reload_reap(struct daemon *daemon);
/* The daemon stops: no listing goes on. After chores_stop: destroy. */
void reload_cancel(struct daemon *daemon);
void reload_destroy(struct daemon *daemon);
/* For --check: opens all feeds of config in turn, prints every error, keeps nothing. */
int reload_check(struct config *config, FILE *errors);

#endif
