/* SPDX-License-Identifier: MIT */
/* How well an order mixes, beside the global shuffle: prints the table of pfeed-order(7), for 1,281,167 samples of 1,000 classes
 * one after the other (as ImageNet's folders have them), batches of 256, seed 0 and epoch 0. tests/papers/orders.py compares the
 * two. The orders are those that pfeedd serves; nothing is read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "order.h"

#define SAMPLES UINT64_C(1281167)
#define CLASSES 1000u
#define BATCH   256u

struct figures {
    double distance; /* mean |difference of positions| of samples with successive ids, over what chance gives: n / 3 */
    double entropy;  /* of the classes in a batch, mean, in bits */
    double classes;  /* different ones in a batch, mean */
};

static uint32_t class_of(uint64_t id)
{
    return (uint32_t)(id * CLASSES / SAMPLES);
}

static void look(const uint64_t *ids, struct figures *out)
{
    uint64_t *places = calloc(SAMPLES, sizeof(*places));
    uint32_t counts[CLASSES];
    double distance = 0, entropy = 0, classes = 0;

    if (!places)
        exit(1);
    for (uint64_t p = 0; p < SAMPLES; p++)
        places[ids[p]] = p;
    for (uint64_t id = 1; id < SAMPLES; id++)
        distance += fabs((double)places[id] - (double)places[id - 1]);
    for (uint64_t b = 0; b < SAMPLES / BATCH; b++) {
        for (uint32_t c = 0; c < CLASSES; c++)
            counts[c] = 0;
        for (uint32_t row = 0; row < BATCH; row++)
            counts[class_of(ids[b * BATCH + row])]++;
        for (uint32_t c = 0; c < CLASSES; c++) {
            const double share = (double)counts[c] / BATCH;

            entropy -= share > 0 ? share * log2(share) : 0;
            classes += counts[c] > 0;
        }
    }
    *out = (struct figures){ .distance = distance / (double)(SAMPLES - 1) / ((double)SAMPLES / 3),
                             .entropy = entropy / (double)(SAMPLES / BATCH),
                             .classes = classes / (double)(SAMPLES / BATCH) };
    free(places);
}

int main(void)
{
    static const struct {
        const char *name;
        struct order_params params;
    } rows[] = {
        { "global", { .mode = SHUFFLE_GLOBAL } },
        { "block: 1024, window: 64", { .mode = SHUFFLE_BLOCK, .block = 1024, .window = 64 } },
        { "block: 256, window: 64", { .mode = SHUFFLE_BLOCK, .block = 256, .window = 64 } },
        { "block: 1024, window: 16", { .mode = SHUFFLE_BLOCK, .block = 1024, .window = 16 } },
        { "none", { .mode = SHUFFLE_NONE } },
    };
    uint64_t *ids = calloc(SAMPLES, sizeof(*ids));

    printf("%-24s %8s %7s %5s\n", "shuffle", "distance", "classes", "bits");
    for (size_t i = 0; ids && i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct order_params params = rows[i].params;
        const struct order_view *view;
        struct figures figures;
        struct order *order;
        uint32_t occurrence;

        params.n = SAMPLES;
        params.repeat = 1;
        if (order_create(&order, &params, 1) < 0)
            return 1;
        view = order_view(order, 0, 0);
        for (uint64_t p = 0; p < SAMPLES; p++)
            order_at(view, p, &ids[p], &occurrence);
        order_destroy(order);
        look(ids, &figures);
        printf("%-24s %8.3f %7.1f %5.2f\n", rows[i].name, figures.distance, figures.classes, figures.entropy);
    }
    free(ids);
    return !ids;
}
