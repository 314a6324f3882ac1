/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 5, and section 8: the daemon dies, or is restarted, and trainers go on by themselves. The history of every
 * rank is the one without it; what was held stays, what was granted is delivered; nobody waits for another rank; how long and with
 * what it is tried is what options.reconnect_ms and the data say; nothing stays behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define ROWS    244u /* no multiple of BATCH: there is a tail */
#define BATCH   8u
#define SLOTS   6u /* few, so that little is granted in advance */
#define FEWEST  4u /* with which max_held 2 works: slot_obtain.c */
#define STEPS   (ROWS / BATCH)
#define EPOCHS  2u
#define MOST    4u
#define ENDINGS 4u /* of the daemon in one history */

static struct daemon pfeedd;
static uint32_t n_slots = SLOTS;

static const char *recipe(unsigned workers, unsigned rows, unsigned batch, const char *keys)
{
    static char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: %u, memory: 64MiB }\nfeeds:\n  f:\n    source: { type: synthetic, rows: %u }\n"
             "    batch: %u\n    slots: %u\n%s    fields: { x: { dtype: float32, shape: [16] } }\n",
             workers, rows, batch, n_slots, keys);
    return yaml;
}

static void write_config(const char *yaml)
{
    FILE *file = fopen(pfeedd.config, "we");

    CHECK(file && fputs(yaml, file) >= 0 && fclose(file) == 0, "cannot write %s", pfeedd.config);
}

static uint32_t consumers_of(const char *feed)
{
    return feed_now(&pfeedd, feed).consumers;
}

/* ---- histories ------------------------------------------------------------------------------------------------------ */

struct shape {
    const char *keys; /* of the feed */
    uint32_t world, steps;
    bool terminated; /* by SIGTERM, not SIGKILL */
    bool workers;    /* and started with others */
    bool stopped;    /* the last rank does not run meanwhile */
};

struct ranks {
    struct plan plans[MOST];
    struct trainer *trainers[MOST];
    uint32_t *pace; /* one for each */
};

static void ranks_prepare(struct ranks *ranks, const char *job, uint32_t world)
{
    ranks->pace = shared_memory(MOST * sizeof(*ranks->pace));
    for (uint32_t r = 0; r < world; r++)
        ranks->plans[r] = (struct plan){ .daemon = &pfeedd,
                                         .feed = "f",
                                         .job = job,
                                         .rank = r,
                                         .world = world,
                                         .epochs = EPOCHS,
                                         .history = history_create(64, 512),
                                         .pace = &ranks->pace[r] };
}

static void rank_start(struct ranks *ranks, uint32_t rank)
{
    char name[16];

    snprintf(name, sizeof(name), "%s %u", ranks->plans[rank].job, rank);
    ranks->trainers[rank] = trainer_start(name, train, &ranks->plans[rank]);
}

static void allow(struct ranks *ranks, uint32_t world, uint32_t steps)
{
    for (uint32_t r = 0; r < world; r++)
        word_set(&ranks->pace[r], steps);
}

static uint64_t steps_of(const struct ranks *ranks, uint32_t rank)
{
    return count_get(&ranks->plans[rank].history->n_steps);
}

static void ranks_wait(struct ranks *ranks, uint32_t world)
{
    for (uint32_t r = 0; r < world; r++)
        trainer_wait(ranks->trainers[r]);
}

static void ranks_compare(const struct ranks *ranks, const struct ranks *undisturbed, uint32_t world, uint32_t steps)
{
    char what[16];

    for (uint32_t r = 0; r < world; r++) {
        snprintf(what, sizeof(what), "rank %u", r);
        history_check(undisturbed->plans[r].history, "undisturbed", EPOCHS, steps);
        history_check(ranks->plans[r].history, what, EPOCHS, steps);
        history_same(ranks->plans[r].history, what, undisturbed->plans[r].history);
    }
}

static void run_undisturbed(struct ranks *ranks, uint32_t world)
{
    ranks_prepare(ranks, "calm", world);
    allow(ranks, world, UINT32_MAX);
    for (uint32_t r = 0; r < world; r++)
        rank_start(ranks, r);
    ranks_wait(ranks, world);
}

