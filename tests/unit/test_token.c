/* SPDX-License-Identifier: MIT */
/* proto/token.h: what is printed parses to the same, and nothing else parses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "token.h"

#define EXAMPLE "pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:"

static const struct pf_token example = {
    .feed = "train",
    .seed = 7,
    .epoch = 3,
    .row = 4096,
    .world_batch = 256,
    .samples = 1281167,
    .prints = { 0xda, UINT64_C(0x0de0000000000000), UINT64_C(0x4ec1be0000000001) },
};

static bool same(const struct pf_token *a, const struct pf_token *b)
{
    return strcmp(a->feed, b->feed) == 0 && a->seed == b->seed && a->epoch == b->epoch && a->row == b->row &&
           a->world_batch == b->world_batch && a->samples == b->samples && a->prints.data == b->prints.data &&
           a->prints.order == b->prints.order && a->prints.recipe == b->prints.recipe;
}

/* body ends in ':' and gets its right checksum; the answer of the parser, which leaves *out alone unless it is 0. */
static int parse_signed(const char *body, struct pf_token *out)
{
    const struct pf_token before = *out;
    char text[1024];
    int rc;

    snprintf(text, sizeof(text), "%s%016" PRIx64, body, pf_token_hash(body, strlen(body)));
    rc = pf_token_parse(text, out);
    assert_true(rc == 0 || memcmp(&before, out, sizeof(before)) == 0);
    return rc;
}

static void refuse_signed(const char *body, int rc)
{
    struct pf_token token = { .seed = 99 };
    int got = parse_signed(body, &token);

    if (got != rc)
        fail_msg("'%s' gives %d, not %d", body, got, rc);
}

static void test_round_trip(void **state)
{
    char text[PF_TOKEN_TEXT];
    struct pf_token token;
    int n = pf_token_print(&example, text, sizeof(text));

    assert_int_equal(n, strlen(text));
    assert_memory_equal(text, EXAMPLE, sizeof(EXAMPLE) - 1);
    assert_int_equal(n, sizeof(EXAMPLE) - 1 + 16);
    assert_int_equal(pf_token_parse(text, &token), 0);
    assert_true(same(&token, &example));
    assert_true(pf_token_is(text));
}

