// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/session.h"

#include <string.h>

#include "base/buf.h"

/* One statement and what to do with its answer. */
struct simple {
    struct store_call call;
    void (*answer)(struct simple *s, const struct db_result *r);
    union {
        store_look_fn *look;
        store_switch_fn *taken;
        store_close_fn *closed;
        store_serial_fn *serial;
        store_orphans_fn *count;
        store_find_fn *find;
        store_changed_fn *changed;
    } fn;
    void *arg;
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

/* Ids as an SQL array; NULL when out of memory. */
static must_check char *array_of(struct store_ids ids)
{
    struct buf b;
    int r;

    buf_init(&b, 0);
    r = buf_append_str(&b, "{");
    for (size_t i = 0; r == 0 && i < ids.n; i++)
        r = buf_printf(&b, "%s%llu", i ? "," : "", (unsigned long long)ids.ids[i]);
    if (r == 0)
        r = buf_append_str(&b, "}");
    char *text = r == 0 ? buf_cstr(&b) : NULL;
    text = text ? strdup(text) : NULL;
    buf_done(&b);
    return text;
}

/* Look ----------------------------------------------------------------------------------------- */

/* A hard expiration that is over is an order which the VM's node is about to write. */
#define EXPIRED "(r.vm_state = 'running' AND r.vm_expiration_hard <= clock_timestamp())"

static const char look_sql[] =
    "SELECT r.session_id, r.user_cmd IS NOT NULL, r.vm_state,"
    " CASE WHEN " EXPIRED
    " THEN coalesce(r.vm_cmd, 'start') ELSE r.vm_cmd END, r.host_id, r.blocked,"
    " r.blocked_reason, (SELECT s.ended IS NOT NULL FROM sessions s WHERE s.id = $2),"
    " host(r.vm_address), r.vm_vma_port, r.vm_x_port, k.secret, host(h.address), u.login,"
    " (SELECT json_object_agg(p.key, p.value) FROM vm_effective_properties p"
    "  WHERE p.vm_id = r.vm_id)"
    " FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id"
    " LEFT JOIN vm_secrets k ON k.vm_id = r.vm_id LEFT JOIN hosts h ON h.id = r.host_id"
    " WHERE r.vm_id = $1";

/* A text too long is none. */
static void copy_text(const struct db_result *r, int col, char *dst, size_t size)
{
    if (db_copy(r, 0, col, dst, size) < 0)
        dst[0] = 0;
}

static void look_row(struct store_look *l, const struct db_result *r)
{
    const char *cmd = db_str(r, 0, 3);

    l->session = (uint64_t)db_int(r, 0, 0);
    l->abort = db_bool(r, 0, 1);
    l->vm_state = vm_state_from_string(db_str(r, 0, 2));
    l->vm_cmd = cmd ? vm_cmd_from_string(cmd) : VM_CMD_NONE;
    l->host_id = (uint64_t)db_int(r, 0, 4);
    l->blocked = db_bool(r, 0, 5);
    (void)snprintf(l->blocked_reason, sizeof l->blocked_reason, "%.190s",
                   db_str(r, 0, 6) ? db_str(r, 0, 6) : "");
    l->former_ended = db_null(r, 0, 7) || db_bool(r, 0, 7);
    copy_text(r, 8, l->address, sizeof l->address);
    l->vma_port = (uint16_t)db_int(r, 0, 9);
    l->x_port = (uint16_t)db_int(r, 0, 10);
    l->has_secret = db_bytes(r, 0, 11, l->secret, sizeof l->secret) == 0;
    copy_text(r, 12, l->host_address, sizeof l->host_address);
    copy_text(r, 13, l->user_login, sizeof l->user_login);
    l->properties = db_str(r, 0, 14);
}

static void look_answer(struct simple *s, const struct db_result *r)
{
    struct store_look l = {.failed = db_status(r) != DB_OK};

    l.gone = !l.failed && db_rows(r) == 0;
    if (!l.failed && !l.gone)
        look_row(&l, r);
    s->fn.look(s->arg, &l);
    explicit_bzero(l.secret, sizeof l.secret);
}

struct store_call *store_session_look(struct db *db, uint64_t vm_id, uint64_t former,
                                      store_look_fn *fn, void *arg)
{
    struct simple *s = simple_new(look_answer, arg);

    if (!s)
        return NULL;
    s->fn.look = fn;
    return simple_send(db, s, look_sql, DB_PARAMS(DB_ID((int64_t)vm_id), DB_ID((int64_t)former)));
}

/* Switch and close ----------------------------------------------------------------------------- */

static struct db_param phase(int64_t ms)
{
    return ms < 0 ? DB_NULL : DB_INT(ms > INT32_MAX ? INT32_MAX : ms);
}

static const char switch_sql[] =
    "WITH vm AS (UPDATE vm_runtimes r SET user_state = 'connected' WHERE session_id = $1"
    "  AND user_cmd IS NULL AND vm_state = 'running' AND vm_cmd IS NULL"
    "  AND " EXPIRED " IS NOT TRUE RETURNING vm_id)"
    "UPDATE sessions SET connected = coalesce(connected, now()), host_id = $2, claim_ms = $3,"
    " start_ms = $4, x_start_ms = $5, dial_ms = $6"
    " WHERE id = $1 AND EXISTS (SELECT FROM vm)";

static void switch_answer(struct simple *s, const struct db_result *r)
{
    s->fn.taken(s->arg, db_status(r) != DB_OK, db_status(r) == DB_OK && db_affected(r) == 1);
}

struct store_call *store_session_switch(struct db *db, uint64_t session, uint64_t host,
                                        const struct store_phases *phases, store_switch_fn *fn,
                                        void *arg)
{
    struct simple *s = simple_new(switch_answer, arg);

    if (!s)
        return NULL;
    s->fn.taken = fn;
    return simple_send(db, s, switch_sql,
                       DB_PARAMS(DB_ID((int64_t)session), DB_ID((int64_t)host),
                                 phase(phases->claim), phase(phases->start), phase(phases->x_start),
                                 phase(phases->dial)));
}

/* heir is read as it was before: NULL or ours when the VM was still in this session. */
static const char close_sql[] =
    "WITH vm AS (UPDATE vm_runtimes SET user_state = 'disconnected', session_id = NULL,"
    "  l7r_instance_id = NULL, user_cmd = NULL WHERE session_id = $1 RETURNING vm_id)"
    "UPDATE sessions s SET ended = now(), end_reason = left($2, 256), bytes_in = $3,"
    " bytes_out = $4, first_byte_ms = $5, claim_ms = coalesce(claim_ms, $6),"
    " start_ms = coalesce(start_ms, $7), x_start_ms = coalesce(x_start_ms, $8),"
    " dial_ms = coalesce(dial_ms, $9) WHERE id = $1 AND ended IS NULL"
    " RETURNING (SELECT r.l7r_instance_id FROM vm_runtimes r WHERE r.vm_id = s.vm_id"
    "  AND r.session_id <> $1), s.vm_id";

static void close_answer(struct simple *s, const struct db_result *r)
{
    bool failed = db_status(r) != DB_OK;
    bool row = !failed && db_rows(r) > 0;

    s->fn.closed(s->arg, failed, row ? (uint64_t)db_int(r, 0, 0) : 0,
                 row ? (uint64_t)db_int(r, 0, 1) : 0);
}

struct store_call *store_session_close(struct db *db, const struct store_close_query *q,
                                       store_close_fn *fn, void *arg)
{
    struct simple *s = simple_new(close_answer, arg);

    if (!s)
        return NULL;
    s->fn.closed = fn;
    return simple_send(db, s, close_sql,
                       DB_PARAMS(DB_ID((int64_t)q->session), DB_TEXT(q->reason),
                                 DB_INT((int64_t)q->bytes_in), DB_INT((int64_t)q->bytes_out),
                                 phase(q->phases.first_byte), phase(q->phases.claim),
                                 phase(q->phases.start), phase(q->phases.x_start),
                                 phase(q->phases.dial)));
}

/* Reconciling ---------------------------------------------------------------------------------- */

static void serial_answer(struct simple *s, const struct db_result *r)
{
    s->fn.serial(s->arg, db_status(r) == DB_OK ? (uint64_t)db_int(r, 0, 0) : 0);
}

struct store_call *store_serial(struct db *db, store_serial_fn *fn, void *arg)
{
    struct simple *s = simple_new(serial_answer, arg);

