/* SPDX-License-Identifier: MIT */
/* Attaching, leaving and seeking, for fuzz_cursors.c: what the model says of it first, then the daemon. */
#ifndef FUZZ_CURSORS_MOVES_H
#define FUZZ_CURSORS_MOVES_H

#include "cursors_world.h"
#include "token.h"

/* ---- coming --------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x100000001b3);
}

/* Of all that a refusal must leave as it is. */
static uint64_t everything(void)
{
    uint64_t hash = 1;

    for (const struct consumer *c = feed->consumers; c; c = c->next) {
        const uint64_t words[] = {
            c->id,    c->state,  c->at.epoch, c->at.step, c->published, c->n_out, c->returns ? c->returns->taken : 0,
            c->seeks, c->sought, c->rang
        };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            hash = mix(hash, words[i]);
    }
    for (const struct job *job = feed->jobs; job; job = job->next) {
        const uint64_t words[] = {
            job->run,    job->n_attached,   job->n_consumers, job->started,         job->start.epoch,      job->start.step,
            job->seeks,  job->sought.epoch, job->sought.step, job->queue.next.step, job->queue.next.epoch, job->queue.n_again,
            job->n_left, job->max_held,     job->parked
        };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            hash = mix(hash, words[i]);
        for (uint32_t i = 0; i < job->n_left; i++)
            hash = mix(mix(hash, number_of(&jobs[0], job->left[i].low)), job->left[i].high.step + job->left[i].high.epoch * 1000);
    }
    for (uint32_t s = 0; s < feed->n_slots; s++)
        hash = mix(mix(hash, feed->slots[s].state), feed->slots[s].sequence);
    return mix(hash, consumer_count());
}

static const struct job *real_of(const struct model_job *job)
{
    for (int i = 0; i < PLAYERS; i++)
        if (players[i].state == THERE && players[i].job == job)
            return players[i].c->job;
    return NULL;
}

static uint64_t rear_of(const struct model_job *job)
{
    uint64_t rear = UINT64_MAX;

    for (int i = 0; i < PLAYERS; i++)
        if (players[i].state == THERE && players[i].job == job && players[i].at < rear)
            rear = players[i].at;
    return rear;
}

static uint32_t count_of(const struct model_job *job)
{
    uint32_t n = 0;

    for (int i = 0; i < PLAYERS; i++)
        n += players[i].state == THERE && players[i].job == job;
    return n;
}

/* What `live` joins: of the jobs that run, the one of most processes, and of these the oldest. */
static bool livelier(const struct model_job *job, const struct model_job *than)
{
    if (model_over(job, rear_of(job)) || real_of(job)->parked)
        return false;
    return !than || count_of(job) > count_of(than) || (count_of(job) == count_of(than) && job->born < than->born);
}

static struct model_job *find(uint32_t name)
{
    for (int j = 0; name && j <= PLAYERS; j++)
        if (jobs[j].there && jobs[j].name == name)
            return &jobs[j];
    return NULL;
}

/* A job is made, maybe in the place of another one, which still runs. */
static struct verdict begin(const struct ask *ask, const struct model_job *terms)
{
    const bool live = ask->start == ASK_LIVE || ask->start == ASK_LIVE_EPOCH;
    struct verdict verdict = { TAKEN, true, ask->start == ASK_TOKEN ? ask->place : 0 };
    const struct model_job *first = NULL;

    for (int j = 0; j <= PLAYERS; j++)
        if (jobs[j].there && jobs[j].seed == ask->seed && real_of(&jobs[j])->started && livelier(&jobs[j], first))
            first = &jobs[j];
    if (live && first) {
        verdict.place = model_live(first, rear_of(first), terms, ask->start == ASK_LIVE_EPOCH);
        verdict.exact = model_is_exact(&rules, first);
    }
    return verdict;
}

static uint32_t quarantined(void)
{
    uint32_t n = 0;

    for (int i = 0; i < PLAYERS; i++)
        n += players[i].state == QUARANTINED ? players[i].n_held : 0;
    return n;
}

/* Slots that suffice if all jobs but `except` and `old` stand at different places. */
static uint32_t others_need(const struct model_job *except, const struct model_job *old)
{
    uint32_t need = quarantined();

    for (int j = 0; j <= PLAYERS; j++)
        if (jobs[j].there && &jobs[j] != except && &jobs[j] != old)
            need += (jobs[j].max_held + 2) * jobs[j].step_slots;
    return need;
}

