/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 4, promise 9: files that are no good do not stop training. Among good pictures lie an empty file, a cut JPEG,
 * text, a head of 30,000 x 30,000 pixels without a body, 12-bit samples, a file that may not be read, one whose reads give EIO,
 * and, from after the scan on, one that has vanished, one that has grown, one that is a folder now. Each is replaced by a good one,
 * the same whatever the number of workers, flagged, counted and named with its reason; 1 x 1 pixels and CMYK are good pictures.
 * on_error: mask and fail, and max_errors, do what they say. Memory does not grow.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jpeglib.h>

#include "history.h"

#define GOOD   40u
#define BATCH  10u
#define NOISE  (256u << 10)
#define NOBODY 65534u

static struct daemon daemons[2], *pfeedd = &daemons[0];
static char folder[64];

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(path_of(name), "we");

    CHECK(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, "cannot write %s", path_of(name));
}

/* Noise, so that a cut file is cut within its pixels. To be freed. */
static unsigned char *make_jpeg(unsigned width, unsigned height, int components, unsigned long *size)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, *row = malloc((size_t)width * (unsigned)components);

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, size);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < height) {
        for (size_t i = 0; i < (size_t)width * (unsigned)components; i++)
            row[i] = (unsigned char)mix(i + 7 * jpeg.next_scanline + width);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    return bytes;
}

/* Where the contents of the first segment with that marker begin. In a frame head: precision, height, width. */
static size_t segment_of(const unsigned char *bytes, unsigned long size, unsigned char marker)
{
    for (size_t at = 2; at + 9 < size; at += 2 + (size_t)(bytes[at + 2] << 8 | bytes[at + 3]))
        if (bytes[at + 1] == marker)
            return at + 4;
    FAIL("a JPEG without the marker %02x", marker);
}

/* Every bad file: its name, what `pfeedctl errors` must say of it, and whether it is made bad only after the scan. */
static const struct bad {
    const char *name, *reason;
    bool later;
} bads[] = {
    { "bad-12bit.jpg", "precision 12", false },
    { "bad-cut.jpg", "JPEG: ", false },
    { "bad-eio.jpg", "Input/output error", false },
    { "bad-empty.jpg", "the file is empty", false },
    { "bad-folder.jpg", "is not a file any more", true },
    { "bad-grown.jpg", "and had", true },
    { "bad-huge.jpg", "30000 x 30000 pixels, but max_pixels is", false },
    { "bad-text.JPEG", "but text; only JPEG", false },
    { "bad-unreadable.jpg", "Permission denied", false },
    { "bad-vanished.jpg", "No such file or directory", true },
};
#define BADS (sizeof(bads) / sizeof(*bads))

static void make_files(void)
{
    static const char text[] = "This is no picture at all, only a sentence in a file with the wrong name.\n";
    unsigned long size;
    unsigned char *bytes = make_jpeg(90, 70, 3, &size);
    size_t head = segment_of(bytes, size, 0xc0), scan = segment_of(bytes, size, 0xda);
    char name[32];

    snprintf(folder, sizeof(folder), "/tmp/pfeed-bad-XXXXXX");
    CHECK(mkdtemp(folder) && chmod(folder, 0755) == 0, "cannot make a folder");
    for (unsigned i = 0; i < GOOD - 2; i++) {
        snprintf(name, sizeof(name), "good-%02u.jpg", i);
        write_bytes(name, bytes, size);
    }
    write_bytes("bad-empty.jpg", "", 0);
    write_bytes("bad-cut.jpg", bytes, size / 2);
    write_bytes("bad-text.JPEG", text, sizeof(text) - 1);
    for (size_t i = 0; i < BADS; i++)
        if (bads[i].later || strstr(bads[i].name, "unreadable"))
            write_bytes(bads[i].name, bytes, size);
    CHECK(chmod(path_of("bad-unreadable.jpg"), 0) == 0, "chmod");
    CHECK(symlink("/proc/self/mem", path_of("bad-eio.jpg")) == 0, "symlink"); /* a file whose first byte cannot be read */
    bytes[head] = 12;
    write_bytes("bad-12bit.jpg", bytes, size);
    bytes[head] = 8;
    memcpy(bytes + head + 1, (const unsigned char[]){ 30000 >> 8, 30000 & 255, 30000 >> 8, 30000 & 255 }, 4);
    write_bytes("bad-huge.jpg", bytes, scan + 12); /* all heads, no pixels */
    free(bytes);
    bytes = make_jpeg(1, 1, 3, &size);
    write_bytes("good-1x1.jpg", bytes, size);
    free(bytes);
    bytes = make_jpeg(40, 50, 4, &size);
    write_bytes("good-cmyk.jpg", bytes, size);
    free(bytes);
}

