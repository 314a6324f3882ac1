/* SPDX-License-Identifier: MIT */
/* Settings as text: what a value may be, for messages and --help, and the value itself, for --dump-config. Called by setting.c
 * and config_dump.c on the main thread. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "setting.h"

const struct setting_unit setting_size_units[] = {
    { "TiB", UINT64_C(1) << 40 }, { "GiB", 1 << 30 }, { "MiB", 1 << 20 }, { "KiB", 1 << 10 }, { "B", 1 }, { NULL, 0 },
};
const struct setting_unit setting_duration_units[] = {
    { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }, { NULL, 0 }
};

/* What a single word of the type is called in messages. */
static const char *const nouns[] = {
    [SETTING_BOOL] = "yes or no",        [SETTING_INT] = "a whole number",  [SETTING_INTS] = "a whole number",
    [SETTING_SIZE] = "a size",           [SETTING_DURATION] = "a duration", [SETTING_FLOAT] = "a number",
    [SETTING_FLOATS] = "a number",       [SETTING_STRING] = "a word",       [SETTING_STRINGS] = "a word",
    [SETTING_PATH] = "a path",           [SETTING_PATHS] = "a path",        [SETTING_CHOICE] = "one of the words",
    [SETTING_SECTION] = "a map of keys", [SETTING_LATER] = "known",
};

const char *setting_noun(enum setting_type type)
{
    return nouns[type];
}

bool setting_takes_list(const struct setting *row)
{
    return row->type == SETTING_INTS || row->type == SETTING_FLOATS || row->type == SETTING_STRINGS || row->type == SETTING_PATHS;
}

static void __attribute__((format(printf, 3, 4))) add(char *text, size_t size, const char *format, ...)
{
    va_list args;
    size_t used = strlen(text);
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void print_unit(char *text, size_t size, const struct setting_unit *units, uint64_t value)
{
    const struct setting_unit *unit = units;
    while (unit[1].suffix && (value == 0 || value % unit->factor))
        unit++;
    if (value == 0 && units == setting_duration_units)
        unit--; /* "0s", not "0ms" */
    snprintf(text, size, "%llu%s", (unsigned long long)(value / unit->factor), unit->suffix);
}

static void print_bound(const struct setting *row, double value, char *text, size_t size)
{
    if (row->type == SETTING_SIZE)
        print_unit(text, size, setting_size_units, (uint64_t)value);
    else if (row->type == SETTING_DURATION)
        print_unit(text, size, setting_duration_units, (uint64_t)value);
    else
        snprintf(text, size, row->type == SETTING_FLOAT || row->type == SETTING_FLOATS ? "%.15g" : "%.0f", value);
}

static void add_choices(const char *choices, char *text, size_t size)
{
    for (const char *at = choices; at;) {
        const char *bar = strchrnul(at, '|');
        bool last = !*bar || bar[1] == '!';
        if (*at == '!')
            break;
        const char *join = at == choices ? "" : last ? " or " : ", ";
        add(text, size, "%s'%.*s'", join, (int)(bar - at), at);
        at = *bar ? bar + 1 : NULL;
    }
}

void setting_expects(const struct setting *row, char *text, size_t size)
{
    static const char *const lists[] = {
        [SETTING_INTS] = "a list of whole numbers",
        [SETTING_FLOATS] = "a list of numbers",
        [SETTING_STRINGS] = "a word or a list of words",
        [SETTING_PATHS] = "a path or a list of paths",
        [SETTING_SIZE] = "a size such as 4GiB (B, KiB, MiB, GiB, TiB)",
        [SETTING_DURATION] = "a duration such as 30s (ms, s, m, h)",
    };
    bool special = (size_t)row->type < sizeof lists / sizeof *lists && lists[row->type];
    char low[32], high[32];
    text[0] = 0;
    if (row->type == SETTING_CHOICE) {
        add_choices(row->choices, text, size);
        return;
    }
    add(text, size, "%s", special ? lists[row->type] : nouns[row->type]);
    if (row->min != 0 || row->max != 0) {
        print_bound(row, row->min, low, sizeof low);
        print_bound(row, row->max, high, sizeof high);
        if (row->max >= SETTING_NO_MAX)
            add(text, size, ", %s or more", low);
        else
            add(text, size, " from %s to %s", low, high);
    }
    if (row->choices) {
        add(text, size, " or ");
        add_choices(row->choices, text, size);
    }
}

/* What YAML does not take as it is, or takes for the end of a line: beyond ASCII the controls U+0080 to U+009F, U+2028, U+2029,
 * U+FEFF, U+FFFE and U+FFFF. Returns how many bytes it takes, 0 where the character may stand as it is. */
static size_t must_escape(const unsigned char *at, unsigned *code)
{
    if (*at < 0x20 || *at == 0x7f) {
        *code = *at;
        return 1;
    }
    if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) {
        *code = at[1];
        return 2;
    }
    if ((at[0] & 0xf0) != 0xe0 || !at[1] || !at[2])
        return 0;
    *code = (at[0] & 0x0fu) << 12 | (at[1] & 0x3fu) << 6 | (at[2] & 0x3fu);
    return *code == 0x2028 || *code == 0x2029 || *code == 0xfeff || *code >= 0xfffe ? 3 : 0;
}

