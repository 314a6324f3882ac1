/* SPDX-License-Identifier: MIT */
/* train: a small real trainer, and an example of how to use libpfeed (see train() and main()). What it learns is in model.h.
 * Each rank learns by itself: a real run would sum the gradients over its ranks. Exit codes: 0 done, 1 failed, 2 usage, 130
 * interrupted. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pfeed.h>

#include "model.h"

struct run { /* what the last line says */
    const char *job;
    uint32_t rank;
    uint64_t epochs, rows, ids_hash;
    double start, epoch_start, waited; /* seconds */
    double loss_first, loss_last, accuracy;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A sum over (epoch, step, sample) that does not depend on their order: the sums of a job's ranks, added up, tell whether two
 * jobs had the same samples in the same steps. */
static uint64_t ids_hash(const struct pfeed_info *info)
{
    uint64_t sum = 0;
    for (uint32_t row = 0; row < info->rows; row++) {
        uint64_t z = (info->epoch << 52 ^ info->step << 32 ^ info->ids[row]) + 0x9e3779b97f4a7c15u; /* splitmix64's mixer */
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        sum += z ^ z >> 31;
    }
    return sum;
}

static void epoch_report(struct run *run, const struct tally *epoch, double now)
{
    const char *unit = classes ? "images" : epoch->items ? "tokens" : "rows";
    run->loss_last = epoch->items ? epoch->loss / (double)epoch->items : NAN;
    run->loss_first = run->epochs ? run->loss_first : run->loss_last;
    run->accuracy = classes ? (double)epoch->right / (double)epoch->items : NAN;
    printf("%s.%u epoch %" PRIu64 ": %" PRIu64 " rows", run->job, run->rank, run->epochs, epoch->rows);
    if (epoch->items)
        printf(", loss %.4f", run->loss_last);
    if (classes)
        printf(", accuracy %.3f", run->accuracy);
    printf(", %.0f %s/s\n", (double)(epoch->items ? epoch->items : epoch->rows) / (now - run->epoch_start), unit);
    fflush(stdout);
    run->epoch_start = now;
    run->epochs++;
}

static void run_report(const struct run *run)
{
    double took = run->start ? seconds() - run->start : 0, share = took > 0 ? 1 / took : 0;
    printf("train job=%s rank=%u epochs=%" PRIu64 " rows=%" PRIu64 " seconds=%.3f rows_s=%.1f wait_share=%.4f loss_first=%.4f "
           "loss_last=%.4f accuracy=%.4f ids_hash=%016" PRIx64 "\n",
           run->job, run->rank, run->epochs, run->rows, took, (double)run->rows * share, run->waited * share, run->loss_first,
           run->loss_last, run->accuracy, run->ids_hash);
}

/* Takes batches until the epochs are over, a signal comes or the daemon goes. Returns pfeed_next's last word. */
static int train(struct pfeed *pf, struct run *run, unsigned step_ms)
{
    struct tally epoch = { 0 };
    int rc = 0, quiet = 0;
    while (!interrupted) {
        struct pfeed_batch *batch;
        double before = seconds();
        rc = pfeed_next(pf, &batch, 1000);
        double now = seconds();
        if (run->start > 0)
            run->waited += now - before;
        else if (rc == 0)
            run->start = run->epoch_start = now; /* the clock runs from the first batch on: all ranks are there */

        if (rc == -ETIMEDOUT && ++quiet % 5 == 0)
            fprintf(stderr, "train %s.%u: waiting: %s\n", run->job, run->rank, pfeed_error(pf));
        if (rc == -ETIMEDOUT || rc == -EINTR)
            continue;
        if (rc < 0 || rc == PFEED_END)
            break;
        quiet = 0;
        if (rc == PFEED_EPOCH) {
            epoch_report(run, &epoch, now);
            epoch = (struct tally){ 0 };
            continue;
        }
        run->rows += pfeed_info(batch)->valid;
        run->ids_hash += ids_hash(pfeed_info(batch));
        learn(&epoch, batch);
        if (step_ms) /* what an accelerator would take; the processor is free meanwhile */
            nanosleep(&(struct timespec){ step_ms / 1000, step_ms % 1000 * 1000000L }, NULL);
        pfeed_done(pf, batch);
    }
    if (rc < 0 && rc != -ETIMEDOUT && rc != -EINTR)
        fprintf(stderr, "train %s.%u: %s\n", run->job, run->rank, pfeed_error(pf));
    return rc;
}

