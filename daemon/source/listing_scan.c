/* SPDX-License-Identifier: MIT */
/* The scan that fills a listing: each folder is read once, its names are sorted, and what they name is added or entered in that
 * order. So the whole is in order without being sorted, and a scan can be stopped at any name. See listing.h. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "source/listing.h"

#define SIZE_LIMIT   (UINT64_C(1) << 40)
#define FOLDER_LIMIT (UINT64_C(1) << 24)
#define FOLDER       UINT64_MAX /* as size */

struct scan {
    struct listing *listing;
    const struct listing_scan *how;
    struct problem *why;
    uint64_t found; /* files, for the progress */
};

/* The folders above, against links that lead back into one of them. */
struct ancestor {
    dev_t dev;
    ino_t ino;
    const struct ancestor *up;
};

/* What one folder holds. Folders are entered after it is closed, so that depth costs no descriptors. */
struct item {
    uint64_t name; /* in names; that of a folder ends with '/', as its path goes on, but not those of the root */
    uint64_t size; /* or FOLDER */
};

struct content {
    struct item *items;
    uint64_t n, room;
    struct texts names;
};

static int no_memory(const struct scan *scan)
{
    return problem_set(scan->why, -ENOMEM, "out of memory for the list of files");
}

static int stopped(const struct scan *scan)
{
    return problem_set(scan->why, -ECANCELED, "the scan of %s was stopped", scan->how->root);
}

static void content_fini(struct content *content)
{
    free(content->items);
    texts_fini(&content->names);
}

static int add_item(struct scan *scan, struct content *content, const char *name, const char *end, uint64_t size)
{
    struct item item = { .size = size };
    struct item *grown = file_grown(content->items, content->n, &content->room, sizeof *grown);
    if (!grown)
        return no_memory(scan);
    content->items = grown;
    if (texts_add(&content->names, name, end, &item.name) < 0)
        return no_memory(scan);
    grown[content->n++] = item;
    return 0;
}

static int add_entry(struct scan *scan, const char *name, uint64_t folder, uint64_t size)
{
    struct listing *listing = scan->listing;
    uint64_t at;
    struct listing_entry *grown = file_grown(listing->entries, listing->n, &listing->room, sizeof *grown);
    if (!grown)
        return no_memory(scan);
    listing->entries = grown;
    if (texts_add(&listing->names, name, "", &at) < 0)
        return no_memory(scan);
    grown[listing->n++] =
        (struct listing_entry){ .size = size & (SIZE_LIMIT - 1), .folder = folder & (FOLDER_LIMIT - 1), .name = at };
    if (size > listing->max_bytes)
        listing->max_bytes = size;
    return 0;
}

static int add_watch(struct scan *scan, const char *path, const struct stat *st, uint64_t *number)
{
    struct watches *folders = &scan->listing->folders;
    if (folders->n == FOLDER_LIMIT)
        return problem_set(scan->why, -E2BIG, "%s holds more than %llu folders and links to nothing", scan->how->root,
                           (unsigned long long)FOLDER_LIMIT);
    return watches_add(folders, path, st, number) < 0 ? no_memory(scan) : 0;
}

static int join(char *out, const char *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s", folder, *folder && *name ? "/" : "", name);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* A link that leads nowhere may do so later without any folder changing, which would give other samples other ids. */
static int add_dangling(struct scan *scan, const char *path, const char *name)
{
    char below[PATH_MAX];
    uint64_t number;
    scan->listing->facts.dangling++;
    return join(below, path, name) < 0 ? 0 : add_watch(scan, below, NULL, &number);
}

static int add_name(struct scan *scan, int fd, const char *path, const struct dirent *entry, struct content *content)
{
    struct stat st;
    bool file = scan->how->wants(scan->how->context, entry->d_name);
    if (entry->d_name[0] == '.' || (entry->d_type == DT_REG && !file))
        return 0;
    if (entry->d_type == DT_DIR)
        return add_item(scan, content, entry->d_name, *path ? "/" : "", FOLDER);
    if (fstatat(fd, entry->d_name, &st, 0) < 0)
        return errno == ENOENT || errno == ELOOP || entry->d_type == DT_LNK ? add_dangling(scan, path, entry->d_name) : -errno;
    if (S_ISDIR(st.st_mode))
        return add_item(scan, content, entry->d_name, *path ? "/" : "", FOLDER);
    if (!S_ISREG(st.st_mode) || !file || (uint64_t)st.st_size >= SIZE_LIMIT)
        return 0;
    source_listed(scan->how->progress, ++scan->found);
    return add_item(scan, content, entry->d_name, "", (uint64_t)st.st_size);
}

static int add_names(struct scan *scan, DIR *dir, const char *path, struct content *content)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            return -errno;
        int rc = source_stopping(scan->how->progress) ? -ECANCELED : add_name(scan, dirfd(dir), path, entry, content);
        if (rc < 0)
            return rc;
        if (source_too_large(scan->how->progress,
                             listing_bytes(scan->listing) + content->names.size + content->n * sizeof *content->items))
            return problem_set(scan->why, -ENOMEM,
                               "the list of the files in %s does not fit into the %llu MiB of `daemon: memory`; raise it",
                               scan->how->root, (unsigned long long)(scan->how->progress->most_bytes >> 20));
    }
}

