/* SPDX-License-Identifier: MIT */
/*
 * The bytes that pfeedd and its consumers share: arena (one per feed), grant page and return page (one pair per consumer).
 * LAYOUT.md draws them. Rules: fixed-width types, offsets and never pointers, one writer per field (named in its comment: D the
 * daemon, C the consumer), no two writers on one cache line, every offset pinned below. Little-endian machines only.
 * The daemon never reads back what it wrote here, and checks whatever a consumer wrote.
 */
#ifndef PF_LAYOUT_H
#define PF_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define PF_STATIC_ASSERT static_assert
#else
#define PF_STATIC_ASSERT _Static_assert
#endif
#define PF_PIN(type, field, offset) PF_STATIC_ASSERT(offsetof(struct type, field) == (offset), #type "." #field)

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pfeed's shared memory is little-endian"
#endif

#define PF_MAGIC     UINT64_C(0x3130306465656670) /* "pfeed001" */
#define PF_VERSION   1u
#define PF_LINE      64u /* one writer each */
#define PF_PAGE      4096u
#define PF_NAME      32u /* bytes of a field's name with its closing zero */
#define PF_DIMS      8u
#define PF_FIELDS    32u
#define PF_RING      64u /* grants outstanding per consumer at most; a power of two */
#define PF_SLOTS_MAX 4096u

/* Incompatible features: a reader that meets an unknown bit refuses the segment. None yet. */
#define PF_INCOMPAT_KNOWN 0u

enum pf_segment_kind { PF_ARENA = 1, PF_GRANT_PAGE = 2, PF_RETURN_PAGE = 3 };

/* At the start of every segment. D; magic is stored last, when all else is in place. */
struct pf_head {
    uint64_t magic;
    uint32_t version;
    uint32_t kind; /* enum pf_segment_kind */
    uint64_t size; /* of the whole segment */
    uint32_t incompat, compat;
    uint64_t reserved[4];
};
PF_PIN(pf_head, version, 8);
PF_PIN(pf_head, kind, 12);
PF_PIN(pf_head, size, 16);
PF_PIN(pf_head, incompat, 24);
PF_PIN(pf_head, compat, 28);
PF_STATIC_ASSERT(sizeof(struct pf_head) == 64, "pf_head");

/* ---- arena ---------------------------------------------------------------------------------------------------------- */

/* Read-only to consumers: head, field table, slot table, slots. D, constant after start but for the slot table and slots. */
struct pf_arena {
    struct pf_head head;
    uint32_t n_slots, n_fields; /* n_slots: with those whose memory is still to come */
    uint32_t batch;             /* rows of a slot */
    uint32_t reserved0;
    uint64_t fields_offset;   /* struct pf_field[n_fields] */
    uint64_t table_offset;    /* struct pf_slot[n_slots] */
    uint64_t slots_offset;    /* slot s begins at slots_offset + s * slot_bytes */
    uint64_t slot_bytes;      /* a multiple of PF_PAGE */
    uint64_t ids_offset;      /* within a slot: uint64_t[batch], scheduled ids */
    uint64_t used_ids_offset; /* within a slot: uint64_t[batch] */
    uint64_t flags_offset;    /* within a slot: uint8_t[batch], PF_ROW_* */
    uint64_t samples;         /* N of the source */
    uint64_t reserved[6];
};
PF_PIN(pf_arena, n_slots, 64);
PF_PIN(pf_arena, n_fields, 68);
PF_PIN(pf_arena, batch, 72);
PF_PIN(pf_arena, fields_offset, 80);
PF_PIN(pf_arena, table_offset, 88);
PF_PIN(pf_arena, slots_offset, 96);
PF_PIN(pf_arena, slot_bytes, 104);
PF_PIN(pf_arena, ids_offset, 112);
PF_PIN(pf_arena, used_ids_offset, 120);
PF_PIN(pf_arena, flags_offset, 128);
PF_PIN(pf_arena, samples, 136);
PF_STATIC_ASSERT(sizeof(struct pf_arena) == 192, "pf_arena");

