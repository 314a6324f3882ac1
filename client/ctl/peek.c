/* SPDX-License-Identifier: MIT */
/* `pfeedctl peek`: what a trainer gets, for the eye. Looks into the arena without taking part; only where no slot is ready does
 * it attach for one batch, as a job of its own. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "internal.h"
#include "pfeedctl.h"
#include "picture.h"
#include "text.h"

#define ATTACH_MS 15000

struct peek {
    struct arena arena;
    const struct pf_field *field;
    void *bytes; /* of the row */
    struct arena_row row;
    bool attached; /* there was nothing to look at, so that it asked for a batch */
};

/* ---- the field ------------------------------------------------------------------------------------------------------ */

static int no_picture(struct ctl *ctl, const struct peek *peek, const char *what)
{
    char list[700] = "";
    size_t at = 0;

    for (uint32_t i = 0; i < peek->arena.info.n_fields && at < sizeof(list) - 1; i++) {
        char text[120];
        int n;

        picture_describe(&peek->arena.fields[i], text, sizeof(text));
        n = snprintf(list + at, sizeof(list) - at, "%s%s", i ? "; " : "", text);
        at += (size_t)n;
    }
    sentence_set(&ctl->why, 0, "feed '%.64s' %.120s; its fields: %s", ctl->feed, what, *list ? list : "none");
    return CTL_PROBLEM;
}

static int choose_field(struct ctl *ctl, struct peek *peek)
{
    char what[100];

    for (uint32_t i = 0; i < peek->arena.info.n_fields; i++) {
        const struct pf_field *field = &peek->arena.fields[i];

        if (ctl->field ? strcmp(field->name, ctl->field) != 0 : !picture_fits(field))
            continue;
        if (!picture_fits(field)) {
            snprintf(what, sizeof(what), "has no picture in field '%.31s'", field->name);
            return no_picture(ctl, peek, what);
        }
        peek->field = field;
        return CTL_FINE;
    }
    if (!ctl->field)
        return no_picture(ctl, peek, "has no picture field");
    snprintf(what, sizeof(what), "has no field '%.50s'", ctl->field);
    return no_picture(ctl, peek, what);
}

/* ---- the row -------------------------------------------------------------------------------------------------------- */

static int by_age(const void *a, const void *b)
{
    uint64_t x = ((const struct pf_row_slot *)a)->since_ns, y = ((const struct pf_row_slot *)b)->since_ns;

    return x < y ? -1 : x > y;
}

/* 1 copied, 0 there is no such row; or -errno. The daemon knows which slot is the latest, the arena whether it still is there. */
static int look_in(struct ctl *ctl, struct peek *peek)
{
    struct stat_rows rows;
    int rc = stat_query(ctl->fd, PF_STAT_SLOTS, ctl->feed, sizeof(struct pf_row_slot), ctl_deadline(), &rows, &ctl->why);

    if (rc < 0)
        return rc;
    if (rows.count > 0)
        qsort(rows.rows, rows.count, sizeof(struct pf_row_slot), by_age);
    for (size_t i = 0; rc == 0 && i < rows.count; i++) {
        const struct pf_row_slot *slot = (const struct pf_row_slot *)rows.rows + i;

        if (slot->state == PF_SLOT_READY)
            rc = arena_copy(&peek->arena, slot->slot, ctl->row, peek->field, peek->bytes, &peek->row);
    }
    stat_rows_fini(&rows);
    return rc;
}

