// SPDX-License-Identifier: GPL-3.0-or-later
/* CONNECTED: the worker has the desktop's socket and relays; we only keep its name. CUT: it shall
 * end, and the worker tells its counters. */
#include "base/clock.h"
#include "base/log.h"
#include "l7r/broker/broker-internal.h"

enum session_event step_connected(struct session *s)
{
    struct l7r_relay m = {.conn = s->conn, .session = s->id, .slave_key = s->slave_key};
    char prefix[BROKER_ID_PREFIX_MAX];

    s->connected = clock_ms();
    if (s->relayed) /* found so */
        return SESSION_EV_NONE;
    if (!s->conn || !s->link || ipc_send(s->link->channel, &l7r_relay_msg, &m, s->fd) < 0)
        return SESSION_EV_UNUSED;
    s->fd = fd_close(s->fd);
    s->relayed = s->answered = true;
    /* The connection is the relay's now, whose end the worker tells by the session. */
    link_forget(s->link, s->conn);
    s->conn = 0;
    session_slim(s);
    store_tell_api_later(s->broker->db, "vm", (int64_t)s->vm_id);
    log_info("%s connected after %lld ms", session_prefix(s, prefix),
             (long long)(s->connected - s->began));
    return SESSION_EV_NONE;
}

enum session_event step_cut(struct session *s)
{
    struct l7r_cut m = {.session = s->id, .reason = s->reason ? s->reason : ""};

    if (!s->link)
        return SESSION_EV_ENDED;
    if (ipc_send(s->link->channel, &l7r_cut_msg, &m, -EBADF) < 0)
        return SESSION_EV_ENDED;
    return SESSION_EV_NONE;
}
