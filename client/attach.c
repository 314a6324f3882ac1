/* SPDX-License-Identifier: MIT */
/* Opening and closing a handle: attach over the control socket, check and map the three segments, and what a fork must not
 * inherit. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define OPEN_NS  INT64_C(10000000000)
#define CLOSE_NS INT64_C(1000000000)

#define RECONNECT_MS 60000    /* pfeed.h: options.reconnect_ms, 0 */
#define AGAIN_NS     50000000 /* between two attempts */

static _Thread_local struct sentence open_error = { .text = "no error" };

/* ---- forks ---------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pfeed *handles;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
    pthread_mutex_lock(&handles_lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&handles_lock);
}

/* A child that kept the socket would hide the trainer's death from everybody but the daemon's pidfd. */
static void fork_child(void)
{
    for (struct pfeed *pf = handles, *older; pf; pf = older) {
        older = pf->older;
        pf->older = pf->newer = NULL;
        close(pf->socket);
        close(pf->event);
        pf->socket = pf->event = -1;
    }
    handles = NULL;
    pthread_mutex_unlock(&handles_lock);
}

static void fork_register(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void handles_add(struct pfeed *pf)
{
    pthread_once(&fork_once, fork_register);
    pthread_mutex_lock(&handles_lock);
    pf->older = handles;
    if (handles)
        handles->newer = pf;
    handles = pf;
    pthread_mutex_unlock(&handles_lock);
}

static void handles_remove(struct pfeed *pf)
{
    pthread_mutex_lock(&handles_lock);
    if (pf->newer)
        pf->newer->older = pf->older;
    else if (handles == pf)
        handles = pf->older;
    if (pf->older)
        pf->older->newer = pf->newer;
    pthread_mutex_unlock(&handles_lock);
}

static int make_alive(struct pfeed *pf)
{
    uint64_t *page = mmap(NULL, PF_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return sentence_set(&open_error, -ENOMEM, "no memory for a page");
    if (madvise(page, PF_PAGE, MADV_WIPEONFORK) != 0) {
        munmap(page, PF_PAGE);
        return sentence_set(&open_error, -ENOSYS, "this kernel has no MADV_WIPEONFORK (Linux 4.14)");
    }
    *page = PFEED_ALIVE;
    pf->alive = page;
    return 0;
}

/* ---- attaching ------------------------------------------------------------------------------------------------------ */

static int copy_text(char *to, size_t size, const char *from, const char *what)
{
    if (!from)
        from = "";
    if (strlen(from) >= size)
        return sentence_set(&open_error, -EINVAL, "%s '%.100s...' is longer than %zu bytes", what, from, size - 1);
    memcpy(to, from, strlen(from) + 1);
    return 0;
}

static int make_request(struct pf_ctl_attach *request, const struct pfeed_options *options, uint32_t attach_flags)
{
    int rc;

    if (options->replica != 0)
        return sentence_set(&open_error, -EOPNOTSUPP, "options.replica is not in this version; leave it 0");
    if (options->device && *options->device && strcmp(options->device, "cpu") != 0)
        return sentence_set(&open_error, -EOPNOTSUPP, "options.device '%.50s' is not in this version; use \"cpu\" or NULL",
                            options->device);
    memset(request, 0, sizeof(*request));
    if ((rc = copy_text(request->feed, sizeof(request->feed), options->feed, "the feed's name")) < 0 ||
        (rc = copy_text(request->job, sizeof(request->job), options->job, "the job's name")) < 0 ||
        (rc = copy_text(request->local_ranks, sizeof(request->local_ranks), options->local_ranks, "local_ranks")) < 0 ||
        (rc = copy_text(request->start, sizeof(request->start), options->start, "start")) < 0)
        return rc;
    if (!*request->feed)
        return sentence_set(&open_error, -EINVAL, "options.feed is missing; `pfeedctl feeds` lists the names");
    if (options->slow && *options->slow) {
        if (strcmp(options->slow, "block") == 0)
            request->slow = PF_SLOW_BLOCK;
        else if (strcmp(options->slow, "skip") == 0)
            request->slow = PF_SLOW_SKIP;
        else
            return sentence_set(&open_error, -EINVAL, "options.slow is '%.50s'; it can be \"block\" or \"skip\"", options->slow);
    }
    request->rank = options->rank;
    request->world = options->world ? options->world : 1;
    request->batch = options->batch;
    request->epochs = options->epochs;
    request->seed = options->seed;
    request->run = options->run;
    request->max_held = options->max_held;
    request->flags = attach_flags;
    if (options->seed || (options->flags & PFEED_OPT_SEED))
        request->flags |= PF_ATTACH_SEED;
    request->incompat = PF_INCOMPAT_KNOWN;
    return 0;
}

/* Maps a descriptor and checks its head. Trainers must not fork it along: their children could never give it back. */
static int map_segment(int fd, uint64_t size, uint32_t kind, int protection, void **out)
{
    struct stat status;
    const struct pf_head *head;
    void *map;

    if (fstat(fd, &status) != 0 || (uint64_t)status.st_size < size)
        return sentence_set(&open_error, -EPROTO, "pfeedd sent a segment that is smaller than it says");
    map = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return sentence_set(&open_error, -errno, "cannot map %llu bytes of shared memory: %s", (unsigned long long)size,
                            strerror(errno));
    madvise(map, size, MADV_DONTFORK);
    head = map;
    if (head->magic != PF_MAGIC || head->version != PF_VERSION || head->kind != kind || (head->incompat & ~PF_INCOMPAT_KNOWN)) {
        sentence_set(&open_error, -EPROTO,
                     "pfeedd's shared memory has layout %u (features 0x%x), this library knows layout %u (features 0x%x); "
                     "use the same version on both sides",
                     head->version, head->incompat, PF_VERSION, PF_INCOMPAT_KNOWN);
        munmap(map, size);
        return -EPROTO;
    }
    *out = map;
    return 0;
}

/* The arena's own offsets, once, so that the hot path need not look again. */
static bool arena_sound(const struct pf_arena *arena, uint64_t size)
{
    if (arena->n_fields > PF_FIELDS || arena->n_slots > PF_SLOTS_MAX || arena->n_slots == 0 || arena->slot_bytes == 0)
        return false;
    if (arena->fields_offset > size || size - arena->fields_offset < arena->n_fields * sizeof(struct pf_field))
        return false;
    return arena->slots_offset <= size && (size - arena->slots_offset) / arena->slot_bytes >= arena->n_slots;
}

static int map_all(struct pfeed *pf, const struct pf_ctl_attached *reply, const int *fds)
{
    void *map;
    int rc;

    rc = map_segment(fds[PF_FD_ARENA], reply->arena_size, PF_ARENA, PROT_READ, &map);
    if (rc < 0)
        return rc;
    pf->arena = map;
    pf->arena_size = reply->arena_size;
    pf->info = map;
    if (!arena_sound(pf->info, pf->arena_size))
        return sentence_set(&open_error, -EPROTO, "pfeedd's arena is not sound");
    pf->fields = (const struct pf_field *)(pf->arena + pf->info->fields_offset);
    rc = map_segment(fds[PF_FD_GRANT], sizeof(struct pf_grant_page), PF_GRANT_PAGE, PROT_READ, &map);
    if (rc < 0)
        return rc;
    pf->grants = map;
    rc = map_segment(fds[PF_FD_RETURN], sizeof(struct pf_return_page), PF_RETURN_PAGE, PROT_READ | PROT_WRITE, &map);
    if (rc < 0)
        return rc;
    pf->returns = map;
    return 0;
}

static void describe_tensor(struct pfeed *pf, struct pfeed_batch *batch, uint32_t index)
{
    const struct pf_field *field = &pf->fields[index];
    int64_t elements = 1;

    memcpy(batch->shapes[index] + 1, field->shape, sizeof(field->shape));
    for (int32_t d = (int32_t)field->ndim; d >= 0; d--) {
        pf->strides[index][d] = elements;
        elements *= d > 0 ? field->shape[d - 1] : 1;
    }
    batch->tensors[index] = (struct pfeed_tensor){
        .size = sizeof(struct pfeed_tensor),
        .name = field->name,
        .dtype = { field->dtype_code, field->dtype_bits, field->dtype_lanes },
        .ndim = field->ndim + 1,
        .shape = batch->shapes[index],
        .strides = pf->strides[index],
        .device_type = 1,
    };
}

static int make_batches(struct pfeed *pf)
{
    uint32_t n_fields = pf->info->n_fields;

    pf->batches = calloc(pf->max_held, sizeof(*pf->batches));
    pf->strides = calloc(n_fields, sizeof(*pf->strides));
    if (!pf->batches || !pf->strides)
        return sentence_set(&open_error, -ENOMEM, "no memory for a handle");
    for (uint32_t i = 0; i < pf->max_held; i++) {
        struct pfeed_batch *batch = &pf->batches[i];

        batch->owner = pf;
        batch->info.size = sizeof(batch->info);
        batch->tensors = calloc(n_fields, sizeof(*batch->tensors));
        batch->shapes = calloc(n_fields, sizeof(*batch->shapes));
        if (!batch->tensors || !batch->shapes)
            return sentence_set(&open_error, -ENOMEM, "no memory for a handle");
        for (uint32_t f = 0; f < n_fields; f++)
            describe_tensor(pf, batch, f);
    }
    return 0;
}

/* Everything but telling the daemon. Safe on half-made handles and, without the maps, in a forked child. */
static void destroy(struct pfeed *pf, bool maps)
{
    if (maps) {
        if (pf->returns)
            munmap(pf->returns, sizeof(*pf->returns));
        if (pf->grants)
            munmap((void *)pf->grants, sizeof(*pf->grants));
        if (pf->arena)
            munmap((void *)pf->arena, pf->arena_size);
    }
    if (pf->alive)
        munmap((void *)pf->alive, PF_PAGE);
    if (pf->batches)
        for (uint32_t i = 0; i < pf->max_held; i++) {
            free(pf->batches[i].tensors);
            free(pf->batches[i].shapes);
        }
    free(pf->batches);
    free(pf->strides);
    if (pf->socket >= 0)
        close(pf->socket);
    if (pf->event >= 0)
        close(pf->event);
    free(pf);
}

/* "All is given back" may only be said once the arena is unmapped; the answer comes when the slots are free. Without it the
 * daemon keeps what was granted until this process ends. */
static void leave(struct pfeed *pf)
{
    int64_t deadline_ns = ctlsock_now_ns() + CLOSE_NS;
    struct pf_ctl_text reply; /* room for whatever comes */
    struct pf_ctl_head request;
    struct sentence why;

    if (pf->arena)
        munmap((void *)pf->arena, pf->arena_size);
    pf->arena = NULL;
    if (pf->consumer == 0 || ctlsock_send(pf->socket, &request, PF_CTL_DETACH, sizeof(request), deadline_ns, &why) < 0)
        return;
    do /* an answer to an earlier question may come first */
        if (ctlsock_receive(pf->socket, &reply, sizeof(reply), NULL, 0, deadline_ns, &why) < 0)
            return;
    while (reply.head.type != PF_CTL_OK);
}

static int attach_once(struct pfeed *pf, struct pf_ctl_attach *request, const char *socket)
{
    int64_t deadline_ns = ctlsock_now_ns() + OPEN_NS;
    union {
        struct pf_ctl_attached attached;
        struct pf_ctl_error error; /* room for a refusal */
    } message;
    const struct pf_ctl_attached *reply = &message.attached;
    int fds[PF_ATTACH_FDS] = { -1, -1, -1, -1 };
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int rc;

    rc = ctlsock_path(socket, path, &open_error);
    if (rc < 0)
        return rc;
    rc = ctlsock_connect(path, deadline_ns, &open_error);
    if (rc < 0)
        return rc;
    pf->socket = rc;
    rc = ctlsock_send(pf->socket, request, PF_CTL_ATTACH, sizeof(*request), deadline_ns, &open_error);
    if (rc < 0)
        return rc;
    rc = ctlsock_receive(pf->socket, &message, sizeof(message), fds, PF_ATTACH_FDS, deadline_ns, &open_error);
    if (rc < 0)
        return rc;
    pf->event = fds[PF_FD_EVENT];
    pf->consumer = reply->consumer;
    if (rc != (int)sizeof(*reply) || reply->head.type != PF_CTL_ATTACHED || reply->max_held == 0 || reply->max_held > PF_RING ||
        pf->event < 0 || fds[PF_FD_RETURN] < 0)
        rc = sentence_set(&open_error, -EPROTO, "pfeedd's answer to the attach is not sound");
    else
        rc = map_all(pf, reply, fds);
    /* The maps keep the memory; a descriptor would keep it for longer than they do. */
    for (int i = PF_FD_ARENA; i <= PF_FD_RETURN; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (rc < 0)
        return rc;
    pf->max_held = reply->max_held;
    pf->spin_ns = reply->spin_ns;
    pf->steps = reply->steps;
    pf->epoch = reply->epoch;
    return 0;
}

/* A daemon that has just started may still list its samples: it says -EAGAIN, and is asked again, for reconnect_ms. */
static int attach(struct pfeed *pf, struct pf_ctl_attach *request, const struct pfeed_options *options)
{
    const int64_t patience_ms = options->reconnect_ms ? options->reconnect_ms : RECONNECT_MS;
    const int64_t until_ns = ctlsock_now_ns() + patience_ms * 1000000;
    const struct timespec pause = { .tv_nsec = AGAIN_NS };
    int rc;

    while ((rc = attach_once(pf, request, options->socket)) == -EAGAIN && pf->consumer == 0 && ctlsock_now_ns() < until_ns) {
        close(pf->socket);
        pf->socket = -1;
        nanosleep(&pause, NULL);
    }
    return rc;
}

int pfeed_open_flags(struct pfeed **out, const struct pfeed_options *given, uint32_t attach_flags)
{
    struct pfeed_options options = { 0 };
    struct pf_ctl_attach request;
    struct pfeed *pf;
    int rc;

    if (!out || !given || given->size < offsetof(struct pfeed_options, feed) + sizeof(char *))
        return sentence_set(&open_error, -EINVAL, "pfeed_open: options.size must be sizeof(struct pfeed_options)");
    memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
    rc = make_request(&request, &options, attach_flags);
    if (rc < 0)
        return rc;
    pf = calloc(1, sizeof(*pf));
    if (!pf)
        return sentence_set(&open_error, -ENOMEM, "no memory for a handle");
    pf->socket = pf->event = -1;
    strcpy(pf->error.text, "no error");
    memcpy(pf->name, request.feed, sizeof(pf->name));
    if ((rc = make_alive(pf)) < 0 || (rc = attach(pf, &request, &options)) < 0 || (rc = make_batches(pf)) < 0) {
        leave(pf);
        destroy(pf, true);
        return rc;
    }
    handles_add(pf);
    *out = pf;
    return 0;
}

int pfeed_open(struct pfeed **out, const struct pfeed_options *options)
{
    return pfeed_open_flags(out, options, 0);
}

void pfeed_close(struct pfeed *pf)
{
    if (!pf)
        return;
    if (*pf->alive != PFEED_ALIVE) {
        handles_remove(pf); /* a child that ran no fork handler has it in its list */
        destroy(pf, false);
        return;
    }
    handles_remove(pf);
    leave(pf);
    destroy(pf, true);
}

const char *pfeed_error(struct pfeed *pf)
{
    return pf ? pf->error.text : open_error.text;
}
