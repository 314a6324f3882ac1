/* SPDX-License-Identifier: MIT */
/* A field's list of transforms as one worker carries it out: it draws a plan for each picture, has the kernel make the row, and
 * lets the transforms that need pixels or the finished row have their turn. Used by the decoders of pictures; one chain per worker
 * and field, never shared; checks on the main thread.
 *
 * Where a field's list has a colour transform, the kernel writes whole numbers 0..255, in planes, into the chain's own picture
 * (torchvision has uint8 there, too; loops over planes are what compilers turn into vectors); the colour transforms change that in the order of the list; and one pass normalises, converts
 * and lays it out in the slot. Where it has none, the kernel writes into the slot. */
#ifndef PFEED_TRANSFORM_CHAIN_H
#define PFEED_TRANSFORM_CHAIN_H

#include "transform/kernel.h"

/* Whether the transform may stand here, and its own check. */
int chain_check(const struct transform_use *use, struct plan_size *size, struct problem *why);
/* The same of the whole list, and that rows have one size. */
int chain_check_all(const struct field *field, struct plan_size *size, struct problem *why);

struct chain;

struct chain_shape {
    int32_t width, height;
    enum dtype dtype;
    enum layout layout;
    uint64_t swap_pixels; /* as kernel_create has it */
};

size_t chain_bytes(const struct field *field, const struct chain_shape *shape); /* what create takes */
int chain_create(struct chain **out, const struct field *field, const struct chain_shape *shape);
void chain_destroy(struct chain *chain);

/* Draws for a picture of width x height, upright; stored: the part of it whose rows chain_run wants. *shrink: how far the decoder
 * can shrink it, 1: not; becomes how far it is to, and stored is of the shrunk picture then (shrink.h). */
int chain_plan(struct chain *chain, const struct field *field, const struct row_key *key, int32_t width, int32_t height,
               struct kernel_turn turn, int32_t *shrink, struct rect *stored, struct problem *why);
/* As kernel_run. */
int chain_run(struct chain *chain, int (*next)(void *from, const uint8_t **row, struct problem *why), void *from, void *row,
              struct problem *why);

/* Only the drawing: for tests and tools. */
int chain_draw(const struct field *field, const struct row_key *key, struct plan *plan, struct problem *why);

#endif
