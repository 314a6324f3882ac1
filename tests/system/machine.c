/* SPDX-License-Identifier: MIT */
/* See machine.h. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DENIALS 8

/* ---- mounts --------------------------------------------------------------------------------------------------------- */

void machine_need_root(void)
{
    if (geteuid() != 0)
        skip("needs root, to mount and to become others");
}

void machine_own_mounts(void)
{
    CHECK(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "no mounts of its own: %s",
          strerror(errno));
}

void machine_mount_tmpfs(const char *where, const char *options, unsigned long flags)
{
    CHECK(mount("none", where, "tmpfs", flags, options) == 0, "cannot mount a tmpfs at %s: %s", where, strerror(errno));
}

void machine_bind(const char *from, const char *to)
{
    CHECK(mount(from, to, NULL, MS_BIND, NULL) == 0, "cannot bind %s to %s: %s", from, to, strerror(errno));
}

void machine_fill(const char *folder)
{
    static const char block[4096];
    char path[256];
    int file;

    snprintf(path, sizeof(path), "%s/filled", folder);
    file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0, "cannot make %s: %s", path, strerror(errno));
    while (write(file, block, sizeof(block)) > 0)
        ;
    CHECK(errno == ENOSPC, "%s does not become full: %s", folder, strerror(errno));
    close(file);
}

void machine_write(const char *folder, const char *file, const char *text)
{
    char path[256];
    ssize_t wrote;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0, "cannot open %s: %s", path, strerror(errno));
    wrote = write(fd, text, strlen(text));
    CHECK(wrote == (ssize_t)strlen(text), "cannot write '%s' into %s: %s", text, path, strerror(errno));
    close(fd);
}

/* ---- system calls --------------------------------------------------------------------------------------------------- */

void machine_deny(const struct denial *denials, size_t n)
{
    struct sock_filter code[DENIALS * 6 + 1];
    struct sock_fprog program = { .filter = code };

    CHECK(n <= DENIALS, "more than %d denials", DENIALS);
    for (size_t i = 0; i < n; i++) {
        uint32_t argument = (uint32_t)(offsetof(struct seccomp_data, args) + denials[i].argument * 8); /* its low half */
        struct sock_filter one[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denials[i].call, 0, 4),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, denials[i].mask),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denials[i].value, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)denials[i].error),
        };

        memcpy(&code[program.len], one, sizeof(one));
        program.len = (unsigned short)(program.len + sizeof(one) / sizeof(one[0]));
    }
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp: %s",
          strerror(errno));
}

/* ---- control groups ------------------------------------------------------------------------------------------------- */

void cgroup_create(struct cgroup *group, const char *controller)
{
    char probe[256];
    FILE *has;

    machine_need_root();
    snprintf(probe, sizeof(probe), "/sys/fs/cgroup/%s/cgroup.procs", controller);
    group->v2 = access(probe, F_OK) != 0;
    if (group->v2) {
        has = fopen("/sys/fs/cgroup/cgroup.subtree_control", "re");
        if (!has || !fgets(probe, sizeof(probe), has) || !strstr(probe, controller))
            skip("no control group here can limit that");
        fclose(has);
        controller = "";
    }
    snprintf(group->folder, sizeof(group->folder), "/sys/fs/cgroup/%s%spfeed-test-%ld", controller, *controller ? "/" : "",
             (long)getpid());
    if (mkdir(group->folder, 0755) != 0)
        skip("no control group can be made here");
}

void cgroup_write(const struct cgroup *group, const char *v1_file, const char *v2_file, const char *text)
{
    machine_write(group->folder, group->v2 ? v2_file : v1_file, text);
}

uint64_t cgroup_number(const struct cgroup *group, const char *v1_file, const char *v2_file, const char *key)
{
    char path[256], line[256];
    uint64_t number = UINT64_MAX;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", group->folder, group->v2 ? v2_file : v1_file);
    file = fopen(path, "re");
    CHECK(file, "cannot read %s: %s", path, strerror(errno));
    while (number == UINT64_MAX && fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0)
            number = strtoull(line + strlen(key), NULL, 10);
    fclose(file);
    CHECK(number != UINT64_MAX, "%s has no '%s'", path, key);
    return number;
}

void cgroup_join(const struct cgroup *group)
{
    machine_write(group->folder, "cgroup.procs", "0");
}

void cgroup_remove(const struct cgroup *group)
{
    CHECK(rmdir(group->folder) == 0, "cannot remove %s: %s", group->folder, strerror(errno));
}
