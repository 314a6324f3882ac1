/* SPDX-License-Identifier: MIT */
/* See measure.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "source/measure.h"

enum { LIST, FOLDERS, PATHS, SIZES, HEADS, TABLES };

static void tables_of(struct measure *measure, struct manifest_table tables[TABLES])
{
    const struct watches *folders = &measure->folders;
    tables[LIST] = (struct manifest_table){ &measure->list, 1, sizeof measure->list };
    tables[FOLDERS] = (struct manifest_table){ folders->v, folders->n, sizeof *folders->v };
    tables[PATHS] = (struct manifest_table){ folders->paths.text, folders->paths.size, 1 };
    tables[SIZES] = (struct manifest_table){ measure->sizes, measure->n, sizeof *measure->sizes };
    tables[HEADS] = (struct manifest_table){ measure->heads, measure->n, sizeof *measure->heads, .heads = true };
}

static void drop(struct measure *measure)
{
    watches_fini(&measure->folders);
    free(measure->sizes);
    free(measure->heads);
    measure->sizes = measure->heads = NULL;
}

int measure_load(struct measure *measure, const char *root, struct source_progress *progress, struct problem *why)
{
    struct manifest_table tables[TABLES];
    const struct manifest *manifest = &measure->manifest;
    uint64_t list = 0;
    tables_of(measure, tables);
    int rc = manifest_load(&measure->manifest, tables, TABLES, progress, why);
    if (rc < 0)
        return rc;
    measure->folders.v = tables[FOLDERS].data;
    measure->folders.n = tables[FOLDERS].n;
    measure->folders.paths = (struct texts){ .text = tables[PATHS].data, .size = tables[PATHS].n };
    measure->sizes = tables[SIZES].data;
    measure->heads = tables[HEADS].data;
    if (tables[LIST].n == 1)
        memcpy(&list, tables[LIST].data, sizeof list);
    free(tables[LIST].data);
    if (tables[LIST].n != 1 || tables[SIZES].n != tables[HEADS].n || !watches_are_sound(&measure->folders))
        return problem_set(why, -EBADMSG, "the manifest %s makes no sense", manifest->path);
    if (list != measure->list || tables[SIZES].n != measure->n)
        return problem_set(why, -ESTALE, "the manifest %s is of another text of the list", manifest->path);
    return watches_hold(&measure->folders, root, progress, why);
}

/* --- the files ------------------------------------------------------------------------------------------------------------ */

/* Which folders are watched already: numbers + 1 by the hash of the path. */
struct seen {
    uint64_t *v;
    uint64_t room; /* a power of two, more than twice the number of folders */
};

static uint64_t *seen_place(const struct seen *seen, const struct watches *folders, const char *path)
{
    uint64_t at = XXH3_64bits(path, strlen(path)) & (seen->room - 1);
    while (seen->v[at] && strcmp(watches_path(folders, seen->v[at] - 1), path) != 0)
        at = (at + 1) & (seen->room - 1);
    return &seen->v[at];
}

static int seen_grow(struct seen *seen, const struct watches *folders)
{
    struct seen more = { .room = seen->room ? 2 * seen->room : 1024 };
    more.v = calloc(more.room, sizeof *more.v);
    if (!more.v)
        return -ENOMEM;
    for (uint64_t i = 0; i < seen->room; i++)
        if (seen->v[i])
            *seen_place(&more, folders, watches_path(folders, seen->v[i] - 1)) = seen->v[i];
    free(seen->v);
    *seen = more;
    return 0;
}

/* Watches the folder that the file at path is in. Before the file is looked at. */
static int watch_folder(struct watches *folders, struct seen *seen, int root, const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    uint64_t number;
    if (length >= sizeof folder)
        length = sizeof folder - 1;
    memcpy(folder, path, length);
    folder[length] = 0;
    if (2 * folders->n >= seen->room && seen_grow(seen, folders) < 0)
        return -ENOMEM;
    uint64_t *place = seen_place(seen, folders, folder);
    if (*place)
        return 0;
    bool there = fstatat(root, folder, &st, *folder ? 0 : AT_EMPTY_PATH) == 0;
    int rc = watches_add(folders, folder, there ? &st : NULL, &number);
    *place = rc < 0 ? 0 : number + 1;
    return rc;
}

/* Whether a path is no good, rather than that it cannot be told. */
static bool leads_nowhere(int code)
{
    return code == ENOENT || code == ENOTDIR || code == EACCES || code == ELOOP || code == ENAMETOOLONG;
}

