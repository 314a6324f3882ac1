/* SPDX-License-Identifier: MIT */
/* Fuzz target: a tar shard. It opens and each member of each sample is read, or there is a sentence; whole members lie within the
 * file. The whole is also read as JSON. Seeds: any small tar, and any JSON. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "source/source.h"
#include "source/tar_json.h"
#include "source/tar_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const struct source_ops source_tar;

static struct source_want wants[] = {
    { .from = "bin;jpg;png", .dtype = DTYPES },
    { .from = "cls", .dtype = DTYPE_I64 },
    { .from = "txt", .dtype = DTYPE_U8, .ndim = 1, .shape = { 16 } },
    { .from = "json", .key = "a.0", .dtype = DTYPE_F32 },
    { .from = "json", .key = "/b", .dtype = DTYPE_I32, .ndim = 2, .shape = { 2, 2 } },
    { .from = "json", .key = "s", .dtype = DTYPE_U8, .ndim = 1, .shape = { 16 } },
};

struct bytes {
    const uint8_t *data;
    size_t size;
};

static int64_t read_bytes(void *context, void *to, size_t size, uint64_t at)
{
    const struct bytes *bytes = context;

    if (at >= bytes->size)
        return 0;
    size = size < bytes->size - at ? size : bytes->size - at;
    memcpy(to, bytes->data + at, size);
    return (int64_t)size;
}

static void walk_all(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size };
    struct tar_walk *walk = calloc(1, sizeof(*walk));
    struct tar_member member;
    struct problem why = { "" };
    uint64_t before = 0;
    int rc;

    walk->read = read_bytes;
    walk->context = &bytes;
    walk->size = size;
    while ((rc = tar_walk_next(walk, &member, &why)) > 0) {
        assert(member.at <= size && member.size <= size - member.at && member.at % TAR_BLOCK == 0);
        assert(member.at >= before + TAR_BLOCK && strlen(member.name) < TAR_NAME);
        before = member.at;
    }
    assert(rc == 0 || (why.text[0] && walk->at <= size + TAR_BLOCK));
    tar_walk_fini(walk);
    free(walk);
}

/* As chance would not do it: a copy in which the checksums of all headers are right. */
static uint8_t *summed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    memcpy(copy, data, size);
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
        unsigned sum = 0;

        if (memcmp(copy + at + 257, "ustar", 5) != 0)
            continue;
        memset(copy + at + 148, ' ', 8);
        for (size_t i = 0; i < TAR_BLOCK; i++)
            sum += copy[at + i];
        snprintf((char *)copy + at + 148, 8, "%06o", sum);
    }
    return copy;
}

static void read_json(const uint8_t *data, size_t size)
{
    struct tar_json_key key;
    struct problem why = { "" };
    struct sample_part part = { .kind = PART_VALUES, .dtype = DTYPE_F64 };
    void *room = aligned_alloc(16, (tar_json_room(size) + 15) / 16 * 16);
    double out;

    assert(tar_json_key(&key, "a.0", &why) == 0);
    assert(tar_json_read(&key, &part, (const char *)data, size, room, &out, &why) == 0 || why.text[0]);
    free(room);
}

static void read_all(const struct source *source)
{
    uint64_t count = source_tar.count(source);
    size_t bytes = source_tar.max_bytes(source);
    void *buffer = malloc(bytes);
    char text[64];

    for (uint64_t id = 0; id < count && id < 64; id++) {
        for (uint32_t w = 0; w < sizeof(wants) / sizeof(*wants); w++) {
            struct sample_value value = { 0 };
            struct problem why = { "" };
            int rc = source_tar.read(source, id, source_tar.part_of(source, w), buffer, bytes, &value, &why);

            assert((rc == 0 && value.size <= bytes) || (rc < 0 && why.text[0]));
        }
        source_tar.where(source, id, text, sizeof(text));
        source_tar.path(source, id, text, sizeof(text));
    }
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool quiet;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];
    const char *words[1] = { path };
    struct problem why = { "" };
    void *params = calloc(1, source_tar.params_size);
    uint8_t *copy = summed(data, size);

    if (!quiet)
        log_init(LOG_ERROR);
    quiet = true;
    walk_all(data, size);
    walk_all(copy, size);
    read_json(data, size);
    assert(fd >= 0 && write(fd, copy, size) == (ssize_t)size);
    free(copy);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert(setting_set(source_tar.settings, params, ".", words, 1, &why) == 0);
    /* A part that no sample has ends it: at first all of them, then each alone. */
    for (uint32_t w = 0; w <= sizeof(wants) / sizeof(*wants); w++) {
        struct source_env env = { .wants = w ? &wants[w - 1] : wants, .n_wants = w ? 1 : sizeof(wants) / sizeof(*wants) };
        struct source *source = NULL;

        why.text[0] = 0;
        if (source_tar.open(&source, params, &env, &why) < 0) {
            assert(why.text[0]);
            continue;
        }
        if (!w)
            read_all(source);
        source_tar.close(source);
    }
    setting_release(source_tar.settings, params);
    free(params);
    close(fd);
    return 0;
}
