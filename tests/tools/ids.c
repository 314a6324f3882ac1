/* SPDX-License-Identifier: MIT */
/* The ids of a feed as a trainer gets them: `ids FEED EPOCHS` prints one a line, epoch after epoch, with the id of the sample that
 * stands in for it where it is bad. For tests/papers/orders.py, which knows from the manual what they must be. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <pfeed.h>

int main(int argc, char **argv)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = argc == 3 ? argv[1] : NULL };
    struct pfeed_batch *batch;
    struct pfeed *pf;
    int rc;

    if (argc != 3) {
        fputs("usage: ids FEED EPOCHS\n", stderr);
        return 2;
    }
    options.epochs = (uint32_t)strtoul(argv[2], NULL, 10);
    rc = pfeed_open(&pf, &options);
    if (rc < 0) {
        fprintf(stderr, "ids: %s\n", pfeed_error(NULL));
        return 1;
    }
    while ((rc = pfeed_next(pf, &batch, -1)) == 0 || rc == PFEED_EPOCH) {
        const struct pfeed_info *info = batch ? pfeed_info(batch) : NULL;

        for (uint32_t row = 0; info && row < info->rows; row++)
            printf("%" PRIu64 " %" PRIu64 "\n", info->ids[row], info->used_ids[row]);
        if (batch)
            pfeed_done(pf, batch);
    }
    if (rc < 0)
        fprintf(stderr, "ids: %s\n", pfeed_error(pf));
    pfeed_close(pf);
    return rc < 0 || fflush(stdout) != 0;
}