static void end_daemon(const struct shape *shape)
{
    if (shape->terminated)
        daemon_stop(&pfeedd);
    else
        daemon_kill(&pfeedd);
}

/* Dies and comes back; more steps are allowed than the dead one can have granted, so that every rank needs the new one. */
static void restart(const struct shape *shape, struct ranks *ranks, uint32_t *allowed)
{
    end_daemon(shape);
    allow(ranks, shape->world, *allowed += SLOTS + 1);
    daemon_again(&pfeedd);
}

/* While the ranks are under way: in the first epoch, at its end (which they may not have been told), in the second one, where the
 * next daemon dies at once, too, and near the end, where all may have been granted that is left. */
static void run_history(const void *arg)
{
    const struct shape *shape = arg;
    const uint32_t world = shape->world, total = EPOCHS * shape->steps;
    const uint32_t ends[ENDINGS] = { 2, shape->steps, shape->steps + SLOTS + 3, total - 3 };
    struct ranks calm, ranks;
    uint32_t allowed;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, shape->keys));
    run_undisturbed(&calm, world);
    ranks_prepare(&ranks, "job", world);
    for (uint32_t r = 0; r < world; r++)
        rank_start(&ranks, r);
    for (uint32_t i = 0; i < ENDINGS; i++) {
        allow(&ranks, world, ends[i]);
        for (uint32_t r = 0; r < world; r++)
            UNTIL(steps_of(&ranks, r) == ends[i]);
        if (shape->stopped)
            trainer_stop(ranks.trainers[world - 1]);
        if (shape->workers)
            write_config(recipe(i % 2 ? 2 : 1, ROWS, BATCH, shape->keys));
        allowed = ends[i] + 2;
        allow(&ranks, world, allowed);
        restart(shape, &ranks, &allowed);
        if (i == 2)
            restart(shape, &ranks, &allowed);
        if (shape->stopped)
            trainer_continue(ranks.trainers[world - 1]);
        if (i + 1 < ENDINGS)
            UNTIL(consumers_of("f") == world);
    }
    allow(&ranks, world, UINT32_MAX);
    ranks_wait(&ranks, world);
    ranks_compare(&ranks, &calm, world, shape->steps);
    UNTIL(feed_at_rest(&pfeedd, "f"));
    daemon_stop(&pfeedd);
}

/* Rank 0 has come back, and gone, when rank 1 comes back with its last steps to another daemon. */
static void run_apart(const void *arg)
{
    const uint32_t end = EPOCHS * STEPS - 2 * SLOTS;
    struct ranks calm, ranks;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    run_undisturbed(&calm, 2);
    ranks_prepare(&ranks, "job", 2);
    allow(&ranks, 2, end);
    for (uint32_t r = 0; r < 2; r++)
        rank_start(&ranks, r);
    for (uint32_t r = 0; r < 2; r++)
        UNTIL(steps_of(&ranks, r) == end);
    for (uint32_t r = 0; r < 2; r++) {
        daemon_kill(&pfeedd);
        daemon_again(&pfeedd);
        word_set(&ranks.pace[r], UINT32_MAX);
        trainer_wait(ranks.trainers[r]);
        CHECK(feed_now(&pfeedd, "f").rows_delivered > 0, "rank %u did not come back", r);
    }
    ranks_compare(&ranks, &calm, 2, STEPS);
    daemon_stop(&pfeedd);
}

/* Rank 0 waits for rank 1's first attach, which comes only to the next daemon. */
static void run_unstarted(const void *arg)
{
    struct ranks calm, ranks;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    run_undisturbed(&calm, 2);
    ranks_prepare(&ranks, "job", 2);
    allow(&ranks, 2, 1);
    rank_start(&ranks, 0);
    UNTIL(consumers_of("f") == 1);
    daemon_kill(&pfeedd);
    daemon_again(&pfeedd);
    UNTIL(consumers_of("f") == 1);
    rank_start(&ranks, 1);
    for (uint32_t r = 0; r < 2; r++)
        UNTIL(steps_of(&ranks, r) == 1);
    allow(&ranks, 2, UINT32_MAX);
    ranks_wait(&ranks, 2);
    ranks_compare(&ranks, &calm, 2, STEPS);
    daemon_stop(&pfeedd);
}

