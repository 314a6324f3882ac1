/* SPDX-License-Identifier: MIT */
/*
 * A source of very many files: while it is listed the daemon answers, and says how far it is, to pfeedctl, to a service manager and
 * to trainers who come early (who wait); SIGTERM ends the listing; what was listed is kept for the next start, which finds the same
 * within two seconds, in at most 100 bytes a sample. A million empty files in a tmpfs; fewer, as is said then, where memory is short
 * (bench_scan has the same of the source alone, and of a list).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "withheld.h"

#define FILES       1000u /* in each folder */
#define ALL         1000u /* folders */
#define SOME        200u  /* where it need not be all, and at least */
#define FILE_BYTES  1500u /* of kernel memory that an empty file of a tmpfs takes, roughly */
#define MOST_BYTES  100u  /* of the daemon's memory, a sample */
#define MOST_NS     (2 * SECOND)
#define LISTENED_MS 200 /* a notice comes within that */

static struct daemon daemons[2];
static char folder[] = "/tmp/pfeed-scan-XXXXXX";

/* How many of `folders` there is memory for. */
static unsigned afford(unsigned folders)
{
    unsigned long long kib = 0, can;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "re");

    CHECK(file, "cannot read /proc/meminfo");
    while (fgets(line, sizeof(line), file))
        sscanf(line, "MemAvailable: %llu kB", &kib);
    fclose(file);
    can = kib * 1024 / 2 / (FILES * FILE_BYTES);
    if (can < SOME) /* what else the daemon takes would count */
        skip("no memory for 200,000 files");
    return can < folders ? (unsigned)can : folders;
}

/* Numbers first, first + 2 and so on. */
static void make_folders(unsigned first, unsigned n)
{
    const struct timespec past[2] = { { .tv_sec = 1000000000 },
                                      { .tv_sec = 1000000000 } }; /* or they would be too young to keep */
    char name[128];

    for (unsigned f = first; f < n; f += 2) {
        int fd;

        snprintf(name, sizeof(name), "%s/class%04u", folder, f);
        CHECK(mkdir(name, 0755) == 0, "cannot make %s: %s", name, strerror(errno));
        fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fd >= 0, "cannot open %s: %s", name, strerror(errno));
        for (unsigned i = 0; i < FILES; i++) {
            snprintf(name, sizeof(name), "n%04u_%05u.jpg", f, i);
            CHECK(mknodat(fd, name, S_IFREG | 0644, 0) == 0, "cannot make %s: %s", name, strerror(errno));
        }
        CHECK(futimens(fd, past) == 0, "cannot set a folder's time: %s", strerror(errno));
        close(fd);
    }
}

static void make_odd_folders(void *n)
{
    make_folders(1, *(const unsigned *)n);
}

/* In a mount namespace of the test's own, so that nothing stays behind. Returns how many files there are. */
static unsigned make_files(unsigned folders)
{
    const struct timespec past[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    unsigned n = afford(folders);
    struct trainer *other;

    CHECK(mkdtemp(folder), "cannot make a folder");
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "nr_inodes=0,size=512m") != 0)
        skip("no mount namespace, or no tmpfs");
    other = trainer_start("other", make_odd_folders, &n);
    make_folders(0, n);
    trainer_wait(other);
    CHECK(utimensat(AT_FDCWD, folder, past, 0) == 0, "cannot set the time of %s", folder);
    return n * FILES;
}

static void begin(struct daemon *daemon)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 256MiB }\nfeeds:\n  files:\n"
             "    source: { type: directory, path: %s }\n    batch: 8\n    slots: 4\n    fields: { label: {} }\n",
             folder);
    daemon_begin(daemon, yaml);
    UNTIL(daemon_connects(daemon));
}

/* What the service manager is told, and what the daemon answers, until READY. */
struct heard {
    unsigned by_notice, by_stat;
    uint64_t least, most; /* samples so far */
};

static void hear(const char *text, unsigned *count, struct heard *heard)
{
    unsigned long long so_far;
    const char *at = strstr(text, "feed 'files' is being listed: ");

    if (!at || sscanf(at, "feed 'files' is being listed: %llu samples so far", &so_far) != 1)
        return;
    ++*count;
    heard->least = so_far < heard->least ? so_far : heard->least;
    heard->most = so_far > heard->most ? so_far : heard->most;
}

static void take_one(void *arg)
{
    struct pfeed *pf = plan_open(arg);

    must_done(pf, must_next(pf));
    pfeed_close(pf);
}

/* Like daemon_start, but looking on; with a trainer that comes early, and waits. */
static struct trainer *start_and_watch(struct daemon *daemon, struct plan *plan, struct heard *heard)
{
    struct pf_row_daemon row;
    struct trainer *early;
    bool ready = false;

