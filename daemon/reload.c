/* SPDX-License-Identifier: MIT */
/* See reload.h. One change at a time, in steps that alternate between a chore's thread and the main thread:
 *
 *     LISTING (chore) -> PLANNED (main: budget; retires) -> MAKING (chore) -> published or failed (main)
 *
 * While a chore runs it alone may touch the new feeds and the ending ones; daemon->feeds does not change meanwhile. */
#include "reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "notify.h"
#include "reload_change.h"
#include "transform/kernel.h"

#define STATUS_FIRST_MS 100
#define STATUS_MS       500

/* ---- the end of a change ---------------------------------------------------------------------------------------------- */

/* The sentence of the status, when nothing special is going on. */
void reload_say(struct daemon *daemon)
{
    uint32_t there = 0, planned = 0;

    snprintf(daemon->status, sizeof(daemon->status), "%u feeds, %u workers, %s kernel, %llu of %llu MiB in use", daemon->n_feeds,
             workers_count(daemon->workers), kernel_chosen(), (unsigned long long)(daemon->used >> 20),
             (unsigned long long)(daemon->budget >> 20));
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (daemon->feeds[f]->slots_short > 0) {
            there += daemon->feeds[f]->n_slots;
            planned += daemon->feeds[f]->n_planned;
        }
    if (planned > 0)
        snprintf(daemon->status + strlen(daemon->status), sizeof(daemon->status) - strlen(daemon->status),
                 ", %u of %u slots, memory is short", there, planned);
    notify_status(daemon->status);
}

static void end(struct change *change)
{
    struct daemon *daemon = change->daemon;
    const char *report;

    fflush(change->report);
    if (change->rc == 0 && change->report_text)
        fputs(change->report_text, change->errors); /* behind warnings */
    fflush(change->errors);
    report = change->errors_text ? change->errors_text : "";
    if (change->rc < 0 && !*report) /* where memory is short, so may be that for the words */
        report = strerror(-change->rc);
    daemon->change = NULL;
    reload_say(daemon);
    if (change->ask.ended)
        change->ask.ended(change->ask.context, change->rc, report);
    reload_change_destroy(change);
}

/* ---- making: on the chore's thread ------------------------------------------------------------------------------------ */

static void make(struct chore *chore)
{
    struct change *change = (struct change *)chore;
    struct daemon *daemon = change->daemon;
    const uint32_t threads = workers_threads(daemon->workers);
    struct problem why = { "" };
    int rc;

    while (change->n_ending > 0) {
        struct feed *feed = change->ending[--change->n_ending];

        workers_pass(daemon->workers, feed);
        feed_save(feed);
        fprintf(change->gone, "%s'%s'", ftell(change->gone) ? ", " : "", feed->config->name);
        feed_destroy(feed);
    }
    rc = workers_make_room(daemon->workers, change->plan.buffer_bytes, change->plan.codec_bytes, &why);
    if (rc == 0)
        rc = ahead_make_room(daemon->ahead, change->plan.ahead_reads, change->plan.ahead_bytes, &why);
    for (uint32_t f = 0; f < change->plan.n_feeds && rc == 0; f++) {
        struct feed *feed = change->plan.feeds[f];

        if (feed->state != FEED_OPENING)
            continue;
        feed->bytes = feed_bytes(feed, change->plan.slots[f], threads);
        rc = feed_start(feed, change->plan.slots[f], daemon->shm, threads, &why);
    }
    if (rc < 0)
        fprintf(change->errors, "%s\n", why.text);
    change->rc = rc;
}

/* ---- on the main thread ----------------------------------------------------------------------------------------------- */

static void publish(struct change *change)
{
    struct daemon *daemon = change->daemon;
    struct feed **feeds = calloc(change->plan.n_feeds + daemon->n_feeds + 1, sizeof(*feeds));
    uint32_t n = 0;

    if (!feeds) {
        change->rc = -ENOMEM;
        fputs("no memory for the list of feeds\n", change->errors);
        return;
    }
    for (uint32_t f = 0; f < change->plan.n_feeds; f++) {
        struct feed *feed = feeds[n++] = change->plan.feeds[f];
        bool fresh = feed->state == FEED_OPENING;

        feed->state = FEED_RUNNING;
        feed->workers = daemon->workers;
        feed->dirty = true;
        if (fresh && feed->config->warm)
            feed_warm(feed);
    }
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (daemon->feeds[f]->state == FEED_RETIRED)
            feeds[n++] = daemon->feeds[f];
    free(daemon->feeds);
    daemon->feeds = feeds;
    daemon->n_feeds = n;
    config_destroy(daemon->config);
    daemon->config = config_ref(change->config);
    memory_count(daemon);
}

/* What was planned could not be made after all. Feeds that somebody uses go on as before; the others have made room already. */
static void take_back(struct change *change)
{
    struct daemon *daemon = change->daemon;

    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (daemon->feeds[f]->retiring)
            daemon->feeds[f]->state = FEED_RUNNING;
    fflush(change->gone);
    if (change->gone_size > 0)
        fprintf(change->errors, "feeds that nobody used have ended to make room: %s; a reload that succeeds makes them again\n",
                change->gone_text);
    memory_count(daemon);
}