    if (!s)
        return NULL;
    s->fn.serial = fn;
    return simple_send(db, s, "SELECT nextval('serials')", DB_NO_PARAMS);
}

static void count_answer(struct simple *s, const struct db_result *r)
{
    s->fn.count(s->arg, db_status(r) == DB_OK ? db_affected(r) : -1);
}

/* The VM first (the order of locks), then all open sessions of the instance that nobody has. */
static const char orphans_sql[] =
    "WITH vm AS (UPDATE vm_runtimes SET user_state = 'disconnected', session_id = NULL,"
    "  l7r_instance_id = NULL, user_cmd = NULL WHERE l7r_instance_id = $1 AND session_id < $2"
    "  AND session_id <> ALL ($3::bigint[]) AND vm_id <> ALL ($4::bigint[]) RETURNING 1)"
    "UPDATE sessions SET ended = now(), end_reason = 'lost by its L7R'"
    " WHERE l7r_instance_id = $1 AND ended IS NULL AND id < $2 AND id <> ALL ($3::bigint[])"
    " AND (vm_id IS NULL OR vm_id <> ALL ($4::bigint[]))";

struct store_call *store_session_orphans(struct db *db, uint64_t instance, uint64_t serial,
                                         struct store_ids known, struct store_ids claiming,
                                         store_orphans_fn *fn, void *arg)
{
    _cleanup_(free_p) char *a = array_of(known);
    _cleanup_(free_p) char *b = array_of(claiming);
    struct simple *s = a && b ? simple_new(count_answer, arg) : NULL;

    if (!s)
        return NULL;
    s->fn.count = fn;
    return simple_send(
        db, s, orphans_sql,
        DB_PARAMS(DB_ID((int64_t)instance), DB_INT((int64_t)serial), DB_TEXT(a), DB_TEXT(b)));
}

static const char readopt_sql[] =
    "WITH k AS (SELECT * FROM unnest($2::bigint[], $3::bigint[]) AS k(id, vm)),"
    " vm AS (UPDATE vm_runtimes r SET session_id = k.id, l7r_instance_id = $1,"
    "  user_state = 'connected' FROM k WHERE r.vm_id = k.vm AND r.session_id IS NULL"
    "  AND r.vm_state = 'running' RETURNING r.session_id)"
    "UPDATE sessions SET ended = NULL, end_reason = NULL, l7r_instance_id = $1"
    " WHERE id IN (SELECT session_id FROM vm)";

struct store_call *store_session_readopt(struct db *db, uint64_t instance,
                                         struct store_ids sessions, struct store_ids vms,
                                         store_orphans_fn *fn, void *arg)
{
    _cleanup_(free_p) char *a = array_of(sessions);
    _cleanup_(free_p) char *b = array_of(vms);
    struct simple *s = a && b ? simple_new(count_answer, arg) : NULL;

    if (!s)
        return NULL;
    s->fn.count = fn;
    return simple_send(db, s, readopt_sql,
                       DB_PARAMS(DB_ID((int64_t)instance), DB_TEXT(a), DB_TEXT(b)));
}

static void find_answer(struct simple *s, const struct db_result *r)
{
    bool failed = db_status(r) != DB_OK;
    size_t n = failed ? 0 : (size_t)db_rows(r);
    _cleanup_(free_p) struct store_session_row *rows = calloc(n ? n : 1, sizeof *rows);

    if (!rows)
        failed = true;
    for (size_t i = 0; !failed && i < n; i++)
        rows[i] = (struct store_session_row){
            .id = (uint64_t)db_int(r, (int)i, 0),
            .vm_id = (uint64_t)db_int(r, (int)i, 1),
            .user_id = (uint64_t)db_int(r, (int)i, 2),
            .host_id = (uint64_t)db_int(r, (int)i, 3),
            .mine = db_bool(r, (int)i, 4),
            .connected_ms = db_int(r, (int)i, 5),
        };
    s->fn.find(s->arg, failed, rows, failed ? 0 : n);
}

struct store_call *store_session_find(struct db *db, struct store_ids ids, store_find_fn *fn,
                                      void *arg)
{
    _cleanup_(free_p) char *a = array_of(ids);
    struct simple *s = a ? simple_new(find_answer, arg) : NULL;

    if (!s)
        return NULL;
    s->fn.find = fn;
    return simple_send(db, s,
                       "SELECT s.id, s.vm_id, s.user_id, s.host_id,"
                       " coalesce(r.session_id = s.id, false),"
                       " coalesce(floor(extract(epoch FROM now() - s.connected) * 1000)::bigint,"
                       " -1) FROM sessions s"
                       " LEFT JOIN vm_runtimes r ON r.vm_id = s.vm_id"
                       " WHERE s.id = ANY ($1::bigint[])",
                       DB_PARAMS(DB_TEXT(a)));
}

static void changed_answer(struct simple *s, const struct db_result *r)
{
    bool failed = db_status(r) != DB_OK;
    size_t n = failed ? 0 : (size_t)db_rows(r);
    _cleanup_(free_p) uint64_t *ids = calloc(n ? n : 1, sizeof *ids);

    if (!ids)
        failed = true;
    for (size_t i = 0; !failed && i < n; i++)
        ids[i] = (uint64_t)db_int(r, (int)i, 0);
    s->fn.changed(s->arg, failed, (struct store_ids){ids, failed ? 0 : n});
}

struct store_call *store_session_changed(struct db *db, struct store_ids sessions,
                                         struct store_ids vms, store_changed_fn *fn, void *arg)
{
    _cleanup_(free_p) char *a = array_of(sessions);
    _cleanup_(free_p) char *b = array_of(vms);
    struct simple *s = a && b ? simple_new(changed_answer, arg) : NULL;

    if (!s)
        return NULL;
    s->fn.changed = fn;
    return simple_send(db, s,
                       "SELECT k.id FROM unnest($1::bigint[], $2::bigint[]) AS k(id, vm)"
                       " LEFT JOIN vm_runtimes r ON r.vm_id = k.vm"
                       " WHERE r.session_id IS DISTINCT FROM k.id OR r.user_cmd IS NOT NULL"
                       " OR r.vm_state <> 'running'",
                       DB_PARAMS(DB_TEXT(a), DB_TEXT(b)));
}