static void spoil(void)
{
    FILE *file = fopen(path_of("bad-grown.jpg"), "ae");

    CHECK(file && fputc('x', file) == 'x' && fclose(file) == 0, "cannot append");
    CHECK(unlink(path_of("bad-vanished.jpg")) == 0, "unlink");
    CHECK(unlink(path_of("bad-folder.jpg")) == 0 && mkdir(path_of("bad-folder.jpg"), 0755) == 0, "mkdir");
}

/* ids are by name, bytewise: bad-* come first, in the order of the table. */
static bool is_bad(uint64_t id)
{
    return id < BADS;
}

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

/* Root reads everything: the daemon is somebody else, who owns its folder. */
static void become_nobody(void)
{
    char notify[80];

    snprintf(notify, sizeof(notify), "%s/notify", pfeedd->folder);
    if (chown(notify, NOBODY, NOBODY) != 0 || chown(pfeedd->folder, NOBODY, NOBODY) != 0 ||
        chown(pfeedd->config, NOBODY, NOBODY) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        _exit(126);
}

static void start(const char *more, unsigned workers)
{
    char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: %u, memory: 512MiB, shm: memfd }\nfeeds:\n"
             "  pictures:\n    source: { type: directory, path: %s }\n    shuffle: { seed: 3 }\n    batch: %u\n    tail: pad\n"
             "    slots: 4\n    read_retry: 50ms\n    access: { users: [0] }\n%s    fields:\n"
             "      image:\n        decode: { image: { max_pixels: 1000000, max_progressive: 100000 } }\n"
             "        transforms: [ resize: { size: [8, 8] } ]\n        dtype: uint8\n",
             workers, folder, BATCH, more);
    daemon_prepare = become_nobody;
    daemon_start(pfeedd, yaml);
}

/* Two epochs, recorded as they are: train() of history.c would not have flags other than PADDED. */
struct seen {
    uint32_t n, masked_rows_zero;
    int rc;
    char sentence[1024];
    struct {
        uint64_t id, used_id;
        uint32_t flags;
    } rows[400];
};

struct look {
    struct plan plan;
    struct seen *seen;
};

static void look_on(void *arg)
{
    struct look *look = arg;
    struct seen *seen = look->seen;
    struct pfeed *pf = plan_open(&look->plan);
    struct pfeed_batch *batch;

    while ((seen->rc = pfeed_next(pf, &batch, (int)(scaled_ns(30 * SECOND) / MS))) == 0 || seen->rc == PFEED_EPOCH) {
        const struct pfeed_info *info = batch ? pfeed_info(batch) : NULL;

        for (uint32_t row = 0; info && row < info->rows; row++) {
            const unsigned char *pixels = (const unsigned char *)pfeed_tensor(batch, "image")->data + (size_t)row * 8 * 8 * 3;
            bool zero = true;

            for (size_t i = 0; i < 8 * 8 * 3; i++)
                zero &= pixels[i] == 0;
            CHECK(zero == ((info->flags[row] & PFEED_ROW_MASKED) != 0), "row of sample %llu: flags %u, and pixels are %s",
                  (unsigned long long)info->ids[row], info->flags[row], zero ? "0" : "not 0");
            CHECK(seen->n < 400, "more rows than there are");
            seen->rows[seen->n].id = info->ids[row];
            seen->rows[seen->n].used_id = info->used_ids[row];
            seen->rows[seen->n++].flags = info->flags[row] & ~(uint32_t)PFEED_ROW_PADDED;
        }
        if (batch)
            must_done(pf, batch);
    }
    if (seen->rc < 0)
        snprintf(seen->sentence, sizeof(seen->sentence), "%s", pfeed_error(pf));
    pfeed_close(pf);
}

