/* SPDX-License-Identifier: MIT */
/* What is kept of a scan: with it or without it the samples are the same, whatever happened to the files or to the manifest. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "opened.h"
#include "source/manifest.h"

extern const struct source_ops source_directory, source_list, source_tokens;

static struct source_progress progress;
static struct source_env env = { .state = "state", .progress = &progress };

/* Folders are as young as their last file; a manifest is kept of older ones only. */
static void settle(void)
{
    assert_int_equal(system("find . -type d -exec touch -d 2001-02-03 {} +"), 0);
}

static void make_tree(void)
{
    assert_int_equal(mkdir("state", 0700) | mkdir("d", 0700) | mkdir("d/a", 0700) | mkdir("d/a/in", 0700) | mkdir("d/b", 0700),
                     0);
    make_file("d/a/1.jpg");
    make_file("d/a/in/2.jpg");
    make_file("d/b/3.jpg");
    make_file("d/b/4.png");
    settle();
}

/* The one manifest there is. */
static const char *manifest_file(void)
{
    static char path[128];
    glob_t found;
    assert_int_equal(glob("state/*.manifest", 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    snprintf(path, sizeof path, "%s", found.gl_pathv[0]);
    globfree(&found);
    return path;
}

static size_t slurp(const char *path, unsigned char *bytes, size_t room)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, room, file);
    assert_true(size < room);
    fclose(file);
    return size;
}

static void expect_equal(struct opened *left, struct opened *right)
{
    const struct source_ops *ops = left->ops;
    const struct sample_part *parts, *same;
    const char *const *names, *const *others;
    uint64_t n = ops->count(left->source);
    uint32_t n_parts = ops->parts(left->source, &parts), n_names = ops->classes(left->source, &names);
    assert_int_equal(n, ops->count(right->source));
    assert_int_equal(n_parts, ops->parts(right->source, &same));
    assert_int_equal(n_names, ops->classes(right->source, &others));
    assert_int_equal(ops->max_bytes(left->source), ops->max_bytes(right->source));
    assert_int_equal(ops->bytes(left->source), ops->bytes(right->source));
    for (uint32_t i = 0; i < n_names; i++)
        assert_string_equal(names[i], others[i]);
    for (uint64_t id = 0; id < n; id++) {
        char where[2][512];
        ops->where(left->source, id, where[0], sizeof where[0]);
        ops->where(right->source, id, where[1], sizeof where[1]);
        assert_string_equal(where[0], where[1]);
        for (uint32_t p = 0; p < n_parts; p++) {
            int rc = read_part(left, id, parts[p].name);
            assert_int_equal(rc, read_part(right, id, parts[p].name));
            if (rc < 0)
                continue;
            assert_int_equal(left->value.size, right->value.size);
            assert_memory_equal(left->value.data, right->value.data, left->value.size);
        }
    }
}

/* The source is as one without a state folder is; returns whether it is from a manifest. */
static bool look_given(const struct source_ops *ops, const struct given *given)
{
    struct opened kept, fresh;
    const struct source_env none = { .classes = env.classes, .n_classes = env.n_classes };
    progress.listed = 12345;
    open_source(&kept, ops, given, &env);
    open_source(&fresh, ops, given, &none);
    assert_int_equal(kept.rc, fresh.rc);
    if (kept.rc == 0) {
        assert_int_equal(progress.listed, ops->count(kept.source));
        expect_equal(&kept, &fresh);
    } else {
        assert_string_equal(kept.why.text, fresh.why.text);
    }
    close_source(&kept);
    close_source(&fresh);
    return progress.kept;
}

#define LOOK(ops, ...) look_given(ops, (const struct given[]){ __VA_ARGS__, { NULL, NULL } })

static const struct given tree[] = { { "path", "d" }, { NULL, NULL } }, table[] = { { "path", "l.csv" }, { NULL, NULL } };

