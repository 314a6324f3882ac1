/* SPDX-License-Identifier: MIT */
/* See server.h. One connection per client; a request is answered at once, a long answer goes on when the socket takes more.
 * Nothing that a client sends is believed unchecked, and no descriptor is ever taken from one. Main thread. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "consumer.h"
#include "setting.h"

#define CONNECTIONS_EXTRA 64 /* beside max_consumers: for pfeedctl */
#define MESSAGES_A_TURN   16

struct connection {
    struct connection *next;
    struct server *server;
    struct watch watch;
    struct peer peer;
    struct consumer *consumer; /* NULL: none attached */
    bool attached_once;
    struct pf_ctl_stat stat; /* the answer in progress, if stat_busy */
    bool stat_busy;
    uint32_t stat_from;
};

struct server {
    struct daemon *daemon;
    struct watch listen;
    struct connection *connections;
    uint32_t n_connections;
    int spare; /* given up for a moment where descriptors run out, to refuse who waits */
};

/* ---- replies -------------------------------------------------------------------------------------------------------- */

static void finish(struct connection *connection)
{
    struct server *server = connection->server;
    struct consumer *consumer = connection->consumer;
    struct connection **link = &server->connections;

    connection->consumer = NULL;
    loop_remove(server->daemon->loop, &connection->watch);
    close(connection->watch.fd);
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    server->n_connections--;
    peer_fini(&connection->peer);
    free(connection);
    if (consumer)
        consumer_hangup(consumer);
}

