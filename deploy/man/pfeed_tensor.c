/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try" };
    const struct pfeed_tensor *tensor;
    struct pfeed_batch *batch;
    struct pfeed *pf;

    if (pfeed_open(&pf, &options) < 0)
        return 1;
    if (pfeed_next(pf, &batch, -1) == 0) {
        for (uint32_t i = 0; (tensor = pfeed_tensor_at(batch, i)); i++) {
            printf("%s: type %u, %u bits, shape", tensor->name, tensor->dtype.code, tensor->dtype.bits);
            for (uint32_t d = 0; d < tensor->ndim; d++)
                printf(" %lld", (long long)tensor->shape[d]);
            printf("\n");
        }
        tensor = pfeed_tensor(batch, "label");
        if (tensor && tensor->dtype.code == 0 && tensor->dtype.bits == 64)
            printf("the first label is %lld\n", (long long)((const int64_t *)tensor->data)[0]);
        pfeed_done(pf, batch);
    }
    pfeed_close(pf);
    return 0;
}
