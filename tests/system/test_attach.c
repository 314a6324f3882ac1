/* SPDX-License-Identifier: MIT */
/*
 * What a user reads who attaches wrongly: for each mistake the code and the very sentence, as pfeed_error gives it. And what an
 * administrator reads whose daemon may not enter the folder of the data.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "lane.h"
#include "machine.h"

#define OTHER 54321u /* nobody's uid; its main group is OTHER + 1, a group beside it OTHER + 2 */

static const char recipe[] = "version: 1\ndaemon: { workers: 1, memory: 64MiB }\nfeeds:\n"
                             "  spine:\n    source: { type: synthetic, rows: 1024 }\n    batch: 256\n    slots: 24\n"
                             "    fields: { x: { dtype: uint8, shape: [4] } }\n"
                             "  every:\n    source: { type: synthetic, rows: 1024 }\n    batch: 12\n    deliver: each\n"
                             "    fields: { x: { dtype: uint8, shape: [4] } }\n"
                             "  user-s:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n"
                             "    fields: { x: { dtype: uint8, shape: [4] } }\n    access: { users: [54321] }\n"
                             "  main-group-s:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n"
                             "    fields: { x: { dtype: uint8, shape: [4] } }\n    access: { groups: [54322] }\n"
                             "  group-s:\n    source: { type: synthetic, rows: 64 }\n    batch: 8\n"
                             "    fields: { x: { dtype: uint8, shape: [4] } }\n    access: { groups: [54323] }\n";

static struct daemon pfeedd;

/* Opens, expects that it fails so, and that nothing has changed. */
static void expect(const char *what, struct pfeed_options options, int code, const char *sentence)
{
    struct pfeed *pf = NULL;
    int rc;

    options.size = sizeof(options);
    options.socket = options.socket ? options.socket : pfeedd.socket;
    rc = pfeed_open(&pf, &options);
    CHECK(rc == code && !pf, "%s: pfeed_open gives %d, not %d: %s", what, rc, code, rc < 0 ? pfeed_error(NULL) : "");
    CHECK(strcmp(pfeed_error(NULL), sentence) == 0, "%s:\n  is   %s\n  not  %s", what, pfeed_error(NULL), sentence);
}

/* ---- what was asked for --------------------------------------------------------------------------------------------- */

#define FEEDS  "spine, every, user-s, main-group-s, group-s"
#define AGREE  "; give all ranks the same, and those of a new run a higher options.run"
#define DIVIDE "1, 2, 4, 8, 16, 32, 64, 128, 256"