/* The token of a checkpoint, into text; false: there is none yet. */
static int checkpoint_read(const char *path, char text[PFEED_TOKEN_MAX])
{
    FILE *file = fopen(path, "r");
    int found = file && fgets(text, PFEED_TOKEN_MAX, file);
    if (file)
        fclose(file);
    if (found)
        text[strcspn(text, "\n")] = 0;
    return found;
}

/* A real run keeps the token in the same file as its model. */
static void checkpoint_write(struct pfeed *pf, const char *path)
{
    char text[PFEED_TOKEN_MAX], other[4096];
    FILE *file;
    if (pfeed_token(pf, NULL, text, sizeof text) < 0)
        fail("no token", pfeed_error(pf));
    snprintf(other, sizeof other, "%s.new", path);
    file = fopen(other, "w");
    if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file) != 0 || rename(other, path) != 0)
        fail("cannot write", path);
}

static const char usage[] =
    "usage: train --feed NAME [options]\n"
    "  --feed NAME      the feed of pfeedd to train on\n"
    "  --job NAME       the ranks of one run give the same name (default: as torchrun, Slurm or MPI say; private)\n"
    "  --rank R         this rank, from 0 (default: as they say; 0)\n"
    "  --world W        ranks of the job (default: as they say; 1)\n"
    "  --epochs E       end after E epochs; 0: when the feed ends (default 1)\n"
    "  --batch B        rows a step and rank (default: the feed's batch / W)\n"
    "  --checkpoint FILE  go on where FILE says, if it is there; write it at the end, also at an interruption\n"
    "  --step-ms MS     let each step take MS longer, as if an accelerator computed\n"
    "  --socket PATH    of pfeedd (default: $PFEED_SOCKET, the user's, the system's)\n"
    "Prints a line per epoch and a last line of key=value.\n";

static uint32_t number(const char *option, const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value > UINT32_MAX) {
        fprintf(stderr, "train: --%s: '%s' is not a whole number\n", option, text);
        exit(2);
    }
    return (uint32_t)value;
}

static void arguments(struct pfeed_options *o, unsigned *step_ms, const char **checkpoint, int argc, char **argv)
{
    static const struct option options[] = {
        { "feed", 1, NULL, 'f' },       { "job", 1, NULL, 'j' },   { "rank", 1, NULL, 'r' },    { "world", 1, NULL, 'w' },
        { "epochs", 1, NULL, 'e' },     { "batch", 1, NULL, 'b' }, { "step-ms", 1, NULL, 'm' }, { "socket", 1, NULL, 's' },
        { "checkpoint", 1, NULL, 'c' }, { "help", 0, NULL, 'h' },  { NULL, 0, NULL, 0 },
    };
    int option, at;
    while ((option = getopt_long(argc, argv, "", options, &at)) != -1) {
        /* clang-format off */
        switch (option) {
        case 'f': o->feed = optarg; break;
        case 'j': o->job = optarg; break;
        case 's': o->socket = optarg; break;
        case 'r': o->rank = number(options[at].name, optarg); break;
        case 'w': o->world = number(options[at].name, optarg); break;
        case 'e': o->epochs = number(options[at].name, optarg); break;
        case 'b': o->batch = number(options[at].name, optarg); break;
        case 'c': *checkpoint = optarg; break;
        case 'm': *step_ms = number(options[at].name, optarg); break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
        /* clang-format on */
    }
    if (!o->feed || optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct pfeed_options options = { .size = sizeof options, .epochs = 1 };
    struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART: pfeed_next returns */
    unsigned step_ms = 0;
    const char *checkpoint = NULL;
    char token[PFEED_TOKEN_MAX];
    struct pfeed *pf;
    arguments(&options, &step_ms, &checkpoint, argc, argv);
    if (pfeed_options_from_env(&options) < 0)
        fail("the launcher's environment", pfeed_error(NULL));
    if (checkpoint && checkpoint_read(checkpoint, token))
        options.start = token;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (pfeed_open(&pf, &options) < 0)
        fail("cannot attach", pfeed_error(NULL));
    struct run run = { .job = options.job ? options.job : "-", .rank = options.rank, .loss_first = NAN, .loss_last = NAN };
    int rc = train(pf, &run, step_ms);
    if (checkpoint)
        checkpoint_write(pf, checkpoint);
    pfeed_close(pf);
    run_report(&run);
    return interrupted ? 130 : rc == PFEED_END ? 0 : 1;
}
