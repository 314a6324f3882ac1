/* SPDX-License-Identifier: MIT */
/* Where a handle is in its feed's history: told as a token, compared as a fingerprint, changed by a seek. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "internal.h"

_Static_assert(PFEED_TOKEN_MAX == PF_TOKEN_TEXT, "pfeed.h promises room for every token");

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static struct place below_end(const struct mapped *mapped, uint64_t epoch, uint64_t step)
{
    return mapped->steps > 0 && step >= mapped->steps ? (struct place){ epoch + 1, 0 } : (struct place){ epoch, step };
}

struct place place_now(const struct pfeed *pf)
{
    return below_end(pf->mapped, pf->place.epoch, pf->place.step);
}

void place_token(const struct mapped *mapped, struct place place, char *text)
{
    struct pf_token token = mapped->token;

    token.epoch = place.epoch;
    token.row = place.step * token.world_batch;
    pf_token_print(&token, text, PF_TOKEN_TEXT);
}

static int copy_out(struct pfeed *pf, const char *from, const char *what, char *text, size_t n)
{
    size_t size = strlen(from) + 1;

    if (n < size)
        return sentence_set(&pf->error, -ENOSPC, "the %s needs %zu bytes, with its closing zero, and has %zu", what, size, n);
    memcpy(text, from, size);
    return 0;
}

int pfeed_token(struct pfeed *pf, const struct pfeed_batch *batch, char *text, size_t n)
{
    char token[PF_TOKEN_TEXT];

    if (fork_happened(pf))
        return fork_refuse(pf);
    if (batch && (batch->owner != pf || !batch->held))
        return sentence_set(&pf->error, -EINVAL, "pfeed_token: not a batch that this handle holds");
    if (batch)
        place_token(batch->mapped, below_end(batch->mapped, batch->info.epoch, batch->info.step + 1), token);
    else
        place_token(pf->mapped, place_now(pf), token);
    return copy_out(pf, token, "token", text, n);
}

int pfeed_fingerprint(struct pfeed *pf, char *text, size_t n)
{
    const struct pf_prints *prints = &pf->mapped->token.prints;
    char print[PFEED_FINGERPRINT_MAX];

    if (fork_happened(pf))
        return fork_refuse(pf);
    snprintf(print, sizeof(print), "%016" PRIx64 ":%016" PRIx64 ":%016" PRIx64, prints->data, prints->order, prints->recipe);
    return copy_out(pf, print, "fingerprint", text, n);
}

/* ---- seeking -------------------------------------------------------------------------------------------------------- */

/* What was granted and not taken the daemon has revoked; what was taken for a later call goes back. */
static void go_to(struct pfeed *pf, const struct pf_ctl_place *place)
{
    if (pf->kept && pf_returns_push(pf->lane.returns, pf->lane.grants, &pf->lane.returned, pf->kept_grant.number, &pf->lane.rung))
        wait_wake_daemon(pf);
    pf->kept = false;
    pf->last_flags = 0;
    pf->ended = false;
    pf->epoch = place->epoch;
    pf->seeks++;
    pf->place = (struct place){ place->epoch, place->step };
}

/* How an open PF_CTL_SEEK ended. */
enum outcome { PLACED, REFUSED, GONE, LATE, INTERRUPTED };

/* REFUSED: *code and why are the daemon's. */
static enum outcome await_place(struct pfeed *pf, int64_t deadline_ns, int *code, struct sentence *why)
{
    union {
        struct pf_ctl_place place;
        struct pf_ctl_error error; /* room for a refusal, and for a newer daemon that says more */
    } answer;
    int rc = wait_readable(pf->lane.socket, deadline_ns);

    if (rc <= 0)
        return rc == 0 ? LATE : INTERRUPTED;
    rc = ctlsock_receive(pf->lane.socket, &answer, sizeof(answer), NULL, 0, 0, why);
    if (rc == -EPIPE)
        return GONE;
    pf->lane.unanswered = 0;
    if (rc >= 0 && (rc < (int)sizeof(answer.place) || answer.place.head.type != PF_CTL_PLACE))
        rc = sentence_set(why, -EPROTO, "pfeedd answered something else than what was asked for");
    *code = rc;
    if (rc < 0)
        return REFUSED;
    go_to(pf, &answer.place);
    return PLACED;
}

