/* SPDX-License-Identifier: MIT */
/* See dtype.h. The table is read by the main thread at start (configuration, arena) and by workers (decode); constant. */
#include "dtype.h"

#include <errno.h>
#include <string.h>

enum { DLPACK_INT = 0, DLPACK_UINT = 1, DLPACK_FLOAT = 2, DLPACK_BFLOAT = 4 };

const struct dtype_row dtype_table[DTYPES] = {
    [DTYPE_U8] = { "uint8", 1, DLPACK_UINT },        [DTYPE_U16] = { "uint16", 2, DLPACK_UINT },
    [DTYPE_U32] = { "uint32", 4, DLPACK_UINT },      [DTYPE_I32] = { "int32", 4, DLPACK_INT },
    [DTYPE_I64] = { "int64", 8, DLPACK_INT },        [DTYPE_F16] = { "float16", 2, DLPACK_FLOAT },
    [DTYPE_BF16] = { "bfloat16", 2, DLPACK_BFLOAT }, [DTYPE_F32] = { "float32", 4, DLPACK_FLOAT },
    [DTYPE_F64] = { "float64", 8, DLPACK_FLOAT },
};

int dtype_parse(const char *word, enum dtype *out)
{
    for (int i = 0; i < DTYPES; i++) {
        if (strcmp(word, dtype_table[i].name) == 0) {
            *out = (enum dtype)i;
            return 0;
        }
    }
    return -EINVAL;
}
