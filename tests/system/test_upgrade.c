/* SPDX-License-Identifier: MIT */
/*
 * Daemon and trainer of different builds whose layouts are compatible: the trainer outlives an upgrade and a downgrade. The newer
 * daemon is played by this test: what a real one had made, with all that may be added without breaking anybody: unknown `compat`
 * bits, reserved words in use, larger segments, a longer answer with more descriptors. An unknown `incompat` bit is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"

#define BATCH  8u
#define SLOTS  6u
#define TAKEN  2u              /* batches that the trainer takes before the first daemon goes; all slots are granted then */
#define FIRST  (TAKEN + SLOTS) /* the step that it comes back with */
#define OFFERS 2u              /* grants of the newer daemon */
#define KNOWN  (FIRST + OFFERS + 4u)

static struct daemon pfeedd;

static const char yaml[] = "version: 1\ndaemon: { workers: 2, memory: 64MiB }\nfeeds:\n  f:\n"
                           "    source: { type: synthetic, rows: 800 }\n    batch: 8\n    slots: 6\n"
                           "    fields: { x: { dtype: float32, shape: [16] } }\n";

/* ---- a newer daemon ------------------------------------------------------------------------------------------------- */

struct newer {
    int listener, fds[PF_ATTACH_FDS + 1]; /* and one more */
    struct pf_ctl_attached reply;
};

/* A copy with more of everything, and a page at its end. */
static int enlarge(const void *from, uint64_t size, uint32_t incompat)
{
    int fd = memfd_create("newer", MFD_CLOEXEC);
    struct pf_head *head;

    CHECK(fd >= 0 && ftruncate(fd, (off_t)(size + PF_PAGE)) == 0, "memfd: %s", strerror(errno));
    head = mmap(NULL, size + PF_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(head != MAP_FAILED, "mmap: %s", strerror(errno));
    memcpy(head, from, size);
    head->size = size + PF_PAGE;
    head->compat = 0x80000001;
    head->incompat = incompat;
    memset(head->reserved, 0x5a, sizeof(head->reserved));
    memset((uint8_t *)head + size, 0x5a, PF_PAGE);
    munmap(head, size + PF_PAGE);
    return fd;
}

/* From what a daemon that runs grants to a consumer that begins with the token. */
static void newer_prepare(struct newer *newer, const char *token, uint32_t incompat)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION, PF_CTL_ATTACH, sizeof(request) }, .feed = "f", .world = 1 };
    struct pf_grant_page grants;
    struct pf_return_page returns;
    struct pf_arena *arena;
    struct lane lane;

    strcpy(request.start, token);
    lane_open_as(&lane, &pfeedd, &request);
    UNTIL(__atomic_load_n(&lane.grants->published, __ATOMIC_ACQUIRE) >= OFFERS);
    newer->reply = lane.reply;
    arena = mmap(NULL, lane.reply.arena_size, PROT_READ, MAP_SHARED, lane.fds[PF_FD_ARENA], 0);
    CHECK(arena != MAP_FAILED, "mmap: %s", strerror(errno));
    newer->fds[PF_FD_ARENA] = enlarge(arena, lane.reply.arena_size, incompat);
    munmap(arena, lane.reply.arena_size);
    grants = *lane.grants;
    returns = *lane.returns;
    grants.published = OFFERS;
    for (uint32_t i = 0; i < OFFERS; i++)
        memset(grants.grants[i].reserved, 0x5a, sizeof(grants.grants[i].reserved));
    memset(grants.reserved0, 0x5a, sizeof(grants.reserved0));
    memset(grants.reserved1, 0x5a, sizeof(grants.reserved1));
    newer->fds[PF_FD_GRANT] = enlarge(&grants, sizeof(grants), 0);
    newer->fds[PF_FD_RETURN] = enlarge(&returns, sizeof(returns), 0);
    newer->fds[PF_FD_EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    newer->fds[PF_ATTACH_FDS] = eventfd(0, EFD_CLOEXEC);
    lane_close(&lane);
}

static void newer_listen(struct newer *newer)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    strcpy(address.sun_path, pfeedd.socket);
    unlink(pfeedd.socket);
    newer->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(newer->listener >= 0 && bind(newer->listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              listen(newer->listener, 16) == 0,
          "cannot listen: %s", strerror(errno));
}

/* ATTACHED, of twice the size that is known here. */
static void newer_reply(const struct newer *newer, int connection, const struct pf_ctl_attach *request)
{
    struct {
        struct pf_ctl_attached known;
        uint8_t more[sizeof(struct pf_ctl_attached)];
    } reply = { newer->reply, { 0 } };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(newer->fds))];
    } control;
    struct iovec part = { &reply, sizeof(reply) };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    struct pf_token token;

    CHECK(request->flags & PF_ATTACH_RECONNECT && pf_token_parse(request->start, &token) == 0 && token.epoch == 0 &&
              token.row == FIRST * BATCH,
          "it comes back with '%s', not at step %u", request->start, FIRST);
    reply.known.head.size = sizeof(reply);
    memset(reply.more, 0x5a, sizeof(reply.more));
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(newer->fds));
    memcpy(CMSG_DATA(rights), newer->fds, sizeof(newer->fds));
    CHECK(sendmsg(connection, &header, MSG_NOSIGNAL) == sizeof(reply), "sendmsg: %s", strerror(errno));
}

