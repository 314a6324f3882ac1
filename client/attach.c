/* SPDX-License-Identifier: MIT */
/* Opening and closing a handle: what the options say becomes a request, and its answer a lane. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define CLOSE_NS INT64_C(1000000000)

#define RECONNECT_MS 60000    /* pfeed.h: options.reconnect_ms, 0 */
#define AGAIN_NS     50000000 /* between two attempts */

_Thread_local struct sentence attach_error = { .text = "no error" };

/* ---- the request ---------------------------------------------------------------------------------------------------- */

static int copy_text(char *to, size_t size, const char *from, const char *what)
{
    if (!from)
        from = "";
    if (strlen(from) >= size)
        return sentence_set(&attach_error, -EINVAL, "%s '%.100s...' is longer than %zu bytes", what, from, size - 1);
    memcpy(to, from, strlen(from) + 1);
    return 0;
}

static int parse_slow(const char *word, uint32_t *out)
{
    static const char *const words[] = {
        [PF_SLOW_FEED] = "", [PF_SLOW_BLOCK] = "block", [PF_SLOW_SKIP] = "skip", [PF_SLOW_PARK] = "park"
    };

    for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!word || strcmp(word, words[i]) == 0) {
            *out = i;
            return 0;
        }
    return sentence_set(&attach_error, -EINVAL, "options.slow is '%.50s'; it can be \"park\", \"block\" or \"skip\"", word);
}