static struct verdict judge(const struct ask *ask, const struct model_job *joins, const struct model_job *terms, bool possible)
{
    struct verdict verdict = { .what = REFUSED };
    bool grows = true;
    uint32_t need;

    if (!possible || (!ask->name && (ask->world != 1 || ask->replica)) || (joins && ask->run < joins->run))
        return verdict;
    if (joins && ask->run == joins->run) {
        for (int i = 0; i < PLAYERS; i++)
            if (players[i].state == THERE && players[i].job == joins && rules.mode != 'f' && players[i].rank == ask->rank &&
                players[i].replica == ask->replica)
                return verdict;
        verdict = model_join(&rules, joins, ask, terms, real_of(joins)->started, rear_of(joins));
        grows = ask->max_held > joins->max_held;
    } else {
        verdict = begin(ask, terms);
    }
    need = (ask->max_held + 2) * terms->step_slots;
    if (verdict.what == REFUSED || !grows)
        return verdict;
    if (need + quarantined() > rules.slots)
        verdict.what = REFUSED;
    else if (need + others_need(joins, NULL) > rules.slots)
        verdict.what = EITHER;
    return verdict;
}

/* The place of a token, as one that was kept might have it. */
static uint64_t token_place(const struct ask *ask, const struct model_job *joins, uint8_t how)
{
    if (joins && how < 100 && joins->left[ask->rank % RANKS][ask->replica].known)
        return how < 50 ? joins->left[ask->rank % RANKS][ask->replica].low : joins->left[ask->rank % RANKS][ask->replica].high;
    return joins && how < 150 ? joins->start : how % 64;
}

/* There is one queue at a time. Slots are counted for one process of each job, and those of a queue want different ones: queues beside
 * each other may starve, or be filled for in circles. Nor is it settled what a queue skips. */
static void as_one_queue(struct ask *ask)
{
    ask->name = ask->name ? ask->name : 4;
    ask->slow = ask->slow == PF_SLOW_SKIP ? PF_SLOW_BLOCK : ask->slow;
    for (int j = 0; j <= PLAYERS; j++)
        ask->name = jobs[j].there ? jobs[j].name : ask->name;
}

static void read_ask(struct ask *ask, struct bytes *bytes)
{
    const uint8_t who = bytes_next(bytes), terms = bytes_next(bytes), how = bytes_next(bytes), start = bytes_next(bytes);
    const struct model_job *joins;

    *ask = (struct ask){ .name = who & 3   ? who & 3
                                 : who & 4 ? 4
                                           : 0,
                         .rank = who >> 3 & 3,
                         .replica = (who >> 5) == 7,
                         .world = (who >> 5) == 6 ? 3 : 1u << (who >> 5) % 3,
                         .batch = (terms & 7) < 5 ? terms & 7 : 0,
                         .seed = 1 + (terms >> 3 & 1),
                         .max_held = 1 + (terms >> 4 & 3) % HELD,
                         .slow = 1 + (how & 3) % 3,
                         .epochs = how >> 2 & 3,
                         .run = 1,
                         .start = start & 3 };
    if (rules.mode == 'f')
        as_one_queue(ask);
    joins = find(ask->name);
    if (joins && terms < 192) { /* as its other ranks */
        ask->world = joins->world;
        ask->rank %= joins->world;
        ask->batch = joins->rows;
        ask->seed = joins->seed;
        ask->slow = joins->slow;
        ask->epochs = joins->epochs;
    }
    ask->run = (joins ? joins->run : 1) + (how >= 240) - (how >= 224 && how < 232);
    ask->reconnects = ask->start == ASK_TOKEN && start >= 192;
    ask->place = ask->start == ASK_TOKEN ? token_place(ask, joins, bytes_next(bytes)) : 0;
}

static void print_token(char *text, uint64_t seed, const struct model_job *job, uint64_t place, bool late)
{
    struct pf_token token = { .feed = "f", .seed = seed, .world_batch = job->stride, .samples = rules.samples };

    if (late && place % job->steps == 0 && place > 0) /* an epoch's end is the next one's beginning */
        token.epoch = place / job->steps - 1;
    else
        token.epoch = place / job->steps;
    token.row = (place - token.epoch * job->steps) * job->stride;
    assert(pf_token_print(&token, text, PF_START_TEXT) > 0);
}

