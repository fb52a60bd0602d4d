// SPDX-License-Identifier: GPL-3.0-or-later

/* Transactions whose statements depend on earlier answers: BEGIN, the owner's steps, COMMIT or
 * ROLLBACK on one connection, run again from the beginning where that is allowed. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/db-internal.h"

struct step {
    struct unit unit;
    struct list node; /* in txn->steps */
    struct db_txn *txn;
    db_step_fn *fn;
    void *arg;
    bool last; /* COMMIT or ROLLBACK */
};

static void step_free(struct step *s)
{
    list_remove(&s->node);
    unit_done(&s->unit);
    free(s);
}

static void set_failure(struct db_txn *t, const struct db_result *r)
{
    if (t->failure.status != DB_OK)
        return;
    t->failure = *r;
    t->failure.pg = r->pg ? PQcopyResult(r->pg, 0) : NULL;
    t->failure.first = NULL;
}

/* The last word was said, or the connection went: what becomes of the request. */
static void finish(struct db_txn *t, bool lost)
{
    struct db_request *q = t->request;
    struct conn *c = q->conn;
    bool again = !q->cancelled && q->attempts < DB_ATTEMPTS_MAX &&
                 ((lost && t->commit == t->ending && (q->flags & DB_REPEAT)) ||
                  (!lost && t->failure.status == DB_CONFLICT));

    t->running = false;
    if (!lost)
        c->txn = NULL;
    if (again) {
        db_result_done(&t->failure);
        request_again(q);
        return;
    }
    if (lost && t->failure.status == DB_OK && (t->commit || !t->ending))
        db_result_fail(&t->failure, DB_GONE, *c->why ? c->why : "the connection was closed");
    request_finish(q, &t->failure);
}

static void end(struct db_txn *t, bool commit);

static void step_answered(struct unit *u, bool lost)
{
    struct step *s = QVD_CONTAINER(u, struct step, unit);
    struct db_txn *t = s->txn;
    struct db_result *r = unit_result(u);
    bool last = s->last;

    if (lost) {
        step_free(s);
        if (list_empty(&t->steps) && t->running)
            finish(t, true);
        return;
    }
    /* A COMMIT of a failed transaction is answered by ROLLBACK. */
    if (last && t->commit && r->status == DB_OK && strcmp(PQcmdStatus(r->pg), "COMMIT") != 0)
        db_result_fail(r, DB_ERROR, "the transaction was rolled back");
    if (r->status != DB_OK && !(last && !t->commit))
        set_failure(t, r);
    else if (!last && s->fn && !t->ending && t->failure.status == DB_OK)
        s->fn(t, s->arg, r);
    step_free(s);
    if (last)
        finish(t, false);
    else if (t->failure.status != DB_OK && !t->ending)
        end(t, false);
}

static void send_step(struct db_txn *t, const char *sql, const struct db_param *params,
                      db_step_fn *fn, void *arg, bool last)
{
    struct db_stmt stmt = {sql, params};
    struct step *s = calloc(1, sizeof *s);

    if (!s || unit_init(&s->unit, &stmt, 1, step_answered) < 0) {
        free(s);
        conn_break(t->request->conn, "out of memory");
        return;
    }
    s->txn = t;
    s->fn = fn;
    s->arg = arg;
    s->last = last;
    list_init(&s->node);
    list_append(&t->steps, &s->node);
    conn_send(t->request->conn, &s->unit);
}

static void end(struct db_txn *t, bool commit)
{
    if (t->ending || !t->running)
        return;
    t->ending = true;
    t->commit = commit;
    send_step(t, commit ? "COMMIT" : "ROLLBACK", NULL, NULL, NULL, true);
}

void txn_start(struct db_request *q)
{
    struct db_txn *t = q->txn;

    t->running = true;
    t->ending = t->commit = false;
    db_result_done(&t->failure);
    send_step(t, "BEGIN", NULL, NULL, NULL, false);
    t->run(t, q->arg);
}

void txn_lost(struct db_txn *t)
{
    if (t->running && list_empty(&t->steps))
        finish(t, true);
}

void db_txn_query(struct db_txn *t, const char *sql, const struct db_param *params,
                  db_step_fn *step, void *arg)
{
    if (t->running && !t->ending && t->failure.status == DB_OK)
        send_step(t, sql, params, step, arg, false);
}

void db_txn_commit(struct db_txn *t)
{
    end(t, true);
}

void db_txn_abort(struct db_txn *t)
{
    end(t, false);
}

void txn_free(struct db_txn *t)
{
    if (!t)
        return;
    while (!list_empty(&t->steps)) {
        struct step *s = QVD_CONTAINER(t->steps.next, struct step, node);

        list_remove(&s->unit.node);
        step_free(s);
    }
    db_result_done(&t->failure);
    free(t);
}
