/* SPDX-License-Identifier: MIT */
/*
 * Jobs that span hosts (DESIGN section 8). A host is a daemon with a network and mounts of its own: its data lie where every host
 * has them, its socket is at the default place. A job of 8 ranks is over two of them; each rank learns from its launcher's variables
 * which ranks are beside it. No daemon talks to another, and yet the ranks together get what one alone would, also after a resume
 * with another placement and over the death of a daemon; and each host makes its own rows only.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "machine.h"

#define HOSTS   2u
#define WORLD   8u
#define BATCH   32u /* of a step */
#define RANK    (BATCH / WORLD)
#define TOKENS  8u /* of a row */
#define ROWS_A  125u
#define ROWS_B  112u
#define ROWS    (ROWS_A + ROWS_B)
#define STEPS   ((ROWS + BATCH - 1) / BATCH) /* tail: pad */
#define EPOCHS  2u
#define TOTAL   (EPOCHS * STEPS)
#define RESUMED 5u

struct host {
    struct daemon daemon;
    char data[64];
};
static struct host hosts[HOSTS], apart, *becoming;
static char place[32];

/* ---- hosts ---------------------------------------------------------------------------------------------------------- */

static void write_tokens(const struct host *host, const char *name, uint32_t tokens, uint16_t salt)
{
    char path[96];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", host->data, name);
    file = fopen(path, "we");
    CHECK(file, "cannot write %s: %s", path, strerror(errno));
    for (uint32_t i = 0; i < tokens; i++) {
        uint16_t token = (uint16_t)(mix(i + 1) ^ salt);

        CHECK(fwrite(&token, sizeof(token), 1, file) == 1, "cannot write %s", path);
    }
    CHECK(fclose(file) == 0, "cannot write %s", path);
}

static void skip_without_namespaces(void)
{
    int status;
    pid_t pid;

    machine_need_root();
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0)
        _exit(unshare(CLONE_NEWNET | CLONE_NEWNS) != 0);
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    if (status != 0)
        skip("this machine gives no namespaces of network and mounts");
}

static void make_hosts(void)
{
    char path[64];

    skip_without_namespaces();
    strcpy(place, "/tmp/pfeed-hosts-XXXXXX");
    CHECK(mkdtemp(place), "mkdtemp: %s", strerror(errno));
    snprintf(path, sizeof(path), "%s/data", place);
    CHECK(mkdir(path, 0755) == 0, "mkdir: %s", strerror(errno));
    for (uint32_t h = 0; h < HOSTS; h++) {
        snprintf(hosts[h].data, sizeof(hosts[h].data), "%s/host%u", place, h);
        CHECK(mkdir(hosts[h].data, 0755) == 0, "mkdir: %s", strerror(errno));
        write_tokens(&hosts[h], "a.bin", ROWS_A * TOKENS, 1);
        write_tokens(&hosts[h], "b.bin", ROWS_B * TOKENS, 2);
    }
}

/* In the process that becomes the daemon. */
static void become_host(void)
{
    char data[64];

    machine_own_mounts();
    CHECK(unshare(CLONE_NEWNET) == 0, "no network of its own: %s", strerror(errno));
    snprintf(data, sizeof(data), "%s/data", place);
    machine_bind(becoming->data, data);
    machine_mount_tmpfs("/run", "", 0);
    CHECK(mkdir("/run/pfeed", 0755) == 0, "mkdir: %s", strerror(errno));
    machine_bind(becoming->daemon.folder, "/run/pfeed");
}

static void host_start(struct host *host, const char *pictures)
{
    char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 256MiB }\nfeeds:\n  text:\n"
             "    source: { type: tokens, path: \"%s/data/*.bin\", dtype: uint16 }\n    batch: %u\n    slots: 5\n    tail: pad\n"
             "    fields: { tokens: { length: %u, stride: %u, dtype: int32 } }\n%s",
             place, BATCH, TOKENS, TOKENS, pictures);
    becoming = host;
    daemon_prepare = become_host;
    daemon_start(&host->daemon, yaml);
}

