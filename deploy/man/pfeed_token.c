/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try" };
    char token[PFEED_TOKEN_MAX]; /* goes into the checkpoint, beside the weights */
    struct pfeed_batch *batch;
    struct pfeed *pf;
    int rc = pfeed_open(&pf, &options);

    if (rc < 0) {
        fprintf(stderr, "%s\n", pfeed_error(NULL));
        return 1;
    }
    rc = pfeed_next(pf, &batch, 5000);
    if (rc == 0) {
        rc = pfeed_token(pf, batch, token, sizeof(token));
        pfeed_done(pf, batch);
    }
    if (rc == 0)
        printf("options.start or pfeed_seek takes %s\n", token);
    else
        fprintf(stderr, "%s\n", pfeed_error(pf));
    pfeed_close(pf);
    return rc < 0;
}
