/* SPDX-License-Identifier: MIT */
/*
 * The rule of tuning: from measured times to how many slots are filled ahead. Pure: what happened goes in by tune_add, decisions come
 * out, and nothing here knows a clock, so that a test drives it with simulated loads. tune_feed.c measures, tune_look.c asks.
 *
 * C is the time in which a trainer gets through a slot's rows, without what it waits, and S the time that the workers need for them.
 * The quicker side of the two waits for the other one, and slots bridge what both vary by. For a queue of b places between them the
 * probability that it has run empty (or, where the workers are the slower side, full) falls as exp(-2 (1 - u) b / (v_C + v_S)), with
 * u = min(C, S) / max(C, S) and v the squared coefficients of variation (diffusion approximation of G/G/1, Kingman 1962). So
 * b = (v_C + v_S) ln(1 / TUNE_MISS) / (2 (1 - u)); and as many more as the slower side gets through while the slowest row is made, as
 * batches come in order. To that comes what the groups of jobs hold and fill anyhow: max_held + 2 each (group.h).
 *
 * Variances are those of successive differences (von Neumann 1941), as a load that changes once is no variation; differences that lie
 * far out are cut, as slow rows are counted by themselves. Where the medians of the last TUNE_RECENT batches and of those before
 * differ by more than TUNE_SHIFT, and than chance would have it, the load has changed, and what was before is forgotten.
 *
 * Slots in use are raised at once to what is needed and a quarter. They are lowered TUNE_CALM batches after the load has changed, by a
 * quarter at least, or where half of them were enough for TUNE_QUIET batches; never below what the slowest row since would need, so that
 * rare slow rows make them go up once and not up and down. Each time that the quiet turns out to have deceived, the next lowering waits
 * twice as long.
 */
#ifndef PFEED_TUNE_RULE_H
#define PFEED_TUNE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#define TUNE_WINDOW 32  /* batches */
#define TUNE_MEMORY 256 /* batches that means and variances are of; older ones count less */
#define TUNE_RECENT 6
#define TUNE_KEPT   4 /* of the recent ones, where the load has changed */
#define TUNE_SHIFT  1.5
#define TUNE_CALM   8
#define TUNE_QUIET  256
#define TUNE_MISS   0.005 /* share of batches that a trainer may find missing */
#define TUNE_WAITS  0.02  /* share of its time that a trainer may wait (DESIGN.md section 14) */

struct tune_series {            /* times of batches since the load has changed, the last TUNE_MEMORY of them above all */
    uint32_t count;             /* that are in the window */
    uint32_t shifts;            /* how often the load has changed */
    double value[TUNE_WINDOW];  /* mean of `steps` batches that came at once; the newest is last */
    double steps[TUNE_WINDOW];  /* how many they were */
    double beside[TUNE_WINDOW]; /* a second figure of the same batches */
    double n, weight;           /* values; and batches, older ones counted less */
    double sum, sum_beside;     /* of batches */
    double pairs, apart;        /* pairs of neighbours, and their squared differences */
    double most, second;        /* of the second figure, the two largest */
};

void tune_add(struct tune_series *series, double value, double steps, double beside);
double tune_mean(const struct tune_series *series);
double tune_variation(const struct tune_series *series); /* squared coefficient of variation of a single batch */

/* Seconds or nanoseconds, if only all are the same. */
struct tune_pace {
    double compute, supply;               /* C and S */
    double compute_varies, supply_varies; /* squared coefficients of variation */
    double slowest;                       /* the second longest claim of rows */
    double waits;                         /* share of its time that the trainer waited for the last batches */
    double recent;                        /* C of those */
    double once;                          /* the longest claim of rows: for what has come once slots are not added, but kept */
    bool known;                           /* there are enough batches to tell */
};

/* A job's and its feed's series: those of the job are C with the time that it waited beside, those of the feed the workers' time for
 * a batch with its longest claim beside. `workers`: how many of them the feed has. */
struct tune_pace tune_pace(const struct tune_series *job, const struct tune_series *feed, double workers);
/* Slots that bridge the variation, and a claim of rows as long as that. */
double tune_burst(const struct tune_pace *pace, double slowest);
/* Whether the trainer waits though the workers are quick enough. */
bool tune_starved(const struct tune_pace *pace);
double tune_deviation(double variation); /* as a share of the mean */

struct tune_need {      /* of all groups of a feed */
    uint32_t base;      /* slots that they hold and fill anyhow */
    double burst, keep; /* slots that bridge variations; that are not given up if they are in use */
    bool starved;       /* a trainer waits though the workers are quicker than it */
    bool known;
    uint32_t batches; /* since the last look */
    uint32_t shifts;
};

struct tune_slots {
    uint32_t in_use, shifts;
    uint32_t since, patience; /* batches since hold was begun; times TUNE_QUIET */
    uint32_t waited;          /* batches since the last change of load or slots */
    uint32_t hold;            /* the most that was needed since */
    bool settled;             /* the load has not changed for so long that slots it has no need for are given up */
    bool lowered;             /* by the quiet: the last change was one */
};

enum tune_reason { TUNE_STAYS, TUNE_NEEDED, TUNE_STARVED, TUNE_UNUSED };

uint32_t tune_needed(const struct tune_need *need, double burst);
/* Some batches later. Slots in use are never more than `most`, nor less than base + 2 as far as there are so many. */
enum tune_reason tune_slots(struct tune_slots *slots, const struct tune_need *need, uint32_t most);

#endif