/* ---- what is held, and who waits ------------------------------------------------------------------------------------ */

static struct pfeed *must_open(const char *job, uint32_t rank, uint32_t world, uint32_t max_held, int reconnect_ms,
                               uint32_t flags)
{
    struct pfeed_options options = { .size = sizeof(options),
                                     .socket = pfeedd.socket,
                                     .feed = "f",
                                     .job = job,
                                     .rank = rank,
                                     .world = world,
                                     .max_held = max_held,
                                     .reconnect_ms = reconnect_ms,
                                     .flags = flags };
    struct pfeed *pf = NULL;
    int rc = pfeed_open(&pf, &options);

    CHECK(rc == 0, "pfeed_open: %d: %s", rc, pfeed_error(NULL));
    return pf;
}

/* Maps of pfeed's memory: an arena and two pages for each attachment. */
static unsigned maps_here(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned n = 0;
    char line[512];

    CHECK(maps, "cannot read /proc/self/maps: %s", strerror(errno));
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "memfd:pfeed") != NULL;
    fclose(maps);
    return n;
}

static void expect_step(const struct pfeed_batch *batch, uint64_t step)
{
    CHECK(pfeed_info(batch)->epoch == 0 && pfeed_info(batch)->step == step, "epoch %llu step %llu, not step %llu",
          (unsigned long long)pfeed_info(batch)->epoch, (unsigned long long)pfeed_info(batch)->step, (unsigned long long)step);
}

/* Takes what is granted, without a daemon: the step that comes next then. */
static uint64_t drain(struct pfeed *pf, uint64_t step)
{
    struct pfeed_batch *batch;
    int rc;

    while ((rc = pfeed_next(pf, &batch, 0)) == 0) {
        expect_step(batch, step++);
        must_done(pf, batch);
    }
    CHECK(rc == -ETIMEDOUT && strstr(pfeed_error(pf), "tried to attach again"), "after what was granted: %d: %s", rc,
          pfeed_error(pf));
    return step;
}

static void run_held(const void *arg)
{
    struct pf_row_consumer row;
    struct pfeed_batch *held[2], *batch;
    uint64_t hashes[2], step;
    struct pfeed *pf;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    pf = must_open(NULL, 0, 1, 4, 0, 0);
    CHECK(maps_here() == 3, "%u maps", maps_here());
    for (unsigned i = 0; i < 2; i++) {
        held[i] = must_next(pf);
        hashes[i] = batch_hash(held[i]);
    }
    UNTIL(stat_consumers(&pfeedd, "f", &row, 1) == 1 && row.granted == SLOTS);
    daemon_kill(&pfeedd);
    step = drain(pf, 2);
    CHECK(step == 2 + row.granted - 2, "of %u grants, 2 of them held, %llu came", row.granted, (unsigned long long)step - 2);
    CHECK(maps_here() == 1, "without a daemon, and with batches held, there are %u maps", maps_here());
    must_done(pf, held[1]);
    CHECK(batch_hash(held[0]) == hashes[0], "a held batch has changed");
    daemon_again(&pfeedd);
    for (unsigned k = 0; k < 2; k++) {
        batch = must_next(pf);
        expect_step(batch, step++);
        must_done(pf, batch);
    }
    CHECK(maps_here() == 4, "with a new daemon, and a batch of the old one, there are %u maps", maps_here());
    CHECK(batch_hash(held[0]) == hashes[0] && hashes[0] != hashes[1], "a held batch has changed");
    must_done(pf, held[0]);
    CHECK(maps_here() == 3, "when nothing of the old daemon's is held there are %u maps", maps_here());
    daemon_kill(&pfeedd);
    step = drain(pf, step);
    CHECK(maps_here() == 0, "without a daemon, and with nothing held, there are %u maps", maps_here());
    pfeed_close(pf);
}

