/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 10, and section 6: no byte of the arena changes whatever a consumer tries, and nothing that it maps
 * can be resized under the daemon. The attacker attaches by the control messages themselves, so that it has the very descriptors
 * that libpfeed closes. An honest map of the arena, made by the test, is hashed before and after each way.
 *
 * memfd arenas hold against everybody, root included. posix arenas have no seals, so they hold against other uids only (DESIGN
 * says so); the same uid is not tried there. Lanes are memfds always.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lane.h"

#define OTHER 65534u
#define BATCH 8u
#define SLOTS 4u

static struct daemon pfeedd;

struct attack {
    const char *shm;
    uid_t uid;
    uint32_t go, ready, finished; /* words: the attacker waits for go, then tries way after way */
    uint32_t ways, tried;
    char way[64]; /* the one that it has just tried */
};
static struct attack *attack;

/* ---- the ways ------------------------------------------------------------------------------------------------------- */

struct target {
    int fd;
    char *map; /* as a consumer maps it */
    size_t size;
    char again[64]; /* /proc/self/fd/N */
};

static const char evil[] = "this must not be seen by anybody else";

static void scribble(char *map)
{
    if (map != MAP_FAILED)
        memcpy(map, evil, sizeof(evil));
}

static void by_pwrite(struct target *t)
{
    CHECK(pwrite(t->fd, evil, sizeof(evil), 4096) < 0, "pwrite went through");
}

static void by_mmap(struct target *t)
{
    scribble(mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0));
}

static void by_mprotect(struct target *t)
{
    if (mprotect(t->map, t->size, PROT_READ | PROT_WRITE) == 0)
        scribble(t->map);
}

static void by_mmap_reopened(struct target *t)
{
    int fd = open(t->again, O_RDWR);

    if (fd < 0)
        return;
    if (pwrite(fd, evil, sizeof(evil), 0) > 0)
        note("pwrite through a new descriptor went through");
    scribble(mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    t->map = mmap(NULL, t->size, PROT_READ, MAP_SHARED, fd, 0);
    by_mprotect(t);
    madvise(t->map, t->size, MADV_REMOVE);
    if (ftruncate(fd, 0) == 0 || ftruncate(fd, (off_t)(2 * t->size)) == 0)
        note("resized through a new descriptor");
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)t->size);
    close(fd);
}

static void by_chmod(struct target *t)
{
    fchmod(t->fd, 0666);
    by_mmap_reopened(t);
    chmod(t->again, 0666);
    by_mmap_reopened(t);
}

static void by_truncate(struct target *t)
{
    CHECK(ftruncate(t->fd, 0) != 0, "ftruncate to 0 went through");
    CHECK(ftruncate(t->fd, (off_t)(2 * t->size)) != 0, "ftruncate to more went through");
    if (truncate(t->again, 0) == 0)
        note("truncate by path went through");
}

static void by_hole(struct target *t)
{
    CHECK(fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)t->size) != 0, "punching a hole went through");
    fallocate(t->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, (off_t)t->size);
    fallocate(t->fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
}

static void by_remove(struct target *t)
{
    madvise(t->map, t->size, MADV_REMOVE);
    madvise(t->map, t->size, MADV_DONTNEED);
    madvise(t->map, t->size, MADV_FREE);
}

/* The kernel's FOLL_FORCE writes to read-only private maps; of a shared one it must not. */
static void by_mem(struct target *t)
{
    int fd = open("/proc/self/mem", O_RDWR);

    if (fd < 0)
        return;
    if (pwrite(fd, evil, sizeof(evil), (off_t)(uintptr_t)t->map) > 0)
        note("/proc/self/mem took a write");
    close(fd);
}

static void by_seals(struct target *t)
{
    CHECK(fcntl(t->fd, F_ADD_SEALS, F_SEAL_WRITE) != 0, "a seal could be added");
}

static void by_mremap(struct target *t)
{
    char *map = mremap(t->map, t->size, 2 * t->size, MREMAP_MAYMOVE);

    if (map != MAP_FAILED) {
        t->map = map; /* larger, but still read-only and of the same file */
        by_mprotect(t);
    }
}

static const struct {
    const char *name;
    void (*try)(struct target *target);
} ways[] = {
    { "pwrite", by_pwrite },       { "mmap for writing", by_mmap },
    { "mprotect", by_mprotect },   { "opening again", by_mmap_reopened },
    { "fchmod", by_chmod },        { "ftruncate", by_truncate },
    { "punching holes", by_hole }, { "MADV_REMOVE", by_remove },
    { "/proc/self/mem", by_mem },  { "adding seals", by_seals },
    { "mremap", by_mremap },
};
#define WAYS ((uint32_t)(sizeof(ways) / sizeof(ways[0])))

