/* SPDX-License-Identifier: MIT */
/* float16 and bfloat16 to and from float, rounding to nearest, ties to even: the same bits as F16C and NEON give, without
 * needing either (bits only, no branches, so that compilers vectorise it). Decoders and the kernel, on workers; pure. */
#ifndef PFEED_HALF_H
#define PFEED_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float half_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The choices are masks, not conditions: gcc makes branches of those, and then no vectors. */
static inline uint16_t half_from_float(float value)
{
    const uint32_t bits = half_bits(value), sign = bits >> 16 & 0x8000u, mag = bits & 0x7fffffffu;
    /* rebias the exponent from 127 to 15; a carry out of the mantissa lands where it belongs, also in infinity */
    const uint32_t normal = (mag - (112u << 23) + 0xfffu + (mag >> 13 & 1u)) >> 13;
    /* below 2^-14: adding 0.5 leaves units of 2^-24 in the last place, rounded by the adder itself */
    const uint32_t tiny = half_bits(half_float(mag) + 0.5f) - 0x3f000000u;
    /* signed differences: mag has no sign bit */
    const uint32_t is_tiny = (uint32_t)(((int32_t)mag - (113 << 23)) >> 31);
    const uint32_t is_huge = (uint32_t)(((143 << 23) - 1 - (int32_t)mag) >> 31);
    const uint32_t is_nan = (uint32_t)(((255 << 23) - (int32_t)mag) >> 31);
    const uint32_t huge = 0x7c00u | (is_nan & (0x200u | (mag >> 13 & 0x3ffu)));
    const uint32_t half = (tiny & is_tiny) | (huge & is_huge) | (normal & ~(is_tiny | is_huge));
    return (uint16_t)(sign | half);
}

static inline float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, mag = half & 0x7fffu;
    const uint32_t tiny = half_bits((float)mag * 0x1p-24f); /* exact: at most ten bits */
    const uint32_t normal = (mag << 13) + (112u << 23), huge = mag << 13 | 0x7f800000u;
    return half_float(sign | (mag < 0x400u ? tiny : mag >= 0x7c00u ? huge : normal));
}

static inline uint16_t bfloat_from_float(float value)
{
    const uint32_t bits = half_bits(value);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16 | 0x40u) : rounded);
}

static inline float bfloat_to_float(uint16_t half)
{
    return half_float((uint32_t)half << 16);
}

/* The nearest float with an odd last bit where it is not exact: rounding it again, to a shorter format, is then right. */
static inline float half_odd_float(double value)
{
    const float near = (float)value;
    if (near != near || (double)near == value)
        return near;
    uint32_t bits = half_bits(near);
    const double mag = value < 0 ? -value : value, size = near < 0 ? -(double)near : (double)near;
    if (size > mag)
        bits--;
    return half_float(bits | 1u);
}

#endif
