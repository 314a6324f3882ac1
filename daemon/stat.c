/* SPDX-License-Identifier: MIT */
/* Answers to pfeedctl: rows about the daemon, feeds, slots, consumers and errors. Called by server.c, main thread. Rows of all
 * feeds that the peer may use are counted through; `from` says where a message begins. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/caches.h"
#include "config_table.h"
#include "consumer.h"
#include "group.h"
#include "server.h"

struct reply {
    uint8_t *message;
    size_t row_size;
    uint32_t from, at, count, fit;
    bool more;
};

/* Room for the next row, zeroed; NULL: it is not in this message. */
static void *next_row(struct reply *reply)
{
    uint32_t at = reply->at++;
    void *row;

    if (at < reply->from)
        return NULL;
    if (reply->count == reply->fit) {
        reply->more = true;
        return NULL;
    }
    row = reply->message + sizeof(struct pf_ctl_rows) + reply->count++ * reply->row_size;
    memset(row, 0, reply->row_size);
    return row;
}

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
}

/* The word of a CHOICE as the configuration has it. */
static void copy_word(char *to, size_t size, const struct setting *rows, const char *name, const struct config_feed *config)
{
    for (; rows->name; rows++)
        if (strcmp(rows->name, name) == 0) {
            int length;
            const char *word = setting_word(rows, config, &length);

            snprintf(to, size, "%.*s", length, word);
        }
}

static void about_daemon(const struct daemon *daemon, struct reply *reply)
{
    struct pf_row_daemon *row = next_row(reply);
    struct timespec cpu;

    if (!row)
        return;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    copy(row->version, sizeof(row->version), PFEED_VERSION);
    copy(row->shm, sizeof(row->shm), segment_kind_name(daemon->shm));
    copy(row->config, sizeof(row->config), daemon->config->files[0]);
    copy(row->status, sizeof(row->status), daemon->status);
    row->pid = (uint64_t)getpid();
    row->uptime_ns = (uint64_t)(feed_now_ns() - daemon->start_ns);
    row->memory_bytes = daemon->budget;
    row->memory_used_bytes = daemon->used;
    row->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
    row->workers = workers_count(daemon->workers);
    row->workers_busy = workers_busy(daemon->workers);
    row->feeds = daemon->n_feeds;
    ahead_say(daemon->ahead, row->reads, sizeof(row->reads));
    row->dropped = consumer_dropped();
    row->wakeups = loop_turns(daemon->loop);
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        for (const struct consumer *c = daemon->feeds[f]->consumers; c; c = c->next)
            *(c->state == CONSUMER_ATTACHED ? &row->consumers : &row->quarantined) += 1;
}

static void about_feed(struct feed *feed, struct reply *reply)
{
    struct pf_row_feed *row = next_row(reply);
    int64_t reading_ns;

    if (!row)
        return;
    copy(row->name, sizeof(row->name), feed->config->name);
    copy(row->state, sizeof(row->state), feed->state == FEED_RETIRED ? "retired" : "running");
    copy(row->source, sizeof(row->source), feed->config->source->name);
    copy(row->deliver, sizeof(row->deliver), feed->deliver->name);
    copy_word(row->tail, sizeof(row->tail), config_feed_table, "tail", feed->config);
    copy_word(row->shuffle, sizeof(row->shuffle), config_shuffle_table, "mode", feed->config);
    pthread_mutex_lock(&feed->lock);
    copy(row->failed, sizeof(row->failed), feed->failed);
    pthread_mutex_unlock(&feed->lock);
    row->samples = feed->samples;
    row->seed = feed->config->seed;
    row->slot_bytes = feed->slot_bytes;
    row->batch = feed->batch;
    row->n_slots = feed->n_slots;
    row->gang = (uint32_t)feed->config->gang;
    row->prints = feed->prints;
    row->slots_short = feed->slots_short;
    row->read_ahead = __atomic_load_n(&feed->ahead.depth, __ATOMIC_RELAXED);
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        const struct slot *slot = &feed->slots[s];

        row->free += slot->state == PF_SLOT_FREE;
        row->filling += slot->state == PF_SLOT_FILLING;
        row->ready += slot->state == PF_SLOT_READY && slot->grants == 0;
        row->held += slot->state == PF_SLOT_READY && slot->grants > 0;
    }
    if (feed_reading(feed, row->reading, sizeof(row->reading), &reading_ns))
        row->reading_ns = (uint64_t)reading_ns;
    for (const struct job *job = feed->jobs; job; job = job->next) {
        row->jobs++;
        row->consumers += job->n_consumers;
        row->gang_there += job_of_gang(job);
    }
