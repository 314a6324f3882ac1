/* SPDX-License-Identifier: MIT */
/* The source `tar` where the world changes under it: shards that change while they are open, what is kept of the pictures' heads,
 * its prints, its budget. That it reads what others write is in tests/tar. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "opened.h"
#include "source/descriptors.h"
#include "source/digest.h"
#include "source/matches.h"
#include "source/tar_header.h"

extern const struct source_ops source_tar;

#define IMAGE "jpg;png" /* bytes are called by what they are */

static struct source_progress progress;
static const struct source_want wants[] = {
    { .name = "image", .from = "jpg;png", .dtype = DTYPES },
    { .name = "label", .from = "cls", .dtype = DTYPE_I64 },
    { .name = "again", .from = "jpg;png", .dtype = DTYPES },
    { .name = "mask", .from = "seg.png", .dtype = DTYPES },
};
static struct source_env env = { .wants = wants, .n_wants = 2, .state = "state", .progress = &progress };

/* A manifest is kept of what is old. */
static void settle(const char *path, time_t when)
{
    const struct timespec times[2] = { { .tv_sec = when }, { .tv_sec = when } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void add(FILE *file, const char *name, const char *text)
{
    uint8_t block[TAR_BLOCK] = { 0 };
    uint32_t sum = 0;
    strcpy((char *)block, name);
    snprintf((char *)block + 124, 12, "%011o", (unsigned)strlen(text));
    memset(block + 148, ' ', 8);
    block[156] = '0';
    memcpy(block + 257, "ustar\00000", 8);
    for (size_t i = 0; i < sizeof block; i++)
        sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum);
    assert_int_equal(fwrite(block, 1, sizeof block, file), sizeof block);
    memset(block, 0, sizeof block);
    assert_true(strlen(text) <= sizeof block);
    memcpy(block, text, strlen(text));
    if (*text)
        assert_int_equal(fwrite(block, 1, sizeof block, file), sizeof block);
}

/* n samples of two members; the jpg is its own name, at the front of which is `mark`. */
static void make_shard(const char *path, unsigned n, char mark)
{
    static const char zeros[2 * TAR_BLOCK];
    char name[32], text[40];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%02u.jpg", i);
        snprintf(text, sizeof text, "%c%s", mark, name);
        add(file, name, text);
        snprintf(name, sizeof name, "%02u.cls", i);
        snprintf(text, sizeof text, "%u\n", 10 * i);
        add(file, name, text);
        snprintf(name, sizeof name, "%02u.seg.png", i);
        add(file, name, "mask");
    }
    assert_int_equal(fwrite(zeros, 1, sizeof zeros, file), sizeof zeros);
    assert_int_equal(fclose(file), 0);
    settle(path, 1000000000);
}

static void make_two(void)
{
    assert_int_equal(mkdir("state", 0700), 0);
    make_shard("a-0.tar", 3, 'x');
    make_shard("a-1.tar", 4, 'y');
}

static void expect_image(struct opened *o, uint64_t id, const char *text)
{
    assert_int_equal(read_part(o, id, IMAGE), 0);
    assert_int_equal(o->value.size, strlen(text));
    assert_memory_equal(o->value.data, text, strlen(text));
}

static void test_read(void **state)
{
    (void)state;
    struct opened o;
    const struct sample_part *parts;
    char text[512];
    make_two();
    env.n_wants = 4;
    OPEN(&o, &source_tar, &env, { "path", "a-{0..1}.tar" });
    env.n_wants = 2;
    assert_int_equal(o.rc, 0);
    assert_int_equal(source_tar.count(o.source), 7);
    assert_int_equal(source_tar.parts(o.source, &parts), 3); /* two fields share one */
    assert_int_equal(source_tar.part_of(o.source, 2), source_tar.part_of(o.source, 0));
    assert_int_equal(source_tar.part_of(o.source, 3), 2);
    expect_image(&o, 2, "x02.jpg");
    expect_image(&o, 3, "y00.jpg");
    assert_int_equal(read_int(&o, 6, "label"), 30);
    assert_int_equal(read_part(&o, 6, "seg.png"), 0);
    assert_null(o.value.head); /* they are the first part's */
    struct source_place place;
    assert_true(source_tar.place(o.source, 6, 0, &place));
    assert_int_equal(place.offset, 9 * 2 * TAR_BLOCK + TAR_BLOCK);
    assert_int_equal(place.size, 7);
    assert_string_equal(place.path + strlen(folder), "/a-1.tar");
    assert_false(source_tar.place(o.source, 6, 1, &place));
    source_tar.where(o.source, 6, text, sizeof text);
    assert_string_equal(text + strlen(folder), "/a-1.tar!03");
    source_tar.path(o.source, 6, text, sizeof text);
    assert_string_equal(text, "a-1.tar!03");
    close_source(&o);
}