static int make_request(struct pf_ctl_attach *request, const struct pfeed_options *options, uint32_t attach_flags)
{
    int rc;

    if (options->device && *options->device && strcmp(options->device, "cpu") != 0)
        return sentence_set(&attach_error, -EOPNOTSUPP, "options.device '%.50s' is not in this version; use \"cpu\" or NULL",
                            options->device);
    memset(request, 0, sizeof(*request));
    if ((rc = copy_text(request->feed, sizeof(request->feed), options->feed, "the feed's name")) < 0 ||
        (rc = copy_text(request->job, sizeof(request->job), options->job, "the job's name")) < 0 ||
        (rc = copy_text(request->local_ranks, sizeof(request->local_ranks), options->local_ranks, "local_ranks")) < 0 ||
        (rc = copy_text(request->start, sizeof(request->start), options->start, "start")) < 0)
        return rc;
    if (!*request->feed)
        return sentence_set(&attach_error, -EINVAL, "options.feed is missing; `pfeedctl feeds` lists the names");
    rc = parse_slow(options->slow, &request->slow);
    if (rc < 0)
        return rc;
    request->rank = options->rank;
    request->world = options->world ? options->world : 1;
    request->batch = options->batch;
    request->epochs = options->epochs;
    request->seed = options->seed;
    request->run = options->run;
    request->max_held = options->max_held;
    request->replica = options->replica;
    request->flags = attach_flags;
    if (options->seed || (options->flags & PFEED_OPT_SEED))
        request->flags |= PF_ATTACH_SEED;
    if (options->flags & PFEED_OPT_ACCEPT_CHANGED)
        request->flags |= PF_ATTACH_ACCEPT_CHANGED;
    request->incompat = PF_INCOMPAT_KNOWN;
    return 0;
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static int make_batches(struct pfeed *pf)
{
    pf->batches = calloc(pf->max_held, sizeof(*pf->batches));
    if (!pf->batches)
        return sentence_set(&attach_error, -ENOMEM, "no memory for a handle");
    pf->n_batches = pf->max_held;
    for (uint32_t i = 0; i < pf->n_batches; i++) {
        struct pfeed_batch *batch = &pf->batches[i];

        batch->owner = pf;
        batch->info.size = sizeof(batch->info);
        batch->tensors = calloc(PF_FIELDS, sizeof(*batch->tensors));
        batch->shapes = calloc(PF_FIELDS, sizeof(*batch->shapes));
        if (!batch->tensors || !batch->shapes)
            return sentence_set(&attach_error, -ENOMEM, "no memory for a handle");
        mapped_describe(pf->mapped, batch);
    }
    return 0;
}

/* Everything but telling the daemon. Safe on half-made handles and, without the maps, in a forked child. */
static void destroy(struct pfeed *pf, bool maps)
{
    lane_fini(&pf->lane, maps);
    for (struct mapped *mapped = pf->mapped, *older; mapped; mapped = older) {
        older = mapped->older;
        mapped_destroy(mapped, maps);
    }
    if (pf->alive)
        munmap((void *)pf->alive, PF_PAGE);
    for (uint32_t i = 0; i < pf->n_batches; i++) {
        free(pf->batches[i].tensors);
        free(pf->batches[i].shapes);
    }
    free(pf->batches);
    if (pf->reconnect.socket >= 0)
        close(pf->reconnect.socket);
    free(pf);
}

/* "All is given back" may only be said once the arena is unmapped; the answer comes when the slots are free. Without it the
 * daemon keeps what was granted until this process ends. */
static void leave(int socket)
{
    int64_t deadline_ns = ctlsock_now_ns() + CLOSE_NS;
    struct pf_ctl_text reply; /* room for whatever comes */
    struct pf_ctl_head request;
    struct sentence why;

    if (ctlsock_send(socket, &request, PF_CTL_DETACH, sizeof(request), deadline_ns, &why) < 0)
        return;
    do /* an answer to an earlier question may come first */
        if (ctlsock_receive(socket, &reply, sizeof(reply), NULL, 0, deadline_ns, &why) < 0)
            return;
    while (reply.head.type != PF_CTL_OK);
}

static void detach(struct pfeed *pf)
{
    for (struct mapped *mapped = pf->mapped; mapped; mapped = mapped->older)
        mapped_unmap(mapped);
    if (pf->lane.grants)
        leave(pf->lane.socket);
}

static int exchange(struct pfeed *pf, int socket, int64_t deadline_ns, struct lane *lane, struct mapped **mapped)
{
    struct lane_answer answer;
    bool attached;
    int rc = ctlsock_send(socket, &pf->request, PF_CTL_ATTACH, sizeof(pf->request), deadline_ns, &attach_error);

    if (rc < 0)
        return rc;
    rc = ctlsock_receive(socket, &answer, sizeof(answer.bytes), answer.fds, PF_ATTACH_FDS, deadline_ns, &attach_error);
    if (rc < 0)
        return rc;
    attached = answer.attached.head.type == PF_CTL_ATTACHED;
    rc = lane_make(lane, mapped, &answer, rc, pf->request.feed, &attach_error);
    if (rc < 0) {
        if (attached)
            leave(socket);
        return rc;
    }
    lane->socket = socket;
    pf->max_held = answer.attached.max_held;
    pf->place = (struct place){ answer.attached.epoch, answer.attached.step };
    pf->epoch = answer.attached.epoch;
    return 0;
}

static int attach_once(struct pfeed *pf)
{
    int64_t deadline_ns = ctlsock_now_ns() + PFEED_ANSWER_NS;
    struct mapped *mapped;
    struct lane lane;
    int socket, rc;

    socket = ctlsock_connect(pf->path, deadline_ns, &attach_error);
    if (socket < 0)
        return socket;
    rc = exchange(pf, socket, deadline_ns, &lane, &mapped);
    if (rc < 0) {
        close(socket);
        return rc;
    }
    lane_install(pf, &lane, mapped);
    return 0;
}

/* A daemon that has just started may still list its samples: it says -EAGAIN, and is asked again, for reconnect_ms. */
static int attach(struct pfeed *pf, const struct pfeed_options *options)
{
    const int64_t patience_ns = (options->reconnect_ms ? options->reconnect_ms : RECONNECT_MS) * INT64_C(1000000);
    const int64_t until_ns = ctlsock_now_ns() + patience_ns;
    const struct timespec pause = { .tv_nsec = AGAIN_NS };
    int rc;

    /* One that only looks in has no place to come back to. */
    pf->reconnect.patience_ns = patience_ns < 0 || (pf->request.flags & PF_ATTACH_PEEK) ? 0 : patience_ns;
    rc = ctlsock_path(options->socket, pf->path, &attach_error);
    if (rc < 0)
        return rc;
    while ((rc = attach_once(pf)) == -EAGAIN && ctlsock_now_ns() < until_ns)
        nanosleep(&pause, NULL);
    return rc;
}

int pfeed_open_flags(struct pfeed **out, const struct pfeed_options *given, uint32_t attach_flags)
{
    struct pfeed_options options = { 0 };
    struct pf_ctl_attach request;
    struct pfeed *pf;
    int rc;

    if (!out || !given || given->size < offsetof(struct pfeed_options, feed) + sizeof(char *))
        return sentence_set(&attach_error, -EINVAL, "pfeed_open: options.size must be sizeof(struct pfeed_options)");
    memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
    rc = make_request(&request, &options, attach_flags);
    if (rc < 0)
        return rc;
    pf = calloc(1, sizeof(*pf));
    if (!pf)
        return sentence_set(&attach_error, -ENOMEM, "no memory for a handle");
    pf->lane.socket = pf->lane.event = pf->reconnect.socket = -1;
    pf->request = request;
    strcpy(pf->error.text, "no error");
    if ((rc = fork_mark(pf, &attach_error)) < 0 || (rc = attach(pf, &options)) < 0 || (rc = make_batches(pf)) < 0) {
        detach(pf);
        destroy(pf, true);
        return rc;
    }
    fork_watch(pf);
    *out = pf;
    return 0;
}

int pfeed_open(struct pfeed **out, const struct pfeed_options *options)
{
    return pfeed_open_flags(out, options, 0);
}

void pfeed_close(struct pfeed *pf)
{
    bool forked;

    if (!pf)
        return;
    forked = fork_happened(pf);
    fork_forget(pf); /* a child that ran no fork handler has it in its list, too */
    if (!forked)
        detach(pf);
    destroy(pf, !forked);
}

const char *pfeed_error(struct pfeed *pf)
{
    return pf ? pf->error.text : attach_error.text;
}
