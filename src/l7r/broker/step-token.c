// SPDX-License-Identifier: GPL-3.0-or-later
/* TOKEN: create_auth_token, and authenticate_user that keeps the parameters. */
#include <string.h>

#include "base/str.h"
#include "l7r/broker/broker-internal.h"
#include "wire/l7r.h"

static void answered(void *arg, const struct auth_answer *a)
{
    struct session *s = arg;
    struct wire_token t = {.auth_params_id = a->token.auth_params_id};

    s->auth_call = 0;
    if (a->status == AUTH_DENIED) /* of an account or a token that is no more */
        session_event(s, session_refuse(s, 401, "Unauthorized"));
    else if (a->status != AUTH_OK || str_copy(t.token, sizeof t.token, a->token.token) < 0)
        session_event(s, session_refuse(s, 503, "No token can be made now. Retry later"));
    else
        session_event(s, session_answer(s, "application/json", wire_token_format(&t)));
    explicit_bzero(&t, sizeof t);
}

enum session_event step_token(struct session *s)
{
    int64_t ttl_ms = conf_ms(s->broker->conf, "l7r.auth.token.expiration");
    struct auth_make_token q = {.user_id = s->user_id,
                                /* One made with a token is good for no more, and no longer. */
                                .vm_id = s->token_vm_id,
                                .ttl = (uint32_t)(ttl_ms / 1000),
                                .until = s->token_until,
                                .multi_use = true,
                                .store_only = s->kind == L7R_AUTH,
                                .params = s->user_params};

    s->auth_call = auth_client_make_token(s->broker->auth, q, answered, s);
    return s->auth_call ? SESSION_EV_NONE : session_refuse(s, 503, "No token can be made now");
}
