/* SPDX-License-Identifier: MIT */
/* Flat files of token numbers: sample i is a window of `length` tokens, one every `stride`, never across files. The files are
 * listed and measured once, on the main thread at start; workers pread into their own buffers. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/digest.h"
#include "source/matches.h"
#include "source/source.h"

#define PART       "tokens"
#define FILES_OPEN 16 /* kept open; with more files each read opens its own */
#define BLOCKS     64 /* of all files together, that tell the data from others */
#define BLOCK      4096

struct tokens_params {
    struct setting_strings path;
    int dtype; /* index into token_types */
    uint64_t skip;
};

struct file {
    char *path;
    int fd;         /* -1: opened for each read */
    uint64_t size;  /* bytes */
    uint64_t first; /* id of its first window */
};

struct source {
    struct file *files;
    size_t n_files;
    uint64_t n, skip, stride;
    size_t window_bytes, token_bytes;
    struct sample_part part;
};

static const enum dtype token_types[] = { DTYPE_U8, DTYPE_U16, DTYPE_U32, DTYPE_I32 };

static const struct setting settings[] = {
    { "path", SETTING_PATHS, offsetof(struct tokens_params, path), NULL,
      .help = "the files: one or several, with * ? [] and {a,b} or {000..099}" },
    { "dtype", SETTING_CHOICE, offsetof(struct tokens_params, dtype), NULL, .choices = "uint8|uint16|uint32|int32",
      .help = "of the tokens in the files, little-endian" },
    { "skip", SETTING_SIZE, offsetof(struct tokens_params, skip), "0B", 0, 1 << 30, .help = "a head at the start of each file" },
    SETTINGS_END,
};

/* The one thing that all fields on the part must agree on. */
static int find_window(const struct source_env *env, struct source_want *out, struct problem *why)
{
    const struct source_want *found = NULL;
    for (uint32_t i = 0; i < env->n_wants; i++) {
        const struct source_want *want = &env->wants[i];
        const int at = (int)i;
        if (strcmp(want->from, PART) != 0)
            continue;
        if (want->ndim)
            return problem_about(why, "shape", at,
                                 problem_set(why, -EINVAL, "a field that reads '" PART "' has a 'shape'; give 'length' instead"));
        if (want->length < 1)
            return problem_about(why, "length", at,
                                 problem_set(why, -EINVAL,
                                             "a field that reads '" PART
                                             "' has no 'length'; give the tokens of a row, such as 1025"));
        if (found && (found->length != want->length || found->stride != want->stride))
            return problem_about(why, found->length != want->length ? "length" : "stride", at,
                                 problem_set(why, -EINVAL,
                                             "two fields read '" PART "' with lengths %lld and %lld (strides %lld and %lld); "
                                             "give both the same, or make two feeds",
                                             (long long)found->length, (long long)want->length, (long long)found->stride,
                                             (long long)want->stride));
        found = want;
    }
    if (!found)
        return problem_about(
            why, "from", 0, problem_set(why, -EINVAL, "no field reads '" PART "'; name a field so, or give it 'from: " PART "'"));
    *out = *found;
    if (out->stride < 1)
        out->stride = out->length;
    return 0;
}

static int compare_files(const void *left, const void *right)
{
    return strcmp(((const struct file *)left)->path, ((const struct file *)right)->path);
}

/* Sorted bytewise; a file that two patterns match counts once. */
static int list_files(struct source *source, const struct setting_strings *patterns, struct problem *why)
{
    struct matches matches = { .n = 0 };
    int rc = 0;
    for (uint32_t i = 0; i < patterns->n && rc == 0; i++)
        rc = matches_add(&matches, patterns->v[i], why);
    if (rc == 0 && (matches_unique(&matches) < 0 || !(source->files = calloc(matches.n, sizeof *source->files))))
        rc = problem_set(why, -ENOMEM, "out of memory for the list of token files");
    for (size_t i = 0; i < matches.n && rc == 0; i++) {
        source->files[source->n_files++] = (struct file){ .path = matches.paths[i], .fd = -1 };
        matches.paths[i] = NULL;
    }
    matches_fini(&matches);
    if (rc == 0)
        qsort(source->files, source->n_files, sizeof *source->files, compare_files);
    return rc;
}

