/* SPDX-License-Identifier: MIT */
/* Files and lists of names for the sources. file_read runs on workers, several at once, and keeps nothing; all else on the
 * thread that opens the source. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "source/file.h"

/* Reads up to size bytes; what is missing at the end is not an error here. */
static ssize_t read_all(int fd, char *buffer, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = read(fd, buffer + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

/* Why size bytes were not what came: the slow path, which asks what the file is now. */
static int explain(int fd, const char *path, uint64_t size, int error, struct problem *why)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        return problem_set(why, -EBADMSG, "%s is not a file any more", path);
    if (error)
        return problem_set(why, -error, "cannot read %s: %s", path, strerror(error));
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size != size)
        return problem_set(why, -EBADMSG, "%s has %lld bytes now and had %llu when pfeedd started", path, (long long)st.st_size,
                           (unsigned long long)size);
    return problem_set(why, -EBADMSG, "%s changed its size while it was read", path);
}

int file_read(const char *path, uint64_t size, void *buffer, size_t buffer_size, struct problem *why)
{
    uint64_t used = 0;
    char more;
    int rc = 0;
    /* Not blocking: the file may have become a pipe since the scan. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open %s: %s", path, strerror(errno));
    if (size == FILE_ABSENT || size > buffer_size) {
        close(fd);
        return problem_set(why, -EBADMSG, "%s was not there when pfeedd started", path);
    }
    /* Asks for a byte more than there should be, so that no fstat is needed to see that a file has grown. */
    do {
        const struct iovec parts[] = { { (char *)buffer + used, size - used }, { &more, 1 } };
        const ssize_t got = readv(fd, parts, 2);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = explain(fd, path, size, errno, why);
        if (got <= 0)
            break;
        used += (uint64_t)got;
    } while (used < size);
    if (rc == 0 && used != size)
        rc = explain(fd, path, size, 0, why);
    close(fd);
    return rc;
}

int file_slurp(const char *path, size_t limit, char **text, size_t *size, struct problem *why)
{
    struct stat st;
    char *data = NULL;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open %s: %s; check the path, and that pfeedd may read it", path, strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = problem_set(why, -errno, "cannot measure %s: %s; try again, or copy it", path, strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = problem_set(why, -EINVAL, "%s is not a file; check the path", path);
        goto close_file;
    }
    if ((uint64_t)st.st_size > limit) {
        rc = problem_set(why, -EFBIG, "%s has %lld bytes; at most %zu are taken, make it smaller", path, (long long)st.st_size,
                         limit);
        goto close_file;
    }
    data = malloc((size_t)st.st_size + 1);
    ssize_t got = data ? read_all(fd, data, (size_t)st.st_size) : -ENOMEM;
    if (got < 0) {
        rc = problem_set(why, (int)got, "cannot read %s: %s", path, strerror((int)-got));
        free(data);
        goto close_file;
    }
    data[got] = 0;
    *text = data;
    *size = (size_t)got;
close_file:
    close(fd);
    return rc;
}

void *file_grown(void *array, uint64_t n, uint64_t *room, size_t each)
{
    if (array && n < *room)
        return array;
    uint64_t more = n + n / 2 + 4096 / each + 1;
    void *grown = realloc(array, more * each);
    if (grown)
        *room = more;
    return grown;
}

void *file_trimmed(void *array, uint64_t n, uint64_t *room, size_t each)
{
    void *less = n ? realloc(array, n * each) : NULL;
    if (!less)
        return array;
    *room = n;
    return less;
}

int texts_add(struct texts *texts, const char *left, const char *right, uint64_t *at)
{
    size_t first = strlen(left), second = strlen(right) + 1;
    char *grown = file_grown(texts->text, texts->size + first + second, &texts->room, 1);
    if (!grown)
        return -ENOMEM;
    texts->text = grown;
    memcpy(grown + texts->size, left, first);
    memcpy(grown + texts->size + first, right, second);
    *at = texts->size;
    texts->size += first + second;
    return 0;
}

bool texts_hold(const struct texts *texts, uint64_t at)
{
    return at < texts->size && texts->text[texts->size - 1] == 0;
}

void texts_trim(struct texts *texts)
{
    texts->text = file_trimmed(texts->text, texts->size, &texts->room, 1);
}

void texts_fini(struct texts *texts)
{
    free(texts->text);
    *texts = (struct texts){ .size = 0 };
}

#define SORT_RUN 4096 /* elements between two looks at whether to stop */

