/* SPDX-License-Identifier: MIT */
/* pfeedd: options, start, the main loop, the end. What runs when: configuration, workers, socket; then turns of the loop until
 * SIGTERM, SIGINT or `pfeedctl stop`. Samples are listed and memory is made by chores (reload.c) while the loop runs already;
 * READY is said after that. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "budget.h"
#include "chore.h"
#include "config.h"
#include "memory.h"
#include "notify.h"
#include "reload.h"
#include "server.h"
#include "socket.h"

#define EXIT_USAGE     2
#define EXIT_CONFIG    78 /* sysexits.h: the configuration, or more memory than there is */
#define STOP_MS        1500
#define DEFAULT_CONFIG "/etc/pfeed/pfeed.yaml"

struct options {
    const char *config, *socket;
    bool check, dump, user;
    enum log_level level;
};

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

/* 0 go on, 1 done, or -EINVAL. */
static int parse_options(int argc, char **argv, struct options *options)
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

/* ---- start, run, end ------------------------------------------------------------------------------------------------ */

static struct daemon the_daemon;

/* Every line of a text as a message of its own. */
static void log_lines(enum log_level level, const char *text)
{
    while (*text) {
        int length = (int)strcspn(text, "\n");

        log_line(level, "%.*s", length, text);
        text += length + (text[length] == '\n');
    }
}

/* All feeds are open, or the daemon cannot start. */
static void on_started(void *context, int rc, const char *report)
{
    struct daemon *daemon = context;

    log_lines(rc < 0 ? LOG_ERROR : LOG_WARN, report);
    if (rc < 0) {
        daemon->failed = true;
        daemon->stopping = true;
        return;
    }
    log_info("ready: %s; %s", daemon->status, daemon->socket);
    notify_ready(daemon->status);
}

static void on_reloaded(void *context, int rc, const char *report)
{
    struct daemon *daemon = context;

    log_lines(rc < 0 ? LOG_ERROR : LOG_INFO, report);
    if (rc < 0)
        log_error("SIGHUP: the new configuration is not in force");
    else
        log_info("SIGHUP: the configuration is in force");
    notify_ready(daemon->status);
}

static void reload(struct daemon *daemon)
{
    const struct reload_ask ask = { .ended = on_reloaded, .context = daemon };
    struct problem why;

    notify_reloading();
    if (reload_begin(daemon, &ask, &why) == 0)
        return;
    log_warn("SIGHUP: %s", why.text);
    notify_ready(daemon->status);
}

static void on_signal(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGHUP) {
        reload(&the_daemon);
        return;
    }
    log_info("%s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
    the_daemon.stopping = true;
}

static void on_work(struct watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    workers_seen(the_daemon.workers);
    for (uint32_t f = 0; f < the_daemon.n_feeds; f++)
        the_daemon.feeds[f]->dirty = true;
}

/* Signals are blocked before any thread is made, so that only the signalfd gets them. */
static int block_signals(struct watch *signals, struct problem *why)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *signals = (struct watch){ .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .call = on_signal };
    return signals->fd >= 0 ? 0 : problem_set(why, -errno, "cannot make a signalfd: %s", strerror(errno));
}

static int make_loop(struct daemon *daemon, struct watch *signals, struct watch *work, struct problem *why)
{
    int rc = loop_create(&daemon->loop);

    if (rc < 0)
        return problem_set(why, rc, "cannot make an epoll: %s", strerror(-rc));
    *work = (struct watch){ .fd = workers_eventfd(daemon->workers), .call = on_work };
    if ((rc = loop_add(daemon->loop, signals, 0)) < 0 || (rc = loop_add(daemon->loop, work, 0)) < 0)
        return problem_set(why, rc, "cannot watch a descriptor: %s", strerror(-rc));
    return chores_create(&daemon->chores, daemon->loop, why);
}