static void host_again(struct host *host)
{
    becoming = host;
    daemon_again(&host->daemon);
}

/* From here on this process lives there. */
static void enter(const struct host *host)
{
    static const char *const kinds[] = { "mnt", "net" };
    char path[64];
    int fds[2];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "/proc/%ld/ns/%s", (long)host->daemon.pid, kinds[i]);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fds[i] >= 0, "cannot open %s: %s", path, strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        CHECK(setns(fds[i], 0) == 0, "setns: %s", strerror(errno));
        close(fds[i]);
    }
}

/* ---- launchers ------------------------------------------------------------------------------------------------------ */

struct placement {
    uint32_t first; /* ranks on host 0 */
    bool slurm, cyclic, lists;
    const char *local[HOSTS]; /* what libpfeed must make of it */
};

static const struct placement torchrun = { 4, .local = { "0-3", "4-7" } }, torchrun_six = { 6, .local = { "0-5", "6-7" } },
                              slurm_six = { 6, .slurm = true, .local = { "0-5", "6-7" } },
                              slurm_cyclic = { 4, .slurm = true, .cyclic = true, .local = { "0,2,4,6", "1,3,5,7" } },
                              slurm_lists = { 4, .slurm = true, .cyclic = true, .lists = true,
                                              .local = { "0,2,4,6", "1,3,5,7" } };

static uint32_t host_of(const struct placement *placement, uint32_t rank)
{
    return placement->cyclic ? rank % HOSTS : rank >= placement->first;
}

static void set_number(const char *name, uint32_t value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    setenv(name, text, 1);
}

static void set_slurm(const struct placement *placement, uint32_t rank, uint32_t run)
{
    const uint32_t host = host_of(placement, rank);
    char tasks[16];

    snprintf(tasks, sizeof(tasks), placement->first * HOSTS == WORLD ? "%u(x2)" : "%u,%u", placement->first,
             WORLD - placement->first);
    set_number("SLURM_JOB_ID", 77);
    set_number("SLURM_STEP_ID", 0);
    set_number("SLURM_NTASKS", WORLD);
    set_number("SLURM_PROCID", rank);
    set_number("SLURM_NODEID", host);
    setenv("SLURM_STEP_TASKS_PER_NODE", tasks, 1);
    setenv("SLURM_DISTRIBUTION", placement->cyclic ? "cyclic" : "block", 1);
    if (run > 0)
        set_number("SLURM_RESTART_COUNT", run);
    if (placement->lists) {
        setenv("SLURM_GTIDS", host ? "1,3,5,7" : "0,2,4,6", 1);
        unsetenv("SLURM_DISTRIBUTION");
    }
}

static void set_torchrun(const struct placement *placement, uint32_t rank, uint32_t run)
{
    const bool second = host_of(placement, rank) > 0;

    set_number("RANK", rank);
    set_number("WORLD_SIZE", WORLD);
    set_number("LOCAL_RANK", second ? rank - placement->first : rank);
    set_number("LOCAL_WORLD_SIZE", second ? WORLD - placement->first : placement->first);
    set_number("TORCHELASTIC_RESTART_COUNT", run);
    setenv("TORCHELASTIC_RUN_ID", "hosts", 1);
}

/* ---- a job ---------------------------------------------------------------------------------------------------------- */

struct cell {
    uint64_t id, hash;
    uint32_t times;
};

/* What all ranks got, each row at its place. */
struct seen {
    struct cell cells[TOTAL][BATCH];
    char tokens[WORLD][PFEED_TOKEN_MAX], prints[WORLD][PFEED_FINGERPRINT_MAX];
    uint32_t taken[WORLD], pace[WORLD];
};

struct rank {
    const struct placement *placement;
    struct seen *seen;
    const char *start;
    uint32_t rank, run, until; /* until: steps from the beginning, 0: all */
};

