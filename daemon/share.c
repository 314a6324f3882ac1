/* SPDX-License-Identifier: MIT */
/* See share.h. Called by worker.c, on workers. */
#include "share.h"

#define ENTER_NS 1000 /* what a claim counts at once, so that workers who come together spread over the feeds */

void share_begin(struct share *share, int64_t now_ns)
{
    __atomic_fetch_add(&share->begun_ns, (uint64_t)now_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&share->in_work, 1, __ATOMIC_RELAXED);
}

void share_end(struct share *share, int64_t begun_ns, int64_t now_ns)
{
    int64_t took_ns = now_ns - begun_ns;

    __atomic_fetch_sub(&share->in_work, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&share->begun_ns, (uint64_t)begun_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&share->had_ns, took_ns < SHARE_MOST_NS ? took_ns : SHARE_MOST_NS, __ATOMIC_RELAXED);
}

int64_t share_had(const struct share *share, int64_t weight, int64_t now_ns)
{
    const int64_t in_work = __atomic_load_n(&share->in_work, __ATOMIC_RELAXED);
    /* Modulo 2^64; out of all bounds where the sum and the number are of two moments. */
    int64_t running = (int64_t)((uint64_t)in_work * (uint64_t)now_ns - __atomic_load_n(&share->begun_ns, __ATOMIC_RELAXED));

    running = running < 0 ? 0 : running < in_work * SHARE_MOST_NS ? running : in_work * SHARE_MOST_NS;
    return (__atomic_load_n(&share->had_ns, __ATOMIC_RELAXED) + running + in_work * ENTER_NS) / weight;
}

void share_join(struct share *share, int64_t weight, int64_t had, int64_t least)
{
    int64_t now = __atomic_load_n(&share->had_ns, __ATOMIC_RELAXED);

    /* Once, where several workers see it; else a later look does it. */
    __atomic_compare_exchange_n(&share->had_ns, &now, now + (least - had) * weight, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
