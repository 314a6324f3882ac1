/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 10, and section 6: no byte of the arena changes whatever a consumer tries, and nothing that it maps
 * can be resized under the daemon. The attacker attaches by the control messages themselves, so that it has the very descriptors
 * that libpfeed closes. An honest map of the arena, made by the test, is hashed before and after each way.
 *
 * memfd arenas hold against everybody, root included. posix arenas have no seals, so they hold against other uids only (DESIGN
 * says so); the same uid is not tried there. Lanes are memfds always. Only the parts where somebody becomes another user need
 * root; as root, the same uid is tried twice: as root on both sides, and as an ordinary user on both sides.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lane.h"

#define OTHER 65534u
#define OWN   UINT32_MAX
#define BATCH 8u
#define SLOTS 4u

static struct daemon pfeedd;

struct attack {
    const char *shm;
    uid_t daemon_uid, uid;        /* UINT32_MAX: this process's own */
    uint32_t go, ready, finished; /* words: the attacker waits for go, then tries way after way */
    uint32_t ways, tried;
    uint64_t daemon_map, daemon_size; /* the arena, in the daemon */
    char way[64];                     /* the one that it has just tried */
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

/* A descriptor of the same file that was come by in some other way, and is closed here. */
static void by_descriptor(struct target *t, int fd)
{
    char *map;

    if (fd < 0)
        return;
    if (pwrite(fd, evil, sizeof(evil), 0) > 0)
        note("pwrite through a new descriptor went through");
    scribble(mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    map = mmap(NULL, t->size, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) {
        if (mprotect(map, t->size, PROT_READ | PROT_WRITE) == 0)
            scribble(map);
        madvise(map, t->size, MADV_REMOVE);
        munmap(map, t->size);
    }
    if (ftruncate(fd, 0) == 0 || ftruncate(fd, (off_t)(2 * t->size)) == 0)
        note("resized through a new descriptor");
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)t->size);
    close(fd);
}

static void by_mmap_reopened(struct target *t)
{
    by_descriptor(t, open(t->again, O_RDWR | O_CLOEXEC));
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

/* A second map of the pages, or the same pages in another order. */
static void by_remap(struct target *t)
{
    char *map = mremap(t->map, 0, t->size, MREMAP_MAYMOVE);

    if (map != MAP_FAILED) {
        if (mprotect(map, t->size, PROT_READ | PROT_WRITE) == 0)
            scribble(map);
        munmap(map, t->size);
    }
    if (syscall(SYS_remap_file_pages, t->map, 4096, 0, 1, 0) == 0)
        by_mprotect(t);
    if (syscall(SYS_remap_file_pages, t->map, 4096, PROT_WRITE, 0, 0) == 0)
        scribble(t->map);
}

static void by_vm_write(pid_t pid, void *map)
{
    struct iovec from = { (void *)(uintptr_t)evil, sizeof(evil) }, to = { map, sizeof(evil) };

    if (process_vm_writev(pid, &from, 1, &to, 1, 0) > 0)
        note("process_vm_writev went through");
}

/* Where the kernel itself is asked to write: into the attacker's map ... */
static void by_kernel(struct target *t)
{
    struct iovec from = { (void *)(uintptr_t)evil, sizeof(evil) }, to = { t->map, sizeof(evil) };
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    by_vm_write(getpid(), t->map);
    CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0, "process_vm_readv wrote to a read-only map");
    CHECK(fd >= 0 && read(fd, t->map, 4096) < 0, "read wrote to a read-only map");
    close(fd);
}

/* ... and into the daemon's, which is writable. Who may trace the daemon (root and its own uid do) can do that and anything else to
 * it, so it is tried as another user only. */
static void by_daemon(struct target *t)
{
    char path[64];
    int fd;

    if (attack->uid == attack->daemon_uid)
        return;
    by_vm_write(pfeedd.pid, (void *)(uintptr_t)attack->daemon_map);
    snprintf(path, sizeof(path), "/proc/%d/mem", pfeedd.pid);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd < 0, "%s could be opened", path);
}