static void expect_changed(struct opened *o, uint64_t id)
{
    assert_int_equal(read_part(o, id, IMAGE), -EBADMSG);
    assert_non_null(strstr(o->why.text, "a-0.tar has changed since pfeedd listed it; `pfeedctl rescan` lists it anew"));
}

/* Whether its shard is open already or not. */
static void test_changed(void **state)
{
    (void)state;
    struct opened o;
    make_two();
    for (int opened = 0; opened < 2; opened++) {
        OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
        assert_int_equal(o.rc, 0);
        if (opened)
            expect_image(&o, 0, "x00.jpg");
        /* The same size, another time. */
        make_shard("a-0.tar", 3, 'z');
        settle("a-0.tar", 1000000007);
        expect_changed(&o, 0);
        expect_changed(&o, 1);
        expect_image(&o, 3, "y00.jpg");
        /* As it was again: what was open is not believed, but looked up anew. */
        assert_int_equal(rename("a-0.tar", "moved"), 0);
        make_shard("a-0.tar", 3, 'x');
        expect_image(&o, 0, "x00.jpg");
        /* Another file in its place is not seen while the old one is open, whose bytes are right. */
        make_shard("new.tar", 1, 'n');
        assert_int_equal(rename("new.tar", "a-0.tar"), 0);
        expect_image(&o, 2, "x02.jpg");
        assert_int_equal(unlink("a-0.tar"), 0);
        expect_image(&o, 1, "x01.jpg");
        close_source(&o);
        make_shard("a-0.tar", 3, 'x');
    }
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    assert_int_equal(unlink("a-0.tar"), 0);
    assert_int_equal(read_part(&o, 0, IMAGE), -ENOENT);
    assert_int_equal(mkfifo("a-0.tar", 0600), 0);
    assert_int_equal(read_part(&o, 0, IMAGE), -EBADMSG);
    close_source(&o);
}

static void test_heads(void **state)
{
    (void)state;
    struct opened o;
    struct source_env other = env;
    make_two();
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    expect_image(&o, 5, "y02.jpg");
    assert_int_equal(*o.value.head, 0);
    *o.value.head = 77;
    assert_int_equal(source_tar.save(o.source, &o.why), 0);
    close_source(&o);
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    assert_true(progress.kept);
    expect_image(&o, 5, "y02.jpg");
    assert_int_equal(*o.value.head, 77);
    close_source(&o);
    /* They stay with their shard when another one changes, wherever that puts them. */
    make_shard("a-0.tar", 1, 'x');
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    assert_false(progress.kept);
    expect_image(&o, 3, "y02.jpg");
    assert_int_equal(*o.value.head, 77);
    close_source(&o);
    /* Of other members they say nothing. */
    other.wants = &wants[3];
    other.n_wants = 1;
    OPEN(&o, &source_tar, &other, { "path", "a-*.tar" });
    assert_true(progress.kept);
    assert_int_equal(read_part(&o, 3, "seg.png"), 0);
    assert_int_equal(*o.value.head, 0);
    close_source(&o);
}

static uint64_t print_of(const char *pattern)
{
    struct digest digest = { .hash = 0 };
    struct opened o;
    OPEN(&o, &source_tar, &env, { "path", pattern });
    assert_int_equal(o.rc, 0);
    assert_int_equal(source_tar.print(o.source, &digest, &o.why), 0);
    close_source(&o);
    return digest_end(&digest);
}

static void test_print(void **state)
{
    (void)state;
    make_two();
    const uint64_t print = print_of("a-*.tar");
    assert_true(print == print_of("a-*.tar")); /* from the manifest */
    assert_int_equal(system("mkdir d && cp a-*.tar d"), 0);
    assert_true(print == print_of("d/a-*.tar"));
    assert_false(print == print_of("a-{1..0}.tar"));
    assert_false(print == print_of("a-0.tar"));
    assert_int_equal(system("mv d/a-1.tar d/b-1.tar"), 0);
    assert_false(print == print_of("d/*.tar"));
    make_shard("a-1.tar", 5, 'y');
    assert_false(print == print_of("a-*.tar"));
}

