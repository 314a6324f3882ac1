/* SPDX-License-Identifier: MIT */
/*
 * pfeed_token, pfeed_fingerprint and pfeed_seek against a daemon that is told what to do: what a token says, that a seek makes void
 * what was granted and not given, and that a failing one changes nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fake_lane.h"
#include "internal.h"

static struct fake_daemon daemon_;
#define D (&daemon_)

static struct pfeed_batch *must_next(struct pfeed *pf, uint64_t epoch, uint64_t step)
{
    struct pfeed_batch *batch = NULL;
    int rc = pfeed_next(pf, &batch, 20000);

    CHECK(rc == 0 && batch, "%d: %s", rc, pfeed_error(pf));
    CHECK(pfeed_info(batch)->epoch == epoch && pfeed_info(batch)->step == step, "epoch %llu step %llu",
          (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step);
    return batch;
}

static void must_tell(struct pfeed *pf, int code)
{
    struct pfeed_batch *batch = NULL;
    int rc = pfeed_next(pf, &batch, 0);

    CHECK(rc == code && !batch, "%d: %s", rc, pfeed_error(pf));
}

/* The token's place is epoch, step. */
static void must_be_at(struct pfeed *pf, const struct pfeed_batch *batch, uint64_t epoch, uint64_t step)
{
    char text[PFEED_TOKEN_MAX];
    struct pf_token token;

    CHECK(pfeed_token(pf, batch, text, sizeof(text)) == 0, "%s", pfeed_error(pf));
    CHECK(pf_token_parse(text, &token) == 0, "%s", text);
    CHECK(token.epoch == epoch && token.row == step * 8, "%s", text);
    CHECK(strcmp(token.feed, "try") == 0 && token.seed == 7 && token.world_batch == 8 && token.samples == 64, "%s", text);
    CHECK(token.prints.data == 0xd && token.prints.order == 0xe && token.prints.recipe == 0xf, "%s", text);
}

static void tokens(void)
{
    struct pfeed_batch *first, *last;
    char text[PFEED_TOKEN_MAX + 1];
    struct pfeed *pf;
    size_t size;

    D->lane.reply.epoch = 2;
    D->lane.reply.step = 6;
    pf = fake_open(D, 0, 0);
    must_be_at(pf, NULL, 2, 6);
    fake_grant(D, 2, 6, 0);
    fake_grant(D, 2, 7, PF_GRANT_LAST_OF_EPOCH);
    first = must_next(pf, 2, 6);
    must_be_at(pf, NULL, 2, 7);
    last = must_next(pf, 2, 7);
    must_be_at(pf, NULL, 3, 0);
    must_be_at(pf, last, 3, 0);
    must_be_at(pf, first, 2, 7);
    must_tell(pf, PFEED_EPOCH);
    must_be_at(pf, NULL, 3, 0);
    fake_daemon_fall(D);
    must_be_at(pf, first, 2, 7);
    pfeed_done(pf, first);
    CHECK(pfeed_token(pf, first, text, sizeof(text)) == -EINVAL, "a token of what is not held");
    must_tell(pf, -ETIMEDOUT); /* the lane has ended */
    must_be_at(pf, NULL, 3, 0);
    must_be_at(pf, last, 3, 0);

    CHECK(pfeed_token(pf, NULL, text, sizeof(text)) == 0, "%s", pfeed_error(pf));
    size = strlen(text) + 1;
    memset(text, '#', sizeof(text));
    CHECK(pfeed_token(pf, NULL, text, size - 1) == -ENOSPC && text[0] == '#', "a token that is cut");
    CHECK(strstr(pfeed_error(pf), "needs") && strtoul(strstr(pfeed_error(pf), "needs ") + 6, NULL, 10) == size, "%s",
          pfeed_error(pf));
    CHECK(pfeed_token(pf, NULL, text, size) == 0 && text[size] == '#', "its room is enough");
    fake_daemon_rise(D);
    pfeed_close(pf);
}

