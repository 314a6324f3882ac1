/* SPDX-License-Identifier: MIT */
/* Stands in for libFuzzer's main where the compiler has none: gives every file of the folders named to the target once, so that
 * the corpus is a regression test. Under clang with -Dfuzz=true the targets are real fuzzers. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20);
    size_t size;

    if (!file || !data) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    size = fread(data, 1, 1 << 20, file);
    fclose(file);
    data = realloc(data, size ? size : 1); /* so that ASan sees a read past the end */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        struct dirent *entry;

        if (!folder) {
            fprintf(stderr, "no folder %s\n", argv[i]);
            return 1;
        }
        while ((entry = readdir(folder))) {
            char path[4096];

            snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.')
                n += replay(path);
        }
        closedir(folder);
    }
    printf("%d inputs\n", n);
    if (fuzz_replayed)
        fuzz_replayed();
    return n > 0 ? 0 : 1;
}
