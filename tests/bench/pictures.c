/* SPDX-License-Identifier: MIT */
/* See pictures.h. */
#include "pictures.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "decode/decode.h"
#include "decode/jpeg.h"
#include "feed.h"
#include "transform/kernel.h"

#define THREADS 16

struct file {
    void *bytes;
    size_t size;
};

struct crop {
    uint64_t id;
    struct plan plan;
    struct rect part; /* of the stored picture */
    uint8_t *pixels;  /* of the part, decoded; NULL until they are kept */
};

struct pictures {
    struct feed *feed;
    const struct field *field;
    struct file *files;
    void *buffer;       /* of a read */
    struct crop *crops; /* [epoch][position] */
    uint32_t epochs, slots;
    uint64_t n;
    void *state, *codec; /* of decode/image.c */
    struct kernel *kernel;
    uint8_t *rows;
    double pixels;
};

/* A reader such as the daemon's, with memory of its own that is there and touched, as a worker's is. */
struct bare_reader {
    struct jpeg_reader *jpeg;
    void *memory;
};

static void *touched(size_t size)
{
    void *memory = aligned_alloc(PF_PAGE, (size + PF_PAGE - 1) / PF_PAGE * PF_PAGE);

    CHECK(memory, "no memory");
    memset(memory, 0, size);
    return memory;
}

static void reader_open(struct bare_reader *reader)
{
    const struct picture_limits limits = { .max_pixels = UINT64_C(64000000), .max_kept = UINT64_C(1000000) };
    const size_t size = JPEG_READER_ROWS + limits.max_kept * 8;

    CHECK(jpeg_reader_create(&reader->jpeg, &limits) == 0, "no memory");
    reader->memory = touched(size);
    jpeg_reader_memory(reader->jpeg, reader->memory, size);
}

static void reader_close(struct bare_reader *reader)
{
    jpeg_reader_destroy(reader->jpeg);
    free(reader->memory);
}

void pictures_feed(char *yaml, size_t size, const char *name, const char *path, uint32_t batch, uint32_t slots, uint32_t gang)
{
    const char *cache = getenv("PFEED_BENCH_CACHE");

    snprintf(yaml, size,
             "  %s:\n    source: { type: directory, path: \"%s\" }\n    shuffle: { mode: global, seed: 42 }\n    batch: %u\n"
             "    slots: %u\n    gang: %u\n    fields:\n      image:\n        decode: image\n        transforms:\n"
             "          - random_resized_crop: { size: 224, scale: [0.08, 1.0], ratio: [0.75, 1.3333] }\n"
             "          - horizontal_flip: { p: 0.5 }\n"
             "          - normalize: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }\n"
             "        dtype: float16\n        layout: chw\n    cache: %s\n",
             name, path, batch, slots, gang, cache && *cache ? cache : "{}");
}

uint32_t pictures_in(const char *path)
{
    static struct daemon daemon; /* harness.h keeps it in mind */
    char feed[2048], yaml[4096];
    struct pf_row_feed row;

    pictures_feed(feed, sizeof(feed), "count", path, 1, 4, 1);
    snprintf(yaml, sizeof(yaml), "version: 1\ndaemon: { workers: 1, memory: 1GiB }\nfeeds:\n%s", feed);
    daemon_start(&daemon, yaml);
    row = feed_now(&daemon, "count");
    daemon_stop(&daemon);
    return (uint32_t)row.samples;
}

static void read_file(struct pictures *pictures, uint64_t id, struct sample_value *value)
{
    struct feed *feed = pictures->feed;
    struct problem why;

    CHECK(feed->config->source->read(feed->source, id, pictures->field->part, pictures->buffer, feed->max_bytes, value, &why) >=
              0,
          "%s", why.text);
}

static void read_files(struct pictures *pictures)
{
    pictures->buffer = touched(pictures->feed->max_bytes + 64); /* as worker.c */
    pictures->files = calloc(pictures->n, sizeof(*pictures->files));
    CHECK(pictures->buffer && pictures->files, "no memory");
    for (uint64_t id = 0; id < pictures->n; id++) {
        struct file *file = &pictures->files[id];
        struct sample_value value;

        read_file(pictures, id, &value);
        *file = (struct file){ malloc(value.size), value.size };
        CHECK(file->bytes, "no memory");
        memcpy(file->bytes, value.data, value.size);
    }
}

/* As decode/image.c does it. */
static void plan_crop_of(struct pictures *pictures, struct jpeg_reader *jpeg, const struct row_key *key, struct crop *crop)
{
    const struct file *file = &pictures->files[key->id];
    const struct field *field = pictures->field;
    struct picture_head head;
    struct problem why;

    CHECK(jpeg_reader_open(jpeg, file->bytes, file->size, &head, &why) >= 0, "%s", why.text);
    jpeg_reader_close(jpeg);
    plan_init(&crop->plan, head.width, head.height);
    for (uint32_t i = 0; i < field->n_transforms; i++) {
        const struct transform_use *use = &field->transforms[i];
        struct draw draw;

        draw_init(&draw, key, use->ops->name, use->ordinal);
        CHECK(use->ops->plan(use->params, &draw, &crop->plan, &why) >= 0, "%s", why.text);
    }
    crop->id = key->id;
    CHECK(kernel_plan(pictures->kernel, &crop->plan, kernel_turns[1], &crop->part, &why) >= 0, "%s", why.text);
    pictures->pixels += (double)crop->part.width * crop->part.height;
}

