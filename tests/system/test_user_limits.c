/* SPDX-License-Identifier: MIT */
/*
 * DESIGN section 7: limits per uid on consumers, jobs and held slots. Each limit is reached and passed by a uid of its own;
 * the refusal has a sentence with the numbers and changes nothing; other users, and root, still find a place. And: whoever is
 * refused all the time leaves a bounded number of lines in the log, and all of them are counted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history.h"

#define ANNA 54321u /* uids of nobody else */
#define BERT 54322u

static struct daemon pfeedd;

static void start_daemon(const char *limits)
{
    char yaml[512];

    if (geteuid() != 0)
        skip("only root can be several users");
    snprintf(
        yaml, sizeof(yaml),
        "version: 1\ndaemon: { workers: 1, memory: 64MiB, %s }\nfeeds:\n  spine:\n    source: { type: synthetic, rows: 256 }\n"
        "    batch: 8\n    slots: 64\n    access: { users: [%u, %u] }\n    fields: { x: { dtype: float32, shape: [16] } }\n",
        limits, ANNA, BERT);
    daemon_start(&pfeedd, yaml);
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno));
}

static int try_open(uid_t uid, struct pfeed_options options, struct pfeed **out)
{
    options.feed = "spine";
    return try_open_as(&pfeedd, uid, options, out);
}

static struct pfeed *open_as(uid_t uid, struct pfeed_options options)
{
    struct pfeed *pf;
    int rc = try_open(uid, options, &pf);

    CHECK(rc == 0, "uid %u was refused: %s", uid, pfeed_error(NULL));
    return pf;
}

static void expect_refusal(uid_t uid, struct pfeed_options options, const char *words, const char *numbers)
{
    static struct pf_row_consumer before[64], after[64];
    struct pf_row_feed feed = feed_now(&pfeedd, "spine"), then;
    size_t n = stat_consumers(&pfeedd, "spine", before, 64);
    struct pfeed *pf;
    int rc = try_open(uid, options, &pf);

    CHECK(rc == -EUSERS, "uid %u got %d instead of -EUSERS", uid, rc);
    CHECK(strstr(pfeed_error(NULL), words) && strstr(pfeed_error(NULL), numbers), "the sentence is '%s', without '%s' and '%s'",
          pfeed_error(NULL), words, numbers);
    then = feed_now(&pfeedd, "spine");
    CHECK(then.jobs == feed.jobs && then.consumers == feed.consumers, "%u jobs and %u consumers became %u and %u", feed.jobs,
          feed.consumers, then.jobs, then.consumers);
    CHECK(stat_consumers(&pfeedd, "spine", after, 64) == n, "a refusal changed the number of consumers");
    for (size_t i = 0; i < n; i++)
        CHECK(before[i].consumer == after[i].consumer && before[i].state == after[i].state, "a refusal changed consumer %llu",
              (unsigned long long)before[i].consumer);
}

static void goes_on(struct pfeed *pf)
{
    must_done(pf, must_next(pf));
}

/* ---- each limit ----------------------------------------------------------------------------------------------------- */

static void run_consumers(const void *arg)
{
    struct pfeed *annas[3], *others[2];

    start_daemon("user_consumers: 3, max_consumers: 6");
    for (int i = 0; i < 3; i++)
        annas[i] = open_as(ANNA, (struct pfeed_options){ 0 });
    expect_refusal(ANNA, (struct pfeed_options){ 0 }, "user_consumers` allows 3", "has 3 consumers");
    others[0] = open_as(BERT, (struct pfeed_options){ 0 });
    others[1] = open_as(0, (struct pfeed_options){ 0 });
    pfeed_close(annas[2]);
    annas[2] = open_as(ANNA, (struct pfeed_options){ 0 });
    for (int i = 0; i < 3; i++)
        goes_on(annas[i]);
    for (int i = 0; i < 3; i++)
        pfeed_close(annas[i]);
    for (int i = 0; i < 2; i++)
        pfeed_close(others[i]);
    daemon_stop(&pfeedd);
}

static void run_default(const void *arg)
{
    struct pfeed *annas[2], *bert, *root;

    start_daemon("max_consumers: 4"); /* of which one user may have half */
    for (int i = 0; i < 2; i++)
        annas[i] = open_as(ANNA, (struct pfeed_options){ 0 });
    expect_refusal(ANNA, (struct pfeed_options){ 0 }, "user_consumers` allows 2", "has 2 consumers");
    bert = open_as(BERT, (struct pfeed_options){ 0 });
    root = open_as(0, (struct pfeed_options){ 0 });
    expect_refusal(BERT, (struct pfeed_options){ 0 }, "max_consumers` allows 4", "there are 4 consumers");
    expect_refusal(0, (struct pfeed_options){ 0 }, "max_consumers` allows 4", "there are 4 consumers");
    for (int i = 0; i < 2; i++)
        pfeed_close(annas[i]);
    pfeed_close(bert);
    pfeed_close(root);
    daemon_stop(&pfeedd);
}

