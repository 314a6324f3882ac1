/* SPDX-License-Identifier: MIT */
/* The tables of pfeedctl (see table.h), and what rows.c and slots.c both know about a slot. */
#ifndef PFEEDCTL_ROWS_H
#define PFEEDCTL_ROWS_H

#include "table.h"

extern const struct table table_daemon, table_feeds, table_slots, table_consumers, table_jobs, table_errors, table_counters,
    table_changes, table_tune, table_caches;

enum paint slot_paint(const void *row);                /* struct pf_row_slot */
uint32_t slot_holders(const struct pf_row_slot *slot); /* how many of holders[] are there, whatever the daemon says */

#endif
