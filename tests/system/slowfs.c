/* SPDX-License-Identifier: MIT */
/* See slowfs.h. */
#define FUSE_USE_VERSION 35
#include "slowfs.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

#define READS    4096u
#define FOREVER  86400.0
#define FILE_INO 2u /* of file 0 */

struct waiting {
    fuse_req_t request;
    uint64_t file, at, size;
    int64_t since_ns;
    bool short_one;
};

static struct slowfs *fs;
static struct trainer *server;
static struct waiting waiting[READS]; /* oldest first */
static uint32_t n_waiting;

uint8_t slowfs_byte(uint64_t file, uint64_t at)
{
    return (uint8_t)(mix(file * 4096 + at / 8) >> at % 8 * 8);
}

uint64_t slowfs_now(const struct slowfs *of)
{
    return count_get(&of->now);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static void about(fuse_ino_t ino, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0444;
    st->st_nlink = 1;
    st->st_size = ino == FUSE_ROOT_ID ? 0 : (off_t)fs->bytes;
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = { .attr_timeout = FOREVER, .entry_timeout = FOREVER };
    unsigned file;
    char end;

    if (parent != FUSE_ROOT_ID || sscanf(name, "f%u%c", &file, &end) != 1 || file >= fs->files) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    entry.ino = FILE_INO + file;
    about(entry.ino, &entry.attr);
    fuse_reply_entry(request, &entry);
}

static void on_getattr(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct stat st;

    about(ino, &st);
    fuse_reply_attr(request, &st, FOREVER);
}

static void on_open(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *info)
{
    info->direct_io = !word_get(&fs->cached);
    info->keep_cache = word_get(&fs->cached);
    info->noflush = 1;
    fuse_reply_open(request, info);
}

static void on_read(fuse_req_t request, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *info)
{
    struct waiting *read = &waiting[n_waiting];
    const uint64_t file = ino - FILE_INO, left = (uint64_t)at < fs->bytes ? fs->bytes - (uint64_t)at : 0;
    const bool first = fs->by_file[file]++ == 0;

    count_set(&fs->come, fs->come + 1);
    if (first && word_get(&fs->failing)) {
        fuse_reply_err(request, (int)word_get(&fs->failing));
        return;
    }
    CHECK(n_waiting < READS, "more than %u reads", READS);
    *read = (struct waiting){ request, file, (uint64_t)at, size < left ? size : left, now_ns(), first && word_get(&fs->cutting) };
    n_waiting++;
    count_set(&fs->now, n_waiting);
    if (n_waiting > fs->most)
        count_set(&fs->most, n_waiting);
}

/* Else the kernel lets no more than 12 of io_uring's be under way. */
static void on_init(void *context, struct fuse_conn_info *connection)
{
    connection->max_background = READS;
    connection->congestion_threshold = READS;
}

static const struct fuse_lowlevel_ops operations = {
    .init = on_init, .lookup = on_lookup, .getattr = on_getattr, .open = on_open, .read = on_read
};

/* ---- answers -------------------------------------------------------------------------------------------------------- */

/* Of the reads that may be answered: the files are read in the order of their numbers. */
static bool is_lowest(const struct waiting *read)
{
    for (uint32_t i = 0; i < n_waiting; i++)
        if (waiting[i].file < read->file)
            return false;
    return true;
}

static bool is_due(const struct waiting *read)
{
    if (read->file < word_get(&fs->held_below))
        return false;
    switch ((enum slowfs_rule)word_get(&fs->rule)) {
    case SLOWFS_AT_ONCE:
        return true;
    case SLOWFS_HOLD:
        return false;
    case SLOWFS_KEEP:
        return is_lowest(read) && (n_waiting > fs->keep || count_get(&fs->come) >= fs->total);
    case SLOWFS_DELAY:
        return now_ns() - read->since_ns >= (int64_t)count_get(&fs->delay_ns);
    }
    return false;
}

static void answer(const struct waiting *read)
{
    const uint64_t size = read->short_one ? read->size / 2 : read->size;
    char *bytes = malloc(size + 1);

    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (char)slowfs_byte(read->file, read->at + i);
    fuse_reply_buf(read->request, bytes, size);
    free(bytes);
}

/* A reader that is killed waits for its answer nevertheless. */
static void answer_due(void)
{
    for (uint32_t i = 0; i < n_waiting;) {
        if (fuse_req_interrupted(waiting[i].request)) {
            fuse_reply_err(waiting[i].request, EINTR);
        } else if (is_due(&waiting[i])) {
            answer(&waiting[i]);
        } else {
            i++;
            continue;
        }
        memmove(&waiting[i], &waiting[i + 1], (--n_waiting - i) * sizeof(waiting[0]));
        count_set(&fs->now, n_waiting);
    }
}

static void serve(void *arg)
{
    char *words[] = { (char *)"slowfs", (char *)"-o", (char *)"allow_other" };
    struct fuse_args args = FUSE_ARGS_INIT(3, words);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    struct fuse_buf buffer = { .mem = NULL };

    fuse_opt_free_args(&args);
    if (!session || fuse_session_mount(session, fs->at) != 0) {
        word_set(&fs->ready, 2);
        return;
    }
    word_set(&fs->ready, 1);
    while (!word_get(&fs->stop) && !fuse_session_exited(session)) {
        struct pollfd ready = { .fd = fuse_session_fd(session), .events = POLLIN };

        if (poll(&ready, 1, n_waiting ? 1 : 10) > 0 && fuse_session_receive_buf(session, &buffer) > 0)
            fuse_session_process_buf(session, &buffer);
        answer_due();
    }
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    free(buffer.mem);
}

struct slowfs *slowfs_start(const char *folder, uint32_t files, uint64_t bytes)
{
    machine_need_root();
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        skip("there is no /dev/fuse");
    machine_own_mounts();
    fs = shared_memory(sizeof(*fs));
    snprintf(fs->at, sizeof(fs->at), "%s/slow", folder);
    CHECK(mkdir(fs->at, 0755) == 0, "cannot make %s: %s", fs->at, strerror(errno));
    fs->files = files;
    fs->bytes = bytes;
    server = trainer_start("storage", serve, NULL);
    word_await(&fs->ready, 1);
    if (word_get(&fs->ready) == 2)
        skip("no file system of its own can be mounted here");
    return fs;
}

void slowfs_end(struct slowfs *of)
{
    word_set(&of->stop, 1);
    trainer_wait(server);
    rmdir(of->at);
}
