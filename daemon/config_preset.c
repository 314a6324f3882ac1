/* SPDX-License-Identifier: MIT */
/* See config_preset.h. A new preset is one entry of the table below. */
#include "config_preset.h"

#include <assert.h>
#include <string.h>

#define MEAN "[0.485, 0.456, 0.406]"
#define STD  "[0.229, 0.224, 0.225]"

const struct preset preset_kinds[] = {
    { .name = "imagenet-train",
      .help = "random_resized_crop, horizontal_flip and normalize, as torchvision's references train on ImageNet; dtype float32 "
              "unless the field says another",
      .transforms = { "random_resized_crop", "horizontal_flip", "normalize" },
      .values = { { "size", 0, "size", "224" },
                  { "scale", 0, "scale", "[0.08, 1.0]" },
                  { "ratio", 0, "ratio", "[0.75, 1.3333333333333333]" },
                  { "interpolation", 0, "interpolation", "bilinear" },
                  { "flip", 1, "p", "0.5" },
                  { "mean", 2, "mean", MEAN },
                  { "std", 2, "std", STD } } },
    { .name = "imagenet-eval",
      .help =
          "resize, center_crop and normalize, as torchvision's references evaluate on ImageNet; dtype float32 unless the field "
          "says another",
      .transforms = { "resize", "center_crop", "normalize" },
      .values = { { "resize", 0, "size", "256" },
                  { "size", 1, "size", "224" },
                  { "interpolation", 0, "interpolation", "bilinear" },
                  { "mean", 2, "mean", MEAN },
                  { "std", 2, "std", STD } } },
    { .name = NULL },
};

static const struct transform_ops *find_ops(const char *name)
{
    uint32_t i = 0;
    while (transform_kinds[i] && strcmp(transform_kinds[i]->name, name) != 0)
        i++;
    assert(transform_kinds[i]); /* the table's own names */
    return transform_kinds[i];
}

static const struct setting *find_row(const struct setting *rows, const char *name)
{
    while (rows->name && strcmp(rows->name, name) != 0)
        rows++;
    assert(rows->name && rows->type != SETTING_STRING && rows->type != SETTING_STRINGS); /* the block is copied as it is */
    return rows;
}

void preset_rows(const struct preset *preset, struct preset_rows *out)
{
    uint32_t n = 0;
    *out = (struct preset_rows){ .n_ops = 0 };
    for (; out->n_ops < PRESET_TRANSFORMS && preset->transforms[out->n_ops]; out->n_ops++) {
        out->ops[out->n_ops] = find_ops(preset->transforms[out->n_ops]);
        out->at[out->n_ops] = out->size;
        out->size += (out->ops[out->n_ops]->params_size + 15) / 16 * 16;
    }
    for (; n < PRESET_VALUES && preset->values[n].key; n++) {
        const struct preset_value *value = &preset->values[n];
        out->rows[n] = *find_row(out->ops[value->transform]->settings, value->setting);
        out->rows[n].name = value->key;
        out->rows[n].initial = value->initial;
        out->rows[n].offset += out->at[value->transform];
    }
    out->rows[n] = (struct setting){ "normalize", SETTING_BOOL, out->size + offsetof(struct preset_choice, normalize), "yes", 0,
                                     0,           NULL,         "no: the values stay 0..1, or 0..255 with dtype uint8" };
    out->size += sizeof(struct preset_choice);
}

bool preset_normalizes(const struct preset_rows *rows, const void *block)
{
    struct preset_choice choice;
    memcpy(&choice, (const char *)block + rows->size - sizeof choice, sizeof choice);
    return choice.normalize;
}
