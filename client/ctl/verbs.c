/* SPDX-License-Identifier: MIT */
/* The verbs: one row gives name, arguments, help, options, columns and function. Those that only show rows are here too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"
#include "pfeedctl.h"

#define REQUEST_NS INT64_C(5000000000)
#define STOP_NS    INT64_C(10000000000)
#define RELOAD_NS  (INT64_C(24) * 3600 * 1000000000)

int64_t ctl_deadline(void)
{
    return ctlsock_now_ns() + REQUEST_NS;
}

int ctl_failed(int rc)
{
    return rc == -EPIPE || rc == -ETIMEDOUT ? CTL_NO_DAEMON : CTL_PROBLEM;
}

int ctl_rows(struct ctl *ctl, const struct table *table, struct stat_rows *rows)
{
    int rc = stat_query(ctl->fd, table->what, ctl->feed, table->row_size, ctl_deadline(), rows, &ctl->why);

    ctl->view.at_ns = ctlsock_now_ns();
    return rc < 0 ? ctl_failed(rc) : 0;
}

void ctl_keep(struct ctl *ctl, const struct table *table, struct stat_rows *rows)
{
    struct stat_rows old = { ctl->view.before[table->what].rows, 0 };

    stat_rows_fini(&old);
    ctl->view.before[table->what].rows = rows->rows;
    ctl->view.before[table->what].count = rows->count;
    ctl->view.before[table->what].at_ns = ctl->view.at_ns;
    *rows = (struct stat_rows){ NULL, 0 };
}

/* A feed that nobody knows looks like one without rows: say so, with what there is. */
static int feed_known(struct ctl *ctl)
{
    struct stat_rows rows;
    struct nearest nearest;
    bool known = false;
    int rc;

    if (!ctl->feed)
        return CTL_FINE;
    rc = stat_query(ctl->fd, table_feeds.what, NULL, table_feeds.row_size, ctl_deadline(), &rows, &ctl->why);
    if (rc < 0)
        return ctl_failed(rc);
    nearest_init(&nearest, ctl->feed);
    for (size_t i = 0; i < rows.count; i++) {
        struct pf_row_feed *feed = (struct pf_row_feed *)rows.rows + i;

        feed->name[sizeof(feed->name) - 1] = 0;
        known |= strcmp(feed->name, ctl->feed) == 0;
        nearest_offer(&nearest, feed->name);
    }
    if (!known)
        sentence_set(&ctl->why, 0, "no feed '%.64s'%s%s%s", ctl->feed,
                     nearest.best ? "; did you mean '" : "; pfeedctl feeds lists them", nearest.best ? nearest.best : "",
                     nearest.best ? "'?" : "");
    stat_rows_fini(&rows);
    return known ? CTL_FINE : CTL_PROBLEM;
}

/* feeds, consumers, errors, counters: the verb's one table. */
static int verb_rows(struct ctl *ctl)
{
    const struct table *table = ctl->verb->tables[0];
    struct stat_rows rows = { NULL, 0 };
    int rc;

    if (table->rows) {
        if (ctl_gave(ctl, OPTION_JSON))
            table_json(&ctl->json, table, table->rows, table->count);
        else
            table_print(&ctl->view, table, table->rows, table->count);
        return CTL_FINE;
    }
    rc = ctl_rows(ctl, table, &rows);
    if (rc == 0 && rows.count == 0)
        rc = feed_known(ctl);
    if (rc != 0)
        return rc;
    if (ctl_gave(ctl, OPTION_JSON))
        table_json(&ctl->json, table, rows.rows, rows.count);
    else
        table_print(&ctl->view, table, rows.rows, rows.count);
    rc = table_problem(table, rows.rows, rows.count) ? CTL_PROBLEM : CTL_FINE;
    ctl_keep(ctl, table, &rows);
    return rc;
}