#define PF_ROW_PADDED   1u
#define PF_ROW_REPLACED 2u
#define PF_ROW_MASKED   4u
#define PF_ROW_UNFILLED 8u /* nobody asked for it: its bytes are those of an earlier filling, and no grant covers it */

enum pf_layout { PF_LAYOUT_NONE = 0, PF_LAYOUT_CHW = 1, PF_LAYOUT_HWC = 2 };

/* A field: in every slot one dense array of `batch` rows. D, constant. */
struct pf_field {
    char name[PF_NAME];
    uint8_t dtype_code, dtype_bits; /* DLPack's */
    uint16_t dtype_lanes;           /* 1 */
    uint32_t ndim;                  /* of one row */
    int64_t shape[PF_DIMS];         /* of one row, elements */
    uint64_t row_bytes;
    uint64_t offset;       /* of the array within a slot; a multiple of PF_LINE */
    uint32_t layout;       /* enum pf_layout; pictures only */
    float mean[3], std[3]; /* value = (pixel / 255 - mean) / std; uint8 holds the pixel */
    uint32_t reserved[5];
};
PF_PIN(pf_field, dtype_code, 32);
PF_PIN(pf_field, dtype_bits, 33);
PF_PIN(pf_field, dtype_lanes, 34);
PF_PIN(pf_field, ndim, 36);
PF_PIN(pf_field, shape, 40);
PF_PIN(pf_field, row_bytes, 104);
PF_PIN(pf_field, offset, 112);
PF_PIN(pf_field, layout, 120);
PF_PIN(pf_field, mean, 124);
PF_PIN(pf_field, std, 136);
PF_STATIC_ASSERT(sizeof(struct pf_field) == 168, "pf_field");

/*
 * A slot's state, changed by the daemon's main thread only (daemon/slot.c):
 *   FREE -> FILLING     a cursor wants the range, workers may claim rows
 *   FILLING -> READY    last row in
 *   FILLING -> FREE     nobody wants it any more and no row is in work
 *   READY -> FREE       no grant is out and no cursor pins it
 */
enum pf_slot_state { PF_SLOT_FREE = 0, PF_SLOT_FILLING = 1, PF_SLOT_READY = 2 };

/* What pfeedctl shows and peeks at; consumers need none of it. D. */
struct pf_slot {
    uint64_t sequence; /* odd while rows may change; a copy is whole if it was even and the same before and after */
    uint32_t state;    /* enum pf_slot_state */
    uint32_t rows;     /* rows that were asked for */
    uint64_t epoch, index;
    uint64_t seed;
    uint64_t reserved[3];
};
PF_PIN(pf_slot, sequence, 0);
PF_PIN(pf_slot, state, 8);
PF_PIN(pf_slot, rows, 12);
PF_PIN(pf_slot, epoch, 16);
PF_PIN(pf_slot, index, 24);
PF_PIN(pf_slot, seed, 32);
PF_STATIC_ASSERT(sizeof(struct pf_slot) == 64, "pf_slot");

/* ---- lane ----------------------------------------------------------------------------------------------------------- */

#define PF_GRANT_LAST_OF_EPOCH 1u /* this rank's last step of the epoch */
#define PF_GRANT_LAST          2u /* and the job's last: PFEED_END follows. With rows 0 there is no batch: it says only that */

/*
 * "Rows row .. row+rows-1 of slot s, epoch e, step k are yours until you return `number`." Numbers count from 0 for each
 * consumer, without gaps, and are never reused; grant n lies in entry n % PF_RING. As eight words: see ring.h.
 *   (published) -> taken       C: compare-and-swap of `taken` from n to n + 1
 *   (published) -> revoked     D: compare-and-swap of `taken` from n to head, all that were not taken at once
 *   taken -> returned          C: n written into the return ring
 */