/* http://www.isthe.com/chongo/tech/comp/fnv/: its published vectors. Checkpoints outlive versions: the hash may never change. */
static void test_hash(void **state)
{
    assert_true(pf_token_hash("", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(pf_token_hash("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(pf_token_hash("foobar", 6) == UINT64_C(0x85944171f73967e8));
}

static void test_longest(void **state)
{
    struct pf_token token, longest = { .seed = UINT64_MAX,
                                       .epoch = UINT64_MAX,
                                       .row = UINT64_MAX,
                                       .world_batch = UINT64_MAX,
                                       .samples = UINT64_MAX,
                                       .prints = { UINT64_MAX, UINT64_MAX, UINT64_MAX } };
    char text[PF_TOKEN_TEXT];
    int n;

    memset(longest.feed, 'f', sizeof(longest.feed) - 1);
    n = pf_token_print(&longest, text, sizeof(text));
    assert_true(n > 0 && (size_t)n < sizeof(text));
    assert_int_equal(pf_token_parse(text, &token), 0);
    assert_true(same(&token, &longest));
    for (size_t size = 0; size <= (size_t)n; size++) {
        memset(text, '#', sizeof(text));
        assert_int_equal(pf_token_print(&longest, text, size), -ENOSPC);
        assert_int_equal(text[size], '#');
    }
    assert_int_equal(pf_token_print(&longest, text, (size_t)n + 1), n);
}

static void test_every_edit(void **state)
{
    char text[PF_TOKEN_TEXT], edited[PF_TOKEN_TEXT];
    struct pf_token token;
    int n = pf_token_print(&example, text, sizeof(text));

    for (int at = 0; at < n; at++)
        for (int byte = 0; byte < 256; byte++) {
            memcpy(edited, text, sizeof(edited));
            edited[at] = (char)byte;
            if (edited[at] != text[at] && pf_token_parse(edited, &token) == 0)
                fail_msg("byte %d as 0x%02x is taken", at, (unsigned)byte);
        }
}

static void test_every_cut(void **state)
{
    char text[PF_TOKEN_TEXT], cut[PF_TOKEN_TEXT];
    struct pf_token token;
    int n = pf_token_print(&example, text, sizeof(text));

    for (int at = 0; at < n; at++) {
        snprintf(cut, sizeof(cut), "%.*s", at, text);
        if (pf_token_parse(cut, &token) != (at < 7 ? -EINVAL : -EBADMSG))
            fail_msg("the first %d bytes are not what was cut", at);
        assert_true(pf_token_parse(text + at + 1, &token) != 0);
        snprintf(cut, sizeof(cut), "%.*s%s", at, text, text + at + 1);
        if (pf_token_parse(cut, &token) == 0)
            fail_msg("without byte %d it is taken", at);
    }
}

static void test_more(void **state)
{
    static const char *const tails[] = { " ", "\n", "0", ":", "::", ":0123456789abcdef" };
    char text[PF_TOKEN_TEXT], more[2 * PF_TOKEN_TEXT];
    struct pf_token token;

    pf_token_print(&example, text, sizeof(text));
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        snprintf(more, sizeof(more), "%s%s", text, tails[i]);
        assert_int_equal(pf_token_parse(more, &token), -EBADMSG);
        snprintf(more, sizeof(more), "%s%s", tails[i], text);
        assert_int_equal(pf_token_parse(more, &token), -EINVAL);
    }
    snprintf(more, sizeof(more), "%s%s", text, text);
    assert_int_equal(pf_token_parse(more, &token), -EBADMSG);
}

/* With a checksum that is right: whoever writes tokens by hand can have one. */
static void test_other_forms(void **state)
{
    const char *const max = "18446744073709551615", *const over = "18446744073709551616", *const far = "99999999999999999999999";
    char body[512], name[80] = "";
    struct pf_token token = { .seed = 0 };

    assert_int_equal(parse_signed(EXAMPLE, &token), 0);
    refuse_signed("pfeed2:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("Pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:07:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:00:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:+4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3: 4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:-1:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:0x100:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256::00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:00000000000000DA:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:000000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:0000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be00000000g1:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:5:", -EINVAL);
    refuse_signed("pfeed1:train:7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001::", -EINVAL);
    refuse_signed("pfeed1::7:3:4096:256:1281167:00000000000000da:0de0000000000000:4ec1be0000000001:", -EINVAL);
    refuse_signed("pfeed1:", -EINVAL);
    refuse_signed("pfeed1:train:", -EINVAL);
    refuse_signed("pfeed1", -EINVAL);
    snprintf(body, sizeof(body), "pfeed1:f:%s:3:4096:256:7:00000000000000da:0de0000000000000:4ec1be0000000001:", max);
    assert_int_equal(parse_signed(body, &token), 0);
    assert_true(token.seed == UINT64_MAX);
    snprintf(body, sizeof(body), "pfeed1:f:%s:3:4096:256:7:00000000000000da:0de0000000000000:4ec1be0000000001:", over);
    refuse_signed(body, -EINVAL);
    snprintf(body, sizeof(body), "pfeed1:f:%s:3:4096:256:7:00000000000000da:0de0000000000000:4ec1be0000000001:", far);
    refuse_signed(body, -EINVAL);
    memset(name, 'n', PF_FEED_NAME);
    snprintf(body, sizeof(body), "pfeed1:%s:7:3:4096:256:7:00000000000000da:0de0000000000000:4ec1be0000000001:", name);
    refuse_signed(body, -EINVAL);
    snprintf(body, sizeof(body), "pfeed1:%s:7:3:4096:256:7:00000000000000da:0de0000000000000:4ec1be0000000001:", name + 1);
    assert_int_equal(parse_signed(body, &token), 0);
    assert_string_equal(token.feed, name + 1);
}

static void test_uppercase_checksum(void **state)
{
    char text[PF_TOKEN_TEXT];
    struct pf_token token = example;
    bool letters = false;
    int n;

    for (uint64_t seed = 0; !letters; seed++) { /* one whose checksum has a letter */
        token.seed = seed;
        n = pf_token_print(&token, text, sizeof(text));
        for (int i = n - 16; i < n; i++)
            if (text[i] >= 'a') {
                text[i] = (char)(text[i] - 'a' + 'A');
                letters = true;
            }
    }
    assert_int_equal(pf_token_parse(text, &token), -EBADMSG);
}

static void test_is(void **state)
{
    assert_true(pf_token_is("pfeed1:") && pf_token_is("pfeed2:x") && pf_token_is("pfeed10:"));
    assert_false(pf_token_is("") || pf_token_is("pfeed") || pf_token_is("pfeed:") || pf_token_is("pfeed1") ||
                 pf_token_is("live:1") || pf_token_is("xpfeed1:") || pf_token_is("pfeedx:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_hash),
        cmocka_unit_test(test_longest),     cmocka_unit_test(test_every_edit),
        cmocka_unit_test(test_every_cut),   cmocka_unit_test(test_more),
        cmocka_unit_test(test_other_forms), cmocka_unit_test(test_uppercase_checksum),
        cmocka_unit_test(test_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
