/* SPDX-License-Identifier: MIT */
/*
 * The control socket: SOCK_SEQPACKET, one struct a message, fixed sizes, host byte order (it never leaves the host). Every
 * message begins with pf_ctl_head. A client sends one request and reads its reply before the next one; ATTACH is a connection's
 * last request but for WHY, SEEK and DETACH. Strings are zero-terminated within their arrays; a daemon that finds one that is not
 * refuses the message. Descriptors travel from daemon to client only. Whoever sends more than 5,000 messages a second (SEEK counts as 100), or owes
 * its first one (or leaves an answer unread) for longer than `daemon: patience`, gets an ERROR and is hung up on.
 *
 * So that trainers outlive an upgrade, ATTACH, ATTACHED and PLACE may grow at their ends. A daemon takes what an ATTACH does not
 * have yet as 0, and refuses one that says more than it knows, unless that is 0; a client skips what it does not know of an answer.
 */
#ifndef PF_CTL_H
#define PF_CTL_H

#include "layout.h"
#include "token.h"

#define PF_CTL_VERSION 1u
#define PF_CTL_MAX     8192u /* bytes of the largest message */
#define PF_JOB_NAME    64u
#define PF_RANKS_TEXT  256u
#define PF_START_TEXT  384u /* room for a token: token.h */
#define PF_FAILED_TEXT 904u
#define PF_WORLD_MAX   65536u

enum pf_ctl_type {
    PF_CTL_ATTACH = 1,  /* pf_ctl_attach -> pf_ctl_attached and 4 descriptors */
    PF_CTL_WHY = 2,     /* pf_ctl_head -> pf_ctl_text: what this consumer waits for */
    PF_CTL_DETACH = 3,  /* pf_ctl_head -> pf_ctl_head: all was given back and unmapped */
    PF_CTL_STAT = 4,    /* pf_ctl_stat -> any number of pf_ctl_rows, the last with more = 0 */
    PF_CTL_PEEK = 5,    /* pf_ctl_stat (feed) -> pf_ctl_head and 1 descriptor: the feed's arena */
    PF_CTL_STOP = 6,    /* pf_ctl_head -> pf_ctl_head, then the daemon stops */
    PF_CTL_RELOAD = 7,  /* pf_ctl_reload -> any number of pf_ctl_report, the last with more = 0 */
    PF_CTL_SEEK = 8,    /* pf_ctl_seek -> pf_ctl_place: an attached rank's next step is another one from now on */
    PF_CTL_ERROR = 100, /* reply: pf_ctl_error */
    PF_CTL_OK = 101,    /* reply: pf_ctl_head */
    PF_CTL_ATTACHED = 102,
    PF_CTL_TEXT = 103,
    PF_CTL_ROWS = 104,
    PF_CTL_REPORT = 105,
    PF_CTL_PLACE = 106,
};

struct pf_ctl_head {
    uint16_t version; /* PF_CTL_VERSION */
    uint16_t type;    /* enum pf_ctl_type */
    uint32_t size;    /* of the whole message */
};
PF_STATIC_ASSERT(sizeof(struct pf_ctl_head) == 8, "pf_ctl_head");

#define PF_ATTACH_SEED 1u /* seed is given */
#define PF_ATTACH_PEEK 2u /* somebody looks in: no gang, not counted as a rank of one */
/* The rank had been attached to a daemon that died, has drained what was granted, and states its own next step in `start` (a
 * token): it is served at once, whoever else is there (DESIGN.md section 8). */
#define PF_ATTACH_RECONNECT      4u
#define PF_ATTACH_ACCEPT_CHANGED 8u  /* take the token's place although data, recipe, order or batch have changed */
#define PF_ATTACH_UNBEGUN        16u /* with RECONNECT: its job had not started (pf_grant_page.started) */

enum pf_slow { PF_SLOW_FEED = 0, PF_SLOW_BLOCK = 1, PF_SLOW_SKIP = 2, PF_SLOW_PARK = 3 };