static int verb_status(struct ctl *ctl)
{
    struct stat_rows daemon, feeds;
    int rc;

    rc = ctl_rows(ctl, &table_daemon, &daemon);
    if (rc != 0)
        return rc;
    if (daemon.count != 1) {
        sentence_set(&ctl->why, 0, "pfeedd sent %zu rows about itself instead of one", daemon.count);
        stat_rows_fini(&daemon);
        return CTL_PROBLEM;
    }
    rc = ctl_rows(ctl, &table_feeds, &feeds);
    if (rc != 0) {
        stat_rows_fini(&daemon);
        return rc;
    }
    if (ctl_gave(ctl, OPTION_JSON)) {
        json_key(&ctl->json, table_daemon.name);
        table_json_row(&ctl->json, &table_daemon, daemon.rows);
        table_json(&ctl->json, &table_feeds, feeds.rows, feeds.count);
    } else {
        table_print_card(&ctl->view, &table_daemon, daemon.rows);
        putc('\n', ctl->view.out);
        table_print(&ctl->view, &table_feeds, feeds.rows, feeds.count);
    }
    rc = table_problem(&table_feeds, feeds.rows, feeds.count) ? CTL_PROBLEM : CTL_FINE;
    ctl_keep(ctl, &table_daemon, &daemon);
    ctl_keep(ctl, &table_feeds, &feeds);
    return rc;
}

/* The figures of today, then what they have led to. */
static int verb_tune(struct ctl *ctl)
{
    struct stat_rows rows = { NULL, 0 };
    int rc = 0;

    for (size_t t = 0; t < 2 && rc == 0; t++) {
        const struct table *table = ctl->verb->tables[t];

        rc = ctl_rows(ctl, table, &rows);
        if (rc == 0 && t == 0 && rows.count == 0)
            rc = feed_known(ctl);
        if (rc != 0)
            return rc;
        if (t > 0 && !ctl_gave(ctl, OPTION_JSON))
            putc('\n', ctl->view.out);
        if (ctl_gave(ctl, OPTION_JSON))
            table_json(&ctl->json, table, rows.rows, rows.count);
        else
            table_print(&ctl->view, table, rows.rows, rows.count);
        ctl_keep(ctl, table, &rows);
    }
    return rc;
}

static int verb_stop(struct ctl *ctl)
{
    int rc = stat_stop(ctl->fd, ctlsock_now_ns() + STOP_NS, &ctl->why);

    if (rc == -ETIMEDOUT)
        return CTL_PROBLEM; /* it is there, only too much so */
    if (rc < 0)
        return ctl_failed(rc);
    if (ctl_gave(ctl, OPTION_JSON)) {
        json_key(&ctl->json, "stopped");
        json_bool(&ctl->json, true);
    } else {
        fputs("pfeedd has stopped\n", ctl->view.out);
    }
    return CTL_FINE;
}

/* The daemon may list millions of samples before it answers. */
static int change(struct ctl *ctl, bool rescan)
{
    char *report = NULL;
    int rc = stat_reload(ctl->fd, rescan, ctl->feed, ctlsock_now_ns() + RELOAD_NS, &report, &ctl->why);

    if (!report)
        return ctl_failed(rc);
    if (ctl_gave(ctl, OPTION_JSON)) {
        json_key(&ctl->json, "changed");
        json_bool(&ctl->json, rc == 0 && *report);
        json_key(&ctl->json, "report");
        json_text(&ctl->json, report, strlen(report));
    } else {
        fputs(rc == 0 && !*report ? "nothing has changed\n" : report, ctl->view.out);
        if (rc < 0)
            fputs("the new configuration is not in force\n", ctl->view.out);
    }
    free(report);
    return rc < 0 ? CTL_PROBLEM : CTL_FINE;
}

static int verb_reload(struct ctl *ctl)
{
    return change(ctl, false);
}

static int verb_rescan(struct ctl *ctl)
{
    return change(ctl, true);
}

#define COMMON (TAKES(JSON) | TAKES(WATCH) | TAKES(SOCKET) | TAKES(HELP))

