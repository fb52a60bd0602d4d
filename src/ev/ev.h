// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The event loop: descriptors, timers, signals, and work put off to the end of a turn. A thin cover
 * of libevent's core; only ev, stream, http and ipc may know libevent.
 *
 * All objects belong to one loop and one thread. Inside its own callback an object may be freed. */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/list.h"

struct ev_loop;
struct ev_io;
struct ev_timer;
struct ev_signal;

/* A new loop; ignores SIGPIPE for the process. 0, -ENOMEM. */
must_check int ev_loop_new(struct ev_loop **ret_loop);
/* NULL-safe; all its objects must be freed before. Always NULL. */
struct ev_loop *ev_loop_free(struct ev_loop *loop);
/* Runs until ev_loop_stop(); returns its code. */
int ev_loop_run(struct ev_loop *loop);
/* The current turn ends as usual, then ev_loop_run() returns code. */
void ev_loop_stop(struct ev_loop *loop, int code);
/* One turn: waits for at least one event (or not, when block is false). For tests and clients with
 * a loop of their own. */
void ev_loop_turn(struct ev_loop *loop, bool block);

enum ev_io_events {
    EV_IO_IN = 1,
    EV_IO_OUT = 2,
    EV_IO_CLOSED = 4, /* the peer has closed its sending side; comes without reading */
    EV_IO_EDGE = 8,   /* with others: told once a change instead of as long as it holds */
};
typedef void ev_io_fn(void *arg, unsigned events);

/* Watches fd (not owned) for events, level-triggered; events may be 0. 0, -ENOMEM, -EPERM (a plain
 * file). */
must_check int ev_io_new(struct ev_loop *loop, int fd, unsigned events, ev_io_fn *fn, void *arg,
                         struct ev_io **ret_io);
/* Changes what is watched; costs nothing when nothing changes. 0 or -errno. */
must_check int ev_io_set(struct ev_io *io, unsigned events);
/* NULL-safe, always NULL; before the fd is closed. */
struct ev_io *ev_io_free(struct ev_io *io);

typedef void ev_timer_fn(void *arg);

/* A timer, not armed. 0 or -ENOMEM. */
must_check int ev_timer_new(struct ev_loop *loop, ev_timer_fn *fn, void *arg,
                            struct ev_timer **ret_timer);
/* (Re)arms it, once, ms from now (0: next turn) or some ticks of the kernel (4 ms) later. */
void ev_timer_arm(struct ev_timer *t, uint64_t ms);
/* Arms it ms ± percent %, at random: so that many nodes do not act at once. */
void ev_timer_arm_jittered(struct ev_timer *t, uint64_t ms, unsigned percent);
void ev_timer_disarm(struct ev_timer *t);
bool ev_timer_armed(const struct ev_timer *t);
struct ev_timer *ev_timer_free(struct ev_timer *t);

typedef void ev_signal_fn(void *arg, int signo);

must_check int ev_signal_new(struct ev_loop *loop, int signo, ev_signal_fn *fn, void *arg,
                             struct ev_signal **ret_signal);
struct ev_signal *ev_signal_free(struct ev_signal *s);

/* Work put off to the end of the turn: how objects die that must not be freed inside their own
 * callback. Embed one, name fn once, and hand it to ev_defer(); queued twice it still runs once. */
struct ev_deferred {
    struct list node;
    void (*fn)(void *arg);
    void *arg;
    bool queued;
};
void ev_deferred_init(struct ev_deferred *d, void (*fn)(void *arg), void *arg);
void ev_defer(struct ev_loop *loop, struct ev_deferred *d);
/* Takes it back; harmless when it is not queued. */
void ev_deferred_cancel(struct ev_deferred *d);
