/* SPDX-License-Identifier: MIT */
/* See tar_walk.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/tar_walk.h"

#define MAP_NEXT 504 /* of a block of a sparse file's map: whether another one follows */

/* How many of the bytes from `at` on are in the window, up to `most`. */
static uint64_t in_window(const struct tar_walk *walk, uint64_t at, uint64_t most)
{
    if (at < walk->window_at || at - walk->window_at >= walk->window_size)
        return 0;
    const uint64_t left = walk->window_size - (at - walk->window_at);
    return left < most ? left : most;
}

static int64_t read_whole(struct tar_walk *walk, void *to, uint64_t size, uint64_t at, struct problem *why)
{
    uint64_t used = 0;
    while (used < size) {
        const int64_t got = walk->read(walk->context, (char *)to + used, (size_t)(size - used), at + used);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return problem_set(why, (int)got, "byte %llu: %s", (unsigned long long)(at + used), strerror((int)-got));
        if (got == 0)
            break;
        used += (uint64_t)got;
    }
    return (int64_t)used;
}

/* The block at `at`, in the window: 1; 0: there is not one byte of it; -EBADMSG: it is cut. */
static int64_t look(struct tar_walk *walk, uint64_t at, const uint8_t **block, struct problem *why)
{
    if (in_window(walk, at, TAR_BLOCK) < TAR_BLOCK) {
        walk->window_size = 0;
        const int64_t got = read_whole(walk, walk->window, TAR_WINDOW, at, why);
        if (got < 0)
            return got;
        walk->window_at = at;
        walk->window_size = (uint64_t)got;
    }
    const uint64_t have = in_window(walk, at, TAR_BLOCK);
    *block = walk->window + (at - walk->window_at);
    if (have > 0 && have < TAR_BLOCK)
        return problem_set(why, -EBADMSG, "the header there is cut, %llu bytes are left of it", (unsigned long long)have);
    return have > 0;
}

