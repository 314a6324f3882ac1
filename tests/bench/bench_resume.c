/* SPDX-License-Identifier: MIT */
/*
 * What it takes to go on. Parts, which may be named on the command line:
 *   resume   on a feed of 2 * 10^9 samples, batches of one: an attach by the token of step 1 and one by that of step 10^9, in turn;
 *            from pfeed_open to the first batch. And to write and to read such tokens.
 *   restart  8 trainers; kill -9 of the daemon, and when they have used up what was granted it is started again: from there to
 *            the first new batch at each. What one batch takes to be made is measured at the same feed and not counted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "lane.h"
#include "token.h"

#define SAMPLES        "2000000000"
#define FAR            UINT64_C(1000000000)
#define ATTACHES       15 /* of each, in a round */
#define TOKENS         100000
#define FLAT           0.10 /* the ratio may be so far from 1 */
#define TRAINERS       8
#define DRY_NS         (300 * MS) /* without a batch: none is left */
#define RESTART_TARGET 1.0        /* seconds, beside one batch's decode */

static struct daemon pfeedd;

/* ---- resume --------------------------------------------------------------------------------------------------------- */

struct place {
    struct pf_token token;
    char text[PF_TOKEN_TEXT];
    struct series wall_us, cpu_us, print_ns, parse_ns; /* cpu: this thread and the daemon */
};

static struct place near, far;

static void make_token(struct place *place, uint64_t step)
{
    struct lane lane;

    lane_open(&lane, &pfeedd, "huge", 0);
    place->token = (struct pf_token){ .feed = "huge",
                                      .seed = lane.reply.seed,
                                      .row = step,
                                      .world_batch = lane.reply.world_batch,
                                      .samples = lane.reply.samples,
                                      .prints = lane.reply.prints };
    lane_close(&lane);
    CHECK(pf_token_print(&place->token, place->text, sizeof(place->text)) > 0, "the token is too long");
    UNTIL(feed_at_rest(&pfeedd, "huge"))
    {
    }
}

static void one_resume(const struct place *place, double *wall_us, double *cpu_us)
{
    struct pfeed_options options = {
        .size = sizeof(options), .socket = pfeedd.socket, .feed = "huge", .job = "resumes", .start = place->text
    };
    int64_t cpu_ns = process_ns(pfeedd.pid) + thread_ns(), start_ns = now_ns();
    struct pfeed_batch *batch;
    struct pfeed *pf;

    CHECK(pfeed_open(&pf, &options) == 0, "pfeed_open: %s", pfeed_error(NULL));
    CHECK(pfeed_next(pf, &batch, -1) == 0, "pfeed_next: %s", pfeed_error(pf));
    *wall_us = (double)(now_ns() - start_ns) / 1e3;
    *cpu_us = (double)thread_ns();
    rest(pfeedd.pid); /* looking takes time of this thread */
    *cpu_us = (*cpu_us + (double)process_ns(pfeedd.pid) - (double)cpu_ns) / 1e3;
    CHECK(pfeed_info(batch)->step == place->token.row, "step %" PRIu64 " came for that of the token, %" PRIu64,
          pfeed_info(batch)->step, place->token.row);
    pfeed_done(pf, batch);
    pfeed_close(pf);
    rest(pfeedd.pid);
}

static void resume_round(struct series *ratio)
{
    struct place *places[] = { &near, &far };
    double wall_us[2][ATTACHES], cpu_us[2][ATTACHES];
    struct window window;

    window_open(&window);
    for (int i = 0; i < ATTACHES; i++)
        for (int p = 0; p < 2; p++)
            one_resume(places[p], &wall_us[p][i], &cpu_us[p][i]);
    window_close(&window);
    for (int p = 0; p < 2; p++) {
        series_add(&places[p]->wall_us, median(wall_us[p], ATTACHES), window.others);
        series_add(&places[p]->cpu_us, median(cpu_us[p], ATTACHES), window.others);
    }
    series_add(ratio, median(wall_us[1], ATTACHES) / median(wall_us[0], ATTACHES), window.others);
}

