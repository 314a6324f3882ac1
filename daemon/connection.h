/* SPDX-License-Identifier: MIT */
/* A connection of the control socket: server.c has its beginning, its messages and its end, request.c knows what they mean.
 * For these two files only. Main thread. */
#ifndef PFEED_CONNECTION_H
#define PFEED_CONNECTION_H

#include "server.h"

struct connection {
    struct connection *next;
    struct server *server;
    struct daemon *daemon;
    struct watch watch;
    struct peer peer;
    struct consumer *consumer; /* NULL: none attached */
    bool in_request;           /* its message is being handled: if it is closed meanwhile, on_readable frees it */
    bool closed;
    bool attached_once;
    bool asked_reload;       /* and waits for its report */
    int64_t due_ns;          /* when it is closed if it goes on owing us something; 0: it owes nothing */
    int64_t paid_ns;         /* its messages are paid for up to this moment */
    struct pf_ctl_stat stat; /* the answer in progress, if stat_busy */
    bool stat_busy;
    uint32_t stat_from;
};

/* 0, or -errno: the peer does not read (-EAGAIN), or has gone. Writes the message's head. */
int connection_send(struct connection *connection, void *message, uint16_t type, size_t size, const int *fds, unsigned n_fds);
int connection_send_error(struct connection *connection, int code, const char *text);

/* It is the peer's turn: to ask its first question, to read an answer, to hang up. It has until the daemon's patience ends, from
 * now on; false: it owes nothing. */
void connection_owes(struct connection *connection, bool owes);

/* Its message costs as much as so many others: it comes out of the same allowance (server.c). */
void connection_charge(struct connection *connection, unsigned messages);

/* One message. 0, or -errno: the connection ends; -EPROTO: with a sentence. */
int request_handle(struct connection *connection, const void *message, size_t size);
/* Sends as much of a long answer as the socket takes; as above. */
int request_go_on(struct connection *connection);

#endif
