// SPDX-License-Identifier: GPL-3.0-or-later
/* Questions in, their queue, and which of them is next. */
#include "authd/authd.h"

#include <string.h>

#include "auth/login.h"
#include "auth/password.h"
#include "authd/authd-internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "ipc/log-msg.h"

void authd_set_limits(struct authd *d)
{
    const struct conf *c = d->conf;
    struct throttle_limits l = {
        .free = (unsigned)conf_int(c, "l7r.auth.throttle.account.free"),
        .first_ms = (uint32_t)conf_ms(c, "l7r.auth.throttle.account.wait"),
        .longest_ms = (uint32_t)conf_ms(c, "l7r.auth.throttle.wait.max"),
        .forgive_ms = (uint32_t)conf_ms(c, "l7r.auth.throttle.forgive"),
        .keys_max = (unsigned)conf_int(c, "l7r.auth.throttle.keys.max"),
    };

    throttle_set_limits(d->accounts, &l);
    l.free = (unsigned)conf_int(c, "l7r.auth.throttle.source.free");
    l.first_ms = (uint32_t)conf_ms(c, "l7r.auth.throttle.source.wait");
    throttle_set_limits(d->sources, &l);
}

struct job *job_new(struct authd *d, enum job_kind kind, uint64_t id)
{
    if (d->n_jobs >= (size_t)conf_int(d->conf, "l7r.authd.queue.max"))
        return NULL;
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    *j = (struct job){.authd = d, .kind = kind, .id = id, .received = clock_ms()};
    list_init(&j->node);
    list_append(&d->jobs, &j->node);
    d->n_jobs++;
    return j;
}

struct job *job_free(struct job *j)
{
    if (!j)
        return NULL;
    list_remove(&j->node);
    j->authd->n_jobs--;
    password_wipe(j->password);
    password_wipe(j->stored);
    explicit_bzero(j->token, sizeof j->token);
    if (j->env)
        explicit_bzero(j->env, j->env_len);
    free(j->env);
    free(j->file_name);
    free(j->typed);
    free(j->params);
    free(j->password);
    free(j->source);
    free(j->account_key);
    free(j->stored);
    free(j->stored_login);
    free(j);
    return NULL;
}

/* When it has waited too long. */
static int64_t late_at(const struct job *j)
{
    int64_t since = j->not_before > j->received ? j->not_before : j->received;

    return since + conf_ms(j->authd->conf, "l7r.authd.queue.timeout") + 1;
}

static bool has_place(const struct job *j)
{
    return !j->apart || apart_has_place(j->authd, j->tenant_id);
}

/* The oldest that may be hashed now; those that waited too long are answered. */
static struct job *next_job(struct authd *d, int64_t now)
{
    QVD_LIST_FOREACH (j, &d->jobs, struct job, node) {
        if (j->state != JOB_READY)
            continue;
        if (late_at(j) <= now)
            job_answer(j, AUTH_BUSY);
        else if (j->not_before <= now && has_place(j))
            return j;
    }
    return NULL;
}

static void run(void *arg)
{
    struct authd *d = arg;
    struct job *j = next_job(d, clock_ms());

    if (j)
        job_run(j);
    authd_schedule(d);
}

void authd_schedule(struct authd *d)
{
    int64_t now = clock_ms(), at = INT64_MAX;

    QVD_LIST_FOREACH (j, &d->jobs, struct job, node) {
        int64_t when = has_place(j) ? j->not_before : late_at(j);
        if (j->state == JOB_READY && when < at)
            at = when;
    }
    if (at != INT64_MAX)
        ev_timer_arm(d->run, at > now ? (uint64_t)(at - now) : 0);
}

void job_ready(struct job *j)
{
    struct authd *d = j->authd;

    j->apart = j->kind != JOB_ADMIN && auth_plugins_are_files(d->conf, j->tenant_id);
    if (j->apart && !apart_may_wait(d, j->tenant_id)) {
        job_answer(j, AUTH_BUSY);
        return;
    }
    j->state = JOB_READY;
    authd_schedule(d);
}

/* What is asked of accounts and sources before anything is done for a try. 0; else the answer. */
static enum auth_status admit(struct job *j)
{
    struct authd *d = j->authd;

