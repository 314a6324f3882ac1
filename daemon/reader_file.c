/* SPDX-License-Identifier: MIT */
/* From a path to one composed YAML document. Called through reader.h on the main thread at start. The file is scanned once as
 * events before it is composed: what we refuse (aliases, a second document, text that is not YAML) is found there with its
 * place, and nothing can grow by references. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reader.h"

#define FILE_MAX  (1 << 20) /* a configuration larger than this is a mistake */
#define DEPTH_MAX 32        /* libyaml takes quadratic time in the depth of brackets */

struct text {
    char *data;
    size_t size;
};

static int slurp(const char *name, struct text *out)
{
    int rc = 0;
    struct stat st;
    struct text text = { .data = NULL, .size = 0 };
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        rc = -errno;
        goto close_file;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = -EISDIR;
        goto close_file;
    }
    text.data = malloc(FILE_MAX + 1);
    if (!text.data) {
        rc = -ENOMEM;
        goto close_file;
    }
    while (text.size <= FILE_MAX) {
        ssize_t got = read(fd, text.data + text.size, FILE_MAX + 1 - text.size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = -errno;
        if (got <= 0)
            break;
        text.size += (size_t)got;
    }
    if (rc == 0 && text.size > FILE_MAX)
        rc = -EFBIG;
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
    if (parser->error == YAML_MEMORY_ERROR) {
        reader->no_memory = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        mark = mark_at(reader, text, parser->problem_offset);
        reader_error(reader, &mark, "not a text file (%s); the configuration is YAML in UTF-8", parser->problem);
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

static void refuse_anchor(struct reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        anchor = event->data.alias.anchor;
    else if (event->type == YAML_SCALAR_EVENT)
        anchor = event->data.scalar.anchor;
    else if (event->type == YAML_SEQUENCE_START_EVENT)
        anchor = event->data.sequence_start.anchor;
    else if (event->type == YAML_MAPPING_START_EVENT)
        anchor = event->data.mapping_start.anchor;
    if (!anchor)
        return;
    struct config_mark mark = event_mark(reader, event);
    reader_error(reader, &mark, "%s%.60s: anchors and aliases are not taken here; write the value out",
                 event->type == YAML_ALIAS_EVENT ? "*" : "&", (const char *)anchor);
}

/* All events once: reports what is wrong and whether there is a document at all. */
static int scan(struct reader *reader, const struct text *text)
{
    yaml_parser_t parser;
    yaml_event_t event;
    uint32_t before = reader->total, documents = 0;
    int depth = 0;
    bool more = true;
    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text->data, text->size);
    while (more) {
        if (!yaml_parser_parse(&parser, &event)) {
            syntax_error(reader, &parser, text);
            break;
        }
        refuse_anchor(reader, &event);
        if (event.type == YAML_DOCUMENT_START_EVENT && ++documents == 2) {
            struct config_mark mark = event_mark(reader, &event);
            reader_error(reader, &mark, "a second document begins here; keep one a file");
        }
        depth += event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT;
        depth -= event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT;
        if (depth > DEPTH_MAX) {
            struct config_mark mark = event_mark(reader, &event);
            reader_error(reader, &mark, "more than %d levels of lists and maps; nothing here needs so many", DEPTH_MAX);
        }
        more = event.type != YAML_STREAM_END_EVENT && depth <= DEPTH_MAX;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (reader->no_memory)
        return -ENOMEM;
    if (reader->total == before && documents == 0) {
        struct config_mark mark = { reader->file, 1, 1 };
        reader_error(reader, &mark, "the file is empty; it must begin with 'version: 1'");
    }
    return reader->total == before ? 0 : -EINVAL;
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

int reader_open_file(struct reader *reader, const char *name, uint32_t index)
{
    struct text text = { .data = NULL };
    struct config_mark mark = { .file = name, .line = 1, .column = 1 };
    reader_close_file(reader);
    reader->file = name;
    reader->file_index = index;
    int rc = slurp(name, &text);
    if (rc < 0) {
        reader_error(reader, &mark, "cannot read the file: %s; check the path and its permissions", strerror(-rc));
        return rc;
    }
    reader->folder = folder_of(name);
    rc = reader->folder ? scan(reader, &text) : -ENOMEM;
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
