/* SPDX-License-Identifier: MIT */
/* A JSON emitter: one line, commas and escaping are its business, nesting the caller's. */
#ifndef PFEEDCTL_JSON_H
#define PFEEDCTL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool comma; /* before what comes next */
};

void json_open(struct json *json, char bracket);  /* '{' or '[' */
void json_close(struct json *json, char bracket); /* '}' or ']' */
void json_key(struct json *json, const char *key);
void json_text(struct json *json, const char *text, size_t size); /* up to size bytes or the first zero */
void json_u64(struct json *json, uint64_t value);
void json_i64(struct json *json, int64_t value);
void json_bool(struct json *json, bool value);

#endif