#define PF_COUNTER_feed(name) row->name = FEED_GET(feed, name);
#define PF_COUNTER_consumer(name)
#define PF_COUNTER(scope, name, unit, help) PF_COUNTER_##scope(name)
#include "counters.tbl"
#undef PF_COUNTER
#undef PF_COUNTER_feed
#undef PF_COUNTER_consumer
}

static void about_holders(const struct feed *feed, const struct slot *slot, struct pf_row_slot *row)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        uint32_t taken = consumer_held(c), held = 0;

        if (!consumer_has(c, slot->number))
            continue;
        for (uint32_t i = 0; i < taken; i++)
            held += c->out[i].slot == slot->number;
        if (row->n_holders < PF_HOLDERS) {
            row->holders[row->n_holders].consumer = c->id;
            row->holders[row->n_holders].rank = c->rank;
            row->holders[row->n_holders].taken = held;
            copy(row->holders[row->n_holders].job, PF_JOB_NAME, c->job_name);
        }
        row->n_holders++;
    }
}

static void about_slots(const struct feed *feed, struct reply *reply)
{
    for (uint32_t s = 0; s < feed->n_slots; s++) {
        const struct slot *slot = &feed->slots[s];
        struct pf_row_slot *row = next_row(reply);

        if (!row)
            continue;
        copy(row->feed, sizeof(row->feed), feed->config->name);
        row->slot = s;
        row->state = slot->state;
        row->grants = slot->grants;
        row->since_ns = (uint64_t)(feed_now_ns() - slot->since_ns);
        if (slot->state == PF_SLOT_FREE)
            continue;
        row->epoch = slot->epoch;
        row->index = slot->index;
        row->seed = slot->seed;
        row->rows = slot->n_rows;
        row->rows_done = slot->n_rows - __atomic_load_n(&slot->left, __ATOMIC_RELAXED);
        row->pins = slot_pins(feed, slot);
        about_holders(feed, slot, row);
    }
}

static void about_consumers(const struct feed *feed, struct reply *reply)
{
    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        struct pf_row_consumer *row = next_row(reply);

        if (!row)
            continue;
        copy(row->feed, sizeof(row->feed), feed->config->name);
        copy(row->job, sizeof(row->job), c->job_name);
        feed_why(feed, c, row->waits_for, sizeof(row->waits_for));
        row->consumer = c->id;
        row->epoch = c->at.epoch;
        row->step = c->at.step;
        row->pid = c->pid;
        row->uid = c->uid;
        row->rank = c->rank;
        row->replica = c->replica;
        row->world = c->job ? c->job->world : 0;
        row->batch = c->job ? c->job->terms.batch : 0;
        row->granted = c->n_out;
        row->held = consumer_held(c);
        row->max_held = c->max_held;
        row->state = c->state == CONSUMER_QUARANTINED       ? PF_CONSUMER_QUARANTINED
                     : c->job->parked                       ? PF_CONSUMER_PARKED
                     : !c->job->started                     ? PF_CONSUMER_WAITING
                     : job_over(c->job, c->at) && !c->n_out ? PF_CONSUMER_ENDED
                                                            : PF_CONSUMER_RUNNING;
        row->age_ns = (uint64_t)(feed_now_ns() - c->born_ns);
        if (c->n_out > 0)
            row->held_since_ns = (uint64_t)(feed_now_ns() - c->out[0].since_ns);
#define PF_COUNTER_feed(name)
#define PF_COUNTER_consumer(name)           row->name = c->counters.name;
#define PF_COUNTER(scope, name, unit, help) PF_COUNTER_##scope(name)
#include "counters.tbl"
#undef PF_COUNTER
#undef PF_COUNTER_feed
#undef PF_COUNTER_consumer
        if (!c->returns)
            continue;
        row->wait_ns = __atomic_load_n(&c->returns->wait_ns, __ATOMIC_RELAXED);
        row->waits = __atomic_load_n(&c->returns->waits, __ATOMIC_RELAXED);
    }
}

static const char *job_state(const struct feed *feed, const struct job *job)
{
    bool over = true;

    for (const struct consumer *c = feed->consumers; c; c = c->next)
        over &= c->job != job || (job_over(job, c->at) && c->n_out == 0);
    return job->parked ? "parked" : !job->started ? "waiting" : over ? "ended" : job->stalls ? "stalling" : "running";
}