static int copy_batch(struct ctl *ctl, struct peek *peek, const struct pfeed_batch *batch)
{
    const struct pfeed_tensor *tensor = pfeed_tensor(batch, peek->field->name);
    const struct pfeed_info *info = pfeed_info(batch);

    if (ctl->row >= info->rows) {
        sentence_set(&ctl->why, 0, "row %u is not in the batch that was granted, which has %u rows", ctl->row, info->rows);
        return CTL_PROBLEM;
    }
    if (!tensor || tensor->dtype.bits != peek->field->dtype_bits) {
        sentence_set(&ctl->why, 0, "the feed's fields have changed meanwhile; look again");
        return CTL_PROBLEM;
    }
    memcpy(peek->bytes, (const uint8_t *)tensor->data + ctl->row * peek->field->row_bytes, peek->field->row_bytes);
    peek->attached = true;
    peek->row = (struct arena_row){ .slot = UINT32_MAX,
                                    .row = ctl->row,
                                    .id = info->ids[ctl->row],
                                    .used_id = info->used_ids[ctl->row],
                                    .epoch = info->epoch,
                                    .index = info->step,
                                    .flags = info->flags[ctl->row] };
    return CTL_FINE;
}

static int attach(struct ctl *ctl, struct peek *peek)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = ctl->socket, .feed = ctl->feed, .max_held = 1 };
    struct pfeed_batch *batch = NULL;
    struct pfeed *pf;
    int rc;

    rc = pfeed_open_flags(&pf, &options, PF_ATTACH_PEEK);
    if (rc < 0) {
        sentence_set(&ctl->why, 0, "no slot of '%.64s' is ready, and attaching for one batch failed: %.800s", ctl->feed,
                     pfeed_error(NULL));
        return rc == -EPIPE ? CTL_NO_DAEMON : CTL_PROBLEM;
    }
    rc = pfeed_next(pf, &batch, ATTACH_MS);
    if (rc == 0) {
        rc = copy_batch(ctl, peek, batch);
        pfeed_done(pf, batch);
    } else {
        sentence_set(&ctl->why, 0, "no slot of '%.64s' is ready, and attached for one batch: %.800s", ctl->feed,
                     rc < 0 ? pfeed_error(pf) : "the feed has none");
        rc = rc == -EPIPE ? CTL_NO_DAEMON : CTL_PROBLEM;
    }
    pfeed_close(pf);
    return rc;
}

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static const struct {
    uint8_t bit;
    const char *name;
} flags[] = { { PF_ROW_PADDED, "padded" }, { PF_ROW_REPLACED, "replaced" }, { PF_ROW_MASKED, "masked" } };

static void tell(struct ctl *ctl, const struct peek *peek)
{
    FILE *out = strcmp(ctl->out_path, "-") == 0 ? stderr : ctl->view.out;
    const struct arena_row *row = &peek->row;
    char field[160], path[300];

    picture_describe(peek->field, field, sizeof(field));
    text_clean(path, sizeof(path), ctl->out_path, strlen(ctl->out_path));
    fprintf(out, "sample %" PRIu64, row->id);
    if (row->used_id != row->id)
        fprintf(out, " (in its place: sample %" PRIu64 ")", row->used_id);
    fprintf(out, ", epoch %" PRIu64, row->epoch);
    if (peek->attached)
        fprintf(out, ", row %u of step %" PRIu64 " (attached for it)", row->row, row->index);
    else
        fprintf(out, ", row %u of batch %" PRIu64 " in slot %u, seed %" PRIu64, row->row, row->index, row->slot, row->seed);
    fputs(", flags:", out);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (row->flags & flags[i].bit)
            fprintf(out, " %s", flags[i].name);
    fprintf(out, "%s\n%s -> %s\n", row->flags ? "" : " none", field, path);
}

static void tell_field(struct json *json, const struct pf_field *field)
{
    char dtype[24];

    picture_dtype(field, dtype, sizeof(dtype));
    json_key(json, "field");
    json_open(json, '{');
    json_key(json, "name");
    json_text(json, field->name, sizeof(field->name));
    json_key(json, "dtype");
    json_text(json, dtype, sizeof(dtype));
    json_key(json, "layout");
    json_text(json, field->layout == PF_LAYOUT_CHW ? "chw" : "hwc", 3);
    json_key(json, "shape");
    json_open(json, '[');
    for (uint32_t d = 0; d < field->ndim; d++)
        json_i64(json, field->shape[d]);
    json_close(json, ']');
    json_close(json, '}');
}

