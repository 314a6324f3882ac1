/* SPDX-License-Identifier: MIT */
/* Folders as they were when they were listed, to see later whether a list of their files still holds. For sources, at start. A
 * folder's times tell when names came or went; a file that changed in place does not touch them, and is found when it is read. */
#ifndef PFEED_WATCH_H
#define PFEED_WATCH_H

#include <stdint.h>
#include <sys/stat.h>

#include "source/file.h"

struct watched {
    uint64_t path;  /* in watches.paths: below the root, absolute, or "": the root itself */
    uint64_t stamp; /* of what is there; 0: nothing was */
};

struct watches {
    struct watched *v;
    uint64_t n, room;
    struct texts paths;
    int64_t young_s; /* what changed since then may change again without its time changing: set by watches_init */
    uint64_t young;  /* one more than the number of such a folder; 0: none */
};

void watches_init(struct watches *watches); /* before the first folder is looked at */
void watches_trim(struct watches *watches); /* after the last */
void watches_fini(struct watches *watches);
/* st: from before the folder was read; NULL: there is nothing at path. *number is its place. -ENOMEM. */
int watches_add(struct watches *watches, const char *path, const struct stat *st, uint64_t *number);
const char *watches_path(const struct watches *watches, uint64_t number);
const char *watches_young(const struct watches *watches); /* the path of such a folder; NULL: none */

/* The same for those who keep files of their own: a number that tells whether it is what it was, never 0; and the time in seconds
 * since which what changes is young. */
uint64_t watch_stamp(const struct stat *st);
int64_t watch_young_s(void);

/* Whether the tables can be used at all, wherever they are from. */
bool watches_are_sound(const struct watches *watches);
/* Whether all is as it was: -ESTALE and a sentence where it is not, -ECANCELED. */
int watches_hold(const struct watches *watches, const char *root, const struct source_progress *progress, struct problem *why);

#endif
