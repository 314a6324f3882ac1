/* SPDX-License-Identifier: MIT */
/*
 * Coming back after a daemon's death (DESIGN.md sections 6 and 8). pfeed_next and pfeed_seek call it once nothing that was granted
 * is left to take:
 *
 *   attached -> missed      the daemon has hung up and all was taken: the lane ends, what is held stays
 *   missed   -> asked       every 50 ms: connected, the request sent, the answer awaited
 *   asked    -> attached    the answer fits
 *   asked    -> missed      no daemon, one that hangs up, one that cannot serve us yet
 *   missed, asked -> over   options.reconnect_ms have passed, or a refusal that waiting does not change: -EPIPE from now on
 *
 * Each call drives it for as long as its own timeout allows; no step of it blocks.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define AGAIN_NS  INT64_C(50000000)   /* from one attempt to the next */
#define ANSWER_NS INT64_C(1000000000) /* an attempt has at least so long, also one that begins late */

/* A daemon that dies again before it has granted anything is still the same absence, unless it was there for as long as one may
 * last: one that comes up and dies in a circle is not waited for without end. */
void reconnect_begin(struct pfeed *pf)
{
    struct reconnect *reconnect = &pf->reconnect;
    int64_t now_ns = ctlsock_now_ns();

    reconnect->again = reconnect->since_ns > 0 && pf->lane.next == 0 && now_ns - pf->lane.since_ns < reconnect->patience_ns;
    pf->begun |= __atomic_load_n(&pf->lane.grants->started, __ATOMIC_RELAXED) != 0;
    if (!reconnect->again)
        reconnect->since_ns = now_ns;
    strcpy(reconnect->why.text, reconnect->again ? "it came and went without granting anything" : "no attempt has ended yet");
    lane_end(pf);
}

static int give_up(struct pfeed *pf, const char *how)
{
    struct reconnect *reconnect = &pf->reconnect;
    struct sentence why = reconnect->why;

    reconnect->over = true;
    sentence_set(&reconnect->why, 0, "pfeedd has gone, and all that it had granted was taken%s%.700s", how, *how ? why.text : "");
    return sentence_set(&pf->error, -EPIPE, "%s", reconnect->why.text);
}

#define TOO_LONG "; this rank has tried to attach again for as long as options.reconnect_ms says: "

/* The refusals that end by themselves: feeds that still open, slots that come back when others have let go of the dead daemon's,
 * a place that a doomed process still has. */
static bool passes(int code)
{
    return code == -EAGAIN || code == -ENOSPC || code == -EBUSY || code == -EUSERS || code == -ENOMEM || code == -EPIPE ||
           code == -ETIMEDOUT;
}

static int begin_attempt(struct pfeed *pf, int64_t now_ns)
{
    struct reconnect *reconnect = &pf->reconnect;
    struct pf_ctl_attach request = pf->request;
    int64_t end_ns = reconnect->since_ns + reconnect->patience_ns;
    int rc = ctlsock_connect(pf->path, 0, &reconnect->why);

    if (rc < 0)
        return rc;
    reconnect->socket = rc;
    reconnect->limit_ns = end_ns < now_ns + ANSWER_NS ? now_ns + ANSWER_NS : end_ns;
    if (reconnect->limit_ns > now_ns + PFEED_ANSWER_NS)
        reconnect->limit_ns = now_ns + PFEED_ANSWER_NS;
    place_token(pf->mapped, place_now(pf), request.start);
    request.seed = pf->mapped->token.seed;
    request.flags |= PF_ATTACH_SEED | PF_ATTACH_RECONNECT | (pf->begun ? 0 : PF_ATTACH_UNBEGUN);
    request.seeks = pf->seeks;
    request.max_held = pf->n_batches;
    return ctlsock_send(reconnect->socket, &request, PF_CTL_ATTACH, sizeof(request), 0, &reconnect->why);
}

static int compare_fields(const struct mapped *old, const struct mapped *new, struct sentence *why)
{
    if (old->n_fields != new->n_fields)
        return sentence_set(why, -EINVAL, "the feed has %u fields, and had %u", new->n_fields, old->n_fields);
    for (uint32_t i = 0; i < old->n_fields; i++) {
        struct pf_field is = new->fields[i];

        is.offset = old->fields[i].offset; /* may move within a slot */
        if (memcmp(&is, &old->fields[i], sizeof(is)) != 0)
            return sentence_set(why, -EINVAL, "the feed's field %u is now '%s', of another name, type, shape or scale than '%s'",
                                i, is.name, old->fields[i].name);
    }
    return 0;
}