static int run(struct daemon *daemon)
{
    int rc = 0;

    while (!daemon->stopping && rc == 0) {
        bool again = false;

        for (uint32_t f = 0; f < daemon->n_feeds; f++) {
            struct feed *feed = daemon->feeds[f];

            if (feed->dirty)
                feed_turn(feed);
            again |= feed_arm(feed) || feed->dirty;
        }
        reload_reap(daemon);
        rc = loop_turn(daemon->loop, !again); /* with `again`: only a look at what else has come */
    }
    return rc;
}

/* A consumer takes seven descriptors; the soft limit is often 1,024 for the sake of select(), which is not used here. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Where manifests are kept; NULL: nowhere. */
static const char *state_folder(const struct config_daemon *config, bool user, char *path, size_t size)
{
    const char *state = getenv("STATE_DIRECTORY"), *home = getenv("HOME");

    if (strcmp(config->state, "none") == 0)
        return NULL;
    if (strcmp(config->state, "auto") != 0)
        return config->state;
    if (state && *state)
        return state;
    if (!user)
        return "/var/lib/pfeed";
    state = getenv("XDG_STATE_HOME");
    if (state && *state)
        snprintf(path, size, "%s/pfeed", state);
    else
        snprintf(path, size, "%s/.local/state/pfeed", home ? home : "");
    return path;
}

/* With the folders above it. 0 or -errno. */
static int make_folders(const char *path)
{
    char part[512];

    if (strlen(path) >= sizeof(part))
        return -ENAMETOOLONG;
    for (const char *slash = path; (slash = strchr(slash + 1, '/'));) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static void choose_state(struct daemon *daemon, bool user)
{
    static char path[512];
    int rc;

    daemon->state = state_folder(&daemon->config->daemon, user, path, sizeof(path));
    if (daemon->state && daemon->state != path) { /* a configuration goes with the next reload */
        snprintf(path, sizeof(path), "%s", daemon->state);
        daemon->state = path;
    }
    rc = daemon->state ? make_folders(daemon->state) : 0;
    if (rc < 0) {
        log_warn("no folder for state: cannot make %s: %s; sources are listed anew at each start, unless `daemon: state` names "
                 "another (or says none)",
                 daemon->state, strerror(-rc));
        daemon->state = NULL;
    }
}

static int start(struct daemon *daemon, int fd, struct problem *why)
{
    const struct group *group = getgrnam("pfeed");
    const struct reload_ask ask = { .config = config_ref(daemon->config), .ended = on_started, .context = daemon };
    int rc;

    daemon->start_ns = feed_now_ns();
    daemon->have_pfeed_group = group != NULL;
    daemon->pfeed_group = group ? group->gr_gid : 0;
    rc = server_create(&daemon->server, daemon, fd, why);
    if (rc == 0)
        rc = reload_begin(daemon, &ask, why);
    if (rc < 0)
        config_destroy(daemon->config);
    return rc;
}

static void save(struct chore *chore)
{
    (void)chore;
    for (uint32_t f = 0; f < the_daemon.n_feeds; f++)
        feed_save(the_daemon.feeds[f]);
}

/* True: everything can be given back. */
static bool stop_threads(struct daemon *daemon)
{
    static struct chore last = { .run = save };
    const int64_t until_ns = feed_now_ns() + STOP_MS * INT64_C(1000000);
    bool stopped = true;

    reload_cancel(daemon);
    if (daemon->workers && !workers_stop(daemon->workers, STOP_MS)) {
        log_warn("a worker is stuck in a read; ending without it");
        stopped = false;
    }
    if (daemon->chores && stopped)
        chores_add(daemon->chores, &last);
    if (daemon->chores && !chores_stop(daemon->chores, stopped ? (int)((until_ns - feed_now_ns()) / 1000000) : 0)) {
        log_warn("listing or memory is stuck; ending without it");
        stopped = false;
    }
    return stopped;
}

static void destroy(struct daemon *daemon)
{
    reload_destroy(daemon);
    for (uint32_t f = 0; f < daemon->n_feeds; f++)
        feed_destroy(daemon->feeds[f]);
    free(daemon->feeds);
    chores_destroy(daemon->chores);
    workers_destroy(daemon->workers);
    loop_destroy(daemon->loop);
}

static int serve(struct daemon *daemon, const struct options *options)
{
    struct watch signals = { .fd = -1 }, work;
    struct problem why = { "" };
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)] = "";
    int lock = -1, fd = socket_inherited(path, sizeof(path), &why), rc = fd < -1 ? fd : 0;
    bool inherited = fd >= 0, clean;

    raise_limits();
    choose_state(daemon, options->user);
    if (rc == 0 && !inherited)
        rc = socket_path(options->socket, options->user, path, sizeof(path), &why);
    if (rc == 0 && *path) /* also of a socket from systemd: nobody may take its path over while we serve it */
        rc = socket_lock(path, options->user, &lock, &why);
    if (rc == 0)
        rc = block_signals(&signals, &why);
    if (rc == 0)
        crash_open(daemon->state);
    if (rc == 0)
        rc = memory_begin(daemon, &why);
    if (rc == 0)
        rc = workers_create(&daemon->workers, memory_workers(daemon), &why);
    if (rc == 0)
        rc = make_loop(daemon, &signals, &work, &why);
    if (rc == 0 && !inherited)
        rc = socket_listen(path, options->user, &fd, &why);
    daemon->socket = inherited ? "socket from systemd" : path;
    if (rc == 0)
        rc = start(daemon, fd, &why);
    if (rc == 0)
        rc = run(daemon);
    notify_stopping();
    if (rc < 0)
        log_error("%s", *why.text ? why.text : strerror(-rc));
    server_destroy(daemon->server);
    if (!inherited && fd >= 0)
        unlink(path);
    clean = stop_threads(daemon);
    if (lock >= 0)
        close(lock); /* where not all is clean, the process may linger until a read returns */
    rc = daemon->failed || rc == -ENOMEM || rc == -EINVAL ? EXIT_CONFIG : rc < 0 ? 1 : 0;
    if (!clean)
        _exit(rc);
    destroy(daemon);
    crash_close();
    if (signals.fd >= 0)
        close(signals.fd);
    return rc;
}