struct pf_ctl_attach {
    struct pf_ctl_head head;
    char feed[PF_FEED_NAME], job[PF_JOB_NAME]; /* job "": private */
    char local_ranks[PF_RANKS_TEXT];           /* "": all */
    char start[PF_START_TEXT];                 /* "" or "fresh", "live", "live:epoch", or a token (token.h) */
    uint32_t rank, world;
    uint32_t batch, epochs; /* 0: default */
    uint64_t seed, run;
    uint32_t max_held; /* 0: default */
    uint32_t slow;     /* enum pf_slow */
    uint32_t flags;    /* PF_ATTACH_* */
    uint32_t incompat; /* bits that the client knows: PF_INCOMPAT_KNOWN */
    uint32_t replica;  /* which of the consumers that get this rank's ranges */
    uint32_t seeks;    /* with RECONNECT: how many it has followed */
};
PF_PIN(pf_ctl_attach, rank, 776);
PF_PIN(pf_ctl_attach, feed, 8);
PF_PIN(pf_ctl_attach, job, 72);
PF_PIN(pf_ctl_attach, local_ranks, 136);
PF_PIN(pf_ctl_attach, start, 392);
PF_PIN(pf_ctl_attach, world, 780);
PF_PIN(pf_ctl_attach, batch, 784);
PF_PIN(pf_ctl_attach, epochs, 788);
PF_PIN(pf_ctl_attach, seed, 792);
PF_PIN(pf_ctl_attach, run, 800);
PF_PIN(pf_ctl_attach, max_held, 808);
PF_PIN(pf_ctl_attach, slow, 812);
PF_PIN(pf_ctl_attach, flags, 816);
PF_PIN(pf_ctl_attach, incompat, 820);
PF_PIN(pf_ctl_attach, replica, 824);
PF_PIN(pf_ctl_attach, seeks, 828);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_attach) == 832, "pf_ctl_attach");
#define PF_ATTACH_LEAST offsetof(struct pf_ctl_attach, replica) /* bytes of the shortest request that is understood */

/* The reply's descriptors, in this order. */
enum pf_attach_fd { PF_FD_ARENA, PF_FD_GRANT, PF_FD_RETURN, PF_FD_EVENT, PF_ATTACH_FDS };

struct pf_ctl_attached {
    struct pf_ctl_head head;
    uint64_t consumer;           /* id, for pfeedctl */
    uint64_t arena_size;         /* bytes */
    uint64_t samples, steps;     /* N; steps of an epoch */
    uint64_t epoch, step;        /* the first grant's */
    uint32_t batch, world_batch; /* b, G */
    uint32_t max_held, spin_ns;  /* in force; how long to spin before sleeping */
    char version[32];            /* of the daemon */
    uint64_t seed;               /* of the order and the augmentations */
    struct pf_prints prints;     /* of what is fed: the token's */
    uint64_t epochs;             /* the job's end; 0: it has none */
};
PF_PIN(pf_ctl_attached, batch, 56);
PF_PIN(pf_ctl_attached, consumer, 8);
PF_PIN(pf_ctl_attached, arena_size, 16);
PF_PIN(pf_ctl_attached, samples, 24);
PF_PIN(pf_ctl_attached, steps, 32);
PF_PIN(pf_ctl_attached, epoch, 40);
PF_PIN(pf_ctl_attached, step, 48);
PF_PIN(pf_ctl_attached, world_batch, 60);
PF_PIN(pf_ctl_attached, max_held, 64);
PF_PIN(pf_ctl_attached, spin_ns, 68);
PF_PIN(pf_ctl_attached, version, 72);
PF_PIN(pf_ctl_attached, seed, 104);
PF_PIN(pf_ctl_attached, prints, 112);
PF_PIN(pf_ctl_attached, epochs, 136);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_attached) == 144, "pf_ctl_attached");

/* where: a token, "epoch:E" or "restart". Every rank of the job asks the same, each at its own time; what was granted and not
 * taken is void when the answer comes, what is held stays held. */
struct pf_ctl_seek {
    struct pf_ctl_head head;
    char where[PF_START_TEXT];
    uint32_t flags; /* PF_ATTACH_ACCEPT_CHANGED */
    uint32_t reserved;
};
PF_PIN(pf_ctl_seek, where, 8);
PF_PIN(pf_ctl_seek, flags, 392);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_seek) == 400, "pf_ctl_seek");

struct pf_ctl_place {
    struct pf_ctl_head head;
    uint64_t epoch, step; /* the rank's next one */
};
PF_PIN(pf_ctl_place, epoch, 8);
PF_PIN(pf_ctl_place, step, 16);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_place) == 24, "pf_ctl_place");

struct pf_ctl_error {
    struct pf_ctl_head head;
    int32_t code; /* -errno */
    uint32_t reserved;
    char text[1008]; /* a sentence and what to do about it */
};
PF_PIN(pf_ctl_error, code, 8);
PF_PIN(pf_ctl_error, text, 16);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_error) == 1024, "pf_ctl_error");

