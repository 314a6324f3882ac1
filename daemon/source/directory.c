/* SPDX-License-Identifier: MIT */
/* A folder of pictures: one folder per class, or all in one folder without classes. Listed once, on the thread that opens it,
 * from the state folder's manifest where that still holds; afterwards constant, so that workers read without a lock. The order
 * gives every sample its id, the same on every host with the same files. Labels are not kept but numbered anew at each start:
 * the same files may be numbered by several lists of classes. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "source/digest.h"
#include "source/file.h"
#include "source/listing.h"
#include "source/manifest.h"
#include "source/source.h"

/* What decode: image reads. */
#ifdef HAVE_PNG
#define EXTENSIONS "[jpg, jpeg, png]"
#else
#define EXTENSIONS "[jpg, jpeg]"
#endif

struct directory_params {
    char *path, *classes;
    struct setting_strings extensions;
};

struct source {
    char *root;
    struct manifest manifest;
    struct listing listing;
    struct names classes; /* n is 0 in a flat folder */
    int64_t *labels;      /* of the listing's folders */
    uint32_t n_parts;
    struct sample_part parts[2];
};

/* What only opening needs. */
struct opening {
    struct source *source;
    const struct directory_params *params;
    const struct source_env *env;
};

static const struct setting settings[] = {
    { "path", SETTING_PATH, offsetof(struct directory_params, path), NULL,
      .help = "the folder; its folders are the classes, or it holds all files itself" },
    { "classes", SETTING_PATH, offsetof(struct directory_params, classes), "",
      .help = "a file of class names, one a line, that fixes their numbers; default: sorted folder names" },
    { "extensions", SETTING_STRINGS, offsetof(struct directory_params, extensions), EXTENSIONS,
      .help = "which files count, in any case; 'any': all" },
    SETTINGS_END,
};

static int no_memory(struct problem *why)
{
    return problem_set(why, -ENOMEM, "out of memory for the list of files");
}

static bool wanted(const void *context, const char *name)
{
    const struct opening *opening = context;
    const struct setting_strings *extensions = &opening->params->extensions;
    const char *dot = strrchr(name, '.');
    for (uint32_t i = 0; i < extensions->n; i++) {
        const char *extension = extensions->v[i];
        if (strcmp(extension, "any") == 0 || (dot && strcasecmp(dot + 1, extension + (extension[0] == '.')) == 0))
            return true;
    }
    return false;
}

/* --- classes -------------------------------------------------------------------------------------------------------------- */

/* Class numbers: from classes_of, from a file, or the sorted folder names. */
static int number_classes(void *context, const char *const *folders, uint32_t n, struct problem *why)
{
    const struct opening *opening = context;
    const struct source_env *env = opening->env;
    struct source *source = opening->source;
    struct names *classes = &source->classes;
    const char *path = opening->params->classes, *key = env->classes ? "classes_of" : "classes";
    int rc;
    if (n == 0 && (env->classes || path))
        return problem_about(why, key, -1,
                             problem_set(why, -EINVAL,
                                         "%s has no folders, so it has no classes; remove 'classes' and 'classes_of', or "
                                         "move the files into a folder per class",
                                         source->root));
    if (env->classes)
        rc = names_make(classes, env->classes, env->n_classes, why);
    else
        rc = path ? problem_about(why, "classes", -1, names_load(classes, path, why)) : names_make(classes, folders, n, why);
    if (rc == 0 && n && classes->n == 0)
        return problem_about(
            why, key, -1,
            problem_set(why, -EINVAL, "the list of classes is empty; name the folders of %s, one a line", source->root));
    for (uint32_t i = 0; i < n && rc == 0; i++)
        if (names_find(classes, folders[i]) < 0)
            return problem_about(
                why, key, -1,
                problem_set(why, -EINVAL, "the folder %s/%s is not among the %u classes of %s; add it there or move it away",
                            source->root, folders[i], classes->n, env->classes ? "the feed in 'classes_of'" : path));
    return rc;
}