struct barrier {
    uint32_t at_step[2]; /* each rank has trained so many steps */
    uint32_t go;         /* rank 0 may take its batch */
    uint32_t ready;
};
static struct barrier *barrier;

static void all_reduce(uint32_t rank, uint32_t step)
{
    word_set(&barrier->at_step[rank], step + 1);
    word_await(&barrier->at_step[!rank], step + 1);
}

static void rank_behind(void *arg)
{
    struct pfeed *pf = must_open("job", 0, 2, 2, 0, 0);
    struct pfeed_batch *batch;

    for (uint32_t step = 0; step < STEPS; step++) {
        word_await(&barrier->go, step + 1);
        batch = must_next(pf);
        expect_step(batch, step);
        all_reduce(0, step);
        must_done(pf, batch);
    }
    pfeed_close(pf);
}

/* Always one batch ahead: it holds two while it waits for the other one. */
static void rank_ahead(void *arg)
{
    struct pfeed *pf = must_open("job", 1, 2, 2, 0, 0);
    struct pfeed_batch *batch = must_next(pf), *next = NULL;

    for (uint32_t step = 0; step < STEPS; step++) {
        uint64_t hash = batch_hash(batch);

        if (step < STEPS - 1)
            next = must_next(pf);
        word_set(&barrier->ready, step + 1);
        expect_step(batch, step);
        all_reduce(1, step);
        CHECK(batch_hash(batch) == hash, "a held batch has changed");
        must_done(pf, batch);
        batch = next;
    }
    pfeed_close(pf);
}

/* Rank 1 holds two grants and waits in a barrier for rank 0, which has none: rank 0 has trained all that it had been granted, and
 * not yet come back to the daemon that rank 1's grants are of, when that dies, too. It has to be served while rank 1 never calls. */
static void run_all_reduce(const void *arg)
{
    struct trainer *trainers[2];
    struct pf_row_consumer rows[2];
    uint32_t step = 3;

    n_slots = *(const uint32_t *)arg;
    barrier = shared_memory(sizeof(*barrier));
    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    word_set(&barrier->go, step);
    trainers[0] = trainer_start("behind", rank_behind, NULL);
    trainers[1] = trainer_start("ahead", rank_ahead, NULL);
    word_await(&barrier->ready, step + 1);
    /* All slots are granted to both, from the step that rank 0 has not trained yet. */
    UNTIL(stat_consumers(&pfeedd, "f", rows, 2) == 2 && rows[0].step == step + n_slots && rows[1].step == step + n_slots);
    daemon_kill(&pfeedd);
    daemon_again(&pfeedd);
    while (consumers_of("f") == 0) {
        CHECK(step < 3 + n_slots, "more was granted than there are slots");
        word_set(&barrier->go, ++step);
        word_await(&barrier->ready, step + 1); /* rank 1 holds two; rank 0 has none, or some of before */
    }
    CHECK(stat_consumers(&pfeedd, "f", rows, 2) == 1 && rows[0].rank == 1 && rows[0].held >= 1,
          "rank %u came back first, and holds %u", rows[0].rank, rows[0].held);
    for (unsigned i = 0; i < 3; i++) {
        daemon_kill(&pfeedd);
        daemon_again(&pfeedd);
    }
    word_set(&barrier->go, step + 1);
    word_await(&barrier->at_step[0], step + 1); /* rank 0 has its batch */
    word_set(&barrier->go, STEPS);
    for (unsigned i = 0; i < 2; i++)
        trainer_wait(trainers[i]);
    daemon_stop(&pfeedd);
}

/* ---- how long, and to what ------------------------------------------------------------------------------------------ */

