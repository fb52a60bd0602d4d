// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/auth.h"

/* A callback of ours that waits for an answer of the database. */
struct waiting {
    union {
        store_account_fn *account;
        store_token_use_fn *use;
        store_token_new_fn *token;
    } fn;
    void *arg;
    bool params_only;
};

static struct waiting *waiting_new(void *arg)
{
    struct waiting *w = calloc(1, sizeof *w);

    if (w)
        w->arg = arg;
    return w;
}

static void on_account(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct waiting *w = arg;
    struct store_account a = {0};

    if (db_status(r) == DB_OK && db_rows(r) == 1)
        a = (struct store_account){.id = db_int(r, 0, 0),
                                   .tenant_id = db_int(r, 0, 1),
                                   .blocked = db_bool(r, 0, 2),
                                   .login = db_str(r, 0, 3),
                                   .password = db_str(r, 0, 4)};
    w->fn.account(w->arg, db_status(r), &a);
}

static struct db_request *account(struct db *db, const char *sql, const char *tenant,
                                  const char *name, store_account_fn *fn, void *arg)
{
    struct waiting *w = waiting_new(arg);

    if (!w)
        return NULL;
    w->fn.account = fn;
    struct db_request *q =
        db_query(db, sql, DB_PARAMS(DB_TEXT(tenant), DB_TEXT(name)), DB_REPEAT, on_account, w);
    if (!q)
        free(w);
    return q;
}

struct db_request *store_auth_user(struct db *db, const char *tenant, const char *login,
                                   store_account_fn *fn, void *arg)
{
    return account(db,
                   "SELECT u.id, t.id, u.blocked OR t.blocked, u.login, u.password"
                   "  FROM tenants t LEFT JOIN users u ON u.tenant_id = t.id AND u.login = $2"
                   " WHERE t.name = $1 AND t.id > 0",
                   tenant, login, fn, arg);
}

struct db_request *store_auth_admin(struct db *db, const char *tenant, const char *name,
                                    store_account_fn *fn, void *arg)
{
    return account(db,
                   "SELECT a.id, a.tenant_id, a.blocked OR t.blocked, a.name, a.password"
                   "  FROM administrators a JOIN tenants t ON t.id = a.tenant_id"
                   " WHERE t.name = $1 AND a.name = $2",
                   tenant, name, fn, arg);
}

struct db_request *store_auth_rehash(struct db *db, bool admin, int64_t id, const char *old,
                                     const char *hash, db_done_fn *done, void *arg)
{
    const char *sql =
        admin ? "UPDATE administrators SET password = $3 WHERE id = $1 AND password = $2"
              : "UPDATE users SET password = $3 WHERE id = $1 AND password = $2";

    return db_query(db, sql, DB_PARAMS(DB_INT(id), DB_TEXT(old), DB_TEXT(hash)), DB_REPEAT, done,
                    arg);
}

static void on_token_use(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct waiting *w = arg;
    struct store_token_use u = {0};

    if (db_status(r) == DB_OK && db_rows(r) == 1 && db_bool(r, 0, 5))
        u = (struct store_token_use){.user_id = db_int(r, 0, 0),
                                     .tenant_id = db_int(r, 0, 1),
                                     .login = db_str(r, 0, 2),
                                     .params = db_str(r, 0, 3),
                                     .vm_id = db_int(r, 0, 4),
                                     .until = db_int(r, 0, 6)};
    w->fn.use(w->arg, db_status(r), &u);
}

/* The lock makes the second of two uses wait for the first; it then finds no row. */
static const char token_use_sql[] =
    "WITH found AS ("
    "  SELECT k.token_hash, k.user_id, u.tenant_id, u.login, k.vm_id, k.multi_use,"
    "         coalesce(p.parameters, '{}')::text AS params, k.expiration > now() AS fresh,"
    "         floor(extract(epoch FROM k.expiration) * 1000)::bigint AS until,"
    "         NOT u.blocked AND NOT t.blocked"
    "         AND ($2::bigint IS NULL OR k.vm_id IS NULL OR k.vm_id = $2) AS allowed"
    "    FROM user_tokens k JOIN users u ON u.id = k.user_id JOIN tenants t ON t.id = u.tenant_id"
    "    LEFT JOIN user_auth_parameters p ON p.id = k.auth_params_id"
    "   WHERE k.token_hash = $1 FOR UPDATE OF k),"
    " gone AS ("
    "  DELETE FROM user_tokens k USING found f WHERE k.token_hash = f.token_hash"
    "     AND (NOT f.fresh OR (f.allowed AND NOT f.multi_use)))"
    " SELECT user_id, tenant_id, login, params, coalesce(vm_id, 0), fresh AND allowed, until"
    "  FROM found";

