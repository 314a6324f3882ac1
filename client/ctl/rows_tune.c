/* SPDX-License-Identifier: MIT */
/* The tables of pfeedctl tune: what a feed's slots in use rest on, and what the daemon has changed by itself. */
#include <stdio.h>

#include "columns.h"
#include "rows.h"

static void share_text(char *to, size_t size, uint32_t millionths)
{
    snprintf(to, size, "%.1f %%", (double)millionths / 1e4);
}

#define SHARE(member)                                                                                                            \
    static void member##_text(const void *row, char *to, size_t size)                                                            \
    {                                                                                                                            \
        share_text(to, size, ((const struct pf_row_tune *)row)->member);                                                         \
    }                                                                                                                            \
    static void member##_json(const void *row, struct json *json)                                                                \
    {                                                                                                                            \
        json_u64(json, ((const struct pf_row_tune *)row)->member);                                                               \
    }
SHARE(compute_varies)
SHARE(supply_varies)
SHARE(waits)

static void auto_text(const void *row, char *to, size_t size)
{
    snprintf(to, size, "%s", ((const struct pf_row_tune *)row)->slots_auto ? "auto" : "given");
}

static const struct column tune_columns[] = {
    COLUMN(pf_row_tune, feed, "feed", "", "whose slots they are"),
    COLUMN_MADE(pf_row_tune, slots_auto, "slots", "auto: slots in use are changed by the figures here; given: they are all used",
                auto_text, NULL, NULL),
    COLUMN(pf_row_tune, in_use, "in use", "", "so many are filled ahead of the trainers"),
    COLUMN(pf_row_tune, n_slots, "there", "", "slots that there are; those that are not in use keep their memory"),
    COLUMN(pf_row_tune, most, "most", "", "slots that there may come to be, as far as the budget has memory for them"),
    COLUMN(pf_row_tune, needed, "needed", "", "slots that the figures ask for"),
    COLUMN(pf_row_tune, compute_ns, "trainer", "ns", "C: a batch's time in the trainer, without what it waits"),
    COLUMN_MADE(pf_row_tune, compute_varies, "varies", "standard deviation of that; JSON: in millionths of it",
                compute_varies_text, compute_varies_json, NULL),
    COLUMN(pf_row_tune, supply_ns, "supply", "ns", "S: time that the workers need for a batch, at the feed's share of them"),
    COLUMN_MADE(pf_row_tune, supply_varies, "varies", "standard deviation of that, slow rows aside; JSON: in millionths of it",
                supply_varies_text, supply_varies_json, NULL),
    COLUMN(pf_row_tune, slowest_ns, "slow rows", "ns", "the time of the slowest row (or claim of several) but one"),
    COLUMN_MADE(pf_row_tune, waits, "waits", "share of its time that the trainer has waited lately; JSON: in millionths",
                waits_text, waits_json, NULL),
    COLUMN(pf_row_tune, workers, "workers", "", "that all feeds share"),
};
const struct table table_tune = {
    .name = "tuning",
    .none = "no feeds",
    .shown = "all",
    COLUMNS(tune_columns),
    .row_size = sizeof(struct pf_row_tune),
    .id_offset = offsetof(struct pf_row_tune, feed),
    .id_size = PF_FEED_NAME,
    .what = PF_STAT_TUNE,
};

static const struct column change_columns[] = {
    COLUMN(pf_row_change, feed, "feed", "", "of which the figures are"),
    COLUMN(pf_row_change, number, "#", "", "counts the feed's changes from 1; the last 64 are remembered"),
    COLUMN(pf_row_change, ago_ns, "ago", "ns", "how long it is since"),
    COLUMN(pf_row_change, batch, "batch", "", "batches that the feed had filled by then"),
    COLUMN(pf_row_change, what, "what", "", "slots: those in use; read_depth: samples that are read ahead of the workers"),
    COLUMN(pf_row_change, from, "from", "", "how many there were"),
    COLUMN(pf_row_change, to, "to", "", "how many there are since"),
    COLUMN(pf_row_change, why, "why", "", "the figures that made the daemon do it"),
};
const struct table table_changes = {
    .name = "changes",
    .none = "nothing was changed",
    .shown = "all",
    COLUMNS(change_columns),
    .row_size = sizeof(struct pf_row_change),
    .what = PF_STAT_CHANGES,
};
