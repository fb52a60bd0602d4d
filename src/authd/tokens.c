// SPDX-License-Identifier: GPL-3.0-or-later
/* Tokens: the database alone decides; guessing 256 bits is hopeless, but sources that try are
 * slowed down as with passwords. */
#include <string.h>

#include "auth/token.h"
#include "authd/authd-internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define SWEEP_MS 600000

static void on_used(void *arg, enum db_status status, const struct store_token_use *use)
{
    struct job *j = arg;

    if (status != DB_OK) {
        job_answer(j, AUTH_UNAVAILABLE);
        return;
    }
    if (!use->user_id) {
        if (j->source[0] && throttle_count(j->authd->sources, j->source, clock_ms()) < 0)
            log_debug("out of memory");
        log_info("token denied from %s", j->source[0] ? j->source : "an unknown address");
        job_answer(j, AUTH_DENIED);
        return;
    }
    const struct auth_user u = {.id = j->id,
                                .status = AUTH_OK,
                                .user_id = (uint64_t)use->user_id,
                                .tenant_id = use->tenant_id,
                                .login = use->login,
                                .params = use->params,
                                .token_vm_id = (uint64_t)use->vm_id,
                                .token_until = use->until,
                                .asks = job_asks(j, use->tenant_id)};
    authd_answer_user(j->authd, &u);
    job_free(j);
}

void job_use_token(struct job *j)
{
    uint8_t hash[TOKEN_HASH_LEN];

    token_hash(j->password, hash);
    if (!store_auth_token_use(j->authd->db, hash, (int64_t)j->vm_id, on_used, j))
        job_answer(j, AUTH_BUSY);
}

/* Whether a plugin for all tenants may know tokens: whose it is nobody can tell before. */
static bool plugins_take_tokens(const struct authd *d)
{
    struct auth_plugins all;
    struct qvd_error err;

    if (auth_plugins_are_files(d->conf, -1))
        return true;
    if (auth_plugins_of(d->conf, -1, &all, &err) < 0)
        return false;
    for (size_t i = 0; i < all.n; i++)
        if (all.at[i]->authenticate_bearer)
            return true;
    return false;
}

int on_verify_token(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_verify_token *m = msg;
    struct job *j;

    if (!m->token[0]) {
        authd_answer(d, JOB_TOKEN, m->id, AUTH_DENIED);
        return 0;
    }
    authd_set_limits(d);
    if (m->source[0] && throttle_wait(d->sources, m->source, clock_ms()) > 0) {
        authd_answer(d, JOB_TOKEN, m->id, AUTH_THROTTLED);
        return 0;
    }
    j = job_new(d, JOB_TOKEN, m->id);
    if (!j) {
        authd_answer(d, JOB_TOKEN, m->id, AUTH_BUSY);
        return 0;
    }
    j->vm_id = m->vm_id;
    int r = job_fill(j, "", m->token, m->source, m->file_name, m->env);
    if (r < 0) {
        job_answer(j, AUTH_BUSY);
    } else if (plugins_take_tokens(d)) {
        job_ready(j);
    } else {
        job_use_token(j);
    }
    return r == -EBADMSG ? r : 0;
}

static void on_made(void *arg, enum db_status status, int64_t params_id)
{
    struct job *j = arg;

    if (status != DB_OK) {
        job_answer(j, status == DB_CONSTRAINT ? AUTH_DENIED : AUTH_UNAVAILABLE);
        return;
    }
    if (!params_id) {
        log_info("a token was not made: its user has l7r.auth.token.max of them");
        job_answer(j, AUTH_BUSY);
        return;
    }
    const struct auth_token t = {.id = j->id,
                                 .status = AUTH_OK,
                                 .auth_params_id = (uint64_t)params_id,
                                 .token = j->store_only ? "" : j->token};
    authd_answer_token(j->authd, &t);
    job_free(j);
}

int on_make_token(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_make_token *m = msg;
    struct job *j = job_new(d, JOB_MAKE, m->id);
    uint8_t hash[TOKEN_HASH_LEN];

    if (!j) {
        authd_answer(d, JOB_MAKE, m->id, AUTH_BUSY);
        return 0;
    }
    j->store_only = m->store_only;
    if (token_new(j->token) < 0) {
        job_answer(j, AUTH_UNAVAILABLE);
        return 0;
    }
    token_hash(j->token, hash);
    /* Parameters alone are kept by a token that nobody is told, so that they too have an end. */
    const struct store_token_new t = {.hash = hash,
                                      .user_id = (int64_t)m->user_id,
                                      .vm_id = (int64_t)m->vm_id,
                                      .ttl = m->ttl,
                                      .until = m->until,
                                      .max = (unsigned)conf_int(d->conf, "l7r.auth.token.max"),
                                      .multi_use = m->multi_use,
                                      .params = m->params};
    if (!store_auth_token_new(d->db, &t, on_made, j))
        job_answer(j, AUTH_BUSY);
    return 0;
}

static void on_swept(void *arg, const struct db_result *r)
{
    if (db_status(r) != DB_OK)
        log_debug("expired tokens were not removed: %s", db_error(r));
}

void authd_sweep_tokens(void *arg)
{
    struct authd *d = arg;

    if (!store_auth_sweep(d->db, on_swept, d))
        log_debug("expired tokens were not removed: out of memory");
    ev_timer_arm_jittered(d->sweep, SWEEP_MS, 20);
}
