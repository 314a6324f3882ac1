/* SPDX-License-Identifier: MIT */
/* Machines that this one is not: small, full, old. Each function changes the process that calls it and what that starts, for
 * daemon_prepare (daemon.h): mounts in a namespace of their own, system calls that fail as on an older kernel, a control group. */
#ifndef MACHINE_H
#define MACHINE_H

#include "harness.h"

/* Skips the test where that cannot be had. */
void machine_need_root(void);
/* From here on mounts are this process's own. */
void machine_own_mounts(void);
void machine_mount_tmpfs(const char *where, const char *options, unsigned long flags);
void machine_bind(const char *from, const char *to);
/* Writes into a file of the folder until it takes no more. */
void machine_fill(const char *folder);
void machine_write(const char *folder, const char *file, const char *text);

/* A system call that fails with `error` where (arguments[argument] & mask) == value. */
struct denial {
    int call, error;
    unsigned argument;
    uint32_t mask, value;
};
void machine_deny(const struct denial *denials, size_t n);

/* A control group of v1 or v2, whichever this machine has; skips the test where it has none that can be made. */
struct cgroup {
    char folder[160];
    bool v2;
};
void cgroup_create(struct cgroup *group, const char *controller); /* empty, at the top */
void cgroup_write(const struct cgroup *group, const char *v1_file, const char *v2_file, const char *text);
uint64_t cgroup_number(const struct cgroup *group, const char *v1_file, const char *v2_file, const char *key); /* key "": first */
void cgroup_join(const struct cgroup *group);
void cgroup_remove(const struct cgroup *group); /* when all of its processes have ended */

#endif
