// SPDX-License-Identifier: GPL-3.0-or-later
/* SWITCH: connecting becomes connected, unless the VM was taken over, is to be left or has stopped:
 * then the row tells which, as whether the client may come back by itself depends on it. */
#include "l7r/broker/broker-internal.h"

static void answered(void *arg, bool failed, bool taken)
{
    struct session *s = arg;

    s->call = NULL;
    if (taken) {
        s->broker->counters.nx_ok++;
        session_event(s, SESSION_EV_DONE);
    } else if (failed) {
        session_event(s, session_unavailable(s, "the database does not answer"));
    } else {
        session_look(s); /* tells why */
    }
}

enum session_event step_switch_looked(struct session *s, const struct store_look *look)
{
    if (s->call || s->look)
        return SESSION_EV_NONE; /* its own answer comes first, or a look that is newer */
    if (look->vm_state == VM_RUNNING && look->vm_cmd != VM_CMD_NONE)
        return session_unavailable(s, look->vm_cmd == VM_CMD_START ? "it is restarted now"
                                                                   : "it is stopped now");
    return session_unavailable(s, look->vm_state == VM_RUNNING ? "it was changed meanwhile"
                                                               : "the virtual machine has stopped");
}

enum session_event step_switch(struct session *s)
{
    s->call = store_session_switch(s->broker->db, s->id, s->host_id, &s->phases, answered, s);
    return s->call ? SESSION_EV_NONE : session_unavailable(s, "out of memory");
}
