/* SPDX-License-Identifier: MIT */
/* See jpeg_memory.h. The calls are those of libjpeg.txt, "Memory management"; errors leave by libjpeg's error_exit. */
#include "decode/jpeg_memory.h"

#include <string.h>

#include <jerror.h>

/* A picture's coefficients, kept whole: there is no backing store to swap them to. libjpeg only knows that these exist. */
struct jvirt_barray_control {
    JBLOCKARRAY rows;
    JDIMENSION n_rows;
};

static _Noreturn void no_memory(j_common_ptr jpeg, int where)
{
    ERREXIT1(jpeg, JERR_OUT_OF_MEMORY, where);
    __builtin_unreachable();
}

static struct jpeg_memory *memory_of(j_common_ptr jpeg)
{
    return (struct jpeg_memory *)jpeg->mem;
}

static size_t aligned(size_t size)
{
    return (size + JPEG_MEMORY_ALIGN - 1) / JPEG_MEMORY_ALIGN * JPEG_MEMORY_ALIGN;
}

static void *take(j_common_ptr jpeg, int pool, size_t size)
{
    struct jpeg_memory *memory = memory_of(jpeg);
    struct jpeg_memory_area *area = pool == JPOOL_PERMANENT ? &memory->permanent : &memory->picture;
    uint8_t *at = area->base + area->used;

    if (size > area->size || aligned(size) > area->size - area->used)
        no_memory(jpeg, pool);
    area->used += aligned(size);
    return at;
}

/* n rows of `bytes` each, and the pointers to them. */
static void *take_rows(j_common_ptr jpeg, int pool, size_t bytes, JDIMENSION n)
{
    const size_t pitch = aligned(bytes);
    void **rows = take(jpeg, pool, n * sizeof *rows);
    uint8_t *first;

    if (n && pitch > SIZE_MAX / n)
        no_memory(jpeg, pool);
    first = take(jpeg, pool, pitch * n);
    for (JDIMENSION i = 0; i < n; i++)
        rows[i] = first + i * pitch;
    return rows;
}

static JSAMPARRAY take_samples(j_common_ptr jpeg, int pool, JDIMENSION samples, JDIMENSION n)
{
    return take_rows(jpeg, pool, samples * sizeof(JSAMPLE), n);
}

static JBLOCKARRAY take_blocks(j_common_ptr jpeg, int pool, JDIMENSION blocks, JDIMENSION n)
{
    return take_rows(jpeg, pool, blocks * sizeof(JBLOCK), n);
}

/* Only for colour maps of two passes, which nobody asks for here. */
static jvirt_sarray_ptr request_samples(j_common_ptr jpeg, int pool, boolean zeroed, JDIMENSION samples, JDIMENSION n,
                                        JDIMENSION most)
{
    (void)zeroed;
    (void)samples;
    (void)n;
    (void)most;
    no_memory(jpeg, pool);
}

static JSAMPARRAY access_samples(j_common_ptr jpeg, jvirt_sarray_ptr array, JDIMENSION first, JDIMENSION n, boolean writes)
{
    (void)array;
    (void)first;
    (void)n;
    (void)writes;
    no_memory(jpeg, JPOOL_IMAGE);
}

/* Made at once, and always zeroed: what the last picture left there is nobody's business. */
static jvirt_barray_ptr request_blocks(j_common_ptr jpeg, int pool, boolean zeroed, JDIMENSION blocks, JDIMENSION n,
                                       JDIMENSION most)
{
    struct jvirt_barray_control *array = take(jpeg, pool, sizeof *array);

    (void)zeroed;
    (void)most;
    array->rows = take_blocks(jpeg, pool, blocks, n);
    array->n_rows = n;
    for (JDIMENSION i = 0; i < n; i++)
        memset(array->rows[i], 0, blocks * sizeof(JBLOCK));
    return array;
}

static JBLOCKARRAY access_blocks(j_common_ptr jpeg, jvirt_barray_ptr array, JDIMENSION first, JDIMENSION n, boolean writes)
{
    (void)writes;
    if (first > array->n_rows || n > array->n_rows - first)
        ERREXIT(jpeg, JERR_BAD_VIRTUAL_ACCESS);
    return array->rows + first;
}

static void realize(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void give_up(j_common_ptr jpeg, int pool)
{
    struct jpeg_memory *memory = memory_of(jpeg);

    if (pool == JPOOL_IMAGE)
        memory->picture.used = 0;
}

static void self_destruct(j_common_ptr jpeg)
{
    jpeg->mem = memory_of(jpeg)->first;
    jpeg->mem->self_destruct(jpeg);
}

static void take_over(struct jpeg_memory *memory, struct jpeg_decompress_struct *jpeg)
{
    memory->first = jpeg->mem;
    memory->permanent = (struct jpeg_memory_area){ .base = memory->kept, .size = sizeof memory->kept };
    memory->calls = (struct jpeg_memory_mgr){
        .alloc_small = take,
        .alloc_large = take,
        .alloc_sarray = take_samples,
        .alloc_barray = take_blocks,
        .request_virt_sarray = request_samples,
        .request_virt_barray = request_blocks,
        .realize_virt_arrays = realize,
        .access_virt_sarray = access_samples,
        .access_virt_barray = access_blocks,
        .free_pool = give_up,
        .self_destruct = self_destruct,
    };
    jpeg->mem = &memory->calls;
}

void jpeg_memory_use(struct jpeg_memory *memory, struct jpeg_decompress_struct *jpeg, void *base, size_t size)
{
    if (!memory->first)
        take_over(memory, jpeg);
    memory->picture = (struct jpeg_memory_area){ .base = base, .size = size };
    memory->calls.max_memory_to_use = memory->calls.max_alloc_chunk = (long)size;
}
