/* SPDX-License-Identifier: MIT */
/* Looking into a daemon over a connected control socket (ctlsock.h): its rows of figures, a feed's arena, and stopping it.
 * Used by pfeedctl and the tests; hidden from users of the library. One thread at a time. */
#ifndef PFEED_STAT_H
#define PFEED_STAT_H

#include <stdbool.h>

#include "ctlsock.h"

/* All rows of an answer, each as long as this side knows the struct: what a newer daemon sends beyond is cut off, what an
 * older one does not know is zero. Texts in rows need not be terminated: a daemon is believed no more than any other peer. */
struct stat_rows {
    void *rows;
    size_t count;
};

/* what: enum pf_stat_what, row_size: of its struct. feed NULL or "": all. 0 and *out, which stat_rows_fini frees; -EPIPE the
 * daemon has gone; -EPROTO its answer is not sound; or the daemon's own error. */
int stat_query(int fd, uint32_t what, const char *feed, size_t row_size, int64_t deadline_ns, struct stat_rows *out,
               struct sentence *why);
void stat_rows_fini(struct stat_rows *rows);

/* A read-only descriptor of the feed's arena, which the caller closes, or -errno. */
int stat_peek(int fd, const char *feed, int64_t deadline_ns, struct sentence *why);

/* Asks the daemon to stop and waits until it has hung up: 0; -ETIMEDOUT: it still runs. */
int stat_stop(int fd, int64_t deadline_ns, struct sentence *why);

/* Asks the daemon to read its configuration again and, with rescan, to list the samples anew, of one feed or (feed NULL) of all.
 * 0 and what has changed, or -errno and why the new configuration is not in force: *report, lines that the caller frees; NULL: the
 * exchange itself has failed, and why says how. */
int stat_reload(int fd, bool rescan, const char *feed, int64_t deadline_ns, char **report, struct sentence *why);

#endif
