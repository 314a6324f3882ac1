/* SPDX-License-Identifier: MIT */
/* Bad samples of a feed: the last ones are remembered for `pfeedctl errors`, and too many of them end the feed. Workers call it,
 * several at once; never on the path of a good row. */
#ifndef PFEED_BAD_H
#define PFEED_BAD_H

#include <stdbool.h>
#include <stdint.h>

struct feed;

void bad_note(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason);
/* A row's own sample is bad (DESIGN.md section 4, promise 9). True: with this one the feed has failed, and the main thread is to
 * be told: by `on_error: fail`, or as more than `max_errors` of the rows filled are bad, counted over at least BAD_ROWS rows (all
 * samples, where there are fewer), and BAD_SAMPLES different samples or as many rows as there are samples (but BAD_FEW_ROWS). */
bool bad_scheduled(struct feed *feed, uint64_t id, uint64_t epoch, const char *reason);

#define BAD_ROWS     1000u
#define BAD_WINDOW   100000u /* rows, after which the share is counted anew */
#define BAD_FEW_ROWS 100u
#define BAD_SAMPLES  3u

#endif