static uint64_t padded(uint64_t size)
{
    return (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* The bytes behind the header at `at` as a text with a 0. */
static int take_text(struct tar_walk *walk, const struct tar_header *header, uint64_t at, uint64_t most, struct problem *why)
{
    if (header->size > most)
        return problem_set(why, -EBADMSG, "%llu bytes about a member, more than %llu", (unsigned long long)header->size,
                           (unsigned long long)most);
    if (header->size + 1 > walk->text_room) {
        char *grown = realloc(walk->text, header->size + 1);
        if (!grown)
            return problem_set(why, -ENOMEM, "out of memory for what is said about a member");
        walk->text = grown;
        walk->text_room = header->size + 1;
    }
    const int64_t got = read_whole(walk, walk->text, header->size, at + TAR_BLOCK, why);
    if (got < 0)
        return (int)got;
    walk->text[got] = 0;
    return (uint64_t)got == header->size ? 0 : problem_set(why, -EBADMSG, "what is said there about a member is cut");
}

/* What stands before a member and is about it. */
static int take_about(struct tar_walk *walk, const struct tar_header *header, uint64_t at, struct problem *why)
{
    struct tar_records *records = &walk->records;
    int rc = 0;
    if (header->kind == TAR_LONG_LINK)
        return 0;
    if (header->kind == TAR_LONG_NAME) {
        rc = take_text(walk, header, at, TAR_NAME - 1, why);
        if (rc == 0 && !records->has_name) {
            strcpy(records->name, walk->text);
            records->has_name = true;
        }
        return rc;
    }
    rc = take_text(walk, header, at, TAR_RECORDS_MOST, why);
    if (rc < 0)
        return rc;
    if (header->kind == TAR_PAX)
        return tar_records_read(walk->text, header->size, records, why);
    struct tar_records *all = calloc(1, sizeof *all);
    rc = all ? tar_records_read(walk->text, header->size, all, why) : problem_set(why, -ENOMEM, "out of memory for pax records");
    if (rc == 0 && (all->has_name || all->has_size || all->sparse))
        rc = problem_set(why, -EBADMSG, "a global header gives all members one name or size");
    free(all);
    return rc;
}

/* Behind the map of GNU's sparse files. */
static int64_t skip_map(struct tar_walk *walk, uint64_t at, struct problem *why)
{
    const uint8_t *block;
    int64_t rc;
    for (;; at += TAR_BLOCK) {
        rc = look(walk, at, &block, why);
        if (rc <= 0)
            return rc < 0 ? rc : problem_set(why, -EBADMSG, "the map of a sparse file is cut");
        if (!block[MAP_NEXT])
            return (int64_t)(at + TAR_BLOCK);
    }
}

/* A header and all that stands before it about it. at: of the first of them, then of the bytes. As tar_walk_next. */
static int take_headers(struct tar_walk *walk, struct tar_header *header, uint64_t *at, struct problem *why)
{
    const uint8_t *block;
    bool about = false;
    for (;;) {
        int64_t rc = look(walk, *at, &block, why);
        if (rc == 0 && about)
            return problem_set(why, -EBADMSG, "the archive ends before the member that this is about");
        walk->no_end = rc == 0;
        if (rc > 0)
            rc = tar_header_read(block, header, why);
        if (rc == 0 && about)
            return problem_set(why, -EBADMSG, "zeros follow instead of the member that this is about");
        if (rc <= 0)
            return (int)rc;
        if (header->kind < TAR_LONG_NAME)
            break;
        about = true;
        rc = take_about(walk, header, *at, why);
        if (rc < 0)
            return (int)rc;
        if (header->size > walk->size)
            return problem_set(why, -EBADMSG, "what is said there about a member is cut");
        *at += TAR_BLOCK + padded(header->size);
    }
    *at += TAR_BLOCK;
    if (header->kind != TAR_SPARSE || !header->map_goes)
        return 1;
    const int64_t behind = skip_map(walk, *at, why);
    if (behind < 0)
        return (int)behind;
    *at = (uint64_t)behind;
    return 1;
}

/* One block of zeros has been seen at walk->at. */
static int end(struct tar_walk *walk, struct problem *why)
{
    const uint8_t *block;
    const int64_t rc = look(walk, walk->at + TAR_BLOCK, &block, why);
    if (rc < 0 && rc != -EBADMSG)
        return (int)rc;
    walk->no_end = rc <= 0 || block[0] != 0 || memcmp(block, block + 1, TAR_BLOCK - 1) != 0;
    return 0;
}

int tar_walk_next(struct tar_walk *walk, struct tar_member *out, struct problem *why)
{
    struct tar_header header;
    struct tar_records *records = &walk->records;
    uint64_t at = walk->at;
    out->name = NULL;
    records->has_name = records->has_size = records->sparse = false;
    int rc = take_headers(walk, &header, &at, why);
    if (rc == -EBADMSG)
        walk->at = at;
    if (rc <= 0)
        return rc < 0 || walk->no_end ? rc : end(walk, why);
    const bool has_bytes = header.kind == TAR_FILE || header.kind == TAR_SPARSE;
    if (!records->has_name)
        strcpy(records->name, header.name);
    *out = (struct tar_member){
        .name = records->name,
        .kind = records->sparse && header.kind == TAR_FILE ? TAR_SPARSE : header.kind,
        .at = at,
        .size = records->has_size && has_bytes ? records->size : header.size,
    };
    if (at > walk->size || out->size > walk->size - at)
        return problem_set(why, -EBADMSG, "'%.200s' has %llu bytes and ends at byte %llu, but the archive has %llu", out->name,
                           (unsigned long long)out->size, (unsigned long long)(at + out->size), (unsigned long long)walk->size);
    walk->at = at + padded(out->size);
    return 1;
}

void tar_walk_fini(struct tar_walk *walk)
{
    free(walk->text);
    walk->text = NULL;
}
