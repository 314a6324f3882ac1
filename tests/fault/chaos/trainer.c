/* SPDX-License-Identifier: MIT */
/*
 * One rank of a job of chaos.py, that obeys nothing but signals. It takes batches, holds some, and for each in turn waits for the
 * other ranks (together=1: an all-reduce), logs what it got, keeps a token as its checkpoint, and gives it back: in this order, so
 * that wherever it is killed its token is not before what it gave back, and its log not behind its token. SIGTERM ends it well.
 *
 *   chaos_trainer KEY=VALUE...     the keys are those of `arguments` below
 *
 * Exit status: 0 ended by SIGTERM or by the job's end, 1 something was wrong, 3 the lane was closed (-ESTALE: a newer run), 4 no
 * daemon takes it back (-EPIPE), 5 it could not attach.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "pfeed.h"
#include "token.h"

#define RANKS 8u
#define HELD  16u
#define MS    INT64_C(1000000)

enum kind { KIND_OPEN, KIND_BATCH, KIND_EPOCH, KIND_END };

/* A log is these, each followed by its rows; chaos.py makes the same bytes. */
struct record {
    uint32_t kind, rows;
    uint64_t epoch, step;
    uint64_t valid;
};

struct row {
    uint64_t id, used_id, hash, flags;
};

/* Shared by the ranks of one run of a job and the driver. */
struct page {
    uint64_t arrived[RANKS]; /* at the all-reduce of so many steps of the job's life */
    uint64_t steps[RANKS];   /* that this rank has given back, however often it was restarted */
};

static const char *socket_path, *feed, *job, *start, *log_path, *token_path, *page_path;
static uint64_t rank, world, batch_rows, run, seed, epochs, max_held, pace_us, together, fork_at, draw, patience_s;

static const struct {
    const char *key;
    const char **text;
    uint64_t *number;
} arguments[] = {
    { "socket", &socket_path, NULL },    { "feed", &feed, NULL },         { "job", &job, NULL },
    { "start", &start, NULL },           { "log", &log_path, NULL },      { "token", &token_path, NULL },
    { "page", &page_path, NULL },        { "rank", NULL, &rank },         { "world", NULL, &world },
    { "batch", NULL, &batch_rows },      { "run", NULL, &run },           { "seed", NULL, &seed },
    { "epochs", NULL, &epochs },         { "max_held", NULL, &max_held }, { "pace_us", NULL, &pace_us },
    { "together", NULL, &together },     { "fork_at", NULL, &fork_at },   { "draw", NULL, &draw },
    { "patience_s", NULL, &patience_s },
};

/* What was taken and is not yet done with, in order. */
struct held {
    enum kind kind;
    struct pfeed_batch *batch;
    uint64_t hash; /* of all rows, when it was taken */
};

static volatile sig_atomic_t stopping;
static struct page *page;
static int log_fd;

static _Noreturn __attribute__((format(printf, 2, 3))) void fail(int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    _exit(status);
}

static void on_signal(int number)
{
    stopping = 1;
}

static uint64_t below(uint64_t n)
{
    draw = draw * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (draw >> 33) % n;
}

