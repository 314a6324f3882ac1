/* SPDX-License-Identifier: MIT */
/* How much of the daemon one user may take: consumers, jobs, and batches held at once. Main thread. */
#ifndef PFEED_LIMIT_H
#define PFEED_LIMIT_H

#include "server.h"

/* Consumers of one user, and what places for connections beside them: the setting, or half of all. */
uint64_t limit_user_consumers(const struct config_daemon *config);
/* Whether the attach fits; -EUSERS with the numbers and what to do about it. Changes nothing. */
int limit_check(const struct daemon *daemon, const struct peer *peer, const struct feed *feed,
                const struct pf_ctl_attach *request, struct problem *why);

#endif
