/* SPDX-License-Identifier: MIT */
/* See state.h. */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"

/* Where manifests are kept; NULL: nowhere. */
static const char *state_folder(const struct config_daemon *config, bool user, char *path, size_t size)
{
    const char *state = getenv("STATE_DIRECTORY"), *home = getenv("HOME");

    if (strcmp(config->state, "none") == 0)
        return NULL;
    if (strcmp(config->state, "auto") != 0)
        return config->state;
    if (state && *state)
        return state;
    if (!user)
        return "/var/lib/pfeed";
    state = getenv("XDG_STATE_HOME");
    if (state && *state)
        snprintf(path, size, "%s/pfeed", state);
    else
        snprintf(path, size, "%s/.local/state/pfeed", home ? home : "");
    return path;
}

/* With the folders above it. 0 or -errno. */
static int make_folders(const char *path)
{
    char part[512];

    if (strlen(path) >= sizeof(part))
        return -ENAMETOOLONG;
    for (const char *slash = path; (slash = strchr(slash + 1, '/'));) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

const char *state_choose(const struct config_daemon *config, bool user)
{
    static char path[512];
    const char *folder = state_folder(config, user, path, sizeof(path));
    int rc;

    if (!folder)
        return NULL;
    if (folder != path) /* a configuration goes with the next reload */
        snprintf(path, sizeof(path), "%s", folder);
    rc = make_folders(path);
    if (rc < 0) {
        log_warn("no folder for state: cannot make %s: %s; sources are listed anew at each start, unless `daemon: state` names "
                 "another (or says none)",
                 path, strerror(-rc));
        return NULL;
    }
    return path;
}
