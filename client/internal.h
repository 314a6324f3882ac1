/* SPDX-License-Identifier: MIT */
/* A handle's inside, shared by the files of this folder. One thread at a time. */
#ifndef PFEED_INTERNAL_H
#define PFEED_INTERNAL_H

#include <stdbool.h>

#include "ctlsock.h"
#include "pfeed.h"
#include "ring.h"

/* A mapped arena, and the terms on which its batches are lent. One that a dead daemon has left stays until nothing of it is held;
 * the newest stays without its map, as the handle's place is told in its terms. */
struct mapped {
    const uint8_t *arena; /* NULL: unmapped */
    size_t arena_size;
    const struct pf_arena *info; /* the arena's beginning */
    bool ended;                  /* its daemon has gone: n_held batches of it are still to come back */
    uint32_t n_held;
    uint32_t n_fields;
    uint64_t steps;        /* of an epoch */
    struct pf_token token; /* all but epoch and row */
    struct pf_field fields[PF_FIELDS];
    int64_t strides[PF_FIELDS][PF_DIMS + 1];
    struct mapped *older;
};

struct pfeed_batch {
    struct pfeed *owner;
    struct mapped *mapped; /* that its tensors describe; NULL: none */
    bool held;
    uint64_t number; /* of the grant */
    const uint8_t *slot;
    uint32_t row;
    struct pfeed_info info;
    struct pfeed_tensor *tensors; /* PF_FIELDS; data is set when asked for */
    int64_t (*shapes)[PF_DIMS + 1];
};

/* What stands for the daemon: its two pages and two descriptors. */
struct lane {
    const struct pf_grant_page *grants; /* NULL: there is no lane, as the daemon has gone */
    struct pf_return_page *returns;
    uint64_t next, returned, rung;     /* our own counts; see ring.h */
    uint64_t told_returned, told_next; /* `returned` and `next` when the daemon was last rung */
    int socket, event;
    uint16_t unanswered; /* a question (PF_CTL_WHY, PF_CTL_SEEK) whose answer is still to come; 0: none */
    bool gone;           /* the daemon's socket has hung up */
    uint32_t spin_ns;
    int64_t since_ns; /* attached */
};

/* Coming back to a daemon: see reconnect.c. */
struct reconnect {
    int64_t patience_ns; /* 0: never */
    int64_t since_ns;    /* the daemon has been missed; 0: never yet */
    int64_t again_ns;    /* no attempt before */
    int64_t limit_ns;    /* of the attempt under way */
    int socket;          /* of the attempt under way: its answer is awaited; -1: none */
    bool again;          /* it was there meanwhile, but in vain */
    bool over;           /* no attempt any more */
    struct sentence why; /* the last attempt failed; when over: all that there is to say */
};

struct place {
    uint64_t epoch, step;
};

struct pfeed {
    const uint64_t *alive; /* its page is wiped by fork: 0 in a child */
    struct lane lane;
    struct mapped *mapped; /* the newest; others hang on it */
    uint32_t n_held, max_held;
    uint64_t last_flags; /* of the last grant taken, until the epoch's end was told */
    uint64_t epoch;      /* the epoch that the caller knows to be in */
    uint32_t seeks;      /* that it has followed */
    bool begun;          /* its job had started under a daemon that has gone */
    bool ended;
    bool kept; /* kept_grant was taken, and the end of the epoch before it told first */
    struct pf_grant kept_grant;
    struct place place;          /* after the last batch given; the step may be one past the epoch's last */
    struct pfeed_batch *batches; /* n_batches of them */
    uint32_t n_batches;          /* max_held, as it was at first */

    struct reconnect reconnect;
    struct pf_ctl_attach request; /* as it was at first */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct sentence error;
    struct pfeed *older, *newer; /* list of all handles, for the fork handler */
};

#define PFEED_ALIVE UINT64_C(0x6465656670657661)

