/* SPDX-License-Identifier: MIT */
/* Fuzz target: the list source's CSV. It opens and every sample's label parts can be read, or there is a sentence. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "source/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct source_ops *list;

static void *params_for(const char *path)
{
    struct problem why;
    void *params = calloc(1, list->params_size + 1);

    for (const struct setting *row = list->settings; row->name; row++) {
        const char *words[1] = { path };

        if (strcmp(row->name, "path") == 0)
            assert(setting_set(row, params, ".", words, 1, &why) == 0);
        else if (row->initial)
            assert(setting_set_default(row, params, ".", &why) == 0);
    }
    return params;
}

static void free_params(void *params)
{
    setting_release(list->settings, params);
    free(params);
}

static void read_all(const struct source *source)
{
    const struct sample_part *parts;
    uint32_t n = list->parts(source, &parts);
    uint64_t count = list->count(source);
    size_t bytes = list->max_bytes(source);
    void *buffer = malloc(bytes + 1);
    char where[64];

    for (uint64_t id = 0; id < count && id < 64; id++) {
        for (uint32_t p = 0; p < n; p++) {
            struct sample_value value = { 0 };
            struct problem why = { "" };
            int rc = list->read(source, id, p, buffer, bytes, &value, &why);

            assert(rc == 0 || (rc < 0 && why.text[0]));
        }
        list->where(source, id, where, sizeof(where));
    }
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct source_want want = { .from = "image", .dtype = DTYPE_U8 };
    struct source_env env = { .wants = &want, .n_wants = 1 };
    struct source *source = NULL;
    struct problem why = { "" };
    char path[64];
    void *params;

    for (const struct source_ops *const *kind = source_kinds; *kind && !list; kind++)
        if (strcmp((*kind)->name, "list") == 0)
            list = *kind;
    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    params = params_for(path);
    if (list->open(&source, params, &env, &why) == 0) {
        read_all(source);
        list->close(source);
    } else {
        assert(why.text[0]);
    }
    free_params(params);
    close(fd);
    return 0;
}
