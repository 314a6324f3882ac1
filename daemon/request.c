/* SPDX-License-Identifier: MIT */
/* What the messages of the control socket mean: one function a request, which checks all that the peer wrote and answers.
 * Called by server.c for each message. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "audit.h"
#include "connection.h"
#include "consumer.h"
#include "limit.h"
#include "reload.h"
#include "setting.h"

static int send_ok(struct connection *connection)
{
    struct pf_ctl_head ok;

    return connection_send(connection, &ok, PF_CTL_OK, sizeof(ok), NULL, 0);
}

static bool text_ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

/* The running feed of that name; or, for a rank of a job that a retired one serves, that one. */
static struct feed *find_feed(struct daemon *daemon, const char *name, uid_t uid, const char *job, uint64_t run)
{
    struct feed *found = NULL;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];

        if (strcmp(feed->config->name, name) != 0)
            continue;
        if (feed->state == FEED_RUNNING)
            found = feed;
        else if (job && job_find(feed, uid, job) && job_find(feed, uid, job)->run >= run)
            return feed; /* a newer run is a new job */
    }
    return found;
}

#define SENTENCE      900
#define SEEK_MESSAGES 100 /* that a seek counts as: it may make an order's table, and gives slots up */

static int no_such_feed(struct connection *connection, const char *name, char text[SENTENCE])
{
    struct daemon *daemon = connection->daemon;
    char list[600] = "";
    struct nearest near;

    if (daemon->change) {
        reload_look(daemon);
        snprintf(text, SENTENCE, "feed '%s' is not there yet: %s; try again", name, daemon->status);
        return -EAGAIN;
    }
    nearest_init(&near, name);
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        size_t at = strlen(list);

        if (!peer_may(daemon, &connection->peer, daemon->feeds[f]) || daemon->feeds[f]->state != FEED_RUNNING)
            continue;
        nearest_offer(&near, daemon->feeds[f]->config->name);
        snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "", daemon->feeds[f]->config->name);
    }
    if (*list)
        snprintf(text, SENTENCE, "no feed '%s'%s%s%s; there are: %s", name, near.best ? " (did you mean '" : "",
                 near.best ? near.best : "", near.best ? "'?)" : "", list);
    else
        snprintf(text, SENTENCE, "no feed '%s', nor any that uid %u may use; a feed's `access` names who may", name,
                 connection->peer.uid);
    return -ENOENT;
}

/* 0 and the feed, if the peer may use it; otherwise the code and the sentence to answer. */
static int find_allowed(struct connection *connection, const char *name, const char *job, uint64_t run, struct feed **out,
                        char text[SENTENCE])
{
    struct daemon *daemon = connection->daemon;
    struct feed *feed = find_feed(daemon, name, connection->peer.uid, job, run);

    if (!feed)
        return no_such_feed(connection, name, text);
    if (!peer_may(daemon, &connection->peer, feed)) {
        snprintf(text, SENTENCE, "uid %u may not use feed '%s': %s", connection->peer.uid, name,
                 feed->config->access.given
                     ? "its `access` names neither that user nor one of this process's groups; have one added there (groups "
                       "joined since the login count after the next one)"
                     : "it has no `access`, so only root, the daemon's user and members of group `pfeed` may; have an `access` "
                       "added, or join that group and log in again");
        return -EACCES;
    }
    *out = feed;
    return 0;
}

/* The same for a request that only looks: of what is refused only that which is not allowed is worth a line. */
static int find_to_look(struct connection *connection, const char *name, struct feed **out, int *sent)
{
    char text[SENTENCE];
    int rc = find_allowed(connection, name, NULL, 0, out, text);

    if (rc == 0)
        return 0;
    if (rc == -EACCES)
        audit_line(connection->peer.uid, "pid %ld, uid %u is refused a look: %s", (long)connection->peer.pid,
                   connection->peer.uid, text);
    *sent = connection_send_error(connection, rc, text);
    return rc;
}

static bool attach_sound(const struct pf_ctl_attach *request)
{
    return text_ends(request->feed, sizeof(request->feed)) && text_ends(request->job, sizeof(request->job)) &&
           text_ends(request->local_ranks, sizeof(request->local_ranks)) && text_ends(request->start, sizeof(request->start)) &&
           request->slow <= PF_SLOW_PARK &&
           !(request->flags &
             ~(PF_ATTACH_SEED | PF_ATTACH_PEEK | PF_ATTACH_RECONNECT | PF_ATTACH_ACCEPT_CHANGED | PF_ATTACH_UNBEGUN)) &&
           (!(request->flags & PF_ATTACH_RECONNECT) || pf_token_is(request->start));
}

