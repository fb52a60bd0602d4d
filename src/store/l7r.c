// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/l7r.h"

#include <string.h>

#include "base/buf.h"

/* One question and what to do with its answer. */
struct simple {
    struct store_call call;
    void (*answer)(struct simple *s, const struct db_result *r);
    union {
        store_beat_fn *beat;
        store_bury_fn *bury;
        store_l7r_host_fn *host;
        store_l7r_front_fn *front;
        store_l7r_list_fn *list;
        store_stop_fn *stop;
        store_l7r_settings_fn *settings;
        store_l7r_certificate_fn *certificate;
    } fn;
    void *arg;
    uint64_t user_id, vm_id; /* of a stop */
    bool allowed;
    struct store_stop stop;
};

static void simple_done(void *arg, const struct db_result *r)
{
    struct simple *s = arg;

    if (!s->call.dropped)
        s->answer(s, r);
    free(s);
}

static must_check struct simple *
simple_new(void (*answer)(struct simple *, const struct db_result *), void *arg)
{
    struct simple *s = calloc(1, sizeof *s);

    if (s) {
        s->answer = answer;
        s->arg = arg;
    }
    return s;
}

static must_check struct store_call *simple_send(struct db *db, struct simple *s, const char *sql,
                                                 const struct db_param *params)
{
    return store_call_began(&s->call, db_query(db, sql, params, DB_REPEAT, simple_done, s));
}

/* Instances ------------------------------------------------------------------------------------ */

static const char counters_sql[] =
    "WITH once AS (UPDATE l7r_instances SET counted = $8 WHERE id = $9"
    "  AND counted IS DISTINCT FROM $8 RETURNING 1)"
    "UPDATE host_counters c SET http_requests = c.http_requests + $2,"
    " auth_attempts = c.auth_attempts + $3, auth_ok = c.auth_ok + $4,"
    " nx_attempts = c.nx_attempts + $5, nx_ok = c.nx_ok + $6,"
    " short_sessions = c.short_sessions + $7"
    " FROM hosts h WHERE h.id = c.host_id AND h.name = $1 AND EXISTS (SELECT FROM once)";
#define FRONT_ONLY                                                                                 \
    "EXISTS (SELECT FROM hosts h WHERE h.id = l7r_instances.host_id AND h.frontend"                \
    " AND NOT h.backend)"
/* By its number also when another has buried it meanwhile: the lineage keeps its name. */
static const char beat_sql[] =
    "INSERT INTO l7r_instances (id, host_id) VALUES ($1, (SELECT id FROM hosts WHERE name = $2))"
    " ON CONFLICT (id) DO UPDATE SET ok = now(), host_id = excluded.host_id"
    " RETURNING id, " FRONT_ONLY;
static const char register_sql[] =
    "INSERT INTO l7r_instances (host_id) VALUES ((SELECT id FROM hosts WHERE name = $1))"
    " RETURNING id, " FRONT_ONLY;

static void beat_answer(struct simple *s, const struct db_result *r)
{
    if (db_status(r) == DB_OK)
        s->fn.beat(s->arg, (uint64_t)db_int(r, 0, 0), db_bool(r, 0, 1));
    else
        s->fn.beat(s->arg, 0, false);
}

static void counted_answer(struct simple *s, const struct db_result *r)
{
    beat_answer(s, db_status(r) == DB_OK ? db_result_of(r, 0) : r);
}

struct store_call *store_l7r_beat(struct db *db, uint64_t instance, const char *nodename,
                                  const struct store_l7r_counters *c, uint64_t number,
                                  store_beat_fn *fn, void *arg)
{
    struct simple *s = simple_new(beat_answer, arg);

    if (!s)
        return NULL;
    s->fn.beat = fn;
    if (!instance)
        return simple_send(db, s, register_sql, DB_PARAMS(DB_TEXT(nodename)));
    if (!c)
        return simple_send(db, s, beat_sql, DB_PARAMS(DB_ID((int64_t)instance), DB_TEXT(nodename)));
    const struct db_param *beat = DB_PARAMS(DB_ID((int64_t)instance), DB_TEXT(nodename));
    const struct db_param *counts = DB_PARAMS(
        DB_TEXT(nodename), DB_INT((int64_t)c->http_requests), DB_INT((int64_t)c->auth_attempts),
        DB_INT((int64_t)c->auth_ok), DB_INT((int64_t)c->nx_attempts), DB_INT((int64_t)c->nx_ok),
        DB_INT((int64_t)c->short_sessions), DB_INT((int64_t)number), DB_INT((int64_t)instance));
    s->answer = counted_answer;
    /* The row first, which another may have taken away. */
    const struct db_stmt all[] = {
        {beat_sql,     beat  },
        {counters_sql, counts},
    };
    return store_call_began(&s->call,
                            db_batch(db, all, ARRAY_SIZE(all), DB_REPEAT, simple_done, s));
}

