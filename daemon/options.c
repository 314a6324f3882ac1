/* SPDX-License-Identifier: MIT */
/* See options.h. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "socket.h"

#define DEFAULT_CONFIG "/etc/pfeed/pfeed.yaml"

/* One row an option: parser and --help. */
static const struct {
    const char *name, *argument, *help;
    int has, letter;
} option_rows[] = {
    { "config", "FILE", "the configuration; default " DEFAULT_CONFIG ", with --user ~/.config/pfeed/pfeed.yaml",
      required_argument, 'c' },
    { "check", "[FILE]",
      "read the configuration and open its sources, print every error and warning, and end: 78 where there are errors",
      optional_argument, 'C' },
    { "dump-config", NULL, "print every value in force and where it comes from, and end", no_argument, 'd' },
    { "user", NULL, "run for one user: socket and configuration in the user's own folders", no_argument, 'u' },
    { "socket", "PATH",
      "the control socket; default " SOCKET_FOLDER "/pfeedd.sock, with --user $XDG_RUNTIME_DIR/pfeed/pfeedd.sock",
      required_argument, 's' },
    { "log-level", "LEVEL", "error, warn, info (default) or debug", required_argument, 'l' },
    { "version", NULL, "print the version and end", no_argument, 'V' },
    { "help", NULL, "print this and end", no_argument, 'h' },
};
#define N_OPTIONS (sizeof(option_rows) / sizeof(option_rows[0]))

static void print_help(void)
{
    printf("pfeedd: reads and preprocesses training data once, and keeps ready batches in shared memory for all trainers of this "
           "host\n\n"
           "usage: pfeedd [OPTION]...\n\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char left[40];

        snprintf(left, sizeof(left), "--%s%s%s", option_rows[i].name, option_rows[i].argument ? " " : "",
                 option_rows[i].argument ? option_rows[i].argument : "");
        printf("  %-20s %s\n", left, option_rows[i].help);
    }
    printf("\nexit status: 0 stopped as asked, 1 a failure, 2 usage, 78 the configuration is wrong or asks for more memory than "
           "there is\n"
           "\nThe configuration (YAML):\n");
    config_help(stdout);
}

int options_parse(int argc, char **argv, struct options *options)
{
    struct option table[N_OPTIONS + 1] = { 0 };
    int letter;

    for (size_t i = 0; i < N_OPTIONS; i++)
        table[i] = (struct option){ option_rows[i].name, option_rows[i].has, NULL, option_rows[i].letter };
    while ((letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (letter) {
        case 'c':
            options->config = optarg;
            break;
        case 'C':
            options->check = true;
            if (optarg)
                options->config = optarg;
            else if (optind < argc && argv[optind][0] != '-')
                options->config = argv[optind++];
            break;
        case 'd':
            options->dump = true;
            break;
        case 'u':
            options->user = true;
            break;
        case 's':
            options->socket = optarg;
            break;
        case 'l':
            if (log_level_parse(optarg, &options->level) < 0) {
                fprintf(stderr, "pfeedd: --log-level %s: it can be error, warn, info or debug\n", optarg);
                return -EINVAL;
            }
            break;
        case 'V':
            printf("pfeedd %s\n", PFEED_VERSION);
            return 1;
        case 'h':
            print_help();
            return 1;
        default:
            fprintf(stderr, "see `pfeedd --help`\n");
            return -EINVAL;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "pfeedd: '%s' is not an option; see `pfeedd --help`\n", argv[optind]);
        return -EINVAL;
    }
    return 0;
}

const char *options_config(const struct options *options, char *path, size_t size)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (options->config)
        return options->config;
    if (!options->user)
        return DEFAULT_CONFIG;
    if (config && *config)
        snprintf(path, size, "%s/pfeed/pfeed.yaml", config);
    else
        snprintf(path, size, "%s/.config/pfeed/pfeed.yaml", home ? home : "");
    return path;
}
