/* SPDX-License-Identifier: MIT */
/*
 * A source without a single sample: a list that has its header only, token files that are not there or shorter than a row, a folder
 * without pictures. No epoch could be made of it, so pfeedd refuses to start, with the status of a wrong configuration, and says
 * which feed it is and what about it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon.h"

struct empty {
    const char *source, *field; /* as in the configuration; %s is the folder */
    const char *path;           /* in the folder */
    const char *reason;
};

static struct daemon pfeedd;

static void make_file(const char *folder, const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

static void run_empty(const void *arg)
{
    const struct empty *empty = arg;
    char folder[] = "/tmp/pfeed-empty-XXXXXX", path[128], source[256], yaml[1024], *output;
    int status;

    CHECK(mkdtemp(folder), "cannot make a folder");
    snprintf(path, sizeof(path), "%s/pictures", folder);
    CHECK(mkdir(path, 0755) == 0, "cannot make %s", path);
    make_file(folder, "header.csv", "path,label\n");
    make_file(folder, "short-a.bin", "ab"); /* one token */
    make_file(folder, "short-b.bin", "12345678");
    make_file(folder, "nothing.bin", "");
    snprintf(path, sizeof(path), "%s/%s", folder, empty->path);
    snprintf(source, sizeof(source), empty->source, path);
    snprintf(yaml, sizeof(yaml),
             "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n  hollow:\n    source: { %s }\n    batch: 2\n"
             "    slots: 4\n    fields: { %s }\n",
             source, empty->field);
    status = daemon_try(&pfeedd, yaml);
    output = daemon_output(&pfeedd);
    CHECK(status == 78, "the exit status is %d: %s", status, output);
    CHECK(strstr(output, "feed 'hollow': ") && strstr(output, empty->reason), "it says: %s", output);
    free(output);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
#define PICTURE "image: { decode: image, transforms: [ resize: { size: [8, 8] } ] }"
#define TOKENS  "tokens: { length: 5, dtype: int32 }"
    static const struct empty header = { "type: list, path: %s", PICTURE, "header.csv", "source 'list' has no samples" };
    static const struct empty none = { "type: tokens, path: '%s', dtype: uint16", TOKENS, "gone-*.bin", "no file" };
    static const struct empty shorter = { "type: tokens, path: '%s', dtype: uint16", TOKENS, "short-*.bin",
                                          "source 'tokens' has no samples" };
    static const struct empty nothing = { "type: tokens, path: '%s', dtype: uint16", TOKENS, "nothing.bin",
                                          "source 'tokens' has no samples" };
    static const struct empty pictures = { "type: directory, path: %s", PICTURE, "pictures", "no samples" };
    static const struct test tests[] = {
        { "a list with a header only", run_empty, &header },       { "token files that are not there", run_empty, &none },
        { "token files shorter than a row", run_empty, &shorter }, { "a token file of 0 bytes", run_empty, &nothing },
        { "a folder without pictures", run_empty, &pictures },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
