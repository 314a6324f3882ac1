/* SPDX-License-Identifier: MIT */
/* Each kind of source on folders and files made in a temporary folder: which samples there are, in which order, what is read, and
 * the sentence where it cannot be done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "opened.h"

extern const struct source_ops source_directory, source_list, source_synthetic, source_tokens;

static void make_classes(void)
{
    static const char *const folders[] = { "d", "d/b", "d/a", "d/a-b", "d/B", "d/a/deep", "d/a/deep/er", "d/.hidden" };
    static const char *const files[] = { "d/b/1.jpg",   "d/a/z.JPG", "d/a/deep/x.jpeg", "d/a/deep/er/y.jpg", "d/a/deep-1.jpg",
                                         "d/a-b/1.jpg", "d/B/1.jpg", "d/a/.hid.jpg",    "d/a/notes.txt",     "d/.hidden/1.jpg",
                                         "d/loose.jpg", "d/a/2.jpg", "d/a/10.jpg",      "d/a/no-extension" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(folders[i], 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        make_file(files[i]);
}

static void test_directory(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int64_t label;
    } expected[] = { { "d/B/1.jpg", 0 },      { "d/a/10.jpg", 1 },        { "d/a/2.jpg", 1 },
                     { "d/a/deep-1.jpg", 1 }, { "d/a/deep/er/y.jpg", 1 }, { "d/a/deep/x.jpeg", 1 },
                     { "d/a/z.JPG", 1 },      { "d/a-b/1.jpg", 2 },       { "d/b/1.jpg", 3 } };
    struct opened o;
    const char *const *names;
    make_classes();
    OPEN(&o, &source_directory, NULL, { "path", "d/" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), sizeof expected / sizeof *expected);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        expect_sample(&o, i, expected[i].path);
        assert_int_equal(read_int(&o, i, "label"), expected[i].label);
    }
    assert_int_equal(o.ops->max_bytes(o.source), strlen("d/a/deep/er/y.jpg"));
    assert_int_equal(o.ops->classes(o.source, &names), 4);
    assert_string_equal(names[0], "B");
    assert_string_equal(names[2], "a-b");
    close_source(&o);
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "extensions", ".TXT" });
    assert_int_equal(o.ops->count(o.source), 1);
    expect_sample(&o, 0, "d/a/notes.txt");
    assert_int_equal(read_int(&o, 0, "label"), 1);
    close_source(&o);
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "extensions", "any" });
    assert_int_equal(o.ops->count(o.source), 11);
    close_source(&o);
}

/* What is listed unless told otherwise is what decode: image reads. */
static void test_directory_formats(void **state)
{
    (void)state;
    struct opened o;
    assert_int_equal(mkdir("f", 0700), 0);
    make_file("f/a.Png");
    make_file("f/b.jpeg");
    make_file("f/c.gif");
    OPEN(&o, &source_directory, NULL, { "path", "f" });
#ifdef HAVE_PNG
    assert_int_equal(o.ops->count(o.source), 2);
    expect_sample(&o, 0, "f/a.Png");
#else
    assert_int_equal(o.ops->count(o.source), 1);
#endif
    close_source(&o);
}

static void test_directory_classes(void **state)
{
    (void)state;
    struct opened o;
    static const char *const names[] = { "b", "x", "a-b", "a", "B" };
    const struct source_env env = { .classes = names, .n_classes = 5 }, few = { .classes = names, .n_classes = 4 };
    make_classes();
    write_text("classes", "b\r\nx\n\na-b\na\nB");
    for (int i = 0; i < 2; i++) {
        if (i)
            OPEN(&o, &source_directory, &env, { "path", "d" });
        else
            OPEN(&o, &source_directory, NULL, { "path", "d" }, { "classes", "classes" });
        assert_int_equal(o.rc, 0);
        /* The ids are as without a list. */
        expect_sample(&o, 0, "d/B/1.jpg");
        assert_int_equal(read_int(&o, 0, "label"), 4);
        assert_int_equal(read_int(&o, 1, "label"), 3);
        assert_int_equal(read_int(&o, 7, "label"), 2);
        assert_int_equal(read_int(&o, 8, "label"), 0);
        const char *const *found;
        assert_int_equal(o.ops->classes(o.source, &found), 5);
        assert_string_equal(found[1], "x");
        close_source(&o);
    }
    OPEN(&o, &source_directory, &few, { "path", "d" });
    expect_problem(&o, -EINVAL,
                   "the folder @/d/B is not among the 4 classes of the feed in 'classes_of'; add it there or move it away");
    write_text("classes", "a\nb\na\n");
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "classes", "classes" });
    expect_problem(&o, -EEXIST, "@/classes: class 'a' is listed twice; keep each name once, one a line");
    write_text("classes", "\n");
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "classes", "classes" });
    expect_problem(&o, -EINVAL, "the list of classes is empty; name the folders of @/d, one a line");
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "classes", "none" });
    expect_problem(&o, -ENOENT, "cannot open @/none: No such file or directory; check the path, and that pfeedd may read it");
}

