/* SPDX-License-Identifier: MIT */
/* A pfeedd that serves one consumer with real segments: what it grants, and how it answers, is the test's. */
#ifndef FAKE_LANE_H
#define FAKE_LANE_H

#include "fake_pfeedd.h"
#include "pfeed.h"
#include "ring.h"

enum { FAKE_SLOTS = 8, FAKE_ROWS = 4, FAKE_SLOT_BYTES = 4096 };

/* One daemon's life: its segments, and what it says of them. */
struct fake_lane {
    int fds[PF_ATTACH_FDS];
    uint8_t *arena; /* its own map of it, and of the pages */
    struct pf_grant_page *grants;
    struct pf_return_page *returns;
    struct pf_ctl_attached reply;
    uint64_t published;
};

enum fake_mode { FAKE_SERVES, FAKE_REFUSES, FAKE_HANGS_UP, FAKE_IS_SILENT };

struct fake_daemon {
    struct fake fake;
    struct fake_lane lane;
    /* How it answers; read and written under the lock. */
    pthread_mutex_t lock;
    enum fake_mode attach_mode, seek_mode;
    int code;          /* of a refusal */
    const char *text;  /* likewise */
    unsigned refusals; /* so many, with the codes of `codes`, before it serves; 0 in there: it hangs up */
    const int *codes;
    struct pf_ctl_place place;
    /* What it has heard. */
    unsigned n_attach, n_seek, n_why;
    struct pf_ctl_attach attach;
    struct pf_ctl_seek seek;
    int silent; /* the connection that waits for an answer */
};

/* N = 64 samples, 8 rows a step over all ranks, 8 steps an epoch, seed 7; one field "x" of 4 floats. */
void fake_daemon_start(struct fake_daemon *daemon);
void fake_daemon_stop(struct fake_daemon *daemon);
/* Killed; and another one, with segments of its own. */
void fake_daemon_fall(struct fake_daemon *daemon);
void fake_daemon_rise(struct fake_daemon *daemon);
/* How it answers from now on. */
void fake_attaches(struct fake_daemon *daemon, enum fake_mode mode, int code, const char *text);
void fake_seeks(struct fake_daemon *daemon, enum fake_mode mode, uint64_t epoch, uint64_t step);
unsigned fake_attached(struct fake_daemon *daemon); /* ATTACHes so far */
/* Grants step of epoch; its rows are its number. */
void fake_grant(struct fake_daemon *daemon, uint64_t epoch, uint64_t step, uint64_t flags);
/* Answers the ATTACH that was left open. */
void fake_serve_late(struct fake_daemon *daemon);
/* How often it was rung since this was last asked. */
uint64_t fake_rung(struct fake_daemon *daemon);
struct pfeed *fake_open(struct fake_daemon *daemon, int reconnect_ms, uint32_t flags);

#endif