static struct seen *look(void)
{
    struct look look = { .plan = { .daemon = pfeedd, .feed = "pictures", .epochs = 2 } };

    look.seen = shared_memory(sizeof(*look.seen));
    trainer_wait(trainer_start("look", look_on, &look));
    return look.seen;
}

static void expect_errors(void)
{
    struct pf_row_error rows[64];
    size_t n = stat_errors(pfeedd, "pictures", rows, 64);

    for (size_t b = 0; b < BADS; b++) {
        const struct pf_row_error *row = NULL;

        for (size_t i = 0; i < n; i++)
            if (rows[i].id == b)
                row = &rows[i];
        CHECK(row, "nothing is said of %s", bads[b].name);
        CHECK(strcmp(row->where, path_of(bads[b].name)) == 0, "sample %zu is said to be %s", b, row->where);
        CHECK(strstr(row->reason, bads[b].reason), "%s: '%s' does not say '%s'", bads[b].name, row->reason, bads[b].reason);
        CHECK(row->count >= 2, "%s was met %llu times in two epochs", bads[b].name, (unsigned long long)row->count);
    }
    CHECK(n == BADS, "%zu bad samples, not %zu", n, BADS);
}

/* ---- the tests ------------------------------------------------------------------------------------------------------ */

static void run_replace(const void *arg)
{
    struct seen *first = NULL;

    (void)arg;
    make_files();
    for (unsigned workers = 1; workers <= 2; workers++) {
        struct process before, after;
        struct seen *seen;
        unsigned replaced = 0;

        pfeedd = &daemons[workers - 1];
        if (workers == 2) { /* as it was */
            CHECK(rmdir(path_of("bad-folder.jpg")) == 0, "rmdir");
            for (size_t i = 0; i < BADS; i++)
                if (bads[i].later) {
                    unsigned long size;
                    unsigned char *bytes = make_jpeg(90, 70, 3, &size);

                    write_bytes(bads[i].name, bytes, size);
                    free(bytes);
                }
        }
        start("    max_errors: 1\n", workers);
        spoil();
        process_measure(pfeedd->pid, &before);
        seen = look();
        CHECK(seen->rc == PFEED_END, "the trainer ended with %d: %s", seen->rc, seen->sentence);
        CHECK(seen->n == 2 * (GOOD + BADS), "%u rows in two epochs of %zu samples", seen->n, GOOD + BADS);
        for (uint32_t i = 0; i < seen->n; i++) {
            bool bad = is_bad(seen->rows[i].id);

            CHECK((seen->rows[i].flags == PFEED_ROW_REPLACED) == bad, "sample %llu has flags %u",
                  (unsigned long long)seen->rows[i].id, seen->rows[i].flags);
            CHECK(bad ? !is_bad(seen->rows[i].used_id) : seen->rows[i].used_id == seen->rows[i].id, "for sample %llu stands %llu",
                  (unsigned long long)seen->rows[i].id, (unsigned long long)seen->rows[i].used_id);
            replaced += bad;
            CHECK(!first || (first->rows[i].id == seen->rows[i].id && first->rows[i].used_id == seen->rows[i].used_id),
                  "with 2 workers row %u is another", i);
        }
        UNTIL(feed_at_rest(pfeedd, "pictures"));
        process_measure(pfeedd->pid, &after);
        CHECK(replaced == 2 * BADS && feed_now(pfeedd, "pictures").rows_replaced == replaced,
              "%u rows were replaced, %llu counted", replaced, (unsigned long long)feed_now(pfeedd, "pictures").rows_replaced);
        expect_errors();
        note("anonymous memory: %llu KiB before, %llu KiB after", (unsigned long long)before.anon_bytes / 1024,
             (unsigned long long)after.anon_bytes / 1024);
        CHECK(sanitized(NULL) || after.anon_bytes <= before.anon_bytes + NOISE, "memory has grown from %llu to %llu",
              (unsigned long long)before.anon_bytes, (unsigned long long)after.anon_bytes);
        first = seen;
        daemon_stop(pfeedd);
    }
    remove_folder(folder);
}