static void test_limits(void **state)
{
    (void)state;
    struct opened o;
    make_two();
    progress.most_bytes = 200;
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    expect_problem(&o, -ENOMEM,
                   "the index of the shards, at @/a-0.tar, does not fit into the 0 MiB of `daemon: memory`; raise it");
    progress.most_bytes = 0;
    progress.stop = true;
    OPEN(&o, &source_tar, &env, { "path", "a-*.tar" });
    assert_int_equal(o.rc, -ECANCELED);
    close_source(&o);
    progress.stop = false;
    /* The braces may give no more than a million names. */
    OPEN(&o, &source_tar, &env, { "path", "a-0.tar{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}" });
    assert_int_equal(o.rc, -E2BIG);
    assert_non_null(strstr(o.why.text, "give more than 1000000 names; take a smaller range"));
    close_source(&o);
}

static void test_descriptors(void **state)
{
    (void)state;
    struct descriptors *descriptors;
    struct lent first, second, third;
    struct problem why;
    write_text("0", "zero");
    write_text("200", "other");
    descriptors = descriptors_create(1000);
    assert_non_null(descriptors);
    assert_int_equal(descriptors_take(descriptors, 0, "0", &first, &why), 0);
    assert_int_equal(descriptors_take(descriptors, 0, "0", &second, &why), 0);
    assert_int_equal(first.fd, second.fd);
    /* A file of the same place, while that is held and afterwards. */
    assert_int_equal(descriptors_take(descriptors, 128, "200", &third, &why), 0);
    assert_int_equal(third.place, -1);
    assert_int_not_equal(third.fd, first.fd);
    descriptors_give(descriptors, &third, true);
    descriptors_give(descriptors, &first, true);
    descriptors_give(descriptors, &second, true);
    assert_int_equal(descriptors_take(descriptors, 128, "200", &third, &why), 0);
    assert_int_equal(third.place, first.place);
    descriptors_give(descriptors, &third, true);
    assert_int_equal(descriptors_take(descriptors, 0, "none", &first, &why), -ENOENT);
    assert_string_equal(why.text, "cannot open none: No such file or directory");
    assert_int_equal(descriptors_take(descriptors, 0, "0", &first, &why), 0);
    descriptors_give(descriptors, &first, false);
    assert_int_equal(unlink("0"), 0);
    assert_int_equal(descriptors_take(descriptors, 0, "0", &first, &why), -ENOENT);
    descriptors_destroy(descriptors);
}

static void expect_matches(const char *pattern, const char *expected)
{
    struct matches matches = { .n = 0 };
    struct problem why;
    char list[256] = "";
    int rc = matches_add(&matches, pattern, &why);
    if (rc == 0)
        assert_int_equal(matches_unique(&matches), 0);
    for (size_t i = 0; i < matches.n && rc == 0; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? " " : "", matches.paths[i]);
    assert_string_equal(rc == 0 ? list : why.text, expected);
    matches_fini(&matches);
}

#define HINT "; write {000..099} or {a,b}, and \\{ for a brace of the name itself"

static void test_matches(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%02d", i);
        write_text(name, "");
    }
    write_text("f{1}", "");
    write_text("f-1", "");
    write_text("f1", "");
    expect_matches("f{09..11}", "f09 f10 f11");
    expect_matches("f{11..9}", "no file matches f9; check the path");
    expect_matches("f{11..09..2}", "f11 f09");
    expect_matches("f{-1..1..2}", "f-1 f1");
    expect_matches("f{0{8..9},1{0,1}}", "f08 f09 f10 f11");
    expect_matches("{f01,f{00..02},f01}", "f01 f00 f02");
    expect_matches("f{0[89],1*}", "f08 f09 f1 f10 f11");
    expect_matches("f\\{1\\}", "f{1}");
    expect_matches("f0{1,}{2,}", "no file matches f012; check the path");
    expect_matches("f{,0}1", "f1 f01");
    expect_matches("f{1}", "'{1}' in f{1} is neither a range nor a list" HINT);
    expect_matches("f{1..2..0}", "'{1..2..0}' in f{1..2..0} is neither a range nor a list" HINT);
    expect_matches("f{1..a}", "'{1..a}' in f{1..a} is neither a range nor a list" HINT);
    expect_matches("f{}", "'{}' in f{} is neither a range nor a list" HINT);
    expect_matches("f{{1,2}", "'{' without '}' in f{{1,2}" HINT);
    expect_matches("f{1,2}}", "'}' without '{' in f{1,2}}" HINT);
    expect_matches("f{1..99999999999999999999}",
                   "'{1..99999999999999999999}' in f{1..99999999999999999999} is neither a range nor a list" HINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read),   TEST(test_changed),     TEST(test_heads),   TEST(test_print),
        TEST(test_limits), TEST(test_descriptors), TEST(test_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
