// SPDX-License-Identifier: GPL-3.0-or-later
/* CLAIM: the one transaction that makes the VM this session's. UNCLAIM waits for its answer when
 * nobody wants it any more. */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"
#include "wire/l7r.h"

static double chance(void *arg)
{
    return drand48();
}

struct store_balance broker_balance(const struct broker *b)
{
    const char *name = conf_str(b->conf, "l7r.loadbalancer.plugin");
    balance_fn *plugin = balance_plugin(name);

    return (struct store_balance){
        .plugin = plugin ? plugin : balance_plugin("default"),
        .weights = {conf_real(b->conf, "l7r.loadbalancer.plugin.default.weight.ram"),
                    conf_real(b->conf, "l7r.loadbalancer.plugin.default.weight.cpu"),
                    conf_real(b->conf, "l7r.loadbalancer.plugin.default.weight.random"),
                    conf_real(b->conf, "l7r.loadbalancer.plugin.default.start.cpu")},
        .random = chance,
    };
}

void broker_notify_host(struct broker *b, uint64_t host_id, uint64_t vm_id)
{
    store_tell_host(b->db, (int64_t)host_id, "vm", (int64_t)vm_id);
    store_tell_api(b->db, "vm", (int64_t)vm_id);
}

/* Ends that were wanted: nobody comes back from them by himself. */
static bool is_final(const char *reason)
{
    static const char *const final[] = {
        "closed by the desktop",
        "disconnected by an administrator",
        "the virtual machine has stopped",
        "the virtual machine was deleted",
    };

    for (size_t i = 0; i < ARRAY_SIZE(final); i++)
        if (strcmp(final[i], reason) == 0)
            return true;
    return false;
}

/* The session that the client had, by that parameter; 0: none, or nonsense. */
static uint64_t number_of(const struct session *s, const char *name)
{
    const char *at = s->params, *end = s->params + s->params_len;
    uint64_t number = 0;

    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0 && str_to_u64(value, INT64_MAX, &number) < 0)
            number = 0;
        at = value + strlen(value) + 1;
    }
    return number;
}

static enum session_event refused(struct session *s, const struct store_claim *c)
{
    switch (c->outcome) {
    case STORE_CLAIM_NOT_FOUND:
        return session_refuse(s, 404, "Virtual machine not found");
    case STORE_CLAIM_DENIED:
        return session_refuse(s, 403, "You are not allowed to access this virtual machine");
    case STORE_CLAIM_VM_BLOCKED:
        return session_refuse(s, 403, "The virtual machine is under maintenance%s%s",
                              c->text[0] ? ": " : "", c->text);
    case STORE_CLAIM_HOST_BLOCKED:
        return session_unavailable(s, "its node is under maintenance");
    case STORE_CLAIM_HOST_DOWN:
        return session_unavailable(s, "its node is not running");
    case STORE_CLAIM_TAKEOVERS:
        return session_unavailable(s, "it was taken over too often in a short time");
    case STORE_CLAIM_TAKEN:
        return session_refuse(s, 409, "Your session was taken over by another connection");
    case STORE_CLAIM_ENDED:
        return session_refuse(s, 410, "The session has ended%s%s", c->text[0] ? ": " : "", c->text);
    case STORE_CLAIM_NO_NODE:
        return session_unavailable(s, "no node has room for it");
    case STORE_CLAIM_NO_IMAGE:
        return session_unavailable(s, "no published image has its tag");
    default:
        s->unsure = true;
        return session_unavailable(s, "the database does not answer");
    }
}

static enum session_event claimed(struct session *s, const struct store_claim *c)
{
    struct broker *b = s->broker;

    s->id = c->session;
    s->host_id = c->host_id;
    s->former = c->former_gone ? 0 : c->former;
    s->former_instance = c->former_instance;
    s->ordered = c->ordered;
    s->started = c->vm_state != VM_RUNNING;
    /* It took the VM from a session that nobody has told: that one gets it back. */
    s->unsure = s->former && s->step == SESSION_UNCLAIM;
    if (session_register(s) < 0)
        log_error("out of memory: session %llu hears no notifications", (unsigned long long)s->id);
    if (c->ordered)
        broker_notify_host(b, c->host_id, s->vm_id);
    /* The 102s' first: clients must see one. */
    session_progress(s, "Session acquired");
    return s->former ? SESSION_EV_HOLD : SESSION_EV_DONE;
}

static void answered(void *arg, const struct store_claim *c)
{
    struct session *s = arg;
    char prefix[BROKER_ID_PREFIX_MAX];

    s->call = NULL;
    s->phases.claim = session_step_ms(s);
    if (c->outcome == STORE_CLAIM_OK) {
        enum session_event event = claimed(s, c);
        log_info("%s session of %s on host %llu%s%s", session_prefix(s, prefix), s->source,
                 (unsigned long long)s->host_id, c->ordered ? ", VM start ordered" : "",
                 s->former ? ", taken over" : "");
        session_event(s, event);
        return;
    }
    log_info("%s from %s: refused in claim: %s", session_prefix(s, prefix), s->source, c->text);
    session_event(s, refused(s, c));
}

enum session_event step_claim(struct session *s)
{
    struct broker *b = s->broker;
    uint64_t asked = number_of(s, WIRE_L7R_ENDED);
    struct store_claim_query q = {
        .vm_id = s->vm_id,
        .user_id = s->user_id,
        .allowed = s->allowed,
        .instance = b->instance,
        .source = s->source,
        .client = s->client,
        .resume = asked ? asked : number_of(s, WIRE_L7R_RESUME),
        .ask = asked != 0,
        .final = is_final,
        .tls_ms = s->phases.tls < 0 ? 0 : s->phases.tls,
        .auth_ms = s->phases.auth < 0 ? 0 : s->phases.auth,
        .takeover_max = (unsigned)conf_int(b->conf, "l7r.takeover.max"),
        .takeover_window_ms = conf_ms(b->conf, "l7r.takeover.window"),
        .instance_timeout_ms = conf_ms(b->conf, "l7r.instance.timeout"),
        .balance = broker_balance(b),
    };

    if (!b->instance)
        return session_unavailable(s, "the database cannot be reached");
    s->call = store_session_claim(b->db, &q, answered, s);
    return s->call ? SESSION_EV_NONE : session_refuse(s, 503, "out of memory");
}