static void record(struct seen *seen, uint32_t rank, struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    const int32_t *tokens = pfeed_tensor(batch, "tokens")->data;

    CHECK(info->epoch < EPOCHS && info->step < STEPS, "epoch %llu step %llu", (unsigned long long)info->epoch,
          (unsigned long long)info->step);
    for (uint32_t i = 0; i < info->rows; i++) {
        struct cell *cell = &seen->cells[info->epoch * STEPS + info->step][rank * RANK + i];

        cell->id = info->ids[i];
        cell->hash = hash_bytes(0, tokens + i * TOKENS, TOKENS * sizeof(*tokens));
        cell->times++;
    }
}

static void train_rank(void *arg)
{
    const struct rank *rank = arg;
    const uint32_t r = rank->rank, host = host_of(rank->placement, r);
    struct pfeed_options options = { .size = sizeof(options), .feed = "text", .epochs = EPOCHS, .start = rank->start };
    struct seen *seen = rank->seen;
    struct pfeed_batch *batch;
    struct pfeed *pf;
    int rc;

    enter(&hosts[host]);
    (rank->placement->slurm ? set_slurm : set_torchrun)(rank->placement, r, rank->run);
    rc = pfeed_options_from_env(&options);
    CHECK(rc == 0 && options.rank == r && options.world == WORLD && options.run == rank->run && options.job,
          "pfeed_options_from_env: %d: %s", rc, pfeed_error(NULL));
    CHECK(strcmp(options.local_ranks, rank->placement->local[host]) == 0, "rank %u has local_ranks '%s'", r, options.local_ranks);
    rc = pfeed_open(&pf, &options);
    CHECK(rc == 0, "pfeed_open: %d: %s", rc, pfeed_error(NULL));
    CHECK(pfeed_fingerprint(pf, seen->prints[r], PFEED_FINGERPRINT_MAX) == 0, "pfeed_fingerprint: %s", pfeed_error(pf));
    for (;;) {
        word_await(&seen->pace[r], seen->taken[r] + 1);
        rc = pfeed_next(pf, &batch, 30000);
        if (rc == PFEED_EPOCH)
            continue;
        if (rc != 0)
            break;
        record(seen, r, batch);
        CHECK(pfeed_token(pf, batch, seen->tokens[r], PFEED_TOKEN_MAX) == 0, "pfeed_token: %s", pfeed_error(pf));
        must_done(pf, batch);
        word_add(&seen->taken[r], 1);
        if (seen->taken[r] == rank->until)
            break;
    }
    CHECK(rc == PFEED_END || (rc == 0 && rank->until), "pfeed_next: %d: %s", rc, pfeed_error(pf));
    pfeed_close(pf);
}

struct job {
    struct rank ranks[WORLD];
    struct trainer *trainers[WORLD];
};

static void job_start(struct job *job, struct seen *seen, const struct rank *plan)
{
    char name[16];

    for (uint32_t r = 0; r < WORLD; r++) {
        job->ranks[r] = *plan;
        job->ranks[r].seen = seen;
        job->ranks[r].rank = r;
        snprintf(name, sizeof(name), "rank %u", r);
        job->trainers[r] = trainer_start(name, train_rank, &job->ranks[r]);
    }
}

static void job_wait(struct job *job)
{
    for (uint32_t r = 0; r < WORLD; r++)
        trainer_wait(job->trainers[r]);
}

static struct seen *new_seen(uint32_t pace)
{
    struct seen *seen = shared_memory(sizeof(*seen));

    for (uint32_t r = 0; r < WORLD; r++)
        seen->pace[r] = pace;
    return seen;
}

