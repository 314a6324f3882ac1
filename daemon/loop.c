/* SPDX-License-Identifier: MIT */
/* See loop.h. Main thread only. */
#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 64

struct loop {
    int epoll;
    uint64_t turns;
    int n_events; /* of the turn in progress */
    struct epoll_event events[EVENTS];
};

int loop_create(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return -ENOMEM;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        free(loop);
        return -errno;
    }
    *out = loop;
    return 0;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    close(loop->epoll);
    free(loop);
}

int loop_add(struct loop *loop, struct watch *watch, uint32_t extra)
{
    struct epoll_event event = { .events = EPOLLIN | extra, .data.ptr = watch };

    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event) == 0 ? 0 : -errno;
}

int loop_modify(struct loop *loop, struct watch *watch, uint32_t extra)
{
    struct epoll_event event = { .events = EPOLLIN | extra, .data.ptr = watch };

    return epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) == 0 ? 0 : -errno;
}

void loop_remove(struct loop *loop, struct watch *watch)
{
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = 0; i < loop->n_events; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    int n = epoll_wait(loop->epoll, loop->events, EVENTS, timeout_ms);

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (timeout_ms != 0)
        loop->turns++;
    loop->n_events = n;
    for (int i = 0; i < loop->n_events; i++) {
        struct watch *watch = loop->events[i].data.ptr;

        if (watch) {
            loop->events[i].data.ptr = NULL;
            watch->call(watch, loop->events[i].events);
        }
    }
    loop->n_events = 0;
    return 0;
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}