#define GONE "SELECT id FROM l7r_instances WHERE id = $1 OR ok < now() - $2 * interval '1 ms'"

static void bury_answer(struct simple *s, const struct db_result *r)
{
    s->fn.bury(s->arg, db_status(r) == DB_OK ? db_affected(db_result_of(r, 1)) : -1);
}

struct store_call *store_l7r_bury(struct db *db, uint64_t mine, int64_t timeout_ms,
                                  store_bury_fn *fn, void *arg)
{
    struct simple *s = simple_new(bury_answer, arg);
    const struct db_param *who = DB_PARAMS(DB_INT((int64_t)mine), DB_INT(timeout_ms));
    const struct db_stmt all[] = {
        {"UPDATE vm_runtimes SET user_state = 'disconnected', session_id = NULL,"
         " l7r_instance_id = NULL, user_cmd = NULL WHERE l7r_instance_id IN (" GONE ")",
         who                                                                                         },
        {"UPDATE sessions SET ended = now(), end_reason = 'its L7R is gone'"
         " WHERE ended IS NULL AND l7r_instance_id IN (" GONE ")",
         who                                                                                         },
        {"DELETE FROM l7r_instances i WHERE i.id IN (" GONE ") AND NOT EXISTS"
         " (SELECT FROM vm_runtimes r WHERE r.l7r_instance_id = i.id)",                  who},
    };

    if (!s)
        return NULL;
    s->fn.bury = fn;
    return store_call_began(&s->call,
                            db_batch(db, all, ARRAY_SIZE(all), DB_REPEAT, simple_done, s));
}

/* The node and the VMs ------------------------------------------------------------------------- */

static void host_answer(struct simple *s, const struct db_result *r)
{
    struct store_l7r_host h = {.failed = db_status(r) != DB_OK, .state = HOST_STATE_INVALID};

    if (!h.failed && db_rows(r) == 1) {
        h.registered = true;
        h.state = host_state_from_string(db_str(r, 0, 0));
        h.blocked = db_bool(r, 0, 1);
        h.frontend = db_bool(r, 0, 2);
    }
    s->fn.host(s->arg, &h);
}

struct store_call *store_l7r_host(struct db *db, const char *nodename, store_l7r_host_fn *fn,
                                  void *arg)
{
    struct simple *s = simple_new(host_answer, arg);

    if (!s)
        return NULL;
    s->fn.host = fn;
    return simple_send(db, s,
                       "SELECT r.state, r.blocked, h.frontend FROM hosts h"
                       " JOIN host_runtimes r ON r.host_id = h.id WHERE h.name = $1",
                       DB_PARAMS(DB_TEXT(nodename)));
}

static void front_answer(struct simple *s, const struct db_result *r)
{
    if (s->fn.front)
        s->fn.front(s->arg);
}

struct store_call *store_l7r_front(struct db *db, const char *nodename, int pid, bool stops,
                                   int64_t timeout_ms, store_l7r_front_fn *fn, void *arg)
{
    struct simple *s = simple_new(front_answer, arg);

    if (!s)
        return NULL;
    s->fn.front = fn;
    return simple_send(
        db, s,
        "UPDATE host_runtimes r SET ok_ts = now(), pid = $2,"
        " state = CASE WHEN $3::boolean THEN 'stopped' ELSE 'running' END,"
        " started_at = CASE WHEN r.pid IS NOT DISTINCT FROM $2 AND r.state = 'running'"
        "  THEN r.started_at ELSE now() END"
        " FROM hosts h WHERE h.id = r.host_id AND h.name = $1 AND h.frontend AND NOT h.backend"
        " AND (r.pid IS NOT DISTINCT FROM $2 OR NOT $3::boolean AND (r.state = 'stopped'"
        "  OR r.ok_ts IS NULL OR r.ok_ts < now() - $4 * interval '1 ms'))",
        DB_PARAMS(DB_TEXT(nodename), DB_INT(pid), DB_BOOL(stops), DB_INT(timeout_ms)));
}