/* Rank 0 of job "run", world 2, run 5, is there. */
static const struct {
    const char *what;
    struct pfeed_options options;
    int code;
    const char *sentence;
} mistakes[] = {
    { "no name", { .feed = NULL }, -EINVAL, "options.feed is missing; `pfeedctl feeds` lists the names" },
    { "a slip", { .feed = "spien" }, -ENOENT, "no feed 'spien' (did you mean 'spine'?); there are: " FEEDS },
    { "another name", { .feed = "imagenet" }, -ENOENT, "no feed 'imagenet'; there are: " FEEDS },
    { "rank = world",
      { .feed = "spine", .job = "new", .rank = 2, .world = 2 },
      -EINVAL,
      "rank is 2, but with world 2 ranks are 0 to 1" },
    { "rank without world",
      { .feed = "spine", .job = "new", .rank = 1 },
      -EINVAL,
      "rank is 1, but with world 1 ranks are 0 to 0" },
    { "world without job",
      { .feed = "spine", .world = 2 },
      -EINVAL,
      "world is 2, but no job is named: a private job has world 1; give all ranks the same job name" },
    { "world too large", { .feed = "spine", .job = "new", .world = 65537 }, -EINVAL, "world is 65537; it can be 1 to 65536" },
    { "world that does not divide",
      { .feed = "spine", .job = "new", .world = 7 },
      -EINVAL,
      "the feed's batch of 256 rows does not divide by world 7: let world be one of " DIVIDE
      ", or give options.batch, the rows of each rank's step, as one of these" },
    { "batch that does not divide",
      { .feed = "spine", .batch = 100 },
      -EINVAL,
      "the feed's batch of 256 rows does not divide by options.batch 100: let it be one of " DIVIDE },
    { "batch that does not divide, each",
      { .feed = "every", .job = "new", .world = 7, .batch = 5 },
      -EINVAL,
      "the feed's batch of 12 rows does not divide by options.batch 5: let it be one of 1, 2, 3, 4, 6, 12" },
    { "more than there are samples",
      { .feed = "spine", .job = "new", .world = 32, .batch = 64 },
      -EINVAL,
      "feed 'spine' has 1024 samples, fewer than one step of 2048 rows (world 32 x batch 64), and `tail: drop` leaves them all "
      "out; use a smaller batch, or `tail: pad`" },
    { "another world",
      { .feed = "spine", .job = "run", .rank = 1, .world = 4, .run = 5 },
      -EINVAL,
      "job 'run' has world 2, this rank says 4" AGREE },
    { "another batch",
      { .feed = "spine", .job = "run", .rank = 1, .world = 2, .run = 5, .batch = 64 },
      -EINVAL,
      "job 'run' has batch 128, this rank says 64" AGREE },
    { "another seed",
      { .feed = "spine", .job = "run", .rank = 1, .world = 2, .run = 5, .seed = 9 },
      -EINVAL,
      "job 'run' has seed 0, this rank says 9" AGREE },
    { "an older run",
      { .feed = "spine", .job = "run", .rank = 1, .world = 2, .run = 4 },
      -ESTALE,
      "run 5 of job 'run' is there, newer than this rank's run 4; end this one, or give all of its ranks a higher options.run" },
    { "local_ranks",
      { .feed = "spine", .job = "new", .world = 2, .local_ranks = "0-2" },
      -EINVAL,
      "local_ranks '0-2' is not a list such as \"0-3,8-11\" of ranks below world 2" },
    { "slow", { .feed = "spine", .slow = "wait" }, -EINVAL, "options.slow is 'wait'; it can be \"park\", \"block\" or \"skip\"" },
    { "start",
      { .feed = "spine", .start = "later" },
      -EINVAL,
      "start 'later' is none of \"fresh\", \"live\", \"live:epoch\" and what pfeed_token gives" },
    { "a token of another version",
      { .feed = "spine", .start = "pfeed2:spine:0" },
      -EINVAL,
      "the token 'pfeed2:spine:0...' is of another version than this pfeedd's 'pfeed1:'; use a pfeedd that is as new as the one "
      "it was made with" },
    { "a token that was cut",
      { .feed = "spine", .start = "pfeed1:spine:0:0:256:256:1024" },
      -EBADMSG,
      "the token 'pfeed1:spine:0:0:256...' (29 bytes) was cut or edited: its checksum does not fit; use it as pfeed_token gave "
      "it" },
    { "max_held", { .feed = "spine", .max_held = 33 }, -EINVAL, "max_held is 33; it can be 1 to 32" },
};

static void run_mistakes(const void *arg)
{
    const struct plan first = { .daemon = &pfeedd, .feed = "spine", .job = "run", .world = 2, .run = 5 };
    const struct plan second = { .daemon = &pfeedd, .feed = "spine", .job = "run", .rank = 1, .world = 2, .run = 5 };
    struct pfeed *pf, *mate;
    char sentence[256];

    daemon_start(&pfeedd, recipe);
    pf = plan_open(&first);
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
        expect(mistakes[i].what, mistakes[i].options, mistakes[i].code, mistakes[i].sentence);
    snprintf(sentence, sizeof(sentence),
             "rank 0 of job 'run' is there already (pid %ld); end that process first, or give all ranks of a new run a higher "
             "options.run (several processes that want the same batches give different options.replica)",
             (long)getpid());
    expect("a rank twice", (struct pfeed_options){ .feed = "spine", .job = "run", .world = 2, .run = 5 }, -EBUSY, sentence);
    mate = plan_open(&second); /* none of it has harmed the job */
    must_done(mate, must_next(mate));
    must_done(pf, must_next(pf));
    pfeed_close(mate);
    pfeed_close(pf);
    daemon_stop(&pfeedd);
}

