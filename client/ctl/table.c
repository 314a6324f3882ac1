/* SPDX-License-Identifier: MIT */
/* See table.h. Cells are made twice, once to measure and once to print, so that nothing of a table is kept. */
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nearest.h"
#include "text.h"

#define GAP 2u

struct cell {
    char text[320];
    bool right;
    enum paint paint;
};

const char *paint_begin(bool colour, enum paint paint)
{
    static const char *const codes[] = { "", "\033[2m", "\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[34m" };

    return colour ? codes[paint] : "";
}

const char *paint_end(bool colour, enum paint paint)
{
    return colour && paint != PAINT_NONE ? "\033[0m" : "";
}

/* ---- one value ------------------------------------------------------------------------------------------------------ */

static uint64_t number(const struct column *column, const void *row)
{
    uint32_t small;
    uint64_t large;

    if (column->kind == COLUMN_U32) {
        memcpy(&small, (const char *)row + column->offset, sizeof(small));
        return small;
    }
    memcpy(&large, (const char *)row + column->offset, sizeof(large));
    return large;
}

static void value_text(const struct column *column, const void *row, char *to, size_t size)
{
    char text[sizeof(((struct cell *)0)->text)];

    if (column->text) {
        column->text(row, text, sizeof(text));
        text_clean(to, size, text, sizeof(text));
    } else if (column->kind == COLUMN_TEXT) {
        text_clean(to, size, (const char *)row + column->offset, column->size);
    } else if (column->kind == COLUMN_I64) {
        snprintf(to, size, "%" PRId64, (int64_t)number(column, row));
    } else {
        text_number(to, size, number(column, row), column->unit);
    }
}

/* The row of the last time with the same name. */
static const void *row_before(const struct view *view, const struct table *table, const void *row, size_t place)
{
    const char *rows = view->before[table->what].rows;
    size_t count = view->before[table->what].count;

    if (table->id_size == 0)
        return place < count ? rows + place * table->row_size : NULL;
    for (size_t i = 0; i < count; i++)
        if (memcmp(rows + i * table->row_size + table->id_offset, (const char *)row + table->id_offset, table->id_size) == 0)
            return rows + i * table->row_size;
    return NULL;
}

static void cell_make(struct cell *cell, const struct view *view, const struct table *table, const struct column *column,
                      const void *row, const void *before)
{
    cell->right = column->kind != COLUMN_TEXT && column->kind != COLUMN_OTHER;
    cell->paint = column->paint ? column->paint(row) : PAINT_NONE;
    if (column->adds_up && before && view->at_ns > view->before[table->what].at_ns &&
        number(column, row) >= number(column, before)) {
        double s = (double)(view->at_ns - view->before[table->what].at_ns) / 1e9;

        text_rate(cell->text, sizeof(cell->text), (double)(number(column, row) - number(column, before)) / s, column->unit);
    } else {
        value_text(column, row, cell->text, sizeof(cell->text));
    }
}

/* ---- which columns -------------------------------------------------------------------------------------------------- */

static const struct column *find(const struct table *table, const char *key, size_t length)
{
    for (size_t i = 0; i < table->n_columns; i++)
        if (strlen(table->columns[i].key) == length && memcmp(table->columns[i].key, key, length) == 0)
            return &table->columns[i];
    return NULL;
}

static size_t choose(const struct table *table, const char *columns, const struct column **chosen, size_t room)
{
    size_t n = 0;

    if (!columns)
        columns = table->shown;
    if (strcmp(columns, "all") == 0) {
        for (; n < table->n_columns && n < room; n++)
            chosen[n] = &table->columns[n];
        return n;
    }
    while (*columns && n < room) {
        size_t length = strcspn(columns, ", ");
        const struct column *column = find(table, columns, length);

        if (column)
            chosen[n++] = column;
        columns += length;
        columns += strspn(columns, ", ");
    }
    return n;
}