static void tell_json(struct ctl *ctl, const struct peek *peek)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        { "row", peek->row.row },
        { "id", peek->row.id },
        { "used_id", peek->row.used_id },
        { "epoch", peek->row.epoch },
        { peek->attached ? "step" : "index", peek->row.index },
    };
    struct json *json = &ctl->json;

    json_key(json, "feed");
    json_text(json, ctl->feed, SIZE_MAX);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        json_key(json, numbers[i].key);
        json_u64(json, numbers[i].value);
    }
    if (!peek->attached) {
        json_key(json, "slot");
        json_u64(json, peek->row.slot);
        json_key(json, "seed");
        json_u64(json, peek->row.seed);
    }
    json_key(json, "attached");
    json_bool(json, peek->attached);
    json_key(json, "flags");
    json_open(json, '[');
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (peek->row.flags & flags[i].bit)
            json_text(json, flags[i].name, SIZE_MAX);
    json_close(json, ']');
    tell_field(json, peek->field);
    json_key(json, "out");
    json_text(json, ctl->out_path, SIZE_MAX);
}

static int write_out(struct ctl *ctl, const struct picture *picture)
{
    bool standard = strcmp(ctl->out_path, "-") == 0;
    FILE *out = standard ? stdout : fopen(ctl->out_path, "wbe");
    int rc = out ? picture_write(picture, out) : -errno;

    if (out && !standard && fclose(out) != 0 && rc == 0)
        rc = -errno;
    if (rc < 0) {
        sentence_set(&ctl->why, 0, "cannot write '%.300s': %s", ctl->out_path, strerror(-rc));
        return CTL_PROBLEM;
    }
    return CTL_FINE;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------- */

static int get_row(struct ctl *ctl, struct peek *peek)
{
    int rc = choose_field(ctl, peek);

    if (rc != CTL_FINE)
        return rc;
    if (ctl->row >= peek->arena.info.batch) {
        sentence_set(&ctl->why, 0, "there is no row %u: batches of '%.64s' have rows 0 to %u", ctl->row, ctl->feed,
                     peek->arena.info.batch - 1);
        return CTL_USAGE;
    }
    peek->bytes = malloc(peek->field->row_bytes);
    if (!peek->bytes) {
        sentence_set(&ctl->why, 0, "no memory for a row of %" PRIu64 " bytes", peek->field->row_bytes);
        return CTL_PROBLEM;
    }
    rc = look_in(ctl, peek);
    if (rc < 0)
        return ctl_failed(rc);
    return rc == 1 ? CTL_FINE : attach(ctl, peek);
}

static int show_row(struct ctl *ctl, const struct peek *peek)
{
    struct picture picture;
    int rc;

    if (picture_make(peek->field, peek->bytes, &picture) < 0) {
        sentence_set(&ctl->why, 0, "no memory for the picture");
        return CTL_PROBLEM;
    }
    rc = write_out(ctl, &picture);
    picture_fini(&picture);
    if (rc == CTL_FINE && ctl_gave(ctl, OPTION_JSON))
        tell_json(ctl, peek);
    else if (rc == CTL_FINE)
        tell(ctl, peek);
    return rc;
}

int verb_peek(struct ctl *ctl)
{
    struct peek peek = { 0 };
    int fd, rc;

    fd = stat_peek(ctl->fd, ctl->feed, ctl_deadline(), &ctl->why);
    if (fd < 0)
        return ctl_failed(fd);
    rc = arena_map(fd, &peek.arena, &ctl->why);
    close(fd);
    if (rc < 0)
        return CTL_PROBLEM;
    rc = get_row(ctl, &peek);
    if (rc == CTL_FINE)
        rc = show_row(ctl, &peek);
    free(peek.bytes);
    arena_unmap(&peek.arena);
    return rc;
}
