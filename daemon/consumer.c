/* SPDX-License-Identifier: MIT */
/* See consumer.h. The consumer itself, from its memory to its end: consumer_attach.c makes one, server.c and request.c tell of a
 * hang-up or a DETACH, the loop of its process's death, feed.c and consumer_attach.c drop it. Its lane is made and closed here;
 * what goes through it is consumer_ring.c's. Main thread. */
#include "consumer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "queue.h"
#include "server.h"

static uint32_t dropped, n_consumers; /* n_consumers: quarantined ones count, too */

uint32_t consumer_dropped(void)
{
    return dropped;
}

uint32_t consumer_count(void)
{
    return n_consumers;
}

/* ---- memory, and what the loop calls -------------------------------------------------------------------------------- */

static void bury(struct consumer *c)
{
    if (c->state == CONSUMER_ATTACHED)
        consumer_last_returns(c);
    if (c->connection)
        server_close(c->connection);
    log_info("consumer %llu of feed '%s' (job '%s' rank %u, pid %ld) has ended, %u batches came back", (unsigned long long)c->id,
             c->feed->config->name, c->job_name, c->rank, (long)c->pid, c->n_out);
    consumer_destroy(c);
}

static void on_process(struct watch *watch, uint32_t events)
{
    struct consumer *c = (struct consumer *)((uint8_t *)watch - offsetof(struct consumer, process));

    (void)events;
    bury(c);
}

static void on_event(struct watch *watch, uint32_t events)
{
    struct consumer *c = (struct consumer *)((uint8_t *)watch - offsetof(struct consumer, event));

    (void)events;
    c->rang = true;
    c->active_ns = feed_now_ns();
    c->feed->dirty = true;
}

struct consumer *consumer_make(struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                               const struct consumer_peer *peer)
{
    struct consumer *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    *c = (struct consumer){ .feed = feed,
                            .loop = loop,
                            .rank = request->rank,
                            .replica = request->replica,
                            .max_held = consumer_max_held(feed, request),
                            .uid = peer->uid,
                            .pid = peer->pid,
                            .born_ns = feed_now_ns(),
                            .process = { .fd = -1, .call = on_process },
                            .event = { .fd = -1, .call = on_event },
                            .grant_segment = { .fd = -1, .reader = -1 },
                            .return_segment = { .fd = -1, .reader = -1 } };
    n_consumers++;
    memcpy(c->job_name, request->job, sizeof(c->job_name));
    return c;
}

int consumer_make_lane(struct consumer *c, struct problem *why)
{
    int rc = segment_create(&c->grant_segment, SEGMENT_MEMFD, sizeof(struct pf_grant_page), PF_GRANT_PAGE, 0, why);

    if (rc < 0)
        return rc;
    rc = segment_create(&c->return_segment, SEGMENT_MEMFD, sizeof(struct pf_return_page), PF_RETURN_PAGE, 1, why);
    if (rc < 0)
        return rc;
    c->grants = c->grant_segment.map;
    c->returns = c->return_segment.map;
    c->grants->wake_at = c->wake_at = UINT64_MAX;
    segment_publish(&c->grant_segment);
    segment_publish(&c->return_segment);
    c->event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event.fd < 0)
        return problem_set(why, -errno, "cannot make an eventfd: %s", strerror(errno));
    rc = loop_add(c->loop, &c->event, EPOLLET);
    return rc < 0 ? problem_set(why, rc, "cannot watch an eventfd: %s", strerror(-rc)) : 0;
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void close_lane(struct consumer *c)
{
    if (c->event.fd >= 0) {
        loop_remove(c->loop, &c->event);
        close(c->event.fd);
        c->event.fd = -1;
    }
    segment_destroy(&c->grant_segment);
    segment_destroy(&c->return_segment);
    c->grants = NULL;
    c->returns = NULL;
}

/* Where it stood, for whoever takes its place: before its lane is closed. */
static void remember_rank(const struct consumer *c)
{
    struct job_left where = { .rank = c->rank, .replica = c->replica, .low = c->at, .high = consumer_untaken(c) };

    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].number >= c->sought) {
            where.low = c->out[i].place;
            break;
        }
    if (job_before(where.high, where.low)) /* what it holds is from before a seek */
        where.high = where.low;
    if (c->seeks < c->job->seeks) /* the others are there already, or will be */
        where.low = where.high = c->job->sought;
    job_leave(c->job, &where);
}

