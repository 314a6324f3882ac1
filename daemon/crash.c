/* SPDX-License-Identifier: MIT */
/*
 * See crash.h. The file: a table of samples, written by the daemon that starts, and a mark for each worker, written by a handler
 * in the daemon that dies. A mark counts once: it is of the table's generation, and the next daemon begins a new one. The table
 * has a checksum, as a daemon may be killed while it writes; a table that is not whole is thrown away with its marks.
 *
 * A sample is known by its id as long as the data's fingerprint is the same, and by what its source says of its place (a path)
 * after that: other files may have come, which moves the ids.
 */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "feed.h"

#define MAGIC   "pfeedCR\n"
#define ORDER   0x01020304u /* as this machine stores it */
#define VERSION 1u
#define WORKERS 1024u /* those beyond leave no mark */
#define WHERE   4352u /* a path, and some words */

struct record {
    char feed[PF_FEED_NAME];
    char where[WHERE]; /* "": its feed has not been open since */
    uint64_t data, id; /* the fingerprint that the id is good for */
    uint32_t count, signal;
};

struct table {
    char magic[8];
    uint32_t order, version;
    uint64_t checksum; /* XXH3, 64 bits, of all behind it */
    uint64_t generation;
    uint64_t n;
    struct record records[CRASH_SAMPLES]; /* from the oldest on */
};

struct mark {
    uint64_t generation; /* written last */
    char feed[PF_FEED_NAME];
    uint64_t data, id;
    uint32_t signal, reserved;
};

struct file {
    struct table table;
    struct mark marks[WORKERS];
};

static const int signals[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
static const char *const names[] = { "SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL" };
#define SIGNALS (sizeof(signals) / sizeof(*signals))

static int lock = -1; /* the file's descriptor, which holds its lock */
static struct file *file;
static struct sigaction before[SIGNALS];
static __thread struct crash_work *here;

/* ---- the daemon that dies ------------------------------------------------------------------------------------------- */

/* Whether the thread did it itself: the kernel found it out, or it called abort. */
static bool is_own(const siginfo_t *info)
{
    return info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());
}

static void note(const struct crash_work *work, int number)
{
    struct mark *mark = &file->marks[work->worker];
    const char *name = work->feed->config->name;
    size_t n = 0;

    for (; n < sizeof(mark->feed) - 1 && name[n]; n++)
        mark->feed[n] = name[n];
    mark->feed[n] = 0;
    mark->data = work->feed->prints.data;
    mark->id = work->id;
    mark->signal = (uint32_t)number;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    mark->generation = file->table.generation;
}

/* Async-signal-safe. What would have been done without us is done then. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    const struct crash_work *work = here;
    size_t s = 0;

    (void)context;
    while (signals[s] != number)
        s++;
    sigaction(number, &before[s], NULL);
    if (file && work && work->feed && work->worker < WORKERS && is_own(info))
        note(work, number);
    if (info->si_code <= 0) /* else the same instruction raises it again */
        raise(number);
}

void crash_watch(struct crash_work *work, uint32_t worker)
{
    const stack_t own = { .ss_sp = work->stack, .ss_size = sizeof(work->stack) };
    stack_t old;

    work->worker = worker;
    here = work;
    if (sigaltstack(NULL, &old) == 0 && (old.ss_flags & SS_DISABLE)) /* a sanitizer brings its own */
        sigaltstack(&own, NULL);
}

void crash_unwatch(struct crash_work *work)
{
    const stack_t none = { .ss_flags = SS_DISABLE };
    stack_t old;

    here = NULL;
    if (sigaltstack(NULL, &old) == 0 && old.ss_sp == (void *)work->stack)
        sigaltstack(&none, NULL);
}

/* ---- the daemon that starts ----------------------------------------------------------------------------------------- */

static uint64_t sum_up(const struct table *table)
{
    return XXH3_64bits(&table->generation, sizeof(*table) - offsetof(struct table, generation));
}

static bool is_sound(const struct table *table)
{
    if (memcmp(table->magic, MAGIC, sizeof(table->magic)) != 0 || table->order != ORDER || table->version != VERSION ||
        table->checksum != sum_up(table) || table->n > CRASH_SAMPLES)
        return false;
    for (uint64_t r = 0; r < table->n; r++)
        if (!memchr(table->records[r].feed, 0, PF_FEED_NAME) || !memchr(table->records[r].where, 0, WHERE))
            return false;
    return true;
}

static void forget(struct table *table, uint64_t r)
{
    table->n--;
    memmove(&table->records[r], &table->records[r + 1], (table->n - r) * sizeof(*table->records));
    memset(&table->records[table->n], 0, sizeof(*table->records));
}

/* The oldest that crashed but once, else the oldest. */
static void make_room(struct table *table)
{
    uint64_t r = 0;

    while (r < table->n && table->records[r].count >= CRASH_BAD)
        r++;
    forget(table, r < table->n ? r : 0);
}

static void count(struct table *table, const struct mark *mark)
{
    uint64_t r = 0;

    while (r < table->n && (table->records[r].data != mark->data || table->records[r].id != mark->id ||
                            strcmp(table->records[r].feed, mark->feed) != 0))
        r++;
    if (r == CRASH_SAMPLES) {
        make_room(table);
        r = table->n;
    }
    if (r == table->n) {
        table->n++;
        table->records[r] = (struct record){ .data = mark->data, .id = mark->id };
        memcpy(table->records[r].feed, mark->feed, sizeof(mark->feed));
    }
    table->records[r].count++;
    table->records[r].signal = mark->signal;
}

