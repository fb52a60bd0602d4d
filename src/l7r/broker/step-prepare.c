// SPDX-License-Identifier: GPL-3.0-or-later
/* PREPARE: the VM's agent is asked once, by qvd-rpc, to make the desktop listen. It answers when it
 * does. An agent that cannot be reached is asked again until the step's limit: it may be starting
 * anew. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"
#include "wire/l7r.h"
#include "wire/vma.h"

#define RETRY_MS 500

static must_check int set_client_params(const struct session *s, struct wire_params *p)
{
    const char *at = s->params, *end = s->params + s->params_len;

    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            return -EBADMSG;
        bool ours = strcmp(at, WIRE_L7R_RESUME) == 0 || strcmp(at, WIRE_L7R_ENDED) == 0;
        int r = ours ? 0 : wire_params_set(p, at, value);
        /* A name or value that the agent would not take is not worth the session. */
        if (r < 0 && r != -EINVAL)
            return r;
        at = value + strlen(value) + 1;
    }
    return 0;
}

/* Properties may not say who the user is; one bad one must not keep a desktop from starting. */
static must_check int set_properties(const struct session *s, struct wire_params *p,
                                     const char *json)
{
    char prefix[BROKER_ID_PREFIX_MAX];
    size_t bad = 0;
    int r = wire_params_set_properties(p, json, strlen(json), &bad);

    if (r == -EBADMSG || bad)
        log_warning("%s %zu properties are left out: names of letters, digits and ._- that do not "
                    "begin with qvd., values of up to %d bytes",
                    session_prefix(s, prefix), bad, WIRE_PARAM_VALUE_MAX);
    return r == -EBADMSG ? 0 : r;
}

/* Later wins: client, properties, authentication, then what only the server may say. */
int step_prepare_build(struct session *s, const struct store_look *look)
{
    _cleanup_(wire_params_free_p) struct wire_params *p = wire_params_new();
    int r = p ? set_client_params(s, p) : -ENOMEM;

    if (r == 0 && look->properties)
        r = set_properties(s, p, look->properties);
    if (r == 0)
        r = wire_params_set(p, "qvd.vm.user.name", look->user_login);
    if (r == 0 && s->user_params)
        r = wire_params_set_json(p, s->user_params, strlen(s->user_params));
    if (r == 0 && s->asked_params)
        r = wire_params_set_json(p, s->asked_params, strlen(s->asked_params));
    if (r == 0 && look->host_address[0])
        r = wire_params_set(p, "host_address", look->host_address);
    if (r == 0 && !s->slave_key[0])
        r = random_alnum(s->slave_key, 64);
    if (r == 0)
        r = wire_params_set(p, "qvd.slave.key", s->slave_key);
    if (r < 0)
        return r;
    free(s->x_start);
    s->x_start = wire_params_format(p);
    return s->x_start ? 0 : -ENOMEM;
}

static void again(struct session *s)
{
    ev_timer_arm(s->retry, RETRY_MS);
}

static void answered(void *arg, const struct rpc_result *result)
{
    struct session *s = arg;
    char prefix[BROKER_ID_PREFIX_MAX];

    s->rpc = NULL;
    if (result->status == RPC_OK) {
        s->phases.x_start = session_step_ms(s);
        session_event(s, SESSION_EV_DONE);
        return;
    }
    log_info("%s x_start: %u, status %u, state %s: %s", session_prefix(s, prefix), result->status,
             result->http_status, result->state, result->text);
    if (result->status == RPC_UNREACHABLE || result->status == RPC_BUSY) {
        again(s);
        return;
    }
    if (result->status == RPC_REFUSED && result->http_status == 403)
        session_event(s,
                      session_refuse(s, 403, "The desktop refused the session: %s", result->text));
    else if (result->status == RPC_REFUSED && result->http_status == 409)
        session_event(s, session_unavailable(s, "another session has it"));
    else
        session_event(s, session_unavailable(s, "its desktop did not start"));
}

enum session_event step_prepare(struct session *s)
{
    int64_t left = conf_ms(s->broker->conf, "l7r.timeout.x_start") - session_step_ms(s);
    int r = session_call_vma(s, "x_start", s->x_start, left > 100 ? (uint32_t)left : 100, answered);

    if (r == -EMSGSIZE)
        return session_unavailable(s, "its parameters are too long");
    if (r < 0)
        again(s);
    return SESSION_EV_NONE;
}