struct pf_ctl_text {
    struct pf_ctl_head head;
    char text[1016];
};
PF_PIN(pf_ctl_text, text, 8);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_text) == 1024, "pf_ctl_text");

#define PF_RELOAD_RESCAN 1u /* list the samples anew, also of feeds whose configuration is unchanged */

struct pf_ctl_reload {
    struct pf_ctl_head head;
    uint32_t flags; /* PF_RELOAD_* */
    uint32_t reserved;
    char feed[PF_FEED_NAME]; /* with RESCAN: only this one; "": all */
};
PF_PIN(pf_ctl_reload, flags, 8);
PF_PIN(pf_ctl_reload, feed, 16);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_reload) == 80, "pf_ctl_reload");

struct pf_ctl_report {
    struct pf_ctl_head head;
    int32_t code; /* 0, or -errno: nothing has changed, and the lines say why */
    uint32_t more;
    char text[4080]; /* a part of the lines */
};
PF_PIN(pf_ctl_report, code, 8);
PF_PIN(pf_ctl_report, more, 12);
PF_PIN(pf_ctl_report, text, 16);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_report) == 4096, "pf_ctl_report");

enum pf_stat_what {
    PF_STAT_DAEMON = 1,
    PF_STAT_FEEDS = 2,
    PF_STAT_SLOTS = 3,
    PF_STAT_CONSUMERS = 4,
    PF_STAT_ERRORS = 5,
    PF_STAT_JOBS = 6,
    PF_STAT_CHANGES = 7,
    PF_STAT_CACHES = 8,
    PF_STAT_TUNE = 9,
    PF_STAT_LAST = PF_STAT_TUNE
};

struct pf_ctl_stat {
    struct pf_ctl_head head;
    uint32_t what; /* enum pf_stat_what */
    uint32_t reserved;
    char feed[PF_FEED_NAME]; /* "": all */
};
PF_PIN(pf_ctl_stat, what, 8);
PF_PIN(pf_ctl_stat, feed, 16);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_stat) == 80, "pf_ctl_stat");

/* A reply's rows follow it: count structs of row_size bytes each, of the kind that was asked for. */
struct pf_ctl_rows {
    struct pf_ctl_head head;
    uint32_t what, count, row_size, more;
};
PF_PIN(pf_ctl_rows, what, 8);
PF_PIN(pf_ctl_rows, count, 12);
PF_PIN(pf_ctl_rows, row_size, 16);
PF_PIN(pf_ctl_rows, more, 20);
PF_STATIC_ASSERT(sizeof(struct pf_ctl_rows) == 24, "pf_ctl_rows");

struct pf_row_daemon { /* PF_STAT_DAEMON: one */
    char version[32];
    char shm[16]; /* "memfd" or "posix" */
    char config[256];
    char status[256]; /* the sentence of sd_notify's STATUS */
    uint64_t pid, uptime_ns;
    uint64_t memory_bytes, memory_used_bytes; /* the budget; what arenas, scratch and tables take of it */
    uint64_t cpu_ns;                          /* of the whole process */
    uint32_t workers, workers_busy;
    uint32_t feeds, consumers, quarantined; /* quarantined: dropped, but their process lives */
    uint32_t dropped;                       /* consumers dropped for what they wrote, since start */
    uint64_t wakeups;                       /* turns of the main loop */
    char reads[256];                        /* by which means samples are read, and how far ahead of the workers */
};

#define PF_COUNTER_feed(name)
#define PF_COUNTER_consumer(name)

struct pf_row_feed { /* PF_STAT_FEEDS */
    char name[PF_FEED_NAME];
    char state[16]; /* "running"; "retired": changed by a reload, serves only the jobs that it has */
    char source[32], deliver[16], tail[16], shuffle[16];
    char failed[PF_FAILED_TEXT]; /* why the feed has failed, or "" */
    uint64_t samples, seed, slot_bytes;
    uint32_t batch, n_slots;
    uint32_t free, filling, ready, held; /* held: ready and granted to somebody */
    uint32_t consumers, jobs, gang, gang_there;
#define PF_COUNTER(scope, name, unit, help) PF_COUNTER_##scope(name)
#undef PF_COUNTER_feed
#define PF_COUNTER_feed(name) uint64_t name;
#include "counters.tbl"
#undef PF_COUNTER_feed
#define PF_COUNTER_feed(name)
    struct pf_prints prints;
    uint64_t slots_short; /* slots that are missing, as memory is short; they come when it returns */
    char reading[256];    /* where the sample comes from whose read takes longest just now, if over a second, or "" */
    uint64_t reading_ns;  /* how long it has taken so far */
    uint64_t read_ahead;  /* samples that may be read ahead of the workers; 0: none are */
};

