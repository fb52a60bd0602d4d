// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/admin-config.h"

#include <stdio.h>

#include "store/admin-internal.h"

struct change {
    struct db *db;
    const char *what;
    const char *channel; /* to be told of a success, with "<kind> <id>" */
    int64_t id;
    union {
        admin_done_fn *done;
        admin_list_fn *list;
        admin_session_fn *session;
    } fn;
    void *arg;
};

static struct change *change_new(struct db *db, const char *what, void *arg)
{
    struct change *c = calloc(1, sizeof *c);

    if (c)
        *c = (struct change){.db = db, .what = what, .arg = arg};
    return c;
}

/* After the question was sent or not: c is freed when not. */
static enum admin_status sent(struct change *c, const struct db_request *q, struct qvd_error *err)
{
    if (q)
        return ADMIN_OK;
    free(c);
    qvd_error_set(err, ADMIN_AWAY, "out of memory");
    return ADMIN_AWAY;
}

static void on_done(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct change *c = arg;
    struct admin_done done = {0};

    done.status = store_admin_failed(r, c->what, &done.err);
    done.id = done.status == ADMIN_OK ? db_affected(r) : 0;
    if (done.status == ADMIN_OK && c->channel)
        db_notify_id(c->db, c->channel, c->channel, c->id);
    c->fn.done(c->arg, &done);
}

