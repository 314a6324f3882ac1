// SPDX-License-Identifier: MIT
// The C++17 half of test_headers.c.
#include "pfeed.h"
#include "ring.h"
#include "ctl.h"
#include "layout.h"
#include "ctl.h"

#include "test_headers.h"

static const struct seen seen[] = TEST_HEADERS_SEEN;

const struct seen *seen_by_cpp(void)
{
    return seen;
}

int cpp_take(const pf_grant_page *grants, pf_return_page *returns, uint64_t *next, pf_grant *grant)
{
    return pf_grants_take(grants, returns, next, grant);
}

int cpp_return(pf_return_page *returns, const pf_grant_page *grants, uint64_t *returned, uint64_t number, uint64_t *rung)
{
    return pf_returns_push(returns, grants, returned, number, rung);
}

void cpp_publish(pf_grant_page *grants, uint64_t number)
{
    pf_grant grant = {};

    grant.number = number;
    grant.step = number * 3;
    grant.slot = static_cast<uint32_t>(number) + 5;
    pf_grants_publish(grants, &grant);
}

int cpp_revoke(pf_return_page *returns, uint64_t known, uint64_t published, uint64_t *from)
{
    return pf_grants_revoke(returns, known, published, from);
}

int cpp_open(void)
{
    pfeed_options options = {};
    pfeed *pf = nullptr;

    options.size = sizeof(options);
    return pfeed_open(&pf, &options);
}