static void pause_ns(int64_t ns)
{
    struct timespec pause = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

    nanosleep(&pause, NULL);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- what it writes ------------------------------------------------------------------------------------------------- */

static uint64_t hash_row(const struct pfeed_batch *batch, uint32_t row, uint64_t hash)
{
    const struct pfeed_tensor *tensor;

    for (uint32_t i = 0; (tensor = pfeed_tensor_at(batch, i)); i++) {
        size_t size = tensor->dtype.bits / 8u;
        const uint8_t *bytes;

        for (uint32_t d = 1; d < tensor->ndim; d++)
            size *= (size_t)tensor->shape[d];
        bytes = (const uint8_t *)tensor->data + row * size;
        for (size_t b = 0; b < size; b++)
            hash = (hash ^ bytes[b]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t hash_batch(const struct pfeed_batch *batch)
{
    uint64_t hash = 0;

    for (uint32_t row = 0; row < pfeed_info(batch)->rows; row++)
        hash = hash_row(batch, row, hash);
    return hash;
}

static void write_log(const void *bytes, size_t size)
{
    if (write(log_fd, bytes, size) != (ssize_t)size)
        fail(1, "cannot write %s: %s", log_path, strerror(errno));
}

static void log_place(enum kind kind, uint64_t epoch, uint64_t step)
{
    const struct record record = { .kind = kind, .epoch = epoch, .step = step };

    write_log(&record, sizeof(record));
}

static void log_batch(const struct pfeed_batch *batch)
{
    static struct {
        struct record record;
        struct row rows[4096];
    } entry;
    const struct pfeed_info *info = pfeed_info(batch);

    if (info->rows > sizeof(entry.rows) / sizeof(entry.rows[0]))
        fail(1, "a batch of %u rows", info->rows);
    entry.record = (struct record){ KIND_BATCH, info->rows, info->epoch, info->step, info->valid };
    for (uint32_t row = 0; row < info->rows; row++)
        entry.rows[row] = (struct row){ info->ids[row], info->used_ids[row], hash_row(batch, row, UINT64_C(0xcbf29ce484222325)),
                                        info->flags[row] };
    write_log(&entry, sizeof(entry.record) + info->rows * sizeof(entry.rows[0]));
}

/* The checkpoint: the one before or this one, whenever it is killed. */
static void save_token(struct pfeed *pf, const struct pfeed_batch *batch, char text[PFEED_TOKEN_MAX])
{
    char path[512];
    FILE *file;
    int rc = pfeed_token(pf, batch, text, PFEED_TOKEN_MAX);

    if (rc < 0)
        fail(1, "pfeed_token: %d: %s", rc, pfeed_error(pf));
    snprintf(path, sizeof(path), "%s.new", token_path);
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 || rename(path, token_path) != 0)
        fail(1, "cannot write %s: %s", token_path, strerror(errno));
}

/* ---- the steps ------------------------------------------------------------------------------------------------------ */

static bool all_arrived(uint64_t step)
{
    for (uint32_t r = 0; r < world; r++)
        if (__atomic_load_n(&page->arrived[r], __ATOMIC_ACQUIRE) < step)
            return false;
    return true;
}

/* False: it is to end. A rank that repeats a step which the others have behind them waits for nobody. */
static bool all_reduce(uint64_t step)
{
    if (page->arrived[rank] < step)
        __atomic_store_n(&page->arrived[rank], step, __ATOMIC_RELEASE);
    while (!all_arrived(step) && !stopping)
        pause_ns(MS / 5);
    return !stopping;
}

static void linger(struct pfeed *pf)
{
    struct pfeed_batch *batch;
    char byte;
    pid_t pid = fork();

    if (pid != 0)
        return;
    signal(SIGTERM, SIG_DFL);
    if (pfeed_next(pf, &batch, 0) != -ECHILD)
        fail(1, "pfeed_next in a forked child is not refused");
    while (read(0, &byte, 1) > 0) /* the driver's pipe: until the schedule is over */
        ;
    _exit(0);
}

static void finish(struct pfeed *pf, struct held *held)
{
    const struct pfeed_info *info = pfeed_info(held->batch);
    char token[PFEED_TOKEN_MAX];

    pause_ns((int64_t)below(2 * pace_us + 1) * 1000);
    if (together && !all_reduce(info->epoch * (uint64_t)pfeed_length(pf) + info->step + 1))
        return;
    if (hash_batch(held->batch) != held->hash)
        fail(1, "epoch %" PRIu64 " step %" PRIu64 " has changed while it was held", info->epoch, info->step);
    log_batch(held->batch);
    save_token(pf, held->batch, token);
    if (pfeed_done(pf, held->batch) != 0)
        fail(1, "pfeed_done: %s", pfeed_error(pf));
    __atomic_store_n(&page->steps[rank], page->steps[rank] + 1, __ATOMIC_RELEASE);
    if (fork_at && --fork_at == 0)
        linger(pf);
}

/* Whether there was something. */
static bool take(struct pfeed *pf, struct held *out, bool wait)
{
    static const int timeouts[] = { 0, 5, 40 };
    int timeout_ms = wait ? timeouts[below(3)] : 0;
    int rc = pfeed_next(pf, &out->batch, timeout_ms);

    switch (rc) {
    case 0:
        *out = (struct held){ KIND_BATCH, out->batch, hash_batch(out->batch) };
        return true;
    case PFEED_EPOCH:
    case PFEED_END:
        out->kind = rc == PFEED_EPOCH ? KIND_EPOCH : KIND_END;
        return true;
    case -ETIMEDOUT:
    case -EINTR:
        if (wait && timeout_ms == 0)
            pause_ns(MS / 2);
        return false;
    }
    fail(rc == -ESTALE ? 3 : rc == -EPIPE ? 4 : 1, "pfeed_next: %d: %s", rc, pfeed_error(pf));
}

static void train(struct pfeed *pf)
{
    struct held held[2 * HELD];
    uint32_t n = 0, batches = 0;
    bool ended = false;

    while (!stopping && !(n > 0 && held[0].kind == KIND_END)) {
        if (batches < max_held && !ended && n < HELD && take(pf, &held[n], n == 0)) {
            batches += held[n].kind == KIND_BATCH;
            ended = held[n++].kind == KIND_END;
            continue;
        }
        if (n == 0)
            continue;
        if (held[0].kind == KIND_EPOCH)
            log_place(KIND_EPOCH, 0, 0);
        else
            finish(pf, &held[0]);
        batches -= held[0].kind == KIND_BATCH;
        memmove(held, held + 1, --n * sizeof(held[0]));
    }
    if (n > 0 && held[0].kind == KIND_END)
        log_place(KIND_END, 0, 0);
}

/* ---- beginning ------------------------------------------------------------------------------------------------------ */

/* A daemon that is not there, one that has not yet seen that this rank's last process has died, slots that are still to come
 * back. */
static bool passes(int rc)
{
    return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EPIPE || rc == -EAGAIN || rc == -EBUSY || rc == -ENOSPC ||
           rc == -ETIMEDOUT;
}

static struct pfeed *attach(void)
{
    struct pfeed_options options = { .size = sizeof(options),
                                     .socket = socket_path,
                                     .feed = feed,
                                     .job = job,
                                     .start = start,
                                     .rank = (uint32_t)rank,
                                     .world = (uint32_t)world,
                                     .batch = (uint32_t)batch_rows,
                                     .epochs = (uint32_t)epochs,
                                     .seed = seed,
                                     .run = run,
                                     .max_held = (uint32_t)max_held,
                                     .flags = PFEED_OPT_SEED,
                                     .reconnect_ms = (int)patience_s * 1000 };
    int64_t until_ns = now_ns() + (int64_t)patience_s * 1000 * MS;
    struct pfeed *pf;
    int rc;

    while ((rc = pfeed_open(&pf, &options)) < 0) {
        if (stopping)
            _exit(0);
        if (!passes(rc) || now_ns() > until_ns)
            fail(rc == -ESTALE ? 3 : 5, "pfeed_open: %d: %s", rc, pfeed_error(NULL));
        pause_ns(5 * MS);
    }
    return pf;
}

/* Where it begins: its first checkpoint. */
static void begin(struct pfeed *pf)
{
    char text[PFEED_TOKEN_MAX];
    struct pf_token token;

    save_token(pf, NULL, text);
    if (pf_token_parse(text, &token) != 0)
        fail(1, "not a token: %s", text);
    log_place(KIND_OPEN, token.epoch, token.row / token.world_batch);
}

static void set(const char *argument)
{
    const char *value = strchr(argument, '=');

    for (size_t i = 0; value && i < sizeof(arguments) / sizeof(arguments[0]); i++)
        if (strlen(arguments[i].key) == (size_t)(value - argument) &&
            strncmp(argument, arguments[i].key, strlen(arguments[i].key)) == 0) {
            if (arguments[i].text)
                *arguments[i].text = value + 1;
            else
                *arguments[i].number = strtoull(value + 1, NULL, 10);
            return;
        }
    fail(1, "unknown argument '%s'", argument);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct pfeed *pf;
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGTERM, &action, NULL); /* no SA_RESTART: whatever waits is interrupted */
    signal(SIGCHLD, SIG_IGN);
    for (int i = 1; i < argc; i++)
        set(argv[i]);
    if (!page_path || !log_path || !token_path || rank >= world || world > RANKS || max_held == 0 || max_held > HELD)
        fail(1, "arguments are missing; chaos.py gives them");
    log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    fd = open(page_path, O_RDWR | O_CLOEXEC);
    page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (log_fd < 0 || page == MAP_FAILED)
        fail(1, "cannot open %s or %s: %s", log_path, page_path, strerror(errno));
    close(fd);
    pf = attach();
    begin(pf);
    train(pf);
    pfeed_close(pf);
    return 0;
}
