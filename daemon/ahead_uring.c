/* SPDX-License-Identifier: MIT */
/*
 * Reading ahead by io_uring: one thread that opens and reads many files at a time. See ahead.c. Each read has one request under
 * way: to open its file, then to read it, again where that was short. Whoever has something new writes to an eventfd, which the
 * thread reads by a request, too. A read that is there when its request was just handed over has not waited for storage.
 *
 * What can be missing: liburing when this was built, the system calls (a sandbox), the permission (kernel.io_uring_disabled), memory
 * that may be locked (RLIMIT_MEMLOCK, of kernels before 5.12), or the requests (kernels before 5.6). Then a sentence says so, and
 * threads read instead.
 */
#include <stdio.h>

#include "ahead_inner.h"

#ifndef HAVE_LIBURING

const struct ahead_way *ahead_uring(uint32_t reads, char *reason, size_t size)
{
    (void)reads;
    snprintf(reason, size, "pfeedd was built without liburing");
    return NULL;
}

#else

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "feed.h"

#define READS_AT_ONCE 64 /* completions that are looked at together */
#define RETRY_MS      10

struct uring {
    struct io_uring ring;
    pthread_t thread;
    uint32_t n_reads; /* that the ring has room for */
    int event;        /* written to where there is something new, */
    bool asleep;      /* while the thread may be waiting (lock) */
    uint64_t events;  /* what was read of it */
    bool armed;       /* that request is under way */
    uint32_t flying;
    uint64_t turn; /* in which requests were handed over */
};

static void end(struct uring *own, struct ahead_read *read, bool fine);

/* NULL: the ring is full, and the kernel takes nothing of it just now. */
static struct io_uring_sqe *request(struct uring *own)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&own->ring);

    if (!sqe) { /* closes beside what fills it */
        io_uring_submit(&own->ring);
        sqe = io_uring_get_sqe(&own->ring);
    }
    return sqe;
}

static void ask_bytes(struct uring *own, struct ahead_read *read)
{
    struct io_uring_sqe *sqe = request(own);
    const uint64_t left = read->place.size - read->used + read->place.whole;

    if (!sqe) {
        end(own, read, false);
        return;
    }
    io_uring_prep_read(sqe, read->fd, read->buffer + read->used, (unsigned)left, read->place.offset + read->used);
    io_uring_sqe_set_data(sqe, read);
    read->reading = true;
    read->turn = own->turn;
}

/* Whether it is the file that was listed: asked of the file that is open. */
static void ask_about(struct uring *own, struct ahead_read *read)
{
    struct io_uring_sqe *sqe = request(own);

    if (!sqe) {
        end(own, read, false);
        return;
    }
    io_uring_prep_statx(sqe, read->fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE | STATX_MTIME, read->about);
    io_uring_sqe_set_data(sqe, read);
    read->looking = true;
    read->turn = own->turn;
}

static bool is_same(const struct ahead_read *read)
{
    const struct statx *about = read->about;

    return S_ISREG(about->stx_mode) && about->stx_size == read->place.file_size &&
           about->stx_mtime.tv_sec * INT64_C(1000000000) + about->stx_mtime.tv_nsec == read->place.file_mtime_ns;
}