static void made(struct chore *chore)
{
    struct change *change = (struct change *)chore;
    struct problem why;

    if (change->rc == 0) {
        change->rc = workers_start(change->daemon->workers, &why);
        if (change->rc == 0)
            change->rc = ahead_start(change->daemon->ahead, workers_count(change->daemon->workers), &why);
        if (change->rc == 0)
            publish(change);
        else
            fprintf(change->errors, "%s\n", why.text);
    }
    if (change->rc < 0)
        take_back(change);
    end(change);
}

/* Feeds that are not in the new set. Those whom nobody uses end at once, so that their memory is there for the new ones. */
static void retire(struct change *change)
{
    struct daemon *daemon = change->daemon;
    uint32_t n = 0;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];
        const bool gone = memory_ends(&change->plan, feed);

        if (gone && !config_feed_find(change->config, feed->config->name) && feed->state == FEED_RUNNING)
            fprintf(change->report, "feed '%s' is removed%s\n", feed->config->name,
                    feed->consumers ? ", and serves the jobs that it has" : "");
        feed->retiring = gone && feed->state == FEED_RUNNING;
        if (gone)
            feed->state = FEED_RETIRED;
        if (gone && !feed->consumers) {
            workers_forget(daemon->workers, feed);
            change->ending[change->n_ending++] = feed;
        } else {
            daemon->feeds[n++] = feed;
        }
    }
    daemon->n_feeds = n;
}

static void listed(struct chore *chore)
{
    struct change *change = (struct change *)chore;
    struct problem why = { "" };

    if (change->rc == 0) {
        config_daemon_changes(&change->daemon->started->daemon, &change->daemon->config->daemon, &change->config->daemon,
                              change->report);
        change->rc = memory_plan(change->daemon, &change->plan, &why);
        if (change->rc < 0)
            fprintf(change->errors, "%s\n", why.text);
    }
    if (change->rc < 0) {
        end(change);
        return;
    }
    retire(change);
    change->chore = (struct chore){ .run = make, .done = made };
    chores_add(change->daemon->chores, &change->chore);
}

void reload_look(struct daemon *daemon)
{
    const struct change *change = daemon->change;
    const char *listing = change ? __atomic_load_n(&change->listing, __ATOMIC_ACQUIRE) : NULL;

    if (listing)
        snprintf(daemon->status, sizeof(daemon->status), "feed '%s' is being listed: %" PRIu64 " samples so far", listing,
                 __atomic_load_n(&change->progress.listed, __ATOMIC_RELAXED));
    else if (change)
        snprintf(daemon->status, sizeof(daemon->status), "memory is being made");
}

static void on_timer(struct watch *watch, uint32_t events)
{
    struct change *change = (struct change *)((char *)watch - offsetof(struct change, timer));
    uint64_t count;

    (void)events;
    if (read(watch->fd, &count, sizeof(count)) != sizeof(count))
        return;
    reload_look(change->daemon);
    notify_status(change->daemon->status);
}

static int start_timer(struct change *change)
{
    const struct itimerspec every = { .it_interval = { .tv_nsec = STATUS_MS * 1000000 },
                                      .it_value = { .tv_nsec = STATUS_FIRST_MS * 1000000 } };

    change->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .call = on_timer };
    if (change->timer.fd < 0 || timerfd_settime(change->timer.fd, 0, &every, NULL) < 0)
        return -errno;
    return loop_add(change->daemon->loop, &change->timer, 0);
}

int reload_begin(struct daemon *daemon, const struct reload_ask *ask, struct problem *why)
{
    struct change *change;
    int rc;

    if (daemon->change)
        return problem_set(why, -EBUSY, "a change is in progress (%s); try again when it has ended", daemon->status);
    change = calloc(1, sizeof(*change));
    if (!change)
        return problem_set(why, -ENOMEM, "no memory for a change");
    change->chore = (struct chore){ .run = reload_list, .done = listed };
    change->daemon = daemon;
    change->progress.most_bytes = daemon->budget;
    change->ask = *ask;
    change->config = ask->config;
    change->first = ask->config != NULL;
    change->timer.fd = -1;
    change->errors = open_memstream(&change->errors_text, &change->errors_size);
    change->report = open_memstream(&change->report_text, &change->report_size);
    change->gone = open_memstream(&change->gone_text, &change->gone_size);
    rc = !change->errors || !change->report || !change->gone ? -ENOMEM : 0;
    if (rc == 0)
        rc = start_timer(change);
    if (rc < 0) {
        change->config = NULL;
        reload_change_destroy(change);
        return problem_set(why, rc, "cannot begin a change: %s", strerror(-rc));
    }
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        daemon->feeds[f]->remake = daemon->feeds[f]->slots_short > 0 && !daemon->feeds[f]->consumers;
    daemon->change = change;
    snprintf(daemon->status, sizeof(daemon->status), "the configuration is being read");
    chores_add(daemon->chores, &change->chore);
    return 0;
}

void reload_forget(struct daemon *daemon, const void *context)
{
    if (daemon->change && daemon->change->ask.context == context)
        daemon->change->ask.ended = NULL;
}

/* ---- the daemon's end ---------------------------------------------------------------------------------------------- */

void reload_cancel(struct daemon *daemon)
{
    if (daemon->change)
        __atomic_store_n(&daemon->change->progress.stop, true, __ATOMIC_RELAXED);
}

void reload_destroy(struct daemon *daemon)
{
    if (daemon->change)
        reload_change_destroy(daemon->change);
    daemon->change = NULL;
    reload_endings_destroy(daemon);
}