static int compare_items(const void *left, const void *right, void *context)
{
    const struct content *content = context;
    const struct item *a = left, *b = right;
    return strcmp(content->names.text + a->name, content->names.text + b->name);
}

/* Reads one folder and sorts what it holds. Where its (dev, ino) is among its ancestors it is a loop, and holds nothing. */
static int list_folder(struct scan *scan, const char *path, struct ancestor *self, uint64_t *folder, struct content *content)
{
    char full[PATH_MAX];
    struct stat st;
    bool again = false;
    int rc = join(full, scan->how->root, path);
    if (rc < 0)
        return problem_set(scan->why, rc, "%s/%s: the path is too long", scan->how->root, path);
    DIR *dir = opendir(full);
    if (!dir)
        return problem_set(scan->why, -errno, "cannot open the folder %s: %s; check the path, and that pfeedd may read it", full,
                           strerror(errno));
    scan->why->text[0] = 0;
    if (fstat(dirfd(dir), &st) < 0) {
        rc = -errno;
        goto close_dir;
    }
    self->dev = st.st_dev;
    self->ino = st.st_ino;
    for (const struct ancestor *up = self->up; up && !again; up = up->up)
        again = up->dev == st.st_dev && up->ino == st.st_ino;
    rc = add_watch(scan, path, &st, folder);
    if (rc == 0 && !again)
        rc = add_names(scan, dir, path, content);
    if (rc == 0)
        rc = file_sort(content->items, content->n, sizeof *content->items, compare_items, content, scan->how->progress);
close_dir:
    closedir(dir);
    if (rc == -ECANCELED)
        return stopped(scan);
    if (rc == 0 || scan->why->text[0])
        return rc;
    return problem_set(scan->why, rc, "cannot list the folder %s: %s; check that pfeedd may read it", full, strerror(-rc));
}

/* A folder and all below it. */
static int scan_below(struct scan *scan, const char *path, const struct ancestor *up)
{
    struct ancestor self = { .up = up };
    struct content content = { .n = 0 };
    uint64_t folder = 0;
    char *below = NULL;
    int rc = list_folder(scan, path, &self, &folder, &content);
    for (uint64_t i = 0; i < content.n && rc == 0; i++) {
        const char *name = content.names.text + content.items[i].name;
        if (content.items[i].size != FOLDER) {
            rc = add_entry(scan, name, folder, content.items[i].size);
        } else if (asprintf(&below, "%s/%.*s", path, (int)strlen(name) - 1, name) < 0) {
            rc = no_memory(scan);
        } else {
            rc = scan_below(scan, below, &self);
            free(below);
        }
    }
    content_fini(&content);
    return rc;
}

/* The root's folders, which are its classes; then what files it holds itself does not count. */
static int scan_classes(struct scan *scan, const struct content *content, uint32_t n, const struct ancestor *root)
{
    int rc = 0;
    uint32_t found = 0;
    const char **names = calloc(n, sizeof *names);
    if (!names)
        return no_memory(scan);
    for (uint64_t i = 0; i < content->n; i++)
        if (content->items[i].size == FOLDER)
            names[found++] = content->names.text + content->items[i].name;
    rc = scan->how->classes(scan->how->context, names, n, scan->why);
    scan->listing->facts.loose = scan->found;
    scan->found = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = scan_below(scan, names[i], root);
    free(names);
    return rc;
}

static int finish(struct scan *scan)
{
    struct listing *listing = scan->listing;
    listing->entries = file_trimmed(listing->entries, listing->n, &listing->room, sizeof *listing->entries);
    texts_trim(&listing->names);
    watches_trim(&listing->folders);
    listing->heads = calloc(listing->n ? listing->n : 1, sizeof *listing->heads);
    source_listed(scan->how->progress, listing->n);
    return listing->heads ? 0 : no_memory(scan);
}

int listing_scan(struct listing *listing, const struct listing_scan *how, struct problem *why)
{
    struct problem unused;
    struct scan scan = { .listing = listing, .how = how, .why = why ? why : &unused };
    struct ancestor self = { .up = NULL };
    struct content content = { .n = 0 };
    uint64_t root, folders = 0;
    watches_init(&listing->folders);
    int rc = list_folder(&scan, "", &self, &root, &content);
    for (uint64_t i = 0; i < content.n; i++)
        folders += content.items[i].size == FOLDER;
    if (rc == 0 && folders)
        rc = scan_classes(&scan, &content, (uint32_t)folders, &self);
    for (uint64_t i = 0; i < content.n && rc == 0 && !folders; i++)
        rc = add_entry(&scan, content.names.text + content.items[i].name, root, content.items[i].size);
    if (rc == 0 && !folders)
        rc = how->classes(how->context, NULL, 0, scan.why);
    content_fini(&content);
    return rc < 0 ? rc : finish(&scan);
}
