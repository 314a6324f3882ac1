/* SPDX-License-Identifier: MIT */
/* pfeedd: options, start, the main loop, the end. What runs when: configuration, sources, limits, arenas, workers, socket,
 * READY; then turns of the loop until SIGTERM, SIGINT or `pfeedctl stop`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "budget.h"
#include "config.h"
#include "memory.h"
#include "server.h"

#define EXIT_USAGE     2
#define EXIT_CONFIG    78 /* sysexits.h: the configuration, or more memory than there is */
#define STOP_MS        1500
#define DEFAULT_CONFIG "/etc/pfeed/pfeed.yaml"
#define DEFAULT_FOLDER "/run/pfeed"

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
    { "check", "[FILE]", "read the configuration and open its sources, print every error, and end", optional_argument, 'C' },
    { "dump-config", NULL, "print every value in force and where it comes from, and end", no_argument, 'd' },
    { "user", NULL, "run for one user: socket and configuration in the user's own folders", no_argument, 'u' },
    { "socket", "PATH",
      "the control socket; default " DEFAULT_FOLDER "/pfeedd.sock, with --user $XDG_RUNTIME_DIR/pfeed/pfeedd.sock",
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

static void notify(const char *state)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, state);
#else
    (void)state;
#endif
}

/* ---- the socket ----------------------------------------------------------------------------------------------------- */

/* A descriptor that systemd opened for us, and its path; -1: none, other errors: not one of ours. */
static int inherited_socket(char *path, size_t size, struct problem *why)
{
#ifdef HAVE_SYSTEMD
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = sizeof(address) - 1;

    if (sd_listen_fds(1) < 1)
        return -1;
    if (sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_SEQPACKET, 1) <= 0)
        return problem_set(why, -EINVAL,
                           "the socket that was passed by LISTEN_FDS is not a listening SOCK_SEQPACKET Unix socket; use "
                           "ListenSequentialPacket= in the .socket unit");
    fcntl(SD_LISTEN_FDS_START, F_SETFL, fcntl(SD_LISTEN_FDS_START, F_GETFL) | O_NONBLOCK);
    if (getsockname(SD_LISTEN_FDS_START, (struct sockaddr *)&address, &length) == 0)
        snprintf(path, size, "%s", address.sun_path);
    return SD_LISTEN_FDS_START;
#else
    (void)path;
    (void)size;
    (void)why;
    return -1;
#endif
}

static int choose_path(const struct options *options, char *path, size_t size, struct problem *why)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;

    if (options->socket) {
        length = snprintf(path, size, "%s", options->socket);
    } else if (options->user) {
        if (!runtime || !*runtime)
            return problem_set(why, -EINVAL, "--user needs $XDG_RUNTIME_DIR, or --socket PATH");
        length = snprintf(path, size, "%s/pfeed/pfeedd.sock", runtime);
    } else {
        length = snprintf(path, size, "%s/pfeedd.sock", DEFAULT_FOLDER);
    }
    if (length < 0 || (size_t)length >= size)
        return problem_set(why, -ENAMETOOLONG, "the socket's path is longer than %zu bytes", size - 1);
    return 0;
}

/* Whoever holds the lock may remove a dead daemon's socket and bind its own. */
static int take_lock(const char *socket_path, bool user, int *lock, struct problem *why)
{
    char path[160], folder[160], text[32] = "";
    size_t length = strlen(socket_path);
    char *slash;
    ssize_t got;
    int fd;

    if (length > 5 && strcmp(socket_path + length - 5, ".sock") == 0)
        length -= 5;
    snprintf(path, sizeof(path), "%.*s.lock", (int)length, socket_path);
    snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        if (mkdir(folder, user ? 0700 : 0755) != 0 && errno != EEXIST)
            return problem_set(why, -errno, "cannot make the folder %s: %s; use --user or --socket PATH", folder,
                               strerror(errno));
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return problem_set(why, -errno, "cannot open the lock %s: %s; use --user or --socket PATH", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        got = pread(fd, text, sizeof(text) - 1, 0);
        text[got > 0 ? strcspn(text, "\n") : 0] = 0;
        close(fd);
        return problem_set(why, -EADDRINUSE,
                           "another pfeedd (pid %s) serves %s; stop it by `pfeedctl stop --socket %s`, or use another "
                           "--socket",
                           *text ? text : "unknown", socket_path, socket_path);
    }
    snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) < 0)
        log_debug("cannot write the pid into %s", path);
    *lock = fd;
    return 0;
}

