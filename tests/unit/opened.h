/* SPDX-License-Identifier: MIT */
/* What the tests of sources share: a temporary folder a test, files in it, and a source opened with given settings. */
#ifndef PFEED_TEST_OPENED_H
#define PFEED_TEST_OPENED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "source/source.h"

static char folder[] = "/dev/shm/pfeed-sources-XXXXXX"; /* where an fsync costs nothing */

static inline void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static inline int make_folder(void **state)
{
    (void)state;
    memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return chdir("/") || system(command);
}

/* A source opened with settings such as { "path", "data" } given and all others at their defaults. */
struct given {
    const char *name, *word;
};

struct opened {
    const struct source_ops *ops;
    void *params;
    struct source *source;
    struct problem why;
    char *buffer;
    struct sample_value value;
    int rc;
};

static inline void open_source(struct opened *o, const struct source_ops *ops, const struct given *given,
                               const struct source_env *env)
{
    static const struct source_env nothing;
    *o = (struct opened){ .ops = ops, .params = calloc(1, ops->params_size) };
    assert_non_null(o->params);
    for (const struct setting *row = ops->settings; row->name; row++) {
        const struct given *g = given;
        while (g->name && strcmp(g->name, row->name) != 0)
            g++;
        o->rc = g->name ? setting_set(row, o->params, folder, &g->word, 1, &o->why)
                        : setting_set_default(row, o->params, folder, &o->why);
        assert_int_equal(o->rc, 0);
    }
    o->rc = ops->open(&o->source, o->params, env ? env : &nothing, &o->why);
}

static inline void close_source(struct opened *o)
{
    o->ops->close(o->source);
    setting_release(o->ops->settings, o->params);
    free(o->params);
    free(o->buffer);
}

#define OPEN(o, ops, env, ...) open_source(o, ops, (const struct given[]){ __VA_ARGS__, { NULL, NULL } }, env)

static inline void expect_problem(struct opened *o, int rc, const char *format)
{
    char text[512], *at;
    /* The folder's name is new each time. */
    snprintf(text, sizeof text, "%s", o->rc < 0 ? o->why.text : "");
    while ((at = strstr(text, folder))) {
        *at = '@';
        memmove(at + 1, at + strlen(folder), strlen(at + strlen(folder)) + 1);
    }
    assert_string_equal(text, format);
    assert_int_equal(o->rc, rc);
    close_source(o);
}

static inline int read_part(struct opened *o, uint64_t id, const char *name)
{
    const struct sample_part *parts;
    uint32_t n = o->ops->parts(o->source, &parts), part = 0;
    while (part < n && strcmp(parts[part].name, name) != 0)
        part++;
    assert_true(part < n);
    if (!o->buffer)
        o->buffer = calloc(1, o->ops->max_bytes(o->source) + 1);
    o->rc = o->ops->read(o->source, id, part, o->buffer, o->ops->max_bytes(o->source), &o->value, &o->why);
    return o->rc;
}

static inline int64_t read_int(struct opened *o, uint64_t id, const char *name)
{
    int64_t value;
    assert_int_equal(read_part(o, id, name), 0);
    assert_int_equal(o->value.size, sizeof value);
    memcpy(&value, o->value.data, sizeof value);
    return value;
}

/* Sample id is the file `path` below the folder, and its bytes are its path. */
static inline void expect_sample(struct opened *o, uint64_t id, const char *path)
{
    char where[512];
    o->ops->where(o->source, id, where, sizeof where);
    assert_memory_equal(where, folder, strlen(folder));
    assert_string_equal(where + strlen(folder) + 1, path);
    assert_int_equal(read_part(o, id, "image"), 0);
    assert_int_equal(o->value.size, strlen(path));
    assert_memory_equal(o->value.data, path, strlen(path));
}

static inline void make_file(const char *path)
{
    write_text(path, path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

#endif
