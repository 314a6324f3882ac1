/* SPDX-License-Identifier: MIT */
/* pfeedctl: shows what pfeedd is doing and why. Reads the command line, connects, and runs one verb, once or again and again
 * (--watch). Every look is made whole in memory first, so that a failing one prints nothing by halves. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "pfeed.h"
#include "pfeedctl.h"
#include "text.h"

static int interrupts = -1; /* an eventfd, so that none is lost between looking and sleeping */

static void interrupted(int signal)
{
    uint64_t one = 1;
    int saved = errno;
    ssize_t written = write(interrupts, &one, sizeof(one));

    (void)signal, (void)written;
    errno = saved;
}

/* The first Ctrl-C ends the watch in good order, the second one at once. */
static int catch_interrupts(struct sentence *why)
{
    struct sigaction action = { .sa_handler = interrupted, .sa_flags = SA_RESETHAND };

    interrupts = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupts < 0 || sigaction(SIGINT, &action, NULL) != 0)
        return sentence_set(why, -errno, "cannot catch Ctrl-C: %s", strerror(errno));
    return 0;
}

/* ---- one look ------------------------------------------------------------------------------------------------------- */

static void print_sentence(const struct sentence *why)
{
    char clean[sizeof(why->text)];

    text_clean(clean, sizeof(clean), why->text, sizeof(why->text));
    fprintf(stderr, "pfeedctl: %s\n", clean);
}

static void json_begin(struct ctl *ctl)
{
    ctl->json = (struct json){ .out = ctl->view.out };
    json_open(&ctl->json, '{');
    json_key(&ctl->json, "schema_version");
    json_u64(&ctl->json, 1);
    json_key(&ctl->json, "verb");
    json_text(&ctl->json, ctl->verb->name, SIZE_MAX);
}

static void json_end(struct ctl *ctl)
{
    json_close(&ctl->json, '}');
    putc('\n', ctl->view.out);
}

/* A failure: the sentence for people, and for --json a document too, so that its reader always gets one. */
static void print_failure(struct ctl *ctl, int code)
{
    if (ctl_gave(ctl, OPTION_JSON)) {
        ctl->view.out = stdout;
        json_begin(ctl);
        json_key(&ctl->json, "error");
        json_text(&ctl->json, ctl->why.text, sizeof(ctl->why.text));
        json_key(&ctl->json, "exit");
        json_u64(&ctl->json, (uint64_t)code);
        json_end(ctl);
    }
    fflush(stdout);
    print_sentence(&ctl->why);
}

/* Draws over the last look: no flicker, as nothing is cleared before it is written anew. */
static void redraw(const char *text)
{
    struct winsize size;
    unsigned left = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row - 1u : 0;

    fputs("\033[H", stdout);
    for (const char *end; *text && left > 0; text = end, left--) {
        size_t length = strcspn(text, "\n");

        printf("%.*s\033[K\n", (int)length, text);
        end = text + length + (text[length] == '\n');
    }
    fputs("\033[J", stdout);
}

static void print_look(struct ctl *ctl, const char *text, bool first)
{
    char now[32] = "";
    time_t seconds = time(NULL);
    struct tm parts;

    if (ctl->watch_ns && !ctl->verb->once && !ctl_gave(ctl, OPTION_JSON)) {
        if (ctl->terminal) {
            if (first)
                fputs("\033[2J", stdout);
            redraw(text);
            return;
        }
        if (localtime_r(&seconds, &parts))
            strftime(now, sizeof(now), "%F %T", &parts);
        printf("%s%s\n", first ? "" : "\n", now);
    }
    fputs(text, stdout);
}

