/* SPDX-License-Identifier: MIT */
/* The values of settings: from words into a params struct. Called by reader.c, on its thread; plug-ins only bring the tables.
 * The way back into text is setting_text.c. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "setting.h"

#define DEFAULT_WORDS 16   /* most words in a default that is a list */
#define WORDS_MAX     1024 /* most words in a list: each may cost a question to the name service */

/* The index of word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t n = strlen(word);
    int index = 0;
    for (const char *at = choices; at; index++) {
        const char *bar = strchrnul(at, '|');
        if ((size_t)(bar - at) == n && memcmp(at, word, n) == 0)
            return index;
        at = *bar ? bar + 1 : NULL;
    }
    return -1;
}

/* A whole number at the start of word; *rest is what follows it. */
static int parse_whole(const char *word, int64_t *out, const char **rest)
{
    if (!isdigit((unsigned char)word[word[0] == '-']))
        return -EINVAL;
    char *end;
    errno = 0;
    long long value = strtoll(word, &end, 10);
    if (errno)
        return -ERANGE;
    *out = value;
    *rest = end;
    return 0;
}

static int parse_float(const char *word, double *out)
{
    /* strtod alone would also take "inf", "nan" and hexadecimal. */
    if (word[strspn(word, "+-.0123456789eE")] != 0)
        return -EINVAL;
    char *end;
    errno = 0;
    double value = strtod(word, &end);
    if (end == word || *end)
        return -EINVAL;
    if (!isfinite(value))
        return -ERANGE;
    *out = value;
    return 0;
}

/* A number with a unit; without a unit it counts `plain`. Fractions ("1.5GiB") are taken where they come out whole. */
static int parse_unit(const char *word, const struct setting_unit *units, uint64_t plain, int64_t *out)
{
    char number[32];
    size_t n = strspn(word, "-.0123456789");
    if (n == 0 || n >= sizeof number)
        return -EINVAL;
    memcpy(number, word, n);
    number[n] = 0;
    uint64_t factor = word[n] ? 0 : plain;
    for (const struct setting_unit *unit = units; unit->suffix && !factor; unit++)
        if (strcmp(unit->suffix, word + n) == 0)
            factor = unit->factor;
    double value;
    if (!factor || parse_float(number, &value) < 0)
        return -EINVAL;
    value *= (double)factor;
    if (value != floor(value))
        return -EINVAL;
    if (value < 0 || value > 9e15) /* beyond 2^53 a double would not be exact */
        return -ERANGE;
    *out = (int64_t)value;
    return 0;
}

static bool within(const struct setting *row, double value)
{
    return (row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max);
}

/* Any of the types whose words are whole numbers. */
static int parse_int(const struct setting *row, const char *word, int64_t *out)
{
    int64_t value = 0;
    const char *rest = "";
    int rc;
    if (row->choices && choice_index(row->choices, word) >= 0) {
        *out = setting_for_word(row);
        return 0;
    }
    if (row->type == SETTING_SIZE)
        rc = parse_unit(word, setting_size_units, 1, &value);
    else if (row->type == SETTING_DURATION)
        rc = parse_unit(word, setting_duration_units, 1000, &value);
    else
        rc = parse_whole(word, &value, &rest);
    if (rc < 0 || *rest)
        return rc < 0 ? rc : -EINVAL;
    if (!within(row, (double)value))
        return -ERANGE;
    *out = value;
    return 0;
}

static int parse_bool(const char *word, bool *out)
{
    if (choice_index("yes|true|on", word) >= 0)
        *out = true;
    else if (choice_index("no|false|off", word) >= 0)
        *out = false;
    else
        return -EINVAL;
    return 0;
}

static char *make_string(const struct setting *row, const char *relative, const char *word)
{
    char *text = NULL;
    bool path = row->type == SETTING_PATH || row->type == SETTING_PATHS;
    if (!path || word[0] == '/' || !relative)
        return strdup(word);
    return asprintf(&text, "%s/%s", strcmp(relative, "/") == 0 ? "" : relative, word) < 0 ? NULL : text;
}

static int set_strings(const struct setting *row, void *value, const char *relative, const char *const *words, uint32_t n)
{
    struct setting_strings list = { .n = 0, .v = calloc(n ? n : 1, sizeof *list.v) };
    if (!list.v)
        return -ENOMEM;
    for (; list.n < n; list.n++) {
        list.v[list.n] = make_string(row, relative, words[list.n]);
        if (!list.v[list.n])
            goto free_words;
    }
    memcpy(value, &list, sizeof list);
    return 0;
free_words:
    while (list.n)
        free(list.v[--list.n]);
    free(list.v);
    return -ENOMEM;
}

