/* SPDX-License-Identifier: MIT */
/* The files below a folder, in the order that gives them their ids: bytewise by the name of the folder below the root, and then
 * by the path below that. Made for source/directory.c by a scan or from a manifest, on the thread that opens the source;
 * afterwards constant but for the heads. */
#ifndef PFEED_LISTING_H
#define PFEED_LISTING_H

#include "source/manifest.h"
#include "source/watch.h"

/* 16 bytes and its name a sample. */
struct listing_entry {
    uint64_t size : 40; /* bytes; larger files are skipped */
    uint64_t folder : 24;
    uint64_t name; /* in names */
};

struct listing_facts {
    uint64_t dangling, loose; /* links to nothing; files beside the class folders */
};

struct listing {
    struct listing_entry *entries;
    uint64_t n, room;
    struct texts names;
    struct watches folders; /* 0 is the root; those that are not there are links to nothing */
    uint64_t *heads;        /* sample_head_pack */
    struct listing_facts facts;
    uint64_t max_bytes; /* of any file */
};

struct listing_scan {
    const char *root;
    bool (*wants)(const void *context, const char *name);
    /* The root has these folders, sorted; then only files in them count. Before any of them is entered. */
    int (*classes)(void *context, const char *const *names, uint32_t n, struct problem *why);
    void *context;
    struct source_progress *progress;
};

/* A listing of zeros first. What failed is to be finished too. */
int listing_scan(struct listing *listing, const struct listing_scan *scan, struct problem *why);
/* As manifest_load; also -ESTALE where a folder has changed. */
int listing_load(struct listing *listing, struct manifest *manifest, const char *root, struct source_progress *progress,
                 struct problem *why);
/* As manifest_keep and manifest_update. */
int listing_keep(struct listing *listing, struct manifest *manifest, const char *root, const struct source_progress *progress,
                 struct problem *why);
int listing_update(struct listing *listing, struct manifest *manifest, struct problem *why);
void listing_fini(struct listing *listing);
uint64_t listing_bytes(const struct listing *listing);

/* The folders of the root, sorted, into names, which has room for folders.n. How many. */
uint32_t listing_classes(const struct listing *listing, const char **names);

#endif
