/* SPDX-License-Identifier: MIT */
/* One row a setting: the YAML parser, --help, --dump-config and the manual are all made from it. Plug-ins bring their own
 * tables; reader.c walks them over YAML, setting.c knows the values. Main thread, at start only. */
#ifndef PFEED_SETTING_H
#define PFEED_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "log.h"
#include "nearest.h"

enum setting_type {
    SETTING_BOOL,     /* bool */
    SETTING_INT,      /* int64_t */
    SETTING_INTS,     /* struct setting_ints; one number alone is a list of one */
    SETTING_SIZE,     /* uint64_t bytes; "4GiB", "64KiB", plain bytes */
    SETTING_DURATION, /* int64_t milliseconds; "30s", "500ms", plain number = seconds */
    SETTING_FLOAT,    /* double */
    SETTING_FLOATS,   /* struct setting_floats; one number alone is a list of one */
    SETTING_STRING,   /* char * (NULL where the default is "") */
    SETTING_STRINGS,  /* struct setting_strings; one word alone is a list of one */
    SETTING_PATH,     /* char *; relative paths are taken from the folder of the configuration file */
    SETTING_PATHS,    /* struct setting_strings, each as SETTING_PATH */
    SETTING_CHOICE,   /* int: index into `choices` */
    SETTING_SECTION,  /* a map or list with tables of its own; in the configuration's own tables only */
    SETTING_LATER,    /* no value: a key of a later version, refused with a sentence of its own */
};

/* What a row is to the fingerprints of a feed: print.c. */
enum setting_print {
    SETTING_COUNTS, /* a history depends on it: in the recipe where it is a field's, else in the order */
    SETTING_RECIPE, /* the same, and in the recipe though it is the feed's */
    SETTING_BESIDE, /* no history depends on it */
};

#define SETTING_LIST_MAX 8 /* numbers in a list */

struct setting_ints {
    uint32_t n;
    int64_t v[SETTING_LIST_MAX];
};

struct setting_floats {
    uint32_t n;
    double v[SETTING_LIST_MAX];
};

struct setting_strings {
    uint32_t n;
    char **v;
};

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;       /* into the plug-in's or section's params struct */
    const char *initial; /* the default, as it would be written in YAML; NULL: must be given */
    double min, max;     /* for each number, in the unit that is stored; both 0: any */
    const char *choices; /* CHOICE: "a|b|c|!d"; d is for a later version. INT and SIZE: a word that may stand for 0, or, where
                       * 0 may be given, for -1: "auto"; FLOATS: one that stands for a list of none */
    const char *help;    /* one line, no full stop */
    bool restart;        /* of the daemon's own: a reload does not change it */
    enum setting_print print;
};

#define SETTINGS_END                                                                                                             \
    {                                                                                                                            \
        .name = NULL                                                                                                             \
    }
#define SETTING_NO_MAX 9223372036854775807.0 /* as max: no upper bound */

/* Writes the value of words[0..n) into params. relative is the folder that relative paths start at. On failure why says what
 * is wrong and what would be right, without a place: -EINVAL, -ERANGE or -ENOMEM; params is as before. */
int setting_set(const struct setting *row, void *params, const char *relative, const char *const *words, uint32_t n,
                struct problem *why);
/* Sets the row's `initial`, which must not be NULL. */
int setting_set_default(const struct setting *row, void *params, const char *relative, struct problem *why);
/* All rows of a table from their defaults; -EINVAL at a row that must be given. For tests and tools. */
int setting_defaults(const struct setting *rows, void *params, struct problem *why);
void setting_release(const struct setting *rows, void *params); /* what the values own; params itself is the caller's */

bool setting_takes_list(const struct setting *row);
/* What the word of an INT's or a SIZE's choices stands for. */
static inline int64_t setting_for_word(const struct setting *row)
{
    return row->min <= 0 && row->max > 0 ? -1 : 0;
}

/* "a whole number from 1 to 8 or 'auto'" */
void setting_expects(const struct setting *row, char *text, size_t size);
void setting_print(const struct setting *row, const void *params, FILE *to); /* the value as YAML, on one line */
void setting_print_string(const char *text, FILE *to);                       /* quoted as YAML */
/* Which word of a CHOICE row the value is; not terminated, *length bytes. */
const char *setting_word(const struct setting *row, const void *params, int *length);
void setting_help(const struct setting *rows, int indent, FILE *to);

struct setting_unit {
    const char *suffix; /* NULL at the end; from the largest to the smallest */
    uint64_t factor;
};
extern const struct setting_unit setting_size_units[], setting_duration_units[];
const char *setting_noun(enum setting_type type); /* "a whole number", for "... is not a whole number" */

#endif
