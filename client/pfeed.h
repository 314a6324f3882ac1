/* SPDX-License-Identifier: MIT */
/*
 * libpfeed: take ready batches from the pfeedd of this host, without loading, decoding or copying.
 *
 * Every call returns 0 or more, or a negative errno-style code; pfeed_error() then has a sentence. A failing call has changed
 * nothing. The library starts no threads, prints nothing, installs no signal handlers and never exits. One handle belongs to
 * one thread at a time; different handles are independent. After a fork the child's copies of a handle answer -ECHILD:
 * open a handle of its own there.
 */
#ifndef PFEED_H
#define PFEED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PFEED_API __attribute__((visibility("default")))
#else
#define PFEED_API
#endif

/* pfeed_next: besides 0, both with *batch = NULL. */
#define PFEED_EPOCH 1 /* all steps of an epoch were given; the next call begins the next one */
#define PFEED_END   2 /* the job's epochs are over; every further call says so again */

/* Bits of pfeed_info.flags, one byte a row. */
#define PFEED_ROW_PADDED   1 /* repeats another row of this epoch to fill the last step (tail: pad); not counted in valid */
#define PFEED_ROW_REPLACED 2 /* the scheduled sample was bad; used_ids names the one that is here */
#define PFEED_ROW_MASKED   4 /* the scheduled sample was bad; the row's bytes are zero */

/* pfeed_options.flags */
#define PFEED_OPT_SEED           1u /* take options.seed also where it is 0 */
#define PFEED_OPT_ACCEPT_CHANGED 2u /* take a token's place although data, recipe, order or batch have changed since */

#define PFEED_TOKEN_MAX       320 /* bytes of the longest token, with its closing zero */
#define PFEED_FINGERPRINT_MAX 51  /* bytes of a fingerprint, with its closing zero */

struct pfeed;
struct pfeed_batch;

/* Set size to sizeof(struct pfeed_options) and the rest to zero: zero and NULL mean the default. */
struct pfeed_options {
    size_t size;
    const char
        *socket; /* default: $PFEED_SOCKET, then $XDG_RUNTIME_DIR/pfeed/pfeedd.sock if it is there, then /run/pfeed/pfeedd.sock */
    const char *feed;        /* the feed's name in the daemon's configuration; required */
    const char *job;         /* ranks of one run give the same name; NULL: private, world must be 1 */
    uint32_t rank, world;    /* rank of world; world 0 means 1 */
    const char *local_ranks; /* the ranks that live on this host, "0-3,8-11"; NULL: all */
    uint32_t batch;          /* rows per rank and step; must divide the feed's batch; 0: the feed's batch / world */
    uint32_t epochs;         /* PFEED_END after so many; 0: as the feed says */
    uint64_t seed;           /* of the order and the augmentations; 0 (without PFEED_OPT_SEED): as the feed says */
    uint64_t run;            /* restart count of the run: a newer one takes the job over from an older one */
    const char *start;       /* NULL or "fresh": epoch 0, step 0; "live": where others are; "live:epoch"; or a token */
    const char *slow;        /* "park", "block" or "skip"; NULL: as the feed says */
    const char *device;      /* NULL or "cpu" */
    uint32_t max_held;       /* batches held at once; 0: the feed's max_held */
    uint32_t replica;        /* which of the consumers that get this rank's batches; 0 where there is one */
    uint32_t flags;          /* PFEED_OPT_* */
    int reconnect_ms; /* how long to wait for a daemon that starts: at opening, while it opens its feeds; afterwards, when it
                                has gone, for the next one; 0: 60 s, -1: not at all */
};

/* DLPack's type codes: 0 signed integer, 1 unsigned integer, 2 IEEE float, 4 bfloat. */
struct pfeed_dtype {
    uint8_t code, bits;
    uint16_t lanes; /* 1 */
};

/* One field of a batch: a dense array of shape (rows, ...). Valid until the batch is given back. Read-only memory. */
struct pfeed_tensor {
    size_t size; /* of this struct */
    const char *name;
    const void *data; /* aligned to 64 bytes where the row's size is a multiple of 64, else to the element */
    struct pfeed_dtype dtype;
    uint32_t ndim;
    const int64_t *shape;           /* elements; shape[0] = rows of this batch */
    const int64_t *strides;         /* in elements */
    int32_t device_type, device_id; /* DLPack's: 1, 0 = host memory */
};

struct pfeed_info {
    size_t size;              /* of this struct */
    uint64_t epoch, step;     /* both from 0; step counts the job's global steps within the epoch */
    uint32_t rows, valid;     /* rows in this batch; those that are not padding */
    const uint64_t *ids;      /* rows: the scheduled samples */
    const uint64_t *used_ids; /* rows: the samples that are really here */
    const uint8_t *flags;     /* rows: PFEED_ROW_* */
};

