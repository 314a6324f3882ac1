/* SPDX-License-Identifier: MIT */
/*
 * A rank's options from the variables that its launcher has set. Rank and world come from the first launcher of the table that is
 * there; what it does not say comes from those after it, as far as they are sound and speak of the same rank and world. The ranks of this host
 * are never guessed: ranks that are believed to be here and are not would be waited for, and the other way round their rows would
 * be filled in vain.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define STEP_MAX UINT64_C(0xfffffff0) /* Slurm: steps from here on are its own, such as that of a batch script */
#define RUN_MAX  UINT64_C(1000000000)

struct found {
    uint64_t rank, world;
    char local_ranks[PF_RANKS_TEXT]; /* "": not known */
    char job[PF_JOB_NAME];           /* "": not known */
    uint64_t run;
    bool run_known;
};

static _Thread_local struct found told;

/* ---- variables ------------------------------------------------------------------------------------------------------ */

static const char *value_of(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* The first of the names that is set, or NULL. */
static const char *first_set(const char *a, const char *b)
{
    return value_of(a) ? a : value_of(b) ? b : NULL;
}

/* 1 and *out, 0 where it is not set, -EINVAL where it is no number of the range. */
static int number(const char *name, uint64_t least, uint64_t most, uint64_t *out)
{
    const char *value = name ? value_of(name) : NULL;
    uint64_t parsed;

    if (!value)
        return 0;
    if (strlen(value) > 18 || strspn(value, "0123456789") != strlen(value) || (parsed = strtoull(value, NULL, 10)) < least ||
        parsed > most)
        return sentence_set(&attach_error, -EINVAL,
                            "$%s is '%.60s'; it must be a whole number from %" PRIu64 " to %" PRIu64
                            ": mend it, or unset it and give the options yourself",
                            name, value, least, most);
    *out = parsed;
    return 1;
}

/* Rank and world: 1, 0 where neither is set, or -EINVAL. */
static int rank_of(const char *rank, const char *world, struct found *out)
{
    int has_world = number(world, 1, PF_WORLD_MAX, &out->world);
    int has_rank = has_world < 0 ? has_world : number(rank, 0, PF_WORLD_MAX - 1, &out->rank);

    if (has_rank < 0)
        return has_rank;
    if (has_rank != has_world)
        return sentence_set(&attach_error, -EINVAL,
                            "$%s is '%.60s', but $%s is not set: set both or neither, or give options.rank and options.world",
                            has_rank ? rank : world, value_of(has_rank ? rank : world), has_rank ? world : rank);
    if (has_rank && out->rank >= out->world)
        return sentence_set(&attach_error, -EINVAL, "$%s is '%" PRIu64 "', but $%s is '%" PRIu64 "': ranks are 0 to %" PRIu64,
                            rank, out->rank, world, out->world, out->world - 1);
    return has_rank;
}

static int job_name(char out[PF_JOB_NAME], const char *source, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(out, PF_JOB_NAME, format, args);
    va_end(args);
    if (n >= 0 && (unsigned)n < PF_JOB_NAME)
        return 0;
    return sentence_set(&attach_error, -EINVAL, "$%s is '%.100s'; a job's name has at most %u bytes: give options.job", source,
                        getenv(source), PF_JOB_NAME - 1);
}

/* ---- lists of ranks ------------------------------------------------------------------------------------------------- */

/* Ranks first to last, added to the list, which must be in ascending order; a run becomes "first-last". */
struct list {
    uint64_t first, last;
    bool any, full;
    char *text;
};

static void list_write(struct list *list)
{
    size_t at = strlen(list->text), left = PF_RANKS_TEXT - at;
    const char *comma = at ? "," : "";
    int n = list->first == list->last ? snprintf(list->text + at, left, "%s%" PRIu64, comma, list->first)
                                      : snprintf(list->text + at, left, "%s%" PRIu64 "-%" PRIu64, comma, list->first, list->last);

    list->full |= n < 0 || (size_t)n >= left;
}

static void list_add(struct list *list, uint64_t first, uint64_t last)
{
    if (list->any && first == list->last + 1) {
        list->last = last;
        return;
    }
    if (list->any)
        list_write(list);
    list->any = true;
    list->first = first;
    list->last = last;
}

static int list_end(struct list *list, const char *source)
{
    if (list->any)
        list_write(list);
    if (!list->full)
        return 0;
    list->text[0] = 0;
    return sentence_set(&attach_error, -EINVAL,
                        "the ranks of this host, by $%s, make a list of more than %u bytes: place them in blocks", source,
                        PF_RANKS_TEXT - 1);
}

static int garbage(const char *name, const char *right)
{
    return sentence_set(&attach_error, -EINVAL, "$%s is '%.100s'; it must be %s: mend it, or give options.local_ranks", name,
                        getenv(name), right);
}

/* ---- torchrun ------------------------------------------------------------------------------------------------------- */

/* An agent's ranks are a block, of which LOCAL_RANK is this one's place. */
static int torch_local(struct found *out)
{
    struct list list = { .text = out->local_ranks };
    uint64_t size = 0, local = 0;
    int rc = number("LOCAL_WORLD_SIZE", 1, out->world, &size);

    if (rc <= 0 || (rc = number("LOCAL_RANK", 0, size - 1, &local)) <= 0)
        return rc;
    if (local > out->rank || out->rank - local + size > out->world)
        return sentence_set(&attach_error, -EINVAL,
                            "$RANK is '%" PRIu64 "' of %" PRIu64 ", but $LOCAL_RANK is '%" PRIu64 "' of %" PRIu64
                            ": give options.local_ranks",
                            out->rank, out->world, local, size);
    list_add(&list, out->rank - local, out->rank - local + size - 1);
    return list_end(&list, "LOCAL_WORLD_SIZE");
}

static int torch(struct found *out)
{
    const char *id = value_of("TORCHELASTIC_RUN_ID");
    int rc = rank_of("RANK", "WORLD_SIZE", out);

    if (rc <= 0)
        return rc;
    if ((rc = torch_local(out)) < 0 || (rc = number("TORCHELASTIC_RESTART_COUNT", 0, RUN_MAX, &out->run)) < 0)
        return rc;
    out->run_known = rc > 0;
    /* "none" is what every run without an id has; where its ranks meet, no other run's can. */
    if (id && strcmp(id, "none") != 0)
        rc = job_name(out->job, "TORCHELASTIC_RUN_ID", "%s", id);
    else if (value_of("MASTER_ADDR") && value_of("MASTER_PORT"))
        rc = job_name(out->job, "MASTER_ADDR", "%s:%s", value_of("MASTER_ADDR"), value_of("MASTER_PORT"));
    return rc < 0 ? rc : 1;
}

/* ---- Slurm ---------------------------------------------------------------------------------------------------------- */

/* "0,1,8,9", ascending */
static int slurm_ids(const char *name, struct found *out)
{
    static const char right[] = "a list of ranks in ascending order, this one's among them";
    struct list list = { .text = out->local_ranks };
    const char *at = value_of(name);
    bool mine = false;

    for (;;) {
        char *end;
        unsigned long rank = strtoul(at, &end, 10);

        if (end == at || *at < '0' || *at > '9' || rank >= out->world || (list.any && rank <= list.last) || (*end && *end != ','))
            goto bad;
        list_add(&list, rank, rank);
        mine |= rank == out->rank;
        if (!*end)
            break;
        at = end + 1;
    }
    if (mine)
        return list_end(&list, name);
bad:
    out->local_ranks[0] = 0;
    return garbage(name, right);
}

/* The next part of "4(x2),3": 1, 0 at the end, -1 where it is none. */
static int next_part(const char **at, uint64_t *tasks, uint64_t *nodes)
{
    char *end;

    if (!**at)
        return 0;
    if (**at < '0' || **at > '9')
        return -1;
    *tasks = strtoul(*at, &end, 10);
    *nodes = 1;
    if (strncmp(end, "(x", 2) == 0 && end[2] >= '0' && end[2] <= '9') {
        *nodes = strtoul(end + 2, &end, 10);
        if (*end++ != ')')
            return -1;
    }
    if (*tasks < 1 || *tasks > PF_WORLD_MAX || *nodes < 1 || *nodes > PF_WORLD_MAX || (*end && (*end != ',' || !end[1])))
        return -1;
    *at = *end ? end + 1 : end;
    return 1;
}

/* Of a node: how many tasks it has and how many are on those before it; and of all. */
struct share {
    uint64_t own, before, all;
};

/* Counts no more than `most` tasks of each node; `own` is whole. -1 where the text is none. */
static int count_tasks(const char *text, uint64_t node, uint64_t most, struct share *out)
{
    uint64_t tasks, nodes, seen = 0;
    int rc;

    *out = (struct share){ 0 };
    while ((rc = next_part(&text, &tasks, &nodes)) > 0) {
        uint64_t least = tasks < most ? tasks : most;

        if (node >= seen && node < seen + nodes)
            out->own = tasks;
        out->before += least * (node <= seen ? 0 : node - seen < nodes ? node - seen : nodes);
        out->all += least * nodes;
        seen += nodes;
    }
    return rc;
}

/* Rank of the node's j-th task where they are dealt out one a node: all of the rounds before, and this round's of the nodes before. */
static uint64_t dealt(const char *text, uint64_t node, uint64_t j)
{
    struct share before, with;

    count_tasks(text, node, j, &before);
    count_tasks(text, node, j + 1, &with);
    return before.all + (with.before - before.before);
}

/* By the number of tasks of each node, this node's place among them, and how tasks are dealt out. */
static int slurm_layout(struct found *out)
{
    const char *name = first_set("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE");
    const char *way = value_of("SLURM_DISTRIBUTION");
    size_t n = way ? strcspn(way, ":,") : 0;
    bool cyclic = n == 6 && strncmp(way, "cyclic", n) == 0, block = !way || (n == 5 && strncmp(way, "block", n) == 0);
    struct list list = { .text = out->local_ranks };
    struct share share;
    uint64_t node = 0, rank;
    bool mine = false;
    int rc = number("SLURM_NODEID", 0, PF_WORLD_MAX - 1, &node);

    if (rc <= 0 || !name || (!cyclic && !block))
        return rc < 0 ? rc : 0;
    if (count_tasks(value_of(name), node, UINT64_MAX, &share) < 0)
        return garbage(name, "tasks of each node, such as '4(x2),3'");
    if (share.all != out->world || share.own == 0)
        return 0; /* of the allocation, not of this step */
    for (uint64_t j = 0; j < share.own; j++) {
        rank = cyclic ? dealt(value_of(name), node, j) : share.before + j;
        list_add(&list, rank, rank);
        mine |= rank == out->rank;
    }
    if (!mine) {
        out->local_ranks[0] = 0;
        return 0; /* they are dealt out in another way than it says */
    }
    return list_end(&list, name);
}

static int slurm(struct found *out)
{
    const char *tasks = first_set("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS");
    uint64_t step = 0, job = 0;
    int rc = number("SLURM_STEP_ID", 0, UINT32_MAX, &step);

    if (rc <= 0 || step >= STEP_MAX)
        return rc < 0 ? rc : 0; /* not started by srun: the variables are those of the allocation */
    rc = rank_of("SLURM_PROCID", tasks ? tasks : "SLURM_NTASKS", out);
    if (rc <= 0)
        return rc;
    rc = value_of("SLURM_GTIDS") ? slurm_ids("SLURM_GTIDS", out) : slurm_layout(out);
    if (rc < 0 || (rc = number("SLURM_RESTART_COUNT", 0, RUN_MAX, &out->run)) < 0 ||
        (rc = number("SLURM_JOB_ID", 0, UINT32_MAX, &job)) < 0)
        return rc;
    out->run_known = true; /* it is set from the first restart on */
    if (rc > 0)
        rc = job_name(out->job, "SLURM_JOB_ID", "slurm-%" PRIu64 ".%" PRIu64, job, step);
    return rc < 0 ? rc : 1;
}

/* ---- MPI ------------------------------------------------------------------------------------------------------------ */

/* How many are here does not say which, but where it is one or all. */
static int counted_local(const char *name, struct found *out)
{
    struct list list = { .text = out->local_ranks };
    uint64_t size = 0;
    int rc = number(name, 1, out->world, &size);

    if (rc <= 0)
        return rc;
    if (size == 1)
        list_add(&list, out->rank, out->rank);
    else if (size == out->world)
        list_add(&list, 0, out->world - 1);
    return list_end(&list, name);
}

static int open_mpi(struct found *out)
{
    int rc = rank_of("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", out);

    if (rc <= 0)
        return rc;
    rc = counted_local("OMPI_COMM_WORLD_LOCAL_SIZE", out);
    if (rc == 0 && value_of("PMIX_NAMESPACE"))
        rc = job_name(out->job, "PMIX_NAMESPACE", "%s", value_of("PMIX_NAMESPACE"));
    return rc < 0 ? rc : 1;
}

/* PMI's and, of MPICH and its kin, the local ones. PMIx itself tells no sizes by variables. */
static int pmi(struct found *out)
{
    const char *rank = first_set("PMIX_RANK", "PMI_RANK");
    int rc = rank ? rank_of(rank, "PMI_SIZE", out) : 0;

    if (rc <= 0)
        return rc;
    rc = counted_local("MPI_LOCALNRANKS", out);
    if (rc == 0 && value_of("PMIX_NAMESPACE"))
        rc = job_name(out->job, "PMIX_NAMESPACE", "%s", value_of("PMIX_NAMESPACE"));
    return rc < 0 ? rc : 1;
}

/* ---- together ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*find)(struct found *out); /* 1 it is there, 0 it is not, -EINVAL */
} launchers[] = { { "torchrun", torch }, { "Slurm", slurm }, { "Open MPI", open_mpi }, { "PMI", pmi } };

