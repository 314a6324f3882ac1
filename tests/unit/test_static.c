/* SPDX-License-Identifier: MIT */
/* The static library in a program that has functions of the library's inner names: both keep their own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <pfeed.h>

int sentence_set(void);
int wait_take(void);
int ctlsock_path(void);

static int called;

int sentence_set(void)
{
    return ++called;
}

int wait_take(void)
{
    return ++called;
}

int ctlsock_path(void)
{
    return ++called;
}

int main(void)
{
    struct pfeed_options options = { .size = sizeof(options), .socket = "/nonexistent/pfeedd.sock", .feed = "none" };
    struct pfeed *pf;
    int rc = pfeed_open(&pf, &options);

    if (rc == -ENOENT && called == 0 && strstr(pfeed_error(NULL), "/nonexistent/pfeedd.sock"))
        return 0;
    printf("pfeed_open gave %d (%s); %d calls went astray\n", rc, pfeed_error(NULL), called);
    return 1;
}
