// SPDX-License-Identifier: GPL-3.0-or-later

/* Notifications, both ways: which channels are listened to on the connection kept for that, and
 * what is to be told to others. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db/db-internal.h"

/* One LISTEN or UNLISTEN on its way. */
struct command {
    struct unit unit;
    struct db *db;
    bool counts; /* listening begins when the last of them is answered */
};

static struct listening *find(const struct db *db, const char *channel)
{
    QVD_LIST_FOREACH (l, &db->listenings, struct listening, node)
        if (l->fn && strcmp(l->channel, channel) == 0)
            return l;
    return NULL;
}

static void command_answered(struct unit *u, bool lost)
{
    struct command *cmd = QVD_CONTAINER(u, struct command, unit);
    struct db *db = cmd->db;
    struct db_result *r = unit_result(u);
    bool counts = cmd->counts;

    if (!lost && r->status != DB_OK)
        conn_break(&db->listener, r->error);
    unit_done(u);
    free(cmd);
    if (lost || !counts || --db->listens_pending > 0)
        return;
    db->listening = true;
    if (db->on_listening)
        db->on_listening(db->on_listening_arg);
}

static void command(struct db *db, const char *sql, bool counts)
{
    struct db_stmt stmt = {sql, NULL};
    struct command *cmd = calloc(1, sizeof *cmd);

    if (!cmd || unit_init(&cmd->unit, &stmt, 1, command_answered) < 0) {
        free(cmd);
        conn_break(&db->listener, "out of memory");
        return;
    }
    cmd->db = db;
    cmd->counts = counts;
    if (counts)
        db->listens_pending++;
    conn_send(&db->listener, &cmd->unit);
}

void listen_ready(struct db *db)
{
    db->listens_pending = 0;
    QVD_LIST_FOREACH (l, &db->listenings, struct listening, node)
        command(db, l->sql, true);
}

void listen_lost(struct db *db)
{
    db->listening = false;
    db->listens_pending = 0;
}

static void listening_free(struct listening *l)
{
    list_remove(&l->node);
    free(l);
}

void listen_done(struct db *db)
{
    QVD_LIST_FOREACH (l, &db->listenings, struct listening, node)
        listening_free(l);
    QVD_LIST_FOREACH (n, &db->notices, struct notice, node) {
        list_remove(&n->node);
        free(n);
    }
    while (!list_empty(&db->listener.in_flight)) {
        struct unit *u = QVD_CONTAINER(db->listener.in_flight.next, struct unit, node);

        list_remove(&u->node);
        unit_done(u);
        free(QVD_CONTAINER(u, struct command, unit));
    }
}

int db_listen(struct db *db, const char *channel, db_notify_fn *fn, void *arg)
{
    struct listening *l;

    for (const char *p = channel; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_')
            return -EINVAL;
    if (!*channel || strlen(channel) > DB_CHANNEL_MAX)
        return -EINVAL;
    if (find(db, channel))
        return -EEXIST;
    l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    (void)snprintf(l->channel, sizeof l->channel, "%s", channel);
    (void)snprintf(l->sql, sizeof l->sql, "LISTEN \"%s\"", channel);
    l->fn = fn;
    l->arg = arg;
    list_append(&db->listenings, &l->node);
    if (conn_usable(&db->listener))
        command(db, l->sql, true);
    else
        db_pump(db);
    return 0;
}

void db_unlisten(struct db *db, const char *channel)
{
    struct listening *l = find(db, channel);
    char sql[DB_CHANNEL_MAX + 16];

    if (!l)
        return;
    listening_free(l);
    (void)snprintf(sql, sizeof sql, "UNLISTEN \"%s\"", channel);
    if (conn_usable(&db->listener)) {
        command(db, sql, false); /* sent at once: sql is not kept */
    }
}

void db_notified(struct db *db, const char *channel, const char *payload)
{
    struct listening *l = find(db, channel);

    if (l)
        l->fn(l->arg, channel, payload);
}

void db_on_listening(struct db *db, void (*fn)(void *arg), void *arg)
{
    db->on_listening = fn;
    db->on_listening_arg = arg;
}

bool db_is_listening(const struct db *db)
{
    return db->listening;
}

static void add_notice(struct db *db, const char *channel, const char *payload)
{
    struct notice *n;

    QVD_LIST_FOREACH (other, &db->notices, struct notice, node)
        if (strcmp(other->channel, channel) == 0 && strcmp(other->payload, payload) == 0)
            return;
    n = calloc(1, sizeof *n);
    if (!n || str_copy(n->channel, sizeof n->channel, channel) < 0 ||
        str_copy(n->payload, sizeof n->payload, payload) < 0) {
        free(n);
        return;
    }
    list_append(&db->notices, &n->node);
    db->n_notices++;
}

void db_notify(struct db *db, const char *channel, const char *payload)
{
    add_notice(db, channel, payload);
    ev_defer(db->loop, &db->flush);
}

void db_notify_id(struct db *db, const char *channel, const char *kind, int64_t id)
{
    char payload[64];

    (void)snprintf(payload, sizeof payload, "%s %lld", kind, (long long)id);
    db_notify(db, channel, payload);
}

void db_notify_id_later(struct db *db, const char *channel, const char *kind, int64_t id)
{
    char payload[64];

    (void)snprintf(payload, sizeof payload, "%s %lld", kind, (long long)id);
    add_notice(db, channel, payload);
    if (!ev_timer_armed(db->later))
        ev_timer_arm(db->later, DB_NOTIFY_LATER_MS);
}

/* A transaction of its own whose commit does not wait for the disk. */
void listen_send_notices(struct db *db)
{
    while (!list_empty(&db->notices)) {
        struct db_stmt stmts[DB_NOTIFY_BATCH + 1] = {
            {"SELECT set_config('synchronous_commit', 'off', true)", NULL}
        };
        struct db_param params[DB_NOTIFY_BATCH][3];
        size_t n = 0;
        struct db_request *q;

        QVD_LIST_FOREACH (notice, &db->notices, struct notice, node) {
            if (n == DB_NOTIFY_BATCH)
                break;
            params[n][0] = DB_TEXT(notice->channel);
            params[n][1] = DB_TEXT(notice->payload);
            params[n][2] = (struct db_param){.kind = DB_KIND_END};
            stmts[n + 1] = (struct db_stmt){"SELECT pg_notify($1, $2)", params[n]};
            n++;
        }
        q = db_batch(db, stmts, n + 1, DB_REPEAT, NULL, NULL);
        for (; n > 0; n--) {
            struct notice *sent = QVD_CONTAINER(db->notices.next, struct notice, node);

            list_remove(&sent->node);
            free(sent);
            db->n_notices--;
        }
        if (!q)
            return;
    }
}
