/* SPDX-License-Identifier: MIT */
/* The control socket: connections, messages in and replies out; and what the whole daemon consists of, for
 * those who answer questions about it. Main thread. */
#ifndef PFEED_SERVER_H
#define PFEED_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "ctl.h"
#include "feed.h"
#include "loop.h"
#include "peer.h"
#include "worker.h"

struct ahead;
struct change;
struct chores;
struct ending;
struct grow;

struct daemon {
    struct config *config, *started; /* in force; as it was at the start */
    struct loop *loop;
    struct workers *workers;
    struct ahead *ahead; /* or NULL */
    struct chores *chores;
    uint32_t n_feeds;
    struct feed **feeds;    /* those of the configuration, in its order, then the retired ones */
    struct change *change;  /* reload.c: the change in progress, or NULL */
    struct grow *grow;      /* grow.c: or NULL */
    struct ending *endings; /* reload_ending.c: retired feeds that are being given back */
    const char *state;      /* folder of manifests, or NULL */
    enum segment_kind shm;
    uint64_t budget, used; /* bytes */
    int64_t start_ns;
    const char *socket;    /* for people */
    int asked_to_stop;     /* a descriptor of whoever did, or -1 */
    bool stopping, failed; /* failed: the feeds could not be opened at the start */
    bool have_pfeed_group;
    gid_t pfeed_group;
    char status[256];
    struct server *server;
};

struct connection;

/* Listens on fd (bound and listening already). */
int server_create(struct server **out, struct daemon *daemon, int fd, struct problem *why);
/* Says goodbye to all: trainers keep what they were granted. Closes fd. */
void server_destroy(struct server *server);
/* A consumer's connection: its last message, and its end. */
void server_tell(struct connection *connection, const char *sentence);
void server_close(struct connection *connection);

/* Where code says that descriptors ran out: the sentence for whoever is refused. Any other code: nothing. */
void server_exhausted(int code, struct problem *why);

/* stat.c: fills one message with rows of `what` from number `from` on. Returns the message's size; *next = 0: that was all. */
size_t stat_rows(struct daemon *daemon, const struct peer *peer, const struct pf_ctl_stat *request, uint32_t from, uint32_t *next,
                 uint8_t message[PF_CTL_MAX]);

#endif
