/* SPDX-License-Identifier: MIT */
/* Fuzz target: the text of a token (proto/token.h). An input is a text as a trainer might bring it; behind a '+', what is before
 * the checksum, which is set right so that more than that is reached; behind a '#', the numbers of a token to print. What parses
 * prints to the same text, and what is printed parses to the same numbers. */
#include <assert.h>
#include <stdlib.h>

#include "bytes.h"
#include "token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of its own size, so that a read past the end is seen. */
static void check_text(const char *from, size_t size)
{
    char *text = malloc(size + 1), again[PF_TOKEN_TEXT];
    struct pf_token token;
    int rc;

    assert(text);
    memcpy(text, from, size);
    text[size] = 0;
    rc = pf_token_parse(text, &token);
    assert(rc == 0 || rc == -EINVAL || rc == -EBADMSG);
    if (rc == 0) {
        assert(pf_token_is(text) && pf_token_print(&token, again, sizeof(again)) == (int)strlen(text));
        assert(strcmp(text, again) == 0);
    }
    free(text);
}

static void check_signed(const char *body, size_t size)
{
    size_t length = strnlen(body, size);
    char *text = malloc(length + 32);

    assert(text);
    memcpy(text, body, length);
    text[length++] = ':';
    check_text(text, length + (size_t)snprintf(text + length, 31, "%016" PRIx64, pf_token_hash(text, length)));
    free(text);
}

static void check_numbers(struct bytes bytes)
{
    struct pf_token token = { .feed = "" }, again;
    char text[PF_TOKEN_TEXT];

    token.seed = bytes_number(&bytes, 0);
    token.epoch = bytes_number(&bytes, 0);
    token.row = bytes_number(&bytes, 0);
    token.world_batch = bytes_number(&bytes, 64);
    token.samples = bytes_number(&bytes, UINT64_MAX);
    bytes_copy(&bytes, &token.prints, sizeof(token.prints));
    bytes_copy(&bytes, token.feed, sizeof(token.feed) - 1);
    memset(token.feed + strlen(token.feed), 0, sizeof(token.feed) - strlen(token.feed)); /* what follows is not in the text */
    assert(pf_token_print(&token, text, sizeof(text)) == (int)strlen(text));             /* the longest, too */
    if (!token.feed[0] || strchr(token.feed, ':')) /* config.c lets no feed have such a name */
        return;
    assert(pf_token_parse(text, &again) == 0);
    assert(memcmp(&token, &again, sizeof(token)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '+')
        check_signed((const char *)data + 1, size - 1);
    else if (size > 0 && data[0] == '#')
        check_numbers((struct bytes){ data + 1, data + size });
    else
        check_text((const char *)data, size);
    return 0;
}
