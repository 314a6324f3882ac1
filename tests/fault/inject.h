/* SPDX-License-Identifier: MIT */
/* What test_fault and the preloaded inject.c share: which call is to fail, and how often each was made. It lies in a file that
 * FAULT_FILE names, so that the runner sees it while the process runs and after its end, however that comes. */
#ifndef FAULT_INJECT_H
#define FAULT_INJECT_H

#include <stdint.h>

#define FAULT_ENV "PFEED_FAULT_FILE"

/* One row a kind of call: its name, and the ways in which it fails (errno, or FAULT_SHORT: half of what was asked for). */
#define FAULT_SHORT (-1)
#define FAULT_CALLS(CALL)                                                                                                        \
    CALL(read, EINTR, EIO, FAULT_SHORT)     /* read, pread */                                                                    \
    CALL(open, EMFILE, EIO)                 /* open, openat, fopen, opendir, shm_open */                                         \
    CALL(write, EINTR, ENOSPC, FAULT_SHORT) /* write, pwrite: to files */                                                        \
    CALL(fsync, EIO)                                                                                                             \
    CALL(rename, ENOSPC)                                                                                                         \
    CALL(flock, ENOLCK)                                                                                                          \
    CALL(stat, EIO, ENOMEM) /* stat, lstat, fstat, fstatat */                                                                    \
    CALL(readdir, EIO)                                                                                                           \
    CALL(mmap, ENOMEM)                                                                                                           \
    CALL(posix_fallocate, ENOSPC, EINTR)                                                                                         \
    CALL(memfd_create, EMFILE)                                                                                                   \
    CALL(socket, EMFILE)                 /* socket, accept4 */                                                                   \
    CALL(sendmsg, EINTR, ENOBUFS, EPIPE) /* send, sendto, sendmsg */                                                             \
    CALL(recvmsg, EINTR, ENOMEM)         /* recv, recvmsg */                                                                     \
    CALL(epoll_wait, EINTR, EIO)                                                                                                 \
    CALL(epoll_ctl, ENOMEM, ENOSPC) /* and epoll_create1 */                                                                      \
    CALL(eventfd, EMFILE, ENOMEM)   /* and signalfd, timerfd_create */                                                           \
    CALL(pthread_create, EAGAIN)                                                                                                 \
    CALL(alloc, ENOMEM) /* malloc, calloc, realloc, aligned_alloc, posix_memalign, strdup */

enum fault_call {
#define FAULT_NAME(name, ...) FAULT_##name,
    FAULT_CALLS(FAULT_NAME)
#undef FAULT_NAME
        FAULT_KINDS
};

struct fault {
    /* The runner, before the process starts. */
    uint32_t call; /* enum fault_call; FAULT_KINDS: none */
    int32_t code;
    uint64_t first, count; /* the calls number first, first + 1, .. of that kind fail, count of them */
    uint32_t trace;        /* print a backtrace where it fails */
    /* The process. */
    uint32_t fired;
    uint64_t calls[FAULT_KINDS];
};

#endif