/* Opens a file and counts its windows. *is_short: it holds none. */
static int measure(struct source *source, struct file *file, bool keep, bool *is_short, struct problem *why)
{
    struct stat st;
    int rc = 0;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open %s: %s; check that pfeedd may read it", file->path, strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = problem_set(why, -errno, "cannot measure %s: %s; try again, or leave it out", file->path, strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = problem_set(why, -EINVAL, "%s is not a file; let 'path' match files only", file->path);
        goto close_file;
    }
    file->size = (uint64_t)st.st_size;
    file->first = source->n;
    uint64_t body = file->size > source->skip ? file->size - source->skip : 0;
    if (body % source->token_bytes) {
        rc = problem_about(
            why, "dtype", -1,
            problem_set(why, -EINVAL,
                        "%s has %llu bytes after its head of %llu, which is no multiple of %zu; check 'dtype' and 'skip'",
                        file->path, (unsigned long long)body, (unsigned long long)source->skip, source->token_bytes));
        goto close_file;
    }
    *is_short = body < source->window_bytes;
    if (!*is_short)
        source->n += (body - source->window_bytes) / source->token_bytes / source->stride + 1;
    if (keep) {
        file->fd = fd;
        return 0;
    }
close_file:
    close(fd);
    return rc;
}

static void tokens_close(struct source *source)
{
    if (!source)
        return;
    for (size_t i = 0; i < source->n_files; i++) {
        if (source->files[i].fd >= 0)
            close(source->files[i].fd);
        free(source->files[i].path);
    }
    free(source->files);
    free(source);
}

static int tokens_open(struct source **out, const void *params, const struct source_env *env, struct problem *why)
{
    const struct tokens_params *p = params;
    struct source_want want = { 0 };
    size_t n_short = 0;
    struct source *source = calloc(1, sizeof *source);
    int rc = source ? find_window(env, &want, why) : problem_set(why, -ENOMEM, "out of memory for a source of tokens");
    if (rc < 0)
        goto close;
    source->part = (struct sample_part){
        .name = PART, .kind = PART_VALUES, .dtype = token_types[p->dtype], .ndim = 1, .shape = { want.length }
    };
    source->token_bytes = dtype_table[source->part.dtype].size;
    source->window_bytes = (size_t)want.length * source->token_bytes;
    source->stride = (uint64_t)want.stride;
    source->skip = p->skip;
    rc = list_files(source, &p->path, why);
    for (size_t i = 0; i < source->n_files && rc == 0; i++) {
        bool is_short = false;
        rc = measure(source, &source->files[i], source->n_files <= FILES_OPEN, &is_short, why);
        n_short += is_short;
        source_listed(env->progress, source->n);
        if (rc == 0 && source_stopping(env->progress))
            rc = problem_set(why, -ECANCELED, "measuring the token files was stopped");
    }
    if (rc < 0)
        goto close;
    if (n_short)
        log_warn("%zu of %zu token files are shorter than a window of %lld and give no row", n_short, source->n_files,
                 (long long)want.length);
    *out = source;
    return 0;
close:
    tokens_close(source);
    return rc;
}

static uint64_t tokens_count(const struct source *source)
{
    return source->n;
}

static uint32_t tokens_parts(const struct source *source, const struct sample_part **parts)
{
    *parts = &source->part;
    return 1;
}

static uint64_t tokens_bytes(const struct source *source)
{
    return source->n_files * sizeof(*source->files);
}

static size_t tokens_max_bytes(const struct source *source)
{
    return source->window_bytes;
}

/* The last file whose first window is at or before id: files without windows share `first` with the next one. */
static const struct file *file_of(const struct source *source, uint64_t id)
{
    size_t low = 0, high = source->n_files;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (source->files[middle].first <= id)
            low = middle;
        else
            high = middle;
    }
    return &source->files[low];
}

static void tokens_where(const struct source *source, uint64_t id, char *text, size_t size)
{
    const struct file *file = file_of(source, id);
    snprintf(text, size, "%s at token %llu", file->path, (unsigned long long)((id - file->first) * source->stride));
}

/* The file's name alone: windows of one text lie beside each other or overlap, and a split must not part them. */
static void tokens_path(const struct source *source, uint64_t id, char *text, size_t size)
{
    const char *path = file_of(source, id)->path, *slash = strrchr(path, '/');
    snprintf(text, size, "%s", slash ? slash + 1 : path);
}

