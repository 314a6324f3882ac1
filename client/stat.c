/* SPDX-License-Identifier: MIT */
/* See stat.h. */
#include "stat.h"

#include <errno.h>
#include <stdio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than any real answer (the slots of 64 full arenas are 212 MiB); a daemon that goes on for ever ends here. */
#define ROWS_BYTES_MAX (UINT64_C(256) << 20)

union message {
    struct pf_ctl_rows rows;
    uint64_t align;
    unsigned char bytes[PF_CTL_MAX];
};

static int ask(int fd, uint16_t type, uint32_t what, const char *feed, int64_t deadline_ns, struct sentence *why)
{
    struct pf_ctl_stat request = { .what = what };

    if (!feed)
        feed = "";
    if (strlen(feed) >= sizeof(request.feed))
        return sentence_set(why, -EINVAL, "the feed's name '%.80s...' is longer than %zu bytes", feed, sizeof(request.feed) - 1);
    strcpy(request.feed, feed);
    return ctlsock_send(fd, &request, type, sizeof(request), deadline_ns, why);
}

static int check_rows(const union message *message, int got, uint32_t what, struct sentence *why)
{
    const struct pf_ctl_rows *rows = &message->rows;

    if (got < (int)sizeof(*rows) || rows->head.type != PF_CTL_ROWS || rows->what != what)
        return sentence_set(why, -EPROTO, "pfeedd answered something else than what was asked for (type %u, %d bytes)",
                            rows->head.type, got);
    if ((uint64_t)rows->count * rows->row_size != (uint64_t)got - sizeof(*rows) || (rows->count > 0 && rows->row_size == 0))
        return sentence_set(why, -EPROTO, "pfeedd says %u rows of %u bytes but sent %zu bytes of them", rows->count,
                            rows->row_size, (size_t)got - sizeof(*rows));
    if (rows->more && rows->count == 0)
        return sentence_set(why, -EPROTO, "pfeedd sent no rows and says that more follow");
    return 0;
}

static int append(struct stat_rows *all, size_t row_size, const union message *message, struct sentence *why)
{
    const struct pf_ctl_rows *rows = &message->rows;
    size_t known = rows->row_size < row_size ? rows->row_size : row_size;
    size_t count = all->count + rows->count;
    unsigned char *grown;

    if (rows->count == 0)
        return 0;
    if (count > ROWS_BYTES_MAX / row_size)
        return sentence_set(why, -EPROTO, "pfeedd sends rows without end (%zu so far)", count);
    grown = realloc(all->rows, count * row_size);
    if (!grown)
        return sentence_set(why, -ENOMEM, "no memory for %zu rows", count);
    all->rows = grown;
    for (size_t i = 0; i < rows->count; i++) {
        unsigned char *to = grown + (all->count + i) * row_size;

        memcpy(to, message->bytes + sizeof(*rows) + i * rows->row_size, known);
        memset(to + known, 0, row_size - known);
    }
    all->count = count;
    return 0;
}

int stat_query(int fd, uint32_t what, const char *feed, size_t row_size, int64_t deadline_ns, struct stat_rows *out,
               struct sentence *why)
{
    struct stat_rows all = { NULL, 0 };
    union message message;
    int rc;

    rc = ask(fd, PF_CTL_STAT, what, feed, deadline_ns, why);
    if (rc < 0)
        return rc;
    do {
        rc = ctlsock_receive(fd, &message, sizeof(message), NULL, 0, deadline_ns, why);
        if (rc >= 0)
            rc = check_rows(&message, rc, what, why);
        if (rc >= 0)
            rc = append(&all, row_size, &message, why);
        /* A daemon that always has another message ready would never let the socket's own deadline pass. */
        if (rc >= 0 && message.rows.more && ctlsock_now_ns() > deadline_ns)
            rc = sentence_set(why, -ETIMEDOUT, "pfeedd did not end its answer in time");
    } while (rc >= 0 && message.rows.more);
    if (rc < 0) {
        stat_rows_fini(&all);
        return rc;
    }
    *out = all;
    return 0;
}

void stat_rows_fini(struct stat_rows *rows)
{
    free(rows->rows);
    *rows = (struct stat_rows){ NULL, 0 };
}

int stat_peek(int fd, const char *feed, int64_t deadline_ns, struct sentence *why)
{
    union message message;
    int arena, rc;

    rc = ask(fd, PF_CTL_PEEK, 0, feed, deadline_ns, why);
    if (rc < 0)
        return rc;
    rc = ctlsock_receive(fd, &message, sizeof(message), &arena, 1, deadline_ns, why);
    if (rc < 0)
        return rc;
    if (rc == (int)sizeof(struct pf_ctl_head) && message.rows.head.type == PF_CTL_OK && arena >= 0)
        return arena;
    if (arena >= 0)
        close(arena);
    return sentence_set(why, -EPROTO, "pfeedd answered without the arena that was asked for");
}

int stat_stop(int fd, int64_t deadline_ns, struct sentence *why)
{
    union message message;
    struct sentence hung_up;
    int rc;

    rc = ctlsock_send(fd, &message, PF_CTL_STOP, sizeof(struct pf_ctl_head), deadline_ns, why);
    if (rc < 0)
        return rc;
    rc = ctlsock_receive(fd, &message, sizeof(message), NULL, 0, deadline_ns, why);
    if (rc < 0)
        return rc;
    if (message.rows.head.type != PF_CTL_OK)
        return sentence_set(why, -EPROTO, "pfeedd did not agree to stop");
    do { /* the kernel closes the socket when the process is gone, whatever it did before */
        rc = ctlsock_receive(fd, &message, sizeof(message), NULL, 0, deadline_ns, &hung_up);
    } while (rc >= 0 && ctlsock_now_ns() < deadline_ns);
    if (rc == -EPIPE)
        return 0;
    return sentence_set(why, -ETIMEDOUT, "pfeedd agreed to stop but still runs");
}

/* Takes parts of the report until the last. 0 or -errno of the exchange; *code: the report's. */
static int read_report(int fd, int64_t deadline_ns, FILE *to, int *code, struct sentence *why)
{
    struct pf_ctl_report part;
    int rc;

    do {
        rc = ctlsock_receive(fd, &part, sizeof(part), NULL, 0, deadline_ns, why);
        if (rc < 0)
            return rc;
        if (rc != (int)sizeof(part) || part.head.type != PF_CTL_REPORT || !memchr(part.text, 0, sizeof(part.text)))
            return sentence_set(why, -EPROTO, "pfeedd's report is not sound");
        fputs(part.text, to);
        *code = part.code;
    } while (part.more);
    return 0;
}

int stat_reload(int fd, bool rescan, const char *feed, int64_t deadline_ns, char **report, struct sentence *why)
{
    struct pf_ctl_reload request = { .flags = rescan ? PF_RELOAD_RESCAN : 0 };
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    int rc, code = 0;

    if (!to)
        return sentence_set(why, -ENOMEM, "no memory for the report");
    snprintf(request.feed, sizeof(request.feed), "%s", feed ? feed : "");
    rc = ctlsock_send(fd, &request, PF_CTL_RELOAD, sizeof(request), deadline_ns, why);
    if (rc == 0)
        rc = read_report(fd, deadline_ns, to, &code, why);
    if ((fclose(to) != 0 || !text) && rc == 0) /* glibc trims the text here; where that fails it is gone, and fclose says 0 */
        rc = sentence_set(why, -ENOMEM, "no memory for the report");
    if (rc < 0) {
        free(text);
        return rc;
    }
    *report = text;
    return code;
}