/* joins: what it comes back to, whose seeks it has followed. */
static int ask_daemon(struct player *p, const struct ask *ask, const struct model_job *joins, const struct model_job *terms,
                      bool possible, struct pf_ctl_attached *reply)
{
    static const char *const names[] = { "", "a", "b", "c", "d" }, *const starts[] = { "", "live", "live:epoch" };
    struct pf_ctl_attach request = { .rank = ask->rank,
                                     .world = ask->world,
                                     .batch = ask->batch,
                                     .epochs = (uint32_t)ask->epochs,
                                     .seed = ask->seed,
                                     .run = ask->run,
                                     .max_held = ask->max_held,
                                     .slow = (uint32_t)ask->slow,
                                     .flags = PF_ATTACH_SEED | (ask->reconnects ? PF_ATTACH_RECONNECT : 0),
                                     .replica = ask->replica,
                                     .seeks = joins && joins->run == ask->run ? (uint32_t)joins->seeks : 0 };
    struct consumer_peer peer = { .pid = 1, .pidfd = eventfd(0, EFD_CLOEXEC) };
    int fds[PF_ATTACH_FDS], rc;
    struct problem why;

    assert(peer.pidfd >= 0);
    strcpy(request.job, names[ask->name]);
    if (ask->start != ASK_TOKEN)
        strcpy(request.start, starts[ask->start]);
    else if (possible)
        print_token(request.start, ask->seed, terms, ask->place, ask->max_held == 1);
    rc = consumer_attach(&p->c, feed, loop, &request, &peer, reply, fds, &why);
    if (rc < 0)
        close(peer.pidfd);
    else
        p->process = peer.pidfd;
    return rc;
}

/* It is in: the job is made, or has one more. */
static void enter(struct player *p, const struct ask *ask, struct model_job *joins, const struct model_job *terms, uint64_t at)
{
    struct model_job *job = joins;

    if (joins && ask->run > joins->run) { /* all ranks of the old run were told to go; what they hold, they hold */
        for (int i = 0; i < PLAYERS; i++)
            if (players[i].state == THERE && players[i].job == joins)
                players[i].state = players[i].n_held > 0 ? QUARANTINED : GONE;
        joins->there = false;
        job = NULL;
    }
    if (!job) {
        for (job = jobs; job->there; job++)
            ;
        *job = *terms;
        job->there = true;
        job->born = ++births;
        job->start = at;
        job->clean = at == 0 && ask->slow != PF_SLOW_SKIP && !ask->reconnects;
    } else if (ask->reconnects || real_of(job)->started) {
        job->clean = false;
        job->may_start |= ask->reconnects; /* it had begun under an older daemon */
        job->resumed |= ask->reconnects;
        if (rules.mode == 'f' && ask->reconnects && at < job->start)
            job->start = at;
        job->lowered |= ask->reconnects;
        reached.resumed += job->left[ask->rank][ask->replica].known;
    }
    job->clean &= ask->replica == 0;
    job->max_held = ask->max_held > job->max_held ? ask->max_held : job->max_held;
    *p = (struct player){ .state = THERE,
                          .c = p->c,
                          .process = p->process,
                          .job = job,
                          .rank = ask->rank,
                          .replica = ask->replica,
                          .max_held = ask->max_held,
                          .seed = ask->seed,
                          .at = at,
                          .seeks = job->seeks,
                          .exact = model_is_exact(&rules, job) };
    reached.attached++;
}

static void attach(struct player *p, struct bytes *bytes)
{
    struct model_job terms, *joins;
    struct pf_ctl_attached reply;
    struct verdict verdict;
    struct ask ask;
    uint64_t before;
    bool possible;
    int rc;

    read_ask(&ask, bytes);
    joins = find(ask.name);
    possible = model_make(&rules, &ask, &terms);
    if (p->state != GONE)
        return;
    verdict = judge(&ask, joins, &terms, possible);
    before = everything();
    rc = ask_daemon(p, &ask, joins, &terms, possible, &reply);
    assert(verdict.what == EITHER || (rc == 0) == (verdict.what == TAKEN));
    if (rc < 0) {
        reached.refused++;
        assert(everything() == before);
        return;
    }
    assert(reply.steps == terms.steps && reply.batch == terms.rows && reply.world_batch == terms.stride);
    if (verdict.exact)
        assert(reply.epoch * terms.steps + reply.step == verdict.place);
    enter(p, &ask, joins, &terms, reply.epoch * terms.steps + reply.step);
    check();
}

/* ---- going ---------------------------------------------------------------------------------------------------------- */