static void fingerprints(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    char text[PFEED_FINGERPRINT_MAX];

    CHECK(pfeed_fingerprint(pf, text, sizeof(text)) == 0, "%s", pfeed_error(pf));
    CHECK(strcmp(text, "000000000000000d:000000000000000e:000000000000000f") == 0, "%s", text);
    CHECK(pfeed_fingerprint(pf, text, sizeof(text) - 1) == -ENOSPC && strstr(pfeed_error(pf), "needs 51 bytes"), "%s",
          pfeed_error(pf));
    pfeed_close(pf);
}

static void goes(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    struct pfeed_batch *held;

    for (uint64_t step = 0; step < 3; step++)
        fake_grant(D, 0, step, 0);
    held = must_next(pf, 0, 0);
    fake_seeks(D, FAKE_SERVES, 4, 2);
    CHECK(pfeed_seek(pf, "epoch:4") == 0, "%s", pfeed_error(pf));
    CHECK(strcmp(D->seek.where, "epoch:4") == 0 && D->seek.flags == 0, "it asks for '%s'", D->seek.where);
    must_be_at(pf, NULL, 4, 2);
    must_be_at(pf, held, 0, 1);
    must_tell(pf, -ETIMEDOUT); /* steps 1 and 2 are void */
    fake_grant(D, 4, 2, 0);
    pfeed_done(pf, must_next(pf, 4, 2));
    pfeed_done(pf, held);
    CHECK(D->lane.returns->returned == 2, "%" PRIu64 " returned", D->lane.returns->returned);
    pfeed_close(pf);
}

/* From the last batch of the last epoch, before and after its end is told. */
static void goes_back_from_the_end(void)
{
    for (int told = 0; told < 3; told++) {
        struct pfeed *pf = fake_open(D, 0, PFEED_OPT_ACCEPT_CHANGED);

        fake_grant(D, 0, 7, PF_GRANT_LAST_OF_EPOCH | PF_GRANT_LAST);
        pfeed_done(pf, must_next(pf, 0, 7));
        for (int i = 0; i < told; i++)
            must_tell(pf, i == 0 ? PFEED_EPOCH : PFEED_END);
        fake_seeks(D, FAKE_SERVES, 0, 0);
        CHECK(pfeed_seek(pf, "restart") == 0 && D->seek.flags == PF_ATTACH_ACCEPT_CHANGED, "%s", pfeed_error(pf));
        must_tell(pf, -ETIMEDOUT);
        fake_grant(D, 0, 0, 0);
        pfeed_done(pf, must_next(pf, 0, 0));
        pfeed_close(pf);
        fake_daemon_fall(D);
        fake_daemon_rise(D);
    }
}

/* A grant that was taken to tell an epoch's end first is given back; where the seek fails it is given next. */
static void gives_back_what_it_kept(void)
{
    for (int fails = 0; fails < 2; fails++) {
        struct pfeed *pf = fake_open(D, 0, 0);

        fake_grant(D, 1, 3, 0);
        must_tell(pf, PFEED_EPOCH);
        fake_seeks(D, fails ? FAKE_REFUSES : FAKE_SERVES, 0, 5);
        CHECK(pfeed_seek(pf, "somewhere") == (fails ? -EINVAL : 0), "%s", pfeed_error(pf));
        CHECK(D->lane.returns->returned == !fails, "%" PRIu64 " returned", D->lane.returns->returned);
        if (!fails)
            fake_grant(D, 0, 5, 0);
        pfeed_done(pf, fails ? must_next(pf, 1, 3) : must_next(pf, 0, 5));
        pfeed_close(pf);
        fake_daemon_fall(D);
        fake_daemon_rise(D);
    }
}

static void changes_nothing_when_it_fails(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    char long_text[PF_START_TEXT + 1];

    fake_grant(D, 0, 0, 0);
    fake_grant(D, 0, 1, 0);
    pfeed_done(pf, must_next(pf, 0, 0));
    fake_seeks(D, FAKE_REFUSES, 0, 0);
    CHECK(pfeed_seek(pf, "nowhere") == -EINVAL && strcmp(pfeed_error(pf), "no such place") == 0, "%s", pfeed_error(pf));
    memset(long_text, 'x', sizeof(long_text));
    long_text[PF_START_TEXT] = 0;
    CHECK(pfeed_seek(pf, long_text) == -EINVAL && pfeed_seek(pf, NULL) == -EINVAL && pfeed_seek(pf, "") == -EINVAL, "%s",
          pfeed_error(pf));
    CHECK(D->n_seek == 1, "the daemon is asked what cannot be");
    must_be_at(pf, NULL, 0, 1);
    pfeed_done(pf, must_next(pf, 0, 1));
    pfeed_close(pf);
}

