/* SPDX-License-Identifier: MIT */
/* See withheld.h. */
#include "withheld.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* 0 where the kernel keeps no such books, or the thread has ended. */
static int64_t queued_ns(pid_t pid, pid_t tid)
{
    long long ran, queued = 0;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%lld %lld", &ran, &queued) != 2)
        queued = 0;
    fclose(file);
    return queued;
}

static int64_t stolen_ns(void)
{
    FILE *file = fopen("/proc/stat", "re");
    long long ticks = 0;

    CHECK(file, "cannot read /proc/stat");
    if (fscanf(file, "cpu %*d %*d %*d %*d %*d %*d %*d %lld", &ticks) != 1)
        ticks = 0;
    fclose(file);
    return ticks * (SECOND / sysconf(_SC_CLK_TCK));
}

static void add_threads(struct withheld *withheld, pid_t pid, bool born)
{
    char path[64];
    DIR *folder;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    folder = opendir(path);
    CHECK(folder, "process %d is not there", pid);
    for (struct dirent *entry; (entry = readdir(folder));) {
        pid_t tid = atoi(entry->d_name);

        if (tid <= 0)
            continue;
        CHECK(withheld->n < WITHHELD_THREADS, "more than %u threads", WITHHELD_THREADS);
        withheld->threads[withheld->n].pid = pid;
        withheld->threads[withheld->n].tid = tid;
        withheld->threads[withheld->n++].before_ns = born ? 0 : queued_ns(pid, tid);
    }
    closedir(folder);
}

void withheld_start(struct withheld *withheld, const pid_t *pids)
{
    withheld->n = 0;
    for (; *pids; pids++)
        add_threads(withheld, *pids, false);
    withheld->stolen_ns = stolen_ns();
}

void withheld_born(struct withheld *withheld, pid_t pid)
{
    add_threads(withheld, pid, true);
}

int64_t withheld_ns(const struct withheld *withheld)
{
    int64_t sum = stolen_ns() - withheld->stolen_ns, most = 0;

    for (unsigned i = 0; i < withheld->n; i++) {
        int64_t after_ns = queued_ns(withheld->threads[i].pid, withheld->threads[i].tid);
        int64_t queued = after_ns > withheld->threads[i].before_ns ? after_ns - withheld->threads[i].before_ns : 0;

        if (withheld->threads[i].tid == withheld->threads[i].pid)
            sum += queued;
        else if (queued > most)
            most = queued;
        if (i + 1 == withheld->n || withheld->threads[i + 1].pid != withheld->threads[i].pid) {
            sum += most;
            most = 0;
        }
    }
    return sum;
}