static void token_round(struct place *place)
{
    int64_t start_ns = now_ns(), middle_ns;
    struct pf_token token;

    for (int i = 0; i < TOKENS; i++)
        CHECK(pf_token_print(&place->token, place->text, sizeof(place->text)) > 0, "the token is too long");
    middle_ns = now_ns();
    for (int i = 0; i < TOKENS; i++)
        CHECK(pf_token_parse(place->text, &token) == 0 && token.row == place->token.row, "the token is read as another");
    series_add(&place->print_ns, (double)(middle_ns - start_ns) / TOKENS, 0);
    series_add(&place->parse_ns, (double)(now_ns() - middle_ns) / TOKENS, 0);
}

static void show_place(const struct place *place)
{
    printf("  step %10" PRIu64
           " %10.1f us wall to the first batch, %8.1f us CPU with the filling of 16; token written in %.0f ns, read in %.0f ns\n",
           place->token.row, series_median(&place->wall_us), series_median(&place->cpu_us), series_median(&place->print_ns),
           series_median(&place->parse_ns));
}

static void resume(void)
{
    static struct series ratio;
    double cpu_ratio;
    bool held;

    daemon_start(&pfeedd, "version: 1\ndaemon: { memory: 64MiB }\nfeeds:\n  huge:\n    source: { type: synthetic, rows: " SAMPLES
                          " }\n    shuffle: global\n    batch: 1\n    slots: 16\n"
                          "    fields: { x: { dtype: float32, shape: [16] } }\n");
    make_token(&near, 1);
    make_token(&far, FAR);
    while (more_rounds(&ratio)) {
        resume_round(&ratio);
        token_round(&near);
        token_round(&far);
    }
    daemon_stop(&pfeedd);
    cpu_ratio = series_median(&far.cpu_us) / series_median(&near.cpu_us);
    held = series_median(&ratio) < 1 + FLAT && cpu_ratio < 1 + FLAT;
    printf("resume: %zu rounds of %d attaches, %zu of them quiet\n", ratio.n, ATTACHES, series_quiet(&ratio));
    show_place(&near);
    show_place(&far);
    printf("  ratio %.3f wall (spread %.1f %%), %.3f CPU\n", series_median(&ratio), 100 * series_spread(&ratio), cpu_ratio);
    printf("  target: the same, within %.0f %%: %s\n", 100 * FLAT, verdict(held, &ratio));
    printf("json: {\"bench\":\"resume\",\"near_us\":%.2f,\"far_us\":%.2f,\"ratio\":%.4f,\"cpu_ratio\":%.4f,\"print_ns\":%.0f,"
           "\"parse_ns\":%.0f,\"quiet\":%zu}\n\n",
           series_median(&near.wall_us), series_median(&far.wall_us), series_median(&ratio), cpu_ratio,
           series_median(&far.print_ns), series_median(&far.parse_ns), series_quiet(&ratio));
}

/* ---- restart -------------------------------------------------------------------------------------------------------- */

static struct life {
    uint64_t taken, first_ns; /* batches; when the first one came after a pause */
    uint32_t ready, stop;
} * lives;

static void live(void *argument)
{
    struct life *life = *(struct life **)argument;
    char job[16];
    struct pfeed *pf;

    snprintf(job, sizeof(job), "job%d", (int)(life - lives));
    pf = consumer_open(&pfeedd, "large", job);
    word_set(&life->ready, 1);
    while (!word_get(&life->stop)) {
        const int64_t asked_ns = now_ns();

        consume(pf, 1);
        if (now_ns() - asked_ns > DRY_NS / 2)
            count_set(&life->first_ns, (uint64_t)now_ns());
        count_set(&life->taken, life->taken + 1);
    }
    pfeed_close(pf);
}

static void read_taken(uint64_t *taken)
{
    for (int i = 0; i < TRAINERS; i++)
        taken[i] = count_get(&lives[i].taken);
}

