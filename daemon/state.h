/* SPDX-License-Identifier: MIT */
/* The folder that manifests are kept in from one start to the next. Called by pfeedd.c on the main thread at start. */
#ifndef PFEED_STATE_H
#define PFEED_STATE_H

#include <stdbool.h>

#include "config.h"

/* Made where it is not there, with those above it. It stays as it is whatever becomes of the configuration. NULL: there is none,
 * as the configuration says, or as it cannot be made, which is logged. */
const char *state_choose(const struct config_daemon *config, bool user);

#endif