#define PF_HOLDERS 8u

struct pf_row_slot { /* PF_STAT_SLOTS */
    char feed[PF_FEED_NAME];
    uint32_t slot, state; /* enum pf_slot_state */
    uint64_t epoch, index, seed;
    uint32_t rows, rows_done;
    uint32_t grants, pins; /* grants out; cursors that still want it */
    uint64_t since_ns;     /* in this state */
    uint32_t n_holders, reserved;
    struct {
        uint64_t consumer;
        uint32_t rank, taken; /* taken 0: granted, not taken yet */
        char job[PF_JOB_NAME];
    } holders[PF_HOLDERS];
};

enum pf_consumer_state {
    PF_CONSUMER_WAITING = 0,
    PF_CONSUMER_RUNNING = 1,
    PF_CONSUMER_ENDED = 2,
    PF_CONSUMER_QUARANTINED = 3,
    PF_CONSUMER_PARKED = 4,
};

struct pf_row_consumer { /* PF_STAT_CONSUMERS */
    char feed[PF_FEED_NAME], job[PF_JOB_NAME];
    char waits_for[256];            /* what it waits for, or "" */
    uint64_t consumer, epoch, step; /* its cursor: the next step to be granted */
    int64_t pid;                    /* 0: in another PID namespace; its hang-up counts as death */
    uint32_t uid, rank, world, batch;
    uint32_t granted, held, max_held, state; /* granted: out, taken or not */
    uint64_t replica;
    uint64_t age_ns, held_since_ns; /* of the oldest grant out */
#undef PF_COUNTER_consumer
#define PF_COUNTER_consumer(name) uint64_t name;
#include "counters.tbl"
#undef PF_COUNTER_consumer
#define PF_COUNTER_consumer(name)
};

struct pf_row_job { /* PF_STAT_JOBS */
    char feed[PF_FEED_NAME], job[PF_JOB_NAME];
    char state[16];                  /* "waiting", "running", "stalling", "parked", "ended" */
    char slow[8];                    /* "park", "block", "skip" */
    char shares[256];                /* the jobs that it shares slots with, or "" */
    char local_ranks[PF_RANKS_TEXT]; /* of a job that spans hosts; "": all are here */
    uint64_t seed, run, epochs;      /* epochs 0: for ever */
    uint64_t start_epoch, start_step;
    uint64_t epoch, step;             /* the next step of the rank that is furthest behind */
    uint64_t front_epoch, front_step; /* and of the one that is furthest ahead */
    uint64_t steps;                   /* of an epoch */
    uint64_t rows_filled;             /* that were asked for by this job first */
    uint64_t rows_delivered;
    uint64_t decoded_ppm;              /* rows filled for all jobs of its group per million rows delivered to them */
    uint32_t uid, world, ranks, local; /* ranks: attached; local: that live on this host */
    uint32_t consumers;                /* attached: more than ranks where there are replicas */
    uint32_t batch, world_batch;       /* b, G */
    uint32_t group;                    /* jobs of one group share slots */
    uint32_t slot_use_ppm;  /* of a job that spans hosts: the share of its slots' rows that are this host's, in millionths */
    uint32_t aligned_batch; /* the feed's batch with which that would be all; 0: none would */
};

struct pf_row_cache { /* PF_STAT_CACHES: each cache once, with the feeds that share it */
    char kind[16];    /* "encoded", "decoded" or "disk" */
    char source[32];  /* kind of it */
    char feeds[256];
    char file[256];                  /* of a disk cache, or "" */
    char note[256];                  /* why it does not grow, or "" */
    uint64_t samples, entries;       /* that could be in it; that are */
    uint64_t size_bytes, used_bytes; /* as configured; of it filled */
    uint64_t lost_bytes;             /* of that: entries that are not used any more */
    uint64_t index_bytes;            /* beside it: where the entries are */
    uint64_t hits, misses;           /* samples that were asked for and were there, or not */
    uint64_t stale, damaged;         /* entries given up: the sample's file has changed; they were not as written */
    uint64_t saved_ns;               /* CPU time that was not spent again */
    uint64_t share_ppm, hit_ppm;     /* entries of samples; hits of hits and misses; in millionths */
};

