// SPDX-License-Identifier: GPL-3.0-or-later
/* Administrators' sessions: a random ticket, shown once, stored as its SHA-256; it lives as long as
 * it is used. */
#include <openssl/sha.h>
#include <string.h>

#include "api/api-internal.h"
#include "base/log.h"
#include "base/str.h"

void api_ticket_hash(const char *ticket, uint8_t dst[STORE_TICKET_HASH_LEN])
{
    SHA256((const unsigned char *)ticket, strlen(ticket), dst);
}

static void on_session(void *arg, enum admin_status status, const struct admin_who *who)
{
    struct api_request *q = arg;
    struct qvd_error err = {.text = "the database does not answer; try again"};

    if (status != ADMIN_OK) {
        api_answer_error(q, status, &err);
        return;
    }
    if (!who->id) {
        api_answer_text_error(q, 401, "login", "the ticket is not valid (any more); log in again");
        return;
    }
    if (str_copy(q->admin_name, sizeof q->admin_name, who->name) < 0 ||
        str_copy(q->admin_tenant, sizeof q->admin_tenant, who->tenant) < 0) {
        api_answer_text_error(q, 500, "internal", "the name is too long");
        return;
    }
    q->who = (struct admin_who){who->id, who->tenant_id, q->admin_name, q->admin_tenant};
    q->route->fn(q);
}

void api_authenticate(struct api_request *q, const char *authorization)
{
    struct http_auth a = {0};
    struct qvd_error err;
    int r = http_auth_parse(authorization, &a);
    bool fits = r == 0 && a.scheme == HTTP_AUTH_BEARER && strlen(a.token) == API_TICKET_LEN;

    if (fits)
        api_ticket_hash(a.token, q->ticket_hash);
    http_auth_done(&a);
    if (!fits) {
        api_answer_text_error(q, 401, "login",
                              "log in first: POST /api/1/login, then Authorization: Bearer TICKET");
        return;
    }
    enum admin_status st = store_admin_session_use(q->api->db, q->ticket_hash,
                                                   conf_ms(q->api->conf, "api.session.expiration"),
                                                   on_session, q, &err);
    (void)api_began(q, st, &err);
}

static void on_session_made(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK) {
        api_answer_error(q, done->status, &done->err);
        return;
    }
    log_info("[admin:%lld] logged in from %s", (long long)q->who.id,
             q->conn ? q->conn->source : "an address that has gone");
    api_answer_json(q, 200,
                    json_pack("{s:s,s:I,s:I}", "ticket", q->texts[0], "id", (json_int_t)q->who.id,
                              "tenant_id", (json_int_t)q->who.tenant_id));
}

/* What an answer of authd that is not OK means to an administrator. */
static void answer_auth(struct api_request *q, enum auth_status status)
{
    switch (status) {
    case AUTH_DENIED:
        api_answer_text_error(q, 401, "login", "wrong login, tenant or password, or blocked");
        break;
    case AUTH_THROTTLED:
        api_answer_text_error(q, 429, "throttled",
                              "too many failed logins; wait half a minute and try again");
        break;
    default:
        api_answer_text_error(q, 503, "unavailable", "passwords cannot be checked now; try again");
        break;
    }
}

static void on_verified(void *arg, const struct auth_answer *a)
{
    struct api_request *q = arg;
    struct qvd_error err;

    if (a->status != AUTH_OK) {
        answer_auth(q, a->status);
        return;
    }
    q->who.id = (int64_t)a->admin.admin_id;
    q->who.tenant_id = a->admin.tenant_id;
    char *ticket = malloc(API_TICKET_LEN + 1);
    if (!ticket || random_alnum(ticket, API_TICKET_LEN) < 0) {
        free(ticket);
        api_answer_text_error(q, 503, "unavailable", "no ticket can be made; try again");
        return;
    }
    q->texts[q->n_texts++] = ticket;
    api_ticket_hash(ticket, q->ticket_hash);
    const char *ip = q->conn && q->conn->source[0] ? q->conn->source : NULL;
    enum admin_status st = store_admin_session_new(q->api->db, q->ticket_hash, q->who.id, ip,
                                                   conf_ms(q->api->conf, "api.session.expiration"),
                                                   on_session_made, q, &err);
    (void)api_began(q, st, &err);
}