/* 0, or -errno: the peer does not read, or has gone. */
static int send_message(struct connection *connection, void *message, uint16_t type, size_t size, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(PF_ATTACH_FDS * sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { .iov_base = message, .iov_len = size };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

    *(struct pf_ctl_head *)message = (struct pf_ctl_head){ .version = PF_CTL_VERSION, .type = type, .size = (uint32_t)size };
    if (n_fds > 0) {
        struct cmsghdr *cmsg;

        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    return sendmsg(connection->watch.fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -errno;
}

static int send_error(struct connection *connection, int code, const char *text)
{
    struct pf_ctl_error error = { .code = code };

    snprintf(error.text, sizeof(error.text), "%s", text);
    return send_message(connection, &error, PF_CTL_ERROR, sizeof(error), NULL, 0);
}

static int send_ok(struct connection *connection)
{
    struct pf_ctl_head ok;

    return send_message(connection, &ok, PF_CTL_OK, sizeof(ok), NULL, 0);
}

void server_tell(struct connection *connection, const char *sentence)
{
    send_error(connection, -ESTALE, sentence);
}

void server_close(struct connection *connection)
{
    connection->consumer = NULL;
    shutdown(connection->watch.fd, SHUT_RDWR);
    finish(connection);
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static bool text_ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static struct feed *find_feed(struct daemon *daemon, const char *name)
{
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (strcmp(daemon->feeds[f].config->name, name) == 0)
            return &daemon->feeds[f];
    return NULL;
}

static int no_such_feed(struct connection *connection, const char *name)
{
    struct daemon *daemon = connection->server->daemon;
    char text[900], list[600] = "";
    struct nearest near;

    nearest_init(&near, name);
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        size_t at = strlen(list);

        if (!peer_may(daemon, &connection->peer, &daemon->feeds[f]))
            continue;
        nearest_offer(&near, daemon->feeds[f].config->name);
        snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "", daemon->feeds[f].config->name);
    }
    snprintf(text, sizeof(text), "no feed '%s'%s%s%s; there are: %s", name, near.best ? "; did you mean '" : "",
             near.best ? near.best : "", near.best ? "'?" : "", *list ? list : "none that you may use");
    return send_error(connection, -ENOENT, text);
}

/* The feed, if the peer may use it; otherwise the error has been sent and *rc says how that went. */
static struct feed *allowed_feed(struct connection *connection, const char *name, int *rc)
{
    struct daemon *daemon = connection->server->daemon;
    struct feed *feed = find_feed(daemon, name);
    char text[400];

    if (!feed) {
        *rc = no_such_feed(connection, name);
        return NULL;
    }
    if (peer_may(daemon, &connection->peer, feed))
        return feed;
    log_warn("pid %ld, uid %u may not use feed '%s'", (long)connection->peer.pid, connection->peer.uid, name);
    snprintf(text, sizeof(text), "uid %u may not use feed '%s'; %s", connection->peer.uid, name,
             feed->config->access.given ? "its `access` names the users and groups that may"
                                        : "it has no `access`, so only root and members of group `pfeed` may");
    *rc = send_error(connection, -EACCES, text);
    return NULL;
}

static int on_attach(struct connection *connection, const struct pf_ctl_attach *request)
{
    struct daemon *daemon = connection->server->daemon;
    struct consumer_peer peer = { .pid = connection->peer.pid, .uid = connection->peer.uid };
    struct pf_ctl_attached reply;
    struct problem why;
    struct feed *feed;
    int fds[PF_ATTACH_FDS], rc;

    if (!text_ends(request->feed, sizeof(request->feed)) || !text_ends(request->job, sizeof(request->job)) ||
        !text_ends(request->local_ranks, sizeof(request->local_ranks)) || !text_ends(request->start, sizeof(request->start)) ||
        request->slow > PF_SLOW_SKIP || (request->flags & ~(PF_ATTACH_SEED | PF_ATTACH_PEEK)))
        return -EPROTO;
    feed = allowed_feed(connection, request->feed, &rc);
    if (!feed)
        return rc;
    if (consumer_count() >= (uint64_t)daemon->config->daemon.max_consumers)
        return send_error(connection, -EUSERS,
                          "there are as many consumers as `daemon: max_consumers` allows (those that were dropped count until "
                          "their process ends)");
    peer.pidfd = peer_pidfd(connection->watch.fd, &connection->peer);
    if (peer.pidfd < 0 && peer.pid > 0)
        return send_error(connection, -ESRCH, "the process that connected has ended, or pidfds cannot be had (Linux 5.3)");
    rc = consumer_attach(&connection->consumer, feed, daemon->loop, request, &peer, &reply, fds, &why);
    if (rc < 0) {
        if (peer.pidfd >= 0)
            close(peer.pidfd);
        log_info("attach of pid %ld, uid %u to feed '%s' refused: %s", (long)peer.pid, peer.uid, request->feed, why.text);
        return send_error(connection, rc, why.text);
    }
    connection->consumer->connection = connection;
    connection->attached_once = true;
    log_info("consumer %llu: pid %ld, uid %u, feed '%s', job '%s' rank %u of %u, %u rows a step%s",
             (unsigned long long)reply.consumer, (long)peer.pid, peer.uid, request->feed, request->job, request->rank,
             request->world, reply.batch, peer.pid > 0 ? "" : " (in another PID namespace: its hang-up counts as its death)");
    return send_message(connection, &reply, PF_CTL_ATTACHED, sizeof(reply), fds, PF_ATTACH_FDS);
}

static int on_why(struct connection *connection)
{
    struct pf_ctl_text reply = { .text = "" };

    if (!connection->consumer)
        return -EPROTO;
    feed_why(connection->consumer->feed, connection->consumer, reply.text, sizeof(reply.text));
    return send_message(connection, &reply, PF_CTL_TEXT, sizeof(reply), NULL, 0);
}

static int on_detach(struct connection *connection)
{
    struct consumer *consumer = connection->consumer;

    if (!consumer)
        return -EPROTO;
    connection->consumer = NULL;
    consumer_detach(consumer);
    return send_ok(connection);
}

/* Sends as much of the answer as the socket takes. */
static int go_on_stat(struct connection *connection)
{
    struct daemon *daemon = connection->server->daemon;
    uint8_t message[PF_CTL_MAX] __attribute__((aligned(8)));

    while (connection->stat_busy) {
        uint32_t next;
        size_t size = stat_rows(daemon, &connection->peer, &connection->stat, connection->stat_from, &next, message);
        int rc = send_message(connection, message, PF_CTL_ROWS, size, NULL, 0);

        if (rc == -EAGAIN)
            return loop_modify(daemon->loop, &connection->watch, EPOLLOUT);
        if (rc < 0)
            return rc;
        connection->stat_from = next;
        connection->stat_busy = next != 0;
    }
    return loop_modify(daemon->loop, &connection->watch, 0);
}

static int on_stat(struct connection *connection, const struct pf_ctl_stat *request)
{
    struct daemon *daemon = connection->server->daemon;
    int rc;

    if (!text_ends(request->feed, sizeof(request->feed)) || connection->stat_busy)
        return -EPROTO;
    if (request->what < PF_STAT_DAEMON || request->what > PF_STAT_ERRORS)
        return send_error(connection, -EOPNOTSUPP, "this pfeedd does not know what was asked for; is pfeedctl newer?");
    if (*request->feed && !allowed_feed(connection, request->feed, &rc))
        return rc;
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        feed_turn(&daemon->feeds[f]); /* what consumers returned meanwhile counts */
    connection->stat = *request;
    connection->stat_from = 0;
    connection->stat_busy = true;
    return go_on_stat(connection);
}

static int on_peek(struct connection *connection, const struct pf_ctl_stat *request)
{
    struct pf_ctl_head ok;
    struct feed *feed;
    int rc;

    if (!text_ends(request->feed, sizeof(request->feed)))
        return -EPROTO;
    feed = allowed_feed(connection, request->feed, &rc);
    if (!feed)
        return rc;
    return send_message(connection, &ok, PF_CTL_OK, sizeof(ok), &feed->segment.reader, 1);
}

static int on_stop(struct connection *connection)
{
    if (!peer_rules(&connection->peer))
        return send_error(connection, -EACCES, "only root and the daemon's own user may stop it");
    log_info("pid %ld, uid %u asks to stop", (long)connection->peer.pid, connection->peer.uid);
    connection->server->daemon->stopping = true;
    return send_ok(connection);
}

/* 0, or -errno: the connection ends; -EPROTO: with a sentence. */
static int handle(struct connection *connection, const void *message, size_t size)
{
    const struct pf_ctl_head *head = message;
    char text[160];

    if (size < sizeof(*head) || head->size != size)
        return -EPROTO;
    if (head->version != PF_CTL_VERSION) {
        snprintf(text, sizeof(text), "this pfeedd (%s) speaks protocol %u, the client %u; use the same version on both sides",
                 PFEED_VERSION, PF_CTL_VERSION, head->version);
        send_error(connection, -EPROTO, text);
        return -ECONNABORTED;
    }
    if (connection->attached_once && head->type != PF_CTL_WHY && head->type != PF_CTL_DETACH)
        return -EPROTO;
    switch (head->type) {
    case PF_CTL_ATTACH:
        return size == sizeof(struct pf_ctl_attach) ? on_attach(connection, message) : -EPROTO;
    case PF_CTL_WHY:
        return size == sizeof(*head) ? on_why(connection) : -EPROTO;
    case PF_CTL_DETACH:
        return size == sizeof(*head) ? on_detach(connection) : -EPROTO;
    case PF_CTL_STAT:
        return size == sizeof(struct pf_ctl_stat) ? on_stat(connection, message) : -EPROTO;
    case PF_CTL_PEEK:
        return size == sizeof(struct pf_ctl_stat) ? on_peek(connection, message) : -EPROTO;
    case PF_CTL_STOP:
        return size == sizeof(*head) ? on_stop(connection) : -EPROTO;
    default:
        return -EPROTO;
    }
}

static void on_readable(struct watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)((uint8_t *)watch - offsetof(struct connection, watch));
    uint8_t message[PF_CTL_MAX] __attribute__((aligned(8)));
    int rc = 0;

    if (events & EPOLLOUT)
        rc = go_on_stat(connection);
    for (int i = 0; rc == 0 && i < MESSAGES_A_TURN; i++) {
        /* No control buffer: descriptors that a client sends are dropped by the kernel. */
        struct iovec part = { .iov_base = message, .iov_len = sizeof(message) };
        struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
        ssize_t got = recvmsg(connection->watch.fd, &header, MSG_DONTWAIT);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0)
            rc = -ECONNRESET;
        else if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
            rc = -EPROTO;
        else
            rc = handle(connection, message, (size_t)got);
    }
    if (rc == -EPROTO) {
        log_warn("pid %ld, uid %u: a message that is not sound, or out of order", (long)connection->peer.pid,
                 connection->peer.uid);
        send_error(connection, -EPROTO, "that message is not sound, or out of order; the connection is closed");
    }
    if (rc < 0)
        finish(connection);
}

