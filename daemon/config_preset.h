/* SPDX-License-Identifier: MIT */
/* Presets: one word of a list of transforms that stands for several, with some of their settings under names of its own. Used by
 * config_transforms.c and config_dump.c; on the thread that reads the configuration. */
#ifndef PFEED_CONFIG_PRESET_H
#define PFEED_CONFIG_PRESET_H

#include "config.h"
#include "transform/transform.h"

#define PRESET_TRANSFORMS 4
#define PRESET_VALUES     8

struct preset_value {
    const char *key;     /* what people may write */
    uint32_t transform;  /* which of the transforms it is a setting of */
    const char *setting; /* its name there */
    const char *initial;
};

struct preset {
    const char *name, *help;
    const char *transforms[PRESET_TRANSFORMS]; /* NULL at the end */
    struct preset_value values[PRESET_VALUES]; /* key NULL at the end */
};

extern const struct preset preset_kinds[]; /* name NULL at the end */

/* A preset ready to be read: its keys as settings, into one block that holds the params of its transforms one after another. */
struct preset_rows {
    const struct transform_ops *ops[PRESET_TRANSFORMS];
    uint32_t n_ops;
    size_t at[PRESET_TRANSFORMS]; /* of each one's params */
    size_t size;                  /* of the block */
    struct setting rows[PRESET_VALUES + 2];
};

/* `normalize: no` leaves that one out; it is the last key. */
struct preset_choice {
    bool normalize;
};

void preset_rows(const struct preset *preset, struct preset_rows *out);
/* Where the block says whether normalize is wanted. */
bool preset_normalizes(const struct preset_rows *rows, const void *block);

#endif