static void list_answer(struct simple *s, const struct db_result *r)
{
    bool failed = db_status(r) != DB_OK;
    size_t n = failed ? 0 : (size_t)db_rows(r);
    _cleanup_(free_p) struct store_l7r_vm *vms = calloc(n ? n : 1, sizeof *vms);

    if (!vms)
        failed = true;
    for (size_t i = 0; !failed && i < n; i++)
        vms[i] = (struct store_l7r_vm){
            .id = (uint64_t)db_int(r, (int)i, 0),
            .name = db_str(r, (int)i, 1),
            .state = vm_state_from_string(db_str(r, (int)i, 2)),
            .blocked = db_bool(r, (int)i, 3),
            .is_application = db_bool(r, (int)i, 4),
        };
    s->fn.list(s->arg, failed, vms, failed ? 0 : n);
}

#define LIST                                                                                       \
    "SELECT v.id, v.name, r.vm_state, r.blocked, o.is_application FROM vms v"                      \
    " JOIN vm_runtimes r ON r.vm_id = v.id JOIN osfs o ON o.id = v.osf_id"

struct store_call *store_l7r_list(struct db *db, uint64_t user_id, bool applications,
                                  store_l7r_list_fn *fn, void *arg)
{
    struct simple *s = simple_new(list_answer, arg);

    if (!s)
        return NULL;
    s->fn.list = fn;
    return simple_send(db, s,
                       LIST " WHERE v.user_id = $1 AND o.is_application = $2 ORDER BY v.name, v.id",
                       DB_PARAMS(DB_ID((int64_t)user_id), DB_BOOL(applications)));
}

struct store_call *store_l7r_list_of(struct db *db, const uint64_t *ids, size_t n,
                                     store_l7r_list_fn *fn, void *arg)
{
    struct buf text;
    struct store_call *call = NULL;

    buf_init(&text, 0);
    int r = buf_append_str(&text, "{");
    for (size_t i = 0; r == 0 && i < n; i++)
        r = buf_printf(&text, "%s%llu", i ? "," : "", (unsigned long long)ids[i]);
    if (r == 0)
        r = buf_append_str(&text, "}");
    struct simple *s = r == 0 ? simple_new(list_answer, arg) : NULL;
    if (s) {
        s->fn.list = fn;
        call = simple_send(db, s, LIST " WHERE v.id = ANY ($1::bigint[]) ORDER BY v.name, v.id",
                           DB_PARAMS(DB_TEXT(buf_cstr(&text))));
    }
    buf_done(&text);
    return call;
}

/* Stop ----------------------------------------------------------------------------------------- */

static void stop_leave(struct simple *s, struct db_txn *t, enum store_stop_outcome outcome)
{
    s->stop.outcome = outcome;
    db_txn_abort(t);
}

static void stop_written(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct simple *s = arg;

    s->stop.outcome = STORE_STOP_ORDERED;
    db_txn_commit(t);
}

static void stop_read(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct simple *s = arg;
    const char *cmd = db_rows(r) ? db_str(r, 0, 2) : NULL;

    if (db_rows(r) == 0) {
        stop_leave(s, t, STORE_STOP_NOT_FOUND);
        return;
    }
    s->stop.vm_state = vm_state_from_string(db_str(r, 0, 1));
    s->stop.host_id = (uint64_t)db_int(r, 0, 3);
    if (!s->allowed && (uint64_t)db_int(r, 0, 0) != s->user_id) {
        stop_leave(s, t, STORE_STOP_DENIED);
        return;
    }
    switch (s->stop.vm_state) {
    case VM_STOPPED:
        stop_leave(s, t, cmd ? STORE_STOP_UNFIT : STORE_STOP_STOPPED);
        return;
    case VM_STOPPING_1:
    case VM_STOPPING_2:
        stop_leave(s, t,
                   cmd && vm_cmd_from_string(cmd) == VM_CMD_START ? STORE_STOP_UNFIT
                                                                  : STORE_STOP_WAITS);
        return;
    case VM_STARTING_1:
    case VM_STARTING_2:
    case VM_RUNNING:
        break;
    default:
        stop_leave(s, t, STORE_STOP_UNFIT);
        return;
    }
    if (cmd && vm_cmd_from_string(cmd) == VM_CMD_STOP) {
        stop_leave(s, t, STORE_STOP_WAITS);
        return;
    }
    db_txn_query(t, "UPDATE vm_runtimes SET vm_cmd = 'stop' WHERE vm_id = $1",
                 DB_PARAMS(DB_ID((int64_t)s->vm_id)), stop_written, s);
}