/* ---- who asks ------------------------------------------------------------------------------------------------------- */

#define NOT_NAMED                                                                                                                \
    ": its `access` names neither that user nor one of this process's groups; have one added there (groups joined since the "    \
    "login count after the next one)"

struct person {
    uid_t uid;
    gid_t gid, beside;
    const char *feed;
    int code;
    const char *sentence;
};

static const struct person people[] = {
    { OTHER, 1, 1, "user-s", 0, NULL },
    { OTHER + 9, OTHER + 1, 1, "main-group-s", 0, NULL },
    { OTHER + 9, 1, OTHER + 2, "group-s", 0, NULL },
    { OTHER + 9, OTHER + 1, OTHER + 2, "user-s", -EACCES, "uid 54330 may not use feed 'user-s'" NOT_NAMED },
    { OTHER, 1, OTHER + 2, "main-group-s", -EACCES, "uid 54321 may not use feed 'main-group-s'" NOT_NAMED },
    { OTHER, OTHER + 1, 1, "group-s", -EACCES, "uid 54321 may not use feed 'group-s'" NOT_NAMED },
    { OTHER, OTHER + 1, OTHER + 2, "spine", -EACCES,
      "uid 54321 may not use feed 'spine': it has no `access`, so only root, the daemon's user and members of group `pfeed` may; "
      "have "
      "an `access` added, or join that group and log in again" },
    { OTHER, 1, OTHER + 2, "usr-s", -ENOENT, "no feed 'usr-s' (did you mean 'user-s'?); there are: user-s, group-s" },
    { OTHER + 9, 1, 1, "usr-s", -ENOENT, "no feed 'usr-s', nor any that uid 54330 may use; a feed's `access` names who may" },
};

static void attach_as(void *arg)
{
    const struct person *person = arg;
    const struct plan plan = { .daemon = &pfeedd, .feed = person->feed };
    struct pfeed *pf;

    CHECK(setgroups(1, &person->beside) == 0 && setgid(person->gid) == 0 && setuid(person->uid) == 0, "setuid: %s",
          strerror(errno));
    if (person->code < 0) {
        expect(person->feed, (struct pfeed_options){ .feed = person->feed }, person->code, person->sentence);
        return;
    }
    pf = plan_open(&plan);
    must_done(pf, must_next(pf));
    pfeed_close(pf);
}

static void closed_folder(void *arg)
{
    char sentence[400];

    snprintf(
        sentence, sizeof(sentence),
        "pfeedd at %s is not for you: its socket, or a folder on the way, is closed to uid 54321; ask whose it is, or start one "
        "of your own: `pfeedd --user`",
        pfeedd.socket);
    CHECK(setgid(OTHER) == 0 && setuid(OTHER) == 0, "setuid: %s", strerror(errno));
    expect("a closed folder", (struct pfeed_options){ .feed = "user-s" }, -EACCES, sentence);
}

