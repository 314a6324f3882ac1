/* SPDX-License-Identifier: MIT */
/* A row of a picture field made visible: normalising undone, written as PPM. Pure but for the writing. Used by peek.c. */
#ifndef PFEEDCTL_PICTURE_H
#define PFEEDCTL_PICTURE_H

#include <stdbool.h>
#include <stdio.h>

#include "layout.h"

struct picture {
    uint32_t width, height;
    uint8_t *rgb; /* width * height * 3 */
};

/* Whether the field holds pictures: chw or hwc, 1 or 3 channels, uint8, float16, bfloat16 or float32. Its name is terminated. */
bool picture_fits(const struct pf_field *field);
/* "image float16[3, 224, 224] chw" */
void picture_describe(const struct pf_field *field, char *to, size_t size);
/* "float16" */
void picture_dtype(const struct pf_field *field, char *to, size_t size);
/* pixel = (value * std + mean) * 255, rounded and clamped; uint8 is the pixel. picture_fits(field). 0 or -ENOMEM. */
int picture_make(const struct pf_field *field, const void *row, struct picture *out);
void picture_fini(struct picture *picture);
/* 0 or -errno. */
int picture_write(const struct picture *picture, FILE *out);

#endif
