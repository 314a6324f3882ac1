/* SPDX-License-Identifier: MIT */
/* A library for LD_PRELOAD that makes chosen calls of a process fail: its own and those of its libraries, but not those that
 * libc makes within itself (except allocations). Stands before a sanitizer's own interceptors, so that leaks are still judged.
 * Without FAULT_FILE it only passes everything on. */
#undef _FILE_OFFSET_BITS /* so that open and open64 are two names here */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "inject.h"

#define EXPORT __attribute__((visibility("default")))

static struct fault *fault;

/* ---- looking up the real ones --------------------------------------------------------------------------------------- */

/* dlsym (a leaf, as its declaration has it, hence volatile) may itself allocate: from here, and never given back. It
 * may also free the text of an earlier error, for which free may just have been looked up. */
static _Thread_local volatile bool looking __attribute__((tls_model("initial-exec")));
static _Alignas(64) uint8_t first_memory[65536];
static size_t first_used;

static void *first_alloc(size_t size)
{
    size_t at = __atomic_fetch_add(&first_used, (size + 63) / 64 * 64, __ATOMIC_RELAXED);

    if (at + size > sizeof(first_memory))
        abort();
    return first_memory + at;
}

static bool is_first(const void *memory)
{
    return (const uint8_t *)memory >= first_memory && (const uint8_t *)memory < first_memory + sizeof(first_memory);
}

static void *look_up(const char *name)
{
    void *found;

    looking = true;
    found = dlsym(RTLD_NEXT, name);
    looking = false;
    if (!found)
        abort();
    return found;
}

