// SPDX-License-Identifier: GPL-3.0-or-later
/* The hashing of one password, and what the asker is told. */
#include <string.h>

#include "auth/password.h"
#include "authd/authd-internal.h"
#include "base/log.h"
#include "base/str.h"

/* An asker that takes no answers is gone soon: its channel closes by itself. */
static void send_answer(struct authd *d, const struct ipc_message *m, const void *msg)
{
    int r = ipc_send(d->channel, m, msg, -EBADF);

    if (r < 0)
        log_debug("answer %s not sent: %s", m->name, strerror(-r));
}

void authd_answer_user(struct authd *d, const struct auth_user *u)
{
    send_answer(d, &auth_user_msg, u);
}

void authd_answer_token(struct authd *d, const struct auth_token *t)
{
    send_answer(d, &auth_token_msg, t);
}

void authd_answer_asked(struct authd *d, const struct auth_asked *a)
{
    send_answer(d, &auth_asked_msg, a);
}

void authd_answer(struct authd *d, enum job_kind kind, uint64_t id, enum auth_status status)
{
    switch (kind) {
    case JOB_USER:
    case JOB_TOKEN:
        authd_answer_user(d, &(struct auth_user){.id = id, .status = status, .params = "{}"});
        break;
    case JOB_ADMIN:
        send_answer(d, &auth_admin_msg, &(struct auth_admin){.id = id, .status = status});
        break;
    case JOB_HASH:
        send_answer(d, &auth_hashed_msg, &(struct auth_hashed){.id = id, .status = status});
        break;
    case JOB_ASK:
        authd_answer_asked(d, &(struct auth_asked){.id = id, .status = status, .params = "{}"});
        break;
    case JOB_MAKE:
        authd_answer_token(d, &(struct auth_token){.id = id, .status = status});
        break;
    }
}

void job_answer(struct job *j, enum auth_status status)
{
    authd_answer(j->authd, j->kind, j->id, status);
    job_free(j);
}

static void on_rehashed(void *arg, const struct db_result *r)
{
    if (db_status(r) != DB_OK)
        log_warning("a password's old hash was not replaced, ignoring: %s", db_error(r));
}

static void rehash(const struct job *j)
{
    char hash[PASSWORD_HASH_MAX];
    struct qvd_error err;

    if (password_hash(j->password, hash, &err) < 0) {
        log_warning("a password's old hash was not replaced, ignoring: %s", err.text);
        return;
    }
    if (!store_auth_rehash(j->authd->db, j->kind == JOB_ADMIN, j->account_id, j->stored, hash,
                           on_rehashed, NULL))
        log_warning("a password's old hash was not replaced, ignoring: out of memory");
    explicit_bzero(hash, sizeof hash);
}

/* Who may not come in is not named when there is no such account: people type passwords there. */
static void log_denied(const struct job *j, const char *why)
{
    const char *kind = j->kind == JOB_ADMIN ? "administrator" : "user";

    log_info("%s %s%s%s denied from %s: %s", kind, j->account_id ? j->login.name : "(unknown)",
             j->account_id ? "@" : "", j->account_id ? j->login.tenant : "",
             j->source[0] ? j->source : "an unknown address", why);
}

static void answer_good(struct job *j)
{
    struct authd *d = j->authd;

    if (j->account_key)
        throttle_clear(d->accounts, j->account_key);
    throttle_forgive(d->sources, j->source);
    if (j->rehash)
        rehash(j);
    if (j->kind == JOB_ADMIN) {
        const struct auth_admin a = {.id = j->id,
                                     .status = AUTH_OK,
                                     .admin_id = (uint64_t)j->account_id,
                                     .tenant_id = j->tenant_id};
        send_answer(d, &auth_admin_msg, &a);
    } else {
        const struct auth_user u = {.id = j->id,
                                    .status = AUTH_OK,
                                    .user_id = (uint64_t)j->account_id,
                                    .tenant_id = j->tenant_id,
                                    .login = j->stored_login,
                                    .params = j->params ? j->params : "{}",
                                    .asks = job_asks(j, j->tenant_id)};
        authd_answer_user(d, &u);
    }
    job_free(j);
}

void job_finish(struct job *j)
{
    if (j->account_id && !j->blocked) {
        answer_good(j);
        return;
    }
    log_denied(j, j->account_id ? "blocked" : "no such account");
    job_answer(j, AUTH_DENIED);
}

/* What a good login changed. 0; -ENOMEM. */
static must_check int keep(struct job *j, const struct said *s)
{
    j->rehash = s->rehash;
    j->params = strdup(s->params);
    if (!j->params)
        return -ENOMEM;
    /* Another account than was looked up, or one that was not there: perhaps it is now. */
    if (strcmp(s->name, j->login.name) == 0 && strcmp(s->tenant, j->login.tenant) == 0 &&
        j->account_id)
        return 0;
    j->state = JOB_AGAIN;
    int r = str_copy(j->login.name, sizeof j->login.name, s->name);
    return r < 0 ? r : str_copy(j->login.tenant, sizeof j->login.tenant, s->tenant);
}

static void answer_login(struct job *j, const struct said *s)
{
    if (s->verdict == AUTH_AWAY) {
        if (j->account_key)
            throttle_forgive(j->authd->accounts, j->account_key);
        throttle_forgive(j->authd->sources, j->source);
        job_answer(j, AUTH_UNAVAILABLE);
    } else if (s->verdict == AUTH_YES) {
        if (keep(j, s) < 0)
            job_answer(j, AUTH_BUSY);
        else if (j->state == JOB_AGAIN)
            job_look_up(j);
        else
            job_finish(j);
    } else if (j->kind == JOB_TOKEN) {
        job_use_token(j);
    } else {
        log_denied(j, j->account_id ? "wrong password" : "no such account");
        job_answer(j, AUTH_DENIED);
    }
}

void job_heard(struct job *j, const struct said *s)
{
    if (j->kind == JOB_ASK)
        job_answer_ask(j, s);
    else if (j->nameless)
        job_named(j, s);
    else
        answer_login(j, s);
}

static void run_plugins(struct job *j)
{
    struct hooks h;

    if (j->apart) {
        apart_ask(j);
        return;
    }
    hooks_ask(j, &h);
    job_heard(j, &h.said);
    hooks_done(&h);
}

static void run_hash(struct job *j)
{
    char hash[PASSWORD_HASH_MAX];
    struct qvd_error err;

    if (password_hash(j->password, hash, &err) < 0) {
        job_answer(j, AUTH_DENIED);
        return;
    }
    const struct auth_hashed h = {.id = j->id, .status = AUTH_OK, .hash = hash};
    send_answer(j->authd, &auth_hashed_msg, &h);
    explicit_bzero(hash, sizeof hash);
    job_free(j);
}

void job_run(struct job *j)
{
    j->state = JOB_LOOKUP; /* not to be run again */
    if (j->kind == JOB_HASH)
        run_hash(j);
    else
        run_plugins(j);
}
