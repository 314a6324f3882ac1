/* SPDX-License-Identifier: MIT */
/* See consumer.h. server.c attaches and detaches, feed.c drains and grants, the loop calls for eventfds and pidfds. Whatever a
 * consumer can write is loaded once and checked against what was granted. Main thread. */
#include "consumer.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server.h"

static uint64_t next_id = 1;
static uint32_t dropped, n_consumers; /* n_consumers: quarantined ones count, too */

uint32_t consumer_dropped(void)
{
    return dropped;
}

uint32_t consumer_count(void)
{
    return n_consumers;
}

/* ---- grants and returns --------------------------------------------------------------------------------------------- */

static void wake(struct consumer *c)
{
    if (pf_grants_ring(c->grants, c->returns)) {
        syscall(SYS_futex, &c->grants->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
        c->counters.wakes++;
    }
}

static uint32_t count_valid(const struct range *range)
{
    return range->valid < range->rows ? range->valid : range->rows;
}

/* Rows at the end of an epoch that no step holds, told of by one rank: the first of this host, or each where each sees all. */
static uint64_t left_out(const struct consumer *c)
{
    const struct job *job = c->job;
    uint64_t reached = job->steps * job->terms.stride;
    uint32_t first = 0;

    while (!job->terms.alone && first < job->world && !job->local[first])
        first++;
    return reached < job->samples && (job->terms.alone || c->rank == first) ? job->samples - reached : 0;
}

static void grant_one(struct consumer *c, struct slot *slot, const struct range *range)
{
    struct place after = job_after(c->job, c->at);
    bool last_of_epoch = after.epoch != c->at.epoch;
    struct pf_grant grant = {
        .number = c->published,
        .epoch = c->at.epoch,
        .step = c->at.step,
        .slot = slot->number,
        .row = range->row,
        .rows = range->rows,
        .valid = count_valid(range),
        .flags = last_of_epoch ? PF_GRANT_LAST_OF_EPOCH | (job_over(c->job, after) ? PF_GRANT_LAST : 0) : 0,
    };

    c->out[c->n_out++] = (struct granted){ .number = grant.number,
                                           .place = c->at,
                                           .slot = slot->number,
                                           .rows = range->rows,
                                           .padded = range->rows - grant.valid,
                                           .left_out = last_of_epoch ? left_out(c) : 0,
                                           .since_ns = feed_now_ns() };
    slot->grants++;
    c->published++;
    c->at = after;
    c->counters.grants++;
    FEED_ADD(c->feed, rows_granted, range->rows);
    pf_grants_publish(c->grants, &grant);
}

void consumer_grant(struct consumer *c)
{
    bool any = false;

    while (c->n_out < PF_RING && !job_over(c->job, c->at)) {
        struct range range = job_range(c->job, c->rank, c->at);
        struct slot *slot = slot_find(c->feed, c->job->seed, &range);

        if (!slot || slot->state != PF_SLOT_READY)
            break;
        grant_one(c, slot, &range);
        any = true;
    }
    if (any)
        wake(c);
}

/* Takes entry i off the list of what is out. */
static void settle(struct consumer *c, uint32_t i)
{
    struct slot *slot = &c->feed->slots[c->out[i].slot];

    assert(slot->grants > 0);
    slot->grants--;
    memmove(&c->out[i], &c->out[i + 1], (c->n_out - i - 1) * sizeof(c->out[0]));
    c->n_out--;
    if (slot->grants == 0)
        slot_release(c->feed, slot);
    c->feed->dirty = true;
}

/* Noted now, dropped at the next turn: c may be in use further up. */
static bool misbehaves(struct consumer *c, const char *what, uint64_t value)
{
    if (!c->broken[0])
        snprintf(c->broken, sizeof(c->broken), "dropped: the return page of this process (pid %ld) is not sound: %s (%llu)",
                 (long)c->pid, what, (unsigned long long)value);
    c->feed->dirty = true;
    return false;
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

static bool take_return(struct consumer *c, uint64_t number)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].number == number) {
            c->counters.returns++;
            c->counters.rows += c->out[i].rows;
            FEED_ADD(c->feed, rows_delivered, c->out[i].rows);
            FEED_ADD(c->feed, rows_padded, c->out[i].padded);
            FEED_ADD(c->feed, rows_left_out, c->out[i].left_out);
            settle(c, i);
            return true;
        }
    return false;
}