enum admin_status store_admin_config_set(struct db *db, int64_t tenant, const char *key,
                                         const char *value, admin_done_fn *fn, void *arg,
                                         struct qvd_error *err)
{
    struct change *c = change_new(db, "config", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.done = fn;
    c->channel = "config";
    c->id = tenant;
    if (!value)
        return sent(c,
                    db_query(db, "DELETE FROM configs WHERE tenant_id = $1 AND key = $2",
                             DB_PARAMS(DB_INT(tenant), DB_TEXT(key)), DB_REPEAT, on_done, c),
                    err);
    /* EXCLUDED would need the right to read values, secrets among them. */
    return sent(c,
                db_query(db,
                         "INSERT INTO configs (tenant_id, key, value) VALUES ($1, $2, $3)"
                         " ON CONFLICT (tenant_id, key) DO UPDATE SET value = $3",
                         DB_PARAMS(DB_INT(tenant), DB_TEXT(key), DB_TEXT(value)), DB_REPEAT,
                         on_done, c),
                err);
}

static void on_list(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct change *c = arg;
    struct admin_list list = {.rows = r};

    list.status = store_admin_failed(r, c->what, &list.err);
    list.n_rows = list.status == ADMIN_OK ? db_rows(r) : 0;
    list.total = list.n_rows;
    c->fn.list(c->arg, &list);
}

enum admin_status store_admin_config_list(struct db *db, int64_t tenant, admin_list_fn *fn,
                                          void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, "config", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.list = fn;
    return sent(c,
                db_query(db,
                         "SELECT key, value FROM config_values WHERE tenant_id = $1 ORDER BY key",
                         DB_PARAMS(DB_INT(tenant)), DB_REPEAT, on_list, c),
                err);
}

enum admin_status store_admin_config_ssl(struct db *db, const char *cert, const char *key,
                                         const char *ca, const char *crl, admin_done_fn *fn,
                                         void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, "config ssl", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.done = fn;
    c->channel = "config";
    c->id = -1;
    return sent(c,
                db_query(db,
                         "WITH n (key, value) AS (VALUES ('l7r.ssl.cert', $1), ('l7r.ssl.key', $2),"
                         "   ('l7r.ssl.ca', $3), ('l7r.ssl.crl', $4)),"
                         " d AS (DELETE FROM ssl_configs s USING n"
                         "        WHERE s.key = n.key AND n.value IS NULL),"
                         /* ON CONFLICT would need the right to read the private key. */
                         " u AS (UPDATE ssl_configs s SET value = n.value FROM n"
                         "        WHERE s.key = n.key AND n.value IS NOT NULL RETURNING s.key)"
                         " INSERT INTO ssl_configs (key, value)"
                         " SELECT key, value FROM n WHERE value IS NOT NULL"
                         "    AND key NOT IN (SELECT key FROM u)",
                         DB_PARAMS(DB_TEXT(cert), DB_TEXT(key), DB_TEXT(ca), DB_TEXT(crl)),
                         DB_REPEAT, on_done, c),
                err);
}

enum admin_status store_admin_session_new(struct db *db, const uint8_t *hash, int64_t admin,
                                          const char *ip, int64_t ttl_ms, admin_done_fn *fn,
                                          void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, "session", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.done = fn;
    return sent(c,
                db_query(db,
                         "WITH old AS (DELETE FROM api_sessions WHERE expires_at < now())"
                         " INSERT INTO api_sessions (ticket_hash, administrator_id, ip, expires_at)"
                         " VALUES ($1, $2, $3::inet, now() + $4::bigint * interval '1 ms')",
                         DB_PARAMS(DB_BYTES(hash, STORE_TICKET_HASH_LEN), DB_INT(admin),
                                   DB_TEXT(ip), DB_INT(ttl_ms)),
                         0, on_done, c),
                err);
}

static void on_session(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct change *c = arg;
    struct admin_who who = {0};
    struct qvd_error err;
    enum admin_status st = store_admin_failed(r, c->what, &err);

    if (st == ADMIN_OK && db_rows(r) == 1)
        who = (struct admin_who){.id = db_int(r, 0, 0),
                                 .tenant_id = db_int(r, 0, 1),
                                 .name = db_str(r, 0, 2),
                                 .tenant = db_str(r, 0, 3)};
    c->fn.session(c->arg, st, &who);
}

enum admin_status store_admin_session_use(struct db *db, const uint8_t *hash, int64_t ttl_ms,
                                          admin_session_fn *fn, void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, "session", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.session = fn;
    /* Prolonged only once a tenth of its time has passed: most requests write nothing. */
    return sent(c,
                db_query(db,
                         "WITH s AS (SELECT a.id, a.tenant_id, a.name, t.name AS tenant"
                         "   FROM api_sessions k JOIN administrators a ON a.id = k.administrator_id"
                         "   JOIN tenants t ON t.id = a.tenant_id"
                         "  WHERE k.ticket_hash = $1 AND k.expires_at > now()"
                         "    AND NOT a.blocked AND NOT t.blocked),"
                         " u AS (UPDATE api_sessions k"
                         "          SET expires_at = now() + $2::bigint * interval '1 ms'"
                         "         FROM s WHERE k.ticket_hash = $1 AND k.expires_at <"
                         "              now() + $2::bigint * interval '0.9 ms')"
                         " SELECT id, tenant_id, name, tenant FROM s",
                         DB_PARAMS(DB_BYTES(hash, STORE_TICKET_HASH_LEN), DB_INT(ttl_ms)),
                         DB_REPEAT, on_session, c),
                err);
}

enum admin_status store_admin_session_end(struct db *db, const uint8_t *hash, admin_done_fn *fn,
                                          void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, "session", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.done = fn;
    return sent(c,
                db_query(db, "DELETE FROM api_sessions WHERE ticket_hash = $1",
                         DB_PARAMS(DB_BYTES(hash, STORE_TICKET_HASH_LEN)), DB_REPEAT, on_done, c),
                err);
}

enum admin_status store_admin_password(struct db *db, int64_t admin, const char *hash,
                                       const uint8_t *but, admin_done_fn *fn, void *arg,
                                       struct qvd_error *err)
{
    struct change *c = change_new(db, "password", arg);

    if (!c)
        return sent(c, NULL, err);
    c->fn.done = fn;
    return sent(
        c,
        db_query(db,
                 "WITH s AS (DELETE FROM api_sessions"
                 "            WHERE administrator_id = $1 AND ticket_hash <> $3)"
                 " UPDATE administrators SET password = $2 WHERE id = $1",
                 DB_PARAMS(DB_INT(admin), DB_TEXT(hash), DB_BYTES(but, STORE_TICKET_HASH_LEN)),
                 DB_REPEAT, on_done, c),
        err);
}