static int look(struct ctl *ctl, bool first)
{
    struct winsize size;
    char *text = NULL;
    size_t length = 0;
    int code;

    /* Lines are cut only where they are drawn over; otherwise nothing is lost. */
    ctl->view.width = 0;
    if (ctl->terminal && ctl->watch_ns && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        ctl->view.width = size.ws_col;
    ctl->view.out = open_memstream(&text, &length);
    if (!ctl->view.out) {
        sentence_set(&ctl->why, 0, "no memory");
        print_failure(ctl, CTL_PROBLEM);
        return CTL_PROBLEM;
    }
    if (ctl_gave(ctl, OPTION_JSON))
        json_begin(ctl);
    code = ctl->verb->run(ctl);
    if (ctl_gave(ctl, OPTION_JSON))
        json_end(ctl);
    /* glibc trims the text here; where that fails it is gone, and nothing says so. */
    if ((fclose(ctl->view.out) != 0 || !text) && !*ctl->why.text) {
        sentence_set(&ctl->why, 0, "no memory for the output");
        code = CTL_PROBLEM;
    }
    if (*ctl->why.text)
        print_failure(ctl, code);
    else
        print_look(ctl, text, first);
    free(text);
    if ((fflush(stdout) != 0 || ferror(stdout)) && !*ctl->why.text) {
        sentence_set(&ctl->why, 0, "cannot write: %s", strerror(errno));
        print_sentence(&ctl->why);
        code = CTL_PROBLEM;
    }
    return code;
}

/* ---- again and again ------------------------------------------------------------------------------------------------ */

/* Until the next look: 1; 0 Ctrl-C; -EPIPE with why: the daemon has gone. */
static int pause_watch(struct ctl *ctl, int64_t until_ns)
{
    struct pollfd fds[] = { { .fd = interrupts, .events = POLLIN }, { .fd = ctl->fd, .events = POLLRDHUP } };

    for (;;) {
        int64_t left_ns = until_ns - ctlsock_now_ns();
        struct timespec left = { left_ns / 1000000000, left_ns % 1000000000 };
        int n;

        if (left_ns <= 0)
            return 1;
        n = ppoll(fds, sizeof(fds) / sizeof(fds[0]), &left, NULL);
        if (n > 0 && fds[0].revents)
            return 0;
        if (n > 0 && fds[1].revents)
            return sentence_set(&ctl->why, -EPIPE, "pfeedd has gone");
        if (n < 0 && errno != EINTR)
            return 0;
    }
}

static int watch(struct ctl *ctl)
{
    int64_t next_ns = ctlsock_now_ns();
    int code, rc;

    for (bool first = true;; first = false) {
        code = look(ctl, first);
        if (*ctl->why.text)
            return code;
        next_ns += ctl->watch_ns;
        if (next_ns < ctlsock_now_ns())
            next_ns = ctlsock_now_ns(); /* a slow look delays the next ones, it does not crowd them */
        rc = pause_watch(ctl, next_ns);
        if (rc < 0) {
            print_failure(ctl, CTL_NO_DAEMON);
            return CTL_NO_DAEMON;
        }
        if (rc == 0)
            return code;
    }
}

static int connect_daemon(struct ctl *ctl)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int rc = ctlsock_path(ctl->socket, path, &ctl->why);

    if (rc == 0)
        rc = ctlsock_connect(path, ctl_deadline(), &ctl->why);
    if (rc < 0) {
        print_failure(ctl, CTL_NO_DAEMON);
        return CTL_NO_DAEMON;
    }
    ctl->fd = rc;
    return CTL_FINE;
}

static int run(struct ctl *ctl)
{
    int code = CTL_FINE;

    if (ctl->verb->daemon)
        code = connect_daemon(ctl);
    if (code == CTL_FINE && ctl->watch_ns && !ctl->verb->once && catch_interrupts(&ctl->why) < 0) {
        print_failure(ctl, CTL_PROBLEM);
        code = CTL_PROBLEM;
    }
    if (code == CTL_FINE)
        code = ctl->watch_ns && !ctl->verb->once ? watch(ctl) : look(ctl, true);
    if (ctl->fd >= 0)
        close(ctl->fd);
    for (size_t i = 0; i < TABLES; i++)
        free(ctl->view.before[i].rows);
    return code;
}

int main(int argc, char **argv)
{
    struct ctl ctl = { .fd = -1 };
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    int code = options_parse(&ctl, argc, argv);

    if (code != CTL_FINE)
        return code;
    if (ctl_gave(&ctl, OPTION_HELP)) {
        if (ctl.verb)
            help_verb(stdout, ctl.verb);
        else
            help_all(stdout);
        return fflush(stdout) == 0 ? CTL_FINE : CTL_PROBLEM;
    }
    if (ctl_gave(&ctl, OPTION_VERSION)) {
        printf("pfeedctl %s\n", pfeed_version());
        return fflush(stdout) == 0 ? CTL_FINE : CTL_PROBLEM;
    }
    ctl.terminal = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
    ctl.view.colour = ctl.terminal && !(no_color && *no_color);
    return run(&ctl);
}
