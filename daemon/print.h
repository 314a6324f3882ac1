/* SPDX-License-Identifier: MIT */
/* The fingerprints of a feed (struct pf_prints): what the history of a job depends on beside its seed, so that a token of other
 * data, of another order or recipe is found out. On the thread that opens the feed. */
#ifndef PFEED_PRINT_H
#define PFEED_PRINT_H

#include "feed.h"

/* What the configuration says of order and recipe. A key that is left out counts as its default does, and neither counts: so a
 * later version may have more keys. -ENOMEM. */
int print_config(const struct config_feed *config, struct pf_prints *prints);
/* Samples are chosen: which ones, and how they are weighed, is part of the order. */
void print_chosen(const struct feed *feed, struct pf_prints *prints);
/* The source is open. -errno and a sentence where it cannot be read. */
int print_data(const struct feed *feed, struct pf_prints *prints, struct problem *why);

#endif
