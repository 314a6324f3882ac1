/* SPDX-License-Identifier: MIT */
/* See lane.h. */
#include "lane.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int lane_connect(const struct daemon *daemon)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon->socket);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect: %s", strerror(errno));
    return fd;
}

static void receive_reply(struct lane *lane)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(PF_ATTACH_FDS * sizeof(int))];
    } control;
    union {
        struct pf_ctl_attached attached;
        struct pf_ctl_error error;
    } message;
    struct iovec part = { &message, sizeof(message) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
    ssize_t got = recvmsg(lane->connection, &header, MSG_CMSG_CLOEXEC);

    CHECK(got == sizeof(message.attached) && message.attached.head.type == PF_CTL_ATTACHED, "refused: %s",
          got == sizeof(message.error) ? message.error.text : "?");
    memcpy(lane->fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(lane->fds));
    lane->reply = message.attached;
}

void lane_open_as(struct lane *lane, const struct daemon *daemon, const struct pf_ctl_attach *request)
{
    lane->connection = lane_connect(daemon);
    CHECK(send(lane->connection, request, sizeof(*request), 0) == sizeof(*request), "send: %s", strerror(errno));
    receive_reply(lane);
    lane->grants = mmap(NULL, sizeof(*lane->grants), PROT_READ, MAP_SHARED, lane->fds[PF_FD_GRANT], 0);
    lane->returns = mmap(NULL, sizeof(*lane->returns), PROT_READ | PROT_WRITE, MAP_SHARED, lane->fds[PF_FD_RETURN], 0);
    CHECK(lane->grants != MAP_FAILED && lane->returns != MAP_FAILED, "mmap: %s", strerror(errno));
}

void lane_open(struct lane *lane, const struct daemon *daemon, const char *feed, uint32_t max_held)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(request) },
                                     .world = 1,
                                     .max_held = max_held };

    snprintf(request.feed, sizeof(request.feed), "%s", feed);
    lane_open_as(lane, daemon, &request);
}

void lane_close(struct lane *lane)
{
    close(lane->connection);
    for (int i = 0; i < PF_ATTACH_FDS; i++)
        close(lane->fds[i]);
    munmap((void *)lane->grants, sizeof(*lane->grants));
    munmap(lane->returns, sizeof(*lane->returns));
}

uint64_t lane_take(struct lane *lane, uint64_t n)
{
    struct pf_grant grant = { 0 };
    uint64_t next = 0, taken = 0;

    UNTIL(taken == n)
    {
        taken += (uint64_t)pf_grants_take(lane->grants, lane->returns, &next, &grant);
    }
    return grant.number;
}

void lane_return(struct lane *lane, uint64_t count, uint64_t number)
{
    lane->returns->numbers[(count - 1) % PF_RING] = number;
    __atomic_store_n(&lane->returns->returned, count, __ATOMIC_RELEASE);
}

void lane_await_drop(struct lane *lane)
{
    UNTIL(__atomic_load_n(&lane->grants->closed, __ATOMIC_ACQUIRE) != PF_OPEN)
    {
    }
    CHECK(lane->grants->closed == PF_CLOSED_DROPPED, "closed is %u, not dropped", lane->grants->closed);
}

void lane_reason(struct lane *lane, char *text, size_t size)
{
    struct pf_ctl_error error;
    ssize_t got = recv(lane->connection, &error, sizeof(error), MSG_DONTWAIT); /* sent before `closed` was set */

    CHECK(got == sizeof(error) && error.head.type == PF_CTL_ERROR, "it is dropped without a reason");
    snprintf(text, size, "%s", error.text);
}