/* The taken word, if it can be what an honest consumer wrote. */
static bool read_taken(struct consumer *c)
{
    uint64_t taken = __atomic_load_n(&c->returns->taken, __ATOMIC_ACQUIRE);

    if (taken < c->taken || taken > c->published)
        return false;
    c->taken = taken;
    return true;
}

static uint32_t count_taken(const struct consumer *c, uint64_t taken)
{
    uint32_t held = 0;

    while (held < c->n_out && c->out[held].number < taken)
        held++;
    return held;
}

/* Whether every return up to tail was of a taken, outstanding grant; stops at the first that was not. */
static bool read_returns(struct consumer *c, uint64_t tail, uint64_t *bad)
{
    while (c->tail != tail) {
        uint64_t number = pf_returns_number(c->returns, c->tail);

        if (number >= c->taken || !take_return(c, number)) {
            *bad = number;
            return false;
        }
        c->tail++;
    }
    return true;
}

bool consumer_drain(struct consumer *c)
{
    uint64_t before, tail, bad;

    /* Loaded before the tail: whoever took one more than max_held had returned one that the tail covers. */
    if (!read_taken(c))
        return misbehaves(c, "takes what was not granted", c->published);
    before = c->taken;
    tail = pf_returns_tail(c->returns);
    if (tail - c->tail > c->n_out)
        return misbehaves(c, "more returns than grants are out", tail);
    /* And once more after it: what was returned had been taken. */
    if (tail != c->tail && !read_taken(c))
        return misbehaves(c, "takes what was not granted", c->published);
    if (!read_returns(c, tail, &bad))
        return misbehaves(c, "returns a grant that is not out", bad);
    if (count_taken(c, before) > c->max_held)
        return misbehaves(c, "holds more batches than max_held", count_taken(c, before));
    return true;
}

/* The last grant that is out, as if it had not been given. */
static void take_back(struct consumer *c)
{
    struct granted *last = &c->out[c->n_out - 1];

    c->at = last->place; /* before it is settled: the slot is wanted again from here */
    c->counters.revoked++;
    c->counters.grants--;
    FEED_ADD(c->feed, rows_granted, -(uint64_t)last->rows);
    settle(c, c->n_out - 1);
}

bool consumer_revoke(struct consumer *c)
{
    uint64_t from;

    if (pf_grants_revoke(c->returns, c->taken, c->published, &from) < 0)
        return misbehaves(c, "takes what was not granted", c->published);
    c->taken = c->published;
    while (c->n_out > 0 && c->out[c->n_out - 1].number >= from)
        take_back(c);
    return true;
}

uint32_t consumer_held(const struct consumer *c)
{
    return c->returns ? count_taken(c, __atomic_load_n(&c->returns->taken, __ATOMIC_ACQUIRE)) : c->n_out;
}

bool consumer_has(const struct consumer *c, uint32_t slot)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (c->out[i].slot == slot)
            return true;
    return false;
}

bool consumer_holds(const struct consumer *c, uint32_t slot)
{
    uint32_t held = consumer_held(c);

    for (uint32_t i = 0; i < held; i++)
        if (c->out[i].slot == slot)
            return true;
    return false;
}

struct place consumer_untaken(const struct consumer *c)
{
    uint32_t held = consumer_held(c);

