/* SPDX-License-Identifier: MIT */
/* See fake_lane.h. */
#include "fake_lane.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TABLE = 4096, SLOTS_AT = 8192, ARENA = SLOTS_AT + FAKE_SLOTS * FAKE_SLOT_BYTES };

static void *make(const char *name, size_t size, uint32_t kind, int *fd)
{
    struct pf_head *head;

    *fd = memfd_create(name, MFD_CLOEXEC);
    CHECK(*fd >= 0 && ftruncate(*fd, (off_t)size) == 0, "%s", strerror(errno));
    head = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    CHECK(head != MAP_FAILED, "%s", strerror(errno));
    *head = (struct pf_head){ .magic = PF_MAGIC, .version = PF_VERSION, .kind = kind, .size = size };
    return head;
}

static void lane_init(struct fake_lane *lane)
{
    struct pf_arena *arena;
    struct pf_field *field;

    lane->arena = make("fake-arena", ARENA, PF_ARENA, &lane->fds[PF_FD_ARENA]);
    lane->grants = make("fake-grants", sizeof(*lane->grants), PF_GRANT_PAGE, &lane->fds[PF_FD_GRANT]);
    lane->returns = make("fake-returns", sizeof(*lane->returns), PF_RETURN_PAGE, &lane->fds[PF_FD_RETURN]);
    lane->fds[PF_FD_EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lane->grants->wake_at = UINT64_MAX;
    lane->grants->started = 1;
    lane->published = 0;
    arena = (struct pf_arena *)lane->arena;
    arena->n_slots = FAKE_SLOTS;
    arena->n_fields = 1;
    arena->batch = FAKE_ROWS;
    arena->fields_offset = 1024;
    arena->table_offset = TABLE;
    arena->slots_offset = SLOTS_AT;
    arena->slot_bytes = FAKE_SLOT_BYTES;
    arena->ids_offset = 1024;
    arena->used_ids_offset = 2048;
    arena->flags_offset = 3072;
    field = (struct pf_field *)(lane->arena + arena->fields_offset);
    strcpy(field->name, "x");
    field->dtype_code = 2;
    field->dtype_bits = 32;
    field->dtype_lanes = 1;
    field->ndim = 1;
    field->shape[0] = 4;
    field->row_bytes = 16;
    lane->reply = (struct pf_ctl_attached){ .consumer = 1,
                                            .arena_size = ARENA,
                                            .samples = 64,
                                            .steps = 8,
                                            .batch = FAKE_ROWS,
                                            .world_batch = 8,
                                            .max_held = 2,
                                            .version = "fake",
                                            .seed = 7,
                                            .prints = { 0xd, 0xe, 0xf } };
}

static void lane_fini(struct fake_lane *lane)
{
    munmap(lane->arena, ARENA);
    munmap(lane->grants, sizeof(*lane->grants));
    munmap(lane->returns, sizeof(*lane->returns));
    for (int i = 0; i < PF_ATTACH_FDS; i++)
        close(lane->fds[i]);
}

/* Of a rank that states its place: there. */
static void serve(struct fake_daemon *daemon, int socket)
{
    struct pf_ctl_attached reply = daemon->lane.reply;
    struct pf_token token;

    if (pf_token_parse(daemon->attach.start, &token) == 0 && reply.epoch == 0 && reply.step == 0) {
        reply.epoch = token.epoch;
        reply.step = token.row / 8;
    }
    fake_send(socket, &reply, PF_CTL_ATTACHED, sizeof(reply), daemon->lane.fds, PF_ATTACH_FDS);
}

static bool answer_attach(struct fake_daemon *daemon, int socket)
{
    daemon->n_attach++;
    if (daemon->refusals > 0) {
        int code = *daemon->codes++;

        daemon->refusals--;
        if (code != 0)
            fake_error(socket, code, "not just now");
        return false;
    }
    switch (daemon->attach_mode) {
    case FAKE_SERVES:
        serve(daemon, socket);
        return true;
    case FAKE_REFUSES:
        fake_error(socket, daemon->code, daemon->text);
        return false;
    case FAKE_IS_SILENT:
        daemon->silent = socket;
        return true;
    case FAKE_HANGS_UP:
        break;
    }
    return false;
}

static bool answer_seek(struct fake_daemon *daemon, int socket)
{
    struct fake_lane *lane = &daemon->lane;
    uint64_t from;

    daemon->n_seek++;
    if (daemon->seek_mode == FAKE_REFUSES)
        fake_error(socket, -EINVAL, "no such place");
    if (daemon->seek_mode == FAKE_SERVES) {
        CHECK(pf_grants_revoke(lane->returns, 0, lane->published, &from) == 0, "taken is not sound");
        fake_send(socket, &daemon->place, PF_CTL_PLACE, sizeof(daemon->place), NULL, 0);
    }
    if (daemon->seek_mode == FAKE_IS_SILENT)
        daemon->silent = socket;
    return daemon->seek_mode != FAKE_HANGS_UP;
}

static bool answer(int socket, const union fake_message *request, void *data)
{
    struct fake_daemon *daemon = data;
    struct pf_ctl_head ok;
    struct pf_ctl_text why = { .text = "waiting for nothing" };
    bool stays = true;

    pthread_mutex_lock(&daemon->lock);
    switch (request->head.type) {
    case PF_CTL_ATTACH:
        daemon->attach = request->attach;
        stays = answer_attach(daemon, socket);
        break;
    case PF_CTL_SEEK:
        daemon->seek = request->seek;
        stays = answer_seek(daemon, socket);
        break;
    case PF_CTL_WHY:
        daemon->n_why++;
        fake_send(socket, &why, PF_CTL_TEXT, sizeof(why), NULL, 0);
        break;
    case PF_CTL_DETACH:
        fake_send(socket, &ok, PF_CTL_OK, sizeof(ok), NULL, 0);
        break;
    }
    pthread_mutex_unlock(&daemon->lock);
    return stays;
}

void fake_daemon_start(struct fake_daemon *daemon)
{
    *daemon = (struct fake_daemon){ .lock = PTHREAD_MUTEX_INITIALIZER };
    lane_init(&daemon->lane);
    fake_start(&daemon->fake, answer, daemon);
}

void fake_daemon_stop(struct fake_daemon *daemon)
{
    fake_stop(&daemon->fake);
    lane_fini(&daemon->lane);
}

void fake_daemon_fall(struct fake_daemon *daemon)
{
    fake_fall(&daemon->fake);
    lane_fini(&daemon->lane);
    lane_init(&daemon->lane);
}

void fake_daemon_rise(struct fake_daemon *daemon)
{
    fake_rise(&daemon->fake);
}

void fake_attaches(struct fake_daemon *daemon, enum fake_mode mode, int code, const char *text)
{
    pthread_mutex_lock(&daemon->lock);
    daemon->attach_mode = mode;
    daemon->code = code;
    daemon->text = text;
    pthread_mutex_unlock(&daemon->lock);
}

void fake_seeks(struct fake_daemon *daemon, enum fake_mode mode, uint64_t epoch, uint64_t step)
{
    pthread_mutex_lock(&daemon->lock);
    daemon->seek_mode = mode;
    daemon->place = (struct pf_ctl_place){ .epoch = epoch, .step = step };
    pthread_mutex_unlock(&daemon->lock);
}

unsigned fake_attached(struct fake_daemon *daemon)
{
    unsigned n;

    pthread_mutex_lock(&daemon->lock);
    n = daemon->n_attach;
    pthread_mutex_unlock(&daemon->lock);
    return n;
}

void fake_serve_late(struct fake_daemon *daemon)
{
    pthread_mutex_lock(&daemon->lock);
    daemon->attach_mode = FAKE_SERVES;
    serve(daemon, daemon->silent);
    pthread_mutex_unlock(&daemon->lock);
}

void fake_grant(struct fake_daemon *daemon, uint64_t epoch, uint64_t step, uint64_t flags)
{
    struct fake_lane *lane = &daemon->lane;
    struct pf_grant grant = {
        .number = lane->published++, .epoch = epoch, .step = step, .rows = FAKE_ROWS, .valid = FAKE_ROWS, .flags = flags
    };
    float *rows;

    grant.slot = (uint32_t)(grant.number % FAKE_SLOTS);
    rows = (float *)(lane->arena + SLOTS_AT + grant.slot * FAKE_SLOT_BYTES);
    for (unsigned i = 0; i < FAKE_ROWS * 4; i++)
        rows[i] = (float)(epoch * 1000 + step);
    pf_grants_publish(lane->grants, &grant);
    pf_grants_ring(lane->grants, lane->returns);
}

uint64_t fake_rung(struct fake_daemon *daemon)
{
    uint64_t n = 0;

    return read(daemon->lane.fds[PF_FD_EVENT], &n, sizeof(n)) == sizeof(n) ? n : 0;
}

struct pfeed *fake_open(struct fake_daemon *daemon, int reconnect_ms, uint32_t flags)
{
    struct pfeed_options options = {
        .size = sizeof(options), .socket = daemon->fake.path, .feed = "try", .reconnect_ms = reconnect_ms, .flags = flags
    };
    struct pfeed *pf = NULL;
    int rc = pfeed_open(&pf, &options);

    CHECK(rc == 0, "%d: %s", rc, pfeed_error(NULL));
    return pf;
}
