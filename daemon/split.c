/* SPDX-License-Identifier: MIT */
/* See split.h. What comes out is part of pfeed's promise (a sample stays on its side under a later version): test_split.c pins it,
 * and pfeed-order(7) says it. */
#include "split.h"

#include <errno.h>
#include <string.h>

static uint64_t turned(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = turned(v[1], 13) ^ v[0];
    v[3] = turned(v[3], 16) ^ v[2];
    v[0] = turned(v[0], 32) + v[3];
    v[2] += v[1];
    v[1] = turned(v[1], 17) ^ v[2];
    v[3] = turned(v[3], 21) ^ v[0];
    v[2] = turned(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

uint64_t split_hash(uint64_t key, const void *text, size_t size)
{
    uint64_t v[4] = { UINT64_C(0x736f6d6570736575) ^ key, UINT64_C(0x646f72616e646f6d), UINT64_C(0x6c7967656e657261) ^ key,
                      UINT64_C(0x7465646279746573) };
    const unsigned char *at = text;
    uint64_t word, last = (uint64_t)size << 56;

    for (size_t left = size; left >= sizeof(word); left -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word)); /* little-endian, as all that pfeed runs on */
        sip_word(v, word);
    }
    for (size_t i = 0; i < size % sizeof(word); i++)
        last |= (uint64_t)at[i] << 8 * i;
    sip_word(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t split_part(uint64_t hash, const double *ends, uint32_t n)
{
    const double at = (double)(hash >> 11) * 0x1p-53;
    uint32_t part = 0;

    while (part < n && at >= ends[part])
        part++;
    return part;
}

int split_ends(double *ends, const double *shares, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += shares[i];
        if (sum > 1 + 1e-9)
            return -ERANGE;
        ends[i] = sum > 1 - 1e-9 ? 1 : sum;
    }
    return 0;
}

int split_group_init(struct split_group *group, const char *expression, struct problem *why)
{
    char text[200];
    int rc;

    group->given = false;
    if (!expression)
        return 0;
    rc = regcomp(&group->regex, expression, REG_EXTENDED);
    if (rc == REG_ESPACE)
        return problem_set(why, -ENOMEM, "out of memory for the expression of 'group'");
    if (rc != 0) {
        regerror(rc, &group->regex, text, sizeof(text));
        return problem_set(why, -EINVAL,
                           "'group' is '%.120s', which is no extended regular expression: %s; mend it, see regex(7)", expression,
                           text);
    }
    group->given = true;
    return 0;
}

void split_group_fini(struct split_group *group)
{
    if (group->given)
        regfree(&group->regex);
    group->given = false;
}

int split_group_of(const struct split_group *group, const char *path, const char **text, size_t *size)
{
    regmatch_t found[2];
    const regmatch_t *match;

    if (!group->given) {
        *text = path;
        *size = strlen(path);
        return 0;
    }
    errno = 0;
    if (regexec(&group->regex, path, 2, found, 0) != 0)
        return errno == ENOMEM ? -ENOMEM : -ENOENT; /* glibc says of both that there is no match */
    match = group->regex.re_nsub > 0 ? &found[1] : &found[0];
    if (match->rm_so < 0)
        return -ENOENT; /* a (...) that the match does without */
    *text = path + match->rm_so;
    *size = (size_t)(match->rm_eo - match->rm_so);
    return 0;
}
