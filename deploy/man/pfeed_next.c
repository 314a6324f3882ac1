/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try", .epochs = 2 };
    struct pfeed_batch *batch;
    unsigned long long rows = 0;
    struct pfeed *pf;
    int rc = pfeed_open(&pf, &options);

    if (rc < 0) {
        fprintf(stderr, "%s\n", pfeed_error(NULL));
        return 1;
    }
    while ((rc = pfeed_next(pf, &batch, 5000)) != PFEED_END) {
        if (rc == PFEED_EPOCH) {
            printf("an epoch is over after %llu rows\n", rows);
        } else if (rc == -ETIMEDOUT || rc == -EINTR) {
            fprintf(stderr, "still waiting: %s\n", pfeed_error(pf));
        } else if (rc < 0) {
            break;
        } else {
            rows += pfeed_info(batch)->valid; /* a training step would come here */
            pfeed_done(pf, batch);
        }
    }
    if (rc < 0)
        fprintf(stderr, "%s\n", pfeed_error(pf));
    pfeed_close(pf);
    return rc < 0;
}