/* Where it stood, for who comes in its place. */
static void leave_model(struct player *p)
{
    struct model_job *job = p->job;
    uint64_t low = p->at, high = p->at;

    for (uint32_t i = p->n_held; i-- > 0;)
        if (p->held[i].seeks == p->seeks && p->held[i].at < low)
            low = p->held[i].at;
    if (p->seeks < job->seeks) /* the others are there, or on their way */
        low = high = job->sought;
    job->left[p->rank][p->replica].known = true;
    job->left[p->rank][p->replica].low = low;
    job->left[p->rank][p->replica].high = high;
    job->clean = false;
    p->state = GONE;
    job->there = real_of(job) != NULL;
}

static void die(struct player *p)
{
    const uint64_t one = 1;

    assert(write(p->process, &one, sizeof(one)) == sizeof(one));
    if (p->state == THERE)
        leave_model(p);
    p->state = GONE;
    assert(loop_turn(loop, 0) == 0);
    assert(!is_there(p->c));
}

static void leave(struct player *p, uint8_t how)
{
    const uint64_t one = 1;

    if (p->state == QUARANTINED)
        die(p);
    if (p->state == GONE)
        return;
    while (how & 4 && p->n_held > 0)
        give_back(p, how);
    switch (how & 3) {
    case 0:
        leave_model(p);
        consumer_detach(p->c);
        assert(!is_there(p->c));
        break;
    case 1:
        leave_model(p);
        consumer_hangup(p->c);
        p->state = p->n_held > 0 ? QUARANTINED : GONE;
        assert(is_there(p->c) == (p->n_held > 0));
        break;
    case 2:
        die(p);
        break;
    default: /* its socket is seen to be closed first */
        assert(write(p->process, &one, sizeof(one)) == sizeof(one));
        leave_model(p);
        consumer_hangup(p->c);
        assert(!is_there(p->c));
    }
    check();
}

/* ---- seeking -------------------------------------------------------------------------------------------------------- */

static struct verdict judge_seek(const struct player *p, uint64_t place, bool epoch)
{
    const struct model_job *job = p->job;
    struct verdict verdict = { TAKEN, true, place };

    if (rules.mode == 'f' || (epoch && model_over(job, place)))
        verdict.what = REFUSED;
    else if (p->seeks < job->seeks)
        verdict.what = place == job->sought ? TAKEN : REFUSED;
    else {
        if (!real_of(job)->started && real_of(job)->n_attached < real_of(job)->n_local)
            verdict.what = REFUSED;
        for (int i = 0; i < PLAYERS; i++)
            if (players[i].state == THERE && players[i].job == job && players[i].seeks < job->seeks)
                verdict.what = REFUSED;
        if (verdict.what == TAKEN && (job->max_held + 2) * job->step_slots + others_need(job, NULL) > rules.slots)
            verdict.what = EITHER;
    }
    return verdict;
}

static void sought(struct player *p, uint64_t place)
{
    struct model_job *job = p->job;

    if (p->seeks == job->seeks) {
        job->seeks++;
        job->sought = place;
        for (uint32_t rank = 0; rank < RANKS; rank++)
            for (uint32_t replica = 0; replica < REPLICAS; replica++)
                job->left[rank][replica].low = job->left[rank][replica].high = place;
    }
    p->seeks = job->seeks;
    p->at = place;
    p->over = false;
    job->clean = false;
    reached.sought++;
}

static void seek(struct player *p, struct bytes *bytes)
{
    const uint8_t how = bytes_next(bytes);
    struct pf_ctl_seek request = { 0 };
    struct model_job *job = p->job;
    struct verdict verdict;
    struct place place;
    struct problem why;
    uint64_t at = 0, before;
    int rc;

    if (p->state != THERE)
        return;
    if (how < 32) {
        strcpy(request.where, "restart");
    } else if (how < 96) {
        at = (how & 3) * job->steps;
        snprintf(request.where, sizeof(request.where), "epoch:%u", how & 3);
    } else {
        at = how < 160 ? job->sought : how % 64;
        print_token(request.where, job->seed, job, at, how & 1);
    }
    verdict = judge_seek(p, at, how >= 32 && how < 96);
    before = everything();
    rc = consumer_seek(p->c, &request, &place, &why);
    assert(verdict.what == EITHER || (rc == 0) == (verdict.what == TAKEN));
    if (rc < 0) {
        assert(everything() == before);
        return;
    }
    assert(number_of(job, place) == at);
    sought(p, at);
    check();
}

#endif
