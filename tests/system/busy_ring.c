/* SPDX-License-Identifier: MIT */
/* A library for LD_PRELOAD under which the kernel takes nothing of what pfeedd hands over to io_uring, the first time and every
 * second one, as where it is short of memory. */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

struct io_uring;

__attribute__((visibility("default"))) int io_uring_submit(struct io_uring *ring);

__attribute__((visibility("default"))) int io_uring_submit(struct io_uring *ring)
{
    static int (*submit)(struct io_uring *);
    static unsigned calls; /* of the one thread that has a ring */

    if (!submit)
        *(void **)&submit = dlsym(RTLD_NEXT, "io_uring_submit");
    return calls++ % 2 == 0 || !submit ? -EAGAIN : submit(ring);
}
