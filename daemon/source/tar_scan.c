/* SPDX-License-Identifier: MIT */
/* One tar shard, from its first header to its last, into an index: which members there are, and of which samples. See tar_index.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/tar_index.h"
#include "source/tar_walk.h"
#include "source/watch.h"

#define SHARD_MOST ((UINT64_C(1) << 32) * TAR_BLOCK)

struct scan {
    struct tar_index *index;
    const char *path;
    struct source_progress *progress;
    bool grouping; /* there is a sample that the next member may be of */
    struct problem *why;
};

static int64_t read_file(void *context, void *to, size_t size, uint64_t at)
{
    const ssize_t got = pread(*(const int *)context, to, size, (off_t)at);
    return got < 0 ? -errno : got;
}

/* What can only be read from its beginning. */
static int refuse_compressed(const struct scan *scan, int fd)
{
    static const struct {
        const char *magic;
        size_t at, size;
        const char *what, *hint;
    } kinds[] = {
        { "\x1f\x8b", 0, 2, "compressed by gzip", "unpack it: gunzip" },
        { "\x28\xb5\x2f\xfd", 0, 4, "compressed by zstd", "unpack it: unzstd" },
        { "1AY&SY", 4, 6, "compressed by bzip2", "unpack it: bunzip2" }, /* behind "BZh9", which may be a name */
        { "\xfd"
          "7zXZ\0",
          0, 6, "compressed by xz", "unpack it: unxz" },
        { "\x04\x22\x4d\x18", 0, 4, "compressed by lz4", "unpack it: unlz4" },
        { "PK\3\4", 0, 4, "a zip file, not a tar", "unpack it, and make a tar: unzip" },
        { "7z\xbc\xaf\x27\x1c", 0, 6, "a 7z file, not a tar", "unpack it, and make a tar: 7z x" },
    };
    char head[16] = "";
    const ssize_t got = pread(fd, head, sizeof head, 0);
    if (got < 0)
        return problem_set(scan->why, -errno, "cannot read %s: %s", scan->path, strerror(errno));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((size_t)got >= kinds[i].at + kinds[i].size && memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].size) == 0)
            return problem_set(scan->why, -EINVAL,
                               "%s is %s; pfeed reads samples in any order, which needs a plain tar; %s %s (photographs take no "
                               "more room so)",
                               scan->path, kinds[i].what, kinds[i].hint, scan->path);
    return 0;
}

static int no_room(const struct scan *scan, int code)
{
    if (code == -E2BIG)
        return problem_set(scan->why, code,
                           "%s has too many members, or too many different extensions; make several shards of it", scan->path);
    return problem_set(scan->why, code, "out of memory for the members of %s", scan->path);
}

static int check_room(const struct scan *scan)
{
    if (!source_too_large(scan->progress, tar_index_bytes(scan->index)))
        return 0;
    return problem_set(scan->why, -ENOMEM,
                       "the index of the shards, at %s, does not fit into the %llu MiB of `daemon: memory`; "
                       "raise it",
                       scan->path, (unsigned long long)(scan->progress->most_bytes >> 20));
}

static void lower(char *to, size_t room, const char *from)
{
    size_t n = 0;
    for (; from[n] && n + 1 < room; n++)
        to[n] = from[n] >= 'A' && from[n] <= 'Z' ? (char)(from[n] - 'A' + 'a') : from[n];
    to[n] = 0;
}

static enum tar_state state_of(const struct tar_member *member, bool cut)
{
    if (member->kind == TAR_LINK)
        return TAR_IS_LINK;
    if (member->kind == TAR_SPARSE)
        return TAR_IS_SPARSE;
    if (cut)
        return TAR_IS_CUT;
    return member->size > UINT32_MAX ? TAR_IS_HUGE : TAR_WHOLE;
}

