/* SPDX-License-Identifier: MIT */
/* See audit.h. Users share a fixed number of budgets by their uid, so that one who is refused all the time uses up only what
 * those of the same budget may write, and the log grows by a bounded number of lines whoever comes under whatever uids. What is
 * left out is counted and told with the next line. Called by request.c and server.c, main thread. */
#include "audit.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "feed.h"
#include "log.h"

#define BUDGETS  32
#define BURST    32                   /* lines at once, */
#define EVERY_NS INT64_C(30000000000) /* then one in this time */

static struct budget {
    int64_t paid_ns; /* lines are paid for up to this moment; never more than BURST of them in advance */
    uint64_t left_out;
} budgets[BUDGETS];

void audit_line(uid_t uid, const char *format, ...)
{
    struct budget *budget = &budgets[uid % BUDGETS];
    int64_t now_ns = feed_now_ns();
    char text[1024];
    va_list args;

    if (budget->paid_ns < now_ns)
        budget->paid_ns = now_ns;
    if (budget->paid_ns - now_ns > (BURST - 1) * EVERY_NS) {
        budget->left_out++;
        return;
    }
    budget->paid_ns += EVERY_NS;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (budget->left_out > 0)
        log_warn("%s (and %llu before it that were not logged)", text, (unsigned long long)budget->left_out);
    else
        log_warn("%s", text);
    budget->left_out = 0;
}

void audit_end(void)
{
    uint64_t left_out = 0;

    for (int b = 0; b < BUDGETS; b++) {
        left_out += budgets[b].left_out;
        budgets[b].left_out = 0;
    }
    if (left_out > 0)
        log_warn("and %llu refusals that were not logged", (unsigned long long)left_out);
}
