/* SPDX-License-Identifier: MIT */
/* A feed's share of the workers' time: what it has had, and who works for it now. Added to by workers, any number at once, by
 * relaxed atomics; what is read is right to within what others do meanwhile, which is all that a choice between feeds needs. */
#ifndef PFEED_SHARE_H
#define PFEED_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#define SHARE_MOST_NS INT64_C(1000000000) /* of one claim: a read that hung is not paid back for ever */

struct share {
    int64_t had_ns;    /* of all claims that have ended; moved on by share_join */
    uint64_t begun_ns; /* sum of the times at which those in work began */
    uint32_t in_work;
};

/* A claim begins or ends. */
void share_begin(struct share *share, int64_t now_ns);
void share_end(struct share *share, int64_t begun_ns, int64_t now_ns);
/* What the feed has had, claims in work included, by its weight: who has had least is next. */
int64_t share_had(const struct share *share, int64_t weight, int64_t now_ns);
/* Who comes back after a rest has not saved up more than a little: from `had` on to `least`. */
void share_join(struct share *share, int64_t weight, int64_t had, int64_t least);

#endif
