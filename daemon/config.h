/* SPDX-License-Identifier: MIT */
/* The configuration: YAML in, one tree of plain structs out, or every error of the file with file:line:column. One thread at
 * a time: the main one at the start, that of chores at a reload. Nothing here opens a source or allocates an arena. */
#ifndef PFEED_CONFIG_H
#define PFEED_CONFIG_H

#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>

#include "layout.h"
#include "order.h"
#include "sample.h"
#include "setting.h"
#include "source/source.h"
#include "split.h"

#define CONFIG_FIELDS_MAX PF_FIELDS /* fields of a feed */
#define CONFIG_FEEDS_MAX  1024
#define CONFIG_LISTED     2
#define CONFIG_NAME_MAX   63 /* bytes of a feed's name */

/* Where a value was written; line 0: it is a default. */
struct config_mark {
    const char *file;
    uint32_t line, column; /* from 1 */
    const char *preset;    /* what says it, there; NULL: somebody wrote it */
};

enum config_shm { CONFIG_SHM_AUTO, CONFIG_SHM_MEMFD, CONFIG_SHM_POSIX };
enum config_tail { CONFIG_TAIL_DROP, CONFIG_TAIL_PAD, CONFIG_TAIL_PARTIAL };
enum config_slow { CONFIG_SLOW_PARK, CONFIG_SLOW_BLOCK, CONFIG_SLOW_SKIP };
enum config_stratify { CONFIG_STRATIFY_NONE, CONFIG_STRATIFY_CLASS };
enum config_on_error { CONFIG_REPLACE, CONFIG_MASK, CONFIG_FAIL };

struct config_daemon {  /* daemon: */
    int64_t workers;    /* 0: auto */
    uint64_t memory;    /* bytes; 0: auto */
    int shm;            /* enum config_shm */
    int64_t read_ahead; /* -1: auto */
    int64_t max_consumers;
    char *state;            /* folder; "auto", "none" */
    int64_t user_consumers; /* 0: auto */
    int64_t user_jobs, user_held;
    int64_t patience_ms;
    struct config_mark *marks; /* one a row of config_daemon_table */
};

struct config_access {
    bool given; /* false: group `pfeed`, root and the daemon's own user */
    uint32_t n_users, n_groups;
    uid_t *users;
    gid_t *groups;
    struct setting_strings user_words, group_words; /* as written */
    struct config_mark *marks;
};

struct config_split {
    bool given;
    char *part;
    uint32_t part_index;
    int64_t key;
    char *group;
    int stratify; /* enum config_stratify */
    uint32_t n_parts;
    struct setting *parts; /* a row a part, into shares */
    double shares[SPLIT_PARTS];
    struct config_mark *marks, *part_marks;
};

struct config_cache { /* cache: */
    bool given;
    uint64_t encoded, decoded; /* bytes; 0: none */
    bool reduces;              /* samples go through a reduced picture: `decoded` or `disk` is given */
    int64_t side;              /* of that */
    char *disk;                /* or NULL */
    uint64_t disk_size;        /* bytes */
    int64_t check_ms;
    struct config_mark *marks, *decoded_marks;
};

struct config_field {
    struct field field;      /* name, from, decode and its params, transforms, dtype, layout; the rest is prepare's */
    struct source_want want; /* from, dtype, shape, length, stride */
    bool dtype_given;        /* else the part's own */
    struct config_mark mark; /* of the field's name */
    bool bad;                /* there were errors in it; it holds no more than can be released */
    /* As written, for --dump-config. Params in `field` are owned here. */
    char *from, *key, *dtype, *geometry;
    struct setting_ints shape;
    struct config_mark *marks, *decode_marks, *transform_marks[FIELD_TRANSFORMS];
    struct config_mark transform_mark[FIELD_TRANSFORMS];
    char *listed[CONFIG_LISTED]; /* dtype and layout, where the list of transforms has them */
    struct config_mark listed_mark[CONFIG_LISTED];
    struct config_mark preset; /* the first in the list */
};

