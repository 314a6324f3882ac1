/* SPDX-License-Identifier: MIT */
/* Between the C and the C++ half of test_headers: what each of them sees of the shared headers. */
#ifndef TEST_HEADERS_H
#define TEST_HEADERS_H

#include <stddef.h>
#include <stdint.h>

#include "ctl.h"
#include "ring.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seen {
    const char *what;
    size_t value;
};

/* Sizes and offsets as the language of the file has them; ends with NULL. One list, compiled in both. */
#define TEST_HEADERS_SEEN                                                                                                        \
    {                                                                                                                            \
        { "pf_head", sizeof(struct pf_head) }, { "pf_arena", sizeof(struct pf_arena) }, { "pf_field", sizeof(struct pf_field) }, \
            { "pf_slot", sizeof(struct pf_slot) }, { "pf_grant", sizeof(struct pf_grant) },                                      \
            { "pf_grant_page", sizeof(struct pf_grant_page) }, { "pf_return_page", sizeof(struct pf_return_page) },              \
            { "pf_ctl_attach", sizeof(struct pf_ctl_attach) }, { "pf_ctl_attached", sizeof(struct pf_ctl_attached) },            \
            { "pf_ctl_error", sizeof(struct pf_ctl_error) }, { "pf_row_daemon", sizeof(struct pf_row_daemon) },                  \
            { "pf_row_feed", sizeof(struct pf_row_feed) }, { "pf_row_slot", sizeof(struct pf_row_slot) },                        \
            { "pf_row_consumer", sizeof(struct pf_row_consumer) }, { "pf_row_error", sizeof(struct pf_row_error) },              \
            { "pf_row_slot.holders", offsetof(struct pf_row_slot, holders) },                                                    \
            { "pf_row_consumer.granted", offsetof(struct pf_row_consumer, granted) },                                            \
            { "pfeed_options", sizeof(struct pfeed_options) }, { "pfeed_tensor", sizeof(struct pfeed_tensor) },                  \
            { "pfeed_info", sizeof(struct pfeed_info) },                                                                         \
            { "pfeed_options.reconnect_ms", offsetof(struct pfeed_options, reconnect_ms) },                                      \
            { "pfeed_tensor.strides", offsetof(struct pfeed_tensor, strides) },                                                  \
            { "pfeed_info.flags", offsetof(struct pfeed_info, flags) },                                                          \
        {                                                                                                                        \
            NULL, 0                                                                                                              \
        }                                                                                                                        \
    }

const struct seen *seen_by_cpp(void);

/* The C++ half of a lane's two sides. */
int cpp_take(const struct pf_grant_page *grants, struct pf_return_page *returns, uint64_t *next, struct pf_grant *grant);
int cpp_return(struct pf_return_page *returns, const struct pf_grant_page *grants, uint64_t *returned, uint64_t number,
               uint64_t *rung);
void cpp_publish(struct pf_grant_page *grants, uint64_t number);
int cpp_revoke(struct pf_return_page *returns, uint64_t known, uint64_t published, uint64_t *from);
/* pfeed_open with nothing in it. */
int cpp_open(void);

#ifdef __cplusplus
}
#endif

#endif
