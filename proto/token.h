/* SPDX-License-Identifier: MIT */
/*
 * A token: a job's place "after so many rows of epoch e", as a short text that a trainer keeps in its own checkpoint. The same for
 * all ranks, and at every world and batch of the same G (rows of a step over all ranks):
 *
 *   pfeed1:FEED:SEED:EPOCH:ROW:G:SAMPLES:DATA:ORDER:RECIPE:CHECKSUM
 *
 * Numbers are decimal without leading zeros; DATA, ORDER and RECIPE (struct pf_prints) and CHECKSUM have 16 hexadecimal digits. ROW
 * is the place within the epoch, step * G. CHECKSUM is FNV-1a, 64 bits, over all before it (http://www.isthe.com/chongo/tech/comp/fnv/).
 * libpfeed writes tokens, pfeedd reads them. No state: both functions are pure and O(1).
 */
#ifndef PF_TOKEN_H
#define PF_TOKEN_H

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PF_FEED_NAME  64u
#define PF_TOKEN_TEXT 320u /* bytes of the longest token, with its closing zero */
#define PF_TOKEN_MARK "pfeed1:"

/* What a history depends on, each as a hash, so that a difference can be named. */
struct pf_prints {
    uint64_t data;   /* names, sizes and classes of the samples; for single files also their contents, sampled */
    uint64_t order;  /* shuffle and all else by which positions become samples; tail */
    uint64_t recipe; /* fields: parts, transforms and their parameters, dtype, layout; what is done about bad samples */
};

struct pf_token {
    char feed[PF_FEED_NAME];
    uint64_t seed, epoch, row;
    uint64_t world_batch; /* G */
    uint64_t samples;     /* N */
    struct pf_prints prints;
};

static inline uint64_t pf_token_hash(const char *text, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Bytes without the closing zero, or -ENOSPC where size is too small. */
static inline int pf_token_print(const struct pf_token *token, char *text, size_t size)
{
    char whole[PF_TOKEN_TEXT];
    int n = snprintf(whole, sizeof(whole),
                     PF_TOKEN_MARK "%s:%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%016" PRIx64 ":%016" PRIx64
                                   ":%016" PRIx64 ":",
                     token->feed, token->seed, token->epoch, token->row, token->world_batch, token->samples, token->prints.data,
                     token->prints.order, token->prints.recipe);

    if (n < 0 || (size_t)n + 16 >= sizeof(whole) || (size_t)n + 16 >= size)
        return -ENOSPC;
    memcpy(text, whole, (size_t)n);
    return n + snprintf(text + n, size - (size_t)n, "%016" PRIx64, pf_token_hash(whole, (size_t)n));
}

/* Whether the text claims to be a token of any version: "pfeed" and digits before a colon. */
static inline int pf_token_is(const char *text)
{
    size_t n = strncmp(text, "pfeed", 5) == 0 ? 5 : 0, digits = 0;

    while (n && text[n + digits] >= '0' && text[n + digits] <= '9')
        digits++;
    return digits > 0 && text[n + digits] == ':';
}

/* One number in base 10 or (16 digits) 16, and the byte after it; NULL where it is not one. */
static inline const char *pf_token_number(const char *at, unsigned base, char after, uint64_t *out)
{
    const char *begin = at;

    *out = 0;
    for (;; at++) {
        unsigned digit = *at >= '0' && *at <= '9'                 ? (unsigned)(*at - '0')
                         : base == 16 && *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a') + 10
                                                                  : 99;

        if (digit == 99)
            break;
        if (*out > (UINT64_MAX - digit) / base || (base == 10 && *out == 0 && at > begin))
            return NULL;
        *out = *out * base + digit;
    }
    if (at == begin || *at != after || (base == 16 && at - begin != 16))
        return NULL;
    return after ? at + 1 : at;
}

/* 0; -EINVAL not a whole token of this version; -EBADMSG it was cut or edited: the checksum is another. *out only at 0. */
static inline int pf_token_parse(const char *text, struct pf_token *out)
{
    const size_t mark = sizeof(PF_TOKEN_MARK) - 1;
    struct pf_token token;
    const char *at, *end;
    uint64_t checksum;

    if (strncmp(text, PF_TOKEN_MARK, mark) != 0)
        return -EINVAL;
    end = strrchr(text, ':') + 1;
    if (!pf_token_number(end, 16, 0, &checksum) || checksum != pf_token_hash(text, (size_t)(end - text)))
        return -EBADMSG;
    at = strchr(text + mark, ':');
    if (!at || at == text + mark || (size_t)(at - text) - mark >= sizeof(token.feed))
        return -EINVAL;
    memset(&token, 0, sizeof(token));
    memcpy(token.feed, text + mark, (size_t)(at - text) - mark);
    at++;
    if (!(at = pf_token_number(at, 10, ':', &token.seed)) || !(at = pf_token_number(at, 10, ':', &token.epoch)) ||
        !(at = pf_token_number(at, 10, ':', &token.row)) || !(at = pf_token_number(at, 10, ':', &token.world_batch)) ||
        !(at = pf_token_number(at, 10, ':', &token.samples)) || !(at = pf_token_number(at, 16, ':', &token.prints.data)) ||
        !(at = pf_token_number(at, 16, ':', &token.prints.order)) || !(at = pf_token_number(at, 16, ':', &token.prints.recipe)) ||
        at != end)
        return -EINVAL;
    *out = token;
    return 0;
}

#endif