/* An answer to an earlier question comes first. */
static void after_a_question(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    struct pfeed_batch *batch;

    CHECK(pfeed_next(pf, &batch, 1) == -ETIMEDOUT, "%s", pfeed_error(pf)); /* it may or may not have heard why */
    fake_seeks(D, FAKE_SERVES, 1, 1);
    CHECK(pfeed_seek(pf, "epoch:1") == 0, "%s", pfeed_error(pf));
    must_be_at(pf, NULL, 1, 1);
    pfeed_close(pf);
}

/* An answer that comes later than the call could wait: the next call hears it before it gives anything. */
static void hears_it_later(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    struct pf_ctl_seek request = { .where = "epoch:3" };
    struct pf_ctl_place place = { .epoch = 3 };
    struct sentence why;
    uint64_t from;

    fake_grant(D, 0, 0, 0);
    fake_seeks(D, FAKE_IS_SILENT, 0, 0);
    CHECK(ctlsock_send(pf->lane.socket, &request, PF_CTL_SEEK, sizeof(request), INT64_MAX, &why) == 0, "%s", why.text);
    pf->lane.unanswered = PF_CTL_SEEK; /* as after 10 s */
    must_tell(pf, -ETIMEDOUT);
    CHECK(strstr(pfeed_error(pf), "pfeed_seek"), "%s", pfeed_error(pf));
    while (!__atomic_load_n(&D->silent, __ATOMIC_ACQUIRE))
        continue;
    CHECK(pf_grants_revoke(D->lane.returns, 0, D->lane.published, &from) == 0, "taken is not sound");
    fake_grant(D, 3, 0, 0);
    fake_send(D->silent, &place, PF_CTL_PLACE, sizeof(place), NULL, 0);
    pfeed_done(pf, must_next(pf, 3, 0));
    pfeed_close(pf);
}

/* Where the daemon has gone, or goes when it is asked, the next one is asked. */
static void over_a_death(void)
{
    struct pfeed *pf = fake_open(D, 0, 0);
    struct pf_token token;

    fake_grant(D, 0, 0, 0);
    fake_grant(D, 0, 1, 0);
    pfeed_done(pf, must_next(pf, 0, 0));
    fake_daemon_fall(D);
    fake_seeks(D, FAKE_SERVES, 5, 0);
    fake_grant(D, 0, 1, 0);
    fake_daemon_rise(D);
    CHECK(pfeed_seek(pf, "epoch:5") == 0, "%s", pfeed_error(pf));
    CHECK(D->n_attach == 2 && (D->attach.flags & PF_ATTACH_RECONNECT), "it has not come back");
    CHECK(pf_token_parse(D->attach.start, &token) == 0 && token.epoch == 0 && token.row == 8, "start is %s", D->attach.start);
    fake_grant(D, 5, 0, 0);
    pfeed_done(pf, must_next(pf, 5, 0));

    fake_seeks(D, FAKE_HANGS_UP, 0, 0);
    CHECK(pfeed_seek(pf, "epoch:6") == -EPIPE && D->n_seek == 3, "%u: %s", D->n_seek, pfeed_error(pf));
    must_be_at(pf, NULL, 5, 1);
    fake_seeks(D, FAKE_SERVES, 6, 0);
    CHECK(pfeed_seek(pf, "epoch:6") == 0, "%s", pfeed_error(pf));
    must_be_at(pf, NULL, 6, 0);
    pfeed_close(pf);
}

int main(void)
{
    void (*const tests[])(void) = { tokens,
                                    fingerprints,
                                    goes,
                                    goes_back_from_the_end,
                                    gives_back_what_it_kept,
                                    changes_nothing_when_it_fails,
                                    after_a_question,
                                    hears_it_later,
                                    over_a_death };

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        fake_daemon_start(D);
        tests[i]();
        fake_daemon_stop(D);
    }
    return 0;
}
