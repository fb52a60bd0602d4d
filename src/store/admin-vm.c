// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/admin-vm.h"

#include <string.h>

#include "base/str.h"
#include "store/admin-internal.h"
#include "store/nodes.h"

static enum admin_status no_memory(struct qvd_error *err)
{
    qvd_error_set(err, ADMIN_AWAY, "out of memory");
    return ADMIN_AWAY;
}

/* An order under way; the transaction's steps decide, on_ordered() tells. */
struct order {
    struct db *db;
    int64_t vm, tenant; /* tenant 0: any */
    const struct admin_balance *balance;
    admin_done_fn *fn;
    void *arg;
    struct admin_done done;
    int64_t memory, host;
    char channel[32], payload[64];
};

static struct order *order_new(struct db *db, const struct admin_who *who, int64_t vm,
                               admin_done_fn *fn, void *arg)
{
    struct order *o = calloc(1, sizeof *o);

    if (o)
        *o = (struct order){
            .db = db, .vm = vm, .tenant = who->tenant_id, .fn = fn, .arg = arg, .done.id = vm};
    return o;
}

static void on_ordered(void *arg, const struct db_result *r)
{
    _cleanup_(free_p) struct order *o = arg;

    if (db_status(r) != DB_OK)
        o->done.status = store_admin_failed(r, "vm", &o->done.err);
    else if (o->done.status == ADMIN_OK && o->channel[0]) {
        db_notify(o->db, o->channel, o->payload);
        db_notify_id(o->db, "api", "vm", o->vm);
    }
    o->fn(o->arg, &o->done);
}

static void refuse(struct db_txn *t, struct order *o, enum admin_status status, const char *text)
{
    o->done.status = status;
    qvd_error_set(&o->done.err, (int)status, "vm %lld: %s", (long long)o->vm, text);
    db_txn_abort(t);
}

static void on_reserved(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct order *o = arg;

    if (db_rows(r) != 1) {
        refuse(t, o, ADMIN_CONFLICT, "it has just been started by somebody else");
        return;
    }
    if (str_format(o->channel, sizeof o->channel, "h%lld", (long long)o->host) < 0 ||
        str_format(o->payload, sizeof o->payload, "vm %lld", (long long)o->vm) < 0)
        o->channel[0] = '\0';
    db_txn_commit(t);
}

static void on_nodes(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct order *o = arg;
    struct balance_node nodes[STORE_NODES_MAX];
    const struct admin_balance *b = o->balance;
    size_t roomiest = 0;
    size_t n = store_nodes_read(r, b->weights.start_cpu, nodes);
    int best = balance_choose(b->plugin, nodes, n, &b->weights, (double)o->memory, b->random,
                              b->arg, &roomiest);
    if (best < 0) {
        char text[250];
        balance_refusal(text, sizeof text, (double)o->memory, n, &nodes[roomiest],
                        store_nodes_name(r, roomiest));
        refuse(t, o, ADMIN_CONFLICT, text);
        return;
    }
    o->host = nodes[best].id;
    db_txn_query(t,
                 "WITH n AS (UPDATE host_runtimes SET assigned = assigned + 1 WHERE host_id = $2)"
                 " UPDATE vm_runtimes SET host_id = $2, vm_cmd = 'start' WHERE vm_id = $1"
                 "   AND vm_state = 'stopped' AND vm_cmd IS NULL AND host_id IS NULL"
                 " RETURNING vm_id",
                 DB_PARAMS(DB_INT(o->vm), DB_INT(o->host)), on_reserved, o);
}

/* Columns: state, command, memory, has an image, tag. */
static void on_vm(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct order *o = arg;
    char text[200];

    if (db_rows(r) == 0) {
        refuse(t, o, ADMIN_NOT_FOUND, "there is none");
    } else if (strcmp(db_str(r, 0, 0), "stopped") != 0) {
        snprintf(text, sizeof text, "it is %s already", db_str(r, 0, 0));
        refuse(t, o, ADMIN_CONFLICT, text);
    } else if (!db_null(r, 0, 1)) {
        refuse(t, o, ADMIN_CONFLICT, "an order waits for its node already");
    } else if (!db_bool(r, 0, 3)) {
        snprintf(text, sizeof text,
                 "its OSF has no published image with the tag \"%.100s\"; add one (qa di add)",
                 db_str(r, 0, 4));
        refuse(t, o, ADMIN_CONFLICT, text);
    } else {
        o->memory = db_int(r, 0, 2);
        db_txn_query(t, store_nodes_sql, DB_PARAMS(DB_NULL), on_nodes, o);
    }
}

static void run_start(struct db_txn *t, void *arg)
{
    struct order *o = arg;

    o->done.status = ADMIN_OK;
    /* The lock first, in a statement of its own, so that the next sees what it waited for. */
    db_txn_query(t, "SELECT 1 FROM vm_runtimes WHERE vm_id = $1 FOR NO KEY UPDATE",
                 DB_PARAMS(DB_INT(o->vm)), NULL, NULL);
    db_txn_query(t,
                 "SELECT r.vm_state, r.vm_cmd, f.memory,"
                 "       EXISTS (SELECT FROM vm_next_di n WHERE n.vm_id = v.id), v.di_tag"
                 "  FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id JOIN osfs f ON f.id = v.osf_id"
                 " WHERE v.id = $1 AND ($2::bigint IS NULL OR v.tenant_id = $2)",
                 DB_PARAMS(DB_INT(o->vm), DB_ID(o->tenant)), on_vm, o);
}

