/* SPDX-License-Identifier: MIT */
/* See start.h. */
#include "start.h"

#include <errno.h>
#include <string.h>

#include "consumer.h"
#include "feed.h"

#define EPOCHS_MOST (UINT64_C(1) << 40) /* so that no count of slots runs over */
#define ACCEPT      "; with PFEED_OPT_ACCEPT_CHANGED it is taken nevertheless"

static int parse_token(struct start *out, const char *text, struct problem *why)
{
    int rc = pf_token_parse(text, &out->token);

    out->kind = START_TOKEN;
    if (rc == 0 && out->token.epoch >= EPOCHS_MOST)
        return problem_set(why, -EINVAL, "the token is of epoch %llu; there are no more than 2^40",
                           (unsigned long long)out->token.epoch);
    if (rc == 0)
        return 0;
    if (strncmp(text, PF_TOKEN_MARK, strlen(PF_TOKEN_MARK)) != 0)
        return problem_set(why, -EINVAL,
                           "the token '%.20s...' is of another version than this pfeedd's '" PF_TOKEN_MARK
                           "'; use a pfeedd that is as new as the one it was made with",
                           text);
    return problem_set(
        why, -EBADMSG,
        "the token '%.20s...' (%zu bytes) was cut or edited: its checksum does not fit; use it as pfeed_token gave it", text,
        strlen(text));
}

int start_parse(struct start *out, const char *text, struct problem *why)
{
    *out = (struct start){ .kind = START_FRESH };
    if (pf_token_is(text))
        return parse_token(out, text, why);
    if (strcmp(text, "live") == 0)
        out->kind = START_LIVE;
    else if (strcmp(text, "live:epoch") == 0)
        out->kind = START_LIVE_EPOCH;
    else if (*text && strcmp(text, "fresh") != 0)
        return problem_set(why, -EINVAL,
                           "start '%.60s' is none of \"fresh\", \"live\", \"live:epoch\" and what pfeed_token gives", text);
    return 0;
}

int start_parse_seek(struct start *out, const char *text, struct problem *why)
{
    *out = (struct start){ .kind = START_RESTART };
    if (pf_token_is(text))
        return parse_token(out, text, why);
    if (strcmp(text, "restart") == 0)
        return 0;
    out->kind = START_EPOCH;
    if (strncmp(text, "epoch:", 6) == 0 && pf_token_number(text + 6, 10, 0, &out->epoch) && out->epoch < EPOCHS_MOST)
        return 0;
    return problem_set(
        why, -EINVAL,
        "cannot seek to '%.60s': give \"restart\", \"epoch:E\", E a plain number below 2^40, or what pfeed_token gives", text);
}

uint64_t start_seed(const struct start *start, const struct feed *feed, const struct pf_ctl_attach *request)
{
    if (request->flags & PF_ATTACH_SEED)
        return request->seed;
    return start->kind == START_TOKEN ? start->token.seed : feed->config->seed;
}

