/* SPDX-License-Identifier: MIT */
/*
 * See ahead_depth.h. Called by ahead.c under its lock, on whichever thread completes a window.
 *
 * Little's law: for workers never to wait, as many reads must be under way as they take rows in the time of one read, so
 *     depth = latency x workers / work of a row,
 * and half as many again, as neither is constant. The work is what workers spend on a row beside reading it, so that this is the
 * rate that they could keep up, not the one that slow reads have forced upon them. The latency is the least of the last windows':
 * storage that is busy answers later the more it is asked, and a depth that followed that would only feed on itself.
 *
 * Whether reads wait is not told by how long they take, on a machine where others have the core, but by whether the thread slept.
 * Where hardly any does (the page cache has them) nothing is read ahead, as handing over would cost more than it saves. So that the
 * depth does not swing, it is turned on at one read in eight that waits, off below one in sixteen, four windows in turn, and else
 * changed only by a quarter and more.
 */
#include "ahead_depth.h"

#include <stdio.h>

#define ON_SHARE    8 /* one in so many */
#define OFF_SHARE   16
#define OFF_WINDOWS 4
#define WORK_LEAST  1000 /* ns */
#define GAIN_LEAST  10   /* latency under a tenth of the work is not worth hiding */

static uint64_t least_latency(const struct ahead_tuner *tuner)
{
    const uint32_t n = tuner->n_past < AHEAD_PAST ? tuner->n_past : AHEAD_PAST;
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < n; i++)
        least = tuner->past_ns[i] < least ? tuner->past_ns[i] : least;
    return least;
}

static uint32_t wanted_depth(uint64_t latency_ns, uint64_t work_ns, uint32_t n_workers, uint32_t most)
{
    const double depth = 1.5 * (double)latency_ns * n_workers / (double)work_ns;

    return depth >= most ? most : depth < 2 ? (most < 2 ? most : 2) : (uint32_t)depth + (depth > (uint32_t)depth);
}

uint32_t ahead_depth_next(struct ahead_tuner *tuner, const struct ahead_window *window, uint32_t n_workers, uint32_t depth,
                          uint32_t most, char *why, size_t size)
{
    uint64_t latency_ns;
    uint32_t wanted;

    if (window->reads == 0)
        return depth;
    tuner->latency_ns = window->took_ns / window->reads;
    if (window->rows > 0)
        tuner->work_ns = window->work_ns / window->rows;
    if (window->slept * OFF_SHARE < window->reads) {
        tuner->quiet++;
        tuner->n_past = 0;
        if (depth == 0 || tuner->quiet < OFF_WINDOWS)
            return depth;
        snprintf(why, size, "reads do not wait any more (%u of the last %u did): the page cache has them", window->slept,
                 window->reads);
        return 0;
    }
    tuner->quiet = 0;
    tuner->past_ns[tuner->n_past++ % AHEAD_PAST] = tuner->latency_ns;
    if (tuner->n_past == 2 * AHEAD_PAST)
        tuner->n_past = AHEAD_PAST; /* the places are the same, and the number stays small */
    latency_ns = least_latency(tuner);
    if (depth == 0 && (window->slept * ON_SHARE < window->reads || latency_ns * GAIN_LEAST < tuner->work_ns))
        return 0;
    /* Where no row was made yet, reading is all that is known to take time. */
    wanted = wanted_depth(latency_ns,
                          tuner->work_ns > WORK_LEAST ? tuner->work_ns
                          : tuner->work_ns            ? WORK_LEAST
                                                      : latency_ns,
                          n_workers, most);
    if (depth > 0 && wanted * 4 < depth * 5 && wanted * 5 > depth * 4 && depth <= most)
        return depth;
    snprintf(why, size, "reads wait %.2f ms, and %u workers take %.2f ms for the rest of a row", (double)latency_ns / 1e6,
             n_workers, (double)tuner->work_ns / 1e6);
    return wanted;
}