static void begin(struct uring *own, struct ahead_read *read)
{
    struct io_uring_sqe *sqe;

    read->used = 0;
    read->slept = false;
    read->reading = read->looking = false;
    own->flying++;
    if (read->place.fd >= 0) {
        read->fd = read->place.fd;
        ask_bytes(own, read);
        return;
    }
    /* Not blocking, as it may have become a pipe. */
    sqe = request(own);
    if (!sqe) {
        end(own, read, false);
        return;
    }
    io_uring_prep_openat(sqe, AT_FDCWD, read->place.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    io_uring_sqe_set_data(sqe, read);
    read->turn = own->turn;
}

static void end(struct uring *own, struct ahead_read *read, bool fine)
{
    if (read->fd >= 0 && read->place.fd < 0) {
        struct io_uring_sqe *sqe = request(own);

        if (sqe) {
            io_uring_prep_close(sqe, read->fd);
            io_uring_sqe_set_data(sqe, NULL);
        } else {
            close(read->fd);
        }
    }
    read->fd = -1;
    own->flying--;
    read->value = (struct sample_value){
        .data = read->buffer, .size = read->used, .part = &read->feed->parts[read->part], .head = read->place.head
    };
    ahead_finish(read, fine, read->slept);
}

/* Else a read of it may never come back. Asked of what the open has brought, so that no server is asked. */
static bool is_file(struct ahead_read *read)
{
    return statx(read->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, read->about) == 0 &&
           S_ISREG(read->about->stx_mode);
}

static void on_open(struct uring *own, struct ahead_read *read, int result)
{
    if (result < 0) {
        end(own, read, false);
        return;
    }
    read->fd = result;
    if (!is_file(read)) {
        end(own, read, false);
        return;
    }
    fcntl(result, F_SETFL, 0); /* else some file systems refuse to be waited for */
    if (read->place.file_mtime_ns)
        ask_about(own, read);
    else
        ask_bytes(own, read);
}

static void on_about(struct uring *own, struct ahead_read *read, int result)
{
    read->looking = false;
    if (result < 0 || !is_same(read))
        end(own, read, false);
    else
        ask_bytes(own, read);
}

/* Asked for a byte more than a whole file should have: one that has grown is left to a worker, who says so. */
static void on_bytes(struct uring *own, struct ahead_read *read, int result)
{
    if (result > 0)
        read->used += (uint64_t)result;
    if (result > 0 && read->used < read->place.size)
        ask_bytes(own, read);
    else
        end(own, read, result > 0 && read->used == read->place.size);
}

/* With the lock. */
static void handle(struct uring *own, struct io_uring_cqe *cqe, bool waited, uint64_t now)
{
    struct ahead_read *read = io_uring_cqe_get_data(cqe);
    const int result = cqe->res;

    if (!read)
        return; /* a file was closed */
    if ((void *)read == (void *)own) {
        own->armed = false;
        return;
    }
    read->slept |= waited || read->turn != now;
    if (read->looking)
        on_about(own, read, result);
    else if (read->reading)
        on_bytes(own, read, result);
    else
        on_open(own, read, result);
}

static void arm(struct uring *own)
{
    struct io_uring_sqe *sqe;

    if (own->armed)
        return;
    sqe = request(own);
    if (!sqe)
        return;
    io_uring_prep_read(sqe, own->event, &own->events, sizeof(own->events), 0);
    io_uring_sqe_set_data(sqe, own);
    own->armed = true;
}

/* Until something has come; or for a while, where the kernel has not taken all that was asked for (it is short of memory, or too
 * much has come that nobody has looked at): then it is asked again. */
static void wait_some(struct uring *own, bool all_taken)
{
    struct pollfd ring = { .fd = own->ring.ring_fd, .events = POLLIN };
    struct io_uring_cqe *cqe;

    if (all_taken)
        io_uring_wait_cqe(&own->ring, &cqe);
    else
        poll(&ring, 1, RETRY_MS);
}

/* Hands over what was asked for, and takes what has come: at least one, if need be after a while. */
static void turn(struct ahead *ahead, struct uring *own)
{
    struct io_uring_cqe *cqes[READS_AT_ONCE];
    bool waited = false, all_taken;
    uint64_t now;
    unsigned n;

    arm(own);
    own->asleep = true;
    pthread_mutex_unlock(&ahead->lock);
    all_taken = io_uring_submit(&own->ring) >= 0 && io_uring_sq_ready(&own->ring) == 0 && own->armed;
    n = io_uring_peek_batch_cqe(&own->ring, cqes, READS_AT_ONCE);
    if (n == 0) {
        waited = true;
        wait_some(own, all_taken);
        n = io_uring_peek_batch_cqe(&own->ring, cqes, READS_AT_ONCE);
    }
    pthread_mutex_lock(&ahead->lock);
    own->asleep = false;
    now = own->turn++; /* what is asked for from here on is handed over in the next one */
    for (unsigned i = 0; i < n; i++)
        handle(own, cqes[i], waited, now);
    io_uring_cq_advance(&own->ring, n);
}

static void *run(void *argument)
{
    struct ahead *ahead = argument;
    struct uring *own = ahead->own;
    struct ahead_read *read;

    pthread_mutex_lock(&ahead->lock);
    while (!ahead->stopping || own->flying > 0) {
        while (own->flying < own->n_reads && (read = ahead_next(ahead)))
            begin(own, read);
        turn(ahead, own);
    }
    pthread_mutex_unlock(&ahead->lock);
    sem_post(&ahead->ended);
    return NULL;
}

/* ---- start and end -------------------------------------------------------------------------------------------------- */

/* A request a read, one to close, and that for the eventfd. */
static int init_ring(struct io_uring *ring, uint32_t reads)
{
    unsigned workers[2] = { reads, 0 };
    int rc = io_uring_queue_init(2 * reads + 2, ring, 0);

    if (rc == 0)
        io_uring_register_iowq_max_workers(ring, workers); /* of reads that block; Linux 5.15, else it chooses */
    return rc;
}

static void destroy(struct uring *own)
{
    io_uring_queue_exit(&own->ring);
    close(own->event);
    free(own);
}

/* Where it fails, it leaves nothing. */
static int start(struct ahead *ahead, struct problem *why)
{
    struct uring *own = ahead->own;
    int rc;

    if (own)
        return 0; /* buffers are never more than at first, or there were none */
    own = calloc(1, sizeof(*own));
    if (!own)
        return problem_set(why, -ENOMEM, "no memory for io_uring");
    own->n_reads = ahead->n_reads;
    own->event = eventfd(0, EFD_CLOEXEC);
    rc = own->event < 0 ? -errno : init_ring(&own->ring, own->n_reads);
    if (rc < 0) {
        if (own->event >= 0)
            close(own->event);
        free(own);
        return problem_set(why, rc, "no ring for %u reads: %s", ahead->n_reads, strerror(-rc));
    }
    pthread_mutex_lock(&ahead->lock); /* slots may be posted already */
    ahead->own = own;
    rc = ahead_thread(ahead, &own->thread, run, ahead, why);
    if (rc < 0)
        ahead->own = NULL;
    pthread_mutex_unlock(&ahead->lock);
    if (rc < 0)
        destroy(own);
    return rc;
}

static void wake(struct ahead *ahead)
{
    struct uring *own = ahead->own;
    const uint64_t one = 1;
    ssize_t written;

    if (!own || !own->asleep)
        return;
    own->asleep = false; /* once is enough */
    written = write(own->event, &one, sizeof(one));
    assert(written == sizeof(one));
}

static void join(struct ahead *ahead)
{
    struct uring *own = ahead->own;

    if (!own)
        return;
    pthread_join(own->thread, NULL);
    destroy(own);
    ahead->own = NULL;
}

/* The ring, and what the kernel has for each request. */
static uint64_t bytes(uint32_t reads)
{
    return sizeof(struct uring) +
           (uint64_t)(2 * reads + 2) * 2 * (sizeof(struct io_uring_sqe) + 4 * sizeof(struct io_uring_cqe)) + 65536;
}

static const struct ahead_way way = {
    .name = "io_uring", .most = AHEAD_MOST, .bytes = bytes, .start = start, .wake = wake, .join = join
};

const struct ahead_way *ahead_uring(uint32_t reads, char *reason, size_t size)
{
    struct io_uring_probe *probe;
    struct io_uring ring;
    bool knows;
    int rc = init_ring(&ring, reads);

    if (rc < 0) {
        snprintf(reason, size, "%s%s", strerror(-rc),
                 rc == -EPERM    ? "; kernel.io_uring_disabled, or a sandbox"
                 : rc == -ENOSYS ? "; an old kernel, or a sandbox"
                 : rc == -ENOMEM ? "; raise RLIMIT_MEMLOCK"
                                 : "");
        return NULL;
    }
    probe = io_uring_get_probe_ring(&ring);
    knows = probe && io_uring_opcode_supported(probe, IORING_OP_OPENAT) && io_uring_opcode_supported(probe, IORING_OP_READ) &&
            io_uring_opcode_supported(probe, IORING_OP_STATX) && io_uring_opcode_supported(probe, IORING_OP_CLOSE);
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
    if (knows)
        return &way;
    snprintf(reason, size, "this kernel's is too old (Linux 5.6 is needed)");
    return NULL;
}

#endif