enum admin_status store_admin_vm_start(struct db *db, const struct admin_who *who, int64_t vm,
                                       const struct admin_balance *balance, admin_done_fn *fn,
                                       void *arg, struct qvd_error *err)
{
    struct order *o = order_new(db, who, vm, fn, arg);

    if (!o)
        return no_memory(err);
    o->balance = balance;
    if (db_txn(db, 0, run_start, on_ordered, o))
        return ADMIN_OK;
    free(o);
    return no_memory(err);
}

/* Columns: state, command, host, changed. */
static void on_stop(void *arg, const struct db_result *r)
{
    struct order *o = arg;

    if (db_status(r) == DB_OK && db_rows(r) == 0) {
        o->done.status = ADMIN_NOT_FOUND;
        qvd_error_set(&o->done.err, ADMIN_NOT_FOUND, "there is no vm %lld", (long long)o->vm);
    } else if (db_status(r) == DB_OK && db_int(r, 0, 3) == 0 &&
               strcmp(db_str(r, 0, 0), "stopped") == 0) {
        o->done.status = ADMIN_CONFLICT;
        qvd_error_set(&o->done.err, ADMIN_CONFLICT, "vm %lld: it is stopped already",
                      (long long)o->vm);
    } else if (db_status(r) == DB_OK && db_int(r, 0, 3) > 0 &&
               (str_format(o->channel, sizeof o->channel, "h%lld", (long long)db_int(r, 0, 2)) <
                    0 ||
                str_format(o->payload, sizeof o->payload, "vm %lld", (long long)o->vm) < 0)) {
        o->channel[0] = '\0';
    }
    on_ordered(o, r);
}

enum admin_status store_admin_vm_stop(struct db *db, const struct admin_who *who, int64_t vm,
                                      admin_done_fn *fn, void *arg, struct qvd_error *err)
{
    struct order *o = order_new(db, who, vm, fn, arg);

    if (!o)
        return no_memory(err);
    if (db_query(db,
                 "WITH o AS (SELECT r.vm_id, r.vm_state, r.vm_cmd, r.host_id"
                 "             FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
                 "            WHERE r.vm_id = $1 AND ($2::bigint IS NULL OR v.tenant_id = $2)"
                 "              FOR NO KEY UPDATE OF r),"
                 " u AS (UPDATE vm_runtimes r SET vm_cmd = 'stop' FROM o WHERE r.vm_id = o.vm_id"
                 "          AND o.vm_cmd IS DISTINCT FROM 'stop'"
                 "          AND (o.vm_state IN ('starting_1', 'starting_2', 'running')"
                 "               OR o.vm_cmd = 'start') RETURNING 1)"
                 " SELECT vm_state, vm_cmd, host_id, (SELECT count(*) FROM u) FROM o",
                 DB_PARAMS(DB_INT(vm), DB_ID(who->tenant_id)), DB_REPEAT, on_stop, o))
        return ADMIN_OK;
    free(o);
    return no_memory(err);
}

/* Columns: user_state, session, instance. */
static void on_disconnect(void *arg, const struct db_result *r)
{
    struct order *o = arg;

    if (db_status(r) == DB_OK && db_rows(r) == 0) {
        o->done.status = ADMIN_NOT_FOUND;
        qvd_error_set(&o->done.err, ADMIN_NOT_FOUND, "there is no vm %lld", (long long)o->vm);
    } else if (db_status(r) == DB_OK && db_null(r, 0, 1)) {
        o->done.status = ADMIN_CONFLICT;
        qvd_error_set(&o->done.err, ADMIN_CONFLICT, "vm %lld: nobody is connected to it",
                      (long long)o->vm);
    } else if (db_status(r) == DB_OK && (str_format(o->channel, sizeof o->channel, "l%lld",
                                                    (long long)db_int(r, 0, 2)) < 0 ||
                                         str_format(o->payload, sizeof o->payload, "session %lld",
                                                    (long long)db_int(r, 0, 1)) < 0)) {
        o->channel[0] = '\0';
    }
    on_ordered(o, r);
}

enum admin_status store_admin_vm_disconnect(struct db *db, const struct admin_who *who, int64_t vm,
                                            admin_done_fn *fn, void *arg, struct qvd_error *err)
{
    struct order *o = order_new(db, who, vm, fn, arg);

    if (!o)
        return no_memory(err);
    if (db_query(db,
                 "WITH o AS (SELECT r.vm_id, r.user_state, r.session_id, r.l7r_instance_id"
                 "             FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
                 "            WHERE r.vm_id = $1 AND ($2::bigint IS NULL OR v.tenant_id = $2)"
                 "              FOR NO KEY UPDATE OF r),"
                 " u AS (UPDATE vm_runtimes r SET user_cmd = 'abort' FROM o"
                 "        WHERE r.vm_id = o.vm_id AND o.session_id IS NOT NULL)"
                 " SELECT user_state, session_id, l7r_instance_id FROM o",
                 DB_PARAMS(DB_INT(vm), DB_ID(who->tenant_id)), DB_REPEAT, on_disconnect, o))
        return ADMIN_OK;
    free(o);
    return no_memory(err);
}
