// SPDX-License-Identifier: GPL-3.0-or-later
/* What a look at the VM's row means to a session: whose the VM is, whether it shall be left, and
 * what the step that waits makes of it. */
#include "base/log.h"
#include "l7r/broker/broker-internal.h"

/* Is the VM still in this session? false: it ends. */
static bool still_mine(struct session *s, const struct store_look *look)
{
    if (look->gone)
        session_abort(s, "the virtual machine was deleted");
    else if (look->session == 0)
        session_abort(s, "the session was ended");
    else if (look->session != s->id)
        session_abort(s, "taken over by another connection");
    else if (look->abort)
        session_abort(s, "disconnected by an administrator");
    else
        return true;
    return false;
}

void session_looked(void *arg, const struct store_look *look)
{
    struct session *s = arg;

    s->look = NULL;
    if (s->look_again && s->step != SESSION_GONE)
        session_look(s);
    if (look->failed || s->step == SESSION_GONE)
        return;
    if (s->step == SESSION_STOPPING) {
        step_stopping_looked(s, look);
        return;
    }
    if (!s->id || !still_mine(s, look))
        return;
    if (s->step == SESSION_TAKEOVER && look->former_ended)
        session_event(s, SESSION_EV_DONE);
    else if (s->step == SESSION_WAIT)
        session_event(s, step_wait_looked(s, look));
    else if (s->step == SESSION_SWITCH)
        session_event(s, step_switch_looked(s, look));
    else if (s->step == SESSION_CONNECTED && look->vm_state == VM_STOPPED)
        session_abort(s, "the virtual machine has stopped");
}
