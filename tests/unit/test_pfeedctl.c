/* SPDX-License-Identifier: MIT */
/* pfeedctl against daemons that are sound, older, newer, dying and mad: what it prints, its JSON (read by Python), its exit
 * codes; and that nothing a daemon sends makes it crash. argv[1]: pfeedctl. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "fake_pfeedd.h"
#include "rows.h"

static const char *program;

/* ---- what the fake knows -------------------------------------------------------------------------------------------- */

#define NASTY "a\"b\\c\n\t\x01\x1b[31m\xff\xc3\xa9\xe2\x82" /* quote, backslash, controls, no UTF-8, an e acute, a cut-off euro */

static const struct pf_row_daemon the_daemon = {
    .version = "9.9.9",
    .shm = "memfd",
    .config = "/etc/pfeed/pfeed.yaml",
    .status = "serving 2 feeds",
    .pid = 4711,
    .uptime_ns = 11520000000000,
    .memory_bytes = 8ull << 30,
    .memory_used_bytes = 1288490189,
    .cpu_ns = 12300000000,
    .workers = 4,
    .workers_busy = 3,
    .feeds = 2,
    .consumers = 3,
    .wakeups = 123456,
};
static struct pf_row_feed feeds[] = {
    { .name = "images",
      .source = "directory",
      .deliver = "split",
      .tail = "drop",
      .shuffle = "global",
      .samples = 1281167,
      .seed = UINT64_MAX,
      .slot_bytes = 77070336,
      .batch = 256,
      .n_slots = 6,
      .free = 1,
      .filling = 1,
      .ready = 4,
      .held = 3,
      .consumers = 2,
      .jobs = 1,
      .rows_filled = 12345678,
      .rows_delivered = 1000,
      .read_bytes = 5ull << 30,
      .decode_ns = 1500000,
      .prints = { 0xfedcba9876543210u, 1, 2 },
      .slots_short = 10 },
    { .name = "tokens", .source = "tokens", .deliver = "split", .batch = 32, .n_slots = 2, .failed = NASTY },
};
static struct pf_row_slot slots[] = {
    { .feed = "images",
      .slot = 0,
      .state = PF_SLOT_READY,
      .epoch = 3,
      .index = 17,
      .rows = 256,
      .rows_done = 256,
      .grants = 1,
      .since_ns = 4200000,
      .n_holders = 1,
      .holders = { { 12, 0, 1, "run" } } },
    { .feed = "images",
      .slot = 1,
      .state = PF_SLOT_READY,
      .grants = 2,
      .n_holders = 2,
      .holders = { { 12, 0, 1, "run" }, { 13, 1, 0, "run" } } },
    { .feed = "images", .slot = 2, .state = PF_SLOT_READY, .grants = 1, .n_holders = 1, .holders = { { 14, 0, 1, "" } } },
    { .feed = "images", .slot = 3, .state = PF_SLOT_READY },
    { .feed = "images", .slot = 4, .state = PF_SLOT_FILLING, .rows = 256, .rows_done = 100 },
    { .feed = "images", .slot = 5, .state = PF_SLOT_FREE },
    { .feed = "tokens", .slot = 0, .state = PF_SLOT_FREE },
    { .feed = "tokens", .slot = 1, .state = 77, .n_holders = UINT32_MAX, .grants = 9 },
};
static const struct pf_row_consumer consumers[] = {
    { .feed = "images",
      .job = "run",
      .consumer = 12,
      .epoch = 3,
      .step = 18,
      .pid = 100,
      .uid = 1000,
      .world = 2,
      .batch = 128,
      .granted = 2,
      .held = 1,
      .max_held = 2,
      .state = PF_CONSUMER_RUNNING,
      .age_ns = 60000000000,
      .grants = 20,
      .wait_ns = 250000000 },
    { .feed = "images", .job = "run", .consumer = 13, .rank = 1, .world = 2, .pid = -1, .state = 99, .waits_for = "rank 0" },
};
static const struct pf_row_error errors[] = {
    { .feed = "images", .where = "n01/" NASTY ".jpg", .reason = "premature end", .id = 77, .epoch = 2, .count = 3 },
};
static const struct pf_row_tune tunes[] = {
    { .feed = "images",
      .in_use = 9,
      .n_slots = 16,
      .most = 64,
      .needed = 7,
      .slots_auto = 1,
      .workers = 4,
      .compute_ns = 10000000,
      .supply_ns = 8000000,
      .slowest_ns = 31000000,
      .compute_varies = 125000,
      .supply_varies = 50000,
      .waits = 12000 },
};
static const struct pf_row_change changes[] = {
    { .feed = "images",
      .what = "slots",
      .why = "bursts" NASTY,
      .number = 65,
      .batch = 40,
      .ago_ns = 3000000000,
      .from = 6,
      .to = 9 },
};

