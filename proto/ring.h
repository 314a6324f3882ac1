/* SPDX-License-Identifier: MIT */
/*
 * The two rings of a lane: grants (daemon to consumer) and returns (consumer to daemon). No lock, no system call, no memory of
 * their own. Each barrier says which store must be seen before which load. Compiles as C17 and C++17, hence the __atomic
 * builtins. pf_grants_* are called by the side named; pf_returns_* likewise.
 */
#ifndef PF_RING_H
#define PF_RING_H

#include "layout.h"

/* Daemon. Writes the entry, then the cursor; room is the caller's business (at most PF_RING grants outstanding). */
static inline void pf_grants_publish(struct pf_grant_page *page, const struct pf_grant *grant)
{
    struct pf_grant *entry = &page->grants[grant->number % PF_RING];

    /* Relaxed words: a consumer that was asleep between its two loads may read an entry while it is written anew. It then
     * fails its compare-and-swap, as that grant was revoked or taken long ago. */
    __atomic_store_n(&entry->epoch, grant->epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->step, grant->step, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->slot, grant->slot, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->row, grant->row, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->rows, grant->rows, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->valid, grant->valid, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->flags, grant->flags, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->number, grant->number, __ATOMIC_RELAXED);
    /* The entry and the rows that it speaks of are seen before the cursor that covers it. */
    __atomic_store_n(&page->published, grant->number + 1, __ATOMIC_RELEASE);
}

/* Daemon. After publishing or closing: whether the consumer sleeps and must be woken by FUTEX_WAKE on the bell. */
static inline int pf_grants_ring(struct pf_grant_page *page, const struct pf_return_page *back)
{
    /* The cursor is seen before the new bell, so that a consumer that did not sleep because the bell had moved finds it. */
    __atomic_fetch_add(&page->bell, 1, __ATOMIC_RELEASE);
    /* The bell is stored before `waiting` is loaded; pairs with the fence in pf_grants_sleepy. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&back->waiting, __ATOMIC_RELAXED) != 0;
}

/* Consumer. Takes grant `next` (its own count of what it took) if it is there: 1 and *out, 0 not yet. A revoked run of grants
 * is stepped over: *next moves to what the daemon left there. */
static inline int pf_grants_take(const struct pf_grant_page *page, struct pf_return_page *back, uint64_t *next,
                                 struct pf_grant *out)
{
    for (;;) {
        uint64_t number = *next;
        const struct pf_grant *entry = &page->grants[number % PF_RING];

        /* The cursor is loaded before the entry and the rows. */
        if (__atomic_load_n(&page->published, __ATOMIC_ACQUIRE) <= number)
            return 0;
        out->number = __atomic_load_n(&entry->number, __ATOMIC_RELAXED);
        out->epoch = __atomic_load_n(&entry->epoch, __ATOMIC_RELAXED);
        out->step = __atomic_load_n(&entry->step, __ATOMIC_RELAXED);
        out->slot = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);
        out->row = __atomic_load_n(&entry->row, __ATOMIC_RELAXED);
        out->rows = __atomic_load_n(&entry->rows, __ATOMIC_RELAXED);
        out->valid = __atomic_load_n(&entry->valid, __ATOMIC_RELAXED);
        out->flags = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
        /* The entry is loaded before the swap that makes it ours; the rows are loaded after it. */
        if (__atomic_compare_exchange_n(&back->taken, &number, number + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            *next = number + 1;
            return 1;
        }
        *next = number; /* revoked up to here */
    }
}

/* Daemon. Revokes every grant from `known` (the least number that may still be untaken) to published: *from is the first one
 * revoked, == published where all were taken. 0, or -1 where the consumer wrote nonsense. */
static inline int pf_grants_revoke(struct pf_return_page *back, uint64_t known, uint64_t published, uint64_t *from)
{
    uint64_t seen = __atomic_load_n(&back->taken, __ATOMIC_ACQUIRE);

    for (unsigned tries = 0; tries < PF_RING + 1; tries++) { /* a consumer can take no more than PF_RING meanwhile */
        if (seen < known || seen > published)
            return -1;
        if (seen == published ||
            /* Taking it and revoking it are ordered by this one word. */
            __atomic_compare_exchange_n(&back->taken, &seen, published, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            *from = seen;
            return 0;
        }
    }
    return -1;
}

/* Consumer, before it sleeps. Returns the bell to FUTEX_WAIT on; the caller must look for a grant and for `closed` once more
 * after this, and then sleep only while the bell still has this value. */
static inline uint32_t pf_grants_sleepy(const struct pf_grant_page *page, struct pf_return_page *back)
{
    uint32_t bell = __atomic_load_n(&page->bell, __ATOMIC_ACQUIRE);

    __atomic_store_n(&back->waiting, 1, __ATOMIC_RELAXED);
    /* `waiting` is stored before the cursor is loaded again; pairs with the fence in pf_grants_ring. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return bell;
}

static inline void pf_grants_awake(struct pf_return_page *back)
{
    __atomic_store_n(&back->waiting, 0, __ATOMIC_RELAXED);
}

/* Consumer. Returns a grant; *returned is its own count. 1: the daemon asked to be woken at this count, or has parked the job and
 * wants to hear of every return. There is always room: a consumer has at most PF_RING grants out. */
static inline int pf_returns_push(struct pf_return_page *back, const struct pf_grant_page *page, uint64_t *returned,
                                  uint64_t number, uint64_t *rung)
{
    uint64_t wake_at;

    __atomic_store_n(&back->numbers[*returned % PF_RING], number, __ATOMIC_RELAXED);
    /* All reads of the rows, and the entry, are done before the tail that covers it is seen. */
    __atomic_store_n(&back->returned, ++*returned, __ATOMIC_RELEASE);
    /* The tail is stored before wake_at is loaded; pairs with the fence in pf_returns_arm. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wake_at = __atomic_load_n(&page->wake_at, __ATOMIC_RELAXED);
    if (*returned < wake_at || (*rung == wake_at && wake_at != PF_WAKE_PARKED))
        return 0;
    *rung = wake_at; /* once for each time that the daemon asks */
    return 1;
}

/* Daemon, before it sleeps: asks to be woken at that count, or (PF_WAKE_PARKED) by every return and whenever the consumer waits.
 * It must look at every tail, and for PF_WAKE_PARKED at `waiting`, once more after this. */
static inline void pf_returns_arm(struct pf_grant_page *page, uint64_t wake_at)
{
    __atomic_store_n(&page->wake_at, wake_at, __ATOMIC_RELAXED);
    /* wake_at is stored before the tails (and `waiting`) are loaded again; pairs with the fences in pf_returns_push and
     * pf_grants_sleepy. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Daemon. The tail as the consumer claims it; the caller checks it against what it granted. */
static inline uint64_t pf_returns_tail(const struct pf_return_page *back)
{
    /* The tail is loaded before the numbers that it covers. */
    return __atomic_load_n(&back->returned, __ATOMIC_ACQUIRE);
}

/* Daemon. Whether it sleeps, or is about to, as it says itself. */
static inline int pf_returns_waiting(const struct pf_return_page *back)
{
    return __atomic_load_n(&back->waiting, __ATOMIC_RELAXED) != 0;
}

static inline uint64_t pf_returns_number(const struct pf_return_page *back, uint64_t place)
{
    return __atomic_load_n(&back->numbers[place % PF_RING], __ATOMIC_RELAXED);
}

#endif
