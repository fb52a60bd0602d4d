// SPDX-License-Identifier: GPL-3.0-or-later

/* Requests: one answer each, in time, after as many repetitions as it may have. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/db-internal.h"

static struct db_request *request_of(struct unit *u)
{
    return QVD_CONTAINER(u, struct db_request, unit);
}

void request_free(struct db_request *q)
{
    list_remove(&q->node);
    ev_timer_free(q->deadline);
    if (q->kind == REQUEST_BATCH)
        unit_done(&q->unit);
    else
        txn_free(q->txn);
    db_result_done(&q->verdict);
    free(q->own);
    free(q);
}

void db_own(struct db_request *q, void *data)
{
    q->own = data;
}

/* Calls done and forgets the request. Only from the loop. */
static void answer(struct db_request *q, const struct db_result *r)
{
    ev_timer_disarm(q->deadline);
    list_remove(&q->node);
    q->state = REQUEST_FINISHED;
    if (!q->cancelled && q->done)
        q->done(q->arg, r);
    request_free(q);
}

void request_finish(struct db_request *q, const struct db_result *r)
{
    if (q->state == REQUEST_QUEUED)
        q->db->n_queued--;
    answer(q, r);
}

static void fail(struct db_request *q, enum db_status status, const char *text)
{
    db_result_fail(&q->verdict, status, text);
    request_finish(q, &q->verdict);
}

void request_again(struct db_request *q)
{
    q->attempts++;
    q->db->stats.retries++;
    q->conn = NULL;
    q->state = REQUEST_QUEUED;
    q->db->n_queued++;
    list_remove(&q->node);
    list_append(&q->db->queue, &q->node);
    if (q->kind == REQUEST_BATCH)
        unit_reset(&q->unit);
    db_pump(q->db);
}

static void batch_answered(struct unit *u, bool lost)
{
    struct db_request *q = request_of(u);
    struct db_result *r = unit_result(u);
    char why[256];

    if (lost && !q->cancelled && q->attempts < DB_ATTEMPTS_MAX && q->conn->why[0] &&
        (q->flags & DB_REPEAT)) {
        request_again(q);
        return;
    }
    if (lost) {
        (void)snprintf(why, sizeof why, "%s", q->conn->why);
        fail(q, DB_GONE, *why ? why : "the connection was closed");
        return;
    }
    if (r->status == DB_CONFLICT && !q->cancelled && q->attempts < DB_ATTEMPTS_MAX) {
        request_again(q);
        return;
    }
    answer(q, r);
}

/* A transaction that waits for its connection to drain: it has not begun. */
static bool leave_line(struct db_request *q)
{
    if (q->state != REQUEST_SENT || q->kind != REQUEST_TXN || q->txn->running || q->conn->txn != q)
        return false;
    q->conn->txn = NULL;
    return true;
}

static void on_deadline(void *arg)
{
    struct db_request *q = arg;
    struct db *db = q->db;
    char text[320];

    if (q->state == REQUEST_QUEUED) {
        (void)snprintf(text, sizeof text, "no connection within %u ms%s%s", db->options.deadline_ms,
                       *db->down_why ? ": " : "", db->down_why);
        fail(q, DB_GONE, text);
        return;
    }
    if (leave_line(q)) {
        fail(q, DB_GONE, "the connections were busy for too long");
        return;
    }
    /* The server has not answered, not even by its own limit: the connection is dead, or the owner
     * of a transaction has left it lying. The teardown answers all that were on it. */
    q->flags &= ~(unsigned)DB_REPEAT;
    (void)snprintf(text, sizeof text, "no answer within %u ms", db->options.deadline_ms);
    conn_break(q->conn, text);
}

static struct db_request *request_new(struct db *db, enum request_kind kind, unsigned flags,
                                      db_done_fn *done, void *arg)
{
    struct db_request *q = calloc(1, sizeof *q);

    if (!q)
        return NULL;
    *q = (struct db_request){
        .db = db, .kind = kind, .flags = flags, .attempts = 1, .done = done, .arg = arg};
    list_init(&q->node);
    if (ev_timer_new(db->loop, on_deadline, q, &q->deadline) < 0) {
        free(q);
        return NULL;
    }
    return q;
}

/* Queues the request, or has it refused at the end of the turn. */
static struct db_request *submit(struct db_request *q)
{
    struct db *db = q->db;

    if (db->n_queued >= db->options.queue_max) {
        db_result_fail(&q->verdict, DB_FULL, db_status_name(DB_FULL));
        q->state = REQUEST_FINISHED;
        list_append(&db->finished, &q->node);
        ev_defer(db->loop, &db->flush);
        return q;
    }
    list_append(&db->queue, &q->node);
    db->n_queued++;
    ev_timer_arm(q->deadline, db->options.deadline_ms);
    db_pump(db);
    return q;
}

struct db_request *db_batch(struct db *db, const struct db_stmt *stmts, size_t n, unsigned flags,
                            db_done_fn *done, void *arg)
{
    struct db_request *q = n > 0 ? request_new(db, REQUEST_BATCH, flags, done, arg) : NULL;

    if (!q)
        return NULL;
    if (unit_init(&q->unit, stmts, n, batch_answered) < 0) {
        request_free(q);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        q->unit.stmts[i].built = flags & DB_BUILT;
    return submit(q);
}

struct db_request *db_query(struct db *db, const char *sql, const struct db_param *params,
                            unsigned flags, db_done_fn *done, void *arg)
{
    struct db_stmt stmt = {sql, params};

    return db_batch(db, &stmt, 1, flags, done, arg);
}

struct db_request *db_txn(struct db *db, unsigned flags, db_run_fn *run, db_done_fn *done,
                          void *arg)
{
    struct db_request *q = request_new(db, REQUEST_TXN, flags, done, arg);

    if (!q)
        return NULL;
    q->txn = calloc(1, sizeof *q->txn);
    if (!q->txn) {
        request_free(q);
        return NULL;
    }
    q->txn->request = q;
    q->txn->run = run;
    list_init(&q->txn->steps);
    return submit(q);
}

void db_cancel(struct db_request *q)
{
    if (!q)
        return;
    q->cancelled = true;
    q->done = NULL;
    if (leave_line(q)) {
        struct db *db = q->db;

        request_free(q);
        db_pump(db);
    } else if (q->state == REQUEST_QUEUED) {
        q->db->n_queued--;
        request_free(q);
    } else if (q->state == REQUEST_SENT && q->txn) {
        db_txn_abort(q->txn);
    }
}
