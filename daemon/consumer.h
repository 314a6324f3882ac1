/* SPDX-License-Identifier: MIT */
/* An attached process: its lane, what it was granted, its death. Main thread. */
#ifndef PFEED_CONSUMER_H
#define PFEED_CONSUMER_H

#include <stdbool.h>

#include "feed.h"
#include "job.h"
#include "loop.h"
#include "ring.h"
#include "segment.h"

#define PF_COUNTER_feed(name)
#define PF_COUNTER_consumer(name)           uint64_t name;
#define PF_COUNTER(scope, name, unit, help) PF_COUNTER_##scope(name)
struct consumer_counters {
#include "counters.tbl"
};
#undef PF_COUNTER
#undef PF_COUNTER_feed
#undef PF_COUNTER_consumer

struct granted { /* one grant that is out */
    uint64_t number;
    struct place place;
    uint32_t slot, rows, padded;
    uint64_t left_out; /* rows of the epoch that come after its last step */
    int64_t since_ns;
};

struct connection; /* ctl.c's */

/*
 * ATTACHED -> QUARANTINED  (hung up without DETACH, or dropped, and its process lives)
 * ATTACHED -> freed        (DETACH, or its process is dead)
 * QUARANTINED -> freed     (its process is dead)
 */
enum consumer_state { CONSUMER_ATTACHED, CONSUMER_QUARANTINED };

struct consumer {
    struct consumer *next; /* in its feed */
    struct feed *feed;
    struct job *job;       /* NULL once quarantined */
    struct consumer *twin; /* the next one of the same rank: another replica */
    struct loop *loop;
    struct connection *connection; /* NULL once it has hung up */
    enum consumer_state state;
    uint64_t id;
    uint32_t rank, replica, max_held;
    uid_t uid;
    pid_t pid; /* 0: in a PID namespace that we cannot see */
    int64_t born_ns;
    struct watch process; /* its pidfd, or -1 */
    struct watch event;   /* its eventfd: never read, edge-triggered */
    struct segment grant_segment, return_segment;
    struct pf_grant_page *grants; /* NULL once quarantined */
    struct pf_return_page *returns;
    struct place at;      /* next step to be granted */
    struct place ahead;   /* fill_wanted's own (feed.c) */
    bool had_untaken;     /* when fill_wanted looked last */
    bool held_back;       /* in this turn of fill_wanted: it waits for another job, also with all that is further ahead */
    int64_t starved_ns;   /* since when it has nothing to take and cannot be given a slot; 0: it is not so */
    int64_t active_ns;    /* when it last took, returned or rang */
    int64_t returned_ns;  /* when it last returned; 0: never */
    uint64_t waited_ns;   /* that it said when it last returned */
    bool asleep;          /* when its job was parked it slept in pfeed_next: that it still does says nothing */
    bool stalls, rang;    /* while its job is parked: it is one that held others up, or a new one; it has rung since */
    struct place untaken; /* think_back's own (slot_obtain.c) */
    uint64_t published;   /* grants */
    bool told_end;        /* a grant said so that the job is over */
    uint64_t seeks;       /* that it followed */
    uint64_t sought;      /* `published` at the last one: what is out from before says nothing of where it stands */
    uint64_t tail;        /* returns that were read */
    uint64_t taken;       /* least value that pf_return_page.taken may have */
    uint64_t wake_at;     /* as stored last; UINT64_MAX: not asked */
    uint32_t n_out;
    struct granted out[PF_RING]; /* by number, ascending */
    char job_name[PF_JOB_NAME];
    char broken[160]; /* the rule that it broke, or "" */
    struct consumer_counters counters;
};

struct consumer_peer {
    pid_t pid;
    uid_t uid;
    int pidfd; /* -1: none; consumer_attach takes it over on success */
};

/* What a request asks for. */
static inline uint32_t consumer_max_held(const struct feed *feed, const struct pf_ctl_attach *request)
{
    return request->max_held ? request->max_held : (uint32_t)feed->config->max_held;
}
/* Finds or makes the job, makes the lane. On success *reply and fds (to be sent; they stay the consumer's) are filled. */
int consumer_attach(struct consumer **out, struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                    const struct consumer_peer *peer, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS], struct problem *why);
/* Its next step is another one from now on (consumer_seek.c): what it did not take is void. *out: where it stands then. */
int consumer_seek(struct consumer *c, const struct pf_ctl_seek *request, struct place *out, struct problem *why);
/* The peer says that all is given back and unmapped. Frees c. */
void consumer_detach(struct consumer *c);
/* Its socket has hung up. Frees c where its process is dead or cannot be seen, else quarantines it. */
void consumer_hangup(struct consumer *c);
/* Ends it for a reason of ours; what it took stays claimed until its process is dead. The connection is told and closed. */
void consumer_drop(struct consumer *c, enum pf_closed closed, const char *sentence);
/* A newer run of the job takes its place: all its ranks are dropped. */
void consumer_supersede(struct feed *feed, struct job *job, uint64_t run);
/* At the daemon's end: frees without a word. */
void consumer_destroy(struct consumer *c);

/* Reads its returns, at most one ring's length. False: it broke the rules, and consumer_check will drop it. */
bool consumer_drain(struct consumer *c);
/* All of the job's may know that it has started: before any of them is granted anything. */
void consumer_tell_started(struct job *job);
/* Grants whatever is ready for it. */
void consumer_grant(struct consumer *c);
/* Tells it that the job is over, where no grant has. */
void consumer_end(struct consumer *c);
/* How many grants may be out. */
uint32_t consumer_room(const struct consumer *c);
/* Takes back all that it did not take yet. False: as above. */
bool consumer_revoke(struct consumer *c);
/* Drops it if it broke the rules: false. */
bool consumer_check(struct consumer *c);
/* What it took and did not return, as far as its word can be believed: how many, and whether rows of that slot. */
uint32_t consumer_held(const struct consumer *c);
bool consumer_holds(const struct consumer *c, uint32_t slot);
/* Whether rows of that slot are out to it, taken or not. */
bool consumer_has(const struct consumer *c, uint32_t slot);
/* Where it would stand if all that it did not take yet were revoked. */
struct place consumer_untaken(const struct consumer *c);
static inline bool consumer_started(const struct consumer *c)
{
    return c->state == CONSUMER_ATTACHED && c->job->started && !c->job->parked;
}
static inline bool consumer_runs(const struct consumer *c)
{
    return consumer_started(c) && !job_over(c->job, c->at);
}

/* Between the consumer*.c files only. */
struct consumer *consumer_make(struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                               const struct consumer_peer *peer); /* in no list yet; NULL: no memory */
int consumer_make_lane(struct consumer *c, struct problem *why);
void consumer_wake(struct consumer *c);
void consumer_settle(struct consumer *c, uint32_t i); /* takes entry i off the list of what is out */
void consumer_take_back(struct consumer *c);          /* the last grant that is out, as if it had not been given */
void consumer_last_returns(struct consumer *c);       /* what it had returned before its end counts as returned */

uint32_t consumer_dropped(void); /* since start, for what they wrote */
uint32_t consumer_count(void);   /* that there are, attached and quarantined */

#endif
