/* SPDX-License-Identifier: MIT */
/* A feed's slots: their states, who fills them, who may have one. The main thread owns everything but `claim` and `left`, by
 * which workers take rows (slot_claim, slot_row_done). */
#ifndef PFEED_SLOT_H
#define PFEED_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "ahead.h"
#include "job.h"
#include "layout.h"
#include "order.h"

struct feed;
struct consumer;

struct slot {
    uint32_t number; /* in the arena */
    enum pf_slot_state state;
    uint64_t seed, epoch, index;   /* the key */
    const struct order_view *view; /* while FILLING */
    uint8_t *base;                 /* in the arena */
    uint32_t n_rows;               /* rows asked for */
    uint32_t *rows;                /* their numbers, ascending */
    uint64_t *mask;                /* the same as bits */
    uint32_t grants;               /* out: granted and not returned */
    uint64_t sequence;             /* our copy of pf_slot.sequence */
    int64_t since_ns;              /* in this state */
    struct ahead_slot ahead;
    /* Workers. */
    uint64_t claim __attribute__((aligned(PF_LINE))); /* generation, number of rows, next row to claim */
    uint32_t left __attribute__((aligned(PF_LINE)));  /* rows not done yet */
    int64_t work_ns, longest_ns; /* of the claims of this filling: all, and the longest; seen with left = 0 */
};

/* For the budget: what slots_create takes beside the arena. */
uint64_t slots_bytes(uint32_t n_slots, uint32_t batch);
int slots_create(struct feed *feed);
void slots_destroy(struct feed *feed);

/* The slot with that key whose rows include the range, in any state but FREE; or NULL. */
struct slot *slot_find(struct feed *feed, uint64_t seed, const struct range *range);
/* Whether c has to wait for another job of its group (slow: block) rather than get that range filled. */
bool slot_held_back(const struct feed *feed, const struct consumer *c, const struct range *range);
/* For fill_wanted, which resets feed->none_free: that no slot is FREE is found out once, until one is. */
bool slot_none_free(struct feed *feed);
/* Whether slot_obtain has found nothing in this turn for another one at the same place, and so would find nothing for c. */
bool slot_in_vain(const struct feed *feed, const struct consumer *c, const struct range *range);
/* A slot to fill for c's range, `ahead` slots ahead of what c takes next; NULL: none can be had now. See slot_obtain.c. */
struct slot *slot_obtain(struct feed *feed, struct consumer *c, const struct range *range, uint32_t ahead);
/* FREE -> FILLING for everybody who still wants rows of that key; the caller wakes the workers. */
int slot_begin(struct feed *feed, struct slot *slot, struct job *job, const struct range *range);
/* FREE -> FILLING with all rows of the feed's own order, for nobody yet (`warm: yes`). */
int slot_begin_warm(struct feed *feed, struct slot *slot, uint64_t index);
/* FILLING -> READY if the last row is in. */
bool slot_finish(struct feed *feed, struct slot *slot);
/* READY -> FREE, and FILLING -> FREE as far as no row is in work, where nobody wants it. */
void slot_release(struct feed *feed, struct slot *slot);
/* Attached ranks that still want rows of it. */
uint32_t slot_pins(const struct feed *feed, const struct slot *slot);

/* Between slot.c and slot_obtain.c only. Whether c, standing at `at`, still wants rows of that key, and which of its steps:
 * first .. last. */
bool slot_wants(const struct consumer *c, struct place at, uint64_t seed, uint64_t epoch, uint64_t index, uint64_t *first,
                uint64_t *last);
/* How many slots ahead of the one that c takes next at `at`; 0: that one itself. */
uint64_t slot_distance(const struct consumer *c, struct place at, uint64_t epoch, uint64_t index);
/* Whether c, at `at`, keeps this very slot: it wants rows of it, is near, and would have to fill another for them. */
bool slot_pinned(const struct feed *feed, const struct consumer *c, struct place at, const struct slot *slot);
void slot_set_state(struct feed *feed, struct slot *slot, enum pf_slot_state state);

/* Which filling of the slot this is; changes with every slot_begin. */
uint32_t slot_generation(const struct slot *slot);
/* Workers: claims up to `most` rows of that filling; *first is an index into slot->rows. False: none left to claim. */
bool slot_claim(struct slot *slot, uint32_t generation, uint32_t most, uint32_t *first, uint32_t *count);
/* Workers: that many rows are done, and took so long; true for the last ones. */
bool slot_rows_done(struct slot *slot, uint32_t count, int64_t took_ns);
/* Rows that nobody has claimed yet; of that filling: 0 where it is over. */
uint32_t slot_unclaimed(const struct slot *slot, uint32_t generation);

#endif
