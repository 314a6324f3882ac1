/* SPDX-License-Identifier: MIT */
/* See grow.h. One slot at a time: the main thread asks for it, a chore compares the limits, reserves and touches its memory, and
 * the main thread puts it to use. What a chore has made is not lost where it cannot be used at once: the next one finds it. */
#include "grow.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "budget.h"
#include "chore.h"
#include "memory.h"
#include "reload_change.h"
#include "server.h"

#define EVERY_S  1
#define SPARE    UINT64_C(268435456) /* stays free beside a new slot, so that it is not the machine's last memory; or */
#define SPARE_OF 32                  /* this part of all, if that is less */

struct grow {
    struct chore chore;
    struct watch timer;
    struct daemon *daemon;
    bool armed, busy; /* the timer runs; the chore does */
    /* The chore's. */
    struct feed *feed;
    enum segment_kind kind;
    uint64_t slot_bytes, until; /* bytes of the segment with the slot */
    int rc;
    struct problem why;
};

/* How many it shall have and has not. */
static uint32_t lacks(const struct feed *feed)
{
    const uint32_t tuned = feed->in_use > feed->n_slots ? feed->in_use - feed->n_slots : 0;

    if (feed->state != FEED_RUNNING)
        return 0;
    return tuned > feed->slots_short ? tuned : feed->slots_short;
}

static void set_timer(struct grow *grow, bool on)
{
    const struct itimerspec every = { .it_interval = { .tv_sec = on ? EVERY_S : 0 }, .it_value = { .tv_sec = on ? EVERY_S : 0 } };

    grow->armed = timerfd_settime(grow->timer.fd, 0, &every, NULL) == 0 ? on : grow->armed;
}

/* ---- one slot: on the chore's thread -------------------------------------------------------------------------------- */

static void make(struct chore *chore)
{
    struct grow *grow = (struct grow *)chore;
    struct budget_limits limits;
    uint64_t spare;

    grow->rc = 0;
    if (grow->feed->segment.made >= grow->until)
        return;
    budget_read(&limits);
    spare = limits.total / SPARE_OF < SPARE ? limits.total / SPARE_OF : SPARE;
    grow->rc = budget_check(&limits, grow->slot_bytes + spare, grow->slot_bytes, grow->kind, &grow->why);
    if (grow->rc == 0)
        grow->rc = segment_make(&grow->feed->segment, grow->until, &grow->why);
}

/* ---- on the main thread --------------------------------------------------------------------------------------------- */

/* The one that lacks most. */
static struct feed *choose(const struct daemon *daemon)
{
    struct feed *best = NULL;

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];

        if (lacks(feed) > (best ? lacks(best) : 0) && daemon->used + feed->slot_bytes <= daemon->budget)
            best = feed;
    }
    return best;
}

static void begin(struct grow *grow);

/* The feed may have ended meanwhile; a change that goes on counts slots, and looks at what is free. */
static void made(struct chore *chore)
{
    struct grow *grow = (struct grow *)chore;
    struct daemon *daemon = grow->daemon;
    struct feed *feed = NULL;
    bool was_short;

    grow->busy = false;
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (daemon->feeds[f] == grow->feed)
            feed = grow->feed;
    if (grow->rc < 0)
        log_debug("no further slot yet: %s", grow->why.text);
    if (grow->rc < 0 || !feed || lacks(feed) == 0 || daemon->change)
        return;
    was_short = feed->slots_short > 0;
    feed_add_slot(feed);
    memory_count(daemon);
    reload_say(daemon);
    if (was_short && feed->slots_short == 0)
        log_info("feed '%s': memory has returned, all %u slots are there", feed->config->name, feed->n_slots);
    begin(grow);
}

static void begin(struct grow *grow)
{
    struct daemon *daemon = grow->daemon;
    struct feed *feed = grow->busy || daemon->change ? NULL : choose(daemon);

    if (!feed)
        return;
    grow->busy = true;
    grow->feed = feed;
    grow->kind = daemon->shm;
    grow->slot_bytes = feed->slot_bytes;
    grow->until = feed->slots_offset + (feed->n_slots + 1) * feed->slot_bytes;
    grow->chore = (struct chore){ .run = make, .done = made };
    chores_add(daemon->chores, &grow->chore);
}

static void on_timer(struct watch *watch, uint32_t events)
{
    struct grow *grow = (struct grow *)((char *)watch - offsetof(struct grow, timer));
    uint64_t count;

    (void)events;
    if (read(watch->fd, &count, sizeof(count)) == sizeof(count))
        begin(grow);
}

static struct grow *create(struct daemon *daemon)
{
    struct grow *grow = calloc(1, sizeof(*grow));

    if (!grow)
        return NULL;
    grow->daemon = daemon;
    grow->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .call = on_timer };
    if (grow->timer.fd >= 0 && loop_add(daemon->loop, &grow->timer, 0) == 0)
        return grow;
    if (grow->timer.fd >= 0)
        close(grow->timer.fd);
    free(grow);
    return NULL;
}

void grow_look(struct daemon *daemon)
{
    bool any = false;

    for (uint32_t f = 0; f < daemon->n_feeds && !any; f++)
        any = lacks(daemon->feeds[f]) > 0;
    if (any && !daemon->grow)
        daemon->grow = create(daemon); /* else at a later turn */
    if (daemon->grow && daemon->grow->armed != any)
        set_timer(daemon->grow, any);
}

void grow_destroy(struct daemon *daemon)
{
    struct grow *grow = daemon->grow;

    if (!grow)
        return;
    loop_remove(daemon->loop, &grow->timer);
    close(grow->timer.fd);
    free(grow);
    daemon->grow = NULL;
}
