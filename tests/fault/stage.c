/* SPDX-License-Identifier: MIT */
/* See stage.h. */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <pfeed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"

#define PICTURES 4u
#define NUMBERS  16u
#define LISTED   3u
#define TOKENS   8u
#define WAIT_MS  20000 /* nothing here takes so long but a hang */

const char *const stage_feeds[STAGE_FEEDS] = { "pictures", "numbers", "listed", "tokens" };

/* `group` without (...): where memory fails for one, the C library's regcomp frees something twice (glibc 2.36). */
static const char yaml[] = "version: 1\n"
                           "daemon: { workers: 1, memory: 64MiB, shm: %s, read_ahead: 3 }\n"
                           "feeds:\n"
                           "  pictures:\n"
                           "    source: { type: directory, path: %s/pictures }\n"
                           "    batch: 2\n    read_retry: 100ms\n"
                           "    slots: 4\n"
                           "    max_held: 1\n"
                           "    fields:\n"
                           "      image:\n"
                           "        decode: { image: { max_pixels: 250000, max_progressive: 250000 } }\n"
                           "        transforms: [ resize: { size: 24 }, center_crop: { size: 16 } ]\n"
                           "        dtype: uint8\n"
                           "      label: { dtype: int64 }\n"
                           "  numbers:\n"
                           "    source: { type: synthetic, rows: 16 }\n"
                           "    subset: %s/ids\n"
                           "    shuffle: { mode: weighted, weights: %s/weights }\n"
                           "    batch: 4\n    read_retry: 100ms\n"
                           "    slots: 4\n"
                           "    fields: { x: { dtype: float32, shape: [8] } }\n"
                           "  listed:\n"
                           "    source: { type: list, path: %s/list.csv }\n"
                           "    split: { part: all, parts: { all: 1 }, group: . }\n"
                           "    batch: 3\n    read_retry: 100ms\n"
                           "    slots: 4\n"
                           "    fields:\n"
                           "      image: { decode: raw, dtype: uint8, shape: [8] }\n"
                           "      label: { dtype: int64 }\n";

static const char list[] = "path,label\na,one\nb,two\nc,one\n";

static const char drop_in[] = "feeds:\n"
                              "  tokens:\n"
                              "    source: { type: tokens, path: \"%s/*.bin\", dtype: uint16 }\n"
                              "    batch: 4\n    read_retry: 100ms\n"
                              "    slots: 4\n"
                              "    fields: { tokens: { length: 8, dtype: int32 } }\n";

/* LeakSanitizer need not tell: libyaml loses a stack of its own where memory stays short, glibc's regcomp a set of nodes (of which
 * the frames above are not seen: glibc keeps no frame pointers). */
static const char leaks[] = "leak:^yaml_parser_load$\nleak:^re_node_set_\n";

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "cannot write %s: %s", path, strerror(errno));
    close(fd);
}

static void write_files(const struct stage *stage, const char *shm)
{
    uint16_t tokens[TOKENS * 8];
    char path[160], text[4096];
    size_t n = 0;

    snprintf(path, sizeof(path), "%s/leaks", stage->folder);
    write_file(path, leaks, sizeof(leaks) - 1);
    snprintf(path, sizeof(path), "%s/pictures", stage->folder);
    images_make(path, PICTURES, 2);
    for (uint16_t i = 0; i < TOKENS * 8; i++)
        tokens[i] = (uint16_t)(i * 7);
    snprintf(path, sizeof(path), "%s/some.bin", stage->folder);
    write_file(path, tokens, sizeof(tokens));
    for (char name = 'a'; name < 'a' + (char)LISTED; name++) {
        snprintf(path, sizeof(path), "%s/%c", stage->folder, name);
        memset(text, name, 8);
        write_file(path, text, 8);
    }
    snprintf(path, sizeof(path), "%s/list.csv", stage->folder);
    write_file(path, list, sizeof(list) - 1);
    for (unsigned i = 0; i < NUMBERS; i++) /* each once: what is fed stays the same */
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%u\n", i);
    snprintf(path, sizeof(path), "%s/ids", stage->folder);
    write_file(path, text, n);
    memset(text, '1', NUMBERS * 2);
    for (unsigned i = 0; i < NUMBERS; i++)
        text[2 * i + 1] = '\n';
    snprintf(path, sizeof(path), "%s/weights", stage->folder);
    write_file(path, text, NUMBERS * 2);
    snprintf(text, sizeof(text), yaml, shm, stage->folder, stage->folder, stage->folder, stage->folder);
    write_file(stage->config, text, strlen(text));
    snprintf(path, sizeof(path), "%s/feeds.d", stage->folder);
    CHECK(mkdir(path, 0700) == 0, "cannot make %s: %s", path, strerror(errno));
    snprintf(path, sizeof(path), "%s/feeds.d/tokens.yaml", stage->folder);
    snprintf(text, sizeof(text), drop_in, stage->folder);
    write_file(path, text, strlen(text));
}

