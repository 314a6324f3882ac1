/* SPDX-License-Identifier: MIT */
/* Feeds that a change has retired, and that end by themselves when their last job has: pfeedd.c looks for them after each turn
 * of the main loop, and a chore gives them back. Main thread, but for end_feed. */
#include <stdlib.h>

#include "reload_change.h"

/* A retired feed that ends by itself. */
struct ending {
    struct chore chore;
    struct ending *next;
    struct daemon *daemon;
    struct feed *feed;
};

static void end_feed(struct chore *chore)
{
    struct ending *ending = (struct ending *)chore;

    workers_pass(ending->daemon->workers, ending->feed);
    feed_save(ending->feed);
    feed_destroy(ending->feed);
    ending->feed = NULL;
}

static void feed_ended(struct chore *chore)
{
    struct ending *ending = (struct ending *)chore, **link = &ending->daemon->endings;

    while (*link != ending)
        link = &(*link)->next;
    *link = ending->next;
    free(ending);
}

void reload_reap(struct daemon *daemon)
{
    if (daemon->change)
        return;
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        struct feed *feed = daemon->feeds[f];
        struct ending *ending;

        if (feed->state != FEED_RETIRED || feed->consumers)
            continue;
        ending = calloc(1, sizeof(*ending));
        if (!ending)
            return; /* at a later turn */
        log_info("feed '%s' as it was before the reload has ended", feed->config->name);
        workers_forget(daemon->workers, feed);
        daemon->feeds[f--] = daemon->feeds[--daemon->n_feeds];
        *ending = (struct ending){
            .chore = { .run = end_feed, .done = feed_ended }, .next = daemon->endings, .daemon = daemon, .feed = feed
        };
        daemon->endings = ending;
        memory_count(daemon);
        reload_say(daemon);
        chores_add(daemon->chores, &ending->chore);
    }
}

void reload_endings_destroy(struct daemon *daemon)
{
    while (daemon->endings) {
        struct ending *ending = daemon->endings;

        daemon->endings = ending->next;
        feed_destroy(ending->feed);
        free(ending);
    }
}
