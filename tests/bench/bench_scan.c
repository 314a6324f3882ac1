/* SPDX-License-Identifier: MIT */
/*
 * What opening a source of 10^6 files costs: 1,000 folders of 1,000 empty files with names as ImageNet has them, in a tmpfs of our
 * own where a mount namespace can be had, else in /dev/shm; fewer where memory or inodes are short. The same files are opened
 * as a directory and by a list in CSV, each in a process of its own: by a scan that writes the manifest; with that manifest; and
 * stopped after a part of the scan's time.
 *
 * Memory is what the heap holds and what is resident after every page of the tables was touched, over what was there before.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "source/source.h"

#define FILES        1000000
#define A_CLASS      1000
#define FILE_BYTES   1500 /* of kernel memory that an empty file of a tmpfs takes, roughly */
#define START_TARGET 2.0  /* seconds */
#define BYTE_TARGET  100.0
#define STOP_TARGET  100.0 /* ms */
#define HEADS_A_PAGE 512

extern const struct source_ops source_directory, source_list;

/* One opening, in a child. */
struct opening {
    double seconds;
    uint64_t count, bytes, heap, resident;
    bool kept;
    int rc;
};

static struct kind {
    const char *name, *word; /* path */
    const struct source_ops *ops;
    struct series scan, start, stop; /* s, s, ms */
    struct opening last;
} kinds[] = { { "directory", "files", &source_directory }, { "list", "files.csv", &source_list } };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct opening *shared;

/* ---- the files ------------------------------------------------------------------------------------------------------ */

static uint64_t available(void)
{
    unsigned long long kib = 0;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "re");

    CHECK(file, "cannot read /proc/meminfo");
    while (fgets(line, sizeof(line), file))
        sscanf(line, "MemAvailable: %llu kB", &kib);
    fclose(file);
    return kib * 1024;
}

static void write_number(const char *path, const char *format, unsigned number)
{
    FILE *file = fopen(path, "we");

    if (file) {
        fprintf(file, format, number);
        fclose(file);
    }
}

/* Into a tmpfs that goes when the process does; or into a folder, whose name is returned. */
static const char *enter_tmpfs(void)
{
    static char folder[] = "/dev/shm/pfeed-scan-XXXXXX";
    unsigned uid = getuid();
    bool alone = unshare(CLONE_NEWNS) == 0;

    if (!alone && unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
        write_number("/proc/self/setgroups", "deny", 0);
        write_number("/proc/self/uid_map", "0 %u 1", uid);
        alone = true;
    }
    if (alone && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", "/tmp", "tmpfs", 0, "size=75%,nr_inodes=0") == 0 && chdir("/tmp") == 0)
        return NULL;
    CHECK(mkdtemp(folder) && chdir(folder) == 0, "cannot make %s: %s", folder, strerror(errno));
    return folder;
}

static uint64_t how_many(void)
{
    struct statvfs room;
    uint64_t n = available() / 2 / FILE_BYTES;

    CHECK(statvfs(".", &room) == 0, "statvfs: %s", strerror(errno));
    if (room.f_files && room.f_favail < n + A_CLASS)
        n = room.f_favail > A_CLASS ? room.f_favail - A_CLASS : 0;
    if (n > FILES)
        n = FILES;
    return n / A_CLASS * A_CLASS;
}

static void make_class(unsigned class, FILE *list)
{
    const struct timespec past[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "files/n%08u", 1440764 + class);
    CHECK(mkdir(name, 0700) == 0, "mkdir %s: %s", name, strerror(errno));
    fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0, "open %s: %s", name, strerror(errno));
    for (unsigned i = 0; i < A_CLASS; i++) {
        snprintf(name, sizeof(name), "n%08u_%u.JPEG", 1440764 + class, i * 37 % 50000);
        CHECK(mknodat(fd, name, S_IFREG | 0600, 0) == 0, "cannot make %s: %s", name, strerror(errno));
        fprintf(list, "files/n%08u/%s,n%08u\n", 1440764 + class, name, 1440764 + class);
    }
    futimens(fd, past); /* or they would be too young to be kept */
    close(fd);
}

