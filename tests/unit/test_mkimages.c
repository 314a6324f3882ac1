/* SPDX-License-Identifier: MIT */
/*
 * tests/tools/mkimages makes the pictures of the demo and of many tests: they must be what those tests take them for. 200 of them:
 * sides of 80 to 800, 4:4:4 and 4:2:0, grey and progressive ones, the same arguments give the same bytes, and the classes can be
 * learnt: what a model of one mean a class over 4 x 4 coarse pixels says of pictures that it has not seen beats chance by far.
 * test_mkimages MKIMAGES. Exit codes: 0, 1.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <jpeglib.h>

#define COUNT   200u
#define CLASSES 8u
#define GRID    4u
#define COARSE  (GRID * GRID * 3)
#define MOST    (4u << 20) /* bytes of a file */

#define CHECK(condition, ...)                                                                                                    \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                      \
            fprintf(stderr, __VA_ARGS__);                                                                                        \
            fputc('\n', stderr);                                                                                                 \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)

static char parent[] = "/tmp/pfeed-mkimages-XXXXXX";
static unsigned grey, progressive, full, halved;
static float coarse[COUNT][COARSE];

static void clean_up(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        execlp("rm", "rm", "-rf", parent, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static void run(const char *program, const char *folder, const char *count, const char *seed)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execl(program, program, "--out", folder, "--count", count, "--classes", "8", "--seed", seed, (char *)NULL);
        _exit(127);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "mkimages has failed");
}

static size_t read_picture(const char *folder, unsigned i, uint8_t *bytes)
{
    char path[256];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s/class%03u/%07u.jpg", folder, i % CLASSES, i);
    file = fopen(path, "rb");
    CHECK(file, "there is no %s", path);
    n = fread(bytes, 1, MOST, file);
    fclose(file);
    CHECK(n > 0 && n < MOST, "%s has %zu bytes", path, n);
    return n;
}

static void note_kind(const struct jpeg_decompress_struct *d, unsigned i)
{
    CHECK(d->image_width >= 80 && d->image_width <= 800 && d->image_height >= 80 && d->image_height <= 800,
          "picture %u is %u x %u", i, d->image_width, d->image_height);
    grey += d->num_components == 1;
    progressive += d->progressive_mode;
    if (d->num_components == 3) {
        full += d->comp_info[0].h_samp_factor == 1 && d->comp_info[0].v_samp_factor == 1;
        halved += d->comp_info[0].h_samp_factor == 2 && d->comp_info[0].v_samp_factor == 2;
    }
}

/* Means over a grid of cells. libjpeg's own error exit ends the test. */
static void decode(unsigned i, const uint8_t *bytes, size_t size)
{
    static JSAMPLE row[800 * 3];
    float sums[COARSE] = { 0 }, counts[COARSE] = { 0 };
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    JSAMPROW rows[] = { row };

    d.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, bytes, size);
    jpeg_read_header(&d, TRUE);
    note_kind(&d, i);
    d.out_color_space = JCS_RGB;
    jpeg_start_decompress(&d);
    while (d.output_scanline < d.output_height) {
        unsigned down = d.output_scanline * GRID / d.output_height;

        jpeg_read_scanlines(&d, rows, 1);
        for (unsigned x = 0; x < d.output_width * 3; x++) {
            unsigned cell = (down * GRID + x / 3 * GRID / d.output_width) * 3 + x % 3;

            sums[cell] += row[x];
            counts[cell]++;
        }
    }
    CHECK(errors.num_warnings == 0, "picture %u is damaged", i);
    jpeg_finish_decompress(&d);
    jpeg_destroy_decompress(&d);
    for (unsigned c = 0; c < COARSE; c++)
        coarse[i][c] = sums[c] / counts[c];
}

/* The class whose mean over the first half of the pictures is nearest. */
static unsigned guess(float means[CLASSES][COARSE], const float *picture)
{
    float least = INFINITY;
    unsigned best = 0;

    for (unsigned k = 0; k < CLASSES; k++) {
        float distance = 0;

        for (unsigned c = 0; c < COARSE; c++)
            distance += (picture[c] - means[k][c]) * (picture[c] - means[k][c]);
        if (distance < least) {
            least = distance;
            best = k;
        }
    }
    return best;
}

static unsigned learn(void)
{
    static float means[CLASSES][COARSE];
    unsigned right = 0, half = COUNT / 2 / CLASSES * CLASSES; /* as many of each class */

    for (unsigned i = 0; i < half; i++)
        for (unsigned c = 0; c < COARSE; c++)
            means[i % CLASSES][c] += coarse[i][c] / (float)(half / CLASSES);
    for (unsigned i = half; i < COUNT; i++)
        right += guess(means, coarse[i]) == i % CLASSES;
    return 100 * right / (COUNT - half);
}

int main(int argc, char **argv)
{
    static uint8_t bytes[MOST], others[MOST];
    char folders[3][64];
    unsigned differ = 0, right;

    CHECK(argc == 2 && mkdtemp(parent), "test_mkimages MKIMAGES");
    atexit(clean_up);
    for (unsigned f = 0; f < 3; f++)
        snprintf(folders[f], sizeof(folders[f]), "%s/%u", parent, f);
    run(argv[1], folders[0], "200", "5");
    run(argv[1], folders[1], "24", "5"); /* picture i does not depend on the count */
    run(argv[1], folders[2], "24", "6");
    for (unsigned i = 0; i < COUNT; i++) {
        size_t n = read_picture(folders[0], i, bytes);

        decode(i, bytes, n);
        if (i >= 24)
            continue;
        CHECK(read_picture(folders[1], i, others) == n && memcmp(bytes, others, n) == 0, "picture %u has other bytes next time",
              i);
        differ += read_picture(folders[2], i, others) != n || memcmp(bytes, others, n) != 0;
    }
    CHECK(differ == 24, "another seed makes %u of 24 pictures the same", 24 - differ);
    right = learn();
    printf("of %u pictures: %u grey, %u progressive, %u 4:4:4, %u 4:2:0; %u %% of those not seen are told right\n", COUNT, grey,
           progressive, full, halved, right);
    CHECK(grey && progressive && full && halved, "a kind is missing");
    CHECK(right >= 50, "by chance it would be %u %%", 100 / CLASSES); /* four times that */
    return 0;
}