/* What it leaves behind. */
static void remember_place(struct consumer *c)
{
    if (c->job->terms.queue) {
        for (uint32_t i = 0; i < c->n_out; i++)
            queue_give_back(c->job, c->out[i].place);
        queue_give_back(c->job, c->at);
        return;
    }
    remember_rank(c);
}

static void leave_job(struct consumer *c)
{
    struct job *job = c->job, **link;
    struct consumer **twin;

    if (!job)
        return;
    remember_place(c);
    c->job = NULL;
    c->feed->dirty = true;
    for (twin = &job->ranks[c->rank]; *twin != c; twin = &(*twin)->twin)
        ;
    *twin = c->twin;
    job->n_attached -= !job->ranks[c->rank];
    if (--job->n_consumers == 0) {
        for (link = &c->feed->jobs; *link != job; link = &(*link)->next)
            ;
        *link = job->next;
        job_destroy(job);
    }
}

static void release_slots(struct feed *feed)
{
    for (uint32_t s = 0; s < feed->n_slots; s++)
        slot_release(feed, &feed->slots[s]);
}

void consumer_destroy(struct consumer *c)
{
    struct feed *feed = c->feed;
    struct consumer **link = &feed->consumers;

    while (*link && *link != c)
        link = &(*link)->next;
    if (*link)
        *link = c->next;
    leave_job(c);
    while (c->n_out > 0)
        consumer_settle(c, c->n_out - 1);
    if (feed->slots)
        release_slots(feed);
    if (c->process.fd >= 0) {
        loop_remove(c->loop, &c->process);
        close(c->process.fd);
    }
    close_lane(c);
    n_consumers--;
    free(c);
}

static bool process_dead(const struct consumer *c)
{
    struct pollfd poll_fd = { .fd = c->process.fd, .events = POLLIN };

    return c->process.fd < 0 || poll(&poll_fd, 1, 0) > 0;
}

/* Its process lives: what it took stays claimed, the rest comes back. What it had returned is read once it can take nothing more: by
 * then an honest consumer holds no more than max_held; what one that wrote nonsense may have taken beyond is its own loss. */
static void quarantine(struct consumer *c)
{
    uint64_t from;

    if (pf_grants_revoke(c->returns, c->taken, c->published, &from) < 0)
        from = UINT64_MAX;
    while (c->n_out > 0 && c->out[c->n_out - 1].number >= from)
        consumer_take_back(c);
    consumer_last_returns(c);
    while (c->n_out > c->max_held)
        consumer_take_back(c);
    leave_job(c);
    c->state = CONSUMER_QUARANTINED;
    close_lane(c);
    c->feed->dirty = true;
    release_slots(c->feed);
    log_debug("consumer %llu of feed '%s' (job '%s' rank %u, pid %ld) is gone but its process lives: %u batches stay claimed "
              "until it ends",
              (unsigned long long)c->id, c->feed->config->name, c->job_name, c->rank, (long)c->pid, c->n_out);
}

void consumer_detach(struct consumer *c)
{
    consumer_last_returns(c);
    consumer_destroy(c);
}

void consumer_hangup(struct consumer *c)
{
    c->connection = NULL;
    if (c->state != CONSUMER_ATTACHED)
        return;
    if (process_dead(c)) {
        bury(c);
        return;
    }
    quarantine(c);
    if (c->n_out == 0)
        consumer_destroy(c); /* it has nothing that could come back */
}

void consumer_drop(struct consumer *c, enum pf_closed closed, const char *sentence)
{
    struct connection *connection = c->connection;

    if (c->state != CONSUMER_ATTACHED)
        return;
    if (connection)
        server_tell(connection, sentence); /* it is there when `closed` sends the consumer to look for it */
    __atomic_store_n(&c->grants->closed, (uint32_t)closed, __ATOMIC_RELEASE);
    consumer_wake(c);
    c->connection = NULL;
    if (connection)
        server_close(connection);
    quarantine(c);
    if (c->n_out == 0 || process_dead(c))
        consumer_destroy(c);
}

bool consumer_check(struct consumer *c)
{
    if (!c->broken[0])
        return true;
    log_warn("consumer %llu of feed '%s', job '%s' rank %u, uid %u: %s", (unsigned long long)c->id, c->feed->config->name,
             c->job_name, c->rank, c->uid, c->broken);
    dropped++;
    consumer_drop(c, PF_CLOSED_DROPPED, c->broken);
    return false;
}
