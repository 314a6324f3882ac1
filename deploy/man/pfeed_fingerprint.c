/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try" };
    char fingerprint[PFEED_FINGERPRINT_MAX];
    struct pfeed *pf;
    int rc = pfeed_options_from_env(&options);

    if (rc == 0)
        rc = pfeed_open(&pf, &options);
    if (rc < 0) {
        fprintf(stderr, "%s\n", pfeed_error(NULL));
        return 1;
    }
    rc = pfeed_fingerprint(pf, fingerprint, sizeof(fingerprint));
    if (rc == 0)
        printf("rank %u has %s\n", options.rank, fingerprint); /* an all-gather would compare them here */
    else
        fprintf(stderr, "%s\n", pfeed_error(pf));
    pfeed_close(pf);
    return rc < 0;
}
