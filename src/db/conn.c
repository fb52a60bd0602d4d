// SPDX-License-Identifier: GPL-3.0-or-later

/* One connection: connects without blocking, sends units in pipeline mode, reads their results in
 * order. Knows nothing of queues, repetitions and deadlines. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "db/db-internal.h"

static void on_io(void *arg, unsigned events);

bool conn_usable(const struct conn *c)
{
    return c->state == CONN_READY && !c->broken;
}

/* Teardown, at the end of the turn: nobody stands inside a callback of this connection then. */
static void teardown(void *arg)
{
    struct conn *c = arg;
    bool was_ready = c->state == CONN_READY;
    struct list units = QVD_LIST_INIT(units);

    c->io = ev_io_free(c->io);
    ev_timer_disarm(c->timer);
    PQfinish(c->pg);
    c->pg = NULL;
    prepared_done(c);
    c->state = CONN_CLOSED;
    c->broken = false;
    while (!list_empty(&c->in_flight)) {
        struct list *node = c->in_flight.next;

        list_remove(node);
        list_append(&units, node);
    }
    c->n_in_flight = 0;
    db_conn_lost(c, was_ready);
    while (!list_empty(&units)) { /* some ask anew at once, perhaps on this connection */
        struct unit *u = QVD_CONTAINER(units.next, struct unit, node);

        list_remove(&u->node);
        u->answered(u, true);
    }
}

void conn_break(struct conn *c, const char *why)
{
    if (c->broken || c->state == CONN_CLOSED)
        return;
    c->broken = true;
    (void)snprintf(c->why, sizeof c->why, "%s", why);
    c->why[strcspn(c->why, "\n")] = 0;
    c->io = ev_io_free(c->io);
    ev_timer_disarm(c->timer);
    ev_defer(c->db->loop, &c->teardown);
}

static void on_timer(void *arg)
{
    struct conn *c = arg;

    if (c->state == CONN_CONNECTING)
        conn_break(c, "no answer to the connect in time");
    else if (list_empty(&c->in_flight) && !c->txn)
        conn_break(c, "");
}

int conn_init(struct conn *c, struct db *db, bool listener)
{
    *c = (struct conn){.db = db, .listener = listener};
    list_init(&c->in_flight);
    ev_deferred_init(&c->teardown, teardown, c);
    return ev_timer_new(db->loop, on_timer, c, &c->timer);
}

void conn_done(struct conn *c)
{
    if (!c->db)
        return;
    ev_deferred_cancel(&c->teardown);
    c->io = ev_io_free(c->io);
    c->timer = ev_timer_free(c->timer);
    PQfinish(c->pg);
    c->pg = NULL;
    prepared_done(c);
    c->state = CONN_CLOSED;
}

/* Watches the socket anew: libpq may have closed it and opened another under the same number. */
static void watch(struct conn *c, unsigned events)
{
    c->io = ev_io_free(c->io);
    if (PQsocket(c->pg) < 0 ||
        ev_io_new(c->db->loop, PQsocket(c->pg), events, on_io, c, &c->io) < 0)
        conn_break(c, "cannot watch the connection's socket");
}

static void on_notice(void *arg, const char *message)
{
    log_debug("database: %s", message);
}

static void set_ready(struct conn *c)
{
    ev_timer_disarm(c->timer);
    if (PQsetnonblocking(c->pg, 1) != 0 || PQenterPipelineMode(c->pg) != 1) {
        conn_break(c, PQerrorMessage(c->pg));
        return;
    }
    (void)PQsetNoticeProcessor(c->pg, on_notice, NULL);
    c->state = CONN_READY;
    watch(c, EV_IO_IN);
    if (!c->listener)
        ev_timer_arm(c->timer, c->db->options.idle_ms);
    db_conn_ready(c);
}

static void poll_connect(struct conn *c)
{
    c->io = ev_io_free(c->io);
    switch (PQconnectPoll(c->pg)) {
    case PGRES_POLLING_READING:
        watch(c, EV_IO_IN);
        break;
    case PGRES_POLLING_WRITING:
        watch(c, EV_IO_OUT);
        break;
    case PGRES_POLLING_OK:
        set_ready(c);
        break;
    default:
        conn_break(c, PQerrorMessage(c->pg));
        break;
    }
}

/* The isolation level is our own whatever the database's default is; triggers of this session do
 * not notify (migrations, "Notifications"). */
#define SESSION                                                                                    \
    "-c statement_timeout=5s -c default_transaction_isolation=read\\ committed -c timezone=UTC "   \
    "-c qvd.notify=store -c idle_in_transaction_session_timeout=10s -c datestyle=ISO"