static int set_numbers(const struct setting *row, void *value, const char *const *words, uint32_t n, uint32_t *bad)
{
    struct setting_ints ints = { .n = n };
    struct setting_floats floats = { .n = n };
    int rc = 0;
    if (row->type == SETTING_FLOATS && row->choices && n <= 1) {
        const bool word = n == 1 && choice_index(row->choices, words[0]) >= 0;
        if (n == 0)
            return -EINVAL;
        n = word ? 0 : n;
        floats.n = n;
    }
    for (*bad = 0; *bad < n; ++*bad) {
        if (row->type == SETTING_INTS)
            rc = parse_int(row, words[*bad], &ints.v[*bad]);
        else if ((rc = parse_float(words[*bad], &floats.v[*bad])) == 0 && !within(row, floats.v[*bad]))
            rc = -ERANGE;
        if (rc < 0)
            return rc;
    }
    if (row->type == SETTING_INTS)
        memcpy(value, &ints, sizeof ints);
    else
        memcpy(value, &floats, sizeof floats);
    return 0;
}

/* *bad is the word that the error is about. */
static int set_value(const struct setting *row, void *value, const char *relative, const char *const *words, uint32_t n,
                     uint32_t *bad)
{
    const char *word = n ? words[0] : "";
    double number;
    char *text;
    int rc, index;
    *bad = 0;
    switch (row->type) {
    case SETTING_BOOL:
        return parse_bool(word, value);
    case SETTING_INT:
    case SETTING_SIZE:
    case SETTING_DURATION:
        return parse_int(row, word, value);
    case SETTING_FLOAT:
        rc = parse_float(word, &number);
        if (rc < 0 || !within(row, number))
            return rc < 0 ? rc : -ERANGE;
        memcpy(value, &number, sizeof number);
        return 0;
    case SETTING_INTS:
    case SETTING_FLOATS:
        return set_numbers(row, value, words, n, bad);
    case SETTING_STRING:
    case SETTING_PATH:
        text = *word ? make_string(row, relative, word) : NULL;
        if (*word && !text)
            return -ENOMEM;
        memcpy(value, &text, sizeof text);
        return 0;
    case SETTING_STRINGS:
    case SETTING_PATHS:
        return set_strings(row, value, relative, words, n);
    case SETTING_CHOICE:
        index = choice_index(row->choices, word);
        if (index < 0)
            return -EINVAL;
        memcpy(value, &index, sizeof index);
        return 0;
    case SETTING_SECTION:
    case SETTING_LATER:
        break;
    }
    return -EINVAL;
}

/* "8GB", "8 gib" and "30 sec" are meant well: the unit that begins most like what was written. */
static bool guess_unit(const struct setting *row, const char *word, char *guess, size_t size)
{
    const struct setting_unit *units = row->type == SETTING_SIZE ? setting_size_units : setting_duration_units, *best = NULL;
    size_t digits = strspn(word, ".0123456789"), most = 0;
    const char *suffix = word + digits + strspn(word + digits, " ");
    if (digits == 0 || (row->type != SETTING_SIZE && row->type != SETTING_DURATION))
        return false;
    for (const struct setting_unit *unit = units; unit->suffix; unit++) {
        size_t n = 0;
        while (suffix[n] && tolower((unsigned char)suffix[n]) == tolower((unsigned char)unit->suffix[n]))
            n++;
        if (n > most || (n && n == most && strlen(unit->suffix) < strlen(best->suffix))) {
            most = n;
            best = unit;
        }
    }
    if (best)
        snprintf(guess, size, "%.*s%s", (int)digits, word, best->suffix);
    return best && parse_int(row, guess, &(int64_t){ 0 }) == 0;
}

