/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 8, on machines that have less than the configuration says: RAM, control groups of v1 and v2 with all
 * their ancestors, /dev/shm. pfeedd says the numbers and ends with 78 before it has taken anything, or keeps well within. And
 * its workers are as many as the cores that it may use.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "history.h"
#include "machine.h"

#define MIB     UINT64_C(1048576)
#define REFUSED 78

static struct daemon daemons[8], *pfeedd; /* one after the other */
static uint32_t n_daemons;

/* Slots of 4 MiB each, a little more with what every row has. */
static const char *recipe(const char *of_daemon, const char *slots)
{
    static char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { %s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 256 }\n    batch: 16\n"
             "    max_held: 1\n    slots: %s\n    fields: { x: { dtype: uint8, shape: [262144] } }\n",
             of_daemon, slots);
    return yaml;
}

static void expect_words(const char *words)
{
    char *said = daemon_output(pfeedd);

    CHECK(strstr(said, words), "pfeedd does not say '%s', but: %s", words, said);
    free(said);
}

static int try(const char *yaml)
{
    pfeedd = &daemons[n_daemons++];
    return daemon_try(pfeedd, yaml);
}

static void expect_refusal(const char *yaml, const char *words)
{
    int status = try(yaml);

    CHECK(status == REFUSED, "pfeedd ended with %d (-1: it runs), not %d", status, REFUSED);
    expect_words(words);
}

static struct pf_row_daemon started(const char *yaml)
{
    struct pf_row_daemon row;
    int status = try(yaml);

    CHECK(status == -1, "the daemon ended with exit status %d before it was ready", status);
    stat_daemon(pfeedd, &row);
    return row;
}

/* It runs, with fewer slots than it was told to have, and says so. */
static void expect_fewer(const char *yaml, uint32_t slots, const char *words)
{
    struct pf_row_daemon row = started(yaml);
    struct pf_row_feed feed = feed_now(pfeedd, "spine");

    CHECK(feed.n_slots < slots && feed.n_slots >= 4, "%u slots of %u", feed.n_slots, slots);
    CHECK(strstr(row.status, " slots, memory is short"), "the status is: %s", row.status);
    expect_words(words);
    daemon_stop(pfeedd);
}

static void train_once(void)
{
    struct plan plan = { .daemon = pfeedd, .feed = "spine", .epochs = 1, .history = history_create(16, 256) };

    trainer_wait(trainer_start("trainer", train, &plan));
    history_check(plan.history, "trainer", 1, 16);
    history_destroy(plan.history);
}

/* Whoever allocates first and compares afterwards has had it all. */
static void check_small(uint64_t peak, const char *what)
{
    CHECK(peak < (sanitized(NULL) ? 160 : 40) * MIB, "the %s of a refused pfeedd is %llu MiB", what,
          (unsigned long long)(peak / MIB));
}

static uint64_t peak_of_children(void)
{
    struct rusage usage;

    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0, "getrusage: %s", strerror(errno));
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* ---- memory of the machine ------------------------------------------------------------------------------------------ */

static void run_ram(const void *arg)
{
    expect_refusal(recipe("workers: 1, memory: 512TiB", "6"), "`daemon: memory` is 536870912 MiB, more than the ");
    check_small(peak_of_children(), "resident memory");
    expect_refusal(recipe("workers: 1, memory: 16MiB", "6"), "and the budget is 16 MiB; raise `daemon: memory`");
    check_small(peak_of_children(), "resident memory");
}