#define ROWS (COMMON | TAKES(FEED) | TAKES(COLUMNS))

const struct verb verbs[] = {
    {
        .name = "status",
        .help = "what the daemon does: memory, CPU, and its feeds",
        .more = "Exit code 1: a feed has failed.",
        .options = COMMON,
        .daemon = true,
        .tables = { &table_daemon, &table_feeds },
        .run = verb_status,
    },
    {
        .name = "feeds",
        .argument = "[FEED]",
        .help = "the feeds, their slots and counters",
        .more = "Exit code 1: a feed has failed.",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_feeds },
        .run = verb_rows,
    },
    {
        .name = "slots",
        .argument = "[FEED]",
        .help = "a line per slot; on a terminal a bar per arena too",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_slots },
        .run = verb_slots,
    },
    {
        .name = "consumers",
        .argument = "[FEED]",
        .help = "who is attached, where they stand and what they wait for",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_consumers },
        .run = verb_rows,
    },
    {
        .name = "jobs",
        .argument = "[FEED]",
        .help = "the training runs: where each stands, who shares slots with whom, and rows decoded per row delivered",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_jobs },
        .run = verb_rows,
    },
    {
        .name = "tune",
        .argument = "[FEED]",
        .help = "the figures by which slots are tuned, and what the daemon has changed by itself (slots, read depth), and why",
        .options = COMMON | TAKES(FEED),
        .daemon = true,
        .tables = { &table_tune, &table_changes },
        .run = verb_tune,
    },
    {
        .name = "caches",
        .argument = "[FEED]",
        .help = "the caches: what share of the samples they keep, hits, and the CPU time that they have saved",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_caches },
        .run = verb_rows,
    },
    {
        .name = "errors",
        .argument = "[FEED]",
        .help = "bad samples by id, path and reason",
        .more = "Exit code 1: there are some.",
        .options = ROWS,
        .daemon = true,
        .tables = { &table_errors },
        .run = verb_rows,
    },
    {
        .name = "peek",
        .argument = "FEED",
        .help = "writes a row as a picture: what a trainer gets, with normalising undone",
        .more = "Takes the slot that became ready last and holds the row; where there is none, attaches for one batch.",
        .options = COMMON | TAKES(FEED) | TAKES(ROW) | TAKES(FIELD) | TAKES(OUT),
        .needs = TAKES(OUT),
        .daemon = true,
        .run = verb_peek,
    },
    {
        .name = "counters",
        .help = "the counters and what they count",
        .options = COMMON | TAKES(COLUMNS),
        .once = true,
        .tables = { &table_counters },
        .run = verb_rows,
    },
    {
        .name = "reload",
        .help = "reads the configuration again; prints what has changed and what needs a restart",
        .more =
            "Feeds that have not changed go on undisturbed; a changed one serves its present jobs as before, and new ones as it "
            "is now. Exit code 1: the configuration has errors, and nothing has changed.",
        .options = COMMON,
        .daemon = true,
        .once = true,
        .run = verb_reload,
    },
    {
        .name = "rescan",
        .argument = "[FEED]",
        .help = "lists the samples anew, for new jobs; reads the configuration again, too",
        .options = COMMON | TAKES(FEED),
        .daemon = true,
        .once = true,
        .run = verb_rescan,
    },
    {
        .name = "stop",
        .help = "stops the daemon and waits until it is gone",
        .options = COMMON,
        .daemon = true,
        .once = true,
        .run = verb_stop,
    },
    {
        .name = "completion",
        .argument = "SHELL",
        .help = "prints a completion script for bash, zsh or fish",
        .options = TAKES(HELP),
        .once = true,
        .run = verb_completion,
    },
    {
        .name = "help",
        .argument = "[VERB]",
        .help = "this list, or all about a verb",
        .options = TAKES(HELP),
        .once = true,
        .run = verb_help,
    },
    { .name = NULL },
};

const struct verb *verb_find(const char *name)
{
    for (const struct verb *verb = verbs; verb->name; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}
