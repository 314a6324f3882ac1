/* SPDX-License-Identifier: MIT */
/* Fuzz target: the names of files and folders, any bytes, and links that lead in circles. The directory source opens the folder; opened
 * again it lists the same; ids are in bytewise order of class and path; and every sample can be read. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "source/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FOLDERS 4 /* as many: links among them multiply */
#define FILES   24
#define DEPTH   (FOLDERS + 3) /* folders there are, with the base and what lies between; none is entered within itself */

static const struct source_ops *directory;
static char base[64], root[80]; /* the root lies deep enough in the base for links that lead up */

static void *params_for(const char *extensions)
{
    struct problem why;
    void *params = calloc(1, directory->params_size + 1);

    for (const struct setting *row = directory->settings; row->name; row++) {
        const char *path[1] = { root }, *any[1] = { extensions };

        if (strcmp(row->name, "path") == 0)
            assert(setting_set(row, params, ".", path, 1, &why) == 0);
        else if (strcmp(row->name, "extensions") == 0 && extensions)
            assert(setting_set(row, params, ".", any, 1, &why) == 0);
        else if (row->initial)
            assert(setting_set_default(row, params, ".", &why) == 0);
    }
    return params;
}

/* ---- the folder ----------------------------------------------------------------------------------------------------- */

/* A name of the bytes that come; slashes and zeros cannot be in one. */
static bool read_name(struct bytes *bytes, char name[64], bool jpeg)
{
    size_t n = bytes_copy(bytes, name, bytes_next(bytes) % 48);

    for (size_t i = 0; i < n; i++)
        if (name[i] == '/' || name[i] == 0)
            name[i] = '_';
    name[n] = 0;
    if (jpeg)
        strcpy(name + n, ".jpg");
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static void make_file(int folder, const char *name, uint8_t size)
{
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    assert(write(fd, root, size % sizeof(root)) == size % (int)sizeof(root));
    close(fd);
}

static void make_all(struct bytes *bytes)
{
    int stack[FOLDERS + 1], depth = 0, folders = 0, files = 0;

    stack[0] = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert(stack[0] >= 0);
    while (bytes->at < bytes->end && files < FILES) {
        static const char *const targets[] = { ".", "..", "../..", "nowhere", "link" };
        uint8_t what = bytes_next(bytes);
        char name[64];

        if (what % 8 == 7) {
            if (depth > 0)
                close(stack[depth--]);
            continue;
        }
        if (!read_name(bytes, name, what & 0x80))
            continue;
        files++;
        if (what % 8 < 4)
            make_file(stack[depth], name, what);
        else if (what % 8 == 4 && folders < FOLDERS && mkdirat(stack[depth], name, 0700) == 0) {
            folders++;
            stack[depth + 1] = openat(stack[depth], name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            assert(stack[++depth] >= 0);
        } else if (what % 8 > 4)
            (void)!symlinkat(targets[what / 8 % 5], stack[depth], what % 8 == 5 ? "link" : name);
    }
    while (depth >= 0)
        close(stack[depth--]);
}

static int remove_one(const char *path, const struct stat *status, int flag, struct FTW *where)
{
    (void)status;
    (void)flag;
    return where->level > 0 ? remove(path) : 0;
}

/* ---- judging -------------------------------------------------------------------------------------------------------- */

/* By the class (the first part of a path that has several), then by the rest. */
static int compare(const char *a, const char *b)
{
    size_t class_a = strchr(a, '/') ? strcspn(a, "/") : 0, class_b = strchr(b, '/') ? strcspn(b, "/") : 0;
    int order = memcmp(a, b, class_a < class_b ? class_a : class_b);

    if (order || class_a != class_b)
        return order ? order : class_a < class_b ? -1 : 1;
    return strcmp(a + class_a, b + class_b);
}

static int count_of(const char *text, char wanted)
{
    int n = 0;

    while (*text)
        n += *text++ == wanted;
    return n;
}

static void judge(const struct source *source, const struct source *again)
{
    const struct sample_part *parts;
    uint32_t n_parts = directory->parts(source, &parts);
    uint64_t n = directory->count(source);
    char path[PATH_MAX], before[PATH_MAX] = "", other[PATH_MAX];

    assert(directory->count(again) == n);
    for (uint64_t id = 0; id < n; id++) {
        struct sample_value value = { 0 };
        struct problem why = { "" };
        uint8_t buffer[sizeof(root)];

        directory->where(source, id, path, sizeof(path));
        directory->where(again, id, other, sizeof(other));
        assert(strcmp(path, other) == 0 && strncmp(path, root, strlen(root)) == 0);
        assert(id == 0 || compare(before, path + strlen(root) + 1) < 0);
        strcpy(before, path + strlen(root) + 1);
        assert(count_of(before, '/') <= DEPTH);
        assert(directory->max_bytes(source) <= sizeof(buffer));
        for (uint32_t p = 0; p < n_parts; p++)
            assert(directory->read(source, id, p, buffer, directory->max_bytes(source), &value, &why) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, data + size };
    struct source_env env = { .n_wants = 0 };
    struct source *source = NULL, *again = NULL;
    struct problem why = { "" };
    void *params;

    if (!directory) {
        for (const struct source_ops *const *kind = source_kinds; *kind; kind++)
            if (strcmp((*kind)->name, "directory") == 0)
                directory = *kind;
        snprintf(base, sizeof(base), "%s/pfeed-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        assert(mkdtemp(base));
        snprintf(root, sizeof(root), "%s/up", base);
        assert(mkdir(root, 0700) == 0);
        strcat(root, "/root");
        assert(mkdir(root, 0700) == 0);
        log_init(LOG_ERROR);
    }
    params = params_for(bytes_next(&bytes) & 1 ? "any" : NULL);
    make_all(&bytes);
    if (directory->open(&source, params, &env, &why) < 0 || directory->open(&again, params, &env, &why) < 0) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    judge(source, again);
    directory->close(source);
    directory->close(again);
    setting_release(directory->settings, params);
    free(params);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

/* The folders go with the process. */
__attribute__((destructor)) static void end(void)
{
    if (!*root)
        return;
    rmdir(root);
    *strrchr(root, '/') = 0;
    rmdir(root);
    rmdir(base);
}
