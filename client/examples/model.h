/* SPDX-License-Identifier: MIT */
/* What train learns from a batch. With the fields `image` and `label`: softmax regression on coarse pixels; with `tokens`: a
 * unigram model of the text; of any other feed it only counts the rows. Every row's loss is taken before the model learns from
 * that row. Part of the program train, which includes it once. */
#ifndef TRAIN_MODEL_H
#define TRAIN_MODEL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pfeed.h>

enum { GRID = 16, FEATURES = GRID * GRID * 3, CLASSES = 1000, VOCABULARY = 65536 };

static const float LEARNING_RATE = 0.5f;

/* The model of pictures, and what its features are normalised by: mean and scale of the first batch's pixels. */
static float weights[CLASSES][FEATURES], bias[CLASSES], mean, scale;
static uint32_t classes; /* seen so far */
/* The model of text: how often each token came. */
static double counts[VOCABULARY], total;
static uint32_t vocabulary = 256; /* doubles when a larger token comes */

struct tally {                   /* of an epoch */
    uint64_t rows, items, right; /* items: what the loss is taken over, images or tokens */
    double loss;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "train: %s: %s\n", what, why);
    exit(1);
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Element i of a tensor, whatever its type: DLPack's codes are 0 int, 1 uint, 2 float, 4 bfloat. */
static float element(const struct pfeed_tensor *tensor, int64_t i)
{
    uint32_t bits;
    switch (tensor->dtype.code << 8 | tensor->dtype.bits) {
    case 1 << 8 | 8:
        return ((const uint8_t *)tensor->data)[i];
    case 2 << 8 | 16:
        bits = ((const uint16_t *)tensor->data)[i]; /* finite values, subnormal ones too */
        return float_of((bits & 0x7fff) << 13) * (bits & 0x8000 ? -0x1p112f : 0x1p112f);
    case 4 << 8 | 16:
        return float_of((uint32_t)((const uint16_t *)tensor->data)[i] << 16);
    case 2 << 8 | 32:
        return ((const float *)tensor->data)[i];
    case 0 << 8 | 32:
        return (float)((const int32_t *)tensor->data)[i];
    case 0 << 8 | 64:
        return (float)((const int64_t *)tensor->data)[i];
    default:
        fail(tensor->name, "a type of element that this example does not know");
        return 0;
    }
}

/* Row `row` of a picture field, chw or hwc, averaged down to GRID x GRID x 3. */
static void pool(const struct pfeed_tensor *image, int64_t row, float *features)
{
    int c = image->shape[1] == 3 ? 1 : 3, y = c == 1 ? 2 : 1, x = y + 1; /* which dimension is which */
    const int64_t *shape = image->shape, *strides = image->strides;
    for (int64_t i = 0; i < FEATURES; i++) {
        int64_t gy = i / 3 / GRID, gx = i / 3 % GRID, y0 = gy * shape[y] / GRID, x0 = gx * shape[x] / GRID;
        int64_t y1 = (gy + 1) * shape[y] / GRID, x1 = (gx + 1) * shape[x] / GRID;
        y1 += y1 == y0; /* a picture smaller than the grid */
        x1 += x1 == x0;
        float sum = 0;
        for (int64_t v = y0; v < y1; v++)
            for (int64_t u = x0; u < x1; u++)
                sum += element(image, row * strides[0] + i % 3 * strides[c] + v * strides[y] + u * strides[x]);
        features[i] = sum / (float)((y1 - y0) * (x1 - x0));
    }
}

static void normaliser_set(const struct pfeed_tensor *image)
{
    float features[FEATURES];
    double sum = 0, squares = 0, n = (double)image->shape[0] * FEATURES;
    for (int64_t row = 0; row < image->shape[0]; row++) {
        pool(image, row, features);
        for (int i = 0; i < FEATURES; i++) {
            sum += features[i];
            squares += features[i] * features[i];
        }
    }
    mean = (float)(sum / n);
    scale = (float)(1 / sqrt((squares / n - sum / n * (sum / n) + 1e-9) * FEATURES)); /* a row's length is then about 1 */
}

/* One step of softmax regression by gradient descent. */
static void learn_image(struct tally *tally, const struct pfeed_tensor *image, int64_t row, float value)
{
    float features[FEATURES], score[CLASSES], sum = 0;
    if (!(value >= 0 && value < CLASSES))
        fail("label", "this example learns classes from 0 to 999");
    uint32_t label = (uint32_t)value, best = 0;
    if (label >= classes)
        classes = label + 1;
    pool(image, row, features);
    for (int i = 0; i < FEATURES; i++)
        features[i] = (features[i] - mean) * scale;
    for (uint32_t k = 0; k < classes; k++) {
        score[k] = bias[k];
        for (int i = 0; i < FEATURES; i++)
            score[k] += weights[k][i] * features[i];
        if (score[k] > score[best])
            best = k;
    }
    float top = score[best];
    for (uint32_t k = 0; k < classes; k++)
        sum += score[k] = expf(score[k] - top);
    tally->loss -= log(fmax(score[label] / sum, 1e-30));
    tally->right += best == label;
    tally->items++;
    for (uint32_t k = 0; k < classes; k++) {
        float step = LEARNING_RATE * ((float)(k == label) - score[k] / sum);
        bias[k] += step;
        for (int i = 0; i < FEATURES; i++)
            weights[k][i] += step * features[i];
    }
}

/* Learns by counting, from one of each (Laplace): the loss falls towards the entropy of the text's symbols. */
static void learn_tokens(struct tally *tally, const struct pfeed_tensor *tokens, int64_t row)
{
    for (int64_t i = 0; i < tokens->shape[1]; i++) {
        float token = element(tokens, row * tokens->strides[0] + i * tokens->strides[1]);
        if (!(token >= 0 && token < VOCABULARY))
            fail("tokens", "this example learns tokens from 0 to 65535");
        while (token >= (float)vocabulary)
            vocabulary *= 2;
        double *count = &counts[(uint32_t)token];
        tally->loss -= log((*count + 1) / (total + vocabulary));
        tally->items++;
        *count += 1;
        total += 1;
    }
}

/* Learns from every row that is not padding or masked. */
static void learn(struct tally *tally, const struct pfeed_batch *batch)
{
    const struct pfeed_info *info = pfeed_info(batch);
    const struct pfeed_tensor *image = pfeed_tensor(batch, "image"), *label = pfeed_tensor(batch, "label");
    const struct pfeed_tensor *tokens = pfeed_tensor(batch, "tokens");
    bool pictures = image && label && image->ndim == 4 && (image->shape[1] == 3 || image->shape[3] == 3);
    if (pictures && scale == 0)
        normaliser_set(image);
    for (uint32_t row = 0; row < info->rows; row++) {
        if (info->flags[row] & (PFEED_ROW_PADDED | PFEED_ROW_MASKED))
            continue;
        tally->rows++;
        if (pictures)
            learn_image(tally, image, row, element(label, row * label->strides[0]));
        else if (tokens && tokens->ndim == 2)
            learn_tokens(tally, tokens, row);
    }
}

#endif
