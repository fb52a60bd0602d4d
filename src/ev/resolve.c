// SPDX-License-Identifier: GPL-3.0-or-later
/* Names to addresses without stopping the loop: getaddrinfo() in a thread, its result by a pipe. */
#include "ev/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/str.h"
#include "ev/ev.h"

struct answer {
    int code; /* of getaddrinfo() */
    struct addrinfo *list;
};

struct question {
    int fd;
    char *port;
    char host[];
};

struct ev_resolve {
    struct ev_io *io;
    int fd;
    ev_resolve_fn *done;
    void *arg;
};

static struct answer look_up(const char *host, const char *port, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = flags | (port ? AI_NUMERICSERV : 0)};
    struct answer a = {0};

    a.code = getaddrinfo(host, port, &hints, &a.list);
    return a;
}

static struct question *question_free(struct question *q)
{
    if (q) {
        fd_close(q->fd);
        free(q->port);
        free(q);
    }
    return NULL;
}

static void *in_thread(void *arg)
{
    struct question *q = arg;
    struct answer a = look_up(q->host, q->port, AI_ADDRCONFIG);

    /* Nobody is there any more when it fails (SIGPIPE is ignored). */
    if (write(q->fd, &a, sizeof a) != sizeof a && a.list)
        freeaddrinfo(a.list);
    question_free(q);
    return NULL;
}

static void on_answer(void *arg, unsigned events)
{
    struct ev_resolve *r = arg;
    struct answer a = {.code = EAI_FAIL};
    ev_resolve_fn *done = r->done;
    void *owner = r->arg;

    if (read(r->fd, &a, sizeof a) != sizeof a)
        a = (struct answer){.code = EAI_FAIL};
    done(owner, a.list, a.code ? gai_strerror(a.code) : NULL);
}

static must_check int start_thread(struct question *q)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;

    if (pthread_attr_init(&attr) != 0)
        return -ENOMEM;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    /* The program's signals are not this thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&thread, &attr, in_thread, q);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return -r;
}

static must_check int ask_thread(const char *host, const char *port, int write_fd)
{
    size_t len = strlen(host);
    struct question *q = malloc(sizeof *q + len + 1);

    if (!q) {
        close(write_fd);
        return -ENOMEM;
    }
    q->fd = write_fd;
    memcpy(q->host, host, len + 1);
    q->port = port ? strdup(port) : NULL;
    int r = !port || q->port ? start_thread(q) : -ENOMEM;
    if (r < 0)
        question_free(q);
    return r;
}

int ev_resolve_new(struct ev_loop *loop, const char *host, const char *port, ev_resolve_fn *done,
                   void *arg, struct ev_resolve **ret)
{
    struct ev_resolve *r = calloc(1, sizeof *r);
    int fds[2];

    if (!r || pipe2(fds, O_CLOEXEC) < 0) {
        free(r);
        return -ENOMEM;
    }
    *r = (struct ev_resolve){.fd = fds[0], .done = done, .arg = arg};
    int e = ev_io_new(loop, r->fd, EV_IO_IN, on_answer, r, &r->io);
    if (e < 0) {
        close(fds[1]);
        ev_resolve_free(r);
        return e;
    }
    /* An address in digits needs no thread. */
    struct answer a = look_up(host, port, AI_NUMERICHOST);
    if (a.code == 0) {
        e = write(fds[1], &a, sizeof a) == sizeof a ? 0 : -EIO;
        close(fds[1]);
    } else {
        e = ask_thread(host, port, fds[1]);
    }
    if (e < 0) {
        ev_resolve_free(r);
        return e;
    }
    *ret = r;
    return 0;
}

struct ev_resolve *ev_resolve_free(struct ev_resolve *r)
{
    struct answer a;

    if (r) {
        r->io = ev_io_free(r->io);
        if (fcntl(r->fd, F_SETFL, O_NONBLOCK) == 0 && read(r->fd, &a, sizeof a) == sizeof a &&
            a.list)
            freeaddrinfo(a.list);
        fd_close(r->fd);
        free(r);
    }
    return NULL;
}
