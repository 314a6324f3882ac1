/* SPDX-License-Identifier: MIT */
/* See budget.h. Walks /proc/self/cgroup upwards, in hierarchies of v1 (memory, cpu) and v2. A file that cannot be read limits
 * nothing. */
#include "budget.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FOLDER 4096 /* as long as a path can be */

/* The number in a file of a control group's folder; UINT64_MAX: none, "max", or not there. */
static uint64_t read_number(const char *folder, const char *file, const char *format)
{
    char path[FOLDER + 64];
    uint64_t value = UINT64_MAX;
    FILE *from;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    from = fopen(path, "re");
    if (!from)
        return UINT64_MAX;
    if (fscanf(from, format, &value) != 1)
        value = UINT64_MAX;
    fclose(from);
    return value;
}

static uint64_t read_meminfo(const char *key)
{
    char line[128], format[64];
    uint64_t kib = 0;
    FILE *from = fopen("/proc/meminfo", "re");

    if (!from)
        return UINT64_MAX;
    snprintf(format, sizeof(format), "%s: %%" SCNu64, key);
    while (fgets(line, sizeof(line), from))
        if (sscanf(line, format, &kib) == 1)
            break;
    fclose(from);
    return kib ? kib * 1024 : UINT64_MAX;
}

/* The page cache that a group's usage counts and that the kernel gives back, as MemAvailable counts it for the machine. */
static uint64_t page_cache(const char *folder, bool v2)
{
    static const char *const keys[2][2] = { { "total_inactive_file ", "total_active_file " },
                                            { "inactive_file ", "active_file " } };
    char path[FOLDER + 64], line[160];
    uint64_t bytes = 0;
    FILE *from;

    snprintf(path, sizeof(path), "%s/memory.stat", folder);
    from = fopen(path, "re");
    if (!from)
        return 0;
    while (fgets(line, sizeof(line), from))
        for (int k = 0; k < 2; k++)
            if (strncmp(line, keys[v2][k], strlen(keys[v2][k])) == 0)
                bytes += strtoull(line + strlen(keys[v2][k]), NULL, 10);
    fclose(from);
    return bytes;
}

static void limit_memory(struct budget_limits *limits, const char *folder, const char *limit_file, uint64_t used)
{
    uint64_t limit = read_number(folder, limit_file, "%" SCNu64), left;

    if (limit >= UINT64_MAX / 4) /* v1 says "none" by a huge number */
        return;
    left = limit > used ? limit - used : 0;
    if (limit < limits->total) {
        limits->total = limit;
        snprintf(limits->total_from, sizeof(limits->total_from), "%.*s/%s", (int)sizeof(limits->total_from) - 64, folder,
                 limit_file);
    }
    if (left < limits->available) {
        limits->available = left;
        snprintf(limits->available_from, sizeof(limits->available_from), "what is left of %.*s/%s",
                 (int)sizeof(limits->available_from) - 64, folder, limit_file);
    }
}

static void limit_cores(double *cores, const char *folder, bool v2)
{
    double quota = -1, period = 100000;
    char path[FOLDER + 64];
    FILE *from;

    if (v2) {
        snprintf(path, sizeof(path), "%s/cpu.max", folder);
        from = fopen(path, "re");
        if (!from)
            return;
        if (fscanf(from, "%lf %lf", &quota, &period) != 2)
            quota = -1;
        fclose(from);
    } else {
        uint64_t us = read_number(folder, "cpu.cfs_period_us", "%" SCNu64);
        char text[32] = "";

        snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", folder);
        from = fopen(path, "re");
        if (!from)
            return;
        if (fscanf(from, "%31s", text) == 1)
            quota = atof(text);
        fclose(from);
        period = us == UINT64_MAX ? 100000 : (double)us;
    }
    if (quota > 0 && period > 0 && quota / period < *cores)
        *cores = quota / period;
}

/* Calls for the group of this process and every ancestor of it that is visible here. */
static void walk(const char *mount, const char *group, void (*each)(const char *folder, bool v2, void *data), bool v2, void *data)
{
    char folder[FOLDER];
    size_t root = strlen(mount);

    snprintf(folder, sizeof(folder), "%s%s", mount, group);
    for (;;) {
        char *slash;

        each(folder, v2, data);
        slash = strrchr(folder, '/');
        if (strlen(folder) <= root || !slash)
            return;
        *slash = 0;
    }
}