void conn_open(struct conn *c)
{
    const struct db_target *t = &c->db->target;
    const char *const keys[] = {
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "sslmode",
        "sslrootcert",
        "application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "gssencmode",
        "tcp_user_timeout",
        "keepalives_count",
        "options",
        "client_encoding",
        "target_session_attrs",
        NULL,
    };
    const char *const values[] = {
        t->host,
        *t->hostaddr ? t->hostaddr : NULL,
        *t->port ? t->port : NULL,
        t->name,
        t->user,
        *t->password ? t->password : NULL,
        *t->sslmode ? t->sslmode : NULL,
        *t->sslrootcert ? t->sslrootcert : NULL,
        c->db->name,
        "1",
        "10",
        "5",
        "disable",
        "10000",
        "3",
        c->db->options.one_plan ? SESSION " -c plan_cache_mode=force_generic_plan" : SESSION,
        "UTF8",
        strchr(t->host, ',') ? "read-write" : "any",
        NULL,
    };

    _Static_assert(ARRAY_SIZE(keys) == ARRAY_SIZE(values), "one value a key");
    c->state = CONN_CONNECTING;
    c->db->stats.connects++;
    c->pg = PQconnectStartParams(keys, values, 0);
    if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD) {
        conn_break(c, c->pg ? PQerrorMessage(c->pg) : "out of memory");
        return;
    }
    ev_timer_arm(c->timer, DB_CONNECT_TIMEOUT_MS);
    watch(c, EV_IO_OUT);
}

static void flush(struct conn *c)
{
    int r = PQflush(c->pg);

    if (r < 0)
        conn_break(c, PQerrorMessage(c->pg));
    else if (ev_io_set(c->io, r ? EV_IO_IN | EV_IO_OUT : EV_IO_IN) < 0)
        conn_break(c, "cannot watch the connection's socket");
}

void conn_send(struct conn *c, struct unit *u)
{
    bool sent = conn_usable(c);

    list_append(&c->in_flight, &u->node);
    c->n_in_flight++;
    ev_timer_disarm(c->timer);
    for (size_t i = 0; i < u->n && sent; i++)
        sent = prepared_send(c, &u->stmts[i]);
    sent = sent && PQpipelineSync(c->pg) == 1;
    c->db->stats.queries += u->n;
    if (sent)
        flush(c);
    else
        conn_break(c, c->pg ? PQerrorMessage(c->pg) : "closed");
}

/* The Sync's answer: the unit at the head is complete. */
static void complete(struct conn *c)
{
    struct unit *u = QVD_CONTAINER(c->in_flight.next, struct unit, node);

    list_remove(&u->node);
    c->n_in_flight--;
    u->answered(u, false);
    if (c->broken)
        return;
    if (c->stale && list_empty(&c->in_flight) && !(c->txn && c->txn->txn->running)) {
        conn_break(c, "");
        return;
    }
    if (!c->listener && list_empty(&c->in_flight))
        ev_timer_arm(c->timer, c->db->options.idle_ms);
    db_conn_free(c);
}

static void take_result(struct conn *c, PGresult *pg)
{
    struct unit *u;
    struct stmt *s;
    struct db_result *r;

    if (list_empty(&c->in_flight)) {
        conn_break(c, PQresultErrorMessage(pg)); /* the server ends the connection by itself */
        PQclear(pg);
        return;
    }
    u = QVD_CONTAINER(c->in_flight.next, struct unit, node);
    if (u->at >= u->n) {
        conn_break(c, "an answer that nobody asked for");
        PQclear(pg);
        return;
    }
    u->got = true;
    s = &u->stmts[u->at];
    r = &u->results[u->at];
    if (s->parsing) {
        prepared_answered(c, s, PQresultStatus(pg) == PGRES_COMMAND_OK);
        if (PQresultStatus(pg) == PGRES_COMMAND_OK) {
            PQclear(pg);
            return;
        }
    } else if (r->status != DB_OK && PQresultStatus(pg) == PGRES_PIPELINE_ABORTED) {
        /* its Parse told why */
        PQclear(pg);
        return;
    }
    db_result_set(r, pg);
    prepared_check(c, s, r);
    if (r->status == DB_GONE)
        conn_break(c, r->error);
}

static void read_results(struct conn *c)
{
    unsigned nothing = 0;

    while (!c->broken && !PQisBusy(c->pg) && nothing < 2) {
        PGresult *pg = PQgetResult(c->pg);
        struct unit *u =
            list_empty(&c->in_flight) ? NULL : QVD_CONTAINER(c->in_flight.next, struct unit, node);

        if (!pg && u && u->got) { /* the end of the results of one statement, or of its Parse */
            u->got = false;
            if (u->stmts[u->at].parsing)
                u->stmts[u->at].parsing = false;
            else
                u->at++;
            continue;
        }
        if (!pg) {
            nothing++;
            continue;
        }
        nothing = 0;
        if (PQresultStatus(pg) != PGRES_PIPELINE_SYNC) {
            take_result(c, pg);
            continue;
        }
        PQclear(pg);
        if (u)
            complete(c);
    }
}

static void read_notifications(struct conn *c)
{
    PGnotify *n;

    while (!c->broken && (n = PQnotifies(c->pg)) != NULL) {
        db_notified(c->db, n->relname, n->extra);
        PQfreemem(n);
    }
}

static void on_io(void *arg, unsigned events)
{
    struct conn *c = arg;

    if (c->state == CONN_CONNECTING) {
        poll_connect(c);
        return;
    }
    if (events & (EV_IO_IN | EV_IO_CLOSED)) {
        bool lost = PQconsumeInput(c->pg) == 0;

        /* What came before the loss counts: an answered commit is a commit. */
        read_results(c);
        read_notifications(c);
        if (lost)
            conn_break(c, PQerrorMessage(c->pg));
    }
    if (!c->broken)
        flush(c);
}
