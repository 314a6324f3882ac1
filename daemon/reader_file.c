/* SPDX-License-Identifier: MIT */
/* From a path to one composed YAML document. Called through reader.h on the main thread at start. The file is scanned once as
 * events before it is composed: what we refuse (a second document, text that is not YAML, aliases that lead in circles or stand
 * for too much) is found there with its place. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_table.h"
#include "reader.h"

#define FILE_MAX    (1 << 20) /* a configuration larger than this is a mistake */
#define DEPTH_MAX   32        /* libyaml takes quadratic time in the depth of brackets */
#define ANCHORS_MAX 256       /* and in the number of anchors */
#define ALIASED_MAX 10000     /* values that all aliases of a file stand for: a few lines of them could stand for 2^64 */

struct text {
    char *data;
    size_t size;
};

struct anchor {
    char *name;
    uint32_t line;
    uint32_t values; /* that it stands for: itself and all that it holds */
    bool open;       /* its list or map has not ended yet */
};

struct scan {
    struct reader *reader;
    uint32_t documents, values, aliased, n_anchors;
    int depth;
    bool stop;
    struct anchor anchors[ANCHORS_MAX];
    struct {
        struct anchor *anchor; /* NULL: none */
        uint32_t values;       /* that came before it */
    } open[DEPTH_MAX + 2];     /* by depth, from 1 */
};

/* A pipe could keep us waiting, and a device has no end. */
static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

static int read_all(int fd, struct text *text, struct problem *why)
{
    while (text->size <= FILE_MAX) {
        ssize_t got = read(fd, text->data + text->size, FILE_MAX + 1 - text->size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return problem_set(why, -errno, "cannot read the file: %s; try again, or copy it", strerror(errno));
        if (got == 0)
            return 0;
        text->size += (size_t)got;
    }
    return problem_set(why, -EFBIG, "the file is larger than %d MiB, which no configuration is; check the path", FILE_MAX >> 20);
}

static int slurp(const char *name, struct text *out, struct problem *why)
{
    int rc = 0;
    struct stat st;
    struct text text = { .data = NULL, .size = 0 };
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open the file: %s; check the path and its permissions", strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = problem_set(why, -errno, "cannot read the file: %s; check the path", strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = problem_set(why, -EINVAL, "this is %s, not a file; write the configuration into a file", kind_of(st.st_mode));
        goto close_file;
    }
    text.data = malloc(FILE_MAX + 1);
    rc = text.data ? read_all(fd, &text, why) : problem_set(why, -ENOMEM, "out of memory for the file; free some and try again");
    if (rc < 0)
        free(text.data);
    else
        *out = text;
close_file:
    close(fd);
    return rc;
}

/* libyaml gives no mark for bytes that are not text, only their offset. */
static struct config_mark mark_at(const struct reader *reader, const struct text *text, size_t offset)
{
    struct config_mark mark = { .file = reader->file, .line = 1, .column = 1 };
    for (size_t i = 0; i < offset && i < text->size; i++) {
        mark.column++;
        if (text->data[i] == '\n') {
            mark.line++;
            mark.column = 1;
        }
    }
    return mark;
}

/* Whether the white space at the start of a line (from 1) holds a tab. */
static bool indented_by_tab(const struct text *text, uint32_t line)
{
    const char *at = text->data, *end = text->data + text->size;
    while (line > 1 && at < end)
        line -= *at++ == '\n';
    while (at < end && *at == ' ')
        at++;
    return at < end && *at == '\t';
}