static bool look(void)
{
    return look_given(&source_directory, tree);
}

static void test_kept(void **state)
{
    (void)state;
    struct stat st;
    make_tree();
    assert_false(look());
    assert_int_equal(stat(manifest_file(), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(look());
    assert_true(LOOK(&source_directory, { "path", "d/" }));
    assert_true(LOOK(&source_directory, { "path", "state/../d" }));
    env.rescan = true;
    assert_false(look());
    env.rescan = false;
    assert_true(look());
    env.state = NULL;
    assert_false(look());
    env.state = "state";
}

static void test_settings(void **state)
{
    (void)state;
    make_tree();
    assert_int_equal(system("cp -r d e; touch -d 2001-02-03 e e/a e/a/in e/b"), 0);
    assert_false(look());
    assert_false(LOOK(&source_directory, { "path", "d" }, { "extensions", "png" }));
    assert_false(LOOK(&source_directory, { "path", "e" }));
    assert_false(LOOK(&source_directory, { "path", "d/a/in" }));
    assert_true(look());
    assert_true(LOOK(&source_directory, { "path", "d" }, { "extensions", "png" }));
    assert_true(LOOK(&source_directory, { "path", "e" }));
    assert_true(LOOK(&source_directory, { "path", "d/a/in" }));
}

/* Labels are numbered anew at each start. */
static void test_classes(void **state)
{
    (void)state;
    static const char *const names[] = { "b", "x", "a" };
    make_tree();
    assert_false(look());
    env.classes = names;
    env.n_classes = 3;
    assert_true(look());
    env.n_classes = 2;
    assert_true(look()); /* the same refusal */
    env.classes = NULL;
    write_text("classes", "y\nb\na");
    assert_true(LOOK(&source_directory, { "path", "d" }, { "classes", "classes" }));
    write_text("classes", "a\nb\n");
    assert_true(LOOK(&source_directory, { "path", "d" }, { "classes", "classes" }));
    write_text("classes", "a\n");
    assert_true(LOOK(&source_directory, { "path", "d" }, { "classes", "classes" }));
    assert_true(LOOK(&source_directory, { "path", "d" }, { "classes", "none" }));
}

static void test_changes(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "touch d/a/0.jpg",
        "rm d/a/1.jpg",
        "mv d/b/3.jpg d/b/33.jpg",
        "mv d/a/in/2.jpg d/b/2.jpg",
        "mkdir d/aa",
        "rmdir d/aa",
        "mkdir d/a/in/deep",
        "touch d/a/in/deep/5.jpg",
        "ln -s ../../else d/a/there",
        "mkdir else", /* the link leads somewhere now, and no folder above it has changed */
        "touch else/6.jpg",
        "mv else else2; mkdir else; touch else/7.jpg",
        "rm -r else", /* and nowhere again */
        "mv d/a d/c",
        "mv d/b d/bb; cp -r d/bb d/b; rm -r d/bb",
        "touch d/loose.jpg",
        "touch d/c/8.jpg; touch -d 2001-02-03 d/c", /* as tar and rsync leave it */
    };
    make_tree();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        look();
        assert_true(look());
        assert_int_equal(system(changes[i]), 0);
        if (look())
            fail_msg("not seen: %s", changes[i]);
        settle();
    }
}

/* A folder that changed just now may change again without its time changing. */
static void test_young(void **state)
{
    (void)state;
    glob_t found;
    make_tree();
    assert_int_equal(system("touch -d '1 hour' d/a/in"), 0);
    assert_false(look());
    assert_false(look());
    assert_int_equal(glob("state/*", 0, NULL, &found), GLOB_NOMATCH);
    settle();
    assert_false(look());
    assert_true(look());
}

/* What is written after damage is what was there before it. */
static void expect_rebuilt(const struct source_ops *ops, const struct given *given, const unsigned char *bytes, size_t size)
{
    unsigned char now[4096];
    assert_false(look_given(ops, given));
    assert_int_equal(slurp(manifest_file(), now, sizeof now), size);
    assert_memory_equal(now, bytes, size);
}