static void make_files(uint64_t n)
{
    const struct timespec past[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    FILE *list = fopen("files.csv", "we");

    CHECK(list && mkdir("files", 0700) == 0 && mkdir("state", 0700) == 0, "cannot make files: %s", strerror(errno));
    fprintf(list, "path,label\n");
    for (unsigned class = 0; class < n / A_CLASS; class ++)
        make_class(class, list);
    CHECK(fclose(list) == 0 && utimensat(AT_FDCWD, "files", past, 0) == 0, "cannot make files: %s", strerror(errno));
}

static uint64_t manifest_bytes(const char *kind)
{
    char command[64];
    unsigned long long bytes = 0;
    FILE *pipe;

    snprintf(command, sizeof(command), "cat state/%s-*.manifest | wc -c", kind);
    pipe = popen(command, "re");
    CHECK(pipe && fscanf(pipe, "%llu", &bytes) == 1, "cannot look at the manifest");
    pclose(pipe);
    return bytes;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static void *params_of(const struct kind *kind)
{
    void *params = calloc(1, kind->ops->params_size);

    for (const struct setting *row = kind->ops->settings; row->name; row++)
        CHECK((strcmp(row->name, "path") == 0 ? setting_set(row, params, ".", &kind->word, 1, NULL)
                                              : setting_set_default(row, params, ".", NULL)) == 0,
              "cannot set '%s'", row->name);
    return params;
}

static uint64_t resident(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    CHECK(file && fscanf(file, "%*u %llu", &pages) == 1, "cannot read /proc/self/statm");
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void touch_heads(const struct source_ops *ops, const struct source *source)
{
    char buffer[8];

    for (uint64_t id = 0; id < ops->count(source); id += HEADS_A_PAGE) {
        struct sample_value value = { 0 };

        if (ops->read(source, id, 0, buffer, sizeof(buffer), &value, NULL) == 0)
            *value.head = 1;
    }
}

struct stopper {
    struct source_progress *progress;
    int64_t after_ns, at_ns;
};

static void *stop_later(void *argument)
{
    struct stopper *stopper = argument;
    struct timespec pause = { stopper->after_ns / SECOND, stopper->after_ns % SECOND };

    nanosleep(&pause, NULL);
    __atomic_store_n(&stopper->at_ns, now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&stopper->progress->stop, true, __ATOMIC_RELAXED);
    return NULL;
}

/* stop_ns: 0, or when to give up; seconds are those since then. */
static void open_once(const struct kind *kind, bool rescan, int64_t stop_ns)
{
    struct source_progress progress = { 0 };
    struct source_env env = { .state = "state", .rescan = rescan, .progress = &progress };
    struct stopper stopper = { .progress = &progress, .after_ns = stop_ns };
    uint64_t heap_before = heap(), resident_before = resident();
    struct source *source;
    struct problem why = { "" };
    void *params = params_of(kind);
    pthread_t thread;
    int64_t start;

    CHECK(!stop_ns || pthread_create(&thread, NULL, stop_later, &stopper) == 0, "no thread");
    start = now_ns();
    shared->rc = kind->ops->open(&source, params, &env, &why);
    shared->seconds = (double)(now_ns() - start) / 1e9;
    if (stop_ns) {
        pthread_join(thread, NULL);
        shared->seconds = shared->rc < 0 ? (double)(start - stopper.at_ns) / 1e9 + shared->seconds : 0;
        return;
    }
    CHECK(shared->rc == 0, "%s", why.text);
    touch_heads(kind->ops, source);
    shared->kept = progress.kept;
    shared->count = kind->ops->count(source);
    shared->bytes = kind->ops->bytes(source);
    shared->heap = heap() - heap_before;
    shared->resident = resident() - resident_before;
}

static struct opening open_apart(const struct kind *kind, bool rescan, int64_t stop_ns)
{
    int status;
    pid_t pid = fork();

    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        open_once(kind, rescan, stop_ns);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child failed");
    return *shared;
}

static void measure(struct kind *kind, int round, uint64_t n)
{
    struct window window;
    struct opening opening;

    window_open(&window);
    opening = open_apart(kind, true, 0);
    window_close(&window);
    CHECK(opening.count == n && !opening.kept, "the scan found %llu files", (unsigned long long)opening.count);
    series_add(&kind->scan, opening.seconds, window.others);
    window_open(&window);
    kind->last = open_apart(kind, false, 0);
    window_close(&window);
    CHECK(kind->last.count == n && kind->last.kept, "the manifest was not believed");
    series_add(&kind->start, kind->last.seconds, window.others);
    window_open(&window);
    opening = open_apart(kind, true, (int64_t)(opening.seconds * 1e9 * (1 + round * 3 % 8) / 9));
    window_close(&window);
    series_add(&kind->stop, opening.seconds * 1e3, window.others);
}

static void show(struct kind *kind, uint64_t n, bool *held)
{
    double start = series_median(&kind->start), bytes = (double)kind->last.heap / (double)n, stop = 0;

    for (size_t i = 0; i < kind->stop.n; i++)
        stop = kind->stop.values[i] > stop ? kind->stop.values[i] : stop;
    printf("%-10s %8.2f s %8.3f s %8.0f ms   %6.1f counted, %6.1f on the heap, %6.1f resident   %7.1f MB\n", kind->name,
           series_median(&kind->scan), start, stop, (double)kind->last.bytes / (double)n, bytes,
           (double)kind->last.resident / (double)n, (double)manifest_bytes(kind->name) / 1e6);
    printf("json: {\"bench\":\"scan\",\"source\":\"%s\",\"files\":%llu,\"scan_s\":%.3f,\"start_s\":%.3f,\"stop_ms\":%.1f,"
           "\"sample_bytes\":%.1f,\"counted_bytes\":%.1f,\"manifest_bytes\":%llu,\"quiet\":%zu}\n",
           kind->name, (unsigned long long)n, series_median(&kind->scan), start, stop, bytes,
           (double)kind->last.bytes / (double)n, (unsigned long long)manifest_bytes(kind->name), series_quiet(&kind->start));
    *held &= start <= START_TARGET && bytes <= BYTE_TARGET && stop <= STOP_TARGET;
}

int main(void)
{
    char command[64];
    const char *folder;
    bool held = true;
    uint64_t n;

    bench_start("opening a source of many files");
    bench_rounds(2, 10 * SECOND);
    log_init(LOG_WARN);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED, "no memory");
    folder = enter_tmpfs();
    n = how_many();
    if (n == 0) {
        printf("skipped: no memory for %d empty files\n", A_CLASS);
        return SKIPPED;
    }
    make_files(n);
    printf("%llu empty files in %llu folders of %s%s\n\n", (unsigned long long)n, (unsigned long long)n / A_CLASS,
           folder ? folder : "a tmpfs of our own", n < FILES ? "; memory or inodes are short" : "");
    for (int round = 0; more_rounds(&kinds[0].start); round++)
        for (size_t k = 0; k < KINDS; k++)
            measure(&kinds[k], round, n);
    printf("               scan    manifest        stop   bytes a sample                                          manifest\n");
    for (size_t k = 0; k < KINDS; k++)
        show(&kinds[k], n, &held);
    printf("\ntarget: with the manifest <= %.0f s, <= %.0f bytes a sample, stopped within %.0f ms: %s\n", START_TARGET,
           BYTE_TARGET, STOP_TARGET, verdict(held, &kinds[0].start));
    if (folder) {
        snprintf(command, sizeof(command), "rm -r %s", folder);
        CHECK(system(command) == 0, "cannot remove %s", folder);
    }
    return bench_end();
}
