/* SPDX-License-Identifier: MIT */
/* See job.h. Jobs that span hosts: which ranks live here, and what that means for the memory of slots. Called by job.c,
 * consumer_attach.c and stat.c. Main thread. */
#include <errno.h>
#include <string.h>

#include "job.h"

#define MOST_LOOKS 65536 /* at ranks of slots: a longer epoch is judged by its beginning */

static int number(const char **at, uint32_t *out)
{
    uint64_t value = 0;

    if (**at < '0' || **at > '9')
        return -EINVAL;
    while (**at >= '0' && **at <= '9') {
        value = value * 10 + (uint64_t)(*(*at)++ - '0');
        if (value > UINT32_MAX)
            return -EINVAL;
    }
    *out = (uint32_t)value;
    return 0;
}

int job_parse_local(struct job *job, const char *text, struct problem *why)
{
    const uint32_t world = job->world;
    const char *at = text;

    memset(job->local, *text ? 0 : 1, world);
    while (*at) {
        uint32_t low, high;

        if (number(&at, &low) < 0)
            goto bad;
        high = low;
        if (*at == '-') {
            at++;
            if (number(&at, &high) < 0)
                goto bad;
        }
        if (low > high || high >= world)
            goto bad;
        memset(job->local + low, 1, high - low + 1);
        if (*at == ',' && at[1])
            at++;
        else if (*at)
            goto bad;
    }
    job->n_local = 0;
    for (uint32_t r = 0; r < world; r++)
        job->n_local += job->local[r];
    return 0;
bad:
    return problem_set(why, -EINVAL, "local_ranks '%s' is not a list such as \"0-3,8-11\" of ranks below world %u", text, world);
}

/* Rows of our ranks in slots 0 .. n-1 of an epoch, and how many of these slots hold any. */
static uint64_t local_rows(const struct job *job, uint64_t n, uint64_t *touched)
{
    uint64_t rows = 0;

    *touched = 0;
    for (uint64_t s = 0; s < n; s++) {
        uint64_t before = rows;

        for (uint32_t r = 0; r < job->world; r++) {
            uint64_t first, last;

            if (job->local[r] && job_steps_in(job, r, s, &first, &last))
                rows += (last - first + 1) * job->terms.batch;
        }
        *touched += rows > before;
    }
    return rows;
}

double job_slot_use(const struct job *job)
{
    uint64_t most = MOST_LOOKS / job->world + 1, touched;
    uint64_t rows = local_rows(job, job->spans < most ? job->spans : most, &touched);
    double use = touched ? (double)rows / ((double)touched * job->slot_rows) : 0;

    return use < 1 ? use : 1;
}

uint32_t job_aligned_batch(const struct job *job)
{
    uint32_t first = 0;

    while (first < job->world && !job->local[first])
        first++;
    if (first % job->n_local != 0)
        return 0;
    for (uint32_t r = first; r < first + job->n_local; r++)
        if (!job->local[r])
            return 0;
    return job->n_local * job->terms.batch;
}