/* What stands for the consumer's process, if that can be seen from here. */
static int open_process(const struct connection *connection, struct consumer_peer *peer, struct problem *why)
{
    peer->pidfd = peer->pid > 0 ? peer_pidfd(connection->watch.fd, &connection->peer) : -1;
    if (peer->pid <= 0 || peer->pidfd >= 0)
        return 0;
    return problem_set(why, peer->pidfd, "cannot open a pidfd of process %ld: %s", (long)peer->pid, strerror(-peer->pidfd));
}

/* Of the same job, in retired forms of the feed. */
static void end_older_runs(struct daemon *daemon, const struct feed *feed, uid_t uid, const struct pf_ctl_attach *request)
{
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *old = daemon->feeds[f];
        struct job *job = job_find(old, uid, request->job);

        if (old != feed && job && job->run < request->run && strcmp(old->config->name, feed->config->name) == 0)
            consumer_supersede(old, job, request->run);
    }
}

/* 0: attached, *reply and fds are to be sent; otherwise the code and the sentence to answer, and nothing has changed. */
static int try_attach(struct connection *connection, const struct pf_ctl_attach *request, struct pf_ctl_attached *reply,
                      int fds[PF_ATTACH_FDS], char text[SENTENCE])
{
    struct daemon *daemon = connection->daemon;
    struct consumer_peer peer = { .pid = connection->peer.pid, .uid = connection->peer.uid };
    struct problem why = { "" };
    struct feed *feed;
    int rc = find_allowed(connection, request->feed, request->job, request->run, &feed, text);

    if (rc < 0)
        return rc;
    rc = limit_check(daemon, &connection->peer, feed, request, &why);
    if (rc < 0)
        goto out;
    if (segment_seals() == SEGMENT_SEALS_NONE && !peer_rules(&connection->peer)) {
        rc = problem_set(&why, -EPERM,
                         "the kernel under pfeedd cannot seal shared memory (Linux 3.17), so that only root and the daemon's own "
                         "user may attach; run your own by `pfeedd --user`");
        goto out;
    }
    rc = open_process(connection, &peer, &why);
    if (rc == 0)
        rc = consumer_attach(&connection->consumer, feed, daemon->loop, request, &peer, reply, fds, &why);
    if (rc == 0)
        end_older_runs(daemon, feed, peer.uid, request);
    if (rc < 0 && peer.pidfd >= 0)
        close(peer.pidfd);
    server_exhausted(rc, &why);
out:
    snprintf(text, SENTENCE, "%s", why.text);
    return rc;
}

/* The message of another version of the client, as this one would have said it: what it does not have yet is 0, and what it says
 * more must be. */
static bool read_attach(struct pf_ctl_attach *request, const uint8_t *message, size_t size)
{
    *request = (struct pf_ctl_attach){ 0 };
    memcpy(request, message, size < sizeof(*request) ? size : sizeof(*request));
    for (size_t i = sizeof(*request); i < size; i++)
        if (message[i])
            return false;
    return size >= PF_ATTACH_LEAST && attach_sound(request);
}

static int on_attach(struct connection *connection, const void *message, size_t size)
{
    const struct peer *peer = &connection->peer;
    struct pf_ctl_attach request;
    struct pf_ctl_attached reply;
    int fds[PF_ATTACH_FDS], rc;
    char text[SENTENCE];

    if (!read_attach(&request, message, size))
        return -EPROTO;
    rc = try_attach(connection, &request, &reply, fds, text);
    if (rc == -EAGAIN)
        return connection_send_error(connection, rc, text); /* it only came early */
    if (rc < 0) {
        audit_line(peer->uid, "attach refused: pid %ld, uid %u, feed '%s', job '%s' rank %u: %s", (long)peer->pid, peer->uid,
                   request.feed, request.job, request.rank, text);
        return connection_send_error(connection, rc, text);
    }
    connection->consumer->connection = connection;
    connection->attached_once = true;
    log_info("consumer %llu: pid %ld, uid %u, feed '%s', job '%s' rank %u of %u, %u rows a step%s",
             (unsigned long long)reply.consumer, (long)peer->pid, peer->uid, request.feed, request.job, request.rank,
             request.world, reply.batch, peer->pid > 0 ? "" : " (in another PID namespace: its hang-up counts as its death)");
    return connection_send(connection, &reply, PF_CTL_ATTACHED, sizeof(reply), fds, PF_ATTACH_FDS);
}