/* What a rank alone gets, each sample once in each epoch; with a daemon of its own, so that it fills nothing for the others. */
static struct seen *seen_alone(void)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = apart.daemon.socket, .feed = "text", .epochs = EPOCHS };
    struct seen *alone = new_seen(0);
    uint8_t times[EPOCHS][ROWS] = { { 0 } };
    struct pfeed_batch *batch;
    struct pfeed *pf;
    int rc;

    strcpy(apart.data, hosts[0].data);
    host_start(&apart, "");
    CHECK(pfeed_open(&pf, &options) == 0, "pfeed_open: %s", pfeed_error(NULL));
    while ((rc = pfeed_next(pf, &batch, 30000)) != PFEED_END) {
        CHECK(rc >= 0, "pfeed_next: %d: %s", rc, pfeed_error(pf));
        if (rc == PFEED_EPOCH)
            continue;
        for (uint32_t i = 0; i < pfeed_info(batch)->valid; i++)
            times[pfeed_info(batch)->epoch][pfeed_info(batch)->ids[i]]++;
        record(alone, 0, batch);
        must_done(pf, batch);
    }
    pfeed_close(pf);
    for (uint32_t i = 0; i < EPOCHS * ROWS; i++)
        CHECK(times[i / ROWS][i % ROWS] == 1, "sample %u comes %u times in epoch %u", i % ROWS, times[i / ROWS][i % ROWS],
              i / ROWS);
    daemon_stop(&apart.daemon);
    return alone;
}

static void compare(const struct seen *seen, const struct seen *alone)
{
    for (uint32_t k = 0; k < TOTAL; k++)
        for (uint32_t i = 0; i < BATCH; i++) {
            const struct cell *cell = &seen->cells[k][i], *its = &alone->cells[k][i];

            CHECK(cell->times == 1 && cell->id == its->id && cell->hash == its->hash,
                  "row %u of epoch %u step %u came %u times, with sample %llu; alone it is sample %llu", i, k / STEPS, k % STEPS,
                  cell->times, (unsigned long long)cell->id, (unsigned long long)its->id);
        }
    for (uint32_t r = 1; r < WORLD; r++)
        CHECK(strcmp(seen->prints[r], seen->prints[0]) == 0, "rank %u has fingerprint %s, rank 0 %s", r, seen->prints[r],
              seen->prints[0]);
}

/* ---- the tests ------------------------------------------------------------------------------------------------------ */

static void start_both(void)
{
    for (uint32_t h = 0; h < HOSTS; h++)
        host_start(&hosts[h], "");
}

static void stop_both(void)
{
    for (uint32_t h = 0; h < HOSTS; h++)
        daemon_stop(&hosts[h].daemon);
    remove_folder(place);
}

/* As long as the job runs. */
static void check_placement(const struct placement *placement)
{
    struct pf_row_job row;

    for (uint32_t h = 0; h < HOSTS; h++) {
        const uint32_t local = h ? WORLD - placement->first : placement->first;

        UNTIL(stat_jobs(&hosts[h].daemon, "text", &row, 1) == 1 && row.ranks == local);
        CHECK(row.world == WORLD && row.local == local && strcmp(row.local_ranks, placement->local[h]) == 0,
              "host %u has %u of %u ranks: '%s'", h, row.local, row.world, row.local_ranks);
        CHECK(row.slot_use_ppm == local * 1000000u / WORLD, "host %u uses %u ppm of its slots", h, row.slot_use_ppm);
    }
}

static void run_union(const void *arg)
{
    const struct rank plan = { .placement = arg };
    struct seen *alone, *seen = new_seen(1);
    struct job job;

    make_hosts();
    alone = seen_alone();
    start_both();
    job_start(&job, seen, &plan);
    check_placement(arg);
    for (uint32_t r = 0; r < WORLD; r++)
        word_set(&seen->pace[r], UINT32_MAX);
    job_wait(&job);
    compare(seen, alone);
    for (uint32_t h = 0; h < HOSTS; h++) {
        const uint32_t local = h ? WORLD - plan.placement->first : plan.placement->first;
        const struct pf_row_feed row = feed_now(&hosts[h].daemon, "text");

        /* What was given up for another and filled again (slots_evicted) counts twice. */
        CHECK(row.rows_delivered == (uint64_t)local * RANK * TOTAL && row.rows_filled >= row.rows_delivered &&
                  row.rows_filled <= row.rows_delivered + row.slots_evicted * local * RANK,
              "host %u has %u ranks of %u rows in %u steps; it filled %llu rows and delivered %llu", h, local, RANK, TOTAL,
              (unsigned long long)row.rows_filled, (unsigned long long)row.rows_delivered);
    }
    stop_both();
}