/* What the trainer was written for must be the same, or it must have said that it may change. */
static int compare(const struct pfeed *pf, const struct mapped *new, const struct pf_ctl_attached *reply, struct sentence *why)
{
    const struct mapped *old = pf->mapped;
    const struct place place = place_now(pf);

    if (pf->request.flags & PF_ATTACH_ACCEPT_CHANGED)
        return 0;
    if (new->token.world_batch != old->token.world_batch)
        return sentence_set(why, -EINVAL, "a step has %llu rows, and had %llu", (unsigned long long)new->token.world_batch,
                            (unsigned long long)old->token.world_batch);
    if (new->steps != old->steps)
        return sentence_set(why, -EINVAL, "an epoch has %llu steps, and had %llu", (unsigned long long)new->steps,
                            (unsigned long long)old->steps);
    if (reply->epoch != place.epoch || reply->step != place.step)
        return sentence_set(why, -EINVAL, "it goes on at epoch %llu, step %llu, not at epoch %llu, step %llu",
                            (unsigned long long)reply->epoch, (unsigned long long)reply->step, (unsigned long long)place.epoch,
                            (unsigned long long)place.step);
    return compare_fields(old, new, why);
}

static void install(struct pfeed *pf, struct lane *lane, struct mapped *mapped, const struct pf_ctl_attached *reply)
{
    lane->socket = pf->reconnect.socket;
    pf->reconnect.socket = -1;
    lane_install(pf, lane, mapped);
    pf->max_held = reply->max_held < pf->n_batches ? reply->max_held : pf->n_batches;
    pf->place = (struct place){ reply->epoch, reply->step };
    if (reply->epoch < pf->epoch)
        pf->epoch = reply->epoch; /* of changed data */
}

/* The answer, if it is there: 1 attached, 0 not yet, or why the attempt has failed. */
static int end_attempt(struct pfeed *pf, int64_t now_ns)
{
    struct reconnect *reconnect = &pf->reconnect;
    struct lane_answer answer;
    struct pf_ctl_head detach;
    struct sentence ignored;
    struct mapped *mapped;
    struct lane lane;
    int rc;

    if (wait_readable(reconnect->socket, 0) != 1) {
        if (now_ns < reconnect->limit_ns)
            return 0;
        return sentence_set(&reconnect->why, -ETIMEDOUT, "pfeedd at %s did not answer in time; is it stopped or busy?", pf->path);
    }
    rc = ctlsock_receive(reconnect->socket, &answer, sizeof(answer.bytes), answer.fds, PF_ATTACH_FDS, 0, &reconnect->why);
    if (rc < 0)
        return rc;
    rc = lane_make(&lane, &mapped, &answer, rc, pf->request.feed, &reconnect->why);
    if (rc < 0)
        return rc;
    rc = compare(pf, mapped, &answer.attached, &reconnect->why);
    if (rc < 0) {
        lane_fini(&lane, true);
        mapped_destroy(mapped, true);
        /* All is unmapped; nobody waits for the answer. */
        ctlsock_send(reconnect->socket, &detach, PF_CTL_DETACH, sizeof(detach), 0, &ignored);
        return rc;
    }
    install(pf, &lane, mapped, &answer.attached);
    return 1;
}

static void stop_attempt(struct reconnect *reconnect)
{
    int socket = reconnect->socket;

    reconnect->socket = -1; /* first: a fork closes what it finds here */
    if (socket >= 0)
        close(socket);
}

/* One step, without blocking: 1 attached, 0 not yet, -EPIPE never. */
static int turn(struct pfeed *pf)
{
    struct reconnect *reconnect = &pf->reconnect;
    int64_t now_ns = ctlsock_now_ns();
    bool asked;
    int rc = 0;

    if (reconnect->over)
        return sentence_set(&pf->error, -EPIPE, "%s", reconnect->why.text);
    if (reconnect->patience_ns == 0)
        return give_up(pf, "");
    if (reconnect->again && now_ns >= reconnect->since_ns + reconnect->patience_ns)
        return give_up(pf, TOO_LONG);
    if (reconnect->socket < 0) {
        if (now_ns < reconnect->again_ns)
            return 0;
        reconnect->again_ns = now_ns + AGAIN_NS;
        rc = begin_attempt(pf, now_ns);
    }
    asked = rc == 0;
    if (asked)
        rc = end_attempt(pf, now_ns);
    if (rc >= 0)
        return rc;
    stop_attempt(reconnect);
    if (asked && !passes(rc))
        return give_up(pf, "; a pfeedd that runs now cannot take this rank back: ");
    if (now_ns >= reconnect->since_ns + reconnect->patience_ns)
        return give_up(pf, TOO_LONG);
    return 0;
}

int reconnect_await(struct pfeed *pf, int64_t deadline_ns)
{
    struct reconnect *reconnect = &pf->reconnect;
    int rc;

    while ((rc = turn(pf)) == 0) {
        int64_t now_ns = ctlsock_now_ns(), until_ns = reconnect->socket >= 0 ? reconnect->limit_ns : reconnect->again_ns;

        if (now_ns >= deadline_ns)
            return sentence_set(&pf->error, -ETIMEDOUT,
                                "pfeedd has gone; this rank has tried to attach again for %.1f s of the %.1f s of "
                                "options.reconnect_ms: %.700s",
                                (double)(now_ns - reconnect->since_ns) / 1e9, (double)reconnect->patience_ns / 1e9,
                                reconnect->why.text);
        if (wait_readable(reconnect->socket, until_ns < deadline_ns ? until_ns : deadline_ns) == -EINTR)
            return -EINTR;
    }
    return rc < 0 ? rc : 0;
}