struct stage_page *stage_map(const char *path)
{
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    long map = syscall(SYS_mmap, NULL, sizeof(struct stage_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);

    syscall(SYS_close, fd);
    CHECK(map != -1, "cannot map %s: %s", path, strerror(errno));
    return (struct stage_page *)map;
}

void stage_make(struct stage *stage, const char *shm)
{
    const char *parent = getenv("TMPDIR");
    static const struct stage_page empty;

    if (!parent || strlen(parent) > 24)
        parent = "/tmp";
    snprintf(stage->folder, sizeof(stage->folder), "%s/pfeed-fault-XXXXXX", parent);
    CHECK(mkdtemp(stage->folder), "cannot make %s: %s", stage->folder, strerror(errno));
    snprintf(stage->socket, sizeof(stage->socket), "%s/pfeedd.sock", stage->folder);
    snprintf(stage->config, sizeof(stage->config), "%s/pfeed.yaml", stage->folder);
    snprintf(stage->output, sizeof(stage->output), "%s/output", stage->folder);
    snprintf(stage->page_path, sizeof(stage->page_path), "%s/page", stage->folder);
    write_file(stage->page_path, &empty, sizeof(empty));
    stage->page = stage_map(stage->page_path);
    stage->page->fault.call = FAULT_KINDS;
    stage->page->n_rows[0] = PICTURES;
    stage->page->n_rows[1] = NUMBERS;
    stage->page->n_rows[2] = LISTED;
    stage->page->n_rows[3] = TOKENS;
    write_files(stage, shm);
}

void stage_end(struct stage *stage)
{
    munmap(stage->page, sizeof(*stage->page));
    remove_folder(stage->folder);
}

/* ---- an epoch ------------------------------------------------------------------------------------------------------- */

static int wrong(char *why, size_t size, const char *what, uint64_t value)
{
    snprintf(why, size, "%s (%llu)", what, (unsigned long long)value);
    return -EBADMSG;
}

static void hash_row(const struct pfeed_batch *batch, uint32_t row, uint64_t *hash, uint64_t *zeros)
{
    const struct pfeed_tensor *tensor;

    *hash = *zeros = 1;
    for (uint32_t f = 0; (tensor = pfeed_tensor_at(batch, f)); f++) {
        size_t bytes = (size_t)(tensor->ndim > 0 ? tensor->strides[0] : 1) * tensor->dtype.bits / 8;
        uint8_t nothing[4096] = { 0 };

        CHECK(bytes <= sizeof(nothing), "a row of %zu bytes", bytes);
        *hash = hash_bytes(*hash, (const uint8_t *)tensor->data + row * bytes, bytes);
        *zeros = hash_bytes(*zeros, nothing, bytes);
    }
}

static int judge_row(struct stage_page *page, uint32_t feed, const struct pfeed_batch *batch, uint32_t row, bool fill,
                     uint32_t *seen, bool bad_samples, char *why, size_t size)
{
    const struct pfeed_info *info = pfeed_info(batch);
    uint64_t id = info->ids[row], used = info->used_ids[row], hash, zeros;
    uint8_t flags = info->flags[row];

    hash_row(batch, row, &hash, &zeros);
    if (id >= page->n_rows[feed] || used >= page->n_rows[feed])
        return wrong(why, size, "an id that is not of the feed", id);
    if (*seen & 1u << id)
        return wrong(why, size, "a sample comes twice", id);
    *seen |= 1u << id;
    if (fill)
        page->hash[feed][id] = hash;
    if (flags && !(bad_samples && __atomic_load_n(&page->fault.fired, __ATOMIC_RELAXED)))
        return wrong(why, size, "a row has flags", flags);
    if (flags & PFEED_ROW_MASKED)
        return hash == zeros ? 0 : wrong(why, size, "a row that was left out has bytes", id);
    if (!(flags & PFEED_ROW_REPLACED) && used != id)
        return wrong(why, size, "another sample, and no flag", id);
    return hash == page->hash[feed][used] ? 0 : wrong(why, size, "wrong bytes", id);
}

/* Keeps the sentence before the handle goes. */
static int told(struct pfeed *pf, int rc, char *why, size_t size)
{
    snprintf(why, size, "%s", pfeed_error(pf));
    if (!*why || strcmp(why, "no error") == 0)
        rc = wrong(why, size, "an error without a sentence", (uint64_t)-rc);
    return rc;
}

int stage_epoch(const struct stage *stage, uint32_t feed, bool fill, bool bad_samples, char *why, size_t size)
{
    const struct pfeed_options options = {
        .size = sizeof(options), .socket = stage->socket, .feed = stage_feeds[feed], .epochs = 1, .reconnect_ms = -1
    };
    struct pfeed_batch *batch;
    uint32_t seen = 0;
    struct pfeed *pf;
    int rc = pfeed_open(&pf, &options);

    if (rc < 0)
        return told(NULL, rc, why, size);
    while ((rc = pfeed_next(pf, &batch, WAIT_MS)) == 0 || rc == PFEED_EPOCH || rc == -EINTR) {
        if (rc != 0)
            continue;
        for (uint32_t r = 0; r < pfeed_info(batch)->rows && rc == 0; r++)
            rc = judge_row(stage->page, feed, batch, r, fill, &seen, bad_samples, why, size);
        if (rc == 0 && pfeed_done(pf, batch) < 0)
            rc = wrong(why, size, "pfeed_done fails", feed);
        if (rc < 0)
            break;
    }
    if (rc == -ETIMEDOUT)
        rc = wrong(why, size, "no batch for a long time", feed);
    else if (rc < 0 && rc != -EBADMSG)
        rc = told(pf, rc, why, size);
    else if (rc == PFEED_END && seen != (1u << stage->page->n_rows[feed]) - 1)
        rc = wrong(why, size, "not all samples came", seen);
    pfeed_close(pf);
    return rc < 0 ? rc : 0;
}
