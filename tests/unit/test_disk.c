/* SPDX-License-Identifier: MIT */
/* daemon/cache/disk.c: many threads that find, add and give up the same entries of one file; what is found is whole; and what another
 * process, or another key, or no room at all comes to. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "cache/disk.h"

#define SAMPLES 60u
#define INDEXES 2u
#define THREADS 4u
#define ROUNDS  1000u
#define LARGEST 9000u
#define WHOLE   (64u << 20)

static char path[] = "/dev/shm/pfeed-disk-XXXXXX";
static struct disk *disk;
static struct problem why;
static bool drops;
static uint32_t added[INDEXES][SAMPLES]; /* atomic */

static struct disk_key key_of(uint64_t identity, uint64_t size)
{
    return (struct disk_key){ .identity = identity, .samples = SAMPLES, .n_indexes = INDEXES, .size = size };
}

static void open_disk(uint64_t identity, uint64_t size)
{
    const struct disk_key key = key_of(identity, size);

    assert_int_equal(disk_open(&disk, path, &key, false, &why), 0);
}

static int make_path(void **state)
{
    int fd;

    (void)state;
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static uint64_t size_of(uint64_t id)
{
    return id * 997 % LARGEST + 1;
}

static void add(uint32_t index, uint64_t id, uint64_t stamp)
{
    const struct disk_entry entry = { .size = size_of(id), .stamp = stamp, .cost_ns = (id + 1) * 1000 };
    uint8_t bytes[LARGEST];

    for (uint64_t i = 0; i < entry.size; i++)
        bytes[i] = (uint8_t)(stamp * 31 + index + i);
    if (disk_add(disk, index, id, &entry, bytes))
        __atomic_fetch_add(&added[index][id], 1, __ATOMIC_RELAXED);
}

static bool found(uint32_t index, uint64_t id)
{
    struct disk_entry entry;
    uint8_t bytes[LARGEST];

    if (!disk_read(disk, index, id, bytes, sizeof(bytes), &entry))
        return false;
    assert_int_equal(entry.size, size_of(id));
    assert_int_equal(entry.cost_ns, (id + 1) * 1000);
    for (uint64_t i = 0; i < entry.size; i++)
        assert_int_equal(bytes[i], (uint8_t)(entry.stamp * 31 + index + i));
    return true;
}

static void *work(void *argument)
{
    uint64_t state = (uintptr_t)argument + 1;

    for (unsigned r = 0; r < ROUNDS; r++) {
        uint32_t index;
        uint64_t id;

        state = state * 6364136223846793005u + 1442695040888963407u;
        id = (state >> 33) % SAMPLES;
        index = (state >> 60) % INDEXES;
        if (!found(index, id))
            add(index, id, state >> 50);
        else if (drops && (state >> 40) % 16 == 0)
            disk_drop(disk, index, id);
        else
            disk_checked(disk, index, id, 3 + r);
    }
    return NULL;
}

static void run(bool with_drops)
{
    pthread_t threads[THREADS];

    drops = with_drops;
    memset(added, 0, sizeof(added));
    for (uintptr_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work, (void *)t), 0);
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
}

static uint64_t count_found(void)
{
    uint64_t n = 0;

    for (uint32_t index = 0; index < INDEXES; index++)
        for (uint64_t id = 0; id < SAMPLES; id++)
            n += found(index, id);
    return n;
}

static void each_once(void **state)
{
    struct disk_figures figures;

    (void)state;
    open_disk(1, WHOLE);
    run(false);
    for (uint32_t i = 0; i < INDEXES * SAMPLES; i++)
        assert_int_equal(added[i / SAMPLES][i % SAMPLES], 1);
    for (int again = 0; again < 2; again++) { /* and once more from the file */
        assert_int_equal(count_found(), INDEXES * SAMPLES);
        disk_look(disk, &figures);
        assert_true(figures.entries == INDEXES * SAMPLES && figures.damaged == 0 && !*figures.note);
        disk_close(disk);
        open_disk(1, WHOLE);
    }
    disk_close(disk);
    open_disk(2, WHOLE); /* something else */
    assert_int_equal(count_found(), 0);
    disk_close(disk);
}

