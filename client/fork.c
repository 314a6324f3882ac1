/* SPDX-License-Identifier: MIT */
/* What a fork must not inherit: a page that only the handle's own process sees filled, and the list of all handles, whose
 * descriptors the child closes. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pfeed *handles;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
    pthread_mutex_lock(&handles_lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&handles_lock);
}

static void close_copy(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* A child that kept the socket would hide the trainer's death from everybody but the daemon's pidfd. */
static void fork_child(void)
{
    for (struct pfeed *pf = handles, *older; pf; pf = older) {
        older = pf->older;
        pf->older = pf->newer = NULL;
        close_copy(&pf->lane.socket);
        close_copy(&pf->lane.event);
        close_copy(&pf->reconnect.socket);
    }
    handles = NULL;
    pthread_mutex_unlock(&handles_lock);
}

static void fork_register(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void fork_watch(struct pfeed *pf)
{
    pthread_once(&fork_once, fork_register);
    pthread_mutex_lock(&handles_lock);
    pf->older = handles;
    if (handles)
        handles->newer = pf;
    handles = pf;
    pthread_mutex_unlock(&handles_lock);
}

void fork_forget(struct pfeed *pf)
{
    pthread_mutex_lock(&handles_lock);
    if (pf->newer)
        pf->newer->older = pf->older;
    else if (handles == pf)
        handles = pf->older;
    if (pf->older)
        pf->older->newer = pf->newer;
    pthread_mutex_unlock(&handles_lock);
}

int fork_mark(struct pfeed *pf, struct sentence *why)
{
    uint64_t *page = mmap(NULL, PF_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return sentence_set(why, -ENOMEM, "no memory for a page");
    if (madvise(page, PF_PAGE, MADV_WIPEONFORK) != 0) {
        munmap(page, PF_PAGE);
        return sentence_set(why, -ENOSYS, "this kernel has no MADV_WIPEONFORK (Linux 4.14)");
    }
    *page = PFEED_ALIVE;
    pf->alive = page;
    return 0;
}

int fork_refuse(struct pfeed *pf)
{
    return sentence_set(&pf->error, -ECHILD,
                        "this handle belongs to the process that forked; open a handle of this process's own");
}
