/* SPDX-License-Identifier: MIT */
/* See tar_json.h. yajl reads the text and tells what it comes by; we follow the way to the key, and take what is there. Its memory is
 * a piece of the caller's, so that a worker allocates nothing. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "source/csv.h"
#include "source/tar_json.h"

#define DEPTH_MOST  100 /* lists and maps within each other; yajl's stack stays in its first piece of memory */
#define NUMBER_MOST 64
#define YAJL_OWN    16384
#define YAJL_BUFFER 2048

struct json {
    const struct tar_json_key *key;
    const struct sample_part *part;
    uint8_t *out;
    size_t written; /* numbers */
    bool found;
    uint32_t depth; /* lists and maps that are open */
    uint32_t good;  /* of them those from the outermost on that the way to the value leads through */
    bool key_good;  /* what comes in the innermost of them is on the way */
    struct {
        bool list;
        uint64_t next; /* number of the next element */
    } open[TAR_JSON_STEPS + 1];
    uint32_t inside; /* lists of the value that are open */
    bool taking;
    uint64_t counts[SAMPLE_DIMS + 1];
    uint8_t *room; /* yajl's */
    size_t room_size, room_used, last;
    struct problem *why;
    int rc;
};

/* --- the key -------------------------------------------------------------------------------------------------------------- */

int tar_json_key(struct tar_json_key *out, const char *key, struct problem *why)
{
    const bool pointer = *key == '/';
    char *to = out->text;
    out->n = 0;
    if (strlen(key) >= sizeof out->text)
        return problem_set(why, -EINVAL, "'key' is longer than %zu bytes", sizeof out->text - 1);
    out->steps[out->n++] = to;
    for (const char *at = key + pointer; *at; at++) {
        if (*at == (pointer ? '/' : '.')) {
            *to++ = 0;
            if (out->n == TAR_JSON_STEPS)
                return problem_set(why, -EINVAL, "'key' has more than %d steps", TAR_JSON_STEPS);
            out->steps[out->n++] = to;
        } else if (pointer && *at == '~' && (at[1] == '0' || at[1] == '1')) {
            *to++ = *++at == '0' ? '~' : '/';
        } else {
            *to++ = *at;
        }
    }
    *to = 0;
    return 0;
}

/* --- yajl's memory -------------------------------------------------------------------------------------------------------- */

/* Its buffers double, of which there are two; nothing else grows with the text. */
size_t tar_json_room(size_t size)
{
    return YAJL_OWN + 8 * (size + YAJL_BUFFER);
}

static void *take(void *context, size_t size)
{
    struct json *json = context;
    const size_t whole = (size + 15) / 16 * 16;
    assert(whole <= json->room_size - json->room_used);
    json->last = json->room_used;
    json->room_used += whole;
    return json->room + json->last;
}

static void *take_more(void *context, void *old, size_t size)
{
    struct json *json = context;
    if (old && (uint8_t *)old == json->room + json->last) { /* nothing is behind it */
        json->room_used = json->last;
        return take(context, size);
    }
    uint8_t *more = take(context, size);
    if (old) { /* what is behind the old bytes is ours, too */
        const size_t left = (size_t)(more - (uint8_t *)old);
        memcpy(more, old, size < left ? size : left);
    }
    return more;
}

static void leave(void *context, void *old)
{
    (void)context, (void)old;
}

/* --- what comes ----------------------------------------------------------------------------------------------------------- */

static int wrong(struct json *json, const char *what)
{
    char shape[120] = "a number";
    size_t at = 0;
    for (uint32_t i = 0; i < json->part->ndim; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%lld", i ? ", " : "numbers of shape [",
                               (long long)json->part->shape[i]);
    json->rc = problem_set(json->why, -EBADMSG, "JSON: %s where %s%s must be", what, shape, json->part->ndim ? "]" : "");
    return 0;
}

/* A value comes: whether it is the one, *on_way: or leads to it. */
static bool arrives(struct json *json, bool *on_way)
{
    *on_way = false;
    if (json->good != json->depth)
        return false;
    if (json->depth == 0) {
        *on_way = true;
        return false;
    }
    const char *step = json->key->steps[json->depth - 1];
    if (json->open[json->depth].list) {
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)json->open[json->depth].next++);
        *on_way = strcmp(number, step) == 0;
    } else {
        *on_way = json->key_good;
    }
    return *on_way && json->depth == json->key->n;
}

/* The value, or an element of it, is no list. */
static bool begin(struct json *json)
{
    bool on_way;
    if (json->taking)
        return true;
    if (!arrives(json, &on_way))
        return false;
    json->written = 0; /* of a key that is there twice the last one counts */
    json->found = true;
    return true;
}