static const struct all {
    const void *rows;
    uint32_t count, size;
} all[] = {
    [PF_STAT_DAEMON] = { &the_daemon, 1, sizeof(the_daemon) }, [PF_STAT_FEEDS] = { feeds, 2, sizeof(feeds[0]) },
    [PF_STAT_SLOTS] = { slots, 8, sizeof(slots[0]) },          [PF_STAT_CONSUMERS] = { consumers, 2, sizeof(consumers[0]) },
    [PF_STAT_ERRORS] = { errors, 1, sizeof(errors[0]) },       [PF_STAT_CHANGES] = { changes, 1, sizeof(changes[0]) },
    [PF_STAT_TUNE] = { tunes, 1, sizeof(tunes[0]) },
};

/* Each row in a message of its own, as long as row_size says. */
static void send_resized(int socket, uint32_t what, uint32_t row_size)
{
    unsigned char row[PF_CTL_MAX];

    for (uint32_t i = 0; i < all[what].count; i++) {
        uint32_t known = row_size < all[what].size ? row_size : all[what].size;

        memset(row, 0xee, sizeof(row));
        memcpy(row, (const char *)all[what].rows + i * all[what].size, known);
        fake_rows(socket, what, row, 1, row_size, i + 1 < all[what].count);
    }
}

/* data: something: a feed is being filled. */
static bool sound(int socket, const union fake_message *request, void *data)
{
    uint32_t what = request->stat.what;

    if (request->head.type == PF_CTL_STOP) {
        struct pf_ctl_head head;

        fake_send(socket, &head, PF_CTL_OK, sizeof(head), NULL, 0);
        return false;
    }
    if (strcmp(request->stat.feed, "secret") == 0)
        fake_error(socket, -EACCES, "feed 'secret' is not for you; ask its owner");
    else if (*request->stat.feed && strcmp(request->stat.feed, "images") != 0)
        fake_rows(socket, what, NULL, 0, all[what].size, false);
    else if (*request->stat.feed && what == PF_STAT_FEEDS)
        fake_rows(socket, what, feeds, 1, sizeof(feeds[0]), false);
    else
        send_resized(socket, what, all[what].size);
    if (what == PF_STAT_FEEDS && data)
        feeds[0].rows_filled += 1000000; /* thousands a second, however slow the machine */
    return true;
}

static bool larger(int socket, const union fake_message *request, void *data)
{
    (void)data;
    send_resized(socket, request->stat.what, all[request->stat.what].size + 40);
    return true;
}

/* Knows a feed's name and source only. */
static bool smaller(int socket, const union fake_message *request, void *data)
{
    (void)data;
    send_resized(socket, request->stat.what, request->stat.what == PF_STAT_FEEDS ? 96 : all[request->stat.what].size);
    return true;
}

static bool empty(int socket, const union fake_message *request, void *data)
{
    (void)data;
    fake_rows(socket, request->stat.what, NULL, 0, 0, false);
    return true;
}