static void damage(const struct source_ops *ops, const struct given *given)
{
    unsigned char bytes[4096], worse[4096];
    assert_false(look_given(ops, given));
    size_t size = slurp(manifest_file(), bytes, sizeof bytes);
    assert_true(look_given(ops, given));
    for (size_t i = 0; i < size; i++) {
        memcpy(worse, bytes, size);
        worse[i] ^= (unsigned char)(1 << i % 8);
        write_bytes(manifest_file(), worse, size);
        expect_rebuilt(ops, given, bytes, size);
        write_bytes(manifest_file(), bytes, i);
        expect_rebuilt(ops, given, bytes, size);
    }
    write_bytes(manifest_file(), bytes, size);
    assert_int_equal(truncate(manifest_file(), (off_t)size + 8), 0);
    expect_rebuilt(ops, given, bytes, size);
    assert_true(look_given(ops, given));
}

static void make_list(void)
{
    make_tree();
    write_text("l.csv", "label,path\nx,d/a/1.jpg\ny,d/b/3.jpg\nx,d/a/in/2.jpg\nz,d/b/none.jpg\n");
}

static void test_damaged(void **state)
{
    (void)state;
    make_tree();
    damage(&source_directory, tree);
}

static void test_damaged_list(void **state)
{
    (void)state;
    make_list();
    damage(&source_list, table);
}

static void sum_up(unsigned char *bytes, size_t size)
{
    struct manifest_header header;
    memcpy(&header, bytes, sizeof header);
    header.checksum = 0;
    memcpy(bytes, &header, sizeof header);
    header.checksum = XXH3_64bits(bytes, size);
    memcpy(bytes, &header, sizeof header);
}

/* Every byte is changed and the checksum mended: no crash, and the next one is right again. */
static void test_hostile(void **state)
{
    (void)state;
    unsigned char bytes[4096], worse[4096];
    const struct source_ops *const kinds[] = { &source_directory, &source_list };
    char where[512];
    make_list();
    for (int k = 0; k < 2; k++) {
        const struct given *given = k ? table : tree;
        struct opened o;
        assert_false(look_given(kinds[k], given));
        size_t size = slurp(manifest_file(), bytes, sizeof bytes);
        for (size_t i = 0; i < 2 * size; i++) {
            memcpy(worse, bytes, size);
            worse[i / 2] = i % 2 ? 0xff : (unsigned char)(worse[i / 2] + 1);
            sum_up(worse, size);
            write_bytes(manifest_file(), worse, size);
            open_source(&o, kinds[k], given, &env);
            uint64_t n = o.rc < 0 ? 0 : o.ops->count(o.source);
            /* The largest file may be said to be larger than memory. */
            for (uint64_t id = 0; id < n; id++)
                for (uint32_t part = 0; part < 2; part++)
                    o.ops->read(o.source, id, part, where, sizeof where, &o.value, &o.why);
            for (uint64_t id = 0; id < n; id++)
                o.ops->where(o.source, id, where, sizeof where);
            close_source(&o);
        }
        assert_int_equal(unlink(manifest_file()), 0);
        assert_false(look_given(kinds[k], given));
        assert_true(look_given(kinds[k], given));
        assert_int_equal(unlink(manifest_file()), 0);
    }
}