static void begin_generation(void)
{
    struct table *table = &file->table;
    const bool sound = is_sound(table);
    const uint64_t last = table->generation;

    if (!sound)
        memset(file, 0, sizeof(*file));
    for (uint32_t w = 0; sound && w < WORKERS; w++)
        if (file->marks[w].generation == last && memchr(file->marks[w].feed, 0, PF_FEED_NAME))
            count(table, &file->marks[w]);
    memcpy(table->magic, MAGIC, sizeof(table->magic));
    table->order = ORDER;
    table->version = VERSION;
    table->generation = last + 1 ? last + 1 : 1; /* never that of a mark of zeros */
    table->checksum = sum_up(table);
}

/* Of the size that it must have; anything else is not ours, and nothing is lost with it but what we would have known. */
static int map(int fd)
{
    struct stat st;
    void *found;
    int rc = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;

    if (rc == 0 && st.st_size != sizeof(*file) && ftruncate(fd, 0) < 0)
        rc = -errno;
    if (rc == 0) /* a store must not find the disk full */
        rc = -posix_fallocate(fd, 0, sizeof(*file));
    if (rc < 0)
        return rc;
    found = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED)
        return -errno;
    file = found;
    return 0;
}

void crash_open(const char *state)
{
    struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    char path[1024];
    int rc;

    if (!state)
        return;
    snprintf(path, sizeof(path), "%s/crashes", state);
    lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    rc = lock < 0 ? -errno : flock(lock, LOCK_EX | LOCK_NB) < 0 ? -EBUSY : map(lock);
    if (rc < 0) {
        log_warn("cannot use %s: %s; a sample that crashes pfeedd will not be found out", path,
                 rc == -EBUSY ? "another pfeedd does, which has the same state folder" : strerror(-rc));
        crash_close();
        return;
    }
    begin_generation();
    for (size_t s = 0; s < SIGNALS; s++)
        sigaction(signals[s], &action, &before[s]);
}

void crash_close(void)
{
    for (size_t s = 0; s < SIGNALS && file; s++)
        sigaction(signals[s], &before[s], NULL);
    if (file)
        munmap(file, sizeof(*file));
    file = NULL;
    if (lock >= 0)
        close(lock);
    lock = -1;
}

/* ---- feeds ---------------------------------------------------------------------------------------------------------- */

static const char *name_of(uint32_t number)
{
    for (size_t s = 0; s < SIGNALS; s++)
        if ((uint32_t)signals[s] == number)
            return names[s];
    return "a signal";
}

/* Where the sample is now. False: it is gone, or nobody knows any more which it was. */
static bool find(const struct feed *feed, struct record *record)
{
    const struct source_ops *source = feed->config->source;
    char where[WHERE];

    if (record->data == feed->prints.data && record->id < feed->samples) {
        source->where(feed->source, record->id, record->where, sizeof(record->where));
        return true;
    }
    for (uint64_t id = 0; id < feed->samples && *record->where; id++) {
        source->where(feed->source, id, where, sizeof(where));
        if (strcmp(where, record->where) != 0)
            continue;
        record->id = id;
        record->data = feed->prints.data;
        return true;
    }
    return false;
}

/* Record r is where an older one of the same feed is: that one has all its crashes then. */
static bool is_same(struct table *table, uint64_t r)
{
    const struct record *record = &table->records[r];

    for (struct record *other = table->records; other < record; other++)
        if (other->data == record->data && other->id == record->id && strcmp(other->feed, record->feed) == 0) {
            other->count += record->count;
            other->signal = record->signal;
            return true;
        }
    return false;
}

static void judge(struct feed *feed, const struct record *record)
{
    const char *name = feed->config->name;

    if (record->count < CRASH_BAD) {
        log_warn("feed '%s': sample %llu (%s) was in work when pfeedd crashed (%s); once more, and it is taken as bad", name,
                 (unsigned long long)record->id, record->where, name_of(record->signal));
        return;
    }
    log_warn("feed '%s': sample %llu (%s) was in work at %u crashes of pfeedd (%s), and is taken as bad; when it is mended, "
             "`pfeedctl rescan %s`",
             name, (unsigned long long)record->id, record->where, record->count, name_of(record->signal), name);
    feed->crashers[feed->n_crashers++] = (struct crash_sample){ record->id, record->count, record->signal };
}

void crash_judge(struct feed *feed, bool forgotten)
{
    struct table *table = file ? &file->table : NULL;

    if (!table)
        return;
    for (uint64_t r = 0; r < table->n;) {
        struct record *record = &table->records[r];

        if (strcmp(record->feed, feed->config->name) == 0 && (forgotten || !find(feed, record) || is_same(table, r)))
            forget(table, r);
        else
            r++;
    }
    for (uint64_t r = 0; r < table->n; r++)
        if (strcmp(table->records[r].feed, feed->config->name) == 0)
            judge(feed, &table->records[r]);
    table->checksum = sum_up(table);
}

int crash_check(const struct feed *feed, uint64_t id, struct problem *why)
{
    for (uint32_t i = 0; i < feed->n_crashers; i++)
        if (feed->crashers[i].id == id)
            return problem_set(why, -EBADMSG, "was in work at %u crashes of pfeedd (%s)", feed->crashers[i].count,
                               name_of(feed->crashers[i].signal));
    return 0;
}
