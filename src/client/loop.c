// SPDX-License-Identifier: GPL-3.0-or-later
/* The public cover of the event loop. */
#include <sys/eventfd.h>

#include "client/client-internal.h"

struct qvdclient_loop {
    struct ev_loop *loop;
    struct ev_io *io;
    int wake_fd;
    void (*fn)(void *arg);
    void *arg;
};

static void on_wake(void *arg, unsigned events)
{
    struct qvdclient_loop *loop = arg;
    uint64_t count;

    if (read(loop->wake_fd, &count, sizeof count) == sizeof count && loop->fn)
        loop->fn(loop->arg);
}

struct qvdclient_loop *qvdclient_loop_new(void)
{
    struct qvdclient_loop *loop = calloc(1, sizeof *loop);

    if (!loop)
        return NULL;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0 || ev_loop_new(&loop->loop) < 0 ||
        ev_io_new(loop->loop, loop->wake_fd, EV_IO_IN, on_wake, loop, &loop->io) < 0) {
        qvdclient_loop_free(loop);
        return NULL;
    }
    return loop;
}

void qvdclient_loop_free(struct qvdclient_loop *loop)
{
    if (loop) {
        ev_io_free(loop->io);
        stream_end_lingering(loop->loop);
        ev_loop_free(loop->loop);
        fd_close(loop->wake_fd);
        free(loop);
    }
}

int qvdclient_loop_run(struct qvdclient_loop *loop)
{
    return ev_loop_run(loop->loop);
}

void qvdclient_loop_stop(struct qvdclient_loop *loop, int code)
{
    ev_loop_stop(loop->loop, code);
}

void qvdclient_loop_turn(struct qvdclient_loop *loop, bool block)
{
    ev_loop_turn(loop->loop, block);
}

void qvdclient_loop_on_wake(struct qvdclient_loop *loop, void (*fn)(void *arg), void *arg)
{
    loop->fn = fn;
    loop->arg = arg;
}

void qvdclient_loop_wake(struct qvdclient_loop *loop)
{
    uint64_t one = 1;
    int saved = errno;

    /* Full means that a wake-up is on its way. */
    if (write(loop->wake_fd, &one, sizeof one) < 0)
        errno = saved;
}

struct ev_loop *client_loop(struct qvdclient_loop *loop)
{
    return loop->loop;
}
