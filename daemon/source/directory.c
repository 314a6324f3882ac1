/* SPDX-License-Identifier: MIT */
/* A folder of pictures: one folder per class, or all in one folder without classes. Listed once, on the main thread at start;
 * afterwards constant, so that workers read without a lock. The list is sorted bytewise by class name and then by the path
 * below it, which gives every sample its id: the same on every host with the same files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "source/file.h"
#include "source/source.h"

struct directory_params {
    char *path, *classes;
    struct setting_strings extensions;
};

/* 16 bytes and its name a sample. */
struct entry {
    uint64_t size : 40; /* bytes; larger files are skipped */
    uint64_t folder : 24;
    uint64_t name; /* offset in names */
};

#define SIZE_LIMIT   (UINT64_C(1) << 40)
#define FOLDER_LIMIT (1u << 24)

struct folder {
    char *path;    /* below the root; "" is the root */
    int64_t label; /* -1: no class */
};

struct source {
    char *root;
    struct names classes; /* n is 0 in a flat folder */
    struct folder *folders;
    uint32_t n_folders;
    struct entry *entries;
    uint64_t n, room;
    char *names;
    size_t names_size, names_room;
    size_t max_bytes;
    uint32_t n_parts;
    struct sample_part parts[2];
};

/* What only the scan needs. */
struct scan {
    struct source *source;
    const struct directory_params *params;
    struct problem *why;
    uint64_t dangling, loose; /* links to nothing; files beside the class folders */
};

/* The folders above, against links that lead back into one of them. */
struct ancestor {
    dev_t dev;
    ino_t ino;
    const struct ancestor *up;
};

static const struct setting settings[] = {
    { "path", SETTING_PATH, offsetof(struct directory_params, path), NULL,
      .help = "the folder; its folders are the classes, or it holds all files itself" },
    { "classes", SETTING_PATH, offsetof(struct directory_params, classes), "",
      .help = "a file of class names, one a line, that fixes their numbers; default: sorted folder names" },
    { "extensions", SETTING_STRINGS, offsetof(struct directory_params, extensions), "[jpg, jpeg]",
      .help = "which files count, in any case; 'any': all" },
    SETTINGS_END,
};

static int no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the list of files");
}

static bool wanted(const struct directory_params *params, const char *name)
{
    const char *dot = strrchr(name, '.');
    for (uint32_t i = 0; i < params->extensions.n; i++) {
        const char *extension = params->extensions.v[i];
        if (strcmp(extension, "any") == 0 || (dot && strcasecmp(dot + 1, extension + (extension[0] == '.')) == 0))
            return true;
    }
    return false;
}

/* --- the scan ------------------------------------------------------------------------------------------------------------- */

static int add_entry(struct scan *scan, const char *name, uint32_t folder, uint64_t size)
{
    struct source *source = scan->source;
    size_t length = strlen(name) + 1;
    if (size >= SIZE_LIMIT)
        return 0;
    if (source->n == source->room) {
        uint64_t room = source->room + source->room / 2 + 1024;
        struct entry *grown = realloc(source->entries, room * sizeof *grown);
        if (!grown)
            return no_memory(scan->why);
        source->entries = grown;
        source->room = room;
    }
    if (source->names_size + length > source->names_room) {
        size_t room = source->names_room + source->names_room / 2 + 65536;
        char *grown = realloc(source->names, room);
        if (!grown)
            return no_memory(scan->why);
        source->names = grown;
        source->names_room = room;
    }
    memcpy(source->names + source->names_size, name, length);
    source->entries[source->n++] = (struct entry){ .size = size, .folder = folder, .name = source->names_size };
    source->names_size += length;
    if (size > source->max_bytes)
        source->max_bytes = (size_t)size;
    return 0;
}

