/* SPDX-License-Identifier: MIT */
/* pfeedctl's inside: the run of one verb, the verbs, and the options. One thread; every file of client/ctl may know it.
 * Exit codes are part of the interface. */
#ifndef PFEEDCTL_H
#define PFEEDCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "rows.h"
#include "stat.h"

enum ctl_exit { CTL_FINE = 0, CTL_PROBLEM = 1, CTL_USAGE = 2, CTL_NO_DAEMON = 3 };

/* A row of option_rows each (options.c). */
enum ctl_option {
    OPTION_JSON,
    OPTION_WATCH,
    OPTION_SOCKET,
    OPTION_FEED,
    OPTION_COLUMNS,
    OPTION_ROW,
    OPTION_FIELD,
    OPTION_OUT,
    OPTION_VERSION,
    OPTION_HELP,
    OPTIONS
};
#define TAKES(option) (1u << OPTION_##option)

struct ctl {
    const struct verb *verb;
    uint32_t given; /* TAKES() of the options on the command line */
    const char *socket, *feed, *field, *out_path;
    const char *word; /* the verb's argument, where that is not a feed */
    uint32_t row;
    int64_t watch_ns;

    int fd; /* the control socket, or -1 */
    bool terminal;
    struct view view; /* view.out is where verbs print */
    struct json json;
    struct sentence why; /* set: the verb has failed */
};

struct verb {
    const char *name;
    char argument[12]; /* "", "[FEED]", "FEED": taken as --feed; others: kept as word */
    const char *help;  /* a line */
    const char *more;  /* further lines for its own --help, or NULL */
    uint32_t options;  /* TAKES(): those that it knows */
    uint32_t needs;    /* and those that it cannot do without */
    bool daemon;       /* talks to one */
    bool once;         /* --watch changes nothing */
    const struct table *tables[3];
    int (*run)(struct ctl *ctl); /* enum ctl_exit; text to view.out, or with --json members of the document to json */
};

/* Verbs in the order of the help; ends with a row without a name. */
extern const struct verb verbs[];
const struct verb *verb_find(const char *name);

int verb_slots(struct ctl *ctl);
int verb_peek(struct ctl *ctl);
int verb_help(struct ctl *ctl);
int verb_completion(struct ctl *ctl);

static inline bool ctl_gave(const struct ctl *ctl, enum ctl_option option)
{
    return ctl->given >> option & 1;
}

int64_t ctl_deadline(void); /* of one request */
/* The rows of a table for the feed asked for. 0, or an exit code with why set. The caller frees them. */
int ctl_rows(struct ctl *ctl, const struct table *table, struct stat_rows *rows);
/* Remembers them for the next --watch; takes them over. */
void ctl_keep(struct ctl *ctl, const struct table *table, struct stat_rows *rows);
/* What a failing request means for the exit code; why is set. */
int ctl_failed(int rc);

/* options.c. CTL_FINE, or CTL_USAGE after it has said what is wrong. */
int options_parse(struct ctl *ctl, int argc, char **argv);
struct option_row {
    const char *name, *argument; /* "=SECONDS" optional, "FILE" required, "" none */
    const char *help;
};
extern const struct option_row option_rows[OPTIONS];

/* help.c */
void help_verb(FILE *out, const struct verb *verb);
void help_all(FILE *out);

#endif
