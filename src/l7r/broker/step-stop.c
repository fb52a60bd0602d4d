// SPDX-License-Identifier: GPL-3.0-or-later
/* STOP and STOPPING: the order to stop a VM, and the wait for it. Other sessions' VMs are not told
 * of on our channel, so while somebody waits we listen to what consoles hear. */
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

#define LOOK_MS 5000

static enum session_event stopped(struct session *s)
{
    return session_answer(s, "text/plain", str_printf("Machine stopped\r\n"));
}

static void ordered(void *arg, const struct store_stop *stop)
{
    struct session *s = arg;
    enum session_event event = SESSION_EV_DONE;

    s->call = NULL;
    switch (stop->outcome) {
    case STORE_STOP_FAILED:
        event = session_refuse(s, 503, "The database cannot be reached. Retry later");
        break;
    case STORE_STOP_NOT_FOUND:
        event = session_refuse(s, 404, "Virtual machine not found");
        break;
    case STORE_STOP_DENIED:
        event = session_refuse(s, 403, "You are not allowed to access this virtual machine");
        break;
    case STORE_STOP_UNFIT:
        event = session_refuse(s, 503, "The virtual machine cannot be stopped while it is %s",
                               vm_state_to_wire(stop->vm_state));
        break;
    case STORE_STOP_STOPPED:
        event = stopped(s);
        break;
    case STORE_STOP_ORDERED:
        broker_notify_host(s->broker, stop->host_id, s->vm_id);
        break;
    case STORE_STOP_WAITS:
        break;
    }
    session_event(s, event);
}

enum session_event step_stop(struct session *s)
{
    if (!s->vm_id)
        return session_refuse(s, 422, "The parameter id is missing");
    s->call = store_l7r_stop_vm(s->broker->db, s->vm_id, s->user_id, s->allowed, ordered, s);
    return s->call ? SESSION_EV_NONE : session_refuse(s, 503, "out of memory");
}

static void told(void *arg, const char *channel, const char *payload)
{
    struct broker *b = arg;
    char kind[16];
    int64_t vm = 0;

    if (!store_payload(payload, kind, sizeof kind, &vm) || !str_eq(kind, "vm"))
        return;
    QVD_LIST_FOREACH (s, &b->stoppers, struct session, stop_node)
        if (s->vm_id == (uint64_t)vm)
            session_look(s);
}

void step_stopping_looked(struct session *s, const struct store_look *look)
{
    if (look->gone || look->vm_state == VM_STOPPED)
        session_event(s, stopped(s));
}

void step_stopping_left(struct session *s)
{
    list_remove(&s->stop_node);
    if (list_empty(&s->broker->stoppers))
        db_unlisten(s->broker->db, STORE_CHANNEL_API);
}

enum session_event step_stopping(struct session *s)
{
    struct broker *b = s->broker;

    if (list_empty(&b->stoppers)) {
        int r = db_listen(b->db, STORE_CHANNEL_API, told, b);
        if (r < 0 && r != -EEXIST)
            log_warning("stops are looked at every %d s, not listened for", LOOK_MS / 1000);
    }
    list_append(&b->stoppers, &s->stop_node);
    session_look(s);
    ev_timer_arm(s->retry, LOOK_MS);
    return SESSION_EV_NONE;
}
