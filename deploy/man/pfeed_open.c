/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .feed = "try", .job = "run-7", .rank = 0, .world = 1 };
    struct pfeed *pf;

    if (pfeed_open(&pf, &options) < 0) {
        fprintf(stderr, "%s\n", pfeed_error(NULL));
        return 1;
    }
    printf("%lld steps in an epoch\n", (long long)pfeed_length(pf));
    pfeed_close(pf);
    return 0;
}