/* 1 and *out, 0 where none is there, -EINVAL; given: rank and world where they are known already. *name: whose rank it is. */
static int look_at_all(struct found *out, bool given, const char **name)
{
    bool have = given;

    for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        struct found next = { 0 };
        int rc;

        if (have && *out->local_ranks && *out->job && out->run_known)
            break; /* nothing is left to be said */
        rc = launchers[i].find(&next);
        if (rc < 0 && !have)
            return rc;
        if (rc <= 0 || (have && (next.rank != out->rank || next.world != out->world)))
            continue;
        if (!have) {
            *name = launchers[i].name;
            *out = next;
            have = true;
            continue;
        }
        if (!*out->local_ranks)
            memcpy(out->local_ranks, next.local_ranks, sizeof(out->local_ranks));
        if (!*out->job)
            memcpy(out->job, next.job, sizeof(out->job));
        if (!out->run_known) {
            out->run = next.run;
            out->run_known = next.run_known;
        }
    }
    return have;
}

int pfeed_options_from_env(struct pfeed_options *options)
{
    struct found found = { 0 };
    const char *name = NULL;
    bool given;
    int rc;

    if (!options || options->size < offsetof(struct pfeed_options, start))
        return sentence_set(&attach_error, -EINVAL, "pfeed_options_from_env: options.size must be sizeof(struct pfeed_options)");
    given = options->world > 0;
    if (given) {
        found.rank = options->rank;
        found.world = options->world;
    }
    rc = look_at_all(&found, given, &name);
    if (rc <= 0)
        return rc;
    if (options->rank > 0 && found.rank != options->rank)
        return sentence_set(&attach_error, -EINVAL,
                            "options.rank is %u, but by %s's variables this is rank %" PRIu64 " of %" PRIu64
                            ": give options.world, too, or leave both 0",
                            options->rank, name, found.rank, found.world);
    if (name && found.world > 1 && !*found.local_ranks && !options->local_ranks)
        return sentence_set(&attach_error, -EINVAL,
                            "this is rank %" PRIu64 " of %" PRIu64 " by %s's variables, but they do not tell for certain which "
                            "ranks are on this host: give options.local_ranks, such as \"0-3\" (\"0-%" PRIu64 "\": all are)",
                            found.rank, found.world, name, found.world - 1);
    told = found;
    options->rank = (uint32_t)found.rank;
    options->world = (uint32_t)found.world;
    if (!options->local_ranks && *told.local_ranks)
        options->local_ranks = told.local_ranks;
    if (!options->job && *told.job)
        options->job = told.job;
    if (options->run == 0)
        options->run = told.run;
    return 0;
}
