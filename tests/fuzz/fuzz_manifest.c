/* SPDX-License-Identifier: MIT */
/* Fuzz target: a manifest, taken as a directory's, a list's and as that of tar shards. The checksum and the key are made right first, which chance
 * would not do; then it loads and every table can be walked, or there is a sentence. Seeds: any manifests of a pfeedd. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "source/listing.h"
#include "source/measure.h"
#include "source/tar_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A manifest whose file is data with the right checksum, and whose key is the file's. */
static void make(struct manifest *manifest, int fd, const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size ? size : 1);
    struct manifest_header header;
    size_t key = 0;

    memcpy(bytes, data, size);
    if (size >= sizeof header) {
        memcpy(&header, bytes, sizeof header);
        header.checksum = 0;
        header.size = size;
        memcpy(bytes, &header, sizeof header);
        header.checksum = XXH3_64bits(bytes, size);
        memcpy(bytes, &header, sizeof header);
        key = header.tables[0].n <= size - sizeof header ? header.tables[0].n : 0;
    }
    assert(write(fd, bytes, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
    *manifest = (struct manifest){ .path = NULL };
    manifest->key.text = malloc(key ? key : 1);
    manifest->key.size = key;
    memcpy(manifest->key.text, bytes + (key ? sizeof header : 0), key);
    assert(asprintf(&manifest->path, "/proc/self/fd/%d", fd) > 0);
    free(bytes);
}

static void as_directory(int fd, const uint8_t *data, size_t size)
{
    struct manifest manifest;
    struct listing listing = { .n = 0 };
    struct problem why = { "" };
    size_t length = 0;
    int rc;

    make(&manifest, fd, data, size);
    rc = listing_load(&listing, &manifest, "/", NULL, &why);
    assert(rc == 0 || (rc < 0 && why.text[0]));
    /* That the folders have changed is found last. */
    if (rc == 0 || rc == -ESTALE) {
        const char **names = calloc(listing.folders.n + 1, sizeof *names);

        assert(names && listing_classes(&listing, names) <= listing.folders.n);
        for (uint64_t i = 0; i < listing.n; i++)
            length += strlen(watches_path(&listing.folders, listing.entries[i].folder)) +
                      strlen(listing.names.text + listing.entries[i].name) + (size_t)listing.heads[i];
        free(names);
    }
    __asm__ volatile("" : : "r"(length)); /* it is looked at */
    listing_fini(&listing);
    manifest_fini(&manifest);
}

static void as_list(int fd, const uint8_t *data, size_t size)
{
    struct measure measure = { .n = 0 };
    struct problem why = { "" };
    struct manifest_header header;
    uint64_t sum = 0;
    int rc;

    make(&measure.manifest, fd, data, size);
    /* The list is the one that the file was made for. */
    if (size >= sizeof header) {
        size_t at = sizeof header + (measure.manifest.key.size + 7) / 8 * 8;

        memcpy(&header, data, sizeof header);
        measure.n = header.tables[4].n;
        if (at + sizeof measure.list <= size)
            memcpy(&measure.list, data + at, sizeof measure.list);
    }
    rc = measure_load(&measure, "/", NULL, &why);
    assert(rc == 0 || (rc < 0 && why.text[0]));
    for (uint64_t i = 0; i < measure.n && rc == 0; i++)
        sum += measure.sizes[i] + measure.heads[i];
    __asm__ volatile("" : : "r"(sum));
    measure_fini(&measure);
}

static void as_tar(int fd, const uint8_t *data, size_t size)
{
    struct tar_index index = { .n = 0 };
    struct problem why = { "" };
    uint64_t sum = 0;
    int rc;

    make(&index.manifest, fd, data, size);
    rc = tar_index_load(&index, NULL, &why);
    assert(rc == 0 || (rc < 0 && why.text[0]));
    for (uint64_t id = 0; id < index.n && rc == 0; id++) {
        uint64_t n;
        const struct tar_part *members = tar_index_members(&index, id, &n);

        sum += strlen(tar_index_key(&index, id)) + strlen(tar_index_path(&index, tar_index_shard(&index, id))) + index.heads[id] +
               tar_index_is_lost(&index, id);
        for (uint64_t m = 0; m < n; m++)
            sum += strlen(tar_index_text(&index, members[m].extension)) + members[m].block + members[m].state;
    }
    __asm__ volatile("" : : "r"(sum));
    tar_index_fini(&index);
}

static int file(void)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    assert(fd >= 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = file();

    as_directory(fd, data, size);
    close(fd);
    fd = file();
    as_list(fd, data, size);
    close(fd);
    fd = file();
    as_tar(fd, data, size);
    close(fd);
    return 0;
}