static void syntax_error(struct reader *reader, const yaml_parser_t *parser, const struct text *text)
{
    struct config_mark mark;
    if (parser->error == YAML_MEMORY_ERROR || parser->error == YAML_NO_ERROR) { /* some of its failures forget to say */
        reader->no_memory = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        mark = mark_at(reader, text, parser->problem_offset);
        reader_error(reader, &mark, "not a text file: 0x%02X stands here (%s); the configuration is YAML in UTF-8",
                     (unsigned)parser->problem_value, parser->problem);
        return;
    }
    mark = (struct config_mark){ .file = reader->file,
                                 .line = (uint32_t)parser->problem_mark.line + 1,
                                 .column = (uint32_t)parser->problem_mark.column + 1 };
    if (indented_by_tab(text, mark.line))
        reader_error(reader, &mark, "the line is indented by a tab; use spaces");
    else
        reader_error(reader, &mark, "not valid YAML: %s%s%s; check the indentation and quotes up to here",
                     parser->context ? parser->context : "", parser->context ? ", " : "", parser->problem);
}

static struct config_mark event_mark(const struct reader *reader, const yaml_event_t *event)
{
    return (struct config_mark){ .file = reader->file,
                                 .line = (uint32_t)event->start_mark.line + 1,
                                 .column = (uint32_t)event->start_mark.column + 1 };
}

static struct anchor *find_anchor(struct scan *scan, const char *name)
{
    for (uint32_t i = 0; i < scan->n_anchors; i++)
        if (strcmp(scan->anchors[i].name, name) == 0)
            return &scan->anchors[i];
    return NULL;
}

/* The anchor of a value that begins; NULL: it has none, or one that is wrong. */
static struct anchor *add_anchor(struct scan *scan, const yaml_char_t *name, const struct config_mark *mark)
{
    const struct anchor *other = name ? find_anchor(scan, (const char *)name) : NULL;
    if (!name)
        return NULL;
    if (other) {
        reader_error(scan->reader, mark, "the anchor '&%.60s' is there already, on line %u; rename one of them", other->name,
                     other->line);
        return NULL;
    }
    if (scan->n_anchors == ANCHORS_MAX) {
        reader_error(scan->reader, mark, "the anchor '&%.60s' is one too many; use at most %d a file", (const char *)name,
                     ANCHORS_MAX);
        scan->stop = true;
        return NULL;
    }
    struct anchor *anchor = &scan->anchors[scan->n_anchors];
    *anchor = (struct anchor){ .name = strdup((const char *)name), .line = mark->line, .values = 1 };
    if (!anchor->name) {
        scan->reader->no_memory = scan->stop = true;
        return NULL;
    }
    scan->n_anchors++;
    return anchor;
}

static void see_alias(struct scan *scan, const char *name, const struct config_mark *mark)
{
    const struct anchor *anchor = find_anchor(scan, name);
    struct nearest nearest;
    nearest_init(&nearest, name);
    for (uint32_t i = 0; i < scan->n_anchors; i++)
        nearest_offer(&nearest, scan->anchors[i].name);
    if (!anchor && nearest.best)
        reader_error(scan->reader, mark, "no '&%.60s' stands above; did you mean '*%.60s'?", name, nearest.best);
    else if (!anchor)
        reader_error(scan->reader, mark, "no '&%.60s' stands above; write the value out", name);
    else if (anchor->open)
        reader_error(scan->reader, mark, "'*%.60s' stands within the value that it means, of line %u; write the value out", name,
                     anchor->line);
    else if (anchor->values > ALIASED_MAX - scan->aliased) {
        reader_error(scan->reader, mark, "up to here aliases such as '*%.60s' stand for more than %d values; write them out",
                     name, ALIASED_MAX);
        scan->stop = true;
    } else {
        scan->aliased += anchor->values;
        scan->values += anchor->values;
    }
}

static void begin(struct scan *scan, const yaml_char_t *name, const struct config_mark *mark)
{
    struct anchor *anchor = add_anchor(scan, name, mark);
    if (anchor)
        anchor->open = true;
    scan->depth++;
    scan->open[scan->depth].anchor = anchor;
    scan->open[scan->depth].values = scan->values++;
    if (scan->depth > DEPTH_MAX) {
        reader_error(scan->reader, mark, "more than %d levels of lists and maps; nothing here needs so many", DEPTH_MAX);
        scan->stop = true;
    }
}

