/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 8, identity: a newer run takes the place of the older one, or it is refused and nothing has changed. While a rank
 * of the old run trains, the k-th call of each kind that the daemon makes for the new one's attach fails, for k = 1, 2, .. until
 * none is left that could: each time the new one is in and the old one is told -ESTALE, or the new one has got a sentence and the
 * old one takes its next step as if nothing had been. And the daemon has not a descriptor more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "stage.h"

/* Kinds after whose failure an attach must be refused, or succeed. Not those by which the answer travels: who is in and cannot be
 * told so is in. */
static const struct {
    enum fault_call call;
    int code;
    const char *name;
} kinds[] = {
    { FAULT_alloc, ENOMEM, "alloc" },
    { FAULT_mmap, ENOMEM, "mmap" },
    { FAULT_posix_fallocate, ENOSPC, "posix_fallocate" },
    { FAULT_memfd_create, EMFILE, "memfd_create" },
    { FAULT_eventfd, EMFILE, "eventfd" },
    { FAULT_epoll_ctl, ENOSPC, "epoll_ctl" },
};

static struct stage stage; /* for its page alone */
static struct daemon pfeedd;

static void preload(void)
{
    setenv("ASAN_OPTIONS", "detect_leaks=1:verify_asan_link_order=0:abort_on_error=1", 1);
    setenv(FAULT_ENV, stage.page_path, 1);
    setenv("LD_PRELOAD", getenv("PFEED_FAULT_LIBRARY"), 1);
}

static struct pfeed *open_run(uint64_t run, struct history *refusal)
{
    const struct plan plan = { .daemon = &pfeedd, .feed = "spine", .job = "j", .world = 1, .run = run, .history = refusal };

    return plan_open(&plan);
}

static void step_on(struct pfeed *pf, uint64_t *next, const char *when)
{
    struct pfeed_batch *batch;
    int rc;

    while ((rc = pfeed_next(pf, &batch, -1)) == PFEED_EPOCH)
        *next = 0;
    CHECK(rc == 0, "%s: the old run's pfeed_next: %d: %s", when, rc, pfeed_error(pf));
    CHECK(pfeed_info(batch)->step == *next, "%s: the old run has step %llu, not %llu", when,
          (unsigned long long)pfeed_info(batch)->step, (unsigned long long)*next);
    ++*next;
    must_done(pf, batch);
}

/* One attach of a newer run, in which the k-th call of that kind fails. Whether there was such a call. */
static bool one_attach(struct pfeed **old, uint64_t *run, uint64_t *step, size_t kind, uint64_t k, unsigned *n_refused)
{
    struct fault *fault = &stage.page->fault;
    unsigned at_rest = descriptors(pfeedd.pid);
    struct history *refusal = history_create(1, 1);
    struct pfeed_batch *batch;
    struct pfeed *new;
    char when[64];
    bool fired;

    snprintf(when, sizeof(when), "%s number %llu", kinds[kind].name, (unsigned long long)k);
    *fault = (struct fault){ .call = FAULT_KINDS, .code = kinds[kind].code, .first = k, .count = 1 };
    __atomic_store_n(&fault->call, kinds[kind].call, __ATOMIC_RELEASE); /* the daemon runs */
    new = open_run(*run + 1, refusal);
    fault->call = FAULT_KINDS;
    fired = __atomic_load_n(&fault->fired, __ATOMIC_RELAXED) > 0;
    if (new) {
        CHECK(pfeed_next(*old, &batch, -1) == -ESTALE, "%s: the old run is not told", when);
        pfeed_close(*old);
        *old = new;
        *step = 0;
        ++*run;
    } else {
        CHECK(fired, "without a failure: %s", refusal->sentence);
        CHECK(*refusal->sentence, "%s: refused with %d and no sentence", when, refusal->open_rc);
        ++*n_refused;
    }
    for (unsigned i = 0; i < 3; i++)
        step_on(*old, step, when);
    UNTIL(descriptors(pfeedd.pid) <= at_rest) /* its connection has gone */
    {
    }
    history_destroy(refusal);
    return fired;
}

static void run_takeover(const void *arg)
{
    uint64_t run = 1, step = 0;
    struct pfeed *old;

    stage_make(&stage, "memfd");
    daemon_prepare = preload;
    daemon_start(&pfeedd, "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  spine:\n"
                          "    source: { type: synthetic, rows: 64 }\n    batch: 8\n    slots: 8\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    old = open_run(run, NULL);
    step_on(old, &step, "at first");
    CHECK(stage.page->fault.calls[FAULT_mmap] > 0, "%s is not preloaded", getenv("PFEED_FAULT_LIBRARY"));
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        unsigned n_refused = 0;
        uint64_t k = 1;

        while (one_attach(&old, &run, &step, kind, k, &n_refused))
            k++;
        note("%s: %llu calls, %u of them refused the new run", kinds[kind].name, (unsigned long long)k - 1, n_refused);
        CHECK(n_refused > 0, "no failure of %s has refused a new run", kinds[kind].name);
    }
    pfeed_close(old);
    daemon_stop(&pfeedd);
    stage_end(&stage);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { { "a newer run that cannot be made", run_takeover, NULL } };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