static int look_at_files(struct measure *measure, struct seen *seen, int root, const char *const *paths,
                         struct source_progress *progress, struct problem *why)
{
    struct stat st;
    uint64_t number;
    int rc = 0;
    for (uint64_t i = 0; i < measure->n && rc == 0; i++) {
        rc = watch_folder(&measure->folders, seen, root, paths[i]);
        measure->sizes[i] = FILE_ABSENT;
        if (fstatat(root, paths[i], &st, 0) < 0) {
            if (!leads_nowhere(errno))
                return problem_set(why, -errno, "cannot look at %s: %s; try again", paths[i], strerror(errno));
            st.st_mode = 0;
        }
        if (S_ISREG(st.st_mode))
            measure->sizes[i] = (uint64_t)st.st_size;
        else if (rc == 0)
            /* It may be a link whose target comes. */
            rc = watches_add(&measure->folders, paths[i], NULL, &number);
        source_listed(progress, i + 1);
        if (source_stopping(progress))
            rc = -ECANCELED;
    }
    return rc;
}

static int scan(struct measure *measure, const char *root, const char *const *paths, struct source_progress *progress,
                struct problem *why)
{
    struct manifest_table tables[TABLES];
    struct seen seen = { .room = 0 };
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = -ENOMEM;
    if (fd < 0 && !leads_nowhere(errno)) /* files may be given by absolute paths: a root that is not there need not matter */
        return problem_set(why, -errno, "cannot open the folder %s: %s", root, strerror(errno));
    watches_init(&measure->folders);
    why->text[0] = 0;
    measure->sizes = calloc(measure->n ? measure->n : 1, sizeof *measure->sizes);
    measure->heads = calloc(measure->n ? measure->n : 1, sizeof *measure->heads);
    if (measure->sizes && measure->heads)
        rc = look_at_files(measure, &seen, fd, paths, progress, why);
    if (fd >= 0)
        close(fd);
    free(seen.v);
    if (rc == -ECANCELED)
        return problem_set(why, rc, "the scan of %s was stopped", root);
    if (rc < 0 && *why->text)
        return rc;
    if (rc < 0)
        return problem_set(why, rc, "out of memory for the sizes of %llu files", (unsigned long long)measure->n);
    watches_trim(&measure->folders);
    tables_of(measure, tables);
    return manifest_keep(&measure->manifest, tables, TABLES, watches_young(&measure->folders), root, progress, why);
}

static void sum_up(struct measure *measure)
{
    for (uint64_t i = 0; i < measure->n; i++) {
        if (measure->sizes[i] == FILE_ABSENT)
            measure->first_absent = measure->absent++ ? measure->first_absent : i;
        else if (measure->sizes[i] > measure->max_bytes)
            measure->max_bytes = measure->sizes[i];
    }
}

int measure_open(struct measure *measure, const char *root, const char *const *paths, const char *const *words, size_t n_words,
                 const struct source_env *env, struct problem *why)
{
    struct problem inner;
    int rc = manifest_init(&measure->manifest, env->state, words, n_words);
    if (rc < 0)
        return problem_set(why, rc, "out of memory for the manifest of %s", root);
    rc = env->rescan ? -ENOENT : measure_load(measure, root, env->progress, &inner);
    source_kept(env->progress, rc == 0);
    if (rc == -ECANCELED)
        return problem_set(why, rc, "the scan of %s was stopped", root);
    if (rc < 0) {
        drop(measure);
        if (rc != -ENOENT)
            log_info("%s; the files of %s are looked at anew", inner.text, root);
        rc = scan(measure, root, paths, env->progress, why);
    }
    if (rc == 0) {
        sum_up(measure);
        source_listed(env->progress, measure->n);
    }
    return rc;
}

int measure_update(struct measure *measure, struct problem *why)
{
    struct manifest_table tables[TABLES];
    tables_of(measure, tables);
    return manifest_update(&measure->manifest, tables, TABLES, why);
}

void measure_fini(struct measure *measure)
{
    drop(measure);
    manifest_fini(&measure->manifest);
}

uint64_t measure_bytes(const struct measure *measure)
{
    return measure->n * (sizeof *measure->sizes + sizeof *measure->heads) + measure->folders.n * sizeof *measure->folders.v +
           measure->folders.paths.size;
}
