/* SPDX-License-Identifier: MIT */
/* See tune_rule.h. */
#include "tune_rule.h"

#include <math.h>
#include <string.h>

#define CHANCE   5.2  /* a good four standard errors of a median */
#define FAR      16   /* times the mean of squared differences */
#define LITTLE   0.02 /* of a value: such differences are not cut */
#define FULL     0.9  /* u above is taken for this: nobody can bridge all that two equals vary by */
#define VARIES   16.0 /* variation above is taken for this */
#define LEAST    2    /* slots beside those of the groups, however even all is */
#define KNOWN    8    /* batches from which on the figures say something */
#define PATIENCE 16   /* times TUNE_QUIET: the longest */
#define SHOWN    8    /* batches until more slots have shown what they do; the waits of so many are looked at */
#define QUICKER  0.9  /* S by C: the workers are quicker than the trainer, and not just by chance */
#define MUCH     1e6  /* slots that nobody has */

/* ---- series --------------------------------------------------------------------------------------------------------- */

static double median(const double *values, uint32_t n)
{
    double sorted[TUNE_WINDOW];

    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;

        for (; at > 0 && sorted[at - 1] > values[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Takes it into the sums. */
static void sum_up(struct tune_series *series, uint32_t i)
{
    const double fades = series->n < TUNE_MEMORY ? 1 : 1 - 1.0 / TUNE_MEMORY, steps = series->steps[i];
    double apart;

    series->n += series->n < TUNE_MEMORY;
    series->weight = series->weight * fades + steps;
    series->sum = series->sum * fades + series->value[i] * steps;
    series->sum_beside = series->sum_beside * fades + series->beside[i] * steps;
    if (series->beside[i] > series->most) {
        series->second = series->most;
        series->most = series->beside[i];
    } else if (series->beside[i] > series->second) {
        series->second = series->beside[i];
    }
    if (i == 0)
        return;
    /* A value is the mean of so many batches, which varies by so much less than one. */
    apart = pow(series->value[i] - series->value[i - 1], 2) / (1 / steps + 1 / series->steps[i - 1]);
    if (series->pairs >= KNOWN) /* one far out says little of the others */
        apart = fmin(apart, FAR * series->apart / series->pairs + pow(LITTLE * series->value[i], 2));
    series->pairs = series->pairs * fades + 1;
    series->apart = series->apart * fades + apart;
}

static void forget(struct tune_series *series, uint32_t n)
{
    series->count -= n;
    memmove(series->value, series->value + n, series->count * sizeof(*series->value));
    memmove(series->steps, series->steps + n, series->count * sizeof(*series->steps));
    memmove(series->beside, series->beside + n, series->count * sizeof(*series->beside));
}

/* By TUNE_SHIFT, and by more than medians of so few differ by chance. */
static bool shifted(const struct tune_series *series)
{
    const uint32_t before = series->count - TUNE_RECENT;
    double was, is, chance;

    if (series->count < 2 * TUNE_RECENT)
        return false;
    was = median(series->value, before);
    is = median(series->value + before, TUNE_RECENT);
    chance = CHANCE * sqrt(tune_variation(series) * (1.0 / TUNE_RECENT + 1.0 / before));
    return was > 0 && is > 0 && fabs(log(is / was)) > fmax(log(TUNE_SHIFT), chance);
}

void tune_add(struct tune_series *series, double value, double steps, double beside)
{
    if (series->count == TUNE_WINDOW)
        forget(series, 1);
    series->value[series->count] = value;
    series->steps[series->count] = steps;
    series->beside[series->count] = beside;
    sum_up(series, series->count++);
    if (!shifted(series))
        return;
    forget(series, series->count - TUNE_KEPT);
    series->shifts++;
    series->n = series->weight = series->sum = series->sum_beside = series->pairs = series->apart = 0;
    series->most = series->second = 0;
    for (uint32_t i = 0; i < series->count; i++)
        sum_up(series, i);
}

double tune_mean(const struct tune_series *series)
{
    return series->weight > 0 ? series->sum / series->weight : 0;
}

double tune_variation(const struct tune_series *series)
{
    const double mean = tune_mean(series);

    return mean > 0 && series->pairs > 0 ? fmin(series->apart / series->pairs / (mean * mean), VARIES) : 0;
}

/* ---- slots ---------------------------------------------------------------------------------------------------------- */

/* What it may be at the worst, by as many pairs as there were: who has seen little is careful. */
static double careful(const struct tune_series *series)
{
    return series->pairs > 0 ? tune_variation(series) * (1 + sqrt(2 / series->pairs)) : 0;
}

struct tune_pace tune_pace(const struct tune_series *job, const struct tune_series *feed, double workers)
{
    const double whole = feed->weight > 0 ? (feed->sum + feed->sum_beside) / feed->weight : 0;
    struct tune_pace pace = { .compute = tune_mean(job), .supply = whole / workers, .slowest = feed->second, .once = feed->most };
    double waited = 0, all = 0, steps = 0;

    pace.known = job->count >= KNOWN && feed->count >= KNOWN;
    pace.compute_varies = careful(job);
    pace.supply_varies = careful(feed);
    for (uint32_t i = job->count > SHOWN ? job->count - SHOWN : 0; i < job->count; i++) {
        waited += job->beside[i] * job->steps[i];
        all += (job->beside[i] + job->value[i]) * job->steps[i];
        steps += job->steps[i];
    }
    pace.waits = all > 0 ? waited / all : 0;
    pace.recent = steps > 0 ? (all - waited) / steps : 0;
    return pace;
}

double tune_burst(const struct tune_pace *pace, double slowest)
{
    const double quick = fmin(pace->compute, pace->supply), slow = fmax(pace->compute, pace->supply);
    double u, queue;

    if (slow <= 0)
        return 0;
    u = fmin(quick / slow, FULL);
    queue = (pace->compute_varies + pace->supply_varies) * log(1 / TUNE_MISS) / (2 * (1 - u));
    return queue + slowest / slow;
}

static uint32_t with_quarter(uint32_t slots)
{
    return slots + (slots + 3) / 4;
}

static uint32_t within(uint32_t slots, uint32_t least, uint32_t most)
{
    slots = slots > least ? slots : least;
    return slots < most ? slots : most;
}

/* The most that was needed has held for long enough to go down to it. */
static bool calm(const struct tune_slots *slots)
{
    return slots->since >= (slots->settled ? slots->patience * TUNE_QUIET : TUNE_CALM);
}

static enum tune_reason raise_to(struct tune_slots *slots, uint32_t to, enum tune_reason why)
{
    if (to <= slots->in_use)
        return TUNE_STAYS;
    if (slots->lowered && slots->patience < PATIENCE)
        slots->patience *= 2;
    slots->lowered = false;
    slots->in_use = to;
    return why;
}

static enum tune_reason lower(struct tune_slots *slots, uint32_t least, uint32_t most)
{
    const uint32_t to = within(with_quarter(slots->hold), least, most);
    const bool quiet = slots->settled;

    slots->hold = slots->since = 0;
    slots->settled = true;
    if (quiet ? 2 * to > slots->in_use : 4 * to > 3 * slots->in_use)
        return TUNE_STAYS;
    slots->in_use = to;
    slots->lowered = quiet;
    return TUNE_UNUSED;
}

bool tune_starved(const struct tune_pace *pace)
{
    return pace->waits > TUNE_WAITS && pace->supply < QUICKER * fmin(pace->compute, pace->recent);
}

double tune_deviation(double variation)
{
    return sqrt(variation);
}

uint32_t tune_needed(const struct tune_need *need, double burst)
{
    return need->base + (uint32_t)fmin(ceil(burst), MUCH);
}

enum tune_reason tune_slots(struct tune_slots *slots, const struct tune_need *need, uint32_t most)
{
    const uint32_t needed = tune_needed(need, need->burst), keep = tune_needed(need, fmax(need->burst, need->keep)),
                   least = need->base + LEAST;
    enum tune_reason why = TUNE_STAYS;

    if (slots->patience == 0)
        slots->patience = 1;
    if (need->shifts != slots->shifts) {
        slots->shifts = need->shifts;
        slots->since = slots->hold = slots->waited = 0;
        slots->settled = false;
    }
    slots->since += need->batches;
    slots->waited += need->batches;
    if (keep > slots->hold)
        slots->hold = keep;
    if (needed > slots->in_use || least > slots->in_use) {
        why = raise_to(slots, within(with_quarter(needed), least, most), TUNE_NEEDED);
    } else if (need->starved && slots->waited >= SHOWN) {
        why = raise_to(slots, within(slots->in_use + slots->in_use / 2, least, most), TUNE_STARVED);
        slots->hold = slots->in_use; /* the figures had said less */
    }
    if (why != TUNE_STAYS)
        slots->waited = 0;
    return why == TUNE_STAYS && calm(slots) ? lower(slots, least, most) : why;
}