/* The first thing that makes the token's history another than the job's. */
static int compare(const struct pf_token *token, const struct job *job, struct problem *why)
{
    const struct feed *feed = job->feed;
    const struct pf_prints *then = &token->prints, *now = &feed->prints;

    if (strcmp(token->feed, feed->config->name) != 0)
        return problem_set(why, -EINVAL, "the token is of feed '%s', and this is feed '%s'" ACCEPT, token->feed,
                           feed->config->name);
    if (token->samples != feed->samples)
        return problem_set(why, -EINVAL,
                           "the data of feed '%s' has changed: %llu samples when the token was made, %llu now" ACCEPT,
                           feed->config->name, (unsigned long long)token->samples, (unsigned long long)feed->samples);
    if (then->data != now->data)
        return problem_set(why, -EINVAL,
                           "the data of feed '%s' has changed: as many samples, but other names, sizes or classes than when the "
                           "token was made (fingerprint %016llx then, %016llx now)" ACCEPT,
                           feed->config->name, (unsigned long long)then->data, (unsigned long long)now->data);
    if (then->order != now->order)
        return problem_set(why, -EINVAL,
                           "the order of feed '%s' has changed since the token was made: its `shuffle`, `split` or `tail` "
                           "(fingerprint %016llx then, %016llx now)" ACCEPT,
                           feed->config->name, (unsigned long long)then->order, (unsigned long long)now->order);
    if (then->recipe != now->recipe)
        return problem_set(why, -EINVAL,
                           "the recipe of feed '%s' has changed since the token was made: its `fields` or `on_error` "
                           "(fingerprint %016llx then, %016llx now)" ACCEPT,
                           feed->config->name, (unsigned long long)then->recipe, (unsigned long long)now->recipe);
    if (token->seed != job->seed)
        return problem_set(why, -EINVAL, "the token is of seed %llu, and options.seed is %llu" ACCEPT,
                           (unsigned long long)token->seed, (unsigned long long)job->seed);
    if (token->world_batch != job->terms.stride)
        return problem_set(why, -EINVAL,
                           "the token is of steps of %llu rows over all ranks, and this job's have %llu (world %u x batch %u): "
                           "give a world and a "
                           "batch whose product is the same" ACCEPT,
                           (unsigned long long)token->world_batch, (unsigned long long)job->terms.stride, job->world,
                           job->terms.batch);
    return 0;
}

static int token_place(const struct pf_token *token, const struct job *job, bool accept, struct place *out, struct problem *why)
{
    const uint64_t stride = job->terms.stride;
    int rc = accept ? 0 : compare(token, job, why);

    if (rc < 0)
        return rc;
    if (token->row % stride != 0)
        return problem_set(why, -EINVAL,
                           "the token stands at row %llu of its epoch, which is no whole number of this job's steps of %llu rows "
                           "(world %u x batch %u); resume with a world and a batch whose product divides it",
                           (unsigned long long)token->row, (unsigned long long)stride, job->world, job->terms.batch);
    *out = (struct place){ token->epoch, token->row / stride };
    if (out->step >= job->steps) /* fewer samples than then: that epoch is over */
        *out = (struct place){ token->epoch + 1, 0 };
    return 0;
}

/* What runs on the feed with the same seed, as a row of an epoch: the job of most processes, and of these the one that came first. */
static bool live_row(const struct job *job, uint64_t *epoch, uint64_t *row)
{
    uint32_t most = 0;

    for (const struct job *other = job->feed->jobs; other; other = other->next) { /* the newest first */
        struct place at;

        if (other == job || other->seed != job->seed || other->peek || !other->started || other->parked ||
            other->n_consumers < most || !job_rearmost(other, &at) || job_over(other, at))
            continue;
        *epoch = at.epoch;
        *row = at.step * other->terms.stride;
        most = other->n_consumers;
    }
    return most > 0;
}

static struct place live_place(const struct job *job, bool next_epoch)
{
    struct place place = { 0, 0 };
    uint64_t row = 0;

    if (!live_row(job, &place.epoch, &row) || row == 0)
        return place;
    place.step = (row + job->terms.stride - 1) / job->terms.stride;
    if (next_epoch || place.step >= job->steps)
        place = (struct place){ place.epoch + 1, 0 };
    return place;
}

int start_place(const struct start *start, const struct job *job, bool accept, struct place *out, struct problem *why)
{
    switch (start->kind) {
    case START_LIVE:
    case START_LIVE_EPOCH:
        *out = live_place(job, start->kind == START_LIVE_EPOCH);
        return 0;
    case START_TOKEN:
        return token_place(&start->token, job, accept, out, why);
    case START_EPOCH:
        if (job->epochs && start->epoch >= job->epochs)
            return problem_set(why, -EINVAL, "cannot seek to epoch %llu: the job has epochs 0 to %llu",
                               (unsigned long long)start->epoch, (unsigned long long)job->epochs - 1);
        *out = (struct place){ start->epoch, 0 };
        return 0;
    case START_FRESH:
    case START_RESTART:
        break;
    }
    *out = (struct place){ 0, 0 };
    return 0;
}