static void given_up(void **state)
{
    struct disk_figures figures;

    (void)state;
    open_disk(1, WHOLE);
    run(true);
    disk_look(disk, &figures);
    assert_true(figures.entries == count_found() && figures.damaged == 0 && figures.lost > 0);
    disk_close(disk);
}

static void no_room(void **state)
{
    struct disk_figures figures;

    (void)state;
    open_disk(1, 100 * 1024);
    run(false);
    disk_look(disk, &figures);
    assert_true(figures.used <= 100 * 1024 && figures.used > 88 * 1024 && figures.entries == count_found());
    disk_resize(disk, WHOLE);
    run(false);
    assert_int_equal(count_found(), INDEXES * SAMPLES);
    disk_close(disk);
}

/* Another process; and one whose place another file has taken keeps its own. */
static void others(void **state)
{
    const struct disk_key key = key_of(1, WHOLE);
    struct disk *second;
    int status;
    pid_t child;

    (void)state;
    open_disk(1, WHOLE);
    add(0, 7, 1);
    child = fork();
    if (child == 0)
        _exit(disk_open(&second, path, &key, false, &why) == -EBUSY && strstr(why.text, "in use by another pfeedd") ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(disk_open(&second, path, &(struct disk_key){ 9, SAMPLES, INDEXES, WHOLE }, true, &why), 0);
    assert_true(found(0, 7));
    disk_close(disk);
    disk = second;
    assert_int_equal(count_found(), 0);
    disk_close(disk);
}

static void check_anew(bool from_nothing)
{
    struct disk_figures figures;

    open_disk(1, WHOLE);
    if (from_nothing)
        assert_int_equal(count_found(), 0);
    count_found();
    run(false);
    assert_int_equal(count_found(), INDEXES * SAMPLES);
    disk_look(disk, &figures);
    assert_int_equal(figures.damaged, 0); /* what is new lies behind what was there */
    disk_close(disk);
}

static void overwrite(const void *bytes, size_t size)
{
    FILE *file = fopen(path, "r+");

    assert_true(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

/* Its last words may have been cut anywhere, and its first ones may be gone. */
static void cut(void **state)
{
    static const char zeros[4096];

    (void)state;
    open_disk(1, WHOLE);
    run(false);
    disk_close(disk);
    for (off_t size = 700000; size > 0; size /= 9) {
        assert_int_equal(truncate(path, size), 0);
        check_anew(size < 56);
    }
    for (off_t size = 56; size-- > 0;) {
        assert_int_equal(truncate(path, size), 0);
        open_disk(1, WHOLE);
        assert_int_equal(count_found(), 0);
        disk_close(disk);
    }
    check_anew(true);
    overwrite(zeros, sizeof(zeros));
    check_anew(true);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, 20), 0);
    check_anew(true);
}

/* What somebody else has there is left alone, however short it is. */
static void not_ours(void **state)
{
    const struct disk_key key = key_of(1, WHOLE);
    FILE *file;

    (void)state;
    overwrite("pfeed.yaml", 10);
    assert_int_equal(disk_open(&disk, path, &key, false, &why), -EEXIST);
    assert_int_equal(truncate(path, 6), 0);
    assert_int_equal(disk_open(&disk, path, &key, false, &why), -EEXIST);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, 512), 0); /* zeros, and then something */
    file = fopen(path, "a");
    assert_true(file && fputs("MBR", file) > 0 && fclose(file) == 0);
    assert_int_equal(disk_open(&disk, path, &key, false, &why), -EEXIST);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_path, remove_path)
    const struct CMUnitTest tests[] = { TEST(each_once), TEST(given_up), TEST(no_room), TEST(others), TEST(cut), TEST(not_ours) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
