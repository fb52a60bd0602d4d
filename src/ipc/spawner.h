// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Keeps one helper process of ours running, with its end of a channel as descriptor 3, and hands
 * out the other end. */

#include "ev/child.h"
#include "ev/ev.h"

struct ipc_spawner;

/* fd >= 0: a new one runs, fd is the asker's end (yours to close). fd < 0: it ended or could not be
 * started; text tells how, and when it is tried again (log it). */
typedef void ipc_spawned_fn(void *arg, int fd, const char *text);

struct ipc_spawner_spec {
    const char *const *argv;       /* ended by NULL; argv[0] is the path; copied */
    const struct ev_child_fd *fds; /* besides 3; copied, kept open by the caller */
    size_t n_fds;                  /* at most 4 */
};

/* Starts the first at the next turn, and another one whenever it ends: after 0.1 s, 0.2 s ... 10 s.
 * 0 or -ENOMEM. */
must_check int ipc_spawner_new(struct ev_loop *loop, const struct ipc_spawner_spec *spec,
                               ipc_spawned_fn *fn, void *arg, struct ipc_spawner **ret_spawner);
/* Ends it (TERM; it should also end by itself when its channel closes). NULL-safe, always NULL. */
struct ipc_spawner *ipc_spawner_free(struct ipc_spawner *s);
/* From now on none is started; the present one lives on, and its end is not told. */
void ipc_spawner_start_no_more(struct ipc_spawner *s);
/* Ends the present one and starts a new one at once. */
void ipc_spawner_restart(struct ipc_spawner *s);
