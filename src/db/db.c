// SPDX-License-Identifier: GPL-3.0-or-later

/* The pool: gives requests to connections, opens and closes these, waits longer and longer while
 * the database is away. */

#include "db/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/db-internal.h"

static void on_retry(void *arg)
{
    struct db *db = arg;

    if (names_wait(db))
        ev_timer_arm(db->retry, DB_NAMES_WAIT_MS);
    else
        db_pump(db);
}

/* Answers what was refused, then tells others what is new. */
static void on_flush(void *arg)
{
    struct db *db = arg;

    while (!list_empty(&db->finished)) {
        struct db_request *q = QVD_CONTAINER(db->finished.next, struct db_request, node);

        request_finish(q, &q->verdict);
    }
    listen_send_notices(db);
}

static void on_later(void *arg)
{
    listen_send_notices(arg);
}

static void set_options(struct db *db, const struct db_options *o)
{
    db->options = *o;
    db->options.connections = o->connections ? o->connections : 1;
    db->options.queue_max = o->queue_max ? o->queue_max : 1000;
    db->options.deadline_ms = o->deadline_ms ? o->deadline_ms : 7000;
    db->options.idle_ms = o->idle_ms ? o->idle_ms : 600000;
    db->options.backoff_min_ms = o->backoff_min_ms ? o->backoff_min_ms : 100;
    db->options.backoff_max_ms = o->backoff_max_ms ? o->backoff_max_ms : 10000;
    (void)snprintf(db->name, sizeof db->name, "%s", o->name ? o->name : "qvd");
    db->options.name = db->name;
}

int db_new(struct ev_loop *loop, const struct db_target *target, const struct db_options *options,
           struct db **ret_db)
{
    struct db *db = calloc(1, sizeof *db);
    int r;

    if (!db)
        return -ENOMEM;
    db->loop = loop;
    db->target = *target;
    db->names.any = names_any(target);
    set_options(db, options);
    list_init(&db->queue);
    list_init(&db->sent);
    list_init(&db->finished);
    list_init(&db->listenings);
    list_init(&db->notices);
    ev_deferred_init(&db->flush, on_flush, db);
    r = ev_timer_new(loop, on_retry, db, &db->retry);
    if (r == 0)
        r = ev_timer_new(loop, on_later, db, &db->later);
    if (r == 0)
        r = conn_init(&db->listener, db, true);
    db->conns = calloc(db->options.connections, sizeof *db->conns);
    if (r == 0 && !db->conns)
        r = -ENOMEM;
    for (unsigned i = 0; i < db->options.connections && r == 0; i++)
        r = conn_init(&db->conns[i], db, false);
    if (r < 0) {
        db_free(db);
        return r;
    }
    *ret_db = db;
    return 0;
}

static void free_requests(struct list *l)
{
    while (!list_empty(l))
        request_free(QVD_CONTAINER(l->next, struct db_request, node));
}

struct db *db_free(struct db *db)
{
    if (!db)
        return NULL;
    ev_deferred_cancel(&db->flush);
    names_done(db);
    db->retry = ev_timer_free(db->retry);
    db->later = ev_timer_free(db->later);
    for (unsigned i = 0; i < db->options.connections && db->conns; i++)
        conn_done(&db->conns[i]);
    conn_done(&db->listener);
    free_requests(&db->queue);
    free_requests(&db->sent);
    free_requests(&db->finished);
    if (db->listener.db)
        listen_done(db);
    explicit_bzero(db->target.password, sizeof db->target.password);
    free(db->conns);
    free(db);
    return NULL;
}

static void open_conn(struct db *db, struct conn *c)
{
    if (c->state == CONN_CLOSED && !ev_timer_armed(db->retry))
        conn_open(c);
}

/* The connection that a request should take; NULL: it waits. */
static struct conn *choose(struct db *db, const struct db_request *q)
{
    struct conn *best = NULL;
    bool coming = false;

