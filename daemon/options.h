/* SPDX-License-Identifier: MIT */
/* The command line of pfeedd. Called by pfeedd.c on the main thread, before anything else. */
#ifndef PFEED_OPTIONS_H
#define PFEED_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "log.h"

struct options {
    const char *config, *socket;
    bool check, dump, user;
    enum log_level level;
};

/* 0: go on; 1: done, as with --help; -EINVAL, which it has said. */
int options_parse(int argc, char **argv, struct options *options);
/* The configuration that is asked for, or the usual one, which is written to path. */
const char *options_config(const struct options *options, char *path, size_t size);

#endif
