/* SPDX-License-Identifier: MIT */
/* The main thread's event loop: descriptors with a callback each. Small on purpose. */
#ifndef PFEED_LOOP_H
#define PFEED_LOOP_H

#include <stdint.h>

struct loop;

struct watch {
    int fd;
    void (*call)(struct watch *watch, uint32_t events); /* EPOLLIN, EPOLLHUP, ... */
};

int loop_create(struct loop **out);
void loop_destroy(struct loop *loop);
/* The watch is the caller's memory and stays until loop_remove; extra: EPOLLET, EPOLLOUT and the like beside EPOLLIN. */
int loop_add(struct loop *loop, struct watch *watch, uint32_t extra);
int loop_modify(struct loop *loop, struct watch *watch, uint32_t extra);
/* Safe within any callback, also for a watch whose event is still to come in this turn. */
void loop_remove(struct loop *loop, struct watch *watch);
/* One epoll_wait and its callbacks; timeout_ms as its own: 0 returns at once, -1 waits. 0 or -errno. */
int loop_turn(struct loop *loop, int timeout_ms);
uint64_t loop_turns(const struct loop *loop); /* times it woke from sleep */

#endif