/* The daemon's own descriptors, which were opened for writing: the seals are all that holds against root. */
static void by_daemon_files(struct target *t)
{
    char path[96];

    for (int i = 3; i < 64; i++) {
        struct stat own, other;

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", pfeedd.pid, i);
        if (stat(path, &other) == 0 && fstat(t->fd, &own) == 0 && own.st_ino == other.st_ino && own.st_dev == other.st_dev)
            by_descriptor(t, open(path, O_RDWR | O_CLOEXEC));
    }
    snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pfeedd.pid, attack->daemon_map,
             attack->daemon_map + attack->daemon_size);
    by_descriptor(t, open(path, O_RDWR | O_CLOEXEC));
}

static void by_map_files(struct target *t)
{
    char path[96];

    snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)t->map,
             ((uintptr_t)t->map + t->size + 4095) / 4096 * 4096);
    by_descriptor(t, open(path, O_RDWR | O_CLOEXEC));
}

/* UFFDIO_COPY would fill a hole of the file, UFFDIO_WRITEPROTECT lift a page's protection; kernels before 4.20 let both be done to
 * read-only maps. */
static void by_userfault(struct target *t)
{
    const struct uffdio_range all = { (uintptr_t)t->map, (t->size + 4095) / 4096 * 4096 };
    struct uffdio_register missing = { .range = all, .mode = UFFDIO_REGISTER_MODE_MISSING };
    struct uffdio_register protect = { .range = all, .mode = UFFDIO_REGISTER_MODE_WP };
    struct uffdio_copy copy = { .dst = all.start, .len = 4096 };
    struct uffdio_zeropage zero = { .range = { all.start, 4096 } };
    struct uffdio_writeprotect lift = { .range = all };
    struct uffdio_api api = { .api = UFFD_API };
    static char page[4096] __attribute__((aligned(4096)));
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

    if (fd < 0)
        return;
    memcpy(page, evil, sizeof(evil));
    copy.src = (uintptr_t)page;
    CHECK(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API: %s", strerror(errno));
    if (ioctl(fd, UFFDIO_REGISTER, &missing) == 0 || ioctl(fd, UFFDIO_REGISTER, &protect) == 0)
        note("a read-only map could be registered with userfaultfd");
    madvise(t->map, t->size, MADV_REMOVE);
    if (ioctl(fd, UFFDIO_COPY, &copy) == 0 || ioctl(fd, UFFDIO_ZEROPAGE, &zero) == 0)
        note("userfaultfd filled a page");
    if (ioctl(fd, UFFDIO_WRITEPROTECT, &lift) == 0)
        by_vm_write(getpid(), t->map);
    close(fd);
}

static const struct {
    const char *name;
    void (*try)(struct target *target);
} ways[] = {
    { "pwrite", by_pwrite },
    { "mmap for writing", by_mmap },
    { "mprotect", by_mprotect },
    { "opening again", by_mmap_reopened },
    { "fchmod", by_chmod },
    { "ftruncate", by_truncate },
    { "punching holes", by_hole },
    { "MADV_REMOVE", by_remove },
    { "/proc/self/mem", by_mem },
    { "adding seals", by_seals },
    { "mremap", by_mremap },
    { "mapping again", by_remap },
    { "writes by the kernel", by_kernel },
    { "the daemon's memory", by_daemon },
    { "the daemon's files", by_daemon_files },
    { "/proc/self/map_files", by_map_files },
    { "userfaultfd", by_userfault },
};
#define WAYS ((uint32_t)(sizeof(ways) / sizeof(ways[0])))

static void try_all(int fd, size_t size)
{
    const char *look = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    uint64_t before = hash_bytes(1, look, size);

    for (uint32_t w = 0; w < WAYS; w++) {
        struct target target = { .fd = fd, .size = size };

        target.map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(target.map != MAP_FAILED, "mmap: %s", strerror(errno));
        snprintf(target.again, sizeof(target.again), "/proc/self/fd/%d", fd);
        snprintf(attack->way, sizeof(attack->way), "%s", ways[w].name);
        ways[w].try(&target);
        munmap(target.map, size);
        CHECK(hash_bytes(1, look, size) == before, "%s changed a byte", ways[w].name);
        word_add(&attack->tried, 1);
        word_await(&attack->go, attack->tried + 1); /* the test looks */
    }
    munmap((void *)(uintptr_t)look, size);
}

static void become(uid_t uid)
{
    if (uid == OWN)
        return;
    CHECK(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0, "setuid: %s", strerror(errno));
    /* Else the change of user keeps it out of its own /proc/self, which would refuse many a way before the arena does. */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0, "prctl: %s", strerror(errno));
}

