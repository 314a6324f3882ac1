/* SPDX-License-Identifier: MIT */
/* Texts for people: UTF-8 that does no harm to a terminal, and numbers in human units. Pure. */
#ifndef PFEEDCTL_TEXT_H
#define PFEEDCTL_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define TEXT_INVALID UINT32_MAX

/* The next code point of *text, which is moved past it; TEXT_INVALID (and one byte) where it is not UTF-8. *text < end. */
uint32_t text_next(const char **text, const char *end);
/* Copies up to n bytes or the first zero; control characters and bytes that are no UTF-8 become '?'. Never splits a character. */
void text_clean(char *to, size_t size, const char *from, size_t n);
/* Columns on a terminal of a clean text: its code points. */
size_t text_width(const char *text);
/* The bytes of a clean text's first width code points. */
size_t text_cut(const char *text, size_t width);

/* By unit: "ns" a duration, "bytes" KiB and up, "" the plain number, any other word a count with k, M, G. */
void text_number(char *to, size_t size, uint64_t value, const char *unit);
/* The same per second; "ns" is then a share of the time: "173 %". */
void text_rate(char *to, size_t size, double per_s, const char *unit);

#endif
