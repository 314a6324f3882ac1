/* SPDX-License-Identifier: MIT */
/* Which samples of a source take part in a feed, and with what weights: from the configuration's split, subset and shuffle to what
 * an order is made from. Called by feed_open.c, on its thread; reads files and, for weights and classes, values of the source. */
#ifndef PFEED_CHOOSE_H
#define PFEED_CHOOSE_H

#include "config.h"

struct choose_env {
    const struct config_feed *config;
    const struct source *source;
    struct source_progress *progress; /* or NULL */
};

/* On failure, and in odd where all went well but something is odd (else its text is empty): a sentence and the key that is to
 * blame, of the feed, its split or its shuffle. -ECANCELED: it was told to stop. The source has samples. */
int choose(struct order_params *out, const struct choose_env *env, struct problem *odd, struct problem *why);
void choose_free(struct order_params *params); /* its tables */
uint64_t choose_bytes(const struct order_params *params);

#endif