static int store(struct json *json, int64_t whole, double number)
{
    const struct sample_part *part = json->part;
    if (json->inside != part->ndim)
        return wrong(json, json->inside < part->ndim ? "a number" : "a list");
    if (json->inside && json->counts[json->inside]++ >= (uint64_t)part->shape[json->inside - 1])
        return wrong(json, "a longer list");
    const uint8_t byte = (uint8_t)whole;
    if (part->dtype == DTYPE_U8 && (whole < 0 || whole > UINT8_MAX))
        return wrong(json, "a number that uint8 cannot hold");
    const size_t size = dtype_table[part->dtype].size;
    const void *from = part->dtype == DTYPE_F64 ? (const void *)&number : part->dtype == DTYPE_U8 ? &byte : (void *)&whole;
    memcpy(json->out + json->written++ * size, from, size);
    return 1;
}

static int take_number(void *context, const char *text, size_t length)
{
    struct json *json = context;
    char number[NUMBER_MOST] = "";
    int64_t whole = 0;
    double value = 0;
    if (!begin(json))
        return 1;
    if (length >= sizeof number)
        return wrong(json, "a number of very many digits");
    memcpy(number, text, length);
    if (json->part->dtype == DTYPE_F64 ? !csv_float(number, &value) : !csv_int(number, &whole))
        return wrong(json, "a number that is not whole, or too large,");
    return store(json, whole, value);
}

static int take_boolean(void *context, int value)
{
    return begin(context) ? store(context, value, value) : 1;
}

static int take_null(void *context)
{
    return begin(context) ? wrong(context, "null") : 1;
}

static int take_string(void *context, const unsigned char *text, size_t length)
{
    struct json *json = context;
    const struct sample_part *part = json->part;
    if (!begin(json))
        return 1;
    if (json->inside || part->dtype != DTYPE_U8 || part->ndim != 1)
        return wrong(json, "a string");
    if (length > (size_t)part->shape[0])
        return wrong(json, "a longer string");
    memcpy(json->out, text, length);
    memset(json->out + length, 0, (size_t)part->shape[0] - length);
    return 1;
}

static int take_key(void *context, const unsigned char *text, size_t length)
{
    struct json *json = context;
    if (json->good == json->depth && !json->taking) {
        const char *step = json->key->steps[json->depth - 1];
        json->key_good = strlen(step) == length && memcmp(step, text, length) == 0;
    }
    return 1;
}

static int enter(struct json *json, bool list)
{
    bool on_way = false;
    if (json->depth == DEPTH_MOST) {
        json->rc = problem_set(json->why, -EBADMSG, "JSON: more than %d lists and maps in each other", DEPTH_MOST);
        return 0;
    }
    if (!json->taking && arrives(json, &on_way)) {
        json->taking = json->found = true;
        json->written = json->inside = 0;
    }
    json->depth++;
    if (json->taking) {
        if (!list || json->inside == json->part->ndim)
            return wrong(json, list ? "a list" : "a map");
        if (json->inside && json->counts[json->inside]++ >= (uint64_t)json->part->shape[json->inside - 1])
            return wrong(json, "a longer list");
        json->counts[++json->inside] = 0;
    } else if (on_way) {
        json->good = json->depth;
        json->open[json->depth].list = list;
        json->open[json->depth].next = 0;
    }
    return 1;
}

static int leave_list(void *context)
{
    struct json *json = context;
    if (json->taking) {
        if (json->counts[json->inside] != (uint64_t)json->part->shape[json->inside - 1])
            return wrong(json, "a shorter list");
        json->inside--;
        json->taking = json->inside > 0;
    } else if (json->good == json->depth) {
        json->good--;
    }
    json->depth--;
    return 1;
}

static int enter_map(void *context)
{
    return enter(context, false);
}

static int enter_list(void *context)
{
    return enter(context, true);
}

int tar_json_read(const struct tar_json_key *key, const struct sample_part *part, const char *text, size_t size, void *room,
                  void *out, struct problem *why)
{
    static const yajl_callbacks callbacks = {
        .yajl_null = take_null,
        .yajl_boolean = take_boolean,
        .yajl_number = take_number,
        .yajl_string = take_string,
        .yajl_start_map = enter_map,
        .yajl_map_key = take_key,
        .yajl_end_map = leave_list,
        .yajl_start_array = enter_list,
        .yajl_end_array = leave_list,
    };
    struct json json = { .key = key, .part = part, .out = out, .room = room, .room_size = tar_json_room(size), .why = why };
    yajl_alloc_funcs memory = { take, take_more, leave, &json };
    yajl_handle handle = yajl_alloc(&callbacks, &memory, &json);
    yajl_status status = yajl_parse(handle, (const unsigned char *)text, size);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(handle);
    if (json.rc < 0)
        return json.rc;
    if (status != yajl_status_ok)
        return problem_set(why, -EBADMSG, "it is not JSON at byte %zu of %zu", yajl_get_bytes_consumed(handle), size);
    if (!json.found) {
        char way[TAR_JSON_KEY + 8] = "";
        for (uint32_t i = 0; i < key->n; i++)
            snprintf(way + strlen(way), sizeof way - strlen(way), "%s%s", i ? "." : "", key->steps[i]);
        return problem_set(why, -EBADMSG, "JSON: there is no '%s'", way);
    }
    return 0;
}
