// SPDX-License-Identifier: GPL-3.0-or-later
/* RESET: the VMA is told of a dial that was not used: a fresh nxagent has ended by it, a resumed
 * one has fallen back, and the agent mends what must be mended before the next session. */
#include "l7r/broker/broker-internal.h"

static void answered(void *arg, const struct rpc_result *result)
{
    struct session *s = arg;

    s->rpc = NULL;
    session_event(s, SESSION_EV_DONE);
}

enum session_event step_reset(struct session *s)
{
    uint32_t ms = (uint32_t)conf_ms(s->broker->conf, "l7r.timeout.vma");

    s->fd = fd_close(s->fd);
    if (!s->address[0] || session_call_vma(s, "x_reset", "{}", ms, answered) < 0)
        return SESSION_EV_DONE;
    return SESSION_EV_NONE;
}