int table_check_columns(const struct table *table, const char *columns, struct sentence *why)
{
    size_t length;

    if (strcmp(columns, "all") == 0)
        return 0;
    if (!columns[strspn(columns, ", ")])
        return sentence_set(why, -EINVAL, "--columns names no column; it is a list such as '%s', or 'all'", table->shown);
    for (; *columns; columns += length, columns += strspn(columns, ", ")) {
        struct nearest nearest;
        char word[64];

        length = strcspn(columns, ", ");
        if (find(table, columns, length) || length == 0)
            continue;
        text_clean(word, sizeof(word), columns, length);
        nearest_init(&nearest, word);
        for (size_t i = 0; i < table->n_columns; i++)
            nearest_offer(&nearest, table->columns[i].key);
        return sentence_set(why, -EINVAL, "no column '%s' in %s%s%s%s; --help lists them", word, table->name,
                            nearest.best ? " (did you mean '" : "", nearest.best ? nearest.best : "", nearest.best ? "'?)" : "");
    }
    return 0;
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

enum { COLUMNS_MAX = 64 };

/* Prints one cell at *at; what does not fit on the line is cut. */
static void print_cell(const struct view *view, const struct cell *cell, size_t width, bool last, size_t *at)
{
    size_t has = text_width(cell->text), space = width > has ? width - has : 0, shown = has, left = SIZE_MAX;

    if (view->width)
        left = view->width > *at ? view->width - *at : 0;
    if (cell->right) {
        size_t before = space < left ? space : left;

        fprintf(view->out, "%*s", (int)before, "");
        left -= before;
    }
    if (shown > left)
        shown = left;
    if (shown > 0)
        fprintf(view->out, "%s%.*s%s", paint_begin(view->colour, cell->paint), (int)text_cut(cell->text, shown), cell->text,
                paint_end(view->colour, cell->paint));
    if (!last && !cell->right)
        fprintf(view->out, "%*s", (int)(space < left - shown ? space : left - shown), "");
    *at += has > width ? has : width;
    if (!last && (!view->width || *at + GAP < view->width))
        fprintf(view->out, "%*s", (int)GAP, "");
    *at += GAP;
}

void table_print(const struct view *view, const struct table *table, const void *rows, size_t count)
{
    const struct column *columns[COLUMNS_MAX];
    size_t n = choose(table, view->columns, columns, COLUMNS_MAX), widths[COLUMNS_MAX], at = 0;
    struct cell cell;

    if (count == 0) {
        fprintf(view->out, "%s\n", table->none);
        return;
    }
    for (size_t c = 0; c < n; c++) {
        widths[c] = text_width(columns[c]->header);
        for (size_t r = 0; r < count; r++) {
            const void *row = (const char *)rows + r * table->row_size;
            size_t width;

            cell_make(&cell, view, table, columns[c], row, row_before(view, table, row, r));
            width = text_width(cell.text);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (size_t c = 0; c < n; c++) {
        cell.right = columns[c]->kind != COLUMN_TEXT && columns[c]->kind != COLUMN_OTHER;
        cell.paint = PAINT_BOLD;
        snprintf(cell.text, sizeof(cell.text), "%s", columns[c]->header);
        print_cell(view, &cell, widths[c], c + 1 == n, &at);
    }
    putc('\n', view->out);
    for (size_t r = 0; r < count; r++) {
        const void *row = (const char *)rows + r * table->row_size, *before = row_before(view, table, row, r);

        at = 0;
        for (size_t c = 0; c < n; c++) {
            cell_make(&cell, view, table, columns[c], row, before);
            print_cell(view, &cell, widths[c], c + 1 == n, &at);
        }
        putc('\n', view->out);
    }
}

void table_print_card(const struct view *view, const struct table *table, const void *row)
{
    const void *before = row_before(view, table, row, 0);
    size_t width = 0;

    for (size_t c = 0; c < table->n_columns; c++) {
        size_t length = text_width(table->columns[c].header);

        width = length > width ? length : width;
    }
    for (size_t c = 0; c < table->n_columns; c++) {
        struct cell cell, header = { .paint = PAINT_BOLD };
        size_t at = 0;

        snprintf(header.text, sizeof(header.text), "%s", table->columns[c].header);
        print_cell(view, &header, width, false, &at);
        cell_make(&cell, view, table, &table->columns[c], row, before);
        cell.right = false;
        print_cell(view, &cell, 0, true, &at);
        putc('\n', view->out);
    }
}

void table_help(FILE *out, const struct table *table)
{
    fprintf(out,
            "\nColumns of %s (JSON keys, always all and in plain units; text shows those with a *, or --columns LIST|all):\n",
            table->name);
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i], *shown[COLUMNS_MAX];
        size_t n = choose(table, NULL, shown, COLUMNS_MAX);
        bool star = false;

        for (size_t s = 0; s < n; s++)
            star |= shown[s] == column;
        fprintf(out, "  %c %-18s %s%s%s%s\n", star ? '*' : ' ', column->key, column->help, *column->unit ? " [" : "",
                column->unit, *column->unit ? "]" : "");
    }
}

/* ---- JSON and the rest ---------------------------------------------------------------------------------------------- */

void table_json_row(struct json *json, const struct table *table, const void *row)
{
    char text[sizeof(((struct cell *)0)->text)];

    json_open(json, '{');
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];

        json_key(json, column->key);
        if (column->json) {
            column->json(row, json);
        } else if (column->text) {
            column->text(row, text, sizeof(text));
            json_text(json, text, sizeof(text));
        } else if (column->kind == COLUMN_TEXT) {
            json_text(json, (const char *)row + column->offset, column->size);
        } else if (column->kind == COLUMN_I64) {
            json_i64(json, (int64_t)number(column, row));
        } else {
            json_u64(json, number(column, row));
        }
    }
    json_close(json, '}');
}

void table_json(struct json *json, const struct table *table, const void *rows, size_t count)
{
    json_key(json, table->name);
    json_open(json, '[');
    for (size_t i = 0; i < count; i++)
        table_json_row(json, table, (const char *)rows + i * table->row_size);
    json_close(json, ']');
}

bool table_problem(const struct table *table, const void *rows, size_t count)
{
    for (size_t i = 0; table->problem && i < count; i++)
        if (table->problem((const char *)rows + i * table->row_size))
            return true;
    return false;
}
