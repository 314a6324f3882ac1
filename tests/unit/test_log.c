/* SPDX-License-Identifier: MIT */
/* Log lines as they leave on stderr: one write a line, whatever is in it; plain and for the journal; levels; nobody who reads; problem_set;
 * and the names of dtypes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "dtype.h"
#include "log.h"

#define LINES 10000
#define LINE  109 /* bytes of each */

/* Stderr becomes a socket that keeps writes apart, so that each can be seen by itself. */
static int listener, old_stderr;

static int redirect(void **state)
{
    int pair[2];

    (void)state;
    unsetenv("JOURNAL_STREAM");
    fflush(stderr);
    old_stderr = dup(STDERR_FILENO);
    if (old_stderr < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
        return -1;
    listener = pair[0];
    if (dup2(pair[1], STDERR_FILENO) < 0)
        return -1;
    return close(pair[1]);
}

static int restore(void **state)
{
    (void)state;
    dup2(old_stderr, STDERR_FILENO);
    close(old_stderr);
    close(listener);
    unsetenv("JOURNAL_STREAM");
    return 0;
}

static const char *next_write(void)
{
    static char text[8192];
    const ssize_t n = recv(listener, text, sizeof(text) - 1, MSG_DONTWAIT);

    if (n < 0)
        return NULL;
    text[n] = 0;
    return text;
}

static void test_plain(void **state)
{
    (void)state;
    log_init(LOG_INFO);
    errno = ENOENT;
    log_error("feed '%s': %d", "a", 7);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(next_write(), "pfeedd: error: feed 'a': 7\n");
    log_warn("w");
    assert_string_equal(next_write(), "pfeedd: warning: w\n");
    log_info("i");
    assert_string_equal(next_write(), "pfeedd: i\n");
    log_debug("d");
    assert_null(next_write());
    log_init(LOG_ERROR);
    log_warn("w");
    assert_null(next_write());
    log_init(LOG_DEBUG);
    log_debug("d");
    assert_string_equal(next_write(), "pfeedd: debug: d\n");
}

static void test_journal(void **state)
{
    char stream[64];
    struct stat st;

    (void)state;
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LOG_DEBUG);
    log_error("e");
    assert_string_equal(next_write(), "<3>e\n");
    log_warn("w");
    assert_string_equal(next_write(), "<4>w\n");
    log_info("i");
    assert_string_equal(next_write(), "<6>i\n");
    log_debug("d");
    assert_string_equal(next_write(), "<7>d\n");
    /* inherited from a service, but stderr is something else */
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LOG_INFO);
    log_info("i");
    assert_string_equal(next_write(), "pfeedd: i\n");
}

static void test_hostile_text(void **state)
{
    char longest[5000];
    const char *line;

    (void)state;
    log_init(LOG_INFO);
    log_info("a\n<0>b\033[2Jc\xc2\x9b"
             "2Jd \xc3\xa4");
    assert_string_equal(next_write(), "pfeedd: a <0>b?[2Jc??2Jd \xc3\xa4\n");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    log_info("%s", longest);
    line = next_write();
    assert_in_range(strlen(line), 2000, 2200);
    assert_string_equal(line + strlen(line) - 5, "x...\n");
    assert_null(next_write());
}

/* More than anybody takes unread. */
static void fill(void)
{
    for (int i = 0; i < LINES; i++)
        log_info("%0*d", LINE - (int)strlen("pfeedd: \n"), i);
}

/* Would wait for ever, were it to wait. The descriptor's flags are those of whoever else has it. */
static void test_full_pipe(void **state)
{
    static char text[LINES * LINE];
    char expected[200];
    int ends[2], flags;
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    flags = fcntl(ends[1], F_GETFL);
    log_init(LOG_INFO);
    fill();
    log_error("the last");
    assert_int_equal(fcntl(ends[1], F_GETFL), flags);
    n = read(ends[0], text, sizeof(text));
    assert_true(n > 0 && n % LINE == 0); /* whole lines */
    snprintf(expected, sizeof(expected), "pfeedd: warning: %zd lines were lost here: nobody read what came before\npfeedd: now\n",
             LINES + 1 - n / LINE);
    log_info("now");
    n = read(ends[0], text, sizeof(text) - 1);
    text[n < 0 ? 0 : n] = 0;
    assert_string_equal(text, expected);
    close(ends[0]);
    close(ends[1]);
    log_init(LOG_INFO);
}

static void test_full_socket(void **state)
{
    unsigned n = 0;
    const char *line;

    (void)state;
    fcntl(STDERR_FILENO, F_SETFL, 0);
    log_init(LOG_INFO);
    fill();
    while ((line = next_write()))
        n++;
    assert_in_range(n, 1, LINES - 1);
    log_info("now");
    line = next_write();
    assert_int_equal(strtoul(line + strlen("pfeedd: warning: "), NULL, 10), LINES - n);
    assert_string_equal(next_write(), "pfeedd: now\n");
}

static void test_levels(void **state)
{
    static const char *const words[] = { "error", "warn", "info", "debug" };
    enum log_level level = LOG_INFO;

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(log_level_parse(words[i], &level), 0);
        assert_int_equal(level, i);
    }
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    assert_int_equal(level, LOG_DEBUG);
}

static void test_problem(void **state)
{
    char longest[2000];
    struct problem why;

    (void)state;
    assert_int_equal(problem_set(&why, -EIO, "cannot read %s", "x"), -EIO);
    assert_string_equal(why.text, "cannot read x");
    assert_int_equal(problem_set(&why, -EIO, "feed 'a': %s", why.text), -EIO);
    assert_string_equal(why.text, "feed 'a': cannot read x");
    assert_int_equal(problem_set(NULL, -EIO, "%s", "nobody asks"), -EIO);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    problem_set(&why, -EIO, "%s", longest);
    assert_int_equal(strlen(why.text), sizeof(why.text) - 1);
}

static void test_dtypes(void **state)
{
    static const struct {
        const char *name;
        enum dtype dtype;
        uint32_t size;
        uint8_t code;
    } rows[DTYPES] = {
        { "uint8", DTYPE_U8, 1, 1 },      { "uint16", DTYPE_U16, 2, 1 },  { "uint32", DTYPE_U32, 4, 1 },
        { "int32", DTYPE_I32, 4, 0 },     { "int64", DTYPE_I64, 8, 0 },   { "float16", DTYPE_F16, 2, 2 },
        { "bfloat16", DTYPE_BF16, 2, 4 }, { "float32", DTYPE_F32, 4, 2 }, { "float64", DTYPE_F64, 8, 2 },
    };
    enum dtype dtype = DTYPE_I64;

    (void)state;
    for (int i = 0; i < DTYPES; i++) {
        assert_int_equal(dtype_parse(rows[i].name, &dtype), 0);
        assert_int_equal(dtype, rows[i].dtype);
        assert_string_equal(dtype_table[dtype].name, rows[i].name);
        assert_int_equal(dtype_table[dtype].size, rows[i].size);
        assert_int_equal(dtype_table[dtype].code, rows[i].code);
    }
    assert_int_equal(dtype_parse("float", &dtype), -EINVAL);
    assert_int_equal(dtype_parse("", &dtype), -EINVAL);
    assert_int_equal(dtype, DTYPE_F64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, redirect, restore),
        cmocka_unit_test_setup_teardown(test_journal, redirect, restore),
        cmocka_unit_test_setup_teardown(test_hostile_text, redirect, restore),
        cmocka_unit_test_setup_teardown(test_full_pipe, redirect, restore),
        cmocka_unit_test_setup_teardown(test_full_socket, redirect, restore),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_dtypes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