/* One user who is neither root nor the daemon's own may take half of the places, so that others find one. */
static bool has_place(const struct server *server, const struct peer *peer)
{
    uint64_t places = (uint64_t)server->daemon->config->daemon.max_consumers + CONNECTIONS_EXTRA, own = 0;

    for (const struct connection *connection = server->connections; connection; connection = connection->next)
        own += connection->peer.uid == peer->uid;
    if (peer_rules(peer))
        return server->n_connections < places + CONNECTIONS_EXTRA;
    return own < places / 2 && server->n_connections < places;
}

/* No descriptor is left: takes the one who waits and closes it, or the loop would come back here for ever. */
static void refuse_one(struct server *server)
{
    int fd;

    if (server->spare >= 0)
        close(server->spare);
    fd = accept4(server->listen.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    server->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_connect(struct watch *watch, uint32_t events)
{
    struct server *server = (struct server *)((uint8_t *)watch - offsetof(struct server, listen));
    struct connection *connection;
    int fd = accept4(server->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE)
            refuse_one(server);
        return;
    }
    connection = calloc(1, sizeof(*connection));
    if (!connection || peer_read(fd, &connection->peer) < 0 || !has_place(server, &connection->peer))
        goto fail;
    connection->server = server;
    connection->watch = (struct watch){ .fd = fd, .call = on_readable };
    if (loop_add(server->daemon->loop, &connection->watch, 0) < 0)
        goto fail;
    connection->next = server->connections;
    server->connections = connection;
    server->n_connections++;
    return;
fail:
    log_debug("a connection was refused: %s", connection ? "too many" : "no memory");
    if (connection)
        peer_fini(&connection->peer);
    free(connection);
    close(fd);
}

int server_create(struct server **out, struct daemon *daemon, int fd, struct problem *why)
{
    struct server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server)
        return problem_set(why, -ENOMEM, "no memory");
    server->daemon = daemon;
    server->listen = (struct watch){ .fd = fd, .call = on_connect };
    server->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    rc = loop_add(daemon->loop, &server->listen, 0);
    if (rc < 0) {
        if (server->spare >= 0)
            close(server->spare);
        free(server);
        return problem_set(why, rc, "cannot watch the socket: %s", strerror(-rc));
    }
    *out = server;
    return 0;
}

void server_destroy(struct server *server)
{
    if (!server)
        return;
    while (server->connections) {
        struct connection *connection = server->connections;

        /* Its lane stays open: what was granted is good, as nobody writes the slots any more. */
        if (connection->consumer)
            consumer_destroy(connection->consumer);
        connection->consumer = NULL;
        finish(connection);
    }
    loop_remove(server->daemon->loop, &server->listen);
    close(server->listen.fd);
    if (server->spare >= 0)
        close(server->spare);
    free(server);
}
