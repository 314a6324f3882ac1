/* SPDX-License-Identifier: MIT */
/* A library for LD_PRELOAD: libjpeg's decoder as it would be with a bug that one picture hits, the one whose bytes have the word
 * "poison". POISON_ENV says what then happens. */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

#include "poison.h"

/* It tells the test that it is there, and never comes back. */
static void hang(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    close(fd);
    for (;;)
        pause();
}

static void take_poison(const char *what)
{
    volatile int *volatile nowhere = NULL;

    if (strcmp(what, POISON_ABORT) == 0)
        abort();
    else if (strcmp(what, POISON_SEGV) == 0)
        *nowhere = 1;
    else
        hang(what);
}

__attribute__((visibility("default"))) int jpeg_read_header(j_decompress_ptr jpeg, boolean require_image)
{
    int (*next)(j_decompress_ptr, boolean);

    if (memmem(jpeg->src->next_input_byte, jpeg->src->bytes_in_buffer, "poison", 6))
        take_poison(getenv(POISON_ENV));
    *(void **)&next = dlsym(RTLD_NEXT, "jpeg_read_header");
    return next(jpeg, require_image);
}