static void try_all(int fd, size_t size)
{
    for (uint32_t w = 0; w < WAYS; w++) {
        struct target target = { .fd = fd, .size = size };

        target.map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(target.map != MAP_FAILED, "mmap: %s", strerror(errno));
        snprintf(target.again, sizeof(target.again), "/proc/self/fd/%d", fd);
        snprintf(attack->way, sizeof(attack->way), "%s", ways[w].name);
        ways[w].try(&target);
        munmap(target.map, size);
        word_add(&attack->tried, 1);
        word_await(&attack->go, attack->tried + 1); /* the test looks */
    }
}

static void attacker(void *arg)
{
    struct lane lane;

    if (attack->uid)
        CHECK(setgroups(0, NULL) == 0 && setgid(attack->uid) == 0 && setuid(attack->uid) == 0, "setuid: %s", strerror(errno));
    lane_open(&lane, &pfeedd, "spine", 0);
    word_set(&attack->ready, 1);
    word_await(&attack->go, 1);
    try_all(lane.fds[PF_FD_ARENA], lane.reply.arena_size);
    try_all(lane.fds[PF_FD_GRANT], sizeof(struct pf_grant_page));
    /* Its return page is its own to write, but not to resize: that would be SIGBUS for the daemon. */
    CHECK(ftruncate(lane.fds[PF_FD_RETURN], 0) != 0, "the return page could be cut");
    CHECK(ftruncate(lane.fds[PF_FD_RETURN], 1 << 20) != 0, "the return page could be made longer");
    word_set(&attack->finished, 1);
    word_await(&attack->go, 2 * WAYS + 2);
    lane_close(&lane);
}

/* ---- the test ------------------------------------------------------------------------------------------------------- */

static void run_attack(const void *arg)
{
    const struct attack *plan = arg;
    struct trainer *trainer;
    struct lane lane;
    uint64_t before, after;
    char yaml[512];
    uint8_t *map;

    if (geteuid() != 0)
        skip("needs root, to become another user");
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB, shm: %s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: "
             "256 }\n"
             "    batch: %u\n    slots: %u\n    gang: 3\n    warm: yes\n    access: { users: [0, %u] }\n"
             "    fields: { x: { dtype: float32, shape: [1024] } }\n",
             plan->shm, BATCH, SLOTS, OTHER);
    attack = shared_memory(sizeof(*attack));
    *attack = *plan;
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0755) == 0, "chmod: %s", strerror(errno));
    /* The gang of 3 never comes together, so that nothing is written while the bytes are watched; `warm` has filled them. */
    UNTIL(feed_now(&pfeedd, "spine").ready == SLOTS);
    lane_open(&lane, &pfeedd, "spine", 0);
    map = mmap(NULL, lane.reply.arena_size, PROT_READ, MAP_SHARED, lane.fds[PF_FD_ARENA], 0);
    CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
    before = hash_bytes(1, map, lane.reply.arena_size);
    CHECK(before != hash_bytes(1, (uint8_t[4096]){ 0 }, 4096), "the arena is empty");
    trainer = trainer_start("attacker", attacker, NULL);
    word_await(&attack->ready, 1);
    for (uint32_t tried = 1; tried <= 2 * WAYS; tried++) {
        word_set(&attack->go, tried);
        word_await(&attack->tried, tried);
        after = hash_bytes(1, map, lane.reply.arena_size);
        CHECK(after == before, "%s as uid %u changed the arena (%s)", attack->way, attack->uid, attack->shm);
    }
    word_set(&attack->go, 2 * WAYS + 1);
    word_await(&attack->finished, 1);
    CHECK(feed_now(&pfeedd, "spine").ready == SLOTS, "the daemon does not go on");
    word_set(&attack->go, 2 * WAYS + 2);
    trainer_wait(trainer);
    note("%u ways on arena and grant page, as uid %u, shm: %s", WAYS, attack->uid, attack->shm);
    munmap(map, lane.reply.arena_size);
    lane_close(&lane);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct attack memfd_same = { .shm = "memfd" }, memfd_other = { .shm = "memfd", .uid = OTHER },
                               posix_other = { .shm = "posix", .uid = OTHER };
    static const struct test tests[] = {
        { "memfd, the same uid", run_attack, &memfd_same },
        { "memfd, another uid", run_attack, &memfd_other },
        { "posix, another uid", run_attack, &posix_other },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
