/* SPDX-License-Identifier: MIT */
/* An input as a sequence of choices; zeros where it is over. For the targets that play a story. */
#ifndef FUZZ_BYTES_H
#define FUZZ_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Where a target has it: replay.c calls it when it has given all inputs. Asserts that the committed corpus still reaches what it is
 * there for, as a request that is refused at its first check would look just as well. */
void fuzz_replayed(void) __attribute__((weak));

struct bytes {
    const uint8_t *at, *end;
};

static inline uint8_t bytes_next(struct bytes *bytes)
{
    return bytes->at < bytes->end ? *bytes->at++ : 0;
}

/* As many as there are; the rest of `to` is left as it is. */
static inline size_t bytes_copy(struct bytes *bytes, void *to, size_t size)
{
    size_t n = (size_t)(bytes->end - bytes->at) < size ? (size_t)(bytes->end - bytes->at) : size;

    memcpy(to, bytes->at, n);
    bytes->at += n;
    return n;
}

/* Small numbers, numbers about a value, or any: those that are near a limit are the interesting ones. */
static inline uint64_t bytes_number(struct bytes *bytes, uint64_t about)
{
    uint8_t how = bytes_next(bytes);
    uint64_t any = 0;

    if (how < 100)
        return about + how % 20 - 10;
    if (how < 200)
        return how - 100;
    bytes_copy(bytes, &any, sizeof(any));
    return how < 230 ? (uint32_t)any : any;
}

#endif