/* -EPIPE with these words, again and again. */
static void expect_over(struct pfeed *pf, const char *words)
{
    struct pfeed_batch *batch = NULL;
    int rc;

    while ((rc = pfeed_next(pf, &batch, 100)) == 0 || rc == -ETIMEDOUT)
        if (rc == 0)
            must_done(pf, batch);
    for (int timeout_ms = -1; timeout_ms <= 1; timeout_ms++) {
        CHECK(rc == -EPIPE && strstr(pfeed_error(pf), words), "not -EPIPE and '%s', but %d: %s", words, rc, pfeed_error(pf));
        rc = pfeed_next(pf, &batch, timeout_ms);
    }
    CHECK(pfeed_seek(pf, "restart") == -EPIPE && strstr(pfeed_error(pf), words), "pfeed_seek: %s", pfeed_error(pf));
}

static void run_bounds(const void *arg)
{
    struct pfeed *never, *short_of;
    int64_t start_ns;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    never = must_open(NULL, 0, 1, 2, -1, 0);
    short_of = must_open(NULL, 0, 1, 2, 300, 0);
    must_done(never, must_next(never));
    must_done(short_of, must_next(short_of));
    daemon_kill(&pfeedd);
    start_ns = now_ns();
    expect_over(short_of, "for as long as options.reconnect_ms says: no pfeedd at ");
    CHECK(now_ns() - start_ns >= 300 * MS, "it gave up after %lld ms", (long long)((now_ns() - start_ns) / MS));
    daemon_again(&pfeedd);
    expect_over(short_of, "for as long as options.reconnect_ms says: no pfeedd at ");
    expect_over(never, "pfeedd has gone, and all that it had granted was taken");
    CHECK(consumers_of("f") == 0, "one that has given up is attached");
    pfeed_close(never);
    pfeed_close(short_of);
    daemon_stop(&pfeedd);
}

static const struct {
    unsigned rows, batch;
    const char *keys, *words;
} changes[] = {
    { ROWS + 4, BATCH, "", "the data of feed 'f' has changed: 244 samples when the token was made, 248 now" },
    { ROWS, BATCH / 2, "", "the token is of steps of 8 rows over all ranks, and this job's have 4" },
    { ROWS, BATCH, "    shuffle: none\n", "the order of feed 'f' has changed" },
    { ROWS, BATCH, "    on_error: mask\n", "the recipe of feed 'f' has changed" },
};

/* A daemon that comes back with something else: those who accept it go on at their place. */
static void run_changed(const void *arg)
{
    struct pfeed *strict, *accepts;
    struct pfeed_batch *batch;
    uint64_t step;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        strict = must_open(NULL, 0, 1, 2, 0, 0);
        accepts = must_open(NULL, 0, 1, 2, 0, PFEED_OPT_ACCEPT_CHANGED);
        for (unsigned k = 0; k < 2; k++) {
            must_done(strict, must_next(strict));
            must_done(accepts, must_next(accepts));
        }
        daemon_kill(&pfeedd);
        step = drain(accepts, 2);
        write_config(recipe(2, changes[i].rows, changes[i].batch, changes[i].keys));
        daemon_again(&pfeedd);
        expect_over(strict, changes[i].words);
        batch = must_next(accepts);
        expect_step(batch, step * BATCH / changes[i].batch);
        CHECK(pfeed_info(batch)->rows == changes[i].batch && pfeed_length(accepts) == changes[i].rows / changes[i].batch,
              "%u rows, %lld steps", pfeed_info(batch)->rows, (long long)pfeed_length(accepts));
        must_done(accepts, batch);
        pfeed_close(strict);
        pfeed_close(accepts);
        daemon_stop(&pfeedd);
        write_config(recipe(2, ROWS, BATCH, ""));
        daemon_again(&pfeedd);
    }
    daemon_stop(&pfeedd);
}

static void run_feed_gone(const void *arg)
{
    struct pfeed *pf;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    pf = must_open(NULL, 0, 1, 2, 0, 0);
    must_done(pf, must_next(pf));
    daemon_kill(&pfeedd);
    write_config("version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  other:\n    source: { type: synthetic, rows: 8 }\n"
                 "    batch: 8\n    fields: { x: { dtype: float32, shape: [16] } }\n");
    daemon_again(&pfeedd);
    expect_over(pf, "a pfeedd that runs now cannot take this rank back: no feed 'f'");
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

/* ---- forks, deaths -------------------------------------------------------------------------------------------------- */

/* At the daemon's place: somebody who takes connections and says nothing. */
static int listen_there(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, pfeedd.socket);
    unlink(pfeedd.socket);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 16) == 0, "cannot listen: %s",
          strerror(errno));
    return fd;
}

