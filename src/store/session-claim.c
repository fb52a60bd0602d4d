// SPDX-License-Identifier: GPL-3.0-or-later
/* Claiming a VM for a session, and ordering its start: the two transactions that choose a node.
 * Locks in the order vm, host. */
#include <string.h>

#include "base/str.h"
#include "model/states.h"
#include "store/nodes.h"
#include "store/session.h"

/* Statements of their own, so that the second sees what the lock has waited for. */
static const char lock_sql[] = "SELECT 1 FROM vm_runtimes WHERE vm_id = $1 FOR NO KEY UPDATE";
static const char read_sql[] =
    "SELECT v.user_id, r.vm_state, r.vm_cmd, r.host_id, r.blocked, r.blocked_reason, r.session_id,"
    " r.l7r_instance_id,"
    " CASE WHEN r.takeovers_since > now() - $2 * interval '1 ms' THEN r.takeovers ELSE 0 END,"
    " o.memory, EXISTS (SELECT FROM vm_next_di n WHERE n.vm_id = v.id),"
    " h.name, hr.state, hr.blocked,"
    " i.id IS NULL OR i.ok < now() - $3 * interval '1 ms',"
    " $4 > 0 AND EXISTS (SELECT FROM sessions s WHERE s.vm_id = v.id AND s.id > $4"
    "  AND s.client IS DISTINCT FROM $5),"
    " (SELECT s.client IS NOT DISTINCT FROM $5 FROM sessions s WHERE s.id = r.session_id),"
    " (SELECT s.end_reason FROM sessions s WHERE s.id = $4 AND s.vm_id = v.id),"
    " format('no published image of the OSF %s has the tag %s', o.name, v.di_tag)"
    " FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id JOIN osfs o ON o.id = v.osf_id"
    " LEFT JOIN hosts h ON h.id = r.host_id"
    " LEFT JOIN host_runtimes hr ON hr.host_id = r.host_id"
    " LEFT JOIN l7r_instances i ON i.id = r.l7r_instance_id"
    " WHERE v.id = $1";
enum read_column {
    READ_USER,
    READ_VM_STATE,
    READ_VM_CMD,
    READ_HOST,
    READ_BLOCKED,
    READ_REASON,
    READ_SESSION,
    READ_INSTANCE,
    READ_TAKEOVERS,
    READ_MEMORY,
    READ_HAS_IMAGE,
    READ_HOST_NAME,
    READ_HOST_STATE,
    READ_HOST_BLOCKED,
    READ_FORMER_GONE,
    READ_RESUME_TAKEN,
    READ_FORMER_OURS,
    READ_RESUME_END,
    READ_NO_IMAGE,
};
static const char claim_sql[] =
    "WITH s AS (INSERT INTO sessions (vm_id, user_id, host_id, l7r_instance_id, client_ip, client,"
    "   tls_ms, auth_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id),"
    " n AS (UPDATE host_runtimes SET assigned = assigned + 1 WHERE host_id = $3 AND $9 RETURNING 1)"
    "UPDATE vm_runtimes r SET session_id = s.id, l7r_instance_id = $4, user_state = 'connecting',"
    " user_cmd = NULL, real_user_id = $2, user_ip = $5, host_id = $3,"
    " vm_cmd = CASE WHEN $10 THEN 'start' ELSE r.vm_cmd END, takeovers = $11,"
    " takeovers_since = CASE WHEN $11 = 1 THEN now() ELSE r.takeovers_since END"
    " FROM s WHERE r.vm_id = $1 RETURNING s.id";
static const char bury_sql[] =
    "UPDATE sessions SET ended = now(), end_reason = 'taken over; its L7R is gone'"
    " WHERE id = $1 AND ended IS NULL";
static const char start_sql[] =
    "WITH n AS (UPDATE host_runtimes SET assigned = assigned + 1 WHERE host_id = $3 AND $4"
    "  RETURNING 1),"
    " s AS (UPDATE sessions SET host_id = $3 WHERE id = $2)"
    "UPDATE vm_runtimes SET host_id = $3, vm_cmd = 'start' WHERE vm_id = $1 AND session_id = $2"
    " RETURNING session_id";

struct claim {
    struct store_call call;
    struct store_claim_query q;
    char source[64];
    char client[257];
    uint64_t session; /* of a start order: only if the VM is still in it */
    struct store_claim result;
    store_claim_fn *fn;
    void *arg;
    /* What was read, until the nodes are there too. */
    bool decided;
    unsigned takeovers;
    double memory;
    bool add;
};