static void small_files(void)
{
    const struct rlimit limit = { 8 * MIB, 8 * MIB };

    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

/* A limit that is not one on memory, but counts for files in it. */
static void run_fsize(const void *arg)
{
    daemon_prepare = small_files;
    expect_refusal(recipe("workers: 1, memory: 64MiB", "6"),
                   "cannot reserve 25 MiB of shared memory (memfd): File too large; raise the limit on the size of files "
                   "(LimitFSIZE=, `ulimit -f`)");
}

/* ---- a control group ------------------------------------------------------------------------------------------------ */

static struct cgroup group;

static void join_group(void)
{
    cgroup_join(&group);
}

/* Holds 100 MiB of the group's until it is killed. */
static void occupy(void *arg)
{
    uint32_t *there = arg;
    void *memory;

    cgroup_join(&group);
    memory = mmap(NULL, 100 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap: %s", strerror(errno));
    word_set(there, 1);
    word_await(there, 2);
    munmap(memory, 100 * MIB);
}

static uint64_t group_peak(void)
{
    return cgroup_number(&group, "memory.max_usage_in_bytes", "memory.peak", "");
}

static void run_group(const void *arg)
{
    uint32_t *there = shared_memory(sizeof(*there));
    struct pf_row_daemon row;
    struct trainer *other;
    char words[320];

    cgroup_create(&group, "memory");
    cgroup_write(&group, "memory.limit_in_bytes", "memory.max", "268435456");
    daemon_prepare = join_group;
    snprintf(words, sizeof(words), "`daemon: memory` is 512 MiB, more than the 256 MiB of %s/%s; lower it", group.folder,
             group.v2 ? "memory.max" : "memory.limit_in_bytes");
    expect_refusal(recipe("workers: 1, memory: 512MiB", "70"), words);
    check_small(group_peak(), "group's peak");
    other = trainer_start("occupant", occupy, there);
    word_await(there, 1);
    /* What is there, but not free just now: fewer slots, as long as there are enough to work with. */
    snprintf(words, sizeof(words), "memory is short just now (what is left of %s/", group.folder);
    if (!sanitized(NULL)) /* whose own memory would not fit beside it */
        expect_fewer(recipe("workers: 1, memory: 250MiB", "50"), 50, words);
    word_set(there, 2);
    trainer_wait(other);
    row = started(recipe("workers: 1, memory: 160MiB", "32"));
    CHECK(row.memory_used_bytes > 128 * MIB && row.memory_used_bytes <= 160 * MIB, "it uses %llu MiB",
          (unsigned long long)(row.memory_used_bytes / MIB));
    train_once();
    daemon_stop(pfeedd);
    row = started(recipe("workers: 1", "auto"));
    CHECK(row.memory_bytes == 64 * MIB, "the default in a group of 256 MiB is %llu bytes", (unsigned long long)row.memory_bytes);
    train_once();
    daemon_stop(pfeedd);
    CHECK(cgroup_number(&group, "memory.oom_control", "memory.events", "oom_kill ") == 0, "somebody was killed for memory");
    cgroup_remove(&group);
}

/* ---- a daemon that was killed --------------------------------------------------------------------------------------- */

#define PLANNED 36u /* slots: 60 % of the group */

struct old {
    struct plan plan;
    uint32_t holds;
};

/* Keeps the arena mapped. */
static void hold_on(void *arg)
{
    struct old *old = arg;
    struct pfeed *pf = plan_open(&old->plan);

    must_next(pf);
    word_set(&old->holds, 1);
    word_await(&old->holds, 2);
}

/* Three epochs, which want more slots than there are. */
static struct history *train_long(void)
{
    struct plan plan = { .daemon = pfeedd, .feed = "spine", .epochs = 3, .history = history_create(48, 768) };

    trainer_wait(trainer_start("trainer", train, &plan));
    history_check(plan.history, "trainer", 3, 16);
    return plan.history;
}

static void expect_same(const struct history *a, const struct history *b)
{
    for (uint64_t i = 0; i < a->n_rows; i++)
        CHECK(a->rows[i].id == b->rows[i].id && a->rows[i].hash == b->rows[i].hash, "row %llu is another", (unsigned long long)i);
}

static bool status_has(const char *words)
{
    struct pf_row_daemon row;

    stat_daemon(pfeedd, &row);
    return strstr(row.status, words);
}

struct restart {
    const char *shm;
    bool filled; /* the new slots are filled as soon as they come: else they are there by themselves */
};

static void run_restart(const void *arg)
{
    const struct restart *how = arg;
    struct old *old = shared_memory(sizeof(*old));
    struct history *before, *after;
    struct trainer *holder, *waiter = NULL;
    struct process process;
    struct pf_row_feed few;
    char words[96];

    if (sanitized(NULL))
        skip("what a sanitizer takes beside it does not fit");
    cgroup_create(&group, "memory");
    cgroup_write(&group, "memory.limit_in_bytes", "memory.max", "268435456");
    daemon_prepare = join_group;
    snprintf(words, sizeof(words), "workers: 1, memory: 154MiB, shm: %s", how->shm);
    started(recipe(words, "36"));
    CHECK(feed_now(pfeedd, "spine").n_slots == PLANNED, "it has fewer slots from the start");
    before = train_long();
    old->plan = (struct plan){ .daemon = pfeedd, .feed = "spine" };
    holder = trainer_start("holder", hold_on, old);
    word_await(&old->holds, 1);
    trainer_stop(holder);
    daemon_kill(pfeedd);
    daemon_again(pfeedd);
    few = feed_now(pfeedd, "spine");
    note("%u of %u slots", few.n_slots, PLANNED);
    CHECK(few.n_slots >= 4 && few.n_slots < PLANNED && few.n_slots + few.slots_short == PLANNED, "%u slots, and %llu short",
          few.n_slots, (unsigned long long)few.slots_short);
    snprintf(words, sizeof(words), "%u of %u slots, memory is short", few.n_slots, PLANNED);
    CHECK(status_has(words), "the status does not say '%s'", words);
    after = train_long();
    expect_same(before, after);
    history_destroy(after);
    if (how->filled) { /* somebody is there all the time, and takes nothing more: every slot is filled for him */
        waiter = trainer_start("waiter", hold_on, &(struct old){ .plan = { .daemon = pfeedd, .feed = "spine" } });
        UNTIL(feed_now(pfeedd, "spine").ready + feed_now(pfeedd, "spine").held == few.n_slots);
    }
    trainer_kill(holder);
    UNTIL(feed_now(pfeedd, "spine").n_slots == PLANNED);
    process_measure(pfeedd->pid, &process);
    CHECK(process.shmem_bytes >= PLANNED * 4 * MIB, "only %llu MiB of all slots are there",
          (unsigned long long)(process.shmem_bytes / MIB));
    if (how->filled) {
        UNTIL(feed_now(pfeedd, "spine").ready + feed_now(pfeedd, "spine").held == PLANNED);
        trainer_kill(waiter);
    }
    CHECK(!status_has("memory is short") && feed_now(pfeedd, "spine").slots_short == 0, "it still says that memory is short");
    expect_words("memory has returned, all 36 slots are there");
    after = train_long();
    expect_same(before, after);
    daemon_stop(pfeedd);
    CHECK(cgroup_number(&group, "memory.oom_control", "memory.events", "oom_kill ") == 0, "somebody was killed for memory");
    history_destroy(before);
    history_destroy(after);
    cgroup_remove(&group);
}

/* ---- a tree of v2, made by hand ------------------------------------------------------------------------------------- */

static char tree[64];

static void use_tree(void)
{
    char self[96];

    machine_own_mounts();
    snprintf(self, sizeof(self), "%s/self", tree);
    machine_bind(self, "/proc/self/cgroup");
    machine_bind(tree, "/sys/fs/cgroup");
}

static void make_tree(void)
{
    char folder[96];

    machine_need_root();
    strcpy(tree, "/tmp/pfeed-tree-XXXXXX");
    CHECK(mkdtemp(tree), "mkdtemp: %s", strerror(errno));
    machine_write(tree, "self", "0::/above/own\n");
    snprintf(folder, sizeof(folder), "%s/above", tree);
    CHECK(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
    strcat(folder, "/own");
    CHECK(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
    machine_write(folder, "memory.max", "max\n");
    machine_write(folder, "cpu.max", "max 100000\n");
    daemon_prepare = use_tree;
}

static void run_v2(const void *arg)
{
    struct pf_row_daemon row;

    make_tree();
    machine_write(tree, "above/memory.max", "268435456\n");
    machine_write(tree, "above/memory.current", "251658240\n");
    machine_write(tree, "above/memory.stat", "anon 100663296\nfile 150994944\ninactive_file 100663296\nactive_file 50331648\n");
    expect_refusal(recipe("workers: 1, memory: 268435457", "6"),
                   "`daemon: memory` is 257 MiB, more than the 256 MiB of /sys/fs/cgroup/above/memory.max; lower it");
    expect_fewer(recipe("workers: 1, memory: 256MiB", "50"), 50,
                 "memory is short just now (what is left of /sys/fs/cgroup/above/memory.max): ");
    /* Not even the least number of slots: 3 of 4 MiB. */
    machine_write(tree, "above/memory.current", "264241152\n");
    machine_write(tree, "above/memory.stat", "anon 264241152\nfile 0\ninactive_file 0\nactive_file 0\n");
    expect_refusal(recipe("workers: 1, memory: 256MiB", "50"),
                   "and only 4 MiB are to be had (what is left of /sys/fs/cgroup/above/memory.max); lower");
    machine_write(tree, "above/memory.current", "100663296\n");
    machine_write(tree, "above/memory.stat", "anon 100663296\nfile 0\ninactive_file 0\nactive_file 0\n");
    row = started(recipe("workers: 1", "auto"));
    CHECK(row.memory_bytes == 64 * MIB, "the default under 256 MiB is %llu bytes", (unsigned long long)row.memory_bytes);
    daemon_stop(pfeedd);
    machine_write(tree, "above/own/memory.high", "134217728\n");
    expect_refusal(recipe("workers: 1, memory: 129MiB", "6"),
                   "more than the 128 MiB of /sys/fs/cgroup/above/own/memory.high; lower it");
    remove_folder(tree);
}

/* ---- /dev/shm ------------------------------------------------------------------------------------------------------- */

static void small_shm(void)
{
    machine_own_mounts();
    machine_mount_tmpfs("/dev/shm", "size=16m", 0);
}

/* It looks as if there were room, and then somebody else has taken it: nobody says how much there is. */
static void shm_of_others(void)
{
    const struct denial denial = { .call = SYS_statfs, .error = EPERM };

    small_shm();
    machine_fill("/dev/shm");
    machine_deny(&denial, 1);
}

static void run_shm(const void *arg)
{
    struct pf_row_daemon row;

    machine_need_root();
    daemon_prepare = small_shm;
    expect_refusal(recipe("workers: 1, memory: 64MiB, shm: posix", "6"),
                   "the arenas take 25 MiB, and /dev/shm has only 16 MiB free; make it larger, use `shm: memfd`, or lower "
                   "`daemon: memory` or `slots`");
    check_small(peak_of_children(), "resident memory");
    row = started(recipe("workers: 1, shm: posix", "auto"));
    CHECK(strcmp(row.shm, "posix") == 0 && row.memory_bytes == 16 * MIB, "shm is %s, the budget %llu bytes", row.shm,
          (unsigned long long)row.memory_bytes);
    train_once();
    daemon_stop(pfeedd);
    row = started(recipe("workers: 1, memory: 64MiB, shm: memfd", "6")); /* has no need of /dev/shm */
    daemon_stop(pfeedd);
    daemon_prepare = shm_of_others;
    expect_refusal(recipe("workers: 1, memory: 64MiB, shm: posix", "6"),
                   "cannot reserve 25 MiB of shared memory (posix): No space left on device; lower `memory` or `slots`");
}

/* ---- cores ---------------------------------------------------------------------------------------------------------- */

static uint32_t cores(void)
{
    cpu_set_t set;

    CHECK(sched_getaffinity(0, sizeof(set), &set) == 0, "sched_getaffinity: %s", strerror(errno));
    return (uint32_t)CPU_COUNT(&set);
}

static void check_workers(uint32_t n, const char *why)
{
    struct pf_row_daemon row = started(recipe("memory: 64MiB", "4"));

    CHECK(row.workers == n, "%s: %u workers, not %u", why, row.workers, n);
    train_once();
    daemon_stop(pfeedd);
}

static void one_core(void)
{
    cpu_set_t set, one;
    int cpu = 0;

    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof(set), &set);
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    CPU_SET(cpu, &one);
    CHECK(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity: %s", strerror(errno));
}

static void run_one_core(const void *arg)
{
    check_workers(cores(), "all cores");
    daemon_prepare = one_core;
    check_workers(1, "one core");
}

static void run_quota(const void *arg)
{
    cgroup_create(&group, "cpu");
    daemon_prepare = join_group;
    cgroup_write(&group, "cpu.cfs_quota_us", "cpu.max", group.v2 ? "50000 100000" : "50000");
    check_workers(1, "half a core");
    cgroup_write(&group, "cpu.cfs_quota_us", "cpu.max", group.v2 ? "150000 100000" : "150000");
    check_workers(cores() < 2 ? 1 : 2, "one core and a half");
    cgroup_remove(&group);
}

static void run_cpuset(const void *arg)
{
    cgroup_create(&group, "cpuset");
    if (group.v2) {
        cgroup_remove(&group);
        skip("of v2 as of sched_setaffinity");
    }
    cgroup_write(&group, "cpuset.mems", "", "0");
    cgroup_write(&group, "cpuset.cpus", "", "0");
    daemon_prepare = join_group;
    check_workers(1, "a cpuset of one core");
    cgroup_remove(&group);
}

static void run_v2_quota(const void *arg)
{
    if (cores() < 2)
        skip("there is but one core");
    make_tree();
    machine_write(tree, "above/cpu.max", "100001 100000\n");
    check_workers(2, "a little more than one core above");
    machine_write(tree, "above/own/cpu.max", "10000 100000\n");
    check_workers(1, "a tenth of a core of its own");
    remove_folder(tree);
}

int main(int argc, char **argv)
{
    static const struct restart restarts[] = { { "memfd", true }, { "posix", false } };
    static const struct test tests[] = {
        { "more than the machine's memory", run_ram, NULL },
        { "a limit on the size of files", run_fsize, NULL },
        { "a group of 256 MiB", run_group, NULL },
        { "started anew at 60 % of a group, memfd", run_restart, &restarts[0] },
        { "started anew at 60 % of a group, posix", run_restart, &restarts[1] },
        { "limits of v2, and of those above", run_v2, NULL },
        { "/dev/shm of 16 MiB", run_shm, NULL },
        { "one core", run_one_core, NULL },
        { "a quota of cores", run_quota, NULL },
        { "a quota of cores of v2", run_v2_quota, NULL },
        { "a cpuset", run_cpuset, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