    authd_set_limits(d);
    int64_t wait = throttle_wait(d->accounts, j->account_key, j->received);
    int64_t source = j->source[0] ? throttle_wait(d->sources, j->source, j->received) : 0;

    wait = source > wait ? source : wait;
    if (wait > conf_ms(d->conf, "l7r.authd.queue.timeout"))
        return AUTH_THROTTLED;
    if (throttle_count(d->accounts, j->account_key, j->received) < 0 ||
        (j->source[0] && throttle_count(d->sources, j->source, j->received) < 0))
        return AUTH_BUSY;
    j->not_before = j->received + wait;
    return AUTH_OK;
}

static void on_account(void *arg, enum db_status status, const struct store_account *a)
{
    struct job *j = arg;
    struct authd *d = j->authd;

    if (status != DB_OK) {
        /* Nothing was learnt: the try does not count. */
        if (j->account_key)
            throttle_forgive(d->accounts, j->account_key);
        throttle_forgive(d->sources, j->source);
        job_answer(j, AUTH_UNAVAILABLE);
        return;
    }
    j->account_id = a->id;
    j->tenant_id = a->id || a->tenant_id > 0 ? a->tenant_id : -1;
    j->blocked = a->blocked;
    password_wipe(j->stored);
    free(j->stored);
    free(j->stored_login);
    j->stored = a->password ? strdup(a->password) : NULL;
    j->stored_login = a->login ? strdup(a->login) : NULL;
    if ((a->password && !j->stored) || (a->login && !j->stored_login)) {
        job_answer(j, AUTH_BUSY);
    } else if (j->state == JOB_AGAIN) {
        job_finish(j);
    } else {
        job_ready(j);
    }
}

void job_look_up(struct job *j)
{
    struct db *db = j->authd->db;
    const struct login *l = &j->login;
    struct db_request *q = j->kind == JOB_ADMIN
                               ? store_auth_admin(db, l->tenant, l->name, on_account, j)
                               : store_auth_user(db, l->tenant, l->name, on_account, j);

    if (!q)
        job_answer(j, AUTH_BUSY);
}

struct auth_attempt job_attempt(const struct job *j)
{
    return (struct auth_attempt){
        .typed = j->typed,
        .password = j->password,
        .source = j->source,
        .file_name = j->file_name,
        .env = {j->env, j->env_len},
        .login = j->login,
        .user_id = j->account_id,
        .tenant_id = j->tenant_id,
        .stored = j->stored,
    };
}

/* What came with a user's login or token. */
int job_fill(struct job *j, const char *typed, const char *password, const char *source,
             const char *file_name, struct ipc_bytes env)
{
    if (!auth_env_valid(env))
        return -EBADMSG;
    j->tenant_id = -1;
    j->typed = strdup(typed);
    j->password = strdup(password);
    j->source = strdup(source);
    j->file_name = strdup(file_name);
    j->env = malloc(env.len + 1);
    if (!j->typed || !j->password || !j->source || !j->file_name || !j->env)
        return -ENOMEM;
    if (env.len)
        memcpy(j->env, env.data, env.len);
    j->env_len = env.len;
    return 0;
}

/* The account is known by name: may it be tried, and is it there? */
static void begin(struct job *j)
{
    j->account_key =
        str_printf("%c%s\n%s", j->kind == JOB_USER ? 'u' : 'a', j->login.tenant, j->login.name);
    enum auth_status status = j->account_key ? admit(j) : AUTH_BUSY;

    if (status != AUTH_OK)
        job_answer(j, status);
    else
        job_look_up(j);
}

void job_named(struct job *j, const struct said *s)
{
    j->nameless = false;
    j->received = clock_ms();
    if (s->verdict != AUTH_YES)
        job_answer(j, s->verdict == AUTH_AWAY ? AUTH_UNAVAILABLE : AUTH_DENIED);
    else if (str_copy(j->login.name, sizeof j->login.name, s->name) < 0 ||
             str_copy(j->login.tenant, sizeof j->login.tenant, s->tenant) < 0)
        job_answer(j, AUTH_BUSY);
    else
        begin(j);
}