/* The others of its group, and what is decoded for all of them per row that they get. */
static void about_group(const struct feed *feed, const struct job *job, struct pf_row_job *row)
{
    uint64_t filled = 0, delivered = 0;
    size_t at = 0;

    row->group = job->group;
    for (const struct job *other = feed->jobs; other; other = other->next) {
        if (other->group != job->group)
            continue;
        filled += other->rows_filled;
        delivered += other->rows_delivered;
        if (other != job && at < sizeof(row->shares))
            at += (size_t)snprintf(row->shares + at, sizeof(row->shares) - at, "%s%s", at ? ", " : "",
                                   *other->name ? other->name : "(private)");
    }
    row->decoded_ppm = delivered ? filled * 1000000 / delivered : 0;
}

static void about_jobs(struct feed *feed, struct reply *reply)
{
    uint32_t slots;

    group_all(feed, &slots);
    for (const struct job *job = feed->jobs; job; job = job->next) {
        struct pf_row_job *row = next_row(reply);
        struct place rear = job->start, front = job->start;

        if (!row)
            continue;
        copy(row->feed, sizeof(row->feed), feed->config->name);
        copy(row->job, sizeof(row->job), job->name);
        copy(row->state, sizeof(row->state), job_state(feed, job));
        copy(row->slow, sizeof(row->slow), job_slow_word(job->slow));
        copy(row->local_ranks, sizeof(row->local_ranks), job->local_text);
        about_group(feed, job, row);
        job_rearmost(job, &rear);
        for (const struct consumer *c = feed->consumers; c; c = c->next)
            if (c->job == job && job_before(front, c->at))
                front = c->at;
        row->seed = job->seed;
        row->run = job->run;
        row->epochs = job->epochs;
        row->start_epoch = job->start.epoch;
        row->start_step = job->start.step;
        row->epoch = rear.epoch;
        row->step = rear.step;
        row->front_epoch = front.epoch;
        row->front_step = front.step;
        row->steps = job->steps;
        row->rows_filled = job->rows_filled;
        row->rows_delivered = job->rows_delivered;
        row->uid = job->uid;
        row->world = job->world;
        row->ranks = job->n_attached;
        row->local = job->n_local;
        row->consumers = job->n_consumers;
        row->batch = job->terms.batch;
        row->world_batch = (uint32_t)job->terms.stride;
        row->slot_use_ppm = (uint32_t)(job_slot_use(job) * 1e6);
        row->aligned_batch = job_aligned_batch(job);
    }
}

static void about_errors(struct feed *feed, struct reply *reply)
{
    pthread_mutex_lock(&feed->lock);
    for (uint32_t i = 0; i < feed->n_errors && i < FEED_ERRORS; i++) {
        struct pf_row_error *row = next_row(reply);

        if (!row)
            continue;
        copy(row->feed, sizeof(row->feed), feed->config->name);
        copy(row->where, sizeof(row->where), feed->errors[i].where);
        copy(row->reason, sizeof(row->reason), feed->errors[i].reason);
        row->id = feed->errors[i].id;
        row->epoch = feed->errors[i].epoch;
        row->count = feed->errors[i].count;
    }
    pthread_mutex_unlock(&feed->lock);
}

static void about_tune(const struct feed *feed, struct reply *reply)
{
    const struct tune_pace *pace = &feed->tune.pace;
    struct pf_row_tune *row = next_row(reply);

    if (!row)
        return;
    copy(row->feed, sizeof(row->feed), feed->config->name);
    row->in_use = feed->in_use;
    row->n_slots = feed->n_slots;
    row->most = feed->n_planned;
    row->needed = feed->tune.needed;
    row->slots_auto = feed->tune.slots_auto;
    row->workers = workers_count(feed->workers);
    row->compute_ns = (uint64_t)pace->compute;
    row->supply_ns = (uint64_t)pace->supply;
    row->slowest_ns = (uint64_t)pace->slowest;
    row->compute_varies = (uint32_t)(tune_deviation(pace->compute_varies) * 1e6);
    row->supply_varies = (uint32_t)(tune_deviation(pace->supply_varies) * 1e6);
    row->waits = (uint32_t)(pace->waits * 1e6);
}

