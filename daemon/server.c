/* SPDX-License-Identifier: MIT */
/* See server.h. One connection per client; a request is answered at once, a long answer goes on when the socket takes more.
 * Nothing that a client sends is believed unchecked (request.c), and no descriptor is ever taken from one. Main thread. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "consumer.h"
#include "reload.h"

#define CONNECTIONS_EXTRA 64 /* beside max_consumers: for pfeedctl */
#define MESSAGES_A_TURN   16

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
    if (connection->asked_reload)
        reload_forget(server->daemon, connection);
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

int connection_send(struct connection *connection, void *message, uint16_t type, size_t size, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(PF_ATTACH_FDS * sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { .iov_base = message, .iov_len = size };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    ssize_t sent;

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
    do
        sent = sendmsg(connection->watch.fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size ? 0 : -errno;
}

int connection_send_error(struct connection *connection, int code, const char *text)
{
    struct pf_ctl_error error = { .code = code };

    snprintf(error.text, sizeof(error.text), "%s", text);
    return connection_send(connection, &error, PF_CTL_ERROR, sizeof(error), NULL, 0);
}

void server_tell(struct connection *connection, const char *sentence)
{
    connection_send_error(connection, -ESTALE, sentence);
}

void server_close(struct connection *connection)
{
    connection->consumer = NULL;
    shutdown(connection->watch.fd, SHUT_RDWR);
    finish(connection);
}

static void on_readable(struct watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)((uint8_t *)watch - offsetof(struct connection, watch));
    uint8_t message[PF_CTL_MAX] __attribute__((aligned(8)));
    int rc = 0;

    if (events & EPOLLOUT)
        rc = request_go_on(connection);
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
            rc = request_handle(connection, message, (size_t)got);
    }
    if (rc == -EPROTO) {
        log_warn("pid %ld, uid %u: a message that is not sound, or out of order", (long)connection->peer.pid,
                 connection->peer.uid);
        connection_send_error(connection, -EPROTO, "that message is not sound, or out of order; the connection is closed");
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
    connection->daemon = server->daemon;
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
