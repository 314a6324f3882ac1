/* SPDX-License-Identifier: MIT */
/* One header of a tar archive, and the records of pax: bytes in, facts out, nothing is read or kept here. v7, ustar, pax, and what
 * GNU tar and star make of them. For tar_walk.c, on the thread that opens the source. */
#ifndef PFEED_TAR_HEADER_H
#define PFEED_TAR_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define TAR_BLOCK        512
#define TAR_HEADER_NAME  257       /* prefix, slash and name, with the closing zero */
#define TAR_NAME         4096      /* of any member, with the closing zero */
#define TAR_RECORDS_MOST (1 << 20) /* bytes of pax records before one member */

enum tar_kind {
    TAR_FILE,
    TAR_LINK,      /* hard or symbolic: has no bytes of its own */
    TAR_SPARSE,    /* has not all of its bytes */
    TAR_OTHER,     /* folders, devices, and what we do not know */
    TAR_LONG_NAME, /* GNU's: its bytes are the name of the next one */
    TAR_LONG_LINK,
    TAR_PAX,     /* records about the next one */
    TAR_PAX_ALL, /* about all that follow */
};

struct tar_header {
    enum tar_kind kind;
    uint64_t size; /* bytes that follow in the archive */
    bool map_goes; /* TAR_SPARSE: blocks of its map follow before them */
    char name[TAR_HEADER_NAME];
};

/* 1; 0: the block is all zeros; -EBADMSG and a sentence: it is no header. */
int tar_header_read(const uint8_t block[TAR_BLOCK], struct tar_header *out, struct problem *why);

/* What pax records say about the next member. */
struct tar_records {
    bool has_name, has_size, sparse;
    uint64_t size;
    char name[TAR_NAME];
};

/* Adds to out. -EBADMSG and a sentence. */
int tar_records_read(const char *text, size_t size, struct tar_records *out, struct problem *why);

/* WebDataset's rule: the key is the path up to the first dot of the file's name, the extension what follows that. False: the name
 * has no such parts, or is of WebDataset's own (__name__). */
bool tar_name_cut(const char *name, size_t *key_length, const char **extension);

#endif
