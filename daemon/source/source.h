/* SPDX-License-Identifier: MIT */
/* What a kind of source is: one file of this folder, one const struct source_ops at its end named source_<word>, one word in
 * daemon/meson.build. open and close run on one thread; read runs on any worker, several at once. */
#ifndef PFEED_SOURCE_H
#define PFEED_SOURCE_H

#include <limits.h>

#include "sample.h"
#include "setting.h"

/* What a feed's fields ask of the source; fields that read the same part ask once each. */
struct source_want {
    const char *name; /* the field's; may be NULL */
    const char *from; /* the part's name */
    const char *key;  /* `key:` of the field, NULL where not given */
    enum dtype dtype; /* of the field; DTYPES where not given */
    uint32_t ndim;    /* `shape:` of the field, 0 where not given */
    int64_t shape[SAMPLE_DIMS];
    int64_t length, stride; /* `length:` and `stride:` of the field, 0 where not given */
};

/* How far open has come. The thread that opens writes, others read: atomics. */
struct source_progress {
    uint64_t listed;     /* samples found so far */
    bool kept;           /* they are those of a manifest, not of a scan */
    bool stop;           /* from outside: give up, -ECANCELED */
    uint64_t most_bytes; /* set before: the budget, which no list of samples may pass; 0: none */
};

struct source_env {
    const struct source_want *wants;
    uint32_t n_wants;
    const char *const *classes; /* names of classes_of's feed, in its order; NULL where not asked for */
    uint32_t n_classes;
    const char *state;                /* folder in which a source may keep what its scan found; NULL: none */
    bool rescan;                      /* do not believe what is kept there */
    struct source_progress *progress; /* may be NULL */
};

/* Whether a list of so many bytes is more than the whole daemon may take: seen before it is made. */
static inline bool source_too_large(const struct source_progress *progress, uint64_t bytes)
{
    return progress && progress->most_bytes && bytes > progress->most_bytes;
}

static inline void source_listed(struct source_progress *progress, uint64_t listed)
{
    if (progress)
        __atomic_store_n(&progress->listed, listed, __ATOMIC_RELAXED);
}

static inline void source_kept(struct source_progress *progress, bool kept)
{
    if (progress)
        __atomic_store_n(&progress->kept, kept, __ATOMIC_RELAXED);
}

static inline bool source_stopping(const struct source_progress *progress)
{
    return progress && __atomic_load_n(&progress->stop, __ATOMIC_RELAXED);
}

struct source;
struct digest;

/* Which bytes of which file a sample's part is. */
struct source_place {
    int fd;     /* open as long as the source; -1: it is to be opened */
    bool whole; /* the file ends with them, else it has changed */
    uint64_t offset, size;
    uint64_t *head;     /* as in struct sample_value */
    uint64_t file_size; /* of the whole file, and when it was changed last: else it is another one; 0: that does not matter */
    int64_t file_mtime_ns;
    char path[PATH_MAX];
};

struct source_ops {
    const char *name, *help;
    const struct setting *settings; /* beside `type`; ends with SETTINGS_END */
    size_t params_size;
    /* On failure: a sentence in why that names the path or value and says what would be right, and, by problem_about, the
     * setting or want to blame; where it names none, the first of `settings` is. A source of 0 samples opens. */
    int (*open)(struct source **out, const void *params, const struct source_env *env, struct problem *why);
    void (*close)(struct source *source); /* NULL is fine */
    uint64_t (*count)(const struct source *source);
    uint32_t (*parts)(const struct source *source, const struct sample_part **parts);
    /* Which of them a want of env's is; NULL: the one that is called as its `from`. */
    uint32_t (*part_of)(const struct source *source, uint32_t want);
    size_t (*max_bytes)(const struct source *source); /* of the largest value of any part: the worker's read buffer */
    uint64_t (*bytes)(const struct source *source);   /* of its tables of samples, for the budget */
    /* Reads into buffer (of max_bytes) or points into memory of the source's own. -errno and a sentence where it cannot. */
    int (*read)(const struct source *source, uint64_t id, uint32_t part, void *buffer, size_t buffer_size,
                struct sample_value *out, struct problem *why);
    /* Where sample id comes from: a path, or "tokens of FILE at 123". For people. */
    void (*where)(const struct source *source, uint64_t id, char *text, size_t size);
    /* Where the bytes of its part lie, without a look at the file; false: in none, but `path` may be filled with that of one that was
     * not there when it was listed. May be NULL. On any thread. */
    bool (*place)(const struct source *source, uint64_t id, uint32_t part, struct source_place *place);
    /* What splits know sample id by, whatever other samples there are: its path below the source's root, or what stands for one. */
    void (*path)(const struct source *source, uint64_t id, char *text, size_t size);
    /* The class names by label, or 0 where there are none. May be NULL. */
    uint32_t (*classes)(const struct source *source, const char *const **names);
    /* Adds what decides the samples, beside their number and parts: names below the root, sizes as they were listed, classes; what
     * is made or cut out of few files also by what is in them. The same for the same samples wherever they are kept, whenever they
     * were listed, and whether from a manifest or not. On the thread that opens. 10^6 samples take 0.1 s at the most. */
    int (*print)(const struct source *source, struct digest *digest, struct problem *why);
    /* Writes the manifest again where heads have become known since; 0 also where there is nothing to do. On any one thread, also
     * while workers read; for the end, not for the hot path. May be NULL. */
    int (*save)(struct source *source, struct problem *why);
};

extern const struct source_ops *const source_kinds[]; /* generated from daemon/meson.build; NULL at the end */

#endif