/* The header's words, each wrong under a right checksum. */
static void test_versions(void **state)
{
    (void)state;
    unsigned char bytes[4096], worse[4096];
    make_tree();
    assert_false(look());
    size_t size = slurp(manifest_file(), bytes, sizeof bytes);
    for (int i = 0; i < 6; i++) {
        struct manifest_header header;
        size_t less = 0;
        memcpy(&header, bytes, sizeof header);
        memcpy(worse, bytes, size);
        if (i == 0)
            header.version++;
        else if (i == 1)
            header.order = __builtin_bswap32(header.order);
        else if (i == 2)
            header.tables[4].each++;
        else if (i == 3)
            header.tables[4].n--;
        else if (i == 4)
            header.tables[6].n -= 1, header.size -= less = 8; /* a head less */
        else
            worse[sizeof header + 12]++; /* the key */
        memcpy(worse, &header, sizeof header);
        sum_up(worse, size - less);
        write_bytes(manifest_file(), worse, size - less);
        expect_rebuilt(&source_directory, tree, bytes, size);
    }
    /* The tests above stand on this. */
    sum_up(bytes, size);
    write_bytes(manifest_file(), bytes, size);
    assert_true(look());
}

static void test_unwritable(void **state)
{
    (void)state;
    struct opened o;
    struct stat before, after;
    char path[256], half[4096];
    make_tree();
    write_text("file", "");
    env.state = "nowhere";
    assert_false(look());
    assert_false(look());
    env.state = "file";
    assert_false(look());
    OPEN(&o, &source_directory, &env, { "path", "d" });
    assert_int_equal(read_part(&o, 0, "image"), 0);
    *o.value.head = 1;
    assert_int_equal(o.ops->save(o.source, &o.why), 0); /* it was said once */
    close_source(&o);
    env.state = "state";
    /* Another one is writing it. */
    assert_false(look());
    snprintf(path, sizeof path, "%s.new", manifest_file());
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    env.rescan = true;
    assert_int_equal(stat(manifest_file(), &before), 0);
    assert_false(look());
    assert_int_equal(unlink(path) | stat(manifest_file(), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    env.rescan = false;
    close(fd);
    assert_true(look());
    /* What a crash left behind is no hindrance. */
    memset(half, 'x', sizeof half);
    write_bytes(path, half, sizeof half);
    assert_int_equal(chmod(path, 0666), 0);
    env.rescan = true;
    assert_false(look());
    env.rescan = false;
    assert_true(look());
    assert_int_equal(stat(manifest_file(), &after), 0);
    assert_int_equal(after.st_mode & 07777, 0600);
}

static void test_heads(void **state)
{
    (void)state;
    const struct source_ops *const kinds[] = { &source_directory, &source_list };
    make_list();
    for (int k = 0; k < 2; k++) {
        struct opened o;
        struct stat before, after;
        open_source(&o, kinds[k], k ? table : tree, &env);
        assert_int_equal(o.ops->save(o.source, &o.why), 0);
        for (uint64_t id = 0; id < 3; id++) {
            assert_int_equal(read_part(&o, id, "label"), 0);
            assert_null(o.value.head);
            assert_int_equal(read_part(&o, id, "image"), 0);
            assert_int_equal(*o.value.head, 0);
            __atomic_store_n(o.value.head, id + 7, __ATOMIC_RELAXED);
        }
        assert_int_equal(o.ops->save(o.source, &o.why), 0);
        close_source(&o);
        for (int again = 0; again < 2; again++) {
            progress.kept = false;
            open_source(&o, kinds[k], k ? table : tree, &env);
            assert_true(progress.kept);
            for (uint64_t id = 0; id < 3; id++) {
                assert_int_equal(read_part(&o, id, "image"), 0);
                assert_int_equal(*o.value.head, id + 7);
            }
            /* Nothing new, nothing written. */
            assert_int_equal(stat(manifest_file(), &before), 0);
            assert_int_equal(o.ops->save(o.source, &o.why), 0);
            assert_int_equal(stat(manifest_file(), &after), 0);
            assert_int_equal(before.st_ino, after.st_ino);
            close_source(&o);
        }
        assert_int_equal(unlink(manifest_file()), 0);
    }
    assert_null(source_tokens.save);
}

static void test_stopped(void **state)
{
    (void)state;
    struct opened o;
    glob_t found;
    make_list();
    for (int round = 0; round < 2; round++) {
        progress.stop = true;
        OPEN(&o, &source_directory, &env, { "path", "d" });
        expect_problem(&o, -ECANCELED, "the scan of @/d was stopped");
        OPEN(&o, &source_list, &env, { "path", "l.csv" });
        expect_problem(&o, -ECANCELED, "reading @/l.csv was stopped");
        progress.stop = false;
        if (round == 0)
            assert_int_equal(glob("state/*", 0, NULL, &found), GLOB_NOMATCH);
        look(); /* there is a manifest in the second round */
    }
    progress.stop = true;
    write_text("t.bin", "1234");
    struct source_want want = { .from = "tokens", .length = 2 };
    const struct source_env tokens = { .wants = &want, .n_wants = 1, .progress = &progress };
    OPEN(&o, &source_tokens, &tokens, { "path", "t.bin" }, { "dtype", "uint8" });
    expect_problem(&o, -ECANCELED, "measuring the token files was stopped");
    progress.stop = false;
}

static void test_list(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "touch d/b/none.jpg",
        "rm d/b/3.jpg; touch d/b/3.jpg",
        "rm d/a/in/2.jpg",
        "ln -s ../../../target d/a/in/2.jpg",
        "echo 12 > target",
        "echo w,d/b/3.jpg >> l.csv",
        "sed -i s/w,/v,/ l.csv",
        "mv d/a d/c",
        "echo x,gone/1.jpg >> l.csv",
        "mkdir gone; echo > gone/1.jpg",
    };
    make_list();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        look_given(&source_list, table);
        assert_true(look_given(&source_list, table));
        assert_int_equal(system(changes[i]), 0);
        if (look_given(&source_list, table))
            fail_msg("not seen: %s", changes[i]);
        settle();
    }
    assert_int_equal(system("mkdir e; cp -r d gone target e; mkdir f; cp l.csv f"), 0);
    settle();
    assert_false(look_given(&source_list, table));
    assert_false(LOOK(&source_list, { "path", "l.csv" }, { "root", "e" }));
    assert_false(LOOK(&source_list, { "path", "f/l.csv" }, { "root", "." }));
    assert_true(look_given(&source_list, table));
    assert_true(LOOK(&source_list, { "path", "l.csv" }, { "root", "e" }));
}

