/* SPDX-License-Identifier: MIT */
/* One attachment's segments: checked and mapped when the daemon has answered, unmapped when nothing of them is held. Called by
 * attach.c and reconnect.c, and by batch.c for what comes back late. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* Maps a descriptor and checks its head. Trainers must not fork it along: their children could never give it back. */
static int map_segment(int fd, uint64_t size, uint32_t kind, int protection, void **out, struct sentence *why)
{
    struct stat status;
    const struct pf_head *head;
    void *map;

    if (fstat(fd, &status) != 0 || (uint64_t)status.st_size < size)
        return sentence_set(why, -EPROTO, "pfeedd sent a segment that is smaller than it says");
    map = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return sentence_set(why, -errno, "cannot map %llu bytes of shared memory: %s", (unsigned long long)size, strerror(errno));
    madvise(map, size, MADV_DONTFORK);
    head = map;
    if (head->magic != PF_MAGIC || head->version != PF_VERSION || head->kind != kind || (head->incompat & ~PF_INCOMPAT_KNOWN)) {
        sentence_set(why, -EPROTO,
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

static void set_strides(struct mapped *mapped)
{
    for (uint32_t i = 0; i < mapped->n_fields; i++) {
        const struct pf_field *field = &mapped->fields[i];
        int64_t elements = 1;

        for (int32_t d = (int32_t)field->ndim; d >= 0; d--) {
            mapped->strides[i][d] = elements;
            elements *= d > 0 ? field->shape[d - 1] : 1;
        }
    }
}

static int map_arena(struct mapped *mapped, const struct pf_ctl_attached *reply, int fd, struct sentence *why)
{
    void *map;
    int rc = map_segment(fd, reply->arena_size, PF_ARENA, PROT_READ, &map, why);

    if (rc < 0)
        return rc;
    mapped->arena = map;
    mapped->arena_size = reply->arena_size;
    mapped->info = map;
    if (!arena_sound(mapped->info, mapped->arena_size))
        return sentence_set(why, -EPROTO, "pfeedd's arena is not sound");
    mapped->n_fields = mapped->info->n_fields;
    /* A copy: names and shapes outlive the map. */
    memcpy(mapped->fields, mapped->arena + mapped->info->fields_offset, mapped->n_fields * sizeof(struct pf_field));
    for (uint32_t i = 0; i < mapped->n_fields; i++)
        if (mapped->fields[i].ndim > PF_DIMS || !memchr(mapped->fields[i].name, 0, PF_NAME))
            return sentence_set(why, -EPROTO, "pfeedd's arena has a field that is not sound");
    set_strides(mapped);
    return 0;
}

static int map_pages(struct lane *lane, const int *fds, struct sentence *why)
{
    void *map;
    int rc;

    rc = map_segment(fds[PF_FD_GRANT], sizeof(struct pf_grant_page), PF_GRANT_PAGE, PROT_READ, &map, why);
    if (rc < 0)
        return rc;
    lane->grants = map;
    rc = map_segment(fds[PF_FD_RETURN], sizeof(struct pf_return_page), PF_RETURN_PAGE, PROT_READ | PROT_WRITE, &map, why);
    if (rc < 0)
        return rc;
    lane->returns = map;
    return 0;
}

int lane_make(struct lane *lane, struct mapped **mapped, struct lane_answer *answer, int size, const char *feed,
              struct sentence *why)
{
    const struct pf_ctl_attached *reply = &answer->attached;
    struct lane made = { .socket = -1, .event = answer->fds[PF_FD_EVENT], .since_ns = ctlsock_now_ns() };
    struct mapped *new = NULL;
    int rc;

    if (size < (int)sizeof(*reply) || reply->head.type != PF_CTL_ATTACHED || reply->max_held == 0 || reply->max_held > PF_RING ||
        made.event < 0 || answer->fds[PF_FD_RETURN] < 0)
        rc = sentence_set(why, -EPROTO, "pfeedd's answer to the attach is not sound");
    else if (!(new = calloc(1, sizeof(*new))))
        rc = sentence_set(why, -ENOMEM, "no memory for a handle");
    else if ((rc = map_arena(new, reply, answer->fds[PF_FD_ARENA], why)) == 0)
        rc = map_pages(&made, answer->fds, why);
    /* The maps keep the memory; a descriptor would keep it for longer than they do. */
    for (int i = PF_FD_ARENA; i <= PF_FD_RETURN; i++)
        if (answer->fds[i] >= 0)
            close(answer->fds[i]);
    if (rc < 0) {
        lane_fini(&made, true);
        mapped_destroy(new, true);
        return rc;
    }
    made.spin_ns = reply->spin_ns;
    new->steps = reply->steps;
    new->token = (struct pf_token){
        .seed = reply->seed, .world_batch = reply->world_batch, .samples = reply->samples, .prints = reply->prints
    };
    memcpy(new->token.feed, feed, strlen(feed) + 1);
    *lane = made;
    *mapped = new;
    return 0;
}

static void mapped_drop(struct pfeed *pf, struct mapped *mapped)
{
    struct mapped **at = &pf->mapped;

    while (*at != mapped)
        at = &(*at)->older;
    *at = mapped->older;
    mapped_destroy(mapped, true);
}

void lane_install(struct pfeed *pf, const struct lane *lane, struct mapped *mapped)
{
    struct mapped *before = pf->mapped;

    for (uint32_t i = 0; i < pf->n_batches; i++)
        if (!pf->batches[i].held)
            pf->batches[i].mapped = NULL;
    pf->lane = *lane;
    mapped->older = before;
    pf->mapped = mapped;
    if (before && before->n_held == 0)
        mapped_drop(pf, before);
}

void lane_end(struct pfeed *pf)
{
    struct mapped *mapped = pf->mapped;

    pf->kept = false;
    mapped->ended = true;
    for (uint32_t i = 0; i < pf->n_batches; i++)
        mapped->n_held += pf->batches[i].held && pf->batches[i].mapped == mapped;
    if (mapped->n_held == 0)
        mapped_unmap(mapped);
    lane_fini(&pf->lane, true);
}

/* A fork beside this must rather leave a descriptor open than close one that has another's number. */
static void close_own(int *fd)
{
    int own = *fd;

    *fd = -1;
    if (own >= 0)
        close(own);
}

void lane_fini(struct lane *lane, bool maps)
{
    if (maps && lane->returns)
        munmap(lane->returns, sizeof(*lane->returns));
    if (maps && lane->grants)
        munmap((void *)lane->grants, sizeof(*lane->grants));
    lane->returns = NULL;
    lane->grants = NULL;
    lane->unanswered = 0;
    close_own(&lane->socket);
    close_own(&lane->event);
}

void mapped_unmap(struct mapped *mapped)
{
    if (mapped->arena)
        munmap((void *)mapped->arena, mapped->arena_size);
    mapped->arena = NULL;
    mapped->info = NULL;
}

void mapped_destroy(struct mapped *mapped, bool maps)
{
    if (mapped && maps)
        mapped_unmap(mapped);
    free(mapped);
}

void mapped_returned(struct pfeed *pf, struct pfeed_batch *batch)
{
    struct mapped *mapped = batch->mapped;

    batch->mapped = NULL;
    if (--mapped->n_held > 0)
        return;
    if (mapped == pf->mapped)
        mapped_unmap(mapped);
    else
        mapped_drop(pf, mapped);
}

void mapped_describe(struct mapped *mapped, struct pfeed_batch *batch)
{
    for (uint32_t i = 0; i < mapped->n_fields; i++) {
        const struct pf_field *field = &mapped->fields[i];

        memcpy(batch->shapes[i] + 1, field->shape, sizeof(field->shape));
        batch->tensors[i] = (struct pfeed_tensor){
            .size = sizeof(struct pfeed_tensor),
            .name = field->name,
            .dtype = { field->dtype_code, field->dtype_bits, field->dtype_lanes },
            .ndim = field->ndim + 1,
            .shape = batch->shapes[i],
            .strides = mapped->strides[i],
            .device_type = 1,
        };
    }
    batch->mapped = mapped;
}
