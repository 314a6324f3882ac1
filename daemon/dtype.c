/* SPDX-License-Identifier: MIT */
/* See dtype.h. Constant tables; any thread. */
#include "dtype.h"

#include <errno.h>
#include <string.h>

const struct dtype_row dtype_table[DTYPES] = {
    [DTYPE_U8] = { "uint8", 1, 1 },     [DTYPE_U16] = { "uint16", 2, 1 },    [DTYPE_U32] = { "uint32", 4, 1 },
    [DTYPE_I32] = { "int32", 4, 0 },    [DTYPE_I64] = { "int64", 8, 0 },     [DTYPE_F16] = { "float16", 2, 2 },
    [DTYPE_BF16] = { "bfloat16", 2, 4 }, [DTYPE_F32] = { "float32", 4, 2 }, [DTYPE_F64] = { "float64", 8, 2 },
};

int dtype_parse(const char *word, enum dtype *out)
{
    for (int d = 0; d < DTYPES; d++)
        if (strcmp(word, dtype_table[d].name) == 0) {
            *out = (enum dtype)d;
            return 0;
        }
    return -EINVAL;
}