void setting_print_string(const char *text, FILE *to)
{
    const unsigned char *at = (const unsigned char *)text;
    fputc('"', to);
    while (*at) {
        unsigned code;
        size_t n = must_escape(at, &code);
        if (n)
            fprintf(to, "\\u%04X", code);
        else if (*at == '"' || *at == '\\')
            fprintf(to, "\\%c", *at);
        else
            fputc(*at, to);
        at += n ? n : 1;
    }
    fputc('"', to);
}

/* The shortest text that reads back to the same number. */
static void print_float(double value, FILE *to)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, to);
}

static void print_whole(const struct setting *row, int64_t value, FILE *to)
{
    char text[32];
    /* The word rather than what it stands for, which is out of range. */
    if (row->choices && value == setting_for_word(row))
        fprintf(to, "%.*s", (int)strcspn(row->choices, "|"), row->choices);
    else if (row->type == SETTING_SIZE || row->type == SETTING_DURATION) {
        print_unit(text, sizeof text, row->type == SETTING_SIZE ? setting_size_units : setting_duration_units, (uint64_t)value);
        fputs(text, to);
    } else
        fprintf(to, "%lld", (long long)value);
}

static void print_list(const struct setting *row, const void *value, FILE *to)
{
    const struct setting_ints *ints = value;
    const struct setting_floats *floats = value;
    const struct setting_strings *strings = value;
    uint32_t n = row->type == SETTING_INTS ? ints->n : row->type == SETTING_FLOATS ? floats->n : strings->n;
    if (n == 0 && row->type == SETTING_FLOATS && row->choices) {
        fputs(row->choices, to);
        return;
    }
    fputc('[', to);
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            fputs(", ", to);
        if (row->type == SETTING_INTS)
            fprintf(to, "%lld", (long long)ints->v[i]);
        else if (row->type == SETTING_FLOATS)
            print_float(floats->v[i], to);
        else
            setting_print_string(strings->v[i], to);
    }
    fputc(']', to);
}

const char *setting_word(const struct setting *row, const void *params, int *length)
{
    const char *text = row->choices;
    for (int index = *(const int *)((const char *)params + row->offset); index > 0; index--)
        text = strchr(text, '|') + 1;
    *length = (int)strcspn(text, "|");
    return text;
}

void setting_print(const struct setting *row, const void *params, FILE *to)
{
    const void *value = (const char *)params + row->offset;
    const char *text;
    int length;
    if (setting_takes_list(row)) {
        print_list(row, value, to);
        return;
    }
    switch (row->type) {
    case SETTING_BOOL:
        fputs(*(const bool *)value ? "yes" : "no", to);
        break;
    case SETTING_INT:
    case SETTING_SIZE:
    case SETTING_DURATION:
        print_whole(row, *(const int64_t *)value, to);
        break;
    case SETTING_FLOAT:
        print_float(*(const double *)value, to);
        break;
    case SETTING_CHOICE:
        text = setting_word(row, params, &length);
        fprintf(to, "%.*s", length, text);
        break;
    default:
        text = *(const char *const *)value;
        setting_print_string(text ? text : "", to);
    }
}

void setting_help(const struct setting *rows, int indent, FILE *to)
{
    char expects[256];
    for (const struct setting *row = rows; row->name; row++) {
        if (row->type == SETTING_LATER)
            continue;
        fprintf(to, "%*s%-16s %s\n", indent, "", row->name, row->help);
        if (row->type == SETTING_SECTION)
            continue;
        setting_expects(row, expects, sizeof expects);
        const char *initial = !row->initial ? "must be given" : *row->initial ? row->initial : "not given";
        fprintf(to, "%*s%-16s %s; default: %s\n", indent, "", "", expects, initial);
    }
}