/* ---- hostile ones --------------------------------------------------------------------------------------------------- */

static bool dies_half_way(int socket, const union fake_message *request, void *data)
{
    (void)data;
    fake_rows(socket, request->stat.what, all[request->stat.what].rows, 1, all[request->stat.what].size, true);
    return false;
}

static bool dies_at_once(int socket, const union fake_message *request, void *data)
{
    (void)socket, (void)request, (void)data;
    return false;
}

/* data: the header to send after one row's worth of bytes. */
static bool lies(int socket, const union fake_message *request, void *data)
{
    union fake_message message = { .rows = *(struct pf_ctl_rows *)data };
    (void)request;

    fake_send(socket, &message, data ? message.rows.head.type : 0, sizeof(message.rows) + 64, NULL, 0);
    return true;
}

static bool endless(int socket, const union fake_message *request, void *data)
{
    (void)data;
    for (int i = 0; i < 400; i++)
        fake_rows(socket, request->stat.what, NULL, 0, 64, true);
    return true;
}

static bool random_bytes(int socket, const union fake_message *request, void *data)
{
    union fake_message message;
    unsigned *seed = data;
    uint32_t size = sizeof(message.head) + (uint32_t)rand_r(seed) % 600;

    for (uint32_t i = 0; i < size; i++)
        message.bytes[i] = (unsigned char)rand_r(seed);
    message.rows.what = rand_r(seed) % 4 ? request->stat.what : message.rows.what;
    message.rows.count = rand_r(seed) % 4 ? (uint32_t)rand_r(seed) % 4 : message.rows.count;
    message.rows.more = (uint32_t)rand_r(seed) % 2;
    if (rand_r(seed) % 4 && message.rows.count < 8) {
        message.rows.row_size = (uint32_t)rand_r(seed) % 200;
        size = (uint32_t)sizeof(message.rows) + message.rows.count * message.rows.row_size;
    }
    for (uint32_t i = sizeof(message.rows); i < size; i++)
        message.bytes[i] = (unsigned char)rand_r(seed);
    fake_send(socket, &message, rand_r(seed) % 8 ? PF_CTL_ROWS : PF_CTL_ERROR, size, NULL, 0);
    return !message.rows.more; /* else it would wait for what never comes */
}

/* ---- the checks ----------------------------------------------------------------------------------------------------- */

struct expect {
    const char *words[8];
    int status;
    const char *out, *err; /* must be in there; NULL: err must be empty */
    const char *json;      /* holds for the document */
};

static void expect(const struct fake *fake, const struct expect *expected)
{
    struct run run = run_pfeedctl(program, fake, expected->words, false, NULL);
    const char *what = expected->words[0] ? expected->words[0] : "(none)";

    CHECK(run.status == expected->status, "%s: exit %d, not %d\n%s\n%s", what, run.status, expected->status, run.out, run.err);
    CHECK(!expected->out || strstr(run.out, expected->out), "%s: no '%s' in\n%s", what, expected->out, run.out);
    CHECK(expected->err ? strstr(run.err, expected->err) != NULL : !*run.err, "%s: '%s' expected on stderr, got\n%s", what,
          expected->err ? expected->err : "nothing", run.err);
    CHECK(!strchr(run.out, 0x1b), "%s: escapes in\n%s", what, run.out);
    if (expected->json && access("/usr/bin/python3", X_OK) == 0)
        CHECK(json_holds(run.out, expected->json), "%s: not %s:\n%s", what, expected->json, run.out);
    run_fini(&run);
}

static void expect_all(fake_answer *answer, void *data, const struct expect *expected, size_t n)
{
    struct fake fake;

    fake_start(&fake, answer, data);
    for (size_t i = 0; i < n; i++)
        expect(&fake, &expected[i]);
    fake_stop(&fake);
}
#define EXPECT_ALL(answer, data, ...)                                                                                            \
    expect_all(answer, data, (const struct expect[]){ __VA_ARGS__ },                                                             \
               sizeof((const struct expect[]){ __VA_ARGS__ }) / sizeof(struct expect))