static void test_directory_links(void **state)
{
    (void)state;
    struct opened o;
    assert_int_equal(mkdir("d", 0700) | mkdir("d/a", 0700) | mkdir("d/a/in", 0700) | mkdir("else", 0700), 0);
    make_file("d/a/1.jpg");
    make_file("else/2.jpg");
    assert_int_equal(symlink("..", "d/a/in/up") | symlink(".", "d/a/self") | symlink("../../else", "d/a/there"), 0);
    assert_int_equal(symlink("../../else/2.jpg", "d/a/3.jpg") | symlink("nowhere", "d/a/4.jpg") | symlink("5.jpg", "d/a/5.jpg"),
                     0);
    assert_int_equal(mkfifo("d/a/6.jpg", 0600), 0);
    OPEN(&o, &source_directory, NULL, { "path", "d" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 3);
    expect_sample(&o, 0, "d/a/1.jpg");
    assert_int_equal(read_part(&o, 1, "image"), 0);
    assert_memory_equal(o.value.data, "else/2.jpg", 10);
    char where[512];
    o.ops->where(o.source, 2, where, sizeof where);
    assert_string_equal(where + strlen(folder), "/d/a/there/2.jpg");
    close_source(&o);
}

static void test_directory_flat(void **state)
{
    (void)state;
    struct opened o;
    const struct sample_part *parts;
    assert_int_equal(mkdir("d", 0700), 0);
    OPEN(&o, &source_directory, NULL, { "path", "d" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 0);
    close_source(&o);
    make_file("d/b.jpg");
    make_file("d/a.jpg");
    write_text("d/empty.jpg", "");
    OPEN(&o, &source_directory, NULL, { "path", "d" });
    assert_int_equal(o.ops->count(o.source), 3);
    assert_int_equal(o.ops->parts(o.source, &parts), 1);
    expect_sample(&o, 0, "d/a.jpg");
    expect_sample(&o, 1, "d/b.jpg");
    assert_int_equal(read_part(&o, 2, "image"), 0);
    assert_int_equal(o.value.size, 0);
    close_source(&o);
    OPEN(&o, &source_directory, NULL, { "path", "d" }, { "classes", "x" });
    expect_problem(
        &o, -EINVAL,
        "@/d has no folders, so it has no classes; remove 'classes' and 'classes_of', or move the files into a folder per class");
    OPEN(&o, &source_directory, NULL, { "path", "nowhere" });
    expect_problem(&o, -ENOENT,
                   "cannot open the folder @/nowhere: No such file or directory; check the path, and that pfeedd may read it");
}

/* What changed after the scan is told, and nothing else is read. */
static void test_directory_changed(void **state)
{
    (void)state;
    struct opened o;
    assert_int_equal(mkdir("d", 0700), 0);
    for (char name[] = "d/a.jpg"; name[2] <= 'e'; name[2]++)
        make_file(name);
    OPEN(&o, &source_directory, NULL, { "path", "d" });
    write_text("d/a.jpg", "longer than it was");
    write_text("d/b.jpg", "less");
    assert_int_equal(unlink("d/c.jpg") | unlink("d/d.jpg") | mkfifo("d/d.jpg", 0600), 0);
    assert_int_equal(read_part(&o, 0, "image"), -EBADMSG);
    assert_non_null(strstr(o.why.text, "/d/a.jpg has 18 bytes now and had 7 when pfeedd started"));
    assert_int_equal(read_part(&o, 1, "image"), -EBADMSG);
    assert_int_equal(read_part(&o, 2, "image"), -ENOENT);
    assert_non_null(strstr(o.why.text, "/d/c.jpg: No such file"));
    assert_int_equal(read_part(&o, 3, "image"), -EBADMSG);
    expect_sample(&o, 4, "d/e.jpg");
    close_source(&o);
}

static void make_pictures(void)
{
    make_file("a.jpg");
    make_file("b,c.jpg");
    make_file("d \"e\".jpg");
}

static void test_list(void **state)
{
    (void)state;
    struct opened o;
    const struct sample_part *parts;
    const char *const *names;
    double score;
    make_pictures();
    write_text("l.csv", "\xef\xbb\xbfscore,path,\"label\",n\r\n"
                        "1,a.jpg,dog,-3\r\n"
                        "\r\n"
                        "2.5,\"b,c.jpg\",\"a \"\"cat\"\"\nor so\",4\n"
                        "1e3,\"d \"\"e\"\".jpg\",dog,5");
    OPEN(&o, &source_list, NULL, { "path", "l.csv" });
    assert_string_equal(o.why.text, "");
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 3);
    assert_int_equal(o.ops->parts(o.source, &parts), 4);
    assert_string_equal(parts[0].name, "image");
    assert_int_equal(parts[0].kind, PART_ENCODED);
    assert_string_equal(parts[1].name, "score");
    assert_int_equal(parts[1].dtype, DTYPE_F64);
    assert_int_equal(parts[2].dtype, DTYPE_I64);
    expect_sample(&o, 0, "a.jpg");
    expect_sample(&o, 1, "b,c.jpg");
    expect_sample(&o, 2, "d \"e\".jpg");
    for (uint64_t id = 0; id < 3; id++) {
        assert_int_equal(read_part(&o, id, "score"), 0);
        memcpy(&score, o.value.data, sizeof score);
        assert_true(score == ((double[]){ 1, 2.5, 1000 })[id]);
        assert_int_equal(read_int(&o, id, "n"), ((int64_t[]){ -3, 4, 5 })[id]);
        assert_int_equal(read_int(&o, id, "label"), ((int64_t[]){ 1, 0, 1 })[id]);
    }
    assert_int_equal(o.ops->classes(o.source, &names), 2);
    assert_string_equal(names[0], "a \"cat\"\nor so");
    close_source(&o);
}

static void test_list_classes(void **state)
{
    (void)state;
    struct opened o;
    static const char *const names[] = { "dog", "7", "cat" };
    const struct source_env env = { .classes = names, .n_classes = 3 };
    make_pictures();
    assert_int_equal(mkdir("other", 0700), 0);
    write_text("other/l.csv", "file,label\na.jpg,cat\na.jpg,dog\n");
    OPEN(&o, &source_list, &env, { "path", "other/l.csv" }, { "root", "." }, { "path_column", "file" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(read_int(&o, 0, "label"), 2);
    assert_int_equal(read_int(&o, 1, "label"), 0);
    close_source(&o);
    write_text("l.csv", "path,label\na.jpg,7\na.jpg,8\n");
    OPEN(&o, &source_list, &env, { "path", "l.csv" }, { "text_columns", "label" });
    expect_problem(
        &o, -EINVAL,
        "@/l.csv:3: '8' in the column 'label' is not among the 3 classes of the feed in 'classes_of'; mend the row, or "
        "remove 'classes_of'");
    OPEN(&o, &source_list, NULL, { "path", "l.csv" });
    assert_int_equal(read_int(&o, 1, "label"), 8);
    close_source(&o);
    /* One file that is not there is a bad sample, not a wrong list. */
    write_text("l.csv", "path\nnone.jpg\na.jpg\n");
    OPEN(&o, &source_list, NULL, { "path", "l.csv" });
    assert_int_equal(o.ops->count(o.source), 2);
    assert_int_equal(read_part(&o, 0, "image"), -ENOENT);
    expect_sample(&o, 1, "a.jpg");
    make_file("none.jpg");
    assert_int_equal(read_part(&o, 0, "image"), -EBADMSG);
    close_source(&o);
}

static void test_list_broken(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        const char *why;
    } broken[] = {
        { "", -EINVAL, "@/l.csv:1: the file is empty; its first line must name the columns" },
        { "image,label\n", -EINVAL, "@/l.csv:1: no column 'path'; name the column of paths so, or give 'path_column'" },
        { "path,a,a\n", -EINVAL, "@/l.csv:1: the column 'a' is there twice; rename one" },
        { "path,\n", -EINVAL, "@/l.csv:1: column 2 has no name, or one longer than 31 bytes" },
        { "path,image\n", -EINVAL,
          "@/l.csv:1: a column is called 'image', as the part that holds the file is; rename it, or give 'path_column: image'" },
        { "path,a\na.jpg,1\na.jpg\n", -EINVAL,
          "@/l.csv:3: 1 fields where the first line names 2 columns; check commas and quotes" },
        { "path,a\na.jpg,1,\n", -EINVAL, "@/l.csv:2: 3 fields where the first line names 2 columns; check commas and quotes" },
        { "path,a\na.jpg,1\n\na.jpg,x\n", -EINVAL,
          "@/l.csv:4: 'x' in the column 'a' is not a number, as those above are; mend it, or name the column in 'text_columns'" },
        { "path,a\na.jpg,\n", -EINVAL, "@/l.csv:2: the column 'a' is empty; fill it in, or remove the row" },
        { "path,a\n,1\n", -EINVAL, "@/l.csv:2: the column 'path' is empty; fill it in, or remove the row" },
        { "path,a\na.jpg,\"1\n\n", -EINVAL, "@/l.csv:2: a quote is not closed; double the quotes inside a field" },
        { "path,a\na.jpg,\"1\"2\n", -EINVAL, "@/l.csv:2: text follows a closing quote; double the quotes inside a field" },
        { "path\nx.jpg\ny.jpg\n", -ENOENT, "none of the 2 files of @/l.csv can be read, first @/x.jpg; check 'root'" },
    };
    struct opened o;
    make_pictures();
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        write_text("l.csv", broken[i].text);
        OPEN(&o, &source_list, NULL, { "path", "l.csv" });
        expect_problem(&o, broken[i].rc, broken[i].why);
    }
    write_bytes("l.csv", "path\na\0b\n", 9);
    OPEN(&o, &source_list, NULL, { "path", "l.csv" });
    expect_problem(&o, -EINVAL, "@/l.csv:2: a zero byte; the list must be a text file");
    write_text("l.csv", "path\n");
    OPEN(&o, &source_list, NULL, { "path", "l.csv" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 0);
    close_source(&o);
}

/* A file of head bytes and then tokens first, first + 1, ... */
static void write_tokens(const char *name, size_t head, uint16_t first, size_t n)
{
    char bytes[512] = "head";
    assert_true(head + 2 * n <= sizeof bytes);
    for (size_t i = 0; i < n; i++) {
        uint16_t token = (uint16_t)(first + i);
        memcpy(bytes + head + 2 * i, &token, sizeof token);
    }
    write_bytes(name, bytes, head + 2 * n);
}

static uint16_t token_at(struct opened *o, uint64_t id, size_t index)
{
    uint16_t token;
    assert_int_equal(read_part(o, id, "tokens"), 0);
    assert_true(index * 2 < o->value.size);
    memcpy(&token, (const char *)o->value.data + 2 * index, sizeof token);
    return token;
}

static void test_tokens(void **state)
{
    (void)state;
    struct opened o;
    struct source_want want = { .from = "tokens", .length = 5, .stride = 4 };
    const struct source_env env = { .wants = &want, .n_wants = 1 };
    const struct sample_part *parts;
    char where[512];
    write_tokens("b.bin", 6, 200, 13); /* windows at 0, 4, 8: the last ends with the file */
    write_tokens("a.bin", 6, 100, 12); /* windows at 0, 4 */
    write_tokens("aa.bin", 6, 0, 4);   /* too short */
    write_bytes("ab.bin", "head", 4);  /* shorter than its head */
    write_tokens("c.bin", 6, 300, 5);  /* exactly one */
    OPEN(&o, &source_tokens, &env, { "path", "*.bin" }, { "dtype", "uint16" }, { "skip", "6" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 6);
    assert_int_equal(o.ops->parts(o.source, &parts), 1);
    assert_int_equal(parts[0].dtype, DTYPE_U16);
    assert_int_equal(parts[0].shape[0], 5);
    assert_int_equal(o.ops->max_bytes(o.source), 10);
    static const uint16_t firsts[] = { 100, 104, 200, 204, 208, 300 };
    for (uint64_t id = 0; id < 6; id++)
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(token_at(&o, id, i), firsts[id] + i);
    o.ops->where(o.source, 4, where, sizeof where);
    assert_string_equal(where + strlen(folder), "/b.bin at token 8");
    /* A file that has become shorter. */
    assert_int_equal(truncate("b.bin", 6 + 2 * 12), 0);
    assert_int_equal(token_at(&o, 3, 4), 208);
    assert_int_equal(read_part(&o, 4, "tokens"), -EBADMSG);
    close_source(&o);
    /* Without a stride windows follow each other; many files are opened for each read. */
    want.stride = 0;
    want.length = 4;
    char name[32];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "%02d.many", i);
        write_tokens(name, 0, (uint16_t)(i * 10), 9);
    }
    OPEN(&o, &source_tokens, &env, { "path", "{*.many,0*.many}" }, { "dtype", "uint16" });
    assert_int_equal(o.ops->count(o.source), 40);
    for (uint64_t id = 0; id < 40; id++)
        assert_int_equal(token_at(&o, id, 0), id / 2 * 10 + id % 2 * 4);
    close_source(&o);
}

static void test_tokens_broken(void **state)
{
    (void)state;
    struct opened o;
    struct source_want wants[2] = { { .from = "tokens", .length = 5 }, { .from = "tokens", .length = 6 } };
    const struct source_env one = { .wants = wants, .n_wants = 1 }, two = { .wants = wants, .n_wants = 2 };
    write_tokens("a.bin", 1, 0, 10);
    OPEN(&o, &source_tokens, &one, { "path", "a.bin" }, { "dtype", "uint16" });
    expect_problem(&o, -EINVAL, "@/a.bin has 21 bytes after its head of 0, which is no multiple of 2; check 'dtype' and 'skip'");
    OPEN(&o, &source_tokens, &one, { "path", "b*" }, { "dtype", "uint16" });
    expect_problem(&o, -ENOENT, "no file matches @/b*; check the path");
    OPEN(&o, &source_tokens, &two, { "path", "a.bin" }, { "dtype", "uint8" });
    expect_problem(&o, -EINVAL,
                   "two fields read 'tokens' with lengths 5 and 6 (strides 0 and 0); give both the same, or make two feeds");
    OPEN(&o, &source_tokens, NULL, { "path", "a.bin" }, { "dtype", "uint8" });
    expect_problem(&o, -EINVAL, "no field reads 'tokens'; name a field so, or give it 'from: tokens'");
    wants[0].length = 0;
    OPEN(&o, &source_tokens, &one, { "path", "a.bin" }, { "dtype", "uint8" });
    expect_problem(&o, -EINVAL, "a field that reads 'tokens' has no 'length'; give the tokens of a row, such as 1025");
    wants[0].length = 22; /* more than the file has: no rows, no error */
    OPEN(&o, &source_tokens, &one, { "path", "a.bin" }, { "dtype", "uint8" });
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.ops->count(o.source), 0);
    close_source(&o);
    assert_int_equal(mkdir("d.bin", 0700), 0);
    OPEN(&o, &source_tokens, &one, { "path", "d.bin" }, { "dtype", "uint8" });
    expect_problem(&o, -EINVAL, "@/d.bin is not a file; let 'path' match files only");
}