    begin(daemon);
    early = trainer_start("early", take_one, plan);
    *heard = (struct heard){ .least = UINT64_MAX };
    for (struct patience patience = patience_start(); !ready; patience_wait(&patience, __FILE__, __LINE__, "READY=1")) {
        char text[4096];
        ssize_t n;

        while ((n = recv(daemon->notify, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
            text[n] = 0;
            hear(text, &heard->by_notice, heard);
            ready |= strstr(text, "READY=1") != NULL;
        }
        stat_daemon(daemon, &row);
        hear(row.status, &heard->by_stat, heard);
    }
    return early;
}

/* The inode of the one manifest in the daemon's state folder: a scan would have written it anew. */
static uint64_t manifest_inode(const struct daemon *daemon)
{
    char path[512];
    struct dirent *entry;
    struct stat st;
    uint64_t inode = 0;
    DIR *state = opendir(daemon->folder);

    CHECK(state, "cannot list %s", daemon->folder);
    while ((entry = readdir(state))) {
        snprintf(path, sizeof(path), "%s/%s", daemon->folder, entry->d_name);
        if (strstr(entry->d_name, ".manifest") && stat(path, &st) == 0) {
            CHECK(inode == 0, "more than one manifest");
            inode = st.st_ino;
        }
    }
    closedir(state);
    CHECK(inode, "there is no manifest in %s", daemon->folder);
    return inode;
}

/* With what was kept: the same samples, soon. */
static void start_again(struct daemon *daemon, unsigned total)
{
    const uint64_t inode = manifest_inode(daemon);
    int64_t start_ns, took_ns, withheld_for_ns;
    struct withheld withheld;
    struct pf_row_daemon row;

    withheld_start(&withheld, (const pid_t[]){ 0 });
    start_ns = now_ns();
    daemon_again(daemon);
    took_ns = now_ns() - start_ns;
    withheld_born(&withheld, daemon->pid);
    withheld_for_ns = withheld_ns(&withheld);
    stat_daemon(daemon, &row);
    note("next start: %.2f s from its exec to READY, %.2f s of them withheld by the machine; %.1f bytes a sample",
         (double)took_ns / 1e9, (double)withheld_for_ns / 1e9, (double)row.memory_used_bytes / total);
    CHECK(manifest_inode(daemon) == inode, "the files were listed anew");
    CHECK(feed_now(daemon, "files").samples == total, "%llu samples of the manifest",
          (unsigned long long)feed_now(daemon, "files").samples);
    CHECK(took_ns - withheld_for_ns <= scaled_ns(MOST_NS), "the next start took more than 2 s");
    CHECK(row.memory_used_bytes <= (uint64_t)total * MOST_BYTES, "%llu bytes of memory for %u samples",
          (unsigned long long)row.memory_used_bytes, total);
}

static void run_scan(const void *arg)
{
    struct plan plan = { .daemon = &daemons[0], .feed = "files" };
    struct trainer *early;
    struct heard heard;
    unsigned total;

    (void)arg;
    total = make_files(ALL);
    note("%u files%s", total, total == ALL * FILES ? "" : ", as memory is short");
    early = start_and_watch(&daemons[0], &plan, &heard);
    note("first start: %u notices and %u answers while it listed, from %llu to %llu samples", heard.by_notice, heard.by_stat,
         (unsigned long long)heard.least, (unsigned long long)heard.most);
    CHECK(heard.by_stat > 0 && heard.most > 0 && heard.most <= total, "nothing was said of %u samples", total);
    /* Each answer came a millisecond after the one before. */
    CHECK(heard.by_stat < LISTENED_MS || (heard.by_notice > 0 && heard.least < heard.most), "no progress in what was said");
    CHECK(feed_now(&daemons[0], "files").samples == total, "%llu samples",
          (unsigned long long)feed_now(&daemons[0], "files").samples);
    trainer_wait(early);
    daemon_stop(&daemons[0]);
    start_again(&daemons[0], total);
    daemon_stop(&daemons[0]);
    umount2(folder, MNT_DETACH);
    rmdir(folder);
}

/* A list that alone is more than all that the daemon may take ends the listing, not the machine's memory. */
static void run_too_many(const void *arg)
{
    char yaml[512], *said;

    (void)arg;
    make_files(SOME);
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 4MiB }\nfeeds:\n  files:\n"
             "    source: { type: directory, path: %s }\n    batch: 8\n    slots: 4\n    fields: { label: {} }\n",
             folder);
    CHECK(daemon_try(&daemons[0], yaml) == 78, "pfeedd did not end with 78");
    said = daemon_output(&daemons[0]);
    CHECK(strstr(said, "does not fit into the 4 MiB of `daemon: memory`; raise it"), "pfeedd says: %s", said);
    free(said);
    umount2(folder, MNT_DETACH);
    rmdir(folder);
}

/* SIGTERM in the middle of the listing. */
static void run_stop(const void *arg)
{
    struct pf_row_daemon row = { .status = "" };

    (void)arg;
    make_files(SOME);
    begin(&daemons[1]);
    UNTIL((stat_daemon(&daemons[1], &row), strstr(row.status, "is being listed") || strstr(row.status, "in use")));
    daemon_stop(&daemons[1]);
    umount2(folder, MNT_DETACH);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "progress, and kept", run_scan, NULL },
        { "stopped while it lists", run_stop, NULL },
        { "too many for the budget", run_too_many, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
