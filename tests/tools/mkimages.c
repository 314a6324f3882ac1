/* SPDX-License-Identifier: MIT */
/* mkimages: writes JPEGs for the demo and the tests. Each picture's class shows in what survives cropping and flipping: its
 * hue, its brightness (so that grey pictures can be told apart too) and whether it is lighter above or below; clutter and
 * noise lie on top. Picture i is a pure function of (seed, classes, i), whatever the count; its bytes also of the libjpeg in use.
 * Exit codes: 0 written, 1 could not write, 2 usage. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <jpeglib.h>

enum { SIDE_MIN = 80, SIDE_MAX = 800, BLOBS = 6, CLASSES_MAX = 1000 };

struct random {
    uint64_t state;
};

struct blob { /* an ellipse of one colour */
    int x, y, rx, ry;
    float rgb[3];
};

/* What is drawn and how it is written. */
struct picture {
    int width, height, quality, luma_h, luma_v, restart_rows;
    bool grey, progressive, optimise;
    float base[3], light; /* the class's colour, and how much lighter the lowest row is than the highest */
    float wave[3][2];     /* a smooth unevenness per channel: cycles across, cycles down */
    float wave_phase[2], wave_size, noise;
    struct blob blobs[BLOBS];
};

struct writer {
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    char message[JMSG_LENGTH_MAX];
};

static uint64_t random_u64(struct random *random) /* splitmix64 */
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float random_float(struct random *random, float low, float high)
{
    return low + (high - low) * (float)(random_u64(random) >> 40) * 0x1p-24f;
}

static bool random_chance(struct random *random, float p)
{
    return random_float(random, 0, 1) < p;
}

/* The class's colour: hues around the circle, and from class to class a little brighter. */
static void class_colour(unsigned label, unsigned classes, float rgb[3])
{
    float hue = 6.28318531f * (float)label / (float)classes;
    float level = classes > 1 ? 50 + 155 * (float)label / (float)(classes - 1) : 128;
    float u = 42 * cosf(hue), v = 42 * sinf(hue);
    rgb[0] = level + 1.14f * v; /* luminance is `level` whatever the hue */
    rgb[1] = level - 0.39f * u - 0.58f * v;
    rgb[2] = level + 2.03f * u;
}

static void picture_draw_lots(struct picture *p, struct random *random, unsigned label, unsigned classes)
{
    float size = random_float(random, 0, 1), shape = random_float(random, 0.7f, 1.4f);
    float side = SIDE_MIN + (SIDE_MAX - SIDE_MIN) * size * size; /* many small, few large */
    p->width = (int)fminf(fmaxf(side * shape, SIDE_MIN), SIDE_MAX);
    p->height = (int)fminf(fmaxf(side / shape, SIDE_MIN), SIDE_MAX);
    p->grey = random_chance(random, 0.08f);
    p->progressive = random_chance(random, 0.1f);
    p->optimise = random_chance(random, 0.3f);
    p->quality = (int)random_float(random, 55, 97);
    float sampling = random_float(random, 0, 1); /* 4:2:0 mostly, 4:4:4 often, 4:2:2 at times */
    p->luma_h = sampling < 0.65f ? 2 : 1;
    p->luma_v = sampling < 0.55f ? 2 : 1;
    p->restart_rows = random_chance(random, 0.1f) ? 1 : 0;

    class_colour(label, classes, p->base);
    float brightness = random_float(random, -6, 6);
    for (int c = 0; c < 3; c++) {
        p->base[c] += brightness + random_float(random, -12, 12);
        p->wave[c][0] = random_float(random, 0.5f, 4);
        p->wave[c][1] = random_float(random, 0.5f, 4);
    }
    p->light = (label % 2 ? 1.0f : -1.0f) * random_float(random, 40, 80); /* neighbours differ here */
    p->wave_phase[0] = random_float(random, 0, 6.28f);
    p->wave_phase[1] = random_float(random, 0, 6.28f);
    p->wave_size = random_float(random, 4, 16);
    p->noise = random_float(random, 2, 24);
    for (int i = 0; i < BLOBS; i++) {
        struct blob *blob = &p->blobs[i];
        blob->x = (int)random_float(random, 0, (float)p->width);
        blob->y = (int)random_float(random, 0, (float)p->height);
        blob->rx = 1 + (int)random_float(random, 0, (float)p->width / 7);
        blob->ry = 1 + (int)random_float(random, 0, (float)p->height / 7);
        for (int c = 0; c < 3; c++)
            blob->rgb[c] = random_float(random, 10, 245);
    }
}

static void row_blobs(const struct picture *p, int y, float (*row)[3])
{
    for (int i = 0; i < BLOBS; i++) {
        const struct blob *blob = &p->blobs[i];
        float dy = (float)(y - blob->y) / (float)blob->ry;
        if (dy * dy >= 1)
            continue;
        int reach = (int)((float)blob->rx * sqrtf(1 - dy * dy));
        int from = blob->x > reach ? blob->x - reach : 0, to = blob->x + reach < p->width ? blob->x + reach : p->width;
        for (int x = from; x < to; x++)
            memcpy(row[x], blob->rgb, sizeof row[x]);
    }
}

/* One row of pixels, RGB or grey. `across` holds, per channel and column, the part of the wave that does not change from row to
 * row. */
