/* SPDX-License-Identifier: MIT */
/* See bad.h. */
#include "bad.h"

#include <stdio.h>
#include <string.h>

#include "feed.h"

#define WHERE_SHOWN  150 /* of a path in the feed's last sentence: its end tells more than its beginning */
#define REASON_SHOWN 100

/* feed->lock is held. True: it is the first one of the feed. */
static bool note(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason)
{
    struct feed_error *error = NULL;

    for (uint32_t i = 0; i < feed->n_errors && i < FEED_ERRORS; i++)
        if (feed->errors[i].id == id)
            error = &feed->errors[i];
    if (!error) {
        error = &feed->errors[feed->n_errors++ % FEED_ERRORS];
        *error = (struct feed_error){ .id = id };
        feed->config->source->where(feed->source, id, error->where, sizeof(error->where));
        if (feed->n_errors <= BAD_SAMPLES) {
            size_t length = strlen(error->where), cut = length > WHERE_SHOWN ? length - WHERE_SHOWN : 0;
            char text[sizeof(feed->first_errors[0])];

            snprintf(text, sizeof(text), "%s%s: %.*s", cut ? "..." : "", error->where + cut, REASON_SHOWN, reason);
            memcpy(feed->first_errors[feed->n_errors - 1], text, sizeof(text));
        }
    }
    error->epoch = epoch;
    error->count++;
    snprintf(error->reason, sizeof(error->reason), "%s", reason);
    return feed->n_errors == 1 && error->count == 1;
}

/* The others are in `pfeedctl errors`. Without the lock: whoever reads the log may be slow. */
static void tell_first(const struct feed *feed, uint64_t id)
{
    log_warn("feed '%s': the first bad sample is %llu: %s", feed->config->name, (unsigned long long)id, feed->first_errors[0]);
}

void bad_note(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason)
{
    bool first;

    pthread_mutex_lock(&feed->lock);
    first = note(feed, id, epoch, reason);
    pthread_mutex_unlock(&feed->lock);
    if (first)
        tell_first(feed, id);
}

/* feed->lock is held. Since the present window began, so that years of good rows do not excuse a disk that dies. */
static bool too_many(struct feed *feed, uint64_t *bad, uint64_t *rows)
{
    const uint64_t least = feed->samples < BAD_ROWS ? feed->samples : BAD_ROWS;
    const uint64_t whole = feed->samples > BAD_FEW_ROWS ? feed->samples : BAD_FEW_ROWS;

    *bad = FEED_GET(feed, rows_replaced) + FEED_GET(feed, rows_masked);
    *rows = FEED_GET(feed, rows_filled);
    if (*rows - feed->window_rows > BAD_WINDOW) {
        feed->window_rows = *rows;
        feed->window_bad = *bad;
    }
    *bad += 1 - feed->window_bad; /* this one is not counted yet */
    *rows += 1 - feed->window_rows;
    *rows = *rows > least ? *rows : least;
    return feed->config->max_errors <= 0 ||
           ((feed->n_errors >= BAD_SAMPLES || *rows >= whole) && (double)*bad > feed->config->max_errors * (double)*rows);
}

bool bad_scheduled(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason)
{
    uint64_t bad, rows;
    bool fails = false, first;

    pthread_mutex_lock(&feed->lock);
    first = note(feed, id, epoch, reason);
    if (!feed->failed[0] && feed->config->on_error == CONFIG_FAIL) {
        snprintf(feed->failed, sizeof(feed->failed), "sample %llu is bad, and on_error is `fail`: %s", (unsigned long long)id,
                 feed->first_errors[0]);
        fails = true;
    } else if (!feed->failed[0] && too_many(feed, &bad, &rows)) {
        snprintf(
            feed->failed, sizeof(feed->failed),
            "%llu of %llu rows are bad, more than the %g of `max_errors`: %s%s%s%s%s; mend them and `pfeedctl rescan %s`, or "
            "raise max_errors",
            (unsigned long long)bad, (unsigned long long)rows, feed->config->max_errors, feed->first_errors[0],
            *feed->first_errors[1] ? "; " : "", feed->first_errors[1], *feed->first_errors[2] ? "; " : "", feed->first_errors[2],
            feed->config->name);
        fails = true;
    }
    pthread_mutex_unlock(&feed->lock);
    if (first)
        tell_first(feed, id);
    return fails;
}