    for (unsigned i = 0; i < db->options.connections; i++) {
        struct conn *c = &db->conns[i];

        coming |= c->state == CONN_CONNECTING && !c->broken;
        if (conn_usable(c) && !c->stale && !c->txn && (!best || c->n_in_flight < best->n_in_flight))
            best = c;
    }
    if (best && best->n_in_flight == 0)
        return best;
    if (!coming && !ev_timer_armed(db->retry)) {
        for (unsigned i = 0; i < db->options.connections; i++)
            if (db->conns[i].state == CONN_CLOSED) {
                conn_open(&db->conns[i]);
                return NULL;
            }
    }
    /* A transaction waits for the connection to drain; the others go behind what is on it. */
    if (coming || !best || (q->kind == REQUEST_BATCH && best->n_in_flight >= DB_PIPELINE_MAX))
        return NULL;
    return best;
}

static void start(struct db_request *q, struct conn *c)
{
    struct db *db = q->db;

    list_remove(&q->node);
    list_append(&db->sent, &q->node);
    db->n_queued--;
    q->state = REQUEST_SENT;
    q->conn = c;
    if (q->kind == REQUEST_BATCH) {
        conn_send(c, &q->unit);
        return;
    }
    c->txn = q;
    ev_timer_disarm(c->timer);
    if (list_empty(&c->in_flight))
        txn_start(q);
}

void db_pump(struct db *db)
{
    if (!list_empty(&db->listenings))
        open_conn(db, &db->listener);
    while (!list_empty(&db->queue)) {
        struct db_request *q = QVD_CONTAINER(db->queue.next, struct db_request, node);
        struct conn *c = choose(db, q);

        if (!c)
            return;
        start(q, c);
    }
}

static void set_down(struct db *db, bool down)
{
    if (db->down == down)
        return;
    db->down = down;
    if (db->on_change)
        db->on_change(db->on_change_arg, !down);
}

void db_conn_ready(struct conn *c)
{
    struct db *db = c->db;

    db->backoff_ms = 0;
    db->down_why[0] = 0;
    if (c->listener)
        listen_ready(db);
    set_down(db, false);
    db_pump(db);
}

void db_conn_free(struct conn *c)
{
    if (c->txn && !c->txn->txn->running && list_empty(&c->in_flight))
        txn_start(c->txn);
    else
        db_pump(c->db);
}

/* The next attempt: soon after a loss, then later and later, never all nodes at once. */
static void back_off(struct db *db, bool was_ready)
{
    if (ev_timer_armed(db->retry))
        return;
    if (was_ready || db->backoff_ms == 0)
        db->backoff_ms = db->options.backoff_min_ms;
    else if (db->backoff_ms < db->options.backoff_max_ms / 2)
        db->backoff_ms *= 2;
    else
        db->backoff_ms = db->options.backoff_max_ms;
    ev_timer_arm_jittered(db->retry, db->backoff_ms, 50);
}

/* One more connection may be refused while others work. */
static bool any_usable(const struct db *db)
{
    for (unsigned i = 0; i < db->options.connections; i++)
        if (conn_usable(&db->conns[i]))
            return true;
    return false;
}

void db_conn_lost(struct conn *c, bool was_ready)
{
    struct db *db = c->db;
    struct db_request *owner = c->txn;

    c->txn = NULL;
    if (c->listener)
        listen_lost(db);
    if (*c->why) { /* not merely closed because it was idle */
        log_debug("database: connection lost: %s", c->why);
        db->stats.losses++;
        (void)snprintf(db->down_why, sizeof db->down_why, "%s", c->why);
        names_look_up(db);
        back_off(db, was_ready);
        set_down(db, !any_usable(db));
    }
    if (owner && owner->txn->running) {
        txn_lost(owner->txn);
    } else if (owner) { /* was to begin on this connection, and has not: no attempt is lost */
        owner->attempts--;
        request_again(owner);
    }
    db_pump(db);
}

const char *db_why_down(const struct db *db)
{
    return db->down_why;
}

void db_on_change(struct db *db, void (*fn)(void *arg, bool up), void *arg)
{
    db->on_change = fn;
    db->on_change_arg = arg;
}

void db_get_stats(const struct db *db, struct db_stats *ret)
{
    *ret = db->stats;
    ret->open = conn_usable(&db->listener);
    for (unsigned i = 0; i < db->options.connections; i++)
        ret->open += conn_usable(&db->conns[i]);
    ret->waiting = db->n_queued;
}