struct pf_row_error { /* PF_STAT_ERRORS: the last bad samples of a feed */
    char feed[PF_FEED_NAME];
    char where[256], reason[256];
    uint64_t id, epoch, count;
};

struct pf_row_tune { /* PF_STAT_TUNE: what a feed's slots in use rest on; times are 0 while too few batches are known */
    char feed[PF_FEED_NAME];
    uint32_t in_use, n_slots, most;         /* slots that are filled ahead, that there are, that there may come to be */
    uint32_t needed;                        /* slots by the figures that follow */
    uint32_t slots_auto, workers;           /* slots_auto 0: in_use is not changed; workers: of all feeds */
    uint64_t compute_ns, supply_ns;         /* of a batch: the trainer's time without waiting, and the workers' */
    uint64_t slowest_ns;                    /* the longest rows but one */
    uint32_t compute_varies, supply_varies; /* standard deviations, in millionths of those times */
    uint32_t waits;                         /* share of its time that the trainer has waited lately, in millionths */
    uint32_t reserved;
};

struct pf_row_change { /* PF_STAT_CHANGES: what the daemon has changed by itself, the last ones of each feed */
    char feed[PF_FEED_NAME];
    char what[16];   /* "slots", "read_depth" */
    char why[256];   /* with the figures that it rests on */
    uint64_t number; /* counts the feed's changes from 1 */
    uint64_t batch;  /* slots that the feed had filled by then */
    uint64_t ago_ns;
    uint32_t from, to;
};
#undef PF_COUNTER
#undef PF_COUNTER_feed
#undef PF_COUNTER_consumer

PF_STATIC_ASSERT(sizeof(struct pf_row_daemon) == 888, "pf_row_daemon");
PF_STATIC_ASSERT(sizeof(struct pf_row_feed) == 1552, "pf_row_feed");
PF_STATIC_ASSERT(sizeof(struct pf_row_slot) == 768, "pf_row_slot");
PF_STATIC_ASSERT(sizeof(struct pf_row_consumer) == 536, "pf_row_consumer");
PF_STATIC_ASSERT(sizeof(struct pf_row_error) == 600, "pf_row_error");
PF_STATIC_ASSERT(sizeof(struct pf_row_job) == 808, "pf_row_job");
PF_STATIC_ASSERT(sizeof(struct pf_row_change) == 368, "pf_row_change");
PF_STATIC_ASSERT(sizeof(struct pf_row_tune) == 128, "pf_row_tune");
PF_PIN(pf_row_tune, compute_ns, 88);
PF_PIN(pf_row_change, number, 336);
PF_STATIC_ASSERT(sizeof(struct pf_row_cache) == 920, "pf_row_cache");
PF_PIN(pf_row_cache, feeds, 48);
PF_PIN(pf_row_cache, samples, 816);
PF_PIN(pf_row_cache, hits, 864);
PF_PIN(pf_row_job, state, 128);
PF_PIN(pf_row_job, seed, 664);
PF_PIN(pf_row_job, uid, 768);
PF_PIN(pf_row_daemon, pid, 560);
PF_PIN(pf_row_daemon, wakeups, 624);
PF_PIN(pf_row_feed, samples, 1064);
PF_PIN(pf_row_feed, batch, 1088);
PF_PIN(pf_row_feed, rows_filled, 1128);
PF_PIN(pf_row_feed, prints, 1248);
PF_PIN(pf_row_feed, reading, 1280);
PF_PIN(pf_row_slot, slot, 64);
PF_PIN(pf_row_slot, holders, 128);
PF_PIN(pf_row_consumer, consumer, 384);
PF_PIN(pf_row_consumer, grants, 472);
PF_PIN(pf_row_error, where, 64);
PF_PIN(pf_row_error, id, 576);

#define PF_ROWS_FIT(type) ((PF_CTL_MAX - sizeof(struct pf_ctl_rows)) / sizeof(struct type))
PF_STATIC_ASSERT(PF_ROWS_FIT(pf_row_daemon) >= 1 && PF_ROWS_FIT(pf_row_feed) >= 1 && PF_ROWS_FIT(pf_row_slot) >= 1 &&
                     PF_ROWS_FIT(pf_row_consumer) >= 1 && PF_ROWS_FIT(pf_row_job) >= 1 && PF_ROWS_FIT(pf_row_error) >= 1 &&
                     PF_ROWS_FIT(pf_row_change) >= 1 && PF_ROWS_FIT(pf_row_tune) >= 1 && PF_ROWS_FIT(pf_row_cache) >= 1,
                 "a row fits into a message");

#endif
