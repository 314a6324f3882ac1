/* SPDX-License-Identifier: MIT */
/* A pfeedd in a private folder: start (until READY=1), stop, kill, look inside over its control socket and /proc. Any failure
 * fails the test and prints what the daemon wrote. */
#ifndef DAEMON_H
#define DAEMON_H

#include "ctl.h"
#include "harness.h"

struct daemon {
    pid_t pid;           /* 0: does not run */
    int notify, control; /* READY=1 comes here; a connection for stat rows, opened when ready */
    char folder[64], socket[96], config[96], output[96];
};

/* NULL, or what the process that becomes pfeedd does just before: its mounts, its limits. */
extern void (*daemon_prepare)(void);

/* In a new folder. Returns when it is ready. */
void daemon_start(struct daemon *daemon, const char *yaml);
/* Where it may refuse to start: its exit status, or -1 when it is ready. */
int daemon_try(struct daemon *daemon, const char *yaml);
/* In a new folder, without waiting for anything; then: whether its socket is there by now, and `control` connected to it. */
void daemon_begin(struct daemon *daemon, const char *yaml);
bool daemon_connects(struct daemon *daemon);
/* Once more, in the same folder; daemon_run likewise where it may refuse. */
void daemon_again(struct daemon *daemon);
int daemon_run(struct daemon *daemon);
/* Writes yaml (NULL: leaves the file as it is) and asks for a reload, or a rescan of feed ("": of all). The report's code; report:
 * its lines, to be freed, or NULL. */
int daemon_reload(struct daemon *daemon, const char *yaml, const char *rescan, char **report);
/* SIGTERM; must exit with 0 within 2 s. */
void daemon_stop(struct daemon *daemon);
/* SIGKILL; returns when it is dead. */
void daemon_kill(struct daemon *daemon);
/* It must die by itself: of which signal. */
int daemon_dies(struct daemon *daemon);
/* The last 64 KiB of what it has written; to be freed. */
char *daemon_output(const struct daemon *daemon);

/* For harness.c: all daemons of this test. */
void daemons_print(void);
void daemons_forget(void); /* in a trainer: closes what it inherited */
void daemons_end(void);    /* stops those that run, removes the folders */

/* ---- looking inside ------------------------------------------------------------------------------------------------- */

void stat_daemon(struct daemon *daemon, struct pf_row_daemon *row);
void stat_feed(struct daemon *daemon, const char *feed, struct pf_row_feed *row);
/* How many there are; at most max are stored. */
size_t stat_feeds(struct daemon *daemon, struct pf_row_feed *rows, size_t max);
size_t stat_errors(struct daemon *daemon, const char *feed, struct pf_row_error *rows, size_t max);
size_t stat_slots(struct daemon *daemon, const char *feed, struct pf_row_slot *rows, size_t max);
size_t stat_jobs(struct daemon *daemon, const char *feed, struct pf_row_job *rows, size_t max);
size_t stat_consumers(struct daemon *daemon, const char *feed, struct pf_row_consumer *rows, size_t max);
size_t stat_caches(struct daemon *daemon, const char *feed, struct pf_row_cache *rows, size_t max);
size_t stat_tune(struct daemon *daemon, const char *feed, struct pf_row_tune *rows, size_t max);
size_t stat_changes(struct daemon *daemon, const char *feed, struct pf_row_change *rows, size_t max);
/* For conditions. */
struct pf_row_feed feed_now(struct daemon *daemon, const char *feed);
/* Whether nobody has anything: no consumer, every slot free or ready, no grant out. */
bool feed_at_rest(struct daemon *daemon, const char *feed);

struct process {
    unsigned descriptors, threads;
    uint64_t rss_bytes, anon_bytes, shmem_bytes; /* resident; of it private memory, shared memory (the rest is files: its code) */
    uint64_t switches;                           /* context switches of all threads: how often one of them ran */
    uint64_t faults;                             /* pages touched for the first time, or again, without any reading */
};
void process_read(pid_t pid, struct process *process);    /* all but the memory */
void process_measure(pid_t pid, struct process *process); /* with it */

#endif