static int add_folder(struct scan *scan, const char *path, int64_t label, uint32_t *out)
{
    struct source *source = scan->source;
    if (source->n_folders == FOLDER_LIMIT)
        return problem_set(scan->why, -E2BIG, "%s holds more than %u folders", source->root, FOLDER_LIMIT);
    /* Grown at powers of two. */
    if ((source->n_folders & (source->n_folders - 1)) == 0) {
        size_t room = source->n_folders ? 2 * (size_t)source->n_folders : 1;
        struct folder *grown = realloc(source->folders, room * sizeof *grown);
        if (!grown)
            return no_memory(scan->why);
        source->folders = grown;
    }
    char *copy = strdup(path);
    if (!copy)
        return no_memory(scan->why);
    *out = source->n_folders;
    source->folders[source->n_folders++] = (struct folder){ .path = copy, .label = label };
    return 0;
}

static int join(char *out, const char *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s", folder, *folder && *name ? "/" : "", name);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* What scan_folder found in one folder; its subfolders are entered after it is closed, so that depth costs no descriptors. */
struct found {
    char **names;
    uint32_t n;
};

static void found_fini(struct found *found)
{
    while (found->n)
        free(found->names[--found->n]);
    free(found->names);
}

static int found_add(struct found *found, const char *name)
{
    if ((found->n & (found->n - 1)) == 0) {
        char **grown = realloc(found->names, (found->n ? 2 * (size_t)found->n : 1) * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        found->names = grown;
    }
    found->names[found->n] = strdup(name);
    return found->names[found->n] ? (int)(found->n++, 0) : -ENOMEM;
}

static int scan_name(struct scan *scan, int fd, const struct dirent *entry, uint32_t folder, struct found *found)
{
    struct stat st;
    bool file = wanted(scan->params, entry->d_name);
    if (entry->d_name[0] == '.' || (entry->d_type == DT_REG && !file))
        return 0;
    if (fstatat(fd, entry->d_name, &st, 0) < 0) {
        if (errno != ENOENT && errno != ELOOP && entry->d_type != DT_LNK)
            return -errno;
        scan->dangling++;
        return 0;
    }
    if (S_ISDIR(st.st_mode))
        return found_add(found, entry->d_name);
    if (!S_ISREG(st.st_mode) || !file)
        return 0;
    return add_entry(scan, entry->d_name, folder, (uint64_t)st.st_size);
}

/* Lists one folder. Where its (dev, ino) is among its ancestors it is a loop: *again, and nothing is listed. */
static int list_folder(struct scan *scan, const char *path, uint32_t folder, struct ancestor *self, bool *again,
                       struct found *found)
{
    char full[PATH_MAX];
    struct stat st;
    const struct dirent *entry;
    int rc = join(full, scan->source->root, path);
    if (rc < 0)
        return problem_set(scan->why, rc, "%s/%s: the path is too long", scan->source->root, path);
    DIR *dir = opendir(full);
    if (!dir)
        return problem_set(scan->why, -errno, "cannot open the folder %s: %s; check the path, and that pfeedd may read it", full,
                           strerror(errno));
    if (fstat(dirfd(dir), &st) < 0) {
        rc = -errno;
        goto close_dir;
    }
    self->dev = st.st_dev;
    self->ino = st.st_ino;
    for (const struct ancestor *up = self->up; up && !*again; up = up->up)
        *again = up->dev == st.st_dev && up->ino == st.st_ino;
    while (!*again && rc == 0) {
        errno = 0;
        entry = readdir(dir);
        if (!entry)
            break;
        rc = scan_name(scan, dirfd(dir), entry, folder, found);
    }
    if (rc == 0 && errno && !*again)
        rc = -errno;
close_dir:
    closedir(dir);
    return rc == 0 || rc == -E2BIG
               ? rc
               : problem_set(scan->why, rc, "cannot list the folder %s: %s; check that pfeedd may read it", full, strerror(-rc));
}

/* A folder of a class and all below it. */
static int scan_below(struct scan *scan, const char *path, int64_t label, const struct ancestor *up)
{
    struct ancestor self = { .up = up };
    struct found found = { .n = 0 };
    char *below = NULL;
    uint32_t folder;
    bool again = false;
    int rc = add_folder(scan, path, label, &folder);
    if (rc == 0)
        rc = list_folder(scan, path, folder, &self, &again, &found);
    for (uint32_t i = 0; i < found.n && rc == 0; i++) {
        rc = asprintf(&below, "%s/%s", path, found.names[i]) < 0 ? no_memory(scan->why) : 0;
        if (rc == 0)
            rc = scan_below(scan, below, label, &self);
        free(below);
        below = NULL;
    }
    found_fini(&found);
    return rc;
}

static int compare_words(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Class numbers: from classes_of, from a file, or the sorted folder names. */
static int number_classes(struct scan *scan, const struct found *found, const struct source_env *env)
{
    struct names *classes = &scan->source->classes;
    const char *path = scan->params->classes;
    if (env->classes)
        return names_make(classes, env->classes, env->n_classes, scan->why);
    if (path)
        return problem_about(scan->why, "classes", -1, names_load(classes, path, scan->why));
    return names_make(classes, (const char *const *)found->names, found->n, scan->why);
}

static int scan_classes(struct scan *scan, const struct found *found, const struct source_env *env, const struct ancestor *root)
{
    struct source *source = scan->source;
    const char *key = env->classes ? "classes_of" : "classes";
    int rc = number_classes(scan, found, env);
    if (rc == 0 && source->classes.n == 0)
        rc = problem_about(
            scan->why, key, -1,
            problem_set(scan->why, -EINVAL, "the list of classes is empty; name the folders of %s, one a line", source->root));
    for (uint32_t i = 0; i < found->n && rc == 0; i++) {
        int64_t label = names_find(&source->classes, found->names[i]);
        if (label < 0)
            return problem_about(scan->why, key, -1,
                                 problem_set(scan->why, -EINVAL,
                                             "the folder %s/%s is not among the %u classes of %s; add it there or move it away",
                                             source->root, found->names[i], source->classes.n,
                                             env->classes ? "the feed in 'classes_of'" : scan->params->classes));
        rc = scan_below(scan, found->names[i], label, root);
    }
    return rc;
}

static int scan_root(struct scan *scan, const struct source_env *env)
{
    struct source *source = scan->source;
    struct ancestor self = { .up = NULL };
    struct found found = { .n = 0 };
    bool again = false;
    uint32_t folder;
    int rc = add_folder(scan, "", -1, &folder);
    if (rc == 0)
        rc = list_folder(scan, "", folder, &self, &again, &found);
    if (rc == 0 && found.n) {
        qsort(found.names, found.n, sizeof *found.names, compare_words);
        scan->loose = source->n;
        source->n = source->names_size = source->max_bytes = 0;
        rc = scan_classes(scan, &found, env, &self);
    } else if (rc == 0 && (env->classes || scan->params->classes)) {
        rc = problem_set(scan->why, -EINVAL,
                         "%s has no folders, so it has no classes; remove 'classes' and 'classes_of', or "
                         "move the files into a folder per class",
                         source->root);
    }
    found_fini(&found);
    return rc;
}

/* --- the list ------------------------------------------------------------------------------------------------------------- */

/* The bytes of "folder/name" below the class, one after the other, without putting them together. */
struct walk {
    const char *at, *name;
};

static int walk_next(struct walk *walk)
{
    if (!*walk->at && walk->name) {
        walk->at = walk->name;
        walk->name = NULL;
        return '/';
    }
    return *walk->at ? (unsigned char)*walk->at++ : 0;
}

static int compare_entries(const void *left, const void *right, void *context)
{
    const struct source *source = context;
    const struct entry *a = left, *b = right;
    const char *name_a = source->names + a->name, *name_b = source->names + b->name;
    const char *path_a = source->folders[a->folder].path, *path_b = source->folders[b->folder].path;
    if (a->folder == b->folder)
        return strcmp(name_a, name_b);
    size_t class_a = strcspn(path_a, "/"), class_b = strcspn(path_b, "/");
    int order = memcmp(path_a, path_b, class_a < class_b ? class_a : class_b);
    if (order || class_a != class_b)
        return order ? order : class_a < class_b ? -1 : 1;
    struct walk walk_a = { path_a + class_a, name_a }, walk_b = { path_b + class_b, name_b };
    int byte_a, byte_b;
    do {
        byte_a = walk_next(&walk_a);
        byte_b = walk_next(&walk_b);
    } while (byte_a == byte_b && byte_a);
    return byte_a - byte_b;
}

static void make_parts(struct source *source)
{
    source->parts[0] = (struct sample_part){ .name = "image", .kind = PART_ENCODED };
    source->parts[1] = (struct sample_part){ .name = "label", .kind = PART_VALUES, .dtype = DTYPE_I64 };
    source->n_parts = source->classes.n ? 2 : 1;
}

static void directory_close(struct source *source)
{
    if (!source)
        return;
    for (uint32_t i = 0; i < source->n_folders; i++)
        free(source->folders[i].path);
    free(source->folders);
    free(source->entries);
    free(source->names);
    names_fini(&source->classes);
    free(source->root);
    free(source);
}

static int directory_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    const struct directory_params *p = params;
    struct source *source = calloc(1, sizeof *source);
    struct scan scan = { .source = source, .params = p, .why = why };
    int rc = 0;
    if (!source || !(source->root = strdup(p->path)))
        rc = no_memory(why);
    for (size_t n = rc ? 0 : strlen(source->root); n > 1 && source->root[n - 1] == '/'; n--)
        source->root[n - 1] = 0;
    if (rc == 0)
        rc = scan_root(&scan, env);
    if (rc < 0)
        goto close;
    if (scan.dangling)
        log_warn("%s: %llu links lead nowhere and were skipped", source->root, (unsigned long long)scan.dangling);
    if (scan.loose)
        log_warn("%s: %llu files beside the class folders were skipped", source->root, (unsigned long long)scan.loose);
    if (source->n) {
        qsort_r(source->entries, source->n, sizeof *source->entries, compare_entries, source);
        /* The room for growing is not needed any more; shrinking cannot fail in a way that matters. */
        struct entry *entries = realloc(source->entries, source->n * sizeof *entries);
        char *names = realloc(source->names, source->names_size);
        source->entries = entries ? entries : source->entries;
        source->names = names ? names : source->names;
    }
    make_parts(source);
    *out = source;
    return 0;
close:
    directory_close(source);
    return rc;
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

static uint64_t directory_count(const struct source *source)
{
    return source->n;
}

static uint32_t directory_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = source->parts;
    return source->n_parts;
}

static uint64_t directory_bytes(const struct source *source)
{
    return source->n * sizeof(*source->entries) + source->names_size + source->n_folders * sizeof(*source->folders);
}

static size_t directory_max_bytes(const struct source *source)
{
    return source->max_bytes > sizeof(int64_t) ? source->max_bytes : sizeof(int64_t);
}

static void directory_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct entry *entry = &source->entries[id];
    const char *folder = source->folders[entry->folder].path;
    snprintf(text, size, "%s%s%s/%s", source->root, *folder ? "/" : "", folder, source->names + entry->name);
}

static int directory_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                          struct sample_value *out, struct problem *why)
{
    const struct entry *entry = &source->entries[id];
    char path[PATH_MAX];
    int rc;
    out->part = &source->parts[part];
    if (part == 1) {
        out->data = &source->folders[entry->folder].label;
        out->size = sizeof source->folders->label;
        return 0;
    }
    directory_where(source, id, path, sizeof path);
    rc = file_read(path, entry->size, buffer, buffer_size, why);
    if (rc == 0) {
        out->data = buffer;
        out->size = entry->size;
    }
    return rc;
}

static uint32_t directory_classes(const struct source *source, const char *const **names)
{
    *names = source->classes.names;
    return source->classes.n;
}

const struct source_ops source_directory = {
    .name = "directory",
    .help = "a folder of files: one folder per class, or all in one; parts image and label",
    .settings = settings,
    .params_size = sizeof(struct directory_params),
    .open = directory_open,
    .close = directory_close,
    .count = directory_count,
    .parts = directory_parts,
    .max_bytes = directory_max_bytes,
    .bytes = directory_bytes,
    .read = directory_read,
    .where = directory_where,
    .classes = directory_classes,
};