static void end(struct scan *scan)
{
    struct anchor *anchor = scan->open[scan->depth].anchor;
    if (anchor) {
        anchor->open = false;
        anchor->values = scan->values - scan->open[scan->depth].values;
    }
    scan->depth--;
}

static void see(struct scan *scan, const yaml_event_t *event)
{
    struct config_mark mark = event_mark(scan->reader, event);
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++scan->documents == 2)
            reader_error(scan->reader, &mark, "a second document begins here; keep one a file");
        break;
    case YAML_ALIAS_EVENT:
        see_alias(scan, (const char *)event->data.alias.anchor, &mark);
        break;
    case YAML_SCALAR_EVENT:
        add_anchor(scan, event->data.scalar.anchor, &mark);
        scan->values++;
        break;
    case YAML_SEQUENCE_START_EVENT:
        begin(scan, event->data.sequence_start.anchor, &mark);
        break;
    case YAML_MAPPING_START_EVENT:
        begin(scan, event->data.mapping_start.anchor, &mark);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        end(scan);
        break;
    default:
        scan->stop = event->type == YAML_STREAM_END_EVENT;
    }
}

/* All events once: reports what is wrong and whether there is a document at all. */
static int look_over(struct reader *reader, const struct text *text)
{
    yaml_parser_t parser;
    yaml_event_t event;
    uint32_t before = reader->config->n_errors;
    struct scan *scan = calloc(1, sizeof *scan);
    if (!scan || !yaml_parser_initialize(&parser)) {
        free(scan);
        return -ENOMEM;
    }
    scan->reader = reader;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text->data, text->size);
    while (!scan->stop) {
        if (!yaml_parser_parse(&parser, &event)) {
            syntax_error(reader, &parser, text);
            break;
        }
        see(scan, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (!reader->no_memory && reader->config->n_errors == before && scan->documents == 0) {
        struct config_mark mark = { reader->file, 1, 1 };
        if (reader->file == reader->config->files[0])
            reader_error(reader, &mark, "the file is empty; it must begin with 'version: %d'", CONFIG_VERSION);
        else
            reader_error(reader, &mark, "the file is empty; write 'feeds:' and a feed into it, or remove it");
    }
    while (scan->n_anchors)
        free(scan->anchors[--scan->n_anchors].name);
    free(scan);
    return reader->no_memory ? -ENOMEM : reader->config->n_errors == before ? 0 : -EINVAL;
}

static int compose(struct reader *reader, const struct text *text)
{
    yaml_parser_t parser;
    int rc = -ENOMEM;
    yaml_document_t *document = calloc(1, sizeof *document);
    if (!document || !yaml_parser_initialize(&parser)) {
        free(document);
        return rc;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text->data, text->size);
    if (yaml_parser_load(&parser, document)) {
        reader->document = document;
        rc = 0;
    } else {
        syntax_error(reader, &parser, text);
        free(document);
        rc = -EINVAL;
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* The folder of name, absolute, so that what a dump says holds anywhere. */
static char *folder_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    char *folder = slash ? strndup(name, slash == name ? 1 : (size_t)(slash - name)) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    free(folder);
    return real;
}

int reader_open_file(struct reader *reader, const char *name)
{
    struct text text = { .data = NULL };
    struct config_mark mark = { .file = name, .line = 1, .column = 1 };
    reader_close_file(reader);
    reader->file = name;
    struct problem why;
    int rc = slurp(name, &text, &why);
    if (rc < 0) {
        reader_error(reader, &mark, "%s", why.text);
        return rc;
    }
    reader->folder = folder_of(name);
    rc = reader->folder ? look_over(reader, &text) : -ENOMEM;
    if (rc == 0)
        rc = compose(reader, &text);
    if (rc == -ENOMEM)
        reader->no_memory = true;
    free(text.data);
    return rc;
}

void reader_close_file(struct reader *reader)
{
    if (reader->document)
        yaml_document_delete(reader->document);
    free(reader->document);
    reader->document = NULL;
    free(reader->folder);
    reader->folder = NULL;
}