static void refuse(struct claim *c, struct db_txn *t, enum store_claim_outcome outcome,
                   const char *text)
{
    c->result.outcome = outcome;
    if (str_format(c->result.text, sizeof c->result.text, "%.190s", text ? text : "") < 0)
        c->result.text[0] = 0;
    c->decided = true;
    db_txn_abort(t);
}

static void claimed(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct claim *c = arg;

    if (db_rows(r) != 1) {
        refuse(c, t, STORE_CLAIM_FAILED, "the VM is no longer there");
        return;
    }
    c->result.session = (uint64_t)db_int(r, 0, 0);
    c->result.outcome = STORE_CLAIM_OK;
    db_txn_commit(t);
}

static void write_claim(struct claim *c, struct db_txn *t)
{
    const struct store_claim_query *q = &c->q;

    if (c->session) {
        db_txn_query(t, start_sql,
                     DB_PARAMS(DB_ID((int64_t)q->vm_id), DB_ID((int64_t)c->session),
                               DB_ID((int64_t)c->result.host_id), DB_BOOL(c->add)),
                     claimed, c);
        return;
    }
    if (c->result.former && c->result.former_gone)
        db_txn_query(t, bury_sql, DB_PARAMS(DB_ID((int64_t)c->result.former)), NULL, NULL);
    db_txn_query(t, claim_sql,
                 DB_PARAMS(DB_ID((int64_t)q->vm_id), DB_ID((int64_t)q->user_id),
                           DB_ID((int64_t)c->result.host_id), DB_ID((int64_t)q->instance),
                           DB_TEXT(q->source), DB_TEXT(q->client), DB_INT(q->tls_ms),
                           DB_INT(q->auth_ms), DB_BOOL(c->add), DB_BOOL(c->result.ordered),
                           DB_INT(c->takeovers)),
                 claimed, c);
}

/* May the session that broke off go on? */
static bool resumable(struct claim *c, struct db_txn *t, const struct db_result *r)
{
    const char *end = db_str(r, 0, READ_RESUME_END);

    if (!c->q.resume)
        return true;
    if (db_bool(r, 0, READ_RESUME_TAKEN))
        refuse(c, t, STORE_CLAIM_TAKEN, NULL);
    else if (c->q.ask || (end && c->q.final(end)))
        refuse(c, t, STORE_CLAIM_ENDED, end);
    return !c->decided;
}

/* The order: is there such a VM, is it his, did his session end for good, is it blocked, where is
 * it, was it taken too often. */
static bool allowed(struct claim *c, struct db_txn *t, const struct db_result *r)
{
    const char *host = db_str(r, 0, READ_HOST_NAME);
    const char *state = db_str(r, 0, READ_HOST_STATE);

    if (c->session) {
        if ((uint64_t)db_int(r, 0, READ_SESSION) != c->session)
            refuse(c, t, STORE_CLAIM_DENIED, "taken over");
    } else if (!c->q.allowed && (uint64_t)db_int(r, 0, READ_USER) != c->q.user_id) {
        refuse(c, t, STORE_CLAIM_DENIED, NULL);
    }
    if (!c->decided && !resumable(c, t, r))
        return false;
    if (!c->decided && db_bool(r, 0, READ_BLOCKED))
        refuse(c, t, STORE_CLAIM_VM_BLOCKED, db_str(r, 0, READ_REASON));
    if (!c->decided && host && db_bool(r, 0, READ_HOST_BLOCKED))
        refuse(c, t, STORE_CLAIM_HOST_BLOCKED, host);
    if (!c->decided && host && host_state_from_string(state) != HOST_RUNNING)
        refuse(c, t, STORE_CLAIM_HOST_DOWN, host);
    return !c->decided;
}

