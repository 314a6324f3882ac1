/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <pfeed.h>

int main(void)
{
    printf("libpfeed %s\n", pfeed_version());
    return 0;
}
