/* SPDX-License-Identifier: MIT */
/* See syscalls.h. */
#include "syscalls.h"

#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __x86_64__
#include <ucontext.h>
#endif

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF          0
#define PR_SYS_DISPATCH_ON           1
#endif
#define ALLOW 0 /* of the dispatch's selector */
#define BLOCK 1

static int counter = -1;
static int64_t pieces; /* each counts the call that ends it */
static int64_t before; /* of the check */
static volatile char selector = ALLOW;
static volatile sig_atomic_t blocked;
static int dispatched;

static int open_tracepoint(void)
{
    static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
    struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .disabled = 1 };

    for (unsigned i = 0; i < 2; i++) {
        unsigned long long id;
        char path[128];
        FILE *file;
        int known;

        snprintf(path, sizeof(path), "%s/events/raw_syscalls/sys_enter/id", places[i]);
        file = fopen(path, "re");
        if (!file)
            continue;
        known = fscanf(file, "%llu", &id);
        fclose(file);
        attr.config = id;
        if (known == 1)
            return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return -1;
}

#ifdef __x86_64__
/* The call has not been made: from now on they are allowed, and it is made again. */
static void on_call(int number, siginfo_t *info, void *context)
{
    ucontext_t *place = context;

    selector = ALLOW;
    blocked++;
    place->uc_mcontext.gregs[REG_RIP] -= 2; /* the length of `syscall` */
}

static int open_dispatch(void)
{
    struct sigaction action = { .sa_sigaction = on_call, .sa_flags = SA_SIGINFO };

    return sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) == 0;
}

static void close_dispatch(void)
{
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
}
#else
static int open_dispatch(void)
{
    return 0;
}

static void close_dispatch(void)
{
}
#endif

void syscalls_begin(void)
{
    if (counter >= 0)
        ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
    else if (dispatched)
        selector = BLOCK;
}

void syscalls_end(void)
{
    if (counter >= 0) {
        ioctl(counter, PERF_EVENT_IOC_DISABLE, 0);
        pieces++;
    }
    selector = ALLOW;
}

static int64_t counted(void)
{
    uint64_t value = 0;

    if (counter < 0)
        return blocked;
    if (read(counter, &value, sizeof(value)) != sizeof(value))
        return -1;
    return (int64_t)value - pieces;
}

int64_t syscalls_count(void)
{
    return counted() - before;
}

/* Must see one call, and none in an empty piece. */
static int check(void)
{
    syscalls_begin();
    syscalls_end();
    if (counted() != 0)
        return 0;
    syscalls_begin();
    syscall(SYS_getppid);
    syscalls_end();
    before = counted();
    return before == 1;
}

const char *syscalls_open(void)
{
    counter = open_tracepoint();
    if (counter >= 0 && check())
        return "tracepoint raw_syscalls:sys_enter of this thread";
    syscalls_close();
    dispatched = open_dispatch();
    if (dispatched && check())
        return "syscall user dispatch: bursts in which there was any";
    syscalls_close();
    return NULL;
}

void syscalls_close(void)
{
    if (counter >= 0)
        close(counter);
    if (dispatched)
        close_dispatch();
    counter = -1;
    dispatched = 0;
    pieces = before = blocked = 0;
}
