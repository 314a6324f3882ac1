/* SPDX-License-Identifier: MIT */
/* See arena.h. */
#include "arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TRIES 16

/* n things of size bytes lie within limit from offset on. */
static bool within(uint64_t offset, uint64_t n, uint64_t size, uint64_t limit)
{
    uint64_t bytes;

    return !__builtin_mul_overflow(n, size, &bytes) && offset <= limit && limit - offset >= bytes;
}

static bool info_sound(const struct pf_arena *info, uint64_t size)
{
    return info->n_slots >= 1 && info->n_slots <= PF_SLOTS_MAX && info->n_fields <= PF_FIELDS && info->batch >= 1 &&
           info->slot_bytes >= 1 && within(info->fields_offset, info->n_fields, sizeof(struct pf_field), size) &&
           within(info->table_offset, info->n_slots, sizeof(struct pf_slot), size) &&
           info->table_offset % _Alignof(struct pf_slot) == 0 &&
           within(info->slots_offset, info->n_slots, info->slot_bytes, size) &&
           within(info->ids_offset, info->batch, sizeof(uint64_t), info->slot_bytes) &&
           within(info->used_ids_offset, info->batch, sizeof(uint64_t), info->slot_bytes) &&
           within(info->flags_offset, info->batch, 1, info->slot_bytes);
}

static bool field_sound(const struct pf_field *field, const struct pf_arena *info)
{
    uint64_t bytes = field->dtype_bits / 8;

    if (!memchr(field->name, 0, sizeof(field->name)) || field->ndim > PF_DIMS)
        return false;
    for (uint32_t d = 0; d < field->ndim; d++)
        if (field->shape[d] < 0 || __builtin_mul_overflow(bytes, (uint64_t)field->shape[d], &bytes))
            return false;
    return bytes == field->row_bytes && within(field->offset, info->batch, field->row_bytes, info->slot_bytes);
}

static int check(struct arena *arena, struct sentence *why)
{
    const struct pf_head *head = &arena->info.head;

    memcpy(&arena->info, arena->base, sizeof(arena->info));
    if (head->magic != PF_MAGIC || head->kind != PF_ARENA || head->version != PF_VERSION || (head->incompat & ~PF_INCOMPAT_KNOWN))
        return sentence_set(why, -EPROTO,
                            "the arena has layout %u (features 0x%x), pfeedctl knows layout %u (features 0x%x); use the "
                            "same version on both sides",
                            head->version, head->incompat, PF_VERSION, PF_INCOMPAT_KNOWN);
    if (head->size > arena->size || !info_sound(&arena->info, arena->size))
        return sentence_set(why, -EPROTO, "the arena that pfeedd sent is not sound");
    memcpy(arena->fields, arena->base + arena->info.fields_offset, arena->info.n_fields * sizeof(struct pf_field));
    for (uint32_t i = 0; i < arena->info.n_fields; i++)
        if (!field_sound(&arena->fields[i], &arena->info))
            return sentence_set(why, -EPROTO, "field %u of the arena that pfeedd sent is not sound", i);
    return 0;
}

int arena_map(int fd, struct arena *out, struct sentence *why)
{
    struct arena arena = { 0 };
    struct stat status;
    void *map;
    int rc;

    if (fstat(fd, &status) != 0 || status.st_size < (off_t)sizeof(struct pf_arena))
        return sentence_set(why, -EPROTO, "pfeedd sent a segment that is too small to be an arena");
    arena.size = (size_t)status.st_size;
    map = mmap(NULL, arena.size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return sentence_set(why, -errno, "cannot map the arena's %zu bytes: %s", arena.size, strerror(errno));
    arena.base = map;
    rc = check(&arena, why);
    if (rc < 0) {
        arena_unmap(&arena);
        return rc;
    }
    *out = arena;
    return 0;
}

void arena_unmap(struct arena *arena)
{
    if (arena->base)
        munmap((void *)arena->base, arena->size);
    arena->base = NULL;
}

static void copy(const struct arena *arena, const struct pf_slot *entry, const struct pf_field *field, void *to,
                 struct arena_row *row)
{
    const uint8_t *bytes = arena->base + arena->info.slots_offset + row->slot * arena->info.slot_bytes;

    row->epoch = __atomic_load_n(&entry->epoch, __ATOMIC_RELAXED);
    row->index = __atomic_load_n(&entry->index, __ATOMIC_RELAXED);
    row->seed = __atomic_load_n(&entry->seed, __ATOMIC_RELAXED);
    memcpy(&row->id, bytes + arena->info.ids_offset + row->row * sizeof(uint64_t), sizeof(uint64_t));
    memcpy(&row->used_id, bytes + arena->info.used_ids_offset + row->row * sizeof(uint64_t), sizeof(uint64_t));
    row->flags = bytes[arena->info.flags_offset + row->row];
    memcpy(to, bytes + field->offset + row->row * field->row_bytes, field->row_bytes);
}

int arena_copy(const struct arena *arena, uint32_t slot, uint32_t row, const struct pf_field *field, void *to,
               struct arena_row *out)
{
    const struct pf_slot *entry = (const struct pf_slot *)(arena->base + arena->info.table_offset) + slot;

    if (slot >= arena->info.n_slots || row >= arena->info.batch)
        return 0;
    for (int i = 0; i < TRIES; i++) {
        /* The sequence is loaded before the state and the rows. */
        uint64_t sequence = __atomic_load_n(&entry->sequence, __ATOMIC_ACQUIRE);

        if (sequence & 1 || __atomic_load_n(&entry->state, __ATOMIC_RELAXED) != PF_SLOT_READY)
            return 0;
        *out = (struct arena_row){ .slot = slot, .row = row };
        copy(arena, entry, field, to, out);
        /* The rows are loaded before the sequence is loaded again. */
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&entry->sequence, __ATOMIC_RELAXED) == sequence)
            return !(out->flags & PF_ROW_UNFILLED);
    }
    return 0;
}