static int on_verify_user(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_verify_user *m = msg;
    struct job *j = job_new(d, JOB_USER, m->id);

    if (!j) {
        authd_answer(d, JOB_USER, m->id, AUTH_BUSY);
        return 0;
    }
    int r = job_fill(j, m->login, m->password, m->source, m->file_name, m->env);
    if (r < 0) {
        job_answer(j, AUTH_BUSY);
        return r == -EBADMSG ? r : 0;
    }
    j->nameless = true;
    if (!m->password[0])
        job_answer(j, AUTH_DENIED);
    else if (auth_plugins_are_files(d->conf, -1))
        job_ready(j);
    else
        job_run(j); /* it takes no time to cut a name in two */
    return 0;
}

static int on_verify_admin(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_verify_admin *m = msg;
    bool keep_case = conf_bool(d->conf, "model.user.login.case-sensitive");
    struct job *j = job_new(d, JOB_ADMIN, m->id);

    if (!j) {
        authd_answer(d, JOB_ADMIN, m->id, AUTH_BUSY);
        return 0;
    }
    if (login_normalize(m->name, keep_case, j->login.name) < 0 ||
        login_normalize(m->tenant[0] ? m->tenant : "*", keep_case, j->login.tenant) < 0 ||
        !m->password[0])
        job_answer(j, AUTH_DENIED);
    else if (job_fill(j, m->name, m->password, m->source, "", (struct ipc_bytes){0}) < 0)
        job_answer(j, AUTH_BUSY);
    else
        begin(j);
    return 0;
}

static int on_hash(void *owner, const void *msg, int *fd)
{
    struct authd *d = owner;
    const struct auth_hash *m = msg;
    struct job *j = job_new(d, JOB_HASH, m->id);

    if (!j) {
        authd_answer(d, JOB_HASH, m->id, AUTH_BUSY);
        return 0;
    }
    j->password = strdup(m->password);
    j->state = JOB_READY;
    if (j->password)
        authd_schedule(d);
    else
        job_answer(j, AUTH_BUSY);
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&auth_verify_user_msg,  ~0u, on_verify_user },
    {&auth_verify_admin_msg, ~0u, on_verify_admin},
    {&auth_verify_token_msg, ~0u, on_verify_token},
    {&auth_make_token_msg,   ~0u, on_make_token  },
    {&auth_ask_msg,          ~0u, on_ask         },
    {&auth_hash_msg,         ~0u, on_hash        },
    {&ipc_log_msg,           ~0u, ipc_on_log     },
};

static void on_closed(void *owner, int reason)
{
    struct authd *d = owner;

    d->closed(d->arg, reason);
}

int authd_new(struct ev_loop *loop, struct conf *conf, struct db *db, int fd,
              void (*closed)(void *arg, int reason), void *arg, struct authd **ret_authd)
{
    struct authd *d = calloc(1, sizeof *d);
    int r = -ENOMEM;

    if (!d) {
        fd_close(fd);
        return -ENOMEM;
    }
    *d = (struct authd){.loop = loop, .conf = conf, .db = db, .closed = closed, .arg = arg};
    list_init(&d->jobs);
    list_init(&d->aparts);
    static const struct throttle_limits no_limits = {0}; /* set before each use */
    d->accounts = throttle_new(&no_limits);
    d->sources = throttle_new(&no_limits);
    if (d->accounts && d->sources && ev_timer_new(loop, run, d, &d->run) == 0 &&
        ev_timer_new(loop, authd_sweep_tokens, d, &d->sweep) == 0)
        r = ipc_channel_new(loop, fd, handlers, ARRAY_SIZE(handlers), on_closed, d, &d->channel);
    else
        fd_close(fd);
    if (r < 0) {
        authd_free(d);
        return r;
    }
    ev_timer_arm_jittered(d->sweep, 600000, 50);
    *ret_authd = d;
    return 0;
}

struct authd *authd_free(struct authd *d)
{
    if (!d)
        return NULL;
    apart_end_all(d);
    QVD_LIST_FOREACH (j, &d->jobs, struct job, node)
        job_free(j);
    ipc_channel_free(d->channel);
    ev_timer_free(d->run);
    ev_timer_free(d->sweep);
    throttle_free(d->accounts);
    throttle_free(d->sources);
    free(d);
    return NULL;
}