int place_settle(struct pfeed *pf, int *timeout_ms)
{
    int64_t start_ns = ctlsock_now_ns(), left_ms;
    int64_t deadline_ns = *timeout_ms < 0 ? INT64_MAX : start_ns + (int64_t)*timeout_ms * 1000000;
    struct sentence why;
    int code;

    switch (await_place(pf, deadline_ns, &code, &why)) {
    case LATE:
        return sentence_set(&pf->error, -ETIMEDOUT, "pfeedd has not answered the last pfeed_seek yet; is it stopped or busy?");
    case INTERRUPTED:
        return sentence_set(&pf->error, -EINTR, "pfeed_next was interrupted by a signal");
    case GONE:
        if (wait_closed(pf) < 0)
            return -ESTALE;
        reconnect_begin(pf); /* to the old place: what is granted may be of the new one */
        break;
    case PLACED:
    case REFUSED:
        break;
    }
    left_ms = *timeout_ms - (ctlsock_now_ns() - start_ns) / 1000000;
    if (*timeout_ms > 0)
        *timeout_ms = left_ms > 0 ? (int)left_ms : 0;
    return 0;
}

/* Answers come in the order of the questions: what is still open is read first. */
static enum outcome ask(struct pfeed *pf, struct pf_ctl_seek *request, int64_t deadline_ns, int *code)
{
    struct pf_ctl_text text;
    enum outcome outcome;
    int rc = 0;

    if (pf->lane.unanswered == PF_CTL_SEEK) {
        outcome = await_place(pf, deadline_ns, code, &pf->error);
        if (outcome != PLACED && outcome != REFUSED)
            return outcome;
    }
    if (pf->lane.unanswered == PF_CTL_WHY)
        rc = wait_read_why(pf, &text, deadline_ns, &pf->error);
    if (rc == 0)
        rc = ctlsock_send(pf->lane.socket, request, PF_CTL_SEEK, sizeof(*request), deadline_ns, &pf->error);
    if (rc == -EPIPE)
        return GONE;
    if (rc == -ETIMEDOUT)
        return LATE;
    *code = rc;
    if (rc < 0)
        return REFUSED;
    pf->lane.unanswered = PF_CTL_SEEK;
    do
        outcome = await_place(pf, deadline_ns, code, &pf->error);
    while (outcome == INTERRUPTED); /* it is bounded */
    return outcome;
}

/* Where the daemon goes in the middle, the next one is asked; once. */
static int seek(struct pfeed *pf, struct pf_ctl_seek *request)
{
    for (int tries = 0; tries < 2; tries++) {
        int64_t now_ns = ctlsock_now_ns();
        int code, rc = pf->lane.grants ? wait_closed(pf) : reconnect_await(pf, INT64_MAX);

        if (rc == -EINTR)
            return sentence_set(&pf->error, rc, "pfeed_seek was interrupted by a signal");
        if (rc < 0)
            return rc;
        switch (ask(pf, request, now_ns + PFEED_ANSWER_NS, &code)) {
        case PLACED:
            return 0;
        case REFUSED:
            return code;
        case LATE:
        case INTERRUPTED:
            return sentence_set(
                &pf->error, -ETIMEDOUT,
                "pfeedd did not answer within %d s; is it stopped or busy? Whether it has gone to '%.300s' the next "
                "pfeed_next or pfeed_seek hears",
                (int)(PFEED_ANSWER_NS / 1000000000), request->where);
        case GONE:
            if ((rc = wait_closed(pf)) < 0)
                return rc;
            reconnect_begin(pf);
        }
    }
    return sentence_set(&pf->error, -EPIPE, "pfeedd went twice in the middle of a pfeed_seek; pfeed_next attaches again");
}

int pfeed_seek(struct pfeed *pf, const char *where)
{
    struct pf_ctl_seek request = { .flags = pf->request.flags & PF_ATTACH_ACCEPT_CHANGED };

    if (fork_happened(pf))
        return fork_refuse(pf);
    if (!where || !*where || strlen(where) >= sizeof(request.where))
        return sentence_set(&pf->error, -EINVAL,
                            "pfeed_seek: where must be a token, \"epoch:E\" or \"restart\", of less than %zu bytes",
                            sizeof(request.where));
    memcpy(request.where, where, strlen(where) + 1);
    return seek(pf, &request);
}