/* Until they have used up what was granted. */
static void run_dry(uint64_t *taken)
{
    uint64_t before[TRAINERS];

    do {
        read_taken(before);
        pause_ns(DRY_NS);
        read_taken(taken);
    } while (memcmp(before, taken, sizeof(before)) != 0);
}

static double one_restart(double *ready_s)
{
    uint64_t taken[TRAINERS];
    int64_t start_ns, last_ns = 0;

    daemon_kill(&pfeedd);
    run_dry(taken);
    start_ns = now_ns();
    daemon_again(&pfeedd);
    *ready_s = (double)(now_ns() - start_ns) / 1e9;
    for (int i = 0; i < TRAINERS; i++) {
        UNTIL(count_get(&lives[i].taken) > taken[i])
        {
        }
    }
    for (int i = 0; i < TRAINERS; i++)
        last_ns = (int64_t)count_get(&lives[i].first_ns) > last_ns ? (int64_t)count_get(&lives[i].first_ns) : last_ns;
    return (double)(last_ns - start_ns) / 1e9;
}

/* From the attach of the first trainer of all to its first batch. */
static double one_batch(void)
{
    struct pfeed *pf = consumer_open(&pfeedd, "large", "first");
    int64_t start_ns = now_ns();

    consume(pf, 1);
    start_ns = now_ns() - start_ns;
    pfeed_close(pf);
    UNTIL(feed_at_rest(&pfeedd, "large"))
    {
    }
    return (double)start_ns / 1e9;
}

static void restart(void)
{
    static struct series seconds, ready;
    struct trainer *trainers[TRAINERS];
    double batch_s;

    bench_rounds(5, 30 * SECOND);
    lives = shared_memory(TRAINERS * sizeof(*lives));
    daemon_start(&pfeedd,
                 "version: 1\ndaemon: { memory: 2GiB }\nfeeds:\n  large:\n    source: { type: synthetic, rows: 1000000 }\n"
                 "    batch: 64\n    slots: 16\n    fields: { x: { dtype: float16, shape: [3, 224, 224] } }\n");
    batch_s = one_batch();
    for (int i = 0; i < TRAINERS; i++) {
        struct life *life = &lives[i];

        trainers[i] = trainer_start("lives", live, &life);
        word_await(&life->ready, 1);
    }
    while (more_rounds(&seconds)) {
        struct window window;
        double ready_s, all_s;

        window_open(&window);
        all_s = one_restart(&ready_s);
        window_close(&window);
        series_add(&seconds, all_s, window.others);
        series_add(&ready, ready_s, window.others);
    }
    for (int i = 0; i < TRAINERS; i++)
        word_set(&lives[i].stop, 1);
    for (int i = 0; i < TRAINERS; i++)
        trainer_wait(trainers[i]);
    daemon_stop(&pfeedd);
    printf("restart: %zu times, %zu of them quiet; %d trainers, 16 slots of 19 MB\n", seconds.n, series_quiet(&seconds),
           TRAINERS);
    printf("  start to ready %.3f s, to a new batch at each trainer %.3f s (spread %.1f %%), wall time; one batch takes %.3f s\n",
           series_median(&ready), series_median(&seconds), 100 * series_spread(&seconds), batch_s);
    printf("  target: at most %.0f s and one batch's decode: %s\n", RESTART_TARGET,
           verdict(series_median(&seconds) <= RESTART_TARGET + batch_s, &seconds));
    printf("json: {\"bench\":\"restart\",\"trainers\":%d,\"ready_s\":%.4f,\"seconds\":%.4f,\"batch_s\":%.4f,\"quiet\":%zu}\n\n",
           TRAINERS, series_median(&ready), series_median(&seconds), batch_s, series_quiet(&seconds));
}

int main(int argc, char **argv)
{
    bench_start("going on");
    if (bench_wants(argc, argv, "resume"))
        resume();
    if (bench_wants(argc, argv, "restart"))
        restart();
    return bench_end();
}