static void about_changes(struct feed *feed, struct reply *reply)
{
    const uint64_t last = tune_changes(feed);
    struct tune_change change;

    for (uint64_t n = last > TUNE_CHANGES ? last - TUNE_CHANGES + 1 : 1; n <= last; n++) {
        struct pf_row_change *row = tune_change(feed, n, &change) ? next_row(reply) : NULL;

        if (!row)
            continue;
        copy(row->feed, sizeof(row->feed), feed->config->name);
        copy(row->what, sizeof(row->what), tune_word(change.what));
        copy(row->why, sizeof(row->why), change.why);
        row->number = change.number;
        row->batch = change.batch;
        row->ago_ns = (uint64_t)(feed_now_ns() - change.at_ns);
        row->from = change.from;
        row->to = change.to;
    }
}

/* Those of the feed that no feed before it has told of already, where all are asked for; all feeds that the peer may use are named. */
static void about_caches(struct daemon *daemon, const struct peer *peer, uint32_t number, bool every, struct reply *reply)
{
    const struct feed *feed = daemon->feeds[number];

    for (uint32_t k = 0; k < CACHE_KINDS; k++) {
        struct pf_row_cache *row = NULL;
        bool told = !caches_has(feed, feed, k);
        size_t at = 0;

        for (uint32_t f = 0; every && f < number && !told; f++)
            told = caches_has(daemon->feeds[f], feed, k) && peer_may(daemon, peer, daemon->feeds[f]);
        row = told ? NULL : next_row(reply);
        if (!row)
            continue;
        caches_describe(feed, k, row);
        for (uint32_t f = 0; f < daemon->n_feeds && at < sizeof(row->feeds); f++)
            if (caches_has(daemon->feeds[f], feed, k) && peer_may(daemon, peer, daemon->feeds[f]))
                at += (size_t)snprintf(row->feeds + at, sizeof(row->feeds) - at, "%s%s", at ? ", " : "",
                                       daemon->feeds[f]->config->name);
    }
}

static size_t row_size(uint32_t what)
{
    switch (what) {
    case PF_STAT_DAEMON:
        return sizeof(struct pf_row_daemon);
    case PF_STAT_FEEDS:
        return sizeof(struct pf_row_feed);
    case PF_STAT_SLOTS:
        return sizeof(struct pf_row_slot);
    case PF_STAT_CONSUMERS:
        return sizeof(struct pf_row_consumer);
    case PF_STAT_JOBS:
        return sizeof(struct pf_row_job);
    case PF_STAT_CHANGES:
        return sizeof(struct pf_row_change);
    case PF_STAT_TUNE:
        return sizeof(struct pf_row_tune);
    case PF_STAT_CACHES:
        return sizeof(struct pf_row_cache);
    default:
        return sizeof(struct pf_row_error);
    }
}

static void about(struct feed *feed, uint32_t what, struct reply *reply)
{
    switch (what) {
    case PF_STAT_FEEDS:
        about_feed(feed, reply);
        break;
    case PF_STAT_SLOTS:
        about_slots(feed, reply);
        break;
    case PF_STAT_CONSUMERS:
        about_consumers(feed, reply);
        break;
    case PF_STAT_ERRORS:
        about_errors(feed, reply);
        break;
    case PF_STAT_JOBS:
        about_jobs(feed, reply);
        break;
    case PF_STAT_CHANGES:
        about_changes(feed, reply);
        break;
    case PF_STAT_TUNE:
        about_tune(feed, reply);
        break;
    }
}

size_t stat_rows(struct daemon *daemon, const struct peer *peer, const struct pf_ctl_stat *request, uint32_t from, uint32_t *next,
                 uint8_t message[PF_CTL_MAX])
{
    struct pf_ctl_rows *head = (struct pf_ctl_rows *)message;
    struct reply reply = { .message = message, .row_size = row_size(request->what), .from = from };

    reply.fit = (uint32_t)((PF_CTL_MAX - sizeof(*head)) / reply.row_size);
    if (request->what == PF_STAT_DAEMON)
        about_daemon(daemon, &reply);
    for (uint32_t f = 0; request->what != PF_STAT_DAEMON && f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];

        if (peer_may(daemon, peer, feed) && (!*request->feed || strcmp(request->feed, feed->config->name) == 0))
            request->what == PF_STAT_CACHES ? about_caches(daemon, peer, f, !*request->feed, &reply)
                                            : about(feed, request->what, &reply);
    }
    *head = (struct pf_ctl_rows){
        .what = request->what, .count = reply.count, .row_size = (uint32_t)reply.row_size, .more = reply.more
    };
    *next = reply.more ? from + reply.count : 0;
    return sizeof(*head) + reply.count * reply.row_size;
}