static bool tokens_place(const struct source *source, uint64_t id, uint32_t part, struct source_place *place)
{
    const struct file *file = file_of(source, id);
    (void)part;
    place->fd = file->fd;
    place->whole = false;
    place->offset = source->skip + (id - file->first) * source->stride * source->token_bytes;
    place->size = source->window_bytes;
    place->head = NULL;
    place->file_mtime_ns = 0;
    snprintf(place->path, sizeof place->path, "%s", file->path);
    return true;
}

/* size bytes at `at`, which the file had when it was measured. */
static int read_file(const struct source *source, const struct file *file, void *buffer, size_t size, uint64_t at,
                     struct problem *why)
{
    size_t used = 0;
    int rc = 0;
    int fd = file->fd >= 0 ? file->fd : open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open %s: %s", file->path, strerror(errno));
    while (used < size && rc == 0) {
        ssize_t got = pread(fd, (char *)buffer + used, size - used, (off_t)(at + used));
        if (got > 0)
            used += (size_t)got;
        else if (got == 0)
            rc = problem_set(why, -EBADMSG, "%s ends before token %llu; it had %llu bytes when pfeedd started", file->path,
                             (unsigned long long)((at + size - source->skip) / source->token_bytes),
                             (unsigned long long)file->size);
        else if (errno != EINTR)
            rc = problem_set(why, -errno, "cannot read %s: %s", file->path, strerror(errno));
    }
    if (file->fd < 0)
        close(fd);
    return rc;
}

static int tokens_read(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                       struct sample_value *out, struct problem *why)
{
    const struct file *file = file_of(source, id);
    uint64_t at = source->skip + (id - file->first) * source->stride * source->token_bytes;
    (void)part;
    if (id >= source->n || source->window_bytes > buffer_size)
        return problem_set(why, -EINVAL, "window %llu does not exist", (unsigned long long)id);
    int rc = read_file(source, file, buffer, source->window_bytes, at, why);
    if (rc == 0)
        *out = (struct sample_value){ .data = buffer, .size = source->window_bytes, .part = &source->part };
    return rc;
}

/* Of the paths, the folder that all files are below, with its slash. */
static size_t common_folder(const struct source *source)
{
    const char *first = source->files[0].path;
    const char *last = source->files[source->n_files - 1].path; /* sorted: what these two share, all do */
    size_t n = 0, folder = 0;
    for (; first[n] && first[n] == last[n]; n++)
        if (first[n] == '/')
            folder = n + 1;
    return folder;
}

/* size bytes of what all files together are, from byte `at`; no more than are there. */
static int digest_block(const struct source *source, uint64_t at, uint64_t size, struct digest *digest, struct problem *why)
{
    char block[BLOCK];
    int rc = 0;
    for (size_t f = 0; size > 0 && rc == 0; f++) {
        const struct file *file = &source->files[f];
        const uint64_t left = at < file->size ? file->size - at : 0, part = left < size ? left : size;
        if (part > 0 && (rc = read_file(source, file, block, part, at, why)) == 0)
            digest_add(digest, block, part);
        at -= file->size - left;
        size -= part;
    }
    return rc;
}

/* Names and sizes, and blocks at even distances over the bytes of all files. */
static int tokens_print(const struct source *source, struct digest *digest, struct problem *why)
{
    const size_t folder = source->n_files ? common_folder(source) : 0;
    uint64_t total = 0;
    int rc = 0;
    digest_number(digest, source->skip);
    digest_number(digest, source->stride);
    for (size_t i = 0; i < source->n_files; i++) {
        digest_text(digest, source->files[i].path + folder);
        digest_number(digest, source->files[i].size);
        total += source->files[i].size;
    }
    if (total <= BLOCK)
        return digest_block(source, 0, total, digest, why);
    for (uint64_t i = 0; i < BLOCKS && rc == 0; i++)
        rc = digest_block(source, (total - BLOCK) * i / (BLOCKS - 1), BLOCK, digest, why);
    return rc;
}

const struct source_ops source_tokens = {
    .name = "tokens",
    .help = "flat files of token numbers, in windows of 'length' every 'stride'; part tokens",
    .settings = settings,
    .params_size = sizeof(struct tokens_params),
    .open = tokens_open,
    .close = tokens_close,
    .count = tokens_count,
    .parts = tokens_parts,
    .max_bytes = tokens_max_bytes,
    .bytes = tokens_bytes,
    .read = tokens_read,
    .where = tokens_where,
    .place = tokens_place,
    .print = tokens_print,
    .path = tokens_path,
};
