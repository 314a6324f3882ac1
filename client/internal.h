/* SPDX-License-Identifier: MIT */
/* A handle's inside, shared by attach.c, batch.c and wait.c. One thread at a time. */
#ifndef PFEED_INTERNAL_H
#define PFEED_INTERNAL_H

#include <stdbool.h>

#include "ctlsock.h"
#include "pfeed.h"
#include "ring.h"

struct pfeed_batch {
    struct pfeed *owner;
    bool held;
    uint64_t number; /* of the grant */
    const uint8_t *slot;
    uint32_t row;
    struct pfeed_info info;
    struct pfeed_tensor *tensors; /* n_fields; data is set when asked for */
    int64_t (*shapes)[PF_DIMS + 1];
};

struct pfeed {
    const uint64_t *alive; /* its page is wiped by fork: 0 in a child */
    const struct pf_grant_page *grants;
    struct pf_return_page *returns;
    uint64_t next, returned, rung;     /* our own counts; see ring.h */
    uint64_t told_returned, told_next; /* `returned` and `next` when the daemon was last rung */
    uint32_t n_held, max_held;
    uint64_t last_flags; /* of the last grant taken, until the epoch's end was told */
    uint64_t epoch;      /* the epoch that the caller knows to be in */
    bool ended;
    bool kept; /* kept_grant was taken, and the end of the epoch before it told first */
    struct pf_grant kept_grant;
    bool gone; /* the daemon's socket has hung up */

    const uint8_t *arena;
    size_t arena_size;
    const struct pf_arena *info;
    const struct pf_field *fields;
    struct pfeed_batch *batches;     /* max_held of them */
    int64_t (*strides)[PF_DIMS + 1]; /* n_fields */

    int socket, event;
    bool unanswered; /* a question to the daemon whose answer is still to come */
    uint32_t spin_ns;
    uint64_t consumer, steps;
    char name[PF_FEED_NAME];
    struct sentence error;
    struct pfeed *older, *newer; /* list of all handles, for the fork handler */
};

#define PFEED_ALIVE UINT64_C(0x6465656670657661)

/* pfeed_open with PF_ATTACH_* bits of our own; for pfeedctl. */
int pfeed_open_flags(struct pfeed **out, const struct pfeed_options *options, uint32_t attach_flags);

/* Waits until a grant is there and takes it: 0 and *grant, or -errno. */
int wait_take(struct pfeed *pf, struct pf_grant *grant, int timeout_ms);
/* Rings the daemon. */
void wait_wake_daemon(struct pfeed *pf);

#endif