#define NEXT(name)                                                                                                               \
    ({                                                                                                                           \
        static __typeof__(&name) next_;                                                                                          \
        if (!__atomic_load_n(&next_, __ATOMIC_RELAXED))                                                                          \
            __atomic_store_n(&next_, (__typeof__(&name))look_up(#name), __ATOMIC_RELAXED);                                       \
        next_;                                                                                                                   \
    })

/* ---- which call fails ----------------------------------------------------------------------------------------------- */

/* System calls by hand: what they wrap is watched here. 0L, as an int leaves half of an argument to chance. */
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(FAULT_ENV);
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1, map;

    if (fd < 0)
        return;
    map = syscall(SYS_mmap, NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
    syscall(SYS_close, fd);
    if (map != -1)
        fault = (struct fault *)map; /* NOLINT: an address */
}

static _Thread_local volatile bool spared __attribute__((tls_model("initial-exec"))); /* nothing fails just now */

static void trace(void)
{
    void *frames[32];

    spared = true;
    backtrace_symbols_fd(frames, backtrace(frames, 32), 2);
    spared = false;
}

/* Counts the call; errno is set where it fails. */
static bool fails(enum fault_call call)
{
    uint64_t n;

    if (!fault || spared)
        return false;
    n = __atomic_add_fetch(&fault->calls[call], 1, __ATOMIC_RELAXED);
    if (fault->call != (uint32_t)call || n < fault->first || n - fault->first >= fault->count)
        return false;
    __atomic_add_fetch(&fault->fired, 1, __ATOMIC_RELAXED);
    if (fault->trace)
        trace();
    errno = fault->code;
    return true;
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

EXPORT void *malloc(size_t size)
{
    if (looking)
        return first_alloc(size);
    return fails(FAULT_alloc) ? NULL : NEXT(malloc)(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
    if (looking)
        return first_alloc(n * size);
    return fails(FAULT_alloc) ? NULL : NEXT(calloc)(n, size);
}

EXPORT void *realloc(void *memory, size_t size)
{
    return fails(FAULT_alloc) ? NULL : NEXT(realloc)(memory, size);
}

EXPORT void *reallocarray(void *memory, size_t n, size_t size)
{
    return fails(FAULT_alloc) ? NULL : NEXT(reallocarray)(memory, n, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(FAULT_alloc) ? NULL : NEXT(aligned_alloc)(alignment, size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
    return fails(FAULT_alloc) ? errno : NEXT(posix_memalign)(out, alignment, size);
}

EXPORT void free(void *memory)
{
    if (!looking && !is_first(memory))
        NEXT(free)(memory);
}

/* Not by the library's own, as a sanitizer's does not call malloc. */
EXPORT char *strndup(const char *text, size_t most)
{
    size_t length = strnlen(text, most);
    char *copy = malloc(length + 1);

    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

EXPORT char *strdup(const char *text)
{
    return strndup(text, strlen(text));
}

EXPORT void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails(FAULT_mmap) ? MAP_FAILED : NEXT(mmap)(at, size, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return fails(FAULT_mmap) ? MAP_FAILED : NEXT(mmap64)(at, size, protection, flags, fd, offset);
}

EXPORT int memfd_create(const char *name, unsigned flags)
{
    return fails(FAULT_memfd_create) ? -1 : NEXT(memfd_create)(name, flags);
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t length)
{
    return fails(FAULT_posix_fallocate) ? errno : NEXT(posix_fallocate)(fd, offset, length);
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    return fails(FAULT_posix_fallocate) ? errno : NEXT(posix_fallocate64)(fd, offset, length);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

/* 1: the call has failed; 0: go on, with half of *size where it is to be short. */
static int read_fails(size_t *size)
{
    if (!fails(FAULT_read))
        return 0;
    if (fault->code != FAULT_SHORT)
        return 1;
    *size = *size > 1 ? *size / 2 : *size;
    return 0;
}

EXPORT ssize_t read(int fd, void *to, size_t size)
{
    return read_fails(&size) ? -1 : NEXT(read)(fd, to, size);
}

/* A short one gives the first part alone, cut. */
EXPORT ssize_t readv(int fd, const struct iovec *parts, int n)
{
    size_t size = n > 0 ? parts[0].iov_len : 0, cut = size;

    if (read_fails(&cut))
        return -1;
    return cut < size ? NEXT(read)(fd, parts[0].iov_base, cut) : NEXT(readv)(fd, parts, n);
}

EXPORT ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    return read_fails(&size) ? -1 : NEXT(pread)(fd, to, size, offset);
}

EXPORT ssize_t pread64(int fd, void *to, size_t size, off64_t offset)
{
    return read_fails(&size) ? -1 : NEXT(pread64)(fd, to, size, offset);
}

/* As read_fails, for files: an event's counter that has room cannot refuse a write, and by standard error the runner learns how
 * far the process is. */
static int write_fails(int fd, size_t *size)
{
    struct stat st;

    if (fd <= 2 || syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode) || !fails(FAULT_write))
        return 0;
    if (fault->code != FAULT_SHORT)
        return 1;
    *size = *size > 1 ? *size / 2 : *size;
    return 0;
}

EXPORT ssize_t write(int fd, const void *from, size_t size)
{
    return write_fails(fd, &size) ? -1 : NEXT(write)(fd, from, size);
}

EXPORT ssize_t pwrite(int fd, const void *from, size_t size, off_t offset)
{
    return write_fails(fd, &size) ? -1 : NEXT(pwrite)(fd, from, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *from, size_t size, off64_t offset)
{
    return write_fails(fd, &size) ? -1 : NEXT(pwrite64)(fd, from, size, offset);
}

EXPORT int fsync(int fd)
{
    return fails(FAULT_fsync) ? -1 : NEXT(fsync)(fd);
}

EXPORT int rename(const char *from, const char *to)
{
    return fails(FAULT_rename) ? -1 : NEXT(rename)(from, to);
}

EXPORT int flock(int fd, int how)
{
    return fails(FAULT_flock) ? -1 : NEXT(flock)(fd, how);
}

/* A mode that was not given is not looked at. */
#define OPEN(name, parameters, ...)                                                                                              \
    EXPORT int name parameters                                                                                                   \
    {                                                                                                                            \
        va_list args;                                                                                                            \
        mode_t mode;                                                                                                             \
                                                                                                                                 \
        va_start(args, flags);                                                                                                   \
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                                       \
        va_end(args);                                                                                                            \
        return fails(FAULT_open) ? -1 : NEXT(name)(__VA_ARGS__, mode);                                                           \
    }

OPEN(open, (const char *path, int flags, ...), path, flags)
OPEN(open64, (const char *path, int flags, ...), path, flags)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path, flags)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder, path, flags)

EXPORT int shm_open(const char *name, int flags, mode_t mode)
{
    return fails(FAULT_open) ? -1 : NEXT(shm_open)(name, flags, mode);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    return fails(FAULT_open) ? NULL : NEXT(fopen)(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    return fails(FAULT_open) ? NULL : NEXT(fopen64)(path, mode);
}

EXPORT DIR *opendir(const char *path)
{
    return fails(FAULT_open) ? NULL : NEXT(opendir)(path);
}

EXPORT struct dirent *readdir(DIR *folder)
{
    return fails(FAULT_readdir) ? NULL : NEXT(readdir)(folder);
}

EXPORT struct dirent64 *readdir64(DIR *folder)
{
    return fails(FAULT_readdir) ? NULL : NEXT(readdir64)(folder);
}

#define STAT(name, parameters, ...)                                                                                              \
    EXPORT int name parameters                                                                                                   \
    {                                                                                                                            \
        return fails(FAULT_stat) ? -1 : NEXT(name)(__VA_ARGS__);                                                                 \
    }

STAT(stat, (const char *path, struct stat *out), path, out)
STAT(stat64, (const char *path, struct stat64 *out), path, out)
STAT(lstat, (const char *path, struct stat *out), path, out)
STAT(lstat64, (const char *path, struct stat64 *out), path, out)
STAT(fstat, (int fd, struct stat *out), fd, out)
STAT(fstat64, (int fd, struct stat64 *out), fd, out)
STAT(fstatat, (int folder, const char *path, struct stat *out, int flags), folder, path, out, flags)
STAT(fstatat64, (int folder, const char *path, struct stat64 *out, int flags), folder, path, out, flags)

/* ---- sockets, events, threads --------------------------------------------------------------------------------------- */

EXPORT int socket(int domain, int type, int protocol)
{
    return fails(FAULT_socket) ? -1 : NEXT(socket)(domain, type, protocol);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    return fails(FAULT_socket) ? -1 : NEXT(accept4)(fd, address, size, flags);
}

EXPORT ssize_t send(int fd, const void *message, size_t size, int flags)
{
    return fails(FAULT_sendmsg) ? -1 : NEXT(send)(fd, message, size, flags);
}

EXPORT ssize_t sendto(int fd, const void *message, size_t size, int flags, const struct sockaddr *to, socklen_t to_size)
{
    return fails(FAULT_sendmsg) ? -1 : NEXT(sendto)(fd, message, size, flags, to, to_size);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fails(FAULT_sendmsg) ? -1 : NEXT(sendmsg)(fd, message, flags);
}

EXPORT ssize_t recv(int fd, void *to, size_t size, int flags)
{
    return fails(FAULT_recvmsg) ? -1 : NEXT(recv)(fd, to, size, flags);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails(FAULT_recvmsg) ? -1 : NEXT(recvmsg)(fd, message, flags);
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
    return fails(FAULT_epoll_wait) ? -1 : NEXT(epoll_wait)(epoll, events, most, timeout_ms);
}

EXPORT int epoll_create1(int flags)
{
    return fails(FAULT_epoll_ctl) ? -1 : NEXT(epoll_create1)(flags);
}

EXPORT int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    /* Taking a descriptor out cannot fail but by a bug of the caller's. */
    return what != EPOLL_CTL_DEL && fails(FAULT_epoll_ctl) ? -1 : NEXT(epoll_ctl)(epoll, what, fd, event);
}

EXPORT int eventfd(unsigned value, int flags)
{
    return fails(FAULT_eventfd) ? -1 : NEXT(eventfd)(value, flags);
}

EXPORT int signalfd(int fd, const sigset_t *signals, int flags)
{
    return fails(FAULT_eventfd) ? -1 : NEXT(signalfd)(fd, signals, flags);
}

EXPORT int timerfd_create(int clock, int flags)
{
    return fails(FAULT_eventfd) ? -1 : NEXT(timerfd_create)(clock, flags);
}

EXPORT int pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    return fails(FAULT_pthread_create) ? errno : NEXT(pthread_create)(out, attributes, run, argument);
}

/* A sanitizer asks for a new thread's stack, which allocates, and cannot bear a refusal. */
EXPORT int pthread_getattr_np(pthread_t thread, pthread_attr_t *out)
{
    int rc;

    spared = true;
    rc = NEXT(pthread_getattr_np)(thread, out);
    spared = false;
    return rc;
}

/* libc asserts that its name service finds memory. */
EXPORT struct group *getgrnam(const char *name)
{
    struct group *group;

    spared = true;
    group = NEXT(getgrnam)(name);
    spared = false;
    return group;
}
