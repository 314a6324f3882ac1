/* SPDX-License-Identifier: MIT */
/*
 * The headers that others include, layout.h, ring.h, ctl.h and pfeed.h, compile without a warning as plain C17 and as C++17
 * (-Wpedantic -Werror), mean the same bytes in both, and work: a lane with a C side and a C++ side, in both directions. Without
 * a C++ compiler (TEST_CPP is not defined) only the C half is checked, and the test counts as skipped.
 */
#include "pfeed.h"
#include "ring.h"
#include "ctl.h"
#include "layout.h" /* in the wrong order, and twice */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_headers.h"

#define CHECK(condition)                                                                                                         \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                      \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)

static struct pf_grant_page grants;
static struct pf_return_page returns;

static void c_publish(uint64_t number)
{
    struct pf_grant grant;

    memset(&grant, 0, sizeof(grant));
    grant.number = number;
    grant.step = number * 3;
    grant.slot = (uint32_t)number + 5;
    pf_grants_publish(&grants, &grant);
}

static void c_half(void)
{
    struct pfeed_options options;
    struct pfeed *pf = NULL;
    uint64_t next = 0, returned = 0, rung = 0, from = 0;
    struct pf_grant grant;

    CHECK(pf_grants_take(&grants, &returns, &next, &grant) == 0);
    c_publish(0);
    CHECK(pf_grants_ring(&grants, &returns) == 0);
    CHECK(pf_grants_take(&grants, &returns, &next, &grant) == 1 && grant.number == 0 && grant.slot == 5);
    pf_returns_arm(&grants, 1);
    CHECK(pf_returns_push(&returns, &grants, &returned, 0, &rung) == 1);
    CHECK(pf_returns_tail(&returns) == 1 && pf_returns_number(&returns, 0) == 0);
    (void)pf_grants_sleepy(&grants, &returns);
    CHECK(pf_grants_ring(&grants, &returns) == 1);
    pf_grants_awake(&returns);
    CHECK(pf_grants_revoke(&returns, 0, 1, &from) == 0 && from == 1);
    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    CHECK(pfeed_open(&pf, &options) < 0 && !pf && *pfeed_error(NULL)); /* no feed is named */
    CHECK(*pfeed_version());
    memset(&grants, 0, sizeof(grants));
    memset(&returns, 0, sizeof(returns));
}

#ifdef TEST_CPP
static void both_see_the_same(void)
{
    static const struct seen mine[] = TEST_HEADERS_SEEN;
    const struct seen *theirs = seen_by_cpp();

    for (size_t i = 0; mine[i].what || theirs[i].what; i++)
        if (!mine[i].what || !theirs[i].what || strcmp(mine[i].what, theirs[i].what) != 0 || mine[i].value != theirs[i].value) {
            fprintf(stderr, "%s is %zu in C and %zu in C++\n", mine[i].what, mine[i].value, theirs[i].value);
            exit(1);
        }
}

static void both_sides(void)
{
    uint64_t next = 0, returned = 0, rung = 0, from = 0, published = 0;
    struct pf_grant grant;

    for (; published < 3 * PF_RING; published++) {
        if (published & 1)
            cpp_publish(&grants, published);
        else
            c_publish(published);
        if (published & 2)
            CHECK(cpp_take(&grants, &returns, &next, &grant) == 1);
        else
            CHECK(pf_grants_take(&grants, &returns, &next, &grant) == 1);
        CHECK(grant.number == published && grant.step == published * 3 && grant.slot == published + 5);
        if (published & 4)
            CHECK(cpp_return(&returns, &grants, &returned, published, &rung) == 0 || published == 0);
        else
            pf_returns_push(&returns, &grants, &returned, published, &rung);
        CHECK(pf_returns_tail(&returns) == published + 1 && pf_returns_number(&returns, published) == published);
    }
    c_publish(published++);
    CHECK(cpp_revoke(&returns, published - 1, published, &from) == 0 && from == published - 1);
    CHECK(pf_grants_take(&grants, &returns, &next, &grant) == 0 && cpp_take(&grants, &returns, &next, &grant) == 0);
    CHECK(cpp_open() < 0);
}
#endif

int main(void)
{
    c_half();
#ifdef TEST_CPP
    grants.wake_at = UINT64_MAX;
    both_see_the_same();
    both_sides();
    return 0;
#else
    puts("skipped: no C++ compiler; the C half is fine");
    return 77;
#endif
}