/* Classes as number_classes has them, where the listing is from a manifest. */
static int number_again(struct opening *opening, struct problem *why)
{
    const struct listing *listing = &opening->source->listing;
    const char **names = calloc(listing->folders.n, sizeof *names);
    if (!names)
        return no_memory(why);
    int rc = number_classes(opening, names, listing_classes(listing, names), why);
    free(names);
    return rc;
}

/* Below a folder all is of its class. */
static int label_folders(struct source *source, struct problem *why)
{
    const struct watches *folders = &source->listing.folders;
    char name[NAME_MAX + 1];
    source->labels = calloc(folders->n, sizeof *source->labels);
    if (!source->labels)
        return no_memory(why);
    for (uint64_t i = 0; i < folders->n; i++) {
        const char *path = watches_path(folders, i);
        snprintf(name, sizeof name, "%.*s", (int)strcspn(path, "/"), path);
        source->labels[i] = names_find(&source->classes, name);
    }
    return 0;
}

static void make_parts(struct source *source)
{
    source->parts[0] = (struct sample_part){ .name = "image", .kind = PART_ENCODED };
    source->parts[1] = (struct sample_part){ .name = "label", .kind = PART_VALUES, .dtype = DTYPE_I64 };
    source->n_parts = source->classes.n ? 2 : 1;
}

/* --- opening -------------------------------------------------------------------------------------------------------------- */

static int init_manifest(struct opening *opening, struct problem *why)
{
    const struct setting_strings *extensions = &opening->params->extensions;
    char *path = realpath(opening->source->root, NULL);
    const char **words = calloc(2 + extensions->n, sizeof *words);
    int rc = -ENOMEM;
    if (words) {
        words[0] = "directory";
        words[1] = path;
        for (uint32_t i = 0; i < extensions->n; i++)
            words[2 + i] = extensions->v[i];
        rc = manifest_init(&opening->source->manifest, opening->env->state, words, 2 + extensions->n);
    }
    free(words);
    free(path);
    return rc < 0 ? no_memory(why) : 0;
}

/* 1: the listing is the manifest's; 0: there is none, or it does not hold. */
static int load(struct opening *opening, struct problem *why)
{
    struct source *source = opening->source;
    struct source_progress *progress = opening->env->progress;
    struct problem inner;
    if (opening->env->rescan)
        return 0;
    int rc = listing_load(&source->listing, &source->manifest, source->root, progress, &inner);
    if (rc == 0) {
        source_kept(progress, true);
        rc = number_again(opening, why);
        return rc < 0 ? rc : 1;
    }
    listing_fini(&source->listing);
    if (rc == -ECANCELED)
        return problem_set(why, rc, "the scan of %s was stopped", source->root);
    if (rc != -ENOENT)
        log_info("%s; %s is listed anew", inner.text, source->root);
    return 0;
}

static int scan(struct opening *opening, struct problem *why)
{
    struct source *source = opening->source;
    struct source_progress *progress = opening->env->progress;
    const struct listing_scan how = {
        .root = source->root, .wants = wanted, .classes = number_classes, .context = opening, .progress = progress
    };
    source_kept(progress, false);
    int rc = listing_scan(&source->listing, &how, why);
    return rc < 0 ? rc : listing_keep(&source->listing, &source->manifest, source->root, progress, why);
}

static void directory_close(struct source *source)
{
    if (!source)
        return;
    listing_fini(&source->listing);
    manifest_fini(&source->manifest);
    names_fini(&source->classes);
    free(source->labels);
    free(source->root);
    free(source);
}

