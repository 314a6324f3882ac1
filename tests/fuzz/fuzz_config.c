/* SPDX-License-Identifier: MIT */
/* Fuzz target: the configuration. Whatever the bytes are, there is at least one message, or the configuration dumps to a text
 * that loads again and dumps to the same values. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MAX_LOADED (1u << 20) /* a longer dump is not read */

static int make_file(const void *data, size_t size, char path[64])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* The dump, or NULL where the configuration is refused; *said: what was said of it. */
static char *dump_of(const char *path, char **said)
{
    struct config *config = NULL;
    size_t length = 0, said_length = 0;
    FILE *errors = open_memstream(said, &said_length), *to;
    char *text = NULL;

    assert(config_load(&config, path) == 0);
    if (config_report(config, errors) == 0) {
        to = open_memstream(&text, &length);
        config_dump(config, to);
        fclose(to);
    }
    config_destroy(config);
    fclose(errors);
    assert(text || said_length > 0);
    return text;
}

/* A comment, to the end of each line, says where a value comes from; strings in quotes may hold '#'. */
static void cut_comments(char *text)
{
    char *to = text;
    bool quoted = false;

    for (char *from = text; *from; from++) {
        if (*from == '\\' && quoted)
            *to++ = *from++;
        else if (*from == '"')
            quoted = !quoted;
        else if (*from == '#' && !quoted)
            from += strcspn(from, "\n");
        *to++ = *from;
    }
    *to = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], *said = NULL, *again = NULL, *first, *second;
    int fd = make_file(data, size, path);

    first = dump_of(path, &said);
    close(fd);
    if (first && strlen(first) < SIZE_MAX_LOADED) {
        fd = make_file(first, strlen(first), path);
        second = dump_of(path, &again);
        close(fd);
        if (!second)
            fprintf(stderr, "%s\n%s\n", again, first);
        assert(second);
        cut_comments(first);
        cut_comments(second);
        assert(strcmp(first, second) == 0);
        free(second);
        free(again);
    }
    free(first);
    free(said);
    return 0;
}
