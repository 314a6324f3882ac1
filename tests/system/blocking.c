/* SPDX-License-Identifier: MIT */
/* A library for LD_PRELOAD under which pfeedd opens its files as if O_NONBLOCK meant nothing, as it does for a file of a server that
 * has gone: where a FIFO has taken a file's place, open does not return before somebody opens it for writing, nor the read before
 * he has written. */
#undef _FILE_OFFSET_BITS /* so that open and open64 are two names here */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN(name)                                                                                                               \
    __attribute__((visibility("default"))) int name(const char *path, int flags, ...)                                            \
    {                                                                                                                            \
        va_list args;                                                                                                            \
        mode_t mode;                                                                                                             \
                                                                                                                                 \
        va_start(args, flags);                                                                                                   \
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                                       \
        va_end(args);                                                                                                            \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags & ~O_NONBLOCK, mode);                                              \
    }

OPEN(open)
OPEN(open64)