void api_login(struct api_request *q)
{
    const char *login = NULL, *password = NULL, *tenant = NULL;
    struct qvd_error err;
    json_error_t jerr;

    if (!q->body || json_unpack_ex(q->body, &jerr, JSON_STRICT, "{s:s,s:s,s?s}", "login", &login,
                                   "password", &password, "tenant", &tenant) < 0) {
        qvd_error_set(&err, 0, "{login, password, tenant} expected: %s",
                      q->body ? jerr.text : "no body");
        api_answer_text_error(q, 400, "bad-request", err.text);
        return;
    }
    const struct auth_verify_admin ask = {.name = login,
                                          .tenant = tenant ? tenant : "",
                                          .password = password,
                                          .source = q->conn->source};
    if (!auth_client_verify_admin(q->api->auth, ask, on_verified, q))
        api_answer_text_error(q, 401, "login", "wrong login, tenant or password, or blocked");
}

static void on_ended(void *arg, const struct admin_done *done)
{
    struct api_request *q = arg;

    if (done->status != ADMIN_OK)
        api_answer_error(q, done->status, &done->err);
    else
        api_answer_json(q, 200, json_object());
}

void api_logout(struct api_request *q)
{
    struct qvd_error err;
    enum admin_status st = store_admin_session_end(q->api->db, q->ticket_hash, on_ended, q, &err);

    (void)api_began(q, st, &err);
}

void api_session(struct api_request *q)
{
    api_answer_json(q, 200,
                    json_pack("{s:I,s:s,s:s,s:b}", "id", (json_int_t)q->who.id, "name",
                              q->admin_name, "tenant", q->admin_tenant, "superadmin",
                              q->who.tenant_id == 0));
}

/* One's own password: the present one is asked for, so that a stolen ticket changes none. */

static void on_new_hash(void *arg, const struct auth_answer *a)
{
    struct api_request *q = arg;
    struct qvd_error err;

    if (a->status != AUTH_OK) {
        answer_auth(q, a->status == AUTH_DENIED ? AUTH_UNAVAILABLE : a->status);
        return;
    }
    enum admin_status st = store_admin_password(q->api->db, q->who.id, a->hashed.hash,
                                                q->ticket_hash, on_ended, q, &err);
    if (api_began(q, st, &err))
        log_info("[admin:%lld] own password changed", (long long)q->who.id);
}

static void on_old_verified(void *arg, const struct auth_answer *a)
{
    struct api_request *q = arg;
    const char *fresh = json_string_value(json_object_get(q->body, "new"));

    if (a->status == AUTH_DENIED)
        api_answer_text_error(q, 403, "forbidden", "the present password is wrong");
    else if (a->status != AUTH_OK)
        answer_auth(q, a->status);
    else if (!auth_client_hash(q->api->auth, (struct auth_hash){.password = fresh}, on_new_hash, q))
        api_answer_text_error(q, 422, "invalid", "the new password is too long");
}

void api_password(struct api_request *q)
{
    const char *password = json_string_value(json_object_get(q->body, "password"));
    const char *fresh = json_string_value(json_object_get(q->body, "new"));

    if (!password || !fresh || !*fresh || strlen(fresh) > 511) {
        api_answer_text_error(q, 400, "bad-request",
                              "{password, new} expected, the new one of 1 to 511 bytes");
        return;
    }
    const struct auth_verify_admin ask = {.name = q->admin_name,
                                          .tenant = q->admin_tenant,
                                          .password = password,
                                          .source = q->conn ? q->conn->source : ""};
    if (!auth_client_verify_admin(q->api->auth, ask, on_old_verified, q))
        api_answer_text_error(q, 503, "unavailable", "out of memory");
}
