/* SPDX-License-Identifier: MIT */
/* See json.h. Texts come from daemons and file systems: a document is valid UTF-8 whatever bytes they hold. */
#include "json.h"

#include <inttypes.h>
#include <string.h>

#include "text.h"

static void separate(struct json *json)
{
    if (json->comma)
        putc(',', json->out);
    json->comma = true;
}

void json_open(struct json *json, char bracket)
{
    separate(json);
    putc(bracket, json->out);
    json->comma = false;
}

void json_close(struct json *json, char bracket)
{
    putc(bracket, json->out);
    json->comma = true;
}

static void quoted(struct json *json, const char *text, size_t size)
{
    const char *end = text + strnlen(text, size);

    putc('"', json->out);
    while (text < end) {
        const char *begin = text;
        uint32_t code = text_next(&text, end);

        if (code == '"' || code == '\\')
            fprintf(json->out, "\\%c", (int)code);
        else if (code == '\n')
            fputs("\\n", json->out);
        else if (code == '\t')
            fputs("\\t", json->out);
        else if (code == TEXT_INVALID)
            fputs("\\ufffd", json->out);
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            fprintf(json->out, "\\u%04x", (unsigned)code);
        else
            fwrite(begin, 1, (size_t)(text - begin), json->out);
    }
    putc('"', json->out);
}

void json_key(struct json *json, const char *key)
{
    separate(json);
    quoted(json, key, strlen(key));
    putc(':', json->out);
    json->comma = false;
}

void json_text(struct json *json, const char *text, size_t size)
{
    separate(json);
    quoted(json, text, size);
}

void json_u64(struct json *json, uint64_t value)
{
    separate(json);
    fprintf(json->out, "%" PRIu64, value);
}

void json_i64(struct json *json, int64_t value)
{
    separate(json);
    fprintf(json->out, "%" PRId64, value);
}

void json_bool(struct json *json, bool value)
{
    separate(json);
    fputs(value ? "true" : "false", json->out);
}
