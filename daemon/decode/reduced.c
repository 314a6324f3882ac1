/* SPDX-License-Identifier: MIT */
/* See reduced.h. */
#include "decode/reduced.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* In front of the rows. */
struct head {
    uint16_t width, height;
    uint8_t orientation, components, reserved[10];
};

_Static_assert(sizeof(struct head) == 16, "rows follow it");

struct reducer {
    struct kernel *kernel;
    enum filter filter;
    int32_t side;
};

/* --- reading back --------------------------------------------------------------------------------------------------------- */

static int reduced_orientation(const void *data, size_t size)
{
    (void)size;
    return ((const struct head *)data)->orientation;
}

/* Caches give back what was put into them, or nothing. */
static int reduced_open(void *reader, const struct picture_file *file, struct picture_head *head, struct problem *why)
{
    struct reduced_reader *reduced = reader;
    const struct head *kept = file->data;
    if (file->size < sizeof *kept || kept->width == 0 || kept->height == 0 || kept->orientation < 1 || kept->orientation > 8 ||
        (size_t)kept->width * kept->height * 3 != file->size - sizeof *kept)
        return problem_set(why, -EBADMSG, "a cached picture is damaged");
    *reduced = (struct reduced_reader){
        .next = (const uint8_t *)(kept + 1), .width = kept->width, .height = kept->height, .bytes = (size_t)kept->width * 3
    };
    *head = (struct picture_head){
        .width = kept->width, .height = kept->height, .components = kept->components, .across = 1, .down = 1
    };
    return 0;
}

static int reduced_crop(void *reader, const struct rect *crop, struct problem *why)
{
    struct reduced_reader *reduced = reader;
    if (crop->x < 0 || crop->y < 0 || (size_t)crop->x + (size_t)crop->width > reduced->width ||
        (size_t)crop->y + (size_t)crop->height > reduced->height)
        return problem_set(why, -ERANGE, "the crop does not lie in the picture");
    reduced->next += (size_t)crop->y * reduced->bytes + (size_t)crop->x * 3;
    reduced->left = crop->height;
    return 0;
}

static int reduced_row(void *reader, const uint8_t **row, struct problem *why)
{
    struct reduced_reader *reduced = reader;
    if (reduced->left-- <= 0)
        return problem_set(why, -ERANGE, "the crop has no further row");
    *row = reduced->next;
    reduced->next += reduced->bytes;
    return 0;
}

static void reduced_close(void *reader)
{
    ((struct reduced_reader *)reader)->next = NULL;
}

const struct picture_ops picture_reduced = {
    .name = "reduced picture",
    .orientation = reduced_orientation,
    .open = reduced_open,
    .crop = reduced_crop,
    .row = reduced_row,
    .close = reduced_close,
};

/* --- making ----------------------------------------------------------------------------------------------------------------- */

static int32_t longest(int32_t side)
{
    return REDUCED_LONGEST * side;
}

size_t reduced_most(int32_t side)
{
    return sizeof(struct head) + (size_t)longest(side) * (size_t)side * 3;
}

size_t reducer_bytes(int32_t side)
{
    return sizeof(struct reducer) + kernel_any_bytes(longest(side));
}

int reducer_create(struct reducer **out, int32_t side, enum filter filter)
{
    struct reducer *reducer = calloc(1, sizeof *reducer);
    if (!reducer)
        return -ENOMEM;
    reducer->side = side;
    reducer->filter = filter;
    const int error = kernel_create_any(&reducer->kernel, NULL, longest(side), DTYPE_U8, LAYOUT_HWC);
    if (error) {
        free(reducer);
        return error;
    }
    *out = reducer;
    return 0;
}

void reducer_destroy(struct reducer *reducer)
{
    if (!reducer)
        return;
    kernel_destroy(reducer->kernel);
    free(reducer);
}

bool reducer_takes(const struct picture_head *head)
{
    const int64_t width = head->width, height = head->height;
    return width <= REDUCED_LONGEST * height && height <= REDUCED_LONGEST * width;
}

/* The other side, when the shorter one becomes `side`: to the nearest pixel. */
static int32_t other_side(int32_t length, int32_t shorter, int32_t side)
{
    return (int32_t)(((int64_t)length * side * 2 + shorter) / ((int64_t)shorter * 2));
}

struct source_rows {
    const struct picture_ops *ops;
    void *reader;
};

static int next_row(void *from, const uint8_t **row, struct problem *why)
{
    const struct source_rows *rows = from;
    return rows->ops->row(rows->reader, row, why);
}

int reducer_run(struct reducer *reducer, const struct picture_ops *ops, void *reader, const struct picture_head *head,
                int orientation, void *out, size_t *size, struct problem *why)
{
    const int32_t shorter = head->width < head->height ? head->width : head->height;
    const bool smaller = shorter <= reducer->side;
    const int32_t width = smaller ? head->width : other_side(head->width, shorter, reducer->side);
    const int32_t height = smaller ? head->height : other_side(head->height, shorter, reducer->side);
    struct source_rows rows = { ops, reader };
    struct head *kept = out;
    struct plan plan;
    struct rect stored;
    plan_init(&plan, head->width, head->height);
    plan_resize(&plan, width, height, reducer->filter, true);
    kernel_fit(reducer->kernel, width, height);
    int error = kernel_plan(reducer->kernel, &plan, kernel_turns[1], &stored, why);
    if (!error)
        error = ops->crop(reader, &stored, why);
    if (!error)
        error = kernel_run(reducer->kernel, next_row, &rows, kept + 1, why);
    if (error)
        return error;
    *kept = (struct head){ .width = (uint16_t)width,
                           .height = (uint16_t)height,
                           .orientation = (uint8_t)orientation,
                           .components = (uint8_t)head->components };
    *size = sizeof *kept + (size_t)width * (size_t)height * 3;
    return 0;
}