static int on_why(struct connection *connection)
{
    struct pf_ctl_text reply = { .text = "" };

    if (!connection->consumer)
        return -EPROTO;
    feed_turn(connection->consumer->feed); /* what was returned, by anybody, is no reason any more */
    if (!connection->consumer)
        return -ECONNRESET; /* that has found out that it does not keep to the rules, and told it */
    feed_why(connection->consumer->feed, connection->consumer, reply.text, sizeof(reply.text));
    return connection_send(connection, &reply, PF_CTL_TEXT, sizeof(reply), NULL, 0);
}

static int on_seek(struct connection *connection, const struct pf_ctl_seek *request)
{
    struct consumer *c = connection->consumer;
    struct problem why = { "" };
    struct pf_ctl_place reply;
    struct place place;
    int rc;

    if (!c || !text_ends(request->where, sizeof(request->where)) || (request->flags & ~PF_ATTACH_ACCEPT_CHANGED))
        return -EPROTO;
    connection_charge(connection, SEEK_MESSAGES);
    feed_turn(c->feed); /* what it returned comes first */
    if (!connection->consumer)
        return -ECONNRESET;
    rc = consumer_seek(c, request, &place, &why);
    if (rc < 0)
        return connection_send_error(connection, rc, why.text);
    log_debug("consumer %llu (job '%s' rank %u) seeks to epoch %llu step %llu", (unsigned long long)c->id, c->job_name, c->rank,
              (unsigned long long)place.epoch, (unsigned long long)place.step);
    reply = (struct pf_ctl_place){ .epoch = place.epoch, .step = place.step };
    return connection_send(connection, &reply, PF_CTL_PLACE, sizeof(reply), NULL, 0);
}

static int on_detach(struct connection *connection)
{
    struct consumer *consumer = connection->consumer;

    if (!consumer)
        return -EPROTO;
    connection->consumer = NULL;
    consumer_detach(consumer);
    connection_owes(connection, true); /* there is nothing left to say */
    return send_ok(connection);
}

int request_go_on(struct connection *connection)
{
    struct daemon *daemon = connection->daemon;
    uint8_t message[PF_CTL_MAX] __attribute__((aligned(8)));

    while (connection->stat_busy) {
        uint32_t next;
        size_t size = stat_rows(daemon, &connection->peer, &connection->stat, connection->stat_from, &next, message);
        int rc = connection_send(connection, message, PF_CTL_ROWS, size, NULL, 0);

        if (rc == -EAGAIN) {
            connection_owes(connection, true);
            return loop_modify(daemon->loop, &connection->watch, EPOLLOUT);
        }
        if (rc < 0)
            return rc;
        connection->stat_from = next;
        connection->stat_busy = next != 0;
    }
    connection_owes(connection, false);
    return loop_modify(daemon->loop, &connection->watch, 0);
}

static int on_stat(struct connection *connection, const struct pf_ctl_stat *request)
{
    struct daemon *daemon = connection->daemon;
    struct feed *feed;
    int sent;

    if (!text_ends(request->feed, sizeof(request->feed)) || connection->stat_busy)
        return -EPROTO;
    if (request->what < PF_STAT_DAEMON || request->what > PF_STAT_LAST)
        return connection_send_error(connection, -EOPNOTSUPP, "this pfeedd does not know what was asked for; is pfeedctl newer?");
    if (*request->feed && find_to_look(connection, request->feed, &feed, &sent) < 0)
        return sent;
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        feed_turn(daemon->feeds[f]); /* what consumers returned meanwhile counts */
    reload_look(daemon);
    connection->stat = *request;
    connection->stat_from = 0;
    connection->stat_busy = true;
    return request_go_on(connection);
}

static int on_peek(struct connection *connection, const struct pf_ctl_stat *request)
{
    struct pf_ctl_head ok;
    struct feed *feed;
    int sent;

    if (!text_ends(request->feed, sizeof(request->feed)))
        return -EPROTO;
    if (find_to_look(connection, request->feed, &feed, &sent) < 0)
        return sent;
    return connection_send(connection, &ok, PF_CTL_OK, sizeof(ok), &feed->segment.reader, 1);
}

