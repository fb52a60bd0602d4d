// SPDX-License-Identifier: GPL-3.0-or-later
/* Requests of those who are known: what their plugins say to a list, an access, a connection. */
#include <string.h>

#include "authd/authd-internal.h"
#include "base/log.h"
#include "base/str.h"

bool job_asks(const struct job *j, int64_t tenant)
{
    struct auth_plugins plugins;
    struct qvd_error err;

    return auth_plugins_of(j->authd->conf, tenant, &plugins, &err) == 0 && auth_asks(&plugins);
}

int on_ask(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_ask *m = msg;
    struct job *j = job_new(d, JOB_ASK, m->id);

    if (!j) {
        authd_answer(d, JOB_ASK, m->id, AUTH_BUSY);
        return 0;
    }
    int r = job_fill(j, m->login, "", m->source, m->file_name, m->env);
    if (r == 0)
        r = str_copy(j->login.name, sizeof j->login.name, m->login);
    if (r < 0) {
        job_answer(j, AUTH_BUSY);
        return r == -EBADMSG ? r : 0;
    }
    j->account_id = (int64_t)m->user_id;
    j->tenant_id = m->tenant_id;
    j->vm_id = m->vm_id;
    j->asked = (enum auth_ask_kind)m->kind;
    j->state = JOB_READY;
    authd_schedule(d);
    return 0;
}

static void ask(const struct job *j, const struct auth_plugins *p, struct auth_attempt *a,
                struct auth_vms *vms, struct auth_asked *answer)
{
    const struct conf *c = j->authd->conf;

    if (j->asked == AUTH_ASK_LIST) {
        answer->lists = auth_before_list(p, c, a, vms);
        answer->vms = (struct ipc_bytes){vms->ids, vms->n * sizeof *vms->ids};
        return;
    }
    answer->allowed = auth_allow(p, c, a, j->vm_id);
    if (j->asked == AUTH_ASK_CONNECT)
        auth_before_connect(p, c, a, j->vm_id);
}

void job_run_ask(struct job *j)
{
    struct auth_attempt a = job_attempt(j);
    struct auth_asked answer = {.id = j->id, .status = AUTH_OK};
    struct auth_plugins plugins;
    struct auth_vms vms = {.n = 0};
    struct qvd_error err;

    a.params = auth_params_new();
    if (!a.params) {
        job_answer(j, AUTH_BUSY);
        return;
    }
    if (auth_plugins_of(j->authd->conf, j->tenant_id, &plugins, &err) < 0) {
        log_error("%s", err.text);
        auth_params_free(a.params);
        job_answer(j, AUTH_UNAVAILABLE);
        return;
    }
    ask(j, &plugins, &a, &vms, &answer);
    _cleanup_(free_p) char *params = auth_params_json(a.params);
    auth_params_free(a.params);
    answer.params = params;
    if (!params) {
        job_answer(j, AUTH_BUSY);
        return;
    }
    authd_answer_asked(j->authd, &answer);
    job_free(j);
}
