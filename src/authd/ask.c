// SPDX-License-Identifier: GPL-3.0-or-later
/* Requests of those who are known: what their plugins say to a list, an access, a connection. */
#include <string.h>

#include "authd/authd-internal.h"
#include "base/str.h"

bool job_asks(const struct job *j, int64_t tenant)
{
    struct auth_plugins plugins;
    struct qvd_error err;

    /* What hooks a file has is known to the process that loads it only. */
    return auth_plugins_are_files(j->authd->conf, tenant) ||
           (auth_plugins_of(j->authd->conf, tenant, &plugins, &err) == 0 && auth_asks(&plugins));
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
    job_ready(j);
    return 0;
}

void job_answer_ask(struct job *j, const struct said *s)
{
    if (s->verdict != AUTH_YES) {
        job_answer(j, AUTH_UNAVAILABLE);
        return;
    }
    const struct auth_asked answer = {.id = j->id,
                                      .status = AUTH_OK,
                                      .allowed = s->allowed,
                                      .lists = s->lists,
                                      .vms = s->vms,
                                      .params = s->params};
    authd_answer_asked(j->authd, &answer);
    job_free(j);
}