static void run_jobs(const void *arg)
{
    struct pfeed_options first = { .job = "first", .world = 2 }, second = { .job = "second" }, third = { .job = "third" };
    struct pfeed *annas[3], *again, *bert, *roots[3];

    start_daemon("user_jobs: 2");
    annas[0] = open_as(ANNA, first);
    annas[1] = open_as(ANNA, second);
    expect_refusal(ANNA, third, "user_jobs` allows 2", "has 2 jobs");
    expect_refusal(ANNA, (struct pfeed_options){ 0 }, "user_jobs` allows 2", "has 2 jobs"); /* a private one is one, too */
    first.rank = 1;
    annas[2] = open_as(ANNA, first); /* a further rank is no further job */
    second.run = 1;
    again = open_as(ANNA, second); /* nor is a newer run, which takes the old one's place */
    bert = open_as(BERT, third);
    for (int i = 0; i < 3; i++)
        roots[i] = open_as(0, (struct pfeed_options){ 0 }); /* who is not limited */
    goes_on(again);
    for (int i = 0; i < 3; i++) {
        pfeed_close(annas[i]);
        pfeed_close(roots[i]);
    }
    pfeed_close(again);
    pfeed_close(bert);
    daemon_stop(&pfeedd);
}

static void run_held(const void *arg)
{
    struct pfeed *annas[3], *bert;

    start_daemon("user_held: 7");
    annas[0] = open_as(ANNA, (struct pfeed_options){ .job = "j", .max_held = 3 });
    annas[1] = open_as(ANNA, (struct pfeed_options){ 0 }); /* the feed's max_held: 2 */
    expect_refusal(ANNA, (struct pfeed_options){ .max_held = 3 }, "user_held` (7)", "5 batches already");
    /* A newer run that is refused leaves the old one alone: without its 3 there are 2, and 6 more are too many. */
    expect_refusal(ANNA, (struct pfeed_options){ .job = "j", .run = 1, .max_held = 6 }, "user_held` (7)", "2 batches already");
    goes_on(annas[0]);
    annas[2] = open_as(ANNA, (struct pfeed_options){ .max_held = 2 });
    bert = open_as(BERT, (struct pfeed_options){ .max_held = 7 });
    for (int i = 0; i < 3; i++)
        pfeed_close(annas[i]);
    pfeed_close(bert);
    daemon_stop(&pfeedd);
}

/* ---- quarantine counts ---------------------------------------------------------------------------------------------- */

static void hang_up(void)
{
    struct sockaddr address;

    for (int fd = 3; fd < 64; fd++) {
        socklen_t size = sizeof(address);

        if (getpeername(fd, &address, &size) == 0 && fd != pfeedd.control)
            shutdown(fd, SHUT_RDWR);
    }
}

static void run_quarantined(const void *arg)
{
    static struct pf_row_consumer rows[4];
    struct pfeed *pf;

    start_daemon("user_consumers: 1");
    pf = open_as(ANNA, (struct pfeed_options){ 0 });
    must_next(pf);
    hang_up();
    UNTIL(stat_consumers(&pfeedd, "spine", rows, 4) == 1 && rows[0].state == PF_CONSUMER_QUARANTINED)
    {
    }
    expect_refusal(ANNA, (struct pfeed_options){ 0 }, "user_consumers` allows 1", "(1 of them dropped");
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

/* ---- the log -------------------------------------------------------------------------------------------------------- */

static unsigned count(const char *text, const char *part)
{
    unsigned n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

static unsigned told(const char *text)
{
    unsigned n = 0;

    for (; (text = strstr(text, "and ")); text++)
        if (strspn(text + 4, "0123456789") > 0 && strstr(text, "not logged"))
            n += (unsigned)strtoul(text + 4, NULL, 10);
    return n;
}

static void run_log(const void *arg)
{
    enum { TRIES = 500, BURST = 32, EVERY_S = 30 };
    int64_t start_ns = now_ns();
    struct pfeed *annas, *none;
    unsigned lines, most;
    char *output;

    start_daemon("user_jobs: 1");
    annas = open_as(ANNA, (struct pfeed_options){ .job = "mine" });
    for (int i = 0; i < TRIES; i++)
        CHECK(try_open(ANNA, (struct pfeed_options){ .job = "more", .rank = 0 }, &none) == -EUSERS, "was not refused");
    CHECK(try_open(BERT, (struct pfeed_options){ .rank = 1, .world = 1 }, &none) == -EINVAL,
          "was not refused"); /* has lines left */
    pfeed_close(annas);
    daemon_stop(&pfeedd);
    most = BURST + (unsigned)((now_ns() - start_ns) / (EVERY_S * SECOND)) + 1;
    output = daemon_output(&pfeedd);
    lines = count(output, "attach refused: pid ") - count(output, "uid 54322");
    CHECK(strstr(output, "uid 54321, feed 'spine', job 'more' rank 0: uid 54321 has 1 jobs"), "the log does not say who and why");
    CHECK(count(output, "uid 54322") == 1, "another user's refusal is not in the log");
    CHECK(lines >= BURST && lines <= most, "%u refusals were logged, not %d to %u", lines, BURST, most);
    CHECK(lines + told(output) == TRIES, "%u lines and %u left out are not %d", lines, told(output), TRIES);
    free(output);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "consumers of a uid", run_consumers, NULL },
        { "consumers, by default", run_default, NULL },
        { "jobs of a uid", run_jobs, NULL },
        { "batches of a uid", run_held, NULL },
        { "dropped ones count", run_quarantined, NULL },
        { "refusals in the log", run_log, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