/* A member that is added to a row and forgotten here would be shown nowhere. */
static void test_columns(void)
{
    static const struct {
        const struct table *table;
        size_t reserved;
    } tables[] = { { &table_daemon, 0 }, { &table_feeds, 0 },   { &table_slots, 4 }, { &table_consumers, 0 },
                   { &table_errors, 0 }, { &table_changes, 0 }, { &table_tune, 4 },  { &table_caches, 0 } };

    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        size_t bytes = tables[t].reserved;

        for (size_t c = 0; c < tables[t].table->n_columns; c++)
            bytes += tables[t].table->columns[c].size;
        CHECK(bytes == tables[t].table->row_size, "%s: columns for %zu of %zu bytes", tables[t].table->name, bytes,
              tables[t].table->row_size);
    }
}

static void test_usage(void)
{
    const struct expect expected[] = {
        { { "--help" }, 0, "consumers [FEED]", NULL, NULL },
        { { "help", "errors" }, 0, "Columns of errors", NULL, NULL },
        { { "slots", "--help" }, 0, "held: ready and granted", NULL, NULL },
        { { "completion", "bash" }, 0, "complete -F _pfeedctl pfeedctl", NULL, NULL },
        { { "completion", "fish" }, 0, "-l watch", NULL, NULL },
        { { "counters" }, 0, "wait_ns", NULL, NULL },
        { { "counters", "--json" },
          0,
          NULL,
          NULL,
          "any(c['name'] == 'rows_filled' and c['scope'] == 'feed' for c in d['counters'])" },
        { { "--version" }, 0, "pfeedctl ", NULL, NULL },
        { { NULL }, 2, NULL, "Verbs:", NULL },
        { { "statsu" }, 2, NULL, "did you mean 'status'?", NULL },
        { { "status", "--jsno" }, 2, NULL, "did you mean '--json'?", NULL },
        { { "help", "fedes" }, 2, NULL, "did you mean 'feeds'?", NULL },
        { { "completion", "tcsh" }, 2, NULL, "bash zsh fish", NULL },
        { { "completion" }, 2, NULL, "needs SHELL", NULL },
        { { "status", "x" }, 2, NULL, "does not take 'x'", NULL },
        { { "feeds", "x", "--feed", "y" }, 2, NULL, "twice", NULL },
        { { "feeds", "--feed" }, 2, NULL, "needs a value", NULL },
        { { "feeds", "--watch=0" }, 2, NULL, "0.1 to", NULL },
        { { "feeds", "--watch=1x" }, 2, NULL, "0.1 to", NULL },
        { { "feeds", "--row", "1" }, 2, NULL, "no option --row", NULL },
        { { "feeds", "--columns", "name,redy" }, 2, NULL, "did you mean 'ready'?", NULL },
        { { "feeds", "" }, 2, NULL, "empty", NULL },
        { { "peek", "images" }, 2, NULL, "needs --out", NULL },
        { { "peek", "--out", "x" }, 2, NULL, "needs FEED", NULL },
        { { "peek", "images", "--out", "x", "--row", "-1" }, 2, NULL, "--row", NULL },
        { { "peek", "images", "--out", "-", "--json" }, 2, NULL, "neither", NULL },
        { { "status", "--socket", "/nowhere/sock" }, 3, NULL, "no pfeedd at /nowhere/sock", NULL },
        { { "status", "--json", "--socket", "/nowhere/sock" },
          3,
          NULL,
          "no pfeedd",
          "d['exit'] == 3 and 'no pfeedd' in d['error']" },
    };

    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        expect(NULL, &expected[i]);
}