static void run_mask(const void *arg)
{
    struct seen *seen;

    (void)arg;
    make_files();
    start("    on_error: mask\n    max_errors: 1\n", 2);
    spoil();
    seen = look();
    CHECK(seen->rc == PFEED_END && seen->n == 2 * (GOOD + BADS), "%d, %u rows", seen->rc, seen->n);
    for (uint32_t i = 0; i < seen->n; i++)
        CHECK(seen->rows[i].flags == (is_bad(seen->rows[i].id) ? PFEED_ROW_MASKED : 0) &&
                  seen->rows[i].used_id == seen->rows[i].id,
              "sample %llu has flags %u", (unsigned long long)seen->rows[i].id, seen->rows[i].flags);
    CHECK(feed_now(pfeedd, "pictures").rows_masked == 2 * BADS, "not all were counted");
    expect_errors();
    daemon_stop(pfeedd);
    remove_folder(folder);
}

/* The feed fails for everybody who is attached and for who comes later, with the same sentence; others go on. */
static void expect_failure(const char *more, const char *words, const char *also, unsigned files)
{
    struct look looks[2];
    struct trainer *trainers[2];
    struct history *late = history_create(1, 1);
    struct plan plan = { .daemon = pfeedd, .feed = "pictures", .history = late };

    make_files();
    start(more, 2);
    for (int i = 0; i < 2; i++) {
        looks[i] = (struct look){ .plan = { .daemon = pfeedd, .feed = "pictures", .epochs = 2 },
                                  .seen = shared_memory(sizeof(struct seen)) };
        trainers[i] = trainer_start(i ? "the other" : "one", look_on, &looks[i]);
    }
    for (int i = 0; i < 2; i++) {
        const struct seen *seen = looks[i].seen;
        unsigned named = 0;

        trainer_wait(trainers[i]);
        CHECK(seen->rc == -ESTALE, "pfeed_next gave %d: %s", seen->rc, seen->sentence);
        CHECK(strstr(seen->sentence, words) && strstr(seen->sentence, also), "the sentence is: %s", seen->sentence);
        for (const char *at = seen->sentence; (at = strstr(at, "/bad-")); at++)
            named++;
        CHECK(named >= files, "%u files are named, not %u: %s", named, files, seen->sentence);
    }
    trainer_wait(trainer_start("late", train, &plan));
    CHECK(late->open_rc == -EIO && strstr(late->sentence, words), "a late one gets %d: %s", late->open_rc, late->sentence);
    note("%s", late->sentence);
    daemon_stop(pfeedd);
    remove_folder(folder);
}

static void run_fail(const void *arg)
{
    (void)arg;
    expect_failure("    on_error: fail\n    gang: 2\n", "is bad, and on_error is `fail`: ", "/bad-", 1);
}

static void run_max_errors(const void *arg)
{
    (void)arg;
    expect_failure("    max_errors: 0.05\n    gang: 2\n",
                   "rows are bad, more than the 0.05 of `max_errors`: ", "mend them and `pfeedctl rescan pictures`", 3);
}

int main(int argc, char **argv)
{
    const struct test tests[] = {
        { "replaced", run_replace, NULL },
        { "masked", run_mask, NULL },
        { "on_error: fail", run_fail, NULL },
        { "max_errors", run_max_errors, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
