// SPDX-License-Identifier: GPL-3.0-or-later
/* Asks the plugins of a job what they are asked now, and keeps what they say in one place. Knows of
 * no process and of no answer to anybody. */
#include <stdlib.h>

#include "authd/authd-internal.h"
#include "base/log.h"

/* Administrators always have passwords of our own. 0, or -EINVAL and a word in the log. */
static must_check int plugins_of(const struct job *j, struct auth_plugins *ret)
{
    struct qvd_error err;
    int r = 0;

    if (j->kind == JOB_ADMIN)
        *ret = (struct auth_plugins){.at = {&auth_plugin_default}, .n = 1};
    else
        r = auth_plugins_of(j->authd->conf, j->tenant_id, ret, &err);
    if (r < 0)
        log_error("%s", err.text);
    return r;
}

static void ask_request(const struct job *j, const struct auth_plugins *p, struct hooks *h)
{
    const struct conf *c = j->authd->conf;
    struct said *s = &h->said;

    s->verdict = AUTH_YES;
    if (j->asked == AUTH_ASK_LIST) {
        s->lists = auth_before_list(p, c, &h->attempt, &h->vms);
        s->vms = (struct ipc_bytes){h->vms.ids, h->vms.n * sizeof *h->vms.ids};
        return;
    }
    s->allowed = auth_allow(p, c, &h->attempt, j->vm_id);
    if (j->asked == AUTH_ASK_CONNECT)
        auth_before_connect(p, c, &h->attempt, j->vm_id);
}

static void ask_login(const struct job *j, const struct auth_plugins *p, struct hooks *h)
{
    const struct conf *c = j->authd->conf;
    struct auth_attempt *a = &h->attempt;

    if (j->kind == JOB_TOKEN)
        a->token = a->password;
    h->said.verdict = j->kind == JOB_TOKEN ? auth_bearer(p, c, a) : auth_basic(p, c, a);
    if (h->said.verdict == AUTH_YES)
        auth_after(p, c, a);
    h->said.rehash = a->rehash;
}

void hooks_ask(const struct job *j, struct hooks *h)
{
    struct auth_plugins plugins;
    struct said *s = &h->said;

    h->attempt = job_attempt(j);
    h->attempt.params = auth_params_new();
    h->vms.n = 0;
    *s = (struct said){.verdict = AUTH_AWAY};
    if (h->attempt.params && plugins_of(j, &plugins) == 0) {
        if (j->kind == JOB_ASK)
            ask_request(j, &plugins, h);
        else if (j->nameless)
            s->verdict =
                auth_find_tenant(&plugins, j->authd->conf, &h->attempt) == 0 ? AUTH_YES : AUTH_NO;
        else
            ask_login(j, &plugins, h);
    }
    s->name = h->attempt.login.name;
    s->tenant = h->attempt.login.tenant;
    h->params = h->attempt.params ? auth_params_json(h->attempt.params) : NULL;
    s->params = h->params;
    if (!h->params)
        s->verdict = AUTH_AWAY;
}

void hooks_done(struct hooks *h)
{
    auth_params_free(h->attempt.params);
    free(h->params);
}
