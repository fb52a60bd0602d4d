// SPDX-License-Identifier: GPL-3.0-or-later
/* ASK: is the client still there? A dial that is not used harms the desktop, so it comes only after
 * the worker has looked. */
#include "l7r/broker/broker-internal.h"

enum session_event step_ask(struct session *s)
{
    struct l7r_still_there m = {.conn = s->conn};

    if (!s->conn || !s->link || ipc_send(s->link->channel, &l7r_still_there_msg, &m, -EBADF) < 0)
        return SESSION_EV_ABORT;
    return SESSION_EV_NONE;
}
