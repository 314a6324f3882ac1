/* SPDX-License-Identifier: MIT */
/* The element types of a field: name, size and DLPack code. Used by config, decode and the arena's field table. */
#ifndef PFEED_DTYPE_H
#define PFEED_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_U8, DTYPE_U16, DTYPE_U32, DTYPE_I32, DTYPE_I64, DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_F64, DTYPES };

struct dtype_row {
    const char *name; /* as written in the configuration: "float16" */
    uint32_t size;    /* bytes */
    uint8_t code;     /* DLPack: 0 int, 1 uint, 2 float, 4 bfloat */
};

extern const struct dtype_row dtype_table[DTYPES];

int dtype_parse(const char *word, enum dtype *out); /* 0 or -EINVAL */

#endif
