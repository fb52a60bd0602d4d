// SPDX-License-Identifier: GPL-3.0-or-later
/* SWITCH: connecting becomes connected, unless the VM was taken over or is to be left. */
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
        session_event(s, session_unavailable(s, "another session has it, or it was disconnected"));
    }
}

enum session_event step_switch(struct session *s)
{
    s->call = store_session_switch(s->broker->db, s->id, s->host_id, &s->phases, answered, s);
    return s->call ? SESSION_EV_NONE : session_unavailable(s, "out of memory");
}
