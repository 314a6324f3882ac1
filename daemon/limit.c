/* SPDX-License-Identifier: MIT */
/* See limit.h. Called by request.c before an attach does anything. What there is is counted each time, over all feeds, as an
 * attach is rare and a count that is kept beside the lists could go wrong. Main thread. */
#include "limit.h"

#include <errno.h>
#include <string.h>

#include "consumer.h"

struct use {
    uint32_t consumers, quarantined, jobs;
    uint64_t held; /* batches: max_held of the attached; what the quarantined still have */
};

/* `old` does not count: the attach takes its place. */
static struct use used_by(const struct daemon *daemon, uid_t uid, const struct job *old)
{
    struct use use = { 0 };

    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        for (const struct job *job = daemon->feeds[f]->jobs; job; job = job->next)
            use.jobs += job->uid == uid && job != old;
        for (const struct consumer *c = daemon->feeds[f]->consumers; c; c = c->next) {
            if (c->uid != uid || (old && c->job == old))
                continue;
            use.consumers++;
            use.quarantined += c->state == CONSUMER_QUARANTINED;
            use.held += c->state == CONSUMER_QUARANTINED ? c->n_out : c->max_held;
        }
    }
    return use;
}

uint64_t limit_user_consumers(const struct config_daemon *config)
{
    return config->user_consumers ? (uint64_t)config->user_consumers : ((uint64_t)config->max_consumers + 1) / 2;
}

int limit_check(const struct daemon *daemon, const struct peer *peer, const struct feed *feed,
                const struct pf_ctl_attach *request, struct problem *why)
{
    const struct config_daemon *config = &daemon->config->daemon;
    const struct job *job = job_find(feed, peer->uid, request->job);
    bool fresh = !job || request->run > job->run;
    uint32_t max_held = consumer_max_held(feed, request);
    struct use use;

    if (consumer_count() - (fresh && job ? job->n_consumers : 0) >= (uint64_t)config->max_consumers)
        return problem_set(
            why, -EUSERS,
            "there are %u consumers, and `daemon: max_consumers` allows %lld (one that was dropped counts until its "
            "process ends); end some, or raise it",
            consumer_count(), (long long)config->max_consumers);
    if (peer_rules(peer))
        return 0;
    use = used_by(daemon, peer->uid, fresh ? job : NULL);
    if (use.consumers >= limit_user_consumers(config))
        return problem_set(why, -EUSERS,
                           "uid %u has %u consumers (%u of them dropped, which count until their processes end), and `daemon: "
                           "user_consumers` allows %llu; end some, or raise it",
                           peer->uid, use.consumers, use.quarantined, (unsigned long long)limit_user_consumers(config));
    if (fresh && use.jobs >= (uint64_t)config->user_jobs)
        return problem_set(why, -EUSERS, "uid %u has %u jobs, and `daemon: user_jobs` allows %lld; end one, or raise it",
                           peer->uid, use.jobs, (long long)config->user_jobs);
    if (use.held + max_held > (uint64_t)config->user_held)
        return problem_set(
            why, -EUSERS,
            "uid %u may hold %llu batches already (max_held of all its consumers), and with %u more that is beyond "
            "`daemon: user_held` (%lld); lower max_held, end some consumers, or raise it",
            peer->uid, (unsigned long long)use.held, max_held, (long long)config->user_held);
    return 0;
}
