/* SPDX-License-Identifier: MIT */
/*
 * A picture and its mask (DESIGN section 5): the draws are the sample's and not the field's, so that `geometry` takes the same part
 * of both. The pictures are flat blocks of 8 x 8 whose shade is their class, which JPEG keeps exactly at quality 100, so that every
 * pixel can be checked; a mask of another size than its picture is a bad sample.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

#include "history.h"

#define SAMPLES 60u
#define BATCH   20u
#define ODD     17u  /* its mask has another size */
#define SIDE    20u  /* of a row */
#define PADDED  255u /* the class of what is added */

static struct daemon pfeedd;
static char folder[64];

static unsigned class_of(unsigned sample, unsigned x, unsigned y)
{
    return (unsigned)mix(sample * 4096 + y / 8 * 64 + x / 8) % 12;
}

static unsigned shade_of(unsigned class)
{
    return 20 * class + 10;
}

static void write_jpeg(const char *kind, unsigned sample, unsigned width, unsigned height, int components)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *row = malloc((size_t)width * (unsigned)components);
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s-%u.jpg", folder, kind, sample);
    file = fopen(path, "we");
    CHECK(file && row, "cannot write %s", path);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < height) {
        for (unsigned x = 0; x < width; x++) {
            const unsigned class = class_of(sample, x, jpeg.next_scanline);

            memset(row + x * (unsigned)components, (int)(components == 1 ? class : shade_of(class)), (size_t)components);
        }
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
    free(row);
}

static void make_files(void)
{
    char path[128];
    FILE *list;

    snprintf(folder, sizeof(folder), "/tmp/pfeed-masks-XXXXXX");
    CHECK(mkdtemp(folder), "cannot make a folder");
    snprintf(path, sizeof(path), "%s/list.csv", folder);
    list = fopen(path, "we");
    CHECK(list, "cannot write %s", path);
    fputs("path,mask,label\n", list);
    for (unsigned i = 0; i < SAMPLES; i++) {
        const unsigned width = 40 + 8 * (i % 7), height = 48 + 8 * (i % 5);

        write_jpeg("image", i, width, height, 3);
        write_jpeg("mask", i, width, height + (i == ODD ? 8 : 0), 1);
        fprintf(list, "image-%u.jpg,mask-%u.jpg,%u\n", i, i, i);
    }
    fclose(list);
}

static void start_daemon(const char *more)
{
    char yaml[2048];

    make_files();
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 2, memory: 1GiB }\nfeeds:\n  a:\n    source: { type: list, path: %s/list.csv, "
             "file_columns: [mask] }\n    batch: %u\n    epochs: 2\n    max_errors: 0.5\n%s    fields:\n      label: {}\n"
             "      mask: { decode: { mask: { fill: %u } }, geometry: image, dtype: int64 }\n"
             "      image:\n        decode: image\n        layout: hwc\n        transforms:\n"
             "          - horizontal_flip\n          - random_resized_crop: { size: [24, 28], interpolation: nearest }\n"
             "          - random_crop: { size: %u, padding: 6, fill: 3 }\n          - vertical_flip\n",
             folder, BATCH, more, PADDED, SIDE);
    daemon_start(&pfeedd, yaml);
}

/* How many classes the mask has, of what is not padding; every pixel is that of the picture. */
static unsigned check_row(const uint8_t *image, const int64_t *mask, uint64_t id)
{
    unsigned seen = 0, classes = 0;

    for (unsigned i = 0; i < SIDE * SIDE; i++) {
        const unsigned shade = mask[i] == PADDED ? 3 : shade_of((unsigned)mask[i]);

        CHECK(mask[i] == PADDED || (mask[i] >= 0 && mask[i] < 12), "sample %llu has class %lld", (unsigned long long)id,
              (long long)mask[i]);
        CHECK(image[3 * i] == shade && image[3 * i + 1] == shade && image[3 * i + 2] == shade,
              "sample %llu: pixel %u is %u, its class %lld", (unsigned long long)id, i, image[3 * i], (long long)mask[i]);
        if (mask[i] != PADDED)
            seen |= 1u << mask[i];
    }
    for (; seen; seen &= seen - 1)
        classes++;
    return classes;
}

static void look(void *arg)
{
    const struct plan plan = { .daemon = &pfeedd, .feed = "a" };
    struct pfeed *pf = plan_open(&plan);
    unsigned replaced = 0, classes = 0, padded = 0;

    (void)arg;
    for (unsigned step = 0; step < 2 * SAMPLES / BATCH; step++) {
        struct pfeed_batch *batch = must_next(pf);
        const struct pfeed_info *info = pfeed_info(batch);
        const struct pfeed_tensor *image = pfeed_tensor(batch, "image"), *mask = pfeed_tensor(batch, "mask");

        CHECK(mask->ndim == 3 && mask->shape[1] == SIDE && mask->shape[2] == SIDE, "the mask has another shape");
        for (unsigned i = 0; i < BATCH; i++) {
            const int64_t *one = (const int64_t *)mask->data + i * SIDE * SIDE;

            classes += check_row((const uint8_t *)image->data + i * SIDE * SIDE * 3, one, info->used_ids[i]);
            padded += one[0] == PADDED;
            replaced += info->used_ids[i] != info->ids[i];
            CHECK((info->ids[i] == ODD) == (info->used_ids[i] != info->ids[i]), "sample %llu was replaced",
                  (unsigned long long)info->ids[i]);
        }
        must_done(pf, batch);
    }
    CHECK(replaced == 2, "%u rows were replaced, not the one of each epoch", replaced);
    CHECK(classes > 8 * SAMPLES && padded > 5, "%u classes, %u padded corners: there was little to see", classes, padded);
    pfeed_close(pf);
}

static void aligned(const void *arg)
{
    struct pf_row_error errors[4];

    start_daemon(arg);
    trainer_wait(trainer_start("trainer", look, NULL));
    CHECK(stat_errors(&pfeedd, "a", errors, 4) == 1, "not one sample is named");
    CHECK(strstr(errors[0].reason, "the picture whose geometry it shares is"), "the reason is '%s'", errors[0].reason);
    daemon_stop(&pfeedd);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a mask goes where its picture goes", aligned, "" },
        { "and where both are reduced first", aligned, "    cache: { decoded: { size: 16MiB, side: 32 } }\n" },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