static void run_people(const void *arg)
{
    machine_need_root();
    daemon_start(&pfeedd, recipe);
    trainer_wait(trainer_start("nobody", closed_folder, NULL));
    CHECK(chmod(pfeedd.folder, 0711) == 0, "chmod: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(people) / sizeof(people[0]); i++)
        trainer_wait(trainer_start(people[i].feed, attach_as, (void *)(uintptr_t)&people[i]));
    daemon_stop(&pfeedd);
}

/* ---- who answers ---------------------------------------------------------------------------------------------------- */

static void expect_gone(const char *why, int code)
{
    char sentence[400];

    snprintf(
        sentence, sizeof(sentence),
        "no pfeedd at %s (%s); start it (one of your own: `pfeedd --user`), or name the socket of one that runs: options.socket, "
        "--socket or $PFEED_SOCKET",
        pfeedd.socket, why);
    expect(why, (struct pfeed_options){ .feed = "spine" }, code, sentence);
}

static void run_gone(const void *arg)
{
    const struct plan plan = { .daemon = &pfeedd, .feed = "spine" };
    struct daemon second;
    char words[320], *said;

    daemon_start(&pfeedd, recipe);
    second = pfeedd; /* in the same folder */
    second.pid = 0;
    second.control = -1;
    CHECK(daemon_run(&second) == 1, "a second daemon takes the socket of one that lives");
    snprintf(words, sizeof(words),
             "another pfeedd (pid %ld) serves %s; stop it by `pfeedctl stop --socket %s`, or use another --socket",
             (long)pfeedd.pid, pfeedd.socket, pfeedd.socket);
    said = daemon_output(&pfeedd);
    CHECK(strstr(said, words), "the second says: %s", said);
    free(said);
    pfeed_close(plan_open(&plan));
    daemon_kill(&pfeedd);
    expect_gone("the socket is of a daemon that has gone", -ECONNREFUSED);
    daemon_again(&pfeedd); /* takes it over */
    pfeed_close(plan_open(&plan));
    daemon_stop(&pfeedd);
    expect_gone("no such socket", -ENOENT);
}

/* As a daemon of the next protocol answers; once. */
static void be_newer(void *arg)
{
    struct pf_ctl_head reply = { PF_CTL_VERSION + 1, PF_CTL_ATTACHED, sizeof(reply) };
    struct pf_ctl_attach request;
    int listener = *(int *)arg, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    CHECK(fd >= 0 && recv(fd, &request, sizeof(request), 0) == sizeof(request) &&
              send(fd, &reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply),
          "the newer daemon: %s", strerror(errno));
    close(fd);
}

static void run_versions(const void *arg)
{
    struct pf_ctl_attach request = { .head = { PF_CTL_VERSION + 1, PF_CTL_ATTACH, sizeof(request) },
                                     .feed = "spine",
                                     .world = 1 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct pf_ctl_error reply;
    struct trainer *newer;
    char path[100];
    int fd;

    daemon_start(&pfeedd, recipe);
    fd = lane_connect(&pfeedd);
    CHECK(send(fd, &request, sizeof(request), 0) == sizeof(request) && recv(fd, &reply, sizeof(reply), 0) == sizeof(reply),
          "no answer: %s", strerror(errno));
    CHECK(reply.code == -EPROTO &&
              strcmp(reply.text, "this pfeedd (" PFEED_VERSION ") speaks protocol 1, the client 2; use the same "
                                 "version on both sides") == 0,
          "a newer client hears %d: %s", reply.code, reply.text);
    close(fd);
    snprintf(path, sizeof(path), "%s/newer", pfeedd.folder);
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0, "bind: %s",
          strerror(errno));
    newer = trainer_start("newer daemon", be_newer, &fd);
    expect("a newer daemon", (struct pfeed_options){ .feed = "spine", .socket = path }, -EPROTO,
           "pfeedd speaks protocol 2, this library 1; use the same version on both sides");
    trainer_wait(newer);
    close(fd);
    daemon_stop(&pfeedd);
}

/* ---- the data ------------------------------------------------------------------------------------------------------- */

static char place[40];

static void become_other(void)
{
    CHECK(setgroups(0, NULL) == 0 && setgid(OTHER) == 0 && setuid(OTHER) == 0, "setuid: %s", strerror(errno));
}

/* What `pfeedd --check`, run by OTHER, says of a feed from this source; then all may again enter and read everything. */
static void expect_check(const char *source, const char *words)
{
    const char *program = getenv("PFEED_DAEMON");
    char config[64], yaml[512], said[4096] = "";
    int file = open(program, O_RDONLY | O_CLOEXEC), ends[2], status; /* also where it lies may be closed to OTHER */
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    snprintf(yaml, sizeof(yaml), "version: 1\nfeeds:\n  a:\n    source: { %s }\n    batch: 2\n", source);
    snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml), "    fields: { %s }\n",
             strstr(source, "tokens") ? "tokens: { length: 2, stride: 2 }" : "label: {}");
    machine_write(place, "pfeed.yaml", yaml);
    snprintf(config, sizeof(config), "%s/pfeed.yaml", place);
    CHECK(file >= 0 && pipe2(ends, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], 2);
        become_other();
        fexecve(file, (char *[]){ (char *)(uintptr_t)program, (char *)"--check", config, NULL }, environ);
        _exit(127);
    }
    close(ends[1]);
    while ((got = read(ends[0], said + n, sizeof(said) - 1 - n)) > 0)
        n += (size_t)got;
    close(ends[0]);
    close(file);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 78 && strstr(said, words),
          "status 0x%x:\n  is   %s  not  %s", status, said, words);
}