/* --- order ---------------------------------------------------------------------------------------------------------------- */

static int by_class_then_path(const void *left, const void *right)
{
    const char *a = *(char *const *)left, *b = *(char *const *)right;
    size_t class_a = strcspn(a, "/"), class_b = strcspn(b, "/");
    int order = memcmp(a, b, class_a < class_b ? class_a : class_b);
    if (order || class_a != class_b)
        return order ? order : class_a < class_b ? -1 : 1;
    return strcmp(a + class_a, b + class_b);
}

/* Below "d", in the order of the ids. */
static void expect_order(const struct opened *o, char **paths, uint64_t n)
{
    qsort(paths, n, sizeof *paths, by_class_then_path);
    assert_int_equal(o->ops->count(o->source), n);
    for (uint64_t id = 0; id < n; id++) {
        char where[512];
        o->ops->where(o->source, id, where, sizeof where);
        assert_string_equal(where + strlen(folder) + 3, paths[id]);
        free(paths[id]);
    }
}

static unsigned draw(unsigned n)
{
    static uint64_t random_state = 1;
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % n);
}

/* Names of which one begins as another goes on, with bytes on both sides of '/'. */
static void draw_name(char *name)
{
    static const char bytes[] = "a-./0A\xc3z";
    size_t n = 1 + draw(4);
    for (size_t i = 0; i < n; i++)
        do
            name[i] = bytes[draw(8)];
        while (name[i] == '/' || (i == 0 && name[i] == '.'));
    name[n] = 0;
}