static bool lists(const char *controllers, const char *one)
{
    size_t length = strlen(one);

    for (const char *at = controllers; *at; at += strcspn(at, ","), at += *at == ',')
        if (strncmp(at, one, length) == 0 && (at[length] == ',' || at[length] == 0))
            return true;
    return false;
}

/* Lines such as "4:memory:/a/b" (v1) and "0::/a/b" (v2). */
static void walk_groups(const char *controller, void (*each)(const char *folder, bool v2, void *data), void *data)
{
    char line[FOLDER], mount[128];
    FILE *from = fopen("/proc/self/cgroup", "re");

    if (!from)
        return;
    while (fgets(line, sizeof(line), from)) {
        char *controllers = strchr(line, ':'), *group;

        line[strcspn(line, "\n")] = 0;
        if (!controllers || !(group = strchr(controllers + 1, ':')))
            continue;
        *group++ = 0;
        controllers++;
        if (!*controllers) {
            walk("/sys/fs/cgroup", strcmp(group, "/") == 0 ? "" : group, each, true, data);
            walk("/sys/fs/cgroup/unified", strcmp(group, "/") == 0 ? "" : group, each, true, data);
        } else if (lists(controllers, controller)) {
            snprintf(mount, sizeof(mount), "/sys/fs/cgroup/%s", controller);
            walk(mount, strcmp(group, "/") == 0 ? "" : group, each, false, data);
        }
    }
    fclose(from);
}

static void memory_of(const char *folder, bool v2, void *data)
{
    uint64_t used = read_number(folder, v2 ? "memory.current" : "memory.usage_in_bytes", "%" SCNu64);
    uint64_t cache = page_cache(folder, v2);

    used = used == UINT64_MAX || used < cache ? 0 : used - cache;
    limit_memory(data, folder, v2 ? "memory.max" : "memory.limit_in_bytes", used);
    if (v2)
        limit_memory(data, folder, "memory.high", used); /* above it the kernel slows all down until they stand still */
}

void budget_read(struct budget_limits *limits)
{
    struct statvfs shm;

    *limits = (struct budget_limits){ .total = read_meminfo("MemTotal"),
                                      .available = read_meminfo("MemAvailable"),
                                      .shm = UINT64_MAX,
                                      .total_from = "the machine's memory",
                                      .available_from = "MemAvailable of /proc/meminfo" };
    walk_groups("memory", memory_of, limits);
    if (statvfs("/dev/shm", &shm) == 0)
        limits->shm = (uint64_t)shm.f_bavail * shm.f_frsize;
}

static void cores_of(const char *folder, bool v2, void *data)
{
    limit_cores(data, folder, v2);
}

uint32_t budget_cores(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    double cores = online > 0 ? (double)online : 1; /* where the set is too small for the machine */
    uint32_t whole;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cores = CPU_COUNT(&set);
    walk_groups("cpu", cores_of, &cores);
    whole = (uint32_t)cores;
    return whole + (cores > whole);
}

uint64_t budget_mib_up(uint64_t bytes)
{
    return (bytes >> 20) + (bytes % (1 << 20) != 0);
}

int budget_check(const struct budget_limits *limits, uint64_t bytes, uint64_t shared, enum segment_kind kind, struct problem *why)
{
    if (bytes > limits->available)
        return problem_set(why, -ENOMEM,
                           "%" PRIu64 " MiB are needed (arenas, caches, workers, tables), and only %" PRIu64
                           " MiB are to be had (%s); "
                           "lower `daemon: memory` or `slots`",
                           budget_mib_up(bytes), limits->available >> 20, limits->available_from);
    if (kind == SEGMENT_POSIX && shared > limits->shm)
        return problem_set(why, -ENOMEM,
                           "the arenas take %" PRIu64 " MiB, and /dev/shm has only %" PRIu64 " MiB free; make it larger, use "
                           "`shm: memfd`, or lower `daemon: memory` or `slots`",
                           budget_mib_up(shared), limits->shm >> 20);
    return 0;
}
