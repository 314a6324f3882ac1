/* SPDX-License-Identifier: MIT */
/* What the daemon changes by itself while it runs (slots in use, read depth), and why: the last changes of each feed, for
 * the log and `pfeedctl tune`. */
#ifndef PFEED_TUNE_H
#define PFEED_TUNE_H

#include <stdbool.h>
#include <stdint.h>

struct feed;

#define TUNE_CHANGES 64 /* remembered of a feed */
#define TUNE_WHY     200

enum tune_what { TUNE_SLOTS, TUNE_READ_DEPTH };

struct tune_change {
    enum tune_what what;
    uint32_t from, to;
    uint64_t number; /* counts the feed's changes from 1 */
    uint64_t batch;  /* slots that the feed had filled by then */
    int64_t at_ns;
    char why[TUNE_WHY];
};

struct tune_log { /* feed->lock */
    uint64_t n;   /* since the feed was opened: change n lies at n % TUNE_CHANGES */
    struct tune_change changes[TUNE_CHANGES];
};

/* Remembers and logs a change that has been made; `why` with the figures it rests on, as half a sentence. Any thread but a worker's
 * in its turn: takes a lock and writes. */
void tune_note(struct feed *feed, enum tune_what what, uint32_t from, uint32_t to, const char *why, ...)
    __attribute__((format(printf, 5, 6)));
/* Change number n, as long as it is remembered: the last ones are. False: it is not. */
bool tune_change(struct feed *feed, uint64_t n, struct tune_change *out);
uint64_t tune_changes(struct feed *feed); /* the last number; 0: none yet */
const char *tune_word(enum tune_what what);

#endif