static void attacker(void *arg)
{
    struct lane lane;

    become(attack->uid);
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

/* Where the daemon has the file of this descriptor mapped. */
static void find_map(int fd)
{
    unsigned long long start, end, inode;
    char path[64], line[512], access[5];
    struct stat status;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/maps", pfeedd.pid);
    file = fopen(path, "re");
    CHECK(file && fstat(fd, &status) == 0, "cannot read %s", path);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "%llx-%llx %4s %*s %*s %llu", &start, &end, access, &inode) == 4 && inode == status.st_ino &&
            strcmp(access, "rw-s") == 0) {
            attack->daemon_map = start;
            attack->daemon_size = end - start;
        }
    fclose(file);
    CHECK(attack->daemon_map, "the daemon has not mapped the arena");
}

/* ---- the test ------------------------------------------------------------------------------------------------------- */

static void prepare_daemon(void)
{
    char notify[80];

    snprintf(notify, sizeof(notify), "%s/notify", pfeedd.folder);
    CHECK(chown(notify, attack->daemon_uid, attack->daemon_uid) == 0 &&
              chown(pfeedd.folder, attack->daemon_uid, attack->daemon_uid) == 0 &&
              chown(pfeedd.config, attack->daemon_uid, attack->daemon_uid) == 0,
          "chown: %s", strerror(errno));
    become(attack->daemon_uid);
}

static void run_attack(const void *arg)
{
    const struct attack *plan = arg;
    struct trainer *trainer;
    struct lane lane;
    uint64_t before, after;
    char yaml[512];
    uint8_t *map;

    if (geteuid() != 0 && (plan->uid != OWN || plan->daemon_uid != OWN))
        skip("needs root, to become another user");
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB, shm: %s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: "
             "256 }\n"
             "    batch: %u\n    slots: %u\n    gang: 3\n    warm: yes\n    access: { users: [%u, %u] }\n"
             "    fields: { x: { dtype: float32, shape: [1024] } }\n",
             plan->shm, BATCH, SLOTS, geteuid(), OTHER);
    attack = shared_memory(sizeof(*attack));
    *attack = *plan;
    daemon_prepare = plan->daemon_uid == OWN ? NULL : prepare_daemon;
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0755) == 0, "chmod: %s", strerror(errno));
    /* The gang of 3 never comes together, so that nothing is written while the bytes are watched; `warm` has filled them. */
    UNTIL(feed_now(&pfeedd, "spine").ready == SLOTS);
    lane_open(&lane, &pfeedd, "spine", 0);
    map = mmap(NULL, lane.reply.arena_size, PROT_READ, MAP_SHARED, lane.fds[PF_FD_ARENA], 0);
    CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
    find_map(lane.fds[PF_FD_ARENA]);
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
    note("%u ways on arena and grant page, as uid %u, shm: %s", WAYS, attack->uid == OWN ? geteuid() : attack->uid, attack->shm);
    munmap(map, lane.reply.arena_size);
    lane_close(&lane);
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct attack same = { "memfd", OWN, OWN }, nobodies = { "memfd", OTHER, OTHER },
                               other = { "memfd", OWN, OTHER }, posix_other = { "posix", OWN, OTHER };
    static const struct test tests[] = {
        { "memfd, the same uid", run_attack, &same },
        { "memfd, an ordinary uid on both sides", run_attack, &nobodies },
        { "memfd, another uid", run_attack, &other },
        { "posix, another uid", run_attack, &posix_other },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
