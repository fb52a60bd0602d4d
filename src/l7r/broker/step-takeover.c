// SPDX-License-Identifier: GPL-3.0-or-later
/* TAKEOVER: the former session is told, and waited for; not for ever. */
#include "base/log.h"
#include "l7r/broker/broker-internal.h"

enum session_event step_takeover(struct session *s)
{
    struct broker *b = s->broker;
    struct session *former = map_get_u64(b->by_id, s->former);

    if (map_put_u64(b->heirs, s->former, s) < 0)
        log_error("out of memory: the end of session %llu is not noticed",
                  (unsigned long long)s->former);
    if (former && former != s) {
        session_abort(former, "taken over by another connection");
        return SESSION_EV_NONE;
    }
    /* Another instance's (it looks at the VM's row), or one of ours whose end is not yet written:
     * the look tells. */
    store_tell_l7r(b->db, (int64_t)s->former_instance, "vm", (int64_t)s->vm_id);
    session_look(s);
    return SESSION_EV_NONE;
}