static void plan_epochs(struct pictures *pictures)
{
    const struct config_feed *config = pictures->feed->config;
    const struct field *field = pictures->field;
    struct bare_reader reader;
    struct order *order;

    CHECK(field->layout == LAYOUT_CHW, "only chw is looked at here");
    CHECK(order_create(&order, &pictures->feed->order_params, 1) == 0, "no memory");
    reader_open(&reader);
    CHECK(kernel_create(&pictures->kernel, NULL, (int32_t)field->shape[2], (int32_t)field->shape[1], field->dtype, field->layout,
                        0) == 0,
          "no memory");
    pictures->crops = calloc(pictures->epochs * pictures->n, sizeof(*pictures->crops));
    CHECK(pictures->crops, "no memory");
    for (uint32_t epoch = 0; epoch < pictures->epochs; epoch++) {
        const struct order_view *view = order_view(order, config->seed, epoch);

        for (uint64_t position = 0; position < pictures->n; position++) {
            struct row_key key = { .seed = config->seed, .epoch = epoch };

            order_at(view, position, &key.id, &key.occurrence);
            plan_crop_of(pictures, reader.jpeg, &key, &pictures->crops[epoch * pictures->n + position]);
        }
        order_release(order, view);
    }
    pictures->pixels /= (double)(pictures->epochs * pictures->n);
    reader_close(&reader);
    order_destroy(order);
}

struct pictures *pictures_open(const char *config_path, uint32_t epochs, uint32_t slots)
{
    struct pictures *pictures = calloc(1, sizeof(*pictures));
    struct config *config;

    CHECK(pictures, "no memory");
    CHECK(config_load(&config, config_path) == 0, "cannot read %s", config_path);
    feeds_open(&(struct feeds_env){ .config = config, .feeds = &pictures->feed });
    CHECK(config_report(config, stderr) == 0, "cannot open the feed");
    pictures->field = &pictures->feed->fields[0];
    pictures->n = pictures->feed->samples;
    pictures->epochs = epochs;
    pictures->slots = slots;
    CHECK(pictures->field->decode->worker_open(&pictures->state, pictures->field) == 0, "no memory");
    pictures->codec = touched(pictures->field->decode->codec_bytes(pictures->field));
    pictures->rows = shared_memory(slots * pictures->n * pictures->field->row_bytes);
    memset(pictures->rows, 0, slots * pictures->n * pictures->field->row_bytes);
    read_files(pictures);
    plan_epochs(pictures);
    return pictures;
}

uint64_t pictures_count(const struct pictures *pictures)
{
    return pictures->n;
}

size_t pictures_row_bytes(const struct pictures *pictures)
{
    return pictures->field->row_bytes;
}

double pictures_pixels(const struct pictures *pictures)
{
    return pictures->pixels;
}

void pictures_list(const struct pictures *pictures, uint32_t epochs, FILE *file)
{
    const struct config_feed *config = pictures->feed->config;

    for (uint64_t at = 0; at < epochs * pictures->n; at++) {
        const struct crop *crop = &pictures->crops[at];
        const struct rect *part = &crop->plan.crop;
        char path[4096];

        config->source->path(pictures->feed->source, crop->id, path, sizeof(path));
        fprintf(file, "%d\t%d\t%d\t%d\t%d\t%s\n", part->x, part->y, part->width, part->height, crop->plan.flip_x, path);
    }
}

/* ---- the bare loop -------------------------------------------------------------------------------------------------- */

struct bare {
    const struct pictures *pictures;
    uint64_t next, end; /* places in crops */
    int64_t cpu_ns;
};

/* to: may be NULL. */
static void decode_crop(struct jpeg_reader *jpeg, const struct file *file, const struct rect *part, uint8_t *to)
{
    struct picture_head head;
    struct problem why;
    const uint8_t *row;

    CHECK(jpeg_reader_open(jpeg, file->bytes, file->size, &head, &why) >= 0, "%s", why.text);
    CHECK(jpeg_reader_crop(jpeg, part->x, part->y, part->width, part->height, &why) >= 0, "%s", why.text);
    for (int32_t y = 0; y < part->height; y++) {
        CHECK(jpeg_reader_row(jpeg, &row, &why) >= 0, "%s", why.text);
        if (to)
            memcpy(to + (size_t)y * (size_t)part->width * 3, row, (size_t)part->width * 3);
    }
    jpeg_reader_close(jpeg);
}