static void test_sound(void)
{
    EXPECT_ALL(
        sound, NULL, { { "status" }, 1, "1.20 GiB", NULL, NULL }, { { "status" }, 1, "3 h 12 min", NULL, NULL },
        { { "status", "--json" },
          1,
          NULL,
          NULL,
          "d['schema_version'] == 1 and d['verb'] == 'status' and d['daemon']['pid'] == 4711 and "
          "d['daemon']['uptime_ns'] == 11520000000000 and len(d['feeds']) == 2" },
        { { "feeds" }, 1, "12.3 M", NULL, NULL },
        { { "feeds", "--columns", "seed,decode_ns,read_bytes" }, 1, "18446744073709551615    1.50 ms    5.00 GiB", NULL, NULL },
        { { "feeds", "images" }, 0, "6 of 16 slots, memory is short", NULL, NULL },
        { { "feeds", "--json" },
          1,
          NULL,
          NULL,
          "[f['slots_short'] for f in d['feeds']] == [10, 0] and d['feeds'][0]['prints'] == "
          "'fedcba9876543210:0000000000000001:0000000000000002'" },
        { { "feeds", "--json" },
          1,
          NULL,
          NULL,
          "d['feeds'][0]['seed'] == 2**64 - 1 and d['feeds'][0]['read_bytes'] == 5 << 30 and "
          "d['feeds'][1]['failed'] == 'a\"b\\\\c\\n\\t\\x01\\x1b[31m\\ufffd\\u00e9\\ufffd\\ufffd'" },
        { { "feeds", "--feed", "imags" }, 1, NULL, "did you mean 'images'?", NULL },
        { { "feeds", "--feed", "secret" }, 1, NULL, "not for you", NULL },
        { { "feeds", "secret", "--json" }, 1, NULL, "not for you", "'not for you' in d['error']" },
        { { "slots" }, 0, "run/0 (run/1)", NULL, NULL }, { { "slots" }, 0, "#14", NULL, NULL },
        { { "slots" }, 0, "state 77", NULL, NULL },
        { { "slots", "--json" },
          0,
          NULL,
          NULL,
          "[s['state'] for s in d['slots']] == ['held', 'held', 'held', 'ready', 'filling', 'free', 'free', 'state 77'] and "
          "d['slots'][1]['holders'][1] == {'consumer': 13, 'job': 'run', 'rank': 1, 'taken': False} and "
          "len(d['slots'][7]['holders']) == 8" },
        { { "consumers" }, 0, "rank 0", NULL, NULL },
        { { "consumers", "--json" },
          0,
          NULL,
          NULL,
          "d['consumers'][1]['pid'] == -1 and d['consumers'][0]['wait_ns'] == 250000000 and d['consumers'][0]['state'] == "
          "'running'" },
        { { "errors" }, 1, "n01/a\"b\\c????[31m?\xc3\xa9??.jpg", NULL, NULL },
        { { "errors", "--json" }, 1, NULL, NULL, "d['errors'][0]['id'] == 77 and d['errors'][0]['count'] == 3" },
        { { "tune" }, 0, "slots     6   9  bursts", NULL, NULL },
        { { "tune" }, 0, "images  auto        9     16    64       7  10.0 ms  12.5 %", NULL, NULL },
        { { "tune", "--json" },
          0,
          NULL,
          NULL,
          "d['tuning'] == [dict(feed='images', slots_auto='auto', in_use=9, n_slots=16, most=64, needed=7, compute_ns=10**7, "
          "compute_varies=125000, supply_ns=8 * 10**6, supply_varies=50000, slowest_ns=31 * 10**6, waits=12000, workers=4)]" },
        { { "tune", "--json" },
          0,
          NULL,
          NULL,
          "d['schema_version'] == 1 and [(c['feed'], c['what'], c['from'], c['to'], c['number'], c['batch'], c['ago_ns']) for c "
          "in "
          "d['changes']] == [('images', 'slots', 6, 9, 65, 40, 3000000000)] and d['changes'][0]['why'].startswith('bursts')" },
        { { "stop" }, 0, "has stopped", NULL, NULL }, { { "stop", "--json", "--watch" }, 0, NULL, NULL, "d['stopped'] is True" });
    EXPECT_ALL(
        larger, NULL, { { "feeds", "--json" }, 1, NULL, NULL, "d['feeds'][0]['batch'] == 256 and 'failed' in d['feeds'][0]" },
        { { "status" }, 1, "9.9.9", NULL, NULL }, { { "errors", "--json" }, 1, NULL, NULL, "d['errors'][0]['count'] == 3" });
    EXPECT_ALL(
        smaller, NULL,
        { { "feeds", "--json" }, 0, NULL, NULL, "d['feeds'][0]['source'] == 'directory' and d['feeds'][0]['batch'] == 0" });
    EXPECT_ALL(empty, NULL, { { "errors" }, 0, "no bad samples", NULL, NULL },
               { { "errors", "--json" }, 0, NULL, NULL, "d['errors'] == []" },
               { { "tune" }, 0, "nothing was changed", NULL, NULL }, { { "status" }, 1, NULL, "instead of one", NULL },
               { { "consumers", "x" }, 1, NULL, "no feed 'x'", NULL });
}

