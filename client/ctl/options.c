/* SPDX-License-Identifier: MIT */
/* The command line: a row an option, any order of options and words, and a hint at what was meant. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"
#include "pfeedctl.h"
#include "text.h"

#define WATCH_LEAST_S 0.1
#define WATCH_MOST_S  86400.0
#define WATCH_NS      INT64_C(1000000000)

const struct option_row option_rows[OPTIONS] = {
    [OPTION_JSON] = { "json", "", "one JSON document on one line, with schema_version 1; with --watch one each time" },
    [OPTION_WATCH] = { "watch", "=SECONDS", "again and again (default: each second), until Ctrl-C or the daemon's end" },
    [OPTION_SOCKET] = { "socket", "PATH",
                        "the daemon's socket; default: $PFEED_SOCKET, then the user's own, then /run/pfeed/pfeedd.sock" },
    [OPTION_FEED] = { "feed", "NAME", "only of this feed" },
    [OPTION_COLUMNS] = { "columns", "LIST", "columns of the text, by their keys: 'a,b,c' or 'all'" },
    [OPTION_ROW] = { "row", "N", "which row of the batch, from 0 (default 0)" },
    [OPTION_FIELD] = { "field", "NAME", "which field (default: the first one that is a picture)" },
    [OPTION_OUT] = { "out", "FILE", "where to write the picture (PPM); '-': standard output" },
    [OPTION_VERSION] = { "version", "", "print the version and end" },
    [OPTION_HELP] = { "help", "", "this text" },
};

static int __attribute__((format(printf, 1, 2))) usage(const char *format, ...)
{
    va_list args;

    fputs("pfeedctl: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    putc('\n', stderr);
    return CTL_USAGE;
}

static int unknown(const char *what, const char *word, const char *best, const char *dashes)
{
    char clean[64];

    text_clean(clean, sizeof(clean), word, strlen(word));
    if (best)
        return usage("unknown %s '%s'; did you mean '%s%s'? (pfeedctl --help lists them)", what, clean, dashes, best);
    return usage("unknown %s '%s'; pfeedctl --help lists them", what, clean);
}

static int unknown_option(const char *word)
{
    struct nearest nearest;
    char name[32];

    text_clean(name, sizeof(name), word + strspn(word, "-"), strcspn(word + strspn(word, "-"), "="));
    nearest_init(&nearest, name);
    for (int i = 0; i < OPTIONS; i++)
        nearest_offer(&nearest, option_rows[i].name);
    return unknown("option", word, nearest.best, "--");
}

static int take_verb(struct ctl *ctl, const char *word)
{
    struct nearest nearest;

    ctl->verb = verb_find(word);
    if (ctl->verb)
        return CTL_FINE;
    nearest_init(&nearest, word);
    for (const struct verb *verb = verbs; verb->name; verb++)
        nearest_offer(&nearest, verb->name);
    return unknown("verb", word, nearest.best, "");
}

static int take_watch(struct ctl *ctl, const char *text)
{
    char *end;
    double s;

    ctl->watch_ns = WATCH_NS;
    if (!text)
        return CTL_FINE;
    s = strtod(text, &end);
    if (end == text || *end || !(s >= WATCH_LEAST_S && s <= WATCH_MOST_S))
        return usage("--watch=%s: seconds, %g to %g", text, WATCH_LEAST_S, WATCH_MOST_S);
    ctl->watch_ns = (int64_t)(s * 1e9);
    return CTL_FINE;
}

static int take_row(struct ctl *ctl, const char *text)
{
    unsigned long value;
    char *end;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (end == text || *end || *text == '-' || errno || value > UINT32_MAX)
        return usage("--row %s: a row's number, from 0", text);
    ctl->row = (uint32_t)value;
    return CTL_FINE;
}

static int take_option(struct ctl *ctl, int option, const char *text)
{
    if (text && !*text && option != OPTION_SOCKET)
        return usage("--%s has an empty value", option_rows[option].name);
    ctl->given |= 1u << option;
    switch (option) {
    case OPTION_WATCH:
        return take_watch(ctl, text);
    case OPTION_ROW:
        return take_row(ctl, text);
    case OPTION_SOCKET:
        ctl->socket = text;
        return CTL_FINE;
    case OPTION_FEED:
        ctl->feed = text;
        return CTL_FINE;
    case OPTION_COLUMNS:
        ctl->view.columns = text;
        return CTL_FINE;
    case OPTION_FIELD:
        ctl->field = text;
        return CTL_FINE;
    case OPTION_OUT:
        ctl->out_path = text;
        return CTL_FINE;
    default:
        return CTL_FINE;
    }
}

static int take_options(struct ctl *ctl, int argc, char **argv)
{
    struct option known[OPTIONS + 1] = { { 0 } };
    int i, rc = CTL_FINE;

    for (i = 0; i < OPTIONS; i++) {
        const char *argument = option_rows[i].argument;

        known[i].name = option_rows[i].name;
        known[i].has_arg = !*argument ? no_argument : *argument == '=' ? optional_argument : required_argument;
    }
    opterr = 0;
    while (rc == CTL_FINE) {
        int at = optind, index = -1, c;

        c = getopt_long(argc, argv, ":hV", known, &index);
        if (c < 0)
            break;
        if (c == 'h' || c == 'V')
            rc = take_option(ctl, c == 'h' ? OPTION_HELP : OPTION_VERSION, NULL);
        else if (c == 0)
            rc = take_option(ctl, index, optarg);
        else if (c == ':')
            rc = usage("%s needs a value", argv[optind - 1]);
        else
            rc = unknown_option(argv[optind > at ? optind - 1 : at]);
    }
    return rc;
}

static int take_words(struct ctl *ctl, int n, char **words)
{
    const struct verb *verb = ctl->verb;
    bool feed = strstr(verb->argument, "FEED");

    if (n > 1 || (n == 1 && !*verb->argument))
        return usage("%s does not take '%s'; see pfeedctl %s --help", verb->name, words[n > 1 ? 1 : 0], verb->name);
    if (n == 1 && feed && ctl->feed)
        return usage("%s: the feed is given twice, '%s' and '%s'", verb->name, ctl->feed, words[0]);
    if (n == 1 && feed)
        ctl->feed = words[0];
    else if (n == 1)
        ctl->word = words[0];
    if (*verb->argument && *verb->argument != '[' && !(feed ? ctl->feed : ctl->word))
        return usage("%s needs %s; see pfeedctl %s --help", verb->name, verb->argument, verb->name);
    return CTL_FINE;
}

/* What goes together. */
static int check(const struct ctl *ctl)
{
    uint32_t missing = ctl->verb->needs & ~ctl->given;
    struct sentence why;

    for (int i = 0; i < OPTIONS; i++)
        if (missing >> i & 1)
            return usage("%s needs --%s %s: %s", ctl->verb->name, option_rows[i].name, option_rows[i].argument,
                         option_rows[i].help);
    if (ctl->feed && !*ctl->feed)
        return usage("%s: the feed's name is empty", ctl->verb->name);
    if (ctl->out_path && strcmp(ctl->out_path, "-") == 0 && (ctl->watch_ns || ctl_gave(ctl, OPTION_JSON)))
        return usage("--out - goes with neither --json nor --watch: the picture itself is the output");
    if (ctl->view.columns && table_check_columns(ctl->verb->tables[0], ctl->view.columns, &why) < 0)
        return usage("%s", why.text);
    return CTL_FINE;
}

int options_parse(struct ctl *ctl, int argc, char **argv)
{
    int rc = take_options(ctl, argc, argv);

    if (rc != CTL_FINE)
        return rc;
    if (optind == argc) {
        if (ctl_gave(ctl, OPTION_HELP) || ctl_gave(ctl, OPTION_VERSION))
            return CTL_FINE;
        help_all(stderr);
        return CTL_USAGE;
    }
    rc = take_verb(ctl, argv[optind]);
    if (rc != CTL_FINE || ctl_gave(ctl, OPTION_HELP))
        return rc;
    for (int i = 0; i < OPTIONS; i++)
        if ((ctl->given & ~ctl->verb->options) >> i & 1)
            return usage("%s has no option --%s; see pfeedctl %s --help", ctl->verb->name, option_rows[i].name, ctl->verb->name);
    rc = take_words(ctl, argc - optind - 1, argv + optind + 1);
    return rc == CTL_FINE ? check(ctl) : rc;
}