static double element(const void *data, enum dtype dtype, size_t index)
{
    uint16_t half;
    uint32_t bits;
    float single;
    double number;
    switch (dtype) {
    case DTYPE_F16: /* normal numbers only */
        memcpy(&half, (const char *)data + 2 * index, 2);
        return (1 + (half & 1023) / 1024.0) / (1 << (15 - (half >> 10)));
    case DTYPE_BF16:
        memcpy(&half, (const char *)data + 2 * index, 2);
        bits = (uint32_t)half << 16;
        memcpy(&single, &bits, 4);
        return (double)single;
    case DTYPE_F32:
        memcpy(&single, (const char *)data + 4 * index, 4);
        return (double)single;
    default:
        memcpy(&number, (const char *)data + 8 * index, 8);
        return number;
    }
}

static void test_synthetic_floats(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = { DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_F64 };
    for (size_t d = 0; d < 4; d++) {
        struct opened o;
        const struct source_want want = { .from = "x", .dtype = dtypes[d], .ndim = 2, .shape = { 7, 333 } };
        const struct source_env env = { .wants = &want, .n_wants = 1 };
        double sum = 0, low = 1, high = 0;
        OPEN(&o, &source_synthetic, &env, { "rows", "10" });
        assert_int_equal(o.ops->max_bytes(o.source), 7 * 333 * dtype_table[dtypes[d]].size);
        assert_int_equal(read_part(&o, 9, "x"), 0);
        for (size_t i = 0; i < 7 * 333; i++) {
            double value = element(o.value.data, dtypes[d], i);
            sum += value;
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        assert_true(low >= 0.5 && low < 0.51 && high > 0.99 && high < 1);
        assert_true(sum / (7 * 333) > 0.74 && sum / (7 * 333) < 0.76);
        close_source(&o);
    }
}

static void test_synthetic(void **state)
{
    (void)state;
    struct opened o, again, seeded;
    struct source_want wants[3] = { { .from = "x", .dtype = DTYPE_U8, .ndim = 1, .shape = { 4097 } },
                                    { .from = "label", .dtype = DTYPES },
                                    { .from = "y", .dtype = DTYPE_U8, .ndim = 1, .shape = { 4097 } } };
    const struct source_env env = { .wants = wants, .n_wants = 3 };
    OPEN(&o, &source_synthetic, &env, { "rows", "100" }, { "classes", "7" });
    OPEN(&again, &source_synthetic, &env, { "rows", "1000" });
    OPEN(&seeded, &source_synthetic, &env, { "rows", "1000" }, { "seed", "1" });
    assert_int_equal(o.ops->count(o.source), 100);
    for (uint64_t id = 0; id < 100; id++) {
        assert_int_equal(read_int(&o, id, "label"), id % 7);
        assert_int_equal(read_part(&o, id, "x") | read_part(&again, id, "x") | read_part(&seeded, id, "x"), 0);
        assert_memory_equal(o.buffer, again.buffer, 4097);
        assert_memory_not_equal(o.buffer, seeded.buffer, 4097);
        assert_int_equal(read_part(&again, id, "y"), 0);
        assert_memory_not_equal(o.buffer, again.buffer, 4097);
        assert_int_equal(read_part(&again, id + 1, "x"), 0);
        assert_memory_not_equal(o.buffer, again.buffer, 4097);
    }
    /* These bytes are what earlier versions gave too: a change would change every test that hashes batches. */
    assert_int_equal(read_part(&o, 3, "x"), 0);
    static const unsigned char known[] = { 0x89, 0xa6, 0xe6, 0x1f, 0x9b, 0x5d, 0x8c, 0x9d, 0x71, 0xe1, 0x61, 0x62 };
    assert_memory_equal(o.buffer, known, sizeof known);
    assert_int_equal(read_part(&o, 100, "x"), -EINVAL);
    close_source(&again);
    close_source(&seeded);
    close_source(&o);
    wants[2] = wants[0];
    wants[2].shape[0] = 5;
    OPEN(&o, &source_synthetic, &env, { "rows", "1" });
    expect_problem(&o, -EINVAL, "two fields read the part 'x' with another dtype or shape; give one of them a 'from' of its own");
    wants[0] = (struct source_want){ .from = "x", .dtype = DTYPE_U8, .ndim = 2, .shape = { 1 << 20, 1 << 20 } };
    OPEN(&o, &source_synthetic, &env, { "rows", "1" });
    expect_problem(&o, -EINVAL, "a row of the part 'x' is larger than 1 GiB; give a smaller 'shape'");
    wants[1].dtype = DTYPE_F16;
    wants[0].ndim = 0;
    OPEN(&o, &source_synthetic, &env, { "rows", "0" });
    expect_problem(&o, -EINVAL, "a label cannot be float16; give dtype: int64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_directory),
        TEST(test_directory_formats),
        TEST(test_directory_classes),
        TEST(test_directory_links),
        TEST(test_directory_flat),
        TEST(test_directory_changed),
        TEST(test_list),
        TEST(test_list_classes),
        TEST(test_list_broken),
        TEST(test_tokens),
        TEST(test_tokens_broken),
        TEST(test_synthetic_floats),
        TEST(test_synthetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