static void test_hostile(void)
{
    struct pf_ctl_rows lie[] = {
        { .head.type = PF_CTL_ROWS, .what = PF_STAT_FEEDS, .count = UINT32_MAX, .row_size = sizeof(struct pf_row_feed) },
        { .head.type = PF_CTL_ROWS, .what = PF_STAT_FEEDS, .count = 1u << 16, .row_size = 1u << 16 },
        { .head.type = PF_CTL_ROWS, .what = PF_STAT_FEEDS, .count = 2, .row_size = 64 },
        { .head.type = PF_CTL_ROWS, .what = PF_STAT_FEEDS, .count = 0, .row_size = 64 },
        { .head.type = PF_CTL_ROWS, .what = PF_STAT_SLOTS, .count = 1, .row_size = 64 },
        { .head.type = PF_CTL_OK, .what = PF_STAT_FEEDS, .count = 1, .row_size = 64 },
        { .head.type = PF_CTL_ERROR, .what = PF_STAT_FEEDS, .count = 1, .row_size = 64 },
    };
    unsigned seed = 1;
    struct fake fake;

    EXPECT_ALL(dies_half_way, NULL, { { "feeds" }, 3, NULL, "closed the connection", NULL },
               { { "slots", "--json" }, 3, NULL, "closed the connection", "d['exit'] == 3" },
               { { "status", "--watch" }, 3, NULL, "closed the connection", NULL });
    EXPECT_ALL(dies_at_once, NULL, { { "status" }, 3, NULL, "closed the connection", NULL },
               { { "stop" }, 3, NULL, "closed", NULL });
    EXPECT_ALL(endless, NULL, { { "feeds" }, 1, NULL, "no rows and says that more follow", NULL });
    for (size_t i = 0; i < sizeof(lie) / sizeof(lie[0]); i++)
        EXPECT_ALL(lies, &lie[i], { { "feeds" }, 1, NULL, "pfeedd", NULL });
    fake_start(&fake, random_bytes, &seed);
    for (int i = 0; i < 150; i++) {
        static const char *const verbs[] = { "status", "feeds", "slots", "consumers", "errors", "stop", "peek" };
        const char *words[] = { verbs[i % 7], i % 2 ? "--json" : NULL, NULL };
        const char *peek[] = { "peek", "images", "--out", "/dev/null", NULL };
        struct run run = run_pfeedctl(program, &fake, i % 7 == 6 ? peek : words, i % 5 == 0, NULL);

        CHECK(run.status == 0 || run.status == 1 || run.status == 3, "%s, round %d: %d\n%s\n%s", words[0], i, run.status, run.out,
              run.err);
        CHECK(run.status != 3 || *run.err, "%s, round %d: no daemon, and not a word", words[0], i);
        run_fini(&run);
    }
    fake_stop(&fake);
}

