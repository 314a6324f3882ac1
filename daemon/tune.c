/* SPDX-License-Identifier: MIT */
/* See tune.h. */
#include "tune.h"

#include <stdarg.h>
#include <stdio.h>

#include "feed.h"

const char *tune_word(enum tune_what what)
{
    static const char *const words[] = { [TUNE_SLOTS] = "slots", [TUNE_READ_DEPTH] = "read_depth" };

    return words[what];
}

void tune_note(struct feed *feed, enum tune_what what, uint32_t from, uint32_t to, const char *why, ...)
{
    struct tune_change change = {
        .what = what, .from = from, .to = to, .batch = FEED_GET(feed, slots_filled), .at_ns = feed_now_ns()
    };
    va_list arguments;

    va_start(arguments, why);
    vsnprintf(change.why, sizeof(change.why), why, arguments);
    va_end(arguments);
    pthread_mutex_lock(&feed->lock);
    change.number = ++feed->tuned.n;
    feed->tuned.changes[change.number % TUNE_CHANGES] = change;
    pthread_mutex_unlock(&feed->lock);
    log_info("feed '%s': %s from %u to %u: %s", feed->config->name, tune_word(what), from, to, change.why);
}

uint64_t tune_changes(struct feed *feed)
{
    uint64_t n;

    pthread_mutex_lock(&feed->lock);
    n = feed->tuned.n;
    pthread_mutex_unlock(&feed->lock);
    return n;
}

bool tune_change(struct feed *feed, uint64_t n, struct tune_change *out)
{
    bool known;

    pthread_mutex_lock(&feed->lock);
    known = feed->tuned.changes[n % TUNE_CHANGES].number == n && n > 0;
    if (known)
        *out = feed->tuned.changes[n % TUNE_CHANGES];
    pthread_mutex_unlock(&feed->lock);
    return known;
}