static void stop_run(struct db_txn *t, void *arg)
{
    struct simple *s = arg;
    const struct db_param *vm = DB_PARAMS(DB_ID((int64_t)s->vm_id));

    s->stop = (struct store_stop){.outcome = STORE_STOP_FAILED};
    db_txn_query(t, "SELECT 1 FROM vm_runtimes WHERE vm_id = $1 FOR NO KEY UPDATE", vm, NULL, NULL);
    db_txn_query(t,
                 "SELECT v.user_id, r.vm_state, r.vm_cmd, r.host_id FROM vms v"
                 " JOIN vm_runtimes r ON r.vm_id = v.id WHERE v.id = $1",
                 vm, stop_read, s);
}

static void stop_answer(struct simple *s, const struct db_result *r)
{
    if (db_status(r) != DB_OK)
        s->stop.outcome = STORE_STOP_FAILED;
    s->fn.stop(s->arg, &s->stop);
}

struct store_call *store_l7r_stop_vm(struct db *db, uint64_t vm_id, uint64_t user_id, bool allowed,
                                     store_stop_fn *fn, void *arg)
{
    struct simple *s = simple_new(stop_answer, arg);

    if (!s)
        return NULL;
    s->fn.stop = fn;
    s->vm_id = vm_id;
    s->user_id = user_id;
    s->allowed = allowed;
    return store_call_began(&s->call, db_txn(db, DB_REPEAT, stop_run, simple_done, s));
}

/* Settings ------------------------------------------------------------------------------------- */

static void settings_answer(struct simple *s, const struct db_result *r)
{
    struct buf b;
    bool failed = db_status(r) != DB_OK;

    buf_init(&b, 0);
    for (int i = 0; !failed && i < db_rows(r); i++)
        failed = buf_append(&b, db_str(r, i, 0), strlen(db_str(r, i, 0)) + 1) < 0 ||
                 buf_append(&b, db_str(r, i, 1), strlen(db_str(r, i, 1)) + 1) < 0;
    s->fn.settings(s->arg, failed ? NULL : b.len ? (const char *)b.data : "", failed ? 0 : b.len);
    buf_done(&b);
}

struct store_call *store_l7r_settings(struct db *db, store_l7r_settings_fn *fn, void *arg)
{
    struct simple *s = simple_new(settings_answer, arg);

    if (!s)
        return NULL;
    s->fn.settings = fn;
    return simple_send(db, s,
                       "SELECT key, value FROM config_values WHERE tenant_id = -1"
                       " AND key LIKE 'l7r.%' ORDER BY key",
                       DB_NO_PARAMS);
}

static void certificate_answer(struct simple *s, const struct db_result *r)
{
    struct store_l7r_certificate c = {"", "", "", ""};
    bool failed = db_status(r) != DB_OK;

    for (int i = 0; !failed && i < db_rows(r); i++) {
        const char *key = db_str(r, i, 0), *value = db_str(r, i, 1);
        if (strcmp(key, "l7r.ssl.cert") == 0)
            c.cert = value;
        else if (strcmp(key, "l7r.ssl.key") == 0)
            c.key = value;
        else if (strcmp(key, "l7r.ssl.ca") == 0)
            c.ca = value;
        else
            c.crl = value;
    }
    s->fn.certificate(s->arg, failed ? NULL : &c);
}

struct store_call *store_l7r_certificate(struct db *db, store_l7r_certificate_fn *fn, void *arg)
{
    struct simple *s = simple_new(certificate_answer, arg);

    if (!s)
        return NULL;
    s->fn.certificate = fn;
    return simple_send(db, s,
                       "SELECT key, value FROM ssl_configs WHERE key IN"
                       " ('l7r.ssl.cert', 'l7r.ssl.key', 'l7r.ssl.ca', 'l7r.ssl.crl')",
                       DB_NO_PARAMS);
}