/* Members are of one sample while their keys are the same. */
static int take_member(struct scan *scan, const struct tar_member *member, bool cut)
{
    struct tar_index *index = scan->index;
    const enum tar_state state = state_of(member, cut);
    struct tar_part part = { .state = state };
    char extension[TAR_NAME];
    const char *written;
    size_t length;
    int rc = 0;
    if (member->kind > TAR_SPARSE || !tar_name_cut(member->name, &length, &written))
        return 0;
    lower(extension, sizeof extension, written);
    if (state == TAR_WHOLE) {
        part.block = (uint32_t)(member->at / TAR_BLOCK);
        part.size = (uint32_t)member->size;
    }
    const char *last = scan->grouping ? tar_index_key(index, index->n - 1) : NULL;
    if (!last || strncmp(last, member->name, length) != 0 || last[length] != 0)
        rc = tar_index_add_sample(index, member->name, length);
    if (rc == 0)
        rc = tar_index_add_member(index, extension, &part);
    scan->grouping = true;
    return rc < 0 ? no_room(scan, rc) : check_room(scan);
}

/* One sample stands for all that cannot be found any more. */
static int note_damage(struct scan *scan, const struct tar_walk *walk, const char *reason)
{
    struct tar_shard *shard = &scan->index->shards[scan->index->n_shards - 1];
    char name[64];
    const int length = snprintf(name, sizeof name, "(damaged at byte %llu)", (unsigned long long)walk->at);
    shard->damage_at = walk->at;
    int rc = tar_index_word(scan->index, reason, &shard->damage);
    if (rc == 0)
        rc = tar_index_add_sample(scan->index, name, (size_t)length);
    return rc < 0 ? no_room(scan, rc) : 0;
}

static int walk_all(struct scan *scan, struct tar_walk *walk)
{
    struct tar_member member;
    struct problem inner = { .text = "" };
    int rc;
    if (walk->size == 0)
        return note_damage(scan, walk, "the file is empty");
    while ((rc = tar_walk_next(walk, &member, &inner)) > 0) {
        rc = take_member(scan, &member, false);
        if (rc < 0)
            return rc;
        source_listed(scan->progress, scan->index->n);
        if (source_stopping(scan->progress))
            return problem_set(scan->why, -ECANCELED, "the scan of %s was stopped", scan->path);
    }
    if (rc == -EBADMSG) {
        rc = member.name ? take_member(scan, &member, true) : 0;
        return rc < 0 ? rc : note_damage(scan, walk, inner.text);
    }
    if (rc < 0)
        return problem_set(scan->why, rc, "cannot read %s: %s; try again, or leave it out", scan->path, inner.text);
    scan->index->shards[scan->index->n_shards - 1].no_end = walk->no_end;
    return 0;
}

static int scan_open(struct scan *scan, int fd)
{
    struct tar_index *index = scan->index;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return problem_set(scan->why, -errno, "cannot measure %s: %s; try again, or leave it out", scan->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return problem_set(scan->why, -EINVAL, "%s is not a file; let 'path' match tar files only", scan->path);
    if ((uint64_t)st.st_size > SHARD_MOST)
        return problem_set(scan->why, -EFBIG, "%s has more than 2 TiB; make several shards of it", scan->path);
    int rc = refuse_compressed(scan, fd);
    if (rc < 0)
        return rc;
    const struct tar_shard facts = { .stamp = watch_stamp(&st),
                                     .size = (uint64_t)st.st_size,
                                     .mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec };
    rc = tar_index_add_shard(index, scan->path, &facts);
    if (rc < 0)
        return no_room(scan, rc);
    if (st.st_mtim.tv_sec >= watch_young_s())
        index->young = index->n_shards;
    struct tar_walk *walk = calloc(1, sizeof *walk);
    if (!walk)
        return no_room(scan, -ENOMEM);
    walk->read = read_file;
    walk->context = &fd;
    walk->size = facts.size;
    rc = walk_all(scan, walk);
    tar_walk_fini(walk);
    free(walk);
    return rc;
}

int tar_scan(struct tar_index *index, const char *path, struct source_progress *progress, struct problem *why)
{
    struct scan scan = { .index = index, .path = path, .progress = progress, .why = why };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open %s: %s; check that pfeedd may read it", path, strerror(errno));
    int rc = scan_open(&scan, fd);
    close(fd);
    return rc;
}
