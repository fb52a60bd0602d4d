// SPDX-License-Identifier: GPL-3.0-or-later
/* WAIT: until the VM runs. The row tells; its NOTIFY comes to our channel, the sweep repairs a lost
 * one. A VM that was being stopped when the session came is started once it has stopped. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

static void started(void *arg, const struct store_claim *c)
{
    struct session *s = arg;

    s->call = NULL;
    if (c->outcome == STORE_CLAIM_OK) {
        s->ordered = s->ordered || c->ordered;
        if (c->ordered) {
            s->host_id = c->host_id;
            broker_notify_host(s->broker, c->host_id, s->vm_id);
            session_progress(s, "Starting virtual machine");
        }
        return;
    }
    if (c->outcome == STORE_CLAIM_FAILED)
        return; /* the next look tries again */
    log_info("session %llu: VM %llu cannot be started: %s", (unsigned long long)s->id,
             (unsigned long long)s->vm_id, c->text);
    session_event(s, c->outcome == STORE_CLAIM_NO_NODE
                         ? session_unavailable(s, "no node has room for it")
                         : session_unavailable(s, "it cannot be started"));
}

void step_wait_order(struct session *s)
{
    struct store_balance balance = broker_balance(s->broker);

    if (!s->call)
        s->call = store_session_start(s->broker->db, s->id, s->vm_id, &balance, started, s);
}

static enum session_event ready(struct session *s, const struct store_look *look)
{
    if (!look->address[0] || !look->has_secret)
        return session_unavailable(s, "its node has not told its address");
    if (str_copy(s->address, sizeof s->address, look->address) < 0)
        return session_unavailable(s, "its address is wrong");
    s->vma_port = look->vma_port ? look->vma_port : 3030;
    s->x_port = look->x_port ? look->x_port : 4100;
    s->host_id = look->host_id;
    memcpy(s->vm_secret, look->secret, sizeof s->vm_secret);
    if (step_prepare_build(s, look) < 0)
        return session_unavailable(s, "its parameters are too long");
    if (s->started)
        s->phases.start = session_step_ms(s);
    return SESSION_EV_DONE;
}

enum session_event step_wait_looked(struct session *s, const struct store_look *look)
{
    /* An order to a VM that runs is its end: nobody is let in to be cut in a moment. */
    if (look->vm_state == VM_RUNNING && look->vm_cmd == VM_CMD_NONE)
        return ready(s, look);
    s->started = true;
    if (look->blocked && s->ordered)
        return session_unavailable(s, "it failed to start");
    if (look->vm_state != VM_STOPPED || look->vm_cmd != VM_CMD_NONE)
        return SESSION_EV_NONE;
    if (s->ordered)
        return session_unavailable(s, "it stopped before the desktop was ready");
    step_wait_order(s);
    return SESSION_EV_NONE;
}

enum session_event step_wait(struct session *s)
{
    if (s->ordered)
        session_progress(s, "Starting virtual machine");
    else if (s->started)
        session_progress(s, "Waiting for VM to reach state running");
    /* Also when it was ordered a moment ago: what was told before the claim's answer came found
     * nobody to tell. */
    session_look(s);
    return SESSION_EV_NONE;
}