struct db_request *store_auth_token_use(struct db *db, const uint8_t hash[STORE_TOKEN_HASH_LEN],
                                        int64_t vm_id, store_token_use_fn *fn, void *arg)
{
    struct waiting *w = waiting_new(arg);

    if (!w)
        return NULL;
    w->fn.use = fn;
    struct db_request *q =
        db_query(db, token_use_sql, DB_PARAMS(DB_BYTES(hash, STORE_TOKEN_HASH_LEN), DB_ID(vm_id)),
                 0, on_token_use, w);
    if (!q)
        free(w);
    return q;
}

static void on_token_new(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct waiting *w = arg;
    bool ok = db_status(r) == DB_OK && db_rows(r) == 1;

    w->fn.token(w->arg,
                db_status(r) != DB_OK ? db_status(r)
                : ok                  ? DB_OK
                                      : DB_CONSTRAINT,
                ok ? db_int(r, 0, 0) : 0);
}

/* A token is only made for a VM that the user owns, if for one. */
static const char token_new_sql[] =
    "WITH who AS (SELECT u.id, (SELECT count(*) FROM user_tokens k WHERE k.user_id = u.id"
    "                              AND k.expiration > now()) < $8 AS room"
    "               FROM users u WHERE u.id = $2"
    "               AND ($7::bigint IS NULL OR to_timestamp($7 / 1000.0) > now())"
    "               AND ($3::bigint IS NULL"
    "                    OR EXISTS (SELECT FROM vms v WHERE v.id = $3 AND v.user_id = u.id))),"
    " kept AS (INSERT INTO user_auth_parameters (parameters)"
    "          SELECT $6::jsonb FROM who WHERE room"
    "          RETURNING id),"
    " made AS (INSERT INTO user_tokens (token_hash, user_id, vm_id, expiration, multi_use,"
    "                                   auth_params_id)"
    "          SELECT $1, who.id, $3,"
    "                 least(now() + make_interval(secs => $4), to_timestamp($7 / 1000.0)), $5,"
    "                 (SELECT id FROM kept)"
    "            FROM who WHERE room)"
    " SELECT coalesce((SELECT id FROM kept), 0) FROM who";

struct db_request *store_auth_token_new(struct db *db, const struct store_token_new *t,
                                        store_token_new_fn *fn, void *arg)
{
    struct waiting *w = waiting_new(arg);

    if (!w)
        return NULL;
    w->fn.token = fn;
    const char *params = t->params && t->params[0] ? t->params : "{}";
    struct db_request *q =
        db_query(db, token_new_sql,
                 DB_PARAMS(DB_BYTES(t->hash, STORE_TOKEN_HASH_LEN), DB_INT(t->user_id),
                           DB_ID(t->vm_id), DB_INT(t->ttl), DB_BOOL(t->multi_use), DB_TEXT(params),
                           DB_ID(t->until), DB_INT(t->max)),
                 0, on_token_new, w);
    if (!q)
        free(w);
    return q;
}

struct db_request *store_auth_sweep(struct db *db, db_done_fn *done, void *arg)
{
    return db_query(db,
                    "WITH gone AS (DELETE FROM user_tokens WHERE expiration < now())"
                    " DELETE FROM user_auth_parameters p WHERE NOT EXISTS"
                    "        (SELECT FROM user_tokens k WHERE k.auth_params_id = p.id"
                    "            AND k.expiration >= now())",
                    DB_NO_PARAMS, DB_REPEAT, done, arg);
}
