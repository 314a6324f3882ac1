/* SPDX-License-Identifier: MIT */
/* The table of what the daemon has changed by itself (pfeedctl tune). */
#include "columns.h"
#include "rows.h"

static const struct column change_columns[] = {
    COLUMN(pf_row_change, feed, "feed", "", "of which the figures are"),
    COLUMN(pf_row_change, number, "#", "", "counts the feed's changes from 1; the last 64 are remembered"),
    COLUMN(pf_row_change, ago_ns, "ago", "ns", "how long it is since"),
    COLUMN(pf_row_change, batch, "batch", "", "batches that the feed had filled by then"),
    COLUMN(pf_row_change, what, "what", "", "slots: those in use; workers; read_depth: reads that run ahead of the workers"),
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