struct config_feed {
    char *name;
    struct config_mark mark, source_mark;
    bool bad, source_bad, order_bad; /* errors were found: anywhere in it, in its source, in what chooses and orders samples */
    const struct source_ops *source;
    void *source_params;
    char *classes_of; /* another feed's name, or NULL */
    struct config_split split;
    char *subset; /* or NULL */
    int shuffle;  /* enum shuffle_mode */
    uint64_t seed;
    int64_t block, window; /* 0: auto */
    char *weights, *weights_from;
    int64_t length; /* 0: auto */
    int64_t repeat;
    int64_t batch;
    int tail;             /* enum config_tail */
    char *deliver;        /* name of a delivery mode: "split", "each" */
    int64_t gang;         /* 0: none */
    int64_t gang_wait_ms; /* 0: for ever */
    int64_t epochs;       /* 0: for ever */
    int64_t slots;        /* 0: auto */
    int64_t max_held;     /* most that a consumer may ask for */
    int64_t weight;       /* of its share of the workers */
    int slow;             /* enum config_slow */
    int64_t park_after_ms;
    int on_error;      /* enum config_on_error */
    double max_errors; /* share of the rows */
    int64_t read_retry_ms;
    bool warm;
    struct config_access access;
    struct config_cache cache;
    uint32_t n_fields;
    struct config_field *fields;
    /* One mark a row of the tables in config_table.c and of the source's; for --dump-config and for whoever blames a value. */
    char *source_type;
    struct config_mark *marks, *shuffle_marks, *source_type_marks, *source_marks;
};

struct config_complaint;

struct config {
    uint32_t refs; /* atomic */
    uint32_t n_files;
    char **files;                    /* the main one first; marks point to these names */
    struct config_mark version_mark; /* of the main file's */
    struct config_daemon daemon;
    uint32_t n_feeds;
    struct config_feed *feeds; /* in the order of the file, then of feeds.d by name */
    /* config_errors.c */
    struct config_complaint *complaints;
    uint32_t n_complaints, n_errors, n_warnings; /* kept; seen */
    bool no_memory;
};

/* Reads path, then feeds.d of its folder (*.yaml, bytewise order). 0 also where there are errors: then feeds that are `bad` hold
 * what could be read, so that the rest of them can be checked, too, before config_report shows all. Else -ENOMEM. */
int config_load(struct config **out, const char *path);
/* Errors and warnings may be added until config_report. */
void config_error(struct config *config, const struct config_mark *mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_verror(struct config *config, const struct config_mark *mark, const char *format, va_list args);
void config_warning(struct config *config, const struct config_mark *mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints them in the order of files, lines and columns: "file:line:column: what is wrong; hint", with "warning: " before what
 * is only odd. 0, or -EINVAL or -ENOMEM where the configuration cannot be used. */
int config_report(struct config *config, FILE *to);
/* Where the row called name was given; line 0: it was not, or there is no such row. */
struct config_mark config_mark_of(const struct setting *rows, const struct config_mark *marks, const char *name);
void config_place(const struct config_mark *mark, char *text, size_t size);                /* "file:line" */
const struct config_feed *config_feed_find(const struct config *config, const char *name); /* NULL: there is none */
/* It stays until the last who refers to it lets go; loading gives the first reference. Any thread. */
struct config *config_ref(struct config *config);
void config_destroy(struct config *config); /* lets go; NULL is fine */
/* What differs between two forms of a feed, a line "key: old -> new" each, to be freed; "" where nothing does; NULL: no memory. */
char *config_feed_changes(const struct config_feed *old, const struct config_feed *new);
/* The same of the daemon's own settings, with what a reload does about each; those that need a restart are as they were when it
 * started. */
void config_daemon_changes(const struct config_daemon *started, const struct config_daemon *old, const struct config_daemon *new,
                           FILE *to);
/* Every value in force as YAML, each with a comment that says where it comes from (default, or file:line). There are no errors. */
void config_dump(const struct config *config, FILE *to);
void config_dump_feed(const struct config_feed *feed, FILE *to); /* its part of that */
/* The tables as text: for --help and the manual. */
void config_help(FILE *to);

#endif
