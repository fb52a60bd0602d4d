// SPDX-License-Identifier: GPL-3.0-or-later
/* HOOK: what do his plugins say to this request? Only of users who have plugins that want to be
 * asked; what was said at an earlier request on this connection does not count. */
#include <string.h>

#include "l7r/broker/broker-internal.h"

/* 0 or -ENOMEM. */
static must_check int take(struct session *s, const struct auth_asked *a)
{
    s->allowed = a->allowed;
    s->lists = a->lists;
    s->asked_params = strdup(a->params);
    s->listed = malloc(a->vms.len + 1);
    if (!s->asked_params || !s->listed)
        return -ENOMEM;
    s->n_listed = a->vms.len / sizeof *s->listed;
    if (s->n_listed)
        memcpy(s->listed, a->vms.data, s->n_listed * sizeof *s->listed);
    return 0;
}

static void answered(void *arg, const struct auth_answer *a)
{
    struct session *s = arg;

    s->auth_call = 0;
    if (a->status != AUTH_OK)
        session_event(s, session_refuse(s, 503, "Logins are not possible now. Retry later"));
    else if (take(s, &a->asked) < 0)
        session_event(s, session_refuse(s, 503, "out of memory"));
    else
        session_event(s, session_known(s));
}

enum session_event step_hook(struct session *s)
{
    struct auth_ask q = {
        .kind = s->kind == L7R_CONNECT   ? AUTH_ASK_CONNECT
                : s->kind == L7R_STOP_VM ? AUTH_ASK_ACCESS
                                         : AUTH_ASK_LIST,
        .user_id = s->user_id,
        .tenant_id = s->tenant_id,
        .login = s->user_login,
        .vm_id = s->vm_id,
        .source = s->source,
        .file_name = s->file_name,
        .env = {s->env, s->env_len},
    };

    s->auth_call = auth_client_ask(s->broker->auth, q, answered, s);
    return s->auth_call ? SESSION_EV_NONE : session_refuse(s, 503, "out of memory");
}
