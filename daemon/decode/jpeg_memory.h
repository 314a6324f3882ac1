/* SPDX-License-Identifier: MIT */
/* libjpeg's memory manager over memory that the caller made: nothing is allocated while pictures are decoded, and a picture
 * cannot take more than there is. Used by decode/jpeg.c only, on workers; libjpeg calls the rest through jpeg->mem.
 *
 *     jpeg_create_decompress(&jpeg);
 *     jpeg_memory_use(&memory, &jpeg, base, size);   before each picture
 *
 * What libjpeg keeps from picture to picture (tables, its source) is in `kept`; what belongs to one picture is taken from base
 * from its start on and all given up at once. Too little is libjpeg's own error JERR_OUT_OF_MEMORY. */
#ifndef PFEED_DECODE_JPEG_MEMORY_H
#define PFEED_DECODE_JPEG_MEMORY_H

#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>

#define JPEG_MEMORY_ALIGN 64          /* libjpeg-turbo's vector code asks for 32 and reads up to 64 past a row's end */
#define JPEG_MEMORY_KEPT  (16u << 10) /* eight Huffman and four quantisation tables, and the source, take 3 KiB */

struct jpeg_memory_area {
    uint8_t *base;
    size_t size, used;
};

struct jpeg_memory {
    struct jpeg_memory_mgr calls;  /* first: libjpeg hands us this */
    struct jpeg_memory_mgr *first; /* libjpeg's own, which holds what jpeg_create_decompress took */
    struct jpeg_memory_area picture, permanent;
    uint8_t kept[JPEG_MEMORY_KEPT] __attribute__((aligned(JPEG_MEMORY_ALIGN)));
};

/* memory is zero before the first call, and stays with jpeg. Nothing of a picture may be in use. */
void jpeg_memory_use(struct jpeg_memory *memory, struct jpeg_decompress_struct *jpeg, void *base, size_t size);

#endif
