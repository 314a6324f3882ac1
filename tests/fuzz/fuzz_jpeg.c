/* SPDX-License-Identifier: MIT */
/* Fuzz target: JPEGs. The first byte is for pictures.h; the rest is the file. */
#include "pictures.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        picture_row(data[0], data + 1, size - 1);
    return 0;
}