static int make_socket(const char *path, bool user, int *out, struct problem *why)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    mode_t mask;
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return problem_set(why, -ENAMETOOLONG, "the socket's path %s is longer than %zu bytes", path,
                           sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return problem_set(why, -errno, "cannot make a socket: %s", strerror(errno));
    unlink(path);
    mask = umask(user ? 0177 : 0111); /* each feed's `access` decides who may use it */
    rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (rc != 0 || listen(fd, 128) != 0) {
        rc = problem_set(why, -errno, "cannot listen at %s: %s", path, strerror(errno));
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* Signals are blocked before any thread is made, so that only the signalfd gets them. */
static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Makes all that memory_plan has found to fit, and starts the workers. */
static int make_memory(struct daemon *daemon, const struct memory_plan *plan, struct problem *why)
{
    int rc = 0;

    for (uint32_t f = 0; f < daemon->n_feeds && rc == 0; f++)
        rc = feed_start(&daemon->feeds[f], plan->slots[f], daemon->shm, why);
    block_signals(); /* until here a signal simply ends us; from here on the loop hears it */
    if (rc == 0)
        rc = workers_create(&daemon->workers, plan->n_workers, daemon->feeds, daemon->n_feeds, why);
    for (uint32_t f = 0; f < daemon->n_feeds && rc == 0; f++) {
        daemon->feeds[f].workers = daemon->workers;
        if (daemon->feeds[f].config->warm)
            feed_warm(&daemon->feeds[f]);
    }
    return rc;
}

static int take_memory(struct daemon *daemon, uint32_t n_workers, struct problem *why)
{
    struct memory_plan plan = { .n_workers = n_workers, .slots = calloc(daemon->n_feeds, sizeof(*plan.slots)) };
    int rc = plan.slots ? memory_plan(daemon, &plan, why) : problem_set(why, -ENOMEM, "no memory");

    if (rc == 0)
        rc = make_memory(daemon, &plan, why);
    free(plan.slots);
    return rc;
}

/* ---- start, run, end ------------------------------------------------------------------------------------------------ */

static struct daemon the_daemon;

static void on_signal(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGHUP) {
        log_warn("SIGHUP: reloading is not in this version; restart to read the configuration again");
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
        the_daemon.feeds[f].dirty = true;
}

static int open_feeds(struct daemon *daemon, const struct config *config)
{
    int rc = 0;

    daemon->feeds = aligned_alloc(PF_LINE, (config->n_feeds ? config->n_feeds : 1) * sizeof(*daemon->feeds));
    if (!daemon->feeds)
        return -ENOMEM;
    memset(daemon->feeds, 0, config->n_feeds * sizeof(*daemon->feeds));
    daemon->n_feeds = config->n_feeds;
    for (int needs_others = 0; needs_others <= 1; needs_others++)
        for (uint32_t f = 0; f < config->n_feeds; f++) {
            const struct config_feed *feed = &config->feeds[f];
            struct problem why;
            int one;

            if ((feed->classes_of != NULL) != needs_others)
                continue;
            one = feed_open(&daemon->feeds[f], feed, daemon->feeds, config->n_feeds, &why);
            if (one < 0) {
                fprintf(stderr, "%s:%u:%u: feed '%s': %s\n", feed->source_mark.file, feed->source_mark.line,
                        feed->source_mark.column, feed->name, why.text);
                rc = one;
            }
        }
    return rc;
}

static int watch_all(struct daemon *daemon, struct watch *signals, struct watch *work, struct problem *why)
{
    sigset_t set;
    int rc = loop_create(&daemon->loop);

    if (rc < 0)
        return problem_set(why, rc, "cannot make an epoll: %s", strerror(-rc));
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    *signals = (struct watch){ .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .call = on_signal };
    *work = (struct watch){ .fd = workers_eventfd(daemon->workers), .call = on_work };
    if (signals->fd < 0)
        return problem_set(why, -errno, "cannot make a signalfd: %s", strerror(errno));
    if ((rc = loop_add(daemon->loop, signals, 0)) < 0 || (rc = loop_add(daemon->loop, work, 0)) < 0)
        return problem_set(why, rc, "cannot watch a descriptor: %s", strerror(-rc));
    return 0;
}

static int run(struct daemon *daemon)
{
    int rc = 0;

    while (!daemon->stopping && rc == 0) {
        bool again = false;

        for (uint32_t f = 0; f < daemon->n_feeds; f++) {
            struct feed *feed = &daemon->feeds[f];

            if (feed->dirty)
                feed_turn(feed);
            again |= feed_arm(feed) || feed->dirty;
        }
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

static int serve(struct daemon *daemon, const struct options *options)
{
    const struct group *group = getgrnam("pfeed");
    int64_t n_workers = daemon->config->daemon.workers;
    struct watch signals = { .fd = -1 }, work;
    struct problem why = { "" };
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)] = "", state[300];
    int lock = -1, fd = inherited_socket(path, sizeof(path), &why), rc = fd < -1 ? fd : 0;
    bool inherited = fd >= 0;

    raise_limits();
    daemon->start_ns = feed_now_ns();
    daemon->have_pfeed_group = group != NULL;
    daemon->pfeed_group = group ? group->gr_gid : 0;
    if (rc == 0 && !inherited)
        rc = choose_path(options, path, sizeof(path), &why);
    if (rc == 0 && *path) /* also of a socket from systemd: nobody may take its path over while we serve it */
        rc = take_lock(path, options->user, &lock, &why);
    if (rc < 0)
        goto out;
    rc = take_memory(daemon, n_workers ? (uint32_t)n_workers : budget_cores(), &why);
    if (rc < 0)
        goto out;
    rc = watch_all(daemon, &signals, &work, &why);
    if (rc == 0 && !inherited)
        rc = make_socket(path, options->user, &fd, &why);
    if (rc == 0)
        rc = server_create(&daemon->server, daemon, fd, &why);
    if (rc < 0)
        goto out;
    snprintf(daemon->status, sizeof(daemon->status), "%u feeds, %u workers, %llu of %llu MiB in use", daemon->n_feeds,
             workers_count(daemon->workers), (unsigned long long)(daemon->used >> 20),
             (unsigned long long)(daemon->budget >> 20));
    log_info("ready: %s; %s", daemon->status, inherited ? "socket from systemd" : path);
    snprintf(state, sizeof(state), "READY=1\nSTATUS=%s", daemon->status);
    notify(state);
    rc = run(daemon);
    notify("STOPPING=1");
out:
    if (rc < 0)
        log_error("%s", *why.text ? why.text : strerror(-rc));
    server_destroy(daemon->server);
    if (!inherited && fd >= 0)
        unlink(path);
    if (daemon->workers && !workers_stop(daemon->workers, STOP_MS)) {
        log_warn("a worker is stuck in a read; ending without it");
        if (lock >= 0)
            close(lock); /* the process may linger until that read returns */
        _exit(rc < 0 ? 1 : 0);
    }
    workers_destroy(daemon->workers);
    if (signals.fd >= 0)
        close(signals.fd);
    if (lock >= 0)
        close(lock);
    return rc == 0 ? 0 : rc == -ENOMEM || rc == -EINVAL ? EXIT_CONFIG : 1;
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
    if (!options.config)
        options.config = default_config(&options, path, sizeof(path));
    rc = config_load(&config, options.config, stderr);
    if (rc < 0)
        return EXIT_CONFIG;
    the_daemon.config = config;
    if (options.dump) {
        config_dump(config, stdout);
        rc = 0;
    } else if (open_feeds(&the_daemon, config) < 0) {
        rc = EXIT_CONFIG;
    } else if (options.check) {
        printf("%s: fine, %u feeds\n", options.config, config->n_feeds);
        rc = 0;
    } else {
        rc = serve(&the_daemon, &options);
    }
    for (uint32_t f = 0; f < the_daemon.n_feeds; f++)
        feed_close(&the_daemon.feeds[f]);
    free(the_daemon.feeds);
    loop_destroy(the_daemon.loop);
    config_destroy(config);
    return rc;
}