/* The sorted runs left and right, of which right follows left, into out. */
static void merge(const char *left, uint64_t n_left, uint64_t n_right, size_t each, char *out,
                  int (*compare)(const void *, const void *, void *), void *context)
{
    const char *right = left + n_left * each, *middle = right, *end = right + n_right * each;
    for (; left < middle || right < end; out += each) {
        bool take_left = right == end || (left < middle && compare(left, right, context) <= 0);
        const char **from = take_left ? &left : &right;
        memcpy(out, *from, each);
        *from += each;
    }
}

int file_sort(void *array, uint64_t n, size_t each, int (*compare)(const void *, const void *, void *), void *context,
              const struct source_progress *progress)
{
    char *from = array, *to = NULL, *spare = NULL;
    int rc = 0;
    for (uint64_t at = 0; at < n && rc == 0; at += SORT_RUN) {
        qsort_r(from + at * each, n - at < SORT_RUN ? n - at : SORT_RUN, each, compare, context);
        rc = source_stopping(progress) ? -ECANCELED : 0;
    }
    if (n <= SORT_RUN || rc < 0)
        return rc;
    to = spare = malloc(n * each);
    if (!spare)
        return -ENOMEM;
    for (uint64_t run = SORT_RUN; run < n && rc == 0; run *= 2) {
        for (uint64_t at = 0; at < n && rc == 0; at += 2 * run) {
            uint64_t left = n - at < run ? n - at : run, right = n - at - left < run ? n - at - left : run;
            merge(from + at * each, left, right, each, to + at * each, compare, context);
            rc = source_stopping(progress) ? -ECANCELED : 0;
        }
        char *swap = from;
        from = to;
        to = swap;
    }
    if (rc == 0 && from != array)
        memcpy(array, from, n * each);
    free(spare);
    return rc;
}

static int compare_names(const void *left, const void *right, void *context)
{
    const struct names *names = context;
    return strcmp(names->names[*(const uint32_t *)left], names->names[*(const uint32_t *)right]);
}

int names_make(struct names *out, const char *const *list, uint32_t n, struct problem *why)
{
    struct names made = { .n = n };
    int rc = -ENOMEM;
    size_t size = 1;
    for (uint32_t i = 0; i < n; i++)
        size += strlen(list[i]) + 1;
    made.names = calloc(n ? n : 1, sizeof *made.names);
    made.sorted = calloc(n ? n : 1, sizeof *made.sorted);
    char *at = made.text = malloc(size);
    made.text_size = size;
    if (!made.names || !made.sorted || !made.text)
        goto fini;
    for (uint32_t i = 0; i < n; i++) {
        made.names[i] = at;
        made.sorted[i] = i;
        at = stpcpy(at, list[i]) + 1;
    }
    qsort_r(made.sorted, n, sizeof *made.sorted, compare_names, &made);
    for (uint32_t i = 1; i < n; i++)
        if (compare_names(&made.sorted[i - 1], &made.sorted[i], &made) == 0) {
            rc = problem_set(why, -EEXIST, "class '%s' is listed twice", made.names[made.sorted[i]]);
            goto fini;
        }
    *out = made;
    return 0;
fini:
    names_fini(&made);
    return rc == -ENOMEM ? problem_set(why, rc, "out of memory for %u class names", n) : rc;
}

int names_load(struct names *out, const char *path, struct problem *why)
{
    char *text, *save = NULL;
    size_t size;
    uint32_t n = 0, lines = 1;
    const char **list;
    struct problem inner;
    int rc = file_slurp(path, 64 << 20, &text, &size, why);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    list = calloc(lines, sizeof *list);
    if (!list) {
        rc = problem_set(why, -ENOMEM, "out of memory for %u class names", lines);
        goto free_text;
    }
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
        list[n++] = line;
    rc = names_make(out, list, n, &inner);
    free(list);
    if (rc < 0)
        problem_set(why, rc, "%s: %s; keep each name once, one a line", path, inner.text);
free_text:
    free(text);
    return rc;
}

void names_fini(struct names *names)
{
    free(names->names);
    free(names->sorted);
    free(names->text);
    *names = (struct names){ .n = 0 };
}

uint64_t names_bytes(const struct names *names)
{
    return names->n * (sizeof *names->names + sizeof *names->sorted) + names->text_size;
}

int64_t names_find(const struct names *names, const char *name)
{
    uint32_t low = 0, high = names->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, names->names[names->sorted[middle]]);
        if (order == 0)
            return names->sorted[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}