/* The longest that a daemon may take to answer. */
#define PFEED_ANSWER_NS INT64_C(10000000000)

/* This thread's last failing call without a handle. */
extern _Thread_local struct sentence attach_error;

/* pfeed_open with PF_ATTACH_* bits of our own; for pfeedctl. */
int pfeed_open_flags(struct pfeed **out, const struct pfeed_options *options, uint32_t attach_flags);

/* ---- lane.c --------------------------------------------------------------------------------------------------------- */

/* The answer to an ATTACH, as it is received. */
struct lane_answer {
    union {
        struct pf_ctl_attached attached;
        uint8_t bytes[PF_CTL_MAX]; /* a newer daemon may say more */
    };
    int fds[PF_ATTACH_FDS];
};

/* What a daemon answered, size bytes, checked and mapped. Consumes the descriptors. */
int lane_make(struct lane *lane, struct mapped **mapped, struct lane_answer *answer, int size, const char *feed,
              struct sentence *why);
/* From now on the handle's. */
void lane_install(struct pfeed *pf, const struct lane *lane, struct mapped *mapped);
/* The daemon has gone, and nothing is left to take: keeps what is held and no more. */
void lane_end(struct pfeed *pf);
/* maps: false in a fork, which has none. Both are fine with what is not there. */
void lane_fini(struct lane *lane, bool maps);
void mapped_destroy(struct mapped *mapped, bool maps);
void mapped_unmap(struct mapped *mapped);
/* A held batch of an ended mapped has come back. */
void mapped_returned(struct pfeed *pf, struct pfeed_batch *batch);
void mapped_describe(struct mapped *mapped, struct pfeed_batch *batch);

/* ---- fork.c --------------------------------------------------------------------------------------------------------- */

int fork_mark(struct pfeed *pf, struct sentence *why);
void fork_watch(struct pfeed *pf);
void fork_forget(struct pfeed *pf);
/* -ECHILD and its sentence. */
int fork_refuse(struct pfeed *pf);

static inline bool fork_happened(const struct pfeed *pf)
{
    return __builtin_expect(*pf->alive != PFEED_ALIVE, 0);
}

/* ---- wait.c --------------------------------------------------------------------------------------------------------- */

/* Waits until a grant is there and takes it: 0 and *grant, or -errno. */
int wait_take(struct pfeed *pf, struct pf_grant *grant, int timeout_ms);
/* Rings the daemon. */
void wait_wake_daemon(struct pfeed *pf);
/* Whether the daemon has hung up. */
bool wait_gone(struct pfeed *pf);
/* -ESTALE and its sentence where a living daemon has closed the lane; otherwise 0. */
int wait_closed(struct pfeed *pf);
/* Until something can be read from fd (-1: nothing): 1; 0 at the deadline; -EINTR without a sentence. */
int wait_readable(int fd, int64_t deadline_ns);
/* Reads the answer to an open PF_CTL_WHY. */
int wait_read_why(struct pfeed *pf, struct pf_ctl_text *reply, int64_t deadline_ns, struct sentence *why);

/* ---- reconnect.c, place.c ------------------------------------------------------------------------------------------- */

/* There is no lane any more: 0 attached again, -ETIMEDOUT at the deadline, -EINTR without a sentence, -EPIPE never again. */
int reconnect_await(struct pfeed *pf, int64_t deadline_ns);
/* Ends the lane; reconnect_await comes next. */
void reconnect_begin(struct pfeed *pf);

/* The handle's place, the step below the epoch's. */
struct place place_now(const struct pfeed *pf);
/* text: PF_TOKEN_TEXT bytes. */
void place_token(const struct mapped *mapped, struct place place, char *text);
/* Awaits the answer to a PF_CTL_SEEK that came too late for its own call: 0 and what is left of the time, -ETIMEDOUT or -EINTR. */
int place_settle(struct pfeed *pf, int *timeout_ms);

#endif
