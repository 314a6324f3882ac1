/* SPDX-License-Identifier: MIT */
/* See reload_change.h. What a change wants: the new configuration, and feeds that are open but take no memory yet. A chore of
 * reload.c, on the thread of chores; for pfeedd.c and --check, on the main thread. */
#include "reload_change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct feed *running_feed(const struct daemon *daemon, const char *name)
{
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        if (daemon->feeds[f]->state == FEED_RUNNING && strcmp(daemon->feeds[f]->config->name, name) == 0)
            return daemon->feeds[f];
    return NULL;
}

/* Whether the running feed may stay as it is; says why not. */
static bool stays(struct change *change, const struct feed *old, const struct config_feed *config)
{
    char *changes = old ? config_feed_changes(old->config, config) : NULL;
    bool same = changes && !*changes;

    if (!old && !change->first)
        fprintf(change->report, "feed '%s' is new\n", config->name);
    else if (changes && *changes)
        fprintf(change->report, "feed '%s' has changed, for new jobs:\n%s", config->name, changes);
    free(changes);
    if (same && old->remake) {
        fprintf(change->report, "feed '%s' is made again, for new jobs: it had %u slots fewer\n", config->name, old->slots_short);
        return false;
    }
    if (same && change->ask.rescan && (!*change->ask.feed || strcmp(change->ask.feed, config->name) == 0)) {
        fprintf(change->report, "feed '%s' is listed anew, for new jobs\n", config->name);
        return false;
    }
    return same;
}

/* A feed whose classes come from one that has changed is made anew, too; until there is no such feed left. */
static void follow_classes(struct change *change)
{
    bool any = true;

    while (any) {
        any = false;
        for (uint32_t f = 0; f < change->plan.n_feeds; f++) {
            const struct config_feed *config = &change->config->feeds[f];
            const struct config_feed *other = config_feed_find(change->config, config->classes_of ? config->classes_of : "");

            if (!change->plan.feeds[f] || !other || change->plan.feeds[other - change->config->feeds])
                continue;
            fprintf(change->report, "feed '%s' takes its classes from '%s', which has changed\n", config->name, other->name);
            change->plan.feeds[f] = NULL;
            any = true;
        }
    }
}

static int open_all(struct change *change)
{
    const struct feeds_env env = { .config = change->config,
                                   .feeds = change->plan.feeds,
                                   .state = change->daemon->state,
                                   .rescan = change->ask.rescan ? change->ask.feed : NULL,
                                   .progress = &change->progress,
                                   .listing = &change->listing };

    if (change->config->no_memory) /* parts of it may be missing */
        return config_report(change->config, change->errors);
    for (uint32_t f = 0; f < change->plan.n_feeds && change->config->n_errors == 0; f++) {
        struct feed *old = running_feed(change->daemon, change->config->feeds[f].name);

        if (stays(change, old, &change->config->feeds[f]))
            change->plan.feeds[f] = old;
    }
    follow_classes(change);
    if (change->first || change->config->n_errors == 0)
        feeds_open(&env);
    return config_report(change->config, change->errors);
}

void reload_list(struct chore *chore)
{
    struct change *change = (struct change *)chore;
    const struct daemon *daemon = change->daemon;

    if (!change->config)
        change->rc = config_load(&change->config, daemon->config->files[0]);
    if (change->rc < 0)
        return;
    change->plan.n_feeds = change->config->n_feeds;
    change->plan.feeds = calloc(change->config->n_feeds + 1, sizeof(*change->plan.feeds));
    change->plan.slots = calloc(change->config->n_feeds + 1, sizeof(*change->plan.slots));
    change->ending = calloc(daemon->n_feeds + 1, sizeof(*change->ending));
    if (change->plan.feeds && change->plan.slots && change->ending)
        change->rc = open_all(change);
    else
        change->rc = -ENOMEM;
}

void reload_change_destroy(struct change *change)
{
    for (uint32_t f = 0; f < change->plan.n_feeds; f++)
        if (change->plan.feeds && change->plan.feeds[f] && change->plan.feeds[f]->state == FEED_OPENING)
            feed_destroy(change->plan.feeds[f]);
    for (uint32_t f = 0; f < change->n_ending; f++)
        feed_destroy(change->ending[f]);
    if (change->timer.fd >= 0) {
        loop_remove(change->daemon->loop, &change->timer);
        close(change->timer.fd);
    }
    if (change->errors)
        fclose(change->errors);
    if (change->report)
        fclose(change->report);
    if (change->gone)
        fclose(change->gone);
    free(change->gone_text);
    free(change->errors_text);
    free(change->report_text);
    free(change->plan.feeds);
    free(change->plan.slots);
    free(change->ending);
    config_destroy(change->config);
    free(change);
}

int reload_check(struct config *config, FILE *errors)
{
    struct daemon none = { .config = config };
    struct change *change = calloc(1, sizeof(*change));
    int rc = -ENOMEM;

    if (change)
        change->report = open_memstream(&change->report_text, &change->report_size);
    if (!change || !change->report) {
        fputs("no memory to check the configuration\n", errors);
        free(change);
        return rc;
    }
    change->daemon = &none;
    change->config = config_ref(config);
    change->first = true;
    change->timer.fd = -1;
    change->errors = errors;
    reload_list(&change->chore);
    rc = change->rc;
    change->errors = NULL;
    reload_change_destroy(change);
    return rc;
}