/* What each code of a call means, and what to do about it, is in errors.tbl, and from there in the call's manual page. */

/*
 * Connects, attaches and maps. At most 10 s, and reconnect_ms while the daemon still opens its feeds. On failure *out is untouched
 * and pfeed_error(NULL) has the sentence. -ENOENT, -ECONNREFUSED, -EACCES, -EINVAL, -EOPNOTSUPP, -EBADMSG, -ENAMETOOLONG, -EAGAIN,
 * -EBUSY, -ESTALE, -ENOSPC, -EIO, -EUSERS, -ESRCH, -EPIPE, -EPROTO, -ETIMEDOUT, -ENOMEM, -ENOSYS; others are those of socket, connect, poll and mmap.
 */
PFEED_API int pfeed_open(struct pfeed **out, const struct pfeed_options *options);

/*
 * Fills rank, world, local_ranks, run and job from the environment that torchrun, Slurm, Open MPI or MPICH made for this process,
 * where they are still zero; without any of these it changes nothing. The texts live in this thread until its next call. What
 * cannot be known for certain is refused, and pfeed_error(NULL) says why. -EINVAL.
 */
PFEED_API int pfeed_options_from_env(struct pfeed_options *options);

/*
 * Lends the next batch. timeout_ms: -1 waits for ever, 0 polls. 0 and *batch; PFEED_EPOCH or PFEED_END and *batch = NULL;
 * -ETIMEDOUT, -ENOBUFS, -EINTR, -EPIPE, -ESTALE (what was held must not be read any more), -EPROTO, -ECHILD. When the daemon has
 * gone it attaches to the next one by itself, for reconnect_ms; -EPIPE says that this was in vain.
 */
PFEED_API int pfeed_next(struct pfeed *pf, struct pfeed_batch **batch, int timeout_ms);

/* Gives a batch back, in any order. Its tensors must not be read afterwards. -EINVAL, -ECHILD. */
PFEED_API int pfeed_done(struct pfeed *pf, struct pfeed_batch *batch);

/* A field by name, or by its place in the feed's configuration; NULL where there is none. Free at any batch size. */
PFEED_API const struct pfeed_tensor *pfeed_tensor(const struct pfeed_batch *batch, const char *name);
PFEED_API const struct pfeed_tensor *pfeed_tensor_at(const struct pfeed_batch *batch, uint32_t index);
PFEED_API const struct pfeed_info *pfeed_info(const struct pfeed_batch *batch);

/*
 * The job's place after this batch's global step (batch NULL: after the last one given), as a text for the trainer's own
 * checkpoint: options.start or pfeed_seek takes it, in any rank, at every world and batch of the same world x batch. PFEED_TOKEN_MAX
 * bytes are enough. No system call, and no daemon is needed. -ENOSPC, -EINVAL, -ECHILD.
 */
PFEED_API int pfeed_token(struct pfeed *pf, const struct pfeed_batch *batch, char *text, size_t n);

/*
 * Goes to a token's place, to the beginning of an epoch ("epoch:E") or of the first one ("restart"): the next batch is the
 * first one there. All ranks of a job ask the same. What is held stays held. At most 10 s, and reconnect_ms where the daemon has
 * gone. -EINVAL, -EOPNOTSUPP, -EBADMSG, -ENOSPC, -EBUSY, -ESTALE, -EPIPE, -ETIMEDOUT, -EINTR, -EPROTO, -ECHILD.
 */
PFEED_API int pfeed_seek(struct pfeed *pf, const char *where);

/*
 * Data, order and recipe as three hashes, "DATA:ORDER:RECIPE": two ranks that have the same get the same from the same token. Compare
 * it over all ranks, before the first step, where they are on several hosts. PFEED_FINGERPRINT_MAX bytes. -ENOSPC, -ECHILD.
 */
PFEED_API int pfeed_fingerprint(struct pfeed *pf, char *text, size_t n);

/* Steps of an epoch, the same for every rank. */
PFEED_API int64_t pfeed_length(struct pfeed *pf);

/* The sentence of the last failing call on pf; with NULL: of this thread's last failing pfeed_open. Never NULL. */
PFEED_API const char *pfeed_error(struct pfeed *pf);

/* Gives everything back and leaves the job. NULL is fine. */
PFEED_API void pfeed_close(struct pfeed *pf);

/* "0.1.0" */
PFEED_API const char *pfeed_version(void);

#ifdef __cplusplus
}
#endif

#endif
