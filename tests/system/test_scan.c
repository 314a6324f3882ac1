/* SPDX-License-Identifier: MIT */
/*
 * A source of very many files: while it is listed the daemon answers, and says how far it is, to pfeedctl, to a service manager and
 * to trainers who come early (who wait); SIGTERM ends the listing; what was listed is kept for the next start, which finds the same.
 * 200,000 empty files in a tmpfs (bench_scan has a million, and the times).
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
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"

#define FOLDERS 200u
#define FILES   1000u /* in each */
#define TOTAL   (FOLDERS * FILES)

static struct daemon daemons[2];
static char folder[] = "/tmp/pfeed-scan-XXXXXX";

/* In a mount namespace of the test's own, so that nothing stays behind. */
static void make_files(void)
{
    const struct timeval old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
    char path[128];

    CHECK(mkdtemp(folder), "cannot make a folder");
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "nr_inodes=0,size=512m") != 0)
        skip("no mount namespace, or no tmpfs");
    for (unsigned f = 0; f < FOLDERS; f++) {
        snprintf(path, sizeof(path), "%s/class%04u", folder, f);
        CHECK(mkdir(path, 0755) == 0, "cannot make %s", path);
        for (unsigned i = 0; i < FILES; i++) {
            int fd;

            snprintf(path, sizeof(path), "%s/class%04u/n%04u_%05u.jpg", folder, f, f, i);
            fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            CHECK(fd >= 0 && close(fd) == 0, "cannot make %s: %s", path, strerror(errno));
        }
        snprintf(path, sizeof(path), "%s/class%04u", folder, f);
        CHECK(utimes(path, old) == 0, "cannot set the time of %s", path);
    }
    CHECK(utimes(folder, old) == 0, "cannot set the time of %s", folder);
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

static void run_scan(const void *arg)
{
    struct plan plan = { .daemon = &daemons[0], .feed = "files" };
    struct trainer *early;
    struct heard heard;
    uint64_t inode;

    (void)arg;
    make_files();
    early = start_and_watch(&daemons[0], &plan, &heard);
    note("first start: %u notices and %u answers while it listed, from %llu to %llu samples", heard.by_notice, heard.by_stat,
         (unsigned long long)heard.least, (unsigned long long)heard.most);
    CHECK(heard.by_stat > 0 && heard.most > 0 && heard.most <= TOTAL, "nothing was said of %u samples", TOTAL);
    CHECK(feed_now(&daemons[0], "files").samples == TOTAL, "%llu samples",
          (unsigned long long)feed_now(&daemons[0], "files").samples);
    trainer_wait(early);
    daemon_stop(&daemons[0]);
    /* Once more, with what was kept. */
    inode = manifest_inode(&daemons[0]);
    daemon_again(&daemons[0]);
    CHECK(manifest_inode(&daemons[0]) == inode, "the files were listed anew");
    CHECK(feed_now(&daemons[0], "files").samples == TOTAL, "%llu samples of the manifest",
          (unsigned long long)feed_now(&daemons[0], "files").samples);
    daemon_stop(&daemons[0]);
    umount2(folder, MNT_DETACH);
    rmdir(folder);
}

/* A list that alone is more than all that the daemon may take ends the listing, not the machine's memory. */
static void run_too_many(const void *arg)
{
    char yaml[512], *said;

    (void)arg;
    make_files();
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
    make_files();
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
