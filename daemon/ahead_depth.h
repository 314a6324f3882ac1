/* SPDX-License-Identifier: MIT */
/* How many reads should be under way: from what reads take, whether they had to wait, and what workers take for a row. Pure. */
#ifndef PFEED_AHEAD_DEPTH_H
#define PFEED_AHEAD_DEPTH_H

#include <stddef.h>
#include <stdint.h>

#define AHEAD_WINDOW 16u /* reads of a window */
#define AHEAD_PAST   8u  /* windows whose least latency counts */

struct ahead_window { /* what was seen since the last look */
    uint32_t reads, slept;
    uint64_t took_ns;       /* of all these reads together */
    uint64_t rows, work_ns; /* rows that workers made meanwhile, and what decoding them took; 0: none */
};

struct ahead_tuner {
    uint64_t past_ns[AHEAD_PAST]; /* mean latency of the last windows in which reads waited */
    uint32_t n_past, quiet;       /* quiet: windows in turn in which hardly a read waited */
    uint64_t work_ns;             /* of a row; 0: not known */
    uint64_t latency_ns;          /* as it is now: of the last window */
};

/* The depth to use from now on, at most `most`; the same as `depth` where nothing speaks for another. why: half a sentence. */
uint32_t ahead_depth_next(struct ahead_tuner *tuner, const struct ahead_window *window, uint32_t n_workers, uint32_t depth,
                          uint32_t most, char *why, size_t size);

#endif