static void set_mode(const char *path, mode_t mode)
{
    char full[64];

    snprintf(full, sizeof(full), "%s%s", place, path);
    CHECK(chmod(full, mode) == 0, "chmod %s: %s", full, strerror(errno));
}

static void run_data(const void *arg)
{
    char source[128], words[512], path[64];

    machine_need_root();
    strcpy(place, "/tmp/pfeed-data-XXXXXX");
    CHECK(mkdtemp(place), "mkdtemp: %s", strerror(errno));
    set_mode("", 0755);
    snprintf(path, sizeof(path), "%s/home", place);
    CHECK(mkdir(path, 0755) == 0, "mkdir: %s", strerror(errno));
    strcat(path, "/data");
    CHECK(mkdir(path, 0755) == 0, "mkdir: %s", strerror(errno));
    machine_write(path, "a.bin", "12345678");
    set_mode("/home", 0700);
    snprintf(
        words, sizeof(words),
        "feed 'a': cannot open the folder %s/home/data: Permission denied; check the path, and that pfeedd may read it: it runs "
        "as "
        "uid 54321, who may not enter %s/home (mode 0700, of 'root' (uid 0)); open that to it (`setfacl -m u:54321:x %s/home`), "
        "or run one of your own by `pfeedd --user`\n",
        place, place, place);
    snprintf(source, sizeof(source), "type: directory, path: %s/home/data", place);
    expect_check(source, words);
    snprintf(words, sizeof(words), "who may not enter %s/home (mode 0700, of 'root' (uid 0)); open", place);
    snprintf(source, sizeof(source), "type: tokens, path: \"%s/home/data/*.bin\", dtype: uint16", place);
    expect_check(source, words);
    set_mode("/home", 0755);
    set_mode("/home/data", 0711);
    snprintf(words, sizeof(words),
             "who may not read %s/home/data (mode 0711, of 'root' (uid 0)); open that to it (`setfacl -m u:54321:rx ", place);
    snprintf(source, sizeof(source), "type: directory, path: %s/home/data", place);
    expect_check(source, words);
    set_mode("/home/data/a.bin", 0600);
    snprintf(words, sizeof(words),
             "who may not read %s/home/data/a.bin (mode 0600, of 'root' (uid 0)); open that to it (`setfacl -m "
             "u:54321:r %s/home/data/a.bin`)",
             place, place);
    snprintf(source, sizeof(source), "type: tokens, path: %s/home/data/a.bin, dtype: uint16", place);
    expect_check(source, words);
    remove_folder(place);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        { "what was asked for", run_mistakes, NULL },
        { "who asks", run_people, NULL },
        { "a daemon that is not there", run_gone, NULL },
        { "versions that differ", run_versions, NULL },
        { "data that the daemon may not enter", run_data, NULL },
    };

    return tests_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