/* Takes pf's attempt to come back and answers it; its end of the connection. */
static int newer_serve(const struct newer *newer, struct pfeed *pf)
{
    struct pf_ctl_attach request;
    struct pfeed_batch *batch;
    int connection = -1;

    UNTIL((connection = accept4(newer->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
    CHECK(pfeed_next(pf, &batch, 1) == -ETIMEDOUT, "pfeed_next: %s", pfeed_error(pf));
    CHECK(recv(connection, &request, sizeof(request), 0) == sizeof(request), "recv: %s", strerror(errno));
    newer_reply(newer, connection, &request);
    return connection;
}

static void newer_end(struct newer *newer, int connection)
{
    close(connection);
    close(newer->listener);
    for (unsigned i = 0; i < PF_ATTACH_FDS + 1; i++)
        close(newer->fds[i]);
}

/* ---- trainers ------------------------------------------------------------------------------------------------------- */

static struct pfeed *must_open(void)
{
    struct plan plan = { .daemon = &pfeedd, .feed = "f" };

    return plan_open(&plan);
}

static void expect(struct pfeed *pf, uint64_t step, const uint64_t *hashes)
{
    struct pfeed_batch *batch = must_next(pf);

    CHECK(pfeed_info(batch)->step == step && batch_hash(batch) == hashes[step], "step %llu is step %llu, or has other rows",
          (unsigned long long)step, (unsigned long long)pfeed_info(batch)->step);
    must_done(pf, batch);
}

/* A trainer that has lost its daemon, has taken all that was granted and finds a newer one at its place. */
static struct pfeed *begin(struct newer *newer, uint64_t hashes[KNOWN], uint32_t incompat)
{
    char token[PFEED_TOKEN_MAX];
    struct pf_row_consumer row;
    struct pfeed_batch *batch;
    struct pfeed *pf;

    daemon_start(&pfeedd, yaml);
    pf = must_open();
    for (uint64_t k = 0; k < KNOWN; k++) {
        batch = must_next(pf);
        hashes[k] = batch_hash(batch);
        if (k + 1 == FIRST)
            CHECK(pfeed_token(pf, batch, token, sizeof(token)) == 0, "pfeed_token: %s", pfeed_error(pf));
        must_done(pf, batch);
    }
    pfeed_close(pf);
    newer_prepare(newer, token, incompat);
    UNTIL(feed_at_rest(&pfeedd, "f"));
    pf = must_open();
    for (uint64_t k = 0; k < TAKEN; k++)
        expect(pf, k, hashes);
    UNTIL(stat_consumers(&pfeedd, "f", &row, 1) == 1 && row.granted == SLOTS);
    daemon_kill(&pfeedd);
    newer_listen(newer);
    for (uint64_t k = TAKEN; k < FIRST; k++)
        expect(pf, k, hashes);
    return pf;
}

/* Forth and back: the newer daemon goes, too, and the older one is there again. */
static void run_newer(const void *arg)
{
    uint64_t hashes[KNOWN], step = FIRST;
    struct newer newer;
    struct pfeed *pf = begin(&newer, hashes, 0);
    int connection = newer_serve(&newer, pf);

    for (; step < FIRST + OFFERS; step++)
        expect(pf, step, hashes);
    newer_end(&newer, connection);
    daemon_again(&pfeedd);
    for (; step < KNOWN; step++)
        expect(pf, step, hashes);
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

static void run_incompatible(const void *arg)
{
    uint64_t hashes[KNOWN];
    struct pfeed_batch *batch;
    struct newer newer;
    struct pfeed *pf = begin(&newer, hashes, 2);
    int connection = newer_serve(&newer, pf), rc = pfeed_next(pf, &batch, -1);

    CHECK(rc == -EPIPE && strstr(pfeed_error(pf), "has layout 1 (features 0x2), this library knows layout 1 (features 0x0)"),
          "a daemon of an unknown layout: %d: %s", rc, pfeed_error(pf));
    pfeed_close(pf);
    newer_end(&newer, connection);
}

/* ---- trainers of other builds --------------------------------------------------------------------------------------- */

/* An ATTACH of so many bytes, those past the known ones being `more`: 0, or the code of the refusal. */
static int attach_of(uint32_t size, uint8_t more)
{
    struct {
        struct pf_ctl_attach known;
        uint8_t more[64];
    } request = { { { PF_CTL_VERSION, PF_CTL_ATTACH, size }, .feed = "f", .world = 1 }, { 0 } };
    union {
        struct pf_ctl_attached attached;
        struct pf_ctl_error error;
    } reply;
    int fd = lane_connect(&pfeedd);
    ssize_t got;

    CHECK(size <= sizeof(request), "%u bytes", size);
    memset(request.more, more, sizeof(request.more));
    CHECK(send(fd, &request, size, 0) == size, "send: %s", strerror(errno));
    got = recv(fd, &reply, sizeof(reply), 0); /* its descriptors are dropped */
    close(fd);
    if (got == sizeof(reply.attached) && reply.attached.head.type == PF_CTL_ATTACHED)
        return 0;
    CHECK(got == sizeof(reply.error) && reply.error.head.type == PF_CTL_ERROR, "an answer of %zd bytes", got);
    return reply.error.code;
}

static void run_trainers(const void *arg)
{
    const uint32_t known = sizeof(struct pf_ctl_attach);

    daemon_start(&pfeedd, yaml);
    CHECK(attach_of(known, 0) == 0, "an attach of this build is refused");
    CHECK(attach_of(PF_ATTACH_LEAST, 0) == 0, "an older build's attach is refused");
    CHECK(attach_of(known + 64, 0) == 0, "a newer build's attach, which asks for nothing new, is refused");
    CHECK(attach_of(known + 64, 1) == -EPROTO, "what a newer build asks for is ignored");
    CHECK(attach_of(PF_ATTACH_LEAST - 4, 0) == -EPROTO, "an attach that is cut off is taken");
    UNTIL(feed_at_rest(&pfeedd, "f"));
    daemon_stop(&pfeedd);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "a newer daemon, and back", run_newer, NULL },
        { "a daemon of another layout", run_incompatible, NULL },
        { "older and newer trainers", run_trainers, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
