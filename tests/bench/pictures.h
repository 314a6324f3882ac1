/* SPDX-License-Identifier: MIT */
/*
 * The daemon's work on pictures, without the daemon: the same configuration is read by the daemon's own code, and rows of the
 * same epochs are decoded in this process, either only their crops (libjpeg-turbo by decode/jpeg.h, no resize: the bare loop)
 * or wholly (decode/image.c into memory that lies as the slots do). Files are in memory. Crops are planned beforehand.
 */
#ifndef PICTURES_H
#define PICTURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct pictures;

/* How many a daemon finds in a folder; a daemon of its own is asked. */
uint32_t pictures_in(const char *path);
/* A feed of DESIGN section 12's recipe, as YAML; `cache:` is $PFEED_BENCH_CACHE, such as { decoded: 1GiB }. */
void pictures_feed(char *yaml, size_t size, const char *name, const char *path, uint32_t batch, uint32_t slots, uint32_t gang);

/* config: a file whose first feed has one field of pictures; epochs: that are to be planned, from 0; slots: to write into. */
struct pictures *pictures_open(const char *config, uint32_t epochs, uint32_t slots);
uint64_t pictures_count(const struct pictures *pictures); /* of an epoch */
size_t pictures_row_bytes(const struct pictures *pictures);
double pictures_pixels(const struct pictures *pictures); /* decoded for a crop, on average */
/* A line a row, in the order of the epochs: x, y, width, height of the crop, whether it is flipped, path in the folder. */
void pictures_list(const struct pictures *pictures, uint32_t epochs, FILE *file);

/* The crops of all rows of these epochs, by so many threads; each its own decoder. Returns the CPU time of them together. */
int64_t pictures_decode(struct pictures *pictures, uint32_t epoch, uint32_t epochs, uint32_t threads);
/* The crops of these epochs decoded into memory; and from there into rows, by this thread: the kernel alone. */
void pictures_keep(struct pictures *pictures, uint32_t epoch, uint32_t epochs);
int64_t pictures_scale(struct pictures *pictures, uint32_t epoch, uint32_t epochs);
/* The rows themselves, by this thread; read: each file anew, by the daemon's source. Returns its CPU time. */
int64_t pictures_make(struct pictures *pictures, uint32_t epoch, uint32_t epochs, bool read);
/* Row `position` of an epoch, for comparison. */
const void *pictures_row(struct pictures *pictures, uint32_t epoch, uint64_t position);

#endif
