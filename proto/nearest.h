/* SPDX-License-Identifier: MIT */
/* "Did you mean": the known word with the smallest edit distance to what somebody wrote, if it is near enough to be worth
 * saying. Used by pfeedd for the configuration and for names in control messages, by pfeedctl for verbs, options, columns and
 * feeds; here, as neither of them knows the other's folder. */
#ifndef PF_NEAREST_H
#define PF_NEAREST_H

#include <string.h>

#define NEAREST_WORD_MAX 63

/* Offer every known word, then read best (NULL: nothing is near enough). */
struct nearest {
    const char *word, *best;
    unsigned distance;
};

/* Optimal string alignment: insert, delete, replace, or swap of two neighbours cost 1 each. */
static inline unsigned nearest_distance(const char *a, const char *b)
{
    unsigned rows[3][NEAREST_WORD_MAX + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > NEAREST_WORD_MAX || m > NEAREST_WORD_MAX)
        return NEAREST_WORD_MAX;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

static inline void nearest_init(struct nearest *nearest, const char *word)
{
    size_t n = strlen(word);
    nearest->word = word;
    nearest->best = NULL;
    nearest->distance = n < 3 ? 2 : (unsigned)(n + 1) / 3 + 1; /* the best must be below this */
}

static inline void nearest_offer(struct nearest *nearest, const char *candidate)
{
    size_t n = strlen(nearest->word);
    unsigned d = n >= 3 && strncmp(candidate, nearest->word, n) == 0 ? 1 : nearest_distance(nearest->word, candidate);
    if (d < nearest->distance && d < strlen(candidate)) {
        nearest->best = candidate;
        nearest->distance = d;
    }
}

#endif