/* The answer, in as many messages as it takes. A peer that does not read them loses the rest. */
static void on_reloaded(void *context, int rc, const char *report)
{
    struct connection *connection = context;
    struct pf_ctl_report reply;
    size_t left = strlen(report);

    connection->asked_reload = false;
    if (rc < 0)
        log_warn("the change that pid %ld asked for has failed: %.*s", (long)connection->peer.pid, (int)strcspn(report, "\n"),
                 report);
    do {
        size_t part = left < sizeof(reply.text) - 1 ? left : sizeof(reply.text) - 1;

        memset(&reply, 0, sizeof(reply));
        reply.code = rc;
        memcpy(reply.text, report, part);
        report += part;
        left -= part;
        reply.more = left > 0;
    } while (connection_send(connection, &reply, PF_CTL_REPORT, sizeof(reply), NULL, 0) == 0 && left > 0);
}

static int on_reload(struct connection *connection, const struct pf_ctl_reload *request)
{
    struct reload_ask ask = { .rescan = request->flags & PF_RELOAD_RESCAN, .ended = on_reloaded, .context = connection };
    struct problem why;
    struct feed *feed;
    int rc, sent;

    if (!text_ends(request->feed, sizeof(request->feed)) || (request->flags & ~PF_RELOAD_RESCAN) || connection->asked_reload)
        return -EPROTO;
    if (!peer_rules(&connection->peer))
        return connection_send_error(connection, -EACCES, "only root and the daemon's own user may have it reload");
    if (*request->feed && find_to_look(connection, request->feed, &feed, &sent) < 0)
        return sent;
    memcpy(ask.feed, request->feed, sizeof(ask.feed));
    log_info("pid %ld, uid %u asks to %s", (long)connection->peer.pid, connection->peer.uid, ask.rescan ? "rescan" : "reload");
    rc = reload_begin(connection->daemon, &ask, &why);
    if (rc < 0)
        return connection_send_error(connection, rc, why.text);
    connection->asked_reload = true;
    return 0;
}

static int on_stop(struct connection *connection)
{
    if (!peer_rules(&connection->peer)) {
        audit_line(connection->peer.uid, "pid %ld, uid %u may not stop the daemon", (long)connection->peer.pid,
                   connection->peer.uid);
        return connection_send_error(connection, -EACCES, "only root and the daemon's own user may stop it");
    }
    log_info("pid %ld, uid %u asks to stop", (long)connection->peer.pid, connection->peer.uid);
    connection->daemon->stopping = true;
    /* Hangs up when the process is gone, and not before: that is what `pfeedctl stop` waits for. Never closed. */
    connection->daemon->asked_to_stop = fcntl(connection->watch.fd, F_DUPFD_CLOEXEC, 0);
    return send_ok(connection);
}

int request_handle(struct connection *connection, const void *message, size_t size)
{
    const struct pf_ctl_head *head = message;
    char text[160];

    if (size < sizeof(*head) || head->size != size)
        return -EPROTO;
    if (head->version != PF_CTL_VERSION) {
        snprintf(text, sizeof(text), "this pfeedd (%s) speaks protocol %u, the client %u; use the same version on both sides",
                 PFEED_VERSION, PF_CTL_VERSION, head->version);
        connection_send_error(connection, -EPROTO, text);
        return -ECONNABORTED;
    }
    if (connection->attached_once && head->type != PF_CTL_WHY && head->type != PF_CTL_SEEK && head->type != PF_CTL_DETACH)
        return -EPROTO;
    switch (head->type) {
    case PF_CTL_ATTACH:
        return on_attach(connection, message, size);
    case PF_CTL_WHY:
        return size == sizeof(*head) ? on_why(connection) : -EPROTO;
    case PF_CTL_SEEK:
        return size == sizeof(struct pf_ctl_seek) ? on_seek(connection, message) : -EPROTO;
    case PF_CTL_DETACH:
        return size == sizeof(*head) ? on_detach(connection) : -EPROTO;
    case PF_CTL_STAT:
        return size == sizeof(struct pf_ctl_stat) ? on_stat(connection, message) : -EPROTO;
    case PF_CTL_PEEK:
        return size == sizeof(struct pf_ctl_stat) ? on_peek(connection, message) : -EPROTO;
    case PF_CTL_RELOAD:
        return size == sizeof(struct pf_ctl_reload) ? on_reload(connection, message) : -EPROTO;
    case PF_CTL_STOP:
        return size == sizeof(*head) ? on_stop(connection) : -EPROTO;
    default:
        return -EPROTO;
    }
}
