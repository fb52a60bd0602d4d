// SPDX-License-Identifier: GPL-3.0-or-later
#include "ev/ev.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <time.h>

#include "base/str.h"

struct ev_loop {
    struct event_base *base;
    struct list deferred;
    bool stopping;
    int code;
};

struct ev_io {
    struct event event;
    struct ev_loop *loop;
    unsigned events;
    int fd;
    ev_io_fn *fn;
    void *arg;
};

struct ev_timer {
    struct event event;
    ev_timer_fn *fn;
    void *arg;
};

struct ev_signal {
    struct event event;
    ev_signal_fn *fn;
    void *arg;
};

/* The kernel's tick. A loop's clock goes by it and may be one behind when a timer is armed. Asked
 * once, before a sandbox is entered. */
static uint64_t tick_us;

int ev_loop_new(struct ev_loop **ret_loop)
{
    struct timespec tick = {0};
    struct event_config *config = event_config_new();
    struct ev_loop *loop = calloc(1, sizeof *loop);

    if (config && loop) {
        /* EV_CLOSED needs a method that tells early closes: epoll. */
        event_config_require_features(config, EV_FEATURE_EARLY_CLOSE);
        /* No precise timers: they are one more call of the kernel in each turn. */
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
        loop->base = event_base_new_with_config(config);
    }
    if (config)
        event_config_free(config);
    if (!loop || !loop->base) {
        free(loop);
        return -ENOMEM;
    }
    (void)clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
    tick_us = (uint64_t)tick.tv_nsec / 1000;
    list_init(&loop->deferred);
    signal(SIGPIPE, SIG_IGN);
    *ret_loop = loop;
    return 0;
}

struct ev_loop *ev_loop_free(struct ev_loop *loop)
{
    if (loop) {
        event_base_free(loop->base);
        free(loop);
    }
    return NULL;
}

static void run_deferred(struct ev_loop *loop)
{
    while (!list_empty(&loop->deferred)) {
        struct ev_deferred *d = QVD_CONTAINER(loop->deferred.next, struct ev_deferred, node);
        ev_deferred_cancel(d);
        d->fn(d->arg);
    }
}

void ev_loop_turn(struct ev_loop *loop, bool block)
{
    run_deferred(loop);
    event_base_loop(loop->base, EVLOOP_ONCE | (block ? 0 : EVLOOP_NONBLOCK));
    run_deferred(loop);
}

int ev_loop_run(struct ev_loop *loop)
{
    loop->stopping = false;
    while (!loop->stopping) {
        run_deferred(loop);
        if (!loop->stopping)
            event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    }
    run_deferred(loop);
    return loop->code;
}

void ev_loop_stop(struct ev_loop *loop, int code)
{
    loop->stopping = true;
    loop->code = code;
    event_base_loopbreak(loop->base);
}

static short to_event(unsigned events)
{
    return EV_PERSIST | (events & EV_IO_IN ? EV_READ : 0) | (events & EV_IO_OUT ? EV_WRITE : 0) |
           (events & EV_IO_CLOSED ? EV_CLOSED : 0) | (events & EV_IO_EDGE ? EV_ET : 0);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct ev_io *io = arg;

    io->fn(io->arg, (what & EV_READ ? EV_IO_IN : 0) | (what & EV_WRITE ? EV_IO_OUT : 0) |
                        (what & EV_CLOSED ? EV_IO_CLOSED : 0));
}

int ev_io_set(struct ev_io *io, unsigned events)
{
    if (events == io->events)
        return 0;
    if (io->events)
        event_del(&io->event);
    io->events = 0;
    if (!events)
        return 0;
    event_assign(&io->event, io->loop->base, io->fd, to_event(events), on_io, io);
    if (event_add(&io->event, NULL) < 0)
        return errno ? -errno : -EPERM;
    io->events = events;
    return 0;
}

int ev_io_new(struct ev_loop *loop, int fd, unsigned events, ev_io_fn *fn, void *arg,
              struct ev_io **ret_io)
{
    struct ev_io *io = calloc(1, sizeof *io);

    if (!io)
        return -ENOMEM;
    *io = (struct ev_io){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
    int r = ev_io_set(io, events);
    if (r < 0) {
        free(io);
        return r;
    }
    *ret_io = io;
    return 0;
}

struct ev_io *ev_io_free(struct ev_io *io)
{
    if (io) {
        if (io->events)
            event_del(&io->event);
        free(io);
    }
    return NULL;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct ev_timer *t = arg;

    t->fn(t->arg);
}

int ev_timer_new(struct ev_loop *loop, ev_timer_fn *fn, void *arg, struct ev_timer **ret_timer)
{
    struct ev_timer *t = calloc(1, sizeof *t);

    if (!t)
        return -ENOMEM;
    t->fn = fn;
    t->arg = arg;
    evtimer_assign(&t->event, loop->base, on_timer, t);
    *ret_timer = t;
    return 0;
}

void ev_timer_arm(struct ev_timer *t, uint64_t ms)
{
    uint64_t us = ms ? ms * 1000 + tick_us : 0;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (long)(us % 1000000)};

    event_add(&t->event, &tv);
}

void ev_timer_arm_jittered(struct ev_timer *t, uint64_t ms, unsigned percent)
{
    uint64_t width = ms * percent / 100, random = 0;

    if (random_bytes(&random, sizeof random) < 0)
        random = width;
    ev_timer_arm(t, ms - width + (width ? random % (2 * width + 1) : 0));
}

void ev_timer_disarm(struct ev_timer *t)
{
    event_del(&t->event);
}

bool ev_timer_armed(const struct ev_timer *t)
{
    return event_pending(&t->event, EV_TIMEOUT, NULL);
}

struct ev_timer *ev_timer_free(struct ev_timer *t)
{
    if (t) {
        event_del(&t->event);
        free(t);
    }
    return NULL;
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    struct ev_signal *s = arg;

    s->fn(s->arg, signo);
}

int ev_signal_new(struct ev_loop *loop, int signo, ev_signal_fn *fn, void *arg,
                  struct ev_signal **ret_signal)
{
    struct ev_signal *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    s->fn = fn;
    s->arg = arg;
    evsignal_assign(&s->event, loop->base, signo, on_signal, s);
    if (event_add(&s->event, NULL) < 0) {
        free(s);
        return -EINVAL;
    }
    *ret_signal = s;
    return 0;
}

struct ev_signal *ev_signal_free(struct ev_signal *s)
{
    if (s) {
        event_del(&s->event);
        free(s);
    }
    return NULL;
}

void ev_deferred_init(struct ev_deferred *d, void (*fn)(void *arg), void *arg)
{
    list_init(&d->node);
    d->fn = fn;
    d->arg = arg;
    d->queued = false;
}

void ev_defer(struct ev_loop *loop, struct ev_deferred *d)
{
    if (!d->queued)
        list_append(&loop->deferred, &d->node);
    d->queued = true;
}

void ev_deferred_cancel(struct ev_deferred *d)
{
    if (d->queued)
        list_remove(&d->node);
    d->queued = false;
}