static void run_resumed(const void *arg)
{
    const struct rank before = { .placement = &torchrun, .until = RESUMED };
    struct rank after = { .placement = arg, .run = 1 };
    struct seen *alone, *seen = new_seen(UINT32_MAX);
    struct job job;

    make_hosts();
    alone = seen_alone();
    start_both();
    job_start(&job, seen, &before);
    job_wait(&job);
    for (uint32_t r = 1; r < WORLD; r++)
        CHECK(strcmp(seen->tokens[r], seen->tokens[0]) == 0, "rank %u has token %s, rank 0 %s", r, seen->tokens[r],
              seen->tokens[0]);
    after.start = strdup(seen->tokens[0]);
    job_start(&job, seen, &after);
    job_wait(&job);
    free((void *)after.start);
    compare(seen, alone);
    stop_both();
}

/* Host 0 is without a daemon while host 1 goes through to its end. */
static void run_killed(const void *arg)
{
    const struct rank plan = { .placement = arg };
    struct seen *alone, *seen = new_seen(3);
    struct job job;

    make_hosts();
    alone = seen_alone();
    start_both();
    job_start(&job, seen, &plan);
    for (uint32_t r = 0; r < WORLD; r++)
        word_await(&seen->taken[r], 3);
    daemon_kill(&hosts[0].daemon);
    for (uint32_t r = 0; r < WORLD; r++)
        word_set(&seen->pace[r], UINT32_MAX);
    for (uint32_t r = 0; r < WORLD; r++)
        if (host_of(plan.placement, r) == 1)
            trainer_wait(job.trainers[r]);
    for (uint32_t r = 0; r < WORLD; r++)
        CHECK(host_of(plan.placement, r) == 1 || word_get(&seen->taken[r]) < TOTAL, "rank %u needed no daemon", r);
    host_again(&hosts[0]);
    for (uint32_t r = 0; r < WORLD; r++)
        if (host_of(plan.placement, r) == 0)
            trainer_wait(job.trainers[r]);
    compare(seen, alone);
    stop_both();
}

/* ---- data that differ ----------------------------------------------------------------------------------------------- */

static void a_file_more(void)
{
    write_tokens(&hosts[1], "c.bin", 2 * TOKENS, 3);
}

static void another_size(void)
{
    write_tokens(&hosts[1], "b.bin", ROWS_B * TOKENS + 3, 2);
}

static void other_tokens(void)
{
    write_tokens(&hosts[1], "b.bin", ROWS_B * TOKENS, 4);
}

static void a_picture(char path[256])
{
    char pattern[96];
    glob_t found;

    snprintf(pattern, sizeof(pattern), "%s/pictures/*/*", hosts[1].data);
    CHECK(glob(pattern, 0, NULL, &found) == 0, "there is no %s", pattern);
    snprintf(path, 256, "%s", found.gl_pathv[0]);
    globfree(&found);
}

static void a_picture_more(void)
{
    char path[256], more[264];

    a_picture(path);
    snprintf(more, sizeof(more), "%s.jpg", path);
    CHECK(link(path, more) == 0, "link: %s", strerror(errno));
}

static void a_longer_picture(void)
{
    struct stat status;
    char path[256];

    a_picture(path);
    CHECK(stat(path, &status) == 0 && truncate(path, status.st_size + 1) == 0, "truncate: %s", strerror(errno));
}

#define OTHERWISE "as many samples, but other names, sizes or classes than when the token was made"

struct difference {
    const char *feed, *words; /* NULL: none */
    void (*change)(void);
};

static void fingerprint_of(struct pfeed *pf, char print[PFEED_FINGERPRINT_MAX])
{
    CHECK(pfeed_fingerprint(pf, print, PFEED_FINGERPRINT_MAX) == 0, "pfeed_fingerprint: %s", pfeed_error(pf));
}

