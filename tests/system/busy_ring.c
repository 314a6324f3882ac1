/* SPDX-License-Identifier: MIT */
/* A library for LD_PRELOAD under which the kernel takes nothing of what pfeedd hands over to io_uring, the first time and every
 * second one, as where it is short of memory. With PFEED_ONE_RING in the environment no ring is made after the first. */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

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

__attribute__((visibility("default"))) int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);

__attribute__((visibility("default"))) int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    static int (*init)(unsigned, struct io_uring *, unsigned);
    static unsigned rings;

    if (!init)
        *(void **)&init = dlsym(RTLD_NEXT, "io_uring_queue_init");
    return !init || (getenv("PFEED_ONE_RING") && rings++ > 0) ? -ENOMEM : init(entries, ring, flags);
}