static void test_order(void **state)
{
    (void)state;
    static char *paths[400], folders[60][128];
    uint64_t n = 0, n_folders = 1;
    char path[160], name[16];
    struct opened o;
    make_tree();
    assert_int_equal(system("rm -r d; mkdir d"), 0);
    while (n_folders < 60) {
        draw_name(name);
        int size = snprintf(path, sizeof path, "d%.100s/%s", folders[n_folders < 12 ? 0 : draw((unsigned)n_folders)], name);
        if (mkdir(path, 0700) == 0)
            memcpy(folders[n_folders++], path + 1, (size_t)size);
    }
    while (n < 400) {
        draw_name(name);
        snprintf(path, sizeof path, "d%s/%s.jpg", folders[1 + draw(59)], name);
        if (access(path, F_OK) == 0)
            continue;
        make_file(path);
        paths[n++] = strdup(path + 2);
    }
    settle();
    assert_false(look());
    OPEN(&o, &source_directory, &env, { "path", "d" });
    assert_true(progress.kept);
    expect_order(&o, paths, n);
    close_source(&o);
}

#define VISITS 50000000u /* that take so long that some fall into a save, however busy the machine is */

struct visits {
    uint64_t *heads, n, done;
    bool stop;
};

static void *visit(void *argument)
{
    struct visits *visits = argument;
    for (uint64_t i = 0; !__atomic_load_n(&visits->stop, __ATOMIC_RELAXED); i++) {
        __atomic_store_n(&visits->heads[i % visits->n], i, __ATOMIC_RELAXED);
        __atomic_store_n(&visits->done, i, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* What is saved while workers go on is whole. */
static void save_at_work(struct opened *o, uint64_t n)
{
    struct opened other;
    pthread_t thread;
    assert_int_equal(read_part(o, 0, "image"), 0);
    struct visits visits = { .heads = o->value.head, .n = n };
    assert_int_equal(pthread_create(&thread, NULL, visit, &visits), 0);
    bool kept = true;
    while (kept && __atomic_load_n(&visits.done, __ATOMIC_RELAXED) < VISITS) {
        int rc = o->ops->save(o->source, &o->why);
        OPEN(&other, &source_directory, &env, { "path", "d" });
        kept = rc == 0 && progress.kept;
        close_source(&other);
    }
    __atomic_store_n(&visits.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_true(kept);
}

/* All promises but that of time; and folders so large that they are sorted in several runs. bench_scan has 10^6. */
static void test_many(void **state)
{
    (void)state;
    enum { CLASSES = 2, FILES = 13000, N = CLASSES * FILES };
    static char *paths[N];
    char path[64];
    struct opened o;
    make_tree();
    assert_int_equal(system("rm -r d; mkdir d"), 0);
    for (int i = 0; i < N; i++) {
        snprintf(path, sizeof path, "d/n%08d/n%08d_%d.JPEG", 1440764 + i / FILES, 1440764 + i / FILES, i * 7 % 50000);
        if (i % FILES == 0)
            assert_int_equal(mkdir(strndupa(path, 11), 0700), 0);
        write_text(path, "");
        paths[i] = strdup(path + 2);
    }
    settle();
    assert_false(look());
    assert_true(look());
    OPEN(&o, &source_directory, &env, { "path", "d" });
    assert_true(progress.kept);
    assert_int_equal(progress.listed, N);
    assert_true(o.ops->bytes(o.source) > 40 * N && o.ops->bytes(o.source) <= 100 * N);
    expect_order(&o, paths, N);
    save_at_work(&o, N);
    close_source(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_kept),    TEST(test_settings),     TEST(test_classes), TEST(test_changes),  TEST(test_young),
        TEST(test_damaged), TEST(test_damaged_list), TEST(test_hostile), TEST(test_versions), TEST(test_unwritable),
        TEST(test_heads),   TEST(test_stopped),      TEST(test_list),    TEST(test_order),    TEST(test_many),
    };
    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
