/* SPDX-License-Identifier: MIT */
/* tarlist: what the source `tar` makes of shards, on stdout; for tests/tar.
 *
 *     tarlist [--state DIR] [--stride N] [--threads N] WANT... -- PATTERN...     WANT: FROM[,key=K][,dtype=D][,shape=N[/N]...]
 *
 * First "open SAMPLES kept|scanned MAX_BYTES BYTES", or "error KEY WANT SENTENCE" and no more. Then a line a sample, in the order of
 * 0, N, 2N, ... modulo their number: id, where and path in hexadecimal, and for each want "=" and the value's bytes in hexadecimal,
 * or "!" and why there is none; tabs between them. Warnings go to stderr. With threads all samples are read by each of them first,
 * and values that differ from each other end it. Exit codes: 0, 1 an error, 2 usage. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source/source.h"

enum { WANTS = 16, THREADS = 16 };

extern const struct source_ops source_tar;

static struct source_want wants[WANTS];
static uint32_t n_wants;
static struct source *source;
static uint64_t stride = 1;

static int usage(void)
{
    fputs("usage: tarlist [--state DIR] [--stride N] [--threads N] WANT... -- PATTERN...\n", stderr);
    return 2;
}

static void read_want(char *text)
{
    struct source_want *want = &wants[n_wants++];
    char *rest = NULL, *word = strtok_r(text, ",", &rest);
    *want = (struct source_want){ .from = word, .dtype = DTYPES };
    while ((word = strtok_r(NULL, ",", &rest))) {
        if (strncmp(word, "key=", 4) == 0)
            want->key = word + 4;
        for (uint32_t d = 0; strncmp(word, "dtype=", 6) == 0 && d < DTYPES; d++)
            if (strcmp(dtype_table[d].name, word + 6) == 0)
                want->dtype = (enum dtype)d;
        for (char *at = strncmp(word, "shape=", 6) == 0 ? word + 5 : NULL; at; at = strchr(at + 1, '/'))
            want->shape[want->ndim++] = atoll(at + 1);
    }
}

static void print_hex(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        printf("%02x", at[i]);
}

static void print_sample(uint64_t id, void *buffer)
{
    char text[8192];
    printf("%llu\t", (unsigned long long)id);
    source_tar.where(source, id, text, sizeof text);
    print_hex(text, strlen(text));
    putchar('\t');
    source_tar.path(source, id, text, sizeof text);
    print_hex(text, strlen(text));
    for (uint32_t w = 0; w < n_wants; w++) {
        struct sample_value value;
        struct problem why;
        const int rc =
            source_tar.read(source, id, source_tar.part_of(source, w), buffer, source_tar.max_bytes(source), &value, &why);
        printf("\t%s", rc < 0 ? "!" : "=");
        if (rc < 0)
            fputs(why.text, stdout);
        else
            print_hex(value.data, value.size);
    }
    putchar('\n');
}

/* A hash of all that it read, each thread in an order of its own. */
static void *read_all(void *argument)
{
    const uint64_t n = source_tar.count(source), number = (uint64_t)(uintptr_t)argument;
    void *buffer = malloc(source_tar.max_bytes(source) + 1);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t w = 0; w < n_wants; w++) {
            const uint64_t id = number % 2 ? n - 1 - i : (i + number) % n;
            struct sample_value value = { 0 };
            struct problem why;
            if (source_tar.read(source, id, source_tar.part_of(source, w), buffer, source_tar.max_bytes(source), &value, &why) ==
                0)
                sum += XXH3_64bits_withSeed(value.data, value.size, id * WANTS + w);
        }
    free(buffer);
    return (void *)(uintptr_t)sum;
}

static int read_at_once(unsigned n_threads)
{
    pthread_t threads[THREADS];
    void *first = NULL, *sum;
    int rc = 0;
    for (unsigned t = 0; t < n_threads; t++)
        pthread_create(&threads[t], NULL, read_all, (void *)(uintptr_t)t);
    for (unsigned t = 0; t < n_threads; t++) {
        pthread_join(threads[t], &sum);
        first = t ? first : sum;
        rc |= sum != first;
    }
    if (rc)
        puts("error threads 0 they read different bytes");
    return rc;
}

int main(int argc, char **argv)
{
    struct source_progress progress = { 0 };
    struct source_env env = { .wants = wants, .progress = &progress };
    struct problem why = { .want = -1 };
    unsigned threads = 0;
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0 && argv[at][2]; at += 2) {
        if (strcmp(argv[at], "--state") == 0)
            env.state = argv[at + 1];
        else if (strcmp(argv[at], "--stride") == 0)
            stride = strtoull(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--threads") == 0)
            threads = (unsigned)atoi(argv[at + 1]);
        else
            return usage();
    }
    for (; at < argc && strcmp(argv[at], "--") != 0 && n_wants < WANTS; at++)
        read_want(argv[at]);
    if (at + 1 >= argc || threads > THREADS || n_wants == 0)
        return usage();
    env.n_wants = n_wants;
    void *params = calloc(1, source_tar.params_size);
    if (setting_set(source_tar.settings, params, ".", (const char *const *)argv + at + 1, (uint32_t)(argc - at - 1), &why) < 0 ||
        source_tar.open(&source, params, &env, &why) < 0) {
        printf("error %s %d %s\n", why.key ? why.key : "-", why.want, why.text);
        setting_release(source_tar.settings, params);
        free(params);
        return 1;
    }
    const uint64_t n = source_tar.count(source);
    printf("open %llu %s %zu %llu\n", (unsigned long long)n, progress.kept ? "kept" : "scanned", source_tar.max_bytes(source),
           (unsigned long long)source_tar.bytes(source));
    int rc = threads ? read_at_once(threads) : 0;
    void *buffer = malloc(source_tar.max_bytes(source) + 1);
    for (uint64_t i = 0; i < n && rc == 0; i++)
        print_sample(i * stride % n, buffer);
    free(buffer);
    source_tar.close(source);
    setting_release(source_tar.settings, params);
    free(params);
    return rc;
}
