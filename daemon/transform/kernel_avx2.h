/* SPDX-License-Identifier: MIT */
/* What the variants with AVX-512 take over from the one with AVX2. */
#ifndef PFEED_TRANSFORM_KERNEL_AVX2_H
#define PFEED_TRANSFORM_KERNEL_AVX2_H

#include "transform/kernel_ops.h"

size_t kernel_avx2_table_bytes(uint32_t n);
void kernel_avx2_prepare(const struct kernel_taps *taps);
void kernel_avx2_across(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2]);
/* Of any number of taps and any distance between results; needs no table. */
void kernel_avx2_across_wide(const struct kernel_taps *taps, const uint8_t *const rows[KERNEL_BLOCK], uint32_t *const pairs[2]);

#endif
