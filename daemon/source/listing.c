/* SPDX-License-Identifier: MIT */
/* The tables of a listing, and their way into a manifest and back; listing_scan.c fills them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/listing.h"

enum { FACTS, FOLDERS, PATHS, ENTRIES, NAMES, HEADS, TABLES };

static void tables_of(struct listing *listing, struct manifest_table tables[TABLES])
{
    const struct watches *folders = &listing->folders;
    tables[FACTS] = (struct manifest_table){ &listing->facts, 1, sizeof listing->facts };
    tables[FOLDERS] = (struct manifest_table){ folders->v, folders->n, sizeof *folders->v };
    tables[PATHS] = (struct manifest_table){ folders->paths.text, folders->paths.size, 1 };
    tables[ENTRIES] = (struct manifest_table){ listing->entries, listing->n, sizeof *listing->entries };
    tables[NAMES] = (struct manifest_table){ listing->names.text, listing->names.size, 1 };
    tables[HEADS] = (struct manifest_table){ listing->heads, listing->n, sizeof *listing->heads, .heads = true };
}

/* Whether every number leads somewhere. */
static bool is_sound(const struct listing *listing)
{
    const struct watches *folders = &listing->folders;
    if (!watches_are_sound(folders) || folders->n == 0 || *watches_path(folders, 0))
        return false;
    for (uint64_t i = 0; i < listing->n; i++)
        if (listing->entries[i].folder >= folders->n || !texts_hold(&listing->names, listing->entries[i].name))
            return false;
    return true;
}

int listing_load(struct listing *listing, struct manifest *manifest, const char *root, struct source_progress *progress,
                 struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(listing, tables);
    int rc = manifest_load(manifest, tables, TABLES, progress, why);
    if (rc < 0)
        return rc;
    listing->folders.v = tables[FOLDERS].data;
    listing->folders.n = tables[FOLDERS].n;
    listing->folders.paths = (struct texts){ .text = tables[PATHS].data, .size = tables[PATHS].n };
    listing->entries = tables[ENTRIES].data;
    listing->n = tables[ENTRIES].n;
    listing->names = (struct texts){ .text = tables[NAMES].data, .size = tables[NAMES].n };
    listing->heads = tables[HEADS].data;
    if (tables[FACTS].n == 1)
        memcpy(&listing->facts, tables[FACTS].data, sizeof listing->facts);
    free(tables[FACTS].data);
    if (tables[FACTS].n != 1 || tables[HEADS].n != listing->n || !is_sound(listing))
        return problem_set(why, -EBADMSG, "the manifest %s makes no sense", manifest->path);
    source_listed(progress, listing->n);
    for (uint64_t i = 0; i < listing->n; i++)
        if (listing->entries[i].size > listing->max_bytes)
            listing->max_bytes = listing->entries[i].size;
    return watches_hold(&listing->folders, root, progress, why);
}

int listing_keep(struct listing *listing, struct manifest *manifest, const char *root, const struct source_progress *progress,
                 struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(listing, tables);
    return manifest_keep(manifest, tables, TABLES, watches_young(&listing->folders), root, progress, why);
}

int listing_update(struct listing *listing, struct manifest *manifest, struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(listing, tables);
    return manifest_update(manifest, tables, TABLES, why);
}

void listing_fini(struct listing *listing)
{
    watches_fini(&listing->folders);
    texts_fini(&listing->names);
    free(listing->entries);
    free(listing->heads);
    *listing = (struct listing){ .n = 0 };
}

uint64_t listing_bytes(const struct listing *listing)
{
    return listing->n * (sizeof *listing->entries + sizeof *listing->heads) + listing->names.size +
           listing->folders.n * sizeof *listing->folders.v + listing->folders.paths.size;
}

uint32_t listing_classes(const struct listing *listing, const char **names)
{
    uint32_t n = 0;
    for (uint64_t i = 1; i < listing->folders.n; i++) {
        const char *path = watches_path(&listing->folders, i);
        if (listing->folders.v[i].stamp && !strchr(path, '/'))
            names[n++] = path;
    }
    return n;
}