struct pf_grant {
    uint64_t number;
    uint64_t epoch, step;
    uint32_t slot, row;
    uint32_t rows, valid;
    uint64_t flags; /* PF_GRANT_* */
    uint64_t reserved[2];
};
PF_PIN(pf_grant, number, 0);
PF_PIN(pf_grant, epoch, 8);
PF_PIN(pf_grant, step, 16);
PF_PIN(pf_grant, slot, 24);
PF_PIN(pf_grant, row, 28);
PF_PIN(pf_grant, rows, 32);
PF_PIN(pf_grant, valid, 36);
PF_PIN(pf_grant, flags, 40);
PF_STATIC_ASSERT(sizeof(struct pf_grant) == 64, "pf_grant");

/* How a living daemon ends a lane, in pf_grant_page.closed: what was granted is void. A daemon that stops or dies leaves it
 * open: what was granted stays good, as nobody writes the slots any more. */
enum pf_closed { PF_OPEN = 0, PF_CLOSED_DROPPED = 1, PF_CLOSED_SUPERSEDED = 2, PF_CLOSED_FEED_FAILED = 3 };

/* wake_at of a parked job: ring with every return, and whenever there is nothing to take. */
#define PF_WAKE_PARKED 0u

/* Grant page: daemon to consumer, read-only there. */
struct pf_grant_page {
    struct pf_head head;
    /* D, with every publication */
    uint64_t published; /* grants published so far: the cursor */
    uint32_t bell;      /* changes with every publication and every change of `closed`: the futex word */
    uint32_t closed;    /* enum pf_closed; set before the socket is closed by a living daemon */
    uint64_t reserved0[6];
    /* D, rarely */
    uint64_t wake_at; /* ring the eventfd once `returned` has reached this; PF_WAKE_PARKED; UINT64_MAX: not wanted */
    uint64_t started; /* 1: its job has; who finds that when the daemon has gone waits for nobody after it */
    uint64_t reserved1[6];
    uint8_t pad[PF_PAGE - 192];
    struct pf_grant grants[PF_RING];
};
PF_PIN(pf_grant_page, published, 64);
PF_PIN(pf_grant_page, bell, 72);
PF_PIN(pf_grant_page, closed, 76);
PF_PIN(pf_grant_page, wake_at, 128);
PF_PIN(pf_grant_page, started, 136);
PF_PIN(pf_grant_page, grants, PF_PAGE);
PF_STATIC_ASSERT(sizeof(struct pf_grant_page) == 2 * PF_PAGE, "pf_grant_page");

/* Return page: consumer to daemon. All that a consumer can write. */
struct pf_return_page {
    struct pf_head head; /* D, before the consumer gets it; never read again */
    /* C and D, by compare-and-swap only: the number of the next grant to take. The one word with two writers. */
    uint64_t taken;
    uint64_t reserved0[7];
    /* C */
    uint64_t returned; /* grants returned so far: the return ring's tail */
    uint64_t reserved1[7];
    /* C, before and after it sleeps */
    uint32_t waiting; /* 1: FUTEX_WAKE the bell after the next publication */
    uint32_t reserved2[15];
    /* C: timings, for display only */
    uint64_t wait_ns; /* inside pfeed_next, waiting */
    uint64_t waits;   /* calls that had to wait */
    uint64_t reserved3[6];
    uint8_t pad[PF_PAGE - 320];
    uint64_t numbers[PF_RING]; /* C: return r is in entry r % PF_RING */
    uint8_t pad1[PF_PAGE - 8 * PF_RING];
};
PF_PIN(pf_return_page, taken, 64);
PF_PIN(pf_return_page, returned, 128);
PF_PIN(pf_return_page, waiting, 192);
PF_PIN(pf_return_page, wait_ns, 256);
PF_PIN(pf_return_page, waits, 264);
PF_PIN(pf_return_page, numbers, PF_PAGE);
PF_STATIC_ASSERT(sizeof(struct pf_return_page) == 2 * PF_PAGE, "pf_return_page");

#endif
