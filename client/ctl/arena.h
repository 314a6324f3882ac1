/* SPDX-License-Identifier: MIT */
/* An arena as an onlooker sees it: mapped read-only by the descriptor that PEEK gives, every offset checked once, rows copied
 * under their slot's sequence. Used by peek.c. */
#ifndef PFEEDCTL_ARENA_H
#define PFEEDCTL_ARENA_H

#include <stdbool.h>

#include "ctlsock.h"

struct arena {
    const uint8_t *base;
    size_t size;
    struct pf_arena info; /* copies, checked */
    struct pf_field fields[PF_FIELDS];
};

/* Which row it is. */
struct arena_row {
    uint32_t slot, row;
    uint64_t id, used_id, epoch, index, seed;
    uint8_t flags;
};

/* 0; -EPROTO: not an arena that this version understands. Does not take fd over. */
int arena_map(int fd, struct arena *out, struct sentence *why);
void arena_unmap(struct arena *arena);

/* Copies the field's part of a row. 1; 0: the slot is not ready, lacks the row or is rewritten all the time. */
int arena_copy(const struct arena *arena, uint32_t slot, uint32_t row, const struct pf_field *field, void *to,
               struct arena_row *out);

#endif
