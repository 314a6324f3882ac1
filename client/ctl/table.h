/* SPDX-License-Identifier: MIT */
/* Tables of rows from the daemon: one struct column gives a column's header, JSON key, unit, help and format; everything that
 * shows rows (text, JSON, --columns, --help) goes by it. The tables themselves are in rows.c. */
#ifndef PFEEDCTL_TABLE_H
#define PFEEDCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ctlsock.h"
#include "json.h"

enum column_kind { COLUMN_TEXT, COLUMN_U32, COLUMN_U64, COLUMN_I64, COLUMN_OTHER };

enum paint { PAINT_NONE, PAINT_DIM, PAINT_BOLD, PAINT_RED, PAINT_GREEN, PAINT_YELLOW, PAINT_BLUE };

struct column {
    const char *key;    /* in JSON and --columns */
    const char *header; /* on top of the column */
    const char *unit;   /* "ns", "bytes" or what is counted; "": a plain number or a text */
    const char *help;
    enum column_kind kind;
    size_t offset, size; /* in the row's struct */
    bool adds_up;        /* only grows: --watch shows it per second */
    /* Instead of the bytes at offset. JSON shows the text too, unless it has a function of its own. */
    void (*text)(const void *row, char *to, size_t size);
    void (*json)(const void *row, struct json *json);
    enum paint (*paint)(const void *row);
};

struct table {
    const char *name;  /* the array's key in JSON */
    const char *none;  /* what to say where there are no rows */
    const char *shown; /* keys of the columns that text shows by default */
    const struct column *columns;
    size_t n_columns, row_size;
    size_t id_offset, id_size;        /* what names a row from one --watch to the next; 0 bytes: its place */
    uint32_t what;                    /* enum pf_stat_what; 0: not the daemon's */
    bool (*problem)(const void *row); /* exit code 1 */
    const void *rows;                 /* of a table that is known without a daemon */
    size_t count;
};

#define TABLES (PF_STAT_LAST + 1)

/* How to show it: on what, and what was there the last time (--watch). */
struct view {
    FILE *out;
    bool colour;
    unsigned width;      /* lines are cut here; 0: not at all */
    const char *columns; /* --columns, or NULL */
    struct {
        void *rows; /* owned by the view's owner */
        size_t count;
        int64_t at_ns;
    } before[TABLES];
    int64_t at_ns; /* when the rows to show were got */
};

/* A line per row, or a line per column ("key  value") of one row. */
void table_print(const struct view *view, const struct table *table, const void *rows, size_t count);
void table_print_card(const struct view *view, const struct table *table, const void *row);
void table_json_row(struct json *json, const struct table *table, const void *row);
void table_json(struct json *json, const struct table *table, const void *rows, size_t count); /* key and array */
void table_help(FILE *out, const struct table *table);
bool table_problem(const struct table *table, const void *rows, size_t count);
/* 0, or -EINVAL with what it could have meant. */
int table_check_columns(const struct table *table, const char *columns, struct sentence *why);

/* Begins and ends a colour; empty where there is none. */
const char *paint_begin(bool colour, enum paint paint);
const char *paint_end(bool colour, enum paint paint);

#endif
