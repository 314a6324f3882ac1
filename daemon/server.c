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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "audit.h"
#include "connection.h"
#include "consumer.h"
#include "limit.h"
#include "reload.h"

#define DEAF_NS           INT64_C(100000000) /* until somebody may have closed a descriptor */
#define CONNECTIONS_EXTRA 64                 /* beside max_consumers: for pfeedctl */
/* pfeed_next with a time-out of 1 ms asks 1,000 times a second, and whoever polls by pfeedctl far less often. */
#define MESSAGE_NS INT64_C(200000)     /* a message each, */
#define BURST_NS   INT64_C(1000000000) /* or as many at once as in this time */

struct server {
    struct daemon *daemon;
    struct watch listen;
    struct connection *connections;
    uint32_t n_connections;
    struct watch timer;    /* armed only while somebody owes us something */
    uint32_t n_due;        /* connections of which due_ns is set */
    int spare;             /* given up for a moment where descriptors run out, to refuse who waits; -1: it has yet to be had */
    int64_t deaf_until_ns; /* where it could not be had: nobody is listened to until the timer tries again; 0: we listen */
};

/* ---- patience ------------------------------------------------------------------------------------------------------- */

/* Sets the timer for who is late first; nobody: no timer, and no wake-up. */
static void schedule(struct server *server)
{
    int64_t next_ns = server->deaf_until_ns;
    struct itimerspec at = { 0 };

    for (const struct connection *connection = server->connections; connection; connection = connection->next)
        if (connection->due_ns && (!next_ns || connection->due_ns < next_ns))
            next_ns = connection->due_ns;
    at.it_value = (struct timespec){ .tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000 };
    timerfd_settime(server->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* The timer is set for who owed first, as all have the same time, and is not moved when that one has answered while others still
 * owe: on_timer then finds nobody late and sets it for the next one. */
void connection_owes(struct connection *connection, bool owes)
{
    struct server *server = connection->server;
    bool owed = connection->due_ns != 0;

    connection->due_ns = owes ? feed_now_ns() + server->daemon->config->daemon.patience_ms * 1000000 : 0;
    if ((owes && !owed && server->n_due++ == 0) || (!owes && owed && --server->n_due == 0))
        schedule(server);
}

/* ---- replies -------------------------------------------------------------------------------------------------------- */

static void finish(struct connection *connection)
{
    struct server *server = connection->server;
    struct consumer *consumer = connection->consumer;
    struct connection **link = &server->connections;
    uint8_t byte;

    connection->consumer = NULL;
    if (connection->asked_reload)
        reload_forget(server->daemon, connection);
    connection_owes(connection, false);
    /* What it said last is read away, or else it would hear "connection reset" instead of our last word. */
    shutdown(connection->watch.fd, SHUT_RD);
    while (recv(connection->watch.fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) > 0)
        continue;
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
    if (connection->in_request)
        connection->closed = true;
    else
        finish(connection);
}

/* The last word to a peer that does not keep to the rules. */
static void refuse(struct connection *connection, int code, const char *rule)
{
    char text[200];

    audit_line(connection->peer.uid, "pid %ld, uid %u: %s", (long)connection->peer.pid, connection->peer.uid, rule);
    snprintf(text, sizeof(text), "%s; the connection is closed", rule);
    connection_send_error(connection, code, text);
    finish(connection);
}

void connection_charge(struct connection *connection, unsigned messages)
{
    connection->paid_ns += (int64_t)(messages - 1) * MESSAGE_NS;
}

static bool pays(struct connection *connection)
{
    int64_t now_ns = feed_now_ns();

    if (connection->paid_ns < now_ns)
        connection->paid_ns = now_ns;
    connection->paid_ns += MESSAGE_NS;
    return connection->paid_ns - now_ns <= BURST_NS;
}

static int handle(struct connection *connection, const void *message, size_t size)
{
    int rc;

    connection->in_request = true;
    rc = request_handle(connection, message, size);
    connection->in_request = false;
    return connection->closed ? -ECONNRESET : rc;
}

/* One message a turn: whoever sends many waits as long for each as all others do. */
static void on_readable(struct watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)((uint8_t *)watch - offsetof(struct connection, watch));
    uint8_t message[PF_CTL_MAX] __attribute__((aligned(8)));
    /* No control buffer: descriptors that a client sends are dropped by the kernel. */
    struct iovec part = { .iov_base = message, .iov_len = sizeof(message) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    int rc = events & EPOLLOUT ? request_go_on(connection) : 0;
    ssize_t got = 0;

    if (rc == 0) {
        got = recvmsg(connection->watch.fd, &header, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (!connection->stat_busy)
            connection_owes(connection, false);
        if (got <= 0)
            rc = -ECONNRESET;
        else if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
            rc = -EPROTO;
        else if (!pays(connection))
            rc = -EDQUOT;
        else
            rc = handle(connection, message, (size_t)got);
    }
    if (rc == -EPROTO)
        refuse(connection, rc, "a message that is not sound, or out of order");
    else if (rc == -EDQUOT)
        refuse(connection, rc, "more than 5,000 messages a second");
    else if (rc < 0)
        finish(connection);
}

/* One user who is neither root nor the daemon's own may take a part of the places only, so that others find one. */
static bool has_place(const struct server *server, const struct peer *peer)
{
    const struct config_daemon *config = &server->daemon->config->daemon;
    uint64_t places = (uint64_t)config->max_consumers + CONNECTIONS_EXTRA, own = 0;

    for (const struct connection *connection = server->connections; connection; connection = connection->next)
        own += connection->peer.uid == peer->uid;
    if (peer_rules(peer))
        return server->n_connections < places + CONNECTIONS_EXTRA;
    return own < limit_user_consumers(config) + CONNECTIONS_EXTRA / 2 && server->n_connections < places;
}

static bool have_spare(struct server *server)
{
    if (server->spare < 0)
        server->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return server->spare >= 0;
}

void server_exhausted(int code, struct problem *why)
{
    struct rlimit limit = { 0 };

    getrlimit(RLIMIT_NOFILE, &limit);
    if (code == -EMFILE)
        problem_set(why, code,
                    "pfeedd has no file descriptor left (its limit is %llu, a consumer takes 7): close some trainers, or start "
                    "pfeedd with a higher limit (LimitNOFILE= of its unit, `ulimit -n` of a shell)",
                    (unsigned long long)limit.rlim_cur);
    else if (code == -ENFILE)
        problem_set(why, code, "this machine has no file descriptor left for pfeedd; close something, or raise fs.file-max");
}

/* Nobody is listened to for a while: whoever waits cannot even be refused, and would wake us for ever. */
static void go_deaf(struct server *server)
{
    loop_remove(server->daemon->loop, &server->listen);
    server->deaf_until_ns = feed_now_ns() + DEAF_NS;
    schedule(server);
}

/* No descriptor is left: takes the one who waits, says so and closes it, or the loop would come back here for ever. Where the
 * spare one cannot be had back (others were quicker), the next one could not be refused, and nobody is listened to until it can. */
static void refuse_one(struct server *server, int code)
{
    struct connection connection = { .watch = { .fd = -1 } };
    struct problem why;

    close(server->spare);
    server->spare = -1;
    connection.watch.fd = accept4(server->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection.watch.fd >= 0) {
        server_exhausted(code, &why);
        connection_send_error(&connection, code, why.text);
        close(connection.watch.fd);
    }
    if (!have_spare(server))
        go_deaf(server);
}

static void listen_again(struct server *server)
{
    server->deaf_until_ns = 0;
    if (have_spare(server) && loop_add(server->daemon->loop, &server->listen, 0) == 0)
        return;
    server->deaf_until_ns = feed_now_ns() + DEAF_NS;
}

static void on_timer(struct watch *watch, uint32_t events)
{
    struct server *server = (struct server *)((uint8_t *)watch - offsetof(struct server, timer));
    int64_t now_ns = feed_now_ns();
    struct connection *next;
    uint64_t times;

    (void)events;
    if (read(watch->fd, &times, sizeof(times)) < 0)
        return; /* set anew since */
    for (struct connection *connection = server->connections; connection; connection = next) {
        next = connection->next;
        if (connection->due_ns && connection->due_ns <= now_ns)
            refuse(connection, -ETIMEDOUT, "nothing came for as long as `daemon: patience` allows");
    }
    if (server->deaf_until_ns && server->deaf_until_ns <= now_ns)
        listen_again(server);
    schedule(server);
}

static void on_connect(struct watch *watch, uint32_t events)
{
    struct server *server = (struct server *)((uint8_t *)watch - offsetof(struct server, listen));
    struct connection *connection;
    int fd = accept4(server->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE)
            refuse_one(server, -errno);
        else if (errno == ENOMEM || errno == ENOBUFS)
            go_deaf(server);
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
    connection_owes(connection, true);
    return;
fail:
    log_debug("a connection was refused: %s", connection ? "too many" : "no memory");
    if (connection) {
        connection->watch.fd = fd;
        connection_send_error(connection, -EUSERS,
                              "too many are connected to pfeedd, or too many of this user (`daemon: max_consumers`, "
                              "`user_consumers`); close some, or raise the limits");
        peer_fini(&connection->peer);
    }
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
    server->spare = -1;
    server->listen = (struct watch){ .fd = fd, .call = on_connect };
    if (!have_spare(server)) {
        rc = problem_set(why, -errno, "cannot open /dev/null: %s", strerror(errno));
        free(server);
        return rc;
    }
    server->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .call = on_timer };
    if (server->timer.fd < 0) {
        rc = problem_set(why, -errno, "cannot make a timer: %s", strerror(errno));
        goto fail;
    }
    rc = peer_probe(why);
    if (rc < 0)
        goto fail;
    rc = loop_add(daemon->loop, &server->timer, 0);
    if (rc == 0)
        rc = loop_add(daemon->loop, &server->listen, 0);
    if (rc < 0) {
        problem_set(why, rc, "cannot watch the socket: %s", strerror(-rc));
        goto fail;
    }
    *out = server;
    return 0;
fail:
    if (server->timer.fd >= 0)
        close(server->timer.fd);
    close(server->spare);
    free(server);
    return rc;
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
    audit_end();
    if (!server->deaf_until_ns)
        loop_remove(server->daemon->loop, &server->listen);
    close(server->listen.fd);
    loop_remove(server->daemon->loop, &server->timer);
    close(server->timer.fd);
    if (server->spare >= 0)
        close(server->spare);
    free(server);
}