static void read_vm(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct claim *c = arg;

    if (db_rows(r) == 0) {
        refuse(c, t, STORE_CLAIM_NOT_FOUND, NULL);
        return;
    }
    if (!allowed(c, t, r))
        return;
    c->result.vm_state = vm_state_from_string(db_str(r, 0, READ_VM_STATE));
    c->result.host_id = (uint64_t)db_int(r, 0, READ_HOST);
    c->result.former = (uint64_t)db_int(r, 0, READ_SESSION);
    c->result.former_instance = (uint64_t)db_int(r, 0, READ_INSTANCE);
    c->result.former_gone = db_bool(r, 0, READ_FORMER_GONE);
    c->takeovers = (unsigned)db_int(r, 0, READ_TAKEOVERS);
    /* Who comes back to what was his takes nothing over. */
    if (!c->session && c->result.former && !(c->q.resume && db_bool(r, 0, READ_FORMER_OURS))) {
        if (c->takeovers >= c->q.takeover_max) {
            refuse(c, t, STORE_CLAIM_TAKEOVERS, NULL);
            return;
        }
        c->takeovers++;
    }
    c->memory = (double)db_int(r, 0, READ_MEMORY);
    /* Another's order stands: it is carried out first, the session waits for what comes of it. */
    c->result.ordered = c->result.vm_state == VM_STOPPED && db_null(r, 0, READ_VM_CMD);
    if (c->result.ordered && !db_bool(r, 0, READ_HAS_IMAGE))
        refuse(c, t, STORE_CLAIM_NO_IMAGE, db_str(r, 0, READ_NO_IMAGE));
    else if (!c->result.ordered && c->session)
        refuse(c, t, STORE_CLAIM_OK, NULL);
}

static void choose(struct claim *c, struct db_txn *t, const struct db_result *r)
{
    const struct store_balance *b = &c->q.balance;
    _cleanup_(free_p) struct balance_node *nodes = calloc(STORE_NODES_MAX, sizeof *nodes);
    char text[190];
    size_t roomiest = 0;

    if (!nodes) {
        refuse(c, t, STORE_CLAIM_FAILED, "out of memory");
        return;
    }
    size_t n = store_nodes_read(r, b->weights.start_cpu, nodes);
    int at =
        balance_choose(b->plugin, nodes, n, &b->weights, c->memory, b->random, b->arg, &roomiest);
    if (at >= 0) {
        c->result.host_id = (uint64_t)nodes[at].id;
        c->add = true;
        return;
    }
    balance_refusal(text, sizeof text, c->memory, n, &nodes[roomiest],
                    store_nodes_name(r, roomiest));
    refuse(c, t, STORE_CLAIM_NO_NODE, text);
}

static void read_hosts(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct claim *c = arg;

    if (c->decided)
        return;
    if (c->result.ordered && !c->result.host_id)
        choose(c, t, r);
    if (!c->decided)
        write_claim(c, t);
}

static void run(struct db_txn *t, void *arg)
{
    struct claim *c = arg;
    const struct store_claim_query *q = &c->q;

    c->result = (struct store_claim){.outcome = STORE_CLAIM_FAILED};
    c->decided = c->add = false;
    db_txn_query(t, lock_sql, DB_PARAMS(DB_ID((int64_t)q->vm_id)), NULL, NULL);
    db_txn_query(t, read_sql,
                 DB_PARAMS(DB_ID((int64_t)q->vm_id), DB_INT(q->takeover_window_ms),
                           DB_INT(q->instance_timeout_ms), DB_INT((int64_t)q->resume),
                           DB_TEXT(q->client)),
                 read_vm, c);
    db_txn_query(t, store_nodes_sql, DB_PARAMS(DB_ID((int64_t)q->vm_id)), read_hosts, c);
}

static void done(void *arg, const struct db_result *r)
{
    struct claim *c = arg;

    if (db_status(r) != DB_OK) {
        c->result = (struct store_claim){.outcome = STORE_CLAIM_FAILED};
        (void)snprintf(c->result.text, sizeof c->result.text, "%.190s", db_error(r));
    }
    if (!c->call.dropped)
        c->fn(c->arg, &c->result);
    free(c);
}

struct store_call *store_session_claim(struct db *db, const struct store_claim_query *q,
                                       store_claim_fn *fn, void *arg)
{
    struct claim *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->q = *q;
    c->fn = fn;
    c->arg = arg;
    /* An address or a name that does not fit is not worth a refusal. */
    c->q.source =
        str_copy(c->source, sizeof c->source, q->source ? q->source : "") == 0 && c->source[0]
            ? c->source
            : NULL;
    c->q.client =
        str_copy(c->client, sizeof c->client, q->client ? q->client : "") == 0 ? c->client : NULL;
    return store_call_began(&c->call, db_txn(db, DB_REPEAT, run, done, c));
}

struct store_call *store_session_start(struct db *db, uint64_t session, uint64_t vm_id,
                                       const struct store_balance *balance, store_claim_fn *fn,
                                       void *arg)
{
    struct claim *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->q = (struct store_claim_query){.vm_id = vm_id, .balance = *balance};
    c->session = session;
    c->fn = fn;
    c->arg = arg;
    return store_call_began(&c->call, db_txn(db, DB_REPEAT, run, done, c));
}
