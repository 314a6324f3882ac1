/* SPDX-License-Identifier: MIT */
/* pfeed_options_from_env in made environments: what each launcher's variables become, what is not guessed, and that every value that
 * is none is named. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pfeed.h"

#define CHECK(condition, ...)                                                                                                    \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                      \
            fprintf(stderr, __VA_ARGS__);                                                                                        \
            putc('\n', stderr);                                                                                                  \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)

#define TORCH  "RANK=5 WORLD_SIZE=12 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 "
#define TORCHE TORCH "TORCHELASTIC_RESTART_COUNT=2 TORCHELASTIC_RUN_ID=run7 "
#define STEP   "SLURM_JOB_ID=77 SLURM_STEP_ID=3 "

static const struct {
    const char *env;
    const char *words[3]; /* of the error; none: there is none */
    uint32_t rank, world;
    const char *local_ranks, *job; /* NULL: stays so */
    uint64_t run;
    bool nobody; /* nothing is filled */
} cases[] = {
    { TORCHE, { 0 }, 5, 12, "4-7", "run7", 2 },
    { TORCH "TORCHELASTIC_RUN_ID=none MASTER_ADDR=10.0.0.1 MASTER_PORT=29500", { 0 }, 5, 12, "4-7", "10.0.0.1:29500", 0 },
    { "RANK=0 WORLD_SIZE=1", { 0 }, 0, 1, NULL, NULL, 0 },
    { TORCHE "SLURM_PROCID=x SLURM_NTASKS=y " STEP, { 0 }, 5, 12, "4-7", "run7", 2 },
    { "RANK=5 WORLD_SIZE=12", { "rank 5 of 12 by torchrun", "options.local_ranks" } },
    /* made by hand under srun: the same rank, so that Slurm knows the rest */
    { "RANK=2 WORLD_SIZE=4 SLURM_PROCID=2 SLURM_NTASKS=4 SLURM_GTIDS=2,3 SLURM_RESTART_COUNT=1 " STEP,
      { 0 },
      2,
      4,
      "2-3",
      "slurm-77.3",
      1 },
    { "RANK=2 WORLD_SIZE=4 SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_GTIDS=0,1 " STEP, { "rank 2 of 4 by torchrun" } },
    { "RANK=x WORLD_SIZE=12", { "$RANK is 'x'" } },
    { "RANK=-1 WORLD_SIZE=12", { "$RANK is '-1'" } },
    { "RANK=1 WORLD_SIZE=0", { "$WORLD_SIZE is '0'", "1 to 65536" } },
    { "RANK=1 WORLD_SIZE=99999999999999999999999", { "$WORLD_SIZE is '99999" } },
    { "RANK=12 WORLD_SIZE=12", { "$RANK is '12'", "$WORLD_SIZE is '12'", "0 to 11" } },
    { "RANK=1", { "$RANK is '1'", "$WORLD_SIZE is not set" } },
    { "WORLD_SIZE=4", { "$WORLD_SIZE is '4'", "$RANK is not set" } },
    { "RANK=1 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=4", { "$LOCAL_RANK is '2'" } },
    { "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=5", { "$LOCAL_WORLD_SIZE is '5'" } },
    { TORCH "TORCHELASTIC_RESTART_COUNT=once", { "$TORCHELASTIC_RESTART_COUNT is 'once'" } },
    { TORCH "TORCHELASTIC_RUN_ID=0123456789012345678901234567890123456789012345678901234567890123",
      { "$TORCHELASTIC_RUN_ID is '0123", "63 bytes", "options.job" } },

    { "SLURM_PROCID=9 SLURM_NTASKS=11 SLURM_NODEID=2 SLURM_TASKS_PER_NODE=4(x2),3 " STEP, { 0 }, 9, 11, "8-10", "slurm-77.3", 0 },
    { "SLURM_PROCID=5 SLURM_NTASKS=11 SLURM_NODEID=1 SLURM_TASKS_PER_NODE=4(x2),3 SLURM_DISTRIBUTION=block:cyclic " STEP,
      { 0 },
      5,
      11,
      "4-7",
      "slurm-77.3",
      0 },
    /* dealt out: 0 1 2 | 3 4 5 | 6 7 8 | 9 10 over nodes of 4, 4 and 3 */
    { "SLURM_PROCID=10 SLURM_NTASKS=11 SLURM_NODEID=1 SLURM_TASKS_PER_NODE=4(x2),3 SLURM_DISTRIBUTION=cyclic " STEP,
      { 0 },
      10,
      11,
      "1,4,7,10",
      "slurm-77.3",
      0 },
    { "SLURM_PROCID=8 SLURM_NTASKS=11 SLURM_NODEID=2 SLURM_TASKS_PER_NODE=4(x2),3 SLURM_DISTRIBUTION=cyclic:block " STEP,
      { 0 },
      8,
      11,
      "2,5,8",
      "slurm-77.3",
      0 },
    /* 0 1 2 | 3 4 | 5 6 | 7: nodes of 1, 4 and 3 */
    { "SLURM_PROCID=7 SLURM_NTASKS=8 SLURM_NODEID=1 SLURM_TASKS_PER_NODE=1,4,3 SLURM_DISTRIBUTION=cyclic " STEP,
      { 0 },
      7,
      8,
      "1,3,5,7",
      "slurm-77.3",
      0 },
    { "SLURM_PROCID=6 SLURM_NTASKS=8 SLURM_NODEID=2 SLURM_TASKS_PER_NODE=1,4,3 SLURM_DISTRIBUTION=cyclic " STEP,
      { 0 },
      6,
      8,
      "2,4,6",
      "slurm-77.3",
      0 },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=4 SLURM_NODEID=1 SLURM_TASKS_PER_NODE=4(x2) "
      "SLURM_STEP_TASKS_PER_NODE=2(x2) " STEP,
      { 0 },
      3,
      4,
      "2-3",
      "slurm-77.3",
      0 },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_GTIDS=0,3,5,6 SLURM_DISTRIBUTION=plane=4 SLURM_RESTART_COUNT=4 " STEP,
      { 0 },
      3,
      8,
      "0,3,5-6",
      "slurm-77.3",
      4 },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4(x2) SLURM_DISTRIBUTION=plane=4 " STEP,
      { "rank 3 of 8 by Slurm's" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4(x2) SLURM_DISTRIBUTION=cyclic " STEP,
      { "rank 3 of 8 by Slurm's" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=4 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4(x2) " STEP, { "rank 3 of 4 by Slurm's" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=4 " STEP, { "rank 3 of 4 by Slurm's" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4(x2 " STEP, { "$SLURM_TASKS_PER_NODE is '4(x2'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4, " STEP, { "$SLURM_TASKS_PER_NODE is '4,'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=four " STEP, { "$SLURM_TASKS_PER_NODE is 'four'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=0(x4),8 " STEP,
      { "$SLURM_TASKS_PER_NODE is '0(x4),8'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_NODEID=here SLURM_TASKS_PER_NODE=8 " STEP, { "$SLURM_NODEID is 'here'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_GTIDS=0,3,2 " STEP, { "$SLURM_GTIDS is '0,3,2'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_GTIDS=0,1 " STEP, { "$SLURM_GTIDS is '0,1'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_GTIDS=3,8 " STEP, { "$SLURM_GTIDS is '3,8'" } },
    { "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_GTIDS=3,,4 " STEP, { "$SLURM_GTIDS is '3,,4'" } },
    { "SLURM_PROCID=3 " STEP, { "$SLURM_PROCID is '3'", "$SLURM_NTASKS is not set" } },
    { "SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_ID=77", { 0 }, .nobody = true },
    /* a batch script */
    { "SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_ID=77 SLURM_STEP_ID=4294967291", { 0 }, .nobody = true },
    /* likewise */

    { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=4 PMIX_NAMESPACE=prterun-1@1",
      { 0 },
      2,
      4,
      "0-3",
      "prterun-1@1",
      0 },
    { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=1", { 0 }, 2, 4, "2", NULL, 0 },
    { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=2", { "rank 2 of 4 by Open MPI's", "\"0-3\"" } },
    { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=5", { "$OMPI_COMM_WORLD_LOCAL_SIZE is '5'" } },
    { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=many", { "$OMPI_COMM_WORLD_SIZE is 'many'" } },
    { "PMI_RANK=1 PMI_SIZE=2 MPI_LOCALNRANKS=2", { 0 }, 1, 2, "0-1", NULL, 0 },
    { "PMIX_RANK=1", { "$PMIX_RANK is '1'", "$PMI_SIZE is not set" } },
    { "", { 0 }, .nobody = true },
};

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void set_env(const char *text)
{
    char words[1024], *at = words, *word;

    CHECK(strlen(text) < sizeof(words), "too long");
    strcpy(words, text);
    clearenv();
    while ((word = strsep(&at, " ")))
        if (*word) {
            char *value = strchr(word, '=');

            *value++ = 0;
            setenv(word, value, 1);
        }
}

static void run_cases(void)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pfeed_options options = { .size = sizeof(options) }, before = options;
        bool nobody = cases[i].nobody, fails = cases[i].words[0];
        int rc;

        set_env(cases[i].env);
        rc = pfeed_options_from_env(&options);
        CHECK(rc == (fails ? -EINVAL : 0), "%s: %d: %s", cases[i].env, rc, pfeed_error(NULL));
        if (fails || nobody)
            CHECK(memcmp(&options, &before, sizeof(options)) == 0, "%s: something is filled", cases[i].env);
        for (int w = 0; w < 3 && cases[i].words[w]; w++)
            CHECK(strstr(pfeed_error(NULL), cases[i].words[w]), "%s: not '%s': %s", cases[i].env, cases[i].words[w],
                  pfeed_error(NULL));
        if (fails || nobody)
            continue;
        CHECK(options.rank == cases[i].rank && options.world == cases[i].world, "%s: rank %u of %u", cases[i].env, options.rank,
              options.world);
        CHECK(same(options.local_ranks, cases[i].local_ranks), "%s: local_ranks %s", cases[i].env, options.local_ranks);
        CHECK(same(options.job, cases[i].job), "%s: job %s", cases[i].env, options.job);
        CHECK(options.run == cases[i].run, "%s: run %llu", cases[i].env, (unsigned long long)options.run);
    }
}

/* What is given stays. */
static void keeps_what_is_given(void)
{
    struct pfeed_options options = { .size = sizeof(options), .job = "mine", .run = 9, .local_ranks = "5" };

    set_env(TORCHE);
    CHECK(pfeed_options_from_env(&options) == 0 && options.rank == 5 && options.world == 12, "%s", pfeed_error(NULL));
    CHECK(same(options.job, "mine") && options.run == 9 && same(options.local_ranks, "5"), "what was given is overwritten");
    options = (struct pfeed_options){ .size = sizeof(options), .world = 12 };
    CHECK(pfeed_options_from_env(&options) == 0 && options.rank == 0 && options.world == 12, "rank 0 of 12 was given");
    CHECK(!options.job && !options.local_ranks, "these are another rank's");
    options = (struct pfeed_options){ .size = sizeof(options), .rank = 5, .world = 12 };
    CHECK(pfeed_options_from_env(&options) == 0 && same(options.job, "run7") && same(options.local_ranks, "4-7"), "they are its");
    options = (struct pfeed_options){ .size = sizeof(options), .rank = 3 };
    CHECK(pfeed_options_from_env(&options) == -EINVAL && strstr(pfeed_error(NULL), "options.rank is 3"), "%s", pfeed_error(NULL));
    options = (struct pfeed_options){ .size = sizeof(options), .local_ranks = "0-5" };
    set_env("RANK=5 WORLD_SIZE=12");
    CHECK(pfeed_options_from_env(&options) == 0 && options.world == 12, "%s", pfeed_error(NULL));
    options = (struct pfeed_options){ .size = 8 };
    CHECK(pfeed_options_from_env(&options) == -EINVAL && pfeed_options_from_env(NULL) == -EINVAL, "an options struct too short");
}

/* 64 nodes of 64, cyclic: every 64th rank, in more bytes than a list may have. */
static void list_too_long(void)
{
    struct pfeed_options options = { .size = sizeof(options) };

    set_env("SLURM_PROCID=0 SLURM_NTASKS=4096 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=64(x64) SLURM_DISTRIBUTION=cyclic " STEP);
    CHECK(pfeed_options_from_env(&options) == -EINVAL && strstr(pfeed_error(NULL), "255 bytes"), "%s", pfeed_error(NULL));
}

int main(void)
{
    run_cases();
    keeps_what_is_given();
    list_too_long();
    return 0;
}