/* The longest line, escape sequences apart. */
static size_t longest(const char *text)
{
    size_t most = 0, n = 0;

    for (; *text; text++) {
        if (*text == 033)
            text += strcspn(text, "HJKm");
        else if (*text == '\n')
            n = 0;
        else if (*text != '\r')
            n++;
        most = n > most ? n : most;
    }
    return most;
}

static void test_terminal(void)
{
    const char *words[] = { "slots", NULL }, *watch[] = { "feeds", "--watch=0.1", "--columns", "all", NULL },
               *json[] = { "feeds", "images", "--json", "--watch=0.1", NULL };
    struct fake fake;
    struct run run;

    fake_start(&fake, sound, &fake);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    run = run_pfeedctl(program, &fake, words, true, NULL);
    CHECK(run.status == 0 && strstr(run.out, "\033[34ma\033[0m") && strstr(run.out, "3 held, 1 ready =, 1 filling -, 1 free ."),
          "%s", run.out);
    CHECK(strstr(run.out, "a run/0 (2), b run/1 (1), c #14 (1), * several"), "%s", run.out);
    run_fini(&run);
    setenv("NO_COLOR", "1", 1);
    run = run_pfeedctl(program, &fake, words, true, NULL);
    CHECK(run.status == 0 && !strchr(run.out, 0x1b) && strstr(run.out, "images  [a*c=-.]"), "%s", run.out);
    run_fini(&run);
    run = run_pfeedctl(program, &fake, watch, true, "\033[J");
    CHECK(run.status == 1 && text_count(run.out, "\033[H") >= 3 && text_count(run.out, "\033[J") >= 3, "%d: %s", run.status,
          run.out);
    CHECK(longest(run.out) > 80 && longest(run.out) <= 100, "%zu columns on a terminal of 100: %s", longest(run.out), run.out);
    run_fini(&run);
    unsetenv("NO_COLOR");
    run = run_pfeedctl(program, &fake, watch, false, "rows_filled");
    CHECK(run.status == 1 && !strchr(run.out, 0x1b) && text_count(run.out, "rows_filled") >= 3, "%d: %s", run.status, run.out);
    CHECK(strstr(run.out, "k rows/s") || strstr(run.out, "M rows/s"), "%s", run.out);
    run_fini(&run);
    run = run_pfeedctl(program, &fake, json, false, "\n");
    CHECK(run.status == 0 && text_count(run.out, "\n") >= 3 &&
              text_count(run.out, "{\"schema_version\":1,") == text_count(run.out, "\n"),
          "%d: %s", run.status, run.out);
    run_fini(&run);
    fake_stop(&fake);
}

static bool once(int socket, const union fake_message *request, void *data)
{
    static unsigned looks;

    sound(socket, request, data);
    return looks++ == 0;
}

/* The daemon goes while nobody asks it anything. */
static void test_gone(void)
{
    const char *words[] = { "consumers", "--watch=0.2", NULL };
    struct fake fake;
    struct run run;

    fake_start(&fake, once, NULL);
    run = run_pfeedctl(program, &fake, words, false, NULL);
    CHECK(run.status == 3 && strstr(run.err, "pfeedd has gone") && text_count(run.out, "rank 0") == 2, "%d: %s %s", run.status,
          run.out, run.err);
    run_fini(&run);
    fake_stop(&fake);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2, "usage: test_pfeedctl PFEEDCTL");
    program = argv[1];
    signal(SIGPIPE, SIG_IGN);
    unsetenv("PFEED_SOCKET");
    setenv("XDG_RUNTIME_DIR", "/nowhere", 1);
    test_columns();
    test_usage();
    test_sound();
    test_hostile();
    test_terminal();
    test_gone();
    return 0;
}