static const char *default_config(const struct options *options, char *path, size_t size)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (!options->user)
        return DEFAULT_CONFIG;
    if (config && *config)
        snprintf(path, size, "%s/pfeed/pfeed.yaml", config);
    else
        snprintf(path, size, "%s/.config/pfeed/pfeed.yaml", home ? home : "");
    return path;
}

int main(int argc, char **argv)
{
    struct options options = { .level = LOG_INFO };
    struct config *config = NULL;
    char path[512];
    int rc = parse_options(argc, argv, &options);

    if (rc != 0)
        return rc < 0 ? EXIT_USAGE : 0;
    log_init(options.level);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG, which can be told, comes instead */
    if (!options.config)
        options.config = default_config(&options, path, sizeof(path));
    rc = config_load(&config, options.config);
    if (rc < 0) {
        log_error("no memory for the configuration");
        return EXIT_CONFIG;
    }
    the_daemon.config = config;
    the_daemon.started = config_ref(config);
    if (options.dump)
        rc = config_report(config, stderr);
    else if (options.check || config->n_errors > 0 || config->no_memory)
        rc = reload_check(config, stderr);
    if (rc < 0) {
        rc = EXIT_CONFIG;
    } else if (options.dump) {
        config_dump(config, stdout);
    } else if (options.check) {
        printf("%s: fine, %u feed%s", options.config, config->n_feeds, config->n_feeds == 1 ? "" : "s");
        if (config->n_warnings)
            printf(", %u warning%s", config->n_warnings, config->n_warnings == 1 ? "" : "s");
        printf("\n");
    } else {
        rc = serve(&the_daemon, &options);
    }
    config_destroy(the_daemon.started);
    config_destroy(the_daemon.config);
    return rc;
}