static void *bare_run(void *argument)
{
    struct bare *bare = argument;
    const struct pictures *pictures = bare->pictures;
    struct bare_reader reader;
    int64_t start_ns;
    uint64_t at;

    reader_open(&reader);
    start_ns = thread_ns();
    while ((at = __atomic_fetch_add(&bare->next, 1, __ATOMIC_RELAXED)) < bare->end) {
        const struct crop *crop = &pictures->crops[at];

        decode_crop(reader.jpeg, &pictures->files[crop->id], &crop->part, NULL);
    }
    __atomic_fetch_add(&bare->cpu_ns, thread_ns() - start_ns, __ATOMIC_RELAXED);
    reader_close(&reader);
    return NULL;
}

int64_t pictures_decode(struct pictures *pictures, uint32_t epoch, uint32_t epochs, uint32_t n_threads)
{
    struct bare bare = { pictures, epoch * pictures->n, (epoch + epochs) * pictures->n, 0 };
    pthread_t threads[THREADS];

    CHECK(epoch + epochs <= pictures->epochs && n_threads <= THREADS, "epochs that were not planned");
    for (uint32_t t = 1; t < n_threads; t++)
        CHECK(pthread_create(&threads[t], NULL, bare_run, &bare) == 0, "cannot start a thread");
    bare_run(&bare);
    for (uint32_t t = 1; t < n_threads; t++)
        pthread_join(threads[t], NULL);
    return bare.cpu_ns;
}

/* ---- the kernel alone ----------------------------------------------------------------------------------------------- */

static void *row_place(const struct pictures *pictures, uint32_t epoch, uint64_t position)
{
    return pictures->rows + (epoch % pictures->slots * pictures->n + position) * pictures->field->row_bytes;
}

void pictures_keep(struct pictures *pictures, uint32_t epoch, uint32_t epochs)
{
    struct bare_reader reader;

    reader_open(&reader);
    for (uint64_t at = epoch * pictures->n; at < (epoch + epochs) * pictures->n; at++) {
        struct crop *crop = &pictures->crops[at];
        const struct rect *part = &crop->part;

        crop->pixels = malloc((size_t)part->width * (size_t)part->height * 3 + 64); /* a reader's rows may be read past */
        CHECK(crop->pixels, "no memory");
        decode_crop(reader.jpeg, &pictures->files[crop->id], part, crop->pixels);
    }
    reader_close(&reader);
}

struct kept {
    const uint8_t *next;
    size_t row_bytes;
};

static int next_kept(void *from, const uint8_t **row, struct problem *why)
{
    struct kept *kept = from;

    (void)why;
    *row = kept->next;
    kept->next += kept->row_bytes;
    return 0;
}

int64_t pictures_scale(struct pictures *pictures, uint32_t epoch, uint32_t epochs)
{
    int64_t start_ns = thread_ns();
    struct problem why;

    for (uint64_t at = epoch * pictures->n; at < (epoch + epochs) * pictures->n; at++) {
        const struct crop *crop = &pictures->crops[at];
        struct kept kept = { crop->pixels, (size_t)crop->part.width * 3 };
        struct rect part;

        CHECK(kernel_plan(pictures->kernel, &crop->plan, kernel_turns[1], &part, &why) >= 0, "%s", why.text);
        CHECK(kernel_run(pictures->kernel, next_kept, &kept, row_place(pictures, epoch, at % pictures->n), &why) >= 0, "%s",
              why.text);
    }
    return thread_ns() - start_ns;
}

/* ---- whole rows ----------------------------------------------------------------------------------------------------- */

static void *make_row(struct pictures *pictures, uint32_t epoch, uint64_t position, bool read)
{
    const struct crop *crop = &pictures->crops[epoch * pictures->n + position];
    const struct file *file = &pictures->files[crop->id];
    struct sample_value value = { file->bytes, file->size, &pictures->feed->parts[pictures->field->part] };
    const struct row_key key = { .seed = pictures->feed->config->seed, .epoch = epoch, .id = crop->id };
    void *row = row_place(pictures, epoch, position);
    struct problem why;

    if (read)
        read_file(pictures, crop->id, &value);
    CHECK(pictures->field->decode->row(pictures->state, pictures->codec, pictures->field, &value, &key, row, &why) >= 0, "%s",
          why.text);
    return row;
}

int64_t pictures_make(struct pictures *pictures, uint32_t epoch, uint32_t epochs, bool read)
{
    int64_t start_ns = thread_ns();

    CHECK(epoch + epochs <= pictures->epochs, "epochs that were not planned");
    for (uint32_t e = epoch; e < epoch + epochs; e++)
        for (uint64_t position = 0; position < pictures->n; position++)
            make_row(pictures, e, position, read);
    return thread_ns() - start_ns;
}

const void *pictures_row(struct pictures *pictures, uint32_t epoch, uint64_t position)
{
    return make_row(pictures, epoch, position, false);
}
