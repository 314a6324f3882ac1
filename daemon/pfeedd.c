/* SPDX-License-Identifier: MIT */
/* pfeedd: start, the main loop, the end. What runs when: configuration, workers, socket; then turns of the loop until
 * SIGTERM, SIGINT or `pfeedctl stop`. Samples are listed and memory is made by chores (reload.c) while the loop runs already;
 * READY is said after that. */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "ahead.h"
#include "budget.h"
#include "chore.h"
#include "config.h"
#include "grow.h"
#include "memory.h"
#include "notify.h"
#include "options.h"
#include "reload.h"
#include "server.h"
#include "socket.h"
#include "state.h"
#include "transform/kernel.h"
#include "tune_look.h"

#define EXIT_USAGE  2
#define EXIT_CONFIG 78 /* sysexits.h: the configuration, its environment, or more memory than there is */
#define STOP_MS     1500

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
    ahead_report(the_daemon.ahead);
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

static int loop_timeout_ms(int64_t due_ns)
{
    const int64_t left_ms = due_ns ? (due_ns - feed_now_ns()) / 1000000 + 1 : -1;

    return left_ms > INT_MAX ? INT_MAX : left_ms < 0 && due_ns ? 0 : (int)left_ms;
}

static int run(struct daemon *daemon)
{
    int rc = 0;

    while (!daemon->stopping && rc == 0) {
        int64_t due_ns = 0;
        bool again = false;

        for (uint32_t f = 0; f < daemon->n_feeds; f++) {
            struct feed *feed = daemon->feeds[f];

            if (feed->dirty || (feed->due_ns && feed_now_ns() >= feed->due_ns))
                feed_turn(feed);
            again |= feed_arm(feed) || feed->dirty;
            if (feed->due_ns && (!due_ns || feed->due_ns < due_ns))
                due_ns = feed->due_ns;
        }
        again |= tune_look(daemon);
        reload_reap(daemon);
        grow_look(daemon);
        rc = loop_turn(daemon->loop, again ? 0 : loop_timeout_ms(due_ns)); /* with `again`: only a look at what else has come */
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
    if (!ahead_stop(daemon->ahead, stopped ? (int)((until_ns - feed_now_ns()) / 1000000) : 0)) {
        log_warn("a read ahead is stuck; ending without it");
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
    grow_destroy(daemon);
    chores_destroy(daemon->chores);
    workers_destroy(daemon->workers);
    ahead_destroy(daemon->ahead);
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
    daemon->state = state_choose(&daemon->config->daemon, options->user);
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
        rc = ahead_create(&daemon->ahead, daemon->config->daemon.read_ahead, workers_eventfd(daemon->workers), &why);
    if (rc == 0)
        workers_read_ahead(daemon->workers, daemon->ahead);
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

int main(int argc, char **argv)
{
    struct options options = { .level = LOG_INFO };
    struct config *config = NULL;
    struct problem why;
    char path[512];
    int rc = options_parse(argc, argv, &options);

    if (rc != 0)
        return rc < 0 ? EXIT_USAGE : 0;
    log_init(options.level);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG, which can be told, comes instead */
    options.config = options_config(&options, path, sizeof(path));
    rc = config_load(&config, options.config);
    if (rc < 0) {
        log_error("no memory for the configuration");
        return EXIT_CONFIG;
    }
    if (kernel_choose(&why) < 0) {
        log_error("%s", why.text);
        config_destroy(config);
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
