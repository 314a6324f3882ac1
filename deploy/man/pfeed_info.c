/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try" };
    struct pfeed_batch *batch;
    struct pfeed *pf;

    if (pfeed_open(&pf, &options) < 0)
        return 1;
    if (pfeed_next(pf, &batch, -1) == 0) {
        const struct pfeed_info *info = pfeed_info(batch);

        for (uint32_t row = 0; row < info->rows; row++) {
            if (info->flags[row] & PFEED_ROW_PADDED)
                continue; /* counts for nothing: others of this epoch have been seen instead */
            printf("epoch %llu, step %llu: sample %llu%s\n", (unsigned long long)info->epoch, (unsigned long long)info->step,
                   (unsigned long long)info->used_ids[row], info->flags[row] & PFEED_ROW_REPLACED ? ", for a bad one" : "");
        }
        pfeed_done(pf, batch);
    }
    pfeed_close(pf);
    return 0;
}
