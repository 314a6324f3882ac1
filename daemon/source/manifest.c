/* SPDX-License-Identifier: MIT */
/* See manifest.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "source/manifest.h"

#define CHUNK ((size_t)1 << 20) /* bytes between two looks at whether to stop */

/* A table's place in the file ends with zeros up to a multiple of 8. */
static uint64_t padded(uint64_t size)
{
    return (size + 7) / 8 * 8;
}

int manifest_init(struct manifest *manifest, const char *state, const char *const *words, size_t n_words)
{
    *manifest = (struct manifest){ .path = NULL };
    uint64_t at;
    for (size_t i = 0; i < n_words; i++) {
        if (!state || !words[i])
            return 0;
        if (texts_add(&manifest->key, words[i], "", &at) < 0)
            return -ENOMEM;
    }
    unsigned long long hash = XXH3_64bits(manifest->key.text, manifest->key.size);
    if (asprintf(&manifest->path, "%s/%s-%016llx.manifest", state, words[0], hash) < 0) {
        manifest->path = NULL;
        return -ENOMEM;
    }
    return 0;
}

void manifest_fini(struct manifest *manifest)
{
    free(manifest->path);
    texts_fini(&manifest->key);
    *manifest = (struct manifest){ .path = NULL };
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

struct input {
    int fd;
    const struct manifest *manifest;
    const struct source_progress *progress;
    XXH3_state_t *sum;
    struct problem *why;
};

static int damaged(const struct input *input)
{
    return problem_set(input->why, -EBADMSG, "the manifest %s is damaged", input->manifest->path);
}

static int take(struct input *input, void *to, uint64_t size)
{
    char *at = to;
    while (size) {
        ssize_t got = read(input->fd, at, size < CHUNK ? size : CHUNK);
        if (source_stopping(input->progress))
            return -ECANCELED;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return problem_set(input->why, -errno, "cannot read %s: %s", input->manifest->path, strerror(errno));
        if (got == 0)
            return damaged(input);
        XXH3_64bits_update(input->sum, at, (size_t)got);
        at += got;
        size -= (uint64_t)got;
    }
    return 0;
}

/* Whether the header fits the file and the tables; then their sizes can be believed as far as memory goes. */
static int check_header(const struct input *input, const struct manifest_header *header, uint64_t size,
                        const struct manifest_table *tables, size_t n)
{
    uint64_t sum = sizeof *header;
    if (memcmp(header->magic, MANIFEST_MAGIC, sizeof header->magic) != 0)
        return damaged(input);
    if (header->order != MANIFEST_ORDER || header->version != MANIFEST_VERSION)
        return problem_set(input->why, -ESTALE, "the manifest %s is of version %u, this pfeedd has %u", input->manifest->path,
                           header->version, MANIFEST_VERSION);
    for (size_t i = 0; i < MANIFEST_TABLES; i++) {
        const uint64_t count = header->tables[i].n, each = header->tables[i].each;
        if (each != (i == 0 ? 1 : i <= n ? tables[i - 1].each : 0) || (each == 0 && count) || (each && count > size / each))
            return damaged(input);
        sum += padded(count * each);
    }
    return sum == size && header->size == size ? 0 : damaged(input);
}

static int take_table(struct input *input, struct manifest_table *table, uint64_t n)
{
    uint64_t size = padded(n * table->each);
    if (source_too_large(input->progress, size))
        return problem_set(input->why, -ENOMEM, "the manifest %s does not fit into the %llu MiB of `daemon: memory`; raise it",
                           input->manifest->path, (unsigned long long)(input->progress->most_bytes >> 20));
    char *data = malloc(size ? size : 1);
    if (!data)
        return problem_set(input->why, -ENOMEM, "out of memory for the manifest %s", input->manifest->path);
    int rc = take(input, data, size);
    if (rc < 0) {
        free(data);
        return rc;
    }
    table->data = data;
    table->n = n;
    return 0;
}

static int take_all(struct input *input, struct manifest_table *tables, size_t n)
{
    const struct manifest *manifest = input->manifest;
    struct manifest_header header;
    struct manifest_table key = { .each = 1 };
    struct stat st;
    if (fstat(input->fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof header)
        return damaged(input);
    ssize_t got = pread(input->fd, &header, sizeof header, 0);
    if (got != (ssize_t)sizeof header || lseek(input->fd, sizeof header, SEEK_SET) < 0)
        return damaged(input);
    int rc = check_header(input, &header, (uint64_t)st.st_size, tables, n);
    uint64_t checksum = header.checksum;
    header.checksum = 0;
    XXH3_64bits_update(input->sum, &header, sizeof header);
    if (rc == 0)
        rc = take_table(input, &key, header.tables[0].n);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = take_table(input, &tables[i], header.tables[i + 1].n);
    if (rc == 0 && XXH3_64bits_digest(input->sum) != checksum)
        rc = damaged(input);
    if (rc == 0 && (key.n != manifest->key.size || memcmp(key.data, manifest->key.text, key.n) != 0))
        rc = problem_set(input->why, -ESTALE, "the manifest %s is of another source", manifest->path);
    free(key.data);
    return rc;
}

static uint64_t hash_heads(const struct manifest_table *tables, size_t n);

int manifest_load(struct manifest *manifest, struct manifest_table *tables, size_t n, const struct source_progress *progress,
                  struct problem *why)
{
    if (!manifest->path)
        return problem_set(why, -ENOENT, "no manifest is kept");
    struct input input = { .manifest = manifest, .progress = progress, .why = why, .sum = XXH3_createState() };
    int rc = 0;
    if (!input.sum)
        return problem_set(why, -ENOMEM, "out of memory for the manifest %s", manifest->path);
    XXH3_64bits_reset(input.sum);
    input.fd = open(manifest->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (input.fd < 0) {
        rc = problem_set(why, -errno, "cannot open %s: %s", manifest->path, strerror(errno));
        goto free_sum;
    }
    for (size_t i = 0; i < n; i++)
        tables[i].data = NULL;
    rc = take_all(&input, tables, n);
    if (rc == 0)
        manifest->heads = hash_heads(tables, n);
    for (size_t i = 0; i < n && rc < 0; i++) {
        free(tables[i].data);
        tables[i].data = NULL;
    }
    close(input.fd);
free_sum:
    XXH3_freeState(input.sum);
    return rc;
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */

struct output {
    int fd;
    const char *path;
    const struct source_progress *progress;
    XXH3_state_t *sum;
    uint64_t at;
    struct problem *why;
};

static int put_at(const struct output *output, const void *data, size_t size, uint64_t at)
{
    const char *from = data;
    while (size) {
        ssize_t put = pwrite(output->fd, from, size, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return problem_set(output->why, -errno, "cannot write %s: %s", output->path, strerror(errno));
        from += put;
        at += (uint64_t)put;
        size -= (size_t)put;
    }
    return 0;
}

/* Sums up what it writes, and lets the kernel begin to store it, so that little is left to the fsync, which cannot be stopped. */
static int put(struct output *output, const void *data, size_t size)
{
    XXH3_64bits_update(output->sum, data, size);
    int rc = put_at(output, data, size, output->at);
    if (rc < 0)
        return rc;
    sync_file_range(output->fd, (off_t)output->at, (off_t)size, SYNC_FILE_RANGE_WRITE);
    output->at += size;
    return source_stopping(output->progress) ? -ECANCELED : 0;
}

/* As they are at this moment: copied first, so that what is summed up is what is written. */
static size_t copy_heads(const struct manifest_table *table, uint64_t from, uint64_t *to)
{
    const uint64_t *heads = table->data;
    size_t n = table->n - from < CHUNK / sizeof *to ? (size_t)(table->n - from) : CHUNK / sizeof *to;
    for (size_t i = 0; i < n; i++)
        to[i] = __atomic_load_n(&heads[from + i], __ATOMIC_RELAXED);
    return n;
}

/* 0 where memory is out. */
static uint64_t hash_heads(const struct manifest_table *tables, size_t n)
{
    uint64_t *copy = malloc(CHUNK), hash = 0;
    for (size_t t = 0; t < n && copy; t++)
        for (uint64_t at = 0, got; tables[t].heads && at < tables[t].n; at += got) {
            got = copy_heads(&tables[t], at, copy);
            hash = XXH3_64bits_withSeed(copy, got * sizeof *copy, hash);
        }
    free(copy);
    return hash;
}

static int put_table(struct output *output, const struct manifest_table *table)
{
    static const char zeros[8];
    uint64_t size = table->n * table->each, part;
    uint64_t *copy = table->heads ? malloc(CHUNK) : NULL;
    int rc = table->heads && !copy ? problem_set(output->why, -ENOMEM, "out of memory for %s", output->path) : 0;
    for (uint64_t at = 0; at < size && rc == 0; at += part) {
        part = size - at < CHUNK ? size - at : CHUNK;
        if (copy)
            copy_heads(table, at / sizeof *copy, copy);
        rc = put(output, copy ? (const char *)copy : (const char *)table->data + at, part);
    }
    free(copy);
    return rc == 0 ? put(output, zeros, padded(size) - size) : rc;
}

static int put_all(struct output *output, const struct texts *key, const struct manifest_table *tables, size_t n)
{
    const struct manifest_table first = { .data = key->text, .n = key->size, .each = 1 };
    struct manifest_header header = { .order = MANIFEST_ORDER, .version = MANIFEST_VERSION, .size = sizeof header };
    memcpy(header.magic, MANIFEST_MAGIC, sizeof header.magic);
    for (size_t i = 0; i <= n; i++) {
        const struct manifest_table *table = i ? &tables[i - 1] : &first;
        header.tables[i].n = table->n;
        header.tables[i].each = table->each;
        header.size += padded(table->n * table->each);
    }
    int rc = put(output, &header, sizeof header);
    for (size_t i = 0; i <= n && rc == 0; i++)
        rc = put_table(output, i ? &tables[i - 1] : &first);
    header.checksum = XXH3_64bits_digest(output->sum);
    if (rc == 0)
        rc = put_at(output, &header, sizeof header, 0);
    if (rc == 0 && fsync(output->fd) < 0)
        rc = problem_set(output->why, -errno, "cannot write %s: %s", output->path, strerror(errno));
    return rc;
}

/* The one other name, so that a crash leaves at most one such file; the lock says that nobody else is writing it. */
static int open_new(const char *path, struct problem *why)
{
    struct stat mine, there;
    int rc = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return problem_set(why, -errno, "cannot write %s: %s", path, strerror(errno));
    const int locked = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    if (locked < 0 && locked != -EWOULDBLOCK)
        rc = problem_set(why, locked, "cannot lock %s: %s", path, strerror(-locked));
    /* Renamed by another one between the open and the lock: it is theirs, and complete. */
    else if (locked < 0 || fstat(fd, &mine) < 0 || stat(path, &there) < 0 || mine.st_dev != there.st_dev ||
             mine.st_ino != there.st_ino)
        rc = problem_set(why, -EBUSY, "another pfeedd is writing %s", path);
    else if (!S_ISREG(mine.st_mode) || fchmod(fd, 0600) < 0 || ftruncate(fd, 0) < 0)
        rc = problem_set(why, -EIO, "cannot write %s: %s", path, S_ISREG(mine.st_mode) ? strerror(errno) : "not a file");
    if (rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

static int save(struct manifest *manifest, const struct manifest_table *tables, size_t n, const struct source_progress *progress,
                struct problem *why)
{
    struct output output = { .fd = -1, .progress = progress, .why = why };
    char *path = NULL;
    int rc = 0;
    output.sum = XXH3_createState();
    if (!output.sum || asprintf(&path, "%s.new", manifest->path) < 0) {
        rc = problem_set(why, -ENOMEM, "out of memory for the manifest %s", manifest->path);
        goto free_sum;
    }
    XXH3_64bits_reset(output.sum);
    output.path = path;
    output.fd = rc = open_new(path, why);
    if (rc < 0)
        goto free_path;
    const uint64_t heads = hash_heads(tables, n);
    rc = put_all(&output, &manifest->key, tables, n);
    if (rc == 0 && rename(path, manifest->path) < 0)
        rc = problem_set(why, -errno, "cannot rename %s: %s", path, strerror(errno));
    if (rc < 0)
        unlink(path);
    else
        manifest->heads = heads;
    close(output.fd);
free_path:
    free(path);
free_sum:
    XXH3_freeState(output.sum);
    return rc;
}

int manifest_keep(struct manifest *manifest, const struct manifest_table *tables, size_t n, const char *young, const char *root,
                  const struct source_progress *progress, struct problem *why)
{
    struct problem inner;
    if (!manifest->path)
        return 0;
    if (young) {
        log_info("%s: '%s' changed just before it was listed, so that no manifest is kept", root, young);
        manifest_fini(manifest);
        return 0;
    }
    int rc = save(manifest, tables, n, progress, &inner);
    if (rc == -ECANCELED)
        return problem_set(why, rc, "the scan of %s was stopped", root);
    if (rc < 0) {
        log_warn("%s; every start will list %s anew", inner.text, root);
        manifest_fini(manifest);
    }
    return 0;
}

int manifest_update(struct manifest *manifest, const struct manifest_table *tables, size_t n, struct problem *why)
{
    return manifest->path && hash_heads(tables, n) != manifest->heads ? save(manifest, tables, n, NULL, why) : 0;
}
