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

/* The number in a file of a control group's folder; UINT64_MAX: none, "max", or not there. */
static uint64_t read_number(const char *folder, const char *file, const char *format)
{
    char path[768];
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

/* The page cache that a group's usage counts, and that the kernel gives back first. */
static uint64_t inactive_file(const char *folder, const char *key)
{
    char path[768], line[160];
    size_t length = strlen(key);
    uint64_t value = 0;
    FILE *from;

    snprintf(path, sizeof(path), "%s/memory.stat", folder);
    from = fopen(path, "re");
    if (!from)
        return 0;
    while (fgets(line, sizeof(line), from))
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            value = strtoull(line + length, NULL, 10);
            break;
        }
    fclose(from);
    return value;
}

static void limit_memory(struct budget_limits *limits, const char *folder, const char *limit_file, const char *usage_file,
                         const char *inactive_key)
{
    uint64_t limit = read_number(folder, limit_file, "%" SCNu64), usage = read_number(folder, usage_file, "%" SCNu64), left;

    if (limit >= UINT64_MAX / 4) /* v1 says "none" by a huge number */
        return;
    usage = usage == UINT64_MAX ? 0 : usage;
    usage -= usage > inactive_file(folder, inactive_key) ? inactive_file(folder, inactive_key) : usage;
    left = limit > usage ? limit - usage : 0;
    if (limit < limits->total) {
        limits->total = limit;
        snprintf(limits->total_from, sizeof(limits->total_from), "%.100s/%s", folder, limit_file);
    }
    if (left < limits->available) {
        limits->available = left;
        snprintf(limits->available_from, sizeof(limits->available_from), "what is left of %.90s/%s", folder, limit_file);
    }
}

static void limit_cores(double *cores, const char *folder, bool v2)
{
    double quota = -1, period = 100000;
    char path[768];
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
    char folder[640];
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
    char line[512], mount[128];
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
    if (v2)
        limit_memory(data, folder, "memory.max", "memory.current", "inactive_file");
    else
        limit_memory(data, folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");
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
    cpu_set_t set;
    double cores = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cores = CPU_COUNT(&set);
    walk_groups("cpu", cores_of, &cores);
    return cores <= 1 ? 1 : (uint32_t)(cores + 0.999);
}

int budget_check(const struct budget_limits *limits, uint64_t bytes, uint64_t shared, enum segment_kind kind, struct problem *why)
{
    const uint64_t mib = 1 << 20;

    if (bytes > limits->available)
        return problem_set(why, -ENOMEM,
                           "%" PRIu64 " MiB are needed (arenas, workers, tables), and only %" PRIu64 " MiB are to be had (%s); "
                           "lower `daemon: memory` or `slots`",
                           bytes / mib, limits->available / mib, limits->available_from);
    if (kind == SEGMENT_POSIX && shared > limits->shm)
        return problem_set(why, -ENOMEM,
                           "the arenas take %" PRIu64 " MiB, and /dev/shm has only %" PRIu64 " MiB free; make it larger, use "
                           "`shm: memfd`, or lower `daemon: memory` or `slots`",
                           shared / mib, limits->shm / mib);
    return 0;
}
