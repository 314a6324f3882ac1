/* SPDX-License-Identifier: MIT */
/* What clients ask of the daemon that lives in fuzz_control.c: requests with any fields, such as a trainer sends, and such as none
 * would. Tokens are right ones of a feed as it is now, so that what they lead to is reached, or all but right. */
#ifndef FUZZ_ASKED_H
#define FUZZ_ASKED_H

#include <stdio.h>

#include "bytes.h"
#include "ctl.h"
#include "server.h"

union asked {
    struct pf_ctl_head head;
    struct pf_ctl_attach attach;
    struct pf_ctl_stat stat;
    struct pf_ctl_reload reload;
    struct pf_ctl_seek seek;
    uint8_t bytes[PF_CTL_MAX + 8];
};

/* A place in the history that `as` asked for, or would have. */
static inline struct pf_token asked_token(const struct daemon *daemon, const struct pf_ctl_attach *as, uint64_t epoch,
                                          uint64_t step)
{
    struct pf_token token = { .epoch = epoch };

    memcpy(token.feed, as->feed, sizeof(token.feed) - 1);
    for (uint32_t f = 0; f < daemon->n_feeds; f++) {
        const struct feed *feed = daemon->feeds[f];

        if (strcmp(feed->config->name, token.feed) != 0 || feed->state != FEED_RUNNING)
            continue;
        token.seed = as->flags & PF_ATTACH_SEED ? as->seed : feed->config->seed;
        token.world_batch = as->batch ? (uint64_t)as->world * as->batch : feed->batch;
        token.row = step * token.world_batch;
        token.samples = feed->samples;
        token.prints = feed->prints;
    }
    return token;
}

/* One number of it is another one, and its checksum is right. */
static inline void asked_change(struct pf_token *token, struct bytes *bytes)
{
    uint64_t *const numbers[] = { &token->seed,    &token->epoch,       &token->row,          &token->world_batch,
                                  &token->samples, &token->prints.data, &token->prints.order, &token->prints.recipe };
    uint64_t *number = numbers[bytes_next(bytes) % (sizeof(numbers) / sizeof(numbers[0]))];

    *number = bytes_number(bytes, *number);
}

/* `start` of ATTACH or `where` of SEEK, by the lowest three bits of the next byte. */
static inline void asked_start(char text[PF_START_TEXT], const struct daemon *daemon, const struct pf_ctl_attach *as,
                               struct bytes *bytes)
{
    static const char *const words[] = { "", "fresh", "live", "restart" };
    uint8_t how = bytes_next(bytes), at;
    struct pf_token token = asked_token(daemon, as, how >> 6, how >> 3 & 7);

    switch (how & 7) {
    case 0:
        strcpy(text, words[how >> 3 & 3]);
        break;
    case 1:
        snprintf(text, PF_START_TEXT, "live:%u", how >> 3);
        break;
    case 2:
        snprintf(text, PF_START_TEXT, "epoch:%u", how >> 3);
        break;
    case 3:
        snprintf(text, PF_START_TEXT, "%s:%" PRIu64, how & 8 ? "live" : "epoch", bytes_number(bytes, UINT64_MAX));
        break;
    case 4:
        bytes_copy(bytes, text, bytes_next(bytes) % PF_START_TEXT); /* the last byte may be no zero */
        break;
    case 5:
        asked_change(&token, bytes);
        pf_token_print(&token, text, PF_START_TEXT);
        break;
    default:
        pf_token_print(&token, text, PF_START_TEXT);
        if ((how & 7) == 7)
            break;
        at = bytes_next(bytes);
        text[at] ^= (char)bytes_next(bytes);
    }
}

static inline size_t asked_attach(struct pf_ctl_attach *request, const struct daemon *daemon, struct bytes *bytes)
{
    static const char *const feeds[] = { "a", "b", "c", "" }, *const jobs[] = { "", "j", "k", "j" },
                             *const ranks[] = { "", "0", "0-1", "0,2-3", "1-", "0-99999999999" };
    uint8_t how = bytes_next(bytes), more = bytes_next(bytes);

    strcpy(request->feed, feeds[how & 3]);
    strcpy(request->job, jobs[how >> 2 & 3]);
    request->world = 1u << (how >> 4 & 3);
    request->rank = how >> 6;
    if (more & 1)
        strcpy(request->local_ranks, ranks[(more >> 1 & 7) % 6]);
    if (more & 16)
        request->batch = (uint32_t)bytes_number(bytes, 4);
    if (more & 32)
        request->epochs = (uint32_t)bytes_number(bytes, 0), request->max_held = (uint32_t)bytes_number(bytes, 2);
    if (more & 64)
        request->run = bytes_number(bytes, 1), request->seed = bytes_number(bytes, 0);
    if (more & 128) {
        request->slow = bytes_next(bytes) % 4;
        request->flags = bytes_next(bytes) % 16;
        request->replica = (uint32_t)bytes_number(bytes, 0);
    }
    asked_start(request->start, daemon, request, bytes);
    return sizeof(*request);
}

/* A request, in *asked (zeros before), and its size. last: what this client last wanted to attach to. */
static inline size_t ask(union asked *asked, const struct daemon *daemon, struct pf_ctl_attach *last, struct bytes *bytes)
{
    static const uint16_t types[16] = { 0,           PF_CTL_ATTACH, PF_CTL_WHY,    PF_CTL_DETACH, PF_CTL_STAT, PF_CTL_PEEK,
                                        PF_CTL_STOP, PF_CTL_RELOAD, PF_CTL_SEEK,   PF_CTL_ATTACH, PF_CTL_SEEK, PF_CTL_ATTACH,
                                        PF_CTL_WHY,  PF_CTL_SEEK,   PF_CTL_ATTACH, PF_CTL_ATTACH };
    uint8_t how = bytes_next(bytes);
    uint16_t type = types[how & 15];
    size_t size = sizeof(asked->head), at;

    if (type == PF_CTL_ATTACH) {
        size = asked_attach(&asked->attach, daemon, bytes);
        *last = asked->attach;
    } else if (type == PF_CTL_SEEK) {
        size = sizeof(asked->seek);
        asked->seek.flags = how & 64 ? bytes_next(bytes) : how & 128 ? PF_ATTACH_ACCEPT_CHANGED : 0;
        asked_start(asked->seek.where, daemon, last, bytes);
    } else if (type == PF_CTL_STAT || type == PF_CTL_PEEK) {
        size = sizeof(asked->stat);
        asked->stat.what = bytes_next(bytes) % 8;
        asked->stat.feed[0] = (char)(how & 16 ? 'a' + (how >> 5 & 3) : 0);
    } else if (type == PF_CTL_RELOAD) {
        size = sizeof(asked->reload);
        asked->reload.flags = how >> 7;
        asked->reload.feed[0] = (char)(how & 16 ? 'a' + (how >> 5 & 1) : 0);
    } else if (type == 0)
        size = bytes_copy(bytes, asked, bytes_next(bytes) * (how & 16 ? 33u : 1u) % sizeof(*asked));
    if (type != 0)
        asked->head = (struct pf_ctl_head){ PF_CTL_VERSION, type, (uint32_t)size };
    if (how >= 0xe0 && type != PF_CTL_RELOAD && size > 0) {
        at = bytes_number(bytes, 0) % size;
        asked->bytes[at] ^= bytes_next(bytes);
    }
    return size;
}

#endif
