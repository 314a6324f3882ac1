/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 7, the control socket: what one peer does there costs the others nothing. Groups are the kernel's, however
 * many there are.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "history.h"

#define OTHER  54321u /* nobody's uid and gid */
#define GROUPS 300u   /* supplementary ones, from OTHER + 1 on */

static struct daemon pfeedd;

static void start_daemon(const char *of_daemon, const char *of_feed)
{
    char yaml[512];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB%s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 256 }\n"
             "    batch: 8\n%s    fields: { x: { dtype: float32, shape: [16] } }\n",
             of_daemon, of_feed);
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno)); /* for other uids */
}

/* ---- groups --------------------------------------------------------------------------------------------------------- */

static void attach_as_member(void *arg)
{
    const struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    gid_t groups[GROUPS];
    uint32_t n = *(uint32_t *)arg;

    for (uint32_t g = 0; g < n; g++)
        groups[g] = OTHER + 1 + g;
    CHECK(setgroups(n, groups) == 0 && setgid(OTHER) == 0 && setuid(OTHER) == 0, "setuid: %s", strerror(errno));
    if (n == GROUPS) {
        pfeed_close(plan_open(&plan));
    } else {
        struct pfeed_options options = { .size = sizeof(options), .socket = pfeedd.socket, .feed = "spine" };
        struct pfeed *pf;
        int rc = pfeed_open(&pf, &options);

        CHECK(rc == -EACCES, "one who is not a member gets %d", rc);
    }
}

static void run_groups(const void *arg)
{
    uint32_t all = GROUPS, but_last = GROUPS - 1, none = 0;
    char access[64];

    if (geteuid() != 0)
        skip("only root can take other groups");
    snprintf(access, sizeof(access), "    access: { groups: [%u] }\n", OTHER + GROUPS);
    start_daemon("", access);
    trainer_wait(trainer_start("member", attach_as_member, &all));
    trainer_wait(trainer_start("member of others", attach_as_member, &but_last));
    trainer_wait(trainer_start("member of none", attach_as_member, &none));
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a peer in 300 groups", run_groups, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