static void refused_in_child(struct pfeed *pf, struct pfeed_batch *held, unsigned own)
{
    struct pfeed_batch *batch;
    char text[PFEED_TOKEN_MAX];
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        bool refused = pfeed_next(pf, &batch, -1) == -ECHILD && pfeed_done(pf, held) == -ECHILD &&
                       pfeed_seek(pf, "restart") == -ECHILD && pfeed_token(pf, NULL, text, sizeof(text)) == -ECHILD &&
                       !pfeed_tensor_at(held, 0) && descriptors(0) == own && maps_here() == 0;

        pfeed_close(pf);
        _exit(refused && descriptors(0) == own ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a fork in the middle of an attempt ended with 0x%x", (unsigned)status);
}

static void run_fork(const void *arg)
{
    struct pfeed_batch *held, *batch;
    unsigned own, before;
    struct pfeed *pf;
    uint64_t step;
    int listener;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    pf = must_open(NULL, 0, 1, 2, 0, 0);
    held = must_next(pf);
    daemon_kill(&pfeedd);
    step = drain(pf, 1);
    listener = listen_there();
    before = descriptors(0);
    UNTIL((own = descriptors(0)) == before + 1) /* an attempt is under way */
    CHECK(pfeed_next(pf, &batch, 1) == -ETIMEDOUT, "pfeed_next: %s", pfeed_error(pf));
    refused_in_child(pf, held, own - 1);
    close(listener);
    daemon_again(&pfeedd);
    refused_in_child(pf, held, descriptors(0) - (own - before));
    batch = must_next(pf);
    expect_step(batch, step);
    must_done(pf, batch);
    must_done(pf, held);
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

static void takes_until_killed(void *arg)
{
    struct pfeed *pf = must_open("job", 0, 2, 2, 0, 0);
    struct pfeed_batch *batch;

    word_set(arg, 1);
    for (;;)
        if (pfeed_next(pf, &batch, -1) == 0)
            must_done(pf, batch);
}

/* Once while there is no daemon, once between the request and the answer. */
static void run_killed(const void *arg)
{
    struct pf_row_job job;
    struct trainer *trainer;
    uint32_t *ready;
    unsigned own;

    for (unsigned asked = 0; asked < 2; asked++) {
        ready = shared_memory(sizeof(*ready));
        if (asked)
            daemon_again(&pfeedd);
        else
            daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
        trainer = trainer_start("doomed", takes_until_killed, ready);
        word_await(ready, 1);
        own = descriptors(trainer_pid(trainer)); /* two of them the handle's */
        trainer_stop(trainer);
        daemon_kill(&pfeedd);
        if (asked) {
            daemon_again(&pfeedd);
            CHECK(kill(pfeedd.pid, SIGSTOP) == 0, "SIGSTOP: %s", strerror(errno));
        }
        trainer_continue(trainer);
        if (asked)
            UNTIL(descriptors(trainer_pid(trainer)) == own - 1);
        else
            UNTIL(descriptors(trainer_pid(trainer)) <= own - 1);
        trainer_kill(trainer);
        if (asked)
            CHECK(kill(pfeedd.pid, SIGCONT) == 0, "SIGCONT: %s", strerror(errno));
        else
            daemon_again(&pfeedd);
        UNTIL(feed_at_rest(&pfeedd, "f") && stat_jobs(&pfeedd, "f", &job, 1) == 0);
        daemon_stop(&pfeedd);
    }
}

/* ---- a service ------------------------------------------------------------------------------------------------------ */

#ifdef HAVE_SYSTEMD
static pid_t start_activated(int listener)
{
    const char *program = getenv("PFEED_DAEMON");
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        char own[32];

        alarm(60);
        snprintf(own, sizeof(own), "%ld", (long)getpid());
        setenv("LISTEN_PID", own, 1);
        setenv("LISTEN_FDS", "1", 1);
        if (listener == 3)
            fcntl(3, F_SETFD, 0);
        else
            dup2(listener, 3);
        execl(program, program, "--config", pfeedd.config, (char *)NULL);
        _exit(127);
    }
    return pid;
}
#endif

/* The socket stays: attempts wait in its queue for the next daemon. */
static void run_activated(const void *arg)
{
#ifndef HAVE_SYSTEMD
    skip("built without libsystemd");
#else
    struct ranks calm, ranks;
    int listener, status;
    pid_t pid;

    daemon_start(&pfeedd, recipe(2, ROWS, BATCH, ""));
    run_undisturbed(&calm, 2);
    daemon_stop(&pfeedd);
    listener = listen_there();
    pid = start_activated(listener);
    ranks_prepare(&ranks, "job", 2);
    allow(&ranks, 2, SLOTS);
    for (uint32_t r = 0; r < 2; r++)
        rank_start(&ranks, r);
    for (unsigned i = 1; i <= 3; i++) {
        for (uint32_t r = 0; r < 2; r++)
            UNTIL(steps_of(&ranks, r) == SLOTS * (2 * i - 1));
        CHECK(kill(pid, i == 2 ? SIGTERM : SIGKILL) == 0 && waitpid(pid, &status, 0) == pid, "kill: %s", strerror(errno));
        allow(&ranks, 2, i < 3 ? SLOTS * (2 * i + 1) : UINT32_MAX);
        pid = start_activated(listener);
    }
    ranks_wait(&ranks, 2);
    ranks_compare(&ranks, &calm, 2, STEPS);
    CHECK(kill(pid, SIGTERM) == 0 && waitpid(pid, &status, 0) == pid && status == 0, "it ended with 0x%x", (unsigned)status);
    close(listener);
#endif
}

int main(int argc, char **argv)
{
    static const struct shape one = { "", 1, STEPS }, two = { "", 2, STEPS }, four = { "", 4, STEPS },
                              pad_one = { "    tail: pad\n", 1, STEPS + 1 }, pad_two = { "    tail: pad\n", 2, STEPS + 1 },
                              pad_four = { "    tail: pad\n", 4, STEPS + 1 }, each = { "    deliver: each\n", 2, STEPS },
                              each_pad = { "    deliver: each\n    tail: pad\n", 2, STEPS + 1 },
                              terminated = { "", 2, STEPS, .terminated = true }, workers = { "", 2, STEPS, .workers = true },
                              stopped = { "", 2, STEPS, .stopped = true };
    static const uint32_t some = SLOTS, fewest = FEWEST;
    static const struct test tests[] = {
        { "kill -9, world 1", run_history, &one },
        { "kill -9, world 2", run_history, &two },
        { "kill -9, world 4", run_history, &four },
        { "kill -9, pad, world 1", run_history, &pad_one },
        { "kill -9, pad, world 2", run_history, &pad_two },
        { "kill -9, pad, world 4", run_history, &pad_four },
        { "kill -9, each", run_history, &each },
        { "kill -9, each, pad", run_history, &each_pad },
        { "SIGTERM", run_history, &terminated },
        { "other workers", run_history, &workers },
        { "a stopped trainer", run_history, &stopped },
        { "one rank has ended", run_apart, NULL },
        { "a job that has not started", run_unstarted, NULL },
        { "held and granted", run_held, NULL },
        { "all-reduce", run_all_reduce, &some },
        { "all-reduce, fewest slots", run_all_reduce, &fewest },
        { "reconnect_ms", run_bounds, NULL },
        { "changed data", run_changed, NULL },
        { "a feed that is gone", run_feed_gone, NULL },
        { "forks", run_fork, NULL },
        { "trainers that die meanwhile", run_killed, NULL },
        { "socket activation", run_activated, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