static void row_paint(const struct picture *p, int y, float (*across)[SIDE_MAX], struct random *random, JSAMPLE *out)
{
    float row[SIDE_MAX][3];
    float down = (float)y / (float)p->height, light = p->light * (down - 0.5f);
    for (int c = 0; c < 3; c++) {
        float wave = p->wave_size * cosf(p->wave[c][1] * 6.28318531f * down + p->wave_phase[1]), base = p->base[c] + light;
        for (int x = 0; x < p->width; x++)
            row[x][c] = base + wave * across[c][x];
    }
    row_blobs(p, y, row);
    float scale = p->noise / 128;
    uint64_t bits = 0;
    for (int x = 0; x < p->width; x++) {
        bits = x % 8 ? bits >> 8 : random_u64(random);
        float noise = scale * (float)((int)(bits & 255) - 128) + 0.5f, rgb[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = fminf(fmaxf(row[x][c] + noise, 0), 255);
        if (p->grey) {
            *out++ = (JSAMPLE)(0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]);
        } else {
            for (int c = 0; c < 3; c++)
                *out++ = (JSAMPLE)rgb[c];
        }
    }
}

static void writer_fail(j_common_ptr info)
{
    struct writer *writer = (struct writer *)info->err;
    info->err->format_message(info, writer->message);
    longjmp(writer->failed, 1);
}

static void compress(const struct picture *p, struct random *random, struct jpeg_compress_struct *info)
{
    static float across[3][SIDE_MAX];
    static JSAMPLE pixels[SIDE_MAX * 3];
    for (int c = 0; c < 3; c++)
        for (int x = 0; x < p->width; x++)
            across[c][x] = cosf(p->wave[c][0] * 6.28318531f * (float)x / (float)p->width + p->wave_phase[0]);

    info->image_width = (JDIMENSION)p->width;
    info->image_height = (JDIMENSION)p->height;
    info->input_components = p->grey ? 1 : 3;
    info->in_color_space = p->grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, p->quality, TRUE);
    info->optimize_coding = p->optimise;
    info->restart_in_rows = p->restart_rows;
    if (!p->grey) {
        info->comp_info[0].h_samp_factor = p->luma_h;
        info->comp_info[0].v_samp_factor = p->luma_v;
    }
    if (p->progressive)
        jpeg_simple_progression(info);
    jpeg_start_compress(info, TRUE);
    for (int y = 0; y < p->height; y++) {
        JSAMPROW row = pixels;
        row_paint(p, y, across, random, pixels);
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
}

/* 0, or -1 with a message on stderr. */
static int picture_write(const struct picture *p, struct random *random, const char *path)
{
    struct jpeg_compress_struct info;
    struct writer writer;
    FILE *file = fopen(path, "wb");
    if (!file) {
        fprintf(stderr, "mkimages: %s: %s\n", path, strerror(errno));
        return -1;
    }
    info.err = jpeg_std_error(&writer.errors);
    writer.errors.error_exit = writer_fail;
    if (setjmp(writer.failed)) {
        fprintf(stderr, "mkimages: %s: %s\n", path, writer.message);
        jpeg_destroy_compress(&info);
        fclose(file);
        return -1;
    }
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, file);
    compress(p, random, &info);
    jpeg_destroy_compress(&info);
    if (fclose(file) != 0) {
        fprintf(stderr, "mkimages: %s: %s\n", path, strerror(errno));
        return -1;
    }
    return 0;
}

static int folder_make(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return 0;
    fprintf(stderr, "mkimages: cannot make %s: %s\n", path, strerror(errno));
    return -1;
}

static int write_all(const char *out, unsigned count, unsigned classes, uint64_t seed)
{
    char path[PATH_MAX];
    if (strlen(out) > sizeof path - 64) {
        fprintf(stderr, "mkimages: --out: the path is too long\n");
        return -1;
    }
    if (folder_make(out) < 0)
        return -1;
    for (unsigned label = 0; label < classes; label++) {
        snprintf(path, sizeof path, "%s/class%03u", out, label);
        if (folder_make(path) < 0)
            return -1;
    }
    for (unsigned i = 0; i < count; i++) {
        struct random random = { seed * 0xda942042e4dd58b5u + i };
        struct picture picture;
        random_u64(&random);
        picture_draw_lots(&picture, &random, i % classes, classes);
        snprintf(path, sizeof path, "%s/class%03u/%07u.jpg", out, i % classes, i);
        if (picture_write(&picture, &random, path) < 0)
            return -1;
    }
    return 0;
}

/* A whole number from low to high, or usage and exit 2. */
static unsigned long long number(const char *option, const char *text, unsigned long long low, unsigned long long high)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < low || value > high) {
        fprintf(stderr, "mkimages: --%s: '%s' is not a whole number from %llu to %llu\n", option, text, low, high);
        exit(2);
    }
    return value;
}

static const char usage[] =
    "usage: mkimages --out DIR --count N --classes K [--seed S]\n"
    "Writes N JPEGs in K folders DIR/class000, DIR/class001, ... (made where missing); picture i has class i mod K. Sides of\n"
    "80 to 800 pixels, 4:2:0, 4:4:4, 4:2:2 and grey, some progressive. The same arguments give the same pictures. A linear\n"
    "classifier on coarse pixels can learn the class.\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "out", required_argument, NULL, 'o' },     { "count", required_argument, NULL, 'n' },
        { "classes", required_argument, NULL, 'k' }, { "seed", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },          { NULL, 0, NULL, 0 },
    };
    const char *out = NULL;
    unsigned count = 0, classes = 0;
    uint64_t seed = 1;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'o':
            out = optarg;
            break;
        case 'n':
            count = (unsigned)number("count", optarg, 1, 9999999);
            break;
        case 'k':
            classes = (unsigned)number("classes", optarg, 1, CLASSES_MAX);
            break;
        case 's':
            seed = number("seed", optarg, 0, UINT64_MAX);
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc || !out || !count || !classes) {
        if (optind < argc)
            fprintf(stderr, "mkimages: what is '%s'?\n", argv[optind]);
        fputs(usage, stderr);
        return 2;
    }
    return write_all(out, count, classes, seed) < 0 ? 1 : 0;
}