static int directory_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    struct source *source = calloc(1, sizeof *source);
    struct opening opening = { .source = source, .params = params, .env = env };
    int rc = source && (source->root = strdup(opening.params->path)) ? 0 : no_memory(why);
    for (size_t n = rc ? 0 : strlen(source->root); n > 1 && source->root[n - 1] == '/'; n--)
        source->root[n - 1] = 0;
    if (rc == 0)
        rc = init_manifest(&opening, why);
    if (rc == 0)
        rc = load(&opening, why);
    if (rc == 0)
        rc = scan(&opening, why);
    if (rc >= 0)
        rc = label_folders(source, why);
    if (rc < 0) {
        directory_close(source);
        return rc;
    }
    const struct listing_facts *facts = &source->listing.facts;
    if (facts->dangling)
        log_warn("%s: %llu links lead nowhere and were skipped", source->root, (unsigned long long)facts->dangling);
    if (facts->loose)
        log_warn("%s: %llu files beside the class folders were skipped", source->root, (unsigned long long)facts->loose);
    make_parts(source);
    *out = source;
    return 0;
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

static uint64_t directory_count(const struct source *source)
{
    return source->listing.n;
}

static uint32_t directory_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = source->parts;
    return source->n_parts;
}

static uint64_t directory_bytes(const struct source *source)
{
    return listing_bytes(&source->listing) + source->listing.folders.n * sizeof *source->labels + names_bytes(&source->classes);
}

static size_t directory_max_bytes(const struct source *source)
{
    return source->listing.max_bytes > sizeof(int64_t) ? (size_t)source->listing.max_bytes : sizeof(int64_t);
}

static void directory_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct listing_entry *entry = &source->listing.entries[id];
    const char *folder = watches_path(&source->listing.folders, entry->folder);
    snprintf(text, size, "%s%s%s", folder, *folder ? "/" : "", source->listing.names.text + entry->name);
}

static void directory_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct listing_entry *entry = &source->listing.entries[id];
    const char *folder = watches_path(&source->listing.folders, entry->folder);
    snprintf(text, size, "%s%s%s/%s", source->root, *folder ? "/" : "", folder, source->listing.names.text + entry->name);
}

static bool directory_place(const struct source *source, uint64_t id, uint32_t part, struct source_place *place)
{
    if (part == 1)
        return false;
    place->fd = -1;
    place->whole = true;
    place->offset = 0;
    place->size = source->listing.entries[id].size;
    place->head = &source->listing.heads[id];
    place->file_mtime_ns = 0;
    directory_where(source, id, place->path, sizeof place->path);
    return true;
}

static int directory_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                          struct sample_value *out, struct problem *why)
{
    const struct listing_entry *entry = &source->listing.entries[id];
    const struct sample_part *p = &source->parts[part];
    char path[PATH_MAX];
    if (part == 1) {
        *out = (struct sample_value){ .data = &source->labels[entry->folder], .size = sizeof *source->labels, .part = p };
        return 0;
    }
    directory_where(source, id, path, sizeof path);
    int rc = file_read(path, entry->size, buffer, buffer_size, why);
    if (rc == 0)
        *out = (struct sample_value){ .data = buffer, .size = entry->size, .part = p, .head = &source->listing.heads[id] };
    return rc;
}

/* A folder only with its first file. */
static int directory_print(const struct source *source, struct digest *digest, struct problem *why)
{
    const struct listing *listing = &source->listing;
    uint64_t folder = UINT64_MAX;
    (void)why;
    for (uint64_t i = 0; i < listing->n; i++) {
        const struct listing_entry *entry = &listing->entries[i];
        const bool same = entry->folder == folder;
        folder = entry->folder;
        digest_number(digest, (uint64_t)entry->size << 1 | same);
        digest_text(digest, listing->names.text + entry->name);
        if (same)
            continue;
        digest_text(digest, watches_path(&listing->folders, folder));
        digest_number(digest, (uint64_t)source->labels[folder]);
    }
    return 0;
}

static uint32_t directory_classes(const struct source *source, const char *const **names)
{
    *names = source->classes.names;
    return source->classes.n;
}

static int directory_save(struct source *source, struct problem *why)
{
    return listing_update(&source->listing, &source->manifest, why);
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
    .place = directory_place,
    .path = directory_path,
    .classes = directory_classes,
    .print = directory_print,
    .save = directory_save,
};
