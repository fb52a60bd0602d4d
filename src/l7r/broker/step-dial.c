// SPDX-License-Identifier: GPL-3.0-or-later
/* DIAL: the desktop's port. */
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "l7r/broker/broker-internal.h"

static void dialled(void *arg, unsigned events)
{
    struct session *s = arg;
    int error = 0;
    socklen_t len = sizeof error;
    char prefix[BROKER_ID_PREFIX_MAX];

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    s->io = ev_io_free(s->io);
    if (error) {
        log_info("%s dial: %s", session_prefix(s, prefix), strerror(error));
        session_event(s, session_unavailable(s, "the desktop does not take the connection"));
        return;
    }
    s->phases.dial = session_step_ms(s);
    session_event(s, SESSION_EV_DONE);
}

enum session_event step_dial(struct session *s)
{
    s->broker->counters.nx_attempts++;
    s->fd = session_dial_socket(s, s->x_port);
    if (s->fd < 0 || ev_io_new(s->broker->loop, s->fd, EV_IO_OUT, dialled, s, &s->io) < 0)
        return session_unavailable(s, "the desktop does not take the connection");
    return SESSION_EV_NONE;
}
