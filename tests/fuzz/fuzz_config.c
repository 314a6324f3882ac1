/* SPDX-License-Identifier: MIT */
/* Fuzz target: the configuration. Whatever the bytes are, config_load returns a configuration that can be dumped, or prints at
 * least one message. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct config *config = NULL;
    char path[64], *said = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&said, &length);

    assert(fd >= 0 && errors && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (config_load(&config, path, errors) == 0) {
        config_dump(config, errors);
        config_destroy(config);
    }
    fclose(errors);
    assert(length > 0); /* a dump, or a reason */
    free(said);
    close(fd);
    return 0;
}
