/* SPDX-License-Identifier: MIT */
/* A pfeedd that is not one: a thread that answers control messages as a test tells it to, and running pfeedctl against it. For
 * the tests of client/, which must cope with daemons older, newer, dying and mad. */
#ifndef FAKE_PFEEDD_H
#define FAKE_PFEEDD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"

#define CHECK(condition, ...)                                                                                                    \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                      \
            fprintf(stderr, __VA_ARGS__);                                                                                        \
            putc('\n', stderr);                                                                                                  \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)

union fake_message {
    struct pf_ctl_head head;
    struct pf_ctl_stat stat;
    struct pf_ctl_attach attach;
    struct pf_ctl_seek seek;
    struct pf_ctl_rows rows;
    uint64_t align;
    unsigned char bytes[PF_CTL_MAX + 64];
};

/* Answers one request; false: hang up. Called by the fake's thread. */
typedef bool fake_answer(int socket, const union fake_message *request, void *data);

struct fake {
    char folder[64], path[96];
    int listener, stop;
    pthread_t thread;
    fake_answer *answer;
    void *data;
};

void fake_start(struct fake *fake, fake_answer *answer, void *data); /* in a new folder of its own */
void fake_stop(struct fake *fake);
/* As if it were killed: its socket stays and refuses; and another one in its place. */
void fake_fall(struct fake *fake);
void fake_rise(struct fake *fake);

/* For answers. */
void fake_send(int socket, void *message, uint16_t type, uint32_t size, const int *fds, unsigned n_fds);
void fake_rows(int socket, uint32_t what, const void *rows, uint32_t count, uint32_t row_size, bool more);
void fake_error(int socket, int code, const char *text);

/* A run of pfeedctl; texts are zero-terminated and freed by run_fini. */
struct run {
    int status; /* exit code; -1: killed by a signal or the time limit */
    char *out, *err;
    size_t out_size;
};
/* words: up to NULL; --socket is added. terminal: standard output is one of 100 x 30. until: SIGINT as soon as standard output
 * has this text three times; NULL: never. */
struct run run_pfeedctl(const char *program, const struct fake *fake, const char *const *words, bool terminal, const char *until);
size_t text_count(const char *text, const char *part);
void run_fini(struct run *run);
/* Whether Python finds the expression over d, the JSON document in text, true. */
bool json_holds(const char *text, const char *expression);

#endif