/* Nobody has taken a batch: ranks compare their fingerprints, or begin with rank 0's token. */
static void expect_difference(const char *feed, const char *words)
{
    struct pfeed_options options[HOSTS];
    char prints[HOSTS][PFEED_FINGERPRINT_MAX], token[PFEED_TOKEN_MAX];
    struct pfeed *pf[HOSTS];
    int rc;

    for (uint32_t h = 0; h < HOSTS; h++) {
        options[h] = (struct pfeed_options){ .size = sizeof(options[h]),
                                             .socket = hosts[h].daemon.socket,
                                             .feed = feed,
                                             .job = "j",
                                             .rank = h,
                                             .world = HOSTS,
                                             .local_ranks = h ? "1" : "0" };
        CHECK(pfeed_open(&pf[h], &options[h]) == 0, "pfeed_open: %s", pfeed_error(NULL));
        fingerprint_of(pf[h], prints[h]);
    }
    CHECK((strcmp(prints[0], prints[1]) == 0) == !words, "the fingerprints are %s and %s", prints[0], prints[1]);
    CHECK(pfeed_token(pf[0], NULL, token, sizeof(token)) == 0, "pfeed_token: %s", pfeed_error(pf[0]));
    pfeed_close(pf[1]);
    options[1].start = token;
    rc = pfeed_open(&pf[1], &options[1]);
    CHECK(words ? rc == -EINVAL && strstr(pfeed_error(NULL), words) : rc == 0, "with rank 0's token: %d: %s", rc,
          pfeed_error(NULL));
    if (rc == 0)
        pfeed_close(pf[1]);
    pfeed_close(pf[0]);
    for (uint32_t h = 0; h < HOSTS; h++)
        CHECK(feed_now(&hosts[h].daemon, feed).rows_delivered == 0, "a batch was taken");
}

static void run_differs(const void *arg)
{
    const struct difference *difference = arg;
    char yaml[512], path[96];

    make_hosts();
    for (uint32_t h = 0; h < HOSTS; h++) {
        snprintf(path, sizeof(path), "%s/pictures", hosts[h].data);
        images_make(path, 16, 2);
    }
    if (difference->change)
        difference->change();
    snprintf(yaml, sizeof(yaml),
             "  pictures:\n    source: { type: directory, path: %s/data/pictures }\n    batch: 8\n    slots: 4\n"
             "    fields:\n      image: { decode: image, dtype: uint8, transforms: [ random_resized_crop: { size: 32 } ] }\n",
             place);
    for (uint32_t h = 0; h < HOSTS; h++)
        host_start(&hosts[h], yaml);
    expect_difference(difference->feed, difference->words);
    stop_both();
}

int main(int argc, char **argv)
{
    static const struct difference same = { "text", NULL, NULL },
                                   more = { "text", "237 samples when the token was made, 239 now", a_file_more },
                                   size = { "text", OTHERWISE, another_size }, tokens = { "text", OTHERWISE, other_tokens },
                                   same_pictures = { "pictures", NULL, NULL },
                                   picture = { "pictures", "16 samples when the token was made, 17 now", a_picture_more },
                                   longer = { "pictures", OTHERWISE, a_longer_picture };
    static const struct test tests[] = {
        { "4 + 4, torchrun", run_union, &torchrun },
        { "6 + 2, Slurm", run_union, &slurm_six },
        { "4 + 4 cyclic, Slurm", run_union, &slurm_cyclic },
        { "4 + 4 cyclic, Slurm's lists", run_union, &slurm_lists },
        { "resumed at 6 + 2, torchrun", run_resumed, &torchrun_six },
        { "resumed cyclic, Slurm", run_resumed, &slurm_cyclic },
        { "a daemon that dies", run_killed, &torchrun },
        { "a daemon that dies, cyclic", run_killed, &slurm_cyclic },
        { "the same data", run_differs, &same },
        { "a file more", run_differs, &more },
        { "a file of another size", run_differs, &size },
        { "a file with other tokens", run_differs, &tokens },
        { "the same pictures", run_differs, &same_pictures },
        { "a picture more", run_differs, &picture },
        { "a picture of another size", run_differs, &longer },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
