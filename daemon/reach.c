/* SPDX-License-Identifier: MIT */
/* See reach.h. */
#include "reach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "'ann'", or "uid 1000" where that has no name. Asks the name service: not on the main thread. */
static void name_user(uid_t uid, char *text, size_t size)
{
    struct passwd entry, *found = NULL;
    char room[1024];

    if (getpwuid_r(uid, &entry, room, sizeof(room), &found) == 0 && found)
        snprintf(text, size, "'%s' (uid %u)", entry.pw_name, uid);
    else
        snprintf(text, size, "uid %u", uid);
}

bool reach_barred(const char *path, char *text, size_t size)
{
    char barrier[PATH_MAX] = "", self[80], owner[80];
    const bool enters = !realpath(path, barrier);
    struct stat st;
    char *slash;

    if (enters) {
        /* What glibc leaves here is the part that it could not look up: the folder before it is closed. */
        slash = errno == EACCES ? strrchr(barrier, '/') : NULL;
        if (!slash)
            return false;
        slash[slash == barrier] = 0;
    } else if (faccessat(AT_FDCWD, barrier, R_OK, AT_EACCESS) == 0 || errno != EACCES) {
        return false;
    }
    if (stat(barrier, &st) != 0)
        return false;
    name_user(geteuid(), self, sizeof(self));
    name_user(st.st_uid, owner, sizeof(owner));
    snprintf(text, size,
             "it runs as %s, who may not %s %s (mode %04o, of %s); open that to it (`setfacl -m u:%u:%s %s`), or run one of your "
             "own by `pfeedd --user`",
             self, enters ? "enter" : "read", barrier, st.st_mode & 07777, owner, geteuid(),
             enters                ? "x"
             : S_ISDIR(st.st_mode) ? "rx"
                                   : "r",
             barrier);
    return true;
}