static int complain(const struct setting *row, const char *word, int rc, struct problem *why)
{
    char expects[256];
    struct nearest nearest;
    char copy[256], guess[80], *rest = copy, *choice;
    setting_expects(row, expects, sizeof expects);
    if (rc == -ENOMEM)
        return problem_set(why, rc, "out of memory; free some and try again");
    if (rc == -ERANGE)
        return problem_set(why, rc, "'%s' %s %.60s, which is out of range; give %s", row->name,
                           setting_takes_list(row) ? "holds" : "is", word, expects);
    if (guess_unit(row, word, guess, sizeof guess))
        return problem_set(why, rc, "'%s' is '%.60s', which is not %s; did you mean %s?", row->name, word,
                           setting_noun(row->type), guess);
    if (row->type != SETTING_CHOICE)
        return problem_set(why, rc, "'%s' %s '%.60s', which is not %s; give %s", row->name,
                           setting_takes_list(row) ? "holds" : "is", word, setting_noun(row->type), expects);
    nearest_init(&nearest, word);
    snprintf(copy, sizeof copy, "%s", row->choices);
    while ((choice = strsep(&rest, "|"))) {
        if (choice[0] == '!' && strcmp(choice + 1, word) == 0)
            return problem_set(why, rc, "'%s: %s' is not in this version; use %s", row->name, word, expects);
        if (choice[0] != '!')
            nearest_offer(&nearest, choice);
    }
    if (nearest.best)
        return problem_set(why, rc, "'%s' cannot be '%.60s'; did you mean '%s'?", row->name, word, nearest.best);
    return problem_set(why, rc, "'%s' cannot be '%.60s'; use %s", row->name, word, expects);
}

int setting_set(const struct setting *row, void *params, const char *relative, const char *const *words, uint32_t n,
                struct problem *why)
{
    uint32_t bad = 0;
    bool numbers = row->type == SETTING_INTS || row->type == SETTING_FLOATS;
    if (numbers && n > SETTING_LIST_MAX)
        return problem_set(why, -ERANGE, "'%s' has %u numbers; give at most %d", row->name, n, SETTING_LIST_MAX);
    if (row->type == SETTING_STRINGS && n > WORDS_MAX)
        return problem_set(why, -ERANGE, "'%s' has %u words; give at most %d", row->name, n, WORDS_MAX);
    /* A text that must be given must not be empty either; an empty word in a list is never meant. */
    bool text = row->type == SETTING_STRING || row->type == SETTING_PATH;
    bool texts = row->type == SETTING_STRINGS || row->type == SETTING_PATHS;
    bool empty = (text || (texts && n == 0)) && !row->initial && (n == 0 || !*words[0]);
    for (uint32_t i = 0; texts && i < n; i++)
        empty = empty || !*words[i];
    if (empty)
        return problem_set(why, -EINVAL, "'%s' is empty; give %s", row->name, setting_noun(row->type));
    int rc = set_value(row, (char *)params + row->offset, relative, words, n, &bad);
    return rc < 0 ? complain(row, bad < n ? words[bad] : "", rc, why) : 0;
}

int setting_set_default(const struct setting *row, void *params, const char *relative, struct problem *why)
{
    char copy[256];
    const char *words[DEFAULT_WORDS];
    uint32_t n = 0;
    size_t length = strlen(row->initial);
    if (row->type == SETTING_SECTION || row->type == SETTING_LATER)
        return 0;
    assert(length < sizeof copy);
    memcpy(copy, row->initial, length + 1);
    if (setting_takes_list(row)) {
        /* "[0.08, 1.0]" or one word alone; an empty text is an empty list. */
        char *save = NULL;
        for (char *word = strtok_r(copy, "[, ]", &save); word && n < DEFAULT_WORDS; word = strtok_r(NULL, "[, ]", &save))
            words[n++] = word;
    } else {
        words[n++] = copy;
    }
    return setting_set(row, params, relative, words, n, why);
}

int setting_defaults(const struct setting *rows, void *params, struct problem *why)
{
    int rc = 0;
    for (const struct setting *row = rows; row->name && rc == 0; row++) {
        if (!row->initial)
            return problem_set(why, -EINVAL, "'%s' must be given", row->name);
        rc = setting_set_default(row, params, NULL, why);
    }
    return rc;
}

void setting_release(const struct setting *rows, void *params)
{
    if (!params)
        return;
    for (const struct setting *row = rows; row && row->name; row++) {
        void *value = (char *)params + row->offset;
        if (row->type == SETTING_STRING || row->type == SETTING_PATH) {
            free(*(char **)value);
            *(char **)value = NULL;
        } else if (row->type == SETTING_STRINGS || row->type == SETTING_PATHS) {
            struct setting_strings *list = value;
            while (list->n)
                free(list->v[--list->n]);
            free(list->v);
            list->v = NULL;
        }
    }
}