    return held < c->n_out ? c->out[held].place : c->at;
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void leave_job(struct consumer *c)
{
    struct job *job = c->job, **link;

    if (!job)
        return;
    c->job = NULL;
    c->feed->dirty = true;
    job->ranks[c->rank] = NULL;
    job->left[c->rank] = c->at;
    if (c->n_out > 0)
        job->left[c->rank] = c->out[0].place;
    if (--job->n_attached == 0) {
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
        settle(c, c->n_out - 1);
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

/* What it had returned before its end counts as returned. */
static void last_returns(struct consumer *c)
{
    uint64_t tail = pf_returns_tail(c->returns), bad;

    if (tail - c->tail <= c->n_out && read_taken(c))
        read_returns(c, tail, &bad);
}

static void bury(struct consumer *c)
{
    if (c->state == CONSUMER_ATTACHED)
        last_returns(c);
    if (c->connection)
        server_close(c->connection);
    log_info("consumer %llu of feed '%s' (job '%s' rank %u, pid %ld) has ended, %u batches came back", (unsigned long long)c->id,
             c->feed->config->name, c->job_name, c->rank, (long)c->pid, c->n_out);
    consumer_destroy(c);
}

/* Its process lives: what it took stays claimed, the rest comes back. An honest consumer holds no more than max_held; what one
 * that wrote nonsense may have taken beyond is its own loss. */
static void quarantine(struct consumer *c)
{
    uint64_t from;

    if (pf_grants_revoke(c->returns, c->taken, c->published, &from) < 0)
        from = UINT64_MAX;
    while (c->n_out > 0 && (c->out[c->n_out - 1].number >= from || c->n_out > c->max_held))
        take_back(c);
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
    last_returns(c);
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
    last_returns(c);
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
    wake(c);
    c->connection = NULL;
    if (connection)
        server_close(connection);
    quarantine(c);
    if (c->n_out == 0 || process_dead(c))
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
    c->feed->dirty = true;
}

/* ---- attaching ------------------------------------------------------------------------------------------------------ */

/* A newer run of the job takes its place. */
static void supersede(struct feed *feed, struct job *job, uint64_t run)
{
    char sentence[256];

    snprintf(sentence, sizeof(sentence), "run %llu of job '%s' has taken the place of run %llu", (unsigned long long)run,
             job->name, (unsigned long long)job->run);
    log_info("feed '%s': %s", feed->config->name, sentence);
    for (uint32_t r = 0, world = job->world, left = job->n_attached; r < world && left > 0; r++)
        if (job->ranks[r]) {
            left--;
            consumer_drop(job->ranks[r], PF_CLOSED_SUPERSEDED, sentence); /* the last one takes the job along */
        }
}

/* The rank that is furthest behind, in slots from the beginning. */
static uint64_t rearmost(const struct job *job)
{
    uint64_t rear = UINT64_MAX;

    for (uint32_t r = 0; r < job->world; r++)
        if (job->ranks[r]) {
            const struct consumer *c = job->ranks[r];
            uint64_t at = job_ordinal(job, c->at.epoch, job_range(job, r, c->at).index);

            rear = at < rear ? at : rear;
        }
    return rear == UINT64_MAX ? 0 : rear;
}

struct group {
    const struct job *first;
    uint64_t at;
    uint32_t need;
};

/* Of one group: jobs of one seed within reach of each other's slots, which therefore keep slots for each other. Jobs of which
 * only some ranks live here need other rows of the same slots. */
static bool same_group(const struct feed *feed, const struct group *group, const struct job *job, uint64_t at)
{
    uint64_t apart = at > group->at ? at - group->at : group->at - at;

    return group->first->seed == job->seed && group->first->spans == job->spans && apart <= feed->n_slots &&
           group->first->n_local == group->first->world && job->n_local == job->world;
}

static uint32_t slots_needed(const struct job *job, uint32_t max_held)
{
    return (max_held + 2) * job_step_slots(job);
}

/* DESIGN.md section 6: max_held + 2 slots for each group of jobs that stand at different places. `old` does not count: its place
 * is taken. */
static int check_groups(struct feed *feed, const struct job *job, const struct job *old, uint32_t max_held, struct problem *why)
{
    enum { MOST = 64 };
    struct group groups[MOST] = { { job, rearmost(job),
                                    slots_needed(job, max_held > job->max_held ? max_held : job->max_held) } };
    uint32_t n = 1, need = 0;

    for (const struct job *other = feed->jobs; other; other = other->next) {
        uint64_t at = rearmost(other);
        uint32_t g = 0, one = slots_needed(other, other->max_held);

        if (other == job || other == old)
            continue;
        while (g < n && !same_group(feed, &groups[g], other, at))
            g++;
        if (g == MOST)
            continue;
        if (g == n)
            groups[n++] = (struct group){ other, at, one };
        else if (one > groups[g].need)
            groups[g].need = one;
    }
    for (uint32_t g = 0; g < n; g++)
        need += groups[g].need;
    for (const struct consumer *c = feed->consumers; c; c = c->next)
        need += c->state == CONSUMER_QUARANTINED ? c->n_out : 0;
    if (need <= feed->n_slots)
        return 0;
    return problem_set(
        why, -ENOSPC,
        "feed '%s' has %u slots, and %u are needed: for each of %u groups of jobs that stand at different places max_held (%u "
        "here) + 2, times the slots of a step (%u here); raise `slots` or `memory`, lower max_held, or start the jobs "
        "together (`gang`)",
        feed->config->name, feed->n_slots, need, n, max_held, job_step_slots(job));
}

static int join(struct feed *feed, const struct job *job, const struct pf_ctl_attach *request, uint32_t max_held,
                struct problem *why)
{
    const struct place *left;
    int rc = job_agrees(job, request, why);

    if (rc < 0)
        return rc;
    if (job->ranks[request->rank])
        return problem_set(
            why, -EBUSY,
            "rank %u of job '%s' is there already (pid %ld); end that process first, or give all ranks of a new run a higher "
            "options.run",
            request->rank, job->name, (long)job->ranks[request->rank]->pid);
    left = &job->left[request->rank];
    if (job->started && (left->epoch || left->step))
        return problem_set(
            why, -EBUSY,
            "rank %u of job '%s' stands at epoch %llu step %llu, and this attach is for epoch 0 step 0; restart all ranks "
            "of the job (resuming from a token is not in this version)",
            request->rank, job->name, (unsigned long long)left->epoch, (unsigned long long)left->step);
    return max_held > job->max_held ? check_groups(feed, job, NULL, max_held, why) : 0;
}

/* A new job, which is to take the place of `old` where there is one. */
static int make_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, const struct job *old, uint32_t max_held,
                    struct job **out, struct problem *why)
{
    struct job *job;
    int rc = job_create(&job, feed, uid, request, why);

    if (rc < 0)
        return rc;
    if (!job->local[request->rank])
        rc = problem_set(why, -EINVAL, "rank %u is not among its own local_ranks '%s'", request->rank, request->local_ranks);
    else
        rc = check_groups(feed, job, old, max_held, why);
    if (rc < 0)
        job_destroy(job);
    else
        *out = job;
    return rc;
}

/* The job that the request means, made if need be; *fresh: it was. */
static int choose_job(struct feed *feed, uid_t uid, const struct pf_ctl_attach *request, uint32_t max_held, struct job **out,
                      bool *fresh, struct problem *why)
{
    struct job *job = job_find(feed, uid, request->job);
    int rc;

    if (request->rank >= request->world)
        return problem_set(why, -EINVAL, "rank is %u, but with world %u ranks are 0 to %u", request->rank, request->world,
                           request->world - 1);
    if (!*request->job && request->world != 1)
        return problem_set(why, -EINVAL,
                           "world is %u, but no job is named: a private job has world 1; give all ranks the same job name",
                           request->world);
    if (request->start[0] && strcmp(request->start, "fresh") != 0)
        return problem_set(why, -EOPNOTSUPP, "start '%.60s' is not in this version; use \"fresh\" or none", request->start);
    if (job && request->run < job->run)
        return problem_set(
            why, -ESTALE,
            "run %llu of job '%s' is there, newer than this rank's run %llu; end this one, or give all of its ranks a "
            "higher options.run",
            (unsigned long long)job->run, job->name, (unsigned long long)request->run);
    *fresh = !job || request->run > job->run;
    if (!*fresh) {
        rc = join(feed, job, request, max_held, why);
        if (rc < 0)
            return rc;
        *out = job;
        return 0;
    }
    rc = make_job(feed, uid, request, job, max_held, out, why);
    if (rc == 0 && job)
        supersede(feed, job, request->run);
    return rc;
}

static int make_lane(struct consumer *c, struct problem *why)
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

static void fill_reply(const struct consumer *c, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS])
{
    *reply = (struct pf_ctl_attached){
        .consumer = c->id,
        .arena_size = c->feed->segment.size,
        .samples = c->feed->samples,
        .steps = c->job->steps,
        .batch = c->job->terms.batch,
        .world_batch = (uint32_t)c->job->terms.stride,
        .max_held = c->max_held,
        .spin_ns =
            sysconf(_SC_NPROCESSORS_ONLN) > 4 ? 10000 : 0, /* where cores are scarce, the one that spins holds up a worker */
        .version = PFEED_VERSION,
    };
    fds[PF_FD_ARENA] = c->feed->segment.reader;
    fds[PF_FD_GRANT] = c->grant_segment.reader;
    fds[PF_FD_RETURN] = c->return_segment.reader;
    fds[PF_FD_EVENT] = c->event.fd;
}

int consumer_attach(struct consumer **out, struct feed *feed, struct loop *loop, const struct pf_ctl_attach *request,
                    const struct consumer_peer *peer, struct pf_ctl_attached *reply, int fds[PF_ATTACH_FDS], struct problem *why)
{
    uint32_t max_held = request->max_held ? request->max_held : (uint32_t)feed->config->max_held;
    struct consumer *c;
    struct job *job = NULL;
    bool fresh = false;
    int rc;

    if (feed->failed_told)
        return problem_set(why, -EIO, "feed '%s' has failed: %s", feed->config->name, feed->failed);
    if (max_held > PF_RING / 2)
        return problem_set(why, -EINVAL, "max_held is %u; it can be 1 to %u", max_held, PF_RING / 2);
    rc = choose_job(feed, peer->uid, request, max_held, &job, &fresh, why);
    if (rc < 0)
        return rc;
    c = calloc(1, sizeof(*c));
    if (!c) {
        rc = problem_set(why, -ENOMEM, "no memory for a consumer");
        goto fail_job;
    }
    *c = (struct consumer){ .feed = feed,
                            .loop = loop,
                            .id = next_id,
                            .rank = request->rank,
                            .max_held = max_held,
                            .uid = peer->uid,
                            .pid = peer->pid,
                            .born_ns = feed_now_ns(),
                            .process = { .fd = -1, .call = on_process },
                            .event = { .fd = -1, .call = on_event },
                            .grant_segment = { .fd = -1, .reader = -1 },
                            .return_segment = { .fd = -1, .reader = -1 } };
    n_consumers++;
    memcpy(c->job_name, request->job, sizeof(c->job_name));
    rc = make_lane(c, why);
    if (rc < 0)
        goto fail_consumer;
    if (peer->pidfd >= 0) {
        c->process.fd = peer->pidfd;
        rc = loop_add(loop, &c->process, 0);
        if (rc < 0) {
            c->process.fd = -1;
            problem_set(why, rc, "cannot watch the process: %s", strerror(-rc));
            goto fail_consumer;
        }
    }
    next_id++;
    if (fresh) {
        job->next = feed->jobs;
        feed->jobs = job;
    }
    c->job = job;
    job->ranks[c->rank] = c;
    job->n_attached++;
    job->max_held = max_held > job->max_held ? max_held : job->max_held;
    c->next = feed->consumers;
    feed->consumers = c;
    feed->dirty = true;
    fill_reply(c, reply, fds);
    *out = c;
    return 0;
fail_consumer:
    consumer_destroy(c);
fail_job:
    if (fresh)
        job_destroy(job);
    return rc;
}
