// SPDX-License-Identifier: GPL-3.0-or-later
/* AUTH: who is it? What was good on this connection a while ago needs no second look: tokens may be
 * for one use, and a hash takes its time. */
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

/* Credentials are not kept, only this. 0 or -EIO. */
static must_check int digest_of(const struct session *s, uint8_t ret[32])
{
    unsigned len = 0;
    size_t login = strlen(s->login) + 1, secret = strlen(s->secret), n = 1 + login + secret;
    _cleanup_(free_p) uint8_t *all = malloc(n);

    if (!all)
        return -ENOMEM;
    all[0] = (uint8_t)s->credentials;
    memcpy(all + 1, s->login, login);
    memcpy(all + 1 + login, s->secret, secret);
    bool ok = HMAC(EVP_sha256(), s->broker->key, sizeof s->broker->key, all, n, ret, &len) != NULL;
    explicit_bzero(all, n);
    return ok && len == 32 ? 0 : -EIO;
}

enum session_event session_known(struct session *s)
{
    session_forget_env(s);
    if (s->kind == L7R_TOKEN || (s->kind == L7R_AUTH && s->store_auth))
        return SESSION_EV_TOKEN;
    if (s->kind == L7R_AUTH)
        return session_answer(s, "application/json", strdup("{}"));
    return SESSION_EV_DONE;
}

static enum session_event authenticated(struct session *s)
{
    s->authenticated = true;
    return s->asks ? SESSION_EV_HOOK : session_known(s);
}

/* Keeps who it is for the connection's next requests. */
static void remember(struct session *s, const struct auth_user *u, const uint8_t digest[32])
{
    struct conn *c = s->link && s->conn ? link_conn(s->link, s->conn) : NULL;

    if (!c)
        return;
    free(c->params);
    free(c->login);
    c->params = strdup(u->params);
    c->login = strdup(u->login);
    c->asks = u->asks;
    c->user_id = u->user_id;
    c->tenant_id = u->tenant_id;
    c->token_vm_id = u->token_vm_id;
    c->token_until = u->token_until;
    memcpy(c->digest, digest, sizeof c->digest);
    c->since = clock_ms();
    c->known = c->params && c->login;
}

static enum session_event take_user(struct session *s, const struct auth_user *u)
{
    uint8_t digest[32];

    s->user_id = u->user_id;
    s->token_vm_id = u->token_vm_id;
    s->token_until = u->token_until;
    s->tenant_id = u->tenant_id;
    s->asks = u->asks;
    s->user_params = strdup(u->params);
    s->user_login = strdup(u->login);
    if (!s->user_params || !s->user_login)
        return session_refuse(s, 503, "out of memory");
    if (digest_of(s, digest) == 0)
        remember(s, u, digest);
    explicit_bzero(digest, sizeof digest);
    s->broker->counters.auth_ok++;
    return authenticated(s);
}

static void answered(void *arg, const struct auth_answer *a)
{
    struct session *s = arg;

    s->auth_call = 0;
    s->phases.auth = session_step_ms(s);
    switch (a->status) {
    case AUTH_OK:
        session_event(s, take_user(s, &a->user));
        break;
    case AUTH_DENIED:
    case AUTH_THROTTLED:
        /* authd names whom it knows; what else was typed may be a password. */
        log_info("login refused: a %s from %s%s",
                 s->credentials == L7R_BASIC ? "password" : "token",
                 s->source[0] ? s->source : "a balancer itself",
                 a->status == AUTH_THROTTLED ? " (too many failures)" : "");
        session_event(s, session_refuse(s, 401, "Unauthorized"));
        break;
    default:
        session_event(s, session_refuse(s, 503, "%s",
                                        a->status == AUTH_BUSY
                                            ? "Too many logins at once. Retry later"
                                            : "Logins are not possible now. Retry later"));
    }
}

static bool remembered(struct session *s)
{
    struct conn *c = link_conn(s->link, s->conn);
    uint8_t digest[32];
    /* Not for ever: who is blocked, or whose password has changed, may have a connection left. */
    bool fresh =
        c && c->known && clock_ms() - c->since < conf_ms(s->broker->conf, "l7r.auth.remember");
    bool same = fresh && digest_of(s, digest) == 0 && bytes_equal(digest, c->digest, sizeof digest);

    if (!same)
        return false;
    s->user_id = c->user_id;
    s->token_vm_id = c->token_vm_id;
    s->token_until = c->token_until;
    s->tenant_id = c->tenant_id;
    s->asks = c->asks;
    s->user_params = strdup(c->params);
    s->user_login = strdup(c->login);
    s->phases.auth = 0;
    return s->user_params && s->user_login;
}

static bool shares_too_much(const struct session *s)
{
    const struct conf *c = s->broker->conf;
    int64_t nuls = 0;

    for (size_t i = 0; i < s->env_len; i++)
        nuls += s->env[i] == 0;
    return nuls / 2 > conf_int(c, "l7r.auth.env.max") ||
           (int64_t)s->env_len > conf_int(c, "l7r.auth.env.size");
}

enum session_event step_auth(struct session *s)
{
    const struct ipc_bytes env = {s->env, s->env_len};
    struct auth_verify_user basic = {.login = s->login,
                                     .password = s->secret,
                                     .source = s->source,
                                     .file_name = s->file_name,
                                     .env = env};
    struct auth_verify_token bearer = {
        .token = s->secret, .source = s->source, .file_name = s->file_name, .env = env};

    if (broker_refuses(s->broker))
        return session_refuse(s, 503, "%s", broker_refuses(s->broker));
    if (s->credentials == L7R_NONE)
        return session_refuse(s, 401, "Unauthorized");
    if (shares_too_much(s))
        return session_refuse(s, 431, "The shared environment is too long");
    if (remembered(s))
        return authenticated(s);
    s->broker->counters.auth_attempts++;
    /* The step's own limit comes first. */
    auth_client_set_limit(s->broker->auth, conf_ms(s->broker->conf, "l7r.authd.timeout") + 5000);
    if (s->credentials == L7R_BASIC)
        s->auth_call = auth_client_verify_user(s->broker->auth, basic, answered, s);
    else
        s->auth_call = auth_client_verify_token(s->broker->auth, bearer, answered, s);
    if (!s->auth_call)
        return session_refuse(s, 401, "Unauthorized");
    return SESSION_EV_NONE;
}
